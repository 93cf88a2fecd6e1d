//! One JSON array of objects. Integers and decimals are numbers with every digit, dates ISO text.

use super::Rows;
use super::cell::{Cell, Cells};
use crate::cli::output_failed;
use std::io::Write;
use veilgate_federated::error::Result;

pub(super) fn write(rows: &Rows, out: &mut dyn Write) -> Result<()> {
    let failed = |error: std::io::Error| output_failed(&error);
    let names: Vec<String> = rows
        .schema
        .fields()
        .iter()
        .map(|field| text(field.name()))
        .collect();
    write!(out, "[").map_err(failed)?;
    let mut first = true;
    for batch in &rows.batches {
        let columns = batch
            .columns()
            .iter()
            .map(|column| Cells::new(column.as_ref()))
            .collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            let members: Vec<String> = names
                .iter()
                .zip(&columns)
                .map(|(name, column)| format!("{name}: {}", value(column.get(row))))
                .collect();
            let comma = if first { "" } else { "," };
            write!(out, "{comma}\n  {{{}}}", members.join(", ")).map_err(failed)?;
            first = false;
        }
    }
    let end = if first { "]" } else { "\n]" };
    writeln!(out, "{end}").map_err(failed)
}

fn value(cell: Cell) -> String {
    match cell {
        Cell::Null => "null".to_owned(),
        Cell::Number(digits) => digits,
        Cell::Bool(value) => value.to_string(),
        Cell::Text(value) => text(&value),
    }
}

fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}
