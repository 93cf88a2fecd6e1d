//! Many-to-many joins up to a declared number of right rows a key.
//!
//! Right rows are numbered within their key (a sort, then the distance to the run's first row); the
//! left rows are repeated once for every possible number; then keys and numbers together are unique
//! on the right. A number that reaches the bound is one declared bit.

use super::number::number_rows;
use super::{Kind, NAME, Side, invalid, join, kept_columns};
use crate::circuit::{and, any_row, less_than, or};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::net::Step;
use crate::open::reveal_one_declared_bit;
use crate::share::BitColumn;
use crate::table::{Column, SharedTable};

/// The inner or left [`join`] with a right side of at most `most` usable rows a key, a public bound.
///
/// The result's columns are those of [`join`]; its rows the left rows, `most` times: the first time
/// with each key's first partner, and so on. A left row without a partner stands in the first. With
/// `left_most` a key's left rows are checked as in [`join`], each counted once.
///
/// # Errors
/// `BoundExceeded` when a key has more right rows; `DuplicateKey` when it has more than `left_most` left
/// rows; `InvalidInput` for another kind, a bound of 0, or as [`join`]; those of the link.
#[allow(clippy::too_many_arguments)] // what a join is made of
pub fn join_many(
    ctx: &mut Context,
    step: &Step,
    kind: Kind,
    left: Side<'_>,
    right: Side<'_>,
    keep: &[usize],
    most: usize,
    left_most: Option<u64>,
) -> Result<SharedTable> {
    if !matches!(kind, Kind::Inner | Kind::Left) || most == 0 {
        return Err(invalid("a many-to-many join of this kind, or of no rows"));
    }
    kept_columns(&left, &right, keep)?;
    let bits = (usize::BITS - (most - 1).leading_zeros()).max(1) as usize;
    let numbers = occurrences(ctx, &step.narrow("number"), &right, most, bits)?;
    let mut numbered = right.table.clone();
    numbered.columns.push(Column::Bits(numbers));

    let rows = left.table.rows();
    let mut repeated = SharedTable {
        columns: left.table.columns.clone(),
        valid: left.table.valid.clone(),
    };
    for _ in 1..most {
        repeated.valid = repeated.valid.followed_by(&left.table.valid);
        for (all, column) in repeated.columns.iter_mut().zip(&left.table.columns) {
            let so_far = std::mem::replace(all, column.slice(0, 0));
            *all = so_far.followed_by(NAME, column)?;
        }
    }
    let which: Vec<u64> = (0..most as u64)
        .flat_map(|number| std::iter::repeat_n(number, rows))
        .collect();
    let which = BitColumn::public(ctx.role(), bits, which.len(), &which)?;
    let first = BitColumn::ones(ctx.role(), 1, rows).resized(rows * most);
    let at = repeated.columns.len();
    repeated.columns.push(Column::Bits(which));

    let with_number = |keys: &[usize], number: usize| [keys, &[number]].concat();
    let left_keys = with_number(left.keys, at);
    let right_keys = with_number(right.keys, right.table.columns.len());
    let mut out = join(
        ctx,
        &step.narrow("join"),
        kind,
        Side {
            table: &repeated,
            keys: &left_keys,
            nulls: left.nulls,
            sorted: false,
        },
        Side {
            table: &numbered,
            keys: &right_keys,
            nulls: right.nulls,
            sorted: false,
        },
        keep,
        // Keys with one number have each left row once.
        left_most,
    )?;
    out.columns.remove(at);
    if kind == Kind::Left {
        // Repetitions count where they have a partner; the first always.
        let Some(Column::Bits(matched)) = out.columns.last() else {
            return Err(invalid("a left join without its flag"));
        };
        let counts = or(ctx, &step.narrow("counts"), matched, &first)?;
        out.valid = and(ctx, &step.narrow("valid"), &out.valid, &counts)?;
    }
    Ok(out)
}

/// The number of each right row among the usable rows of its key, from 0, in `bits` bits, which hold
/// `most`: more rows are an error.
fn occurrences(
    ctx: &mut Context,
    step: &Step,
    right: &Side<'_>,
    most: usize,
    bits: usize,
) -> Result<BitColumn> {
    let rows = right.table.rows();
    let index_bits = bits.max((usize::BITS - rows.leading_zeros()) as usize);
    let number = number_rows(ctx, step, right, index_bits)?;
    let step = step.narrow("bound");
    let (_, usable) = super::key_and_usable(ctx, &step, right)?;
    let last = vec![most as u64 - 1; rows];
    let last = BitColumn::public(ctx.role(), index_bits, rows, &last)?;
    let beyond = less_than(ctx, &step.narrow("beyond"), &last, &number, false)?;
    let beyond = and(ctx, &step.narrow("usable-beyond"), &beyond, &usable)?;
    let beyond = any_row(ctx, &step.narrow("any"), &beyond)?;
    // Declared: whether a key has more rows than the plan says.
    if reveal_one_declared_bit(ctx, &step.narrow("reveal"), &beyond)? {
        return Err(Error::BoundExceeded);
    }
    Ok(number.bit_range(0, bits))
}
