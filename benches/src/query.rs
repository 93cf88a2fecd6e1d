//! A whole query over a sandbox of real gateway processes: `rows` per side, joined on an integer
//! id, one SUM; compared with the sum computed here in the clear.

use crate::process;
use arrow::array::{ArrayRef, Decimal128Array, Int64Array, RecordBatch};
use parquet::arrow::ArrowWriter;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

const SQL: &str =
    "SELECT SUM(r.amount) AS total FROM north.people l JOIN south.payments r ON l.id = r.id";

/// `rows` per side; `runs` queries, the first of them in fresh processes.
pub(crate) fn run(rows: u64, runs: u32) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let expected = write_tables(folder.path(), rows)?;
    let exe = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut sandbox = Command::new(&exe)
        .arg("sandbox")
        .arg(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    let outcome = measure((rows, runs), &exe, folder.path(), &mut sandbox, &expected);
    stop(&mut sandbox);
    outcome
}

fn measure(
    (rows, runs): (u64, u32),
    exe: &Path,
    folder: &Path,
    sandbox: &mut std::process::Child,
    expected: &str,
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
    for run in 0..runs.max(1) {
        let (before, started) = (cpu(), Instant::now());
        let output = Command::new(exe)
            .args(["query", "--dir"])
            .arg(folder)
            .args(["--output", "json", SQL])
            .output()
            .map_err(|error| error.to_string())?;
        let wall = started.elapsed().as_secs_f64();
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        let notices = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            return Err(notices);
        }
        let digits: String = answer
            .chars()
            .filter(|c| c.is_ascii_digit() || *c == '.')
            .collect();
        let (bytes, rounds) = traffic(&notices);
        let line = serde_json::json!({
            "bench": "joint-query", "rows": rows, "warm": run > 0,
            "wall_s": wall, "cpu_s": cpu() - before,
            "bytes_sent": bytes, "rounds": rounds,
            "peak_rss_bytes": pids.iter().map(|pid| process::peak_bytes(*pid)).collect::<Vec<_>>(),
            "bytes_per_input_row": bytes.iter().sum::<u64>() as f64 / (2 * rows) as f64,
            "checked": digits == expected,
        });
        crate::print(&line.to_string());
    }
    Ok(())
}

/// (bytes sent by each gateway, most rounds) from the traffic notices.
pub(crate) fn traffic(notices: &str) -> (Vec<u64>, u64) {
    let mut bytes = Vec::new();
    let mut rounds = 0;
    for line in notices
        .lines()
        .filter(|line| line.contains("bytes sent to other gateways"))
    {
        let numbers: Vec<u64> = line
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|word| word.parse().ok())
            .collect();
        if let [.., sent, round] = numbers[..] {
            bytes.push(sent);
            rounds = rounds.max(round);
        }
    }
    (bytes, rounds)
}

/// Two tables whose ids overlap in four fifths; answers with the sum as text.
fn write_tables(folder: &Path, rows: u64) -> Result<String, String> {
    let rows = i64::try_from(rows).map_err(|error| error.to_string())?;
    // A fixed odd multiplier scatters ids over 62 bits.
    let id =
        |i: i64| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15_u64.cast_signed()) >> 2) & (i64::MAX >> 1);
    let left: ArrayRef = Arc::new(Int64Array::from_iter_values((0..rows).map(id)));
    let start = rows / 5;
    let right: ArrayRef = Arc::new(Int64Array::from_iter_values((start..start + rows).map(id)));
    let amount = |i: i64| i128::from(i % 900_001 + 1);
    let amounts: ArrayRef = Arc::new(
        Decimal128Array::from_iter_values((start..start + rows).map(amount))
            .with_precision_and_scale(12, 2)
            .map_err(|error| error.to_string())?,
    );
    write(&folder.join("north/people.parquet"), vec![("id", left)])?;
    write(
        &folder.join("south/payments.parquet"),
        vec![("id", right), ("amount", amounts)],
    )?;
    let total: i128 = (start..rows).map(amount).sum();
    Ok(format!("{}.{:02}", total / 100, total % 100))
}

fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) -> Result<(), String> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|error| error.to_string())?;
    }
    let batch = RecordBatch::try_from_iter(columns).map_err(|error| error.to_string())?;
    let file = File::create(path).map_err(|error| error.to_string())?;
    let mut writer =
        ArrowWriter::try_new(file, batch.schema(), None).map_err(|error| error.to_string())?;
    writer.write(&batch).map_err(|error| error.to_string())?;
    writer.close().map_err(|error| error.to_string())?;
    Ok(())
}

pub(crate) fn stop(sandbox: &mut std::process::Child) {
    let _ = Command::new("kill").arg(sandbox.id().to_string()).status();
    let _ = sandbox.wait();
}
