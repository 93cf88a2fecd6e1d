//! A source's own types brought to the declared ones, exactly or, where the catalogue says
//! `fixed_point`, rounded once.
//!
//! Nothing is guessed: what has no exact form is counted and refused, never a value named. Knows
//! nothing of files.

use crate::catalog::Column;
use crate::schema::ScalarType;
use arrow::array::{
    Array, ArrayRef, AsArray, Decimal128Array, Float64Array, PrimitiveArray, StringArray,
};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType, Float64Type, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType, i256,
};
use std::sync::Arc;

/// 0001-01-01 00:00 and 10000-01-01 00:00, in microseconds since 1970: what text of four digits for
/// a year can write.
const YEARS: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

/// Rows that have no form in the declared type, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) rows: usize,
    pub(super) what: String,
}

impl Lost {
    /// Fails unless there are none.
    fn none(rows: usize, what: &str) -> Result<(), Self> {
        match rows {
            0 => Ok(()),
            _ => Err(Self {
                rows,
                what: what.to_owned(),
            }),
        }
    }
}

/// Whether a file's type may be brought to the declared one without guessing.
pub(super) fn castable(from: &DataType, column: &Column) -> bool {
    if matches!(
        from,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    ) {
        return true;
    }
    if let DataType::Dictionary(_, values) = from {
        return castable(values, column);
    }
    match column.data_type {
        ScalarType::Int64 => from.is_integer(),
        ScalarType::Decimal { scale, .. } => match from {
            // Fewer digits after the point than the file has would round.
            DataType::Decimal32(_, finest)
            | DataType::Decimal64(_, finest)
            | DataType::Decimal128(_, finest) => {
                column.fixed_point || i16::from(*finest) <= i16::from(scale)
            }
            DataType::Float32 | DataType::Float64 => column.fixed_point,
            other => other.is_integer(),
        },
        ScalarType::Date => matches!(
            from,
            DataType::Date32 | DataType::Date64 | DataType::Timestamp(..)
        ),
        ScalarType::Timestamp => match from {
            DataType::Date32 => true,
            DataType::Timestamp(_, zone) => zone.as_deref().is_none_or(is_utc),
            _ => false,
        },
        ScalarType::Bool => matches!(from, DataType::Boolean),
        ScalarType::Utf8 | ScalarType::Float64 => false,
    }
}

/// Whether a file's instants are written as they stand in UTC.
fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "+00:00" | "Etc/UTC" | "Z")
}

/// One column in the type that it is declared as.
pub(super) fn convert(array: &ArrayRef, column: &Column) -> Result<ArrayRef, Lost> {
    let to = column.data_type.to_arrow();
    let trimmed = match array.as_string_opt::<i32>() {
        // Numbers, dates and flags in text files may stand among spaces.
        Some(text) if to != DataType::Utf8 => Arc::new(
            text.iter()
                .map(|v| v.map(str::trim))
                .collect::<StringArray>(),
        ) as ArrayRef,
        _ => Arc::clone(array),
    };
    match column.data_type {
        ScalarType::Decimal { precision, scale } => {
            let text = trimmed.as_string_opt::<i32>();
            match text {
                Some(text) if column.fixed_point => {
                    let rounded = text.iter().map(|v| v.map(|v| round_text(v, scale)));
                    return fixed(rounded.collect(), precision, scale);
                }
                Some(text) => {
                    let finer = |value: &&str| fraction_digits(value) > i32::from(scale);
                    Lost::none(
                        text.iter().flatten().filter(finer).count(),
                        "have more digits after the point than declared",
                    )?;
                }
                None if matches!(trimmed.data_type(), DataType::Float32 | DataType::Float64) => {
                    let floats = cast(&trimmed, &DataType::Float64, column)?;
                    let floats: &Float64Array = floats.as_primitive::<Float64Type>();
                    let rounded = floats.iter().map(|v| v.map(|v| round_float(v, scale)));
                    return fixed(rounded.collect(), precision, scale);
                }
                None => {}
            }
            cast(&trimmed, &to, column)
        }
        ScalarType::Timestamp => timestamps(&trimmed, column),
        _ => cast(&trimmed, &to, column),
    }
}

/// A cast that counts what it cannot cast.
fn cast(array: &ArrayRef, to: &DataType, column: &Column) -> Result<ArrayRef, Lost> {
    let safe = CastOptions {
        safe: true,
        ..CastOptions::default()
    };
    let cast = cast_with_options(array, to, &safe).map_err(|_| Lost {
        rows: array.len(),
        what: "cannot be cast to the declared type".to_owned(),
    })?;
    Lost::none(
        cast.null_count().saturating_sub(array.null_count()),
        &format!("are not of the declared type {}", column.data_type),
    )?;
    Ok(cast)
}

/// Text, days and instants of any unit as microseconds, none of them rounded.
fn timestamps(array: &ArrayRef, column: &Column) -> Result<ArrayRef, Lost> {
    if let Some(text) = array.as_string_opt::<i32>() {
        Lost::none(
            text.iter().flatten().filter(|v| has_zone(v)).count(),
            "have a time zone: timestamps have none",
        )?;
        let finer = |value: &&str| fraction_digits(value) > 6;
        Lost::none(
            text.iter().flatten().filter(finer).count(),
            "are finer than a microsecond",
        )?;
    }
    if let Some(nanos) = array.as_primitive_opt::<TimestampNanosecondType>() {
        Lost::none(
            nanos.iter().flatten().filter(|v| v % 1_000 != 0).count(),
            "are finer than a microsecond",
        )?;
    }
    let array = match array.data_type() {
        // As they stand: instants are in UTC already.
        DataType::Timestamp(unit, Some(_)) => {
            cast(array, &DataType::Timestamp(*unit, None), column)?
        }
        _ => Arc::clone(array),
    };
    let micros = cast(
        &array,
        &DataType::Timestamp(TimeUnit::Microsecond, None),
        column,
    )?;
    let values: &PrimitiveArray<TimestampMicrosecondType> = micros.as_primitive();
    Lost::none(
        values
            .iter()
            .flatten()
            .filter(|v| !YEARS.contains(v))
            .count(),
        "are outside of the years 1 to 9999",
    )?;
    Ok(micros)
}

/// Whether a timestamp's text says more than a date and a time of day: after `YYYY-MM-DD` and one
/// separator come digits, colons and a point alone.
fn has_zone(text: &str) -> bool {
    let time = text.bytes().skip(11);
    time.into_iter()
        .any(|byte| !(byte.is_ascii_digit() || matches!(byte, b':' | b'.')))
}

/// Digits after the point, trailing zeros not counted.
fn fraction_digits(text: &str) -> i32 {
    match text.split_once('.') {
        Some((_, digits)) => i32::try_from(digits.trim_end_matches('0').len()).unwrap_or(i32::MAX),
        None => 0,
    }
}

/// A value as a whole number of units of the last digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rounded {
    Value(i128),
    /// Not a number, or infinite.
    NotFinite,
    /// No number at all.
    NotNumber,
    /// Beyond 38 digits.
    TooLarge,
}

/// Decimals from what was rounded.
fn fixed(values: Vec<Option<Rounded>>, precision: u8, scale: u8) -> Result<ArrayRef, Lost> {
    let limit = 10_u128.pow(u32::from(precision));
    let count = |of: Rounded| values.iter().flatten().filter(|v| **v == of).count();
    Lost::none(count(Rounded::NotFinite), "are infinite or not a number")?;
    Lost::none(count(Rounded::NotNumber), "are not numbers")?;
    let large = |v: &&Rounded| match v {
        Rounded::Value(value) => value.unsigned_abs() >= limit,
        other => **other == Rounded::TooLarge,
    };
    Lost::none(
        values.iter().flatten().filter(large).count(),
        &format!("are beyond the {precision} digits declared"),
    )?;
    let digits: Decimal128Array = values
        .iter()
        .map(|v| match v {
            Some(Rounded::Value(value)) => Some(*value),
            _ => None,
        })
        .collect();
    let array = digits.with_precision_and_scale(precision, scale.cast_signed());
    Ok(Arc::new(array.map_err(|_| Lost {
        rows: values.len(),
        what: "cannot be cast to the declared type".to_owned(),
    })?))
}

/// `value * 10^scale`, the float's exact value rounded once; ties away from zero, as the engine does.
fn round_float(value: f64, scale: u8) -> Rounded {
    if !value.is_finite() {
        return Rounded::NotFinite;
    }
    if value.abs() >= 1e38 {
        return Rounded::TooLarge;
    }
    // IEEE 754: value = mantissa * 2^exponent, the mantissa below 2^53.
    let bits = value.abs().to_bits();
    let biased = i32::try_from(bits >> 52).unwrap_or(0);
    let fraction = bits & ((1 << 52) - 1);
    let (mantissa, exponent) = match biased {
        0 => (fraction, -1074),
        _ => (fraction | (1 << 52), biased - 1075),
    };
    // Below 2^53 * 10^38 < 2^180.
    let Some(scaled) = i256::from_i128(10)
        .checked_pow(u32::from(scale))
        .and_then(|ten| ten.checked_mul(i256::from_i128(i128::from(mantissa))))
    else {
        return Rounded::TooLarge;
    };
    let magnitude = match exponent {
        // value < 1e38 < 2^127, so the exponent is below 75; times 10^38 is below 2^254.
        0.. => u8::try_from(exponent).ok().map(|by| scaled << by),
        -250..0 => u8::try_from(-exponent)
            .ok()
            .map(|by| (scaled + (i256::ONE << (by - 1))) >> by),
        // Less than half a unit.
        _ => Some(i256::ZERO),
    };
    match magnitude.and_then(i256::to_i128) {
        Some(magnitude) if value < 0.0 => Rounded::Value(-magnitude),
        Some(magnitude) => Rounded::Value(magnitude),
        None => Rounded::TooLarge,
    }
}

/// A number's text times `10^scale`, rounded once; ties away from zero. Exponents are read.
fn round_text(text: &str, scale: u8) -> Rounded {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if ["nan", "inf", "infinity"]
        .iter()
        .any(|word| digits.eq_ignore_ascii_case(word))
    {
        return Rounded::NotFinite;
    }
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => match exponent.parse::<i32>() {
            Ok(exponent) if exponent.abs() <= 10_000 => (mantissa, exponent),
            Ok(_) => return Rounded::TooLarge,
            Err(_) => return Rounded::NotNumber,
        },
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut all = format!("{whole}{fraction}");
    if all.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return Rounded::NotNumber;
    }
    // How far the point moves to the right of all digits.
    let shift = exponent + i32::from(scale) - i32::try_from(fraction.len()).unwrap_or(i32::MAX / 2);
    let mut up = false;
    match usize::try_from(shift) {
        Ok(shift) if all.bytes().any(|byte| byte != b'0') => {
            if shift > 38 {
                return Rounded::TooLarge;
            }
            all.extend(std::iter::repeat_n('0', shift));
        }
        Ok(_) => {}
        Err(_) => {
            let kept = usize::try_from(shift.unsigned_abs())
                .ok()
                .and_then(|lost| all.len().checked_sub(lost));
            up = kept.is_some_and(|kept| all.as_bytes().get(kept).is_some_and(|b| *b >= b'5'));
            all.truncate(kept.unwrap_or(0));
        }
    }
    let digits = all.trim_start_matches('0');
    let magnitude = match digits.len() {
        0 => Some(0),
        1..=38 => digits.parse::<i128>().ok(),
        _ => None,
    };
    match magnitude.map(|magnitude| magnitude + i128::from(up)) {
        Some(magnitude) if negative => Rounded::Value(-magnitude),
        Some(magnitude) => Rounded::Value(magnitude),
        None => Rounded::TooLarge,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn floats_are_rounded_by_their_exact_value_ties_away_from_zero() {
        for (value, scale, expected) in [
            (0.125, 2, 13),
            (-0.125, 2, -13),
            (0.375, 2, 38),
            // The nearest double is below 2.675, and above 8.345.
            (2.675, 2, 267),
            (8.345, 2, 835),
            (0.1, 20, 10_000_000_000_000_000_555),
            (1e-300, 38, 0),
            (5e-324, 0, 0),
            (-0.0, 2, 0),
            (9_007_199_254_740_993.0, 0, 9_007_199_254_740_992),
        ] {
            assert_eq!(
                round_float(value, scale),
                Rounded::Value(expected),
                "{value}"
            );
        }
        assert_eq!(round_float(f64::NAN, 2), Rounded::NotFinite);
        assert_eq!(round_float(f64::NEG_INFINITY, 2), Rounded::NotFinite);
        assert_eq!(round_float(1e38, 0), Rounded::TooLarge);
        assert_eq!(round_float(9e37, 38), Rounded::TooLarge);
    }

    #[test]
    fn text_is_rounded_as_it_stands() {
        for (text, expected) in [
            ("2.675", Rounded::Value(268)),
            ("-2.675", Rounded::Value(-268)),
            ("2.6749999", Rounded::Value(267)),
            ("1.5e-2", Rounded::Value(2)),
            ("+1E3", Rounded::Value(100_000)),
            (".005", Rounded::Value(1)),
            ("0e9999", Rounded::Value(0)),
            ("0.0004", Rounded::Value(0)),
            ("5e-9000", Rounded::Value(0)),
            ("1e99", Rounded::TooLarge),
            ("NaN", Rounded::NotFinite),
            ("-Infinity", Rounded::NotFinite),
            ("1,5", Rounded::NotNumber),
            ("", Rounded::NotNumber),
            ("e5", Rounded::NotNumber),
            ("--1", Rounded::NotNumber),
        ] {
            assert_eq!(round_text(text, 2), expected, "{text}");
        }
    }

    #[test]
    fn zones_are_seen() {
        for text in ["2024-02-29", "2024-02-29 10:00", "2024-02-29T10:00:00.25"] {
            assert!(!has_zone(text), "{text}");
        }
        for text in ["2024-02-29T10:00:00Z", "2024-02-29 10:00:00+08:00"] {
            assert!(has_zone(text), "{text}");
        }
    }

    proptest! {
        /// Against text: the exact decimal expansion of a double, rounded digit by digit.
        #[test]
        fn floats_round_as_their_exact_text_does(value in -1e15_f64..1e15, scale in 0_u8..8) {
            prop_assert_eq!(round_float(value, scale), round_text(&format!("{value:.60}"), scale));
        }
    }
}
