//! Plans that would tell about single rows by failing, by a size, or by a name other than the one
//! the rules know.

use crate::denied::{denial, refused, replace, sneaky, tampered};
use crate::federation::federation;
use crate::permitted::{check, planned};
use veilgate_federated::plan::{
    Encoding, FragmentColumn, JointPlan, Operator, Predicate, PublicSize, Validated,
};
use veilgate_federated::planner::{Federation, Strategy};
use veilgate_federated::policy::{Leakage, Use};
use veilgate_federated::schema::ScalarType;

#[test]
fn expressions_that_fail_on_some_rows_are_refused() {
    let p = "CASE WHEN \"person_id\" = 'x' THEN";
    for to in [
        format!("substr(\"person_id\", 1, {p} -1 ELSE 1 END) = 'x'"),
        format!("substr(\"person_id\", {p} -9 ELSE 1 END, 1) = 'x'"),
        format!("substring(\"person_id\" FROM 1 FOR {p} -1 ELSE 1 END) = 'x'"),
        format!("{p} substr('a', 1, -1) ELSE 'b' END = 'x'"),
        format!("left(\"person_id\", {p} -1 ELSE 1 END) = 'x'"),
        format!("abs({p} -9223372036854775807 - 1 ELSE 1 END) = 1"),
        "abs(\"year\" - 9223372036854775807 - 1) = 1".to_owned(),
        format!("({p} -9223372036854775807 - 1 ELSE 1 END) / -1 = 1"),
        format!("{p} CAST('abc' AS BIGINT) ELSE 1 END = 1"),
        format!("{p} DATE 'abc' ELSE DATE '2000-01-01' END = DATE '2000-01-01'"),
        format!(
            "CAST({p} 1 ELSE 0 END AS DECIMAL(38, 18)) * CAST(\"year\" AS DECIMAL(38, 18)) > 0"
        ),
        "\"taxable_income\" > CAST(0 AS DECIMAL(38, 37))".to_owned(),
        format!("\"person_id\" LIKE {p} 'a' ELSE 'b' END"),
    ] {
        let denial = sneaky("\"year\" = 2023", &to);
        assert_eq!(
            denial.rule, "fragments: one table, allow-listed functions",
            "{to}: {denial:?}"
        );
    }
    for to in [
        "substr(\"person_id\", 1, 2) = '11'",
        "left(\"person_id\", 2) = '11'",
        "abs(\"year\" - 2000) < 30",
        "\"taxable_income\" * 2 > 1.5",
        "\"taxable_income\" / 12 > 100",
        "\"person_id\" LIKE '11%'",
    ] {
        let plan = tampered(|plan| replace(plan, "tax", "\"year\" = 2023", to));
        let permitted = check(&federation(Leakage::Sizes), &plan, "tax");
        assert!(permitted.is_ok(), "{to}: {permitted:?}");
    }
}

#[test]
fn text_and_numbers_have_to_fit_their_form() {
    let short = refused("civil", |plan| {
        for column in &mut plan.fragments[0].columns {
            if matches!(column.encoding, Encoding::Codes(_)) {
                column.encoding = Encoding::Text { max_bytes: 1 };
            }
        }
        plan.release.public_groups = None;
    });
    assert!(short.asked.contains("not known to fit"), "{short:?}");
    let computed = refused("civil", |plan| {
        for column in &mut plan.fragments[0].columns {
            if matches!(column.encoding, Encoding::Codes(_)) {
                column.encoding = Encoding::Text { max_bytes: 16 };
                column.nullable = true;
            }
        }
        for column in &mut plan.release.columns[..1] {
            column.nullable = true;
        }
        plan.release.public_groups = None;
        replace(plan, "civil", "\"district\" AS", "upper(\"district\") AS");
    });
    assert!(computed.asked.contains("not known to fit"), "{computed:?}");
    let narrow = refused("tax", |plan| {
        let tax = plan.party("tax").unwrap();
        for fragment in plan.fragments.iter_mut().filter(|of| of.owner == tax) {
            for column in &mut fragment.columns {
                if column.encoding == Encoding::Ring128 {
                    column.encoding = Encoding::Ring64;
                }
            }
        }
    });
    assert!(narrow.asked.contains("fit 64 bits"), "{narrow:?}");
}

#[test]
fn declared_sizes_are_what_the_catalogue_bounds() {
    let federation = federation(Leakage::None);
    let sql = "SELECT r.district, COUNT(*) FROM civil.residents r JOIN tax.income i \
        ON r.person_id = i.person_id GROUP BY r.district";
    let plan = planned(&federation, sql, Some(Strategy::Oblivious)).unwrap();
    for (index, fragment) in plan.fragments.iter().enumerate() {
        let PublicSize::Declared(rows) = fragment.size else {
            panic!("a bucket");
        };
        let owner = &plan.parties[fragment.owner].department;
        for (rows, fits) in [
            (1, false),
            (rows - 1, false),
            (rows, true),
            (rows + 1, true),
        ] {
            let mut plan = plan.clone();
            plan.fragments[index].size = PublicSize::Declared(rows);
            let permitted = check(&federation, &Validated::from_plan(&plan).unwrap(), owner);
            if fits {
                permitted.unwrap();
            } else {
                assert!(denial(permitted).rule.starts_with("fragments: sizes"));
            }
        }
    }
}

#[test]
fn public_groups_are_the_domain_of_the_keys() {
    let plan = planned(
        &federation(Leakage::Sizes),
        "SELECT r.district, COUNT(*) FROM civil.residents r JOIN tax.income i \
            ON r.person_id = i.person_id GROUP BY r.district",
        None,
    )
    .unwrap();
    let whole = plan.release.public_groups.unwrap();
    for (groups, fits) in [
        (None, true),
        (Some(whole), true),
        (Some(0), false),
        (Some(1), false),
        (Some(whole - 1), false),
        (Some(whole + 1), false),
    ] {
        let mut plan = plan.clone();
        plan.release.public_groups = groups;
        let valid = Validated::from_plan(&plan);
        assert_eq!(valid.is_ok(), fits, "{groups:?}");
    }
}

/// A plan in which civil computes a column from its key, and social joins on the key.
fn with_column(sql: &str, data_type: ScalarType, encoding: Encoding) -> (JointPlan, usize) {
    let query = "SELECT r.district, COUNT(*) FROM civil.residents r JOIN social.pension p \
        ON r.person_id = p.person_id GROUP BY r.district";
    let federation = federation(Leakage::Sizes);
    let mut plan = planned(&federation, query, Some(Strategy::Oblivious)).unwrap();
    let civil = plan.party("civil").unwrap();
    let position = plan.fragments.iter().position(|of| of.owner == civil);
    let fragment = &mut plan.fragments[position.unwrap()];
    let at = fragment.columns.len();
    fragment.columns.push(FragmentColumn {
        data_type,
        nullable: false,
        encoding,
        label: "x".to_owned(),
    });
    fragment.sql = fragment
        .sql
        .replacen(" FROM ", &format!(", {sql} AS c{at} FROM "), 1);
    (plan, at)
}

fn social_without(what: &Use) -> Federation {
    let mut federation = federation(Leakage::Sizes);
    for member in &mut federation.members {
        if let Some(policy) = &mut member.policy {
            policy.rules.retain(|rule| rule.permits != *what);
        }
    }
    federation
}

#[test]
fn flags_over_the_other_sides_key_are_conditions_on_mine() {
    let (mut plan, at) = with_column("(\"person_id\" = 'x')", ScalarType::Bool, Encoding::Bits(1));
    let civil = plan.party("civil").unwrap();
    let fragment = plan.fragments.iter().position(|of| of.owner == civil);
    let flag = veilgate_federated::plan::ColumnRef {
        fragment: fragment.unwrap(),
        column: at,
    };
    let mut last = plan.operators.pop().unwrap();
    let input = plan.operators.len() - 1;
    plan.operators.push(Operator::Filter {
        input,
        predicate: Predicate::Flag(flag),
    });
    if let Operator::Aggregate { input, .. } = &mut last {
        *input = plan.operators.len() - 1;
    }
    plan.operators.push(last);
    plan.release.input = plan.operators.len() - 1;
    let plan = Validated::from_plan(&plan).unwrap();
    check(&federation(Leakage::Sizes), &plan, "social").unwrap();
    let denial = denial(check(&social_without(&Use::Filter), &plan, "social"));
    assert_eq!(denial.column, "social.pension.person_id");
    assert!(denial.rule.ends_with("no rule allows filter"), "{denial:?}");
}

#[test]
fn groups_by_the_other_sides_key_are_groups_by_mine() {
    let (mut plan, at) = with_column(
        "\"person_id\"",
        ScalarType::Utf8,
        Encoding::Text { max_bytes: 24 },
    );
    if let Some(Operator::Aggregate { keys, .. }) = plan.operators.last_mut() {
        let fragment = keys[0].fragment;
        // The district stays in use, as a second key.
        keys.insert(
            0,
            veilgate_federated::plan::ColumnRef {
                fragment,
                column: at,
            },
        );
    }
    plan.release.public_groups = None;
    for column in &mut plan.release.columns {
        if let veilgate_federated::plan::ReleasedSource::Key(key) = &mut column.source {
            *key += 1;
        }
    }
    plan.release
        .columns
        .push(veilgate_federated::plan::ReleasedColumn {
            source: veilgate_federated::plan::ReleasedSource::Key(0),
            data_type: ScalarType::Utf8,
            nullable: false,
        });
    let plan = Validated::from_plan(&plan).unwrap();
    check(&federation(Leakage::Sizes), &plan, "social").unwrap();
    let denial = denial(check(&social_without(&Use::GroupKey), &plan, "social"));
    assert_eq!(denial.column, "social.pension.person_id");
    assert!(
        denial.rule.ends_with("no rule allows group_key"),
        "{denial:?}"
    );
}

#[test]
fn join_keys_are_never_null() {
    let mut federation = federation(Leakage::Sizes);
    for member in &mut federation.members {
        for table in member.catalog.iter_mut().flat_map(|of| &mut of.tables) {
            if let Some(column) = table.columns.iter_mut().find(|of| of.name == "person_id") {
                column.nullable = true;
            }
        }
    }
    let sql = "SELECT r.district, COUNT(*) FROM civil.residents r JOIN tax.income i \
        ON r.person_id = i.person_id GROUP BY r.district";
    let mut plan = planned(&federation, sql, Some(Strategy::Oblivious)).unwrap();
    check(&federation, &Validated::from_plan(&plan).unwrap(), "tax").unwrap();
    replace(&mut plan, "tax", " WHERE \"person_id\" IS NOT NULL", "");
    let plan = Validated::from_plan(&plan).unwrap();
    let denial = denial(check(&federation, &plan, "tax"));
    assert_eq!(denial.column, "tax.income.person_id");
    assert!(
        denial.asked.contains("NULLs among the join keys"),
        "{denial:?}"
    );
}
