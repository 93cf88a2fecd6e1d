//! The one place that reads the wall clock. Everything else is given the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970-01-01T00:00:00Z; 0 when the clock stands before that.
#[must_use]
#[allow(clippy::disallowed_methods)] // the one place
pub fn unix_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}

/// Unix seconds as RFC 3339 in UTC, for example `2026-11-21T04:13:44Z`.
///
/// The conversion from days to a date is the usual one for the proleptic Gregorian calendar, in
/// years that start in March.
#[must_use]
pub fn rfc3339(unix: u64) -> String {
    let (days, second) = (unix / 86_400, unix % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

/// The Unix seconds that [`rfc3339`] writes as this text; `None` for any other text.
#[must_use]
pub fn from_rfc3339(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| -> Option<u64> {
        let digits = text.get(from..to)?;
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse().ok())?
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    if year < 1970 || !(1..=12).contains(&month) {
        return None;
    }
    let (shifted, march_month) = if month < 3 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let leaps = shifted / 4 - shifted / 100 + shifted / 400;
    let since_march = (153 * march_month + 2) / 5 + day;
    let days = (365 * shifted + leaps + since_march).checked_sub(719_469)?;
    let second = 3_600 * number(11, 13)? + 60 * number(14, 16)? + number(17, 19)?;
    let unix = 86_400 * days + second;
    // Whatever is no date, no time or written otherwise does not come out again.
    (rfc3339(unix) == text).then_some(unix)
}

#[cfg(test)]
mod tests {
    use super::{from_rfc3339, rfc3339};

    #[test]
    fn known_instants() {
        // From `date -u -d @N`.
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_234_567_890), "2009-02-13T23:31:30Z");
        assert_eq!(rfc3339(1_709_164_799), "2024-02-28T23:59:59Z");
        assert_eq!(rfc3339(4_102_444_800), "2100-01-01T00:00:00Z");
    }

    #[test]
    fn text_is_read_back_and_nothing_else_is() {
        for days in 0..100_000 {
            let unix = 86_400 * days + days % 86_400;
            assert_eq!(from_rfc3339(&rfc3339(unix)), Some(unix));
        }
        for bad in [
            "",
            "2026-11-21",
            "2026-11-21T04:13:44",
            "2026-11-21t04:13:44z",
            "2026-11-21T04:13:44+00:00",
            "2026-11-21T04:13:44.5Z",
            "2026-02-29T00:00:00Z",
            "2026-00-10T00:00:00Z",
            "2026-13-10T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "1969-12-31T23:59:59Z",
            "+026-01-01T00:00:00Z",
            "２０２６-01-01T00:00:00Z",
            "20261-01-01T00:00:00Z",
        ] {
            assert_eq!(from_rfc3339(bad), None, "{bad}");
        }
    }
}
