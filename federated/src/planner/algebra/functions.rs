//! Functions that the planner itself puts into expressions.

use arrow::datatypes::DataType;
use datafusion::common::{Result as EngineResult, exec_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The name of [`quotient`].
pub(in crate::planner) const AVERAGE: &str = "average";

/// `sum / count` as the engine's AVG has it: NULL for a count of 0; decimals truncate at the scale of
/// `data_type`, integers divide as floating point.
pub(super) fn quotient(sum: Expr, count: Expr, data_type: DataType) -> Expr {
    let function = ScalarUDF::new_from_impl(Average {
        signature: Signature::any(2, Volatility::Immutable),
        data_type,
    });
    Expr::ScalarFunction(ScalarFunction::new_udf(
        std::sync::Arc::new(function),
        vec![sum, count],
    ))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Average {
    signature: Signature,
    data_type: DataType,
}

impl ScalarUDFImpl for Average {
    fn name(&self) -> &str {
        AVERAGE
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> EngineResult<DataType> {
        Ok(self.data_type.clone())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> EngineResult<ColumnarValue> {
        exec_err!("an average is not computed by the engine")
    }
}
