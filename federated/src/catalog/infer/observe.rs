//! What text values look like: which types they could all be written in.

use crate::local::canonical::is_id18;

/// The types that every value seen so far could have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shapes {
    pub(super) int: bool,
    pub(super) decimal: bool,
    pub(super) date: bool,
    pub(super) timestamp: bool,
    pub(super) bool: bool,
    /// Every value is 18 digits, or 17 and an X.
    pub(super) eighteen: bool,
    /// The most digits before and after a point.
    pub(super) whole: u8,
    pub(super) fraction: u8,
}

impl Shapes {
    pub(super) fn any() -> Self {
        Self {
            int: true,
            decimal: true,
            date: true,
            timestamp: true,
            bool: true,
            eighteen: true,
            whole: 0,
            fraction: 0,
        }
    }

    /// Takes one more value into account, white space around it left out.
    pub(super) fn see(&mut self, value: &str) {
        let bytes = value.as_bytes();
        self.eighteen = self.eighteen && is_eighteen(bytes);
        self.bool = self.bool && is_bool(value);
        self.date = self.date && is_date(bytes);
        self.timestamp = self.timestamp && is_timestamp(bytes);
        if !self.decimal && !self.int {
            return;
        }
        match number(bytes) {
            Some((whole, fraction)) => {
                self.whole = self.whole.max(whole);
                self.fraction = self.fraction.max(fraction);
                let integer = !bytes.contains(&b'.');
                self.int = self.int && integer && (whole < 19 || value.parse::<i64>().is_ok());
                self.decimal =
                    self.decimal && u32::from(self.whole) + u32::from(self.fraction) <= 38;
            }
            None => (self.int, self.decimal) = (false, false),
        }
    }
}

fn is_eighteen(bytes: &[u8]) -> bool {
    match bytes {
        [digits @ .., last] if digits.len() == 17 => {
            digits.iter().all(u8::is_ascii_digit)
                && (last.is_ascii_digit() || matches!(last, b'x' | b'X'))
        }
        _ => false,
    }
}

/// Whether an identifier in any case has a valid check digit.
pub(super) fn is_valid_id(bytes: &[u8]) -> bool {
    let Ok(mut id) = <[u8; 18]>::try_from(bytes) else {
        return false;
    };
    id.make_ascii_uppercase();
    is_id18(&id)
}

fn is_bool(value: &str) -> bool {
    ["true", "false", "t", "f"]
        .iter()
        .any(|word| value.eq_ignore_ascii_case(word))
}

/// Digits before and after the point of a number written exactly; none for anything else. Leading
/// zeros, plus signs and exponents are not how numbers are written exactly.
fn number(bytes: &[u8]) -> Option<(u8, u8)> {
    let digits = bytes.strip_prefix(b"-").unwrap_or(bytes);
    let (whole, fraction) = match digits.iter().position(|byte| *byte == b'.') {
        Some(at) => (&digits[..at], Some(&digits[at + 1..])),
        None => (digits, None),
    };
    let all = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    if !all(whole) || !fraction.is_none_or(all) || (whole.len() > 1 && whole[0] == b'0') {
        return None;
    }
    let whole = if whole == b"0" { 0 } else { whole.len() };
    let fraction = fraction.map_or(0, <[u8]>::len);
    Some((u8::try_from(whole).ok()?, u8::try_from(fraction).ok()?))
}

/// Whether this is a day of the Gregorian calendar as `YYYY-MM-DD`.
fn is_date(bytes: &[u8]) -> bool {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = bytes else {
        return false;
    };
    let parts = [y1, y2, y3, y4, m1, m2, d1, d2];
    if !parts.iter().all(|byte| byte.is_ascii_digit()) {
        return false;
    }
    let value = |digits: &[&u8]| {
        digits
            .iter()
            .fold(0_u32, |sum, digit| sum * 10 + u32::from(**digit - b'0'))
    };
    let (year, month, day) = (value(&parts[..4]), value(&parts[4..6]), value(&parts[6..]));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => return false,
    };
    (1..=days).contains(&day)
}

/// Whether this is `YYYY-MM-DD hh:mm:ss` with at most six digits after the point, or a day alone.
fn is_timestamp(bytes: &[u8]) -> bool {
    let Some((day, time)) = bytes.split_at_checked(10) else {
        return false;
    };
    if time.is_empty() {
        return is_date(day);
    }
    let [b' ' | b'T', h1, h2, b':', m1, m2, b':', s1, s2, rest @ ..] = time else {
        return false;
    };
    let below = |tens: u8, ones: u8, end: u8| {
        tens.is_ascii_digit() && ones.is_ascii_digit() && 10 * (tens - b'0') + (ones - b'0') < end
    };
    let fraction = match rest {
        [] => true,
        [b'.', digits @ ..] => {
            (1..=6).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
        }
        _ => false,
    };
    is_date(day) && below(*h1, *h2, 24) && below(*m1, *m2, 60) && below(*s1, *s2, 60) && fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(values: &[&str]) -> Shapes {
        let mut shapes = Shapes::any();
        for value in values {
            shapes.see(value);
        }
        shapes
    }

    #[test]
    fn numbers() {
        assert!(shapes(&["0", "-1", "9223372036854775807"]).int);
        assert!(!shapes(&["9223372036854775808"]).int);
        let decimal = shapes(&["0.10", "12345", "-3.5"]);
        assert!(!decimal.int && decimal.decimal);
        assert_eq!((decimal.whole, decimal.fraction), (5, 2));
        for text in ["007", "+1", "1e5", "1.", ".5", "", "-", "1,000", "NaN"] {
            let shapes = shapes(&[text]);
            assert!(!shapes.int && !shapes.decimal, "{text}");
        }
    }

    #[test]
    fn dates_and_flags() {
        assert!(shapes(&["2024-02-29", "1900-12-31"]).date);
        for text in [
            "1900-02-29",
            "2024-13-01",
            "2024-00-10",
            "2024-1-1",
            "24-01-01",
            "2024-01-32",
        ] {
            assert!(!shapes(&[text]).date, "{text}");
        }
        let mixed = shapes(&[
            "2024-02-29",
            "2024-02-29T23:59:59",
            "2024-03-01 00:00:00.000001",
        ]);
        assert!(mixed.timestamp && !mixed.date);
        for text in [
            "2024-02-29 24:00:00",
            "2024-02-29 10:00",
            "2024-02-29 10:00:00Z",
            "2024-02-29 10:00:00.0000001",
            "2023-02-29 10:00:00",
            "２０２４-02-29",
        ] {
            assert!(!shapes(&[text]).timestamp, "{text}");
        }
        assert!(shapes(&["true", "F", "t"]).bool);
        assert!(!shapes(&["0", "1"]).bool);
    }

    #[test]
    fn identifiers() {
        assert!(shapes(&["110105194912310021", "11010519491231002x"]).eighteen);
        assert!(!shapes(&["1101051949123100"]).eighteen);
        assert!(is_valid_id(b"11010519491231002x") && !is_valid_id(b"110105194912310021"));
    }
}
