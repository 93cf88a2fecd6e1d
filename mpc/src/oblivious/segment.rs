//! Segmented scans: every row gets the combination of all rows of its segment down to itself.
//!
//! A segment begins at each row whose `first` flag is set (and at row 0). Work-efficient parallel
//! prefix (Blelloch 1990; Ladner and Fischer 1980) on the segmented operator (Schwartz 1980):
//! neighbouring rows combine to pairs, the pairs are scanned recursively, and the even rows take in the
//! pair before them. About 2 applications of the operator a row and `2 log2 n` times its rounds; the
//! operator need only be associative. What rows do depends on their number alone. Leakage: none.
//! Adversary: semi-honest, as the operator's.

use crate::circuit::{and, and_mask, bit_to_arith, equal, less_than, multiply, or, select};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::net::Step;
use crate::ring::Ring;
use crate::share::{Arith, BitColumn};

/// An associative operator on rows: (context, step, upper rows, lower rows) to as many rows.
pub type Combine<'c> =
    dyn FnMut(&mut Context, &Step, &BitColumn, &BitColumn) -> Result<BitColumn> + 'c;

fn same_rows(first: &BitColumn, rows: usize) -> Result<()> {
    if first.width() == 1 && first.rows() == rows {
        return Ok(());
    }
    Err(Error::InvalidInput {
        operator: "segmented_scan",
        what: format!(
            "segment flags of {} rows of {} bits for {rows} rows",
            first.rows(),
            first.width()
        ),
    })
}

/// The scan of `values` by `combine`, downwards. `2 (operator + width) + 1` bits a row and party.
///
/// # Errors
/// `InvalidInput` for flags of other rows or wider than a bit; those of the link and of `combine`.
pub fn segmented_scan(
    ctx: &mut Context,
    step: &Step,
    first: &BitColumn,
    values: &BitColumn,
    combine: &mut Combine<'_>,
) -> Result<BitColumn> {
    same_rows(first, values.rows())?;
    scan(ctx, step, first, values, combine)
}

fn scan(
    ctx: &mut Context,
    step: &Step,
    first: &BitColumn,
    values: &BitColumn,
    combine: &mut Combine<'_>,
) -> Result<BitColumn> {
    let rows = values.rows();
    if rows < 2 {
        return Ok(values.clone());
    }
    let pairs = rows / 2;
    let (even_first, odd_first) = first.split();
    let (even, odd) = values.split();
    let upper = even.resized(pairs);
    let both = combine(ctx, &step.narrow("pair"), &upper, &odd)?;
    let pair = select(ctx, &step.narrow("cut"), &odd_first, &odd, &both)?;
    let starts = or(
        ctx,
        &step.narrow("starts"),
        &even_first.resized(pairs),
        &odd_first,
    )?;
    let below = scan(ctx, &step.narrow("next"), &starts, &pair, combine)?;
    // Row 0 has nothing above it.
    let rest = even.rows() - 1;
    let lower = even.slice(1, rest);
    let above = below.resized(rest);
    let both = combine(ctx, &step.narrow("fill"), &above, &lower)?;
    let lower = select(
        ctx,
        &step.narrow("keep"),
        &even_first.slice(1, rest),
        &lower,
        &both,
    )?;
    Ok(BitColumn::interleaved(
        &even.resized(1).followed_by(&lower),
        &below,
    ))
}

/// The same upwards: every row gets the combination of its segment from its end up to itself.
/// `combine` still has the upper rows first.
///
/// # Errors
/// As [`segmented_scan`].
pub fn segmented_scan_up(
    ctx: &mut Context,
    step: &Step,
    first: &BitColumn,
    values: &BitColumn,
    combine: &mut Combine<'_>,
) -> Result<BitColumn> {
    same_rows(first, values.rows())?;
    let starts = last_rows(ctx, first).reversed();
    let mut turned = |ctx: &mut Context, step: &Step, lower: &BitColumn, upper: &BitColumn| {
        combine(ctx, step, upper, lower)
    };
    Ok(scan(ctx, step, &starts, &values.reversed(), &mut turned)?.reversed())
}

/// The last row of each segment. Local.
#[must_use]
pub fn last_rows(ctx: &Context, first: &BitColumn) -> BitColumn {
    let rows = first.rows();
    if rows == 0 {
        return first.clone();
    }
    let end = BitColumn::ones(ctx.role(), 1, 1);
    first.slice(1, rows - 1).followed_by(&end)
}

/// Each row's segment's value at its first row: FIRST carried down.
///
/// # Errors
/// As [`segmented_scan`].
pub fn segmented_first(
    ctx: &mut Context,
    step: &Step,
    first: &BitColumn,
    values: &BitColumn,
) -> Result<BitColumn> {
    segmented_scan(ctx, step, first, values, &mut |_, _, upper, _| {
        Ok(upper.clone())
    })
}

/// Each row's segment's value at its last row: LAST carried up.
///
/// # Errors
/// As [`segmented_scan`].
pub fn segmented_last(
    ctx: &mut Context,
    step: &Step,
    first: &BitColumn,
    values: &BitColumn,
) -> Result<BitColumn> {
    segmented_scan_up(ctx, step, first, values, &mut |_, _, _, lower| {
        Ok(lower.clone())
    })
}

/// The running minimum (or maximum) of each segment, of unsigned numbers.
///
/// # Errors
/// As [`segmented_scan`].
pub fn segmented_extreme(
    ctx: &mut Context,
    step: &Step,
    first: &BitColumn,
    values: &BitColumn,
    maximum: bool,
) -> Result<BitColumn> {
    segmented_scan(ctx, step, first, values, &mut |ctx, step, upper, lower| {
        let (small, large) = if maximum {
            (upper, lower)
        } else {
            (lower, upper)
        };
        // Takes the lower row where it is the better one.
        let better = less_than(ctx, &step.narrow("less"), small, large, false)?;
        select(ctx, &step.narrow("pick"), &better, lower, upper)
    })
}

/// The running OR of each segment, of every bit of `values` by itself. About 4 bits for each of them a
/// row and party, `2 log2 n` rounds and one.
///
/// # Errors
/// As [`segmented_scan`].
pub fn segmented_or(
    ctx: &mut Context,
    step: &Step,
    first: &BitColumn,
    values: &BitColumn,
) -> Result<BitColumn> {
    same_rows(first, values.rows())?;
    // A bit that is set takes nothing from above: set and open exclude each other, also of pairs, so
    // that OR is XOR.
    let goes_on = first.clone().not(ctx.role());
    let unset = values.clone().not(ctx.role());
    let open = and_mask(ctx, &step.narrow("open"), &unset, &goes_on)?;
    or_pairs(ctx, step, &open, values)
}

fn or_pairs(
    ctx: &mut Context,
    step: &Step,
    open: &BitColumn,
    values: &BitColumn,
) -> Result<BitColumn> {
    let (rows, width) = (values.rows(), values.width());
    if rows < 2 {
        return Ok(values.clone());
    }
    let pairs = rows / 2;
    let (even_open, odd_open) = open.split();
    let (even, odd) = values.split();
    // Both products of a pair in one round.
    let products = and(
        ctx,
        &step.narrow("pair"),
        &BitColumn::concat(&[&odd_open, &odd_open])?,
        &BitColumn::concat(&[&even.resized(pairs), &even_open.resized(pairs)])?,
    )?;
    let pair = odd.xor(&products.bit_range(0, width));
    let pair_open = products.bit_range(width, width);
    let below = or_pairs(ctx, &step.narrow("next"), &pair_open, &pair)?;
    let rest = even.rows() - 1;
    let taken = and(
        ctx,
        &step.narrow("fill"),
        &even_open.slice(1, rest),
        &below.resized(rest),
    )?;
    let lower = even.slice(1, rest).xor(&taken);
    Ok(BitColumn::interleaved(
        &even.resized(1).followed_by(&lower),
        &below,
    ))
}

/// The running sums of each segment. The flags converted once (one word), then about 3 words a row,
/// `2 log2 n` rounds.
///
/// # Errors
/// `InvalidInput` for flags of other rows or wider than a bit; those of the link.
pub fn segmented_sum<T: Ring>(
    ctx: &mut Context,
    step: &Step,
    first: &BitColumn,
    values: &Arith<T>,
) -> Result<Arith<T>> {
    fold(ctx, step, first, values, false)
}

/// Each row's segment's number at its first row; cost as [`segmented_sum`].
///
/// # Errors
/// As [`segmented_sum`].
pub fn segmented_first_number<T: Ring>(
    ctx: &mut Context,
    step: &Step,
    first: &BitColumn,
    values: &Arith<T>,
) -> Result<Arith<T>> {
    fold(ctx, step, first, values, true)
}

/// Each row's segment's number at its last row; cost as [`segmented_sum`].
///
/// # Errors
/// As [`segmented_sum`].
pub fn segmented_last_number<T: Ring>(
    ctx: &mut Context,
    step: &Step,
    first: &BitColumn,
    values: &Arith<T>,
) -> Result<Arith<T>> {
    let starts = last_rows(ctx, first).reversed();
    Ok(fold(ctx, step, &starts, &values.reversed(), true)?.reversed())
}

/// Sums down a segment, or its first number carried down: `v = lower + goes_on * upper`, or
/// `lower + goes_on * (upper - lower)`; `goes_on` of a pair is the product.
fn fold<T: Ring>(
    ctx: &mut Context,
    step: &Step,
    first: &BitColumn,
    values: &Arith<T>,
    carry: bool,
) -> Result<Arith<T>> {
    same_rows(first, values.rows())?;
    let goes_on = first.clone().not(ctx.role());
    let goes_on: Arith<T> = bit_to_arith(ctx, &step.narrow("flags"), &goes_on)?;
    fold_pairs(ctx, step, &goes_on, values, carry)
}

fn fold_pairs<T: Ring>(
    ctx: &mut Context,
    step: &Step,
    goes_on: &Arith<T>,
    values: &Arith<T>,
    carry: bool,
) -> Result<Arith<T>> {
    let rows = values.rows();
    if rows < 2 {
        return Ok(values.clone());
    }
    let pairs = rows / 2;
    let (even_on, odd_on) = goes_on.split();
    let (even, odd) = values.split();
    let upper = even.clone().resized(pairs);
    let taken = if carry { upper.minus(&odd) } else { upper };
    // Both products of a pair in one round.
    let products = multiply(
        ctx,
        &step.narrow("pair"),
        &odd_on.clone().followed_by(&odd_on),
        &taken.followed_by(&even_on.clone().resized(pairs)),
    )?;
    let pair = odd.plus(&products.slice(0, pairs));
    let pair_on = products.slice(pairs, pairs);
    let below = fold_pairs(ctx, &step.narrow("next"), &pair_on, &pair, carry)?;
    let rest = even.rows() - 1;
    let lower = even.slice(1, rest);
    let above = below.slice(0, rest);
    let taken = if carry { above.minus(&lower) } else { above };
    let product = multiply(ctx, &step.narrow("fill"), &even_on.slice(1, rest), &taken)?;
    Ok(Arith::interleaved(
        &even.slice(0, 1).followed_by(&lower.plus(&product)),
        &below,
    ))
}

/// Whether each row is the first of a run of equal keys: `width - 1` bits.
///
/// # Errors
/// Those of the link.
pub(crate) fn run_starts(ctx: &mut Context, step: &Step, key: &BitColumn) -> Result<BitColumn> {
    let same = equal(ctx, step, key, &key.shifted_up())?.with_first_row_zero();
    Ok(same.not(ctx.role()))
}
