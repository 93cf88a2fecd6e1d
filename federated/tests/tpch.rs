//! The 22 queries of TPC-H over four departments and over five, by all parties of a run on threads:
//! results are those of the engine over all tables in the clear.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arrow::array::RecordBatch;
use veilgate_federated::policy::Leakage;
use veilgate_federated::testing::Federation;
use veilgate_federated::testing::tpch::{self, Split, clear, lines};

/// The scale factor, 0.01 unless `VEILGATE_TPCH_SCALE` says another.
fn scale() -> f64 {
    std::env::var("VEILGATE_TPCH_SCALE").map_or(0.01, |text| text.parse().unwrap())
}

fn check(split: Split, leakage: Leakage, scale: f64) {
    let folder = tempfile::tempdir().unwrap();
    let departments = tpch::departments(split, scale, leakage, true).unwrap();
    let tables: Vec<(String, RecordBatch)> = departments
        .iter()
        .flat_map(|department| &department.tables)
        .map(|data| (data.table.name.clone(), data.rows.clone()))
        .collect();
    let mut federation = Federation::new(folder.path(), departments).unwrap();
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
