//! Percentiles by rank, per group.
//!
//! Sort by (unusable, keys, value); with a row's number r in its group and the group's size c (a
//! segmented count, carried to all rows) the row is the one wanted if two public-coefficient
//! inequalities hold, each the sign of one number. Nothing is divided. Cost beside the sort: two
//! segmented scans of 64-bit numbers and two conversions to `log2 (n q)` bits. Leakage: none.
//! Adversary: semi-honest.

use super::group::{Agg, aggregate_sorted};
use super::segment::{run_starts, segmented_last_number, segmented_sum};
use super::sort::sort_by;
use crate::circuit::{a2b, and, and_mask, b2a};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::net::Step;
use crate::share::{Arith, BitColumn};
use crate::table::{Column, SharedTable};

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Percentile<'t> {
    /// Group keys (bit columns); none means one group.
    pub keys: &'t [usize],
    /// The value (a bit column), ordered as an unsigned number.
    pub value: usize,
    /// Which rows have a value (width 1); all without.
    pub when: Option<usize>,
}

const NAME: &str = "percentile";

/// PERCENTILE_DISC(p / q): of each group's c values in order the one of number `max(1, ceil(c p / q))`.
///
/// The result has the keys, then the value; one valid row for each group with a value, among as many
/// rows as the table, in key order.
///
/// # Errors
/// `InvalidInput` for `p > q`, `q` of 0 or above 2^16, or columns of the wrong kind; those of the link.
pub fn percentile_disc(
    ctx: &mut Context,
    step: &Step,
    table: &SharedTable,
    asked: &Percentile<'_>,
    p: u32,
    q: u32,
) -> Result<SharedTable> {
    if p > q || q == 0 || q > 1 << 16 {
        return Err(invalid(format!("a percentile of {p} / {q}")));
    }
    let mut sorted = sort(ctx, step, table, asked)?;
    let rows = sorted.rows();
    if rows == 0 {
        return Ok(sorted);
    }
    let (number, count) = numbers(ctx, step, &sorted, asked.keys.len())?;
    let role = ctx.role();
    let (p, q) = (u64::from(p), u64::from(q));
    // r is wanted if q (r - 1) < p c and p c <= q r; with p = 0, if r = 1: r - 1 <= 0 and 0 <= r.
    let (low, high) = if p == 0 {
        let low = Arith::zeros(rows).minus(&number).plus_public(role, 1);
        (low, number)
    } else {
        let (reach, steps) = (count.scaled(p), number.scaled(q));
        let low = reach.minus(&steps).plus_public(role, q - 1);
        (low, steps.minus(&reach))
    };
    let bits = bits_of(rows as u64 * q * 2);
    let low = not_negative(ctx, &step.narrow("low"), &low, bits)?;
    let high = not_negative(ctx, &step.narrow("high"), &high, bits)?;
    let here = and(ctx, &step.narrow("here"), &low, &high)?;
    sorted.valid = and(ctx, &step.narrow("valid"), &sorted.valid, &here)?;
    Ok(sorted)
}

/// MEDIAN: the sum of each group's middle values and how many there are (1 or 2), from which the
/// release forms the average. `signed` says how the value's bits are a number.
///
/// The result is that of a group-by: keys, sum (`Arith128`), count (`Arith64`).
///
/// # Errors
/// As [`percentile_disc`]; `InvalidInput` for a value wider than 120 bits.
pub fn median(
    ctx: &mut Context,
    step: &Step,
    table: &SharedTable,
    asked: &Percentile<'_>,
    signed: bool,
) -> Result<SharedTable> {
    let mut table = table.clone();
    let value = table.bits(NAME, asked.value)?;
    if value.width() > 120 {
        return Err(invalid(format!("a median of {} bits", value.width())));
    }
    let mut sign = vec![0; value.width().div_ceil(64)];
    sign[(value.width() - 1) / 64] = 1 << ((value.width() - 1) % 64);
    let role = ctx.role();
    if signed {
        table.columns[asked.value] = Column::Bits(value.clone().xor_public(role, &sign));
    }
    let sorted = sort(ctx, step, &table, asked)?;
    let rows = sorted.rows();
    let keys = asked.keys.len();
    let (number, count) = numbers(ctx, step, &sorted, keys)?;
    // c <= 2 r <= c + 2.
    let twice = number.scaled(2);
    let bits = bits_of(rows as u64 * 4);
    let low = not_negative(ctx, &step.narrow("low"), &twice.minus(&count), bits)?;
    let high = count.minus(&twice).plus_public(role, 2);
    let high = not_negative(ctx, &step.narrow("high"), &high, bits)?;
    let middle = and(ctx, &step.narrow("middle"), &low, &high)?;
    let mut value = sorted.bits(NAME, keys)?.clone();
    if signed {
        value = value.xor_public(role, &sign);
    }
    let value = and_mask(ctx, &step.narrow("gate"), &value, &middle)?;
    let value = b2a::<u128>(ctx, &step.narrow("number-of"), &value, signed)?;
    let mut columns: Vec<Column> = sorted.columns[..keys].to_vec();
    columns.extend([Column::Arith128(value), Column::Bits(middle)]);
    let chosen = SharedTable {
        columns,
        valid: sorted.valid,
    };
    let aggs = [
        Agg::Sum { column: keys },
        Agg::Count {
            when: Some(keys + 1),
        },
    ];
    let all: Vec<usize> = (0..keys).collect();
    aggregate_sorted(ctx, &step.narrow("group"), &chosen, &all, &aggs)
}

fn invalid(what: String) -> Error {
    Error::InvalidInput {
        operator: NAME,
        what,
    }
}

/// Keys and value in the order by (unusable, keys, value); valid where usable.
fn sort(
    ctx: &mut Context,
    step: &Step,
    table: &SharedTable,
    asked: &Percentile<'_>,
) -> Result<SharedTable> {
    table.check(NAME)?;
    let mut columns: Vec<Column> = Vec::new();
    for &index in asked.keys.iter().chain([&asked.value]) {
        columns.push(Column::Bits(table.bits(NAME, index)?.clone()));
    }
    let valid = match asked.when {
        None => table.valid.clone(),
        Some(when) => {
            let when = table.bits(NAME, when)?;
            and(ctx, &step.narrow("usable"), &table.valid, when)?
        }
    };
    let table = SharedTable { columns, valid };
    let unusable = table.valid.clone().not(ctx.role());
    let mut by = vec![&unusable];
    for index in 0..table.columns.len() {
        by.push(table.bits(NAME, index)?);
    }
    let mut sorted = sort_by(ctx, &step.narrow("sort"), &by)?.keys.into_iter();
    let valid = sorted.next().unwrap_or_else(|| unusable.clone());
    Ok(SharedTable {
        valid: valid.not(ctx.role()),
        columns: sorted.map(Column::Bits).collect(),
    })
}

/// Each row's number in its group, from 1, and the group's number of rows.
fn numbers(
    ctx: &mut Context,
    step: &Step,
    sorted: &SharedTable,
    keys: usize,
) -> Result<(Arith<u64>, Arith<u64>)> {
    let mut all = vec![&sorted.valid];
    for index in 0..keys {
        all.push(sorted.bits(NAME, index)?);
    }
    let all = BitColumn::concat(&all)?;
    let first = run_starts(ctx, &step.narrow("groups"), &all)?;
    let ones = Arith::public(ctx.role(), &vec![1_u64; sorted.rows()]);
    let number = segmented_sum(ctx, &step.narrow("number"), &first, &ones)?;
    let count = segmented_last_number(ctx, &step.narrow("count"), &first, &number)?;
    Ok((number, count))
}

/// Bits that hold a number.
fn bits_of(number: u64) -> usize {
    (u64::BITS - number.leading_zeros()).max(1) as usize
}

/// Whether numbers of less than `bits` bits, in two's complement, are not negative.
fn not_negative(ctx: &mut Context, step: &Step, x: &Arith<u64>, bits: usize) -> Result<BitColumn> {
    let x = a2b(ctx, step, x, bits + 1)?;
    Ok(x.bit_range(bits, 1).not(ctx.role()))
}
