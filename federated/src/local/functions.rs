//! The one function that is not the engine's: an average formed of a sum and a count.

use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
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
