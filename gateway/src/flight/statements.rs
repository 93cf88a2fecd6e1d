//! Prepared statements: each of one analyst, until it is closed, its connection ends, or nobody has used
//! it for an hour.

use super::bad;
use crate::identity;
use crate::queries::{Prepared, Session};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// How long a statement that nobody uses is kept.
const IDLE: Duration = Duration::from_secs(3_600);
/// Statements of one analyst at the same time.
const EACH_ANALYST: usize = 256;

/// How often statements are looked through whose connection has ended.
const SWEEP: Duration = Duration::from_secs(10);

/// The prepared statements of a gateway, by handle.
#[derive(Default)]
pub(super) struct Statements(Arc<Mutex<HashMap<[u8; 16], Kept>>>);

struct Kept {
    analyst: String,
    connection: CancellationToken,
    used: Instant,
    prepared: Prepared,
}

impl Kept {
    fn is_over(&self, now: Instant) -> bool {
        self.connection.is_cancelled() || now.duration_since(self.used) > IDLE
    }
}

impl Statements {
    /// None yet. Those that are over are forgotten as long as these stand; a runtime must be at hand.
    pub(super) fn new() -> Self {
        let statements = Self::default();
        let all = Arc::downgrade(&statements.0);
        tokio::spawn(async move {
            let mut tick = tokio::time::interval(SWEEP);
            loop {
                tick.tick().await;
                let Some(all) = all.upgrade() else { return };
                let now = Instant::now();
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                all.retain(|_, kept| !kept.is_over(now));
            }
        });
        statements
    }

    /// Keeps a statement and gives its handle.
    pub(super) fn keep(&self, session: &Session, prepared: Prepared) -> Result<Vec<u8>, Status> {
        let handle = identity::random::<16>().map_err(super::status)?;
        let now = Instant::now();
        let mut all = self.lock();
        all.retain(|_, kept| !kept.is_over(now));
        let own = all.values().filter(|kept| kept.analyst == session.analyst);
        if own.count() >= EACH_ANALYST {
            return Err(bad(
                "you have 256 prepared statements: close those that you need no more",
            ));
        }
        let kept = Kept {
            analyst: session.analyst.clone(),
            connection: session.connection.ended.clone(),
            used: now,
            prepared,
        };
        all.insert(handle, kept);
        Ok(handle.to_vec())
    }

    /// The statement with this handle.
    pub(super) fn find(&self, session: &Session, handle: &[u8]) -> Result<Prepared, Status> {
        self.with(session, handle, |prepared| prepared.clone())
    }

    /// Puts the same statement with values bound in its place.
    pub(super) fn bind(
        &self,
        session: &Session,
        handle: &[u8],
        bound: Prepared,
    ) -> Result<(), Status> {
        self.with(session, handle, |prepared| *prepared = bound)
    }

    /// Forgets a statement.
    pub(super) fn close(&self, session: &Session, handle: &[u8]) {
        let mut all = self.lock();
        if let Ok(handle) = <[u8; 16]>::try_from(handle)
            && all
                .get(&handle)
                .is_some_and(|kept| kept.analyst == session.analyst)
        {
            all.remove(&handle);
        }
    }

    fn with<T>(
        &self,
        session: &Session,
        handle: &[u8],
        work: impl FnOnce(&mut Prepared) -> T,
    ) -> Result<T, Status> {
        let mut all = self.lock();
        let handle = <[u8; 16]>::try_from(handle).ok();
        let found = handle.and_then(|handle| all.get_mut(&handle));
        match found {
            Some(kept) if kept.analyst == session.analyst => {
                kept.used = Instant::now();
                Ok(work(&mut kept.prepared))
            }
            _ => Err(bad(
                "you have no such prepared statement here: it was closed, or nobody used it for an hour",
            )),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 16], Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
