//! A sample of a column's distinct values, the same values of every column, so that columns of several
//! tables can be compared without keeping them (Gibbons 2001). It must not keep values, only hashes.

use std::collections::HashSet;

/// More hashes than this are thinned out, by half each time.
const MOST: usize = 1 << 15;

/// Hashes of distinct values whose last `level` bits are 0.
#[derive(Debug, Default)]
pub(super) struct Sample {
    level: u32,
    hashes: HashSet<u64>,
}

impl Sample {
    pub(super) fn see(&mut self, hash: u64) {
        if hash.trailing_zeros() < self.level {
            return;
        }
        self.hashes.insert(hash);
        while self.hashes.len() > MOST {
            self.level += 1;
            let level = self.level;
            self.hashes.retain(|hash| hash.trailing_zeros() >= level);
        }
    }

    /// About how many distinct values there are; exact where nothing was thinned out.
    pub(super) fn distinct(&self) -> u64 {
        (self.hashes.len() as u64) << self.level
    }

    /// Whether nothing was thinned out.
    pub(super) fn is_exact(&self) -> bool {
        self.level == 0
    }

    /// Of the values that both samples would keep: how many both have, this one has, the other has.
    pub(super) fn common(&self, other: &Self) -> (u64, u64, u64) {
        let level = self.level.max(other.level);
        let kept = |hash: &&u64| hash.trailing_zeros() >= level;
        let own = self.hashes.iter().filter(kept);
        let both = own.clone().filter(|hash| other.hashes.contains(*hash));
        let others = other.hashes.iter().filter(kept).count();
        (both.count() as u64, own.count() as u64, others as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hashes that look like hashes.
    fn sample(values: std::ops::Range<u64>) -> Sample {
        let mut sample = Sample::default();
        for value in values {
            for _ in 0..2 {
                sample.see(value.wrapping_mul(0x9e37_79b9_7f4a_7c15).swap_bytes());
            }
        }
        sample
    }

    #[test]
    fn few_values_are_compared_exactly() {
        let (left, right) = (sample(0..60), sample(40..140));
        assert!(left.is_exact());
        assert_eq!((left.distinct(), right.distinct()), (60, 100));
        assert_eq!(left.common(&right), (20, 60, 100));
    }

    #[test]
    fn many_values_are_compared_by_a_part_of_them() {
        let (left, right) = (sample(0..200_000), sample(100_000..200_000));
        assert!(!left.is_exact() && left.hashes.len() <= MOST);
        assert!(
            (150_000..250_000).contains(&left.distinct()),
            "{}",
            left.distinct()
        );
        let (both, own, others) = left.common(&right);
        assert_eq!(both, others, "all of the right are in the left");
        assert!(
            (own * 4 / 10..own * 6 / 10).contains(&both),
            "{both} of {own}"
        );
    }
}
