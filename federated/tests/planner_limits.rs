//! What the planner refuses, and that nothing makes it fail in another way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "planner/federation.rs"]
#[allow(dead_code)]
mod federation;

use federation::{SUM, allow_output, engine, federation, raise_k};
use veilgate_federated::error::{Code, Error};
use veilgate_federated::plan::{Line, Operator, PublicSize};
use veilgate_federated::planner::budget::{Budget, within};
use veilgate_federated::planner::{Federation, Planned, Request, Strategy, plan};
use veilgate_federated::policy::{Leakage, Level};

const TOUR: &str = "SELECT r.district, SUM(i.taxable_income) FROM civil.residents r \
                    JOIN tax.income i ON r.person_id = i.person_id GROUP BY r.district";

fn plan_for(
    federation: &Federation,
    home: &str,
    sql: &str,
    strategy: Option<Strategy>,
) -> Result<Planned, Error> {
    plan(&Request {
        sql,
        parameters: None,
        home,
        federation,
        engine: engine(),
        line: Line::default(),
        strategy,
    })
}

fn sizes(sql: &str) -> Result<Planned, Error> {
    plan_for(&federation(Leakage::Sizes), "civil", sql, None)
}

fn ks(planned: &Planned) -> Vec<(String, u32)> {
    let Some(Operator::Aggregate { units, .. }) = planned.plan.operators.last() else {
        panic!("no aggregate")
    };
    units
        .iter()
        .map(|unit| {
            let owner = &planned.plan.parties[unit.owner].department;
            (owner.clone(), unit.k)
        })
        .collect()
}

fn computing(planned: &Planned) -> Vec<&str> {
    let seats = planned.plan.computing_parties().unwrap();
    seats
        .iter()
        .map(|seat| planned.plan.parties[*seat].department.as_str())
        .collect()
}

#[test]
fn long_and_deep_queries_are_refused_or_planned() {
    let deep = |n: usize| {
        let (open, close) = ("(".repeat(n), ")".repeat(n));
        format!("SELECT COUNT(*) FROM tax.income WHERE {open}year{close} = 1")
    };
    assert!(sizes(&deep(20)).is_ok());
    for n in [60, 1_000, 10_000] {
        assert_eq!(
            sizes(&deep(n)).unwrap_err().code,
            Code::LimitExceeded,
            "{n}"
        );
    }
    for length in [10_000, 32_000] {
        for (sum, operator) in [
            ("year + ", "+"),
            ("year * ", "*"),
            ("-", "-"),
            ("NOT ", "NOT"),
        ] {
            let long = format!(
                "SELECT COUNT(*) FROM tax.income WHERE {}year = 1",
                sum.repeat(length / sum.len())
            );
            let error = sizes(&long).unwrap_err();
            assert!(
                matches!(
                    error.code,
                    Code::LimitExceeded | Code::Unsupported | Code::SqlSyntax | Code::TypeMismatch
                ),
                "{operator}: {error}"
            );
        }
    }
    let ors: Vec<String> = (0..700).map(|i| format!("year = {i}")).collect();
    let long = format!("SELECT COUNT(*) FROM tax.income WHERE {}", ors.join(" OR "));
    let error = sizes(&long).unwrap_err();
    assert_eq!(error.code, Code::LimitExceeded, "{error}");
    let list: Vec<String> = (0..1_500).map(|i| i.to_string()).collect();
    let long = format!(
        "SELECT COUNT(*) FROM tax.income WHERE year IN ({})",
        list.join(", ")
    );
    assert!(sizes(&long).is_ok());
    let ands: Vec<String> = (0..100).map(|i| format!("year <> {i}")).collect();
    let long = format!(
        "SELECT COUNT(*) FROM tax.income WHERE {}",
        ands.join(" AND ")
    );
    assert!(sizes(&long).is_ok());
    let ands: Vec<String> = (0..600).map(|i| format!("year <> {i}")).collect();
    let long = format!(
        "SELECT COUNT(*) FROM tax.income WHERE {}",
        ands.join(" AND ")
    );
    assert_eq!(sizes(&long).unwrap_err().code, Code::LimitExceeded);
    let huge = format!("SELECT COUNT(*) FROM tax.income -- {}", "x".repeat(40_000));
    assert_eq!(sizes(&huge).unwrap_err().code, Code::LimitExceeded);
}

#[test]
fn no_literal_is_in_an_error() {
    let secret = "Zx9SecretZx9";
    let number = "918273645918273645918273645";
    for sql in [
        format!("SELECT COUNT(*) FROM tax.income WHERE remark = '{secret}"),
        format!("SELECT COUNT(*) FROM tax.income WHERE '{secret}' AND year = 1"),
        format!("SELECT COUNT(*) FROM tax.income WHERE year = '{secret}' + DATE '2020-01-01'"),
        format!("SELECT COUNT(*) FROM tax.income WHERE remark = DATE '{secret}'"),
        format!("SELECT COUNT(*) FROM tax.income WHERE year = {number}{number}"),
        format!("SELECT COUNT(*) FROM tax.income WHERE CAST('{secret}' AS DATE) > birth"),
        format!("SELECT COUNT(*) FROM tax.income WHERE {number} '{secret}'"),
        format!("SELECT '{secret}' '{secret}' , FROM tax.income"),
        format!("SELECT MIN('{secret}', year) FROM tax.income"),
        format!("SELECT SUM('{secret}') FROM tax.income"),
        format!("SELECT nosuch('{secret}') FROM tax.income"),
        format!("SELECT COUNT(*) FROM tax.income LIMIT '{secret}'"),
        format!("SELECT COUNT(*) FROM tax.income WHERE year IN ('{secret}', TRUE)"),
        format!("SELECT COUNT(*) FROM tax.income WHERE INTERVAL '{secret}' > 1"),
        format!("SELECT year, '{secret}' || remark, COUNT(*) FROM tax.income GROUP BY year"),
        format!("INSERT INTO tax.income VALUES ('{secret}', {number})"),
        format!("SELECT COUNT(*) FROM tax.income WHERE remark LIKE {number} ESCAPE '{secret}'"),
        format!("SELECT COUNT(*) FROM tax.income ORDER BY {number}"),
        format!("SELECT COUNT(*) FROM tax.income WHERE substr('{secret}') = 1"),
        format!("SELECT COUNT(*) FROM tax.income WHERE round('{secret}') = 1"),
    ] {
        let error = sizes(&sql).expect_err(&sql);
        let text = format!("{error} {error:?}");
        assert!(!text.contains("Zx9"), "{sql}: {text}");
        assert!(!text.contains(number), "{sql}: {text}");
        assert_ne!(error.code, Code::Internal, "{sql}: {text}");
    }
}

#[test]
fn word_salad_never_panics() {
    const WORDS: &[&str] = &[
        "SELECT",
        "FROM",
        "WHERE",
        "GROUP BY",
        "HAVING",
        "ORDER BY",
        "LIMIT",
        "JOIN",
        "ON",
        "AND",
        "OR",
        "NOT",
        "(",
        ")",
        ",",
        "*",
        "+",
        "-",
        "=",
        "<",
        "COUNT(*)",
        "SUM",
        "AVG",
        "r",
        "i",
        "civil.residents r",
        "tax.income i",
        "r.person_id",
        "i.person_id",
        "year",
        "district",
        "taxable_income",
        "'x'",
        "1",
        "2.5",
        "NULL",
        "IS",
        "IN",
        "BETWEEN",
        "LIKE",
        "CASE",
        "WHEN",
        "THEN",
        "END",
        "CAST",
        "AS",
        "DATE",
        "DISTINCT",
        "OVER",
        "UNION",
        "USING",
        "r.low_income",
        "r.person_id = i.person_id",
        "COUNT(year)",
        "SUM(taxable_income)",
        "FILTER",
        "\"",
        ";",
        "LEFT",
        "EXISTS",
        "VALUES",
        "WITH",
        "INTERVAL",
        "::",
        "[",
        "]",
        "$1",
        "?",
        "@",
        "`",
    ];
    let mut state = 7_u64;
    let mut next = |n: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % n
    };
    for _ in 0..1_500 {
        let mut sql = String::new();
        if next(2) == 0 {
            sql.push_str("SELECT COUNT(*) FROM civil.residents r JOIN tax.income i ON ");
        }
        for _ in 0..=next(14) {
            sql.push_str(WORDS[next(WORDS.len())]);
            sql.push(' ');
        }
        if let Err(error) = sizes(&sql) {
            assert_ne!(error.code, Code::Internal, "{sql}: {error}");
        }
    }
}

#[test]
fn thresholds_are_the_highest_of_the_rules_used() {
    let mut federation = federation(Leakage::Sizes);
    raise_k(&mut federation, "tax", "taxable_income", &SUM, 17);
    let planned = plan_for(&federation, "civil", TOUR, None).unwrap();
    assert_eq!(
        ks(&planned),
        [("civil", 10), ("tax", 17), ("civil", 10), ("tax", 17)].map(|(d, k)| (d.to_owned(), k))
    );
    let count = TOUR.replace("SUM(i.taxable_income)", "COUNT(*)");
    let planned = plan_for(&federation, "civil", &count, None).unwrap();
    assert_eq!(
        ks(&planned),
        [("civil", 10), ("tax", 10)].map(|(d, k)| (d.to_owned(), k))
    );
}

fn set_level(federation: &mut Federation, department: &str, column: &str, level: Level) {
    for member in &mut federation.members {
        if let Some(policy) = member
            .policy
            .as_mut()
            .filter(|_| member.department == department)
        {
            let table = if department == "tax" {
                "income"
            } else {
                "residents"
            };
            policy
                .levels
                .push((table.to_owned(), column.to_owned(), level));
        }
    }
}

#[test]
fn sensitive_columns_keep_the_result_party_from_computing() {
    let mut federation = federation(Leakage::Sizes);
    set_level(&mut federation, "tax", "taxable_income", Level::L4);
    let planned = plan_for(&federation, "civil", TOUR, None).unwrap();
    assert_eq!(planned.strategy, Some(Strategy::Oblivious));
    assert_eq!(computing(&planned), ["tax", "bureau", "social"]);
    assert!(
        planned.rejected[0]
            .1
            .contains("tax.income.taxable_income: level L4")
    );
    let sizes: Vec<_> = planned
        .plan
        .fragments
        .iter()
        .map(|fragment| fragment.size)
        .collect();
    assert_eq!(sizes, [PublicSize::Bucket, PublicSize::Declared(300_000)]);
    let error = plan_for(&federation, "civil", TOUR, Some(Strategy::Aligned)).unwrap_err();
    assert_eq!(error.code, Code::Unsupported);
}

#[test]
fn computing_sets_are_those_that_all_owners_accept() {
    let mut federation = federation(Leakage::Sizes);
    for member in &mut federation.members {
        if let Some(policy) = &mut member.policy {
            policy
                .computing
                .retain(|set| !set.contains(&"bureau".to_owned()));
        }
    }
    let planned = plan_for(&federation, "civil", TOUR, None).unwrap();
    assert_eq!(
        planned.strategy,
        Some(Strategy::Aligned),
        "social can be neutral"
    );
    assert_eq!(computing(&planned), ["civil", "tax", "social"]);
    let planned = plan_for(&federation, "social", TOUR, None).unwrap();
    assert_eq!(
        planned.strategy,
        Some(Strategy::Oblivious),
        "the result party is not neutral"
    );
    for member in &mut federation.members {
        if let Some(policy) = member
            .policy
            .as_mut()
            .filter(|_| member.department == "tax")
        {
            policy.computing.clear();
        }
    }
    let error = plan_for(&federation, "civil", TOUR, None).unwrap_err();
    assert_eq!(error.code, Code::PolicyDenied);
    let denial = error.denial.unwrap();
    assert_eq!(denial.department, "tax");
    assert_eq!(denial.rule, "tax: computing");
}

#[test]
fn three_owners_without_a_neutral_party_compute_themselves() {
    let sql = "SELECT COUNT(*) FROM civil.residents r JOIN tax.income i ON r.person_id = i.person_id \
               JOIN social.pension p ON p.person_id = r.person_id";
    let mut federation = federation(Leakage::Sizes);
    for member in &mut federation.members {
        if let Some(policy) = &mut member.policy {
            policy
                .computing
                .retain(|set| !set.contains(&"bureau".to_owned()));
        }
    }
    let planned = plan_for(&federation, "civil", sql, None).unwrap();
    assert_eq!(planned.strategy, Some(Strategy::Oblivious));
    assert_eq!(computing(&planned), ["civil", "social", "tax"]);
}

#[test]
fn rows_that_may_leave_cannot_be_planned_yet() {
    let sql = "SELECT taxable_income FROM tax.income";
    assert_eq!(sizes(sql).unwrap_err().code, Code::PolicyDenied);
    let mut federation = federation(Leakage::Sizes);
    allow_output(&mut federation, "tax", "income", "taxable_income");
    let error = plan_for(&federation, "civil", sql, None).unwrap_err();
    assert_eq!(error.code, Code::Unsupported);
}

#[test]
fn rules_for_other_recipients_do_not_count() {
    let mut federation = federation(Leakage::Sizes);
    raise_k(&mut federation, "tax", "taxable_income", &SUM, 50);
    for member in &mut federation.members {
        if let Some(policy) = member
            .policy
            .as_mut()
            .filter(|_| member.department == "tax")
        {
            policy.rules.last_mut().unwrap().recipients = vec!["social".to_owned()];
        }
    }
    let k = |home: &str| {
        let planned = plan_for(&federation, home, TOUR, None).unwrap();
        ks(&planned)
            .iter()
            .filter(|(d, _)| d == "tax")
            .map(|(_, k)| *k)
            .max()
    };
    assert_eq!(k("civil"), Some(10), "join key and count of rows");
    assert_eq!(k("social"), Some(50));
}

#[test]
fn keys_of_different_canonical_forms_are_a_mistake_of_the_catalogues() {
    let mut federation = federation(Leakage::Sizes);
    for member in &mut federation.members {
        if let Some(catalog) = member
            .catalog
            .as_mut()
            .filter(|_| member.department == "tax")
        {
            catalog.tables[0].columns[0].canonical.clear();
        }
    }
    let error = plan_for(&federation, "civil", TOUR, None).unwrap_err();
    assert_eq!(error.code, Code::BadConfig);
    assert!(error.message.contains("civil.residents.person_id"));
    assert!(error.message.contains("tax.income.person_id"));
}

#[test]
fn what_would_exceed_a_budget_is_refused_with_its_cost_and_a_cheaper_variant() {
    let mib = |memory: u64, sent: u64| Budget {
        memory_bytes: memory << 20,
        sent_bytes: sent << 20,
    };
    let query = "SELECT r.district, SUM(i.taxable_income) FROM civil.residents r \
                 JOIN tax.income i ON r.person_id = i.person_id WHERE i.year = 2023 \
                 AND i.employer_id = 7 GROUP BY r.district";
    let declared = federation(Leakage::None);
    let planned = plan_for(&declared, "civil", query, None).unwrap();
    within(&planned.plan, mib(2048, 65_536)).unwrap();
    for (budget, what) in [
        (
            mib(20, 65_536),
            "of memory at a computing party, 20 MiB are allowed",
        ),
        (
            mib(2048, 100),
            "of traffic of all parties, 100 MiB are allowed",
        ),
    ] {
        let error = within(&planned.plan, budget).unwrap_err();
        assert_eq!(error.code, Code::LimitExceeded);
        assert!(error.message.contains(what), "{}", error.message);
        assert!(
            error.message.contains("most of it for o"),
            "{}",
            error.message
        );
        assert!(
            error.message.contains("Cheaper: with leakage `sizes`"),
            "{}",
            error.message
        );
    }
    // Sizes that are padded already have no such variant.
    let planned = plan_for(&federation(Leakage::Sizes), "civil", TOUR, None).unwrap();
    let error = within(&planned.plan, mib(1, 1)).unwrap_err();
    assert!(
        error
            .message
            .contains("Cheaper: a condition that one department can apply alone"),
        "{}",
        error.message
    );
}
