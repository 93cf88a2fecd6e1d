//! The command line as a user's scripts see it: help, exit codes, and what goes to which output.
//! No gateway runs here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Command, Output, Stdio};

fn veilgate(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_veilgate"))
        .args(args)
        .env_remove("VEILGATE_DIR")
        .env_remove("VEILGATE_CONFIG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Exit code, standard output, standard error.
fn outcome(args: &[&str]) -> (i32, String, String) {
    let output = veilgate(args);
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

const COMMANDS: [&[&str]; 18] = [
    &["demo"],
    &["sandbox"],
    &["gateway"],
    &["query"],
    &["explain"],
    &["shell"],
    &["catalog"],
    &["init"],
    &["config"],
    &["config", "check"],
    &["user"],
    &["user", "add"],
    &["user", "list"],
    &["user", "revoke"],
    &["user", "token"],
    &["audit"],
    &["audit", "verify"],
    &["audit", "prove"],
];

#[test]
fn every_command_has_help_with_the_common_options() {
    for command in COMMANDS {
        let (code, out, err) = outcome(&[command, &["--help"]].concat());
        assert_eq!((code, err.as_str()), (0, ""), "{command:?}");
        for expected in ["Usage: veilgate", "--output", "--quiet"] {
            assert!(out.contains(expected), "{command:?} lacks {expected}");
        }
        let group = command.len() == 1 && matches!(command[0], "config" | "user" | "audit");
        assert!(
            group || out.contains("Example"),
            "{command:?} has no example"
        );
    }
    let (code, out, _) = outcome(&["--help"]);
    assert_eq!(code, 0);
    for expected in ["77", "refused by a department's policy", "veilgate demo"] {
        assert!(out.contains(expected), "{expected}");
    }
}

#[test]
fn mistakes_on_the_command_line_exit_with_64() {
    for args in [
        &["no-such-command"][..],
        &["query", "--output", "xml", "SELECT 1"],
        &["demo", "--people", "3"],
        &["demo", "--people", "many"],
        &[
            "demo", "--as", "nobody", "--sql", "SELECT 1", "--people", "100",
        ],
        &["demo", "--output", "json"],
        &["gateway"],
        &["sandbox"],
        &["query", "--dir", "/nonexistent", "SELECT 1"],
        &["query", "--federation", "f.toml", "SELECT 1"],
        &["query", "-f", "/nonexistent/q.sql"],
        &["sandbox", "/nonexistent"],
        &["gateway", "--config", "/nonexistent/gateway.toml"],
    ] {
        let (code, out, err) = outcome(args);
        assert_eq!(code, 64, "{args:?}: {err}");
        assert_eq!(out, "", "{args:?}");
        assert!(err.contains("error"), "{args:?}: {err}");
    }
}

#[test]
fn nothing_at_all_shows_help_and_is_a_mistake() {
    let (code, _, err) = outcome(&[]);
    assert_eq!(code, 64);
    assert!(err.contains("Usage: veilgate"), "{err}");
}

#[test]
fn an_error_has_code_message_and_mend_without_colour() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let (code, _, err) = outcome(&["sandbox", path]);
    assert_eq!(code, 64);
    let lines: Vec<&str> = err.lines().collect();
    assert!(
        lines[0].starts_with("error[bad-request]: no tables in "),
        "{err}"
    );
    assert!(lines[1].starts_with("  mend:"), "{err}");
    assert!(!err.contains('\x1b'));
}

#[test]
fn an_empty_query_is_refused() {
    let (code, _, err) = outcome(&["query", "--dir", "."]);
    assert_eq!(code, 64);
    assert!(err.contains("the query is empty"), "{err}");
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = outcome(&["completions", shell]);
        assert_eq!(code, 0);
        assert!(out.contains("sandbox"), "{shell}");
    }
}

/// A gateway does not start with a threshold on a table of which nobody is counted.
#[test]
fn a_threshold_without_a_unit_ends_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("gw");
    let path = dir.to_str().unwrap();
    let (code, _, err) = outcome(&[
        "init",
        path,
        "--department",
        "tax",
        "--listen",
        "127.0.0.1:7070",
    ]);
    assert_eq!(code, 0, "{err}");
    let write = |name: &str, text: &str| std::fs::write(dir.join("data").join(name), text).unwrap();
    write("income.csv", "person_id,amount\nA,1\n");
    write(
        "catalog.toml",
        "version = 1\ndepartment = \"tax\"\n[[tables]]\nname = \"income\"\nsource = \"income.csv\"\n\
         unit = \"none\"\nmax_rows = 10\ncolumns = [{ name = \"person_id\", type = \"utf8\" }]\n",
    );
    write(
        "policy.toml",
        "version = 1\ndepartment = \"tax\"\n[tables.income]\nlevel = \"L2\"\n\
         allow = [{ use = \"join_key\", k = 5 }]\n",
    );
    let config = dir.join("gateway.toml");
    let config = config.to_str().unwrap();
    for args in [
        &["gateway", "--config", config][..],
        &["config", "check", config],
    ] {
        let (code, _, err) = outcome(args);
        assert_eq!(code, 64, "{args:?}: {err}");
        assert!(
            err.contains(
                "policy.toml, line 5, column 34: rule tax.income.*/join_key asks for k = 5"
            ),
            "{args:?}: {err}"
        );
        assert!(
            err.contains("write there unit = \"person_id\""),
            "{args:?}: {err}"
        );
    }
}

#[test]
fn export_writes_a_sandbox_once() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("made");
    let target = target.to_str().unwrap();
    let args = ["demo", "--export", target, "--people", "500"];
    let (code, out, err) = outcome(&args);
    assert_eq!((code, out.as_str()), (0, ""), "{err}");
    assert!(err.contains("veilgate sandbox"), "{err}");
    for file in [
        "civil/residents.parquet",
        "civil/catalog.toml",
        "civil/policy.toml",
        "tax/income.parquet",
        "tax/catalog.toml",
        "tax/policy.toml",
        "social/pension.csv",
        "social/catalog.toml",
        "social/policy.toml",
    ] {
        assert!(dir.path().join("made").join(file).is_file(), "{file}");
    }
    let (code, _, err) = outcome(&args);
    assert_eq!(code, 64);
    assert!(err.contains("exists already"), "{err}");
}
