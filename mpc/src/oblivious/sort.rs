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

mod probe;
mod quicksort;
pub(super) mod radix;
mod records;

use super::shuffle::{Permutation, Shuffle, permute_table, rows_of};
use quicksort::Quicksort;
use records::Records;

use crate::bits::row_words;
use crate::circuit::Comparison;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::net::{LinkProfile, Step};
use crate::share::BitColumn;
use crate::table::SharedTable;

/// The stable permutation that sorts rows ascending by `keys` as unsigned numbers, the first key
/// being the most significant.
///
/// # Errors
/// `InvalidInput` for no keys or keys of different rows; those of the link.
pub fn sort_permutation(
    ctx: &mut Context,
    step: &Step,
    keys: &[&BitColumn],
) -> Result<Permutation> {
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
        return radix::permutation(ctx, step, &key);
    }
    by_comparison(ctx, step, keys, rows)
}

/// Whether the radix sort is expected to take less time.
fn radix_is_cheaper(profile: LinkProfile, rows: usize, width: usize) -> bool {
    if rows < 2 {
        return false;
    }
    let time = |(bits, rounds): (usize, usize), picoseconds_a_bit: u128| {
        let bandwidth = u128::from(profile.bytes_per_second.max(1));
        let bit = picoseconds_a_bit + 1_000_000_000_000 / 8 / bandwidth;
        profile.round_trip.as_nanos() * 1000 * rounds as u128 + bit * (bits * rows) as u128
    };
    let levels = (usize::BITS - rows.leading_zeros()) as usize;
    let all = width + levels;
    let comparison = Comparison::choose(profile, all, rows);
    // About one comparison a row for each bit of the row's number, and a few levels to spare.
    let gates = comparison.and_gates() * levels + all.next_multiple_of(64) * 4 / 3;
    let rounds = (comparison.rounds() + 1) * (levels + 5);
    time(radix::cost(width), RADIX_PICOSECONDS) < time((gates, rounds), COMPARISON_PICOSECONDS)
}

/// The first `limit` rows of a table in an order, without sorting the rest.
///
/// A quicksort that passes over partitions beyond the limit: what it opens is, as for
/// [`sort_permutation`], a function of a uniformly random order and of public numbers. Ties are in the
/// rows' order; invalid rows come last if validity leads the keys. About 7 comparisons a row (6
/// against the first pivots, and theirs among each other), or one if a quarter of the rows or less is
/// kept of very many; those of the rows kept, and the passage of all rows.
///
/// # Errors
/// As [`sort_permutation`]; `InvalidInput` for a table of other rows.
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
    let order = by_comparison(ctx, &step.narrow("order"), keys, limit)?;
    let moved = apply(ctx, &step.narrow("rows"), &order, table)?;
    Ok(moved.slice(0, limit))
}

/// Shuffles keys and row numbers, then sorts by opened comparisons; beyond `limit` rows are in no
/// particular order.
pub(super) fn by_comparison(
    ctx: &mut Context,
    step: &Step,
    keys: &[&BitColumn],
    limit: usize,
) -> Result<Permutation> {
    let rows = keys.first().map_or(0, |k| k.rows());
    let shuffle = Shuffle::draw(ctx, &step.narrow("shuffle"), rows)?;
    if rows < 2 {
        let order: Vec<u32> = (0_u32..).take(rows).collect();
        return Ok(shuffle.in_order(&order));
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
    let order = Quicksort::new(records, limit).run(ctx, &step.narrow("compare"))?;
    Ok(shuffle.in_order(&order))
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
