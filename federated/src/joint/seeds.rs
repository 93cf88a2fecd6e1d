//! The secrets of one participant of a run, and what is derived from them. Every purpose has its
//! own label: HKDF-SHA-256 (RFC 5869) expands one 32-byte secret per pair.

use crate::error::{Code, Error, Result};
use crate::plan::PartyIndex;
use crate::run::RunSeeds;
use hkdf::Hkdf;
use sha2::Sha256;
use std::fmt;
use zeroize::Zeroizing;

/// A derived 32-byte key.
pub(super) type Key = Zeroizing<[u8; 32]>;

/// What joint execution needs to know secretly.
pub struct Seeds {
    /// By party index; none at my own.
    pairs: Vec<Option<Key>>,
    own: Key,
}

impl fmt::Debug for Seeds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seeds({} parties)", self.pairs.len())
    }
}

impl Seeds {
    /// From the seeds that the run agreed on with each of `parties` parties. `own` is 32 bytes of
    /// fresh local randomness, for this run alone.
    ///
    /// # Errors
    /// `Internal` when a seed is missing.
    pub fn of_run(run: &RunSeeds, me: PartyIndex, parties: usize, own: [u8; 32]) -> Result<Self> {
        let pairs = (0..parties)
            .map(|peer| {
                (peer != me)
                    .then(|| run.with(peer, "veilgate joint execution v1"))
                    .transpose()
            })
            .collect::<Result<_>>()?;
        Ok(Self::new(pairs, own))
    }

    /// From one secret for each other party (none at my own index) and fresh local randomness.
    #[must_use]
    pub fn new(pairs: Vec<Option<Zeroizing<[u8; 32]>>>, own: [u8; 32]) -> Self {
        Self {
            pairs,
            own: Zeroizing::new(own),
        }
    }

    /// The key for one purpose that `peer` and I share.
    pub(super) fn pair(&self, peer: PartyIndex, label: &str) -> Result<Key> {
        let secret = self.pairs.get(peer).and_then(Option::as_ref);
        let secret = secret.ok_or_else(|| {
            Error::new(Code::Internal, "no secret is shared with this participant")
        })?;
        expand(secret, label)
    }

    /// The key for one purpose that is mine alone.
    pub(super) fn own(&self, label: &str) -> Result<Key> {
        expand(&self.own, label)
    }
}

fn expand(secret: &[u8; 32], label: &str) -> Result<Key> {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, secret)
        .expand(label.as_bytes(), key.as_mut())
        .map_err(|_| Error::new(Code::Internal, "key derivation failed"))?;
    Ok(key)
}
