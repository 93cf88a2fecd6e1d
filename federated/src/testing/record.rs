//! A link that keeps a copy of every frame, for tests of what crosses.

use std::sync::{Arc, Mutex, PoisonError};
use veilgate_mpc::Result;
use veilgate_mpc::net::{ChannelDigest, Link, LinkProfile, Participant, Step, Traffic};

/// One message between two participants.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Who sent it.
    pub from: Participant,
    /// Who receives it.
    pub to: Participant,
    /// The step's path.
    pub step: String,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// Where frames of all participants are kept.
#[derive(Debug, Clone, Default)]
pub struct Recorder(Arc<Mutex<Vec<Frame>>>);

impl Recorder {
    /// The frames so far, in the order of sending; the recorder is empty afterwards.
    #[must_use]
    pub fn take(&self) -> Vec<Frame> {
        let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut frames)
    }

    /// The same link, recorded.
    #[must_use]
    pub fn wrap(&self, link: Box<dyn Link>) -> Box<dyn Link> {
        Box::new(RecordingLink {
            link,
            recorder: self.clone(),
        })
    }
}

struct RecordingLink {
    link: Box<dyn Link>,
    recorder: Recorder,
}

impl Link for RecordingLink {
    fn me(&self) -> Participant {
        self.link.me()
    }

    fn send(&mut self, to: Participant, step: &Step, payload: &[u8]) -> Result<()> {
        self.link.send(to, step, payload)?;
        let frame = Frame {
            from: self.link.me(),
            to,
            step: step.path().to_owned(),
            payload: payload.to_vec(),
        };
        let mut frames = self
            .recorder
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        frames.push(frame);
        Ok(())
    }

    fn recv_into(&mut self, from: Participant, step: &Step, buffer: &mut [u8]) -> Result<()> {
        self.link.recv_into(from, step, buffer)
    }

    fn recv_up_to(&mut self, from: Participant, step: &Step, at_most: usize) -> Result<Vec<u8>> {
        self.link.recv_up_to(from, step, at_most)
    }

    fn profile(&self) -> LinkProfile {
        self.link.profile()
    }

    fn traffic(&self) -> Traffic {
        self.link.traffic()
    }

    fn digests(&mut self) -> Vec<ChannelDigest> {
        self.link.digests()
    }
}
