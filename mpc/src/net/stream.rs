//! The link of real runs: one pair of simplex byte streams per peer (TCP or blocking TLS).
//!
//! A connection carries frames in one direction only: one blocking TLS connection cannot be split
//! over two threads, and two large sends through one connection would deadlock. For every peer the
//! link owns an outgoing stream with a writer thread (`outgoing`) and an incoming stream that the
//! protocol thread reads inline (`incoming`). Knows nothing of TLS, identities or shares: whoever
//! builds a link has authenticated both streams as that peer's.
//!
//! - **Never a deadlock**: [`Link::send`] copies the frame into the writer's queue and returns. A
//!   queue above [`Limits::queue_soft`] slows the sender while the peer drains; a queue above
//!   [`Limits::queue_hard`] ends the run with `ResourceExhausted`.
//! - **Few system calls**: small frames gather in one chunk, which goes out when the protocol thread
//!   turns to receiving (written by that thread itself if the writer is idle), when 16 KiB are
//!   together, or after 20 milliseconds.
//! - **Silence**: every wait is cut into slices of [`POLL_SLICE`]; between slices the cancellation
//!   flag is looked at. A peer from whom nothing comes, or who takes nothing, for the link's deadline
//!   is gone. The deadline bounds silence, not the whole run: that is what the flag is for.
//! - **Drop**: queued frames are written (at most [`Limits::linger`] without progress, not at all
//!   when cancelled), streams are closed, threads are joined.

use super::incoming::Incoming;
use super::outgoing::Outgoing;
use super::{ChannelDigest, Link, LinkProfile, Participant, Step, Traffic, frame};
use crate::error::{Error, Gone, Misbehaviour, Result};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The longest that a [`WriteHalf`] or [`ReadHalf`] may wait in one call.
pub const POLL_SLICE: Duration = Duration::from_millis(100);

/// The sending end of one simplex byte stream to one peer. Dropping it closes the stream.
///
/// `write` and `flush` return `WouldBlock` or `TimedOut` when nothing moved for [`POLL_SLICE`]; the
/// call is then repeated with the bytes not yet taken.
pub trait WriteHalf: Send {
    /// Takes some bytes, at least one of a non-empty slice.
    ///
    /// # Errors
    /// Those of the stream; `WouldBlock` or `TimedOut` when nothing could be taken.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Hands everything taken so far to the network.
    ///
    /// # Errors
    /// Those of the stream; `WouldBlock` or `TimedOut` when it must be called again.
    fn flush(&mut self) -> io::Result<()>;

    /// Whether the peer has closed the stream, found without waiting. This is how the sender of a
    /// simplex stream learns that nobody reads any more.
    fn peer_closed(&mut self) -> bool;

    /// Ends the stream in order, so that the peer still reads everything taken so far.
    fn close(&mut self);
}

/// The receiving end of one simplex byte stream from one peer. Dropping it closes the stream.
pub trait ReadHalf: Send {
    /// Reads some bytes; 0 means that the peer closed the stream.
    ///
    /// # Errors
    /// Those of the stream; `WouldBlock` or `TimedOut` when nothing came for [`POLL_SLICE`].
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
}

/// A peer with the stream written to it and the stream read from it.
pub type PeerStreams = (Participant, Box<dyn WriteHalf>, Box<dyn ReadHalf>);

/// Memory and patience of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Queued bytes per peer above which a send waits while the peer drains.
    pub queue_soft: usize,
    /// Queued bytes per peer that end the run with `ResourceExhausted`.
    pub queue_hard: usize,
    /// On drop: how long a queue that does not shrink is waited for.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_soft: 64 << 20,
            queue_hard: 1 << 30,
            linger: Duration::from_secs(2),
        }
    }
}

/// A [`Link`] over simplex streams; see the module's text for its behaviour.
pub struct StreamLink {
    me: Participant,
    incoming: BTreeMap<Participant, Incoming>,
    outgoing: BTreeMap<Participant, Outgoing>,
    profile: LinkProfile,
    traffic: Traffic,
    /// Whether something was sent since the last receive: the next receive then ends a round.
    sent_since_receive: bool,
}

impl StreamLink {
    /// A link over established, authenticated streams: for every peer our writing end of one
    /// connection and our reading end of another.
    ///
    /// `deadline` is the longest silence of a peer; `cancel`, once set, ends every wait within
    /// 200 milliseconds with `Cancelled`. Starts one writer thread per peer.
    ///
    /// # Errors
    /// `InvalidInput` when a peer appears twice or is `me`; `ResourceExhausted` when a thread cannot
    /// be started.
    pub fn new(
        me: Participant,
        peers: Vec<PeerStreams>,
        profile: LinkProfile,
        deadline: Duration,
        cancel: Arc<AtomicBool>,
    ) -> Result<Self> {
        Self::with_limits(me, peers, profile, deadline, cancel, Limits::default())
    }

    /// As [`StreamLink::new`], with other limits.
    ///
    /// # Errors
    /// As [`StreamLink::new`].
    pub fn with_limits(
        me: Participant,
        peers: Vec<PeerStreams>,
        profile: LinkProfile,
        deadline: Duration,
        cancel: Arc<AtomicBool>,
        limits: Limits,
    ) -> Result<Self> {
        let mut incoming = BTreeMap::new();
        let mut outgoing = BTreeMap::new();
        for (participant, write, read) in peers {
            if participant == me || incoming.contains_key(&participant) {
                return Err(Error::InvalidInput {
                    operator: "link",
                    what: format!("participant {participant} cannot be a peer of {me} twice"),
                });
            }
            let writer =
                Outgoing::start(participant, write, deadline, limits, Arc::clone(&cancel))?;
            outgoing.insert(participant, writer);
            let reader = Incoming::new(read, deadline, Arc::clone(&cancel));
            incoming.insert(participant, reader);
        }
        Ok(Self {
            me,
            incoming,
            outgoing,
            profile,
            traffic: Traffic::default(),
            sent_since_receive: false,
        })
    }

    /// Waits until everything sent has been handed to the network, then closes the link.
    ///
    /// # Errors
    /// `PeerGone` or `Cancelled` when some of it could not be.
    pub fn finish(mut self) -> Result<()> {
        let step = Step::new("finish");
        for (&participant, outgoing) in &mut self.outgoing {
            outgoing.drain().map_err(|why| why.at(participant, &step))?;
        }
        Ok(())
    }

    /// Turns to receiving from `from`: whatever is queued goes out first, and a round ends here if
    /// something was sent since the last receive.
    fn turn(&mut self) {
        if std::mem::take(&mut self.sent_since_receive) {
            self.traffic.rounds += 1;
            for outgoing in self.outgoing.values_mut() {
                outgoing.flush();
            }
        }
    }

    /// Maps a failed read to an error that names who is at the root of it: when `from` is silent or has
    /// closed its stream in order, and another peer's stream broke off or takes nothing any more, then
    /// `from` waits for that peer or has given up because of it. A peer that closed in order may just
    /// have finished.
    fn blame(&mut self, from: Participant, step: &Step, why: Stop) -> Error {
        if matches!(why, Stop::Gone(Gone::Deadline | Gone::Closed)) {
            for (&participant, incoming) in &mut self.incoming {
                if participant == from {
                    continue;
                }
                let outgoing = self.outgoing.get(&participant);
                let stuck = outgoing
                    .and_then(Outgoing::failure)
                    .filter(|stop| matches!(stop, Stop::Gone(Gone::Deadline | Gone::Io(_))));
                if let Some(root) = stuck.or_else(|| incoming.broke_off()) {
                    return root.at(participant, step);
                }
            }
        }
        why.at(from, step)
    }

    /// The length of the next frame from `from`, its step checked and its length passed by `fits`.
    fn head(
        &mut self,
        from: Participant,
        step: &Step,
        fits: impl Fn(usize) -> Option<Misbehaviour>,
    ) -> Result<usize> {
        self.turn();
        let me = self.me;
        let incoming = self
            .incoming
            .get_mut(&from)
            .ok_or_else(|| super::no_channel(me, from))?;
        let head = match incoming.head() {
            Ok(head) => head,
            Err(why) => return Err(self.blame(from, step, why)),
        };
        let wrong = if head.length > frame::MAXIMUM {
            Some(Misbehaviour::Malformed("a frame above the maximum length"))
        } else if head.tag != step.tag() {
            Some(Misbehaviour::OutOfStep)
        } else {
            fits(head.length)
        };
        if let Some(what) = wrong {
            incoming.poison();
            return Err(super::misbehaved(from, step, what));
        }
        Ok(head.length)
    }

    /// Fills `buffer` with the payload of the frame whose head was just read.
    fn payload(&mut self, from: Participant, step: &Step, buffer: &mut [u8]) -> Result<()> {
        let me = self.me;
        let incoming = self
            .incoming
            .get_mut(&from)
            .ok_or_else(|| super::no_channel(me, from))?;
        if let Err(why) = incoming.payload(buffer) {
            return Err(self.blame(from, step, why));
        }
        self.traffic.bytes_received += buffer.len() as u64;
        Ok(())
    }
}

/// Why a stream stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The peer is gone.
    Gone(Gone),
    /// The connection ended without the peer closing it in order: its process or host died.
    BrokeOff,
    /// The run was cancelled.
    Cancelled,
    /// The peer had broken the frame protocol before.
    Poisoned,
    /// More is queued than the link may hold.
    Full,
}

impl Stop {
    /// What an error of a stream means; `None` for one after which the call is repeated.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        use io::ErrorKind as Kind;
        match error.kind() {
            Kind::WouldBlock | Kind::TimedOut | Kind::Interrupted => None,
            Kind::BrokenPipe
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::NotConnected
            | Kind::UnexpectedEof
            | Kind::WriteZero => Some(Self::BrokeOff),
            kind => Some(Self::Gone(Gone::Io(kind))),
        }
    }

    pub(super) fn at(self, peer: Participant, step: &Step) -> Error {
        let gone = |why| Error::PeerGone {
            peer,
            step: step.clone(),
            why,
        };
        match self {
            Self::Gone(why) => gone(why),
            Self::BrokeOff => gone(Gone::Closed),
            Self::Cancelled => Error::Cancelled,
            Self::Poisoned => super::misbehaved(
                peer,
                step,
                Misbehaviour::Malformed("a frame after a broken one"),
            ),
            Self::Full => Error::ResourceExhausted(format!(
                "the queue of messages to participant {peer} is full at step {step}"
            )),
        }
    }
}

/// Patience with a stream: slices without progress are counted against the deadline.
pub(super) struct Patience {
    left: Duration,
    whole: Duration,
}

impl Patience {
    pub(super) fn new(whole: Duration) -> Self {
        Self { left: whole, whole }
    }

    /// No more than `whole` from now on.
    pub(super) fn shorten(&mut self, whole: Duration) {
        self.whole = self.whole.min(whole);
        self.left = self.left.min(whole);
    }

    /// Something moved.
    pub(super) fn restore(&mut self) {
        self.left = self.whole;
    }

    /// One slice passed in which nothing moved.
    pub(super) fn wait(&mut self, cancel: &AtomicBool) -> std::result::Result<(), Stop> {
        if cancel.load(Ordering::Relaxed) {
            return Err(Stop::Cancelled);
        }
        self.left = self.left.saturating_sub(POLL_SLICE);
        if self.left.is_zero() {
            return Err(Stop::Gone(Gone::Deadline));
        }
        Ok(())
    }
}

impl Link for StreamLink {
    fn me(&self) -> Participant {
        self.me
    }

    fn send(&mut self, to: Participant, step: &Step, payload: &[u8]) -> Result<()> {
        let head = frame::Head::new(step.tag(), payload.len())?;
        let outgoing = self
            .outgoing
            .get_mut(&to)
            .ok_or_else(|| super::no_channel(self.me, to))?;
        outgoing
            .send(head, payload)
            .map_err(|why| why.at(to, step))?;
        self.traffic.bytes_sent += payload.len() as u64;
        self.traffic.messages_sent += 1;
        self.sent_since_receive = true;
        Ok(())
    }

    fn recv_into(&mut self, from: Participant, step: &Step, buffer: &mut [u8]) -> Result<()> {
        let expected = buffer.len();
        self.head(from, step, |got| {
            (got != expected).then_some(Misbehaviour::Length {
                expected: expected as u64,
                got: got as u64,
            })
        })?;
        self.payload(from, step, buffer)
    }

    fn recv_up_to(&mut self, from: Participant, step: &Step, at_most: usize) -> Result<Vec<u8>> {
        let length = self.head(from, step, |got| {
            (got > at_most).then_some(Misbehaviour::Length {
                expected: at_most as u64,
                got: got as u64,
            })
        })?;
        let mut payload = vec![0; length];
        self.payload(from, step, &mut payload)?;
        Ok(payload)
    }

    fn profile(&self) -> LinkProfile {
        self.profile
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// A channel that failed before all was written digests to what was written.
    fn digests(&mut self) -> Vec<ChannelDigest> {
        self.outgoing
            .iter_mut()
            .zip(self.incoming.values())
            .map(|((&peer, outgoing), incoming)| {
                // A failure shows in the digest, and at the next send.
                let _ = outgoing.drain();
                ChannelDigest {
                    peer,
                    sent: outgoing.digest(),
                    received: incoming.digest(),
                }
            })
            .collect()
    }
}

impl Drop for StreamLink {
    /// Reading ends first, so that a peer's writer does not wait for what nobody will read; then all
    /// writers end side by side.
    fn drop(&mut self) {
        self.incoming.clear();
        for outgoing in self.outgoing.values_mut() {
            outgoing.close_soon();
        }
    }
}
