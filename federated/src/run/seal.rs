//! The final share on its way to the result party: AES-256-GCM (NIST SP 800-38D) under a key that
//! only its computing party and the result party have. Whoever carries it learns its length.

use super::Committed;
use crate::error::{Code, Error, Result};
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};

/// The key serves one message, so the nonce is constant.
const NONCE: [u8; 12] = [0; 12];

impl Committed {
    /// Seals this party's final share to the result party. Sealing the same share again gives the
    /// same bytes.
    ///
    /// # Errors
    /// `Internal` when this is the result party itself, whose share does not travel.
    pub fn seal(&self, share: &[u8]) -> Result<Vec<u8>> {
        let plan = self.permitted().plan();
        let result = plan
            .result_party()
            .ok_or_else(|| Error::new(Code::Internal, "the plan has no result party"))?;
        let payload = Payload {
            msg: share,
            aad: &self.associated_data(self.permitted().me()),
        };
        self.cipher(result)?
            .encrypt(&Nonce::from(NONCE), payload)
            .map_err(|_| Error::new(Code::Internal, "sealing the final share failed"))
    }

    /// Opens the share that party `from` sealed to this result party.
    ///
    /// # Errors
    /// `PeerMisbehaved` when it was sealed by somebody else, for another run, or altered.
    pub fn unseal(&self, from: usize, sealed: &[u8]) -> Result<Vec<u8>> {
        let payload = Payload {
            msg: sealed,
            aad: &self.associated_data(from),
        };
        self.cipher(from)?
            .decrypt(&Nonce::from(NONCE), payload)
            .map_err(|_| {
                let department = self.permitted().plan().parties[from].department.clone();
                Error::new(Code::PeerMisbehaved, "its final share does not unseal").at(department)
            })
    }

    fn cipher(&self, peer: usize) -> Result<Aes256Gcm> {
        let key = self.seeds().with(peer, "veilgate final share v1")?;
        Ok(Aes256Gcm::new(&(*key).into()))
    }

    fn associated_data(&self, from: usize) -> Vec<u8> {
        let mut data = self.run().0.to_vec();
        data.extend_from_slice(&self.permitted().digest()[..]);
        data.extend_from_slice(&(from as u64).to_be_bytes());
        data
    }
}
