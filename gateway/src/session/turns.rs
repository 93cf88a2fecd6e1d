//! Whose turn it is: how many runs a home gateway coordinates at the same time, and of how many of them one
//! analyst has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use veilgate_federated::error::{Code, Error, Result};

/// The turns of a home gateway, in the order in which they are asked for.
pub(super) struct Turns {
    all: Arc<Semaphore>,
    /// Of one analyst.
    each: usize,
    analysts: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A turn, until it is dropped.
pub(super) struct Turn {
    _analysts: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Turns {
    /// So many at the same time, one analyst half of them.
    pub(super) fn new(runs: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(runs)),
            each: runs.div_ceil(2),
            analysts: Mutex::default(),
        }
    }

    /// Waits for this analyst's turn.
    ///
    /// # Errors
    /// `Cancelled` when the gateway shuts down.
    pub(super) async fn next(&self, analyst: &str) -> Result<Turn> {
        let own = self.of(analyst);
        let ended = |_| Error::new(Code::Cancelled, "the gateway shuts down");
        let analysts = own.acquire_owned().await.map_err(ended)?;
        let all = Arc::clone(&self.all).acquire_owned().await.map_err(ended)?;
        Ok(Turn {
            _analysts: analysts,
            _all: all,
        })
    }

    /// Whether this analyst would have to wait.
    pub(super) fn full(&self, analyst: &str) -> bool {
        self.all.available_permits() == 0 || self.of(analyst).available_permits() == 0
    }

    fn of(&self, analyst: &str) -> Arc<Semaphore> {
        let mut analysts = self.analysts.lock().unwrap_or_else(PoisonError::into_inner);
        // Those who neither run nor wait are forgotten.
        analysts.retain(|name, own| name == analyst || Arc::strong_count(own) > 1);
        let own = analysts.entry(analyst.to_owned());
        Arc::clone(own.or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn one_analyst_leaves_turns_to_others() {
        let turns = Turns::new(4);
        let soon = Duration::from_millis(50);
        let first = turns.next("ada").await.unwrap();
        let second = turns.next("ada").await.unwrap();
        assert!(turns.full("ada") && !turns.full("ben"));
        let third = tokio::time::timeout(soon, turns.next("ada"));
        assert!(third.await.is_err(), "a third waits");
        let _others = [turns.next("ben").await, turns.next("cai").await];
        assert!(turns.full("dan"));
        drop(first);
        let _dan = turns.next("dan").await.unwrap();
        drop(second);
        let _ada = turns.next("ada").await.unwrap();
        assert_eq!(turns.analysts.lock().unwrap().len(), 4);
        drop(_others);
        turns.full("eve");
        assert_eq!(turns.analysts.lock().unwrap().len(), 3);
    }
}
