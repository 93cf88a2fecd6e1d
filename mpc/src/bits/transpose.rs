//! 64x64 bit transposition (recursive block swap, Hacker's Delight section 7-3), eight matrices side
//! by side so that every step is a vector operation, and the same code compiled for the vector
//! widths that the processor turns out to have. The one module that may say `unsafe`: only to enter
//! a function compiled for features that were just detected.

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

#[inline(always)]
fn transpose_portable(block: &mut Block) {
    swap_blocks::<32>(block, 0x0000_0000_ffff_ffff);
    swap_blocks::<16>(block, 0x0000_ffff_0000_ffff);
    swap_blocks::<8>(block, 0x00ff_00ff_00ff_00ff);
    swap_blocks::<4>(block, 0x0f0f_0f0f_0f0f_0f0f);
    swap_blocks::<2>(block, 0x3333_3333_3333_3333);
    swap_blocks::<1>(block, 0x5555_5555_5555_5555);
}

/// Swaps the off-diagonal `J`x`J` blocks of every `2J`x`2J` block.
#[inline(always)]
fn swap_blocks<const J: usize>(block: &mut Block, mask: u64) {
    for pair in block.chunks_exact_mut(2 * J) {
        let (low, high) = pair.split_at_mut(J);
        for (a, b) in low.iter_mut().zip(high) {
            for (a, b) in a.iter_mut().zip(b) {
                let t = ((*a >> J) ^ *b) & mask;
                *a ^= t << J;
                *b ^= t;
            }
        }
    }
}
