//! `veilgate explain`: what a query would send where, and which rules allow it.

use super::args::{Common, Format, QueryArgs};
use super::client::{Client, Reason, until_signal};
use super::connect::Target;
use super::output::{self, Rows};
use super::{print, query, runtime};
use veilgate_federated::error::Result;
use veilgate_proto::analyst::v1::{ExplainEntry, ExplainReply};

pub(super) fn run(args: &QueryArgs, common: &Common) -> Result<()> {
    let sql = query::sql(args)?;
    let target = Target::resolve(&args.connect)?;
    let explained = runtime()?.block_on(until_signal(ask(
        &target,
        &sql,
        &Reason::from(&args.reason),
    )))?;
    show(&explained, common.output)
}

/// Explains a query at its home gateway.
///
/// # Errors
/// As [`Client::connect`] and [`Client::explain`].
pub async fn ask(target: &Target, sql: &str, reason: &Reason) -> Result<ExplainReply> {
    let mut client = Client::connect(target).await?;
    client.explain(sql, reason).await
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
        Format::Csv | Format::Arrow => {
            let rows = crate::explain::rows(&explained.entries)?;
            output::print(&Rows::from_batch(rows), format)
        }
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
