//! The one mapping between [`Error`] and what crosses the wire as a gRPC status, and the generated
//! `docs/errors.md`.
//!
//! A status carries the gRPC code of the error's blame, the message, and in its binary details the
//! whole error as a `google.rpc.ErrorInfo`, which stock clients read. Whatever a peer sends back is shortened and freed of control
//! characters before it can reach a terminal or a log. Knows nothing of what went wrong.

use std::collections::HashMap;
use std::error::Error as StdError;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};
use veilgate_federated::error::{Blame, Code, Denial, Error};

/// Longest text taken from or given to the wire, in characters.
const MAX_TEXT: usize = 1_000;
/// Longest message of a status, in characters: a header, in which one may take nine bytes.
const MAX_SPOKEN: usize = 500;

/// The domain of every code, in a status's `google.rpc.ErrorInfo`.
const DOMAIN: &str = "veilgate";

/// Keys of an `ErrorInfo`'s metadata.
mod key {
    pub(super) const MESSAGE: &str = "message";
    /// Missing: the gateway that answers.
    pub(super) const DEPARTMENT: &str = "department";
    pub(super) const LINE: &str = "line";
    pub(super) const COLUMN_OF_TEXT: &str = "column";
    pub(super) const MEND: &str = "mend";
    /// Of a refusal, whose department is another's than that of the error where a gateway passes it on.
    pub(super) const REFUSED_BY: &str = "refused_by";
    pub(super) const RULE: &str = "rule";
    pub(super) const REFUSED_COLUMN: &str = "refused_column";
    pub(super) const ASKED: &str = "asked";
    pub(super) const ALTERNATIVE: &str = "alternative";
}

/// The gRPC code of a blame.
fn grpc_code(blame: Blame) -> tonic::Code {
    match blame {
        Blame::InvalidRequest => tonic::Code::InvalidArgument,
        Blame::Unauthenticated => tonic::Code::Unauthenticated,
        Blame::PolicyDenied => tonic::Code::PermissionDenied,
        Blame::PeerMisbehaved => tonic::Code::Aborted,
        Blame::Unavailable => tonic::Code::Unavailable,
        Blame::ResourceExhausted => tonic::Code::ResourceExhausted,
        Blame::Internal => tonic::Code::Internal,
    }
}

/// The status that carries `error`.
#[must_use]
pub fn to_status(error: &Error) -> Status {
    let mut all = HashMap::new();
    let mut put = |key: &str, text: &str| {
        if !text.is_empty() {
            all.insert(key.to_owned(), printable(text));
        }
    };
    put(key::MESSAGE, &error.message);
    put(
        key::DEPARTMENT,
        error.department.as_deref().unwrap_or_default(),
    );
    put(key::MEND, error.code.mend());
    if let Some((line, column)) = error.position {
        put(key::LINE, &line.to_string());
        put(key::COLUMN_OF_TEXT, &column.to_string());
    }
    if let Some(denial) = &error.denial {
        put(key::REFUSED_BY, &denial.department);
        put(key::RULE, &denial.rule);
        put(key::REFUSED_COLUMN, &denial.column);
        put(key::ASKED, &denial.asked);
        put(key::ALTERNATIVE, &denial.alternative);
    }
    Status::with_error_details(
        grpc_code(error.blame()),
        spoken(error),
        ErrorDetails::with_error_info(error.code.name(), DOMAIN, all),
    )
}

/// The error for tools that show a message alone.
fn spoken(error: &Error) -> String {
    let mut text = error.message.clone();
    if let Some((line, column)) = error.position {
        text.push_str(&format!(" (line {line}, column {column})"));
    }
    if let Some(denial) = &error.denial {
        text.push_str(&format!(
            "; rule: {}; allowed instead: {}",
            denial.rule, denial.alternative
        ));
    }
    let text = format!("{text} [{}]", error.code.name());
    printable(&text).chars().take(MAX_SPOKEN).collect()
}

/// What a call to the gateway of `department` ended with. Failures on our own side of the
/// connection (refused, another identity, torn) name that department too.
#[must_use]
pub fn from_status(status: &Status, department: &str) -> Error {
    if let Some(error) = status.source().and_then(own_error) {
        return error.clone().at(department);
    }
    if let Some(error) = decode(status) {
        return error.at(department);
    }
    let broken = status.source().is_some();
    let (code, what) = match status.code() {
        _ if broken => (Code::PeerUnavailable, "went away"),
        tonic::Code::Cancelled => (Code::Cancelled, "cancelled the call"),
        tonic::Code::Unavailable => (Code::PeerUnavailable, "cannot be reached"),
        tonic::Code::DeadlineExceeded => (Code::PeerUnavailable, "did not answer in time"),
        tonic::Code::Unimplemented => (Code::WrongVersion, "does not know this call"),
        tonic::Code::ResourceExhausted | tonic::Code::OutOfRange => {
            (Code::LimitExceeded, "refused the size of a message")
        }
        _ => (Code::PeerMisbehaved, "failed without a reason"),
    };
    Error::new(code, format!("gateway {department} {what}")).at(department)
}

/// The error that our own connector or verifier put into the chain.
fn own_error<'a>(mut cause: &'a (dyn StdError + 'static)) -> Option<&'a Error> {
    loop {
        if let Some(error) = cause.downcast_ref::<Error>() {
            return Some(error);
        }
        // An io::Error shows the error it carries only here, not as its source.
        if let Some(inner) = cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            && let Some(error) = own_error(inner)
        {
            return Some(error);
        }
        cause = cause.source()?;
    }
}

/// Reads details; `None` when they are not ours, or their code does not fit the status.
fn decode(status: &Status) -> Option<Error> {
    let info = status.get_details_error_info()?;
    let code = Code::from_name(&info.reason)?;
    if info.domain != DOMAIN || grpc_code(code.blame()) != status.code() {
        return None;
    }
    let text = |key: &str| {
        let found = info.metadata.get(key);
        found.map(|text| printable(text)).unwrap_or_default()
    };
    let mut error = Error::new(code, text(key::MESSAGE));
    let department = text(key::DEPARTMENT);
    if !department.is_empty() {
        error = error.at(department);
    }
    if let (Ok(line), Ok(column)) = (text(key::LINE).parse(), text(key::COLUMN_OF_TEXT).parse()) {
        error = error.position(line, column);
    }
    if info.metadata.contains_key(key::RULE) {
        error.denial = Some(Box::new(Denial {
            department: text(key::REFUSED_BY),
            rule: text(key::RULE),
            column: text(key::REFUSED_COLUMN),
            asked: text(key::ASKED),
            alternative: text(key::ALTERNATIVE),
        }));
    }
    Some(error)
}

/// Shortened, and without control characters other than line ends.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|character| *character == '\n' || !character.is_control())
        .take(MAX_TEXT)
        .collect()
}

/// The text of `docs/errors.md`.
#[must_use]
pub fn errors_markdown() -> String {
    let mut text = String::from(
        "# Errors\n\n\
         Every failure ends with exactly one of these codes, at every gateway that took part and at \
         the analyst. The command line prints `error[code]: message` and how to mend it, and exits \
         with the exit code; gRPC clients get the status, with code, department, position and the \
         details of a refusal in its binary details. No message holds a data value.\n\n\
         Generated from the code; `VEILGATE_BLESS=1 cargo test -p veilgate errors` rewrites it.\n\n\
         | code | who has to act | exit code | gRPC status | meaning | mend |\n\
         |---|---|---|---|---|---|\n",
    );
    for code in Code::ALL {
        let who = match code.blame() {
            Blame::InvalidRequest => "whoever wrote the request or file",
            Blame::Unauthenticated => "whoever logs in",
            Blame::PolicyDenied => "nobody: policy",
            Blame::PeerMisbehaved => "a peer's operator",
            Blame::Unavailable => "an operator",
            Blame::ResourceExhausted => "the analyst or an operator",
            Blame::Internal => "Veilgate's developers",
        };
        let line = format!(
            "| `{}` | {who} | {} | {} | {} | {} |\n",
            code.name(),
            code.blame().exit_code(),
            code.blame().grpc_status(),
            code.meaning().trim().replace('|', "\\|"),
            code.mend().replace('|', "\\|"),
        );
        text.push_str(&line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal() -> Error {
        Error::denied(Denial {
            department: "tax".into(),
            rule: "tax.income.taxable_income/output".into(),
            column: "tax.income.taxable_income".into(),
            asked: "output".into(),
            alternative: "SUM or AVG over at least 10 people".into(),
        })
    }

    #[test]
    fn every_code_survives_the_wire() {
        for code in Code::ALL {
            for error in [
                Error::new(*code, "message"),
                Error::new(*code, "zwei\nZeilen").at("tax").position(3, 14),
            ] {
                let status = to_status(&error);
                assert_eq!(
                    format!("{:?}", status.code()).to_uppercase(),
                    code.blame().grpc_status().replace('_', ""),
                );
                assert_eq!(from_status(&status, "civil"), error.at("civil"));
            }
        }
        assert_eq!(from_status(&to_status(&refusal()), "civil"), refusal());
    }

    #[test]
    fn a_status_that_is_not_ours_becomes_an_error_of_that_department() {
        let cases = [
            (Status::unavailable("x"), Code::PeerUnavailable),
            (Status::unimplemented("x"), Code::WrongVersion),
            (Status::unknown("x"), Code::PeerMisbehaved),
            (Status::ok("x"), Code::PeerMisbehaved),
            (Status::cancelled("x"), Code::Cancelled),
            (
                Status::with_details(tonic::Code::Internal, "x", vec![1, 2, 3].into()),
                Code::PeerMisbehaved,
            ),
            // A refusal in details under a status that does not fit it.
            (
                Status::with_details(
                    tonic::Code::Internal,
                    "x",
                    to_status(&refusal()).details().to_vec().into(),
                ),
                Code::PeerMisbehaved,
            ),
        ];
        for (status, code) in cases {
            let error = from_status(&status, "tax");
            assert_eq!(error.code, code, "{status:?}");
            assert_eq!(error.department.as_deref(), Some("tax"));
            assert!(!error.message.contains('x') || error.message.contains("tax"));
        }
    }

    #[test]
    fn what_a_peer_says_cannot_drive_the_terminal() {
        let mut error = refusal();
        error.message = format!("\u{1b}[2J{}", "a".repeat(5_000));
        let read = from_status(&to_status(&error), "tax");
        assert!(!read.message.contains('\u{1b}'));
        assert_eq!(read.message.chars().count(), MAX_TEXT);
        let hostile = HashMap::from(
            [
                (key::MESSAGE, "\u{7}\u{9b}x"),
                (key::DEPARTMENT, "t\u{1b}ax"),
            ]
            .map(|(key, text)| (key.to_owned(), text.to_owned())),
        );
        let details = ErrorDetails::with_error_info("internal", DOMAIN, hostile);
        let status = Status::with_error_details(tonic::Code::Internal, "", details);
        let read = from_status(&status, "civil");
        assert_eq!(
            (read.message.as_str(), read.department.as_deref()),
            ("x", Some("tax"))
        );
    }

    #[test]
    fn documentation_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");
        let current = errors_markdown();
        if std::env::var_os("VEILGATE_BLESS").is_some() {
            std::fs::write(path, &current).unwrap();
        }
        let written = std::fs::read_to_string(path).unwrap();
        assert!(
            written == current,
            "docs/errors.md is stale: VEILGATE_BLESS=1 cargo test -p veilgate errors"
        );
    }
}
