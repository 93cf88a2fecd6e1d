//! A tree of choices between constants, 64 rows a word: what a binary search compares its rows with.
//! Compiled for the vector widths that the processor turns out to have, as the transposition is; `unsafe`
//! only to enter a function compiled for features that were just detected.

/// The most decisions.
pub(crate) const DECISIONS: usize = 6;

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
