//! `veilgate.analyst.v1.Analyst`: what analysts and researchers call at their home gateway.

use super::status;
use crate::explain;
use crate::queries::{Finished, QueryManager, Session, State, unbound};
use crate::session::coordinator::Progress;
use crate::tls::Connection;
use arrow::ipc::writer::StreamWriter;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use veilgate_federated::error::{Code, Error};
use veilgate_federated::run::RunId;
use veilgate_proto::analyst::v1 as wire;
use veilgate_proto::analyst::v1::analyst_server::Analyst;
use wire::query_event::Event;

pub(crate) struct AnalystService {
    pub(crate) manager: Arc<QueryManager>,
}

/// How long nothing new may be told.
const STEP: Duration = Duration::from_secs(1);

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Analyst for AnalystService {
    async fn explain(&self, request: Request<wire::ExplainRequest>) -> Reply<wire::ExplainReply> {
        let session = self.session(&request).await?;
        session.may_ask().map_err(status)?;
        let sql = request.into_inner().sql;
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

    type QueryStream = BoxStream<'static, Result<wire::QueryEvent, Status>>;

    async fn query(&self, request: Request<wire::QueryRequest>) -> Reply<Self::QueryStream> {
        let session = self.session(&request).await?;
        let sql = request.into_inner().sql;
        let manager = Arc::clone(&self.manager);
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(async move {
            let tell = |step: Progress| {
                let event = Event::Progress(wire::Progress {
                    phase: step.phase,
                    rows: step.rows,
                    bytes: step.bytes,
                    rounds: step.rounds,
                    detail: step.detail,
                });
                // A slow reader misses progress, and slows nothing.
                let _ = sender.try_send(Ok(event));
            };
            tell(Progress {
                phase: "planning".to_owned(),
                ..Progress::default()
            });
            let answered = async {
                let prepared = manager.prepare(&session, &sql, None).await?;
                let query = manager.start(&session, &prepared)?;
                // Whoever goes away cancels it on all gateways.
                let guard = query.guard();
                while let State::Running(step) = query.moved(STEP).await {
                    tell(step);
                }
                let finished = query.finished().await?;
                guard.disarm();
                query.forget();
                encode(query.id, &finished)
            };
            let answer = tokio::select! {
                () = sender.closed() => return,
                answer = answered => answer,
            };
            let _ = sender.send(answer.map(Event::Result)).await;
        });
        let stream = ReceiverStream::new(receiver).map(|event| match event {
            Ok(event) => Ok(wire::QueryEvent { event: Some(event) }),
            Err(error) => Err(status(error)),
        });
        Ok(Response::new(stream.boxed()))
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
}

fn encode(id: RunId, finished: &Finished) -> Result<wire::Result, Error> {
    let internal = |_| Error::new(Code::Internal, "the result does not encode as Arrow IPC");
    let batch = &finished.rows;
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema()).map_err(internal)?;
    writer.write(batch).map_err(internal)?;
    writer.finish().map_err(internal)?;
    drop(writer);
    let notices = finished.notices.iter().map(|(kind, text)| wire::Notice {
        kind: kind.clone(),
        text: text.clone(),
    });
    Ok(wire::Result {
        query_id: id.to_string(),
        arrow_ipc: bytes,
        notices: notices.collect(),
        plan_digest: finished.digest.map(Vec::from).unwrap_or_default(),
    })
}
