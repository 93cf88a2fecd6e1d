//! Sorting by keys of any width: shuffle once, then sort by opened comparison bits.
//!
//! The row index is appended to the key, so all keys differ and the sort is stable; key and index are
//! shuffled together; then any comparison sort may open its comparison bits, because they depend on
//! nothing but the order of distinct keys in uniformly random places (Hamada et al., ICISC 2012;
//! eprint 2014/121). Each shuffle serves one opened order ([`Shuffle::in_order`] consumes it).
//!
//! The comparison sort is a quicksort with many pivots, a level at a time over all partitions at
//! once: of each partition the first `2^k - 1` of about `sqrt(size)` rows, at most 63, are pivots (the order is
//! random, so these are a sample); they sort by all pairs, then each row finds its place among them by
//! binary search. About 21 comparisons a row at 2^20 rows, where 18.6 is the least possible.
//!
//! Cost a row and party: `21 (width + log2 n)` bits with ripple comparisons, beside 4/3 of the key's
//! words. Leakage: none beyond n. Semi-honest.

mod merge;
mod probe;
mod quicksort;
pub(super) mod radix;
mod records;

pub use merge::{Merged, merge_cost, merge_runs};

use super::shuffle::{Permutation, Shuffle, permute_table, rows_of};
use quicksort::Quicksort;
use records::Records;

use crate::bits::row_words;
use crate::circuit::Comparison;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::net::{LinkProfile, Step};
use crate::share::BitColumn;
use crate::spill::Parked;
use crate::table::{Column, SharedTable};

/// An order of rows.
#[derive(Debug)]
pub struct Sorted {
    /// What moves rows to that order.
    pub order: Permutation,
    /// The keys in that order, as they were given.
    pub keys: Vec<BitColumn>,
}

/// Sorts rows ascending by `keys` as unsigned numbers, the first key being the most significant; stable.
/// The sorted keys come without a passage of their own: they are what was compared.
///
/// # Errors
/// `InvalidInput` for no keys or keys of different rows; those of the link.
pub fn sort_by(ctx: &mut Context, step: &Step, keys: &[&BitColumn]) -> Result<Sorted> {
    let rows = keys.first().map_or(0, |k| k.rows());
    if keys.is_empty() || keys.iter().any(|k| k.rows() != rows) {
        return Err(Error::InvalidInput {
            operator: "sort",
            what: format!("{} keys of different rows", keys.len()),
        });
    }
    let width = keys.iter().map(|k| k.width()).sum();
    if radix_is_cheaper(ctx.profile(), rows, width) {
        let key = BitColumn::concat(&keys.iter().rev().copied().collect::<Vec<_>>())?;
        let order = radix::permutation(ctx, step, &key)?;
        let sorted = order.apply_bits(ctx, &step.narrow("keys"), &key)?;
        let keys = single(keys, &sorted);
        return Ok(Sorted { order, keys });
    }
    let (order, records) = by_comparison(ctx, step, keys, rows)?;
    let keys = match records {
        Some(records) => single(keys, &records.sorted(width)),
        None => keys.iter().map(|&key| key.clone()).collect(),
    };
    Ok(Sorted { order, keys })
}

/// The keys that lie side by side in `all`, the last one lowest.
fn single(keys: &[&BitColumn], all: &BitColumn) -> Vec<BitColumn> {
    let mut end = all.width();
    let cut = keys.iter().map(|key| {
        end -= key.width();
        all.bit_range(end, key.width())
    });
    cut.collect()
}

/// The table in ascending order of the bit columns `keys`, the first being the most significant; as
/// [`sort_by`]. What is not needed meanwhile waits, in a file where memory is tight.
///
/// # Errors
/// As [`sort_by`], for a key that is not a bit column, and where a file cannot be written.
pub fn sort_table(
    ctx: &mut Context,
    step: &Step,
    mut table: SharedTable,
    keys: &[usize],
) -> Result<SharedTable> {
    table.check("sort")?;
    let mut bits = Vec::with_capacity(keys.len());
    for (i, &key) in keys.iter().enumerate() {
        table.bits("sort", key)?;
        if keys[..i].contains(&key) {
            return Err(Error::InvalidInput {
                operator: "sort",
                what: "a key named twice".to_owned(),
            });
        }
        let nothing = Column::Bits(BitColumn::zeros(1, 0));
        if let Column::Bits(column) = std::mem::replace(&mut table.columns[key], nothing) {
            bits.push(column);
        }
    }
    let mut rest = Vec::new();
    let mut places = Vec::new();
    for (at, column) in std::mem::take(&mut table.columns).into_iter().enumerate() {
        if !keys.contains(&at) {
            places.push(at);
            rest.push(column);
        }
    }
    table.columns = rest;
    let width: usize = bits.iter().map(BitColumn::width).sum();
    let work = sort_bytes(table.rows(), width);
    let waiting = Parked::new(ctx.memory(), table, work)?;

    let sorted = sort_by(ctx, &step.narrow("order"), &bits.iter().collect::<Vec<_>>())?;
    drop(bits);
    let table = waiting.back()?;
    let mut table = apply(ctx, &step.narrow("apply"), &sorted.order, &table)?;
    let rest = std::mem::take(&mut table.columns);
    table.columns = reunited(keys, sorted.keys, places, rest);
    Ok(table)
}

/// Sorted keys and the other columns, each at its place.
pub(super) fn reunited(
    keys: &[usize],
    sorted: Vec<BitColumn>,
    others: Vec<usize>,
    moved: Vec<Column>,
) -> Vec<Column> {
    let sorted = sorted.into_iter().map(Column::Bits);
    let mut placed: Vec<(usize, Column)> = keys.iter().copied().zip(sorted).collect();
    placed.extend(others.into_iter().zip(moved));
    placed.sort_by_key(|(at, _)| *at);
    // A key named twice is there once.
    placed.dedup_by_key(|(at, _)| *at);
    placed.into_iter().map(|(_, column)| column).collect()
}

/// Memory that sorting by keys of `width` bits in all takes, about: the keys, records, and the planes of
/// what is compared.
#[must_use]
pub fn sort_bytes(rows: usize, width: usize) -> u64 {
    let words = (width + 32).div_ceil(64);
    rows as u64 * (40 * words as u64 + 8 + 2 * width.div_ceil(8) as u64)
}

/// What an operator is expected to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Bits a row and party.
    pub bits: usize,
    /// Rounds.
    pub rounds: usize,
}

/// What [`sort_by`] takes for `rows` rows of keys of `width` bits in all.
#[must_use]
pub fn sort_cost(profile: LinkProfile, rows: usize, width: usize) -> Cost {
    if radix_is_cheaper(profile, rows, width) {
        radix_cost(width)
    } else {
        comparison_cost(profile, rows, width)
    }
}

fn radix_cost(width: usize) -> Cost {
    let (bits, rounds) = radix::cost(width);
    Cost { bits, rounds }
}

fn comparison_cost(profile: LinkProfile, rows: usize, width: usize) -> Cost {
    let levels = (usize::BITS - rows.leading_zeros()) as usize;
    let all = width + levels;
    let comparison = Comparison::choose(profile, all, rows);
    // About one comparison a row for each bit of the row's number, and a few levels to spare.
    Cost {
        bits: comparison.and_gates() * levels + all.next_multiple_of(64) * 4 / 3,
        rounds: (comparison.rounds() + 1) * (levels + 5),
    }
}

/// Whether the radix sort is expected to take less time.
fn radix_is_cheaper(profile: LinkProfile, rows: usize, width: usize) -> bool {
    if rows < 2 {
        return false;
    }
    let time = |cost: Cost, picoseconds_a_bit: u128| {
        let bandwidth = u128::from(profile.bytes_per_second.max(1));
        let bit = picoseconds_a_bit + 1_000_000_000_000 / 8 / bandwidth;
        profile.round_trip.as_nanos() * 1000 * cost.rounds as u128
            + bit * (cost.bits * rows) as u128
    };
    let comparison = comparison_cost(profile, rows, width);
    time(radix_cost(width), RADIX_PICOSECONDS) < time(comparison, COMPARISON_PICOSECONDS)
}

/// The first `limit` rows of a table in an order, without sorting the rest.
///
/// A quicksort that passes over partitions beyond the limit: what it opens is, as for
/// [`sort_by`], a function of a uniformly random order and of public numbers. Ties are in the
/// rows' order; invalid rows come last if validity leads the keys. About 7 comparisons a row (6
/// against the first pivots, and theirs among each other), or one if a quarter of the rows or less is
/// kept of very many; those of the rows kept, and the passage of all rows.
///
/// # Errors
/// As [`sort_by`]; `InvalidInput` for a table of other rows.
pub fn top_k(
    ctx: &mut Context,
    step: &Step,
    table: &SharedTable,
    keys: &[&BitColumn],
    limit: usize,
) -> Result<SharedTable> {
    table.check("top_k")?;
    if keys.is_empty() || keys.iter().any(|k| k.rows() != table.rows()) {
        return Err(Error::InvalidInput {
            operator: "top_k",
            what: format!("{} keys of other rows", keys.len()),
        });
    }
    let limit = limit.min(table.rows());
    let (order, _) = by_comparison(ctx, &step.narrow("order"), keys, limit)?;
    let moved = apply(ctx, &step.narrow("rows"), &order, table)?;
    Ok(moved.slice(0, limit))
}

/// Shuffles keys and row numbers, then sorts by opened comparisons; beyond `limit` rows are in no
/// particular order. Beside the order the records in it, of two rows and more.
pub(super) fn by_comparison(
    ctx: &mut Context,
    step: &Step,
    keys: &[&BitColumn],
    limit: usize,
) -> Result<(Permutation, Option<Records>)> {
    let rows = keys.first().map_or(0, |k| k.rows());
    let shuffle = Shuffle::draw(ctx, &step.narrow("shuffle"), rows)?;
    if rows < 2 {
        let order: Vec<u32> = (0_u32..).take(rows).collect();
        return Ok((shuffle.in_order(&order), None));
    }
    let index_bits = (usize::BITS - (rows - 1).leading_zeros()) as usize;
    let index: Vec<u64> = (0..rows as u64).collect();
    let index = BitColumn::public(ctx.role(), index_bits, rows, &index)?;
    let width = index_bits + keys.iter().map(|k| k.width()).sum::<usize>();
    let stride = row_words(width);
    let columns: Vec<&BitColumn> = std::iter::once(&index)
        .chain(keys.iter().rev().copied())
        .collect();
    let (a, b) = rows_of(ctx, &columns, 0, width)?;
    drop(index);
    let (a, b) = shuffle.records(ctx, &step.narrow("move"), a, b, stride)?;
    let records = Records::new(&a, &b, width);
    drop((a, b));
    let (order, records) = Quicksort::new(records, limit).run(ctx, &step.narrow("compare"))?;
    Ok((shuffle.in_order(&order), Some(records)))
}

/// The table with its rows moved by `permutation`.
///
/// # Errors
/// As [`Permutation::apply`].
pub fn apply(
    ctx: &mut Context,
    step: &Step,
    permutation: &Permutation,
    table: &SharedTable,
) -> Result<SharedTable> {
    permute_table(ctx, step, permutation, table)
}

/// Computing and sending one bit of a radix sort, of mostly 32-bit words moved about.
const RADIX_PICOSECONDS: u128 = 300;

/// The same of a comparison sort, of gates on gathered planes.
const COMPARISON_PICOSECONDS: u128 = 400;
