//! How answers are compared with what is expected.

use crate::oracle::Verdict;
use crate::tables::{batch, nullable, numbers, texts, world};
use arrow::array::RecordBatch;

fn verdict(sql: &str, got: &RecordBatch) -> Verdict {
    let oracle = world(2, 2);
    let judgement = oracle.judge(sql).unwrap();
    let (ordered, limited) = (sql.contains("ORDER BY"), sql.contains("LIMIT"));
    oracle.compare(&judgement, got, ordered, limited)
}

fn cities(names: &[&str], values: &[Option<i64>]) -> RecordBatch {
    batch(vec![texts("city", names), nullable("value", values)])
}

/// In the clear: a 30, b 40, c 110; expected: a NULL, c 110.
const SUMS: &str = "SELECT city, SUM(x) FROM civil.p GROUP BY city";

#[test]
fn what_is_expected_is_equal() {
    let got = cities(&["c", "a"], &[Some(110), None]);
    assert_eq!(verdict(SUMS, &got), Verdict::Equal);
}

#[test]
fn less_is_stricter() {
    let stricter = |rows, cells| Verdict::Stricter { rows, cells };
    assert_eq!(
        verdict(SUMS, &cities(&["c", "a"], &[None, None])),
        stricter(0, 1)
    );
    assert_eq!(verdict(SUMS, &cities(&["a"], &[None])), stricter(1, 0));
    assert_eq!(verdict(SUMS, &cities(&[], &[])), stricter(2, 0));
    let sql = format!("{SUMS} ORDER BY city");
    assert_eq!(
        verdict(&sql, &cities(&["a", "c"], &[None, None])),
        stricter(0, 1)
    );
    let wrong = verdict(&sql, &cities(&["c", "a"], &[None, None]));
    assert!(matches!(wrong, Verdict::Differs(_)), "{wrong:?}");
}

#[test]
fn more_is_shown() {
    for got in [
        cities(&["a", "c"], &[Some(30), Some(110)]),
        cities(&["a", "b", "c"], &[None, None, Some(110)]),
        cities(&["b"], &[Some(40)]),
    ] {
        let verdict = verdict(SUMS, &got);
        assert!(matches!(verdict, Verdict::Shows(_)), "{verdict:?}");
    }
    // Without the keys.
    let sql = "SELECT SUM(x) FROM civil.p GROUP BY city";
    let got = batch(vec![nullable("s", &[Some(30), Some(110)])]);
    assert!(matches!(verdict(sql, &got), Verdict::Shows(_)));
    let got = batch(vec![nullable("s", &[Some(110)])]);
    assert_eq!(verdict(sql, &got), Verdict::Stricter { rows: 1, cells: 0 });
    // By an expression of the key.
    let sql = "SELECT upper(city) AS c, SUM(x) AS s FROM civil.p GROUP BY city";
    for got in [
        cities(&["B"], &[Some(40)]),
        cities(&["A", "C"], &[Some(30), Some(110)]),
    ] {
        assert!(matches!(verdict(sql, &got), Verdict::Shows(_)));
    }
    let got = cities(&["C"], &[Some(110)]);
    assert_eq!(verdict(sql, &got), Verdict::Stricter { rows: 1, cells: 0 });
    // A part of an expression.
    let sql = "SELECT city, COALESCE(SUM(x), -1) AS s FROM civil.p GROUP BY city";
    let got = cities(&["a", "c"], &[Some(30), Some(110)]);
    assert!(matches!(verdict(sql, &got), Verdict::Shows(_)));
    let got = cities(&["a", "c"], &[Some(-1), Some(-1)]);
    assert_eq!(verdict(sql, &got), Verdict::Undecided);
}

#[test]
fn another_value_differs() {
    for got in [
        cities(&["a", "c"], &[None, Some(111)]),
        cities(&["a", "z"], &[None, Some(110)]),
        cities(&["a", "c", "c"], &[None, Some(110), Some(110)]),
        batch(vec![texts("city", &["a"])]),
    ] {
        let verdict = verdict(SUMS, &got);
        assert!(matches!(verdict, Verdict::Differs(_)), "{verdict:?}");
    }
}

#[test]
fn one_result_for_all_is_compared_by_cells() {
    let sql = "SELECT COUNT(*), SUM(x) FROM civil.p";
    let got = |count, sum| batch(vec![nullable("n", &[count]), nullable("s", &[sum])]);
    assert_eq!(verdict(sql, &got(Some(6), None)), Verdict::Equal);
    let stricter = Verdict::Stricter { rows: 0, cells: 1 };
    assert_eq!(verdict(sql, &got(None, None)), stricter);
    assert!(matches!(
        verdict(sql, &got(Some(6), Some(180))),
        Verdict::Shows(_)
    ));
    assert!(matches!(
        verdict(sql, &got(Some(7), None)),
        Verdict::Differs(_)
    ));
}

#[test]
fn limits_leave_some_undecided_but_no_leak() {
    let sql = "SELECT city, COUNT(*) AS n FROM civil.p GROUP BY city ORDER BY city LIMIT 2";
    let got =
        |names: &[&str], counts: &[i64]| batch(vec![texts("city", names), numbers("n", counts)]);
    assert_eq!(verdict(sql, &got(&["a", "c"], &[3, 2])), Verdict::Equal);
    assert_eq!(verdict(sql, &got(&["c"], &[2])), Verdict::Undecided);
    assert!(matches!(
        verdict(sql, &got(&["a", "b"], &[3, 1])),
        Verdict::Shows(_)
    ));
    assert!(matches!(
        verdict(sql, &got(&["a", "c"], &[3, 3])),
        Verdict::Differs(_)
    ));
    let sql = "SELECT city FROM civil.p GROUP BY city HAVING SUM(x) > 20";
    let got = |names: &[&str]| batch(vec![texts("city", names)]);
    assert_eq!(verdict(sql, &got(&["a"])), Verdict::Undecided);
    assert!(matches!(verdict(sql, &got(&["b", "c"])), Verdict::Shows(_)));
}

#[test]
fn groups_beside_public_rows_may_be_missing() {
    let sql = "SELECT r.code, g.city, g.n FROM tax.rates r LEFT JOIN \
               (SELECT city, COUNT(*) AS n FROM civil.p GROUP BY city) AS g ON g.city = r.code";
    let got = |city: &[Option<&str>], counts: &[Option<i64>]| {
        let cities = arrow::array::StringArray::from(city.to_vec());
        let field = arrow::datatypes::Field::new("city", arrow::datatypes::DataType::Utf8, true);
        batch(vec![
            texts("code", &["a", "b"]),
            (field, std::sync::Arc::new(cities)),
            nullable("n", counts),
        ])
    };
    let (a, b) = (Some("a"), Some("b"));
    assert_eq!(
        verdict(sql, &got(&[a, None], &[Some(3), None])),
        Verdict::Equal
    );
    assert_eq!(
        verdict(sql, &got(&[None, None], &[None, None])),
        Verdict::Undecided
    );
    let shows = verdict(sql, &got(&[a, b], &[Some(3), Some(1)]));
    assert!(matches!(shows, Verdict::Shows(_)), "{shows:?}");
}

#[test]
fn what_a_withheld_subquery_leaves_out_is_shown() {
    // Visits need 5 and have 4: compared with NULL, nobody is left.
    let oracle = world(2, 5);
    let sql =
        "SELECT COUNT(*) AS n, MAX(id) AS m FROM civil.p WHERE x > (SELECT AVG(cost) FROM tax.v)";
    let judgement = oracle.judge(sql).unwrap();
    let got = |n, m| batch(vec![nullable("n", &[n]), nullable("m", &[m])]);
    let verdict = |got: &RecordBatch| oracle.compare(&judgement, got, false, false);
    assert_eq!(verdict(&got(None, None)), Verdict::Equal);
    let shows = verdict(&got(Some(5), Some(6)));
    assert!(matches!(shows, Verdict::Shows(_)), "{shows:?}");
    assert_eq!(verdict(&got(Some(4), None)), Verdict::Undecided);
}

#[test]
fn floating_point_is_nearly_equal() {
    let sql = "SELECT city, AVG(id) AS m FROM civil.p GROUP BY city";
    let got = |mean: f64| {
        let means = arrow::array::Float64Array::from(vec![2.0, mean]);
        let field = arrow::datatypes::Field::new("m", arrow::datatypes::DataType::Float64, true);
        batch(vec![
            texts("city", &["a", "c"]),
            (field, std::sync::Arc::new(means)),
        ])
    };
    assert_eq!(verdict(sql, &got(5.5 + 1e-12)), Verdict::Equal);
    assert!(matches!(verdict(sql, &got(5.501)), Verdict::Differs(_)));
}
