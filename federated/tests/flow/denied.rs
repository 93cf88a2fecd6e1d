//! Plans tampered with by hand, or asked for against the rules, are denied by the owner whom they
//! concern, naming rule and column.

use crate::federation::{engine, federation};
use crate::permitted::{check, planned};
use veilgate_federated::error::{Code, Denial, Error};
use veilgate_federated::flow::{self, Me};
use veilgate_federated::plan::{
    Encoding, JointPlan, Operator, ReleasedSource, UnitCount, Validated,
};
use veilgate_federated::planner::{Federation, Strategy};
use veilgate_federated::policy::{AggregateFunction, Leakage, Level, Policy, Reason, Rule, Use};
use veilgate_federated::schema::ScalarType;

const TOUR: &str = "SELECT r.district, COUNT(*) AS people, SUM(i.taxable_income) AS income, \
    AVG(i.taxable_income) FROM civil.residents r JOIN tax.income i ON r.person_id = i.person_id \
    WHERE i.year = 2023 GROUP BY r.district ORDER BY r.district";

/// The tour's plan, tampered with.
pub(crate) fn tampered(change: impl FnOnce(&mut JointPlan)) -> Validated {
    let mut plan = planned(&federation(Leakage::Sizes), TOUR, Some(Strategy::Aligned)).unwrap();
    change(&mut plan);
    Validated::from_plan(&plan).unwrap()
}

pub(crate) fn denial(result: Result<flow::Permitted, Error>) -> Denial {
    let error = result.map(|_| ()).unwrap_err();
    assert_eq!(error.code, Code::PolicyDenied, "{error}");
    *error.denial.unwrap()
}

/// The refusal by `department` of the tour's plan, tampered with.
pub(crate) fn refused(department: &str, change: impl FnOnce(&mut JointPlan)) -> Denial {
    let denial = denial(check(
        &federation(Leakage::Sizes),
        &tampered(change),
        department,
    ));
    assert_eq!(denial.department, department);
    denial
}

/// The refusal by tax when its fragment of the tour's plan reads otherwise.
pub(crate) fn sneaky(from: &str, to: &str) -> Denial {
    refused("tax", |plan| replace(plan, "tax", from, to))
}

pub(crate) fn replace(plan: &mut JointPlan, owner: &str, from: &str, to: &str) {
    let owner = plan.party(owner).unwrap();
    let fragment = plan
        .fragments
        .iter_mut()
        .find(|of| of.owner == owner)
        .unwrap();
    assert!(fragment.sql.contains(from), "{}", fragment.sql);
    fragment.sql = fragment.sql.replace(from, to);
}

fn units(plan: &mut JointPlan) -> &mut Vec<UnitCount> {
    match plan.operators.last_mut() {
        Some(Operator::Aggregate { units, .. }) => units,
        _ => panic!("no aggregate"),
    }
}

/// The federation with other rules for tax.
pub(crate) fn with_rules(
    change: impl FnOnce(&mut Vec<Rule>, &mut Vec<(String, String, Level)>),
) -> Federation {
    let mut federation = federation(Leakage::Sizes);
    let member = federation
        .members
        .iter_mut()
        .find(|member| member.department == "tax")
        .unwrap();
    let policy = member.policy.take().unwrap();
    let (mut rules, mut levels) = (policy.rules.clone(), policy.levels.clone());
    change(&mut rules, &mut levels);
    // Rules that no file would be loaded with are wanted here too.
    member.policy = Some(Policy {
        rules,
        levels,
        ..policy
    });
    federation
}

/// The refusal by tax of the untouched plan of the tour under other rules.
fn under(change: impl FnOnce(&mut Vec<Rule>, &mut Vec<(String, String, Level)>)) -> Denial {
    denial(check(&with_rules(change), &tampered(|_| ()), "tax"))
}

fn without(uses: &[Use]) -> impl FnOnce(&mut Vec<Rule>, &mut Vec<(String, String, Level)>) {
    let uses = uses.to_vec();
    move |rules, _| rules.retain(|rule| rule.table != "income" || !uses.contains(&rule.permits))
}

#[test]
fn the_untouched_plan_is_permitted_with_its_rules() {
    let permitted = check(&federation(Leakage::Sizes), &tampered(|_| ()), "tax").unwrap();
    let rules: Vec<&str> = permitted
        .rules()
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(
        rules,
        [
            "tax.income.*/aggregate(avg)",
            "tax.income.*/aggregate(count)",
            "tax.income.*/aggregate(sum)",
            "tax.income.*/filter",
            "tax.income.*/join_key",
        ]
    );
    assert_eq!(permitted.plan().parties[permitted.me()].department, "tax");
}

#[test]
fn every_use_needs_its_rule() {
    let cases: [(Use, &str, &str); 5] = [
        (Use::JoinKey, "tax.income.person_id", "join_key"),
        (Use::Filter, "tax.income.year", "filter"),
        (
            Use::Aggregate(AggregateFunction::Sum),
            "tax.income.taxable_income",
            "aggregate(sum)",
        ),
        (
            Use::Aggregate(AggregateFunction::Avg),
            "tax.income.taxable_income",
            "aggregate(avg)",
        ),
        (
            Use::Aggregate(AggregateFunction::Count),
            "tax.income.taxable_income",
            "aggregate(count)",
        ),
    ];
    for (what, column, name) in cases {
        let denial = under(without(&[what]));
        assert_eq!(denial.column, column);
        assert_eq!(denial.rule, format!("{column}: no rule allows {name}"));
        assert!(denial.alternative.contains(" with k = 10"), "{denial:?}");
    }
}

#[test]
fn group_having_and_sort_need_their_rules() {
    let sql = "SELECT i.year, SUM(i.taxable_income) AS s FROM civil.residents r \
        JOIN tax.income i ON r.person_id = i.person_id GROUP BY i.year \
        HAVING SUM(i.taxable_income) > 5 ORDER BY s";
    let plan = planned(&federation(Leakage::Sizes), sql, None).unwrap();
    let plan = Validated::from_plan(&plan).unwrap();
    for (what, column) in [
        (Use::GroupKey, "tax.income.year"),
        (Use::Having, "tax.income.taxable_income"),
        (Use::SortKey, "tax.income.taxable_income"),
    ] {
        let denial = denial(check(
            &with_rules(without(std::slice::from_ref(&what))),
            &plan,
            "tax",
        ));
        assert_eq!(denial.column, column);
        assert!(denial.rule.ends_with(&format!("no rule allows {what}")));
    }
}

#[test]
fn an_average_tells_that_it_is_a_sum_and_a_count() {
    let denial = under(without(&[Use::Aggregate(AggregateFunction::Sum)]));
    assert!(
        denial
            .alternative
            .contains("aggregate(avg, count, min, max, median) with k = 10")
    );
    assert!(denial.alternative.contains("released as its sum and count"));
}

#[test]
fn what_is_nearest_to_raw_data_is_told_first() {
    let federation = with_rules(|rules, _| rules.clear());
    let plan = tampered(|_| ());
    let me = Me {
        department: "tax",
        catalog: federation.member("tax").unwrap().catalog.as_ref(),
        policy: federation.member("tax").unwrap().policy.as_ref(),
        engine: &engine(),
        home: "civil",
        reason: Reason::default(),
    };
    let denials = flow::denials(&plan, &me).unwrap();
    let asked: Vec<&str> = denials
        .iter()
        .map(|denial| denial.asked.split(' ').next().unwrap())
        .collect();
    assert_eq!(
        asked,
        [
            "aggregate(count)",
            "aggregate(sum)",
            "aggregate(avg)",
            "filter",
            "join_key"
        ]
    );
    assert!(
        denials
            .iter()
            .all(|denial| denial.alternative == "nothing: the column has no rule")
    );
}

#[test]
fn recipients_leakage_and_levels_are_kept() {
    let denial = under(|rules, _| {
        for rule in rules.iter_mut().filter(|rule| rule.permits == Use::Filter) {
            rule.recipients = vec!["social".to_owned()];
        }
    });
    assert_eq!(denial.rule, "tax.income.*/filter");
    assert_eq!(denial.column, "tax.income.year");
    assert_eq!(denial.alternative, "filter for analysts of social");

    let denial = under(|rules, _| {
        for rule in rules.iter_mut().filter(|rule| rule.permits == Use::Filter) {
            rule.leakage = Leakage::None;
        }
    });
    assert_eq!(denial.rule, "tax.income.*/filter");
    assert!(denial.asked.contains("leakage `sizes`"));

    let denial = under(|_, levels| {
        levels.push(("income".to_owned(), "year".to_owned(), Level::L3));
    });
    assert_eq!(denial.rule, "tax.income.year: level L3");
    assert_eq!(denial.column, "tax.income.year");

    // A rule of the column's own stands before the table's.
    let denial = under(|rules, _| {
        let mut own = rules
            .iter()
            .find(|rule| rule.table == "income" && rule.permits == Use::Filter)
            .unwrap()
            .clone();
        own.name = "tax.income.year/filter".to_owned();
        own.column = "year".to_owned();
        own.k = 50;
        rules.push(own);
    });
    assert_eq!(denial.rule, "tax.income.year/filter");
    assert!(denial.asked.contains("k = 10"));
    assert!(denial.alternative.contains("k = 50"));
}

#[test]
fn sensitive_columns_are_not_computed_on_by_the_result_party() {
    let federation = federation(Leakage::None);
    let plan = planned(&federation, TOUR, Some(Strategy::Oblivious)).unwrap();
    let plan = Validated::from_plan(&plan).unwrap();
    let mut strict = federation.clone();
    for member in &mut strict.members {
        if let Some(policy) = &mut member.policy {
            policy.levels = vec![("income".to_owned(), "*".to_owned(), Level::L4)];
        }
    }
    let denial = denial(check(&strict, &plan, "tax"));
    assert!(denial.rule.ends_with("level L4"), "{denial:?}");
    assert!(denial.asked.contains("civil to compute and to receive"));
}

#[test]
fn other_computing_parties_are_refused() {
    let federation = {
        let mut federation = federation(Leakage::Sizes);
        for member in &mut federation.members {
            if let Some(policy) = &mut member.policy {
                policy.computing = vec![["civil", "social", "tax"].map(str::to_owned)];
            }
        }
        federation
    };
    let denial = denial(check(&federation, &tampered(|_| ()), "tax"));
    assert_eq!(denial.rule, "tax: computing");
    assert_eq!(denial.asked, "computing by bureau + civil + tax");
    assert_eq!(denial.alternative, "computing by civil + social + tax");
}

#[test]
fn dropped_and_lowered_guards_are_refused() {
    for department in ["civil", "tax"] {
        let index = |plan: &JointPlan| plan.party(department).unwrap();
        let lowered = refused(department, |plan| {
            let me = index(plan);
            for unit in units(plan).iter_mut().filter(|unit| unit.owner == me) {
                unit.k = 2;
            }
        });
        assert!(lowered.asked.contains("with k = 2"), "{lowered:?}");
        assert!(lowered.alternative.contains("k = 10"));
        assert!(lowered.column.ends_with(".person_id"));

        let dropped = refused(department, |plan| {
            let me = index(plan);
            let owners: Vec<usize> = units(plan).iter().map(|unit| unit.owner).collect();
            plan.release
                .group_guards
                .retain(|guard| owners[*guard] != me);
        });
        assert!(dropped.asked.contains("without a count"), "{dropped:?}");

        // Guarded by all rows instead of those where the argument is not NULL.
        let loose = refused(department, |plan| {
            let all = plan.release.group_guards.clone();
            let Some(Operator::Aggregate { cells, units, .. }) = plan.operators.last_mut() else {
                panic!("no aggregate");
            };
            for cell in cells {
                cell.guards.clone_from(&all);
            }
            units.truncate(all.len());
        });
        assert!(
            loose.asked.contains("aggregate without a count"),
            "{loose:?}"
        );
    }
}

#[test]
fn unit_tags_over_another_column_are_refused() {
    let sql = "SELECT i.year, COUNT(*) FROM tax.income i GROUP BY i.year";
    let federation = federation(Leakage::Sizes);
    let mut plan = planned(&federation, sql, None).unwrap();
    let fragment = &mut plan.fragments[0];
    assert!(
        fragment
            .columns
            .iter()
            .any(|of| matches!(of.encoding, Encoding::UnitTag { .. }))
    );
    assert!(fragment.sql.contains("\"person_id\""));
    fragment.sql = fragment.sql.replace("\"person_id\"", "\"remark\"");
    for column in &mut fragment.columns {
        if matches!(column.encoding, Encoding::UnitTag { .. }) {
            column.nullable = true;
        }
    }
    let plan = Validated::from_plan(&plan).unwrap();
    let denial = denial(check(&federation, &plan, "tax"));
    assert_eq!(denial.column, "tax.income.person_id");
    assert!(
        denial
            .asked
            .contains("without a count of its privacy units")
    );

    // Neither does it do to say that each row is another unit.
    let mut plan = planned(&federation, sql, None).unwrap();
    let Some(Operator::Aggregate { units, cells, .. }) = plan.operators.last_mut() else {
        panic!("no aggregate");
    };
    let tag = units[0].unit.take().unwrap();
    // The tag is still used, as what a number depends on, so that the plan's structure holds.
    cells[0].argument = Some(tag);
    units.push(UnitCount {
        argument: Some(tag),
        ..units[0].clone()
    });
    cells[0].guards = vec![0, 1];
    let plan = Validated::from_plan(&plan).unwrap();
    let denied = check(&federation, &plan, "tax").map(|_| ()).unwrap_err();
    assert_eq!(denied.code, Code::PolicyDenied);
}

#[test]
fn sneaky_fragments_are_refused() {
    let from = "FROM \"income\"";
    let grammar = "fragments: one table, allow-listed functions";
    for (to, word) in [
        ("FROM \"rates\", \"income\"", "one table"),
        ("FROM \"income\" JOIN \"rates\" ON TRUE", "join"),
        ("FROM (SELECT * FROM \"income\")", "subquery"),
        ("FROM civil.residents", "another department"),
        ("FROM \"secrets\"", "does not have"),
        ("FROM \"income\" TABLESAMPLE (1 PERCENT)", "clause"),
        ("FROM \"income\" /* hello */", "comment"),
        ("FROM generate_series(1, 9)", "does not have"),
        ("FROM \"income\"(1)", "clause"),
    ] {
        let denial = sneaky(from, to);
        assert_eq!(denial.rule, grammar, "{to}: {denial:?}");
        assert!(denial.asked.contains(word), "{to}: {denial:?}");
    }
    let condition = "\"year\" = 2023";
    for (to, word) in [
        ("\"year\" = (SELECT 2023)", "subquery"),
        ("EXISTS (SELECT 1)", "subquery"),
        ("random() < 1", "the function random"),
        ("\"remark\" < 5", "text compared"),
        ("now() > DATE '2000-01-01'", "the function now"),
        ("1 / (\"year\" - 2023) = 1", "division"),
        ("CAST(\"remark\" AS BIGINT) = 1", "cast"),
        ("TRY_CAST(\"remark\" AS BIGINT) = 1", "unusual kind"),
        ("\"year\" = $1", "parameter"),
        ("\"salary\" = 1", "does not have"),
        ("\"person_id\" ~ 'x'", "unusual operator"),
        ("\"year\" = 2023 HAVING COUNT(*) = 1", "not parse"),
    ] {
        let denial = sneaky(condition, to);
        assert_eq!(denial.rule, grammar, "{to}: {denial:?}");
        assert!(denial.asked.contains(word), "{to}: {denial:?}");
        assert!(!denial.asked.contains("2023"), "a literal is told");
    }
    let tail = " GROUP BY \"person_id\"";
    for (to, word) in [
        ("", "without GROUP BY"),
        (" GROUP BY \"person_id\" HAVING COUNT(*) = 1", "clause"),
        (" GROUP BY \"year\"", "no output"),
        (" GROUP BY ALL", "GROUP BY ALL"),
        (" GROUP BY \"person_id\" LIMIT 5", "clause"),
        (" GROUP BY \"person_id\" ORDER BY 1", "clause"),
        (" GROUP BY ROLLUP(\"person_id\")", "no output"),
        (" GROUP BY \"person_id\" UNION SELECT 1", "UNION"),
        (" GROUP BY \"person_id\"; SELECT 1", "one statement"),
    ] {
        let denial = sneaky(tail, to);
        assert_eq!(denial.rule, grammar, "{to}: {denial:?}");
        assert!(denial.asked.contains(word), "{to}: {denial:?}");
    }
    let denial = sneaky("SELECT ", "SELECT DISTINCT ");
    assert_eq!(denial.rule, grammar);
}

#[test]
fn arguments_are_columns_and_linear_forms() {
    let argument = "SUM(CAST(\"taxable_income\" AS DECIMAL(38, 2)))";
    for to in [
        "SUM(CASE WHEN \"person_id\" = 'x' THEN \"taxable_income\" END)",
        "SUM(\"taxable_income\" * \"taxable_income\")",
        "SUM(\"taxable_income\" * 1000000)",
        "SUM(\"taxable_income\" + 123456789)",
        "SUM(CAST(\"taxable_income\" AS DECIMAL(4, 2)))",
        "SUM(coalesce(\"taxable_income\", 0))",
        "SUM(DISTINCT \"taxable_income\")",
        "SUM(\"taxable_income\") FILTER (WHERE \"year\" = 2023)",
        "SUM(\"taxable_income\") OVER ()",
    ] {
        let denial = sneaky(argument, to);
        assert_eq!(denial.department, "tax", "{to}");
    }
    let federation = federation(Leakage::Sizes);
    let plan = |sum: &str, data_type: ScalarType| {
        tampered(|plan| {
            replace(plan, "tax", argument, sum);
            let tax = plan.party("tax").unwrap();
            let fragment = plan
                .fragments
                .iter_mut()
                .find(|of| of.owner == tax)
                .unwrap();
            fragment.columns[2].data_type = data_type;
        })
    };
    let wide = ScalarType::Decimal {
        precision: 38,
        scale: 2,
    };
    let small = "SUM(CAST(2 * \"taxable_income\" - 5 AS DECIMAL(38, 2)))";
    // Linear, but no longer the column whose COUNT makes the average: the pair is told.
    let same = check(&federation, &plan(small, wide), "tax");
    assert!(same.is_ok(), "{same:?}");
}

#[test]
fn deep_conditions_are_checked_on_a_small_stack() {
    let deep = vec!["\"year\" = 2023"; 200].join(" AND ");
    let plan = tampered(|plan| replace(plan, "tax", "\"year\" = 2023", &deep));
    check(&federation(Leakage::Sizes), &plan, "tax").unwrap();
    let deeper = vec!["\"year\" = 2023"; 600].join(" AND ");
    let denial = sneaky("\"year\" = 2023", &deeper);
    assert!(
        denial.asked.contains("length") || denial.asked.contains("depth"),
        "{denial:?}"
    );
}

#[test]
fn lies_about_keys_types_and_nulls_are_refused() {
    let denial = refused("tax", |plan| {
        replace(
            plan,
            "tax",
            "COUNT(*) AS c1, SUM(CAST(\"taxable_income\" AS DECIMAL(38, 2))) AS c2, \
             COUNT(\"taxable_income\") AS c3",
            "\"year\" AS c1, SUM(CAST(\"taxable_income\" AS DECIMAL(38, 2))) AS c2, \
             COUNT(\"taxable_income\") AS c3",
        );
        replace(
            plan,
            "tax",
            "GROUP BY \"person_id\"",
            "GROUP BY \"person_id\", \"year\"",
        );
    });
    // NULLs of `year` are found before the lie about the key.
    assert!(
        denial.rule.starts_with("fragments: outputs") || denial.rule == "tax.income: key",
        "{denial:?}"
    );
    let denial = refused("tax", |plan| {
        replace(
            plan,
            "tax",
            "SUM(CAST(\"taxable_income\" AS DECIMAL(38, 2)))",
            "SUM(\"year\")",
        );
    });
    assert_eq!(denial.rule, "fragments: outputs as the owner derives them");
    assert_eq!(denial.column, "tax.income.year");
    let denial = refused("civil", |plan| {
        for column in &mut plan.fragments[0].columns {
            if let Encoding::Codes(codes) = &mut column.encoding {
                codes.reverse();
            }
        }
    });
    assert_eq!(denial.column, "civil.residents.district");
    assert!(denial.asked.contains("another code list"));
}

#[test]
fn a_fragment_that_is_not_unique_cannot_be_aligned() {
    let sql = "SELECT r.district, COUNT(*) FROM civil.residents r JOIN social.pension p \
        ON r.person_id = p.person_id GROUP BY r.district";
    let mut federation = federation(Leakage::Sizes);
    let plan = planned(&federation, sql, Some(Strategy::Aligned)).unwrap();
    let social = plan.party("social").unwrap();
    // The same plan, when social's catalogue declares no key.
    let member = federation
        .members
        .iter_mut()
        .find(|member| member.department == "social")
        .unwrap();
    let catalog = member.catalog.as_mut().unwrap();
    catalog.tables[0].key.clear();
    let version = catalog.version();
    let mut plan = plan;
    plan.parties[social].catalog_version = Some(version);
    let plan = Validated::from_plan(&plan).unwrap();
    let denial = denial(check(&federation, &plan, "social"));
    assert_eq!(denial.rule, "social.pension: key");
}

#[test]
fn a_condition_on_the_other_sides_key_is_one_on_mine() {
    let sql = "SELECT r.district, COUNT(*) FROM civil.residents r JOIN social.pension p \
        ON r.person_id = p.person_id WHERE r.person_id LIKE '11%' GROUP BY r.district";
    let mut federation = federation(Leakage::Sizes);
    let plan = planned(&federation, sql, None).unwrap();
    let plan = Validated::from_plan(&plan).unwrap();
    check(&federation, &plan, "social").unwrap();
    for member in &mut federation.members {
        if let Some(policy) = &mut member.policy {
            policy.rules.retain(|rule| rule.permits != Use::Filter);
        }
    }
    let denial = denial(check(&federation, &plan, "social"));
    assert_eq!(denial.column, "social.pension.person_id");
    assert!(denial.rule.ends_with("no rule allows filter"));
}

#[test]
fn other_engines_catalogues_and_roles_are_told_apart() {
    let federation = federation(Leakage::Sizes);
    let code = |plan: &Validated, department: &str| {
        check(&federation, plan, department)
            .map(|_| ())
            .unwrap_err()
            .code
    };
    let other_engine = tampered(|plan| plan.engine.config_hash = [8; 32]);
    assert_eq!(code(&other_engine, "bureau"), Code::WrongVersion);
    let other_catalogue = tampered(|plan| {
        let tax = plan.party("tax").unwrap();
        plan.parties[tax].catalog_version = Some([1; 32]);
    });
    assert_eq!(code(&other_catalogue, "tax"), Code::DigestMismatch);
    assert_eq!(code(&tampered(|_| ()), "social"), Code::PeerMisbehaved);
    let other_result = tampered(|plan| {
        for party in &mut plan.parties {
            party.result = party.department == "tax";
        }
    });
    assert_eq!(code(&other_result, "civil"), Code::PeerMisbehaved);
    let strange = tampered(|plan| {
        plan.release.sql = "SELECT r0 FROM released, passwords".to_owned();
    });
    assert_eq!(code(&strange, "tax"), Code::PeerMisbehaved);
    let lost = tampered(|plan| plan.release.sql = "SELECT r9 FROM released".to_owned());
    assert_eq!(code(&lost, "tax"), Code::PeerMisbehaved);
}

#[test]
fn an_average_of_mine_cannot_be_renamed_to_a_sum() {
    // Releasing the parts alone does not drop the right that they need.
    let federation = with_rules(without(&[Use::Aggregate(AggregateFunction::Count)]));
    let plan = tampered(|plan| {
        for column in &mut plan.release.columns {
            if let ReleasedSource::Average { count, .. } = column.source {
                column.source = ReleasedSource::Cell(count);
                column.data_type = ScalarType::Int64;
            }
        }
    });
    let denial = denial(check(&federation, &plan, "tax"));
    assert_eq!(
        denial.rule,
        "tax.income.taxable_income: no rule allows aggregate(count)"
    );
}

#[test]
fn raw_rows_need_output() {
    let federation = federation(Leakage::Sizes);
    let member = federation.member("tax").unwrap();
    let columns = [("income".to_owned(), "taxable_income".to_owned())];
    let denial = flow::row_output_denial(
        "civil",
        member.catalog.as_ref().unwrap(),
        member.policy.as_ref(),
        &columns,
    )
    .unwrap();
    assert_eq!(denial.column, "tax.income.taxable_income");
    assert_eq!(
        denial.rule,
        "tax.income.taxable_income: no rule allows output"
    );
    assert!(
        denial
            .alternative
            .starts_with("aggregate(sum, avg, count, min, max, median) with k = 10")
    );
}
