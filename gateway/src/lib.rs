//! The gateway of one department, and the command line over it.
//!
//! The rooms:
//!
//! | module | holds |
//! |---|---|
//! | [`cli`] | the command line: arguments, output formats, progress, exit codes |
//! | [`identity`] | keys and names of departments and analysts |
//! | [`config`] | `gateway.toml` and `federation.toml` |
//! | [`tls`] | mutually authenticated channels with pinned identities |
//! | [`users`] | who logs in with a password or a token: `users.toml`, sessions |
//! | `explain` | EXPLAIN as rows |
//! | `queries` | what analysts ask, whichever way they connect |
//! | `flight` | Arrow Flight SQL |
//! | [`ledger`] | the append-only Merkle log, its proofs and their verification |
//! | [`clock`] | the one place that reads the wall clock |
//! | [`errors`] | errors on the wire |
//! | [`demo`] | generated people for three departments, and the guided tour |
//! | [`sandbox`] | a federation of processes on this machine, from folders |

mod api;
mod carry;
pub mod cli;
pub mod clock;
pub mod config;
pub mod demo;
pub mod errors;
mod explain;
mod flight;
pub mod identity;
pub mod ledger;
pub mod node;
mod private_file;
mod queries;
pub mod sandbox;
mod session;
pub mod tls;
mod used_runs;
pub mod users;

/// Runs the command line of this process and returns its exit code.
#[must_use]
pub fn main() -> std::process::ExitCode {
    cli::main()
}
