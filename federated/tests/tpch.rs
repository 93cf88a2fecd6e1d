//! The 22 queries of TPC-H over four departments and over five, by all parties of a run on threads:
//! results are those of the engine over all tables in the clear.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arrow::array::{Array, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::DataType;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use std::sync::Arc;
use std::time::Instant;
use veilgate_federated::local::engine_config;
use veilgate_federated::policy::Leakage;
use veilgate_federated::testing::Federation;
use veilgate_federated::testing::tpch::{self, Split};

fn clear(sql: &str, tables: &[(String, RecordBatch)]) -> RecordBatch {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let context = SessionContext::new_with_config(engine_config());
        for (name, batch) in tables {
            let table = MemTable::try_new(batch.schema(), vec![vec![batch.clone()]]).unwrap();
            context
                .register_table(name.as_str(), Arc::new(table))
                .unwrap();
        }
        let frame = context.sql(sql).await.unwrap();
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let batches = frame.collect().await.unwrap();
        concat_batches(&schema, &batches).unwrap()
    })
}

/// Rows as text; floating point to six digits.
fn lines(batch: &RecordBatch) -> Vec<String> {
    let texts: Vec<StringArray> = batch
        .columns()
        .iter()
        .map(|column| {
            let column = match column.data_type() {
                DataType::Float64 => cast(column, &DataType::Decimal128(38, 6)).unwrap(),
                _ => Arc::clone(column),
            };
            let text = cast(&column, &DataType::Utf8).unwrap();
            text.as_any().downcast_ref::<StringArray>().unwrap().clone()
        })
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            let cells: Vec<&str> = texts
                .iter()
                .map(|text| match text.is_null(row) {
                    true => "NULL",
                    false => text.value(row),
                })
                .collect();
            cells.join("|")
        })
        .collect()
}

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
    let only: Option<usize> = std::env::var("VEILGATE_TPCH").ok().map(|of| of.parse().unwrap());
    let mut failed = Vec::new();
    for number in (1..=22).filter(|number| only.is_none_or(|only| only == *number)) {
        let sql = tpch::query(number, split).unwrap();
        let started = Instant::now();
        let answer = federation
            .plan_program(&sql, "bureau")
            .and_then(|planned| federation.run_plan(planned));
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                failed.push(format!("{number}: {error}"));
                continue;
            }
        };
        let took = started.elapsed();
        let traffic = answer.traffic.iter().flatten();
        let bytes: u64 = traffic.map(|of| of.bytes_sent).sum();
        println!("{number}: {took:?} {bytes} bytes");
        let expected = clear(&tpch::plain_query(number).unwrap(), &tables);
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
