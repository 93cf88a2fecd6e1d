//! One value as text, exactly: decimals and dates never pass through floating point.

use arrow::array::{
    Array, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int32Array, Int64Array,
    StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{DataType, TimeUnit};
use veilgate_federated::error::{Code, Error, Result};

/// A column whose type can be printed.
pub(super) enum Cells<'a> {
    Int32(&'a Int32Array),
    Int64(&'a Int64Array),
    UInt64(&'a UInt64Array),
    Decimal(&'a Decimal128Array),
    Date(&'a Date32Array),
    Timestamp(&'a TimestampMicrosecondArray),
    Bool(&'a BooleanArray),
    Text(&'a StringArray),
    Float(&'a Float64Array),
}

/// How a value is quoted by the formats that quote.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    /// Digits: needs no quotes anywhere.
    Number(String),
    Bool(bool),
    Text(String),
}

impl<'a> Cells<'a> {
    pub(super) fn new(array: &'a dyn Array) -> Result<Self> {
        let any = array.as_any();
        match array.data_type() {
            DataType::Int32 => any.downcast_ref().map(Self::Int32),
            DataType::Int64 => any.downcast_ref().map(Self::Int64),
            DataType::UInt64 => any.downcast_ref().map(Self::UInt64),
            DataType::Decimal128(..) => any.downcast_ref().map(Self::Decimal),
            DataType::Date32 => any.downcast_ref().map(Self::Date),
            DataType::Timestamp(TimeUnit::Microsecond, None) => {
                any.downcast_ref().map(Self::Timestamp)
            }
            DataType::Boolean => any.downcast_ref().map(Self::Bool),
            DataType::Utf8 => any.downcast_ref().map(Self::Text),
            DataType::Float64 => any.downcast_ref().map(Self::Float),
            _ => None,
        }
        .ok_or_else(|| {
            Error::new(
                Code::Unsupported,
                format!(
                    "a column of type {} cannot be printed; use --output arrow",
                    array.data_type()
                ),
            )
        })
    }

    /// The value in this row.
    pub(super) fn get(&self, row: usize) -> Cell {
        match self {
            Self::Int32(array) => valid(*array, row, || Cell::Number(array.value(row).to_string())),
            Self::Int64(array) => valid(*array, row, || Cell::Number(array.value(row).to_string())),
            Self::UInt64(array) => {
                valid(*array, row, || Cell::Number(array.value(row).to_string()))
            }
            Self::Decimal(array) => valid(*array, row, || Cell::Number(array.value_as_string(row))),
            Self::Date(array) => valid(*array, row, || Cell::Text(iso_date(array.value(row)))),
            Self::Timestamp(array) => {
                valid(*array, row, || Cell::Text(iso_timestamp(array.value(row))))
            }
            Self::Bool(array) => valid(*array, row, || Cell::Bool(array.value(row))),
            Self::Text(array) => valid(*array, row, || Cell::Text(array.value(row).to_owned())),
            Self::Float(array) => valid(*array, row, || float(array.value(row))),
        }
    }
}

fn valid(array: &dyn Array, row: usize, value: impl FnOnce() -> Cell) -> Cell {
    if array.is_null(row) {
        Cell::Null
    } else {
        value()
    }
}

/// The shortest text that reads back as the same number.
fn float(value: f64) -> Cell {
    if value.is_finite() {
        Cell::Number(format!("{value:?}"))
    } else {
        Cell::Text(value.to_string())
    }
}

/// Days since 1970-01-01 as YYYY-MM-DD in the proleptic Gregorian calendar.
///
/// Algorithm: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
pub(crate) fn iso_date(days: i32) -> String {
    let (year, month, day) = civil_from_days(days);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Microseconds since 1970-01-01 as `YYYY-MM-DD hh:mm:ss`, with six digits after the point where
/// there are any.
fn iso_timestamp(micros: i64) -> String {
    const DAY: i64 = 86_400_000_000;
    let days = i32::try_from(micros.div_euclid(DAY)).unwrap_or(i32::MAX);
    let of_day = micros.rem_euclid(DAY);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    let mut text = format!(
        "{} {:02}:{:02}:{:02}",
        iso_date(days),
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    if fraction > 0 {
        text.push_str(&format!(".{fraction:06}"));
    }
    text
}

/// Year, month (1 to 12) and day (1 to 31) of days since 1970-01-01.
pub(crate) fn civil_from_days(days: i32) -> (i64, i64, i64) {
    let shifted = i64::from(days) + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}
