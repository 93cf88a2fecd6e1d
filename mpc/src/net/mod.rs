//! How participants of a run exchange bytes.
//!
//! A [`Link`] is blocking and belongs to one protocol thread. Every message is one frame, named by
//! a [`Step`]; both ends compute the length and the step of every message from public values, so a
//! frame that differs is the peer's fault and names it. This module knows nothing of shares.

mod account;
mod frame;
mod incoming;
pub mod memory;
mod outgoing;
pub mod recording;
pub mod shaped;
pub mod stream;
#[cfg(test)]
mod stream_tests;
pub mod tcp;
#[cfg(feature = "tls")]
pub mod tls;

use crate::error::{Error, Misbehaviour, Result};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// A gateway's index in the run's agreed list of participants (computing and input parties).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Participant(pub u8);

impl fmt::Display for Participant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// The name of a place in a protocol: a path such as `join0/sort/compare3`.
///
/// Every message and every random stream is named by one. Names come from the plan and from loop
/// counters alone, never from data.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Step(Arc<str>);

impl Step {
    /// A top-level step.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(Arc::from(name))
    }

    /// The step `self/name`.
    #[must_use]
    pub fn narrow(&self, name: &str) -> Self {
        Self(Arc::from(format!("{}/{name}", self.0)))
    }

    /// The step `self/name{index}`.
    #[must_use]
    pub fn at(&self, name: &str, index: usize) -> Self {
        Self(Arc::from(format!("{}/{name}{index}", self.0)))
    }

    /// The whole path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0
    }

    /// The 8-byte tag that stands for this step in a frame: BLAKE3 of the path, truncated.
    #[must_use]
    pub fn tag(&self) -> [u8; 8] {
        let mut tag = [0; 8];
        tag.copy_from_slice(&blake3::hash(self.0.as_bytes()).as_bytes()[..8]);
        tag
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What the planner knows about a link; protocols choose their variants by it, and both ends must
/// be given the same profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkProfile {
    /// Measured round trip.
    pub round_trip: Duration,
    /// Measured bandwidth in bytes per second, one direction.
    pub bytes_per_second: u64,
}

impl LinkProfile {
    /// Loopback: 40 microseconds, 2 GB/s.
    pub const LOOPBACK: Self = Self {
        round_trip: Duration::from_micros(40),
        bytes_per_second: 2_000_000_000,
    };
}

/// What one participant has sent and received; a function of public sizes only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Payload bytes sent, without framing.
    pub bytes_sent: u64,
    /// Payload bytes received, without framing.
    pub bytes_received: u64,
    /// Messages sent.
    pub messages_sent: u64,
    /// Communication rounds: how often a receive followed a send.
    pub rounds: u64,
}

/// Digests over everything that crossed one pair of directed channels, for the agreement check
/// before release: what I sent to `peer` must digest to what `peer` received from me.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelDigest {
    /// The other end.
    pub peer: Participant,
    /// BLAKE3 over (length as u32, step tag, payload) of every frame sent, in order.
    pub sent: [u8; 32],
    /// BLAKE3 over (length as u32, step tag, payload) of every frame received, in order.
    pub received: [u8; 32],
}

/// Blocking, framed, mutually authenticated channels from one participant to every other.
///
/// Contract of every implementation:
/// - `send` never waits for the peer to call `recv`: a ring in which all send before they receive
///   must not deadlock, whatever the size (one writer thread per peer, or an unbounded queue).
/// - Frames between two participants arrive in order. A frame of another step or another length
///   than asked for is `PeerMisbehaved`; a closed or silent peer is `PeerGone` within the deadline.
/// - Digests, bytes and rounds are counted here, once, for all protocols.
pub trait Link: Send {
    /// Who this end is.
    fn me(&self) -> Participant;

    /// Sends one frame.
    ///
    /// # Errors
    /// `PeerGone` when the channel is closed.
    fn send(&mut self, to: Participant, step: &Step, payload: &[u8]) -> Result<()>;

    /// Receives the next frame from `from` into `buffer`, whose length is the length due.
    ///
    /// # Errors
    /// `PeerMisbehaved` for another step or length, `PeerGone` when closed or past the deadline.
    fn recv_into(&mut self, from: Participant, step: &Step, buffer: &mut [u8]) -> Result<()>;

    /// Receives the next frame from `from`, of any length up to `at_most` bytes. For the few
    /// messages whose length is the sender's to choose (sizes, statements).
    ///
    /// # Errors
    /// As [`Link::recv_into`].
    fn recv_up_to(&mut self, from: Participant, step: &Step, at_most: usize) -> Result<Vec<u8>>;

    /// What is known about the channels.
    fn profile(&self) -> LinkProfile;

    /// Counters so far.
    fn traffic(&self) -> Traffic;

    /// Digests so far, one per peer in ascending order; waits until queued frames are written.
    fn digests(&mut self) -> Vec<ChannelDigest>;
}

/// The error for a peer that sent something not allowed.
fn misbehaved(peer: Participant, step: &Step, what: Misbehaviour) -> Error {
    Error::PeerMisbehaved {
        peer,
        step: step.clone(),
        what,
    }
}

/// The error for a participant to whom this end has no channel.
fn no_channel(me: Participant, peer: Participant) -> Error {
    Error::InvalidInput {
        operator: "link",
        what: format!("participant {me} has no channel to participant {peer}"),
    }
}
