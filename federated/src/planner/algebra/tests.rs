//! The 22 queries of TPC-H, cut into fragments: every fragment and then the rest run in the clear give
//! what the query gives.

use super::{Columns, Cut, build, cut, eager, fragment, localise};
use crate::error::Result;
use crate::local::clear_session;
use crate::planner::sql::optimised;
use crate::planner::text::Query;
use crate::planner::{Federation, Member};
use crate::policy::Leakage;
use crate::testing::tpch::{self, Split};
use arrow::array::{Array, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::DataType;
use datafusion::datasource::MemTable;
use std::sync::Arc;

fn run(sql: &str, tables: &[(String, RecordBatch)]) -> RecordBatch {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let context = clear_session();
        context.register_udf(crate::local::functions::average());
        for (name, batch) in tables {
            let table = MemTable::try_new(batch.schema(), vec![vec![batch.clone()]]).unwrap();
            context
                .register_table(name.as_str(), Arc::new(table))
                .unwrap();
        }
        let frame = context
            .sql(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}\n{error}"));
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let batches = frame
            .collect()
            .await
            .unwrap_or_else(|error| panic!("{sql}\n{error}"));
        concat_batches(&schema, &batches).unwrap()
    })
}

fn split_query(sql: &str, federation: &Federation) -> Result<(Cut, Columns, Vec<super::ColumnId>)> {
    let query = Query::parse(sql)?;
    let typed = optimised(&query, federation)?;
    let mut columns = Columns::default();
    let built = build(&query, federation, &mut columns, &typed.plan)?;
    let rel = eager(localise(built.rel, &mut columns)?, &mut columns)?;
    let cut = cut(rel, &built.output, &columns);
    Ok((cut, columns, built.output))
}

fn lines(batch: &RecordBatch, ordered: bool) -> Vec<String> {
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
    let mut lines: Vec<String> = (0..batch.num_rows())
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
        .collect();
    if !ordered {
        lines.sort();
    }
    lines
}

fn check(split: Split) {
    let departments = tpch::departments(split, 0.01, Leakage::Sizes, true).unwrap();
    let members = departments
        .iter()
        .map(|department| Member {
            department: department.name.clone(),
            catalog: department.published(),
            policy: department.policy.clone(),
        })
        .collect();
    let federation = Federation {
        members,
        tables: vec![],
    };
    let tables = |owner: Option<&str>| -> Vec<(String, RecordBatch)> {
        departments
            .iter()
            .filter(|department| owner.is_none_or(|owner| owner == department.name))
            .flat_map(|department| &department.tables)
            .map(|data| (data.table.name.clone(), data.rows.clone()))
            .collect()
    };
    let mut failed = Vec::new();
    for number in 1..=22 {
        let sql = tpch::query(number, split).unwrap();
        let (cut, columns, output) = match split_query(&sql, &federation) {
            Ok(split) => split,
            Err(error) => {
                failed.push(format!("{number}: {error}"));
                continue;
            }
        };
        let mut fragments = Vec::new();
        println!("== {number}");
        for (index, part) in cut.parts.iter().enumerate() {
            let text = fragment(&part.rel, &part.columns, &columns).unwrap();
            let rows = run(&text, &tables(Some(&part.department)));
            println!(
                "f{index} {} [{} rows]: {text}",
                part.department,
                rows.num_rows()
            );
            fragments.push((format!("f{index}"), rows));
        }
        let joint = fragment(&cut.rel, &output, &columns).unwrap();
        println!("joint: {joint}");
        let found = run(&joint, &fragments);
        let expected = run(&tpch::plain_query(number).unwrap(), &tables(None));
        let (found, expected) = (lines(&found, true), lines(&expected, true));
        println!("{} rows", expected.len());
        if found != expected {
            failed.push(format!(
                "{number}: {:?}\ninstead of {:?}",
                found.first(),
                expected.first()
            ));
        }
    }
    assert!(failed.is_empty(), "{split:?}:\n{}", failed.join("\n"));
}

#[test]
fn tpch_in_the_clear() {
    check(Split::Default);
}

#[test]
fn tpch_apart_in_the_clear() {
    check(Split::Apart);
}
