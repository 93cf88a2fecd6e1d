//! `veilgate explain`: what a query would send where, and which rules allow it.

use super::args::{Common, Format, QueryArgs};
use super::client::{Client, Reason, until_signal};
use super::connect::Target;
use super::output::{self, Rows};
use super::{print, query, runtime};
use arrow::array::{ArrayRef, StringArray, UInt64Array};
use arrow::record_batch::RecordBatch;
use std::sync::Arc;
use veilgate_federated::error::{Code, Error, Result};
use veilgate_proto::analyst::v1::{ExplainEntry, ExplainReply};

pub(super) fn run(args: &QueryArgs, common: &Common) -> Result<()> {
    let sql = query::sql(args)?;
    let target = Target::resolve(&args.connect)?;
    let explained = runtime()?.block_on(until_signal(ask(&target, &sql)))?;
    show(&explained, common.output)
}

/// Explains a query at its home gateway.
///
/// # Errors
/// As [`Client::connect`] and [`Client::explain`].
pub async fn ask(target: &Target, sql: &str) -> Result<ExplainReply> {
    let mut client = Client::connect(target).await?;
    client.explain(sql, &Reason::default()).await
}

/// A table is the text for people; CSV and Arrow are its rows; JSON is one object with both.
fn show(explained: &ExplainReply, format: Format) -> Result<()> {
    match format {
        Format::Table => print(&format!("{}\n", explained.text.trim_end())),
        Format::Json => {
            let entries: Vec<_> = explained.entries.iter().map(object).collect();
            let object = serde_json::json!({
                "plan_digest": hex::encode(&explained.plan_digest),
                "text": explained.text,
                "entries": entries,
            });
            print(&format!("{object:#}\n"))
        }
        Format::Csv | Format::Arrow => output::print(&Rows::from_batch(rows(explained)?), format),
    }
}

fn object(entry: &ExplainEntry) -> serde_json::Value {
    serde_json::json!({
        "section": entry.section,
        "item": entry.item,
        "department": entry.department,
        "what": entry.what,
        "form": entry.form,
        "who_sees": entry.who_sees,
        "rows": entry.rows,
        "bytes": entry.bytes,
        "rounds": entry.rounds,
        "leaks": entry.leaks,
    })
}

/// The entries as a table.
fn rows(explained: &ExplainReply) -> Result<RecordBatch> {
    let all = &explained.entries;
    let text = |of: fn(&ExplainEntry) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(all.iter().map(of)))
    };
    let number = |of: fn(&ExplainEntry) -> Option<u64>| -> ArrayRef {
        Arc::new(UInt64Array::from_iter(all.iter().map(of)))
    };
    RecordBatch::try_from_iter([
        ("section", text(|entry| &entry.section)),
        ("item", text(|entry| &entry.item)),
        ("department", text(|entry| &entry.department)),
        ("what", text(|entry| &entry.what)),
        ("form", text(|entry| &entry.form)),
        ("who_sees", text(|entry| &entry.who_sees)),
        ("rows", number(|entry| entry.rows)),
        ("bytes", number(|entry| entry.bytes)),
        ("rounds", number(|entry| entry.rounds)),
        ("leaks", text(|entry| &entry.leaks)),
    ])
    .map_err(|_| Error::new(Code::Internal, "the entries do not fit a table"))
}
