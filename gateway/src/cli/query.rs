//! `veilgate query`: one query, its progress, its rows, its notices.

use super::args::{Common, Format, QueryArgs};
use super::client::{Answer, Client, until_signal};
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
    let answer = runtime()?.block_on(until_signal(ask(&target, &sql, common.quiet)))?;
    show(&answer, common)
}

/// Runs a query at its home gateway.
///
/// # Errors
/// As [`Client::connect`] and [`Client::query`].
pub async fn ask(target: &Target, sql: &str, quiet: bool) -> Result<Answer> {
    let mut progress = Progress::start(quiet);
    let mut client = Client::connect(target).await?;
    client.query(sql, &mut progress).await
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

/// The notices of an answer, one a line.
#[must_use]
pub fn notices(answer: &Answer) -> String {
    let mut lines = vec![format!("query:     {}", answer.query_id)];
    for notice in &answer.notices {
        lines.push(format!(
            "{:<10} {}",
            format!("{}:", notice.kind),
            notice.text
        ));
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
