//! Chance that depends on a seed alone: the same on every machine, for every version of every
//! library, and for every order of generation. Never for anything secret.

/// A stream of numbers for one subject.
///
/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Debug, Clone)]
pub(super) struct Chance(u64);

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Chance {
    /// The stream of subject `index` for one `topic` under a seed.
    pub(super) fn new(seed: u64, topic: u64, index: u64) -> Self {
        Self(mix(mix(mix(seed.wrapping_add(GAMMA)) ^ topic)
            .wrapping_add(GAMMA)
            ^ index))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // The bias of this reduction is below 2^-32 for the bounds used here.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// True in `share` of 1000 cases.
    pub(super) fn permille(&mut self, share: u64) -> bool {
        self.below(1000) < share
    }

    /// One of these.
    pub(super) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }

    /// The position of a choice with these weights.
    pub(super) fn weighted(&mut self, weights: impl Iterator<Item = u64> + Clone) -> usize {
        let mut rest = self.below(weights.clone().sum());
        for (position, weight) in weights.enumerate() {
            if rest < weight {
                return position;
            }
            rest -= weight;
        }
        0
    }

    /// A draw from a distribution given by (cumulative share in 1/1000, value), linear in between.
    pub(super) fn quantile(&mut self, curve: &[(i64, i64)]) -> i64 {
        let draw = self.below(1_000_000) as i64;
        let (mut from, mut low) = curve[0];
        for &(share, value) in &curve[1..] {
            if draw < share * 1000 {
                return low + (value - low) * (draw - from * 1000) / ((share - from) * 1000);
            }
            (from, low) = (share, value);
        }
        low
    }
}
