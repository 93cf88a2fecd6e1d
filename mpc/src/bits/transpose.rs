//! The 64x64 bit transposition (recursive block swap, Hacker's Delight section 7-3).

/// Transposes a 64x64 bit matrix in place: bit `j` of word `i` becomes bit `i` of word `j`.
pub fn transpose64(m: &mut [u64; 64]) {
    swap_blocks::<32>(m, 0x0000_0000_ffff_ffff);
    swap_blocks::<16>(m, 0x0000_ffff_0000_ffff);
    swap_blocks::<8>(m, 0x00ff_00ff_00ff_00ff);
    swap_blocks::<4>(m, 0x0f0f_0f0f_0f0f_0f0f);
    swap_blocks::<2>(m, 0x3333_3333_3333_3333);
    swap_blocks::<1>(m, 0x5555_5555_5555_5555);
}

/// Transposes consecutive blocks of 64 words.
pub fn transpose64_many(blocks: &mut [[u64; 64]]) {
    for block in blocks {
        transpose64(block);
    }
}

/// Swaps the off-diagonal `J`x`J` blocks of every `2J`x`2J` block.
#[inline(always)]
fn swap_blocks<const J: usize>(m: &mut [u64; 64], mask: u64) {
    for pair in m.chunks_exact_mut(2 * J) {
        let (low, high) = pair.split_at_mut(J);
        for (a, b) in low.iter_mut().zip(high) {
            let t = ((*a >> J) ^ *b) & mask;
            *a ^= t << J;
            *b ^= t;
        }
    }
}
