//! Seeds of one run: HKDF-SHA-256 (RFC 5869) over X25519 (RFC 7748) between every two parties,
//! salted with all consents, so that identical SQL never replays and nobody in the middle knows
//! one. The gateway that coordinates sees public keys only.

use crate::error::{Code, Error, Result};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// The secrets that this gateway shares with each other party of one run.
pub struct RunSeeds {
    /// By party index; none at this gateway's own.
    pairs: Vec<Option<Zeroizing<[u8; 32]>>>,
}

impl std::fmt::Debug for RunSeeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RunSeeds({} parties)", self.pairs.len())
    }
}

impl RunSeeds {
    /// One Diffie-Hellman with every other party.
    pub(super) fn agree(
        me: usize,
        ephemeral: &x25519_dalek::StaticSecret,
        publics: &[[u8; 32]],
        departments: &[String],
        consents_digest: &[u8; 32],
    ) -> Result<Self> {
        let mut pairs = Vec::with_capacity(publics.len());
        for (peer, public) in publics.iter().enumerate() {
            if peer == me {
                pairs.push(None);
                continue;
            }
            let shared = ephemeral.diffie_hellman(&x25519_dalek::PublicKey::from(*public));
            if !shared.was_contributory() {
                return Err(Error::new(
                    Code::PeerMisbehaved,
                    "its ephemeral key is a point of small order",
                )
                .at(departments[peer].clone()));
            }
            let mut info = b"veilgate pair v1\0".to_vec();
            let (low, high) = (me.min(peer) as u64, me.max(peer) as u64);
            info.extend_from_slice(&low.to_le_bytes());
            info.extend_from_slice(&high.to_le_bytes());
            pairs.push(Some(expand(
                Some(consents_digest),
                shared.as_bytes(),
                &info,
            )?));
        }
        Ok(Self { pairs })
    }

    /// The secret for one purpose, shared with `peer` alone.
    ///
    /// # Errors
    /// `Internal` when `peer` is this gateway itself or no party.
    pub fn with(&self, peer: usize, label: &str) -> Result<Zeroizing<[u8; 32]>> {
        let pair = self
            .pairs
            .get(peer)
            .and_then(Option::as_ref)
            .ok_or_else(|| Error::new(Code::Internal, "no seed is shared with this party"))?;
        expand(None, pair.as_ref(), label.as_bytes())
    }
}

fn expand(salt: Option<&[u8; 32]>, secret: &[u8], info: &[u8]) -> Result<Zeroizing<[u8; 32]>> {
    let mut out = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(salt.map(<[u8; 32]>::as_slice), secret)
        .expand(info, out.as_mut())
        .map_err(|_| Error::new(Code::Internal, "key derivation failed"))?;
    Ok(out)
}
