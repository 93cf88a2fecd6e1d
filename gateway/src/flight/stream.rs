//! Rows as Flight data.

use super::{Rows, internal};
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::{IpcMessage, SchemaAsIpc};
use futures::{StreamExt, TryStreamExt};
use prost::bytes::Bytes;
use tonic::Status;

/// What one message holds of rows, at most; clients refuse messages of more than 4 MiB.
const MESSAGE: usize = 2 << 20;

/// A stream of these rows with this schema, and what is told beside them in the first message.
pub(super) fn rows(schema: SchemaRef, rows: RecordBatch, told: Option<String>) -> Rows {
    let slices = Slices { rows, at: 0 }.map(Ok);
    // The encoder takes a slice to be as large as all that it is cut from, and would cut it again.
    let builder = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_max_flight_data_size(usize::MAX);
    let told = told.map(Bytes::from).unwrap_or_default();
    let encoded = builder.build(futures::stream::iter(slices));
    // Before any row; and with the first ones, since some clients show no metadata of a schema's message.
    let mut first = 2;
    encoded
        .map_ok(move |mut data| {
            if first > 0 {
                data.app_metadata = told.clone();
                first -= 1;
            }
            data
        })
        .map_err(|_| internal("rows do not encode as Flight data"))
        .boxed()
}

/// A batch in slices of at most [`MESSAGE`] bytes, or of one row.
struct Slices {
    rows: RecordBatch,
    at: usize,
}

impl Iterator for Slices {
    type Item = RecordBatch;

    fn next(&mut self) -> Option<RecordBatch> {
        let left = self.rows.num_rows() - self.at;
        if left == 0 {
            return None;
        }
        let mut slice = self.rows.slice(self.at, left);
        loop {
            let (bytes, rows) = (bytes(&slice), slice.num_rows());
            if bytes <= MESSAGE || rows == 1 {
                self.at += rows;
                return Some(slice);
            }
            // Less than half of it where rows differ much in length.
            let fewer = rows.saturating_mul(MESSAGE) / bytes;
            slice = slice.slice(0, fewer.clamp(1, rows - 1));
        }
    }
}

/// What the columns of a slice take in a message, about.
fn bytes(slice: &RecordBatch) -> usize {
    let columns = slice.columns().iter();
    columns
        .map(|column| {
            let bytes = column.to_data().get_slice_memory_size();
            bytes.unwrap_or_else(|_| column.get_array_memory_size())
        })
        .sum()
}

/// A schema as Flight SQL puts it into messages.
pub(super) fn schema_bytes(schema: &Schema) -> Result<Bytes, Status> {
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &IpcWriteOptions::default())
        .try_into()
        .map_err(|_| internal("a schema does not encode"))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use arrow::compute::concat_batches;
    use arrow_flight::decode::FlightRecordBatchStream;
    use std::sync::Arc;

    /// Rows of which the last are long.
    fn batch(rows: usize) -> RecordBatch {
        let numbers: Int64Array = (0..rows as i64).collect();
        let texts = (0..rows).map(|row| match row * 10 / rows.max(1) {
            9 => "x".repeat(255),
            _ => String::new(),
        });
        let texts: StringArray = texts.map(Some).collect();
        RecordBatch::try_from_iter([("n", Arc::new(numbers) as _), ("t", Arc::new(texts) as _)])
            .unwrap()
    }

    #[tokio::test]
    async fn messages_are_bounded_and_few() {
        for count in [0, 1, 1_000, 300_000] {
            let whole = batch(count);
            let encoded: Vec<_> = rows(whole.schema(), whole.clone(), None)
                .try_collect()
                .await
                .unwrap();
            let most = encoded.iter().map(|data| data.data_body.len()).max();
            assert!(most.unwrap() <= MESSAGE + (64 << 10), "{most:?}");
            assert!(
                encoded.len() <= 3 + bytes(&whole) * 3 / MESSAGE,
                "{}",
                encoded.len()
            );
            let encoded = futures::stream::iter(encoded.into_iter().map(Ok));
            let decoded = FlightRecordBatchStream::new_from_flight_data(encoded);
            let decoded: Vec<_> = decoded.try_collect().await.unwrap();
            assert_eq!(concat_batches(&whole.schema(), &decoded).unwrap(), whole);
        }
    }
}
