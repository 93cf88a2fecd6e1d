//! What a catalogue promises of a whole table: its rows, its distinct values, its key.
//!
//! Plans rely on these bounds, so their owner checks them before a fragment runs, in one streaming
//! pass over the columns concerned. Values are compared by 128-bit hashes: two different keys are
//! taken for one with probability about n^2 / 2^129.

use super::engine::query;
use super::sanitise::engine_error;
use crate::catalog::{Column, Table};
use crate::error::{Code, Error, Result};
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Date32Type, Decimal128Type, Int64Type, TimestampMicrosecondType};
use datafusion::prelude::SessionContext;
use futures::StreamExt;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hasher};

/// Reads the table registered under its own name once.
///
/// # Errors
/// `BadSource` for too many rows or distinct values, `DuplicateKey`, and whatever the scan finds;
/// by names and declared bounds, never values or counts.
pub(super) async fn verify(
    context: &SessionContext,
    department: &str,
    table: &Table,
) -> Result<()> {
    let mut pass = Pass::new(department, table);
    let mut stream = query(context, &pass.sql())
        .await?
        .execute_stream()
        .await
        .map_err(|error| engine_error(&error))?;
    while let Some(batch) = stream.next().await {
        pass.see(&batch.map_err(|error| engine_error(&error))?)?;
    }
    pass.finish()
}

struct Pass<'a> {
    name: String,
    table: &'a Table,
    /// Columns read: the key's first.
    columns: Vec<&'a Column>,
    rows: u64,
    keys: Vec<u128>,
    distinct: Vec<HashSet<u128>>,
    /// How many rows have each value.
    repeats: Vec<HashMap<u128, u64>>,
}

impl<'a> Pass<'a> {
    fn new(department: &str, table: &'a Table) -> Self {
        let mut columns: Vec<&Column> = table
            .key
            .iter()
            .filter_map(|key| table.column(key))
            .collect();
        let bounded = |column: &&Column| {
            column.max_repeats > 0
                || column.max_distinct > 0 && column.max_distinct < table.max_rows
        };
        for column in table.columns.iter().filter(bounded) {
            if !table.key.contains(&column.name) {
                columns.push(column);
            }
        }
        Self {
            name: format!("{department}.{}", table.name),
            table,
            distinct: columns.iter().map(|_| HashSet::new()).collect(),
            repeats: columns.iter().map(|_| HashMap::new()).collect(),
            columns,
            rows: 0,
            keys: Vec::new(),
        }
    }

    fn sql(&self) -> String {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|column| quoted(&column.name))
            .collect();
        let columns = if columns.is_empty() {
            "1 AS one".to_owned()
        } else {
            columns.join(", ")
        };
        format!("SELECT {columns} FROM {}", quoted(&self.table.name))
    }

    fn too_many(&self, what: &str) -> Error {
        Error::new(
            Code::BadSource,
            format!(
                "{} has more than {what} that catalog.toml declares",
                self.name
            ),
        )
    }

    fn see(&mut self, batch: &RecordBatch) -> Result<()> {
        self.rows += batch.num_rows() as u64;
        if self.rows > self.table.max_rows {
            return Err(self.too_many(&format!("the {} rows", self.table.max_rows)));
        }
        for (at, column) in self.columns.iter().enumerate() {
            if column.max_repeats == 0 {
                continue;
            }
            let array = batch.column(at);
            for row in (0..array.len()).filter(|row| !array.is_null(*row)) {
                let seen = self.repeats[at].entry(hash(&[array.as_ref()], row));
                let seen = seen.or_default();
                *seen += 1;
                if *seen > column.max_repeats {
                    return Err(self.too_many(&format!(
                        "the {} rows with one value of {}",
                        column.max_repeats, column.name
                    )));
                }
            }
        }
        for (at, column) in self.columns.iter().enumerate() {
            if column.max_distinct == 0 || column.max_distinct >= self.table.max_rows {
                continue;
            }
            let (array, seen) = (batch.column(at), &mut self.distinct[at]);
            for row in (0..array.len()).filter(|row| !array.is_null(*row)) {
                seen.insert(hash(&[array.as_ref()], row));
            }
            if seen.len() as u64 > column.max_distinct {
                return Err(self.too_many(&format!(
                    "the {} distinct values of {}",
                    column.max_distinct, column.name
                )));
            }
        }
        if !self.table.key.is_empty() {
            let key: Vec<&dyn Array> = batch.columns()[..self.table.key.len()]
                .iter()
                .map(AsRef::as_ref)
                .collect();
            for row in 0..batch.num_rows() {
                if !key.iter().any(|array| array.is_null(row)) {
                    self.keys.push(hash(&key, row));
                }
            }
        }
        Ok(())
    }

    /// NULL equals nothing: keys of which a part is NULL are no duplicates.
    fn finish(mut self) -> Result<()> {
        let all = self.keys.len();
        self.keys.sort_unstable();
        self.keys.dedup();
        let duplicates = all - self.keys.len();
        if duplicates == 0 {
            return Ok(());
        }
        // How many is for the owner alone: the error goes to the department that asks.
        tracing::warn!(table = %self.name, duplicates, rows = all, "rows repeat the declared key");
        Err(Error::new(
            Code::DuplicateKey,
            format!(
                "{}: rows repeat the declared key ({}) of another row",
                self.name,
                self.table.key.join(", ")
            ),
        ))
    }
}

/// A hash of one row of these columns, none of them NULL: two outputs of one SipHash state.
fn hash(columns: &[&dyn Array], row: usize) -> u128 {
    let mut hasher = DefaultHasher::new();
    for column in columns {
        match column.data_type() {
            DataType::Int64 => hasher.write_i64(column.as_primitive::<Int64Type>().value(row)),
            DataType::Decimal128(..) => {
                hasher.write_i128(column.as_primitive::<Decimal128Type>().value(row));
            }
            DataType::Date32 => hasher.write_i32(column.as_primitive::<Date32Type>().value(row)),
            DataType::Timestamp(..) => {
                hasher.write_i64(column.as_primitive::<TimestampMicrosecondType>().value(row));
            }
            DataType::Boolean => hasher.write_u8(u8::from(column.as_boolean().value(row))),
            _ => {
                let text = column.as_string::<i32>().value(row).as_bytes();
                hasher.write_usize(text.len());
                hasher.write(text);
            }
        }
    }
    let low = hasher.finish();
    hasher.write_u8(0);
    (u128::from(hasher.finish()) << 64) | u128::from(low)
}
