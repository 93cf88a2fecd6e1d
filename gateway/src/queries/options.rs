//! What an analyst says once for all statements of a session: the purpose and the case number.

use crate::session::check_reason;
use crate::users::Digest;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use veilgate_federated::error::{Code, Error, Result};

/// Sessions whose options are kept; the oldest go first.
const KEPT: usize = 10_000;

/// The options of one session.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// What answers are for.
    pub(crate) purpose: String,
    /// The case that they are for.
    pub(crate) case: String,
}

/// Names of options.
pub(crate) const NAMES: [&str; 2] = ["purpose", "case"];

impl Options {
    /// Sets an option; none: back to nothing.
    ///
    /// # Errors
    /// `BadRequest` for an option that does not exist, or a value that is too long.
    pub(crate) fn set(&mut self, name: &str, value: Option<&str>) -> Result<()> {
        let place = self.place(name)?;
        let value = value.unwrap_or_default();
        check_reason(name, value)?;
        value.clone_into(place);
        Ok(())
    }

    /// The value of an option; empty where nothing was said.
    ///
    /// # Errors
    /// `BadRequest` for an option that does not exist.
    pub(crate) fn get(&self, name: &str) -> Result<String> {
        self.clone().place(name).map(|place| place.clone())
    }

    fn place(&mut self, name: &str) -> Result<&mut String> {
        match name.strip_prefix("veilgate.").unwrap_or(name) {
            "purpose" => Ok(&mut self.purpose),
            "case" | "case_number" => Ok(&mut self.case),
            _ => Err(Error::new(
                Code::BadRequest,
                format!("there is no such option: they are {}", NAMES.join(" and ")),
            )),
        }
    }
}

/// Which session: what its calls have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// Calls with the same token of a login.
    Login(Digest),
    /// Calls over the same connection.
    Connection(u64),
}

/// The options of all sessions.
#[derive(Default)]
pub(super) struct Table(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    options: HashMap<Key, (u64, Options)>,
    clock: u64,
}

impl Table {
    /// The options of a session.
    pub(super) fn of(&self, key: &Key) -> Options {
        let kept = self.lock();
        let found = kept.options.get(key);
        found
            .map(|(_, options)| options.clone())
            .unwrap_or_default()
    }

    /// Sets an option of a session.
    pub(super) fn set(&self, key: &Key, name: &str, value: Option<&str>) -> Result<()> {
        let mut kept = self.lock();
        kept.clock += 1;
        let now = kept.clock;
        let (at, options) = kept.options.entry(key.clone()).or_default();
        *at = now;
        options.set(name, value)?;
        if kept.options.len() > KEPT {
            let oldest = kept.options.iter().min_by_key(|(_, (at, _))| *at);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                kept.options.remove(&oldest);
            }
        }
        Ok(())
    }

    /// Forgets a session.
    pub(super) fn close(&self, key: &Key) {
        self.lock().options.remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
