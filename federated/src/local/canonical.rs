//! Brings text to one form, column by column, so that keys written differently still meet.
//!
//! The same steps run for join keys and for everything else. White space is what Unicode calls
//! `White_Space` (the ideographic space too). It must not know where values come from.

use crate::catalog::Canonical;
use arrow::array::{Array, StringArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use std::borrow::Cow;
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// One value in canonical form; `None` when a step makes it NULL.
#[must_use]
pub fn canonical_text(text: &str, steps: &[Canonical]) -> Option<String> {
    let mut value = Cow::Borrowed(text);
    for step in steps {
        value = match step {
            Canonical::Nfc if is_nfc(&value) => value,
            Canonical::Nfc => Cow::Owned(value.nfc().collect()),
            Canonical::Trim => Cow::Owned(value.trim().to_owned()),
            Canonical::NoSpaces => {
                Cow::Owned(value.chars().filter(|c| !c.is_whitespace()).collect())
            }
            Canonical::Upper => Cow::Owned(value.to_uppercase()),
            Canonical::Lower => Cow::Owned(value.to_lowercase()),
            Canonical::Id18 if is_id18(value.as_bytes()) => value,
            Canonical::Id18 => return None,
        };
    }
    Some(value.into_owned())
}

/// Whether these are 18 characters whose last is the check digit of the first 17 (GB 11643-1999,
/// ISO 7064 MOD 11-2; `X` stands for ten). Dates and regions inside are not looked at.
#[must_use]
pub fn is_id18(bytes: &[u8]) -> bool {
    // 2^(17 - i) mod 11 for the digits from the left.
    const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
    let [digits @ .., check] = bytes else {
        return false;
    };
    if digits.len() != WEIGHTS.len() || !digits.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: u32 = digits
        .iter()
        .zip(WEIGHTS)
        .map(|(digit, weight)| u32::from(digit - b'0') * weight)
        .sum();
    let expected = (12 - sum % 11) % 11;
    match check {
        b'X' => expected == 10,
        digit if digit.is_ascii_digit() => u32::from(digit - b'0') == expected,
        _ => false,
    }
}

/// A column in canonical form. Values that a step makes NULL become NULL.
#[must_use]
pub fn canonical_array(array: &StringArray, steps: &[Canonical]) -> StringArray {
    if steps.is_empty() {
        return array.clone();
    }
    let mut out = Builder::with_capacity(array.len(), array.value_data().len());
    let first = array.value_offsets().first().copied().unwrap_or(0);
    let last = array.value_offsets().last().copied().unwrap_or(0);
    let ascii = usize::try_from(first)
        .ok()
        .zip(usize::try_from(last).ok())
        .and_then(|(first, last)| array.value_data().get(first..last))
        .is_some_and(<[u8]>::is_ascii);
    let mut scratch = Vec::new();
    for index in 0..array.len() {
        if array.is_null(index) {
            out.null();
        } else if ascii {
            let bytes = array.value(index).as_bytes();
            match canonical_ascii(bytes, steps, &mut scratch) {
                Some(bytes) => out.push(bytes),
                None => out.null(),
            }
        } else {
            match canonical_text(array.value(index), steps) {
                Some(text) => out.push(text.as_bytes()),
                None => out.null(),
            }
        }
    }
    out.finish(array)
}

/// What `White_Space` is within ASCII. (`u8::is_ascii_whitespace` leaves out the vertical tab.)
fn is_ascii_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// [`canonical_text`] for ASCII, with nothing allocated: a slice of the input until a step changes
/// bytes, then of `scratch`.
fn canonical_ascii<'a>(
    bytes: &'a [u8],
    steps: &[Canonical],
    scratch: &'a mut Vec<u8>,
) -> Option<&'a [u8]> {
    scratch.clear();
    // The value is `scratch[start..end]` once copied, `bytes[start..end]` before.
    let (mut start, mut end, mut copied) = (0, bytes.len(), false);
    for step in steps {
        match step {
            Canonical::Nfc => {}
            Canonical::Trim => {
                let value = if copied { &scratch[..] } else { bytes };
                while start < end && is_ascii_space(value[start]) {
                    start += 1;
                }
                while start < end && is_ascii_space(value[end - 1]) {
                    end -= 1;
                }
            }
            Canonical::NoSpaces | Canonical::Upper | Canonical::Lower => {
                let value = if copied { &scratch[..] } else { bytes };
                let changes = value[start..end].iter().any(|&byte| match step {
                    Canonical::Upper => byte.is_ascii_lowercase(),
                    Canonical::Lower => byte.is_ascii_uppercase(),
                    _ => is_ascii_space(byte),
                });
                if !changes {
                    continue;
                }
                if !copied {
                    scratch.extend_from_slice(bytes);
                    copied = true;
                }
                match step {
                    Canonical::Upper => scratch[start..end].make_ascii_uppercase(),
                    Canonical::Lower => scratch[start..end].make_ascii_lowercase(),
                    _ => {
                        scratch.truncate(end);
                        scratch.drain(..start);
                        scratch.retain(|&byte| !is_ascii_space(byte));
                        (start, end) = (0, scratch.len());
                    }
                }
            }
            Canonical::Id18 => {
                let value = if copied { &scratch[..] } else { bytes };
                if !is_id18(&value[start..end]) {
                    return None;
                }
            }
        }
    }
    let value = if copied { &scratch[..] } else { bytes };
    Some(&value[start..end])
}

/// Text values, offsets and NULLs under construction.
struct Builder {
    values: Vec<u8>,
    offsets: Vec<i32>,
    valid: Vec<bool>,
    fits: bool,
}

impl Builder {
    fn with_capacity(rows: usize, bytes: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self {
            values: Vec::with_capacity(bytes),
            offsets,
            valid: Vec::with_capacity(rows),
            fits: true,
        }
    }

    fn close(&mut self, valid: bool) {
        self.valid.push(valid);
        match i32::try_from(self.values.len()) {
            Ok(end) => self.offsets.push(end),
            Err(_) => self.fits = false,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.values.extend_from_slice(bytes);
        self.close(true);
    }

    fn null(&mut self) {
        self.close(false);
    }

    /// Batches are far below 2 GiB, and case mapping at most triples text; were that untrue, NULLs
    /// (which fail the column's own checks or match nothing) come out rather than wrong text.
    fn finish(self, like: &StringArray) -> StringArray {
        if !self.fits {
            return StringArray::new_null(like.len());
        }
        let nulls = NullBuffer::from(self.valid);
        let nulls = (nulls.null_count() > 0).then_some(nulls);
        StringArray::try_new(
            OffsetBuffer::new(self.offsets.into()),
            Buffer::from_vec(self.values),
            nulls,
        )
        .unwrap_or_else(|_| StringArray::new_null(like.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn check_digits_of_the_standard() {
        // The worked example of GB 11643-1999.
        assert!(is_id18(b"11010519491231002X"));
        assert!(is_id18(b"440524188001010014"));
        assert!(!is_id18(b"110105194912310021"));
        assert!(!is_id18(b"11010519491231002x"));
        assert!(!is_id18(b"1101051949123100"));
        assert!(!is_id18(b""));
        // Exactly one check character is right for any 17 digits.
        let right = b"0123456789X".iter().filter(|check| {
            let mut id = b"12345678901234567".to_vec();
            id.push(**check);
            is_id18(&id)
        });
        assert_eq!(right.count(), 1);
    }

    #[test]
    fn steps() {
        let id = [
            Canonical::Nfc,
            Canonical::Trim,
            Canonical::Upper,
            Canonical::Id18,
        ];
        assert_eq!(
            canonical_text("  11010519491231002x\u{3000}", &id).as_deref(),
            Some("11010519491231002X")
        );
        assert_eq!(canonical_text("110105194912310021", &id), None);
        assert_eq!(
            canonical_text("e\u{301} \u{3000}a", &[Canonical::Nfc, Canonical::NoSpaces]).as_deref(),
            Some("\u{e9}a")
        );
    }

    fn step() -> impl Strategy<Value = Canonical> {
        prop_oneof![
            Just(Canonical::Nfc),
            Just(Canonical::Trim),
            Just(Canonical::NoSpaces),
            Just(Canonical::Upper),
            Just(Canonical::Lower),
            Just(Canonical::Id18),
        ]
    }

    proptest! {
        #[test]
        fn columns_equal_their_values_one_by_one(
            values in proptest::collection::vec(
                proptest::option::of("[ \t\u{b}a-cA-C0-9xX]{0,6}|.{0,4}| ?11010519491231002[xX] ?"), 0..20),
            steps in proptest::collection::vec(step(), 0..5),
        ) {
            let array = StringArray::from(values.clone());
            let expected: Vec<Option<String>> = values
                .iter()
                .map(|value| canonical_text(value.as_deref()?, &steps))
                .collect();
            prop_assert_eq!(canonical_array(&array, &steps), StringArray::from(expected.clone()));
            // The ASCII path, value by value, and slices.
            for (value, expected) in values.iter().zip(&expected) {
                let one = StringArray::from(vec![None, value.clone()]);
                let one = canonical_array(&one.slice(1, 1), &steps);
                prop_assert_eq!(one, StringArray::from(vec![expected.clone()]));
            }
        }
    }
}
