//! What the answer must be: DataFusion over all departments' clean data at once, with an
//! independently written suppression below k.

use crate::data::RandomTable;
use crate::query::Query;
use arrow::array::{Array, RecordBatch};
use arrow::compute::concat_batches;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider};
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use std::sync::Arc;
use veilgate_federated::local::clear_session;

pub struct Oracle {
    context: SessionContext,
}

/// What the oracle expects of a query.
pub struct Expected {
    /// Every row that may appear, before LIMIT.
    pub all: RecordBatch,
    /// The rows after LIMIT.
    pub limited: RecordBatch,
    /// The schema of the analyst's own SQL.
    pub schema: arrow::datatypes::SchemaRef,
    /// Whether a released integer sum does not fit its type.
    pub overflows: bool,
}

impl Oracle {
    pub fn new(tables: &[RandomTable]) -> Self {
        let context = clear_session();
        let catalog = context.catalog("datafusion").unwrap();
        for table in tables {
            let schema = MemorySchemaProvider::new();
            let clean = table.clean();
            let memory = MemTable::try_new(clean.schema(), vec![vec![clean]]).unwrap();
            schema
                .register_table("t".to_owned(), Arc::new(memory))
                .unwrap();
            catalog
                .register_schema(&table.department, Arc::new(schema))
                .unwrap();
        }
        Self { context }
    }

    pub async fn expected(&self, query: &Query) -> Result<Expected, String> {
        let plain = self.context.sql(&query.sql()).await;
        let schema = plain.map_err(|error| format!("plain: {error}"))?;
        let schema = Arc::new(schema.schema().as_arrow().clone());
        let guarded = self.run(&query.guarded_sql()).await?;
        let overflows = wide_sums(&guarded).any(|(_, wide)| {
            let wide = wide
                .as_any()
                .downcast_ref::<arrow::array::Decimal128Array>();
            let mut values = wide.unwrap().iter().flatten();
            values.any(|value| i64::try_from(value).is_err())
        });
        let memory = MemTable::try_new(guarded.schema(), vec![vec![guarded]]).unwrap();
        let _ = self.context.deregister_table("guarded");
        self.context
            .register_table("guarded", Arc::new(memory))
            .unwrap();
        if overflows {
            let empty = RecordBatch::new_empty(schema.clone());
            return Ok(Expected {
                all: empty.clone(),
                limited: empty,
                schema,
                overflows,
            });
        }
        Ok(Expected {
            all: self.run(&query.final_sql(false)).await?,
            limited: self.run(&query.final_sql(true)).await?,
            schema,
            overflows,
        })
    }

    pub async fn run(&self, sql: &str) -> Result<RecordBatch, String> {
        let frame = self.context.sql(sql).await;
        let frame = frame.map_err(|error| format!("{sql}: {error}"))?;
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let batches = frame.collect().await;
        let batches = batches.map_err(|error| format!("{sql}: {error}"))?;
        concat_batches(&schema, &batches).map_err(|error| error.to_string())
    }
}

fn wide_sums(batch: &RecordBatch) -> impl Iterator<Item = (String, Arc<dyn Array>)> {
    let schema = batch.schema();
    let columns: Vec<_> = schema
        .fields()
        .iter()
        .zip(batch.columns())
        .filter(|(field, _)| field.name().starts_with('w'))
        .map(|(field, column)| (field.name().clone(), column.clone()))
        .collect();
    columns.into_iter()
}

/// Every row as exact text.
pub fn rows(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let formatters: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            let cells = formatters.iter().map(|f| f.value(row).to_string());
            cells.collect::<Vec<_>>().join(" | ")
        })
        .collect()
}

/// Says what differs.
pub fn compare(query: &Query, expected: &Expected, answer: &RecordBatch) -> Result<(), String> {
    let shape = |schema: &arrow::datatypes::Schema| -> Vec<String> {
        let fields = schema.fields().iter();
        fields
            .map(|field| format!("{}: {}", field.name(), field.data_type()))
            .collect()
    };
    let (due, got) = (shape(&expected.schema), shape(&answer.schema()));
    if due != got {
        return Err(format!("schema {got:?}\nexpected {due:?}"));
    }
    let differ = |due: &[String], got: &[String]| {
        Err(format!(
            "rows\n  {}\nexpected\n  {}",
            got.join("\n  "),
            due.join("\n  ")
        ))
    };
    let mut got = rows(answer);
    let mut due = rows(&expected.limited);
    if query.total_order {
        return if due == got {
            Ok(())
        } else {
            differ(&due, &got)
        };
    }
    if query.limit.is_some() {
        // Which rows a LIMIT without a total order keeps is open, how many is not.
        let mut all = rows(&expected.all);
        let subset = got
            .iter()
            .all(|row| match all.iter().position(|r| r == row) {
                Some(at) => {
                    all.swap_remove(at);
                    true
                }
                None => false,
            });
        let as_many = due.len() == got.len();
        return if subset && as_many {
            Ok(())
        } else {
            differ(&rows(&expected.all), &got)
        };
    }
    due.sort_unstable();
    got.sort_unstable();
    if due == got {
        Ok(())
    } else {
        differ(&due, &got)
    }
}
