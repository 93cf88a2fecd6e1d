//! The writing end of one peer's stream: a queue of chunks and the thread that writes them.
//!
//! Whoever writes takes the stream out of the shared state and puts it back: the writer thread for
//! bulk, the protocol thread for a few bytes when the writer is idle (no change of threads on the
//! way of a small message).

use super::Participant;
use super::frame::Head;
use super::stream::{Limits, POLL_SLICE, Patience, Stop, WriteHalf};
use crate::error::{Error, Gone, Result as RunResult};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes of one chunk: large enough to pay for a system call, small enough to stay in a cache.
const CHUNK: usize = 256 << 10;

/// An open chunk of this size goes out at once.
const EAGER: usize = 16 << 10;

/// Written chunks kept for reuse.
const SPARE: usize = 16;

/// How long the writer sleeps before it takes a half-filled chunk along.
const IDLE: Duration = Duration::from_millis(20);

/// Idle wake-ups between two looks at whether the peer is still there.
const PROBE_EVERY: u32 = 10;

/// Bytes on their way, `bytes[written..]` still to be written.
struct Chunk {
    bytes: Vec<u8>,
    written: usize,
    hashed: bool,
}

/// The stream and the digest of what was written to it.
struct Stream {
    half: Box<dyn WriteHalf>,
    hasher: blake3::Hasher,
}

/// What protocol thread and writer thread share.
struct State {
    /// Chunks in order of writing.
    ready: VecDeque<Chunk>,
    /// The chunk being filled; follows all of `ready`.
    open: Vec<u8>,
    spare: Vec<Vec<u8>>,
    /// Bytes not yet written, in whoever's hands.
    queued: usize,
    /// Absent while somebody writes.
    stream: Option<Stream>,
    /// The digest when the stream is gone for good.
    final_digest: [u8; 32],
    failure: Option<Stop>,
    /// Whether the failure lost bytes.
    lost: bool,
}

impl State {
    fn fresh(&mut self) -> Vec<u8> {
        self.spare
            .pop()
            .unwrap_or_else(|| Vec::with_capacity(CHUNK))
    }

    /// Moves the open chunk behind the ready ones.
    fn seal(&mut self) {
        if !self.open.is_empty() {
            let fresh = self.fresh();
            let bytes = std::mem::replace(&mut self.open, fresh);
            self.push(bytes);
        }
    }

    fn push(&mut self, bytes: Vec<u8>) {
        self.ready.push_back(Chunk {
            bytes,
            written: 0,
            hashed: false,
        });
    }

    fn recycle(&mut self, mut bytes: Vec<u8>) {
        if self.spare.len() < SPARE {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// The stream broke: nothing queued will ever be written.
    fn fail(&mut self, stop: Stop, stream: &Stream) {
        self.final_digest = *stream.hasher.finalize().as_bytes();
        self.failure = Some(stop);
        self.lost = self.queued > 0;
        self.ready.clear();
        self.open.clear();
        self.queued = 0;
    }
}

struct Shared {
    state: Mutex<State>,
    /// There is something to write, or to close.
    work: Condvar,
    /// Something was written.
    progress: Condvar,
    deadline: Duration,
    limits: Limits,
    cancel: Arc<AtomicBool>,
    /// Set under the lock of `state`; also read in the middle of a write.
    closing: AtomicBool,
}

impl Shared {
    fn closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One peer's outgoing stream.
pub(super) struct Outgoing {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    /// Queued bytes above which a send waits: the soft limit, or more while the peer takes nothing.
    waits_above: usize,
}

impl Outgoing {
    /// Takes the stream and starts its writer.
    pub(super) fn start(
        peer: Participant,
        half: Box<dyn WriteHalf>,
        deadline: Duration,
        limits: Limits,
        cancel: Arc<AtomicBool>,
    ) -> RunResult<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                open: Vec::with_capacity(CHUNK),
                spare: Vec::new(),
                queued: 0,
                stream: Some(Stream {
                    half,
                    hasher: blake3::Hasher::new(),
                }),
                final_digest: [0; 32],
                failure: None,
                lost: false,
            }),
            work: Condvar::new(),
            progress: Condvar::new(),
            deadline,
            limits,
            cancel,
            closing: AtomicBool::new(false),
        });
        let thread = std::thread::Builder::new()
            .name(format!("link-to-{}", peer.0))
            .spawn({
                let shared = Arc::clone(&shared);
                move || write_all_there_is(&shared)
            })
            .map_err(|error| {
                Error::ResourceExhausted(format!("no writer thread ({:?})", error.kind()))
            })?;
        Ok(Self {
            shared,
            thread: Some(thread),
            waits_above: limits.queue_soft,
        })
    }

    /// Queues one frame. Waits only while the queue is long and shrinking.
    pub(super) fn send(&mut self, head: Head, payload: &[u8]) -> Result<(), Stop> {
        let length = super::frame::HEAD + payload.len();
        let mut state = self.shared.lock();
        if let Some(stop) = state.failure {
            return Err(stop);
        }
        if state.queued + length > self.shared.limits.queue_hard {
            return Err(Stop::Full);
        }
        state.queued += length;
        if state.open.len() + length <= CHUNK {
            state.open.extend_from_slice(&head.encode());
            state.open.extend_from_slice(payload);
        } else {
            // Bulk: fill chunk after chunk outside the lock.
            let mut chunk = std::mem::take(&mut state.open);
            drop(state);
            let mut rest = payload;
            chunk.extend_from_slice(&head.encode());
            loop {
                let room = CHUNK.saturating_sub(chunk.len()).min(rest.len());
                let (now, later) = rest.split_at(room);
                chunk.extend_from_slice(now);
                rest = later;
                state = self.shared.lock();
                if rest.is_empty() {
                    state.open = chunk;
                    break;
                }
                let fresh = state.fresh();
                state.push(std::mem::replace(&mut chunk, fresh));
                self.shared.work.notify_one();
                drop(state);
            }
            if let Some(stop) = state.failure {
                state.ready.clear();
                state.open.clear();
                state.queued = 0;
                return Err(stop);
            }
        }
        if state.open.len() >= EAGER {
            state.seal();
            self.shared.work.notify_one();
        }
        let queued = state.queued;
        drop(state);
        if queued > self.waits_above {
            self.ease();
        } else if queued < self.shared.limits.queue_soft {
            self.waits_above = self.shared.limits.queue_soft;
        }
        Ok(())
    }

    /// Waits while the queue is long and the peer takes something. If the peer takes nothing it may
    /// itself be sending: waiting for it would be a deadlock, so the queue may grow by a quarter of the
    /// soft limit before the next wait.
    fn ease(&mut self) {
        let mut state = self.shared.lock();
        while state.queued > self.shared.limits.queue_soft && state.failure.is_none() {
            let before = state.queued;
            (state, _) = self
                .shared
                .progress
                .wait_timeout(state, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            if state.queued >= before {
                self.waits_above = before + self.shared.limits.queue_soft / 4;
                return;
            }
        }
        self.waits_above = self.shared.limits.queue_soft;
    }

    /// Sends the open chunk on its way: written here if the writer is idle, else queued for it.
    pub(super) fn flush(&mut self) {
        let mut state = self.shared.lock();
        if state.open.is_empty() || state.failure.is_some() {
            return;
        }
        let idle = state.ready.is_empty();
        state.seal();
        match state.stream.take() {
            Some(mut stream) if idle => {
                let Some(mut chunk) = state.ready.pop_front() else {
                    state.stream = Some(stream);
                    return;
                };
                drop(state);
                let result = write_once(&mut stream, &mut chunk);
                let mut state = self.shared.lock();
                settle(&self.shared, &mut state, stream, chunk, result);
                if !state.ready.is_empty() {
                    self.shared.work.notify_one();
                }
            }
            stream => {
                state.stream = stream;
                self.shared.work.notify_one();
            }
        }
    }

    /// Lets the writer end in its own time: what is queued is still written.
    pub(super) fn close_soon(&mut self) {
        let mut state = self.shared.lock();
        state.seal();
        self.shared.closing.store(true, Ordering::Relaxed);
        drop(state);
        self.shared.work.notify_one();
    }

    /// Waits until everything queued is written. A peer that closed its end after it got everything has
    /// lost nothing.
    pub(super) fn drain(&mut self) -> Result<(), Stop> {
        let mut state = self.shared.lock();
        state.seal();
        self.shared.work.notify_one();
        loop {
            if let Some(stop) = state.failure {
                return if state.lost { Err(stop) } else { Ok(()) };
            }
            if state.queued == 0 && state.stream.is_some() {
                return Ok(());
            }
            (state, _) = self
                .shared
                .progress
                .wait_timeout(state, POLL_SLICE)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// BLAKE3 over all frames written so far; call [`Outgoing::drain`] before.
    pub(super) fn digest(&self) -> [u8; 32] {
        let state = self.shared.lock();
        match &state.stream {
            Some(stream) => *stream.hasher.finalize().as_bytes(),
            None => state.final_digest,
        }
    }

    /// Why the stream broke, if it did.
    pub(super) fn failure(&self) -> Option<Stop> {
        self.shared.lock().failure
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.close_soon();
        if let Some(thread) = self.thread.take() {
            // A writer that panicked has nothing left to close.
            let _ = thread.join();
        }
    }
}

/// The writer thread.
fn write_all_there_is(shared: &Shared) {
    let mut state = shared.lock();
    let mut naps = 0;
    loop {
        if state.failure.is_some() {
            state.stream = None;
            shared.progress.notify_all();
            return;
        }
        let Some(mut stream) = state.stream.take() else {
            // The protocol thread is writing a few bytes.
            state = nap(shared, state);
            continue;
        };
        if let Some(mut chunk) = state.ready.pop_front() {
            drop(state);
            let result = write_chunk(shared, &mut stream, &mut chunk);
            state = shared.lock();
            settle(shared, &mut state, stream, chunk, result.map(|()| true));
            continue;
        }
        if shared.closing() {
            state.final_digest = *stream.hasher.finalize().as_bytes();
            drop(state);
            stream.half.close();
            return;
        }
        state.stream = Some(stream);
        state = nap(shared, state);
        if state.ready.is_empty() {
            naps += 1;
            if naps % PROBE_EVERY == 0 {
                probe(shared, &mut state);
            }
            state.seal();
        }
    }
}

fn nap<'a>(shared: &'a Shared, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
    shared
        .work
        .wait_timeout(state, IDLE)
        .unwrap_or_else(PoisonError::into_inner)
        .0
}

/// Looks whether the peer has closed the stream.
fn probe(shared: &Shared, state: &mut State) {
    if let Some(mut stream) = state.stream.take() {
        if stream.half.peer_closed() {
            state.fail(Stop::Gone(Gone::Closed), &stream);
            shared.progress.notify_all();
        } else {
            state.stream = Some(stream);
        }
    }
}

/// Puts the stream back after a write. `result`: whether the whole chunk is written.
fn settle(
    shared: &Shared,
    state: &mut State,
    stream: Stream,
    chunk: Chunk,
    result: Result<bool, Stop>,
) {
    match result {
        Ok(true) => {
            state.queued = state.queued.saturating_sub(chunk.bytes.len());
            state.recycle(chunk.bytes);
            state.stream = Some(stream);
        }
        Ok(false) => {
            state.ready.push_front(chunk);
            state.stream = Some(stream);
        }
        Err(stop) => state.fail(stop, &stream),
    }
    shared.progress.notify_all();
}

/// Writes one chunk with patience: the deadline's while the link lives, less once it closes.
fn write_chunk(shared: &Shared, stream: &mut Stream, chunk: &mut Chunk) -> Result<(), Stop> {
    let mut patience = Patience::new(shared.deadline);
    loop {
        let before = chunk.written;
        if write_once(stream, chunk)? {
            return Ok(());
        }
        if shared.closing() {
            patience.shorten(shared.limits.linger);
        }
        if chunk.written > before {
            patience.restore();
        }
        patience.wait(&shared.cancel)?;
    }
}

/// Writes one chunk until it is out or the stream would block; says whether it is out.
fn write_once(stream: &mut Stream, chunk: &mut Chunk) -> Result<bool, Stop> {
    if !chunk.hashed {
        stream.hasher.update(&chunk.bytes);
        chunk.hashed = true;
    }
    loop {
        let rest = &chunk.bytes[chunk.written..];
        let result = if rest.is_empty() {
            stream.half.flush().map(|()| 0)
        } else {
            stream.half.write(rest)
        };
        match result {
            Ok(_) if rest.is_empty() => return Ok(true),
            Ok(0) => return Err(Stop::Gone(Gone::Closed)),
            Ok(written) => chunk.written += written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => match Stop::of(&error) {
                Some(stop) => return Err(stop),
                None => return Ok(false),
            },
        }
    }
}
