//! Choices between constants, 64 rows a word: what a binary search compares its rows with. Either a tree
//! of the decisions so far, or, where the processor picks bits by byte-sized numbers (AVX-512 BITALG),
//! one such instruction for 64 rows. Compiled for the vector widths that the processor turns out to have,
//! as the transposition is; `unsafe` only to enter a function compiled for features that were just
//! detected, and to load 64 bytes of a slice.

/// The most decisions.
pub(crate) const DECISIONS: usize = 6;

/// Rows `start..end` of a batch, which choose between the same constants.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Whether [`pick`] and [`step`] can be used here.
pub(crate) fn can_pick() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        std::arch::is_x86_feature_detected!("avx512bw")
            && std::arch::is_x86_feature_detected!("avx512bitalg")
    }
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Bit `number[row]` of the range's word of `constants` for every row of the ranges, which follow each
/// other without gaps; other rows of their words get anything. `number` is as long as all words' rows.
/// Nothing happens unless [`can_pick`].
#[allow(unsafe_code)]
pub(crate) fn pick(ranges: &[Range], constants: &[u64], number: &[[u8; 64]], out: &mut [u64]) {
    #[cfg(target_arch = "x86_64")]
    if can_pick() {
        // SAFETY: the features are there.
        unsafe { pick_avx512(ranges, constants, number, out) }
    }
}

/// Takes a decision for the rows of a range: their numbers go up by `by` where the plane `up` has a bit,
/// down elsewhere. Nothing happens unless [`can_pick`].
#[allow(unsafe_code)]
pub(crate) fn step(number: &mut [[u8; 64]], up: &[u64], range: Range, by: u8) {
    #[cfg(target_arch = "x86_64")]
    if can_pick() {
        // SAFETY: the features are there.
        unsafe { step_avx512(number, up, range, by) }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
fn step_avx512(number: &mut [[u8; 64]], up: &[u64], range: Range, by: u8) {
    for word in range.start / 64..range.end.div_ceil(64) {
        let (from, to) = (range.start.max(word * 64), range.end.min(word * 64 + 64));
        for (row, number) in number[word].iter_mut().enumerate() {
            let inside = 0_u8.wrapping_sub(u8::from((from..to).contains(&(word * 64 + row))));
            let up = 0_u8.wrapping_sub((up[word] >> row & 1) as u8);
            let moved = number.wrapping_sub(by).wrapping_add(up & (2 * by));
            *number = moved & inside | *number & !inside;
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512bitalg")]
fn pick_avx512(ranges: &[Range], constants: &[u64], number: &[[u8; 64]], out: &mut [u64]) {
    use std::arch::x86_64::{_mm512_bitshuffle_epi64_mask, _mm512_set1_epi64};
    for (range, &constant) in ranges.iter().zip(constants) {
        let constant = _mm512_set1_epi64(constant.cast_signed());
        let (first, last) = (range.start / 64, (range.end - 1) / 64);
        // The first word's low rows are the range's before.
        let keep = (1 << (range.start % 64)) - 1;
        let before = out[first];
        for (out, number) in out[first..=last].iter_mut().zip(&number[first..=last]) {
            *out = _mm512_bitshuffle_epi64_mask(constant, load(number));
        }
        out[first] = before & keep | out[first] & !keep;
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
#[allow(unsafe_code)]
pub(super) fn load(bytes: &[u8; 64]) -> std::arch::x86_64::__m512i {
    // SAFETY: 64 bytes are read, from a place of any alignment.
    unsafe { std::arch::x86_64::_mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Each bit of `out` is that of the leaf to which the row's decisions lead, the first decision choosing
/// the half. `leaves` are `2^decisions.len()` words, all ones or all zeros; all planes are as long as
/// `out`.
#[allow(unsafe_code)]
pub(crate) fn choose(decisions: &[&[u64]], leaves: &[u64], out: &mut [u64]) {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature is there.
            unsafe { choose_avx512(decisions, leaves, out) };
            return;
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the feature is there.
            unsafe { choose_avx2(decisions, leaves, out) };
            return;
        }
    }
    choose_portable(decisions, leaves, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn choose_avx512(decisions: &[&[u64]], leaves: &[u64], out: &mut [u64]) {
    choose_portable(decisions, leaves, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn choose_avx2(decisions: &[&[u64]], leaves: &[u64], out: &mut [u64]) {
    choose_portable(decisions, leaves, out);
}

/// Words at a time.
const TILE: usize = 8;

#[inline(always)]
fn choose_portable(decisions: &[&[u64]], leaves: &[u64], out: &mut [u64]) {
    let Some((last, upper)) = decisions.split_last() else {
        out.fill(leaves[0]);
        return;
    };
    let mut tree = [[0_u64; TILE]; 1 << (DECISIONS - 1)];
    let mut from = 0;
    for out in out.chunks_mut(TILE) {
        let load = |plane: &[u64]| {
            let mut words = [0; TILE];
            words[..out.len()].copy_from_slice(&plane[from..from + out.len()]);
            words
        };
        let above = load(last);
        for (node, pair) in tree.iter_mut().zip(leaves.as_chunks::<2>().0) {
            for (n, d) in node.iter_mut().zip(&above) {
                *n = pair[0] ^ (d & (pair[0] ^ pair[1]));
            }
        }
        for (level, plane) in upper.iter().enumerate().rev() {
            let above = load(plane);
            for node in 0..1 << level {
                let (low, high) = (tree[2 * node], tree[2 * node + 1]);
                for t in 0..TILE {
                    tree[node][t] = low[t] ^ (above[t] & (low[t] ^ high[t]));
                }
            }
        }
        out.copy_from_slice(&tree[0][..out.len()]);
        from += TILE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_pick_their_bit() {
        if !can_pick() {
            return;
        }
        let mut x = 9_u64;
        let mut word = || {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            x ^ (x >> 31)
        };
        let ends = [0, 5, 64, 70, 71, 300, 512];
        let ranges: Vec<Range> = ends
            .windows(2)
            .map(|w| Range {
                start: w[0],
                end: w[1],
            })
            .collect();
        let constants: Vec<u64> = ranges.iter().map(|_| word()).collect();
        let mut number = [[0_u8; 64]; 8];
        for number in number.as_flattened_mut() {
            *number = 16 + (word() % 32) as u8;
        }
        let before = number;
        let ups: Vec<u64> = (0..8).map(|_| word()).collect();
        for &range in &ranges {
            step(&mut number, &ups, range, 4);
        }
        let mut out = [0; 8];
        pick(&ranges, &constants, &number, &mut out);
        for (range, constant) in ranges.iter().zip(constants) {
            for row in range.start..range.end {
                let up = ups[row / 64] >> (row % 64) & 1 == 1;
                let was = before.as_flattened()[row];
                let due = if up { was + 4 } else { was - 4 };
                assert_eq!(out[row / 64] >> (row % 64) & 1, constant >> due & 1);
            }
        }
    }

    #[test]
    fn decisions_lead_to_their_leaf() {
        let mut x = 5_u64;
        let mut word = || {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            x ^ (x >> 31)
        };
        for depth in 0..=DECISIONS {
            for words in [0, 1, 7, 8, 9, 30] {
                let planes: Vec<Vec<u64>> = (0..depth)
                    .map(|_| (0..words).map(|_| word()).collect())
                    .collect();
                let decisions: Vec<&[u64]> = planes.iter().map(Vec::as_slice).collect();
                let leaves: Vec<u64> = (0..1 << depth)
                    .map(|_| 0_u64.wrapping_sub(word() & 1))
                    .collect();
                let mut out = vec![0; words];
                choose(&decisions, &leaves, &mut out);
                for row in 0..64 * words {
                    let bit = |v: &[u64]| v[row / 64] >> (row % 64) & 1;
                    let leaf = planes.iter().fold(0, |leaf, p| 2 * leaf + bit(p) as usize);
                    assert_eq!(bit(&out), leaves[leaf] & 1, "{depth} {row}");
                }
            }
        }
    }
}
