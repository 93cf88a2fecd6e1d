//! Public sizes: what every party may know about how many rows a fragment has.

use crate::error::{Code, Error, Result};
use crate::plan::PublicSize;

/// The smallest bucket.
const FLOOR: u64 = 128;

/// The largest size that is shared: 2^28 rows.
const CEILING: u64 = 1 << 28;

/// The smallest bucket of the series {1, 1.25, 1.5, 1.75} * 2^k, at least 128, that holds `rows`.
#[must_use]
pub fn bucket(rows: u64) -> u64 {
    if rows <= FLOOR {
        return FLOOR;
    }
    // 2^k < rows <= 2^(k+1), and a quarter of 2^k is the distance between buckets.
    let quarter = ((rows - 1).ilog2() - 2).min(61);
    (rows.div_ceil(1 << quarter)) << quarter
}

/// Whether a peer may announce this size.
#[must_use]
pub(super) fn is_bucket(size: u64) -> bool {
    size <= CEILING && bucket(size) == size
}

/// The size that the owner pads to, `headroom` rows for dummies included.
///
/// # Errors
/// `LimitExceeded` when the rows do not fit the declared size or the largest that is shared.
pub(super) fn padded(rows: u64, headroom: u64, size: PublicSize) -> Result<u64> {
    let due = rows.saturating_add(headroom);
    let padded = match size {
        PublicSize::Bucket => bucket(due.min(CEILING)),
        PublicSize::Declared(most) => most,
    };
    if due > padded || padded > CEILING {
        let limit = padded.min(CEILING);
        return Err(Error::new(
            Code::LimitExceeded,
            format!("a fragment has more rows than the {limit} that its public size holds"),
        ));
    }
    Ok(padded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_the_series() {
        let mut series = vec![];
        for k in 7..20 {
            for quarters in 4..8 {
                series.push(quarters << (k - 2));
            }
        }
        for rows in 0..200_000 {
            let expected = *series.iter().find(|&&size| size >= rows).unwrap();
            assert_eq!(bucket(rows), expected, "{rows}");
        }
        assert!(is_bucket(128) && is_bucket(160) && !is_bucket(129) && !is_bucket(64));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(padded(10, 0, PublicSize::Declared(10)).unwrap(), 10);
        assert_eq!(
            padded(11, 0, PublicSize::Declared(10)).unwrap_err().code,
            Code::LimitExceeded
        );
        assert_eq!(padded(100, 60, PublicSize::Bucket).unwrap(), 160);
        assert!(padded(1 << 40, 0, PublicSize::Bucket).is_err());
    }
}
