//! Runs over real sockets: drives `veilgate_federated::run` as a participant (asked by a home
//! gateway) and as a coordinator (asked by an analyst).
//!
//! MPC threads, the DataFusion runtime and the network meet here, at bounded channels, and nowhere
//! else. Nothing here decides about policy or opens a share: it carries typed states from one
//! transition to the next.

mod blame;
pub(crate) mod coordinator;
mod execution;
mod notices;
pub(crate) mod participant;
pub(crate) mod peers;
mod turns;

use std::future::Future;
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::policy::{MAX_REASON, Reason, is_reason};

/// Runs a transition to its end whoever stops waiting for it: a run's slot is never left half-way
/// because a connection was lost.
pub(crate) async fn to_the_end<T: Send + 'static>(
    transition: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(transition)
        .await
        .unwrap_or_else(|_| Err(Error::new(Code::Internal, "a transition ended abnormally")))
}

/// Who asks at the home gateway, and for what.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Asker {
    /// `name@department`.
    pub(crate) analyst: String,
    /// What the answer is for; empty where nothing was said.
    pub(crate) purpose: String,
    /// The number of the case that it is for; empty where nothing was said.
    pub(crate) case: String,
}

impl Asker {
    /// What the answer is for.
    pub(crate) fn reason(&self) -> Reason<'_> {
        Reason {
            purpose: &self.purpose,
            case: &self.case,
        }
    }
}

impl std::fmt::Debug for Asker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Asker({})", self.analyst)
    }
}

/// Checks a purpose or case number.
///
/// # Errors
/// `BadRequest` for one that is too long or has control characters.
pub(crate) fn check_reason(what: &str, text: &str) -> Result<()> {
    if is_reason(text) {
        return Ok(());
    }
    Err(Error::new(
        Code::BadRequest,
        format!("a {what} has at most {MAX_REASON} characters, all of them printable"),
    ))
}
