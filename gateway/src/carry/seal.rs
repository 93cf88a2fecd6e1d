//! Sealing what a stream carries: AES-256-GCM (NIST SP 800-38D) with a counter as the nonce, under a
//! key of its own for every run, pair, direction and thread. The last piece is marked, so that a stream
//! that was cut off is told from one that ended.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use std::io;
use veilgate_federated::error::Result;
use veilgate_federated::run::RunSeeds;
use zeroize::Zeroizing;

/// A key of one direction of one thread.
pub(crate) type Key = Zeroizing<[u8; 32]>;

/// What authenticates beside the bytes: whether more follow.
const MORE: &[u8] = b"more";
const LAST: &[u8] = b"last";

/// The key of the stream from party `from` to party `to`, of which `peer` is the other.
///
/// # Errors
/// `Internal` when no seed is shared with `peer`.
pub(crate) fn key(
    seeds: &RunSeeds,
    peer: usize,
    from: usize,
    to: usize,
    thread: u8,
) -> Result<Key> {
    seeds.with(
        peer,
        &format!("veilgate carried v1 from {from} to {to} thread {thread}"),
    )
}

/// One end of a stream: cipher and the number of the next piece.
pub(crate) struct Sealing {
    cipher: Aes256Gcm,
    next: u64,
}

impl Sealing {
    pub(crate) fn new(key: &Key) -> Self {
        Self {
            cipher: Aes256Gcm::new(&(**key).into()),
            next: 0,
        }
    }

    fn nonce(&mut self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.next.to_le_bytes());
        self.next += 1;
        nonce
    }

    /// The next piece with these bytes; without any, the last.
    pub(crate) fn seal(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut sealed = Vec::with_capacity(bytes.len() + 16);
        sealed.extend_from_slice(bytes);
        let nonce = self.nonce();
        let mark = if bytes.is_empty() { LAST } else { MORE };
        self.cipher
            .encrypt_in_place(&Nonce::from(nonce), mark, &mut sealed)
            .map_err(|_| io::Error::other("sealing failed"))?;
        Ok(sealed)
    }

    /// The bytes of the next piece; empty for the last.
    pub(crate) fn open(&mut self, mut sealed: Vec<u8>) -> io::Result<Vec<u8>> {
        let nonce = self.nonce();
        let mark = if sealed.len() == 16 { LAST } else { MORE };
        self.cipher
            .decrypt_in_place(&Nonce::from(nonce), mark, &mut sealed)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(sealed)
    }
}
