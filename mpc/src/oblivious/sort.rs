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
pub(super) mod radix;

use super::shuffle::{Cut, Permutation, Shuffle, permute_table, rows_of};
use probe::{LARGE, PIVOTS, Probe};

use crate::bits::{gather_planes_into, plane_words, row_words, tail_mask};
use crate::circuit::{Comparison, Gates, Operand, Right};
use crate::context::{Context, pieces};
use crate::error::{Error, Result};
use crate::net::{LinkProfile, Step};
use crate::open::reveal_bits_that_tell_nothing;
use crate::share::BitColumn;
use crate::table::SharedTable;
use std::sync::{Mutex, PoisonError};

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
/// against the first pivots, and theirs among each other), those of the rows kept, and the passage of
/// all rows.
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
    let records = Records {
        a,
        b,
        width,
        stride,
    };
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

/// Row-major shared keys.
struct Records {
    a: Vec<u64>,
    b: Vec<u64>,
    width: usize,
    stride: usize,
}

/// Consecutive positions that still have to be sorted among themselves.
#[derive(Clone, Copy)]
struct Partition {
    start: u32,
    len: u32,
    /// How many of its first rows are pivots: all of them, or `2^k - 1`.
    pivots: u32,
}

/// Partitions up to this many rows compare all pairs.
const ALL_PAIRS: usize = 5;

/// Computing and sending one bit of a radix sort, of mostly 32-bit words moved about.
const RADIX_PICOSECONDS: u128 = 300;

/// The same of a comparison sort, of gates on gathered planes.
const COMPARISON_PICOSECONDS: u128 = 400;

/// Comparisons at a time: bounds memory to about 64 bytes a comparison for 100-bit keys.
const BATCH: usize = 1 << 19;

impl Partition {
    fn new(start: usize, len: usize) -> Self {
        let (start, rows) = (position(start), position(len));
        if len <= ALL_PAIRS {
            return Self {
                start,
                len: rows,
                pivots: rows,
            };
        }
        // The largest 2^k - 1 below about sqrt(2 len): its pairs then cost at most one comparison a row.
        let mut pivots = 3;
        while (2 * pivots + 1) * (2 * pivots + 1) <= 2 * len && pivots < PIVOTS {
            pivots = 2 * pivots + 1;
        }
        Self {
            start,
            len: rows,
            pivots: position(pivots),
        }
    }

    fn start(&self) -> usize {
        self.start as usize
    }

    fn len(&self) -> usize {
        self.len as usize
    }

    fn pivots(&self) -> usize {
        self.pivots as usize
    }

    fn is_searched(&self) -> bool {
        self.pivots < self.len
    }

    fn is_large(&self) -> bool {
        self.len() >= LARGE
    }
}

/// The state of the sort: records in their current order.
struct Quicksort {
    records: Records,
    /// The shuffled row at each position.
    order: Vec<u32>,
    /// Room for records that move.
    spare: Vec<u64>,
    /// Positions from here on need no order.
    limit: usize,
    /// Room for what is being compared, as much as threads compare at once.
    room: Mutex<Vec<Room>>,
}

/// The two sides of a comparison.
#[derive(Default)]
struct Room {
    left: Planes,
    right: Planes,
}

impl Quicksort {
    fn new(records: Records, limit: usize) -> Self {
        let rows = records.a.len() / records.stride;
        Self {
            records,
            order: (0_u32..).take(rows).collect(),
            spare: Vec::new(),
            limit,
            room: Mutex::default(),
        }
    }

    fn run(mut self, ctx: &mut Context, step: &Step) -> Result<Vec<u32>> {
        let rows = self.order.len();
        let mut partitions = vec![Partition::new(0, rows)];
        partitions.retain(|_| self.limit > 0);
        for level in 0.. {
            if partitions.is_empty() {
                break;
            }
            let step = step.at("level", level);
            let ranks = self.rank_pivots(ctx, &step.narrow("pivots"), &partitions)?;
            let buckets = self.search(ctx, &step.narrow("search"), &partitions, &ranks)?;
            partitions = self.regroup(ctx, &partitions, &ranks, &buckets)?;
            partitions.retain(|p| p.start() < self.limit);
            let open: usize = partitions.iter().map(|p| p.len()).sum();
            ctx.report(&step, rows - open);
        }
        Ok(self.order)
    }

    /// The pivots of all partitions in ascending order, as positions, concatenated: all pairs.
    fn rank_pivots(
        &self,
        ctx: &mut Context,
        step: &Step,
        partitions: &[Partition],
    ) -> Result<Vec<u32>> {
        let mut pairs = Vec::new();
        for p in partitions {
            for i in 1..p.pivots() {
                for j in 0..i {
                    pairs.push((position(p.start() + i), position(p.start() + j)));
                }
            }
        }
        let parts = pairs.chunks(batch(ctx, pairs.len())).collect();
        let bits = ctx.parallel(parts, |ctx, number, pairs| {
            let (left, right): (Vec<u32>, Vec<u32>) = pairs.iter().copied().unzip();
            self.with_room(|room| {
                room.left.fill(&self.records, &left);
                room.right.fill(&self.records, &right);
                let right = Right::Planes(room.right.operand());
                let step = step.at("batch", number);
                self.compare(ctx, &step, pairs.len(), &room.left, &right)
            })
        })?;
        let bits = bits.concat();
        let mut sorted = Vec::with_capacity(partitions.iter().map(|p| p.pivots()).sum());
        let mut ranks = Vec::new();
        let mut at = 0;
        for p in partitions {
            ranks.clear();
            ranks.resize(p.pivots(), 0_usize);
            for i in 1..p.pivots() {
                for j in 0..i {
                    let less = usize::from(bits[at / 64] >> (at % 64) & 1 == 1);
                    ranks[j] += less;
                    ranks[i] += 1 - less;
                    at += 1;
                }
            }
            let base = sorted.len();
            sorted.resize(base + p.pivots(), 0);
            for (i, &rank) in ranks.iter().enumerate() {
                sorted[base + rank] = position(p.start() + i);
            }
        }
        Ok(sorted)
    }

    /// For every row of every searched partition, in the order of [`searched`], how many pivots it is
    /// not below. The entries of the pivots themselves are of no use.
    fn search(
        &self,
        ctx: &mut Context,
        step: &Step,
        partitions: &[Partition],
        sorted: &[u32],
    ) -> Result<Vec<u32>> {
        let all = searched(partitions);
        let (large, small) = all.split_at(all.partition_point(|(p, _)| p.is_large()));
        let mut found = self.search_large(ctx, &step.narrow("large"), large, sorted)?;
        found.extend(self.search_small(ctx, &step.narrow("small"), small, sorted)?);
        Ok(found)
    }

    /// [`Self::search`] by [`Probe`]s.
    fn search_large(
        &self,
        ctx: &mut Context,
        step: &Step,
        partitions: &[(Partition, usize)],
        sorted: &[u32],
    ) -> Result<Vec<u32>> {
        let rows = partitions
            .iter()
            .flat_map(|(p, _)| p.start()..p.start() + p.len());
        let rows: Vec<u32> = rows.map(position).collect();
        let length = batch(ctx, rows.len());
        let found = ctx.parallel(rows.chunks(length).collect(), |ctx, number, rows| {
            let step = step.at("batch", number);
            let from = number * length;
            let mut probe = Probe::new(&self.records, partitions, sorted, from, rows.len());
            self.with_room(|room| {
                room.left.fill(&self.records, rows);
                for round in 0.. {
                    let active = probe.active();
                    if active == 0 {
                        break;
                    }
                    let make = |bit: usize, a: &mut [u64], b: &mut [u64]| probe.plane(bit, a, b);
                    let right = Right::Made(&make);
                    let step = step.at("round", round);
                    let below = self.compare(ctx, &step, active, &room.left, &right)?;
                    probe.decide(below);
                }
                Ok(probe.buckets())
            })
        })?;
        Ok(found.concat())
    }

    /// [`Self::search`] by gathering the pivots.
    fn search_small(
        &self,
        ctx: &mut Context,
        step: &Step,
        partitions: &[(Partition, usize)],
        sorted: &[u32],
    ) -> Result<Vec<u32>> {
        let mut rows = Vec::new();
        for (p, base) in partitions {
            rows.extend((p.start()..p.start() + p.len()).map(|row| Search {
                row: position(row),
                base: position(*base),
                half: position(p.pivots().div_ceil(2)),
            }));
        }
        let length = batch(ctx, rows.len());
        let found = ctx.parallel(rows.chunks_mut(length).collect(), |ctx, number, rows| {
            let step = step.at("batch", number);
            let positions: Vec<u32> = rows.iter().map(|r| r.row).collect();
            let bases: Vec<u32> = rows.iter().map(|r| r.base).collect();
            self.with_room(|room| {
                room.left.fill(&self.records, &positions);
                let mut right = positions;
                for round in 0.. {
                    // Partitions of more pivots come first, so those still searching are a prefix.
                    let active = rows.partition_point(|r| r.half > 0);
                    if active == 0 {
                        break;
                    }
                    right.clear();
                    let probes = rows[..active]
                        .iter()
                        .map(|r| sorted[(r.base + r.half - 1) as usize]);
                    right.extend(probes);
                    room.right.fill(&self.records, &right);
                    let probed = Right::Planes(room.right.operand());
                    let step = step.at("round", round);
                    let less = self.compare(ctx, &step, active, &room.left, &probed)?;
                    for (i, r) in rows[..active].iter_mut().enumerate() {
                        let above = position((less[i / 64] >> (i % 64) & 1) as usize ^ 1);
                        r.base += r.half * above;
                        r.half /= 2;
                    }
                }
                let found = rows.iter().zip(bases).map(|(r, base)| r.base - base);
                Ok(found.collect::<Vec<u32>>())
            })
        })?;
        Ok(found.concat())
    }

    /// Runs `compare` with memory that is used again.
    fn with_room<T>(&self, compare: impl FnOnce(&mut Room) -> Result<T>) -> Result<T> {
        let rooms = || self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let mut room = rooms().pop().unwrap_or_default();
        let result = compare(&mut room);
        rooms().push(room);
        result
    }

    /// Moves rows to their place among the pivots; the partitions between pivots are what is left.
    fn regroup(
        &mut self,
        ctx: &mut Context,
        partitions: &[Partition],
        ranks: &[u32],
        buckets: &[u32],
    ) -> Result<Vec<Partition>> {
        let mut gathered: Vec<u32> = (0_u32..).take(self.order.len()).collect();
        let mut base = 0;
        for p in partitions {
            if !p.is_searched() {
                gathered[p.start()..p.start() + p.len()]
                    .copy_from_slice(&ranks[base..base + p.len()]);
            }
            base += p.pivots();
        }
        let mut left = Vec::new();
        let (mut counts, mut starts) = (Vec::new(), Vec::new());
        let mut at_bucket = 0;
        for (p, base) in searched(partitions) {
            let sorted = &ranks[base..base + p.pivots()];
            let mine = &buckets[at_bucket..at_bucket + p.len()];
            at_bucket += p.len();
            counts.clear();
            counts.resize(p.pivots() + 1, 0_usize);
            for &bucket in &mine[p.pivots()..] {
                counts[bucket as usize] += 1;
            }
            starts.clear();
            let mut at = p.start();
            for (bucket, &count) in counts.iter().enumerate() {
                starts.push(at);
                if count > 1 {
                    left.push(Partition::new(at, count));
                }
                at += count;
                if bucket < p.pivots() {
                    gathered[at] = sorted[bucket];
                    at += 1;
                }
            }
            for (i, &bucket) in mine.iter().enumerate().skip(p.pivots()) {
                let slot = &mut starts[bucket as usize];
                gathered[*slot] = position(p.start() + i);
                *slot += 1;
            }
        }
        self.order = gathered.iter().map(|&g| self.order[g as usize]).collect();
        let cut = Cut::new(gathered.len(), self.records.stride, ctx.threads());
        for words in [&mut self.records.a, &mut self.records.b] {
            self.spare.resize(words.len(), 0);
            cut.each(ctx, &mut self.spare, |_, _, from, out| {
                cut.gather(out, words, &gathered, from);
                Ok(())
            })?;
            std::mem::swap(words, &mut self.spare);
        }
        Ok(left)
    }

    /// Opens whether the first `rows` rows of `left` are below those of `right`, a bit a pair, packed.
    fn compare(
        &self,
        ctx: &mut Context,
        step: &Step,
        rows: usize,
        left: &Planes,
        right: &Right<'_>,
    ) -> Result<Vec<u64>> {
        let comparison = Comparison::choose(ctx.profile(), self.records.width, rows);
        let mut gates = Gates::new(ctx, step)?;
        let left = left.operand();
        let (mut a, mut b) = comparison.run(ctx, &mut gates, plane_words(rows), left, right)?;
        let mask = tail_mask(rows);
        for component in [&mut a, &mut b] {
            if let Some(last) = component.last_mut() {
                *last &= mask;
            }
        }
        // Tells nothing: the order of distinct keys in uniformly random places is uniformly random,
        // and these bits are a function of that order.
        reveal_bits_that_tell_nothing(ctx, &step.narrow("open"), &a, &b)
    }
}

/// How many of `rows` comparisons are made at a time.
fn batch(ctx: &Context, rows: usize) -> usize {
    let first = pieces(rows, ctx.threads(), BATCH).into_iter().next();
    first.map_or(1, |piece| piece.len())
}

/// One row's binary search among the sorted pivots from `base`: `2 half - 1` of them are left.
struct Search {
    row: u32,
    base: u32,
    half: u32,
}

/// The partitions that need a search, large ones first, then those of most pivots, each with where its
/// sorted pivots begin.
fn searched(partitions: &[Partition]) -> Vec<(Partition, usize)> {
    let mut base = 0;
    // By size, then by the number of pivots, which is a power of 2 less 1.
    let mut classes: [[Vec<(Partition, usize)>; 7]; 2] = Default::default();
    for &p in partitions {
        if p.is_searched() {
            let power = (p.pivots() + 1).trailing_zeros() as usize;
            classes[usize::from(!p.is_large())][6 - power].push((p, base));
        }
        base += p.pivots();
    }
    classes.into_iter().flatten().flatten().collect()
}

/// Planes of some records; the memory is kept from one use to the next.
#[derive(Default)]
struct Planes {
    a: Vec<u64>,
    b: Vec<u64>,
    rows: usize,
}

impl Planes {
    /// The records at `positions`, in that order.
    fn fill(&mut self, records: &Records, positions: &[u32]) {
        self.rows = positions.len();
        let words = records.width * plane_words(self.rows);
        for (planes, words_in) in [(&mut self.a, &records.a), (&mut self.b, &records.b)] {
            if planes.len() < words {
                planes.resize(words, 0);
            }
            gather_planes_into(words_in, positions, records.width, &mut planes[..words]);
        }
    }

    fn operand(&self) -> Operand<'_> {
        Operand {
            a: &self.a,
            b: &self.b,
            stride: plane_words(self.rows),
        }
    }
}

/// A position as 32 bits: [`Shuffle::draw`] has refused more rows than fit.
#[allow(clippy::cast_possible_truncation)]
fn position(row: usize) -> u32 {
    row as u32
}
