//! Searching sorted pivots with all rows of large partitions: what a row is compared with is chosen by
//! its opened decisions so far, plane by plane, so that no row is ever gathered for it.

use super::{Partition, Records};
use crate::bits::choose::{DECISIONS, choose};
use crate::bits::{gather_planes_into, plane_words, to_rows};

/// Pivots of a partition that is searched so, at most.
pub(super) const PIVOTS: usize = (1 << DECISIONS) - 1;

/// Rows from which on it pays: less, and the edges of partitions within words cost more than gathering.
pub(super) const LARGE: usize = 1024;

/// Consecutive rows of a batch that search the same pivots.
struct Segment {
    start: usize,
    end: usize,
    /// `2^decisions - 1` pivots.
    decisions: usize,
    /// By bit of a record: the pivots' bits in ascending order of pivots, my two components.
    a: Vec<u64>,
    b: Vec<u64>,
}

/// The searches of one batch of rows.
pub(super) struct Probe {
    segments: Vec<Segment>,
    rows: usize,
    /// For each round so far, a plane: whether a row is not below what it was compared with.
    above: Vec<Vec<u64>>,
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
        let mut at = 0;
        for (partition, base) in partitions {
            let (start, end) = (at.max(from), (at + partition.len).min(from + rows));
            at += partition.len;
            if start >= end {
                continue;
            }
            let pivots = &sorted[*base..base + partition.pivots];
            let planes = |words: &[u64]| {
                let mut planes = vec![0; records.width];
                gather_planes_into(words, pivots, records.width, &mut planes);
                planes
            };
            segments.push(Segment {
                start: start - from,
                end: end - from,
                decisions: (partition.pivots + 1).trailing_zeros() as usize,
                a: planes(&records.a),
                b: planes(&records.b),
            });
        }
        Self {
            segments,
            rows,
            above: Vec::new(),
        }
    }

    /// Rows that have another round to go, a prefix: more pivots come first.
    pub(super) fn active(&self) -> usize {
        let round = self.above.len();
        let more = self.segments.partition_point(|s| s.decisions > round);
        more.checked_sub(1)
            .map_or(0, |last| self.segments[last].end)
    }

    /// My components of the plane `bit` of what the active rows are compared with.
    pub(super) fn plane(&self, bit: usize, a: &mut [u64], b: &mut [u64]) {
        let round = self.above.len();
        for segment in self.segments.iter().filter(|s| s.decisions > round) {
            self.fill(segment, segment.a[bit], a);
            self.fill(segment, segment.b[bit], b);
        }
    }

    fn fill(&self, segment: &Segment, pivots: u64, out: &mut [u64]) {
        let round = self.above.len();
        // After the decisions `path`, the middle of the pivots that are left.
        let (skip, middle) = (
            segment.decisions - round,
            (1 << (segment.decisions - 1 - round)) - 1,
        );
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

    /// Takes the opened bits of a round: whether each active row is below.
    pub(super) fn decide(&mut self, mut below: Vec<u64>) {
        for word in &mut below {
            *word = !*word;
        }
        below.resize(plane_words(self.rows), 0);
        self.above.push(below);
    }

    /// How many pivots each row is not below.
    pub(super) fn buckets(&self) -> Vec<u32> {
        let rounds = self.above.len();
        // The last decision is the lowest bit.
        let planes: Vec<u64> = self.above.iter().rev().flatten().copied().collect();
        let words = to_rows(&planes, self.rows, rounds);
        let mut out = Vec::with_capacity(self.rows);
        for segment in &self.segments {
            let unused = rounds - segment.decisions;
            let buckets = words[segment.start..segment.end].iter();
            // cannot fail: at most 63
            out.extend(buckets.map(|word| u32::try_from(word >> unused).unwrap_or(0)));
        }
        out
    }
}
