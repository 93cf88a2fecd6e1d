//! A link that keeps what it receives, for tests of views: what crossed, and what did not.
//!
//! Not for real runs: it keeps every byte in memory.

use super::{ChannelDigest, Link, LinkProfile, Participant, Step, Traffic};
use crate::error::Result;
use std::sync::{Arc, Mutex, PoisonError};

/// One received frame.
#[derive(Clone, PartialEq, Eq)]
pub struct Received {
    /// Who sent it.
    pub from: Participant,
    /// Under which step.
    pub step: Step,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.from, self.step, self.payload.len())
    }
}

/// The view of one participant: all frames it received, in order.
#[derive(Clone, Debug, Default)]
pub struct View(Arc<Mutex<Vec<Received>>>);

impl View {
    /// The frames so far.
    #[must_use]
    pub fn frames(&self) -> Vec<Received> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn push(&self, from: Participant, step: &Step, payload: &[u8]) {
        let frame = Received {
            from,
            step: step.clone(),
            payload: payload.to_vec(),
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(frame);
    }
}

/// A link with its view.
pub struct Recording<L> {
    inner: L,
    view: View,
}

impl<L: Link> Recording<L> {
    /// Records what `inner` receives in `view`.
    pub fn new(inner: L, view: &View) -> Self {
        Self {
            inner,
            view: view.clone(),
        }
    }
}

impl<L: Link> Link for Recording<L> {
    fn me(&self) -> Participant {
        self.inner.me()
    }

    fn send(&mut self, to: Participant, step: &Step, payload: &[u8]) -> Result<()> {
        self.inner.send(to, step, payload)
    }

    fn recv_into(&mut self, from: Participant, step: &Step, buffer: &mut [u8]) -> Result<()> {
        self.inner.recv_into(from, step, buffer)?;
        self.view.push(from, step, buffer);
        Ok(())
    }

    fn recv_up_to(&mut self, from: Participant, step: &Step, at_most: usize) -> Result<Vec<u8>> {
        let payload = self.inner.recv_up_to(from, step, at_most)?;
        self.view.push(from, step, &payload);
        Ok(payload)
    }

    fn profile(&self) -> LinkProfile {
        self.inner.profile()
    }

    fn traffic(&self) -> Traffic {
        self.inner.traffic()
    }

    fn digests(&mut self) -> Vec<ChannelDigest> {
        self.inner.digests()
    }
}
