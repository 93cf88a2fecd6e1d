//! The demo's federation: results equal clear text, exactly, with groups below k withheld.

use crate::support::{Oracle, Sandbox, clean, export, rows, run, text};

const PEOPLE: u32 = 5_000;

/// A query over the federation, and the same over the raw files with k = 10 spelled out.
fn check(sandbox: &Sandbox, oracle: &Oracle, joint: &str, clear: &str) {
    let got = rows(&sandbox.query(joint));
    let want = oracle.rows(clear);
    assert_eq!(got, want, "{joint}");
    assert!(
        want.as_array().is_some_and(|rows| rows.len() > 3),
        "the demo must give more than three groups: {joint}"
    );
}

#[test]
fn results_equal_clear_text() {
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), PEOPLE, 3);
    let sandbox = Sandbox::start(folder.path());
    let oracle = Oracle::over(folder.path());
    let (r, i, s) = (
        clean("r.person_id"),
        clean("i.person_id"),
        clean("s.person_id"),
    );
    check(
        &sandbox,
        &oracle,
        "SELECT r.district, COUNT(*) AS n, SUM(i.taxable_income) AS total \
         FROM civil.residents r JOIN tax.income i ON r.person_id = i.person_id \
         GROUP BY r.district ORDER BY r.district",
        &format!(
            "SELECT r.district, COUNT(*) AS n, SUM(CAST(i.taxable_income AS DECIMAL(14,2))) AS total \
             FROM raw_civil_residents r JOIN raw_tax_income i ON {r} = {i} \
             GROUP BY r.district HAVING COUNT(DISTINCT {r}) >= 10 ORDER BY r.district"
        ),
    );
    check(
        &sandbox,
        &oracle,
        "SELECT r.district, COUNT(*) AS n FROM civil.residents r \
         JOIN tax.income i ON r.person_id = i.person_id \
         JOIN social.pension s ON s.person_id = r.person_id \
         WHERE s.monthly_pension < i.taxable_income GROUP BY r.district \
         HAVING COUNT(*) > 20 ORDER BY n DESC, r.district LIMIT 8",
        &format!(
            "SELECT r.district, COUNT(*) AS n FROM raw_civil_residents r \
             JOIN raw_tax_income i ON {r} = {i} JOIN raw_social_pension s ON {s} = {r} \
             WHERE CAST(s.monthly_pension AS DECIMAL(14,2)) < CAST(i.taxable_income AS DECIMAL(14,2)) \
             GROUP BY r.district HAVING COUNT(DISTINCT {r}) >= 10 AND COUNT(*) > 20 \
             ORDER BY n DESC, r.district LIMIT 8"
        ),
    );
}

#[test]
fn data_over_grpc_gives_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), PEOPLE, 4);
    let sandbox = Sandbox::start_with(folder.path(), &["--data-over-grpc"]);
    let oracle = Oracle::over(folder.path());
    // Twice: the connections of a run end with it.
    for _ in 0..2 {
        check_counts(&sandbox, &oracle);
    }
}

const COUNTS: &str = "SELECT r.district, COUNT(*) AS n FROM civil.residents r \
                      JOIN tax.income i ON r.person_id = i.person_id \
                      GROUP BY r.district ORDER BY r.district";

/// Rows of [`COUNTS`] as the oracle has them.
fn check_counts(sandbox: &Sandbox, oracle: &Oracle) {
    let (r, i) = (clean("r.person_id"), clean("i.person_id"));
    let due = format!(
        "SELECT r.district, COUNT(*) AS n FROM raw_civil_residents r \
         JOIN raw_tax_income i ON {r} = {i} \
         GROUP BY r.district HAVING COUNT(DISTINCT {r}) >= 10 ORDER BY r.district"
    );
    check(sandbox, oracle, COUNTS, &due);
}

#[test]
fn several_threads_give_the_same_rows() {
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), PEOPLE, 5);
    let policy = |department: &str| {
        let path = folder.path().join(department).join("policy.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        // Without sizes only the oblivious join is left.
        std::fs::write(&path, text.replace("\"sizes\"", "\"none\"")).unwrap();
    };
    for (oblivious, how) in [
        (false, &["--threads", "2"][..]),
        (true, &["--threads", "3", "--data-over-grpc"]),
    ] {
        if oblivious {
            for department in ["civil", "tax", "social"] {
                policy(department);
            }
        }
        let sandbox = Sandbox::start_with(folder.path(), how);
        let oracle = Oracle::over(folder.path());
        check_counts(&sandbox, &oracle);
        let plan = sandbox.explain(COUNTS);
        let (strategy, lanes) = match oblivious {
            false => ("strategy: aligned", "2 connections a pair"),
            true => ("strategy: oblivious", "3 connections a pair"),
        };
        assert!(plan.contains(strategy) && plan.contains(lanes), "{plan}");
    }
}

#[test]
fn one_command_prints_only_rows() {
    let output = run(&[
        "demo",
        "--people",
        "2000",
        "--sql",
        "SELECT COUNT(*) AS n FROM civil.residents r JOIN tax.income i ON r.person_id = i.person_id",
        "--output",
        "json",
    ]);
    let rows = rows(&output);
    assert_eq!(rows.as_array().unwrap().len(), 1);
    assert!(rows[0]["n"].as_i64().unwrap() > 100);
}

#[test]
fn the_tour_shows_result_explain_refusal_and_proof() {
    let output = run(&["demo", "--people", "3000"]);
    let shown = text(&output.stdout).to_lowercase();
    assert!(output.status.success(), "{}", text(&output.stderr));
    for expected in [
        "district",
        "what leaves",
        "allowed instead",
        "verified",
        "ledger-corrupt",
        "sandbox",
    ] {
        assert!(shown.contains(expected), "no `{expected}` in:\n{shown}");
    }
}
