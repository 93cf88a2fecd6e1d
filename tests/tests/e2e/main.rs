//! End to end: real gateway processes over mutually authenticated TLS, driven by the command line
//! alone, compared with clear DataFusion over the same files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    missing_docs
)]

mod canaries;
mod demo;
mod faults;
mod random;
mod refusals;
mod support;
mod tpch;
