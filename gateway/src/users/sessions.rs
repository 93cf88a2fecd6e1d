//! Users who have logged in, each by a random token that lives in memory alone.

use super::secret::{Digest, generate, is_secret};
use super::{Shown, User, Users};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use veilgate_federated::error::{Code, Error, Result};
use zeroize::Zeroizing;

/// Before every session token; no other token starts with it.
pub const SESSION_PREFIX: &str = "veilgate_s_";

/// A session that nobody has used for this long has ended.
const IDLE: Duration = Duration::from_secs(60 * 60);
/// A session over no connection has ended after this long: clients connect again after a pause.
const ALONE: Duration = Duration::from_secs(10 * 60);
/// No session is longer.
const LONGEST: Duration = Duration::from_secs(12 * 60 * 60);
/// Sessions at the same time; one more ends the one that was used least recently.
const MOST: usize = 10_000;

/// The sessions of a gateway. A clone is the same sessions; a restart ends them all.
#[derive(Clone)]
pub struct Sessions {
    users: Users,
    open: Arc<Mutex<HashMap<Digest, Session>>>,
}

struct Session {
    name: String,
    shown: Shown,
    since: Instant,
    used: Instant,
    /// Over which it goes, by number.
    connections: HashSet<u64>,
    /// Since when it goes over none.
    alone: Option<Instant>,
}

/// What is told of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Whose it is.
    pub name: String,
    /// Since they logged in.
    pub age: Duration,
    /// Since it was used last.
    pub idle: Duration,
    /// Over which it goes.
    pub connections: usize,
}

impl Session {
    fn ended(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) >= IDLE
            || now.saturating_duration_since(self.since) >= LONGEST
            || self
                .alone
                .is_some_and(|alone| now.saturating_duration_since(alone) >= ALONE)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("open", &self.lock().len())
            .finish_non_exhaustive()
    }
}

impl Sessions {
    /// No sessions, of these users.
    #[must_use]
    pub fn new(users: Users) -> Self {
        Self {
            users,
            open: Arc::default(),
        }
    }

    /// Whose they are.
    #[must_use]
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// Opens a session; its token, `veilgate_s_` and 43 characters, for the user alone.
    ///
    /// # Errors
    /// `Internal` without random numbers.
    pub fn issue(&self, user: &User) -> Result<Zeroizing<String>> {
        self.issue_at(user, Instant::now())
    }

    /// The user whose session this is, with the roles that they have now.
    ///
    /// # Errors
    /// `WrongCredentials` for a session that is unknown or has ended, or whose user, password or token
    /// is no longer in the file; `BadConfig` while the file does not load.
    pub fn check(&self, text: &str) -> Result<User> {
        self.check_at(text, Instant::now())
    }

    /// The user whose session or token this is, by its prefix: what a client sends as its bearer token
    /// (RFC 6750).
    ///
    /// # Errors
    /// As [`Sessions::check`] and [`Users::token`].
    pub fn bearer(&self, text: &str) -> Result<User> {
        if text.starts_with(SESSION_PREFIX) {
            self.check(text)
        } else {
            self.users.token(text)
        }
    }

    /// The session with this token goes over this connection: its digest when that is news, to
    /// [leave](Sessions::leave) with at the connection's end.
    pub(crate) fn enter(&self, text: &str, connection: u64) -> Option<Digest> {
        let digest = digest(text)?;
        let mut open = self.lock();
        let session = open.get_mut(&digest)?;
        session.alone = None;
        session.connections.insert(connection).then_some(digest)
    }

    /// A connection has ended.
    pub(crate) fn leave(&self, session: &Digest, connection: u64) {
        self.leave_at(session, connection, Instant::now());
    }

    pub(super) fn leave_at(&self, session: &Digest, connection: u64, now: Instant) {
        if let Some(session) = self.lock().get_mut(session)
            && session.connections.remove(&connection)
            && session.connections.is_empty()
        {
            session.alone = Some(now);
        }
    }

    /// Forgets the sessions that have ended, and says which.
    pub(crate) fn sweep(&self, now: Instant) -> Vec<Digest> {
        let mut open = self.lock();
        let ended: Vec<Digest> = open
            .iter()
            .filter(|(_, session)| session.ended(now))
            .map(|(digest, _)| *digest)
            .collect();
        for digest in &ended {
            open.remove(digest);
        }
        ended
    }

    /// The sessions there are, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let now = Instant::now();
        let open = self.lock();
        let mut list: Vec<Listed> = open
            .values()
            .map(|session| Listed {
                name: session.name.clone(),
                age: now.saturating_duration_since(session.since),
                idle: now.saturating_duration_since(session.used),
                connections: session.connections.len(),
            })
            .collect();
        list.sort_by_key(|session| std::cmp::Reverse(session.age));
        list
    }

    /// Ends a session, if there is one.
    pub fn revoke(&self, text: &str) {
        if let Some(digest) = digest(text) {
            self.lock().remove(&digest);
        }
    }

    pub(super) fn issue_at(&self, user: &User, now: Instant) -> Result<Zeroizing<String>> {
        let (text, digest) = generate(SESSION_PREFIX)?;
        let mut open = self.lock();
        if open.len() >= MOST {
            open.retain(|_, session| !session.ended(now));
        }
        if open.len() >= MOST {
            let idlest = open.iter().min_by_key(|(_, session)| session.used);
            if let Some(idlest) = idlest.map(|(digest, _)| *digest) {
                open.remove(&idlest);
            }
        }
        let session = Session {
            name: user.name.clone(),
            shown: user.shown.clone(),
            since: now,
            used: now,
            connections: HashSet::new(),
            alone: Some(now),
        };
        open.insert(digest, session);
        Ok(text)
    }

    pub(super) fn check_at(&self, text: &str, now: Instant) -> Result<User> {
        let Some((name, shown)) = digest(text).and_then(|digest| self.touch(&digest, now)) else {
            self.users.count_refusal(None, "no such session");
            return Err(Error::new(
                Code::WrongCredentials,
                "the session is not known here, or has ended; log in again",
            ));
        };
        let user = self.users.still_shown(&name, &shown);
        // A file that does not load ends no session; it only lets nobody in meanwhile.
        if matches!(&user, Err(error) if error.code == Code::WrongCredentials) {
            self.revoke(text);
        }
        user
    }

    /// Marks a session as used; whose it is, unless it has ended.
    fn touch(&self, digest: &Digest, now: Instant) -> Option<(String, Shown)> {
        let mut open = self.lock();
        let session = open.get_mut(digest)?;
        if session.ended(now) {
            open.remove(digest);
            return None;
        }
        session.used = now;
        Some((session.name.clone(), session.shown.clone()))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The digest of a session's secret; `None` for a text that is no session token.
pub(crate) fn digest(text: &str) -> Option<Digest> {
    let secret = text.strip_prefix(SESSION_PREFIX)?;
    is_secret(secret).then(|| Digest::of(secret))
}
