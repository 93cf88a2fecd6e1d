//! One query that runs for an analyst.

use super::options::Key;
use super::statement::{Prepared, Work};
use super::{QueryManager, Session};
use crate::session::Asker;
use crate::session::coordinator::{Answer, Progress};
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::run::RunId;

/// How long an answer waits for whoever asked.
const KEPT: Duration = Duration::from_secs(600);

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
    /// Of which session it is.
    pub(super) session: Key,
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
    /// Its answer was fetched, or waited too long; so many rows.
    Gone(usize),
    /// It ended with this error.
    Failed(Error),
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
    /// Starts to execute a statement. It ends with the connection of the session, unless it has ended
    /// before; its answer is there for ten minutes.
    ///
    /// # Errors
    /// `LimitExceeded` when too many run; `WrongIdentity` without the role; `BadRequest` for a statement whose parameters are not bound.
    pub(crate) fn start(
        self: &Arc<Self>,
        session: &Session,
        prepared: &Prepared,
    ) -> Result<Arc<Query>> {
        // Roles may have changed since it was prepared.
        if let Work::Joint(_) | Work::Explain(_) = &prepared.work {
            session.may_ask()?;
        }
        let query = Arc::new(Query {
            id: RunId(self.node.random()?),
            asker: session.asker(),
            schema: Arc::clone(&prepared.schema),
            submitted: self.node.now(),
            departments: prepared.departments(),
            session: session.key().clone(),
            state: watch::Sender::new(State::Running(Progress::default())),
            cancel: CancellationToken::new(),
            notices: Mutex::default(),
        });
        self.remember(&query)?;
        let (manager, session) = (Arc::clone(self), session.clone());
        let (work, running) = (prepared.work.clone(), Arc::clone(&query));
        tokio::spawn(async move {
            let connection = session.connection.ended.clone();
            let (sender, mut steps) = mpsc::channel(64);
            let outcome = {
                let execution = manager.execute(&session, &work, &running, sender);
                tokio::pin!(execution);
                loop {
                    tokio::select! {
                        outcome = &mut execution => break outcome,
                        Some(step) = steps.recv() => {
                            running.state.send_replace(State::Running(step));
                        }
                        // Dropping the execution cancels it on all gateways.
                        () = running.cancel.cancelled() => break Err(cancelled()),
                        () = connection.cancelled() => break Err(cancelled()),
                    }
                }
            };
            running.end(outcome);
            tokio::select! {
                () = tokio::time::sleep(KEPT) => {}
                () = connection.cancelled() => {}
                () = running.taken() => {}
            }
            running.forget();
        });
        Ok(query)
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

    /// Waits for its end.
    ///
    /// # Errors
    /// Its own; `BadRequest` when its answer is gone.
    pub(crate) async fn finished(&self) -> Result<Arc<Finished>> {
        let mut state = self.state.subscribe();
        let ended = state.wait_for(|state| !matches!(state, State::Running(_)));
        let ended = ended.await;
        match ended.as_deref() {
            Ok(State::Done(finished)) => Ok(Arc::clone(finished)),
            Ok(State::Failed(error)) => Err(error.clone()),
            Ok(State::Gone(_)) => Err(Error::new(
                Code::BadRequest,
                "the answer of this query was fetched already, or waited too long: ask again",
            )),
            Ok(State::Running(_)) | Err(_) => Err(cancelled()),
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

    /// Takes the answer: it can be fetched once.
    pub(crate) fn forget(&self) {
        self.state.send_if_modified(|state| match state {
            State::Done(finished) => {
                *state = State::Gone(finished.rows.num_rows());
                true
            }
            _ => false,
        });
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

fn cancelled() -> Error {
    Error::new(Code::Cancelled, "the query was cancelled")
}
