//! Window functions, medians and percentiles over the tables of TPC-H: plans, answers, what is refused,
//! and by which rule.

use super::lines;
use arrow::array::RecordBatch;
use veilgate_federated::error::{Code, Error};
use veilgate_federated::plan::explain::explain;
use veilgate_federated::plan::program::{Relational, WindowFunction};
use veilgate_federated::plan::{Operator, decode, encode};
use veilgate_federated::policy::{AggregateFunction, Leakage, Use};
use veilgate_federated::testing::tpch::{self, Split, clear};
use veilgate_federated::testing::{Department, Federation};

/// Joint ones, then ones that a department computes alone.
pub(crate) const QUERIES: [&str; 6] = [
    "SELECT o_orderkey, RANK() OVER (PARTITION BY c_nationkey ORDER BY o_totalprice DESC) AS place, \
     SUM(o_totalprice) OVER (PARTITION BY c_nationkey ORDER BY o_orderdate) AS running, \
     AVG(c_acctbal) OVER (PARTITION BY c_nationkey) AS mean \
     FROM tax.customer JOIN port.orders ON c_custkey = o_custkey \
     WHERE o_orderdate < DATE '1992-03-01' ORDER BY o_orderkey",
    "SELECT c_mktsegment, MEDIAN(o_totalprice) AS middle, AVG(o_totalprice) AS mean, \
     percentile_cont(0.25) WITHIN GROUP (ORDER BY c_acctbal) AS quarter \
     FROM tax.customer JOIN port.orders ON c_custkey = o_custkey \
     GROUP BY c_mktsegment ORDER BY c_mktsegment",
    "SELECT c_nationkey, o_orderkey FROM (SELECT c_nationkey, o_orderkey, ROW_NUMBER() OVER \
     (PARTITION BY c_nationkey ORDER BY o_totalprice DESC, o_orderkey) AS place \
     FROM tax.customer JOIN port.orders ON c_custkey = o_custkey) AS ranked \
     WHERE place <= 2 ORDER BY c_nationkey, o_orderkey",
    "SELECT c_custkey, c_acctbal - LAG(c_acctbal, 1, 0) OVER (PARTITION BY c_nationkey ORDER BY \
     c_custkey) AS step, DENSE_RANK() OVER (ORDER BY c_nationkey) AS dense \
     FROM tax.customer ORDER BY c_custkey",
    "SELECT c_nationkey, MEDIAN(c_acctbal) AS middle, MEDIAN(c_custkey) AS key \
     FROM tax.customer GROUP BY c_nationkey ORDER BY c_nationkey",
    "SELECT percentile_cont(0.75) WITHIN GROUP (ORDER BY c_acctbal DESC) AS quarter, \
     AVG(c_acctbal) AS mean FROM tax.customer",
];

fn departments(scale: f64) -> Vec<Department> {
    tpch::departments(Split::Apart, scale, Leakage::Sizes, true).unwrap()
}

#[test]
fn windows_are_explained_as_blessed() {
    let folder = tempfile::tempdir().unwrap();
    let federation = Federation::new(folder.path(), departments(0.001)).unwrap();
    let mut out = String::new();
    for sql in QUERIES {
        let planned = federation.plan(sql, "bureau", None).unwrap();
        out.push_str(&format!("== {sql}\n{}\n", explain(&planned, &[])));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/windows.txt");
    if std::env::var_os("VEILGATE_BLESS").is_some() {
        std::fs::write(path, &out).unwrap();
        return;
    }
    let blessed = std::fs::read_to_string(path).unwrap();
    assert_eq!(out, blessed, "\n{out}");
}

#[test]
fn windows_are_those_of_the_engine() {
    let folder = tempfile::tempdir().unwrap();
    let departments = departments(0.001);
    let tables: Vec<(String, RecordBatch)> = departments
        .iter()
        .flat_map(|department| &department.tables)
        .map(|data| (data.table.name.clone(), data.rows.clone()))
        .collect();
    let mut federation = Federation::new(folder.path(), departments).unwrap();
    for sql in QUERIES {
        let answer = federation.run_query(sql, "bureau", None);
        let answer = answer.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let expected = clear(&sql.replace("tax.", "").replace("port.", ""), &tables).unwrap();
        assert!(expected.num_rows() > 0, "{sql}");
        assert_eq!(lines(&answer.batch), lines(&expected), "{sql}");
    }
}

#[test]
fn what_has_no_form_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let federation = Federation::new(folder.path(), departments(0.001)).unwrap();
    let cases = [
        (
            "SUM(c_acctbal) OVER (ORDER BY c_custkey ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)",
            "a window frame other than",
        ),
        (
            "SUM(c_acctbal) OVER (ORDER BY c_custkey RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)",
            "a window frame other than",
        ),
        (
            "SUM(c_acctbal) OVER (ORDER BY c_custkey GROUPS UNBOUNDED PRECEDING)",
            "a window frame other than",
        ),
        (
            "SUM(c_acctbal) OVER (ROWS UNBOUNDED PRECEDING)",
            "a frame of ROWS without an order",
        ),
        ("NTILE(4) OVER (ORDER BY c_custkey)", "NTILE"),
        (
            "FIRST_VALUE(c_custkey) OVER (ORDER BY c_custkey)",
            "FIRST_VALUE",
        ),
        ("MEDIAN(c_acctbal) OVER ()", "MEDIAN as a window function"),
        (
            "COUNT(DISTINCT c_custkey) OVER ()",
            "COUNT(DISTINCT ...) as a window function",
        ),
        (
            "LAG(c_custkey) IGNORE NULLS OVER (ORDER BY c_custkey)",
            "LAG with IGNORE NULLS",
        ),
        (
            "LAG(c_acctbal, c_custkey) OVER (ORDER BY c_custkey)",
            "LAG by anything but literals",
        ),
        ("MEDIAN(DISTINCT c_acctbal)", "MEDIAN with DISTINCT"),
        ("percentile_cont(c_acctbal, 0.1234567)", "at most 6 digits"),
        ("approx_median(c_acctbal)", "APPROX_MEDIAN"),
    ];
    for (function, due) in cases {
        let sql = format!("SELECT {function} AS v FROM tax.customer");
        let error = federation.plan(&sql, "bureau", None).unwrap_err();
        assert_eq!(error.code, Code::Unsupported, "{function}: {error}");
        assert!(error.message.contains(due), "{function}: {error}");
        assert!(error.position.is_some(), "{function}: {error}");
    }
}

/// The refusal of a query where `department` has no rule for this use of this table.
fn without(department: &str, table: &str, permits: &Use, sql: &str) -> Error {
    let folder = tempfile::tempdir().unwrap();
    let mut departments = departments(0.001);
    for of in departments.iter_mut().filter(|of| of.name == department) {
        let policy = of.policy.as_mut().unwrap();
        let before = policy.rules.len();
        let kept = |rule: &veilgate_federated::policy::Rule| {
            rule.table != table || rule.permits != *permits
        };
        policy.rules.retain(kept);
        assert_eq!(policy.rules.len() + 1, before);
    }
    let federation = Federation::new(folder.path(), departments).unwrap();
    let plan = federation.plan(sql, "bureau", None).unwrap().plan;
    federation.check(&plan, "bureau").unwrap_err()
}

#[test]
fn every_use_of_a_window_or_median_needs_its_rule() {
    let median = Use::Aggregate(AggregateFunction::Median);
    let sum = Use::Aggregate(AggregateFunction::Sum);
    let cases: [(usize, &str, &str, Use, &str); 13] = [
        (0, "port", "orders", Use::SortKey, "port.orders.o_"),
        (0, "port", "orders", sum.clone(), "port.orders.o_totalprice"),
        (0, "tax", "customer", sum, "tax.customer.c_acctbal"),
        // A rank tells how prices compare, and the running sum how days do.
        (0, "port", "orders", Use::Output, "port.orders.o_"),
        (
            0,
            "tax",
            "customer",
            Use::GroupKey,
            "tax.customer.c_nationkey",
        ),
        (
            1,
            "port",
            "orders",
            median.clone(),
            "port.orders.o_totalprice",
        ),
        (
            1,
            "tax",
            "customer",
            median.clone(),
            "tax.customer.c_acctbal",
        ),
        // Which rows are the first is a condition on what orders them.
        (2, "port", "orders", Use::Filter, "port.orders.o_"),
        (2, "port", "orders", Use::SortKey, "port.orders.o_"),
        // Inside a department.
        (3, "tax", "customer", Use::SortKey, "tax.customer.c_"),
        (3, "tax", "customer", Use::Output, "tax.customer.c_"),
        (4, "tax", "customer", median.clone(), "tax.customer.c_"),
        (5, "tax", "customer", median, "tax.customer.c_acctbal"),
    ];
    for (query, department, table, permits, column) in cases {
        let sql = QUERIES[query];
        let error = without(department, table, &permits, sql);
        assert_eq!(error.code, Code::PolicyDenied, "{sql}: {error}");
        let denial = error.denial.unwrap();
        assert_eq!(denial.department, department, "{sql} without {permits}");
        let asked = format!("{permits} of {}", denial.column);
        assert_eq!(denial.asked, asked, "{sql}");
        assert!(
            denial.column.starts_with(column),
            "{sql}: {}",
            denial.column
        );
    }
}

#[test]
fn windows_of_other_shapes_are_no_plans() {
    let folder = tempfile::tempdir().unwrap();
    let federation = Federation::new(folder.path(), departments(0.001)).unwrap();
    let plan = federation.plan(QUERIES[0], "bureau", None).unwrap().plan;
    let changes: [fn(&mut Relational); 6] = [
        |of| calls(of)[0].function = WindowFunction::Lag { by: 1 },
        |of| calls(of).iter_mut().for_each(|call| call.argument = None),
        |of| calls(of)[0].data_type = veilgate_federated::schema::ScalarType::Bool,
        |of| calls(of)[0].there = Some(calls(of)[0].variable),
        |of| calls(of).clear(),
        |of| {
            if let Relational::Window { partition, .. } = of {
                let key = partition[0];
                partition.push(key);
            }
        },
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut other = plan.clone();
        let Some(Operator::Program(program)) = other.operators.last_mut() else {
            panic!("no program");
        };
        let windows = program.operators.iter_mut();
        let mut windows = windows.filter(|of| matches!(of, Relational::Window { .. }));
        let window = windows.find(|of| {
            matches!(of, Relational::Window { calls, .. }
                if calls.iter().any(|call| matches!(call.function, WindowFunction::Sum(_))))
        });
        change(window.unwrap());
        let error = decode(&encode(&other)).unwrap_err();
        assert_eq!(error.code, Code::PeerMisbehaved, "change {at}: {error}");
    }
}

fn calls(of: &mut Relational) -> &mut Vec<veilgate_federated::plan::program::WindowCall> {
    match of {
        Relational::Window { calls, .. } => calls,
        _ => panic!("no window"),
    }
}
