//! Averages over partitions, where they are computed jointly.

use crate::error::Result;
use crate::planner::algebra::columns::{ColumnId, Columns, Info};
use crate::planner::algebra::functions::quotient;
use crate::planner::algebra::{Function, Over, WindowCall};
use arrow::datatypes::DataType;
use datafusion::logical_expr::Expr;

/// Columns of expressions.
type Computed = Vec<(ColumnId, Expr)>;

/// Sums and counts in place of averages, and the averages as quotients of them.
pub(super) fn averages(
    calls: Vec<WindowCall>,
    columns: &mut Columns,
) -> Result<(Vec<WindowCall>, Computed)> {
    let mut made: Vec<WindowCall> = Vec::new();
    let mut after = Vec::new();
    for call in calls {
        let (Over::Aggregate(Function::Avg, frame), Some(argument)) =
            (call.function, call.argument)
        else {
            made.push(call);
            continue;
        };
        let average = columns.info(call.id)?.data_type.clone();
        let mut parts = Vec::new();
        for function in [Function::Sum, Function::Count] {
            let function_of = Over::Aggregate(function, frame);
            let known = made
                .iter()
                .find(|known| known.function == function_of && known.argument == Some(argument));
            let id = match known {
                Some(known) => known.id,
                None => {
                    let of = columns.info(argument)?;
                    let data_type = match (function, &of.data_type) {
                        (Function::Sum, DataType::Decimal128(precision, scale)) => {
                            DataType::Decimal128((precision + 10).min(38), *scale)
                        }
                        _ => DataType::Int64,
                    };
                    let label = format!("{}({})", function.name(), of.label);
                    let id = columns.add(Info::new(data_type, function == Function::Sum, label));
                    made.push(WindowCall {
                        id,
                        function: function_of,
                        argument: Some(argument),
                        default: None,
                    });
                    id
                }
            };
            parts.push(id.expr());
        }
        if let [sum, count] = parts.as_slice() {
            after.push((call.id, quotient(sum.clone(), count.clone(), average)));
        }
    }
    Ok((made, after))
}
