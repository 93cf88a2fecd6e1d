//! The 22 queries of TPC-H over a sandbox of real gateway processes, each answer compared with that of
//! the engine over all tables in the clear.

use crate::process;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::ipc::reader::StreamReader;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use veilgate::sandbox::state::FEDERATED_TABLES;
use veilgate_federated::policy::Leakage;
use veilgate_federated::testing::tpch::{self, Split};

/// What is run.
pub(crate) struct Options {
    pub(crate) scale: f64,
    pub(crate) leakage: Leakage,
    pub(crate) split: Split,
    pub(crate) runs: u32,
    /// One query; all where there is none.
    pub(crate) only: Option<usize>,
}

/// Runs the queries, a line each run.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let text = |error: veilgate_federated::error::Error| error.to_string();
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let departments =
        tpch::departments(options.split, options.scale, options.leakage, true).map_err(text)?;
    tpch::write(folder.path(), &departments).map_err(text)?;
    let declared = folder.path().join(FEDERATED_TABLES);
    std::fs::write(declared, options.split.declarations()).map_err(|error| error.to_string())?;
    let tables = tpch::whole(&departments).map_err(text)?;
    drop(departments);
    let exe = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut sandbox = Command::new(&exe)
        .arg("sandbox")
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let outcome = measure(options, &exe, folder.path(), &mut sandbox, &tables);
    crate::query::stop(&mut sandbox);
    outcome
}

fn measure(
    options: &Options,
    exe: &Path,
    folder: &Path,
    sandbox: &mut std::process::Child,
    tables: &[(String, RecordBatch)],
) -> Result<(), String> {
    let stdout = sandbox.stdout.take().ok_or("the sandbox has no output")?;
    // It prints how to query when it is ready.
    BufReader::new(stdout)
        .lines()
        .map_while(Result::ok)
        .find(|line| line.contains("veilgate query"))
        .ok_or("the sandbox did not come up")?;
    let pids = process::gateways(sandbox.id());
    let cpu = || {
        pids.iter()
            .map(|pid| process::cpu_seconds(*pid))
            .sum::<f64>()
    };
    let only = options.only;
    for number in (1..=22).filter(|number| only.is_none_or(|only| only == *number)) {
        let sql = tpch::query(number, options.split).ok_or("there is no such query")?;
        let plain = tpch::plain_query(number).ok_or("there is no such query")?;
        let expected = tpch::clear(&plain, tables).map_err(|error| error.to_string())?;
        for run in 0..options.runs.max(1) {
            let (before, started) = (cpu(), Instant::now());
            let output = Command::new(exe)
                .args(["query", "--dir"])
                .arg(folder)
                .args(["--output", "arrow", &sql])
                .output()
                .map_err(|error| error.to_string())?;
            let wall = started.elapsed().as_secs_f64();
            let notices = String::from_utf8_lossy(&output.stderr).into_owned();
            if !output.status.success() {
                return Err(format!("query {number}: {notices}"));
            }
            let (bytes, rounds) = crate::query::traffic(&notices);
            let line = serde_json::json!({
                "bench": "tpch", "query": number, "scale": options.scale,
                "leakage": options.leakage.name(),
                "split": options.split.name(),
                "warm": run > 0, "wall_s": wall, "cpu_s": cpu() - before,
                "bytes_sent": bytes, "rounds": rounds,
                "peak_rss_bytes":
                    pids.iter().map(|pid| process::peak_bytes(*pid)).collect::<Vec<_>>(),
                "rows": expected.num_rows(),
                "checked": answer(&output.stdout).is_some_and(|found| {
                    tpch::lines(&found) == tpch::lines(&expected)
                }),
            });
            crate::print(&line.to_string());
        }
    }
    Ok(())
}

/// The rows of an Arrow stream.
fn answer(bytes: &[u8]) -> Option<RecordBatch> {
    let reader = StreamReader::try_new(bytes, None).ok()?;
    let schema = reader.schema();
    let batches: Vec<RecordBatch> = reader.collect::<Result<_, _>>().ok()?;
    concat_batches(&schema, &batches).ok()
}
