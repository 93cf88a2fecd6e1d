//! `veilgate.peer.v1.Peer`: what other gateways call.

use super::{gateway, status};
use crate::carry;
use crate::node::Node;
use crate::session::Asker;
use crate::session::participant::Participant;
use crate::session::peers::Proposal;
use crate::session::to_the_end;
use futures::StreamExt;
use futures::stream::BoxStream;
use std::sync::Arc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use veilgate_federated::error::{Code, Error};
use veilgate_federated::run::{RunId, Signed};
use veilgate_proto::peer::v1 as wire;
use veilgate_proto::peer::v1::peer_server::Peer;

pub(crate) struct PeerService {
    pub(crate) node: Arc<Node>,
    pub(crate) participant: Arc<Participant>,
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Peer for PeerService {
    async fn hello(&self, request: Request<wire::HelloRequest>) -> Reply<wire::HelloReply> {
        let caller = gateway(&request)?;
        let hello = request.into_inner();
        self.node
            .check_hello(
                hello.protocol_version,
                &hello.engine_version,
                &hello.config_hash,
                &caller,
            )
            .map_err(status)?;
        let mine = self.node.hello();
        Ok(Response::new(wire::HelloReply {
            protocol_version: mine.protocol_version,
            engine_version: mine.engine_version,
            config_hash: mine.config_hash,
            department: self.node.department.clone(),
        }))
    }

    async fn catalog(&self, request: Request<wire::CatalogRequest>) -> Reply<wire::CatalogReply> {
        gateway(&request)?;
        self.node.published().map(Response::new).map_err(status)
    }

    async fn propose(&self, request: Request<wire::ProposeRequest>) -> Reply<wire::ProposeReply> {
        let caller = gateway(&request)?;
        let request = request.into_inner();
        let proposal = Proposal {
            run: RunId::from_wire(&request.run_id).map_err(status)?,
            plan: request.plan,
            asker: Asker {
                analyst: request.analyst,
                purpose: request.purpose,
                case: request.case_number,
            },
            explain_only: request.explain_only,
        };
        let me = Arc::clone(&self.participant);
        let reply = to_the_end(async move { me.propose(&caller, proposal).await }).await;
        reply.map(Response::new).map_err(status)
    }

    async fn consent(&self, request: Request<wire::ConsentRequest>) -> Reply<wire::ConsentReply> {
        let caller = gateway(&request)?;
        let request = request.into_inner();
        let run = RunId::from_wire(&request.run_id).map_err(status)?;
        let me = Arc::clone(&self.participant);
        let consent = async move { me.consent(&caller, run, request.nonces).await };
        let signed = to_the_end(consent).await.map_err(status)?;
        Ok(Response::new(wire::ConsentReply {
            body: signed.body,
            signature: signed.signature,
        }))
    }

    type StartStream = BoxStream<'static, Result<wire::RunEvent, Status>>;

    async fn start(&self, request: Request<wire::StartRequest>) -> Reply<Self::StartStream> {
        let caller = gateway(&request)?;
        let request = request.into_inner();
        let run = RunId::from_wire(&request.run_id).map_err(status)?;
        let consents = request
            .consents
            .into_iter()
            .map(|consent| Signed {
                body: consent.body,
                signature: consent.signature,
            })
            .collect();
        let me = Arc::clone(&self.participant);
        let start = async move { me.start(&caller, run, consents).await };
        let events = to_the_end(start).await.map_err(status)?;
        let stream = ReceiverStream::new(events).map(|event| match event {
            Ok(event) => Ok(wire::RunEvent { event: Some(event) }),
            Err(error) => Err(status(error)),
        });
        Ok(Response::new(stream.boxed()))
    }

    async fn commit(&self, request: Request<wire::CommitRequest>) -> Reply<wire::CommitReply> {
        let caller = gateway(&request)?;
        let request = request.into_inner();
        let run = RunId::from_wire(&request.run_id).map_err(status)?;
        let me = Arc::clone(&self.participant);
        let commit = async move { me.commit(&caller, run, request.tokens).await };
        let sealed_share = to_the_end(commit).await.map_err(status)?;
        Ok(Response::new(wire::CommitReply { sealed_share }))
    }

    async fn abort(&self, request: Request<wire::AbortRequest>) -> Reply<wire::AbortReply> {
        let caller = gateway(&request)?;
        let request = request.into_inner();
        let run = RunId::from_wire(&request.run_id).map_err(status)?;
        let code = Code::from_name(&request.code).unwrap_or(Code::Cancelled);
        let why = Error::new(code, "the home gateway ended the run");
        self.participant.abort(&caller, run, why).await;
        Ok(Response::new(wire::AbortReply {}))
    }

    type CarryStream = BoxStream<'static, Result<wire::CarryReply, Status>>;

    async fn carry(
        &self,
        request: Request<tonic::Streaming<wire::CarryPiece>>,
    ) -> Reply<Self::CarryStream> {
        let caller = gateway(&request)?;
        let replies = carry::accept(&self.node.carried, caller, request.into_inner()).await;
        replies.map(Response::new).map_err(status)
    }
}
