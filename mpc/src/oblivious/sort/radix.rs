//! Radix sort for narrow keys: two bits a pass, from the lowest; rows never move, only 32-bit
//! destinations and the next two bits do.
//!
//! A pass knows each row's destination `rho` in the order of the bits so far, shared. With a fresh
//! shuffle `pi` it moves `rho` and the next two bits, opens `pi(rho)` (uniform: `rho` is a permutation
//! and every party lacks a factor of `pi`) and so has the two bits in the order so far, locally. There
//! it computes each position's destination `sigma` in the stable order by the two bits:
//!
//! `x, y` converted to Z_2^32, `x y` one product; the four buckets' flags `1 - x - y + xy, y - xy,
//! x - xy, xy` and their running counts are local; `sigma = sum over buckets of flag * (rows of lower
//! buckets + running count - 1)` is one inner product of four terms.
//!
//! `sigma(rho)` is a local gather in `pi`'s order; the inverse of `pi` takes it back to the rows' own.
//! The last `rho` becomes a [`Permutation`] by one more shuffle. Source: Asharov, Hamada, Ikarashi,
//! Kikuchi, Nof, Pinkas, Takahashi, Tomida, CCS 2022, section 4; two bits a pass after Chida et al.
//! 2019. A key of w bits takes `p = ceil(w / 2)` passes. Cost a row and party: `128 p` bits for
//! destinations, `4/3 (32 + 8) + 32 + 4/3 32` for each pass but the first, and `4/3 32 + 32` at the
//! end; see [`cost`]. Leakage: none. Semi-honest.

use super::super::compact::{by_destinations, destinations, inverse_of_opened};
use super::super::shuffle::{Permutation, Shuffle, gather};
use crate::circuit::{bit_to_arith, cross_arith, multiply};
use crate::context::Context;
use crate::error::Result;
use crate::net::Step;
use crate::open::reveal_positions_that_tell_nothing;
use crate::share::{Arith, BitColumn};

/// Bits sent a row and party, and rounds, for a key of `width` bits.
pub(super) fn cost(width: usize) -> (usize, usize) {
    let passes = width.div_ceil(2);
    // Of the last pass one bit may be left: a conversion, and a product instead of two.
    let single = width % 2;
    let generate = 128 * (passes - single) + 64 * single;
    let pass = (32 + 8) * 4 / 3 + 32 + 32 * 4 / 3;
    let rounds = 4 * (passes - single) + 3 * single + 7 * (passes - 1) + 3;
    (generate + pass * (passes - 1) + 32 * 4 / 3 + 32, rounds)
}

/// The stable permutation that sorts rows ascending by `key`.
pub(in super::super) fn permutation(
    ctx: &mut Context,
    step: &Step,
    key: &BitColumn,
) -> Result<Permutation> {
    let (rows, width) = (key.rows(), key.width());
    let mut so_far: Option<Arith<u32>> = None;
    for (pass, from) in (0..width).step_by(2).enumerate() {
        let step = step.at("pass", pass);
        let digit = key.bit_range(from, (width - from).min(2));
        so_far = Some(match so_far {
            None => by_digit(ctx, &step.narrow("digit"), &digit)?,
            Some(last) => {
                let shuffle = Shuffle::draw(ctx, &step.narrow("shuffle"), rows)?;
                let places = shuffle.positions(ctx, &step.narrow("places"), &last)?;
                let digit = shuffle.bits(ctx, &step.narrow("bits"), &digit)?;
                // Tells nothing: a permutation moved by a uniformly random one that each party lacks
                // a factor of is uniform.
                let open = reveal_positions_that_tell_nothing(
                    ctx,
                    &step.narrow("reveal"),
                    &places.a,
                    &places.b,
                )?;
                let order = inverse_of_opened(&open)?;
                let next = by_digit(ctx, &step.narrow("digit"), &digit.gathered(&order))?;
                let composed = Arith {
                    a: gather(&next.a, &open),
                    b: gather(&next.b, &open),
                };
                shuffle.return_positions(ctx, &step.narrow("return"), &composed)?
            }
        });
        ctx.report(&step, rows);
    }
    let so_far = so_far.unwrap_or_else(|| {
        let index: Vec<u32> = (0..).take(rows).collect();
        Arith::public(ctx.role(), &index)
    });
    by_destinations(ctx, &step.narrow("final"), &so_far)
}

/// Where each row goes in the stable order by a digit of one or two bits.
fn by_digit(ctx: &mut Context, step: &Step, digit: &BitColumn) -> Result<Arith<u32>> {
    if digit.width() == 1 {
        // Unset rows first: the partition by the complement.
        let unset = digit.clone().not(ctx.role());
        return destinations(ctx, step, &unset);
    }
    let rows = digit.rows();
    let role = ctx.role();
    // Both bits in one conversion, one after the other.
    let both = digit.bit_range(0, 1).followed_by(&digit.bit_range(1, 1));
    let both: Arith<u32> = bit_to_arith(ctx, &step.narrow("bits"), &both)?;
    let (low, high) = (both.slice(0, rows), both.slice(rows, rows));
    drop(both);
    let and = multiply(ctx, &step.narrow("and"), &low, &high)?;
    let flags = [
        and.minus(&low).minus(&high).plus_public(role, 1),
        low.minus(&and),
        high.minus(&and),
        and,
    ];
    let mut mask: Vec<u32> = ctx.zeros_add(&step.narrow("choose"), rows)?;
    let mut lower = (0_u32, 0_u32);
    for flag in &flags {
        // The bucket's first position is the number of rows in lower buckets; a row's own count is in.
        let (mut a, mut b) = lower;
        let minus_one = Arith::public(role, &[u32::MAX]);
        for (row, mask) in mask.iter_mut().enumerate() {
            a = a.wrapping_add(flag.a[row]);
            b = b.wrapping_add(flag.b[row]);
            let place = (
                a.wrapping_add(minus_one.a[0]),
                b.wrapping_add(minus_one.b[0]),
            );
            *mask = mask.wrapping_add(cross_arith(flag.a[row], flag.b[row], place.0, place.1));
        }
        lower = (a, b);
    }
    let mut next = vec![0; rows];
    ctx.pass_back(&step.narrow("choose"), &mask, &mut next)?;
    Ok(Arith { a: mask, b: next })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{share_bits, three_parties};

    #[test]
    fn bytes_and_rounds_are_those_of_the_formula() {
        for width in 1..=9 {
            let rows = 192;
            let parties = three_parties(1, |ctx| {
                let words = vec![1; rows];
                let key = share_bits(1, ctx.role(), width, rows, &words)?;
                permutation(ctx, &Step::new("sort"), &key).map(drop)
            })
            .unwrap();
            let sent: u64 = parties.iter().map(|(_, traffic)| traffic.bytes_sent).sum();
            let (bits, rounds) = cost(width);
            // Each opening carries a hash of 32 bytes a party; the formula rounds thirds down.
            let openings = width.div_ceil(2) * 3 * 32;
            let due = (3 * rows * bits / 8 + openings) as u64;
            assert!(
                sent.abs_diff(due) <= (rows * width) as u64,
                "{width}: {sent}, {due}"
            );
            // No party waits in every round of a move.
            let most = parties.iter().map(|(_, traffic)| traffic.rounds).max();
            let most = usize::try_from(most.unwrap()).unwrap();
            assert!(
                (rounds * 2 / 3..=rounds).contains(&most),
                "{width}: {most}, {rounds}"
            );
        }
    }
}
