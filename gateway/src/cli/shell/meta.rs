//! Commands that begin with a backslash.

use crate::cli::args::Format;
use clap::ValueEnum;
use std::path::PathBuf;
use veilgate_federated::error::{Code, Error, Result};

/// What is shown by `\?`.
pub(super) const HELP: &str = "\
 \\?                 this help
 \\q                 ends the shell, as Ctrl-D does
 \\dt                the tables
 \\d TABLE           the columns of a table
 \\explain QUERY     what a query would send where; runs nothing
 \\purpose [TEXT]    what answers are for, from now on; '' for nothing; alone: shows it
 \\case [NUMBER]     the case that they are for, likewise
 \\timing [on|off]   tells how long each query takes
 \\o [FILE]          writes results to a file; without one, back to the screen
 \\format NAME       table, csv or json
 \\r                 reads the tables anew, for completion
 A statement ends with `;`. Ctrl-C cancels a query, at every gateway.";

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meta {
    Help,
    Quit,
    Tables,
    Columns(String),
    Explain(String),
    Purpose(Option<String>),
    Case(Option<String>),
    Timing(Option<bool>),
    Output(Option<PathBuf>),
    Format(Format),
    Reread,
}

const NAMES: [&str; 11] = [
    "?", "q", "dt", "d", "explain", "purpose", "case", "timing", "o", "format", "r",
];

impl Meta {
    /// Reads a command, which begins with a backslash.
    ///
    /// # Errors
    /// `BadRequest` for one that does not exist, with the nearest; or whose argument is missing.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let text = text.trim().trim_start_matches('\\').trim_end_matches(';');
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        let due = |what: &str| {
            Error::new(
                Code::BadRequest,
                format!("\\{name} wants {what}: \\? tells how"),
            )
        };
        if matches!(name, "?" | "q" | "dt" | "r") && !rest.is_empty() {
            return Err(due("nothing behind it"));
        }
        let said = || (!rest.is_empty()).then(|| unquoted(rest));
        Ok(match name {
            "?" | "h" | "help" => Self::Help,
            "q" | "quit" | "exit" => Self::Quit,
            "dt" => Self::Tables,
            "d" if rest.is_empty() => Self::Tables,
            "d" => Self::Columns(rest.to_owned()),
            "explain" if rest.is_empty() => return Err(due("a query")),
            "explain" => Self::Explain(rest.to_owned()),
            "purpose" => Self::Purpose(said()),
            "case" => Self::Case(said()),
            "timing" => Self::Timing(match rest {
                "" => None,
                "on" => Some(true),
                "off" => Some(false),
                _ => return Err(due("on or off")),
            }),
            "o" => Self::Output((!rest.is_empty()).then(|| PathBuf::from(unquoted(rest)))),
            "format" => match Format::from_str(rest, true) {
                Ok(format) if format != Format::Arrow => Self::Format(format),
                _ => return Err(due("table, csv or json")),
            },
            "r" => Self::Reread,
            _ => {
                let near = NAMES.iter().find(|known| name.starts_with(**known));
                let near = near.map(|near| format!(", perhaps \\{near}"));
                return Err(Error::new(
                    Code::BadRequest,
                    format!(
                        "there is no such command{}: \\? lists them",
                        near.unwrap_or_default()
                    ),
                ));
            }
        })
    }
}

fn unquoted(text: &str) -> String {
    let inner = text
        .strip_prefix('\'')
        .and_then(|text| text.strip_suffix('\''));
    inner.unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        for (text, meta) in [
            ("\\?", Meta::Help),
            ("\\q", Meta::Quit),
            ("\\dt;", Meta::Tables),
            ("\\d", Meta::Tables),
            (" \\d tax.income ", Meta::Columns("tax.income".into())),
            ("\\purpose 'a study'", Meta::Purpose(Some("a study".into()))),
            ("\\purpose ''", Meta::Purpose(Some(String::new()))),
            ("\\case", Meta::Case(None)),
            ("\\timing off", Meta::Timing(Some(false))),
            ("\\o", Meta::Output(None)),
            ("\\o x y.csv", Meta::Output(Some("x y.csv".into()))),
            ("\\format CSV", Meta::Format(Format::Csv)),
            ("\\explain SELECT\n1", Meta::Explain("SELECT\n1".into())),
        ] {
            assert_eq!(Meta::parse(text), Ok(meta), "{text}");
        }
        for (text, said) in [
            ("\\", "\\?"),
            ("\\timings", "\\timing"),
            ("\\explain", "a query"),
            ("\\dt\nSELECT 1;", "nothing behind it"),
            ("\\format arrow", "table, csv or json"),
            ("\\\u{1b}[2J", "no such command"),
        ] {
            let error = Meta::parse(text).unwrap_err();
            assert!(error.message.contains(said), "{text}: {error}");
            assert!(!error.message.contains('\u{1b}'));
        }
    }
}
