//! Bits of a plane at other places, 64 rows at a time: what rows are compared with when it stands near
//! them in the same batch. One AVX-512 BITALG instruction picks 64 bits of one word; places of 64 rows
//! lie in a few words.

use super::choose::can_pick;
use super::plane_words;

/// For each of some rows, the row of a plane whose bit it takes.
pub(crate) struct Places {
    /// The place within its word.
    index: Vec<[u8; 64]>,
    /// How many of `sources` each word of rows has.
    counts: Vec<usize>,
    sources: Vec<Source>,
}

/// A word of the plane, and which of 64 rows take their bit from it.
#[derive(Debug, Clone, Copy)]
struct Source {
    word: usize,
    rows: u64,
}

impl Places {
    /// The places of consecutive rows.
    pub(crate) fn of(places: &[u32]) -> Self {
        let words = plane_words(places.len());
        let mut all = Self {
            index: Vec::with_capacity(words),
            counts: Vec::with_capacity(words),
            sources: Vec::with_capacity(2 * words),
        };
        for places in places.chunks(64) {
            let mut index = [0; 64];
            let first = all.sources.len();
            // Neighbours mostly take from the same word.
            let mut at = first;
            for (row, (&place, index)) in places.iter().zip(&mut index).enumerate() {
                *index = (place % 64) as u8;
                let word = place as usize / 64;
                if all.sources.get(at).is_none_or(|s| s.word != word) {
                    let known = all.sources[first..].iter().position(|s| s.word == word);
                    at = first + known.unwrap_or(all.sources.len() - first);
                    if known.is_none() {
                        all.sources.push(Source { word, rows: 0 });
                    }
                }
                all.sources[at].rows |= 1 << row;
            }
            all.index.push(index);
            all.counts.push(all.sources.len() - first);
        }
        all
    }

    /// The bits of `plane`, which has every place, for all rows.
    #[allow(unsafe_code)]
    pub(crate) fn pick(&self, plane: &[u64], out: &mut [u64]) {
        #[cfg(target_arch = "x86_64")]
        if can_pick() {
            // SAFETY: the features are there.
            unsafe { self.pick_avx512(plane, out) }
            return;
        }
        self.pick_portable(plane, out);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512bitalg")]
    fn pick_avx512(&self, plane: &[u64], out: &mut [u64]) {
        use std::arch::x86_64::{_mm512_bitshuffle_epi64_mask, _mm512_set1_epi64};
        let mut sources = self.sources.iter();
        for ((out, index), &count) in out.iter_mut().zip(&self.index).zip(&self.counts) {
            let index = super::choose::load(index);
            let mut picked = 0;
            for source in sources.by_ref().take(count) {
                let word = _mm512_set1_epi64(plane[source.word].cast_signed());
                picked |= _mm512_bitshuffle_epi64_mask(word, index) & source.rows;
            }
            *out = picked;
        }
    }

    fn pick_portable(&self, plane: &[u64], out: &mut [u64]) {
        let mut sources = self.sources.iter();
        for ((out, index), &count) in out.iter_mut().zip(&self.index).zip(&self.counts) {
            *out = 0;
            for source in sources.by_ref().take(count) {
                let word = plane[source.word];
                let mut rows = source.rows;
                while rows != 0 {
                    let row = rows.trailing_zeros();
                    rows &= rows - 1;
                    *out |= (word >> index[row as usize] & 1) << row;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::data;

    #[test]
    fn rows_take_the_bit_at_their_place() {
        let mut stream = data(3);
        for (rows, apart) in [(0_u32, 1), (1, 1), (64, 3), (200, 40), (1000, 900)] {
            let plane: Vec<u64> = stream.words(plane_words(2 * rows as usize + 2));
            let places: Vec<u32> = (0..rows).map(|row| row + stream.below(apart)).collect();
            let all = Places::of(&places);
            let mut picked = vec![0; plane_words(rows as usize)];
            let mut portable = picked.clone();
            all.pick(&plane, &mut picked);
            all.pick_portable(&plane, &mut portable);
            assert_eq!(picked, portable);
            for (row, &place) in places.iter().enumerate() {
                let bit = |plane: &[u64], row: usize| plane[row / 64] >> (row % 64) & 1;
                assert_eq!(bit(&picked, row), bit(&plane, place as usize));
            }
        }
    }
}
