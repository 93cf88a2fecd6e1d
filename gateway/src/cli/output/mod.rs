//! Rows on standard output, in the format that was asked for. Knows Arrow, and nothing of queries.

mod cell;
mod csv;
mod json;
mod table;

pub(crate) use cell::{civil_from_days, iso_date};

use super::args::Format;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow::record_batch::RecordBatch;
use std::io::Write;
use veilgate_federated::error::{Code, Error, Result};

/// Rows with their schema; there may be no batch.
#[derive(Clone)]
pub struct Rows {
    /// Names and types.
    pub schema: SchemaRef,
    /// The rows.
    pub batches: Vec<RecordBatch>,
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("rows", &self.len()).finish()
    }
}

impl Rows {
    /// The rows of one batch.
    #[must_use]
    pub fn from_batch(batch: RecordBatch) -> Self {
        Self {
            schema: batch.schema(),
            batches: vec![batch],
        }
    }

    /// Reads an Arrow IPC stream.
    ///
    /// # Errors
    /// `PeerMisbehaved` blame when the bytes are not one.
    pub fn from_ipc(bytes: &[u8]) -> Result<Self> {
        let malformed = || {
            Error::new(
                Code::PeerMisbehaved,
                "the gateway's result is not an Arrow stream",
            )
        };
        if !lengths_fit(bytes) {
            return Err(malformed());
        }
        let reader = StreamReader::try_new(bytes, None).map_err(|_| malformed())?;
        let schema = reader.schema();
        let batches = reader
            .collect::<std::result::Result<_, _>>()
            .map_err(|_| malformed())?;
        Ok(Self { schema, batches })
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes them in this format; `width` is the number of characters a line of a table may have.
    ///
    /// # Errors
    /// `BadRequest` when `out` cannot be written, `Unsupported` for a type that cannot be printed.
    pub fn write(&self, format: Format, width: u16, out: &mut dyn Write) -> Result<()> {
        match format {
            Format::Table => table::write(self, width, out),
            Format::Csv => csv::write(self, out),
            Format::Json => json::write(self, out),
            Format::Arrow => self.write_arrow(out),
        }
    }

    fn write_arrow(&self, out: &mut dyn Write) -> Result<()> {
        let failed = |_| {
            Error::new(
                Code::BadRequest,
                "cannot write the Arrow stream to standard output",
            )
        };
        let mut writer = StreamWriter::try_new(out, &self.schema).map_err(failed)?;
        for batch in &self.batches {
            writer.write(batch).map_err(failed)?;
        }
        writer.finish().map_err(failed)
    }
}

/// Whether the lengths in an IPC stream stay within it. The reader allocates what they say before it
/// reads, so a few wrong bytes would cost gigabytes.
fn lengths_fit(mut rest: &[u8]) -> bool {
    const CONTINUES: [u8; 4] = [0xff; 4];
    loop {
        let Some((marker, after)) = rest.split_first_chunk::<4>() else {
            return false;
        };
        let Some((length, after)) = after.split_first_chunk::<4>() else {
            return false;
        };
        let length = u32::from_le_bytes(*length) as usize;
        if *marker != CONTINUES || length > after.len() {
            return false;
        }
        if length == 0 {
            return true;
        }
        let (head, body) = after.split_at(length);
        let Ok(message) = arrow::ipc::root_as_message(head) else {
            return false;
        };
        match usize::try_from(message.bodyLength()) {
            Ok(length) if length <= body.len() => rest = &body[length..],
            _ => return false,
        }
    }
}

/// Writes rows to standard output.
///
/// # Errors
/// As [`Rows::write`].
pub fn print(rows: &Rows, format: Format) -> Result<()> {
    let mut bytes = Vec::new();
    rows.write(format, line_width(), &mut bytes)?;
    super::print_bytes(&bytes)
}

/// Characters that a line may have: the terminal's width, or 80.
#[must_use]
pub fn line_width() -> u16 {
    console::Term::stdout()
        .size_checked()
        .map_or(80, |(_, columns)| columns.max(40))
}

#[cfg(test)]
mod tests;
