//! The commands and actions of Flight SQL.
//!
//! A statement is checked when it is prepared or described; it starts to run then too, and its rows wait
//! for DoGet. Whoever drops a DoGet, or the connection, cancels the query on all gateways.

use super::{Reply, Rows, Service, bad, internal, metadata, status, stream, unsupported};
use crate::queries::{Query, Session, Stay};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_server::FlightService as Flight;
use arrow_flight::sql::server::{FlightSqlService, PeekableFlightDataStream};
use arrow_flight::sql::{
    ActionCancelQueryRequest, ActionCancelQueryResult, ActionClosePreparedStatementRequest,
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, Any,
    CommandGetCatalogs, CommandGetCrossReference, CommandGetDbSchemas, CommandGetExportedKeys,
    CommandGetImportedKeys, CommandGetPrimaryKeys, CommandGetSqlInfo, CommandGetTableTypes,
    CommandGetTables, CommandGetXdbcTypeInfo, CommandPreparedStatementQuery,
    CommandPreparedStatementUpdate, CommandStatementQuery, CommandStatementUpdate,
    DoPutPreparedStatementResult, ProstMessageExt, SqlInfo, TicketStatementQuery,
};
use arrow_flight::{
    Action, FlightDescriptor, FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse,
    Ticket,
};
use futures::{Stream, TryStreamExt};
use prost::Message;
use std::pin::Pin;
use std::sync::Arc;
use tokio_util::sync::DropGuard;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};
use veilgate_federated::planner::statement::{Statement, statement};
use veilgate_federated::run::RunId;

/// `CANCEL_RESULT_CANCELLED` of the protocol.
const CANCELLED: i32 = 1;
/// Bytes of parameters that a client may send.
const PARAMETER_BYTES: usize = 1 << 20;

/// An info of a query whose rows its ticket fetches.
pub(super) fn with_ticket(info: FlightInfo, query: &Query) -> FlightInfo {
    let ticket = TicketStatementQuery {
        statement_handle: query.id.0.to_vec().into(),
    };
    let ticket = Ticket::new(ticket.as_any().encode_to_vec());
    info.with_endpoint(FlightEndpoint::new().with_ticket(ticket))
        .with_total_records(-1)
        .with_total_bytes(-1)
        .with_ordered(true)
}

impl Service {
    /// Describes rows that the same command fetches.
    async fn described(
        &self,
        request: Request<FlightDescriptor>,
        schema: &arrow::datatypes::Schema,
    ) -> Reply<FlightInfo> {
        self.session(&request).await?;
        let descriptor = request.into_inner();
        let ticket = Ticket::new(descriptor.cmd.clone());
        let info = FlightInfo::new()
            .try_with_schema(schema)
            .map_err(|_| internal("a schema does not encode"))?
            .with_endpoint(FlightEndpoint::new().with_ticket(ticket))
            .with_descriptor(descriptor);
        Ok(Response::new(info))
    }

    async fn given(
        &self,
        request: &Request<Ticket>,
        rows: Result<RecordBatch, Status>,
    ) -> Reply<Rows> {
        self.session(request).await?;
        let rows = rows?;
        Ok(Response::new(stream::rows(rows.schema(), rows, None)))
    }

    fn started(
        &self,
        session: &Session,
        prepared: &crate::queries::Prepared,
        descriptor: FlightDescriptor,
    ) -> Reply<FlightInfo> {
        let query = self
            .manager
            .start(session, prepared, Stay::Attached)
            .map_err(status)?;
        let told = serde_json::json!({"query_id": query.id.to_string()});
        // Some clients show the metadata of this schema, and not that of the rows.
        let id = ("veilgate.query_id".to_owned(), query.id.to_string());
        let schema = prepared.schema.as_ref().clone().with_metadata([id].into());
        let info = FlightInfo::new()
            .try_with_schema(&schema)
            .map_err(|_| internal("a schema does not encode"))?
            .with_app_metadata(told.to_string());
        Ok(Response::new(
            with_ticket(info, &query).with_descriptor(descriptor),
        ))
    }

    /// Waits for a query's rows; whoever stops waiting cancels it.
    async fn fetched(&self, query: Arc<Query>) -> Reply<Rows> {
        let guard = query.attached().then(|| query.guard());
        let finished = query.finished().await.map_err(status)?;
        guard.map(DropGuard::disarm);
        self.manager.take(&query);
        let schema = finished.schema(query.id);
        let told = finished.told(query.id);
        let rows = finished.rows.clone();
        Ok(Response::new(stream::rows(schema, rows, Some(told))))
    }

    /// A statement sent as an update: an option may be set, nothing else changes.
    async fn update(&self, session: &Session, sql: &str) -> Result<i64, Status> {
        match tokio::task::block_in_place(|| statement(sql)).map_err(status)? {
            Statement::Set { name, value } => {
                let set = self.manager.set_option(session, &name, value.as_deref());
                set.map_err(status).map(|()| 0)
            }
            _ => Err(unsupported(
                "an update: a gateway answers queries and changes nothing",
            )),
        }
    }
}

#[tonic::async_trait]
impl FlightSqlService for Service {
    type FlightService = Self;

    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Reply<Pin<Box<dyn Stream<Item = Result<HandshakeResponse, Status>> + Send>>> {
        let token = self.manager.handshake(request.metadata()).await;
        let token = token.map_err(status)?;
        let header = MetadataValue::try_from(format!("Bearer {}", token.as_str()));
        let header = header.map_err(|_| internal("a token is no header"))?;
        let answer = HandshakeResponse {
            protocol_version: 0,
            payload: token.as_bytes().to_vec().into(),
        };
        let stream = futures::stream::iter([Ok(answer)]);
        let mut response: Response<Pin<Box<dyn Stream<Item = _> + Send>>> =
            Response::new(Box::pin(stream));
        response.metadata_mut().insert("authorization", header);
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        asked: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        let session = self.session(&request).await?;
        let prepared = self.manager.prepare(&session, &asked.query, None).await;
        let prepared = prepared.map_err(status)?;
        self.started(&session, &prepared, request.into_inner())
    }

    async fn get_flight_info_prepared_statement(
        &self,
        asked: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        let session = self.session(&request).await?;
        let handle = &asked.prepared_statement_handle;
        let prepared = self.statements.find(&session, handle)?;
        self.started(&session, &prepared, request.into_inner())
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        request: Request<Ticket>,
    ) -> Reply<Rows> {
        let session = self.session(&request).await?;
        let id = RunId::from_wire(&ticket.statement_handle);
        let id = id.map_err(|_| bad("the ticket is of no query"))?;
        let query = self.manager.find(&session, id).map_err(status)?;
        self.fetched(query).await
    }

    async fn do_get_prepared_statement(
        &self,
        asked: CommandPreparedStatementQuery,
        request: Request<Ticket>,
    ) -> Reply<Rows> {
        let session = self.session(&request).await?;
        let handle = &asked.prepared_statement_handle;
        let prepared = self.statements.find(&session, handle)?;
        let query = self
            .manager
            .start(&session, &prepared, Stay::Attached)
            .map_err(status)?;
        self.fetched(query).await
    }

    async fn do_action_create_prepared_statement(
        &self,
        asked: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        let session = self.session(&request).await?;
        let prepared = self.manager.prepare(&session, &asked.query, None).await;
        let prepared = prepared.map_err(status)?;
        let dataset_schema = stream::schema_bytes(&prepared.schema)?;
        let parameter_schema = stream::schema_bytes(&prepared.parameters)?;
        let handle = self.statements.keep(&session, prepared)?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: handle.into(),
            dataset_schema,
            parameter_schema,
        })
    }

    async fn do_action_close_prepared_statement(
        &self,
        asked: ActionClosePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        let session = self.session(&request).await?;
        let handle = &asked.prepared_statement_handle;
        self.statements.close(&session, handle);
        Ok(())
    }

    async fn do_put_prepared_statement_query(
        &self,
        asked: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let session = self.session(&request).await?;
        let handle = asked.prepared_statement_handle;
        let prepared = self.statements.find(&session, &handle)?;
        let values = parameters(request.into_inner()).await?;
        let values = (values.num_columns() > 0).then_some(values);
        let bound = self
            .manager
            .prepare(&session, &prepared.sql, values.as_ref());
        let bound = bound.await.map_err(status)?;
        self.statements.bind(&session, &handle, bound)?;
        Ok(DoPutPreparedStatementResult {
            prepared_statement_handle: Some(handle),
        })
    }

    async fn do_put_statement_update(
        &self,
        asked: CommandStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let session = self.session(&request).await?;
        self.update(&session, &asked.query).await
    }

    async fn do_put_prepared_statement_update(
        &self,
        asked: CommandPreparedStatementUpdate,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        let session = self.session(&request).await?;
        let handle = &asked.prepared_statement_handle;
        let prepared = self.statements.find(&session, handle)?;
        self.update(&session, &prepared.sql).await
    }

    async fn do_action_cancel_query(
        &self,
        asked: ActionCancelQueryRequest,
        request: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        let session = self.session(&request).await?;
        let info = FlightInfo::decode(asked.info).map_err(|_| bad("the FlightInfo is none"))?;
        self.cancel(&session, &info)?;
        Ok(ActionCancelQueryResult { result: CANCELLED })
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Reply<<Self as Flight>::DoActionStream> {
        self.other_action(request).await.map(|stream| {
            let stream: <Self as Flight>::DoActionStream = stream;
            Response::new(stream)
        })
    }

    async fn get_flight_info_catalogs(
        &self,
        asked: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        self.described(request, &asked.into_builder().schema())
            .await
    }

    async fn do_get_catalogs(
        &self,
        asked: CommandGetCatalogs,
        request: Request<Ticket>,
    ) -> Reply<Rows> {
        self.given(&request, metadata::catalogs(asked)).await
    }

    async fn get_flight_info_schemas(
        &self,
        asked: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        self.described(request, &asked.into_builder().schema())
            .await
    }

    async fn do_get_schemas(
        &self,
        asked: CommandGetDbSchemas,
        request: Request<Ticket>,
    ) -> Reply<Rows> {
        self.session(&request).await?;
        let tables = metadata::tables(&self.manager).await;
        self.given(&request, metadata::schemas(asked, &tables))
            .await
    }

    async fn get_flight_info_tables(
        &self,
        asked: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        self.described(request, &asked.into_builder().schema())
            .await
    }

    async fn do_get_tables(
        &self,
        asked: CommandGetTables,
        request: Request<Ticket>,
    ) -> Reply<Rows> {
        self.session(&request).await?;
        let tables = metadata::tables(&self.manager).await;
        self.given(&request, metadata::listed(asked, &tables)).await
    }

    async fn get_flight_info_table_types(
        &self,
        asked: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        self.described(request, &asked.into_builder().schema())
            .await
    }

    async fn do_get_table_types(
        &self,
        asked: CommandGetTableTypes,
        request: Request<Ticket>,
    ) -> Reply<Rows> {
        self.given(&request, metadata::table_types(asked)).await
    }

    async fn get_flight_info_sql_info(
        &self,
        asked: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        let schema = asked.into_builder(&self.info.sql).schema();
        self.described(request, &schema).await
    }

    async fn do_get_sql_info(
        &self,
        asked: CommandGetSqlInfo,
        request: Request<Ticket>,
    ) -> Reply<Rows> {
        let rows = asked.into_builder(&self.info.sql).build();
        self.given(&request, rows.map_err(metadata::unbuilt)).await
    }

    async fn get_flight_info_xdbc_type_info(
        &self,
        asked: CommandGetXdbcTypeInfo,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        let schema = asked.into_builder(&self.info.types).schema();
        self.described(request, &schema).await
    }

    async fn do_get_xdbc_type_info(
        &self,
        asked: CommandGetXdbcTypeInfo,
        request: Request<Ticket>,
    ) -> Reply<Rows> {
        let rows = asked.into_builder(&self.info.types).build();
        self.given(&request, rows.map_err(metadata::unbuilt)).await
    }

    async fn get_flight_info_primary_keys(
        &self,
        _: CommandGetPrimaryKeys,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        self.described(request, &metadata::primary_keys_schema())
            .await
    }

    async fn do_get_primary_keys(
        &self,
        asked: CommandGetPrimaryKeys,
        request: Request<Ticket>,
    ) -> Reply<Rows> {
        self.session(&request).await?;
        let tables = metadata::tables(&self.manager).await;
        let rows = metadata::primary_keys(&asked, &tables);
        self.given(&request, rows).await
    }

    async fn get_flight_info_exported_keys(
        &self,
        _: CommandGetExportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        self.described(request, &metadata::references_schema())
            .await
    }

    async fn do_get_exported_keys(
        &self,
        _: CommandGetExportedKeys,
        request: Request<Ticket>,
    ) -> Reply<Rows> {
        self.given(&request, Ok(metadata::no_references())).await
    }

    async fn get_flight_info_imported_keys(
        &self,
        _: CommandGetImportedKeys,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        self.described(request, &metadata::references_schema())
            .await
    }

    async fn do_get_imported_keys(
        &self,
        _: CommandGetImportedKeys,
        request: Request<Ticket>,
    ) -> Reply<Rows> {
        self.given(&request, Ok(metadata::no_references())).await
    }

    async fn get_flight_info_cross_reference(
        &self,
        _: CommandGetCrossReference,
        request: Request<FlightDescriptor>,
    ) -> Reply<FlightInfo> {
        self.described(request, &metadata::references_schema())
            .await
    }

    async fn do_get_cross_reference(
        &self,
        _: CommandGetCrossReference,
        request: Request<Ticket>,
    ) -> Reply<Rows> {
        self.given(&request, Ok(metadata::no_references())).await
    }

    async fn do_get_fallback(&self, _: Request<Ticket>, _: Any) -> Reply<Rows> {
        Err(bad("the ticket is none of this gateway's"))
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}

/// The one row of parameters in a stream.
async fn parameters(stream: PeekableFlightDataStream) -> Result<RecordBatch, Status> {
    let mut bytes = 0;
    // With the message that was looked at already.
    let stream = stream.map_err(FlightError::from).and_then(move |data| {
        bytes += data.data_body.len() + data.data_header.len();
        std::future::ready(match bytes > PARAMETER_BYTES {
            true => Err(FlightError::DecodeError("too long".to_owned())),
            false => Ok(data),
        })
    });
    let malformed = |_| bad("the parameters are no Arrow data, or of more than 1 MiB");
    let mut decoded = FlightRecordBatchStream::new_from_flight_data(stream);
    let mut batches = Vec::new();
    while let Some(batch) = decoded.try_next().await.map_err(malformed)? {
        batches.push(batch);
    }
    let schema = decoded
        .schema()
        .cloned()
        .ok_or_else(|| bad("the parameters have no schema"))?;
    let rows = concat_batches(&schema, &batches)
        .map_err(|_| bad("the parameters are of several schemas"))?;
    match rows.num_rows() {
        1 => Ok(rows),
        _ if rows.num_columns() == 0 => Ok(rows),
        count => Err(bad(&format!(
            "{count} rows of parameters: bind one row, and execute once for each"
        ))),
    }
}
