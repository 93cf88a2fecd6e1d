//! Golden files of results, refusals and `EXPLAIN` (`tests/slt`, in the format of sqllogictest), over a small
//! federation. Every answer is compared with the engine's over all tables in the clear as well, so that a
//! golden file cannot be wrong in the same way. `just bless` rewrites them.
//!
//! In `open` no rule asks for more than one unit, and rows may leave; in `guarded` every rule has k = 3.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "slt/fixture.rs"]
mod fixture;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use sqllogictest::{DB, DBOutput, DefaultColumnType, Runner};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use veilgate_federated::plan::explain::explain;
use veilgate_federated::plan::program::Relational;
use veilgate_federated::plan::{JointPlan, Operator};
use veilgate_federated::testing::Federation;
use veilgate_federated::testing::tpch::clear;

/// What a query fails with: a code and a message.
#[derive(Debug)]
struct Failed(String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failed {}

impl From<veilgate_federated::error::Error> for Failed {
    fn from(error: veilgate_federated::error::Error) -> Self {
        let denial = error.denial.as_ref();
        let rule = denial.map_or_else(String::new, |denial| format!(" ({})", denial.rule));
        let place = error.position.map_or_else(String::new, |at| {
            format!(" at line {}, column {}", at.0, at.1)
        });
        Self(format!(
            "{}: {}{rule}{place}",
            error.code.name(),
            error.message
        ))
    }
}

struct World {
    federation: Federation,
    tables: Vec<(String, RecordBatch)>,
}

impl World {
    fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Failed> {
        if let Some(sql) = sql.strip_prefix("EXPLAIN ") {
            let planned = self.federation.plan(sql, "civil", None)?;
            self.federation.check(&planned.plan, "civil")?;
            let text = explain(&planned, &[]);
            let lines = text.lines().filter(|line| !line.is_empty());
            return Ok(DBOutput::Rows {
                types: vec![DefaultColumnType::Text],
                rows: lines.map(|line| vec![line.to_owned()]).collect(),
            });
        }
        let answer = self.federation.run_query(sql, "civil", None)?;
        let rows = cells(&answer.batch);
        // Below thresholds the answer is not the engine's.
        if !is_guarded(&answer.planned.plan) {
            let plain = ["civil.", "tax.", "social."]
                .iter()
                .fold(sql.to_owned(), |sql, of| sql.replace(of, ""));
            let expected = clear(&plain, &self.tables)?;
            let (mut found, mut due) = (rows.clone(), cells(&expected));
            found.sort_unstable();
            due.sort_unstable();
            assert_eq!(found, due, "not as in the clear: {sql}");
        }
        let schema = answer.batch.schema();
        Ok(DBOutput::Rows {
            types: schema
                .fields()
                .iter()
                .map(|field| match field.data_type() {
                    DataType::Int64 => DefaultColumnType::Integer,
                    DataType::Float64 | DataType::Decimal128(..) => {
                        DefaultColumnType::FloatingPoint
                    }
                    _ => DefaultColumnType::Text,
                })
                .collect(),
            rows,
        })
    }
}

fn is_guarded(plan: &JointPlan) -> bool {
    match plan.operators.last() {
        Some(Operator::Program(program)) => program
            .operators
            .iter()
            .any(|of| matches!(of, Relational::Guard { .. })),
        _ => true,
    }
}

fn cells(batch: &RecordBatch) -> Vec<Vec<String>> {
    let options = FormatOptions::default().with_null("NULL");
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options).unwrap())
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            let row = columns.iter().map(|column| column.value(row).to_string());
            row.map(|cell| match cell.is_empty() {
                true => "(empty)".to_owned(),
                false => cell,
            })
            .collect()
        })
        .collect()
}

#[derive(Clone)]
struct Connection(Arc<Mutex<World>>);

impl DB for Connection {
    type Error = Failed;
    type ColumnType = DefaultColumnType;

    fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, Failed> {
        self.0.lock().unwrap().run(sql)
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn check(folder: &str, guarded: bool) {
    let data = tempfile::tempdir().unwrap();
    let departments = fixture::departments(guarded);
    let tables = departments
        .iter()
        .flat_map(|department| &department.tables)
        .map(|data| (data.table.name.clone(), data.rows.clone()))
        .collect();
    let federation = Federation::new(data.path(), departments).unwrap();
    let world = Connection(Arc::new(Mutex::new(World { federation, tables })));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/slt")
        .join(folder);
    for file in files(&folder) {
        let world = world.clone();
        let mut runner = Runner::new(move || {
            let world = world.clone();
            async move { Ok(world) }
        });
        runner.with_column_validator(sqllogictest::strict_column_validator);
        if std::env::var_os("VEILGATE_BLESS").is_some() {
            let rewritten = runner.update_test_file(
                &file,
                " ",
                sqllogictest::default_validator,
                sqllogictest::default_normalizer,
                sqllogictest::strict_column_validator,
            );
            futures::executor::block_on(rewritten).unwrap();
        } else {
            runner.run_file(&file).unwrap();
        }
    }
}

#[test]
fn answers_without_thresholds() {
    check("open", false);
}

#[test]
fn answers_above_thresholds() {
    check("guarded", true);
}
