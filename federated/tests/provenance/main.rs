//! What the oracle of privacy thresholds says, by hand and over random queries.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap
)]

mod analysts;
mod comparing;
mod hand;
mod joint;
mod oracle;
mod tables;
mod tpch;

/// What random tables and queries are made by.
#[allow(dead_code)] // as far as joint runs need them
#[path = "../differential"]
mod differential {
    #[path = "oracle.rs"]
    pub mod counting;
    pub mod data;
    pub mod programs;
    pub mod query;
    pub mod windows;
}
mod random;

use differential::{data, programs, query};
