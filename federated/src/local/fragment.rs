//! Runs one department's fragment SQL over its own files.

use super::engine::session;
use super::sanitise::engine_error;
use super::source;
use crate::catalog::{Catalog, Table};
use crate::error::{Code, Error, Result};
use crate::schema::ScalarType;
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use async_trait::async_trait;
use datafusion::prelude::SessionContext;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

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

    /// The tables whose names stand in the SQL text; the parser decides later which are meant.
    fn named(&self, sql: &str) -> Vec<usize> {
        let tables = self.catalog.published.tables.iter().enumerate();
        tables
            .filter(|(_, table)| sql.contains(&table.name))
            .map(|(index, _)| index)
            .collect()
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
        let name = format!("{}.{}", self.catalog.published.department, table.name);
        let bounded: Vec<&crate::catalog::Column> = table
            .columns
            .iter()
            .filter(|column| column.max_distinct > 0)
            .collect();
        let mut sql = "SELECT COUNT(*)".to_owned();
        for column in &bounded {
            sql.push_str(&format!(", COUNT(DISTINCT {})", quoted(&column.name)));
        }
        sql.push_str(&format!(" FROM {}", quoted(&table.name)));
        let counts = counts(context, &sql).await?;
        let exceeded = |what: String| {
            Err(Error::new(
                Code::BadSource,
                format!("{name} has more {what} than catalog.toml declares"),
            ))
        };
        if counts.first().is_some_and(|rows| *rows > table.max_rows) {
            return exceeded(format!("than max_rows = {} rows", table.max_rows).replace("than ", ""));
        }
        for (column, count) in bounded.iter().zip(&counts[1..]) {
            if *count > column.max_distinct {
                return exceeded(format!("distinct values of {}", column.name));
            }
        }
        if !table.key.is_empty() {
            let duplicates = counts_of_duplicates(context, table).await?;
            if duplicates > 0 {
                return Err(Error::new(
                    Code::DuplicateKey,
                    format!(
                        "{name}: {duplicates} values of its declared key ({}) occur more than once",
                        table.key.join(", ")
                    ),
                ));
            }
        }
        self.lock().insert(index, stamp.to_vec());
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<usize, Vec<u8>>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

async fn counts(context: &SessionContext, sql: &str) -> Result<Vec<u64>> {
    let frame = context.sql(sql).await.map_err(|error| engine_error(&error))?;
    let batches = frame.collect().await.map_err(|error| engine_error(&error))?;
    let Some(batch) = batches.iter().find(|batch| batch.num_rows() == 1) else {
        return Ok(Vec::new());
    };
    Ok(batch
        .columns()
        .iter()
        .filter_map(|array| array.as_primitive_opt::<Int64Type>())
        .map(|array| u64::try_from(array.value(0)).unwrap_or(0))
        .collect())
}

/// How many values of the declared key, none of its parts NULL, occur more than once.
async fn counts_of_duplicates(context: &SessionContext, table: &Table) -> Result<u64> {
    let columns: Vec<String> = table.key.iter().map(|name| quoted(name)).collect();
    let present: Vec<String> = columns
        .iter()
        .map(|name| format!("{name} IS NOT NULL"))
        .collect();
    let sql = format!(
        "SELECT COUNT(*) FROM (SELECT 1 AS one FROM {} WHERE {} GROUP BY {} HAVING COUNT(*) > 1) d",
        quoted(&table.name),
        present.join(" AND "),
        columns.join(", ")
    );
    Ok(counts(context, &sql).await?.first().copied().unwrap_or(0))
}

#[async_trait]
impl LocalEngine for DataFusionEngine {
    async fn run(&self, sql: &str, expect: &[(ScalarType, bool)]) -> Result<Vec<RecordBatch>> {
        let context = session(self.memory_bytes)?;
        let named = self.named(sql);
        let mut stamps = Vec::with_capacity(named.len());
        for &index in &named {
            let Some(source) = self.catalog.sources.get(index) else {
                continue;
            };
            let stamp = source::stamp(source)?;
            source::register(&context, &self.catalog, index).await?;
            self.verify(&context, index, &stamp).await?;
            stamps.push((index, stamp));
        }
        let frame = context.sql(sql).await.map_err(|error| engine_error(&error))?;
        let fields = frame.schema().as_arrow().fields().clone();
        let fits = fields.len() == expect.len()
            && fields.iter().zip(expect).all(|(field, (data_type, nullable))| {
                field.data_type() == &data_type.to_arrow() && (*nullable || !field.is_nullable())
            });
        if !fits {
            return Err(Error::new(
                Code::DigestMismatch,
                "a fragment's columns are not of the types that the plan declares",
            ));
        }
        let batches = frame.collect().await.map_err(|error| engine_error(&error))?;
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
