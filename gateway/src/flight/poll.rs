//! PollFlightInfo: a query that takes long tells how far it is. Progress is of public sizes alone.

use super::{Reply, Service, bad, status};
use crate::queries::{Query, Session, State, Stay};
use arrow_flight::sql::{Any, Command, CommandStatementQuery};
use arrow_flight::{FlightDescriptor, FlightInfo, PollInfo, SchemaResult};
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};
use veilgate_federated::run::RunId;

/// The type of the command in a descriptor to poll with again.
const TYPE: &str = "type.googleapis.com/veilgate.flight.v1.Poll";
/// How long a poll waits for something new.
const PATIENCE: Duration = Duration::from_millis(500);

/// The number of the query in a descriptor to poll with.
pub(super) fn handle(cmd: &[u8]) -> Option<RunId> {
    let any = Any::decode(cmd).ok()?;
    let found = any.type_url == TYPE;
    found.then(|| RunId::from_wire(&any.value).ok()).flatten()
}

impl Service {
    /// Starts a query, or tells how far one is.
    pub(super) async fn poll(&self, request: Request<FlightDescriptor>) -> Reply<PollInfo> {
        let session = self.session(&request).await?;
        let descriptor = request.into_inner();
        let query = match handle(&descriptor.cmd) {
            Some(id) => {
                let query = self.manager.find(&session, id).map_err(status)?;
                query.moved(PATIENCE).await;
                query
            }
            None => self.begin(&session, &descriptor).await?,
        };
        let again = FlightDescriptor::new_cmd(
            Any {
                type_url: TYPE.to_owned(),
                value: query.id.0.to_vec().into(),
            }
            .encode_to_vec(),
        );
        let info = FlightInfo::new()
            .try_with_schema(&query.schema)
            .map_err(|_| super::internal("a schema does not encode"))?;
        let (info, descriptor, progress) = match query.state() {
            State::Running(progress) => {
                let told = serde_json::json!({
                    "query_id": query.id.to_string(),
                    "phase": progress.phase,
                    "rows": progress.rows,
                    "bytes": progress.bytes,
                    "rounds": progress.rounds,
                    "detail": progress.detail,
                });
                let info = info
                    .with_app_metadata(told.to_string())
                    .with_descriptor(again.clone());
                (info, Some(again), Some(share(&progress.phase)))
            }
            State::Failed(error) => return Err(status(error)),
            State::Done(_) | State::Gone(_) | State::Kept { .. } => {
                let info = super::sql::with_ticket(info, &query).with_descriptor(again);
                (info, None, Some(1.0))
            }
        };
        Ok(Response::new(PollInfo {
            info: Some(info),
            flight_descriptor: descriptor,
            progress,
            expiration_time: None,
        }))
    }

    async fn begin(
        &self,
        session: &Session,
        descriptor: &FlightDescriptor,
    ) -> Result<Arc<Query>, Status> {
        let prepared = match command(descriptor)? {
            Command::CommandStatementQuery(CommandStatementQuery { query, .. }) => {
                let prepared = self.manager.prepare(session, &query, None).await;
                prepared.map_err(status)?
            }
            Command::CommandPreparedStatementQuery(asked) => self
                .statements
                .find(session, &asked.prepared_statement_handle)?,
            _ => return Err(bad("only queries are polled")),
        };
        self.manager
            .start(session, &prepared, Stay::Attached)
            .map_err(status)
    }

    /// The schema of a statement's answer, without running it.
    pub(super) async fn schema_of(
        &self,
        request: Request<FlightDescriptor>,
    ) -> Reply<SchemaResult> {
        let session = self.session(&request).await?;
        let schema = match command(request.get_ref())? {
            Command::CommandStatementQuery(CommandStatementQuery { query, .. }) => {
                let prepared = self.manager.prepare(&session, &query, None).await;
                prepared.map_err(status)?.schema
            }
            Command::CommandPreparedStatementQuery(asked) => {
                let handle = &asked.prepared_statement_handle;
                self.statements.find(&session, handle)?.schema
            }
            _ => return Err(bad("GetSchema is for statements")),
        };
        let schema = super::stream::schema_bytes(&schema)?;
        Ok(Response::new(SchemaResult { schema }))
    }
}

/// The command in a descriptor.
pub(super) fn command(descriptor: &FlightDescriptor) -> Result<Command, Status> {
    known(&descriptor.cmd)
}

/// The command in a descriptor or ticket.
pub(super) fn known(bytes: &[u8]) -> Result<Command, Status> {
    let malformed = || bad("this is no command of Flight SQL");
    let any = Any::decode(bytes).map_err(|_| malformed())?;
    match Command::try_from(any).map_err(|_| malformed())? {
        Command::Unknown(_) => Err(malformed()),
        command => Ok(command),
    }
}

/// How much of a query is done when it is in this phase, about.
fn share(phase: &str) -> f64 {
    match phase {
        "queued" | "planning" | "" => 0.05,
        "consent" => 0.1,
        "local" => 0.2,
        "joint" => 0.5,
        "release" => 0.95,
        _ => 0.3,
    }
}
