//! Joins over shared keys.
//!
//! With a right side that is unique per key: put the right rows before the left rows and sort all by
//! (unusable, key); the sort is stable, so in each key's run the right row, if there is one, comes
//! first. A left row matches if its run starts with a right row: one carry along the runs
//! ([`super::scan`]). Two adjacent right rows of one run break the promise of uniqueness. A semi or anti
//! join needs no uniqueness. How many left rows a key has may be promised too (`left_most`): a left row
//! so many rows below another of its run breaks that. The OR of all such, of both sides, is the one bit
//! opened; where nothing is promised nothing is. A row is usable if it is valid and no key of it is
//! NULL: others match nothing, and count for no promise of the left side.
//!
//! Payload does not travel along the runs as rows: the right rows, in sorted order, turn into
//! differences between neighbours; moved among the left rows, running sums (local) give every row the
//! payload of the last right row above it, and the inverse permutation brings that back to the left
//! rows' own order. So the left table never moves and the result has exactly its rows.
//!
//! Sides that come sorted by key are merged instead, valid or not ([`super::sort::merge_runs`]); their right
//! rows are in sorted order as they are.
//!
//! Cost: one sort of both key columns, or merge; 3 passages of a few bits over all rows; 2 passages of the
//! kept columns over all rows and, but for a merge, 2 over the right rows. Leakage: both row counts, and
//! whether a promise about keys is broken or a merged side is out of order. Adversary: semi-honest. See `docs/protocols/oblivious-join.md`.

mod bound;
mod many;
mod number;
mod payload;

pub use many::join_many;
pub(super) use number::number_rows;

use super::scan::carry;
use super::shuffle::Permutation;
use super::sort::{Merged, Sorted, merge_runs, sort_by, sort_bytes};
use crate::circuit::{and, and_mask, any_row, equal, or};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::net::Step;
use crate::open::reveal_one_declared_bit;
use crate::share::BitColumn;
use crate::table::{Column, SharedTable};

const NAME: &str = "join";

/// One side of a join.
#[derive(Debug, Clone, Copy)]
pub struct Side<'t> {
    /// Its rows.
    pub table: &'t SharedTable,
    /// Its key columns, all bit columns; the other side has as many, of the same widths.
    pub keys: &'t [usize],
    /// Flags of width 1 that are set where a key is NULL.
    pub nulls: &'t [usize],
    /// Whether the rows ascend by key, valid or not, as their owner sorted them.
    pub sorted: bool,
}

/// Which rows a join keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Left rows with a partner.
    Inner,
    /// All left rows.
    Left,
    /// Left rows with a partner, then right rows without one.
    Right,
    /// All left rows, then right rows without a partner.
    Full,
    /// Left rows with a partner, without its columns.
    Semi,
    /// Left rows without a partner: NOT EXISTS.
    Anti,
    /// Left rows whose key is certainly not among the right keys: NOT IN. No row, where a right key is
    /// NULL; a row with a NULL key of its own only where the right side is empty.
    NotIn,
}

impl Kind {
    fn has_payload(self) -> bool {
        !matches!(self, Self::Semi | Self::Anti | Self::NotIn)
    }

    /// Whether the join keeps no left row without a partner: only those with one then count for
    /// `left_most`.
    fn needs_partner(self) -> bool {
        matches!(self, Self::Inner | Self::Right | Self::Semi)
    }
}

/// `left JOIN right` on equal keys, for a right side whose usable rows are unique per key (any right
/// side for semi and anti joins).
///
/// With `left_most` a key has at most so many usable left rows, which is checked: all of them, or for
/// inner, right and semi joins those with a partner. Rows that are invalid or have a NULL key never
/// count. A bound that the public number of left rows cannot exceed holds of itself.
///
/// The result's columns: all of `left`, then `keep` of `right`; then, for right and full joins, a flag
/// that the left columns are there, and for left and full joins one that the right columns are. Its
/// rows: the left rows in their order and, for right and full joins, the right rows in theirs; those
/// that the join does not keep are invalid. Columns that are not there are zero, except those of
/// invalid rows, which hold garbage.
///
/// Where both sides are sorted and have no flags of NULL, a merge takes the place of the sort, but for right
/// and full joins.
///
/// # Errors
/// `DuplicateKey` when two usable right rows share a key, or a usable one and any other of a sorted side,
/// and when a key has more than `left_most` left rows; `InvalidInput` for keys that are not bit columns of
/// the same widths, columns that do not exist, a bound of 0, or a sorted side that is not; those of the
/// link.
pub fn join(
    ctx: &mut Context,
    step: &Step,
    kind: Kind,
    left: Side<'_>,
    right: Side<'_>,
    keep: &[usize],
    left_most: Option<u64>,
) -> Result<SharedTable> {
    kept_columns(&left, &right, keep)?;
    Matches::find(ctx, step, kind, left, right, left_most)?.join(ctx, step, left, right, keep)
}

/// Who matches whom: what a join knows before it moves any column but keys.
#[derive(Debug)]
pub struct Matches {
    kind: Kind,
    found: Option<Match>,
}

impl Matches {
    /// Finds the matches of two sides, whose tables need no columns but keys and flags of NULL, and
    /// checks what is promised of their keys: opens one bit if anything is.
    ///
    /// # Errors
    /// As [`join`].
    pub fn find(
        ctx: &mut Context,
        step: &Step,
        kind: Kind,
        left: Side<'_>,
        right: Side<'_>,
        left_most: Option<u64>,
    ) -> Result<Self> {
        kept_columns(&left, &right, &[])?;
        if left_most == Some(0) {
            return Err(invalid("a bound of no left rows a key"));
        }
        let found = Match::find(ctx, step, kind, &left, &right, left_most)?;
        Ok(Self { kind, found })
    }

    /// Memory that finding the matches of sides of `rows` rows in all takes, about.
    #[must_use]
    pub fn work_bytes(rows: usize, key_bits: usize) -> u64 {
        sort_bytes(rows, key_bits + 1)
    }

    /// The join of the two sides that the matches are of, in the same order of rows; as [`join`].
    ///
    /// # Errors
    /// As [`join`].
    pub fn join(
        self,
        ctx: &mut Context,
        step: &Step,
        left: Side<'_>,
        right: Side<'_>,
        keep: &[usize],
    ) -> Result<SharedTable> {
        let kept = kept_columns(&left, &right, keep)?;
        let rows = left.table.rows() + right.table.rows();
        if self
            .found
            .as_ref()
            .is_some_and(|found| found.sorted.rows() != rows)
        {
            return Err(invalid("matches of sides of other rows"));
        }
        made(ctx, step, self.kind, left, right, &kept, self.found)
    }
}

/// The joined table.
fn made(
    ctx: &mut Context,
    step: &Step,
    kind: Kind,
    left: Side<'_>,
    right: Side<'_>,
    kept: &[&Column],
    found: Option<Match>,
) -> Result<SharedTable> {
    let kept = if kind.has_payload() { kept } else { &[] };
    let (left_rows, right_rows) = (left.table.rows(), right.table.rows());
    let with_right_rows = matches!(kind, Kind::Right | Kind::Full);
    let with_flag = matches!(kind, Kind::Left | Kind::Full);

    let mut columns = left.table.columns.clone();
    let matched = found.as_ref().map_or_else(
        || BitColumn::zeros(1, left_rows),
        |found| found.left.clone(),
    );
    let mut spread: Vec<Column> = match &found {
        Some(found) if !kept.is_empty() => {
            let step = step.narrow("payload");
            payload::spread(ctx, &step, found, kept, left_rows)?
        }
        _ => kept
            .iter()
            .map(|c| c.slice(0, 0).resized(left_rows))
            .collect(),
    };
    if with_flag && !spread.is_empty() {
        // What belongs to another row's partner must not be read as this one's.
        let gated = SharedTable {
            columns: spread,
            valid: matched.clone(),
        };
        spread = gated.clear_invalid(ctx, &step.narrow("gate"))?.columns;
    }
    columns.append(&mut spread);
    let mut valid = match kind {
        Kind::Inner | Kind::Right | Kind::Semi => matched.clone(),
        Kind::Left | Kind::Full => left.table.valid.clone(),
        Kind::Anti => {
            let unmatched = matched.clone().not(ctx.role());
            and(ctx, &step.narrow("anti"), &left.table.valid, &unmatched)?
        }
        Kind::NotIn => not_in(ctx, &step.narrow("not-in"), &left, &right, &matched)?,
    };
    if with_right_rows {
        let unmatched = match &found {
            Some(found) => found.right.clone().not(ctx.role()),
            None => BitColumn::ones(ctx.role(), 1, right_rows),
        };
        let step = step.narrow("right-rows");
        let alone = and(ctx, &step, &right.table.valid, &unmatched)?;
        valid = valid.followed_by(&alone);
        let rows = left_rows + right_rows;
        let from = left.table.columns.len();
        columns = columns
            .into_iter()
            .enumerate()
            .map(|(i, column)| match i.checked_sub(from) {
                None => Ok(column.resized(rows)),
                Some(i) => column.followed_by(NAME, kept[i]),
            })
            .collect::<Result<_>>()?;
        let left_there = BitColumn::ones(ctx.role(), 1, left_rows).resized(rows);
        columns.push(Column::Bits(left_there));
    }
    if with_flag {
        let there = if with_right_rows {
            matched.followed_by(&BitColumn::ones(ctx.role(), 1, right_rows))
        } else {
            matched
        };
        columns.push(Column::Bits(there));
    }
    ctx.report(&step.narrow("joined"), left_rows);
    Ok(SharedTable { columns, valid })
}

/// The inner [`join`] on one key column a side.
///
/// # Errors
/// As [`join`].
pub fn inner_unique(
    ctx: &mut Context,
    step: &Step,
    left: &SharedTable,
    left_key: usize,
    right: &SharedTable,
    right_key: usize,
    right_keep: &[usize],
) -> Result<SharedTable> {
    let side = |table, keys| Side {
        table,
        keys,
        nulls: &[],
        sorted: false,
    };
    let (left_keys, right_keys) = ([left_key], [right_key]);
    let (left, right) = (side(left, &left_keys), side(right, &right_keys));
    join(ctx, step, Kind::Inner, left, right, right_keep, None)
}

/// Checks both sides; gives the right columns to keep.
fn kept_columns<'t>(left: &Side<'_>, right: &Side<'t>, keep: &[usize]) -> Result<Vec<&'t Column>> {
    let widths = |side: &Side<'_>| -> Result<Vec<usize>> {
        side.table.check(NAME)?;
        let keys = side.keys.iter().map(|&k| side.table.bits(NAME, k));
        keys.map(|key| Ok(key?.width())).collect()
    };
    let (left_widths, right_widths) = (widths(left)?, widths(right)?);
    for side in [left, right] {
        for &null in side.nulls {
            if side.table.bits(NAME, null)?.width() != 1 {
                return Err(invalid("a NULL flag that is wider than a bit"));
            }
        }
    }
    if left_widths.is_empty() || left_widths != right_widths {
        return Err(invalid("keys of different widths, or none"));
    }
    keep.iter()
        .map(|&i| right.table.columns.get(i))
        .collect::<Option<_>>()
        .ok_or_else(|| invalid("a column to keep that is not there"))
}

fn invalid(what: &str) -> Error {
    Error::InvalidInput {
        operator: NAME,
        what: what.to_owned(),
    }
}

/// NOT IN: unmatched, no right key NULL, and no NULL key unless the right side is empty.
fn not_in(
    ctx: &mut Context,
    step: &Step,
    left: &Side<'_>,
    right: &Side<'_>,
    matched: &BitColumn,
) -> Result<BitColumn> {
    let role = ctx.role();
    let rows = left.table.rows();
    let right_null = null_flag(ctx, &step.narrow("right-null"), right)?;
    let right_null = and(ctx, &step.narrow("gate"), &right.table.valid, &right_null)?;
    let any_null = any_row(ctx, &step.narrow("any-null"), &right_null)?;
    let any = any_row(ctx, &step.narrow("any"), &right.table.valid)?;
    let left_null = null_flag(ctx, &step.narrow("left-null"), left)?;
    let unknown = and_mask(
        ctx,
        &step.narrow("unknown"),
        &any.repeated(rows),
        &left_null,
    )?;
    let step = step.narrow("excluded");
    let excluded = or(ctx, &step.narrow("a"), &unknown, &any_null.repeated(rows))?;
    let excluded = or(ctx, &step.narrow("b"), &excluded, matched)?;
    let valid = &left.table.valid;
    and(ctx, &step.narrow("c"), valid, &excluded.not(role))
}

/// Whether any key of a row is NULL.
fn null_flag(ctx: &mut Context, step: &Step, side: &Side<'_>) -> Result<BitColumn> {
    let mut flag = BitColumn::zeros(1, side.table.rows());
    for (i, &null) in side.nulls.iter().enumerate() {
        let null = side.table.bits(NAME, null)?;
        flag = if i == 0 {
            null.clone()
        } else {
            or(ctx, &step.at("or", i), &flag, null)?
        };
    }
    Ok(flag)
}

/// The keys of a side as one column, and which rows can match.
fn key_and_usable(
    ctx: &mut Context,
    step: &Step,
    side: &Side<'_>,
) -> Result<(BitColumn, BitColumn)> {
    let keys: Vec<&BitColumn> = side
        .keys
        .iter()
        .map(|&k| side.table.bits(NAME, k))
        .collect::<Result<_>>()?;
    let key = BitColumn::concat(&keys)?;
    let valid = &side.table.valid;
    if side.nulls.is_empty() {
        return Ok((key, valid.clone()));
    }
    let null = null_flag(ctx, &step.narrow("null"), side)?;
    let usable = and(ctx, &step.narrow("usable"), valid, &null.not(ctx.role()))?;
    Ok((key, usable))
}

/// Rows of both sides, right ones first, in an order by key.
#[derive(Debug)]
struct Match {
    sorted: Permutation,
    /// In that order: whether a row is a right row.
    is_right: BitColumn,
    /// Whether the right rows come in that order.
    by_merge: bool,
    /// Left rows with a partner, in their own order.
    left: BitColumn,
    /// Right rows with a partner, in their own order; only for right and full joins.
    right: BitColumn,
}

impl Match {
    /// None where a side is empty.
    fn find(
        ctx: &mut Context,
        step: &Step,
        kind: Kind,
        left: &Side<'_>,
        right: &Side<'_>,
        left_most: Option<u64>,
    ) -> Result<Option<Self>> {
        let (left_rows, right_rows) = (left.table.rows(), right.table.rows());
        let left_most = left_most
            .and_then(|most| usize::try_from(most).ok())
            .filter(|&most| most < left_rows);
        let nobody_has_partners = right_rows == 0 && (kind.needs_partner() || left_most.is_none());
        if left_rows == 0 || nobody_has_partners {
            return Ok(None);
        }
        let merges = |side: &Side<'_>| side.sorted && side.nulls.is_empty();
        let by_merge = merges(left) && merges(right) && !matches!(kind, Kind::Right | Kind::Full);
        let runs = if by_merge {
            Runs::merge(ctx, step, left, right)?
        } else {
            Runs::sort(ctx, step, left, right)?
        };
        ctx.report(&step.narrow("sorted"), left_rows + right_rows);

        let step = step.narrow("runs");
        let mut broken = Vec::new();
        if kind.has_payload() {
            broken.push(runs.duplicates(ctx, &step.narrow("unique"), by_merge)?);
        }
        let matched = carry(ctx, &step.narrow("carry"), &runs.start, &runs.go)?;
        let lefts = runs.usable.xor(&runs.start);
        let of_left = and(ctx, &step.narrow("of-left"), &matched, &lefts)?;
        // A right row has a partner if the next row goes on with its key; the run's first left row
        // stands right below a unique right row. One bit a row serves both sides: a row is a left or a
        // right one.
        let found = if matches!(kind, Kind::Right | Kind::Full) {
            let next = runs.go.shifted_down();
            let partner = and(ctx, &step.narrow("partner"), &runs.start, &next)?;
            of_left.xor(&partner)
        } else {
            of_left.clone()
        };
        let back = runs.sorted.return_bits(ctx, &step.narrow("back"), &found)?;
        let back_left = back.slice(right_rows, left_rows);
        if let Some(most) = left_most {
            let step = step.narrow("left");
            broken.push(if by_merge && most > 1 {
                let (key, usable) = key_and_usable(ctx, &step, left)?;
                let counted = if kind.needs_partner() {
                    &back_left
                } else {
                    &usable
                };
                bound::apart(ctx, &step, counted, &key, most)?
            } else {
                let counted = if kind.needs_partner() {
                    &of_left
                } else {
                    &lefts
                };
                match by_merge {
                    true => bound::second(ctx, &step, counted, &runs.go)?,
                    false => bound::together(ctx, &step, counted, &runs.go, most)?,
                }
            });
        }
        hold(ctx, &step, &broken)?;
        Ok((right_rows > 0).then(|| Self {
            sorted: runs.sorted,
            is_right: runs.is_right,
            by_merge,
            left: back_left,
            right: back.slice(0, right_rows),
        }))
    }
}

/// Opens whether any row breaks a promise about keys: one bit, or none where nothing is promised.
fn hold(ctx: &mut Context, step: &Step, broken: &[BitColumn]) -> Result<()> {
    if broken.is_empty() {
        return Ok(());
    }
    let broken = any_row(ctx, &step.narrow("any"), &BitColumn::stacked(broken))?;
    // Declared: whether what the plan promises of the sides' keys is so.
    match reveal_one_declared_bit(ctx, &step.narrow("reveal"), &broken)? {
        true => Err(Error::DuplicateKey),
        false => Ok(()),
    }
}

/// Rows of both sides in an order by key; in each key's run the usable right rows stand before the left
/// rows.
struct Runs {
    sorted: Permutation,
    is_right: BitColumn,
    usable: BitColumn,
    /// Whether a row goes on with the key of the one before.
    go: BitColumn,
    /// Usable right rows.
    start: BitColumn,
}

impl Runs {
    /// Usable rows first: they go on with usable rows only.
    fn sort(ctx: &mut Context, step: &Step, left: &Side<'_>, right: &Side<'_>) -> Result<Self> {
        let (left_key, left_usable) = key_and_usable(ctx, &step.narrow("left"), left)?;
        let (right_key, right_usable) = key_and_usable(ctx, &step.narrow("right"), right)?;
        let usable = right_usable.followed_by(&left_usable);
        let key = right_key.followed_by(&left_key);
        drop((left_key, right_key));
        let unusable = usable.clone().not(ctx.role());
        let Sorted { order, keys } = sort_by(ctx, &step.narrow("sort"), &[&unusable, &key])?;
        let side = BitColumn::ones(ctx.role(), 1, right.table.rows()).resized(key.rows());
        drop((unusable, usable, key));
        let [unusable, key] = &keys[..] else {
            return Err(invalid("a sort that lost a key"));
        };
        let usable = unusable.clone().not(ctx.role());
        let step = step.narrow("runs");
        let is_right = order.apply_bits(ctx, &step.narrow("move"), &side)?;
        drop(side);
        let same = equal(ctx, &step.narrow("same"), key, &key.shifted_up())?.with_first_row_zero();
        // A usable row follows usable rows only, so its own bit answers for both.
        let gated = and(
            ctx,
            &step.narrow("usable"),
            &BitColumn::concat(&[&same, &is_right])?,
            &BitColumn::concat(&[&usable, &usable])?,
        )?;
        Ok(Self {
            sorted: order,
            is_right,
            usable,
            go: gated.bit_range(0, 1),
            start: gated.bit_range(1, 1),
        })
    }

    /// Rows that are not usable stand where their key belongs, and go on with it.
    fn merge(ctx: &mut Context, step: &Step, left: &Side<'_>, right: &Side<'_>) -> Result<Self> {
        let (left_key, left_usable) = key_and_usable(ctx, &step.narrow("left"), left)?;
        let (right_key, right_usable) = key_and_usable(ctx, &step.narrow("right"), right)?;
        let lengths = [right.table.rows(), left.table.rows()];
        let key = right_key.followed_by(&left_key);
        drop((left_key, right_key));
        let merged = merge_runs(ctx, &step.narrow("merge"), &[&key], &lengths)?;
        drop(key);
        let Merged { key, run, order } = merged;
        let step = step.narrow("runs");
        let usable = right_usable.followed_by(&left_usable);
        let usable = order.apply_bits(ctx, &step.narrow("move"), &usable)?;
        let go = equal(ctx, &step.narrow("same"), &key, &key.shifted_up())?.with_first_row_zero();
        drop(key);
        let is_right = run.not(ctx.role());
        let start = and(ctx, &step.narrow("usable"), &is_right, &usable)?;
        Ok(Self {
            sorted: order,
            is_right,
            usable,
            go,
            start,
        })
    }

    /// Usable right rows below another usable right row of their key; or beside any right row of it.
    fn duplicates(&self, ctx: &mut Context, step: &Step, of_any: bool) -> Result<BitColumn> {
        let before = self.is_right.shifted_up();
        let pair = if of_any {
            let both = and(ctx, &step.narrow("both"), &self.is_right, &before)?;
            let (mine, other) = (&self.start, self.start.shifted_up());
            let usable = or(ctx, &step.narrow("either"), mine, &other)?;
            and(ctx, &step.narrow("pair"), &both, &usable)?
        } else {
            and(ctx, &step.narrow("pair"), &self.start, &before)?
        };
        and(ctx, &step.narrow("duplicate"), &self.go, &pair)
    }
}
