//! Randomness without traffic: the three pairwise seeds, and the streams that protocols cut from
//! them.
//!
//! Component `c` of a replicated sharing is held by the pair `(P_c, P_{c-1})`; that pair also holds
//! seed `c`. A stream is AES-128 in counter mode under BLAKE3-keyed(seed, step path): two parties
//! that ask for the same step get the same words, the third knows nothing of them. A step names at
//! most one stream per seed; a second request is [`Error::StepReused`], for a repeated mask would
//! cancel. Source: pseudo-random zero sharing of Araki et al., CCS 2016, section 3.

use crate::error::{Error, Result};
use crate::net::Step;
use crate::ring::Word;
use aes::Aes128;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit, typenum::U16};
use std::collections::HashSet;
use zerocopy::IntoBytes;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// One pairwise secret of 32 bytes.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Seed(pub [u8; 32]);

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// Which of my two components, hence which seed: `P_i` holds `x_i` (with the previous party) and
/// `x_{i+1}` (with the next).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pair {
    /// My first component, seed common with the previous party.
    Prev,
    /// My second component, seed common with the next party.
    Next,
}

/// The two seeds of one party, and the steps already used with each.
#[derive(Debug)]
pub struct Prss {
    seeds: [Seed; 2],
    used: [HashSet<[u8; 16]>; 2],
}

impl Prss {
    /// From the seeds common with the previous and with the next party.
    #[must_use]
    pub fn new(with_prev: Seed, with_next: Seed) -> Self {
        Self {
            seeds: [with_prev, with_next],
            used: [HashSet::new(), HashSet::new()],
        }
    }

    /// Seeds of their own for a part of the run: the same at both holders of a seed, independent of every
    /// stream of these.
    #[must_use]
    pub(crate) fn derived(&self, label: &str) -> Self {
        // No step's path begins with a zero byte.
        let label = format!("\0{label}");
        let [prev, next] = &self.seeds;
        let derive = |seed: &Seed| Seed(*blake3::keyed_hash(&seed.0, label.as_bytes()).as_bytes());
        Self::new(derive(prev), derive(next))
    }

    /// The stream of this step under the seed of `pair`.
    ///
    /// # Errors
    /// `StepReused` when this step's stream was taken before.
    pub fn stream(&mut self, pair: Pair, step: &Step) -> Result<Stream> {
        let index = usize::from(pair == Pair::Next);
        let hash = blake3::keyed_hash(&self.seeds[index].0, step.path().as_bytes());
        let (key, name) = hash.as_bytes().split_at(16);
        let mut tag = [0; 16];
        tag.copy_from_slice(name);
        if !self.used[index].insert(tag) {
            return Err(Error::StepReused(step.clone()));
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(key);
        let stream = Stream::new(&bytes);
        bytes.zeroize();
        Ok(stream)
    }
}

/// Blocks per call of the cipher: enough to fill its pipeline, few enough to stay in L1.
const BLOCKS: usize = 64;

/// A random stream: AES-128-CTR from counter 0.
pub struct Stream {
    cipher: Aes128,
    counter: u64,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stream(..)")
    }
}

impl Stream {
    /// The stream of a 16-byte key.
    #[must_use]
    pub fn new(key: &[u8; 16]) -> Self {
        Self {
            cipher: Aes128::new(&Array::from(*key)),
            counter: 0,
        }
    }

    /// Fills `out` with random words; always whole cipher blocks are consumed.
    pub fn fill<T: Word>(&mut self, out: &mut [T]) {
        let (blocks, rest) = Array::<u8, U16>::slice_as_chunks_mut(out.as_mut_bytes());
        for blocks in blocks.chunks_mut(BLOCKS) {
            self.encrypt(blocks);
        }
        if !rest.is_empty() {
            let mut last = [Array::default()];
            self.encrypt(&mut last);
            rest.copy_from_slice(&last[0][..rest.len()]);
        }
    }

    /// The next blocks of the stream, whatever `blocks` held.
    fn encrypt(&mut self, blocks: &mut [Array<u8, U16>]) {
        for block in &mut *blocks {
            *block = Array(u128::from(self.counter).to_le_bytes());
            self.counter += 1;
        }
        self.cipher.encrypt_blocks(blocks);
    }

    /// `count` random words.
    #[must_use]
    pub fn words<T: Word>(&mut self, count: usize) -> Vec<T> {
        let mut out = vec![T::default(); count];
        self.fill(&mut out);
        out
    }

    /// A uniformly random number below `bound`, by bounded multiplication with rejection (Lemire 2019).
    #[must_use]
    pub fn below(&mut self, bound: u32) -> u32 {
        let bound = u64::from(bound.max(1));
        loop {
            let mut word = [0_u32];
            self.fill(&mut word);
            let product = u64::from(word[0]) * bound;
            if product & 0xffff_ffff >= (1 << 32) % bound {
                // cannot fail: below `bound`
                return u32::try_from(product >> 32).unwrap_or(0);
            }
        }
    }

    /// A uniformly random permutation of `0..count` (Fisher-Yates with bounded multiplication,
    /// Lemire 2019; the bias of at most 2^-32 per draw is removed by rejection).
    ///
    /// `count` is at most 2^32 - 1.
    #[must_use]
    pub fn permutation(&mut self, count: usize) -> Vec<u32> {
        let mut out: Vec<u32> = (0..u32::try_from(count).unwrap_or(u32::MAX)).collect();
        let mut buffer = [0_u32; 1024];
        let mut at = buffer.len();
        let mut draw = |stream: &mut Self| {
            if at == buffer.len() {
                stream.fill(&mut buffer);
                at = 0;
            }
            at += 1;
            u64::from(buffer[at - 1])
        };
        for i in (1..out.len()).rev() {
            let bound = i as u64 + 1;
            let threshold = (1 << 32) % bound;
            let target = loop {
                let product = draw(self) * bound;
                if product & 0xffff_ffff >= threshold {
                    break product >> 32;
                }
            };
            // cannot fail: target <= i < 2^32
            out.swap(i, usize::try_from(target).unwrap_or(i));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_used_once_per_pair() {
        let mut prss = Prss::new(Seed([1; 32]), Seed([2; 32]));
        let step = Step::new("a");
        let first: Vec<u64> = prss.stream(Pair::Next, &step).unwrap().words(4);
        let other: Vec<u64> = prss.stream(Pair::Prev, &step).unwrap().words(4);
        assert_ne!(first, other);
        assert_eq!(
            prss.stream(Pair::Next, &step).unwrap_err(),
            Error::StepReused(step)
        );
    }

    #[test]
    fn counter_mode_matches_the_standard_vector() {
        // FIPS 197 appendix C.1 key; AES-128 of the all-zero block under the all-zero key.
        let mut out = [0_u8; 16];
        Stream::new(&[0; 16]).fill(&mut out);
        let due = [
            0x66, 0xe9, 0x4b, 0xd4, 0xef, 0x8a, 0x2c, 0x3b, 0x88, 0x4c, 0xfa, 0x59, 0xca, 0x34,
            0x2b, 0x2e,
        ];
        assert_eq!(out, due);
    }

    #[test]
    fn permutations_are_permutations_and_uniform() {
        let mut stream = Stream::new(&[7; 16]);
        for n in [0, 1, 2, 1000] {
            let mut p = stream.permutation(n);
            p.sort_unstable();
            assert!(p.iter().enumerate().all(|(i, &x)| i == x as usize));
        }
        let mut seen = std::collections::HashMap::new();
        for _ in 0..12_000 {
            *seen.entry(stream.permutation(4)).or_insert(0_u32) += 1;
        }
        assert_eq!(seen.len(), 24);
        // 500 expected each, standard deviation 22.
        assert!(seen.values().all(|&n| (380..620).contains(&n)));
    }
}
