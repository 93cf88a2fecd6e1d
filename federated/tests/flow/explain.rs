//! EXPLAIN, compared with `golden/explain.txt`; set `VEILGATE_BLESS=1` to write it anew.

use crate::federation::{engine, federation};
use crate::permitted::check;
use std::fmt::Write as _;
use veilgate_federated::plan::{Line, Validated, explain::explain};
use veilgate_federated::planner::{Request, Strategy, plan};
use veilgate_federated::policy::Leakage;

const QUERIES: [(&str, Option<Strategy>); 4] = [
    (
        "SELECT r.district, COUNT(*) AS people, AVG(i.taxable_income) AS mean \
         FROM civil.residents r JOIN tax.income i ON r.person_id = i.person_id \
         WHERE i.year = 2023 GROUP BY r.district ORDER BY r.district",
        None,
    ),
    (
        "SELECT r.district, COUNT(*) AS people, AVG(i.taxable_income) AS mean \
         FROM civil.residents r JOIN tax.income i ON r.person_id = i.person_id \
         WHERE i.year = 2023 GROUP BY r.district ORDER BY r.district",
        Some(Strategy::Oblivious),
    ),
    (
        "SELECT p.status, COUNT(*) FROM civil.residents r JOIN social.pension p \
         ON r.person_id = p.person_id \
         WHERE p.monthly_pension < r.threshold OR r.low_income GROUP BY p.status",
        None,
    ),
    (
        "SELECT year, COUNT(*), SUM(taxable_income) FROM tax.income GROUP BY year",
        None,
    ),
];

#[test]
fn explain_is_as_blessed() {
    let federation = federation(Leakage::Sizes);
    let mut out = String::new();
    for (sql, strategy) in QUERIES {
        let planned = plan(&Request {
            sql,
            parameters: None,
            home: "civil",
            federation: &federation,
            engine: engine(),
            line: Line::default(),
            strategy,
        })
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
        let validated = Validated::from_plan(&planned.plan).unwrap();
        let mut rules = Vec::new();
        for party in &planned.plan.parties {
            let permitted = check(&federation, &validated, &party.department).unwrap();
            for (rule, what) in permitted.rules() {
                rules.push((party.department.clone(), rule.clone(), what.clone()));
            }
        }
        let text = explain(&planned, &rules);
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{line}");
            assert_eq!(line.trim_end(), line);
        }
        let _ = writeln!(out, "== {sql}\n{text}");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/explain.txt");
    if std::env::var_os("VEILGATE_BLESS").is_some() {
        std::fs::write(path, &out).unwrap();
        return;
    }
    let blessed = std::fs::read_to_string(path).unwrap();
    assert_eq!(out, blessed, "\n{out}");
}
