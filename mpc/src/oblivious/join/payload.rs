//! Right rows' columns to the left rows that they match.

use super::super::compact::{by_destinations, destinations};
use super::Match;
use crate::context::Context;
use crate::error::Result;
use crate::net::Step;
use crate::table::Column;

/// The kept columns of the last right row at or above each left row of the sorted order, in the left
/// rows' own order.
pub(super) fn spread(
    ctx: &mut Context,
    step: &Step,
    found: &Match,
    kept: &[&Column],
    left_rows: usize,
) -> Result<Vec<Column>> {
    let sorted = &found.sorted;
    let steps = if found.by_merge {
        kept.iter().map(|c| c.differences()).collect()
    } else {
        steps(ctx, step, found, kept, left_rows)?
    };
    let steps: Vec<Column> = steps
        .into_iter()
        .map(|c| c.resized(sorted.rows()))
        .collect();
    let steps = sorted.apply(ctx, &step.narrow("down"), &steps.iter().collect::<Vec<_>>())?;
    let sums: Vec<Column> = steps.iter().map(Column::prefix_sums).collect();
    drop(steps);
    let back = sorted.apply_inverse(ctx, &step.narrow("up"), &sums.iter().collect::<Vec<_>>())?;
    Ok(back
        .into_iter()
        .map(|c| c.slice(sorted.rows() - left_rows, left_rows))
        .collect())
}

/// What each right row adds to the one before it in sorted order, in the right rows' own order.
fn steps(
    ctx: &mut Context,
    step: &Step,
    found: &Match,
    kept: &[&Column],
    left_rows: usize,
) -> Result<Vec<Column>> {
    let sorted = &found.sorted;
    let right_rows = sorted.rows() - left_rows;
    // Where each right row stands among the right rows in sorted order.
    let ranks = destinations(ctx, &step.narrow("rank"), &found.is_right)?;
    let ranks = sorted.return_positions(ctx, &step.narrow("return"), &ranks)?;
    let among_right = by_destinations(ctx, &step.narrow("among"), &ranks.slice(0, right_rows))?;
    let ordered = among_right.apply(ctx, &step.narrow("order"), kept)?;
    let steps: Vec<Column> = ordered.iter().map(Column::differences).collect();
    drop(ordered);
    let steps: Vec<&Column> = steps.iter().collect();
    among_right.apply_inverse(ctx, &step.narrow("disorder"), &steps)
}
