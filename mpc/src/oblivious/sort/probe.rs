//! Searching sorted pivots with all rows of large partitions: what a row is compared with is chosen by
//! its opened decisions so far, plane by plane, so that no row is ever gathered for it.

use super::quicksort::Partition;
use super::records::Records;
use crate::bits::choose::{DECISIONS, Range, can_pick, choose, pick, step};
use crate::bits::{plane_words, to_rows};

/// Pivots of a partition that is searched so, at most.
pub(super) const PIVOTS: usize = (1 << DECISIONS) - 1;

/// Rows from which on it pays: less, and the edges of partitions within words cost more than gathering.
pub(super) const LARGE: usize = 128;

/// The searches of one batch of rows.
pub(super) struct Probe {
    /// Consecutive rows that search the same pivots.
    segments: Vec<Range>,
    /// The number of decisions of each segment: it has `2^decisions - 1` pivots.
    decisions: Vec<usize>,
    /// Of each bit of a record and each segment, the pivots' bits in ascending order of pivots; my two
    /// components.
    a: Vec<u64>,
    b: Vec<u64>,
    rows: usize,
    /// For each round so far, a plane: whether a row is not below what it was compared with.
    above: Vec<Vec<u64>>,
    /// The number of the pivot that each row is compared with next, if rows pick it.
    number: Option<Vec<[u8; 64]>>,
}

impl Probe {
    /// The rows `from..from + rows` of the partitions, one after the other; `sorted` are all pivots'
    /// positions, those of a partition from its second number on.
    pub(super) fn new(
        records: &Records,
        partitions: &[(Partition, usize)],
        sorted: &[u32],
        from: usize,
        rows: usize,
    ) -> Self {
        let mut segments = Vec::new();
        let mut decisions = Vec::new();
        let mut pivots = Vec::new();
        let mut at = 0;
        for (partition, base) in partitions {
            let (start, end) = (at.max(from), (at + partition.len()).min(from + rows));
            at += partition.len();
            if start >= end {
                continue;
            }
            segments.push(Range {
                start: start - from,
                end: end - from,
            });
            decisions.push((partition.pivots() + 1).trailing_zeros() as usize);
            // A word of pivots each, the last one as often as it takes.
            let mine = &sorted[*base..base + partition.pivots()];
            pivots.extend((0..64).map(|i| mine[i.min(mine.len() - 1)]));
        }
        let planes = || vec![0; records.width() * segments.len()];
        let (mut a, mut b) = (planes(), planes());
        records.planes(&pivots, &mut a, &mut b);
        let number = can_pick().then(|| {
            let mut number = vec![[0; 64]; plane_words(rows)];
            for (segment, decisions) in segments.iter().zip(&decisions) {
                // cannot fail: at most 31
                let middle = u8::try_from((1 << (decisions - 1)) - 1).unwrap_or(0);
                number.as_flattened_mut()[segment.start..segment.end].fill(middle);
            }
            number
        });
        Self {
            a,
            b,
            segments,
            decisions,
            rows,
            above: Vec::new(),
            number,
        }
    }

    /// Segments that have another round to go, a prefix: more pivots come first.
    fn active_segments(&self) -> usize {
        let round = self.above.len();
        self.decisions.partition_point(|&d| d > round)
    }

    /// Rows that have another round to go, a prefix.
    pub(super) fn active(&self) -> usize {
        let last = self.active_segments().checked_sub(1);
        last.map_or(0, |last| self.segments[last].end)
    }

    /// My components of the plane `bit` of what the active rows are compared with.
    pub(super) fn plane(&self, bit: usize, a: &mut [u64], b: &mut [u64]) {
        let (all, active) = (self.segments.len(), self.active_segments());
        let segments = &self.segments[..active];
        for (pivots, out) in [(&self.a, a), (&self.b, b)] {
            let pivots = &pivots[bit * all..][..active];
            match &self.number {
                Some(number) => pick(segments, pivots, number, out),
                None => self.by_tree(pivots, out),
            }
        }
    }

    /// [`pick`] on any processor.
    fn by_tree(&self, pivots: &[u64], out: &mut [u64]) {
        let round = self.above.len();
        for ((segment, &pivots), &depth) in self.segments.iter().zip(pivots).zip(&self.decisions) {
            // After the decisions `path`, the middle of the pivots that are left.
            let (skip, middle) = (depth - round, (1 << (depth - 1 - round)) - 1);
            let mut leaves = [0; 1 << (DECISIONS - 1)];
            for (path, leaf) in leaves[..1 << round].iter_mut().enumerate() {
                *leaf = 0_u64.wrapping_sub(pivots >> ((path << skip) + middle) & 1);
            }
            let (first, last) = (segment.start / 64, (segment.end - 1) / 64);
            let mut decisions: [&[u64]; DECISIONS] = [&[]; DECISIONS];
            for (decision, plane) in decisions.iter_mut().zip(&self.above) {
                *decision = &plane[first..=last];
            }
            // The first word's low rows are the segment's before.
            let before = out[first];
            let keep = (1 << (segment.start % 64)) - 1;
            choose(
                &decisions[..round],
                &leaves[..1 << round],
                &mut out[first..=last],
            );
            out[first] = before & keep | out[first] & !keep;
        }
    }

    /// Takes the opened bits of a round: whether each active row is below.
    pub(super) fn decide(&mut self, mut below: Vec<u64>) {
        for word in &mut below {
            *word = !*word;
        }
        below.resize(plane_words(self.rows), 0);
        let round = self.above.len();
        if let Some(number) = &mut self.number {
            for (segment, &depth) in self.segments.iter().zip(&self.decisions) {
                let Some(by) = depth.checked_sub(round + 2).map(|power| 1_u8 << power) else {
                    continue;
                };
                step(number, &below, *segment, by);
            }
        }
        self.above.push(below);
    }

    /// How many pivots each row is not below.
    pub(super) fn buckets(&self) -> Vec<u32> {
        let rounds = self.above.len();
        // The last decision is the lowest bit.
        let planes: Vec<u64> = self.above.iter().rev().flatten().copied().collect();
        let words = to_rows(&planes, self.rows, rounds);
        let mut out = Vec::with_capacity(self.rows);
        for (segment, decisions) in self.segments.iter().zip(&self.decisions) {
            let unused = rounds - decisions;
            let buckets = words[segment.start..segment.end].iter();
            // cannot fail: at most 63
            out.extend(buckets.map(|word| u32::try_from(word >> unused).unwrap_or(0)));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::data;

    #[test]
    fn rows_pick_what_the_tree_chooses() {
        let (mut stream, rows, width) = (data(5), 3000, 70);
        let mut words = || -> Vec<u64> { stream.words(2 * rows) };
        let records = Records::new(&words(), &words(), width);
        let sizes = [1100, 1000, 500, 270, 130];
        let (mut partitions, mut sorted, mut at) = (Vec::new(), Vec::new(), 0);
        for len in sizes {
            let partition = Partition::new(at, len);
            partitions.push((partition, sorted.len()));
            let order = stream.permutation(partition.pivots());
            sorted.extend(order.iter().map(|i| i + at as u32));
            at += len;
        }
        let make = || Probe::new(&records, &partitions, &sorted, 0, rows);
        let (mut picks, mut tree) = (make(), make());
        tree.number = None;
        while tree.active() > 0 {
            let active = tree.active();
            assert_eq!(picks.active(), active);
            for bit in 0..width {
                let plane = |probe: &Probe| {
                    let (mut a, mut b) =
                        (vec![0; plane_words(active)], vec![0; plane_words(active)]);
                    probe.plane(bit, &mut a, &mut b);
                    for component in [&mut a, &mut b] {
                        *component.last_mut().unwrap() &= crate::bits::tail_mask(active);
                    }
                    (a, b)
                };
                assert_eq!(plane(&picks), plane(&tree));
            }
            let below: Vec<u64> = stream.words(plane_words(active));
            picks.decide(below.clone());
            tree.decide(below);
        }
        assert_eq!(picks.buckets(), tree.buckets());
    }
}
