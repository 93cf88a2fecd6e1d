//! The gateways of one run as the coordinator sees them: itself in process, the others over gRPC.

use super::participant::{Participant, TURN};
use super::{Asker, to_the_end};
use crate::errors;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use veilgate_federated::error::{Blame, Code, Error, Result};
use veilgate_federated::run::{RunId, Signed};
use veilgate_proto::peer::v1 as wire;
use veilgate_proto::peer::v1::peer_client::PeerClient;

/// What the coordinator offers to every gateway.
#[derive(Clone)]
pub(crate) struct Proposal {
    pub(crate) run: RunId,
    pub(crate) plan: Vec<u8>,
    pub(crate) asker: Asker,
    pub(crate) explain_only: bool,
}

/// Events of one gateway's run; the last is `Prepared` or an error.
pub(crate) type Events = mpsc::Receiver<Result<wire::run_event::Event>>;

/// One gateway of a run.
#[derive(Clone)]
pub(crate) enum Gateway {
    /// The coordinator's own.
    Me(Arc<Participant>),
    /// Another.
    Peer(Remote),
}

impl Gateway {
    pub(crate) async fn propose(&self, proposal: Proposal) -> Result<wire::ProposeReply> {
        match self {
            Self::Me(me) => {
                let me = Arc::clone(me);
                to_the_end(async move { me.propose(me.department(), proposal).await }).await
            }
            Self::Peer(remote) => remote.propose(proposal).await,
        }
    }

    pub(crate) async fn consent(&self, run: RunId, nonces: Vec<Vec<u8>>) -> Result<Signed> {
        match self {
            Self::Me(me) => {
                let me = Arc::clone(me);
                to_the_end(async move { me.consent(me.department(), run, nonces).await }).await
            }
            Self::Peer(remote) => remote.consent(run, nonces).await,
        }
    }

    pub(crate) async fn start(&self, run: RunId, consents: Vec<Signed>) -> Result<Events> {
        match self {
            Self::Me(me) => {
                let me = Arc::clone(me);
                to_the_end(async move { me.start(me.department(), run, consents).await }).await
            }
            Self::Peer(remote) => remote.start(run, consents).await,
        }
    }

    pub(crate) async fn abort(&self, run: RunId, why: &Error) {
        match self {
            Self::Me(me) => me.abort(me.department(), run, why.clone()).await,
            Self::Peer(remote) => remote.abort(run, why).await,
        }
    }
}

/// Another gateway.
#[derive(Clone)]
pub(crate) struct Remote {
    pub(crate) department: String,
    pub(crate) client: PeerClient<Channel>,
    /// How long an answer may take.
    pub(crate) patience: Duration,
}

impl Remote {
    fn error(&self, status: &tonic::Status) -> Error {
        let mut error = errors::from_status(status, &self.department);
        // A gateway refuses in its own name alone.
        if let Some(denial) = &mut error.denial {
            denial.department.clone_from(&self.department);
            error.department = Some(self.department.clone());
        }
        error
    }

    /// The answer to one call, in time.
    async fn answer<T>(
        &self,
        call: impl Future<Output = std::result::Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T> {
        within(&self.department, self.patience, call)
            .await?
            .map(tonic::Response::into_inner)
            .map_err(|status| self.error(&status))
    }

    async fn propose(&self, proposal: Proposal) -> Result<wire::ProposeReply> {
        let request = wire::ProposeRequest {
            run_id: proposal.run.0.to_vec(),
            plan: proposal.plan,
            analyst: proposal.asker.analyst,
            purpose: proposal.asker.purpose,
            case_number: proposal.asker.case,
            explain_only: proposal.explain_only,
        };
        let mut client = self.client.clone();
        // It may have to wait for its turn there.
        let patience = self.patience + TURN;
        within(&self.department, patience, client.propose(request))
            .await?
            .map(tonic::Response::into_inner)
            .map_err(|status| self.error(&status))
    }

    async fn consent(&self, run: RunId, nonces: Vec<Vec<u8>>) -> Result<Signed> {
        let request = wire::ConsentRequest {
            run_id: run.0.to_vec(),
            nonces,
        };
        let mut client = self.client.clone();
        let reply = self.answer(client.consent(request)).await?;
        Ok(Signed {
            body: reply.body,
            signature: reply.signature,
        })
    }

    async fn start(&self, run: RunId, consents: Vec<Signed>) -> Result<Events> {
        let request = wire::StartRequest {
            run_id: run.0.to_vec(),
            consents: consents
                .into_iter()
                .map(|consent| wire::ConsentReply {
                    body: consent.body,
                    signature: consent.signature,
                })
                .collect(),
        };
        let mut client = self.client.clone();
        let mut stream = self.answer(client.start(request)).await?;
        let (sender, receiver) = mpsc::channel(64);
        let department = self.department.clone();
        tokio::spawn(async move {
            loop {
                // A home that no longer listens lets the stream go.
                let message = tokio::select! {
                    message = stream.message() => message,
                    () = sender.closed() => return,
                };
                let event = match message {
                    Ok(Some(wire::RunEvent { event: Some(event) })) => Ok(event),
                    Ok(Some(wire::RunEvent { event: None })) => continue,
                    Ok(None) => return,
                    Err(status) => Err(errors::from_status(&status, &department)),
                };
                let last = event.is_err();
                if sender.send(event).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(receiver)
    }

    /// Hands over all release tokens; answers with the sealed final share of a computing party.
    pub(crate) async fn commit(&self, run: RunId, tokens: Vec<wire::Prepared>) -> Result<Vec<u8>> {
        let request = wire::CommitRequest {
            run_id: run.0.to_vec(),
            tokens,
        };
        let mut client = self.client.clone();
        match self.answer(client.commit(request.clone())).await {
            // The answer was lost, not the share: the same bytes are delivered again.
            Err(error) if error.blame() == Blame::Unavailable => {
                Ok(self.answer(client.commit(request)).await?.sealed_share)
            }
            reply => Ok(reply?.sealed_share),
        }
    }

    async fn abort(&self, run: RunId, why: &Error) {
        let request = wire::AbortRequest {
            run_id: run.0.to_vec(),
            code: why.code.name().to_owned(),
            message: why.message.clone(),
        };
        let mut client = self.client.clone();
        // Best effort: a gateway that cannot be told notices the closed stream or its own deadline.
        let _ =
            tokio::time::timeout(std::time::Duration::from_secs(2), client.abort(request)).await;
    }
}

/// A call to a gateway, bounded in time.
pub(crate) async fn within<T>(
    department: &str,
    patience: Duration,
    call: impl Future<Output = T>,
) -> Result<T> {
    tokio::time::timeout(patience, call).await.map_err(|_| {
        Error::new(
            Code::PeerUnavailable,
            format!(
                "gateway {department} did not answer within {} s",
                patience.as_secs()
            ),
        )
        .at(department)
    })
}

/// What an early end of a stream without a token means.
pub(crate) fn ended_early(department: &str) -> Error {
    Error::new(
        Code::PeerUnavailable,
        format!("gateway {department} ended the run without a word"),
    )
    .at(department)
}
