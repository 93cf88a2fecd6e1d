//! Queries over tables in memory, in the clear: what benchmarks and tests compare with.

use super::clear_session;
use crate::error::{Code, Error, Result};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use datafusion::datasource::MemTable;
use std::sync::Arc;

/// The rows of a query over tables in the clear, by the engine alone.
///
/// # Errors
/// `Internal` when the engine fails.
pub fn clear(sql: &str, tables: &[(String, RecordBatch)]) -> Result<RecordBatch> {
    let failed = |_| Error::new(Code::Internal, "the engine fails on a query in the clear");
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|_| Error::new(Code::Internal, "no runtime"))?;
    runtime.block_on(async {
        let context = clear_session();
        for (name, batch) in tables {
            let table = MemTable::try_new(batch.schema(), vec![vec![batch.clone()]]);
            context
                .register_table(name.as_str(), Arc::new(table.map_err(failed)?))
                .map_err(failed)?;
        }
        let frame = context.sql(sql).await.map_err(failed)?;
        let batches = frame.clone().collect().await.map_err(failed)?;
        let schema = match batches.first() {
            Some(batch) => batch.schema(),
            None => Arc::new(frame.schema().as_arrow().clone()),
        };
        concat_batches(&schema, &batches)
            .map_err(|_| Error::new(Code::Internal, "batches of different types"))
    })
}
