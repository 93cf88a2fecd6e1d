//! Merging runs that are ascending already, as their owners sorted them: Batcher's bitonic network.
//!
//! Two runs, the first turned round, fall and then rise. Of such a sequence of `n` rows, with the
//! stride `s` the largest power of two below `n`, the pairs `(i, i + s)` are put in order; both halves
//! then are bitonic, and so on with half the stride (Batcher, AFIPS 1968). Where `n` is no power of two
//! the sequence is thought to go on with rows above all others: they stand where they belong and never
//! move, so pairs without an upper row are left out. More than two runs merge pairwise.
//!
//! Rows stay in planes: a stride of 64 rows and more pairs words, a smaller one bits of words. What
//! travels is the key, the number of the run below it (equal rows keep the order of their runs) and
//! the number of the row. Moved by a fresh shuffle, the rows' numbers are opened: a uniformly random
//! permutation. At the end each row is compared with the one before; whether the order is wrong, which
//! a run out of order makes it, is the one other bit opened.
//!
//! Cost of two runs of `n` rows in all, a row and party: `log2(n) (compare(w + 1) + w + 1 + log2(n)) / 2`
//! bits for keys of w bits, with `compare` as chosen by [`Comparison`], and `log2(n)` times its rounds
//! and one. Leakage: the lengths of the runs, and whether they are in order. Semi-honest.

use super::super::compact::inverse_of_opened;
use super::super::shuffle::{Permutation, Shuffle};
use super::Cost;
use crate::bits::{plane_words, reverse_rows, tail_mask, to_rows};
use crate::circuit::{Comparison, Gates, Side, any_row, cross, less_than};
use crate::context::{Context, pieces};
use crate::error::{Error, Result};
use crate::net::{LinkProfile, Step};
use crate::open::{reveal_bits_that_tell_nothing, reveal_one_declared_bit};
use crate::share::BitColumn;
use std::ops::Range;

/// Pairs at a time.
const BATCH: usize = 1 << 19;

/// Rows of several runs in one ascending order.
#[derive(Debug)]
pub struct Merged {
    /// Their keys in that order, side by side, the last key lowest.
    pub key: BitColumn,
    /// The run that each row came from, in as many bits as the last run's number takes; at least one.
    pub run: BitColumn,
    /// What moves rows to that order.
    pub order: Permutation,
}

/// Merges the runs of consecutive rows of these lengths, each ascending by `keys` as unsigned numbers,
/// the first key being the most significant. Equal rows of different runs keep the runs' order; equal
/// rows of one run are in any.
///
/// # Errors
/// `InvalidInput` for no keys, keys of different rows, runs of other lengths, and a run that is not
/// ascending; those of the link.
pub fn merge_runs(
    ctx: &mut Context,
    step: &Step,
    keys: &[&BitColumn],
    runs: &[usize],
) -> Result<Merged> {
    let rows = keys.first().map_or(0, |k| k.rows());
    if keys.is_empty()
        || keys.iter().any(|k| k.rows() != rows)
        || runs.iter().sum::<usize>() != rows
    {
        return Err(invalid("keys or runs of different rows"));
    }
    let width: usize = keys.iter().map(|k| k.width()).sum();
    let run_bits = bits_for(runs.len());
    let index_bits = bits_for(rows);
    let mut numbers: Vec<u64> = Vec::with_capacity(rows);
    for (number, &length) in (0..).zip(runs) {
        numbers.extend(std::iter::repeat_n(number, length));
    }
    let run = BitColumn::public(ctx.role(), run_bits, rows, &numbers)?;
    numbers.clear();
    numbers.extend(0..rows as u64);
    let index = BitColumn::public(ctx.role(), index_bits, rows, &numbers)?;
    let columns: Vec<&BitColumn> = std::iter::once(&run)
        .chain(keys.iter().rev().copied())
        .chain(std::iter::once(&index))
        .collect();
    let mut all = BitColumn::concat(&columns)?;
    drop((run, index, numbers));

    let compared = run_bits + width;
    let mut lengths = runs.to_vec();
    for level in 0.. {
        if lengths.len() < 2 {
            break;
        }
        let step = step.at("merge", level);
        let (mut merged, mut from) = (Vec::new(), 0);
        let mut next = Vec::new();
        for (pair, lengths) in lengths.chunks(2).enumerate() {
            let length: usize = lengths.iter().sum();
            let mut part = if length == rows {
                std::mem::replace(&mut all, BitColumn::zeros(1, 0))
            } else {
                all.slice(from, length)
            };
            if lengths.len() == 2 && lengths.iter().all(|&length| length > 0) {
                let step = step.at("pair", pair);
                part = two(ctx, &step, part, lengths[0], compared)?;
            }
            merged.push(part);
            next.push(length);
            from += length;
        }
        all = match merged.len() {
            1 => merged.remove(0),
            _ => BitColumn::stacked(&merged),
        };
        lengths = next;
    }
    let sorted = all.bit_range(0, compared);
    let index = all.bit_range(compared, index_bits);
    drop(all);
    in_order(ctx, &step.narrow("check"), &sorted)?;
    let order = from_sources(ctx, &step.narrow("order"), &index)?;
    Ok(Merged {
        key: sorted.bit_range(run_bits, width),
        run: sorted.bit_range(0, run_bits),
        order,
    })
}

/// What [`merge_runs`] takes for two runs of `rows` rows in all, of keys of `width` bits in all.
#[must_use]
pub fn merge_cost(profile: LinkProfile, rows: usize, width: usize) -> Cost {
    let (levels, compared, index) = (bits_for(rows), width + 1, bits_for(rows));
    let pairs = Comparison::choose(profile, compared, rows / 2);
    let check = Comparison::choose(profile, compared, rows);
    // The order: a passage in words of 32 bits, and an opening.
    Cost {
        bits: levels * (pairs.and_gates() + compared + index) / 2
            + check.and_gates()
            + 32 * 4 / 3
            + index,
        rounds: levels * (pairs.rounds() + 1) + check.rounds() + levels + 4,
    }
}

fn invalid(what: &str) -> Error {
    Error::InvalidInput {
        operator: "merge",
        what: what.to_owned(),
    }
}

/// Bits, at least one, that hold the numbers below `count`.
fn bits_for(count: usize) -> usize {
    (usize::BITS - count.saturating_sub(1).leading_zeros()).max(1) as usize
}

/// Merges the first `first` rows with the others by their lowest `compared` bits.
fn two(
    ctx: &mut Context,
    step: &Step,
    rows: BitColumn,
    first: usize,
    compared: usize,
) -> Result<BitColumn> {
    let mut rows = turned(rows, first);
    let count = rows.rows();
    let mut stride = count.next_power_of_two() / 2;
    for level in 0.. {
        if stride == 0 {
            break;
        }
        level_of(ctx, &step.at("level", level), &mut rows, stride, compared)?;
        ctx.report(&step.at("level", level), count);
        stride /= 2;
    }
    Ok(rows)
}

/// The first `first` rows last first, then the others. Local.
fn turned(mut rows: BitColumn, first: usize) -> BitColumn {
    let words = rows.words();
    let head = plane_words(first);
    let keep = tail_mask(first);
    let mut room = vec![0; head];
    for component in [&mut rows.a, &mut rows.b] {
        for plane in component.chunks_exact_mut(words) {
            reverse_rows(&plane[..head], first, &mut room);
            let others = plane[head - 1] & !keep;
            room[head - 1] = room[head - 1] & keep | others;
            plane[..head].copy_from_slice(&room);
        }
    }
    rows
}

/// Puts all pairs of a stride in order.
fn level_of(
    ctx: &mut Context,
    step: &Step,
    rows: &mut BitColumn,
    stride: usize,
    compared: usize,
) -> Result<()> {
    let pairs = Pairs::new(rows.rows(), stride);
    let parts = pieces(pairs.words * 64, ctx.threads(), BATCH);
    let parts = parts.into_iter().map(|p| p.start / 64..p.end / 64);
    let shared = &*rows;
    let moves = ctx.parallel(parts.collect(), |ctx, number, range: Range<usize>| {
        let step = step.at("batch", number);
        pairs.moves(ctx, &step, shared, compared, range)
    })?;
    for moves in &moves {
        pairs.swap(moves, rows);
    }
    Ok(())
}

/// What is added to both rows of each pair of a range, to exchange those in wrong order; plane by plane.
struct Moves {
    range: Range<usize>,
    a: Vec<u64>,
    b: Vec<u64>,
}

/// The pairs of one stride: word `p` has 64 of them, or 32 where the last word of a plane stands alone.
struct Pairs {
    rows: usize,
    stride: usize,
    words: usize,
}

impl Pairs {
    fn new(rows: usize, stride: usize) -> Self {
        let planes = plane_words(rows);
        let words = if stride < 64 {
            planes.div_ceil(2)
        } else {
            // Whole blocks of two strides, and what the last one has of upper rows.
            let stride = stride / 64;
            let rest = planes % (2 * stride);
            planes / (2 * stride) * stride + rest.saturating_sub(stride)
        };
        Self {
            rows,
            stride,
            words,
        }
    }

    /// The bits of a word that are lower rows, for strides below a word.
    fn mask(&self) -> u64 {
        u64::MAX / ((1 << self.stride) + 1)
    }

    /// The lower and the upper rows of the pairs from word `from` on: `each(i, lower, upper)`.
    #[inline(always)]
    fn each(
        &self,
        plane: &[u64],
        from: usize,
        count: usize,
        mut each: impl FnMut(usize, u64, u64),
    ) {
        if self.stride < 64 {
            let (mask, stride) = (self.mask(), self.stride);
            for (i, words) in plane[2 * from..].chunks(2).take(count).enumerate() {
                let (x, y) = (words[0], words.get(1).copied().unwrap_or(0));
                let lower = x & mask | (y & mask) << stride;
                let upper = x >> stride & mask | y & mask << stride;
                each(i, lower, upper);
            }
            return;
        }
        let stride = self.stride / 64;
        let (mut done, mut at) = (0, from);
        while done < count {
            let block = at / stride;
            let length = (stride - at % stride).min(count - done);
            let low = 2 * block * stride + at % stride;
            let lower = &plane[low..low + length];
            let upper = &plane[low + stride..low + stride + length];
            for (i, (lower, upper)) in lower.iter().zip(upper).enumerate() {
                each(done + i, *lower, *upper);
            }
            done += length;
            at += length;
        }
    }

    /// Which pairs of a range have an upper row.
    fn whole(&self, range: &Range<usize>) -> Vec<u64> {
        let mut there = vec![u64::MAX; plane_words(self.rows)];
        if let Some(last) = there.last_mut() {
            *last = tail_mask(self.rows);
        }
        let mut out = vec![0; range.len()];
        self.each(&there, range.start, range.len(), |i, _, upper| {
            out[i] = upper
        });
        out
    }

    /// Compares, and multiplies the differences of the pairs with what came out.
    fn moves(
        &self,
        ctx: &mut Context,
        step: &Step,
        rows: &BitColumn,
        compared: usize,
        range: Range<usize>,
    ) -> Result<Moves> {
        let (planes, words) = (rows.words(), range.len());
        let plane = |bit: usize| bit * planes..(bit + 1) * planes;
        let (from, width) = (range.start, rows.width());
        let comparison = Comparison::choose(ctx.profile(), compared, words * 64);
        let side = |upper: bool| {
            Side::Made(Box::new(move |bit, a: &mut [u64], b: &mut [u64]| {
                for (out, component) in [(a, &rows.a), (b, &rows.b)] {
                    let plane = &component[plane(bit)];
                    if upper {
                        self.each(plane, from, words, |i, _, upper| out[i] = upper);
                    } else {
                        self.each(plane, from, words, |i, lower, _| out[i] = lower);
                    }
                }
            }))
        };
        let sides = [side(true), side(false)];
        let compare = step.narrow("compare");
        let mut gates = Gates::new(ctx, &compare)?;
        let (mut wrong_a, mut wrong_b) = comparison.run(ctx, &mut gates, words, &sides)?;
        for (i, whole) in self.whole(&range).into_iter().enumerate() {
            wrong_a[i] &= whole;
            wrong_b[i] &= whole;
        }
        let (mut a, mut b) = (vec![0; width * words], vec![0; width * words]);
        let (mut da, mut db) = (vec![0; words], vec![0; words]);
        gates.round(ctx, words, &mut a, &mut b, |bit, offset, tile| {
            if offset == 0 {
                let difference = |component: &[u64], out: &mut [u64]| {
                    let plane = &component[plane(bit)];
                    self.each(plane, from, words, |i, lower, upper| out[i] = lower ^ upper);
                };
                difference(&rows.a, &mut da);
                difference(&rows.b, &mut db);
            }
            let here = offset..offset + tile.len();
            let x = wrong_a[here.clone()].iter().zip(&wrong_b[here.clone()]);
            let y = da[here.clone()].iter().zip(&db[here]);
            for ((z, (xa, xb)), (ya, yb)) in tile.iter_mut().zip(x).zip(y) {
                *z ^= cross(*xa, *xb, *ya, *yb);
            }
        })?;
        Ok(Moves { range, a, b })
    }

    fn swap(&self, moves: &Moves, rows: &mut BitColumn) {
        let planes = rows.words();
        let words = moves.range.len();
        for (component, moves_of) in [(&mut rows.a, &moves.a), (&mut rows.b, &moves.b)] {
            let planes = component.chunks_exact_mut(planes);
            for (plane, moves_of) in planes.zip(moves_of.chunks_exact(words)) {
                self.add(plane, moves.range.start, moves_of);
            }
        }
    }

    /// Adds a word to both sides of 64 pairs.
    fn add(&self, plane: &mut [u64], from: usize, moves: &[u64]) {
        if self.stride < 64 {
            let (mask, stride) = (self.mask(), self.stride);
            for (words, m) in plane[2 * from..].chunks_mut(2).zip(moves) {
                let (low, high) = (m & mask, m & mask << stride);
                words[0] ^= low | low << stride;
                if let Some(second) = words.get_mut(1) {
                    *second ^= high | high >> stride;
                }
            }
            return;
        }
        let stride = self.stride / 64;
        let (mut done, mut at) = (0, from);
        while done < moves.len() {
            let block = at / stride;
            let length = (stride - at % stride).min(moves.len() - done);
            let low = 2 * block * stride + at % stride;
            let (lower, upper) = plane[low..].split_at_mut(stride);
            let moves = &moves[done..done + length];
            for ((x, y), m) in lower.iter_mut().zip(upper).zip(moves) {
                *x ^= m;
                *y ^= m;
            }
            done += length;
            at += length;
        }
    }
}

/// Refuses rows that do not ascend. Opens one bit.
fn in_order(ctx: &mut Context, step: &Step, rows: &BitColumn) -> Result<()> {
    if rows.rows() < 2 {
        return Ok(());
    }
    let before = rows.shifted_up();
    let below = less_than(ctx, &step.narrow("below"), rows, &before, false)?;
    let any = any_row(ctx, &step.narrow("any"), &below.with_first_row_zero())?;
    // Declared: whether the owners' runs are in order, as they promised.
    if reveal_one_declared_bit(ctx, &step.narrow("reveal"), &any)? {
        return Err(invalid("a run that is not in ascending order"));
    }
    Ok(())
}

/// The permutation after which row `r` is what was row `sources[r]`, where `sources` is a permutation
/// of the rows' numbers.
fn from_sources(ctx: &mut Context, step: &Step, sources: &BitColumn) -> Result<Permutation> {
    let (rows, width) = (sources.rows(), sources.width());
    let shuffle = Shuffle::draw(ctx, &step.narrow("shuffle"), rows)?;
    let moved = shuffle.bits(ctx, &step.narrow("move"), sources)?;
    let (mut a, mut b) = (moved.a, moved.b);
    for component in [&mut a, &mut b] {
        for plane in component.chunks_exact_mut(plane_words(rows).max(1)) {
            if let Some(last) = plane.last_mut() {
                *last &= tail_mask(rows);
            }
        }
    }
    // Tells nothing: a permutation moved by a uniformly random one that each party lacks a factor of
    // is uniform.
    let open = reveal_bits_that_tell_nothing(ctx, &step.narrow("reveal"), &a, &b)?;
    #[allow(clippy::cast_possible_truncation)] // Shuffle::draw has refused more rows than fit
    let open: Vec<u32> = to_rows(&open, rows, width)
        .into_iter()
        .map(|x| x as u32)
        .collect();
    // Sorted rows, shuffled and then put in the opened order's inverse, are the rows as they came.
    Ok(shuffle.in_order(&inverse_of_opened(&open)?).inverted())
}
