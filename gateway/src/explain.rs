//! EXPLAIN as rows, the same for every client: from the plan to the wire, and from the wire to Arrow.

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::plan::explain::Entry;
use veilgate_proto::analyst::v1::ExplainEntry;

/// The columns.
pub(crate) fn schema() -> SchemaRef {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let number = |name: &str| Field::new(name, DataType::UInt64, true);
    Arc::new(Schema::new(vec![
        text("section"),
        text("item"),
        text("department"),
        text("what"),
        text("form"),
        text("who_sees"),
        number("rows"),
        number("bytes"),
        number("rounds"),
        text("leaks"),
    ]))
}

/// Entries as they cross.
pub(crate) fn to_wire(entries: Vec<Entry>) -> Vec<ExplainEntry> {
    let crossing = entries.into_iter().map(|entry| ExplainEntry {
        section: entry.section.name().to_owned(),
        item: entry.item,
        department: entry.department,
        what: entry.what,
        form: entry.form,
        who_sees: entry.who,
        rows: entry.rows,
        bytes: entry.bytes,
        rounds: entry.rounds,
        leaks: entry.leaks,
    });
    crossing.collect()
}

/// Entries as a table.
pub(crate) fn rows(all: &[ExplainEntry]) -> Result<RecordBatch> {
    let text = |of: fn(&ExplainEntry) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(all.iter().map(of)))
    };
    let number = |of: fn(&ExplainEntry) -> Option<u64>| -> ArrayRef {
        Arc::new(UInt64Array::from_iter(all.iter().map(of)))
    };
    let columns = vec![
        text(|entry| &entry.section),
        text(|entry| &entry.item),
        text(|entry| &entry.department),
        text(|entry| &entry.what),
        text(|entry| &entry.form),
        text(|entry| &entry.who_sees),
        number(|entry| entry.rows),
        number(|entry| entry.bytes),
        number(|entry| entry.rounds),
        text(|entry| &entry.leaks),
    ];
    RecordBatch::try_new(schema(), columns)
        .map_err(|_| Error::new(Code::Internal, "the entries do not fit a table"))
}
