//! Rules that hold for some purposes alone, or with a case number.

use crate::denied::{denial, tampered, with_rules};
use crate::federation::federation;
use crate::permitted::{check_for, planned};
use veilgate_federated::error::Denial;
use veilgate_federated::plan::Validated;
use veilgate_federated::planner::Federation;
use veilgate_federated::policy::{Leakage, Reason, Rule, Use};

/// Every rule of tax for filters asks for this.
fn asking(purposes: &[&str], case: bool) -> Federation {
    with_rules(|rules, _| {
        let filters = rules.iter_mut().filter(|rule| rule.permits == Use::Filter);
        filters.for_each(|rule| ask(rule, purposes, case));
    })
}

fn ask(rule: &mut Rule, purposes: &[&str], case: bool) {
    rule.purposes = purposes.iter().map(|&name| name.to_owned()).collect();
    rule.case = case;
}

fn refused(federation: &Federation, plan: &Validated, purpose: &str, case: &str) -> Denial {
    denial(check_for(federation, plan, "tax", Reason { purpose, case }))
}

#[test]
fn a_rule_with_purposes_wants_one_of_them_word_for_word() {
    let federation = asking(&["fraud inquiry", "audit"], false);
    let plan = tampered(|_| ());
    for purpose in ["fraud inquiry", "audit"] {
        let reason = Reason { purpose, case: "" };
        check_for(&federation, &plan, "tax", reason).unwrap();
    }
    for purpose in ["", "fraud", "Audit", "audit ", "fraud inquiry, audit"] {
        let denial = refused(&federation, &plan, purpose, "C-7");
        assert_eq!(denial.rule, "tax.income.*/filter", "{purpose}");
        assert_eq!(
            denial.asked,
            "filter of tax.income.year without the purpose `fraud inquiry` or `audit`"
        );
        assert_eq!(
            denial.alternative,
            "filter with the purpose `fraud inquiry` or `audit`, stated before the query"
        );
    }
}

#[test]
fn a_rule_with_a_case_wants_its_number() {
    let federation = asking(&["audit"], true);
    let plan = tampered(|_| ());
    let reason = Reason {
        purpose: "audit",
        case: "2026/17",
    };
    check_for(&federation, &plan, "tax", reason).unwrap();
    for nothing in ["", "  "] {
        let denial = refused(&federation, &plan, "audit", nothing);
        assert!(
            denial.asked.ends_with("without a case number"),
            "{nothing:?}"
        );
    }
    let denial = refused(&federation, &plan, "audit", "");
    assert_eq!(
        denial.asked,
        "filter of tax.income.year without a case number"
    );
    let denial = refused(&federation, &plan, "", "");
    assert!(
        denial
            .asked
            .ends_with("without the purpose `audit` and a case number"),
        "{}",
        denial.asked
    );
}

#[test]
fn another_rule_without_purposes_permits_the_same_use() {
    let plan = tampered(|_| ());
    let federation = with_rules(|rules, _| {
        let filter = rules.iter().find(|rule| rule.permits == Use::Filter);
        let mut strict = filter.unwrap().clone();
        strict.name.push_str("#2");
        ask(&mut strict, &["audit"], true);
        rules.insert(0, strict);
    });
    check_for(&federation, &plan, "tax", Reason::default()).unwrap();
}

/// It uses no column, and is held to every rule of the table.
#[test]
fn a_count_of_rows_wants_what_any_rule_of_the_table_wants() {
    let sql = "SELECT COUNT(*) FROM tax.income i";
    let plan = planned(&federation(Leakage::Sizes), sql, None).unwrap();
    let plan = Validated::from_plan(&plan).unwrap();
    let federation = asking(&["audit"], false);
    let denial = refused(&federation, &plan, "", "");
    assert_eq!(denial.asked, "a count of the rows of tax.income");
    assert_eq!(
        denial.alternative,
        "the same with the purpose `audit`, stated before the query"
    );
    let reason = Reason {
        purpose: "audit",
        case: "",
    };
    check_for(&federation, &plan, "tax", reason).unwrap();
}
