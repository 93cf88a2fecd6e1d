//! One query that runs for an analyst.

use super::kept::Head;
use super::options::Key;
use super::statement::{Prepared, Work, unbound};
use super::{QueryManager, Session};
use crate::session::Asker;
use crate::session::coordinator::{Answer, Progress};
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use futures::FutureExt;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::run::RunId;

/// How long an answer waits for whoever asked.
const KEPT: Duration = Duration::from_secs(600);
/// How long a kept answer can be fetched again.
const AGAIN: Duration = Duration::from_secs(30);
/// How often kept answers are looked through.
const SWEEP: Duration = Duration::from_secs(10);

/// A query under way or ended.
pub(crate) struct Query {
    /// Its number: that of its run on all gateways.
    pub(crate) id: RunId,
    /// Who asked and for what.
    pub(crate) asker: Asker,
    /// The schema of its answer, as advertised.
    pub(crate) schema: SchemaRef,
    /// When it was asked, in Unix seconds.
    pub(crate) submitted: u64,
    /// The departments with a part in it.
    pub(crate) departments: Vec<String>,
    /// Of which session it is; none of one that outlives them.
    pub(super) session: Option<Key>,
    /// Whether several gateways have a part in it.
    pub(super) joint: bool,
    state: watch::Sender<State>,
    cancel: CancellationToken,
    notices: Mutex<Vec<(String, String)>>,
}

/// How far a query has come.
#[derive(Clone)]
pub(crate) enum State {
    /// It runs.
    Running(Progress),
    /// Its answer waits to be fetched.
    Done(Arc<Finished>),
    /// Its answer waits on disk, until this time in Unix seconds.
    Kept {
        rows: usize,
        expires: u64,
        /// Whether it was fetched already, and stays for a client that lost it on the way.
        fetched: bool,
    },
    /// Its answer was fetched, or waited too long; so many rows.
    Gone(usize),
    /// It ended with this error.
    Failed(Error),
}

/// With whom a query ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stay {
    /// With the connection of its session; its answer is there for ten minutes.
    Attached,
    /// With nobody: its answer is kept, sealed, as long as the gateway is configured to.
    Detached,
}

/// An answer.
pub(crate) struct Finished {
    /// The rows.
    pub(crate) rows: RecordBatch,
    /// Kind and text of each.
    pub(crate) notices: Vec<(String, String)>,
    /// Of the plan; none where nothing joint ran.
    pub(crate) digest: Option<[u8; 32]>,
}

impl Finished {
    /// Of rows that the gateway made alone.
    pub(super) fn own(rows: RecordBatch) -> Self {
        Self {
            rows,
            notices: Vec::new(),
            digest: None,
        }
    }

    fn of(answer: Answer) -> Self {
        let (rows, _) = answer.released.into_parts();
        Self {
            rows,
            notices: answer.notices,
            digest: Some(answer.digest),
        }
    }

    /// What clients are told beside the rows: a JSON object with `query_id`, `plan_digest` and `notices`.
    pub(crate) fn told(&self, id: RunId) -> String {
        let notices: Vec<_> = self
            .notices
            .iter()
            .map(|(kind, text)| serde_json::json!({"kind": kind, "text": text}))
            .collect();
        serde_json::json!({
            "query_id": id.to_string(),
            "plan_digest": self.digest.map(hex::encode),
            "notices": notices,
        })
        .to_string()
    }

    /// The schema of the rows with what clients are told as its metadata.
    pub(crate) fn schema(&self, id: RunId) -> SchemaRef {
        let schema = self.rows.schema();
        let told = HashMap::from([
            ("veilgate.query_id".to_owned(), id.to_string()),
            ("veilgate.told".to_owned(), self.told(id)),
        ]);
        Arc::new(Schema::new_with_metadata(schema.fields().clone(), told))
    }
}

impl QueryManager {
    /// Starts to execute a statement.
    ///
    /// # Errors
    /// `LimitExceeded` when too many run; `WrongIdentity` without the role; `BadRequest` for a statement whose parameters are not bound.
    pub(crate) fn start(
        self: &Arc<Self>,
        session: &Session,
        prepared: &Prepared,
        stay: Stay,
    ) -> Result<Arc<Query>> {
        // Roles may have changed since it was prepared.
        match &prepared.work {
            Work::Joint(_) | Work::Explain(_) => session.may_ask()?,
            Work::Unbound => return Err(unbound()),
            Work::Own { .. } | Work::Option { .. } => {}
        }
        let query = Arc::new(Query {
            id: RunId(self.node.random()?),
            asker: session.asker(),
            schema: Arc::clone(&prepared.schema),
            submitted: self.node.now(),
            departments: prepared.departments(),
            session: (stay == Stay::Attached).then(|| session.key().clone()),
            joint: matches!(prepared.work, Work::Joint(_)),
            state: watch::Sender::new(State::Running(Progress::default())),
            cancel: CancellationToken::new(),
            notices: Mutex::default(),
        });
        self.remember(&query)?;
        let (manager, session) = (Arc::clone(self), session.clone());
        let (work, running) = (prepared.work.clone(), Arc::clone(&query));
        tokio::spawn(async move {
            let connection = match stay {
                Stay::Attached => session.connection.ended.clone(),
                Stay::Detached => CancellationToken::new(),
            };
            let (sender, mut steps) = mpsc::channel(64);
            let outcome = {
                // A defect ends the query, and not the watch over it.
                let execution = manager.execute(&session, &work, &running, sender);
                let execution = AssertUnwindSafe(execution).catch_unwind();
                tokio::pin!(execution);
                loop {
                    tokio::select! {
                        outcome = &mut execution => break outcome.unwrap_or_else(|_| Err(broken())),
                        Some(step) = steps.recv() => {
                            running.state.send_replace(State::Running(step));
                        }
                        // Dropping the execution cancels it on all gateways.
                        () = running.cancel.cancelled() => break Err(cancelled()),
                        () = connection.cancelled() => break Err(cancelled()),
                    }
                }
            };
            if stay == Stay::Detached {
                return manager.keep(&running, outcome).await;
            }
            running.end(outcome);
            tokio::select! {
                () = tokio::time::sleep(KEPT) => {}
                () = connection.cancelled() => {}
                () = running.taken() => {}
            }
            manager.take(&running);
        });
        Ok(query)
    }

    /// Seals the answer of a query that has ended, for whoever comes for it.
    async fn keep(self: &Arc<Self>, query: &Arc<Query>, outcome: Result<Finished>) {
        let finished = match outcome {
            Ok(finished) => finished,
            Err(error) => return query.end(Err(error)),
        };
        let expires = self.node.now() + self.kept.patience.as_secs();
        let head = Head::new(
            &query.asker,
            query.submitted,
            expires,
            &query.departments,
            &finished,
        );
        query.told_so_far().clone_from(&finished.notices);
        let (manager, id, rows) = (Arc::clone(self), query.id, finished.rows.num_rows());
        let put = move || manager.kept.put(id, &head, &finished.rows);
        let kept = tokio::task::spawn_blocking(put).await;
        let state = match kept {
            Ok(Ok(())) => State::Kept {
                rows,
                expires,
                fetched: false,
            },
            Ok(Err(error)) => State::Failed(error),
            Err(_) => State::Failed(Error::new(Code::Internal, "a result was not kept")),
        };
        query.state.send_replace(state);
    }

    /// Waits for the end of a query and gives its answer, which stays until it is taken.
    ///
    /// # Errors
    /// Its own; `BadRequest` when its answer is gone.
    pub(crate) async fn answer(self: &Arc<Self>, query: &Query) -> Result<Arc<Finished>> {
        match query.ended().await {
            State::Kept { expires, .. } if expires <= self.node.now() => self.take(query),
            State::Kept { .. } => {}
            _ => return query.finished().await,
        }
        let (manager, id) = (Arc::clone(self), query.id);
        let got = tokio::task::spawn_blocking(move || manager.kept.get(id)).await;
        let got = got.map_err(|_| Error::new(Code::Internal, "a kept result was not read"))?;
        match query.state() {
            State::Kept { .. } => got.map(Arc::new),
            // Thrown away meanwhile.
            _ => query.finished().await,
        }
    }

    /// The answer of a query was fetched as a whole, as far as can be told from here: a kept one stays for a
    /// while, for a client that lost it on the way.
    pub(crate) fn fetched(&self, query: &Query) {
        let soon = self.node.now() + AGAIN.as_secs();
        let kept = query.state.send_if_modified(|state| match state {
            State::Kept {
                expires, fetched, ..
            } => {
                *expires = soon.min(*expires);
                *fetched = true;
                self.kept.fetched(query.id);
                true
            }
            _ => false,
        });
        if !kept {
            self.take(query);
        }
    }

    /// Takes the answer of a query: from now on it is gone.
    pub(crate) fn take(&self, query: &Query) {
        query.state.send_if_modified(|state| {
            let rows = match state {
                State::Done(finished) => finished.rows.num_rows(),
                State::Kept { rows, .. } => {
                    self.kept.remove(query.id);
                    *rows
                }
                _ => return false,
            };
            *state = State::Gone(rows);
            true
        });
    }

    /// Throws away kept answers for which nobody came and forgets sessions that have ended, for as long as the
    /// gateway stands.
    pub(crate) async fn sweep(&self) {
        let mut tick = tokio::time::interval(SWEEP);
        loop {
            tick.tick().await;
            self.forget_sessions();
            let now = self.node.now();
            for query in self.everything() {
                if matches!(query.state(), State::Kept { expires, .. } if expires <= now) {
                    self.take(&query);
                }
            }
        }
    }

    async fn execute(
        &self,
        session: &Session,
        work: &Work,
        query: &Query,
        progress: mpsc::Sender<Progress>,
    ) -> Result<Finished> {
        match work {
            Work::Joint(ready) => {
                let asked = self
                    .coordinator
                    .query(ready, query.id, &query.asker, progress);
                asked.await.map(Finished::of)
            }
            other => self.answer_alone(session, other).await.map(Finished::own),
        }
    }
}

impl Query {
    /// One that an earlier process of this gateway answered.
    pub(super) fn kept(id: RunId, head: &Head) -> Self {
        Self {
            id,
            asker: head.asker(),
            schema: Arc::new(Schema::empty()),
            submitted: head.submitted,
            departments: head.departments.clone(),
            session: None,
            state: watch::Sender::new(State::Kept {
                rows: head.rows,
                expires: head.expires,
                fetched: false,
            }),
            joint: !head.departments.is_empty(),
            cancel: CancellationToken::new(),
            notices: Mutex::new(head.notices().to_vec()),
        }
    }

    /// Whether it ends with its client.
    pub(crate) fn attached(&self) -> bool {
        self.session.is_some()
    }

    /// How far it has come.
    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(*self.state.borrow(), State::Running(_))
    }

    /// What was told beside its answer, also after that is gone.
    pub(super) fn notices(&self) -> Vec<(String, String)> {
        self.told_so_far().clone()
    }

    /// Ends it on all gateways, if it has not ended.
    pub(crate) fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Cancels it when dropped.
    pub(crate) fn guard(&self) -> DropGuard {
        self.cancel.clone().drop_guard()
    }

    /// Waits for its end, and tells how it is then.
    pub(crate) async fn ended(&self) -> State {
        let mut state = self.state.subscribe();
        let ended = state.wait_for(|state| !matches!(state, State::Running(_)));
        let ended = ended.await.map(|state| state.clone());
        ended.unwrap_or_else(|_| State::Failed(cancelled()))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// Its own; `BadRequest` when its answer is gone, or is kept for another way of fetching it.
    pub(crate) async fn finished(&self) -> Result<Arc<Finished>> {
        match self.ended().await {
            State::Done(finished) => Ok(finished),
            State::Failed(error) => Err(error),
            State::Kept { .. } => Err(Error::new(
                Code::BadRequest,
                "this query was submitted to the Analyst service: fetch its answer there",
            )),
            State::Gone(_) => Err(Error::new(
                Code::BadRequest,
                "the answer of this query was fetched already, or waited too long: ask again",
            )),
            State::Running(_) => Err(cancelled()),
        }
    }

    /// Waits until it ends or goes on, but not longer than this.
    pub(crate) async fn moved(&self, patience: Duration) -> State {
        let mut state = self.state.subscribe();
        state.mark_unchanged();
        if self.is_running() {
            let _ = tokio::time::timeout(patience, state.changed()).await;
        }
        self.state()
    }

    async fn taken(&self) {
        let mut state = self.state.subscribe();
        let _ = state
            .wait_for(|state| !matches!(state, State::Done(_)))
            .await;
    }

    fn end(&self, outcome: Result<Finished>) {
        let state = match outcome {
            Ok(finished) => {
                self.told_so_far().clone_from(&finished.notices);
                State::Done(Arc::new(finished))
            }
            Err(error) => State::Failed(error),
        };
        self.state.send_replace(state);
    }

    fn told_so_far(&self) -> std::sync::MutexGuard<'_, Vec<(String, String)>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn broken() -> Error {
    Error::new(Code::Internal, "the query ended abnormally")
}

fn cancelled() -> Error {
    Error::new(Code::Cancelled, "the query was cancelled")
}
