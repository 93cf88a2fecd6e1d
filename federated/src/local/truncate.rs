//! `date_trunc` of timestamps: the engine's results, but without its detour through nanoseconds,
//! which fails on years that 64 bits of them do not reach and would so tell about the data.

use arrow::array::{ArrayRef, AsArray, Int32Array, PrimitiveArray};
use arrow::compute::{DatePart, date_part};
use arrow::datatypes::{DataType, Int32Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{Result as EngineResult, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

/// Its name, which is the engine's too.
pub(crate) const DATE_TRUNC: &str = "date_trunc";

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
const TIMESTAMP: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);

/// To what a timestamp is truncated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A span of so many microseconds, from midnight.
    Span(i64),
    Week,
    Month,
    Quarter,
    Year,
}

impl Unit {
    /// The unit of this name, in any case.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "microsecond" => Self::Span(1),
            "millisecond" => Self::Span(1_000),
            "second" => Self::Span(SECOND),
            "minute" => Self::Span(60 * SECOND),
            "hour" => Self::Span(3_600 * SECOND),
            "day" => Self::Span(DAY),
            "week" => Self::Week,
            "month" => Self::Month,
            "quarter" => Self::Quarter,
            "year" => Self::Year,
            _ => return None,
        })
    }
}

/// `date_trunc(unit, timestamp)`, the unit a literal.
pub(crate) fn date_trunc() -> ScalarUDF {
    ScalarUDF::new_from_impl(Truncate {
        signature: Signature::exact(vec![DataType::Utf8, TIMESTAMP], Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Truncate {
    signature: Signature,
}

impl ScalarUDFImpl for Truncate {
    fn name(&self) -> &str {
        DATE_TRUNC
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(TIMESTAMP)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let [ColumnarValue::Scalar(unit), of] = arguments.args.as_slice() else {
            return exec_err!("date_trunc to a unit that is no literal");
        };
        let Some(unit) = unit.try_as_str().flatten().and_then(Unit::named) else {
            return exec_err!("date_trunc to an unknown unit");
        };
        Ok(match of {
            ColumnarValue::Array(array) => ColumnarValue::Array(truncate(array, unit)?),
            ColumnarValue::Scalar(value) => {
                let one = truncate(&value.to_array()?, unit)?;
                ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&one, 0)?)
            }
        })
    }
}

fn truncate(array: &ArrayRef, unit: Unit) -> EngineResult<ArrayRef> {
    let Some(values) = array.as_primitive_opt::<TimestampMicrosecondType>() else {
        return exec_err!("date_trunc of no timestamp");
    };
    let parts = |part| -> EngineResult<Int32Array> {
        Ok(date_part(array, part)?.as_primitive::<Int32Type>().clone())
    };
    // Whole days since the truncated day; a part of a NULL is not looked at.
    let days: Option<Vec<i64>> = match unit {
        Unit::Span(_) => None,
        Unit::Week => Some(
            parts(DatePart::DayOfWeekMonday0)?
                .values()
                .iter()
                .map(|d| (*d).into())
                .collect(),
        ),
        Unit::Month => Some(
            parts(DatePart::Day)?
                .values()
                .iter()
                .map(|d| i64::from(*d) - 1)
                .collect(),
        ),
        Unit::Year => Some(
            parts(DatePart::DayOfYear)?
                .values()
                .iter()
                .map(|d| i64::from(*d) - 1)
                .collect(),
        ),
        Unit::Quarter => {
            let (year, quarter) = (parts(DatePart::Year)?, parts(DatePart::Quarter)?);
            let day = parts(DatePart::DayOfYear)?;
            let all = year.values().iter().zip(quarter.values()).zip(day.values());
            Some(
                all.map(|((year, quarter), day)| i64::from(*day) - 1 - before(*year, *quarter))
                    .collect(),
            )
        }
    };
    let span = match unit {
        Unit::Span(span) => span,
        _ => DAY,
    };
    let truncated: PrimitiveArray<TimestampMicrosecondType> = values
        .iter()
        .enumerate()
        .map(|(row, value)| {
            let start = value?.div_euclid(span) * span;
            let days = days.as_ref().and_then(|days| days.get(row)).unwrap_or(&0);
            Some(start - days * DAY)
        })
        .collect();
    Ok(Arc::new(truncated))
}

/// Days of a year before a quarter of it.
fn before(year: i32, quarter: i32) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match quarter {
        2 => 90 + i64::from(leap),
        3 => 181 + i64::from(leap),
        4 => 273 + i64::from(leap),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::TimestampMicrosecondArray;
    use arrow::compute::cast;

    #[test]
    fn units_of_the_calendar() {
        let text: ArrayRef = Arc::new(arrow::array::StringArray::from(vec![
            Some("2024-02-29 23:59:59.999999"),
            Some("1969-12-31 23:59:59"),
            Some("9999-12-31 12:00:00"),
            Some("0001-01-01 00:00:00"),
            None,
            Some("1900-06-30 01:02:03.000004"),
        ]));
        let values = cast(&text, &TIMESTAMP).unwrap();
        for (unit, expected) in [
            (
                "week",
                [
                    "2024-02-26",
                    "1969-12-29",
                    "9999-12-27",
                    "0001-01-01",
                    "1900-06-25",
                ],
            ),
            (
                "MONTH",
                [
                    "2024-02-01",
                    "1969-12-01",
                    "9999-12-01",
                    "0001-01-01",
                    "1900-06-01",
                ],
            ),
            (
                "quarter",
                [
                    "2024-01-01",
                    "1969-10-01",
                    "9999-10-01",
                    "0001-01-01",
                    "1900-04-01",
                ],
            ),
            (
                "year",
                [
                    "2024-01-01",
                    "1969-01-01",
                    "9999-01-01",
                    "0001-01-01",
                    "1900-01-01",
                ],
            ),
            (
                "day",
                [
                    "2024-02-29",
                    "1969-12-31",
                    "9999-12-31",
                    "0001-01-01",
                    "1900-06-30",
                ],
            ),
        ] {
            let truncated = truncate(&values, Unit::named(unit).unwrap()).unwrap();
            let mut expected: Vec<Option<&str>> = expected.into_iter().map(Some).collect();
            expected.insert(4, None);
            let expected: ArrayRef = Arc::new(arrow::array::StringArray::from(expected));
            assert_eq!(&truncated, &cast(&expected, &TIMESTAMP).unwrap(), "{unit}");
        }
        let one: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![-1]));
        let hour = truncate(&one, Unit::named("hour").unwrap()).unwrap();
        let hour = hour.as_primitive::<TimestampMicrosecondType>().value(0);
        assert_eq!(hour, -3_600 * SECOND);
        assert!(Unit::named("fortnight").is_none());
    }
}
