//! What a protocol runs in: who I am, the channels, the shared randomness, and the outside's wish to
//! watch or stop. Knows no protocol.

use crate::error::{Error, Misbehaviour, Result};
use crate::net::{ChannelDigest, Link, LinkProfile, Participant, Step, Traffic};
use crate::prss::{Pair, Prss, Stream};
use crate::ring::{Ring, Word};
use crate::share::Role;
use crate::spill::Memory;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use zerocopy::IntoBytes;

/// Told (step, rows done) from inside long operators; functions of public sizes only.
pub type Progress = Box<dyn FnMut(&Step, u64) + Send>;

/// One computing party's side of a run.
pub struct Context {
    role: Role,
    participants: [Participant; 3],
    link: Box<dyn Link>,
    prss: Prss,
    profile: LinkProfile,
    cancel: Arc<AtomicBool>,
    progress: Option<Progress>,
    memory: Option<Memory>,
    /// Further lanes of this party, each with its own channels and randomness, for [`Self::parallel`].
    workers: Vec<Context>,
    /// Everything opened, for the tests that it tells nothing.
    #[cfg(test)]
    pub(crate) opened: Vec<u64>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Context({:?})", self.role)
    }
}

impl Context {
    /// A context of `role` among `participants` (in role order). The seeds in `prss` are those of
    /// this run alone; `profile` must be the same at all three parties, for it chooses protocols.
    ///
    /// # Errors
    /// `InvalidInput` when the link is not that of the role's participant.
    pub fn new(
        role: Role,
        participants: [Participant; 3],
        link: Box<dyn Link>,
        prss: Prss,
        profile: LinkProfile,
        cancel: Arc<AtomicBool>,
    ) -> Result<Self> {
        if link.me() != participants[role.index()] {
            return Err(Error::InvalidInput {
                operator: "Context::new",
                what: format!("the link of {} for {:?}", link.me(), role),
            });
        }
        Ok(Self {
            role,
            participants,
            link,
            prss,
            profile,
            cancel,
            progress: None,
            memory: None,
            workers: Vec::new(),
            #[cfg(test)]
            opened: Vec::new(),
        })
    }

    /// With a callback for progress.
    #[must_use]
    pub fn with_progress(mut self, progress: Progress) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Bounds memory; what waits beyond it goes to encrypted files.
    pub fn limit_memory(&mut self, memory: Memory) {
        self.memory = Some(memory);
    }

    /// The bound on memory, where there is one.
    #[must_use]
    pub fn memory(&self) -> Option<&Memory> {
        self.memory.as_ref()
    }

    /// With a thread more for each of `links`, further lanes to the same participants: as many at all
    /// three parties, in the same order. Their randomness is derived from this context's seeds.
    ///
    /// # Errors
    /// As [`Context::new`].
    pub fn with_workers(mut self, links: Vec<Box<dyn Link>>) -> Result<Self> {
        for link in links {
            let label = format!("lane {}", self.workers.len() + 1);
            let prss = self.prss.derived(&label);
            let cancel = Arc::clone(&self.cancel);
            self.workers.push(Self::new(
                self.role,
                self.participants,
                link,
                prss,
                self.profile,
                cancel,
            )?);
        }
        Ok(self)
    }

    /// Threads of this party.
    #[must_use]
    pub fn threads(&self) -> usize {
        1 + self.workers.len()
    }

    /// Runs `job` on every part, the parts dealt out to the lanes in turn, each lane's one after the
    /// other. All parties must deal out as many parts; a part's steps must carry its number.
    ///
    /// # Errors
    /// Those of the jobs: where several fail, one that says more than that a peer is gone.
    pub(crate) fn parallel<P: Send, R: Send>(
        &mut self,
        parts: Vec<P>,
        job: impl Fn(&mut Self, usize, P) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let parts = parts.into_iter().enumerate();
        if self.workers.is_empty() {
            return parts.map(|(index, part)| job(self, index, part)).collect();
        }
        let mut hands: Vec<Vec<(usize, P)>> = (0..self.threads()).map(|_| Vec::new()).collect();
        let lanes = hands.len();
        for (index, part) in parts {
            hands[index % lanes].push((index, part));
        }
        let run = |lane: &mut Self, hand: Vec<(usize, P)>| -> Result<Vec<(usize, R)>> {
            let done = hand.into_iter().map(|(index, part)| {
                let result = job(lane, index, part)?;
                Ok((index, result))
            });
            done.collect()
        };
        let mut workers = std::mem::take(&mut self.workers);
        let results = std::thread::scope(|scope| {
            let mine = hands.remove(0);
            let threads: Vec<_> = workers
                .iter_mut()
                .zip(hands)
                .filter(|(_, hand)| !hand.is_empty())
                .map(|(worker, hand)| scope.spawn(|| run(worker, hand)))
                .collect();
            let mut results = vec![run(self, mine)];
            for thread in threads {
                results.push(match thread.join() {
                    Ok(result) => result,
                    Err(panic) => std::panic::resume_unwind(panic),
                });
            }
            results
        });
        self.workers = workers;
        let mut all = Vec::new();
        let mut failure = None;
        for result in results {
            match (result, &failure) {
                (Ok(done), _) => all.extend(done),
                (Err(error), None | Some(Error::PeerGone { .. } | Error::Cancelled)) => {
                    failure = Some(error);
                }
                (Err(_), Some(_)) => {}
            }
        }
        if let Some(error) = failure {
            return Err(error);
        }
        all.sort_unstable_by_key(|(index, _)| *index);
        Ok(all.into_iter().map(|(_, result)| result).collect())
    }

    /// Who I am.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// The participants in role order.
    #[must_use]
    pub fn participants(&self) -> [Participant; 3] {
        self.participants
    }

    /// The participant of a role.
    #[must_use]
    pub fn participant(&self, role: Role) -> Participant {
        self.participants[role.index()]
    }

    /// What is known about the channels.
    #[must_use]
    pub fn profile(&self) -> LinkProfile {
        self.profile
    }

    /// The channels, for messages outside the ring (inputs, results).
    pub fn link(&mut self) -> &mut dyn Link {
        &mut *self.link
    }

    /// The channels, given back at the end of a run. Those of further lanes are closed.
    #[must_use]
    pub fn into_link(self) -> Box<dyn Link> {
        self.link
    }

    /// The channels of all lanes, the first being [`Self::link`].
    #[must_use]
    pub fn into_links(self) -> Vec<Box<dyn Link>> {
        let workers = self.workers.into_iter().map(|worker| worker.link);
        std::iter::once(self.link).chain(workers).collect()
    }

    /// Digests of all that crossed: where there are several lanes, of theirs in order.
    pub fn digests(&mut self) -> Vec<ChannelDigest> {
        let mut all = self.link.digests();
        if self.workers.is_empty() {
            return all;
        }
        let lanes = self.workers.iter_mut().map(|worker| worker.link.digests());
        let lanes: Vec<Vec<ChannelDigest>> = lanes.collect();
        for digest in &mut all {
            let mine = lanes.iter().flatten().filter(|d| d.peer == digest.peer);
            let [mut sent, mut received] = [digest.sent, digest.received].map(|first| {
                let mut hash = blake3::Hasher::new_derive_key("veilgate digests of lanes v1");
                hash.update(&first);
                hash
            });
            for lane in mine {
                sent.update(&lane.sent);
                received.update(&lane.received);
            }
            digest.sent = *sent.finalize().as_bytes();
            digest.received = *received.finalize().as_bytes();
        }
        all
    }

    /// What all lanes have sent and received; rounds are those of the lane that had most.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        let mut all = self.link.traffic();
        for worker in &self.workers {
            let lane = worker.link.traffic();
            all.bytes_sent += lane.bytes_sent;
            all.bytes_received += lane.bytes_received;
            all.messages_sent += lane.messages_sent;
            all.rounds = all.rounds.max(lane.rounds);
        }
        all
    }

    /// The randomness common to `pair`, named `step`.
    ///
    /// # Errors
    /// `StepReused`.
    pub fn stream(&mut self, pair: Pair, step: &Step) -> Result<Stream> {
        self.prss.stream(pair, step)
    }

    /// The stream common with the holder of component `index` beside me.
    pub(crate) fn stream_of_component(
        &mut self,
        index: usize,
        step: &Step,
    ) -> Result<Option<Stream>> {
        let me = self.role.index();
        if index % 3 == me {
            self.prss.stream(Pair::Prev, step).map(Some)
        } else if index % 3 == (me + 1) % 3 {
            self.prss.stream(Pair::Next, step).map(Some)
        } else {
            Ok(None)
        }
    }

    /// My summand of a random sharing of zeros in Z_2^k.
    pub(crate) fn zeros_add<T: Ring>(&mut self, step: &Step, count: usize) -> Result<Vec<T>> {
        let mut next = self.prss.stream(Pair::Next, step)?;
        let mut prev = self.prss.stream(Pair::Prev, step)?;
        let mut out = vec![T::default(); count];
        let mut tile = [T::default(); TILE];
        for chunk in out.chunks_mut(TILE) {
            let tile = &mut tile[..chunk.len()];
            next.fill(chunk);
            prev.fill(tile);
            for (x, y) in chunk.iter_mut().zip(tile) {
                *x = x.minus(*y);
            }
        }
        Ok(out)
    }

    /// Sends to the previous party and receives as much from the next: what a multiplication does.
    pub(crate) fn pass_back<T: Word>(
        &mut self,
        step: &Step,
        send: &[T],
        receive: &mut [T],
    ) -> Result<()> {
        self.send(self.role.prev(), step, send)?;
        self.receive(self.role.next(), step, receive)
    }

    /// Sends words to a role. Nothing is sent for no words.
    pub(crate) fn send<T: Word>(&mut self, to: Role, step: &Step, words: &[T]) -> Result<()> {
        self.check()?;
        if words.is_empty() {
            return Ok(());
        }
        self.link
            .send(self.participants[to.index()], step, words.as_bytes())
    }

    /// Receives words from a role.
    pub(crate) fn receive<T: Word>(
        &mut self,
        from: Role,
        step: &Step,
        words: &mut [T],
    ) -> Result<()> {
        if words.is_empty() {
            return Ok(());
        }
        self.link
            .recv_into(self.participants[from.index()], step, words.as_mut_bytes())
    }

    /// Whether the outside wants the run to go on.
    ///
    /// # Errors
    /// `Cancelled`.
    pub fn check(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    /// Reports rows done.
    pub fn report(&mut self, step: &Step, rows: usize) {
        if let Some(progress) = &mut self.progress {
            progress(step, rows as u64);
        }
    }

    /// The error that names `role` as the sender of something inconsistent.
    pub(crate) fn equivocation(&self, role: Role, step: &Step, what: &'static str) -> Error {
        Error::PeerMisbehaved {
            peer: self.participant(role),
            step: step.clone(),
            what: Misbehaviour::Equivocation(what),
        }
    }
}

/// Words of randomness handled at a time, so that masks stay in the first-level cache.
pub(crate) const TILE: usize = 512;

/// Rows `0..rows` in pieces of at most `most`, as many pieces as threads if that leaves each
/// [`WORTH_A_THREAD`]. Whole words of planes.
pub(crate) fn pieces(rows: usize, threads: usize, most: usize) -> Vec<std::ops::Range<usize>> {
    let share = rows.div_ceil(threads).max(WORTH_A_THREAD);
    let length = share.min(most).next_multiple_of(64);
    (0..rows)
        .step_by(length)
        .map(|from| from..rows.min(from + length))
        .collect()
}

/// Fewer rows are not worth a change of threads.
pub(crate) const WORTH_A_THREAD: usize = 1 << 12;
