//! The types that cross between departments. Everything else is refused at planning.

use std::fmt;

/// The name of a department, as in `department.table`: lower-case letters, digits and `_`.
pub type Department = String;

/// A SQL type that a joint query can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScalarType {
    /// 64-bit signed integer; narrower and unsigned integers of a source are widened to it.
    Int64,
    /// Exact decimal, at most 38 digits.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, at most `precision`.
        scale: u8,
    },
    /// Days since 1970-01-01.
    Date,
    /// Microseconds since 1970-01-01 00:00, without a time zone; years 1 to 9999.
    Timestamp,
    /// True or false.
    Bool,
    /// UTF-8 text.
    Utf8,
    /// Only as a released value: the average of integers.
    Float64,
}

impl fmt::Display for ScalarType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int64 => f.write_str("int64"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Date => f.write_str("date"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Bool => f.write_str("bool"),
            Self::Utf8 => f.write_str("utf8"),
            Self::Float64 => f.write_str("float64"),
        }
    }
}

impl ScalarType {
    /// The Arrow type that carries it.
    #[must_use]
    pub fn to_arrow(self) -> arrow::datatypes::DataType {
        use arrow::datatypes::{DataType, TimeUnit};
        match self {
            Self::Int64 => DataType::Int64,
            Self::Decimal { precision, scale } => {
                // A scale is at most 38, so it fits.
                DataType::Decimal128(precision, i8::try_from(scale).unwrap_or(i8::MAX))
            }
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Bool => DataType::Boolean,
            Self::Utf8 => DataType::Utf8,
            Self::Float64 => DataType::Float64,
        }
    }

    /// The scalar type that an Arrow type stands for, where there is one.
    #[must_use]
    pub fn from_arrow(data_type: &arrow::datatypes::DataType) -> Option<Self> {
        use arrow::datatypes::{DataType, TimeUnit};
        match data_type {
            DataType::Int64 => Some(Self::Int64),
            DataType::Decimal128(precision, scale) => Some(Self::Decimal {
                precision: *precision,
                scale: u8::try_from(*scale).ok()?,
            }),
            DataType::Date32 => Some(Self::Date),
            DataType::Timestamp(TimeUnit::Microsecond, None) => Some(Self::Timestamp),
            DataType::Boolean => Some(Self::Bool),
            DataType::Utf8 => Some(Self::Utf8),
            DataType::Float64 => Some(Self::Float64),
            _ => None,
        }
    }
}
