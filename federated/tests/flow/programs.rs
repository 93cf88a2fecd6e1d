//! What a program shows of groups and rows: the key of a group is one only while nothing repeats it.

use crate::denied::denial;
use crate::federation::{federation, rules};
use crate::permitted::{check, planned};
use veilgate_federated::plan::Validated;
use veilgate_federated::planner::Federation;
use veilgate_federated::policy::{Leakage, Policy};

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
