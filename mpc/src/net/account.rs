//! What every link counts: bytes, messages, rounds, and one running digest per directed channel.
//!
//! Knows nothing of sockets or of what the bytes mean.

use super::{ChannelDigest, Participant, Traffic};
use std::collections::BTreeMap;

/// Running digests of the two channels with one peer.
#[derive(Default)]
struct Pair {
    sent: blake3::Hasher,
    received: blake3::Hasher,
}

/// Counters and digests of one link.
#[derive(Default)]
pub(super) struct Account {
    traffic: Traffic,
    /// Whether something was sent since the last receive: the next receive then ends a round.
    sent_since_receive: bool,
    peers: BTreeMap<Participant, Pair>,
}

impl Account {
    /// An account with a pair of channels for every peer.
    pub(super) fn new(peers: impl IntoIterator<Item = Participant>) -> Self {
        Self {
            peers: peers
                .into_iter()
                .map(|peer| (peer, Pair::default()))
                .collect(),
            ..Self::default()
        }
    }

    /// One frame went out.
    pub(super) fn sent(&mut self, to: Participant, tag: [u8; 8], payload: &[u8]) {
        self.traffic.bytes_sent += payload.len() as u64;
        self.traffic.messages_sent += 1;
        self.sent_since_receive = true;
        if let Some(pair) = self.peers.get_mut(&to) {
            absorb(&mut pair.sent, tag, payload);
        }
    }

    /// A receive begins: a round ends here if something was sent since the last one.
    pub(super) fn receiving(&mut self) {
        if std::mem::take(&mut self.sent_since_receive) {
            self.traffic.rounds += 1;
        }
    }

    /// One frame came in.
    pub(super) fn received(&mut self, from: Participant, tag: [u8; 8], payload: &[u8]) {
        self.traffic.bytes_received += payload.len() as u64;
        if let Some(pair) = self.peers.get_mut(&from) {
            absorb(&mut pair.received, tag, payload);
        }
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.traffic
    }

    pub(super) fn digests(&self) -> Vec<ChannelDigest> {
        self.peers
            .iter()
            .map(|(&peer, pair)| ChannelDigest {
                peer,
                sent: *pair.sent.finalize().as_bytes(),
                received: *pair.received.finalize().as_bytes(),
            })
            .collect()
    }
}

/// Adds one frame to a digest, as it would stand on a wire.
fn absorb(hasher: &mut blake3::Hasher, tag: [u8; 8], payload: &[u8]) {
    let head = super::frame::Head {
        length: payload.len(),
        tag,
    };
    hasher.update(&head.encode());
    hasher.update(payload);
}
