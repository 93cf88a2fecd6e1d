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
