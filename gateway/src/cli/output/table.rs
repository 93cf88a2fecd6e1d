//! A table for people: numbers to the right, a line under the header, NULL written out.

use super::Rows;
use super::cell::{Cell, Cells};
use crate::cli::output_failed;
use arrow::datatypes::DataType;
use comfy_table::{Cell as TableCell, CellAlignment, ContentArrangement, Table};
use std::io::Write;
use veilgate_federated::error::Result;

/// No outer border, one line under the header, two spaces between columns.
const LAYOUT: &str = "     ──            ";

pub(super) fn write(rows: &Rows, width: u16, out: &mut dyn Write) -> Result<()> {
    let mut table = Table::new();
    table
        .load_preset(LAYOUT)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(width)
        .set_header(
            rows.schema.fields().iter().map(|field| {
                TableCell::new(field.name()).set_alignment(alignment(field.data_type()))
            }),
        );
    for batch in &rows.batches {
        let columns = batch
            .columns()
            .iter()
            .map(|column| Cells::new(column.as_ref()))
            .collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            table.add_row(
                columns
                    .iter()
                    .zip(rows.schema.fields())
                    .map(|(column, field)| {
                        TableCell::new(shown(column.get(row)))
                            .set_alignment(alignment(field.data_type()))
                    }),
            );
        }
    }
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end()).map_err(|error| output_failed(&error))?;
    }
    if rows.is_empty() {
        writeln!(out, " (no rows)").map_err(|error| output_failed(&error))?;
    }
    Ok(())
}

fn alignment(data_type: &DataType) -> CellAlignment {
    match data_type {
        DataType::Utf8 | DataType::Boolean => CellAlignment::Left,
        _ => CellAlignment::Right,
    }
}

/// Control characters are escaped: a value must not drive the reader's terminal.
fn shown(cell: Cell) -> String {
    match cell {
        Cell::Null => "NULL".to_owned(),
        Cell::Number(digits) => digits,
        Cell::Bool(value) => value.to_string(),
        Cell::Text(text) => text
            .chars()
            .flat_map(|c| {
                let escaped: Box<dyn Iterator<Item = char>> = if c.is_control() {
                    Box::new(c.escape_default())
                } else {
                    Box::new(std::iter::once(c))
                };
                escaped
            })
            .collect(),
    }
}
