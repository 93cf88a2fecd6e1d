//! The last step, over released values alone: HAVING, ORDER BY, LIMIT and the final projection.

use super::engine::{query, session};
use super::sanitise::{arrow_error, engine_error};
use crate::error::{Code, Error, Result};
use crate::plan::OutputColumn;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{Field, Schema};
use datafusion::datasource::MemTable;
use std::sync::Arc;

/// Memory for aggregates of groups.
const MEMORY: usize = 1 << 30;

/// Runs the release's SQL over the table `released` and delivers exactly the declared schema.
///
/// # Errors
/// `Overflow` for a value that does not fit its declared type; `Internal` when the SQL does not give
/// the declared columns, which a checked plan cannot do.
pub async fn post_process(
    released: RecordBatch,
    sql: &str,
    output: &[OutputColumn],
) -> Result<RecordBatch> {
    let context = session(MEMORY)?;
    let table = MemTable::try_new(released.schema(), vec![vec![released]])
        .map_err(|error| engine_error(&error))?;
    context
        .register_table("released", Arc::new(table))
        .map_err(|error| engine_error(&error))?;
    let frame = query(&context, sql).await?;
    let schema = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame
        .collect()
        .await
        .map_err(|error| engine_error(&error))?;
    let rows = concat_batches(&schema, &batches).map_err(|error| arrow_error(&error))?;
    deliver(&rows, output)
}

fn deliver(rows: &RecordBatch, output: &[OutputColumn]) -> Result<RecordBatch> {
    let undeclared = || {
        Error::new(
            Code::Internal,
            "the release does not give the declared columns",
        )
    };
    if rows.num_columns() != output.len() {
        return Err(undeclared());
    }
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let mut fields = Vec::with_capacity(output.len());
    let mut arrays = Vec::with_capacity(output.len());
    for (array, column) in rows.columns().iter().zip(output) {
        let data_type = column.data_type.to_arrow();
        let array =
            cast_with_options(array, &data_type, &options).map_err(|error| arrow_error(&error))?;
        if !column.nullable && array.null_count() > 0 {
            return Err(undeclared());
        }
        fields.push(Field::new(&column.name, data_type, column.nullable));
        arrays.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
        .map_err(|_| undeclared())
}
