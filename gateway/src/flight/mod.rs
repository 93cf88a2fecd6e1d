//! Arrow Flight SQL: what ADBC, JDBC, pandas, polars and pyarrow speak.
//!
//! | module | holds |
//! |---|---|
//! | `sql` | the commands and actions of Flight SQL, over `queries` |
//! | `poll` | PollFlightInfo: progress of a query that takes long |
//! | `statements` | prepared statements, and the parameters bound to them |
//! | `session` | session options, CancelFlightInfo, CloseSession |
//! | `metadata` | catalogues, schemas, tables, keys and types as clients ask for them |
//! | `stream` | rows as Flight data, in bounded messages |
//!
//! Source: the Arrow Flight and Flight SQL protocols of Apache Arrow. Decides nothing: whoever asks, and
//! what may be asked, is for `queries` to say.

mod metadata;
mod poll;
mod session;
mod sql;
mod statements;
mod stream;

use crate::errors;
use crate::queries::{QueryManager, Session};
use crate::tls::Connection;
use arrow_flight::flight_service_server::FlightService as Flight;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, Result as ActionResult, SchemaResult,
    Ticket,
};
use futures::stream::BoxStream;
use metadata::Info;
use statements::Statements;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};
use veilgate_federated::error::{Code, Error};

/// The Flight service of a gateway.
pub(crate) struct FlightService(Service);

/// What the commands of Flight SQL are answered with.
struct Service {
    manager: Arc<QueryManager>,
    statements: Statements,
    info: Info,
}

type Reply<T> = Result<Response<T>, Status>;
type Rows = BoxStream<'static, Result<FlightData, Status>>;

impl FlightService {
    /// Over the queries of a gateway.
    ///
    /// # Errors
    /// `Internal` when what it tells of itself does not encode.
    pub(crate) fn new(manager: Arc<QueryManager>) -> Result<Self, Error> {
        Ok(Self(Service {
            manager,
            statements: Statements::new(),
            info: Info::new()?,
        }))
    }
}

impl Service {
    /// Who makes this call.
    async fn session<T>(&self, request: &Request<T>) -> Result<Session, Status> {
        let connection = request.extensions().get::<Connection>();
        let session = self.manager.session(request.metadata(), connection);
        session.await.map_err(status)
    }
}

fn status(error: Error) -> Status {
    errors::to_status(&error)
}

fn bad(what: &str) -> Status {
    status(Error::new(Code::BadRequest, what))
}

fn internal(what: &str) -> Status {
    status(Error::new(Code::Internal, what))
}

fn unsupported(what: &str) -> Status {
    status(Error::new(Code::Unsupported, what))
}

/// All but what the library leaves out goes to its own reading of the commands.
#[tonic::async_trait]
impl Flight for FlightService {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = Rows;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<ActionResult, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = Rows;

    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Reply<Self::HandshakeStream> {
        self.0.handshake(request).await
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Reply<Self::ListFlightsStream> {
        self.0.session(&request).await?;
        Ok(Response::new(Box::pin(futures::stream::empty())))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Reply<FlightInfo> {
        // The library's own errors name no code.
        poll::command(request.get_ref())?;
        self.0.get_flight_info(request).await
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Reply<PollInfo> {
        self.0.poll(request).await
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Reply<SchemaResult> {
        self.0.schema_of(request).await
    }

    async fn do_get(&self, request: Request<Ticket>) -> Reply<Self::DoGetStream> {
        poll::known(&request.get_ref().ticket)?;
        self.0.do_get(request).await
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Reply<Self::DoPutStream> {
        self.0.do_put(request).await
    }

    async fn do_action(&self, request: Request<Action>) -> Reply<Self::DoActionStream> {
        self.0.do_action(request).await
    }

    async fn list_actions(&self, request: Request<Empty>) -> Reply<Self::ListActionsStream> {
        self.0.session(&request).await?;
        let actions = session::ACTIONS.iter().map(|(name, description)| {
            Ok(ActionType {
                r#type: (*name).to_owned(),
                description: (*description).to_owned(),
            })
        });
        let actions: Vec<_> = actions.collect();
        Ok(Response::new(Box::pin(futures::stream::iter(actions))))
    }

    async fn do_exchange(
        &self,
        _: Request<Streaming<FlightData>>,
    ) -> Reply<Self::DoExchangeStream> {
        Err(unsupported("DoExchange: a gateway answers queries alone"))
    }
}

/// One result of an action.
fn result(body: Vec<u8>) -> BoxStream<'static, Result<ActionResult, Status>> {
    let result = ActionResult { body: body.into() };
    Box::pin(futures::stream::iter([Ok(result)]))
}
