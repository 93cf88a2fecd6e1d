//! What analysts ask of their home gateway, whichever way they connect: who they are, what a statement
//! of theirs is, and the queries that run for them.
//!
//! | module | holds |
//! |---|---|
//! | `access` | who a call comes from: a pinned key, a password, or a token |
//! | `options` | purpose and case number of a session |
//! | `statement` | a text, checked and planned: what can be executed |
//! | `kept` | results that wait on disk, sealed |
//! | `query` | one query that runs: its state, its end, and who may see it |
//! | `views` | the gateway's own tables: queries, notices, the catalogue |
//!
//! Flight SQL and gRPC are two ways in here. Knows nothing of either.

mod access;
mod kept;
mod options;
mod query;
mod statement;
mod views;

pub(crate) use access::Session;
pub(crate) use kept::Kept;
pub(crate) use query::{Finished, Query, State, Stay};
pub(crate) use statement::{Prepared, unbound};

use crate::node::Node;
use crate::session::coordinator::Coordinator;
use crate::users::{Sessions, Users};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::run::RunId;

/// Queries that are remembered after they ended.
const REMEMBERED: usize = 1_000;
/// Queries of one analyst that run, or whose answers are kept, at the same time.
const EACH_ANALYST: usize = 64;

/// Takes in analysts' statements, and keeps the queries that run for them.
pub(crate) struct QueryManager {
    pub(crate) node: Arc<Node>,
    pub(crate) coordinator: Arc<Coordinator>,
    kept: Kept,
    logins: Option<Sessions>,
    options: options::Table,
    queries: Mutex<Queries>,
}

#[derive(Default)]
struct Queries {
    all: HashMap<RunId, Arc<Query>>,
    /// The oldest first.
    order: VecDeque<RunId>,
}

impl QueryManager {
    /// With the queries whose answers an earlier process kept; with a users file, guests may log in.
    pub(crate) fn new(
        node: Arc<Node>,
        coordinator: Arc<Coordinator>,
        kept: Kept,
        users: Option<Users>,
    ) -> Self {
        let mut queries = Queries::default();
        for (id, head) in kept.found() {
            queries.all.insert(id, Arc::new(Query::kept(id, &head)));
            queries.order.push_back(id);
        }
        Self {
            node,
            coordinator,
            kept,
            logins: users.map(Sessions::new),
            options: options::Table::default(),
            queries: Mutex::new(queries),
        }
    }

    /// The query of this number, if it is this analyst's.
    ///
    /// # Errors
    /// `BadRequest`, the same for another's query as for none.
    pub(crate) fn find(&self, session: &Session, id: RunId) -> Result<Arc<Query>> {
        let queries = self.queries();
        let found = queries.all.get(&id);
        let own = found.filter(|query| query.asker.analyst == session.analyst);
        own.cloned().ok_or_else(|| {
            Error::new(
                Code::BadRequest,
                "you have no such query at this gateway: it is another's, or long forgotten",
            )
        })
    }

    /// All that are remembered, the newest first: one's own, or everybody's for an auditor.
    fn remembered(&self, session: &Session) -> Vec<Arc<Query>> {
        let queries = self.queries();
        let newest = queries.order.iter().rev();
        newest
            .filter_map(|id| queries.all.get(id))
            .filter(|query| session.auditor || query.asker.analyst == session.analyst)
            .cloned()
            .collect()
    }

    fn everything(&self) -> Vec<Arc<Query>> {
        self.queries().all.values().cloned().collect()
    }

    fn remember(&self, query: &Arc<Query>) -> Result<()> {
        let mut queries = self.queries();
        let analyst = &query.asker.analyst;
        let mut open = queries.all.values().filter(|other| {
            let counts = matches!(
                other.state(),
                State::Running(_) | State::Kept { fetched: false, .. }
            );
            // Of questions about queries there may be as many besides.
            counts && other.asker.analyst == *analyst && other.joint == query.joint
        });
        if open.nth(EACH_ANALYST - 1).is_some() {
            return Err(Error::new(
                Code::LimitExceeded,
                format!(
                    "{EACH_ANALYST} of your queries run, or wait to be fetched, already: fetch or cancel one"
                ),
            ));
        }
        queries.all.insert(query.id, Arc::clone(query));
        queries.order.push_back(query.id);
        while queries.order.len() > REMEMBERED {
            let ended = |id: &RunId| {
                let query = queries.all.get(id);
                query.is_none_or(|query| {
                    !matches!(query.state(), State::Running(_) | State::Kept { .. })
                })
            };
            let Some(at) = queries.order.iter().position(ended) else {
                break;
            };
            if let Some(id) = queries.order.remove(at) {
                queries.all.remove(&id);
            }
        }
        Ok(())
    }

    fn queries(&self) -> MutexGuard<'_, Queries> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
