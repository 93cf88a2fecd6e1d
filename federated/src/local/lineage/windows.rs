//! What window functions of a fragment compute from which columns.
//!
//! Columns of a partition are grouped by, those of an order are sorted by. A value that depends on the
//! order carries what the order looks at, row by row: a rank tells how a row compares with others.

use super::NotAllowed;
use super::steps::{Flow, Local, Through, unaliased};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{
    Expr, Window, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition,
};

type Result<T> = std::result::Result<T, NotAllowed>;

impl Local<'_> {
    /// The values of the input, then those of the functions.
    pub(super) fn window(&mut self, window: &Window, input: Vec<Flow>) -> Result<Vec<Flow>> {
        let mut made = input.clone();
        for expr in &window.window_expr {
            let Expr::WindowFunction(call) = unaliased(expr) else {
                return Err(NotAllowed::new("a window function of an unusual kind"));
            };
            made.push(self.window_call(call, window, &input)?);
        }
        Ok(made)
    }

    fn window_call(
        &mut self,
        call: &WindowFunction,
        window: &Window,
        input: &[Flow],
    ) -> Result<Flow> {
        let of = &call.params;
        if of.filter.is_some() || of.distinct || of.null_treatment.is_some() {
            return Err(NotAllowed::new(
                "a window function with FILTER, DISTINCT or IGNORE NULLS",
            ));
        }
        for key in &of.partition_by {
            let value = self.value(key, &window.input, input)?;
            self.steps.grouped.push(value);
        }
        let mut order = Flow::default();
        for key in &of.order_by {
            let value = self.value(&key.expr, &window.input, input)?;
            self.steps.sorted.push(value.clone());
            order.add(&value);
        }
        let mut argument = Flow::default();
        for part in &of.args {
            argument.add(&self.value(part, &window.input, input)?);
        }
        let name = call.fun.name();
        let (mut value, ordered) = match &call.fun {
            WindowFunctionDefinition::WindowUDF(_) => match name {
                "row_number" | "rank" | "dense_rank" | "lag" | "lead" => (argument, true),
                _ => return Err(unknown(name)),
            },
            WindowFunctionDefinition::AggregateUDF(_) => {
                let through = match name {
                    "count" => Through::Count,
                    "sum" => Through::Sum,
                    "avg" => Through::Avg,
                    "min" => Through::Min,
                    "max" => Through::Max,
                    _ => return Err(unknown(name)),
                };
                (argument.through(through), depends(&of.window_frame)?)
            }
        };
        if ordered {
            value.add(&order);
        }
        Ok(value)
    }
}

fn unknown(name: &str) -> NotAllowed {
    NotAllowed::new(format!("the window function {name}"))
}

/// Whether the rows of a frame depend on the order.
fn depends(frame: &WindowFrame) -> Result<bool> {
    let unbounded = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::Preceding(by) | WindowFrameBound::Following(by) => by.is_null(),
        WindowFrameBound::CurrentRow => false,
    };
    let known = matches!(
        frame.units,
        WindowFrameUnits::Rows | WindowFrameUnits::Range
    );
    match (&frame.start_bound, &frame.end_bound) {
        (start @ WindowFrameBound::Preceding(_), end) if known && unbounded(start) => match end {
            WindowFrameBound::CurrentRow => Ok(true),
            WindowFrameBound::Following(_) if unbounded(end) => Ok(false),
            _ => Err(NotAllowed::new("a frame of a window of an unusual kind")),
        },
        _ => Err(NotAllowed::new("a frame of a window of an unusual kind")),
    }
}
