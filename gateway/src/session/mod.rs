//! Runs over real sockets: drives `veilgate_federated::run` as a participant (asked by a home
//! gateway) and as a coordinator (asked by an analyst).
//!
//! MPC threads, the DataFusion runtime and the network meet here, at bounded channels, and nowhere
//! else. Nothing here decides about policy or opens a share: it carries typed states from one
//! transition to the next.

pub(crate) mod coordinator;
mod execution;
pub(crate) mod participant;
pub(crate) mod peers;

use std::future::Future;
use veilgate_federated::error::{Code, Error, Result};

/// Runs a transition to its end whoever stops waiting for it: a run's slot is never left half-way
/// because a connection was lost.
pub(crate) async fn to_the_end<T: Send + 'static>(
    transition: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    tokio::spawn(transition)
        .await
        .unwrap_or_else(|_| Err(Error::new(Code::Internal, "a transition ended abnormally")))
}
