//! What a comparison sort sorts: of each row one record of both components, so that moving it and
//! making planes of it touch one place in memory.

use super::super::shuffle::Cut;
use crate::bits::{plane_words, row_words, store_line, transpose_records};
use crate::context::Context;
use crate::error::Result;
use crate::share::BitColumn;
use std::ops::Range;

/// Row-major shared keys: of each row the full words of my first component, those of the second, then
/// the bits beyond, in one word where both fit.
pub(in super::super) struct Records {
    words: Vec<u64>,
    /// Room for records that move.
    spare: Vec<u64>,
    width: usize,
    lanes: Vec<Lane>,
}

/// A word of a record: which of its bits are the planes of which component, from plane `plane` on.
struct Lane {
    plane: usize,
    a: Range<usize>,
    b: Range<usize>,
}

/// Bits that both components may have left to share a word.
const HALF: usize = 32;

fn lanes(width: usize) -> Vec<Lane> {
    let full = width / 64;
    let rest = width % 64;
    let lane = |word: usize, a, b| Lane {
        plane: 64 * word,
        a,
        b,
    };
    let mut lanes = Vec::new();
    lanes.extend((0..full).map(|word| lane(word, 0..64, 0..0)));
    lanes.extend((0..full).map(|word| lane(word, 0..0, 0..64)));
    if rest > HALF {
        lanes.push(lane(full, 0..rest, 0..0));
        lanes.push(lane(full, 0..0, 0..rest));
    } else if rest > 0 {
        lanes.push(lane(full, 0..rest, HALF..HALF + rest));
    }
    lanes
}

impl Records {
    /// From row-major words of both components, as many as `width` bits take; bits beyond are ignored.
    pub(super) fn new(a: &[u64], b: &[u64], width: usize) -> Self {
        let lanes = lanes(width);
        let (full, each) = (width / 64, row_words(width));
        let rows = a.len() / each;
        let mut words = Vec::with_capacity(rows * lanes.len());
        for (a, b) in a.chunks_exact(each).zip(b.chunks_exact(each)) {
            words.extend_from_slice(&a[..full]);
            words.extend_from_slice(&b[..full]);
            if let (Some(a), Some(b)) = (a.get(full), b.get(full)) {
                if width % 64 > HALF {
                    words.extend([a, b]);
                } else {
                    words.push(a & ((1 << HALF) - 1) | b << HALF);
                }
            }
        }
        Self {
            words,
            spare: Vec::new(),
            width,
            lanes,
        }
    }

    /// Bits of a key.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    pub(super) fn rows(&self) -> usize {
        self.words.len() / self.lanes.len()
    }

    /// Exchanges two records.
    pub(super) fn swap(&mut self, one: usize, other: usize) {
        let stride = self.lanes.len();
        for word in 0..stride {
            self.words.swap(one * stride + word, other * stride + word);
        }
    }

    /// Moves record `order[i]` to place `i`.
    pub(super) fn reorder(&mut self, ctx: &mut Context, order: &[u32]) -> Result<()> {
        let cut = Cut::new(order.len(), self.lanes.len(), ctx.threads());
        self.spare.resize(self.words.len(), 0);
        let words = &self.words;
        cut.each(ctx, &mut self.spare, |_, _, from, out| {
            cut.gather(out, words, order, from);
            Ok(())
        })?;
        std::mem::swap(&mut self.words, &mut self.spare);
        Ok(())
    }

    /// The highest `width` bits of all records as a column, in their present order.
    pub(super) fn sorted(&self, width: usize) -> BitColumn {
        let places: Vec<u32> = (0_u32..).take(self.rows()).collect();
        let words = plane_words(self.rows());
        let (mut a, mut b) = (vec![0; self.width * words], vec![0; self.width * words]);
        self.planes(&places, &mut a, &mut b);
        let below = (self.width - width) * words;
        BitColumn::make(width, self.rows(), a.split_off(below), b.split_off(below))
    }

    /// The planes of the records at `places`, one after the other.
    pub(super) fn planes(&self, places: &[u32], a: &mut [u64], b: &mut [u64]) {
        match self.lanes.len() {
            1 => self.planes_of::<1>(places, a, b),
            2 => self.planes_of::<2>(places, a, b),
            3 => self.planes_of::<3>(places, a, b),
            4 => self.planes_of::<4>(places, a, b),
            stride => {
                for lane in 0..stride {
                    let word = |row: usize| [self.words[places[row] as usize * stride + lane]];
                    transpose_records(word, places.len(), |_, first, count, block| {
                        self.store(lane, places.len(), first, count, block, [a, b]);
                    });
                }
            }
        }
    }

    fn planes_of<const S: usize>(&self, places: &[u32], a: &mut [u64], b: &mut [u64]) {
        let records = self.words.as_chunks::<S>().0;
        let record = |row: usize| records[places[row] as usize];
        transpose_records(record, places.len(), |lane, first, count, block| {
            self.store(lane, places.len(), first, count, block, [a, b]);
        });
    }

    /// Stores the words `first..first + count` of the planes of a lane.
    #[inline(always)]
    fn store(
        &self,
        lane: usize,
        rows: usize,
        first: usize,
        count: usize,
        block: &[[u64; 8]; 64],
        [a, b]: [&mut [u64]; 2],
    ) {
        let (lane, words) = (&self.lanes[lane], plane_words(rows));
        for (planes, bits) in [(a, &lane.a), (b, &lane.b)] {
            for (bit, line) in block[bits.clone()].iter().enumerate() {
                store_line(planes, (lane.plane + bit) * words + first, line, count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::to_planes;
    use crate::testing::data;

    #[test]
    fn planes_are_those_of_each_component() {
        let (mut stream, rows) = (data(4), 700);
        for width in [1, 28, 32, 33, 64, 84, 96, 97, 128, 140, 276] {
            let mut words = || -> Vec<u64> { stream.words(rows * row_words(width)) };
            let (a, b) = (words(), words());
            let records = Records::new(&a, &b, width);
            assert_eq!(records.rows(), rows);
            for count in [0, 1, 64, 500, 700] {
                let places: Vec<u32> = (0..count).map(|i| i * 331 % 700).collect();
                let mut planes = [(); 2].map(|()| vec![0; width * plane_words(places.len())]);
                let [of_a, of_b] = &mut planes;
                records.planes(&places, of_a, of_b);
                for (made, words) in planes.iter().zip([&a, &b]) {
                    let rows = places.iter().flat_map(|&place| {
                        let at = place as usize * row_words(width);
                        words[at..at + row_words(width)].iter().copied()
                    });
                    let due = to_planes(&rows.collect::<Vec<u64>>(), places.len(), width);
                    assert_eq!(*made, due, "{width} bits, {count} rows");
                }
            }
        }
    }
}
