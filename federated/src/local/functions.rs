//! The functions that are not the engine's: averages and moments, formed of released sums and counts.

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type, i256};
use datafusion::common::{Result as EngineResult, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use std::sync::Arc;

/// Its name.
pub(crate) const AVERAGE: &str = "average";

/// Digits after the point that an average has more than its sum.
const MORE_DIGITS: i8 = 4;

/// `average(sum, count)`: NULL for a count of 0; decimals truncate, with four digits more than the sum;
/// integers divide as floating point.
pub(crate) fn average() -> ScalarUDF {
    ScalarUDF::new_from_impl(Average {
        signature: Signature::any(2, Volatility::Immutable),
        data_type: None,
    })
}

/// The same with a result that is known.
pub(crate) fn average_as(data_type: DataType) -> ScalarUDF {
    ScalarUDF::new_from_impl(Average {
        signature: Signature::any(2, Volatility::Immutable),
        data_type: Some(data_type),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Average {
    signature: Signature,
    data_type: Option<DataType>,
}

impl ScalarUDFImpl for Average {
    fn name(&self) -> &str {
        AVERAGE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> EngineResult<DataType> {
        Ok(match (&self.data_type, arguments.first()) {
            (Some(data_type), _) => data_type.clone(),
            (None, Some(DataType::Decimal128(_, scale))) => {
                DataType::Decimal128(38, scale + MORE_DIGITS)
            }
            _ => DataType::Float64,
        })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let [sums, counts] = arrays.as_slice() else {
            return exec_err!("an average of no sum and count");
        };
        let counts = cast(counts, &DataType::Int64)?;
        let counts = counts.as_primitive::<Int64Type>().iter();
        let counts = counts.map(|count| count.filter(|count| *count != 0));
        let array: ArrayRef = match sums.data_type() {
            DataType::Decimal128(_, scale) => {
                let sums = sums.as_primitive::<Decimal128Type>().iter();
                let factor = 10_i128.pow(MORE_DIGITS.unsigned_abs().into());
                let mut values = Vec::with_capacity(arguments.number_rows);
                for (sum, count) in sums.zip(counts) {
                    values.push(match sum.zip(count) {
                        None => None,
                        Some((sum, count)) => match sum.checked_mul(factor) {
                            Some(lifted) => Some(lifted / i128::from(count)),
                            None => return exec_err!("an average overflows"),
                        },
                    });
                }
                let array = Decimal128Array::from(values);
                Arc::new(array.with_precision_and_scale(38, scale + MORE_DIGITS)?)
            }
            _ => {
                let sums = cast(sums, &DataType::Float64)?;
                let sums = sums.as_primitive::<Float64Type>().iter();
                // The engine too adds and divides in floating point.
                #[allow(clippy::cast_precision_loss)]
                let values = sums
                    .zip(counts)
                    .map(|(sum, count)| Some(sum? / count? as f64));
                Arc::new(values.collect::<Float64Array>())
            }
        };
        Ok(ColumnarValue::Array(array))
    }
}

/// The name of [`moment`].
pub(crate) const MOMENT: &str = "moment";

/// `moment(n, sum(x), sum(y), sum(x y))` is `n sum(x y) - sum(x) sum(y)`, exact in 256 bits and then
/// rounded once: what variances, covariances and correlations are made of.
pub(crate) fn moment() -> ScalarUDF {
    ScalarUDF::new_from_impl(Moment {
        signature: Signature::any(4, Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Moment {
    signature: Signature,
}

impl ScalarUDFImpl for Moment {
    fn name(&self) -> &str {
        MOMENT
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let [n, x, y, xy] = arrays.as_slice() else {
            return exec_err!("a moment of other than four numbers");
        };
        let scale = |array: &ArrayRef| match array.data_type() {
            DataType::Decimal128(_, scale) => i32::from(*scale),
            _ => 0,
        };
        let wide = |array: &ArrayRef| -> EngineResult<Vec<Option<i256>>> {
            let digits = DataType::Decimal128(38, i8::try_from(scale(array)).unwrap_or(0));
            let array = cast(array, &digits)?;
            let values = array.as_primitive::<Decimal128Type>().iter();
            Ok(values.map(|value| value.map(i256::from_i128)).collect())
        };
        // The product has the digits of both factors.
        let (due, has) = (scale(x) + scale(y), scale(xy));
        let unit = 10_f64.powi(-due.max(has));
        let lift = |digits: i32| {
            let power = 10_i128.checked_pow(u32::try_from(digits.max(0)).unwrap_or(0));
            i256::from_i128(power.unwrap_or(1))
        };
        let (lift_sums, lift_product) = (lift(has - due), lift(due - has));
        let columns = [wide(n)?, wide(x)?, wide(y)?, wide(xy)?];
        let [n, x, y, xy] = &columns;
        let mut values = Vec::with_capacity(arguments.number_rows);
        for (((n, x), y), xy) in n.iter().zip(x).zip(y).zip(xy) {
            let moment = match (n, x, y, xy) {
                (Some(n), Some(x), Some(y), Some(xy)) => n
                    .checked_mul(*xy)
                    .and_then(|of| of.checked_mul(lift_product))
                    .zip(x.checked_mul(*y).and_then(|of| of.checked_mul(lift_sums)))
                    .and_then(|(a, b)| a.checked_sub(b)),
                _ => {
                    values.push(None);
                    continue;
                }
            };
            match moment {
                Some(moment) => values.push(Some(float(moment) * unit)),
                None => return exec_err!("a moment overflows"),
            }
        }
        Ok(ColumnarValue::Array(Arc::new(Float64Array::from(values))))
    }
}

/// The nearest floating point number. Of a negative one the magnitude is taken: the halves of its two's
/// complement would be rounded apart.
fn float(value: i256) -> f64 {
    let negative = value.is_negative();
    let (low, high) = value.wrapping_abs().to_parts();
    #[allow(clippy::cast_precision_loss)] // the result is rounded
    let magnitude = (high as f64).mul_add(2_f64.powi(128), low as f64);
    if negative { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_numbers_of_both_signs_are_rounded_once() {
        for value in [0_i128, 1, 21, 1 << 53, (1 << 100) + 1, i128::MAX] {
            #[allow(clippy::cast_precision_loss)]
            let due = value as f64;
            assert_eq!(float(i256::from_i128(value)), due);
            assert_eq!(float(i256::from_i128(-value)), -due);
        }
        let wide = i256::from_i128(i128::MAX).checked_mul(i256::from_i128(4));
        let wide = wide.unwrap_or_default();
        assert_eq!(float(wide), 2_f64.powi(129));
        assert_eq!(float(wide.wrapping_neg()), -(2_f64.powi(129)));
    }
}
