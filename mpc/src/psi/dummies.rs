//! How many dummy matches the owners add, so that the neutral party learns a noisy number of matches.
//!
//! With two owners there is one overlap. With more, the neutral party sees which rows exactly the owners
//! of a set S have in common, for every S of two or more: each of these overlaps gets its own dummies.
//!
//! The number of each is `clamp(T + L, 0, 2 T)` with L discrete Laplace, P(L = x) proportional to
//! `exp(-epsilon |x|)`, drawn exactly, without floating point, by algorithm 2 of Canonne, Kamath and
//! Steinke, "The Discrete Gaussian for Differential Privacy", NeurIPS 2020. Adding or removing one key
//! of one owner moves an overlap by at most one, so the neutral party's view of it is
//! (epsilon, delta)-differentially private with delta at most `2 P(L >= T)`: only the two clamped ends
//! can tell neighbours apart by more than a factor `exp(epsilon)`. With three or more owners a key can
//! move from one overlap to another: two numbers change by one, and epsilon and delta count twice.
//! Knows nothing of rows.

use crate::prss::Stream;

/// The public parameters of the dummies of one alignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dummies {
    /// Epsilon is `numerator / denominator`.
    numerator: u32,
    denominator: u32,
    /// `T`: the number of dummies in the middle.
    middle: u32,
}

impl Dummies {
    /// No dummies: the neutral party learns the exact number of matches. To be declared as such.
    pub const NONE: Self = Self {
        numerator: 1,
        denominator: 1,
        middle: 0,
    };

    /// Dummies for epsilon = `numerator / denominator` (both positive) and delta at most
    /// `2^(1 - delta_bits)`. `None` when a parameter is zero or there would be 2^24 dummies or more.
    #[must_use]
    pub fn new(numerator: u32, denominator: u32, delta_bits: u32) -> Option<Self> {
        if numerator == 0 || denominator == 0 {
            return None;
        }
        // exp(-epsilon T) <= 2^-bits; 0.6932 is just above ln 2.
        let scaled = u64::from(delta_bits) * 6932 * u64::from(denominator);
        let middle = scaled.div_ceil(10_000 * u64::from(numerator));
        (middle < 1 << 23).then_some(Self {
            numerator,
            denominator,
            middle: u32::try_from(middle).ok()?,
        })
    }

    /// The most dummies that one owner can have among `owners` owners: padded sizes leave room for
    /// so many. With two owners [`Dummies::most`], with three 3 times, with four 7 times that.
    #[must_use]
    pub fn headroom(&self, owners: usize) -> usize {
        let overlaps = u32::try_from(owners.saturating_sub(1))
            .ok()
            .and_then(|others| 1_usize.checked_shl(others))
            .map_or(usize::MAX, |sets| sets - 1);
        overlaps.saturating_mul(self.most())
    }

    /// The most dummies of one overlap.
    #[must_use]
    pub fn most(&self) -> usize {
        2 * self.middle as usize
    }

    /// Draws the number of dummies; all owners draw it from the same stream.
    pub(super) fn draw(&self, stream: &mut Stream) -> usize {
        let middle = i64::from(self.middle);
        let noisy = middle.saturating_add(self.laplace(stream));
        usize::try_from(noisy.clamp(0, 2 * middle)).unwrap_or(0)
    }

    fn laplace(&self, stream: &mut Stream) -> i64 {
        let (s, t) = (u64::from(self.numerator), u64::from(self.denominator));
        loop {
            let fraction = below(stream, t);
            if !decays(stream, fraction, t) {
                continue;
            }
            let mut whole = 0;
            while decays(stream, 1, 1) {
                whole += 1;
            }
            let size = i64::try_from((fraction + t * whole) / s).unwrap_or(i64::MAX);
            let negative = below(stream, 2) == 1;
            if negative && size == 0 {
                continue;
            }
            return if negative { -size } else { size };
        }
    }
}

/// True with probability `exp(-a / b)`, `a <= b`.
fn decays(stream: &mut Stream, a: u64, b: u64) -> bool {
    let mut k = 1;
    while below(stream, b * k) < a {
        k += 1;
    }
    k % 2 == 1
}

/// Uniform below `bound`, by rejection.
fn below(stream: &mut Stream, bound: u64) -> u64 {
    let zone = u64::MAX - u64::MAX % bound;
    loop {
        let mut word = [0_u64];
        stream.fill(&mut word);
        if word[0] < zone {
            return word[0] % bound;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_is_discrete_laplace() {
        for (numerator, denominator) in [(1, 2), (1, 1), (3, 2)] {
            let dummies = Dummies::new(numerator, denominator, 40).unwrap();
            let epsilon = f64::from(numerator) / f64::from(denominator);
            let mut stream = Stream::new(&[8; 16]);
            let draws = 40_000;
            let mut counts = vec![0_u32; dummies.most() + 1];
            for _ in 0..draws {
                counts[dummies.draw(&mut stream)] += 1;
            }
            let scale = (1.0 - (-epsilon).exp()) / (1.0 + (-epsilon).exp());
            for distance in 0..5_usize {
                let due = f64::from(draws) * scale * (-epsilon * distance as f64).exp();
                for at in [distance, 0].map(|d| dummies.most() / 2 - distance + 2 * d) {
                    let off = (f64::from(counts[at]) - due).abs();
                    assert!(
                        off < 6.0 * due.sqrt() + 1.0,
                        "{at}: {} for {due}",
                        counts[at]
                    );
                }
            }
        }
    }

    #[test]
    fn bounds_hold() {
        assert_eq!(Dummies::NONE.draw(&mut Stream::new(&[1; 16])), 0);
        assert_eq!(Dummies::new(1, 1, 30).unwrap().most(), 42);
        assert_eq!(Dummies::new(1, 1, 30).unwrap().headroom(2), 42);
        assert_eq!(Dummies::new(1, 1, 30).unwrap().headroom(3), 3 * 42);
        assert_eq!(Dummies::NONE.headroom(500), 0);
        assert!(Dummies::new(0, 1, 30).is_none());
        assert!(Dummies::new(1, 0, 30).is_none());
        assert!(Dummies::new(1, u32::MAX, 30).is_none());
        let tight = Dummies {
            numerator: 1,
            denominator: 50,
            middle: 3,
        };
        let mut stream = Stream::new(&[2; 16]);
        assert!((0..1000).all(|_| tight.draw(&mut stream) <= 6));
    }
}
