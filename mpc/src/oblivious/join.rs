//! Joins over shared keys.
//!
//! Inner join with a side that is unique per key: put the right rows before the left rows and sort all
//! by (invalid, key); the sort is stable, so in each key's run the right row, if there is one, comes
//! first. A left row matches if its run starts with a right row: one carry along the runs
//! ([`super::scan`]). Two adjacent right rows of one run break the promise of uniqueness; the OR of
//! all such is the one bit opened.
//!
//! Payload does not travel along the runs as rows: the right rows, in sorted order, turn into
//! differences between neighbours; moved among the left rows, running sums (local) give every row the
//! payload of the last right row above it, and the inverse permutation brings that back to the left
//! rows' own order. So the left table never moves and the result has exactly its rows.
//!
//! The result's rows without a partner hold garbage (another row's payload) behind `valid = 0`.
//! Cost: one sort of both key columns; 3 passages of a few bits over all rows; 2 passages of the kept
//! columns over all rows and 2 over the right rows. Leakage: both row counts, and whether a duplicate
//! exists. Adversary: semi-honest. See `docs/protocols/oblivious-join.md`.

use super::compact::{by_destinations, destinations};
use super::scan::carry;
use super::shuffle::Permutation;
use super::sort::sort_permutation;
use crate::bits::plane_words;
use crate::circuit::{and, any_row, equal};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::net::Step;
use crate::open::reveal_one_declared_bit;
use crate::share::{BitColumn, Role};
use crate::table::{Column, SharedTable};

/// `left JOIN right ON left_key = right_key` for a right side whose valid rows are unique per key:
/// all columns of `left`, then `right_keep` of `right`, in the left rows' order; valid where a valid
/// left row has a valid partner.
///
/// # Errors
/// `DuplicateKey` when two valid right rows share a key; `InvalidInput` for keys that are not bit
/// columns of one width, or columns that do not exist; those of the link.
pub fn inner_unique(
    ctx: &mut Context,
    step: &Step,
    left: &SharedTable,
    left_key: usize,
    right: &SharedTable,
    right_key: usize,
    right_keep: &[usize],
) -> Result<SharedTable> {
    const NAME: &str = "join";
    left.check(NAME)?;
    right.check(NAME)?;
    let (left_key, right_key) = (left.bits(NAME, left_key)?, right.bits(NAME, right_key)?);
    let kept: Option<Vec<&Column>> = right_keep.iter().map(|&i| right.columns.get(i)).collect();
    let kept = kept
        .filter(|_| left_key.width() == right_key.width())
        .ok_or_else(|| Error::InvalidInput {
            operator: NAME,
            what: format!(
                "keys of {} and {} bits, or a missing column",
                left_key.width(),
                right_key.width()
            ),
        })?;
    let mut columns = left.columns.clone();
    if left.rows() == 0 || right.rows() == 0 {
        columns.extend(kept.into_iter().map(|c| c.slice(0, 0).resized(left.rows())));
        let valid = BitColumn::zeros(1, left.rows());
        return Ok(SharedTable { columns, valid });
    }

    let valid = right.valid.followed_by(&left.valid);
    let key = right_key.followed_by(left_key);
    let invalid = valid.clone().not(ctx.role());
    let sorted = sort_permutation(ctx, &step.narrow("sort"), &[&invalid, &key])?;
    drop(invalid);
    ctx.report(&step.narrow("sorted"), key.rows());
    let (is_right, matched) = runs(
        ctx,
        &step.narrow("runs"),
        &sorted,
        &key,
        &valid,
        right.rows(),
    )?;
    let back = sorted.return_bits(ctx, &step.narrow("matched"), &matched)?;
    let valid = back.slice(right.rows(), left.rows());
    if !kept.is_empty() {
        let step = step.narrow("payload");
        let spread = spread(ctx, &step, &sorted, &is_right, &kept, right.rows())?;
        columns.extend(
            spread
                .into_iter()
                .map(|c| c.slice(right.rows(), left.rows())),
        );
    }
    ctx.report(&step.narrow("joined"), left.rows());
    Ok(SharedTable { columns, valid })
}

/// In sorted order: which rows are right rows, and which belong to a run that starts with one.
fn runs(
    ctx: &mut Context,
    step: &Step,
    sorted: &Permutation,
    key: &BitColumn,
    valid: &BitColumn,
    right_rows: usize,
) -> Result<(BitColumn, BitColumn)> {
    let width = key.width();
    let side = first_rows(ctx.role(), key.rows(), right_rows);
    let all = BitColumn::concat(&[key, valid, &side])?;
    let all = sorted.apply_bits(ctx, &step.narrow("move"), &all)?;
    let (key, valid, is_right) = (
        all.bit_range(0, width),
        all.bit_range(width, 1),
        all.bit_range(width + 1, 1),
    );
    drop(all);
    let same = equal(ctx, &step.narrow("same"), &key, &key.shifted_up())?.with_first_row_zero();
    drop(key);
    // A valid row follows valid rows only, so its own bit answers for both.
    let right_pair = is_right.shifted_up();
    let gated = and(
        ctx,
        &step.narrow("valid"),
        &BitColumn::concat(&[&same, &is_right, &is_right])?,
        &BitColumn::concat(&[&valid, &valid, &right_pair])?,
    )?;
    let (go, start, pair) = (
        gated.bit_range(0, 1),
        gated.bit_range(1, 1),
        gated.bit_range(2, 1),
    );
    let duplicate = and(ctx, &step.narrow("duplicate"), &go, &pair)?;
    let duplicate = any_row(ctx, &step.narrow("any"), &duplicate)?;
    // Declared: whether the side promised unique per key is not.
    if reveal_one_declared_bit(ctx, &step.narrow("reveal"), &duplicate)? {
        return Err(Error::DuplicateKey);
    }
    let matched = carry(ctx, &step.narrow("carry"), &start, &go)?;
    Ok((is_right, matched))
}

/// The kept columns of the last right row at or above each row of the sorted order, brought back to the
/// order in which right rows come before left rows.
fn spread(
    ctx: &mut Context,
    step: &Step,
    sorted: &Permutation,
    is_right: &BitColumn,
    kept: &[&Column],
    right_rows: usize,
) -> Result<Vec<Column>> {
    // Where each right row stands among the right rows in sorted order.
    let ranks = destinations(ctx, &step.narrow("rank"), is_right)?;
    let ranks = sorted.return_positions(ctx, &step.narrow("return"), &ranks)?;
    let among_right = by_destinations(ctx, &step.narrow("among"), &ranks.slice(0, right_rows))?;
    let ordered = among_right.apply(ctx, &step.narrow("order"), kept)?;
    let steps: Vec<Column> = ordered.iter().map(Column::differences).collect();
    drop(ordered);
    let steps = among_right.apply_inverse(
        ctx,
        &step.narrow("disorder"),
        &steps.iter().collect::<Vec<_>>(),
    )?;
    let steps: Vec<Column> = steps
        .into_iter()
        .map(|c| c.resized(sorted.rows()))
        .collect();
    let steps = sorted.apply(ctx, &step.narrow("down"), &steps.iter().collect::<Vec<_>>())?;
    let sums: Vec<Column> = steps.iter().map(Column::prefix_sums).collect();
    drop(steps);
    sorted.apply_inverse(ctx, &step.narrow("up"), &sums.iter().collect::<Vec<_>>())
}

/// A public flag: the first `count` of `rows` rows.
fn first_rows(role: Role, rows: usize, count: usize) -> BitColumn {
    let flags = BitColumn::ones(role, 1, count).resized(rows);
    debug_assert_eq!(flags.components().0.len(), plane_words(rows));
    flags
}
