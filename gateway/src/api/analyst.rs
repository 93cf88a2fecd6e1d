//! `veilgate.analyst.v1.Analyst`: what researchers' programs and the command line call at a home gateway.

use super::status;
use crate::explain;
use crate::queries::{Finished, Query, QueryManager, Session, State, Stay, unbound};
use crate::tls::Connection;
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::writer::StreamWriter;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};
use veilgate_federated::error::{Code, Error};
use veilgate_federated::run::RunId;
use veilgate_proto::analyst::v1 as wire;
use veilgate_proto::analyst::v1::analyst_server::Analyst;
use wire::fetch_reply::Part;
use wire::watch_event::Event;

pub(crate) struct AnalystService {
    pub(crate) manager: Arc<QueryManager>,
}

/// How long nothing new may be told.
const STEP: Duration = Duration::from_secs(1);
/// Rows that are encoded at once.
const SLICE: usize = 65_536;
/// Bytes of one piece of a result; clients refuse messages of more than 4 MiB.
const PIECE: usize = 1 << 20;

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Analyst for AnalystService {
    async fn login(&self, request: Request<wire::LoginRequest>) -> Reply<wire::LoginReply> {
        let wire::LoginRequest { user, password } = request.into_inner();
        let password = zeroize::Zeroizing::new(password);
        let token = self.manager.login(&user, &password).await;
        let token = token.map_err(status)?.to_string();
        Ok(Response::new(wire::LoginReply { token }))
    }

    async fn explain(&self, request: Request<wire::ExplainRequest>) -> Reply<wire::ExplainReply> {
        let session = self.session(&request).await?;
        let wire::ExplainRequest { sql, reason } = request.into_inner();
        let session = told(session, reason)?;
        session.may_ask().map_err(status)?;
        let coordinator = &self.manager.coordinator;
        let ready = coordinator.plan(&sql, None).await.map_err(status)?;
        if !ready.bound {
            return Err(status(unbound()));
        }
        let explained = coordinator.explain(&ready, &session.asker()).await;
        let explained = explained.map_err(status)?;
        Ok(Response::new(wire::ExplainReply {
            text: explained.text,
            plan_digest: explained.digest.to_vec(),
            entries: explain::to_wire(explained.entries),
        }))
    }

    async fn submit(&self, request: Request<wire::SubmitRequest>) -> Reply<wire::SubmitReply> {
        let session = self.session(&request).await?;
        let asked = request.into_inner();
        let session = told(session, asked.reason)?;
        let prepared = self.manager.prepare(&session, &asked.sql, None).await;
        let prepared = prepared.map_err(status)?;
        let stay = match asked.attached {
            true => Stay::Attached,
            false => Stay::Detached,
        };
        let query = self.manager.start(&session, &prepared, stay);
        let query = query.map_err(status)?;
        Ok(Response::new(wire::SubmitReply {
            query_id: query.id.to_string(),
            arrow_schema: schema(&query.schema).map_err(status)?,
            departments: query.departments.clone(),
        }))
    }

    type WatchStream = BoxStream<'static, Result<wire::WatchEvent, Status>>;

    async fn watch(&self, request: Request<wire::WatchRequest>) -> Reply<Self::WatchStream> {
        let session = self.session(&request).await?;
        let query = self.find(&session, &request.get_ref().query_id)?;
        // Whoever gives up an attached query cancels it on all gateways.
        let guard = query.attached().then(|| query.guard());
        let first = Some((query, guard, false));
        let events = stream::unfold(first, |watching| async {
            let (query, guard, waits) = watching?;
            let state = match waits {
                true => query.moved(STEP).await,
                false => query.state(),
            };
            let ended = |rows: usize, expires| {
                Event::Ended(wire::Ended {
                    rows: rows as u64,
                    expires,
                })
            };
            let (event, goes_on) = match state {
                State::Running(step) => {
                    let step = Event::Progress(wire::Progress {
                        phase: step.phase,
                        rows: step.rows,
                        bytes: step.bytes,
                        rounds: step.rounds,
                        detail: step.detail,
                    });
                    (Ok(step), true)
                }
                State::Done(finished) => (Ok(ended(finished.rows.num_rows(), 0)), false),
                State::Kept { rows, expires, .. } => (Ok(ended(rows, expires)), false),
                State::Gone(rows) => (Ok(ended(rows, 0)), false),
                State::Failed(error) => (Err(status(error)), false),
            };
            let event = event.map(|event| wire::WatchEvent { event: Some(event) });
            let next = match goes_on {
                true => Some((query, guard, true)),
                false => {
                    guard.map(tokio_util::sync::DropGuard::disarm);
                    None
                }
            };
            Some((event, next))
        });
        Ok(Response::new(events.boxed()))
    }

    type FetchStream = BoxStream<'static, Result<wire::FetchReply, Status>>;

    async fn fetch(&self, request: Request<wire::FetchRequest>) -> Reply<Self::FetchStream> {
        let session = self.session(&request).await?;
        let query = self.find(&session, &request.get_ref().query_id)?;
        if !query.departments.is_empty() {
            session.may_ask().map_err(status)?;
        }
        let finished = self.manager.answer(&query).await.map_err(status)?;
        let head = Part::Head(head(query.id, &finished));
        let pieces = Pieces::new(finished.rows.clone()).map_err(status)?;
        let manager = Arc::clone(&self.manager);
        let rows = stream::unfold(pieces, move |mut pieces| {
            let next = pieces.next();
            if next.is_none() {
                manager.fetched(&query);
            }
            async { next.map(|piece| (piece.map(Part::ArrowIpc), pieces)) }
        });
        let parts = stream::iter([Ok(head)]).chain(rows).map(|part| match part {
            Ok(part) => Ok(wire::FetchReply { part: Some(part) }),
            Err(error) => Err(status(error)),
        });
        Ok(Response::new(parts.boxed()))
    }

    async fn cancel(&self, request: Request<wire::CancelRequest>) -> Reply<wire::CancelReply> {
        let session = self.session(&request).await?;
        let query = self.find(&session, &request.get_ref().query_id)?;
        query.cancel();
        self.manager.take(&query);
        Ok(Response::new(wire::CancelReply {}))
    }

    async fn catalog(&self, request: Request<wire::CatalogRequest>) -> Reply<wire::CatalogReply> {
        self.session(&request).await?;
        let (federation, missing) = self.manager.coordinator.federation().await;
        let mut catalogs = Vec::new();
        for member in federation.members {
            let json = match &member.catalog {
                Some(catalog) => serde_json::to_vec(catalog)
                    .map_err(|_| Status::internal("the catalogue does not serialise"))?,
                None => Vec::new(),
            };
            catalogs.push(wire::PublishedCatalog {
                department: member.department,
                json,
                unavailable: String::new(),
            });
        }
        for (department, _, error) in missing {
            catalogs.push(wire::PublishedCatalog {
                department,
                json: Vec::new(),
                unavailable: error.message,
            });
        }
        catalogs.sort_by(|a, b| a.department.cmp(&b.department));
        Ok(Response::new(wire::CatalogReply { catalogs }))
    }
}

impl AnalystService {
    async fn session<T>(&self, request: &Request<T>) -> Result<Session, Status> {
        let connection = request.extensions().get::<Connection>();
        let session = self.manager.session(request.metadata(), connection);
        session.await.map_err(status)
    }

    /// The query of this analyst with this number.
    fn find(&self, session: &Session, id: &str) -> Result<Arc<Query>, Status> {
        let bytes = hex::decode(id).map_err(|_| {
            status(Error::new(
                Code::BadRequest,
                "a query id has 64 hexadecimal digits",
            ))
        })?;
        let id = RunId::from_wire(&bytes).map_err(|_| {
            status(Error::new(
                Code::BadRequest,
                "a query id has 64 hexadecimal digits",
            ))
        })?;
        self.manager.find(session, id).map_err(status)
    }
}

/// The session with what is said with one call.
fn told(mut session: Session, reason: Option<wire::Reason>) -> Result<Session, Status> {
    let reason = reason.unwrap_or_default();
    session
        .say(&reason.purpose, &reason.case_number)
        .map_err(status)?;
    Ok(session)
}

fn head(id: RunId, finished: &Finished) -> wire::Head {
    let notices = finished.notices.iter().map(|(kind, text)| wire::Notice {
        kind: kind.clone(),
        text: text.clone(),
    });
    wire::Head {
        query_id: id.to_string(),
        notices: notices.collect(),
        plan_digest: finished.digest.map(Vec::from).unwrap_or_default(),
        rows: finished.rows.num_rows() as u64,
    }
}

fn encoding(_: arrow::error::ArrowError) -> Error {
    Error::new(Code::Internal, "the result does not encode as Arrow IPC")
}

fn schema(schema: &Schema) -> Result<Vec<u8>, Error> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(encoding)?;
    writer.finish().map_err(encoding)?;
    writer.into_inner().map_err(encoding)
}

/// An Arrow IPC stream in pieces, encoded as they are asked for.
struct Pieces {
    rows: RecordBatch,
    /// Rows that were encoded.
    at: usize,
    /// None once the stream is whole.
    writer: Option<StreamWriter<Vec<u8>>>,
    /// Encoded, and not given yet.
    waiting: Vec<u8>,
}

impl Pieces {
    fn new(rows: RecordBatch) -> Result<Self, Error> {
        let writer = StreamWriter::try_new(Vec::new(), &rows.schema()).map_err(encoding)?;
        Ok(Self {
            rows,
            at: 0,
            writer: Some(writer),
            waiting: Vec::new(),
        })
    }

    fn encode(&mut self) -> Result<(), Error> {
        let Some(mut writer) = self.writer.take() else {
            return Ok(());
        };
        if self.at < self.rows.num_rows() {
            let length = SLICE.min(self.rows.num_rows() - self.at);
            writer
                .write(&self.rows.slice(self.at, length))
                .map_err(encoding)?;
            self.at += length;
            self.waiting.append(writer.get_mut());
            self.writer = Some(writer);
        } else {
            writer.finish().map_err(encoding)?;
            self.waiting
                .append(&mut writer.into_inner().map_err(encoding)?);
        }
        Ok(())
    }

    fn next(&mut self) -> Option<Result<Vec<u8>, Error>> {
        while self.waiting.len() < PIECE && self.writer.is_some() {
            if let Err(error) = self.encode() {
                return Some(Err(error));
            }
        }
        if self.waiting.is_empty() {
            return None;
        }
        let rest = self.waiting.split_off(PIECE.min(self.waiting.len()));
        Some(Ok(std::mem::replace(&mut self.waiting, rest)))
    }
}
