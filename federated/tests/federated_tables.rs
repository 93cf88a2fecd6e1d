//! Tables whose rows several departments hold: what may be declared, what a query over one means, and what
//! the size of a member shows.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use std::sync::Arc;
use veilgate_federated::catalog::{Canonical, Column, Format, Table, Unit};
use veilgate_federated::error::Code;
use veilgate_federated::plan::{Operator, PublicSize};
use veilgate_federated::planner::FederatedTable;
use veilgate_federated::policy::{Leakage, Rule, Use};
use veilgate_federated::testing::{
    Answer, Department, Federation, Recorder, TableData, open_policy,
};

fn column(name: &str, data_type: &str) -> Column {
    let json = serde_json::json!({ "name": name, "type": data_type, "nullable": false });
    serde_json::from_value(json).unwrap()
}

fn coded() -> Column {
    Column {
        codes: ["east", "north", "west"].map(str::to_owned).to_vec(),
        ..column("code", "utf8")
    }
}

/// Code and number of each row.
type Rows<'a> = &'a [(&'a str, i64)];

fn department(name: &str, columns: Vec<Column>, rows: Rows<'_>, leakage: Leakage) -> Department {
    let arrays = columns.iter().map(|of| {
        let array: ArrayRef = match of.name.as_str() {
            "x" => Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, x)| *x))),
            _ => Arc::new(StringArray::from_iter_values(
                rows.iter().map(|(code, _)| *code),
            )),
        };
        (of.name.clone(), array, false)
    });
    let stored = RecordBatch::try_from_iter_with_nullable(arrays).unwrap();
    let seats = vec![["bureau", "north", "south"].map(str::to_owned)];
    let mut policy = open_policy(name, &["t"], 1, leakage, seats);
    policy.rules.push(Rule {
        name: format!("{name}.t.*/output"),
        table: "t".to_owned(),
        column: "*".to_owned(),
        permits: Use::Output,
        k: 1,
        leakage,
        recipients: vec![],
        purposes: Vec::new(),
        case: false,
        weights: None,
    });
    Department {
        name: name.to_owned(),
        tables: vec![TableData {
            table: Table {
                name: "t".to_owned(),
                description: String::new(),
                key: vec![],
                unit: Unit::Row,
                max_rows: 100,
                columns,
            },
            rows: stored,
            format: Format::Parquet,
        }],
        policy: Some(policy),
    }
}

fn world(north: Rows<'_>, south: Rows<'_>, leakage: Leakage) -> (Federation, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let departments = vec![
        Department::neutral("bureau"),
        department("north", vec![coded(), column("x", "int64")], north, leakage),
        // Columns in another order.
        department("south", vec![column("x", "int64"), coded()], south, leakage),
    ];
    let mut federation = Federation::new(folder.path(), departments).unwrap();
    let members = ["north.t", "south.t"].map(str::to_owned);
    federation.declare("national.t", &members).unwrap();
    (federation, folder)
}

const NORTH: Rows<'_> = &[("east", 1), ("east", 2), ("north", 3), ("west", 40)];
const SOUTH: Rows<'_> = &[("east", 10), ("north", 20), ("north", 20)];

const GROUPED: &str = "SELECT code, COUNT(*) AS n, SUM(x) AS s, AVG(x) AS a, COUNT(DISTINCT x) AS d \
                       FROM national.t WHERE x < 30 GROUP BY code ORDER BY code";
const SHOWN: &str = "SELECT x FROM national.t t WHERE t.code <> 'west' ORDER BY x LIMIT 4";

fn numbers(answer: &Answer, column: usize) -> Vec<i64> {
    let column = answer.batch.column(column).as_primitive::<Int64Type>();
    column.values().to_vec()
}

#[test]
fn a_federated_table_is_the_union_of_its_members() {
    for leakage in [Leakage::Sizes, Leakage::None] {
        let (mut federation, _folder) = world(NORTH, SOUTH, leakage);
        let answer = federation.run_query(GROUPED, "south", None).unwrap();
        assert_eq!(numbers(&answer, 1), [3, 3]);
        assert_eq!(numbers(&answer, 2), [13, 43]);
        assert_eq!(numbers(&answer, 4), [3, 2]);
        let answer = federation.run_query(SHOWN, "south", None).unwrap();
        assert_eq!(numbers(&answer, 0), [1, 2, 3, 10]);
        // A global aggregate over no rows at all.
        let none = "SELECT COUNT(*) AS n, SUM(x) AS s FROM national.t WHERE x > 1000";
        let answer = federation.run_query(none, "south", None).unwrap();
        assert_eq!(numbers(&answer, 0), [0]);
        assert!(answer.batch.column(1).is_null(0));
        let all = "SELECT COUNT(*) AS n, SUM(x) AS s FROM national.t";
        let answer = federation.run_query(all, "south", None).unwrap();
        assert_eq!(
            (numbers(&answer, 0), numbers(&answer, 1)),
            (vec![7], vec![96])
        );
    }
}

#[test]
fn every_member_groups_alone() {
    let (federation, _folder) = world(NORTH, SOUTH, Leakage::None);
    let sql =
        "SELECT code, COUNT(*) AS n, SUM(x * 2) AS s FROM national.t WHERE x < 30 GROUP BY code";
    let planned = federation.plan(sql, "south", None).unwrap();
    assert_eq!(planned.plan.fragments.len(), 2);
    for fragment in &planned.plan.fragments {
        assert!(fragment.sql.contains("GROUP BY"), "{}", fragment.sql);
        assert!(fragment.sql.contains("< 30"), "{}", fragment.sql);
        // Three codes.
        assert_eq!(fragment.size, PublicSize::Declared(3));
    }
    assert!(matches!(
        planned.plan.operators.last(),
        Some(Operator::Program(_))
    ));
    federation.check(&planned.plan, "south").unwrap();
}

/// A message by which data enters: step, who, to whom, how long, and what it says where that is a size.
type Entering = (String, u8, u8, usize, Vec<u8>);

/// The answer, and every message by which data enters.
fn recorded(federation: &mut Federation, sql: &str) -> (Answer, Vec<Entering>) {
    let recorder = Recorder::default();
    federation.recorder = Some(recorder.clone());
    let answer = federation.run_query(sql, "north", None).unwrap();
    let mut shown: Vec<_> = recorder
        .take()
        .into_iter()
        .filter(|frame| frame.step.starts_with("sizes") || frame.step.starts_with("input"))
        .map(|frame| {
            let (length, size) = (frame.payload.len(), frame.step.starts_with("sizes"));
            let said = if size { frame.payload } else { vec![] };
            (frame.step, frame.from.0, frame.to.0, length, said)
        })
        .collect();
    shown.sort();
    assert!(shown.iter().any(|(step, ..)| step.starts_with("input")));
    (answer, shown)
}

#[test]
fn a_member_without_rows_is_as_large_as_another() {
    for leakage in [Leakage::Sizes, Leakage::None] {
        let (mut some, _one) = world(NORTH, SOUTH, leakage);
        let (mut none, _other) = world(NORTH, &[], leakage);
        for sql in [GROUPED, SHOWN] {
            let (with, shown) = recorded(&mut some, sql);
            let (without, shown_of_none) = recorded(&mut none, sql);
            assert_eq!(with.planned, without.planned);
            assert_ne!(with.batch, without.batch);
            let due = match leakage {
                Leakage::Sizes => PublicSize::Bucket,
                _ => PublicSize::Declared(100),
            };
            for fragment in &with.planned.plan.fragments {
                assert_eq!(fragment.size, due, "{sql}");
            }
            assert_eq!(shown, shown_of_none, "{leakage:?} {sql}");
            let announced = shown.iter().filter(|(step, ..)| step.starts_with("sizes"));
            let announced: Vec<_> = announced.map(|(.., size)| size.clone()).collect();
            match leakage {
                Leakage::Sizes => {
                    assert!(!announced.is_empty());
                    assert!(announced.iter().all(|size| *size == 128_u64.to_le_bytes()));
                }
                _ => assert!(announced.is_empty()),
            }
        }
    }
}

#[test]
fn rules_are_the_members_own() {
    let folder = tempfile::tempdir().unwrap();
    let columns = || vec![coded(), column("x", "int64")];
    let mut south = department("south", columns(), SOUTH, Leakage::Sizes);
    if let Some(policy) = &mut south.policy {
        policy.rules.retain(|rule| rule.permits != Use::Output);
    }
    let departments = vec![
        Department::neutral("bureau"),
        department("north", columns(), NORTH, Leakage::Sizes),
        south,
    ];
    let mut federation = Federation::new(folder.path(), departments).unwrap();
    let members = ["north.t", "south.t"].map(str::to_owned);
    federation.declare("national.t", &members).unwrap();
    let planned = federation.plan(SHOWN, "north", None).unwrap();
    let error = federation.check(&planned.plan, "north").unwrap_err();
    assert_eq!(error.code, Code::PolicyDenied);
    assert!(
        error.message.contains("south does not allow output"),
        "{error}"
    );
}

#[test]
fn members_that_differ_are_named() {
    let with = |columns: Vec<Column>| {
        let folder = tempfile::tempdir().unwrap();
        let departments = vec![
            Department::neutral("bureau"),
            department(
                "north",
                vec![coded(), column("x", "int64")],
                NORTH,
                Leakage::None,
            ),
            department("south", columns, &[], Leakage::None),
        ];
        let mut federation = Federation::new(folder.path(), departments).unwrap();
        let members = ["north.t", "south.t"].map(str::to_owned);
        federation.declare("national.t", &members).unwrap();
        // Only who asks for it is told.
        federation
            .plan("SELECT SUM(x) AS s FROM north.t", "north", None)
            .unwrap();
        federation
            .plan("SELECT COUNT(*) AS n FROM national.t", "north", None)
            .unwrap_err()
    };
    let plain = column("code", "utf8");
    for (columns, due) in [
        (
            vec![column("x", "int64")],
            "national.t: south.t has no column code",
        ),
        (
            vec![coded(), column("x", "int64"), column("y", "utf8")],
            "national.t: north.t has no column y",
        ),
        (
            vec![plain.clone(), column("x", "int64")],
            "national.t: column code has two code lists in north.t and south.t",
        ),
        (
            vec![
                Column {
                    canonical: vec![Canonical::Trim],
                    ..coded()
                },
                column("x", "int64"),
            ],
            "national.t: column code has two canonical forms in north.t and south.t",
        ),
    ] {
        let error = with(columns);
        assert_eq!((error.code, error.message.as_str()), (Code::BadConfig, due));
    }
    let other = Column {
        data_type: veilgate_federated::catalog::parse_type("decimal(9,0)").unwrap(),
        ..column("x", "int64")
    };
    let folder = tempfile::tempdir().unwrap();
    let mut south = department(
        "south",
        vec![coded(), column("x", "int64")],
        SOUTH,
        Leakage::None,
    );
    south.tables[0].table.columns[1] = other;
    let departments = vec![
        Department::neutral("bureau"),
        department(
            "north",
            vec![coded(), column("x", "int64")],
            NORTH,
            Leakage::None,
        ),
        south,
    ];
    let mut federation = Federation::new(folder.path(), departments).unwrap();
    for (name, members, code, due) in [
        (
            "national.t",
            ["north.t", "south.t"],
            Code::BadConfig,
            "national.t: column x is int64 in north.t and decimal(9,0) in south.t",
        ),
        (
            "other.t",
            ["north.t", "east.t"],
            Code::UnknownTable,
            "there is no table east.t, a member of other.t",
        ),
        (
            "third.t",
            ["north.t", "bureau.t"],
            Code::UnknownTable,
            "there is no table bureau.t, a member of third.t",
        ),
        (
            "bureau.t",
            ["north.t", "south.t"],
            Code::BadConfig,
            "bureau.t: a department is named `bureau` too",
        ),
    ] {
        federation
            .declare(name, &members.map(str::to_owned))
            .unwrap();
        let sql = format!("SELECT COUNT(*) AS n FROM {name}");
        let error = federation.plan(&sql, "north", None).unwrap_err();
        assert_eq!((error.code, error.message.as_str()), (code, due));
    }
    let error = federation.plan("SELECT COUNT(*) AS n FROM national.u", "north", None);
    assert_eq!(error.unwrap_err().code, Code::UnknownTable);
}

#[test]
fn names_that_are_none_are_refused() {
    let members = |of: &[&str]| of.iter().map(|&of| of.to_owned()).collect::<Vec<_>>();
    for (name, of, due) in [
        ("t", &["a.t", "b.t"][..], "`t` is not `department.table`"),
        ("A.t", &["a.t", "b.t"], "`A.t` is not `department.table`"),
        ("n.t", &["a.t", "b"], "`b` is not `department.table`"),
        ("n.t", &["a.t"], "n.t needs 2 to 64 members"),
        ("n.t", &["a.t", "a.t"], "n.t has a.t twice"),
        ("n.t", &["n.t", "a.t"], "n.t has a member in `n`"),
    ] {
        let error = FederatedTable::new(name, &members(of)).unwrap_err();
        assert!(error.starts_with(due), "{error}");
    }
    let table = FederatedTable::new("n.t", &members(&["a.t", "a.u"])).unwrap();
    assert_eq!((table.name(), table.members().len()), ("n.t".to_owned(), 2));
}
