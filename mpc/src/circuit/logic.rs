//! Bit logic on columns. Costs are bits sent per row and party, and rounds.

use super::gates::{Gates, One, cross};
use super::pieces::{Cuttable, cut, on_each};
use super::{one_bit, same_rows, same_shape};
use crate::context::Context;
use crate::error::Result;
use crate::net::Step;
use crate::open::reveal_one_declared_bit;
use crate::share::BitColumn;

/// Bit-wise AND. `width` bits, 1 round.
///
/// # Errors
/// `InvalidInput` for different shapes; those of the link.
pub fn and(ctx: &mut Context, step: &Step, x: &BitColumn, y: &BitColumn) -> Result<BitColumn> {
    same_shape("and", x, y)?;
    if let Some(pieces) = cut(ctx, x.rows()) {
        return on_each(ctx, step, pieces, |ctx, step, rows| {
            and(ctx, step, &x.piece(rows), &y.piece(rows))
        });
    }
    let mut gates = Gates::new(ctx, step)?;
    let (a, b) = gates.and(ctx, (&x.a, &x.b), (&y.a, &y.b))?;
    Ok(BitColumn::make(x.width(), x.rows(), a, b))
}

/// Bit-wise OR. `width` bits, 1 round.
///
/// # Errors
/// As [`and`].
pub fn or(ctx: &mut Context, step: &Step, x: &BitColumn, y: &BitColumn) -> Result<BitColumn> {
    let both = and(ctx, step, x, y)?;
    Ok(both.xor(x).xor(y))
}

/// Bit-wise XOR; local.
///
/// # Errors
/// `InvalidInput` for different shapes.
pub fn xor(x: &BitColumn, y: &BitColumn) -> Result<BitColumn> {
    same_shape("xor", x, y)?;
    Ok(x.xor(y))
}

/// Bit-wise complement; local.
#[must_use]
pub fn not(ctx: &Context, x: &BitColumn) -> BitColumn {
    x.clone().not(ctx.role())
}

/// `x` where `flag`, zero elsewhere. `width` bits, 1 round.
///
/// # Errors
/// `InvalidInput` for different rows or a flag wider than one bit; those of the link.
pub fn and_mask(
    ctx: &mut Context,
    step: &Step,
    x: &BitColumn,
    flag: &BitColumn,
) -> Result<BitColumn> {
    one_bit("and_mask", flag)?;
    same_rows("and_mask", x.rows(), flag.rows())?;
    if let Some(pieces) = cut(ctx, x.rows()) {
        return on_each(ctx, step, pieces, |ctx, step, rows| {
            and_mask(ctx, step, &x.piece(rows), &flag.piece(rows))
        });
    }
    let words = x.words();
    let mut gates = Gates::new(ctx, step)?;
    let (mut a, mut b) = (vec![0; x.a.len()], vec![0; x.a.len()]);
    gates.round(ctx, words, &mut a, &mut b, |segment, offset, tile| {
        let at = segment * words + offset;
        for (i, z) in tile.iter_mut().enumerate() {
            *z ^= cross(
                x.a[at + i],
                x.b[at + i],
                flag.a[offset + i],
                flag.b[offset + i],
            );
        }
    })?;
    Ok(BitColumn::make(x.width(), x.rows(), a, b))
}

/// `x` where `flag`, `y` elsewhere. `width` bits, 1 round.
///
/// # Errors
/// As [`and_mask`].
pub fn select(
    ctx: &mut Context,
    step: &Step,
    flag: &BitColumn,
    x: &BitColumn,
    y: &BitColumn,
) -> Result<BitColumn> {
    same_shape("select", x, y)?;
    Ok(and_mask(ctx, step, &x.xor(y), flag)?.xor(y))
}

/// Whether rows are equal. `width - 1` bits, `ceil(log2 width)` rounds.
///
/// # Errors
/// As [`and`].
pub fn equal(ctx: &mut Context, step: &Step, x: &BitColumn, y: &BitColumn) -> Result<BitColumn> {
    same_shape("equal", x, y)?;
    if let Some(pieces) = cut(ctx, x.rows()) {
        return on_each(ctx, step, pieces, |ctx, step, rows| {
            equal(ctx, step, &x.piece(rows), &y.piece(rows))
        });
    }
    let (width, words, half) = (x.width(), x.words(), x.width() / 2);
    if half == 0 {
        return Ok(x.xor(y).not(ctx.role()));
    }
    // The tree's first level reads both sides; no plane of agreements is made.
    let one = One::of(ctx.role());
    let mut gates = Gates::new(ctx, step)?;
    let (mut a, mut b) = (vec![0; half * words], vec![0; half * words]);
    gates.round(ctx, words, &mut a, &mut b, |segment, offset, tile| {
        let low = segment * words + offset;
        let high = low + half * words;
        let n = tile.len();
        let sides = |from: usize| {
            let at = from..from + n;
            (
                &x.a[at.clone()],
                &y.a[at.clone()],
                &x.b[at.clone()],
                &y.b[at],
            )
        };
        let ((xa, ya, xb, yb), (ua, va, ub, vb)) = (sides(low), sides(high));
        for i in 0..n {
            tile[i] ^= cross(
                xa[i] ^ ya[i] ^ one.a,
                xb[i] ^ yb[i] ^ one.b,
                ua[i] ^ va[i] ^ one.a,
                ub[i] ^ vb[i] ^ one.b,
            );
        }
    })?;
    let odd = x
        .bit_range(2 * half, width % 2)
        .xor(&y.bit_range(2 * half, width % 2));
    let odd = odd.not(ctx.role());
    a.extend(odd.a);
    b.extend(odd.b);
    let left = BitColumn::make(width - half, x.rows(), a, b);
    fold_all(ctx, gates, left)
}

/// Whether rows equal a public constant of `width` bits (lowest word first). Cost as [`equal`].
///
/// # Errors
/// Those of the link.
pub fn equal_public(
    ctx: &mut Context,
    step: &Step,
    x: &BitColumn,
    constant: &[u64],
) -> Result<BitColumn> {
    let same = x.clone().xor_public(ctx.role(), constant).not(ctx.role());
    all_bits(ctx, step, same)
}

/// Whether any bit of a row is set. `width - 1` bits, `ceil(log2 width)` rounds.
fn any_bit(ctx: &mut Context, step: &Step, x: &BitColumn) -> Result<BitColumn> {
    let none = all_bits(ctx, step, x.clone().not(ctx.role()))?;
    Ok(none.not(ctx.role()))
}

/// Opens whether a flag is set in any row: one bit, whose opening the plan declares.
///
/// # Errors
/// `InvalidInput` for a flag of more than one bit; those of the link.
pub fn any_row_declared(ctx: &mut Context, step: &Step, flag: &BitColumn) -> Result<bool> {
    let any = any_row(ctx, &step.narrow("any"), flag)?;
    reveal_one_declared_bit(ctx, &step.narrow("open"), &any)
}

/// Whether a flag is set in any row, as one row. About 1 bit, `ceil(log2 rows)` rounds.
///
/// # Errors
/// `InvalidInput` for a column wider than one bit; those of the link.
pub fn any_row(ctx: &mut Context, step: &Step, flag: &BitColumn) -> Result<BitColumn> {
    one_bit("any_row", flag)?;
    if flag.rows() == 0 {
        return Ok(BitColumn::zeros(1, 1));
    }
    // Whole words fold as 64-bit wide "planes" of one column; the last word's 64 bits fold alone.
    let mut clean = flag.clone();
    let mask = crate::bits::tail_mask(flag.rows());
    for component in [&mut clean.a, &mut clean.b] {
        if let Some(last) = component.last_mut() {
            *last &= mask;
        }
    }
    let words = clean.a.len();
    let folded = any_bit(
        ctx,
        &step.narrow("words"),
        &BitColumn::make(words, 64, clean.a, clean.b),
    )?;
    let spread = |word: u64| (0..64).map(|i| word >> i & 1).collect();
    let row = BitColumn::make(64, 1, spread(folded.a[0]), spread(folded.b[0]));
    any_bit(ctx, &step.narrow("bits"), &row)
}

/// Whether all bits of a row are set: a tree that halves the planes.
fn all_bits(ctx: &mut Context, step: &Step, x: BitColumn) -> Result<BitColumn> {
    let gates = Gates::new(ctx, step)?;
    fold_all(ctx, gates, x)
}

fn fold_all(ctx: &mut Context, mut gates: Gates<'_>, x: BitColumn) -> Result<BitColumn> {
    let (rows, words) = (x.rows(), x.words());
    let mut width = x.width();
    let (mut a, mut b) = (x.a, x.b);
    while width > 1 {
        let half = width / 2;
        let (low, high) = (0..half * words, half * words..2 * half * words);
        let (mut next_a, mut next_b) = gates.and(
            ctx,
            (&a[low.clone()], &b[low]),
            (&a[high.clone()], &b[high]),
        )?;
        next_a.extend_from_slice(&a[2 * half * words..]);
        next_b.extend_from_slice(&b[2 * half * words..]);
        (a, b) = (next_a, next_b);
        width -= half;
    }
    Ok(BitColumn::make(1, rows, a, b))
}
