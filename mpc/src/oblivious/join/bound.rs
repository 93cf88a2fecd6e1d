//! Which left rows of a join stand beyond the most that a key may have.
//!
//! `counted` are the left rows that count: usable ones, for some kinds only those with a partner. A row
//! is beyond if at least `most` counted rows of its key stand above it; a key has more than `most` if
//! and only if it has such a row. Nothing is opened here. Adversary: semi-honest.

use super::super::compact::partition;
use super::super::scan::carry;
use crate::circuit::{and, equal};
use crate::context::Context;
use crate::error::Result;
use crate::net::Step;
use crate::share::BitColumn;

/// Where the counted rows of a key stand together at the end of its run, and `go` is set for rows that
/// go on with the key of the row above: the row `most` above is a counted one of the same run.
/// `ceil(log2 most) + 1` bits a row and party, in as many rounds.
///
/// # Errors
/// Those of the link.
pub(super) fn together(
    ctx: &mut Context,
    step: &Step,
    counted: &BitColumn,
    go: &BitColumn,
    most: usize,
) -> Result<BitColumn> {
    // All of the last `length` rows go on: two stretches that may overlap make a longer one.
    let (mut all, mut length) = (go.clone(), 1);
    while length < most {
        let by = length.min(most - length);
        all = and(ctx, &step.at("go", length), &all, &lowered(&all, by))?;
        length += by;
    }
    and(ctx, &step.narrow("beyond"), &all, &lowered(counted, most))
}

/// Where others stand between the counted rows of a run, for one row a key: a counted row further up is
/// carried down. About 15 bits a row and party, the rounds of [`carry`] and two.
///
/// # Errors
/// Those of the link.
pub(super) fn second(
    ctx: &mut Context,
    step: &Step,
    counted: &BitColumn,
    go: &BitColumn,
) -> Result<BitColumn> {
    let above = carry(ctx, &step.narrow("carry"), counted, go)?.shifted_up();
    let on = and(ctx, &step.narrow("go"), counted, go)?;
    and(ctx, &step.narrow("beyond"), &on, &above)
}

/// Where others stand between them, for any `most`: the left rows themselves, ascending by `key`. The
/// counted ones move to the front with their keys, their order kept; then keys `most` rows apart are
/// compared. About `130 + 7/3 w` bits a left row and party for keys of w bits, `log2 w + 11` rounds.
///
/// # Errors
/// Those of the link.
pub(super) fn apart(
    ctx: &mut Context,
    step: &Step,
    counted: &BitColumn,
    key: &BitColumn,
    most: usize,
) -> Result<BitColumn> {
    let to_front = partition(ctx, &step.narrow("front"), counted)?;
    let rows = BitColumn::concat(&[key, counted])?;
    let rows = to_front.apply_bits(ctx, &step.narrow("move"), &rows)?;
    let (key, counted) = (
        rows.bit_range(0, key.width()),
        rows.bit_range(key.width(), 1),
    );
    drop(rows);
    let same = equal(ctx, &step.narrow("same"), &key, &lowered(&key, most))?;
    // Counted rows come first, so the row above is one where this one is; there is one from `most` on.
    let counted = counted.slice(most, counted.rows() - most);
    let same = same.slice(most, same.rows() - most);
    and(ctx, &step.narrow("beyond"), &counted, &same)
}

/// Row `r` of the result is row `r - by`; the first `by` rows are zero. Local.
fn lowered(x: &BitColumn, by: usize) -> BitColumn {
    let by = by.min(x.rows());
    BitColumn::zeros(x.width(), by).followed_by(&x.slice(0, x.rows() - by))
}
