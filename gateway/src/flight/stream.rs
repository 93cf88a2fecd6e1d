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

/// What one message holds of rows, about; clients refuse messages of more than 4 MiB.
const MESSAGE: usize = 1 << 20;
/// Rows that are cut off at once: the encoder copies what it cuts.
const SLICE: usize = 65_536;

/// A stream of these rows with this schema, and what is told beside them in the first message.
pub(super) fn rows(schema: SchemaRef, rows: RecordBatch, told: Option<String>) -> Rows {
    let count = rows.num_rows();
    let slices = (0..count)
        .step_by(SLICE)
        .map(move |at| Ok(rows.slice(at, SLICE.min(count - at))));
    let builder = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_max_flight_data_size(MESSAGE);
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

/// A schema as Flight SQL puts it into messages.
pub(super) fn schema_bytes(schema: &Schema) -> Result<Bytes, Status> {
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &IpcWriteOptions::default())
        .try_into()
        .map_err(|_| internal("a schema does not encode"))?;
    Ok(bytes)
}
