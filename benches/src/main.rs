//! `veilgate-bench NAME [options]`: one harness; one JSON line per run on stdout and nothing else.
//! What the fields mean is said in `benches/README.md`. Timings are reported, never asserted.

use clap::{Parser, Subcommand};
use std::process::ExitCode;

mod process;
mod query;

#[derive(Parser)]
#[command(name = "veilgate-bench", about, version)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// A whole query: Parquet files of two departments to rows, gateways as separate processes.
    JointQuery(query::Options),
}

fn main() -> ExitCode {
    // The federation under test runs from this very binary.
    if std::env::args()
        .nth(1)
        .is_some_and(|name| ["gateway", "sandbox", "query"].contains(&name.as_str()))
    {
        return veilgate::main();
    }
    let arguments = Arguments::parse();
    let outcome: Result<(), String> = match arguments.bench {
        Bench::JointQuery(options) => query::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr)]
            {
                eprintln!("error: {error}");
            }
            ExitCode::FAILURE
        }
    }
}
