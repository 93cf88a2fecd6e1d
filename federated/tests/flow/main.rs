//! The plan's canonical bytes, and each owner's own check of a plan, on plans made by the planner
//! and on plans tampered with by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../planner/federation.rs"]
#[allow(dead_code)]
mod federation;

mod denied;
mod explain;
mod guards;
mod oracles;
mod permitted;
mod programs;
mod reasons;
mod wire;
