//! This gateway as one party of runs that a home gateway coordinates.
//!
//! Each run sits in one slot of the table as the typed state it has reached; a message takes the
//! state out, makes the transition and puts the next one in. A message that does not fit the state
//! is the caller's misbehaviour. Every decision leaves a leaf in the ledger before it is told.

use super::execution::{self, Finished};
use super::peers::{Events, Proposal};
use crate::node::Node;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::flow;
use veilgate_federated::plan;
use veilgate_federated::planner::budget;
use veilgate_federated::release::{Guarded, ReleaseReceipt};
use veilgate_federated::run::{Committed, Consenting, Prepared, Proposed, RunId, Signed};
use veilgate_proto::peer::v1 as wire;
use wire::run_event::Event;

/// How long a run may stay in a state that waits for its home gateway.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a run may wait for others to end before it begins: a home gateway lets no more than fit begin, so
/// that only runs of several home gateways meet here. Three of them are below [`PATIENCE`].
pub(super) const TURN: Duration = Duration::from_secs(15);
/// Runs that were aborted before they were known here, and are remembered.
const ABORTED: usize = 4_096;
/// Plans that are checked at the same time, and not run.
const CHECKS: usize = 16;
/// Validity of a consent.
const CONSENT_SECONDS: u64 = 60;

/// The runs that this gateway takes part in.
pub(crate) struct Participant {
    node: Arc<Node>,
    runs: Mutex<HashMap<RunId, Slot>>,
    /// Aborted by this home gateway, at this time, while their proposals were under way. Locked after `runs`.
    aborted: Mutex<HashMap<RunId, (String, Instant)>>,
    /// One for each run that may be under way.
    permits: Arc<Semaphore>,
    /// One for each plan that is checked and not run.
    checks: Semaphore,
}

struct Slot {
    home: String,
    state: State,
    cancel: Arc<AtomicBool>,
    touched: Instant,
    /// Given back when nothing more is computed.
    permit: Option<OwnedSemaphorePermit>,
}

enum State {
    Proposed(Proposed),
    Consenting(Consenting),
    /// Taken out by the task that runs it.
    Running,
    Prepared(Prepared, Option<(Guarded, ReleaseReceipt)>),
    /// Sealed shares can be redelivered byte for byte until the slot is dropped.
    Committed(Vec<u8>),
}

impl Participant {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        let permits = Arc::new(Semaphore::new(node.limits.max_runs));
        Self {
            node,
            runs: Mutex::default(),
            aborted: Mutex::default(),
            permits,
            checks: Semaphore::new(CHECKS),
        }
    }

    /// The right to run something, which is given back at its end.
    ///
    /// # Errors
    /// `LimitExceeded` when there is none for a while.
    async fn permit(&self) -> Result<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.permits).acquire_owned();
        let waited = tokio::time::timeout(TURN, permit).await;
        waited
            .ok()
            .and_then(std::result::Result::ok)
            .ok_or_else(|| {
                Error::new(
                    Code::LimitExceeded,
                    format!(
                        "{} runs are under way at this gateway",
                        self.node.limits.max_runs
                    ),
                )
            })
    }

    /// Checks a plan against this department's own rules; leaves an admission leaf either way.
    pub(crate) async fn propose(
        &self,
        caller: &str,
        proposal: Proposal,
    ) -> Result<wire::ProposeReply> {
        let node = &self.node;
        let (permit, _check) = match proposal.explain_only {
            true => (None, self.checks.acquire().await.ok()),
            false => (Some(self.permit().await?), None),
        };
        let validated = plan::decode(&proposal.plan)?;
        let digest = validated.digest();
        let plan = validated.plan();
        let home = plan
            .result_party()
            .map(|party| plan.parties[party].department.clone());
        if home.as_deref() != Some(caller) {
            return Err(Error::new(
                Code::PeerMisbehaved,
                "only the gateway to which a result is opened may propose its plan",
            )
            .at(caller));
        }
        let asker = &proposal.asker;
        let named = asker.analyst.split_once('@').filter(|(name, department)| {
            *department == caller && crate::identity::check_name(name).is_ok()
        });
        if named.is_none() {
            return Err(Error::new(
                Code::PeerMisbehaved,
                "it names an analyst that cannot be its own",
            )
            .at(caller));
        }
        for (what, text) in [("purpose", &asker.purpose), ("case number", &asker.case)] {
            super::check_reason(what, text)?;
        }
        if !proposal.explain_only {
            tokio::task::block_in_place(|| node.use_run_id(proposal.run))?;
        }
        // The check parses SQL: some milliseconds of CPU.
        let decision = tokio::task::block_in_place(|| {
            node.still_permitted()?;
            let permitted = flow::check(&validated, &node.me(caller, asker.reason()))?;
            let me = permitted.plan().parties.get(permitted.me());
            if !proposal.explain_only && me.is_some_and(|party| party.computing.is_some()) {
                budget::within(permitted.plan(), node.limits.budget())?;
            }
            Ok(permitted)
        });
        let admission = crate::ledger::Leaf::admission(
            &proposal.run,
            &digest,
            asker,
            decision.as_ref().err(),
            proposal.explain_only,
            node.now(),
        );
        node.record(admission).await?;
        let permitted = decision?;
        let rules = permitted
            .rules()
            .iter()
            .map(|(rule, what)| format!("{rule}\t{what}"))
            .collect();
        if proposal.explain_only {
            return Ok(wire::ProposeReply {
                nonce: Vec::new(),
                rules,
            });
        }
        let proposed = Proposed::new(
            permitted,
            proposal.run,
            proposal.asker.analyst,
            node.random()?,
        );
        let nonce = proposed.nonce().to_vec();
        let slot = Slot {
            home: caller.to_owned(),
            state: State::Proposed(proposed),
            cancel: Arc::new(AtomicBool::new(false)),
            touched: Instant::now(),
            permit,
        };
        let mut runs = self.lock();
        let aborted = self.aborted().remove(&proposal.run);
        if aborted.is_some_and(|(home, _)| home == caller) {
            return Err(Error::new(Code::Cancelled, "the run was cancelled"));
        }
        if runs.insert(proposal.run, slot).is_some() {
            runs.remove(&proposal.run);
            return Err(
                Error::new(Code::PeerMisbehaved, "this run id is already in use").at(caller),
            );
        }
        Ok(wire::ProposeReply { nonce, rules })
    }

    /// Signs this gateway's consent over the digest and everybody's nonces.
    pub(crate) async fn consent(
        &self,
        caller: &str,
        run: RunId,
        nonces: Vec<Vec<u8>>,
    ) -> Result<Signed> {
        let node = &self.node;
        let State::Proposed(proposed) =
            self.take(caller, run, |state| matches!(state, State::Proposed(_)))?
        else {
            return Err(out_of_turn(caller));
        };
        let result = async {
            let versions = tokio::task::block_in_place(|| node.versions(proposed.permitted()))?;
            let expires = node.now() + CONSENT_SECONDS;
            let policy = versions.policy.clone();
            let (consenting, signed) = proposed.consent(
                &nonces,
                node.random()?,
                versions,
                expires,
                node.identity.as_ref(),
            )?;
            let leaf = crate::ledger::Leaf::consent(
                &run,
                &consenting.permitted().digest(),
                &policy,
                node.now(),
            );
            node.record(leaf).await?;
            Ok((consenting, signed))
        }
        .await;
        match result {
            Ok((consenting, signed)) => {
                self.put(run, State::Consenting(consenting), true)?;
                Ok(signed)
            }
            Err(error) => {
                self.fail(run, &error).await;
                Err(error)
            }
        }
    }

    /// Verifies everybody's consents and runs the plan in the background.
    pub(crate) async fn start(
        self: &Arc<Self>,
        caller: &str,
        run: RunId,
        consents: Vec<Signed>,
    ) -> Result<Events> {
        let State::Consenting(consenting) =
            self.take(caller, run, |state| matches!(state, State::Consenting(_)))?
        else {
            return Err(out_of_turn(caller));
        };
        let node = Arc::clone(&self.node);
        let begun = async {
            let running = consenting.start(&consents, node.federation.as_ref(), node.now())?;
            let leaf = crate::ledger::Leaf::start(&run, &running.permitted().digest(), node.now());
            node.record(leaf).await?;
            Ok((running, self.cancel_flag(run)?))
        }
        .await;
        let (running, cancel) = match begun {
            Ok(begun) => begun,
            Err(error) => {
                self.fail(run, &error).await;
                return Err(error);
            }
        };
        let (sender, receiver) = mpsc::channel(64);
        let this = Arc::clone(self);
        let deadline = self.node.limits.run_deadline;
        tokio::spawn(async move {
            let watched = Arc::clone(&cancel);
            let late = Arc::new(AtomicBool::new(false));
            let too_late = Arc::clone(&late);
            let closed = sender.clone();
            // A home gateway that goes away takes its run with it; no run outlives its deadline.
            let watcher = tokio::spawn(async move {
                let ended = tokio::time::timeout(deadline, closed.closed()).await;
                too_late.store(ended.is_err(), Ordering::Relaxed);
                watched.store(true, Ordering::Relaxed);
            });
            let outcome = execution::run(&this.node, running, sender.clone(), cancel).await;
            watcher.abort();
            this.node.registry.forget(run);
            this.node.carried.forget(run);
            let event = match outcome {
                Ok(finished) => this.prepared(run, finished).map(Event::Prepared),
                Err(error) if error.code == Code::Cancelled && late.load(Ordering::Relaxed) => {
                    Err(Error::new(
                        Code::LimitExceeded,
                        format!("the run took longer than {} s", deadline.as_secs()),
                    )
                    .at(this.department()))
                }
                Err(error) => Err(error),
            };
            if let Err(error) = &event {
                this.fail(run, error).await;
            }
            let _ = sender.send(event).await;
        });
        Ok(receiver)
    }

    fn prepared(&self, run: RunId, finished: Finished) -> Result<wire::Prepared> {
        let event = wire::Prepared {
            token: finished.token.body,
            signature: finished.token.signature,
            bytes_sent: finished.traffic.bytes_sent,
            rounds: finished.traffic.rounds,
            ledger_leaf: finished.leaf,
        };
        let state = State::Prepared(finished.prepared, finished.result);
        self.put(run, state, false)?;
        Ok(event)
    }

    /// Verifies everybody's release tokens; a computing party then lets its final share go, sealed
    /// to the result party. Asked again, it answers with the same bytes.
    pub(crate) async fn commit(
        &self,
        caller: &str,
        run: RunId,
        tokens: Vec<wire::Prepared>,
    ) -> Result<Vec<u8>> {
        if let Some(sealed) = self.redelivery(caller, run)? {
            return Ok(sealed);
        }
        let (committed, share) = self.finish(caller, run, tokens).await?;
        let Some(share) = share else {
            self.lock().remove(&run);
            return Ok(Vec::new());
        };
        let sealed = committed.seal(&share)?;
        self.put(run, State::Committed(sealed.clone()), false)?;
        Ok(sealed)
    }

    /// The last transition: everybody has signed for the release. At the result party the caller
    /// opens the shares of the others with what this returns.
    pub(crate) async fn finish(
        &self,
        caller: &str,
        run: RunId,
        tokens: Vec<wire::Prepared>,
    ) -> Result<(Committed, Option<Vec<u8>>)> {
        let State::Prepared(prepared, result) =
            self.take(caller, run, |state| matches!(state, State::Prepared(..)))?
        else {
            return Err(out_of_turn(caller));
        };
        let tokens: Vec<Signed> = tokens
            .into_iter()
            .map(|token| Signed {
                body: token.token,
                signature: token.signature,
            })
            .collect();
        match prepared.commit(&tokens, self.node.federation.as_ref()) {
            Ok(committed) => {
                let share = result.map(|(guarded, receipt)| guarded.seal(&receipt));
                Ok((committed, share.transpose()?))
            }
            Err(error) => {
                self.fail(run, &error).await;
                Err(error)
            }
        }
    }

    /// Forgets a run of its own that has ended well.
    pub(crate) fn forget(&self, run: RunId) {
        self.lock().remove(&run);
    }

    /// The department whose gateway this is.
    pub(crate) fn department(&self) -> &str {
        &self.node.department
    }

    /// Ends a run early at its home gateway's word.
    pub(crate) async fn abort(&self, caller: &str, run: RunId, why: Error) {
        let ours = {
            let runs = self.lock();
            if !runs.contains_key(&run) {
                let mut aborted = self.aborted();
                if aborted.len() < ABORTED {
                    aborted.insert(run, (caller.to_owned(), Instant::now()));
                }
            }
            runs.get(&run).is_some_and(|slot| slot.home == caller)
        };
        if ours {
            self.fail(run, &why).await;
        }
    }

    fn aborted(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, (String, Instant)>> {
        self.aborted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cancels everything, for shutdown.
    pub(crate) fn cancel_all(&self) {
        for slot in self.lock().values() {
            slot.cancel.store(true, Ordering::Relaxed);
        }
    }

    /// Takes the slot away, stops its threads and writes the failure leaf.
    async fn fail(&self, run: RunId, error: &Error) {
        let Some(slot) = self.lock().remove(&run) else {
            return;
        };
        if matches!(slot.state, State::Committed(_)) {
            // Released: there is nothing left to fail.
            return;
        }
        slot.cancel.store(true, Ordering::Relaxed);
        // Those who began before they knew have opened data connections.
        self.node.registry.forget(run);
        self.node.carried.forget(run);
        tracing::warn!(run = %run.short(), code = error.code.name(), "run failed");
        let leaf = crate::ledger::Leaf::failure(&run, error.code, self.node.now());
        if let Err(error) = self.node.record(leaf).await {
            tracing::error!(run = %run.short(), code = error.code.name(), "the failure could not be recorded");
        }
    }

    fn redelivery(&self, caller: &str, run: RunId) -> Result<Option<Vec<u8>>> {
        match self.lock().get(&run) {
            Some(slot) if slot.home != caller => Err(foreign(caller)),
            Some(Slot {
                state: State::Committed(sealed),
                ..
            }) => Ok(Some(sealed.clone())),
            _ => Ok(None),
        }
    }

    /// Takes the state out of a slot of the caller's, leaving `Running`.
    fn take(&self, caller: &str, run: RunId, fits: impl Fn(&State) -> bool) -> Result<State> {
        let mut runs = self.lock();
        let slot = runs.get_mut(&run).ok_or_else(|| {
            Error::new(
                Code::PeerMisbehaved,
                "no such run is under way here; it may have ended or expired",
            )
        })?;
        if slot.home != caller {
            return Err(foreign(caller));
        }
        if !fits(&slot.state) {
            return Err(out_of_turn(caller));
        }
        slot.touched = Instant::now();
        Ok(std::mem::replace(&mut slot.state, State::Running))
    }

    fn put(&self, run: RunId, state: State, computes: bool) -> Result<()> {
        let mut runs = self.lock();
        let slot = runs
            .get_mut(&run)
            .ok_or_else(|| Error::new(Code::Cancelled, "the run was cancelled"))?;
        slot.state = state;
        slot.touched = Instant::now();
        if !computes {
            slot.permit = None;
        }
        Ok(())
    }

    fn cancel_flag(&self, run: RunId) -> Result<Arc<AtomicBool>> {
        self.lock()
            .get(&run)
            .map(|slot| Arc::clone(&slot.cancel))
            .ok_or_else(|| Error::new(Code::Cancelled, "the run was cancelled"))
    }

    /// Ends runs whose home gateway has gone silent between two states, for as long as the gateway
    /// stands.
    pub(crate) async fn sweep(&self) {
        let mut tick = tokio::time::interval(PATIENCE / 4);
        loop {
            tick.tick().await;
            self.aborted()
                .retain(|_, (_, since)| since.elapsed() < PATIENCE);
            let whole = self.node.limits.run_deadline + PATIENCE;
            let silent: Vec<RunId> = self
                .lock()
                .iter()
                .filter(|(_, slot)| {
                    let patience = match slot.state {
                        State::Proposed(_) | State::Consenting(_) | State::Committed(_) => PATIENCE,
                        State::Running | State::Prepared(..) => whole,
                    };
                    slot.touched.elapsed() > patience
                })
                .map(|(run, _)| *run)
                .collect();
            for run in silent {
                let why = Error::new(Code::PeerUnavailable, "the home gateway fell silent");
                self.fail(run, &why).await;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, Slot>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn out_of_turn(caller: &str) -> Error {
    Error::new(
        Code::PeerMisbehaved,
        "a message of the run came out of turn",
    )
    .at(caller)
}

fn foreign(caller: &str) -> Error {
    Error::new(
        Code::PeerMisbehaved,
        "this run belongs to another home gateway",
    )
    .at(caller)
}
