//! The one mapping between [`Error`] and what crosses the wire as a gRPC status, and the generated
//! `docs/errors.md`.
//!
//! A status carries the gRPC code of the error's blame, the message, and in its binary details the
//! whole error: [`WireError`]. Whatever a peer sends back is shortened and freed of control
//! characters before it can reach a terminal or a log. Knows nothing of what went wrong.

use prost::Message as _;
use std::error::Error as StdError;
use tonic::Status;
use veilgate_federated::error::{Blame, Code, Denial, Error};

/// Longest text taken from or given to the wire, in characters.
const MAX_TEXT: usize = 1_000;

/// An [`Error`] in a status's details. Field numbers are never reused.
#[derive(Clone, PartialEq, prost::Message)]
struct WireError {
    /// [`Code::name`].
    #[prost(string, tag = "1")]
    code: String,
    #[prost(string, tag = "2")]
    message: String,
    /// Empty: the gateway that answers.
    #[prost(string, tag = "3")]
    department: String,
    /// 0: unknown.
    #[prost(uint64, tag = "4")]
    line: u64,
    #[prost(uint64, tag = "5")]
    column: u64,
    #[prost(message, optional, tag = "6")]
    denial: Option<WireDenial>,
}

/// A [`Denial`].
#[derive(Clone, PartialEq, prost::Message)]
struct WireDenial {
    #[prost(string, tag = "1")]
    department: String,
    #[prost(string, tag = "2")]
    rule: String,
    #[prost(string, tag = "3")]
    column: String,
    #[prost(string, tag = "4")]
    asked: String,
    #[prost(string, tag = "5")]
    alternative: String,
}

/// The gRPC code of a blame.
fn grpc_code(blame: Blame) -> tonic::Code {
    match blame {
        Blame::InvalidRequest => tonic::Code::InvalidArgument,
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
    let (line, column) = error.position.unwrap_or_default();
    let wire = WireError {
        code: error.code.name().to_owned(),
        message: printable(&error.message),
        department: printable(error.department.as_deref().unwrap_or_default()),
        line,
        column,
        denial: error.denial.as_deref().map(|denial| WireDenial {
            department: printable(&denial.department),
            rule: printable(&denial.rule),
            column: printable(&denial.column),
            asked: printable(&denial.asked),
            alternative: printable(&denial.alternative),
        }),
    };
    Status::with_details(
        grpc_code(error.blame()),
        wire.message.clone(),
        wire.encode_to_vec().into(),
    )
}

/// What a call to the gateway of `department` ended with. Failures on our own side of the
/// connection (refused, another identity, torn) name that department too.
#[must_use]
pub fn from_status(status: &Status, department: &str) -> Error {
    if let Some(error) = status.source().and_then(own_error) {
        return error.clone().at(department);
    }
    if let Some(error) = decode(status.details(), status.code()) {
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
fn decode(details: &[u8], status: tonic::Code) -> Option<Error> {
    if details.is_empty() {
        return None;
    }
    let wire = WireError::decode(details).ok()?;
    let code = Code::from_name(&wire.code)?;
    if grpc_code(code.blame()) != status {
        return None;
    }
    let mut error = Error::new(code, printable(&wire.message));
    if !wire.department.is_empty() {
        error = error.at(printable(&wire.department));
    }
    if wire.line > 0 {
        error = error.position(wire.line, wire.column);
    }
    error.denial = wire.denial.map(|denial| {
        Box::new(Denial {
            department: printable(&denial.department),
            rule: printable(&denial.rule),
            column: printable(&denial.column),
            asked: printable(&denial.asked),
            alternative: printable(&denial.alternative),
        })
    });
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
        let hostile = WireError {
            code: "internal".into(),
            message: "\u{7}\u{9b}x".into(),
            department: "t\u{1b}ax".into(),
            ..WireError::default()
        };
        let status =
            Status::with_details(tonic::Code::Internal, "", hostile.encode_to_vec().into());
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
