//! Bits to arithmetic.
//!
//! A shared bit is `b = b_0 ^ b_1 ^ b_2`. `P0` knows `y = b_0 ^ b_1`; `P1` and `P2` both know `b_2`.
//! 1. `y = y_0 + y_1`: `y_1` from the seed of P0 and P1, `y_0 = y - y_1` sent to P2 (one word).
//! 2. `b = y (1 - 2 b_2) + b_2` is linear once `b_2` is known: P2 takes `v_0 = y_0 (1 - 2 b_2) + b_2`,
//!    P1 takes `v_1 = y_1 (1 - 2 b_2)`.
//! 3. To replicated: `z_0` from the seed of P2 and P0, `z_1` from that of P0 and P1; P2 sends
//!    `v_0 - z_0` to P1, P1 sends `v_1 - z_1` to P2, whose sum is `z_2` (two words).
//!
//! Three words for all parties together, 2 rounds. Views: P0 receives nothing. P2 receives `y_0`,
//! uniform because `y_1` comes from a seed it lacks, and `v_1 - z_1 = z_2 - (v_0 - z_0)`, which its
//! output determines; P1 receives `v_0 - z_0`, determined by its output and `v_1`. All of it is
//! simulated from the output shares, which are fresh. Adversary: semi-honest.

use super::one_bit;
use super::pieces::{Cuttable, cut, on_each};
use crate::context::Context;
use crate::error::Result;
use crate::net::Step;
use crate::ring::Ring;
use crate::share::{Arith, BitColumn, Role};

/// Each flag as 0 or 1 in Z_2^k. One word on average a row and party, 2 rounds.
///
/// # Errors
/// `InvalidInput` for a column wider than one bit; those of the link.
pub fn bit_to_arith<T: Ring>(ctx: &mut Context, step: &Step, flag: &BitColumn) -> Result<Arith<T>> {
    one_bit("bit_to_arith", flag)?;
    if let Some(pieces) = cut(ctx, flag.rows()) {
        return on_each(ctx, step, pieces, |ctx, step, rows| {
            bit_to_arith(ctx, step, &flag.piece(rows))
        });
    }
    let rows = flag.rows();
    let split = step.narrow("split");
    let reshare = step.narrow("reshare");
    let bit = |word: u64, row: usize| T::from_u64(word >> (row % 64) & 1);
    // Seed 1 is that of P0 and P1, seed 0 that of P2 and P0.
    let y1 = ctx
        .stream_of_component(1, &split)?
        .map(|mut s| s.words::<T>(rows));
    let z0 = ctx
        .stream_of_component(0, &reshare)?
        .map(|mut s| s.words::<T>(rows));
    let z1 = ctx
        .stream_of_component(1, &reshare)?
        .map(|mut s| s.words::<T>(rows));
    let (none, role) = (Vec::new(), ctx.role());
    match role {
        Role::P0 => {
            let mut y0 = y1.unwrap_or(none);
            for (row, y) in y0.iter_mut().enumerate() {
                *y = bit(flag.a[row / 64] ^ flag.b[row / 64], row).minus(*y);
            }
            ctx.send(Role::P2, &split, &y0)?;
            Ok(Arith {
                a: z0.unwrap_or_default(),
                b: z1.unwrap_or_default(),
            })
        }
        Role::P1 => {
            // v_1 - z_1, with b_2 my second component.
            let (mut mine, z1) = (y1.unwrap_or(none), z1.unwrap_or_default());
            for (row, (v, z)) in mine.iter_mut().zip(&z1).enumerate() {
                *v = flip(*v, bit(flag.b[row / 64], row)).minus(*z);
            }
            let z2 = exchange(ctx, Role::P2, &reshare, mine)?;
            Ok(Arith { a: z1, b: z2 })
        }
        Role::P2 => {
            let mut mine = vec![T::default(); rows];
            ctx.receive(Role::P0, &split, &mut mine)?;
            // v_0 - z_0, with b_2 my first component.
            let z0 = z0.unwrap_or_default();
            for (row, (v, z)) in mine.iter_mut().zip(&z0).enumerate() {
                let b = bit(flag.a[row / 64], row);
                *v = flip(*v, b).plus(b).minus(*z);
            }
            let z2 = exchange(ctx, Role::P1, &reshare, mine)?;
            Ok(Arith { a: z2, b: z0 })
        }
    }
}

/// `v (1 - 2 b)` for a bit `b`.
#[inline(always)]
fn flip<T: Ring>(v: T, b: T) -> T {
    v.minus(v.times(b.plus(b)))
}

/// Exchanges `mine` with `peer` and returns the sum.
fn exchange<T: Ring>(ctx: &mut Context, peer: Role, step: &Step, mine: Vec<T>) -> Result<Vec<T>> {
    ctx.send(peer, step, &mine)?;
    let mut sum = vec![T::default(); mine.len()];
    ctx.receive(peer, step, &mut sum)?;
    for (s, m) in sum.iter_mut().zip(&mine) {
        *s = s.plus(*m);
    }
    Ok(sum)
}

/// [`bit_to_arith`] into 64 bits.
///
/// # Errors
/// As [`bit_to_arith`].
pub fn bit_to_arith64(ctx: &mut Context, step: &Step, flag: &BitColumn) -> Result<Arith<u64>> {
    bit_to_arith(ctx, step, flag)
}

/// [`bit_to_arith`] into 128 bits.
///
/// # Errors
/// As [`bit_to_arith`].
pub fn bit_to_arith128(ctx: &mut Context, step: &Step, flag: &BitColumn) -> Result<Arith<u128>> {
    bit_to_arith(ctx, step, flag)
}
