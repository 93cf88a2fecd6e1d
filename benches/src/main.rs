//! `veilgate-bench NAME [options]`: one harness; one JSON line per run on stdout and nothing else.
//! What the fields mean is said in `benches/README.md`. Timings are reported, never asserted.

use clap::Parser;
use std::process::ExitCode;

mod entries;
mod harness;
mod process;
#[cfg(feature = "query")]
mod query;
#[cfg(feature = "query")]
mod tpch;

/// The argument that makes this binary a participant of a benchmark.
const PARTY: &str = "party-of-a-benchmark";

#[derive(Parser)]
#[command(name = "veilgate-bench", about, version, after_help = names())]
struct Arguments {
    /// The benchmark, or `all` of the protocols.
    name: String,
    /// Rows per side.
    #[arg(long, default_value_t = 1 << 20)]
    rows: usize,
    /// Bits of a key; each benchmark has its own default.
    #[arg(long)]
    key_bits: Option<usize>,
    /// Owners of an aligned join.
    #[arg(long, default_value_t = 2)]
    owners: usize,
    /// Threads per party.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Simulated round trip in milliseconds: twice the delay of one way.
    #[arg(long, default_value_t = 0.0)]
    rtt_ms: f64,
    /// Simulated bandwidth of each direction between two parties, in megabits a second.
    #[arg(long)]
    mbps: Option<u64>,
    /// The memory budget of a party in MiB; what waits beyond it goes to encrypted files.
    #[arg(long)]
    memory_mib: Option<u64>,
    /// Runs, one line each; the first is the one in fresh processes.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Scale factor of TPC-H.
    #[arg(long, visible_alias = "sf", default_value_t = 0.1)]
    scale: f64,
    /// What departments accept that others learn, of TPC-H: `sizes` or `none`.
    #[arg(long, default_value = "sizes")]
    leakage: String,
    /// Which department has which table of TPC-H: `default`, `apart` or `horizontal`.
    #[arg(long, default_value = "default")]
    split: String,
    /// One query of TPC-H; all of them if none is named.
    #[arg(long)]
    query: Option<usize>,
    /// Names all data and randomness.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn names() -> String {
    let mut text = String::from("Benchmarks:\n");
    for entry in entries::ALL {
        text.push_str(&format!("  {:<16} {}\n", entry.name, entry.about));
    }
    text.push_str("  joint-query      a whole query, Parquet files to rows, through gateways\n");
    text.push_str("  tpch             the 22 queries of TPC-H, through gateways\n");
    text
}

fn main() -> ExitCode {
    let first = std::env::args().nth(1);
    // The federation under test runs from this very binary.
    #[cfg(feature = "query")]
    if first
        .as_deref()
        .is_some_and(|name| ["gateway", "sandbox", "query"].contains(&name))
    {
        return veilgate::main();
    }
    let outcome = if first.as_deref() == Some(PARTY) {
        harness::party()
    } else {
        run(&Arguments::parse())
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    if !(0.0..60_000.0).contains(&arguments.rtt_ms) {
        return Err(format!("--rtt-ms {}: 0 to 60000", arguments.rtt_ms));
    }
    let measure = |entry: &entries::Entry| {
        let params = harness::Params {
            rows: arguments.rows,
            key_bits: arguments.key_bits.unwrap_or(entry.key_bits),
            owners: arguments.owners,
            threads: arguments.threads,
            rtt_ms: arguments.rtt_ms,
            mbps: arguments.mbps,
            seed: arguments.seed,
            memory_mib: arguments.memory_mib,
        };
        harness::run(entry, &params, arguments.runs)
    };
    match arguments.name.as_str() {
        "all" => entries::ALL.iter().try_for_each(measure),
        #[cfg(feature = "query")]
        "joint-query" => query::run(arguments.rows as u64, arguments.runs),
        #[cfg(feature = "query")]
        "tpch" => tpch(arguments),
        #[cfg(not(feature = "query"))]
        "joint-query" | "tpch" => Err("joint-query and tpch need the feature `query`".to_owned()),
        name => match entries::find(name) {
            Some(entry) => measure(entry),
            None => Err(format!("no benchmark `{name}`.\n{}", names())),
        },
    }
}

#[cfg(feature = "query")]
fn tpch(arguments: &Arguments) -> Result<(), String> {
    use veilgate_federated::policy::Leakage;
    use veilgate_federated::testing::tpch::Split;
    let leakage = match arguments.leakage.as_str() {
        "sizes" => Leakage::Sizes,
        "none" => Leakage::None,
        other => return Err(format!("--leakage {other}: sizes or none")),
    };
    let split = Split::from_name(&arguments.split)
        .ok_or_else(|| format!("--split {}: default, apart or horizontal", arguments.split))?;
    if !(0.001..=10.0).contains(&arguments.scale) {
        return Err(format!("--scale {}: 0.001 to 10", arguments.scale));
    }
    tpch::run(&tpch::Options {
        scale: arguments.scale,
        leakage,
        split,
        runs: arguments.runs,
        only: arguments.query,
    })
}

/// One line of results; not to a reader that has gone away.
fn print(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// One line for people.
#[allow(clippy::print_stderr)]
fn tell(line: &str) {
    eprintln!("{line}");
}
