//! Starting the binary, and an oracle that knows nothing of it: clear DataFusion over the same
//! files.

use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionConfig, SessionContext};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// The binary under test.
pub(crate) fn veilgate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_veilgate-under-test"));
    command.env_remove("VEILGATE_DIR").stdin(Stdio::null());
    command
}

/// Runs a command to its end, within a minute.
pub(crate) fn run(arguments: &[&str]) -> Output {
    let started = Instant::now();
    let output = veilgate().args(arguments).output().unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(120),
        "{arguments:?} took {:?}",
        started.elapsed()
    );
    output
}

/// The rows that a command printed as JSON; fails with its standard error otherwise.
pub(crate) fn rows(output: &Output) -> serde_json::Value {
    assert!(
        output.status.success(),
        "exit {:?}\n{}",
        output.status.code(),
        text(&output.stderr)
    );
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
}

/// Bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running sandbox; its gateways end with it.
pub(crate) struct Sandbox {
    child: Child,
    pub(crate) dir: PathBuf,
}

impl Sandbox {
    /// Starts one over `dir` and waits until it says how to query.
    pub(crate) fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[])
    }

    /// The same with further arguments.
    pub(crate) fn start_with(dir: &Path, arguments: &[&str]) -> Self {
        let mut child = veilgate()
            .arg("sandbox")
            .arg(dir)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let ready = BufReader::new(stdout)
            .lines()
            .map_while(Result::ok)
            .any(|line| line.contains("veilgate query"));
        if !ready {
            let mut errors = String::new();
            child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut errors)
                .unwrap();
            panic!("the sandbox did not come up: {errors}");
        }
        Self {
            child,
            dir: dir.to_owned(),
        }
    }

    /// Runs a query through the command line.
    pub(crate) fn query(&self, sql: &str) -> Output {
        let dir = self.dir.to_str().unwrap();
        run(&["query", "--dir", dir, "--output", "json", sql])
    }

    /// The plan of a query, for people.
    pub(crate) fn explain(&self, sql: &str) -> String {
        let output = run(&["explain", "--dir", self.dir.to_str().unwrap(), sql]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Process ids of the gateways, by the end of their command line.
    pub(crate) fn gateways(&self) -> Vec<(u32, String)> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap() {
            let Ok(pid) = entry.unwrap().file_name().to_str().unwrap_or("").parse() else {
                continue;
            };
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent = stat.rsplit_once(')').and_then(|(_, rest)| {
                let mut words = rest.split_whitespace();
                words.next();
                words.next().map(str::to_owned)
            });
            if parent == Some(self.child.id().to_string()) {
                let line =
                    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                found.push((pid, line.replace('\0', " ")));
            }
        }
        found
    }

    /// The process of one department's gateway.
    pub(crate) fn gateway(&self, department: &str) -> u32 {
        let found = self.gateways();
        found
            .iter()
            .find(|(_, line)| line.contains(department))
            .unwrap_or_else(|| panic!("no gateway of {department} in {found:?}"))
            .0
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let _ = self.child.wait();
    }
}

/// A copy of the demo's data and policies, made once per test process.
pub(crate) fn export(dir: &Path, people: u32, seed: u32) {
    let output = run(&[
        "demo",
        "--people",
        &people.to_string(),
        "--seed",
        &seed.to_string(),
        "--export",
        dir.to_str().unwrap(),
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// Clear DataFusion over the demo's files: schemas by department, keys cleaned independently.
pub(crate) struct Oracle {
    context: SessionContext,
    runtime: tokio::runtime::Runtime,
}

impl Oracle {
    /// Registers every CSV and Parquet file of `dir` as `department.table`.
    pub(crate) fn over(dir: &Path) -> Self {
        let config = SessionConfig::new()
            .with_target_partitions(1)
            .set_bool("datafusion.sql_parser.parse_float_as_decimal", true);
        let context = SessionContext::new_with_config(config);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        for department in std::fs::read_dir(dir).unwrap() {
            let department = department.unwrap().path();
            let name = department.file_name().unwrap().to_str().unwrap().to_owned();
            if !department.is_dir() || name.starts_with('.') {
                continue;
            }
            for file in std::fs::read_dir(&department).unwrap() {
                let file = file.unwrap().path();
                let table = file.file_stem().unwrap().to_str().unwrap().to_owned();
                // `raw_tax_income`, to be cleaned by a view `tax.income`.
                let raw = format!("raw_{name}_{table}");
                let path = file.to_str().unwrap();
                runtime.block_on(async {
                    match file.extension().and_then(|extension| extension.to_str()) {
                        Some("csv") => {
                            let options = CsvReadOptions::new().schema_infer_max_records(100_000);
                            context.register_csv(&raw, path, options).await.unwrap();
                        }
                        Some("parquet") => {
                            let options = ParquetReadOptions::default();
                            context.register_parquet(&raw, path, options).await.unwrap();
                        }
                        _ => {}
                    }
                });
            }
        }
        Self { context, runtime }
    }

    /// Runs SQL over the raw tables; rows as JSON.
    pub(crate) fn rows(&self, sql: &str) -> serde_json::Value {
        let batches = self.runtime.block_on(async {
            let frame = self.context.sql(sql).await.unwrap();
            frame.collect().await.unwrap()
        });
        let mut bytes = Vec::new();
        let mut writer = arrow::json::ArrayWriter::new(&mut bytes);
        for batch in &batches {
            writer.write(batch).unwrap();
        }
        writer.finish().unwrap();
        drop(writer);
        if bytes.is_empty() {
            return serde_json::json!([]);
        }
        serde_json::from_slice(&bytes).unwrap()
    }
}

/// The clear form of a dirty 18-character id: spaces out, upper case. Ids with a wrong check digit
/// join nothing; the demo's are all valid.
pub(crate) fn clean(column: &str) -> String {
    format!("upper(replace({column}, ' ', ''))")
}
