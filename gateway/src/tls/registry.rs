//! Data connections that have arrived, waiting for the run that expects them.
//!
//! A peer may dial before this gateway has reached the point where it reads, so a connection of an
//! unknown run is parked: not for long, and not many of them.

use rustls::{ServerConnection, StreamOwned};
use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::run::RunId;
use veilgate_federated::schema::Department;

/// The accepted end of a data connection: blocking, authenticated, its hello read. Only to read from.
pub type DataReceiver = StreamOwned<ServerConnection, TcpStream>;

/// How long a connection waits for its run.
const PARKED_FOR: Duration = Duration::from_secs(30);
/// How many one department may have waiting.
const PARKED_EACH: usize = 128;
/// How often a waiting thread looks at its cancellation flag.
const SLICE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    run: RunId,
    from: Department,
    thread: u8,
}

struct Parked<S> {
    stream: S,
    since: Instant,
}

/// The connections that wait, by run, department and thread. `S` is [`DataReceiver`] outside tests.
pub struct DataRegistry<S = DataReceiver> {
    state: Mutex<State<S>>,
    arrived: Condvar,
}

struct State<S> {
    parked: HashMap<Key, Parked<S>>,
    /// Runs that have ended, and when: what arrives for them later is not parked.
    ended: HashMap<RunId, Instant>,
}

impl<S> Default for DataRegistry<S> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                parked: HashMap::new(),
                ended: HashMap::new(),
            }),
            arrived: Condvar::new(),
        }
    }
}

impl<S> std::fmt::Debug for DataRegistry<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DataRegistry({} parked)", self.lock().parked.len())
    }
}

impl<S> DataRegistry<S> {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Blocks until the connection of this run, department and thread is there, and takes it.
    /// `deadline` counts from now; setting `cancel` ends the wait within 100 milliseconds.
    ///
    /// # Errors
    /// `PeerUnavailable` naming `from` after the deadline, `Cancelled` by the flag.
    pub fn expect(
        &self,
        run: RunId,
        from: &str,
        thread: u8,
        deadline: Duration,
        cancel: &AtomicBool,
    ) -> Result<S> {
        let key = Key {
            run,
            from: from.to_owned(),
            thread,
        };
        let started = Instant::now();
        let mut state = self.lock();
        loop {
            if let Some(found) = state.parked.remove(&key) {
                return Ok(found.stream);
            }
            if cancel.load(Ordering::Relaxed) {
                return Err(Error::new(Code::Cancelled, "the run was cancelled"));
            }
            let left = deadline.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(Error::new(
                    Code::PeerUnavailable,
                    format!(
                        "gateway {from} did not open its data connection within {} ms",
                        deadline.as_millis()
                    ),
                )
                .at(from));
            }
            state = self
                .arrived
                .wait_timeout(state, left.min(SLICE))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Drops what is parked for a run that has ended, and what arrives for it in the next half minute.
    pub fn forget(&self, run: RunId) {
        let now = Instant::now();
        let mut state = self.lock();
        state.sweep(now);
        state.parked.retain(|key, _| key.run != run);
        state.ended.insert(run, now);
    }

    /// Takes in a connection; drops it when its run has ended, or the department has too many waiting, or one
    /// for the same run and thread. Says whether it was kept.
    pub(crate) fn arrive(&self, run: RunId, from: Department, thread: u8, stream: S) -> bool {
        let now = Instant::now();
        let mut state = self.lock();
        state.sweep(now);
        let waiting = state.parked.keys().filter(|key| key.from == from).count();
        let key = Key { run, from, thread };
        let ended = state.ended.contains_key(&run);
        if ended || waiting >= PARKED_EACH || state.parked.contains_key(&key) {
            return false;
        }
        state.parked.insert(key, Parked { stream, since: now });
        self.arrived.notify_all();
        true
    }

    /// Drops what has waited too long.
    pub(super) fn purge(&self, now: Instant) {
        self.lock().sweep(now);
    }

    fn lock(&self) -> MutexGuard<'_, State<S>> {
        // Every change is one call on a map, so a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> State<S> {
    fn sweep(&mut self, now: Instant) {
        let young = |since: &Instant| now.saturating_duration_since(*since) < PARKED_FOR;
        self.parked.retain(|_, waiting| young(&waiting.since));
        self.ended.retain(|_, since| young(since));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: RunId = RunId([7; 32]);

    fn take(registry: &DataRegistry<u32>, from: &str, thread: u8) -> Result<u32> {
        let never = AtomicBool::new(false);
        registry.expect(RUN, from, thread, Duration::from_millis(30), &never)
    }

    #[test]
    fn early_and_late_connections_find_their_run() {
        let registry = DataRegistry::new();
        assert!(registry.arrive(RUN, "tax".into(), 0, 1));
        assert_eq!(take(&registry, "tax", 0).unwrap(), 1);
        std::thread::scope(|scope| {
            let never = AtomicBool::new(false);
            let registry = &registry;
            let waiting = scope
                .spawn(move || registry.expect(RUN, "tax", 1, Duration::from_secs(10), &never));
            std::thread::sleep(Duration::from_millis(20));
            assert!(registry.arrive(RUN, "tax".into(), 1, 2));
            assert_eq!(waiting.join().unwrap().unwrap(), 2);
        });
    }

    #[test]
    fn nobody_gets_the_connection_of_another_run_department_or_thread() {
        let registry = DataRegistry::new();
        assert!(registry.arrive(RunId([8; 32]), "tax".into(), 0, 1));
        assert!(registry.arrive(RUN, "civil".into(), 0, 2));
        assert!(registry.arrive(RUN, "tax".into(), 1, 3));
        let error = take(&registry, "tax", 0).unwrap_err();
        assert_eq!(error.code, Code::PeerUnavailable);
        assert_eq!(error.department.as_deref(), Some("tax"));
    }

    #[test]
    fn cancelling_ends_the_wait() {
        let registry = DataRegistry::<u32>::new();
        let cancel = AtomicBool::new(true);
        let error = registry
            .expect(RUN, "tax", 0, Duration::from_secs(60), &cancel)
            .unwrap_err();
        assert_eq!(error.code, Code::Cancelled);
    }

    #[test]
    fn parking_is_bounded_in_number_and_time() {
        let registry = DataRegistry::new();
        assert!(registry.arrive(RUN, "tax".into(), 0, 0));
        assert!(!registry.arrive(RUN, "tax".into(), 0, 1), "the first stays");
        for run in 1..PARKED_EACH {
            let run = RunId([u8::try_from(run).unwrap(); 32]);
            assert!(registry.arrive(run, "tax".into(), 9, 0));
        }
        assert!(!registry.arrive(RUN, "tax".into(), 1, 0), "one too many");
        assert!(
            registry.arrive(RUN, "civil".into(), 0, 0),
            "others are not touched"
        );
        registry.purge(Instant::now() + PARKED_FOR);
        assert!(take(&registry, "tax", 0).is_err());
        assert!(registry.arrive(RUN, "tax".into(), 0, 0));
        registry.forget(RUN);
        assert!(take(&registry, "tax", 0).is_err());
        assert!(!registry.arrive(RUN, "tax".into(), 0, 0), "it has ended");
        registry.purge(Instant::now() + PARKED_FOR);
        assert!(
            registry.arrive(RUN, "tax".into(), 0, 0),
            "that is forgotten too"
        );
    }
}
