//! 64x64 bit transposition (recursive block swap, Hacker's Delight section 7-3), eight matrices side
//! by side so that every step is a vector operation, and the same code compiled for the vector
//! widths that the processor turns out to have. This module, its neighbours and
//! [`crate::heap`] alone say `unsafe`: here only to enter a function compiled for features that were just
//! detected.

/// Eight 64x64 matrices: `block[i][t]` is word `i` of matrix `t`. A transposed block holds eight
/// neighbouring words of 64 planes.
pub(super) type Block = [[u64; 8]; 64];

/// Transposes each matrix in place: bit `j` of word `i` becomes bit `i` of word `j`.
#[allow(unsafe_code)]
pub(super) fn transpose_block(block: &mut Block) {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature is there.
            unsafe { transpose_avx512(block) };
            return;
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the feature is there.
            unsafe { transpose_avx2(block) };
            return;
        }
    }
    transpose_portable(block);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn transpose_avx512(block: &mut Block) {
    transpose_portable(block);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn transpose_avx2(block: &mut Block) {
    transpose_portable(block);
}

/// Six levels of block swaps, three at a time on eight lines, which stay in registers.
#[inline(always)]
fn transpose_portable(block: &mut Block) {
    for base in 0..8 {
        let mut lines: [[u64; 8]; 8] = [[0; 8]; 8];
        for (k, line) in lines.iter_mut().enumerate() {
            *line = block[base + 8 * k];
        }
        swap_lines::<4, 32>(&mut lines, 0x0000_0000_ffff_ffff);
        swap_lines::<2, 16>(&mut lines, 0x0000_ffff_0000_ffff);
        swap_lines::<1, 8>(&mut lines, 0x00ff_00ff_00ff_00ff);
        for (k, line) in lines.iter().enumerate() {
            block[base + 8 * k] = *line;
        }
    }
    for lines in block.as_chunks_mut::<8>().0 {
        swap_lines::<4, 4>(lines, 0x0f0f_0f0f_0f0f_0f0f);
        swap_lines::<2, 2>(lines, 0x3333_3333_3333_3333);
        swap_lines::<1, 1>(lines, 0x5555_5555_5555_5555);
    }
}

/// Swaps the bits above `mask` of each line with those below of the line `APART` further, `SHIFT` bits off.
#[inline(always)]
fn swap_lines<const APART: usize, const SHIFT: u32>(lines: &mut [[u64; 8]; 8], mask: u64) {
    for pair in lines.chunks_exact_mut(2 * APART) {
        let (low, high) = pair.split_at_mut(APART);
        for (a, b) in low.iter_mut().zip(high) {
            for (a, b) in a.iter_mut().zip(b) {
                let t = ((*a >> SHIFT) ^ *b) & mask;
                *a ^= t << SHIFT;
                *b ^= t;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_processor_runs_is_what_the_portable_code_says() {
        let mut block: Block = [[0; 8]; 64];
        let mut x = 1_u64;
        for word in block.as_flattened_mut() {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *word = x ^ (x >> 31);
        }
        let (mut fast, mut portable) = (block, block);
        transpose_block(&mut fast);
        transpose_portable(&mut portable);
        assert_eq!(fast, portable);
        for (i, line) in block.iter().enumerate() {
            for (t, word) in line.iter().enumerate() {
                for (j, out) in fast.iter().enumerate() {
                    assert_eq!(word >> j & 1, out[t] >> i & 1);
                }
            }
        }
    }
}
