//! Values with NULLs, extremes, and overflow.
//!
//! A nullable column is its bits and a flag (width 1) that is set where the value is NULL.

use super::adder::{a2b, add, b2a};
use super::compare::less_than;
use super::logic::{and, equal, or, select};
use super::multiply::multiply;
use super::{one_bit, same_shape};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::net::Step;
use crate::share::{Arith, BitColumn};

/// A column with NULLs.
#[derive(Debug, Clone)]
pub struct Nullable {
    /// The values; those of NULL rows have no meaning.
    pub value: BitColumn,
    /// Where they are NULL.
    pub null: BitColumn,
}

/// Which comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparator {
    /// `=`.
    Equal,
    /// `<`, of two's complement numbers where `signed`.
    Less {
        /// Two's complement.
        signed: bool,
    },
    /// `<=`.
    LessOrEqual {
        /// Two's complement.
        signed: bool,
    },
}

/// SQL's comparison: NULL where an operand is. The comparison's cost and 1 bit.
///
/// # Errors
/// `InvalidInput` for different shapes; those of the link.
pub fn compare(
    ctx: &mut Context,
    step: &Step,
    comparator: Comparator,
    x: &Nullable,
    y: &Nullable,
) -> Result<Nullable> {
    let (a, b) = (&x.value, &y.value);
    let value = match comparator {
        Comparator::Equal => equal(ctx, &step.narrow("equal"), a, b)?,
        Comparator::Less { signed } => less_than(ctx, &step.narrow("less"), a, b, signed)?,
        Comparator::LessOrEqual { signed } => {
            let more = less_than(ctx, &step.narrow("less"), b, a, signed)?;
            more.not(ctx.role())
        }
    };
    let null = or(ctx, &step.narrow("null"), &x.null, &y.null)?;
    Ok(Nullable { value, null })
}

/// IS NOT DISTINCT FROM: equal, or both NULL; never NULL. `width + 2` bits.
///
/// # Errors
/// As [`compare`].
pub fn not_distinct(
    ctx: &mut Context,
    step: &Step,
    x: &Nullable,
    y: &Nullable,
) -> Result<BitColumn> {
    let same = equal(ctx, &step.narrow("equal"), &x.value, &y.value)?;
    // Both NULL, or neither and equal: the flags agree, and (one is set or the values are equal).
    let agree = x.null.xor(&y.null).not(ctx.role());
    let either = or(ctx, &step.narrow("either"), &x.null, &same)?;
    and(ctx, &step.narrow("agree"), &agree, &either)
}

/// LEAST or GREATEST of two columns, NULLs passed over: NULL where both are. A comparison, `width + 3`
/// bits and 3 rounds more.
///
/// # Errors
/// As [`compare`].
pub fn extreme(
    ctx: &mut Context,
    step: &Step,
    x: &Nullable,
    y: &Nullable,
    signed: bool,
    maximum: bool,
) -> Result<Nullable> {
    one_bit("extreme", &x.null)?;
    one_bit("extreme", &y.null)?;
    let (small, large) = if maximum {
        (&y.value, &x.value)
    } else {
        (&x.value, &y.value)
    };
    let x_wins = less_than(ctx, &step.narrow("less"), small, large, signed)?;
    // x if it is there, and y is NULL or loses.
    let wins = or(ctx, &step.narrow("wins"), &x_wins, &y.null)?;
    let there = x.null.clone().not(ctx.role());
    let take_x = and(ctx, &step.narrow("take"), &wins, &there)?;
    Ok(Nullable {
        value: select(ctx, &step.narrow("select"), &take_x, &x.value, &y.value)?,
        null: and(ctx, &step.narrow("null"), &x.null, &y.null)?,
    })
}

/// The sum of two's complement numbers, and whether it overflows. `width` bits.
///
/// # Errors
/// `InvalidInput` for different shapes; those of the link.
pub fn add_checked(
    ctx: &mut Context,
    step: &Step,
    x: &BitColumn,
    y: &BitColumn,
) -> Result<(BitColumn, BitColumn)> {
    same_shape("add_checked", x, y)?;
    let width = x.width();
    let wide = |v: &BitColumn| v.extended(width + 1, true);
    let sum = add(ctx, step, &wide(x), &wide(y))?;
    // The sum fits if its two highest bits agree.
    let overflow = sum.bit_range(width, 1).xor(&sum.bit_range(width - 1, 1));
    Ok((sum.bit_range(0, width), overflow))
}

/// The product of two's complement numbers of at most 64 bits, and whether it overflows the width:
/// exact, over Z_2^128. Two conversions to numbers, one product, one to bits.
///
/// # Errors
/// `InvalidInput` for different shapes or more bits; those of the link.
pub fn multiply_checked(
    ctx: &mut Context,
    step: &Step,
    x: &BitColumn,
    y: &BitColumn,
) -> Result<(BitColumn, BitColumn)> {
    let product = full_product(ctx, step, x, y)?;
    let width = x.width();
    // It fits if all bits from the sign on agree.
    let high = product.bit_range(width, width);
    let sign = product.bit_range(width - 1, 1).wide(width);
    let fits = equal(ctx, &step.narrow("fits"), &high, &sign)?;
    Ok((product.bit_range(0, width), fits.not(ctx.role())))
}

/// The product of fixed-point numbers with `scale` binary places, rounded down (toward minus infinity),
/// and whether it overflows the width. Exact, not probabilistic: see [`super::division`] for why.
///
/// # Errors
/// As [`multiply_checked`]; `InvalidInput` for more places than bits.
pub fn multiply_fixed(
    ctx: &mut Context,
    step: &Step,
    x: &BitColumn,
    y: &BitColumn,
    scale: usize,
) -> Result<(BitColumn, BitColumn)> {
    let width = x.width();
    if scale > width {
        return Err(invalid(format!("{scale} places of {width} bits")));
    }
    let product = full_product(ctx, step, x, y)?;
    let kept = product.bit_range(scale, 2 * width - scale);
    let out = kept.bit_range(0, width);
    if scale == width {
        return Ok((out, BitColumn::zeros(1, x.rows())));
    }
    let high = kept.bit_range(width, width - scale);
    let sign = kept.bit_range(width - 1, 1).wide(width - scale);
    let fits = equal(ctx, &step.narrow("fits"), &high, &sign)?;
    Ok((out, fits.not(ctx.role())))
}

/// All `2 * width` bits of the product of two's complement numbers.
fn full_product(ctx: &mut Context, step: &Step, x: &BitColumn, y: &BitColumn) -> Result<BitColumn> {
    same_shape("multiply_checked", x, y)?;
    if x.width() > 64 {
        return Err(invalid(format!("a product of {} bits", x.width())));
    }
    let a: Arith<u128> = b2a(ctx, &step.narrow("x"), x, true)?;
    let b: Arith<u128> = b2a(ctx, &step.narrow("y"), y, true)?;
    let product = multiply(ctx, &step.narrow("product"), &a, &b)?;
    a2b(ctx, &step.narrow("bits"), &product, 2 * x.width())
}

fn invalid(what: String) -> Error {
    Error::InvalidInput {
        operator: "arithmetic",
        what,
    }
}
