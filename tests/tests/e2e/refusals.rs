//! What is refused, by whom, with which exit code; and that refusals leave leaves.

use crate::support::{Sandbox, export, run, text};

#[test]
fn policy_refusals_name_department_rule_column_and_alternative() {
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), 1_000, 4);
    let sandbox = Sandbox::start(folder.path());
    for (sql, department, column) in [
        (
            "SELECT r.district, i.taxable_income FROM civil.residents r \
             JOIN tax.income i ON r.person_id = i.person_id",
            "tax",
            "tax.income.taxable_income",
        ),
        (
            "SELECT r.name, COUNT(*) AS n FROM civil.residents r \
             JOIN tax.income i ON r.person_id = i.person_id GROUP BY r.name",
            "civil",
            "civil.residents.name",
        ),
    ] {
        let output = sandbox.query(sql);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(77), "{errors}");
        assert!(output.stdout.is_empty());
        for expected in [department, column, "rule:", "allowed instead:"] {
            assert!(errors.contains(expected), "no `{expected}` in {errors}");
        }
    }
    // Every ledger stands after allowing and denying.
    for department in ["civil", "tax", "social", "bureau"] {
        let ledger = ledger(&sandbox, department);
        let output = run(&["audit", "verify", ledger.to_str().unwrap()]);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
}

#[test]
fn mistakes_in_sql_are_named() {
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), 500, 5);
    let sandbox = Sandbox::start(folder.path());
    for (sql, code, hint) in [
        ("SELEC 1", "sql-syntax", ""),
        (
            "SELECT COUNT(*) AS n FROM tax.incme",
            "unknown-table",
            "tax.income",
        ),
        (
            "SELECT COUNT(*) AS n FROM civil.residents r JOIN tax.income i ON r.person_id = i.person_id \
             WHERE i.taxable_incom > 3",
            "unknown-column",
            "taxable_income",
        ),
        (
            "SELECT COUNT(*) AS n FROM civil.residents r JOIN tax.income i ON r.person_id = i.person_id \
             WHERE person_id = 'X'",
            "ambiguous-column",
            "person_id",
        ),
        (
            "SELECT COUNT(*) AS n FROM civil.residents r JOIN tax.income i ON r.birth_date = i.taxable_income",
            "type-mismatch",
            "",
        ),
        ("DELETE FROM tax.income", "unsupported", ""),
    ] {
        let output = sandbox.query(sql);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{sql}: {errors}");
        assert!(errors.contains(code), "{sql}: no `{code}` in {errors}");
        assert!(errors.contains(hint), "{sql}: no `{hint}` in {errors}");
    }
}

/// Where a sandbox keeps a department's ledger.
fn ledger(sandbox: &Sandbox, department: &str) -> std::path::PathBuf {
    let state = sandbox.dir.join(".veilgate");
    let mut stack = vec![state];
    while let Some(folder) = stack.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if !path.is_dir() {
                continue;
            }
            if path.ends_with("ledger") && path.to_str().unwrap().contains(department) {
                return path;
            }
            stack.push(path);
        }
    }
    panic!("no ledger of {department}");
}
