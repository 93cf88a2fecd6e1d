//! `veilgate query`: one query, its progress, its rows, its notices.

use super::args::{Common, Format, QueryArgs};
use super::client::{Answer, Client, Reason, until_signal};
use super::connect::Target;
use super::output;
use super::progress::Progress;
use super::{runtime, say};
use std::io::{IsTerminal, Read};
use veilgate_federated::error::{Code, Error, Result};

/// The longest query that is read, in bytes.
const MAX_SQL: u64 = 1 << 20;

pub(super) fn run(args: &QueryArgs, common: &Common) -> Result<()> {
    let sql = sql(args)?;
    let target = Target::resolve(&args.connect)?;
    let reason = Reason::from(&args.reason);
    let asked = ask(&target, &sql, &reason, common.quiet);
    let answer = runtime()?.block_on(until_signal(asked))?;
    show(&answer, common)
}

/// Runs a query at its home gateway.
///
/// # Errors
/// As [`Client::connect`] and [`Client::query`].
pub async fn ask(target: &Target, sql: &str, reason: &Reason, quiet: bool) -> Result<Answer> {
    let mut progress = Progress::start(quiet);
    let mut client = Client::connect(target).await?;
    client.query(sql, reason, &mut progress).await
}

/// Prints the rows to standard output and the notices to standard error.
///
/// # Errors
/// `BadRequest` when standard output cannot be written.
pub fn show(answer: &Answer, common: &Common) -> Result<()> {
    if common.output == Format::Arrow && std::io::stdout().is_terminal() {
        return Err(Error::new(
            Code::BadRequest,
            "an Arrow stream is not for a terminal: redirect standard output",
        ));
    }
    output::print(&answer.rows, common.output)?;
    if !common.quiet {
        say(&notices(answer));
    }
    Ok(())
}

/// The notices of an answer: a kind, then its texts, wrapped to 80 columns.
#[must_use]
pub fn notices(answer: &Answer) -> String {
    const WIDTH: usize = 80;
    const INDENT: usize = 11;
    let mut lines = vec![format!("{:<INDENT$}{}", "query:", answer.query_id)];
    let mut last = "";
    for notice in &answer.notices {
        let label = if notice.kind == last {
            String::new()
        } else {
            format!("{}:", notice.kind)
        };
        last = &notice.kind;
        let mut line = format!("{label:<INDENT$}");
        let mut used = INDENT;
        for word in notice.text.split(' ') {
            let length = word.chars().count();
            if used > INDENT && used + 1 + length > WIDTH {
                lines.push(std::mem::take(&mut line));
                line = " ".repeat(INDENT + 2);
                used = INDENT + 2;
            } else if used > INDENT {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += length;
        }
        lines.push(line);
    }
    lines.join("\n")
}

/// The text of the query: the argument, the file, or standard input.
pub(super) fn sql(args: &QueryArgs) -> Result<String> {
    let text = match (&args.sql, &args.file) {
        (Some(sql), _) => sql.clone(),
        (None, Some(file)) if file.as_os_str() != "-" => {
            let unreadable = |error: std::io::Error| {
                Error::new(
                    Code::BadRequest,
                    format!("cannot read {}: {}", file.display(), error.kind()),
                )
            };
            let file = std::fs::File::open(file).map_err(unreadable)?;
            limited(file).map_err(unreadable)?
        }
        _ => {
            if std::io::stdin().is_terminal() {
                say("reading the query from standard input; end it with Ctrl-D");
            }
            limited(std::io::stdin().lock()).map_err(|error| {
                Error::new(
                    Code::BadRequest,
                    format!("cannot read standard input: {}", error.kind()),
                )
            })?
        }
    };
    if text.trim().is_empty() {
        return Err(Error::new(Code::BadRequest, "the query is empty"));
    }
    Ok(text)
}

fn limited(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    let read = from.take(MAX_SQL + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_SQL {
        return Err(std::io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::Notice;
    use crate::cli::output::Rows;
    use arrow::record_batch::RecordBatch;

    #[test]
    fn notices_have_one_label_a_kind_and_stay_within_a_line() {
        let notice = |kind: &str, text: &str| Notice {
            kind: kind.to_owned(),
            text: text.to_owned(),
        };
        let long = "1 of 16 possible groups are empty or below the least number of privacy units";
        let answer = Answer {
            query_id: "00ff".into(),
            rows: Rows::from_batch(RecordBatch::new_empty(std::sync::Arc::new(
                arrow::datatypes::Schema::empty(),
            ))),
            notices: vec![
                notice("withheld", long),
                notice("ledger", "civil: leaf 3"),
                notice("ledger", "tax: leaf 3"),
            ],
        };
        assert_eq!(
            notices(&answer),
            "query:     00ff\n\
             withheld:  1 of 16 possible groups are empty or below the least number of\n\
             \x20            privacy units\n\
             ledger:    civil: leaf 3\n\
             \x20          tax: leaf 3"
        );
    }
}
