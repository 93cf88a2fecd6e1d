//! Every benchmark runs, small, and its result is the one computed in the clear.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::process::Command;

const FIELDS: [&str; 9] = [
    "bench",
    "rows",
    "key_bits",
    "threads",
    "wall_s",
    "cpu_s",
    "bytes_sent",
    "rounds",
    "peak_rss_bytes",
];

#[test]
fn every_protocol_runs_checked_and_prints_one_line_a_run() {
    for (arguments, participants) in [
        (&["--rows", "64", "--runs", "2"][..], 3),
        (
            &[
                "--rows", "65", "--runs", "1", "--rtt-ms", "1", "--mbps", "1000",
            ][..],
            3,
        ),
        (&["--rows", "64", "--runs", "1", "--owners", "3"][..], 4),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_veilgate-bench"))
            .arg("all")
            .args(arguments)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        assert!(errors.is_empty(), "{errors}");
        let mut names = std::collections::BTreeSet::new();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            for field in FIELDS {
                assert!(!line[field].is_null(), "{field} in {line}");
            }
            assert_eq!(line["checked"], true, "{line}");
            let sent = line["bytes_sent"].as_array().unwrap().len();
            let due = match line["bench"].as_str().unwrap() {
                "psi-ecdh" => 2,
                "join-aligned" | "join-grouped" => participants,
                _ => 3,
            };
            assert_eq!(sent, due, "{line}");
            names.insert(line["bench"].to_string());
        }
        assert_eq!(names.len(), 20, "{names:?}");
    }
}

#[test]
fn an_unknown_name_lists_those_there_are() {
    let output = Command::new(env!("CARGO_BIN_EXE_veilgate-bench"))
        .arg("sorting")
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(output.stdout.is_empty());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("sorting") && errors.contains("sort-narrow"),
        "{errors}"
    );
}
