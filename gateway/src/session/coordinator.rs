//! An analyst's query at its home gateway: plan, propose, consent, start, prepare, commit, release.
//!
//! The coordinator is trusted by nobody: every gateway checks the plan and signs what it agreed to.
//! Any failure ends the run everywhere with one named error, chosen by who is really to blame.

use super::Asker;
use super::blame::{all, blame_missing, cause, without_echoes};
use super::notices::{Times, notices, rules, snapshot};
use super::participant::Participant;
use super::peers::{self, Gateway, Proposal, Remote};
use super::turns::Turns;
use crate::node::Node;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::future::{join_all, try_join_all};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::plan::{self, Validated};
use veilgate_federated::planner::{self, Federation, Member, Planned, parameters};
use veilgate_federated::release::{self, Released};
use veilgate_federated::run::{RunId, Signed};
use veilgate_proto::peer::v1 as wire;
use wire::run_event::Event;

/// After the first failure of a run: how long the others may take to say what they saw, so that
/// the cause is reported and not its echo.
const ECHO: Duration = Duration::from_millis(400);

/// How long a gateway may take to say what it publishes, connecting included.
const CATALOG_PATIENCE: Duration = Duration::from_secs(5);

/// Rules that a gateway tells of one plan.
const MOST_RULES: usize = 10_000;
/// Bytes of one of them.
const LONGEST_RULE: usize = 1_000;

/// What the analyst is told while a query runs; functions of public sizes only.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    pub(crate) phase: String,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) rounds: u64,
    pub(crate) detail: String,
}

/// A released answer with its origin.
pub(crate) struct Answer {
    pub(crate) released: Released,
    pub(crate) digest: [u8; 32],
    pub(crate) notices: Vec<(String, String)>,
}

/// Answers queries at this home gateway.
pub(crate) struct Coordinator {
    node: Arc<Node>,
    participant: Arc<Participant>,
    /// One for each run that it coordinates at the same time; the others wait for their turn.
    turns: Turns,
}

/// What everybody has signed for.
pub(super) struct Prepared {
    pub(super) tokens: Vec<wire::Prepared>,
    /// What files each party reads, as its consent says; empty for one that reads none.
    pub(super) snapshots: Vec<Vec<u8>>,
}

/// A plan that can be proposed.
pub(crate) struct Ready {
    planned: Planned,
    validated: Validated,
    /// The query's parameters, a column each.
    pub(crate) parameters: SchemaRef,
    /// Whether it has a value for each of them, or examples stand in their place.
    pub(crate) bound: bool,
}

impl Ready {
    /// The schema that the analyst will see.
    pub(crate) fn schema(&self) -> SchemaRef {
        plan::output_schema(&self.planned.plan.release.output)
    }

    /// The departments with a part in it.
    pub(crate) fn departments(&self) -> impl Iterator<Item = &str> {
        let parties = self.planned.plan.parties.iter();
        parties.map(|party| party.department.as_str())
    }
}

/// A plan, explained.
pub(crate) struct Explained {
    /// For people.
    pub(crate) text: String,
    /// The same as rows.
    pub(crate) entries: Vec<plan::explain::Entry>,
    /// Of the plan.
    pub(crate) digest: [u8; 32],
}

impl Coordinator {
    pub(crate) fn new(node: Arc<Node>, participant: Arc<Participant>) -> Self {
        let turns = Turns::new(node.limits.max_runs);
        Self {
            node,
            participant,
            turns,
        }
    }

    /// Has every department check a plan, and explains it. Runs nothing.
    pub(crate) async fn explain(&self, ready: &Ready, asker: &Asker) -> Result<Explained> {
        let gateways = self.gateways(&ready.planned)?;
        let run = RunId(self.node.random()?);
        let proposal = proposal(run, &ready.validated, asker, true);
        let replies = self.propose_all(&gateways, &proposal).await?;
        let rules = rules(&ready.planned, &replies);
        Ok(Explained {
            text: plan::explain::explain(&ready.planned, &rules),
            entries: plan::explain::entries(&ready.planned, &rules),
            digest: ready.validated.digest(),
        })
    }

    /// Runs one plan to its release. Dropping the future cancels the run on all gateways.
    pub(crate) async fn query(
        &self,
        ready: &Ready,
        run: RunId,
        asker: &Asker,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Answer> {
        let tell = |phase: &str| Progress {
            phase: phase.to_owned(),
            ..Progress::default()
        };
        let Ready {
            planned, validated, ..
        } = ready;
        planner::budget::within(&planned.plan, self.node.limits.budget())?;
        let gateways = self.gateways(planned)?;
        let proposal = proposal(run, validated, asker, false);
        if self.turns.full(&asker.analyst) {
            let _ = progress.try_send(tell("queued"));
        }
        let _turn = self.turns.next(&asker.analyst).await?;
        let mut times = Times::start();
        // However this ends but well, even by being dropped, the run ends everywhere.
        let mut guard = AbortGuard {
            run,
            gateways: gateways.clone(),
            why: Some(Error::new(
                Code::Cancelled,
                "the analyst cancelled the query",
            )),
        };
        let outcome = async {
            let _ = progress.try_send(tell("consent"));
            let replies = self.propose_all(&gateways, &proposal).await?;
            times.end("admission");
            let consents = self.consents(run, &gateways, &replies).await?;
            times.end("consent");
            let prepared = self.run_all(run, &gateways, consents, &progress).await?;
            times.end("computing");
            let _ = progress.try_send(tell("release"));
            let released = self.release(run, planned, &gateways, &prepared).await?;
            times.end("release");
            let mut notices = notices(planned, &released, &replies, &prepared);
            notices.push(times.notice());
            Ok(Answer {
                released,
                digest: validated.digest(),
                notices,
            })
        }
        .await;
        guard.why = outcome.as_ref().err().cloned();
        if outcome.is_ok() {
            self.participant.forget(run);
        }
        outcome
    }

    /// Plans a query over what the federation publishes; `values` are those of its parameters, one row.
    /// Without them it is planned with examples, which cannot be run.
    pub(crate) async fn plan(&self, sql: &str, values: Option<&RecordBatch>) -> Result<Ready> {
        let (federation, missing) = self.federation().await;
        tokio::task::block_in_place(|| self.plan_over(&federation, sql, values))
            .map_err(|error| blame_missing(error, sql, &missing))
    }

    fn plan_over(
        &self,
        federation: &Federation,
        sql: &str,
        values: Option<&RecordBatch>,
    ) -> Result<Ready> {
        let parameters = parameters::parameters(sql, federation)?;
        let none = parameters.fields().is_empty();
        let filled = match values {
            Some(values) => Some(parameters::fitted(values, &parameters)?),
            None if none => None,
            None => Some(parameters::examples(&parameters)?),
        };
        let planned = planner::plan(&planner::Request {
            sql,
            parameters: filled.as_ref(),
            home: &self.node.department,
            federation,
            engine: self.node.engine.clone(),
            line: self.node.federation.line(),
            strategy: None,
        })?;
        let validated = Validated::from_plan(&planned.plan)?;
        Ok(Ready {
            planned,
            validated,
            bound: none || values.is_some(),
            parameters,
        })
    }

    /// What every gateway publishes, and which gateways could not be asked and why.
    pub(crate) async fn federation(&self) -> (Federation, Vec<(String, bool, Error)>) {
        let others = self.node.other_gateways();
        let asked = join_all(others.iter().map(|other| async {
            let department = other.department.as_str();
            let asked = peers::within(department, CATALOG_PATIENCE, self.member(department));
            asked.await.and_then(|member| member)
        }))
        .await;
        let mut members = vec![self.node.member()];
        let mut missing = Vec::new();
        for (other, member) in others.iter().zip(asked) {
            match member {
                Ok(member) => members.push(member),
                Err(error) => missing.push((other.department.clone(), other.neutral, error)),
            }
        }
        members.sort_by(|a, b| a.department.cmp(&b.department));
        let tables = self.node.federation.tables().to_vec();
        (Federation { members, tables }, missing)
    }

    async fn member(&self, department: &str) -> Result<Member> {
        let mut client = self.node.peer_client(department)?;
        let error = |status: &tonic::Status| crate::errors::from_status(status, department);
        let hello = self.node.hello();
        let reply = client
            .hello(hello.clone())
            .await
            .map_err(|status| error(&status))?
            .into_inner();
        if reply.department != department {
            return Err(Error::new(
                Code::WrongIdentity,
                format!("the gateway at the address of {department} says it is another"),
            )
            .at(department));
        }
        self.node.check_hello(
            reply.protocol_version,
            &reply.engine_version,
            &reply.config_hash,
            department,
        )?;
        let reply = client
            .catalog(wire::CatalogRequest {})
            .await
            .map_err(|status| error(&status))?
            .into_inner();
        crate::node::member_from_wire(department, &reply)
    }

    fn gateways(&self, planned: &Planned) -> Result<Vec<Gateway>> {
        planned
            .plan
            .parties
            .iter()
            .map(|party| {
                if party.department == self.node.department {
                    return Ok(Gateway::Me(Arc::clone(&self.participant)));
                }
                Ok(Gateway::Peer(Remote {
                    department: party.department.clone(),
                    client: self.node.peer_client(&party.department)?,
                    patience: self.node.limits.peer_silence,
                }))
            })
            .collect()
    }

    async fn propose_all(
        &self,
        gateways: &[Gateway],
        proposal: &Proposal,
    ) -> Result<Vec<wire::ProposeReply>> {
        let replies = if proposal.explain_only {
            let asked = gateways
                .iter()
                .map(|gateway| gateway.propose(proposal.clone()));
            all(join_all(asked).await)?
        } else {
            // One after another, in the order that all home gateways have: each gateway gives a run a place for its
            // time, and whoever waits for one holds none that another waits for.
            let mut replies = Vec::with_capacity(gateways.len());
            for gateway in gateways {
                replies.push(gateway.propose(proposal.clone()).await?);
            }
            replies
        };
        for (index, reply) in replies.iter().enumerate() {
            check_rules(&reply.rules)
                .map_err(|error| error.at(self.department_of(gateways, index)))?;
        }
        Ok(replies)
    }

    /// Everybody's consent over everybody's nonces.
    async fn consents(
        &self,
        run: RunId,
        gateways: &[Gateway],
        replies: &[wire::ProposeReply],
    ) -> Result<Vec<Signed>> {
        let nonces: Vec<Vec<u8>> = replies.iter().map(|reply| reply.nonce.clone()).collect();
        let consents = join_all(
            gateways
                .iter()
                .map(|gateway| gateway.consent(run, nonces.clone())),
        )
        .await;
        all(consents)
    }

    /// Starts everybody, and waits for all release tokens.
    async fn run_all(
        &self,
        run: RunId,
        gateways: &[Gateway],
        consents: Vec<Signed>,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<Prepared> {
        let snapshots = consents.iter().map(snapshot).collect();
        let (sender, mut events) = mpsc::channel(64 * gateways.len());
        for (index, gateway) in gateways.iter().enumerate() {
            let (gateway, consents, sender) = (gateway.clone(), consents.clone(), sender.clone());
            tokio::spawn(async move {
                let mut stream = match gateway.start(run, consents).await {
                    Ok(stream) => stream,
                    Err(error) => {
                        let _ = sender.send((index, Some(Err(error)))).await;
                        return;
                    }
                };
                loop {
                    let event = tokio::select! {
                        event = stream.recv() => event,
                        // Nobody listens any more: dropping the stream ends the run there.
                        () = sender.closed() => return,
                    };
                    let last = event.is_none();
                    if sender.send((index, event)).await.is_err() || last {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut tokens: Vec<Option<wire::Prepared>> = vec![None; gateways.len()];
        let mut errors = Vec::new();
        let whole = self.node.limits.run_deadline + CATALOG_PATIENCE;
        let mut deadline = tokio::time::Instant::now() + whole;
        loop {
            let next = tokio::time::timeout_at(deadline, events.recv()).await;
            let Some((index, event)) = next.unwrap_or(None) else {
                break;
            };
            match event {
                Some(Ok(Event::Progress(event))) => {
                    let _ = progress.try_send(Progress {
                        phase: event.phase,
                        rows: event.rows,
                        bytes: event.bytes,
                        rounds: event.rounds,
                        detail: event.detail,
                    });
                }
                Some(Ok(Event::Prepared(token))) => tokens[index] = Some(token),
                Some(Err(error)) => {
                    errors.push((self.department_of(gateways, index).to_owned(), error));
                }
                None if tokens[index].is_none() && errors.is_empty() => {
                    let department = self.department_of(gateways, index);
                    errors.push((department.to_owned(), peers::ended_early(department)));
                }
                None => {}
            }
            if !errors.is_empty() {
                deadline = deadline.min(tokio::time::Instant::now() + ECHO);
            }
            if errors.is_empty() && tokens.iter().all(Option::is_some) {
                break;
            }
        }
        if let Some(error) = cause(without_echoes(errors)) {
            return Err(error);
        }
        let tokens: Vec<wire::Prepared> = tokens.into_iter().flatten().collect();
        if tokens.len() != gateways.len() {
            return Err(Error::new(
                Code::PeerUnavailable,
                "a gateway ended the run without its release token",
            ));
        }
        Ok(Prepared { tokens, snapshots })
    }

    fn department_of<'a>(&'a self, gateways: &'a [Gateway], index: usize) -> &'a str {
        match &gateways[index] {
            Gateway::Me(_) => &self.node.department,
            Gateway::Peer(remote) => &remote.department,
        }
    }

    /// Everybody has prepared: collects the final shares and opens them.
    async fn release(
        &self,
        run: RunId,
        planned: &Planned,
        gateways: &[Gateway],
        prepared: &Prepared,
    ) -> Result<Released> {
        let me = &self.node.department;
        let (committed, own) = self
            .participant
            .finish(me, run, prepared.tokens.clone())
            .await?;
        let sealed = try_join_all(gateways.iter().map(|gateway| async {
            match gateway {
                Gateway::Me(_) => Ok(Vec::new()),
                Gateway::Peer(remote) => remote.commit(run, prepared.tokens.clone()).await,
            }
        }))
        .await?;
        let computing = planned
            .plan
            .computing_parties()
            .ok_or_else(|| Error::new(Code::Internal, "the plan has no computing parties"))?;
        let mut own = own;
        let mut shares = Vec::with_capacity(3);
        for party in computing {
            if party == committed.permitted().me() {
                shares.push(own.take().ok_or_else(|| {
                    Error::new(Code::Internal, "this computing party has no share")
                })?);
            } else {
                shares.push(committed.unseal(party, &sealed[party])?);
            }
        }
        let shares: [Vec<u8>; 3] = shares
            .try_into()
            .map_err(|_| Error::new(Code::Internal, "there are three shares"))?;
        release::open(committed.permitted(), shares).await
    }
}

/// What a gateway tells of its rules goes to the analyst: not much, and printable.
fn check_rules(rules: &[String]) -> Result<()> {
    let good = |rule: &String| {
        let printable = |c: char| c == '\t' || !c.is_control();
        rule.len() <= LONGEST_RULE && rule.chars().all(printable)
    };
    if rules.len() <= MOST_RULES && rules.iter().all(good) {
        return Ok(());
    }
    Err(Error::new(
        Code::PeerMisbehaved,
        "what it tells of its rules is too long, or not printable",
    ))
}

fn proposal(run: RunId, validated: &Validated, asker: &Asker, explain_only: bool) -> Proposal {
    Proposal {
        run,
        plan: validated.bytes().to_vec(),
        asker: asker.clone(),
        explain_only,
    }
}

/// Aborts the run on all gateways, for a reason, unless the reason was taken away.
struct AbortGuard {
    run: RunId,
    gateways: Vec<Gateway>,
    why: Option<Error>,
}

impl Drop for AbortGuard {
    fn drop(&mut self) {
        let Some(why) = self.why.take() else { return };
        let (run, gateways) = (self.run, std::mem::take(&mut self.gateways));
        tokio::spawn(async move {
            join_all(gateways.iter().map(|gateway| gateway.abort(run, &why))).await;
        });
    }
}
