//! What a program shows of groups and rows: the key of a group is one only while nothing repeats it.

use crate::denied::denial;
use crate::federation::{federation, rules};
use crate::permitted::{check, planned};
use veilgate_federated::error::Code;
use veilgate_federated::plan::Validated;
use veilgate_federated::planner::Federation;
use veilgate_federated::policy::{Leakage, Policy, Rule, Use};

/// The federation where no rule asks for more than one unit, and none allows output.
fn unguarded() -> Federation {
    let mut federation = federation(Leakage::Sizes);
    for member in &mut federation.members {
        let Some(catalog) = &member.catalog else {
            continue;
        };
        let rules = rules(catalog, 1, Leakage::Sizes);
        let policy = member.policy.take();
        member.policy = policy.map(|policy| Policy { rules, ..policy });
    }
    federation
}

fn examined(sql: &str, department: &str) -> Result<(), veilgate_federated::error::Error> {
    let federation = unguarded();
    let plan = planned(&federation, sql, None)?;
    let plan = Validated::from_plan(&plan)?;
    check(&federation, &plan, department).map(|_| ())
}

#[test]
fn the_key_of_a_group_is_shown_as_one() {
    examined(
        "SELECT g.household_id FROM (SELECT DISTINCT household_id FROM civil.residents) g \
         WHERE g.household_id NOT IN (SELECT household_id FROM social.pension \
             WHERE household_id IS NOT NULL)",
        "civil",
    )
    .unwrap();
}

#[test]
fn a_group_by_what_is_joined_on_is_one() {
    examined(
        "SELECT r.household_id, COUNT(*) AS people FROM civil.residents r \
         JOIN social.pension p ON r.household_id = p.household_id GROUP BY r.household_id",
        "civil",
    )
    .unwrap();
}

#[test]
fn the_key_of_a_group_beside_rows_is_output() {
    for from in [
        "(SELECT DISTINCT household_id, district FROM civil.residents) g",
        "(SELECT household_id, district, COUNT(*) FROM civil.residents GROUP BY household_id, district) g",
    ] {
        let sql = format!(
            "SELECT g.district FROM {from} \
             JOIN (SELECT DISTINCT household_id FROM social.pension) p \
             ON g.household_id = p.household_id"
        );
        let denial = denial_of(&sql, "civil");
        assert_eq!(denial.column, "civil.residents.district", "{sql}");
        assert!(denial.rule.ends_with("no rule allows output"), "{sql}");
    }
}

fn denial_of(sql: &str, department: &str) -> veilgate_federated::error::Denial {
    let federation = unguarded();
    let plan = planned(&federation, sql, None).unwrap();
    let plan = Validated::from_plan(&plan).unwrap();
    denial(check(&federation, &plan, department))
}

/// A program, or a refusal by name.
fn answered(sql: &str) -> Result<(), Code> {
    match examined(sql, "civil") {
        Ok(()) => Ok(()),
        Err(error) => {
            assert!(
                matches!(
                    error.code,
                    Code::LimitExceeded | Code::Unsupported | Code::PolicyDenied
                ),
                "{error}"
            );
            Err(error.code)
        }
    }
}

#[test]
fn wide_long_and_deep_programs_are_planned_or_refused() {
    const FROM: &str =
        "FROM civil.residents r LEFT JOIN social.pension p ON r.person_id = p.person_id";
    let sums = |count: usize| -> String {
        let items = (0..count).map(|i| format!("SUM(p.points + {i} * r.household_id) AS c{i}"));
        format!("SELECT {} {FROM}", items.collect::<Vec<_>>().join(", "))
    };
    assert_eq!(answered(&sums(30)), Ok(()));
    for count in [300, 1_000] {
        let _ = answered(&sums(count));
    }
    for length in [100, 10_000] {
        for (part, last) in [
            ("p.points + ", "r.household_id"),
            ("p.points * ", "r.household_id"),
            ("- ", "p.points"),
            ("CASE WHEN r.low_income THEN p.points ELSE ", "1"),
        ] {
            let parts = length / part.len();
            let ends = if part.starts_with("CASE") { parts } else { 0 };
            let sql = format!(
                "SELECT SUM({}{last}{}) {FROM}",
                part.repeat(parts),
                " END".repeat(ends)
            );
            let _ = answered(&sql);
        }
        let condition = vec!["p.points > r.household_id"; length / 26].join(" OR ");
        let _ = answered(&format!("SELECT COUNT(*) {FROM} WHERE {condition}"));
        let nested = length / 60;
        let sql = format!(
            "SELECT COUNT(*) FROM {}civil.residents{} AS t LEFT JOIN social.pension p \
             ON t.person_id = p.person_id",
            "(SELECT * FROM ".repeat(nested),
            (0..nested)
                .map(|i| format!(" AS t{i})"))
                .collect::<String>()
        );
        let _ = answered(&sql);
    }
}

/// The refusal by `department` where nobody grants `filter`.
fn without_filter(sql: &str, department: &str) -> Result<(), veilgate_federated::error::Error> {
    let mut federation = unguarded();
    let plan = planned(&federation, sql, None)?;
    let plan = Validated::from_plan(&plan)?;
    for policy in federation
        .members
        .iter_mut()
        .filter_map(|of| of.policy.as_mut())
    {
        policy
            .rules
            .retain(|rule| rule.permits != Use::Filter || rule.column != "*");
        let filter = |column: &str| Rule {
            name: format!("{column}/filter"),
            table: if policy.department == "civil" {
                "residents"
            } else {
                "pension"
            }
            .to_owned(),
            column: column.to_owned(),
            permits: Use::Filter,
            k: 1,
            leakage: Leakage::Sizes,
            recipients: Vec::new(),
            purposes: Vec::new(),
            case: false,
            weights: None,
        };
        let key = filter("person_id");
        policy.rules.push(key);
    }
    check(&federation, &plan, department).map(|_| ())
}

#[test]
fn a_divisor_that_may_be_zero_is_a_filter() {
    let sum = |divisor: &str| {
        format!(
            "SELECT SUM(p.points / {divisor}) FROM civil.residents r LEFT JOIN social.pension p \
             ON r.person_id = p.person_id"
        )
    };
    without_filter(&sum("7"), "civil").unwrap();
    let denial = denial(
        without_filter(&sum("r.household_id"), "civil").map(|()| unreachable!("it is permitted")),
    );
    assert_eq!(denial.column, "civil.residents.household_id");
    assert!(denial.rule.ends_with("no rule allows filter"), "{denial:?}");
}
