//! The comparison sort: a quicksort with many pivots over records in a uniformly random order.

use super::probe::{LARGE, PIVOTS, Probe};
use super::records::Records;
use crate::bits::choose::can_pick;
use crate::bits::places::Places;
use crate::bits::{plane_words, tail_mask};
use crate::circuit::{Comparison, Gates, Operand, Side, picoseconds};
use crate::context::{Context, pieces};
use crate::error::Result;
use crate::net::{LinkProfile, Step};
use crate::open::reveal_bits_that_tell_nothing;
use std::sync::{Mutex, PoisonError};

/// Consecutive positions that still have to be sorted among themselves.
#[derive(Clone, Copy)]
pub(super) struct Partition {
    start: u32,
    len: u32,
    /// How many of its first rows are pivots: all of them, or `2^k - 1`.
    pivots: u32,
}

/// Partitions up to this many rows compare all pairs.
const ALL_PAIRS: usize = 5;

/// Comparisons at a time: bounds memory to about 64 bytes a comparison for 100-bit keys.
const BATCH: usize = 1 << 19;

impl Partition {
    pub(super) fn new(start: usize, len: usize) -> Self {
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

    pub(super) fn start(&self) -> usize {
        self.start as usize
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn pivots(&self) -> usize {
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
pub(super) struct Quicksort {
    records: Records,
    /// The shuffled row at each position.
    order: Vec<u32>,
    /// Positions from here on need no order.
    limit: usize,
    /// Room for what is being compared, as much as threads compare at once.
    room: Mutex<Vec<Room>>,
    /// Whether rows pick each other's bits; else they are gathered.
    picks: bool,
}

/// Planes of what is being compared.
#[derive(Default)]
struct Room {
    /// The rows of a batch.
    rows: Planes,
    /// Other rows that they are compared with, where they cannot be picked from `rows`.
    others: [Planes; 2],
}

impl Quicksort {
    pub(super) fn new(records: Records, limit: usize) -> Self {
        Self {
            order: (0_u32..).take(records.rows()).collect(),
            records,
            limit,
            room: Mutex::default(),
            picks: can_pick(),
        }
    }

    /// The shuffled row at each position, and the records there.
    pub(super) fn run(mut self, ctx: &mut Context, step: &Step) -> Result<(Vec<u32>, Records)> {
        let (rows, limit) = (self.order.len(), self.limit);
        let mut all = Partition::new(0, rows);
        if let Some((sample, pivot)) = sample_for(ctx.profile(), self.records.width(), rows, limit)
        {
            let step = step.narrow("sample");
            self.sort(ctx, &step, Partition::new(0, sample), sample)?;
            self.order.swap(0, pivot);
            self.records.swap(0, pivot);
            all.pivots = 1;
        }
        self.sort(ctx, step, all, limit)?;
        Ok((self.order, self.records))
    }

    /// Sorts a partition, as far as positions below `limit` go.
    fn sort(
        &mut self,
        ctx: &mut Context,
        step: &Step,
        partition: Partition,
        limit: usize,
    ) -> Result<()> {
        let rows = partition.len();
        let mut partitions = vec![partition];
        partitions.retain(|_| limit > 0);
        for level in 0.. {
            if partitions.is_empty() {
                break;
            }
            let step = step.at("level", level);
            let ranks = self.rank_pivots(ctx, &step.narrow("pivots"), &partitions)?;
            let buckets = self.search(ctx, &step.narrow("search"), &partitions, &ranks)?;
            partitions = self.regroup(ctx, &partitions, &ranks, &buckets)?;
            partitions.retain(|p| p.start() < limit);
            let open: usize = partitions.iter().map(|p| p.len()).sum();
            ctx.report(&step, rows.saturating_sub(open));
        }
        Ok(())
    }

    /// The pivots of all partitions in ascending order, as positions, concatenated: all pairs.
    fn rank_pivots(
        &self,
        ctx: &mut Context,
        step: &Step,
        partitions: &[Partition],
    ) -> Result<Vec<u32>> {
        let pairs = |p: &Partition| p.pivots() * (p.pivots() - 1) / 2;
        let most = batch(ctx, partitions.iter().map(pairs).sum());
        let parts = batches(partitions, pairs, most);
        let sorted = ctx.parallel(parts, |ctx, number, partitions| {
            let pairs = partitions.iter().map(pairs).sum();
            let mut rows = Vec::new();
            let (mut left, mut right) = (Vec::with_capacity(pairs), Vec::with_capacity(pairs));
            for p in partitions {
                let at = position(rows.len());
                rows.extend(p.start..p.start + p.pivots);
                for i in at + 1..at + p.pivots {
                    left.extend(std::iter::repeat_n(i, (i - at) as usize));
                    right.extend(at..i);
                }
            }
            self.with_room(|room| {
                room.rows.fill(&self.records, &rows);
                let [lefts, rights] = &mut room.others;
                let sides = [
                    self.others(&room.rows, &rows, &left, lefts),
                    self.others(&room.rows, &rows, &right, rights),
                ];
                let step = step.at("batch", number);
                let less = self.compare(ctx, &step, left.len(), &sides)?;
                Ok(sorted_by(partitions, &less))
            })
        })?;
        Ok(sorted.concat())
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
                room.rows.fill(&self.records, rows);
                for round in 0.. {
                    let active = probe.active();
                    if active == 0 {
                        break;
                    }
                    let sides = [
                        Side::Planes(room.rows.operand()),
                        Side::Made(Box::new(|bit, a, b| probe.plane(bit, a, b))),
                    ];
                    let step = step.at("round", round);
                    let below = self.compare(ctx, &step, active, &sides)?;
                    drop(sides);
                    probe.decide(below);
                }
                Ok(probe.buckets())
            })
        })?;
        Ok(found.concat())
    }

    /// [`Self::search`] among rows of the same batch.
    fn search_small(
        &self,
        ctx: &mut Context,
        step: &Step,
        partitions: &[(Partition, usize)],
        sorted: &[u32],
    ) -> Result<Vec<u32>> {
        let rows = |(p, _): &(Partition, usize)| p.len();
        let most = batch(ctx, partitions.iter().map(rows).sum());
        let parts = batches(partitions, rows, most);
        let found = ctx.parallel(parts, |ctx, number, partitions| {
            let step = step.at("batch", number);
            let mut rows: Vec<u32> = Vec::new();
            let mut searches = Vec::new();
            for (p, base) in partitions {
                let search = Search {
                    shift: position(rows.len()).wrapping_sub(p.start),
                    base: position(*base),
                    half: position(p.pivots().div_ceil(2)),
                };
                searches.extend(std::iter::repeat_n(search, p.len()));
                rows.extend(p.start..p.start + p.len);
            }
            let bases: Vec<u32> = searches.iter().map(|s| s.base).collect();
            self.with_room(|room| {
                room.rows.fill(&self.records, &rows);
                let mut probed = Vec::with_capacity(rows.len());
                for round in 0.. {
                    // Partitions of more pivots come first, so those still searching are a prefix.
                    let active = searches.partition_point(|s| s.half > 0);
                    if active == 0 {
                        break;
                    }
                    probed.clear();
                    let next = searches[..active].iter().map(|s| {
                        let pivot = sorted[(s.base + s.half - 1) as usize];
                        pivot.wrapping_add(s.shift)
                    });
                    probed.extend(next);
                    let pivots = self.others(&room.rows, &rows, &probed, &mut room.others[0]);
                    let sides = [Side::Planes(room.rows.operand()), pivots];
                    let step = step.at("round", round);
                    let less = self.compare(ctx, &step, active, &sides)?;
                    for (i, s) in searches[..active].iter_mut().enumerate() {
                        let above = position((less[i / 64] >> (i % 64) & 1) as usize ^ 1);
                        s.base += s.half * above;
                        s.half /= 2;
                    }
                }
                let found = searches.iter().zip(bases).map(|(s, base)| s.base - base);
                Ok(found.collect::<Vec<u32>>())
            })
        })?;
        Ok(found.concat())
    }

    /// The rows at `places` of a batch whose `rows` are `planes`.
    fn others<'p>(
        &self,
        planes: &'p Planes,
        rows: &[u32],
        places: &[u32],
        room: &'p mut Planes,
    ) -> Side<'p> {
        if self.picks {
            let places = Places::of(places);
            return Side::Made(Box::new(move |bit, a, b| {
                let (plane_a, plane_b) = planes.plane(bit);
                places.pick(plane_a, a);
                places.pick(plane_b, b);
            }));
        }
        let others: Vec<u32> = places.iter().map(|&place| rows[place as usize]).collect();
        room.fill(&self.records, &others);
        Side::Planes(room.operand())
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
        let mut at_bucket = 0;
        for (p, base) in searched(partitions) {
            let sorted = &ranks[base..base + p.pivots()];
            let mine = &buckets[at_bucket..at_bucket + p.len()];
            at_bucket += p.len();
            let mut starts = [0_u32; PIVOTS + 1];
            for &bucket in &mine[p.pivots()..] {
                starts[bucket as usize] += 1;
            }
            let mut at = p.start;
            for (bucket, start) in starts[..=p.pivots()].iter_mut().enumerate() {
                let count = std::mem::replace(start, at);
                if count > 1 {
                    left.push(Partition::new(at as usize, count as usize));
                }
                at += count;
                if let Some(&pivot) = sorted.get(bucket) {
                    gathered[at as usize] = pivot;
                    at += 1;
                }
            }
            for (&bucket, row) in mine[p.pivots()..].iter().zip(p.start + p.pivots..) {
                let slot = &mut starts[bucket as usize];
                gathered[*slot as usize] = row;
                *slot += 1;
            }
        }
        self.order = gathered.iter().map(|&g| self.order[g as usize]).collect();
        self.records.reorder(ctx, &gathered)?;
        Ok(left)
    }

    /// Opens whether the first `rows` rows of the left side are below those of the right, a bit a pair,
    /// packed.
    fn compare(
        &self,
        ctx: &mut Context,
        step: &Step,
        rows: usize,
        sides: &[Side<'_>; 2],
    ) -> Result<Vec<u64>> {
        let comparison = Comparison::choose(ctx.profile(), self.records.width(), rows);
        let mut gates = Gates::new(ctx, step)?;
        let (mut a, mut b) = comparison.run(ctx, &mut gates, plane_words(rows), sides)?;
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

/// Where few of many rows are wanted in order: how many rows to sort as a sample, and which of them to
/// part all rows by, so that those below it most likely are enough. Of the `limit` first rows a sample
/// of `s` has about `limit s / rows`; the pivot is beyond four standard deviations of that. None where
/// the sample's rounds take longer than the comparisons that it saves.
fn sample_for(
    profile: LinkProfile,
    width: usize,
    rows: usize,
    limit: usize,
) -> Option<(usize, usize)> {
    const SAMPLE: usize = 1023;
    /// Comparisons one after the other that sort the sample.
    const DEPTH: usize = 15;
    /// Comparisons that a row would else have with the first pivots, less one.
    const SAVED: usize = 5;
    let due = limit * SAMPLE / rows.max(1);
    let pivot = due + 4 * (due + 1).isqrt();
    let few = limit > 0 && rows >= 64 * SAMPLE && pivot < SAMPLE / 4;
    let one = Comparison::choose(profile, width, SAMPLE);
    let rounds = DEPTH * (one.rounds() + 1);
    let pays = picoseconds(profile, rounds, 0, 0) < picoseconds(profile, 0, SAVED * width, rows);
    (few && pays).then_some((SAMPLE, pivot))
}

/// How many of `rows` comparisons are made at a time.
fn batch(ctx: &Context, rows: usize) -> usize {
    let first = pieces(rows, ctx.threads(), BATCH).into_iter().next();
    first.map_or(1, |piece| piece.len())
}

/// One row's binary search among the sorted pivots from `base`: `2 half - 1` of them are left.
#[derive(Clone, Copy)]
struct Search {
    /// From positions to places in the batch, modulo 2^32.
    shift: u32,
    base: u32,
    half: u32,
}

/// Consecutive partitions together until they have `most` or more.
fn batches<P>(partitions: &[P], size: impl Fn(&P) -> usize, most: usize) -> Vec<&[P]> {
    let (mut parts, mut from, mut due) = (Vec::new(), 0, 0);
    for (i, partition) in partitions.iter().enumerate() {
        due += size(partition);
        if due >= most || i + 1 == partitions.len() {
            parts.push(&partitions[from..=i]);
            (from, due) = (i + 1, 0);
        }
    }
    parts
}

/// The pivots of partitions in ascending order, as positions, concatenated; `less` has a bit for each
/// pair, whether the later one is below.
fn sorted_by(partitions: &[Partition], less: &[u64]) -> Vec<u32> {
    let mut sorted = Vec::with_capacity(partitions.iter().map(Partition::pivots).sum());
    let mut ranks = Vec::new();
    let mut at = 0;
    for p in partitions {
        ranks.clear();
        ranks.resize(p.pivots(), 0_usize);
        for i in 1..p.pivots() {
            for j in 0..i {
                let less = usize::from(less[at / 64] >> (at % 64) & 1 == 1);
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
    sorted
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
        let words = records.width() * plane_words(self.rows);
        for planes in [&mut self.a, &mut self.b] {
            if planes.len() < words {
                planes.resize(words, 0);
            }
        }
        records.planes(positions, &mut self.a[..words], &mut self.b[..words]);
    }

    /// My two components of a plane.
    fn plane(&self, bit: usize) -> (&[u64], &[u64]) {
        let stride = plane_words(self.rows);
        let range = bit * stride..(bit + 1) * stride;
        (&self.a[range.clone()], &self.b[range])
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oblivious::shuffle::rows_of;
    use crate::testing::{data, share_bits, three_parties};

    #[test]
    fn rows_are_sorted_alike_on_every_processor() {
        for (rows, width) in [(2_usize, 3_usize), (5, 40), (130, 28), (3000, 70)] {
            // The row's number makes keys differ.
            let mut stream = data(rows as u64);
            let mut keys = vec![0; rows * width.div_ceil(64)];
            for (row, key) in keys.chunks_mut(width.div_ceil(64)).enumerate() {
                let random: u64 = stream.words(1)[0];
                key[0] = (random % 4) << 12 | row as u64;
                key[0] &= u64::MAX >> 64_usize.saturating_sub(width);
            }
            let parties = three_parties(1, |ctx| {
                let column = share_bits(1, ctx.role(), width, rows, &keys)?;
                let (a, b) = rows_of(ctx, &[&column], 0, width)?;
                let sort = || Quicksort::new(Records::new(&a, &b, width), rows);
                let (picked, _) = sort().run(ctx, &Step::new("picked"))?;
                let mut gathering = sort();
                gathering.picks = false;
                Ok((picked, gathering.run(ctx, &Step::new("gathered"))?.0))
            });
            let mut due: Vec<u32> = (0_u32..).take(rows).collect();
            due.sort_by_key(|&row| {
                let each = width.div_ceil(64);
                keys[row as usize * each..][..each]
                    .iter()
                    .rev()
                    .copied()
                    .collect::<Vec<u64>>()
            });
            for ((picked, gathered), _) in parties.unwrap() {
                assert_eq!(picked, due);
                assert_eq!(gathered, due);
            }
        }
    }
}
