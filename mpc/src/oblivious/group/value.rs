//! MIN, MAX, FIRST and LAST: one of a group's values.
//!
//! A value travels with a bit on top that says there is none (NULL, or an invalid row); then all four
//! are associative operators with that as their neutral element, and the segmented scan's row at the
//! end of the group has the answer. MIN compares value and bit together: nothing sorts last.

use super::super::segment::{segmented_extreme, segmented_scan};
use crate::circuit::select;
use crate::context::Context;
use crate::error::Result;
use crate::net::Step;
use crate::share::BitColumn;

/// Which value of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The least, as an unsigned number.
    Min,
    /// The greatest.
    Max,
    /// That of the first row.
    First,
    /// That of the last row.
    Last,
}

/// The running answer in each segment. `value` has the bit "none" on top.
pub(super) fn running(
    ctx: &mut Context,
    step: &Step,
    first: &BitColumn,
    value: &BitColumn,
    which: Which,
) -> Result<BitColumn> {
    match which {
        Which::Min => segmented_extreme(ctx, step, first, value, false),
        Which::Max => {
            // The greatest is the least complement; "none" stays as it is.
            let turned = complement(ctx, value);
            let least = segmented_extreme(ctx, step, first, &turned, false)?;
            Ok(complement(ctx, &least))
        }
        Which::First => segmented_scan(ctx, step, first, value, &mut |ctx, step, upper, lower| {
            select(ctx, step, &none(upper), lower, upper)
        }),
        Which::Last => segmented_scan(ctx, step, first, value, &mut |ctx, step, upper, lower| {
            select(ctx, step, &none(lower), upper, lower)
        }),
    }
}

fn none(value: &BitColumn) -> BitColumn {
    value.bit_range(value.width() - 1, 1)
}

fn complement(ctx: &Context, value: &BitColumn) -> BitColumn {
    let width = value.width();
    let mut mask = vec![u64::MAX; width.div_ceil(64)];
    mask[(width - 1) / 64] &= !(1 << ((width - 1) % 64));
    value.clone().xor_public(ctx.role(), &mask)
}
