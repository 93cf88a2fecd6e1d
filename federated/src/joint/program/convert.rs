//! Numbers from one form into another: bits of several widths, and two rings.

use super::{Result, internal};
use crate::plan::Encoding;
use crate::plan::program::{Value, scale};
use crate::schema::ScalarType;
use veilgate_mpc::circuit::{a2b, and_mask, b2a};
use veilgate_mpc::context::Context;
use veilgate_mpc::net::Step;
use veilgate_mpc::ring::Ring;
use veilgate_mpc::share::{Arith, BitColumn};
use veilgate_mpc::table::Column;

/// A number in one of its forms.
#[derive(Debug, Clone)]
pub(in crate::joint) enum Number {
    /// Two's complement, or plain for a truth value.
    Bits(BitColumn),
    /// Modulo 2^64.
    Ring64(Arith<u64>),
    /// Modulo 2^128.
    Ring128(Arith<u128>),
}

impl Number {
    pub(super) fn of(column: &Column) -> Self {
        match column {
            Column::Bits(bits) => Self::Bits(bits.clone()),
            Column::Arith64(x) => Self::Ring64(x.clone()),
            Column::Arith128(x) => Self::Ring128(x.clone()),
        }
    }

    pub(super) fn column(self) -> Column {
        match self {
            Self::Bits(bits) => Column::Bits(bits),
            Self::Ring64(x) => Column::Arith64(x),
            Self::Ring128(x) => Column::Arith128(x),
        }
    }
}

/// Whether a value's bits are two's complement.
pub(super) fn signed(value: &Value) -> bool {
    match value.form {
        Encoding::Bits(_) | Encoding::Ring64 | Encoding::Ring128 => {
            value.data_type != ScalarType::Bool
        }
        _ => false,
    }
}

/// A column as bits.
pub(super) fn bits(ctx: &mut Context, step: &Step, column: &Column) -> Result<BitColumn> {
    Ok(match column {
        Column::Bits(bits) => bits.clone(),
        Column::Arith64(x) => a2b(ctx, step, x, 64)?,
        Column::Arith128(x) => a2b(ctx, step, x, 128)?,
    })
}

/// Both numbers with the bits of the wider.
pub(super) fn same_width(x: BitColumn, y: BitColumn) -> (BitColumn, BitColumn) {
    let width = x.width().max(y.width());
    (x.extended(width, true), y.extended(width, true))
}

/// Both texts with the bytes of the longer: bytes are most significant first, the length comes last.
pub(super) fn same_text(x: BitColumn, y: BitColumn) -> (BitColumn, BitColumn) {
    let width = x.width().max(y.width());
    let widened = |text: BitColumn| {
        if text.width() == width {
            return text;
        }
        let (length, bytes) = (text.bit_range(0, 8), text.bit_range(8, text.width() - 8));
        let gap = BitColumn::zeros(width - text.width(), text.rows());
        // cannot fail: the columns have as many rows.
        BitColumn::concat(&[&length, &gap, &bytes]).unwrap_or(text)
    };
    (widened(x), widened(y))
}

/// Two's complement as plain bits in the same order, and back: the top bit flipped. Local.
pub(super) fn flipped(ctx: &Context, bits: BitColumn) -> BitColumn {
    let mut mask = vec![0; bits.width().div_ceil(64)];
    mask[(bits.width() - 1) / 64] = 1 << ((bits.width() - 1) % 64);
    bits.xor_public(ctx.role(), &mask)
}

/// The bits where a flag is set, else zero.
pub(super) fn masked(
    ctx: &mut Context,
    step: &Step,
    bits: &BitColumn,
    flag: &BitColumn,
) -> Result<BitColumn> {
    Ok(and_mask(ctx, step, bits, flag)?)
}

/// A number in a ring.
pub(super) fn ring<T: Ring>(
    ctx: &mut Context,
    step: &Step,
    bits: &BitColumn,
    signed: bool,
) -> Result<Arith<T>> {
    let kept = bits.width().min(T::BITS as usize);
    if kept < bits.width() {
        return Ok(b2a(ctx, step, &bits.bit_range(0, kept), signed)?);
    }
    Ok(b2a(ctx, step, bits, signed)?)
}

/// A number modulo 2^64.
pub(super) fn narrow(
    ctx: &mut Context,
    step: &Step,
    number: Number,
    signed: bool,
) -> Result<Arith<u64>> {
    match number {
        Number::Ring64(x) => Ok(x),
        Number::Bits(bits) => ring(ctx, step, &bits, signed),
        Number::Ring128(x) => {
            let (a, b) = x.components();
            // The low halves are a sharing of the low half.
            #[allow(clippy::cast_possible_truncation)]
            let low = |words: &[u128]| words.iter().map(|word| *word as u64).collect();
            Ok(Arith::from_components(low(a), low(b))?)
        }
    }
}

/// A number modulo 2^128.
pub(super) fn wide(
    ctx: &mut Context,
    step: &Step,
    number: Number,
    signed: bool,
) -> Result<Arith<u128>> {
    match number {
        Number::Ring128(x) => Ok(x),
        Number::Bits(bits) => ring(ctx, step, &bits, signed),
        Number::Ring64(x) => {
            let bits = a2b(ctx, &step.narrow("bits"), &x, 64)?;
            ring(ctx, step, &bits, true)
        }
    }
}

/// A column in the form of another type.
pub(super) fn into_form(
    ctx: &mut Context,
    step: &Step,
    column: &Column,
    from: &Value,
    to: &Value,
) -> Result<Column> {
    let is_signed = signed(from);
    let number = Number::of(column);
    Ok(match (&to.form, number) {
        (Encoding::Ring64, number) => Column::Arith64(narrow(ctx, step, number, is_signed)?),
        (Encoding::Ring128, number) => Column::Arith128(wide(ctx, step, number, is_signed)?),
        (Encoding::Bits(width), number) => {
            let bits = bits(ctx, step, &number.column())?;
            Column::Bits(bits.extended(*width as usize, is_signed))
        }
        (Encoding::Text { max_bytes }, Number::Bits(bits)) => {
            let width = 8 * (*max_bytes as usize + 1);
            let other = BitColumn::zeros(width, bits.rows());
            Column::Bits(same_text(bits, other).0)
        }
        (_, number) => number.column(),
    })
}

/// A number in this many bits, which it fits.
pub(super) fn cut_bits(
    ctx: &mut Context,
    step: &Step,
    number: Number,
    width: u32,
    signed: bool,
) -> Result<BitColumn> {
    let width = width as usize;
    Ok(match number {
        Number::Bits(bits) if bits.width() > width => bits.bit_range(0, width),
        Number::Bits(bits) => bits.extended(width, signed),
        Number::Ring64(x) if width > 64 => a2b(ctx, step, &x, 64)?.extended(width, true),
        Number::Ring64(x) => a2b(ctx, step, &x, width)?,
        Number::Ring128(x) => a2b(ctx, step, &x, width)?,
    })
}

/// Ten to the power of the digits by which a number grows.
pub(super) fn factor(from: &Value, to: ScalarType) -> Result<u128> {
    let digits = scale(to)
        .zip(scale(from.data_type))
        .and_then(|(to, from)| to.checked_sub(from));
    digits
        .and_then(|digits| 10_u128.checked_pow(u32::from(digits)))
        .ok_or_else(|| internal("a number of other digits"))
}
