//! `veilgate explain`: what a query would send where, and which rules allow it.

use super::args::{Common, Format, QueryArgs};
use super::client::{Client, until_signal};
use super::connect::Target;
use super::output::{self, Rows};
use super::{print, query, runtime};
use arrow::array::{ArrayRef, StringArray};
use arrow::record_batch::RecordBatch;
use std::sync::Arc;
use veilgate_federated::error::{Code, Error, Result};

pub(super) fn run(args: &QueryArgs, common: &Common) -> Result<()> {
    let sql = query::sql(args)?;
    let target = Target::resolve(&args.connect)?;
    let (text, digest) = runtime()?.block_on(until_signal(ask(&target, &sql)))?;
    show(&text, &digest, common.output)
}

/// Explains a query at its home gateway.
///
/// # Errors
/// As [`Client::connect`] and [`Client::explain`].
pub async fn ask(target: &Target, sql: &str) -> Result<(String, Vec<u8>)> {
    Client::connect(target).await?.explain(sql).await
}

/// A table is the text as it is; JSON one object; CSV and Arrow one row for each line.
fn show(text: &str, digest: &[u8], format: Format) -> Result<()> {
    match format {
        Format::Table => print(&format!("{}\n", text.trim_end())),
        Format::Json => {
            let object = serde_json::json!({ "plan_digest": hex::encode(digest), "text": text });
            print(&format!("{object:#}\n"))
        }
        Format::Csv | Format::Arrow => {
            let lines: ArrayRef = Arc::new(StringArray::from_iter_values(text.lines()));
            let batch = RecordBatch::try_from_iter([("explain", lines)])
                .map_err(|_| Error::new(Code::Internal, "the text does not fit a column"))?;
            output::print(&Rows::from_batch(batch), format)
        }
    }
}
