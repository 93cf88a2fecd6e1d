//! The Flight SQL clients that analysts have, from PyPI, against a federation of real processes.
//!
//! Needs `python3` with `venv`; the packages of `tests/clients/requirements.txt` are installed into the
//! build folder once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    missing_docs
)]

#[path = "../e2e/support.rs"]
#[allow(dead_code)]
mod support;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::Sandbox;

/// A Python with the clients.
fn python() -> PathBuf {
    static ONCE: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    ONCE.get_or_init(install).clone()
}

fn install() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    let python = folder.join("bin/python");
    let wanted = include_str!("../../clients/requirements.txt");
    let stamp = folder.join("installed");
    if std::fs::read_to_string(&stamp).is_ok_and(|text| text == wanted) {
        return python;
    }
    let run = |command: &mut Command| {
        let output = command.output();
        let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
    };
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&folder));
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/requirements.txt");
    run(Command::new(&python)
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
        ])
        .arg(list));
    std::fs::write(stamp, wanted).unwrap();
    python
}

/// Every column of a table may be output, and more; those in `secret` may not.
fn policy(department: &str, tables: &[(&str, &[&str])]) -> String {
    let mut text = format!(
        "version = 1\ndepartment = \"{department}\"\ncomputing = [[\"alpha\", \"beta\", \"bureau\"]]\n"
    );
    for (table, columns) in tables {
        for column in *columns {
            let _ = write!(
                text,
                "\n[tables.{table}.columns.{column}]\nlevel = \"L1\"\nallow = [\n"
            );
            let functions = "functions = [\"count\", \"sum\", \"min\", \"max\", \"avg\"]";
            for what in ["join_key", "filter", "group_key", "sort_key", "output"] {
                let _ = writeln!(text, "  {{ use = \"{what}\", k = 1, leakage = \"none\" }},");
            }
            let _ = writeln!(
                text,
                "  {{ use = \"aggregate\", {functions}, k = 1, leakage = \"none\" }},\n]"
            );
        }
    }
    text
}

fn column(name: &str, data_type: &str, more: &str) -> String {
    format!(
        "\n[[tables.columns]]\nname = \"{name}\"\ntype = \"{data_type}\"\nnullable = false\n{more}\n"
    )
}

fn table(name: &str, rows: u32, columns: &[String]) -> String {
    format!(
        "\n[[tables]]\nname = \"{name}\"\nsource = \"{name}.csv\"\nunit = \"id\"\nkey = [\"id\"]\n\
         max_rows = {rows}\n{}",
        columns.concat()
    )
}

/// Rows of `alpha.rows`.
const ROWS: u32 = 1_000_000;

fn write_tables(dir: &Path) {
    let write = |path: &str, text: String| {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let key = |rows: u32| {
        column(
            "id",
            "int64",
            &format!("max_distinct = {rows}\nmax_abs = {rows}"),
        )
    };
    let value = column("v", "int64", "max_distinct = 1000\nmax_abs = 1000");
    let head = |department: &str| format!("version = 1\ndepartment = \"{department}\"\n");
    write(
        "alpha/catalog.toml",
        head("alpha")
            + &table(
                "people",
                100,
                &[
                    key(100),
                    column("ward", "utf8", "max_bytes = 8\nmax_distinct = 4"),
                    column("born", "date", "max_distinct = 100"),
                    column("secret", "utf8", "max_bytes = 8\nmax_distinct = 100"),
                    column("street", "utf8", "max_bytes = 8\nmax_distinct = 100"),
                ],
            )
            + &table("rows", ROWS, &[key(ROWS), value]),
    );
    write(
        "beta/catalog.toml",
        head("beta")
            + &table(
                "incomes",
                100,
                &[
                    key(100),
                    column(
                        "income",
                        "decimal(12,2)",
                        "max_distinct = 100\nmax_abs = 100000",
                    ),
                ],
            ),
    );
    let (mut people, mut incomes) = (
        "id,ward,born,secret,street\n".to_owned(),
        "id,income\n".to_owned(),
    );
    for n in 0..90 {
        let ward = ["east", "north", "west"][n % 3];
        let (month, day) = match n {
            0..31 => (1, n + 1),
            31..60 => (2, n - 30),
            _ => (3, n - 59),
        };
        let _ = writeln!(
            people,
            "{n},{ward},2000-{month:02}-{day:02},hidden{n},street{n}"
        );
        let _ = writeln!(incomes, "{n},{n}.50");
    }
    write("alpha/people.csv", people);
    write("beta/incomes.csv", incomes);
    let mut rows = "id,v\n".to_owned();
    for n in 0..ROWS {
        let _ = writeln!(rows, "{n},{}", n % 1000);
    }
    write("alpha/rows.csv", rows);
    let tables: &[(&str, &[&str])] = &[("people", &["id", "ward", "born"]), ("rows", &["id", "v"])];
    let secret = "\n[tables.people.columns.secret]\nlevel = \"L1\"\nallow = [\n  { use = \"filter\", k = 1, \
                  leakage = \"none\" },\n]\n";
    let street = "\n[tables.people.columns.street]\nlevel = \"L1\"\nallow = [\n  { use = \"output\", k = 1, \
                  leakage = \"none\", purposes = [\"inquiry\", \"census\"], case = true },\n]\n";
    write(
        "alpha/policy.toml",
        policy("alpha", tables) + secret + street,
    );
    write(
        "beta/policy.toml",
        policy("beta", &[("incomes", &["id", "income"])]),
    );
    std::fs::create_dir_all(dir.join("bureau")).unwrap();
}

/// The Python of a page of documentation, block after block.
fn blocks(page: &str) -> String {
    let mut code = String::new();
    for part in page.split("```python\n").skip(1) {
        code.push_str(part.split("```").next().unwrap());
    }
    assert!(!code.is_empty());
    code
}

/// What a page's Python prints, run as it stands beside a sandbox `my-demo`; it says all of this.
fn printed(page: &str, dir: &Path, expected: &[&str]) {
    let sandbox = dir.join("my-demo");
    support::export(&sandbox, 3_000, 1);
    let _sandbox = Sandbox::start(&sandbox);
    let output = Command::new(python())
        .args(["-c", &blocks(page)])
        .current_dir(dir)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let shown = String::from_utf8_lossy(&output.stdout);
    for expected in expected {
        assert!(shown.contains(expected), "no {expected} in {shown}");
    }
}

#[test]
fn the_page_for_analysts_runs_as_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    printed(
        include_str!("../../../docs/analysts.md"),
        dir.path(),
        &["taxable_income", "district", "withheld: ", "ledger: tax"],
    );
    let plot = std::fs::read(dir.path().join("income.png")).unwrap();
    assert!(plot.starts_with(b"\x89PNG"));
}

/// The code of the service, made of its proto as the page says.
fn generated(into: &Path) {
    let output = Command::new(python())
        .args(["-m", "grpc_tools.protoc", "-I"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto"))
        .arg("--python_out=.")
        .arg("--grpc_python_out=.")
        .arg("veilgate/analyst/v1/analyst.proto")
        .current_dir(into)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_page_for_researchers_runs_as_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    generated(dir.path());
    printed(
        include_str!("../../../docs/researchers.md"),
        dir.path(),
        &[
            "JOINT PLAN",
            "kept until",
            "withheld: ",
            "ledger: tax",
            "district",
        ],
    );
}

/// Clients at once, and clients that are cut off: no answer is another's, and nothing is left of them.
#[test]
fn what_many_clients_leave_behind() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/clients/bench_clients.py");
    let output = Command::new(python())
        .arg(script)
        .arg(env!("CARGO_BIN_EXE_veilgate-under-test"))
        .args(["--small", "many", "killed"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let lines = String::from_utf8_lossy(&output.stdout);
    let mut figures = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let many = figures.next().unwrap();
    assert_eq!((&many["queries"], &many["wrong"]), (&48.into(), &0.into()));
    let killed = figures.next().unwrap();
    assert_eq!(killed["queries_left"], 0, "{killed}");
    assert_eq!(killed["sessions_left"], 0, "{killed}");
    for department in ["alpha", "beta", "bureau"] {
        let count = |when: &str, what: &str| killed[when][department][what].as_u64().unwrap();
        let files = count("after", "files") <= count("before", "files");
        // Those of the pools come and go; there were 24 connections.
        let threads = count("after", "threads") < count("before", "threads") + 8;
        assert!(files && threads, "{department}: {killed}");
    }
}

#[test]
fn clients_of_analysts() {
    let dir = tempfile::tempdir().unwrap();
    write_tables(dir.path());
    let sandbox = Sandbox::start(dir.path());
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    let binary = env!("CARGO_BIN_EXE_veilgate-under-test");
    let protos = tempfile::tempdir().unwrap();
    generated(protos.path());
    let scripted = [
        "test_matrix.py",
        "test_clients.py",
        "test_users.py",
        "test_grpc.py",
        "test_shell.py",
    ];
    for script in scripted {
        let output = Command::new(python())
            .arg(scripts.join(script))
            .arg(&sandbox.dir)
            .env("VEILGATE", binary)
            .env("PYTHONPATH", protos.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        println!("{said}");
    }
    // Nothing that a client says ends a gateway.
    assert_eq!(sandbox.gateways().len(), 3);
}
