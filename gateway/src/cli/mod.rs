//! The command line: parses, calls one function of the library for each command, prints.
//!
//! Standard output carries results alone; everything else goes to standard error. What went wrong
//! decides the exit code (`federated::error::Blame`). Nothing here knows of plans or policies.

pub mod args;
pub mod audit;
mod catalog;
pub mod client;
mod completions;
pub mod config_check;
pub mod connect;
pub mod explain;
mod gateway;
pub mod init;
pub mod output;
pub mod progress;
pub mod query;
pub mod report;
mod shell;
mod user;

use crate::identity::Identity;
use args::{AuditCommand, Cli, Command, ConfigCommand};
use clap::Parser;
use std::io::Write;
use std::process::ExitCode;
use veilgate_federated::error::{Code, Error, Result};

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    report::install_panic_hook();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return report::usage(&usage),
    };
    // A panic has been reported by the hook; what is left is the exit code.
    match std::panic::catch_unwind(|| run(cli)) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => report::failure(&error),
        Err(_) => ExitCode::from(Code::Internal.blame().exit_code()),
    }
}

fn run(cli: Cli) -> Result<()> {
    let common = cli.common;
    match cli.command {
        Command::Demo(args) => crate::demo::run(&args, &common),
        Command::Sandbox(args) => crate::sandbox::run(&args, &common),
        Command::Gateway(args) => gateway::run(&args),
        Command::Query(args) => query::run(&args, &common),
        Command::Explain(args) => explain::run(&args, &common),
        Command::Shell(args) => shell::run(&args, &common),
        Command::Catalog(args) => catalog::run(&args, &common),
        Command::Init(args) => init::run(&args),
        Command::Config {
            command: ConfigCommand::Check { file },
        } => config_check::run(&file),
        Command::User { command } => user::run(&command, &common),
        Command::Audit { command } => match command {
            AuditCommand::Verify { path, key } => audit::verify(&path, key.as_deref()),
            AuditCommand::Prove {
                ledger,
                query,
                file,
            } => audit::prove(&ledger, &query, &file),
        },
        Command::Certificate(args) => {
            let identity = Identity::load("analyst", &args.identity)?;
            print(identity.certificate_pem()?.trim_end())
        }
        Command::Completions(args) => completions::run(&args),
    }
}

/// The runtime of one command.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Error::new(Code::Internal, format!("cannot start threads: {error}")))
}

/// Writes text to standard output.
///
/// # Errors
/// As [`print_bytes`].
pub(crate) fn print(text: &str) -> Result<()> {
    print_bytes(text.as_bytes())
}

/// Writes bytes to standard output. A reader that has gone away has seen enough.
///
/// # Errors
/// `BadRequest` for an output that cannot be written.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(output_failed(&error)),
        _ => Ok(()),
    }
}

/// Writes a line to standard error; a closed standard error is nobody's failure.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

pub(crate) fn output_failed(error: &std::io::Error) -> Error {
    Error::new(
        Code::BadRequest,
        format!("cannot write to standard output: {error}"),
    )
}
