//! Bit matrices: 64x64 transposition between row-major words and bit-sliced planes, and shifts of
//! whole planes. Knows nothing of sharing.
//!
//! A *plane* holds bit `i` of every row: row `r` is bit `r % 64` of word `r / 64`, and bits past the
//! last row are undefined unless a function says otherwise. *Row-major* means `stride` words a row,
//! lowest word first.

pub(crate) mod choose;
pub(crate) mod places;
mod transpose;

use transpose::{Block, transpose_block};

/// Words that a plane of `rows` bits takes.
#[must_use]
pub const fn plane_words(rows: usize) -> usize {
    rows.div_ceil(64)
}

/// Words that a row of `width` bits takes.
#[must_use]
pub const fn row_words(width: usize) -> usize {
    width.div_ceil(64)
}

/// A mask of the rows in the last word of a plane.
#[must_use]
pub const fn tail_mask(rows: usize) -> u64 {
    if rows.is_multiple_of(64) {
        u64::MAX
    } else {
        (1 << (rows % 64)) - 1
    }
}

/// Row-major words to `width` planes. `rows_in` holds `rows * row_words(width)` words; the result
/// holds `width * plane_words(rows)` words, plane 0 first, zero past the last row.
#[must_use]
pub fn to_planes(rows_in: &[u64], rows: usize, width: usize) -> Vec<u64> {
    let mut planes = vec![0; width * plane_words(rows)];
    to_planes_into(rows_in, rows, width, &mut planes);
    planes
}

/// As [`to_planes`], into `planes`.
pub fn to_planes_into(rows_in: &[u64], rows: usize, width: usize, planes: &mut [u64]) {
    match row_words(width) {
        1 => planes_of::<1>(rows_in, rows, width, planes),
        2 => planes_of::<2>(rows_in, rows, width, planes),
        stride => {
            for lane in 0..stride {
                let bits = (width - lane * 64).min(64);
                let planes = &mut planes[lane * 64 * plane_words(rows)..];
                let word = |row: usize| [rows_in[row * stride + lane]];
                transpose_records(word, rows, |_, first, count, block| {
                    for (bit, line) in block.iter().enumerate().take(bits) {
                        store_line(planes, bit * plane_words(rows) + first, line, count);
                    }
                });
            }
        }
    }
}

/// Planes of records of `S` words.
fn planes_of<const S: usize>(rows_in: &[u64], rows: usize, width: usize, planes: &mut [u64]) {
    let records = rows_in.as_chunks::<S>().0;
    let words = plane_words(rows);
    transpose_records(
        |row| records[row],
        rows,
        |lane, first, count, block| {
            let bits = (width - lane * 64).min(64);
            for (bit, line) in block.iter().enumerate().take(bits) {
                store_line(planes, (lane * 64 + bit) * words + first, line, count);
            }
        },
    );
}

/// Transposes the records of `S` words that `record(row)` gives, 512 rows at a time, so that a plane gets
/// a cache line at a time: `store(lane, first, count, lines)` gets the words `first..first + count`, at
/// most eight, of the 64 planes of word `lane`; zero past the last row.
#[inline(always)]
pub(crate) fn transpose_records<const S: usize>(
    record: impl Fn(usize) -> [u64; S],
    rows: usize,
    mut store: impl FnMut(usize, usize, usize, &Block),
) {
    let words = plane_words(rows);
    let mut blocks: [Block; S] = [[[0; 8]; 64]; S];
    for first in (0..words).step_by(8) {
        let count = (words - first).min(8);
        for t in 0..count {
            let from = (first + t) * 64;
            let full = (rows - from).min(64);
            for i in 0..full {
                let record = record(from + i);
                for (block, word) in blocks.iter_mut().zip(record) {
                    block[i][t] = word;
                }
            }
            for block in &mut blocks {
                for line in &mut block[full..] {
                    line[t] = 0;
                }
            }
        }
        for (lane, block) in blocks.iter_mut().enumerate() {
            transpose_block(block);
            store(lane, first, count, block);
        }
    }
}

/// The first `count` words of `line`, to `planes` from `at` on.
#[inline(always)]
pub(crate) fn store_line(planes: &mut [u64], at: usize, line: &[u64; 8], count: usize) {
    if count == 8 {
        // Of known length: one vector store.
        planes[at..at + 8].copy_from_slice(line);
    } else {
        planes[at..at + count].copy_from_slice(&line[..count]);
    }
}

/// Planes to row-major words: the inverse of [`to_planes`]. Bits past `width` are zero.
#[must_use]
pub fn to_rows(planes: &[u64], rows: usize, width: usize) -> Vec<u64> {
    let mut out = vec![0; rows * row_words(width)];
    let planes: Vec<&[u64]> = planes.chunks(plane_words(rows).max(1)).collect();
    rows_of_planes(&planes, 0, &mut out);
    out
}

/// The rows from `64 * first_word` on of some planes, as many as fit into `out`, as row-major words.
pub(crate) fn rows_of_planes(planes: &[&[u64]], first_word: usize, out: &mut [u64]) {
    let stride = row_words(planes.len());
    if stride == 0 {
        return;
    }
    let rows = out.len() / stride;
    let words = plane_words(rows);
    let mut block: Block = [[0; 8]; 64];
    for first in (0..words).step_by(8) {
        let count = (words - first).min(8);
        for (lane, planes) in planes.chunks(64).enumerate() {
            for (bit, line) in block.iter_mut().enumerate() {
                match planes.get(bit) {
                    Some(plane) => {
                        let at = first_word + first;
                        line[..count].copy_from_slice(&plane[at..at + count]);
                    }
                    None => line.fill(0),
                }
            }
            transpose_block(&mut block);
            for t in 0..count {
                let from = (first + t) * 64;
                for (i, line) in block.iter().enumerate().take((rows - from).min(64)) {
                    out[(from + i) * stride + lane] = line[t];
                }
            }
        }
    }
}

/// The plane moved one row up: row `r` of the result is row `r - 1` of `plane`, row 0 is zero.
pub fn shift_rows_up(plane: &[u64], out: &mut [u64]) {
    let mut carry = 0;
    for (target, &word) in out.iter_mut().zip(plane) {
        *target = (word << 1) | carry;
        carry = word >> 63;
    }
}

/// The plane moved one row down: row `r` of the result is row `r + 1` of `plane`; the last row takes
/// whatever lies past the end.
pub fn shift_rows_down(plane: &[u64], out: &mut [u64]) {
    for i in 0..plane.len() {
        let next = plane.get(i + 1).copied().unwrap_or(0);
        out[i] = (plane[i] >> 1) | (next << 63);
    }
}

/// Even rows of a plane into `even`, odd rows into `odd`; each holds as many words as its rows need.
pub(crate) fn split_rows(plane: &[u64], even: &mut [u64], odd: &mut [u64]) {
    for (target, shift) in [(even, 0), (odd, 1)] {
        for (target, words) in target.iter_mut().zip(plane.chunks(2)) {
            let high = words.get(1).copied().unwrap_or(0);
            *target = even_bits(words[0] >> shift) | even_bits(high >> shift) << 32;
        }
    }
}

/// The inverse of [`split_rows`].
pub(crate) fn interleave_rows(even: &[u64], odd: &[u64], plane: &mut [u64]) {
    for (i, target) in plane.iter_mut().enumerate() {
        let half = |v: &[u64]| v.get(i / 2).copied().unwrap_or(0) >> (32 * (i % 2));
        *target = spread_bits(half(even)) | spread_bits(half(odd)) << 1;
    }
}

/// Bits 0, 2, 4, ... of a word, packed into its low half (Hacker's Delight, section 7-2).
fn even_bits(word: u64) -> u64 {
    let mut x = word & 0x5555_5555_5555_5555;
    x = (x | x >> 1) & 0x3333_3333_3333_3333;
    x = (x | x >> 2) & 0x0f0f_0f0f_0f0f_0f0f;
    x = (x | x >> 4) & 0x00ff_00ff_00ff_00ff;
    x = (x | x >> 8) & 0x0000_ffff_0000_ffff;
    (x | x >> 16) & 0x0000_0000_ffff_ffff
}

/// The inverse: the low half's bits at 0, 2, 4, ...
fn spread_bits(word: u64) -> u64 {
    let mut x = word & 0x0000_0000_ffff_ffff;
    x = (x | x << 16) & 0x0000_ffff_0000_ffff;
    x = (x | x << 8) & 0x00ff_00ff_00ff_00ff;
    x = (x | x << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    x = (x | x << 2) & 0x3333_3333_3333_3333;
    (x | x << 1) & 0x5555_5555_5555_5555
}

/// The first `rows` rows of a plane, last first.
pub(crate) fn reverse_rows(plane: &[u64], rows: usize, out: &mut [u64]) {
    let words = plane_words(rows);
    // Whole words turn round; the gap that was past the end is now in front.
    let gap = words * 64 - rows;
    let turned = |i: usize| {
        if i < words {
            plane[words - 1 - i].reverse_bits()
        } else {
            0
        }
    };
    for (i, target) in out.iter_mut().enumerate() {
        *target = if gap == 0 {
            turned(i)
        } else {
            turned(i) >> gap | turned(i + 1) << (64 - gap)
        };
    }
}

/// Copies `count` rows of `source`, from row `from`, to `target` at row `at`, bit by bit exact; other
/// rows of `target` stay.
pub fn copy_rows(source: &[u64], from: usize, target: &mut [u64], at: usize, count: usize) {
    let mut done = 0;
    while done < count {
        let (read, write) = (from + done, at + done);
        let room = 64 - (write % 64);
        let take = room.min(count - done);
        let (word, shift) = (read / 64, read % 64);
        let mut bits = source[word] >> shift;
        if shift != 0 && word + 1 < source.len() {
            bits |= source[word + 1] << (64 - shift);
        }
        let mask = if take == 64 {
            u64::MAX
        } else {
            (1 << take) - 1
        };
        let slot = &mut target[write / 64];
        let offset = write % 64;
        *slot = (*slot & !(mask << offset)) | ((bits & mask) << offset);
        done += take;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(n: usize, mut seed: u64) -> Vec<u64> {
        (0..n)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                seed ^ (seed >> 29)
            })
            .collect()
    }

    #[test]
    fn planes_and_rows_are_inverse() {
        for rows in [0, 1, 2, 63, 64, 65, 127, 200] {
            for width in [1, 5, 63, 64, 65, 100, 128, 256] {
                let stride = row_words(width);
                let mut rows_in = words(rows * stride, (rows * 1000 + width) as u64);
                for row in rows_in.chunks_exact_mut(stride) {
                    if !width.is_multiple_of(64) {
                        row[stride - 1] &= (1 << (width % 64)) - 1;
                    }
                }
                let planes = to_planes(&rows_in, rows, width);
                for r in 0..rows {
                    for b in 0..width {
                        let row_bit = rows_in[r * stride + b / 64] >> (b % 64) & 1;
                        let plane_bit = planes[b * plane_words(rows) + r / 64] >> (r % 64) & 1;
                        assert_eq!(row_bit, plane_bit);
                    }
                }
                assert_eq!(to_rows(&planes, rows, width), rows_in);
            }
        }
    }

    #[test]
    fn rows_split_interleave_and_turn() {
        let bit = |v: &[u64], i: usize| v[i / 64] >> (i % 64) & 1;
        for rows in [1, 2, 3, 63, 64, 65, 127, 128, 129, 300] {
            let plane = words(plane_words(rows), rows as u64);
            let (evens, odds) = (rows.div_ceil(2), rows / 2);
            let mut even = vec![0; plane_words(evens)];
            let mut odd = vec![0; plane_words(odds)];
            split_rows(&plane, &mut even, &mut odd);
            assert!((0..evens).all(|i| bit(&even, i) == bit(&plane, 2 * i)));
            assert!((0..odds).all(|i| bit(&odd, i) == bit(&plane, 2 * i + 1)));
            let mut again = vec![0; plane.len()];
            interleave_rows(&even, &odd, &mut again);
            assert!((0..rows).all(|i| bit(&again, i) == bit(&plane, i)));
            let mut turned = vec![0; plane.len()];
            reverse_rows(&plane, rows, &mut turned);
            assert!((0..rows).all(|i| bit(&turned, i) == bit(&plane, rows - 1 - i)));
        }
    }

    #[test]
    fn rows_are_copied_bit_exact() {
        for (from, at, count) in [
            (0, 0, 0),
            (0, 3, 100),
            (5, 0, 64),
            (63, 65, 70),
            (1, 1, 191),
        ] {
            let source = words(4, 7);
            let mut target = words(5, 9);
            let before = target.clone();
            copy_rows(&source, from, &mut target, at, count);
            for r in 0..320 {
                let bit = |v: &[u64], i: usize| v[i / 64] >> (i % 64) & 1;
                let due = if (at..at + count).contains(&r) {
                    bit(&source, from + r - at)
                } else {
                    bit(&before, r)
                };
                assert_eq!(bit(&target, r), due);
            }
        }
    }
}
