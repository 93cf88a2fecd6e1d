//! Small discrete logarithms: baby steps and giant steps (Shanks, 1971).

use curve25519_dalek::constants::RISTRETTO_BASEPOINT_POINT;
use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::traits::Identity;
use std::collections::HashMap;

/// Points compressed at once.
const BATCH: usize = 1 << 12;

/// Logarithms to the base `2 G` up to a bound, in memory and time of its square root.
pub(super) struct Logarithms {
    /// The number of a baby step by the start of its encoding.
    steps: HashMap<u128, u32>,
    giant: RistrettoPoint,
    count: u32,
}

impl Logarithms {
    /// For numbers up to `most`, at most 2^62.
    pub(super) fn new(most: u64) -> Self {
        // cannot fail: at most 2^31 + 1
        let count = u32::try_from(most.isqrt() + 1).unwrap_or(u32::MAX);
        let base = RISTRETTO_BASEPOINT_POINT + RISTRETTO_BASEPOINT_POINT;
        let mut steps = HashMap::with_capacity(count as usize);
        let mut point = RistrettoPoint::identity();
        let mut from = 0;
        while from < count {
            let points: Vec<RistrettoPoint> = (from..count.min(from + BATCH as u32))
                .map(|_| {
                    let this = point;
                    point += base;
                    this
                })
                .collect();
            steps.extend(names(&points).zip(from..));
            from += BATCH as u32;
        }
        Self {
            steps,
            giant: point,
            count,
        }
    }

    /// The number whose multiple of the base `point` is, if it is within the bound.
    pub(super) fn of(&self, point: RistrettoPoint) -> Option<u64> {
        let mut left = point;
        let mut giants = 0_u64;
        while giants <= u64::from(self.count) {
            let points: Vec<RistrettoPoint> = (0..BATCH.min(self.count as usize + 1))
                .map(|_| {
                    let this = left;
                    left -= self.giant;
                    this
                })
                .collect();
            let found = names(&points)
                .zip(giants..)
                .find_map(|(name, giants)| Some((*self.steps.get(&name)?, giants)));
            if let Some((step, giants)) = found {
                return Some(giants * u64::from(self.count) + u64::from(step));
            }
            giants += points.len() as u64;
        }
        None
    }
}

/// What points are told apart by.
fn names(points: &[RistrettoPoint]) -> impl Iterator<Item = u128> {
    let encoded = RistrettoPoint::double_and_compress_batch(points);
    encoded.into_iter().map(|encoded| {
        let mut name = [0; 16];
        name.copy_from_slice(&encoded.as_bytes()[..16]);
        u128::from_le_bytes(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use curve25519_dalek::scalar::Scalar;

    #[test]
    fn logarithms_up_to_the_bound_are_found() {
        let base = RISTRETTO_BASEPOINT_POINT + RISTRETTO_BASEPOINT_POINT;
        for most in [0, 1, 2, 99, 1_000_000] {
            let logarithms = Logarithms::new(most);
            for number in [0, 1, most / 3, most.saturating_sub(1), most] {
                if number <= most {
                    assert_eq!(logarithms.of(base * Scalar::from(number)), Some(number));
                }
            }
            assert_eq!(logarithms.of(base * Scalar::from(4 * most + 5000)), None);
        }
    }
}
