//! Links between participants of one process: unbounded queues, for tests, benches and simulation.
//!
//! Knows nothing of sockets. Same contract as every [`Link`]: frames in order, step and length
//! checked, a silent or closed peer is noticed, cancellation is noticed.

use super::account::Account;
use super::{ChannelDigest, Link, LinkProfile, Participant, Step, Traffic};
use crate::error::{Error, Gone, Misbehaviour, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How long a wait goes on before the cancellation flag is looked at again.
const SLICE: Duration = Duration::from_millis(100);

/// Silence that makes a peer [`Gone::Deadline`] unless [`MemoryLink::with_deadline`] says otherwise.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(60);

/// One frame in a queue.
struct Frame {
    tag: [u8; 8],
    payload: Vec<u8>,
}

/// The two queues shared with one peer.
struct Peer {
    outgoing: Sender<Frame>,
    incoming: Receiver<Frame>,
}

/// One participant's end of an in-memory network. See [`network`].
pub struct MemoryLink {
    me: Participant,
    /// By participant index; `None` at the own index.
    peers: Vec<Option<Peer>>,
    deadline: Duration,
    cancel: Arc<AtomicBool>,
    profile: LinkProfile,
    account: Account,
}

/// Links of `participants` (at most 255) participants `#0, #1, ...`, all connected with all.
#[must_use]
pub fn network(participants: usize) -> Vec<MemoryLink> {
    let count = u8::try_from(participants).unwrap_or(u8::MAX);
    let mut senders: Vec<Vec<Option<Sender<Frame>>>> = Vec::new();
    let mut receivers: Vec<Vec<Option<Receiver<Frame>>>> = (0..count).map(|_| Vec::new()).collect();
    for from in 0..count {
        let mut row = Vec::new();
        for to in 0..count {
            let (sender, receiver) = channel();
            let own = from == to;
            row.push((!own).then_some(sender));
            receivers[usize::from(to)].push((!own).then_some(receiver));
        }
        senders.push(row);
    }
    (0..count)
        .zip(senders.into_iter().zip(receivers))
        .map(|(me, (outgoing, incoming))| MemoryLink {
            me: Participant(me),
            peers: outgoing
                .into_iter()
                .zip(incoming)
                .map(|(outgoing, incoming)| {
                    Some(Peer {
                        outgoing: outgoing?,
                        incoming: incoming?,
                    })
                })
                .collect(),
            deadline: DEFAULT_DEADLINE,
            cancel: Arc::default(),
            profile: LinkProfile::LOOPBACK,
            account: Account::new((0..count).filter(|&p| p != me).map(Participant)),
        })
        .collect()
}

impl MemoryLink {
    /// The same link, giving up after `deadline` without a frame that is due.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The same link, ending every wait with [`Error::Cancelled`] once `cancel` is set.
    #[must_use]
    pub fn with_cancel(mut self, cancel: Arc<AtomicBool>) -> Self {
        self.cancel = cancel;
        self
    }

    /// The same link with another declared profile.
    #[must_use]
    pub fn with_profile(mut self, profile: LinkProfile) -> Self {
        self.profile = profile;
        self
    }

    fn peer(&self, peer: Participant) -> Result<&Peer> {
        self.peers
            .get(usize::from(peer.0))
            .and_then(Option::as_ref)
            .ok_or_else(|| super::no_channel(self.me, peer))
    }

    /// The next frame's payload, its tag checked, its length not.
    fn next(&mut self, from: Participant, step: &Step) -> Result<Vec<u8>> {
        self.account.receiving();
        let gone = |why| Error::PeerGone {
            peer: from,
            step: step.clone(),
            why,
        };
        let mut left = self.deadline;
        let frame = loop {
            if self.cancel.load(Ordering::Relaxed) {
                return Err(Error::Cancelled);
            }
            let slice = left.min(SLICE);
            match self.peer(from)?.incoming.recv_timeout(slice) {
                Ok(frame) => break frame,
                Err(RecvTimeoutError::Disconnected) => return Err(gone(Gone::Closed)),
                Err(RecvTimeoutError::Timeout) => left -= slice,
            }
            if left.is_zero() {
                return Err(gone(Gone::Deadline));
            }
        };
        if frame.tag != step.tag() {
            return Err(super::misbehaved(from, step, Misbehaviour::OutOfStep));
        }
        Ok(frame.payload)
    }
}

impl Link for MemoryLink {
    fn me(&self) -> Participant {
        self.me
    }

    fn send(&mut self, to: Participant, step: &Step, payload: &[u8]) -> Result<()> {
        let tag = super::frame::Head::new(step.tag(), payload.len())?.tag;
        let frame = Frame {
            tag,
            payload: payload.to_vec(),
        };
        self.peer(to)?
            .outgoing
            .send(frame)
            .map_err(|_| Error::PeerGone {
                peer: to,
                step: step.clone(),
                why: Gone::Closed,
            })?;
        self.account.sent(to, tag, payload);
        Ok(())
    }

    fn recv_into(&mut self, from: Participant, step: &Step, buffer: &mut [u8]) -> Result<()> {
        let payload = self.next(from, step)?;
        if payload.len() != buffer.len() {
            let what = Misbehaviour::Length {
                expected: buffer.len() as u64,
                got: payload.len() as u64,
            };
            return Err(super::misbehaved(from, step, what));
        }
        buffer.copy_from_slice(&payload);
        self.account.received(from, step.tag(), &payload);
        Ok(())
    }

    fn recv_up_to(&mut self, from: Participant, step: &Step, at_most: usize) -> Result<Vec<u8>> {
        let payload = self.next(from, step)?;
        if payload.len() > at_most {
            let what = Misbehaviour::Length {
                expected: at_most as u64,
                got: payload.len() as u64,
            };
            return Err(super::misbehaved(from, step, what));
        }
        self.account.received(from, step.tag(), &payload);
        Ok(payload)
    }

    fn profile(&self) -> LinkProfile {
        self.profile
    }

    fn traffic(&self) -> Traffic {
        self.account.traffic()
    }

    fn digests(&mut self) -> Vec<ChannelDigest> {
        self.account.digests()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_in_order_and_digests_agree() {
        let mut links = network(3);
        let (first, second) = (Step::new("a"), Step::new("b"));
        links[0].send(Participant(2), &first, &[1, 2, 3]).unwrap();
        links[0].send(Participant(2), &second, &[]).unwrap();
        let mut three = [0; 3];
        links[2]
            .recv_into(Participant(0), &first, &mut three)
            .unwrap();
        assert_eq!(three, [1, 2, 3]);
        assert_eq!(
            links[2].recv_up_to(Participant(0), &second, 5).unwrap(),
            Vec::<u8>::new()
        );
        assert_eq!(links[0].digests()[1].sent, links[2].digests()[0].received);
        assert_ne!(links[0].digests()[0].sent, links[0].digests()[1].sent);
        let traffic = links[0].traffic();
        assert_eq!((traffic.bytes_sent, traffic.messages_sent), (3, 2));
        assert_eq!(links[2].traffic().bytes_received, 3);
    }

    #[test]
    fn rounds_count_receives_that_follow_sends() {
        let mut links = network(2);
        let step = Step::new("x");
        let (left, right) = links.split_at_mut(1);
        for _ in 0..3 {
            left[0].send(Participant(1), &step, &[0]).unwrap();
            left[0].send(Participant(1), &step, &[0]).unwrap();
            right[0].send(Participant(0), &step, &[0]).unwrap();
            for _ in 0..2 {
                right[0].recv_into(Participant(0), &step, &mut [0]).unwrap();
            }
            left[0].recv_into(Participant(1), &step, &mut [0]).unwrap();
        }
        assert_eq!(left[0].traffic().rounds, 3);
        assert_eq!(right[0].traffic().rounds, 3);
    }

    #[test]
    fn misbehaviour_and_absence_are_named() {
        let mut links = network(2);
        let (step, other) = (Step::new("x"), Step::new("y"));
        links[0].send(Participant(1), &step, &[0; 4]).unwrap();
        links[0].send(Participant(1), &step, &[0; 4]).unwrap();
        links[0].send(Participant(1), &step, &[0; 4]).unwrap();
        let error = links[1].recv_into(Participant(0), &other, &mut [0; 4]);
        assert!(matches!(
            error,
            Err(Error::PeerMisbehaved {
                peer: Participant(0),
                what: Misbehaviour::OutOfStep,
                ..
            })
        ));
        let length = Misbehaviour::Length {
            expected: 3,
            got: 4,
        };
        let error = links[1].recv_into(Participant(0), &step, &mut [0; 3]);
        assert!(matches!(error, Err(Error::PeerMisbehaved { what, .. }) if what == length));
        let error = links[1].recv_up_to(Participant(0), &step, 3);
        assert!(matches!(error, Err(Error::PeerMisbehaved { what, .. }) if what == length));

        let mut link = links
            .pop()
            .unwrap()
            .with_deadline(Duration::from_millis(20));
        let error = link.recv_up_to(Participant(0), &step, 3);
        assert!(matches!(
            error,
            Err(Error::PeerGone {
                why: Gone::Deadline,
                ..
            })
        ));
        drop(links);
        let error = link.recv_up_to(Participant(0), &step, 3);
        assert!(matches!(
            error,
            Err(Error::PeerGone {
                why: Gone::Closed,
                ..
            })
        ));
        assert!(link.send(Participant(0), &step, &[]).is_err());
        assert!(link.send(Participant(7), &step, &[]).is_err());

        let mut link = network(2)
            .remove(0)
            .with_cancel(Arc::new(AtomicBool::new(true)));
        assert_eq!(
            link.recv_up_to(Participant(1), &step, 3),
            Err(Error::Cancelled)
        );
    }
}
