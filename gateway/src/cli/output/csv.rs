//! CSV by RFC 4180: a header line, NULL as an empty field, empty text as `""`.

use super::Rows;
use super::cell::{Cell, Cells};
use crate::cli::output_failed;
use std::io::Write;
use veilgate_federated::error::Result;

pub(super) fn write(rows: &Rows, out: &mut dyn Write) -> Result<()> {
    let header: Vec<String> = rows
        .schema
        .fields()
        .iter()
        .map(|field| quoted(field.name()))
        .collect();
    writeln!(out, "{}", header.join(",")).map_err(|error| output_failed(&error))?;
    for batch in &rows.batches {
        let columns = batch
            .columns()
            .iter()
            .map(|column| Cells::new(column.as_ref()))
            .collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            let fields: Vec<String> = columns
                .iter()
                .map(|column| field(column.get(row)))
                .collect();
            writeln!(out, "{}", fields.join(",")).map_err(|error| output_failed(&error))?;
        }
    }
    Ok(())
}

fn field(cell: Cell) -> String {
    match cell {
        Cell::Null => String::new(),
        Cell::Number(digits) => digits,
        Cell::Bool(value) => value.to_string(),
        Cell::Text(text) => quoted(&text),
    }
}

fn quoted(text: &str) -> String {
    let plain = !text.is_empty()
        && !text.contains([',', '"', '\n', '\r'])
        && !text.starts_with(' ')
        && !text.ends_with(' ');
    if plain {
        text.to_owned()
    } else {
        format!("\"{}\"", text.replace('"', "\"\""))
    }
}
