//! Functions that the planner itself puts into expressions.

use crate::local::functions::average_as;
use arrow::datatypes::DataType;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::expr::ScalarFunction;
use std::sync::Arc;

pub(in crate::planner) use crate::local::functions::AVERAGE;

/// `sum / count` as the engine's AVG has it: NULL for a count of 0; decimals truncate at the scale of
/// `data_type`, integers divide as floating point.
pub(super) fn quotient(sum: Expr, count: Expr, data_type: DataType) -> Expr {
    let function = Arc::new(average_as(data_type));
    Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![sum, count]))
}
