//! Queries over a gateway's own views: small tables that it makes at the moment, nobody's data.

use super::engine::{query, session};
use super::sanitise::engine_error;
use crate::error::{Code, Error, Result};
use crate::stack::on_a_deep_stack;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{MemorySchemaProvider, SchemaProvider};
use datafusion::common::ParamValues;
use datafusion::datasource::MemTable;
use datafusion::prelude::DataFrame;
use datafusion::scalar::ScalarValue;
use std::sync::Arc;
use std::time::Duration;

/// Memory of one such query.
const MEMORY: usize = 256 << 20;
/// The longest that one may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tables of one schema, by name.
pub struct Views {
    /// The schema that they are in.
    pub schema: &'static str,
    /// The tables.
    pub tables: Vec<(&'static str, RecordBatch)>,
}

/// The schema of an answer over these views, and that of the query's parameters. Blocks.
///
/// # Errors
/// As [`answer`].
pub fn describe(views: &Views, sql: &str) -> Result<(SchemaRef, SchemaRef)> {
    alone(describe_here(views, sql))
}

async fn describe_here(views: &Views, sql: &str) -> Result<(SchemaRef, SchemaRef)> {
    let frame = frame(views, sql, None).await?;
    let types = frame
        .logical_plan()
        .get_parameter_types()
        .map_err(|error| engine_error(&error))?;
    let mut parameters: Vec<Field> = types
        .into_iter()
        .map(|(name, data_type)| Field::new(name, data_type.unwrap_or(DataType::Utf8), true))
        .collect();
    parameters.sort_by_key(|field| {
        let number = field.name().trim_start_matches('$').parse::<u32>();
        number.unwrap_or(u32::MAX)
    });
    Ok((schema_of(&frame), Arc::new(Schema::new(parameters))))
}

/// Answers a query over these views; `parameters` are the values of its own, one row. Blocks.
///
/// # Errors
/// Those of the engine, by kind; [`Code::LimitExceeded`] for a query that takes longer than ten seconds.
pub fn answer(views: &Views, sql: &str, parameters: Option<&RecordBatch>) -> Result<RecordBatch> {
    alone(answer_here(views, sql, parameters))
}

/// The engine plans and evaluates with a stack as deep as the query is.
fn alone<T: Send>(work: impl Future<Output = Result<T>> + Send) -> Result<T> {
    on_a_deep_stack(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|_| Error::new(Code::LimitExceeded, "no runtime for a query over views"))?;
        runtime.block_on(work)
    })
}

async fn answer_here(
    views: &Views,
    sql: &str,
    parameters: Option<&RecordBatch>,
) -> Result<RecordBatch> {
    let frame = frame(views, sql, parameters).await?;
    let schema = schema_of(&frame);
    let batches = tokio::time::timeout(PATIENCE, frame.collect())
        .await
        .map_err(|_| {
            Error::new(
                Code::LimitExceeded,
                "a query over the gateway's views takes longer than ten seconds",
            )
        })?
        .map_err(|error| engine_error(&error))?;
    let rows = concat_batches(&schema, &batches);
    rows.map_err(|_| Error::new(Code::Internal, "rows of a view are not of its schema"))
}

async fn frame(views: &Views, sql: &str, parameters: Option<&RecordBatch>) -> Result<DataFrame> {
    let context = session(MEMORY)?;
    let schema = MemorySchemaProvider::new();
    for (name, rows) in &views.tables {
        let table = MemTable::try_new(rows.schema(), vec![vec![rows.clone()]])
            .map_err(|error| engine_error(&error))?;
        schema
            .register_table((*name).to_owned(), Arc::new(table))
            .map_err(|error| engine_error(&error))?;
    }
    for catalog in context.catalog_names() {
        if let Some(catalog) = context.catalog(&catalog) {
            catalog
                .register_schema(views.schema, Arc::new(schema))
                .map_err(|error| engine_error(&error))?;
            break;
        }
    }
    let frame = query(&context, sql).await?;
    let Some(parameters) = parameters else {
        return Ok(frame);
    };
    let values = parameters
        .columns()
        .iter()
        .map(|column| ScalarValue::try_from_array(column, 0))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|error| engine_error(&error))?;
    frame
        .with_param_values(ParamValues::from(values))
        .map_err(|error| engine_error(&error))
}

fn schema_of(frame: &DataFrame) -> SchemaRef {
    Arc::new(frame.schema().as_arrow().clone())
}
