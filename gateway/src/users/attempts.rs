//! Logins that failed, by name, and how long the next answer waits.

use super::secret::Digest;
use std::collections::HashMap;
use std::time::Duration;

/// The answer to a first failure waits this long.
const FIRST: Duration = Duration::from_millis(500);
/// No answer waits longer.
const LONGEST: Duration = Duration::from_secs(5);
/// Names that are remembered. Whoever wants one forgotten must fail with this many others.
const NAMES: usize = 4_096;

/// How long the answer to the `failures`-th failure in a row waits: twice as long each time.
pub(super) fn delay(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (FIRST * (1 << doublings)).min(LONGEST)
}

/// Failures in a row of the names that failed last, whether or not there are such users.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// By digest, so that a long name takes no more room.
    names: HashMap<Digest, Failures>,
    clock: u64,
}

#[derive(Debug, Default)]
struct Failures {
    in_a_row: u32,
    last: u64,
}

impl Attempts {
    /// Counts a failure of this name; the number of those in a row.
    pub(super) fn failed(&mut self, name: &str) -> u32 {
        let name = Digest::of(name);
        self.clock += 1;
        if self.names.len() >= NAMES && !self.names.contains_key(&name) {
            let oldest = self.names.iter().min_by_key(|(_, failures)| failures.last);
            if let Some(oldest) = oldest.map(|(name, _)| *name) {
                self.names.remove(&oldest);
            }
        }
        let failures = self.names.entry(name).or_default();
        failures.in_a_row = failures.in_a_row.saturating_add(1);
        failures.last = self.clock;
        failures.in_a_row
    }

    /// Forgets the failures of this name.
    pub(super) fn succeeded(&mut self, name: &str) {
        self.names.remove(&Digest::of(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_five_seconds() {
        let millis: Vec<u128> = [1, 2, 3, 4, 5, 6, u32::MAX]
            .map(|failures| delay(failures).as_millis())
            .to_vec();
        assert_eq!(millis, [500, 1_000, 2_000, 4_000, 5_000, 5_000, 5_000]);
        assert_eq!(delay(0), FIRST);
    }

    #[test]
    fn failures_are_counted_by_name_until_a_success() {
        let mut attempts = Attempts::default();
        assert_eq!(attempts.failed("li"), 1);
        assert_eq!(attempts.failed("wang"), 1);
        assert_eq!(attempts.failed("li"), 2);
        attempts.succeeded("li");
        assert_eq!(attempts.failed("li"), 1);
        assert_eq!(attempts.failed("wang"), 2);
    }

    #[test]
    fn the_table_of_names_is_bounded_and_forgets_the_oldest() {
        let mut attempts = Attempts::default();
        attempts.failed("first");
        attempts.failed("second");
        attempts.failed("first");
        for index in 0..NAMES - 1 {
            attempts.failed(&format!("name{index}"));
        }
        assert_eq!(attempts.names.len(), NAMES);
        assert_eq!(attempts.failed("first"), 3);
        assert_eq!(attempts.failed("second"), 1, "was the oldest");
        assert_eq!(attempts.names.len(), NAMES);
    }
}
