//! The analyst's side of a home gateway's service: connect, explain, query, catalogue.
//!
//! A query ends early when its future is dropped; the home gateway then cancels it everywhere.

use super::args::ReasonArgs;
use super::connect::{Target, Who};
use super::output::Rows;
use super::progress::Progress;
use crate::config::Federation;
use crate::errors::from_status;
use crate::identity::Identity;
use tonic::transport::Channel;
use veilgate_federated::error::{Code, Error, Result};
use veilgate_proto::analyst::v1 as wire;
use wire::analyst_client::AnalystClient;
use wire::fetch_reply::Part;
use wire::watch_event::Event;

/// The largest message that is taken from a gateway, in bytes.
const MAX_MESSAGE: usize = 1 << 28;

/// A connection to a home gateway.
pub struct Client {
    grpc: AnalystClient<Channel>,
    department: String,
}

/// A released result, with what its reader must know.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The id under which the ledgers know the query.
    pub query_id: String,
    /// The rows.
    pub rows: Rows,
    /// What was withheld, leaked, and recorded.
    pub notices: Vec<Notice>,
}

/// Something that a result's reader must know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// withheld, leakage, source, rule, ledger, traffic
    pub kind: String,
    /// For people.
    pub text: String,
}

/// What answers are for, as the ledgers of all departments with a part in them will have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reason {
    /// The purpose; empty where nothing is said.
    pub purpose: String,
    /// The case number; empty where nothing is said.
    pub case: String,
}

impl From<&ReasonArgs> for Reason {
    fn from(args: &ReasonArgs) -> Self {
        Self {
            purpose: args.purpose.clone(),
            case: args.case.clone(),
        }
    }
}

impl Reason {
    fn to_wire(&self) -> wire::Reason {
        wire::Reason {
            purpose: self.purpose.clone(),
            case_number: self.case.clone(),
        }
    }
}

/// What one department publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The department.
    pub department: String,
    /// Its catalogue; none without data, or when it cannot be reached.
    pub catalog: Option<veilgate_federated::catalog::Published>,
    /// Why it is missing.
    pub unavailable: String,
}

impl Client {
    /// Connects to the home gateway of `target`.
    ///
    /// # Errors
    /// `BadConfig` for a mistake in its files, `BadRequest` for a department that the federation
    /// does not have, `Unavailable` blame when the gateway does not answer, `WrongIdentity` when
    /// somebody else does.
    pub async fn connect(target: &Target) -> Result<Self> {
        let Who {
            analyst,
            department,
        } = &target.who;
        let federation = Federation::load(&target.federation)?;
        let gateway = federation.get(department).ok_or_else(|| {
            let known: Vec<&str> = federation
                .gateways()
                .iter()
                .filter(|gateway| !gateway.neutral)
                .map(|gateway| gateway.department.as_str())
                .collect();
            Error::new(
                Code::BadRequest,
                format!(
                    "the federation has no department {department}; it has {}",
                    known.join(", ")
                ),
            )
        })?;
        let identity = Identity::load(analyst, &target.identity)?;
        let channel = crate::tls::analyst_channel(
            &gateway.address,
            department,
            &identity,
            gateway.public_key,
        )?;
        Ok(Self {
            grpc: AnalystClient::new(channel)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            department: department.clone(),
        })
    }

    /// What a query would do, as text and as rows, and the digest of its plan.
    ///
    /// # Errors
    /// What the home gateway answers.
    pub async fn explain(&mut self, sql: &str, reason: &Reason) -> Result<wire::ExplainReply> {
        let request = wire::ExplainRequest {
            sql: sql.to_owned(),
            reason: Some(reason.to_wire()),
        };
        let reply = self.grpc.explain(request).await;
        let reply = reply.map_err(|status| from_status(&status, &self.department))?;
        Ok(reply.into_inner())
    }

    /// Runs a query.
    ///
    /// # Errors
    /// What the home gateway answers; `PeerMisbehaved` when it ends without an answer.
    pub async fn query(
        &mut self,
        sql: &str,
        reason: &Reason,
        progress: &mut Progress,
    ) -> Result<Answer> {
        progress.show(&wire::Progress {
            phase: "planning".to_owned(),
            ..wire::Progress::default()
        });
        let request = wire::SubmitRequest {
            sql: sql.to_owned(),
            reason: Some(reason.to_wire()),
            attached: true,
        };
        let failed = |status: tonic::Status| from_status(&status, &self.department);
        let submitted = self.grpc.submit(request).await.map_err(failed)?;
        let query_id = submitted.into_inner().query_id;
        let request = wire::WatchRequest {
            query_id: query_id.clone(),
        };
        let mut events = self.grpc.watch(request).await.map_err(failed)?.into_inner();
        while let Some(event) = events.message().await.map_err(failed)? {
            if let Some(Event::Progress(step)) = event.event {
                progress.show(&step);
            }
        }
        let request = wire::FetchRequest { query_id };
        let mut parts = self.grpc.fetch(request).await.map_err(failed)?.into_inner();
        let (mut head, mut arrow) = (None, Vec::new());
        while let Some(reply) = parts.message().await.map_err(failed)? {
            match reply.part {
                Some(Part::Head(told)) => head = Some(told),
                Some(Part::ArrowIpc(piece)) => arrow.extend_from_slice(&piece),
                None => {}
            }
        }
        let head = head.ok_or_else(|| {
            Error::new(
                Code::PeerMisbehaved,
                "the gateway ended the query without an answer",
            )
            .at(self.department.as_str())
        })?;
        answer(head, &arrow)
    }

    /// What every department publishes.
    ///
    /// # Errors
    /// What the home gateway answers; `PeerMisbehaved` for a catalogue that does not parse.
    pub async fn catalog(&mut self) -> Result<Vec<Member>> {
        let reply = self.grpc.catalog(wire::CatalogRequest {}).await;
        let reply = reply.map_err(|status| from_status(&status, &self.department))?;
        let members = reply.into_inner().catalogs.into_iter().map(|published| {
            let catalog = if published.json.is_empty() {
                None
            } else {
                Some(serde_json::from_slice(&published.json).map_err(|_| {
                    Error::new(Code::PeerMisbehaved, "the catalogue does not parse")
                        .at(published.department.as_str())
                })?)
            };
            Ok(Member {
                department: published.department,
                catalog,
                unavailable: published.unavailable,
            })
        });
        members.collect()
    }
}

fn answer(head: wire::Head, arrow: &[u8]) -> Result<Answer> {
    Ok(Answer {
        rows: Rows::from_ipc(arrow)?,
        query_id: head.query_id,
        notices: head
            .notices
            .into_iter()
            .map(|notice| Notice {
                kind: notice.kind,
                text: notice.text,
            })
            .collect(),
    })
}

/// Runs `work` until it ends or Ctrl-C or SIGTERM comes.
///
/// # Errors
/// Those of `work`; `Cancelled` after a signal.
pub async fn until_signal<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        outcome = work => outcome,
        signal = ended() => {
            signal?;
            Err(Error::new(Code::Cancelled, "cancelled by the analyst; nothing was released"))
        }
    }
}

/// Waits for Ctrl-C or SIGTERM.
///
/// # Errors
/// `Internal` when signals cannot be watched.
pub async fn ended() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let watch = |kind| {
        signal(kind)
            .map_err(|_| Error::new(Code::Internal, "signals cannot be watched on this system"))
    };
    let (mut interrupt, mut terminate, mut hangup) = (
        watch(SignalKind::interrupt())?,
        watch(SignalKind::terminate())?,
        watch(SignalKind::hangup())?,
    );
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
    Ok(())
}
