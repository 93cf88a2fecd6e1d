//! What the neutral party does with tags: which rows of all owners carry the same tag.
//!
//! Rows are cut into parts by a keyed hash of their tag, so that each part's table stays in the
//! cache; inside a part, open addressing. The hash is keyed by the caller, because tags come from a
//! peer: nobody who does not know the key can make rows pile up in one part or chain. Knows nothing
//! of sharing.

use super::tag::{TAG_BITS, truncate};

/// Rows per part and owner, about: a table of that many stays in L2.
const PART: usize = 8192;

/// No row.
const NONE: u32 = u32::MAX;

/// A keyed hash of tags: two multiplications of 64 bits, folded.
#[derive(Clone, Copy)]
pub(super) struct TagHash([u64; 4]);

impl TagHash {
    /// From four random words.
    pub(super) fn new(key: [u64; 4]) -> Self {
        Self(key)
    }

    #[allow(clippy::cast_possible_truncation)] // folding halves is the point
    fn of(self, tag: u128) -> u64 {
        let [a, b, c, d] = self.0;
        let (low, high) = (tag as u64, (tag >> 64) as u64);
        let fold = |x: u128| (x as u64) ^ ((x >> 64) as u64);
        let first = fold(u128::from(low ^ a) * u128::from(high ^ b));
        fold(u128::from(first ^ c) * u128::from(d | 1)) ^ low.wrapping_mul(b | 1)
    }
}

/// Which owner sent one tag twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Duplicate {
    pub(super) owner: usize,
}

/// The rows that all owners have: for every owner the row, `rows[owner][match]`, in no order that
/// matters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Matches {
    pub(super) rows: Vec<Vec<u32>>,
}

/// Matches the owners' tags, of which only [`TAG_BITS`] bits count. Every owner has fewer than
/// 2^32 - 1 rows.
pub(super) fn match_tags(owners: &[Vec<u128>], hash: TagHash) -> Result<Matches, Duplicate> {
    let most = owners.iter().map(Vec::len).max().unwrap_or(0);
    let parts = (most / PART).next_power_of_two();
    let shift = 64 - parts.trailing_zeros();
    let cut: Vec<Parts> = owners
        .iter()
        .map(|tags| Parts::new(tags, hash, parts, shift))
        .collect();
    let mut matches = Matches {
        rows: vec![Vec::new(); owners.len()],
    };
    let mut table = Table::default();
    for part in 0..parts {
        table.reset(
            cut.iter().map(|parts| parts.get(part).len()).sum(),
            owners.len(),
        );
        for (owner, parts) in cut.iter().enumerate() {
            for &row in parts.get(part) {
                if !table.insert(owner, row, hash) {
                    return Err(Duplicate { owner });
                }
            }
        }
        table.collect(&mut matches);
    }
    Ok(matches)
}

/// A truncated tag with its row in the 32 bits above it.
fn with_row(tag: u128, row: u32) -> u128 {
    truncate(tag) | u128::from(row) << TAG_BITS
}

#[allow(clippy::cast_possible_truncation)] // 32 bits are left
fn row_of(packed: u128) -> u32 {
    (packed >> TAG_BITS) as u32
}

/// One owner's rows, cut into parts by hash.
struct Parts {
    rows: Vec<u128>,
    /// Part `i` is `rows[starts[i]..starts[i + 1]]`.
    starts: Vec<usize>,
}

impl Parts {
    fn new(tags: &[u128], hash: TagHash, parts: usize, shift: u32) -> Self {
        let part = |tag: u128| match parts {
            1 => 0,
            // cannot fail: below `parts`
            _ => usize::try_from(hash.of(truncate(tag)) >> shift).unwrap_or(0),
        };
        let mut starts = vec![0; parts + 1];
        for &tag in tags {
            starts[part(tag) + 1] += 1;
        }
        for i in 0..parts {
            starts[i + 1] += starts[i];
        }
        let mut next = starts.clone();
        let mut rows = vec![0; tags.len()];
        for (row, &tag) in (0..NONE).zip(tags) {
            let slot = &mut next[part(tag)];
            rows[*slot] = with_row(tag, row);
            *slot += 1;
        }
        Self { rows, starts }
    }

    fn get(&self, part: usize) -> &[u128] {
        &self.rows[self.starts[part]..self.starts[part + 1]]
    }
}

/// The distinct tags of one part, with each owner's row.
#[derive(Default)]
struct Table {
    /// Open addressing over `distinct`; [`NONE`] is free.
    slots: Vec<u32>,
    distinct: Vec<u128>,
    /// `owners` rows per distinct tag.
    rows: Vec<u32>,
    owners: usize,
}

impl Table {
    fn reset(&mut self, most: usize, owners: usize) {
        self.slots.clear();
        self.slots
            .resize((2 * most).next_power_of_two().max(2), NONE);
        self.distinct.clear();
        self.rows.clear();
        self.owners = owners;
    }

    /// False when the owner already has this tag.
    #[allow(clippy::cast_possible_truncation)] // fewer distinct tags than 2^32; the hash is masked
    fn insert(&mut self, owner: usize, packed: u128, hash: TagHash) -> bool {
        let (tag, row) = (truncate(packed), row_of(packed));
        let mask = self.slots.len() - 1;
        let mut slot = hash.of(tag) as usize & mask;
        loop {
            let index = self.slots[slot];
            if index == NONE {
                self.slots[slot] = self.distinct.len() as u32;
                self.distinct.push(tag);
                let first = self.rows.len();
                self.rows.resize(first + self.owners, NONE);
                self.rows[first + owner] = row;
                return true;
            }
            if self.distinct[index as usize] == tag {
                let place = &mut self.rows[index as usize * self.owners + owner];
                let free = *place == NONE;
                *place = row;
                return free;
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Adds the tags that every owner has.
    fn collect(&self, matches: &mut Matches) {
        for rows in self.rows.chunks_exact(self.owners) {
            if rows.iter().all(|&row| row != NONE) {
                for (list, &row) in matches.rows.iter_mut().zip(rows) {
                    list.push(row);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prss::Stream;
    use std::collections::HashMap;

    fn hash() -> TagHash {
        TagHash::new([1, u64::MAX / 3, 77, 0x9e37_79b9_7f4a_7c15])
    }

    #[test]
    fn equals_a_clear_intersection() {
        let mut stream = Stream::new(&[5; 16]);
        for owners in 2..=4 {
            for rows in [0, 1, 2, 50, 3000, 20_000] {
                // Tags in a small range overlap often; some sets are empty or smaller.
                let sets: Vec<Vec<u128>> = (0..owners)
                    .map(|owner| {
                        let count = rows >> (owner % 2);
                        let offset = owner as u32 * (rows as u32 / 5);
                        stream
                            .permutation(2 * count)
                            .into_iter()
                            .take(count)
                            .map(|x| u128::from(x + offset) << 60 | 1)
                            .collect()
                    })
                    .collect();
                let got = match_tags(&sets, hash()).unwrap();
                let maps: Vec<HashMap<u128, u32>> = sets
                    .iter()
                    .map(|set| set.iter().copied().zip(0..).collect())
                    .collect();
                let mut due: Vec<Vec<u32>> = sets[0]
                    .iter()
                    .filter_map(|tag| maps.iter().map(|map| map.get(tag).copied()).collect())
                    .collect();
                let mut got: Vec<Vec<u32>> = (0..got.rows[0].len())
                    .map(|i| got.rows.iter().map(|list| list[i]).collect())
                    .collect();
                due.sort();
                got.sort();
                assert_eq!(got, due);
            }
        }
    }

    #[test]
    fn duplicates_of_any_owner_are_found() {
        let sets = vec![vec![1, 2, 3], vec![9, 4, 9]];
        assert_eq!(match_tags(&sets, hash()), Err(Duplicate { owner: 1 }));
        let mut many: Vec<u128> = (0..100_000).collect();
        assert!(match_tags(&[many.clone()], hash()).is_ok());
        many[70_000] = 13;
        assert_eq!(match_tags(&[many], hash()), Err(Duplicate { owner: 0 }));
    }
}
