//! What the grammar of fragments lets through, and what not.

use super::*;
use std::collections::BTreeSet;

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn row(form: Form, names: &[&str]) -> Derivation {
    Derivation::Row(RowExpression {
        form,
        columns: set(names),
    })
}

#[test]
fn a_row_level_fragment() {
    let lineage = parse_fragment(
        "SELECT \"id\" AS c0, a + 2 * b AS c1, a < b AS c2, a * b AS c3 FROM t \
         WHERE \"id\" IS NOT NULL AND (c > 5 OR d LIKE 'x%')",
    )
    .unwrap();
    assert_eq!(lineage.table, "t");
    assert_eq!(
        lineage.outputs,
        [
            row(Form::Column, &["id"]),
            row(Form::Linear, &["a", "b"]),
            row(Form::Other, &["a", "b"]),
            row(Form::Other, &["a", "b"]),
        ]
    );
    assert_eq!(lineage.filtered, set(&["c", "d"]));
    assert_eq!(lineage.not_null, set(&["id"]));
    assert!(!lineage.grouped);
}

#[test]
fn a_grouped_fragment() {
    let lineage = parse_fragment(
        "SELECT id AS c0, COUNT(*) AS c1, SUM(CAST(x AS DECIMAL(38, 2))) AS c2, COUNT(x) AS c3, \
         nullif(COUNT(y), 0) AS c4 FROM t GROUP BY id",
    )
    .unwrap();
    assert!(lineage.grouped);
    let column = |name: &str| RowExpression {
        form: Form::Column,
        columns: set(&[name]),
    };
    assert_eq!(
        lineage.outputs[1..],
        [
            Derivation::CountRows,
            Derivation::Sum(column("x")),
            Derivation::Count(column("x")),
            Derivation::CountOrNull(column("y")),
        ]
    );
}

#[test]
fn linear_forms_end_where_literals_grow() {
    for (expr, form) in [
        ("a", Form::Column),
        ("(a)", Form::Column),
        ("-a", Form::Linear),
        ("a - 999999", Form::Linear),
        ("a * 0.5", Form::Linear),
        ("a - 1234567", Form::Other),
        ("a * 1e9", Form::Other),
        ("2 * (3 + a)", Form::Linear),
        ("999999 * (999999 * a)", Form::Other),
        ("(a * 1000 + 1) * 1000", Form::Other),
        ("a * (1000 * 1000)", Form::Other),
        ("a / 2", Form::Other),
        ("abs(a)", Form::Other),
        ("CASE WHEN a > 1 THEN a END", Form::Other),
        ("a * CAST(1000000 AS BIGINT)", Form::Other),
    ] {
        let lineage = parse_fragment(&format!("SELECT {expr} AS c0 FROM t")).unwrap();
        assert_eq!(lineage.outputs, [row(form, &["a"])], "{expr}");
    }
}

#[test]
fn hostile_text_is_refused_and_does_not_exhaust_the_stack() {
    let long = |operand: &str, join: &str, times: usize| {
        format!("SELECT {} AS c0 FROM t", vec![operand; times].join(join))
    };
    for sql in [
        String::new(),
        "SELECT".to_owned(),
        "\0".to_owned(),
        "SELECT a AS c0 FROM t WHERE 'x".to_owned(),
        long("a", "+", 20_000),
        long("1", "+", 1_900),
        long("NOT ", "", 5_000),
        format!(
            "SELECT {}a{} AS c0 FROM t",
            "(".repeat(4_000),
            ")".repeat(4_000)
        ),
        format!("SELECT a AS c0 FROM t WHERE {}a", "-".repeat(1_500)),
    ] {
        assert!(
            parse_fragment(&sql).is_err(),
            "{}",
            &sql[..sql.len().min(40)]
        );
    }
}

#[test]
fn the_release_tells_its_uses() {
    let found = released_use(
        "SELECT r0 AS o0, r1 / r2 AS mean, round(r1, 2) AS o2 FROM released \
         WHERE r3 > 5 AND r0 = 'x' ORDER BY mean DESC NULLS LAST, 1 LIMIT 5 OFFSET 2",
    )
    .unwrap();
    assert_eq!(found.shown, BTreeSet::from([0, 1, 2]));
    assert_eq!(found.conditions, BTreeSet::from([0, 3]));
    assert_eq!(found.order, BTreeSet::from([0, 1, 2]));
    for sql in [
        "SELECT * FROM released",
        "SELECT r0 FROM other",
        "SELECT r0 FROM released JOIN t ON TRUE",
        "SELECT (SELECT 1) FROM released",
        "SELECT name FROM released",
        "SELECT r0 FROM released LIMIT r0",
        "SELECT random() FROM released",
    ] {
        assert!(released_use(sql).is_err(), "{sql}");
    }
}
