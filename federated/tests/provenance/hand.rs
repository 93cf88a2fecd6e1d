//! Cases of which the answer was found by hand. In each, k = 2 unless it says otherwise.

use crate::oracle::{Judgement, Oracle};
use crate::tables::{behind, of_cell, rows, world};

/// Judges a query, and compares the clear answer and what is expected, in any order.
fn check_in(oracle: &Oracle, sql: &str, clear: &[&str], expected: &[&str]) -> Judgement {
    let judgement = oracle.judge(sql);
    let judgement = judgement.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let plan = oracle.explain(sql).unwrap();
    for (batch, due, what) in [
        (&judgement.clear, clear, "clear"),
        (&judgement.expected, expected, "expected"),
    ] {
        let mut got = rows(batch);
        let mut due: Vec<String> = due.iter().map(|&row| row.to_owned()).collect();
        if !sql.contains("ORDER BY") || sql.contains("OVER") {
            got.sort();
            due.sort();
        }
        assert_eq!(got, due, "{what} of {sql}\n{plan}\n{:#?}", judgement.groups);
    }
    judgement
}

fn check(sql: &str, clear: &[&str], expected: &[&str]) -> Judgement {
    check_in(&world(2, 2), sql, clear, expected)
}

#[test]
fn groups_of_few_are_withheld() {
    let sql = "SELECT city, COUNT(*) FROM civil.p GROUP BY city";
    let of = check(sql, &["a 3", "b 1", "c 2"], &["a 3", "c 2"]);
    assert_eq!(behind(&of, "a"), [3]);
    assert_eq!(behind(&of, "b"), [1]);
    check_in(&world(3, 1), sql, &["a 3", "b 1", "c 2"], &["a 3"]);
    check_in(
        &world(1, 1),
        sql,
        &["a 3", "b 1", "c 2"],
        &["a 3", "b 1", "c 2"],
    );
}

#[test]
fn a_sum_without_one_person_is_withheld() {
    // The rest of `a` is one person: what is over all rows of the group stays.
    let sql = "SELECT city, COUNT(*), SUM(id), SUM(x) FROM civil.p GROUP BY city";
    let clear = ["a 3 6 30", "b 1 4 40", "c 2 11 110"];
    let of = check(sql, &clear, &["a 3 6 NULL", "c 2 11 110"]);
    assert_eq!(of_cell(&of, "a", 2), [2]);
    assert_eq!(of_cell(&of, "a", 1), [3]);
    let group = of
        .groups
        .iter()
        .find(|g| g.keys[0].to_string() == "a")
        .unwrap();
    assert!(!group.atoms_ok && group.shown);
}

#[test]
fn filters_are_conditions() {
    let sql = "SELECT city, COUNT(*), COUNT(*) FILTER (WHERE flag) FROM civil.p GROUP BY city";
    let of = check(sql, &["a 3 2", "b 1 1", "c 2 1"], &["a 3 NULL", "c 2 NULL"]);
    assert_eq!(of_cell(&of, "c", 1), [1]);
    // Nobody is fewer than k.
    let sql = "SELECT COUNT(*) FILTER (WHERE city = 'z'), SUM(id) FROM civil.p";
    let of = check(sql, &["0 21"], &["NULL 21"]);
    assert!(of.groups[0].atoms_ok);
    // Over everybody: four, and two.
    let sql = "SELECT COUNT(*) FILTER (WHERE flag) FROM civil.p";
    check(sql, &["4"], &["4"]);
    check_in(&world(3, 1), sql, &["4"], &["NULL"]);
}

#[test]
fn case_is_a_filter() {
    let sql = "SELECT city, SUM(CASE WHEN flag THEN id ELSE 0 END) FROM civil.p GROUP BY city";
    let of = check(sql, &["a 3", "b 4", "c 5"], &["a NULL", "c NULL"]);
    assert_eq!(of_cell(&of, "a", 0), [2]);
    assert_eq!(of_cell(&of, "c", 0), [1]);
    let sql = "SELECT SUM(CASE WHEN city = 'a' THEN id ELSE 0 END), COUNT(CASE WHEN flag THEN 1 END) \
               FROM civil.p";
    // Atoms: 1 and 2; 3 alone.
    check(sql, &["6 4"], &["NULL NULL"]);
    let sql = "SELECT SUM(CASE WHEN city = 'a' THEN 2 * id ELSE 0 END) FROM civil.p";
    check(sql, &["12"], &["12"]);
    // However it is written.
    let sql = "SELECT city, SUM(3 * v) FROM (SELECT city, CASE WHEN flag THEN id ELSE 0 END AS v \
               FROM civil.p) AS i GROUP BY city";
    let of = check(sql, &["a 9", "b 12", "c 15"], &["a NULL", "c NULL"]);
    assert_eq!(of_cell(&of, "a", 0), [2]);
}

#[test]
fn branches_are_cells_each() {
    let sql =
        "SELECT SUM(CASE city WHEN 'a' THEN id WHEN 'b' THEN 2 * id ELSE 3 * id END) FROM civil.p";
    let of = check(sql, &["47"], &["NULL"]);
    assert_eq!(of_cell(&of, "", 0), [1]);
    let sql = "SELECT SUM(CASE WHEN city = 'a' THEN id ELSE 3 * id END) FROM civil.p";
    let of = check(sql, &["51"], &["51"]);
    assert_eq!(of_cell(&of, "", 0), [3]);
}

#[test]
fn coalesce_hides_no_null() {
    let sql = "SELECT city, SUM(COALESCE(x, 0)) FROM civil.p GROUP BY city";
    let of = check(sql, &["a 30", "b 40", "c 110"], &["a NULL", "c 110"]);
    assert_eq!(of_cell(&of, "a", 0), [2]);
    // The other branch is that of one person.
    let sql = "SELECT SUM(COALESCE(x, 7)) FROM civil.p";
    let of = check(sql, &["187"], &["NULL"]);
    assert_eq!(of_cell(&of, "", 0), [1]);
}

#[test]
fn two_nullable_columns_split_a_group_further() {
    // A linear form is over the rows where all of it is there.
    let sql = "SELECT SUM(p.x + v.cost) FROM civil.p p LEFT JOIN tax.v v ON p.id = v.person";
    let of = check(sql, &["154"], &["154"]);
    assert_eq!(behind(&of, ""), [6, 4]);
    assert_eq!(of_cell(&of, "", 0), [4, 4]);
    // Beside SUM(x), which 6 is in too: 6 alone, and 3 alone.
    let sql =
        "SELECT SUM(p.x + v.cost), SUM(p.x) FROM civil.p p LEFT JOIN tax.v v ON p.id = v.person";
    check(sql, &["154 190"], &["NULL NULL"]);
}

#[test]
fn inner_joins_count_both_sides() {
    let sql =
        "SELECT p.city, COUNT(*) FROM civil.p p JOIN tax.v v ON p.id = v.person GROUP BY p.city";
    let of = check(sql, &["a 3", "b 1", "c 1"], &["a 3"]);
    assert_eq!(behind(&of, "a"), [2, 2]);
    assert_eq!(of.scans.len(), 2);
    check_in(&world(2, 3), sql, &["a 3", "b 1", "c 1"], &[]);
}

#[test]
fn left_joins_have_nobody_where_there_is_no_partner() {
    let sql = "SELECT p.city, COUNT(*), SUM(v.cost) FROM civil.p p LEFT JOIN tax.v v ON p.id = v.person \
               GROUP BY p.city";
    let of = check(sql, &["a 4 21", "b 1 1", "c 2 2"], &["a 4 NULL"]);
    assert_eq!(behind(&of, "a"), [3, 2]);
    assert_eq!(behind(&of, "c"), [2, 1]);
    assert_eq!(of_cell(&of, "a", 1), [2, 2]);
    check_in(
        &world(2, 1),
        sql,
        &["a 4 21", "b 1 1", "c 2 2"],
        &["a 4 NULL", "c 2 NULL"],
    );
}

#[test]
fn missing_partners_are_nobody() {
    let sql = "SELECT COUNT(*) FROM civil.p p LEFT JOIN tax.v v ON p.id = v.person WHERE v.person IS NULL";
    let of = check(sql, &["2"], &["NULL"]);
    assert_eq!(behind(&of, ""), [2, 0]);
    check_in(&world(2, 1), sql, &["2"], &["2"]);
}

#[test]
fn full_joins_have_rows_of_either_side() {
    let sql = "SELECT COUNT(*), SUM(v.cost) FROM civil.p p FULL JOIN tax.v v ON p.id = v.person";
    let of = check(sql, &["8 27"], &["8 27"]);
    assert_eq!(behind(&of, ""), [6, 4]);
    // The row of nobody contributes, and counts for nobody.
    assert_eq!(of_cell(&of, "", 1), [4, 4]);
}

#[test]
fn semi_joins_count_all_that_match() {
    let sql = "SELECT COUNT(*) FROM civil.p WHERE id IN (SELECT person FROM tax.v)";
    let of = check(sql, &["4"], &["4"]);
    assert_eq!(behind(&of, ""), [4, 4]);
    let sql = "SELECT COUNT(*) FROM tax.rates r WHERE EXISTS \
               (SELECT 1 FROM civil.p p WHERE p.city = r.code AND p.id > 1)";
    let of = check(sql, &["2"], &["2"]);
    assert_eq!(behind(&of, ""), [3]);
    check_in(&world(4, 1), sql, &["2"], &["NULL"]);
}

#[test]
fn anti_joins_are_about_those_who_are_absent() {
    let sql = "SELECT COUNT(*) FROM civil.p p WHERE NOT EXISTS \
               (SELECT 1 FROM tax.v v WHERE v.person = p.id)";
    let of = check(sql, &["2"], &["2"]);
    assert_eq!(behind(&of, ""), [2, 2]);
    check_in(&world(2, 3), sql, &["2"], &["NULL"]);
    // Rates of one city that nobody lives in: one key.
    let sql = "SELECT COUNT(*) FROM tax.rates r WHERE NOT EXISTS \
               (SELECT 1 FROM civil.p p WHERE p.city = r.code AND p.id > 4)";
    let of = check(sql, &["2"], &["2"]);
    assert_eq!(behind(&of, ""), [2]);
}

#[test]
fn not_in_knows_null() {
    let sql = "SELECT COUNT(*) FROM civil.p WHERE id NOT IN (SELECT person FROM tax.v)";
    let of = check(sql, &["0"], &["NULL"]);
    assert_eq!(behind(&of, ""), [0, 0]);
    let sql = "SELECT COUNT(*) FROM civil.p WHERE id NOT IN \
               (SELECT person FROM tax.v WHERE person IS NOT NULL)";
    let of = check(sql, &["2"], &["2"]);
    assert_eq!(behind(&of, ""), [2, 2]);
    // What is NULL is not in and not not in, unless there is nothing.
    let sql =
        "SELECT COUNT(*) FROM tax.v WHERE person NOT IN (SELECT id FROM civil.p WHERE id < 3)";
    check(sql, &["2"], &["2"]);
    let sql =
        "SELECT COUNT(*) FROM tax.v WHERE person NOT IN (SELECT id FROM civil.p WHERE id > 9)";
    let of = check(sql, &["6"], &["6"]);
    assert_eq!(behind(&of, ""), [4, 4]);
}

#[test]
fn a_mark_is_about_those_who_match_and_those_who_do_not() {
    let sql = "SELECT city, COUNT(*) FROM civil.p p WHERE id = 3 OR EXISTS \
               (SELECT 1 FROM tax.v v WHERE v.person = p.id) GROUP BY city";
    let of = check(sql, &["a 3", "b 1", "c 1"], &["a 3"]);
    assert_eq!(behind(&of, "a"), [3, 3]);
    assert_eq!(behind(&of, "c"), [1, 1]);
}

#[test]
fn scalar_subqueries_need_their_own_k() {
    let sql = "SELECT COUNT(*) FROM civil.p WHERE x > (SELECT AVG(cost) FROM tax.v)";
    let of = check(sql, &["5"], &["5"]);
    assert_eq!(behind(&of, ""), [5, 4]);
    // Compared with NULL, no row is left.
    check_in(&world(2, 5), sql, &["5"], &["NULL"]);
    check_in(&world(1, 5), sql, &["5"], &["NULL"]);
}

#[test]
fn correlated_subqueries_need_it_for_every_row() {
    let sql = "SELECT COUNT(*) FROM civil.p p WHERE x > \
               (SELECT SUM(cost) FROM tax.v v WHERE v.person = p.id)";
    check(sql, &["3"], &["NULL"]);
    let of = check_in(&world(2, 1), sql, &["3"], &["3"]);
    assert_eq!(behind(&of, ""), [3, 3]);
}

#[test]
fn subqueries_of_the_result_are_groups() {
    let sql = "SELECT (SELECT COUNT(*) FROM civil.p) AS a, (SELECT SUM(cost) FROM tax.v) AS b";
    let of = check(sql, &["6 27"], &["6 27"]);
    assert_eq!(of.groups.len(), 2);
    check_in(&world(2, 5), sql, &["6 27"], &["6 NULL"]);
}

#[test]
fn inner_groups_are_not_withheld() {
    let sql = "SELECT n, COUNT(*) FROM (SELECT city, COUNT(*) AS n FROM civil.p GROUP BY city) AS g \
               GROUP BY n";
    let of = check(sql, &["1 1", "2 1", "3 1"], &["2 1", "3 1"]);
    assert_eq!(behind(&of, "2"), [2]);
    let sql =
        "SELECT MAX(n), SUM(n) FROM (SELECT city, COUNT(*) AS n FROM civil.p GROUP BY city) AS g";
    let of = check(sql, &["3 6"], &["3 6"]);
    assert_eq!(behind(&of, ""), [6]);
}

#[test]
fn distinct_values_count_people() {
    let sql = "SELECT COUNT(DISTINCT city), COUNT(DISTINCT id) FROM civil.p";
    check(sql, &["3 6"], &["3 6"]);
    let sql = "SELECT COUNT(DISTINCT city), COUNT(DISTINCT x) FROM civil.p";
    check(sql, &["3 5"], &["3 NULL"]);
    let sql = "SELECT DISTINCT city FROM civil.p";
    check(sql, &["a", "b", "c"], &["a", "c"]);
}

#[test]
fn members_of_a_union_count_each_for_itself() {
    let sql = "SELECT city, COUNT(*) FROM (SELECT id, city FROM civil.p UNION ALL \
               SELECT id, city FROM north.p) AS u GROUP BY city";
    let of = check(sql, &["a 5", "b 1", "c 2", "d 2"], &["a 5"]);
    assert_eq!(behind(&of, "a"), [3, 2]);
    assert_eq!(behind(&of, "d"), [0, 2]);
    let sql = "SELECT kind, SUM(price) FROM trade.twice GROUP BY kind";
    let of = check(sql, &["m 14", "n 16"], &["m 14"]);
    assert_eq!(behind(&of, "m"), [3, 3]);
}

#[test]
fn members_of_one_space_count_together() {
    let mut oracle = world(2, 2);
    oracle.together(&["civil.p", "north.p"]);
    let sql = "SELECT city, COUNT(*) FROM (SELECT id, city FROM civil.p UNION ALL \
               SELECT id, city FROM north.p) AS u GROUP BY city";
    let expected = ["a 5", "c 2", "d 2"];
    let of = check_in(&oracle, sql, &["a 5", "b 1", "c 2", "d 2"], &expected);
    // The first of `a` is known to both.
    assert_eq!(behind(&of, "a"), [4]);
    let sql = "SELECT COUNT(*) FROM tax.rates r WHERE NOT EXISTS (SELECT 1 FROM \
               (SELECT city FROM civil.p UNION ALL SELECT city FROM north.p) AS u WHERE u.city = r.code)";
    let of = check_in(&oracle, sql, &["0"], &["NULL"]);
    assert_eq!(behind(&of, ""), [0]);
}

#[test]
fn one_result_for_all_stays() {
    let sql = "SELECT COUNT(*), SUM(id) FROM civil.p WHERE city = 'b'";
    check(sql, &["1 4"], &["NULL NULL"]);
    let sql = "SELECT COUNT(*), SUM(id) FROM civil.p WHERE city = 'z'";
    check(sql, &["0 NULL"], &["NULL NULL"]);
    check_in(&world(1, 1), sql, &["0 NULL"], &["0 NULL"]);
}

#[test]
fn having_looks_at_what_is_left() {
    let sql = "SELECT city FROM civil.p GROUP BY city HAVING SUM(x) > 20";
    let of = check(sql, &["a", "b", "c"], &["c"]);
    assert!(of.loose);
    let sql = "SELECT city FROM civil.p GROUP BY city HAVING SUM(x) IS NULL";
    check(sql, &[], &["a"]);
    let sql = "SELECT city FROM civil.p GROUP BY city HAVING COUNT(*) IS NULL OR city < 'c'";
    check(sql, &["a", "b"], &["a"]);
}

#[test]
fn limits_and_orders_do_too() {
    let sql = "SELECT city, COUNT(*) AS n FROM civil.p GROUP BY city ORDER BY city DESC LIMIT 2";
    let of = check(sql, &["c 2", "b 1"], &["c 2", "a 3"]);
    assert!(of.loose);
    let sql = "SELECT city, SUM(x) AS s FROM civil.p GROUP BY city ORDER BY s";
    let of = check(sql, &["a 30", "b 40", "c 110"], &["c 110", "a NULL"]);
    assert!(of.loose_order && !of.loose);
    let sql = "SELECT city, SUM(x) AS s FROM civil.p GROUP BY city ORDER BY s DESC LIMIT 1";
    check(sql, &["c 110"], &["a NULL"]);
}

#[test]
fn windows_over_groups_do_too() {
    let sql = "SELECT city, RANK() OVER (ORDER BY COUNT(*)) AS r, SUM(COUNT(*)) OVER () AS s \
               FROM civil.p GROUP BY city";
    let of = check(sql, &["a 3 6", "b 1 6", "c 2 6"], &["a 2 5", "c 1 5"]);
    assert_eq!(of.groups.len(), 3);
}

#[test]
fn expressions_need_all_of_their_cells() {
    let sql = "SELECT city, SUM(x) / COUNT(*) AS mean, SUM(id) + COUNT(*) AS both FROM civil.p \
               GROUP BY city";
    check(
        sql,
        &["a 10 9", "b 40 5", "c 55 13"],
        &["a NULL 9", "c 55 13"],
    );
    let sql = "SELECT city, COALESCE(SUM(x), -1) AS s FROM civil.p GROUP BY city";
    check(sql, &["a 30", "b 40", "c 110"], &["a -1", "c 110"]);
}

#[test]
fn rows_of_nobody_count_for_nobody() {
    check(
        "SELECT COUNT(*) FROM tax.v WHERE cost = 3",
        &["1"],
        &["NULL"],
    );
    let of = check("SELECT COUNT(*) FROM tax.v", &["6"], &["6"]);
    assert_eq!(behind(&of, ""), [4]);
}

#[test]
fn rows_can_be_units_and_public_data_is_free() {
    let sql = "SELECT kind, SUM(price) FROM trade.items GROUP BY kind";
    check(sql, &["m 7", "n 8"], &["m 7"]);
    let sql = "SELECT code, SUM(rate) FROM tax.rates GROUP BY code";
    let of = check(sql, &["a 2", "b 3"], &["a 2", "b 3"]);
    assert_eq!(of.scans.len(), 0);
    let sql = "SELECT r.code, SUM(p.id * r.rate) FROM tax.rates r JOIN civil.p p ON p.city = r.code \
               GROUP BY r.code";
    check(sql, &["a 12", "b 12"], &["a 12"]);
}

#[test]
fn rows_are_releases_of_their_own() {
    check("SELECT id FROM civil.p WHERE id < 3", &["1", "2"], &[]);
    check_in(
        &world(1, 2),
        "SELECT id FROM civil.p WHERE id < 3",
        &["1", "2"],
        &["1", "2"],
    );
    check("SELECT code FROM tax.rates", &["a", "b"], &["a", "b"]);
    // Those of whom two visits tell.
    let sql = "SELECT r.code FROM tax.rates r WHERE r.rate < (SELECT COUNT(*) FROM tax.v)";
    check(sql, &["a", "b"], &["a", "b"]);
    check_in(&world(2, 5), sql, &["a", "b"], &[]);
}

#[test]
fn a_table_that_is_used_twice_counts_twice() {
    let sql = "SELECT a.city, COUNT(*) FROM civil.p a JOIN civil.p b ON a.city = b.city AND b.id > 1 \
               GROUP BY a.city";
    let of = check(sql, &["a 6", "b 1", "c 4"], &["a 6", "c 4"]);
    assert_eq!(behind(&of, "a"), [3, 2]);
    let sql = "WITH g AS (SELECT city, COUNT(*) AS n FROM civil.p GROUP BY city) \
               SELECT a.city, a.n, b.n AS m FROM g a JOIN g b ON a.city = b.city";
    let of = check(sql, &["a 3 3", "b 1 1", "c 2 2"], &["a 3 3", "c 2 2"]);
    assert_eq!(of.groups.len(), 6);
}

#[test]
fn set_operations_are_groups_and_joins() {
    let sql = "SELECT city FROM civil.p INTERSECT SELECT city FROM north.p";
    let of = check(sql, &["a"], &["a"]);
    assert_eq!(of.scans.len(), 2);
    let sql = "SELECT city FROM civil.p UNION SELECT code FROM tax.rates";
    check(sql, &["a", "b", "c"], &["a", "c"]);
}

#[test]
fn windows_below_groups_show_their_frames() {
    // Both of `c` have their sum over both.
    let sql = "SELECT city, MAX(s) FROM (SELECT city, SUM(id) OVER (PARTITION BY city) AS s FROM civil.p) \
               AS w GROUP BY city";
    let of = check(sql, &["a 6", "b 4", "c 11"], &["a 6", "c 11"]);
    assert_eq!(of_cell(&of, "c", 0), [2]);
    // The first of `a` looks at himself alone; who is not first, at himself too.
    let sql = "SELECT SUM(s) FILTER (WHERE id = 2) FROM (SELECT id, SUM(id) OVER (ORDER BY id) AS s \
               FROM civil.p) AS w";
    let of = check(sql, &["3"], &["NULL"]);
    assert_eq!(of_cell(&of, "", 0), [2]);
    assert!(!of.groups[0].atoms_ok);
}

#[test]
fn what_it_does_not_know_it_names() {
    let oracle = world(2, 2);
    for (sql, what) in [
        ("SELECT city FROM civil.p GROUP BY ROLLUP (city)", "ROLLUP"),
        ("SELECT * FROM (VALUES (1)) AS t", "Values"),
        ("SELECT array_agg(id) FROM civil.p", "array_agg"),
        (
            "SELECT COUNT(*) FROM civil.p p WHERE NOT EXISTS (SELECT 1 FROM tax.v v WHERE v.cost > p.x)",
            "without equality",
        ),
        (
            "SELECT SUM(x) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM civil.p",
            "the frame",
        ),
        ("SELECT nothing FROM civil.p", "nothing"),
    ] {
        let error = oracle.judge(sql).unwrap_err();
        assert!(error.contains(what), "{sql}: {error}");
    }
}
