//! The 22 queries of TPC-H over four departments and over five, by all parties of a run on threads:
//! results are those of the engine over all tables in the clear.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "tpch/windows.rs"]
mod windows;

use std::path::Path;
use veilgate_federated::catalog::Unit;
use veilgate_federated::plan::explain::explain;
use veilgate_federated::plan::{decode, encode};
use veilgate_federated::planner::Strategy;
use veilgate_federated::policy::Leakage;
use veilgate_federated::testing::tpch::{self, Split, clear, lines};
use veilgate_federated::testing::{Department, Federation};

/// The scale factor, 0.01 unless `VEILGATE_TPCH_SCALE` says another.
fn scale() -> f64 {
    std::env::var("VEILGATE_TPCH_SCALE").map_or(0.01, |text| text.parse().unwrap())
}

fn federation(split: Split, folder: &Path, departments: Vec<Department>) -> Federation {
    let mut federation = Federation::new(folder, departments).unwrap();
    for (name, members) in split.federated() {
        let members: Vec<String> = members.iter().map(|&of| of.to_owned()).collect();
        federation.declare(name, &members).unwrap();
    }
    federation
}

/// Of these the plan over two departments' lineitems is looked at.
const HORIZONTAL_EXPLAINED: [usize; 2] = [1, 6];

fn check(split: Split, leakage: Leakage, scale: f64) {
    let folder = tempfile::tempdir().unwrap();
    let departments = tpch::departments(split, scale, leakage, true).unwrap();
    let tables = tpch::whole(&departments).unwrap();
    let mut federation = federation(split, folder.path(), departments);
    let only: Option<usize> = std::env::var("VEILGATE_TPCH")
        .ok()
        .map(|of| of.parse().unwrap());
    let mut failed = Vec::new();
    for number in (1..=22).filter(|number| only.is_none_or(|only| only == *number)) {
        let sql = tpch::query(number, split).unwrap();
        let answer = federation.run_query(&sql, "bureau", None);
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                failed.push(format!("{number}: {error}"));
                continue;
            }
        };
        let expected = clear(&tpch::plain_query(number).unwrap(), &tables).unwrap();
        let (found, expected) = (lines(&answer.batch), lines(&expected));
        if found != expected {
            failed.push(format!(
                "{number}: {} rows, {:?}\ninstead of {}, {:?}",
                found.len(),
                found.first(),
                expected.len(),
                expected.first()
            ));
        }
    }
    assert!(failed.is_empty(), "{split:?}:\n{}", failed.join("\n"));
}

#[test]
fn default_with_sizes() {
    check(Split::Default, Leakage::Sizes, scale());
}

#[test]
fn default_without_leakage() {
    check(Split::Default, Leakage::None, scale());
}

#[test]
fn apart_with_sizes() {
    check(Split::Apart, Leakage::Sizes, scale());
}

#[test]
fn apart_without_leakage() {
    check(Split::Apart, Leakage::None, scale());
}

#[test]
fn horizontal() {
    for leakage in [Leakage::Sizes, Leakage::None] {
        check(Split::Horizontal, leakage, scale());
    }
}

/// The privacy units of TPC-H's tables; nations and regions are public.
const UNITS: [(&str, &str); 6] = [
    ("customer", "c_custkey"),
    ("orders", "o_custkey"),
    ("lineitem", "l_orderkey"),
    ("supplier", "s_suppkey"),
    ("partsupp", "ps_suppkey"),
    ("part", "p_partkey"),
];

/// The same departments, whose rules ask for so many units of every table but public ones.
fn with_thresholds(mut departments: Vec<Department>, k: u32) -> Vec<Department> {
    for department in &mut departments {
        for data in &mut department.tables {
            let unit = UNITS.iter().find(|(name, _)| *name == data.table.name);
            data.table.unit = match unit {
                Some((_, unit)) => Unit::Column((*unit).to_owned()),
                None => Unit::None,
            };
        }
        if let Some(policy) = &mut department.policy {
            for rule in &mut policy.rules {
                if UNITS.iter().any(|(name, _)| *name == rule.table) {
                    rule.k = k;
                }
            }
        }
    }
    departments
}

#[test]
#[ignore = "for people: prints what becomes of every query under thresholds"]
fn what_becomes_of_every_query() {
    let folder = tempfile::tempdir().unwrap();
    let departments = tpch::departments(Split::Default, scale(), Leakage::Sizes, true).unwrap();
    let tables = tpch::whole(&departments).unwrap();
    let mut federation = federation(
        Split::Default,
        folder.path(),
        with_thresholds(departments, 3),
    );
    let only: Option<usize> = std::env::var("VEILGATE_TPCH")
        .ok()
        .map(|of| of.parse().unwrap());
    for number in (1..=22).filter(|number| only.is_none_or(|only| only == *number)) {
        let sql = tpch::query(number, Split::Default).unwrap();
        let expected = lines(&clear(&tpch::plain_query(number).unwrap(), &tables).unwrap());
        if only.is_some() {
            let planned = federation
                .plan(&sql, "bureau", Some(Strategy::Steps))
                .unwrap();
            println!("{}", explain(&planned, &[]));
        }
        #[allow(clippy::disallowed_methods)] // for people
        let start = std::time::Instant::now();
        match federation.run_query(&sql, "bureau", Some(Strategy::Steps)) {
            Ok(answer) => {
                let found = lines(&answer.batch);
                println!(
                    "{number}: {} of {} rows, equal {}, {:?} {:?}",
                    found.len(),
                    expected.len(),
                    found == expected,
                    found.first(),
                    start.elapsed()
                );
            }
            Err(error) => println!("{number}: {error}"),
        }
    }
}

#[test]
fn explain_is_as_blessed() {
    let folder = tempfile::tempdir().unwrap();
    let mut out = String::new();
    for (split, leakage) in [
        (Split::Default, Leakage::Sizes),
        (Split::Apart, Leakage::None),
        (Split::Horizontal, Leakage::None),
    ] {
        let departments = tpch::departments(split, 0.01, leakage, true).unwrap();
        let path = folder.path().join(format!("{split:?}"));
        let federation = federation(split, &path, departments);
        let numbers = match split {
            Split::Horizontal => HORIZONTAL_EXPLAINED.to_vec(),
            _ => (1..=22).collect(),
        };
        for number in numbers.iter().copied() {
            let sql = tpch::query(number, split).unwrap();
            let planned = federation.plan(&sql, "bureau", None).unwrap();
            let again = federation.plan(&sql, "bureau", None).unwrap();
            assert_eq!(planned, again, "query {number} is planned in two ways");
            out.push_str(&format!(
                "== {split:?} {number}\n{}\n",
                explain(&planned, &[])
            ));
            let owners = planned.plan.fragments.iter().map(|fragment| fragment.owner);
            let mut twice: Vec<usize> = owners.collect();
            let all = twice.len();
            twice.sort_unstable();
            twice.dedup();
            // Only where a query looks at a department twice: nations of two kinds, a subquery that
            // is joined with other departments' tables by itself.
            let due = matches!(number, 2 | 7 | 8 | 11 | 20);
            assert!(
                all == twice.len() || due,
                "query {number} has {all} fragments"
            );
        }
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tpch.txt");
    if std::env::var_os("VEILGATE_BLESS").is_some() {
        std::fs::write(path, &out).unwrap();
        return;
    }
    let blessed = std::fs::read_to_string(path).unwrap();
    for (have, want) in out.split("== ").zip(blessed.split("== ")) {
        assert_eq!(have, want, "\n{have}\n\nis not as blessed:\n\n{want}");
    }
    assert_eq!(out.len(), blessed.len(), "queries were added or removed");
}

#[test]
fn programs_are_read_without_trust() {
    let folder = tempfile::tempdir().unwrap();
    let departments = tpch::departments(Split::Apart, 0.01, Leakage::Sizes, true).unwrap();
    let federation = Federation::new(folder.path(), departments).unwrap();
    let queries = (1..=22).map(|number| tpch::query(number, Split::Apart).unwrap());
    for sql in queries.chain(windows::QUERIES.map(str::to_owned)) {
        let plan = federation.plan(&sql, "bureau", None).unwrap().plan;
        let bytes = encode(&plan);
        assert_eq!(*decode(&bytes).unwrap().plan(), plan);
        // Whatever is changed is another plan, or none; checking it neither panics nor hangs.
        for change in 0..100_usize {
            let mut other = bytes.clone();
            let at = change.wrapping_mul(7_919) % other.len();
            other[at] ^= u8::try_from(change % 255 + 1).unwrap();
            if let Ok(read) = decode(&other) {
                assert_ne!(*read.plan(), plan);
                let _ = federation.check(read.plan(), "bureau");
            }
        }
    }
}
