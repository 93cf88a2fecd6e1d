//! Runs one department's fragment SQL over its own files.

use super::engine::{query, session};
use super::sanitise::{arrow_error, engine_error};
use super::{source, verify};
use crate::catalog::Catalog;
use crate::error::{Code, Error, Result};
use crate::schema::ScalarType;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::Schema;
use async_trait::async_trait;
use datafusion::prelude::SessionContext;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Memory for one fragment unless told otherwise.
const MEMORY: usize = 2 << 30;

/// Whatever runs fragments of one department.
#[async_trait]
pub trait LocalEngine: Send + Sync {
    /// Runs fragment SQL; the columns must have exactly these types and nullabilities. Dropping the
    /// future cancels it.
    ///
    /// # Errors
    /// `BadSource`, `SourceUnavailable`, `DuplicateKey`, `LimitExceeded`, `Overflow`; by names and
    /// counts, never values.
    async fn run(&self, sql: &str, expect: &[(ScalarType, bool)]) -> Result<Vec<RecordBatch>>;

    /// Identifies the present content of the department's sources.
    ///
    /// # Errors
    /// `SourceUnavailable`.
    fn snapshot(&self) -> Result<[u8; 32]>;
}

/// In-process DataFusion over files.
pub struct DataFusionEngine {
    catalog: Catalog,
    memory_bytes: usize,
    /// Content for which a table's declared bounds were verified.
    verified: Mutex<HashMap<usize, Vec<u8>>>,
}

impl std::fmt::Debug for DataFusionEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DataFusionEngine({})", self.catalog.published.department)
    }
}

impl DataFusionEngine {
    /// Over the sources of a catalogue.
    #[must_use]
    pub fn new(catalog: Catalog) -> Self {
        Self {
            catalog,
            memory_bytes: MEMORY,
            verified: Mutex::default(),
        }
    }

    /// With this much memory for each fragment.
    #[must_use]
    pub fn with_memory(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// The tables that the SQL reads.
    fn named(&self, context: &SessionContext, sql: &str) -> Result<Vec<usize>> {
        let state = context.state();
        let references = state
            .sql_to_statement(sql, &state.config_options().sql_parser.dialect)
            .and_then(|statement| state.resolve_table_references(&statement))
            .map_err(|error| engine_error(&error))?;
        let tables = &self.catalog.published.tables;
        references
            .iter()
            .map(|reference| {
                tables
                    .iter()
                    .position(|table| {
                        reference.schema().is_none() && table.name == reference.table()
                    })
                    .ok_or_else(|| {
                        Error::new(
                            Code::UnknownTable,
                            format!(
                                "a fragment names a table that {} does not have",
                                self.catalog.published.department
                            ),
                        )
                    })
            })
            .collect()
    }

    /// An error of a source, naming the tables whose files may have caused it.
    fn placed(&self, error: Error, named: &[usize]) -> Error {
        let department = &self.catalog.published.department;
        let of_source = matches!(error.code, Code::BadSource | Code::SourceUnavailable);
        if !of_source || error.message.starts_with(&format!("{department}.")) {
            return error;
        }
        let tables: Vec<String> = named
            .iter()
            .filter_map(|&index| {
                let table = self.catalog.published.tables.get(index)?;
                let file = source::file_name(self.catalog.sources.get(index)?);
                Some(format!("{department}.{} ({file})", table.name))
            })
            .collect();
        Error {
            message: format!("{}: {}", tables.join(", "), error.message),
            ..error
        }
    }

    /// Checks what the catalogue promises of a whole table: its key is unique, its bounds hold.
    /// Done once for each content of the files.
    async fn verify(&self, context: &SessionContext, index: usize, stamp: &[u8]) -> Result<()> {
        let known = |verified: &HashMap<usize, Vec<u8>>| {
            verified.get(&index).is_some_and(|known| known == stamp)
        };
        if known(&self.lock()) {
            return Ok(());
        }
        let Some(table) = self.catalog.published.tables.get(index) else {
            return Ok(());
        };
        verify::verify(context, &self.catalog.published.department, table).await?;
        self.lock().insert(index, stamp.to_vec());
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<usize, Vec<u8>>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The batch in the types that the plan declares: where a sum stands beside a distinct count, the engine
/// sums twice, and delivers more digits than it says.
fn declared(batch: &RecordBatch, expect: &[(ScalarType, bool)]) -> Result<RecordBatch> {
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    let mut fields = Vec::with_capacity(expect.len());
    let mut columns = Vec::with_capacity(expect.len());
    for ((column, field), (data_type, _)) in batch
        .columns()
        .iter()
        .zip(batch.schema().fields())
        .zip(expect)
    {
        let data_type = data_type.to_arrow();
        let column =
            cast_with_options(column, &data_type, &options).map_err(|error| arrow_error(&error))?;
        fields.push(field.as_ref().clone().with_data_type(data_type));
        columns.push(column);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
        .map_err(|error| arrow_error(&error))
}

#[async_trait]
impl LocalEngine for DataFusionEngine {
    async fn run(&self, sql: &str, expect: &[(ScalarType, bool)]) -> Result<Vec<RecordBatch>> {
        let context = session(self.memory_bytes)?;
        let named = self.named(&context, sql)?;
        let mut stamps = Vec::with_capacity(named.len());
        for &index in &named {
            let Some(source) = self.catalog.sources.get(index) else {
                continue;
            };
            let stamp = source::stamp(source).map_err(|error| self.placed(error, &[index]))?;
            source::register(&context, &self.catalog, index).await?;
            self.verify(&context, index, &stamp)
                .await
                .map_err(|error| self.placed(error, &[index]))?;
            stamps.push((index, stamp));
        }
        let frame = query(&context, sql).await?;
        let fields = frame.schema().as_arrow().fields().clone();
        let fits = fields.len() == expect.len()
            && fields
                .iter()
                .zip(expect)
                .all(|(field, (data_type, nullable))| {
                    field.data_type() == &data_type.to_arrow()
                        && (*nullable || !field.is_nullable())
                });
        if !fits {
            return Err(Error::new(
                Code::DigestMismatch,
                "a fragment's columns are not of the types that the plan declares",
            ));
        }
        let batches = frame
            .collect()
            .await
            .map_err(|error| self.placed(engine_error(&error), &named))?;
        let batches = batches
            .iter()
            .map(|batch| declared(batch, expect))
            .collect::<Result<Vec<_>>>()?;
        for (index, stamp) in stamps {
            if self.catalog.sources.get(index).map(source::stamp) != Some(Ok(stamp)) {
                let table = self.catalog.published.tables.get(index);
                return Err(Error::new(
                    Code::SourceUnavailable,
                    format!(
                        "the files of {} changed while they were read",
                        table.map_or("a table", |table| &table.name)
                    ),
                ));
            }
        }
        Ok(batches)
    }

    fn snapshot(&self) -> Result<[u8; 32]> {
        let mut hash = Sha256::new();
        hash.update(b"veilgate snapshot v1\0");
        for source in &self.catalog.sources {
            let stamp = source::stamp(source)?;
            hash.update((stamp.len() as u64).to_le_bytes());
            hash.update(stamp);
        }
        Ok(hash.finalize().into())
    }
}
