//! Keyed tags: 128-bit pseudonyms of join keys that only the owners of the tag key can compute.
//!
//! Knows nothing of protocols. Construction: CBC-MAC with AES-128 over a prefix-free encoding. A
//! 16-byte AES key is derived from the 32-byte tag key and the *class* (the name of the key: what
//! columns it consists of) by keyed BLAKE3, so that different classes have independent tags. The
//! message is
//!
//! ```text
//! total length of the columns part: u64 | occurrence: u64 |
//! per column: length: u32, bytes | zeros up to 16 bytes
//! ```
//!
//! Two different (occurrence, columns) differ in this encoding, and no encoding is a prefix of
//! another, since the first block fixes the length: CBC-MAC is then a pseudo-random function
//! (Petrank and Rackoff, J. Cryptology 13, 2000; Bellare, Pietrzak and Rogaway, CRYPTO 2005: distance
//! about l q^2 / 2^128 for q keys of l blocks). Keys must be canonical: equal keys, equal bytes.
//!
//! Of a tag [`TAG_BITS`] bits are sent.

use aes::Aes128;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit, typenum::U16};
use zeroize::Zeroize;

type Block = Array<u8, U16>;

/// Keys tagged at once: enough to fill the cipher's pipeline.
const LANES: usize = 32;

/// Tags keys of one class under one tag key.
pub struct Tagger {
    cipher: Aes128,
}

impl std::fmt::Debug for Tagger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tagger(..)")
    }
}

/// One key being written.
#[derive(Default)]
pub struct KeyWriter {
    /// 16 bytes of head, then the columns.
    bytes: Vec<u8>,
}

impl KeyWriter {
    /// The number of this row among the rows of the same key; 0 unless set.
    pub fn occurrence(&mut self, occurrence: u64) {
        self.bytes[8..16].copy_from_slice(&occurrence.to_le_bytes());
    }

    /// The next key column, canonical bytes.
    ///
    /// A column of 2^32 bytes or more is not told apart from others by its length prefix alone; the
    /// total length still is in the head.
    pub fn column(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    fn begin(&mut self) {
        self.bytes.clear();
        self.bytes.resize(16, 0);
    }

    fn finish(&mut self) {
        let length = (self.bytes.len() - 16) as u64;
        self.bytes[..8].copy_from_slice(&length.to_le_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(16), 0);
    }
}

impl Tagger {
    /// For keys of the class named `class`, under a tag key that all owners have and the neutral
    /// party has not. Fresh for every alignment.
    #[must_use]
    pub fn new(tag_key: &[u8; 32], class: &str) -> Self {
        let hash = blake3::keyed_hash(tag_key, class.as_bytes());
        let mut key = [0; 16];
        key.copy_from_slice(&hash.as_bytes()[..16]);
        let cipher = Aes128::new(&Array::from(key));
        key.zeroize();
        Self { cipher }
    }

    /// Tags of `rows` keys; `write_key(row, writer)` writes the columns of each.
    pub fn tags(&self, rows: usize, mut write_key: impl FnMut(usize, &mut KeyWriter)) -> Vec<u128> {
        let mut tags = Vec::with_capacity(rows);
        let mut keys: [KeyWriter; LANES] = std::array::from_fn(|_| KeyWriter::default());
        let mut row = 0;
        while row < rows {
            let count = LANES.min(rows - row);
            for (lane, key) in keys[..count].iter_mut().enumerate() {
                key.begin();
                write_key(row + lane, key);
                key.finish();
            }
            self.chain(&keys[..count], &mut tags);
            row += count;
        }
        for key in &mut keys {
            key.bytes.zeroize();
        }
        tags
    }

    /// CBC-MAC of several messages side by side.
    fn chain(&self, keys: &[KeyWriter], tags: &mut Vec<u128>) {
        let mut states = [Block::default(); LANES];
        let mut done = [0_u128; LANES];
        let longest = keys.iter().map(|key| key.bytes.len()).max().unwrap_or(0);
        for start in (0..longest).step_by(16) {
            for (state, key) in states.iter_mut().zip(keys) {
                if let Some(block) = key.bytes.get(start..start + 16) {
                    for (byte, &add) in state.iter_mut().zip(block) {
                        *byte ^= add;
                    }
                }
            }
            self.cipher.encrypt_blocks(&mut states[..keys.len()]);
            for ((done, state), key) in done.iter_mut().zip(&states).zip(keys) {
                if key.bytes.len() == start + 16 {
                    *done = u128::from_le_bytes((*state).into());
                }
            }
        }
        tags.extend_from_slice(&done[..keys.len()]);
    }
}

/// Bits of a tag that an alignment sends.
///
/// Two of n random tags of w bits are equal with probability below `n^2 / 2^(w+1)`: with 96 bits and n
/// padded rows of all owners together below 2^-55 at 1M x 1M rows, and below 2^-40 at [`MAX_ROWS`].
/// Such an equality would match two different keys or look like a duplicate: this is the correctness
/// error of the protocol.
pub const TAG_BITS: usize = 96;

/// The most padded rows of one alignment, all owners together.
pub const MAX_ROWS: usize = 1 << 28;

/// Keeps the bits of a tag that are sent.
pub(super) const fn truncate(tag: u128) -> u128 {
    tag & (u128::MAX >> (128 - TAG_BITS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn tag(class: &str, occurrence: u64, columns: &[&[u8]]) -> u128 {
        Tagger::new(&[9; 32], class).tags(1, |_, key| {
            for column in columns {
                key.column(column);
            }
            key.occurrence(occurrence);
        })[0]
    }

    #[test]
    fn different_keys_have_different_tags() {
        let long = [b'x'; 100];
        let mut seen = HashSet::new();
        for class in ["id", "idx", ""] {
            for occurrence in [0, 1, u64::MAX] {
                for columns in [
                    &[][..],
                    &[&b""[..]],
                    &[b"", b""],
                    &[b"a"],
                    &[b"a", b""],
                    &[b"", b"a"],
                    &[b"ab"],
                    &[b"a", b"b"],
                    &[b"a\0"],
                    &[b"a\0\0\0\0b"],
                    &[&long],
                    &[&long[..99]],
                ] {
                    assert!(seen.insert(tag(class, occurrence, columns)));
                }
            }
        }
    }

    #[test]
    fn a_tag_is_the_cbc_mac_of_its_encoding() {
        // Block by block with the cipher alone, against the side-by-side computation.
        let keys: Vec<Vec<u8>> = (0..100_usize).map(|i| vec![i as u8; i]).collect();
        let tagger = Tagger::new(&[1; 32], "c");
        let tags = tagger.tags(100, |row, key| key.column(&keys[row]));
        for (key, &tag) in keys.iter().zip(&tags) {
            let mut message = Vec::new();
            message.extend_from_slice(&(key.len() as u64 + 4).to_le_bytes());
            message.extend_from_slice(&[0; 8]);
            message.extend_from_slice(&(key.len() as u32).to_le_bytes());
            message.extend_from_slice(key);
            let mut state = Block::default();
            for chunk in message.chunks(16) {
                for (byte, &add) in state.iter_mut().zip(chunk) {
                    *byte ^= add;
                }
                tagger.cipher.encrypt_block(&mut state);
            }
            assert_eq!(u128::from_le_bytes(state.into()), tag);
        }
    }

    #[test]
    fn tags_depend_on_the_key_and_look_random() {
        let write = |row: usize, key: &mut KeyWriter| key.column(&row.to_le_bytes());
        let one = Tagger::new(&[1; 32], "c").tags(4096, write);
        let two = Tagger::new(&[2; 32], "c").tags(4096, write);
        assert!(one.iter().zip(&two).all(|(a, b)| a != b));
        for bit in 0..128 {
            let ones = one.iter().filter(|&&tag| tag >> bit & 1 == 1).count();
            // 2048 expected, standard deviation 32.
            assert!((1850..2250).contains(&ones));
        }
    }
}
