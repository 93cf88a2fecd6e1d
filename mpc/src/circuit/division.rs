//! Division of whole numbers, exact, by shared and by public divisors.
//!
//! **By a shared divisor**: non-restoring division (Hennessy and Patterson, appendix J): the partial
//! remainder `r` becomes `2r + x_i - y` where it is not negative and `2r + x_i + y` where it is; the
//! conditional complement of `y` is an XOR with a shared bit, hence local, so a quotient bit costs one
//! adder of `w + 3` bits. `w (w + 2)` bits a row and party by ripple, and a last correction. By zero:
//! quotient and remainder are zero, and a flag says so.
//!
//! **By a public divisor** `d`: the quotient is `floor(x m / 2^(w + l))` with `l = ceil(log2 d)` and
//! `m = ceil(2^(w + l) / d)`, exact for every `x < 2^w` (Granlund and Montgomery, PLDI 1994, theorem
//! 4.2): bits to numbers modulo 2^128, a public factor, numbers to bits. About `255 + 4/3 (2w + 1)`
//! bits. The same for every value: unlike the probabilistic truncation of ABY3 or SecureML, which is
//! off by one now and then and by anything with small probability, a result equals SQL's.
//!
//! Leakage: none, also not of a zero divisor. Adversary: semi-honest; messages are those of the adders,
//! conversions and gates used.

use super::adder::{a2b, add, b2a, negate};
use super::logic::{and_mask, equal_public, select};
use super::same_shape;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::net::Step;
use crate::share::{Arith, BitColumn};

const NAME: &str = "divide";

/// What a division gives.
#[derive(Debug, Clone)]
pub struct Division {
    /// Rounded toward zero; zero where the divisor is.
    pub quotient: BitColumn,
    /// `x - quotient * y`, with the sign of `x`; zero where the divisor is.
    pub remainder: BitColumn,
    /// Whether the divisor is zero.
    pub by_zero: BitColumn,
}

/// `x / y` and `x % y`, row by row, of unsigned numbers or of two's complement ones, which round
/// toward zero as SQL has it. `-2^(w-1) / -1` wraps.
///
/// # Errors
/// `InvalidInput` for different shapes or more than 253 bits; those of the link.
pub fn divide(
    ctx: &mut Context,
    step: &Step,
    x: &BitColumn,
    y: &BitColumn,
    signed: bool,
) -> Result<Division> {
    same_shape(NAME, x, y)?;
    if x.width() > 253 {
        return Err(Error::InvalidInput {
            operator: NAME,
            what: format!("{} bits", x.width()),
        });
    }
    if !signed {
        return unsigned(ctx, step, x, y);
    }
    let sign = |v: &BitColumn| v.bit_range(v.width() - 1, 1);
    let (sign_x, sign_y) = (sign(x), sign(y));
    let x = negate_where(ctx, &step.narrow("abs-x"), x, &sign_x)?;
    let y = negate_where(ctx, &step.narrow("abs-y"), y, &sign_y)?;
    let out = unsigned(ctx, step, &x, &y)?;
    let step_q = step.narrow("sign-quotient");
    Ok(Division {
        quotient: negate_where(ctx, &step_q, &out.quotient, &sign_x.xor(&sign_y))?,
        remainder: negate_where(ctx, &step.narrow("sign-rest"), &out.remainder, &sign_x)?,
        by_zero: out.by_zero,
    })
}

/// `-x` where the flag is set, `x` elsewhere. A negation and a choice.
fn negate_where(
    ctx: &mut Context,
    step: &Step,
    x: &BitColumn,
    flag: &BitColumn,
) -> Result<BitColumn> {
    let negative = negate(ctx, &step.narrow("negate"), x)?;
    select(ctx, &step.narrow("select"), flag, &negative, x)
}

fn unsigned(ctx: &mut Context, step: &Step, x: &BitColumn, y: &BitColumn) -> Result<Division> {
    let (width, rows, role) = (x.width(), x.rows(), ctx.role());
    // A sign, a bit for the doubling; below them a bit whose sum carries the 1 of a complement in.
    let wide = width + 2;
    let divisor = y.extended(wide, false);
    let sign = |v: &BitColumn| v.bit_range(v.width() - 1, 1);
    let mut rest = BitColumn::zeros(wide, rows);
    let mut bits: Vec<BitColumn> = Vec::with_capacity(width);
    for bit in (0..width).rev() {
        let subtract = sign(&rest).not(role);
        let doubled = BitColumn::concat(&[&x.bit_range(bit, 1), &rest.bit_range(0, wide - 1)])?;
        let term = divisor.xor(&subtract.wide(wide));
        rest = add_with_carry(ctx, &step.at("bit", bit), &doubled, &term, &subtract)?;
        bits.push(sign(&rest).not(role));
    }
    let quotient = BitColumn::concat(&bits.iter().rev().collect::<Vec<_>>())?;
    let negative = sign(&rest);
    let mend = and_mask(ctx, &step.narrow("gate"), &divisor, &negative)?;
    let rest = add(ctx, &step.narrow("mend"), &rest, &mend)?.bit_range(0, width);
    let none = vec![0; width.div_ceil(64)];
    let by_zero = equal_public(ctx, &step.narrow("zero"), y, &none)?;
    let there = by_zero.clone().not(role);
    let both = BitColumn::concat(&[&quotient, &rest])?;
    let both = and_mask(ctx, &step.narrow("there"), &both, &there)?;
    Ok(Division {
        quotient: both.bit_range(0, width),
        remainder: both.bit_range(width, width),
        by_zero,
    })
}

/// `x + y + carry`: both with one more bit below, whose sum is the carry.
fn add_with_carry(
    ctx: &mut Context,
    step: &Step,
    x: &BitColumn,
    y: &BitColumn,
    carry: &BitColumn,
) -> Result<BitColumn> {
    let one = BitColumn::ones(ctx.role(), 1, x.rows());
    let x = BitColumn::concat(&[&one, x])?;
    let y = BitColumn::concat(&[carry, y])?;
    Ok(add(ctx, step, &x, &y)?.bit_range(1, x.width() - 1))
}

/// `x / d`, rounded down, of unsigned numbers of at most 63 bits.
///
/// # Errors
/// `InvalidInput` for a divisor of 0 or more bits; those of the link.
pub fn divide_public(ctx: &mut Context, step: &Step, x: &BitColumn, d: u64) -> Result<BitColumn> {
    let width = x.width();
    if d == 0 || width > 63 {
        return Err(Error::InvalidInput {
            operator: NAME,
            what: format!("{width} bits by a public divisor, or a divisor of 0"),
        });
    }
    let shift = (u64::BITS - (d - 1).leading_zeros()) as usize;
    if d.is_power_of_two() {
        // Local.
        let kept = width.saturating_sub(shift);
        return Ok(match kept {
            0 => BitColumn::zeros(width, x.rows()),
            kept => x.bit_range(shift, kept).extended(width, false),
        });
    }
    if shift > width {
        return Ok(BitColumn::zeros(width, x.rows()));
    }
    let power = 1_u128 << (width + shift);
    let factor = power.div_ceil(u128::from(d));
    let x = b2a::<u128>(ctx, &step.narrow("number"), x, false)?.scaled(factor);
    let bits = a2b(ctx, &step.narrow("bits"), &x, 2 * width + shift.min(1))?;
    let quotient = bits.bit_range(width + shift, bits.width() - width - shift);
    Ok(quotient.extended(width, false).bit_range(0, width))
}

/// `x % d` of unsigned numbers of at most 63 bits.
///
/// # Errors
/// As [`divide_public`].
pub fn modulo_public(ctx: &mut Context, step: &Step, x: &BitColumn, d: u64) -> Result<BitColumn> {
    let quotient = divide_public(ctx, &step.narrow("quotient"), x, d)?;
    let x: Arith<u64> = b2a(ctx, &step.narrow("x"), x, false)?;
    let q: Arith<u64> = b2a(ctx, &step.narrow("q"), &quotient, false)?;
    let width = quotient.width();
    let bits = ((u64::BITS - (d - 1).leading_zeros()) as usize).clamp(1, width);
    let rest = a2b(ctx, &step.narrow("bits"), &x.minus(&q.scaled(d)), bits)?;
    Ok(rest.extended(width, false))
}
