//! Numbers of rows among the rows of their key.

use super::super::segment::{run_starts, segmented_first};
use super::super::sort::sort_by;
use super::{Side, key_and_usable};
use crate::circuit::subtract;
use crate::context::Context;
use crate::error::Result;
use crate::net::Step;
use crate::share::BitColumn;

/// The number of each usable row among the usable rows of its key, from 0, in `bits` bits (which must
/// hold the number of rows); unusable rows get any number. One sort of the keys, a scan of `bits`
/// bits, one subtraction, two passages.
///
/// # Errors
/// Those of the link.
pub(in super::super) fn number_rows(
    ctx: &mut Context,
    step: &Step,
    side: &Side<'_>,
    bits: usize,
) -> Result<BitColumn> {
    let rows = side.table.rows();
    if rows == 0 {
        return Ok(BitColumn::zeros(bits, 0));
    }
    let (key, usable) = key_and_usable(ctx, step, side)?;
    let unusable = usable.not(ctx.role());
    let sorted = sort_by(ctx, &step.narrow("sort"), &[&unusable, &key])?;
    let all = BitColumn::concat(&sorted.keys.iter().collect::<Vec<_>>())?;
    let sorted = sorted.order;
    let first = run_starts(ctx, &step.narrow("runs"), &all)?;
    let index: Vec<u64> = (0..rows as u64).collect();
    let index = BitColumn::public(ctx.role(), bits, rows, &index)?;
    let start = segmented_first(ctx, &step.narrow("start"), &first, &index)?;
    let number = subtract(ctx, &step.narrow("number"), &index, &start)?;
    sorted.return_bits(ctx, &step.narrow("back"), &number)
}
