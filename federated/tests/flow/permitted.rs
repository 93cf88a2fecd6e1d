//! Every plan that the planner makes passes the check of every party.

use crate::federation::{engine, federation};
use veilgate_federated::error::Error;
use veilgate_federated::flow::{self, Me, Permitted};
use veilgate_federated::plan::{JointPlan, Line, Validated};
use veilgate_federated::planner::{Federation, Request, Strategy, plan};
use veilgate_federated::policy::{Leakage, Reason};

pub(crate) fn planned(
    federation: &Federation,
    sql: &str,
    strategy: Option<Strategy>,
) -> Result<JointPlan, Error> {
    let request = Request {
        sql,
        parameters: None,
        home: "civil",
        federation,
        engine: engine(),
        line: Line::default(),
        strategy,
    };
    Ok(plan(&request)?.plan)
}

pub(crate) fn check(
    federation: &Federation,
    plan: &Validated,
    department: &str,
) -> Result<Permitted, Error> {
    check_for(federation, plan, department, Reason::default())
}

/// The check of what is asked for this reason.
pub(crate) fn check_for(
    federation: &Federation,
    plan: &Validated,
    department: &str,
    reason: Reason<'_>,
) -> Result<Permitted, Error> {
    let member = federation.member(department).unwrap();
    flow::check(
        plan,
        &Me {
            department,
            catalog: member.catalog.as_ref(),
            policy: member.policy.as_ref(),
            engine: &engine(),
            home: "civil",
            reason,
        },
    )
}

fn golden() -> Vec<(String, bool, String)> {
    include_str!("../golden/planner.sql")
        .split("\n\n")
        .filter(|part| !part.trim().is_empty())
        .map(|part| {
            let (head, body): (Vec<&str>, Vec<&str>) = part
                .trim()
                .lines()
                .partition(|line| line.starts_with("-- "));
            let none = head.contains(&"-- leakage none");
            (head[0].to_owned(), none, body.join("\n"))
        })
        .collect()
}

#[test]
fn plans_of_the_planner_pass_every_check() {
    let mut passed = 0;
    let mut failures = Vec::new();
    for (title, none, sql) in golden() {
        let leakage = if none { Leakage::None } else { Leakage::Sizes };
        let federation = federation(leakage);
        for strategy in [None, Some(Strategy::Aligned), Some(Strategy::Oblivious)] {
            let Ok(plan) = planned(&federation, &sql, strategy) else {
                continue;
            };
            let validated = match Validated::from_plan(&plan) {
                Ok(validated) => validated,
                Err(error) => {
                    failures.push(format!("{title} {strategy:?}: {error}"));
                    continue;
                }
            };
            for party in &plan.parties {
                match check(&federation, &validated, &party.department) {
                    Ok(permitted) => {
                        assert_eq!(permitted.digest(), validated.digest());
                        passed += 1;
                    }
                    // Planned, and not permitted: no linear form.
                    Err(error) if sql.contains("SUM(abs(points))") => {
                        assert_eq!(party.department, "social");
                        assert!(error.message.contains("neither a column nor linear"));
                    }
                    Err(error) => failures.push(format!(
                        "{title} {strategy:?} at {}: {error}",
                        party.department
                    )),
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(passed > 100, "only {passed}");
}

#[test]
fn totals_of_a_table_with_several_rows_a_unit_are_permitted() {
    let federation = federation(Leakage::Sizes);
    for sql in [
        "SELECT COUNT(*), SUM(taxable_income) FROM tax.income",
        "SELECT SUM(taxable_income), COUNT(remark) FROM tax.income WHERE year = 2023",
    ] {
        let plan = planned(&federation, sql, None).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let plan = Validated::from_plan(&plan).unwrap();
        for department in ["bureau", "civil", "tax"] {
            check(&federation, &plan, department).unwrap();
        }
    }
}
