//! Window functions of the engine's plan.

use super::{Builder, Built, unaliased};
use crate::error::{Code, Error, Result};
use crate::plan::program::Frame;
use crate::planner::algebra::columns::{ColumnId, Info, used_by};
use crate::planner::algebra::functions::quotient;
use crate::planner::algebra::{Function, Over, Rel, SortKey, WindowCall};
use arrow::datatypes::{DataType, Field};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::expr::{Case, WindowFunction};
use datafusion::logical_expr::{
    Expr, Window, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition,
};
use std::collections::BTreeSet;

/// Partition and order of windows, and what is computed over them.
struct Spec {
    partition: Vec<ColumnId>,
    order: Vec<(ColumnId, bool, bool)>,
    calls: Vec<Wanted>,
}

/// A function before its column is made.
struct Wanted {
    /// Which output of the operator it is.
    position: usize,
    function: Over,
    argument: Option<ColumnId>,
    default: Option<ScalarValue>,
    field: Field,
}

impl Builder<'_> {
    /// Window functions, one operator for each partition and order.
    pub(super) fn window(&mut self, window: &Window) -> Result<Built> {
        let input = self.plan(&window.input)?;
        let schema = window.input.schema();
        let before = schema.fields().len();
        let mut rel = input.rel;
        let mut computed = Vec::new();
        let mut specs: Vec<Spec> = Vec::new();
        for (position, expr) in window.window_expr.iter().enumerate() {
            let mut expr = expr;
            while let Expr::Alias(alias) = expr {
                expr = &alias.expr;
            }
            let Expr::WindowFunction(call) = expr else {
                return Err(self.query.unsupported("a window function", &["OVER"]));
            };
            let mut column = |this: &mut Self, expr: &Expr| {
                this.column(expr, schema, &input.output, &mut rel, &mut computed)
            };
            let mut partition: Vec<ColumnId> = Vec::new();
            for key in &call.params.partition_by {
                let id = column(self, key)?;
                if !partition.contains(&id) {
                    partition.push(id);
                }
            }
            let mut order = Vec::new();
            for key in &call.params.order_by {
                order.push((column(self, &key.expr)?, key.asc, key.nulls_first));
            }
            let (function, argument, default) = self.over(call, schema, &mut column)?;
            let wanted = Wanted {
                position,
                function,
                argument,
                default,
                field: window.schema.field(before + position).as_ref().clone(),
            };
            let known = specs
                .iter_mut()
                .find(|spec| spec.partition == partition && spec.order == order);
            match known {
                Some(spec) => spec.calls.push(wanted),
                None => specs.push(Spec {
                    partition,
                    order,
                    calls: vec![wanted],
                }),
            }
        }
        let mut rel = rel.computing(computed);
        let rows = rel.most(self.columns);
        let mut made: Vec<(usize, ColumnId)> = Vec::new();
        let mut after = Vec::new();
        for spec in specs {
            let mut calls: Vec<WindowCall> = Vec::new();
            for wanted in spec.calls {
                let id = self.called(&wanted, rows, &mut calls, &mut after)?;
                made.push((wanted.position, id));
            }
            let keys = spec.order.into_iter();
            let order = keys.map(|(id, ascending, nulls_first)| SortKey {
                expr: id.expr(),
                ascending,
                nulls_first,
            });
            rel = over_one_order(rel, spec.partition, order.collect(), calls);
        }
        made.sort_unstable_by_key(|(position, _)| *position);
        let mut output = input.output;
        output.extend(made.into_iter().map(|(_, id)| id));
        Ok(Built {
            rel: rel.computing(after),
            output,
        })
    }

    /// The column of a function, which is added to the others.
    fn called(
        &mut self,
        wanted: &Wanted,
        rows: u64,
        calls: &mut Vec<WindowCall>,
        after: &mut Vec<(ColumnId, Expr)>,
    ) -> Result<ColumnId> {
        let label = self.label(wanted)?;
        if let (Over::Aggregate(Function::Avg, frame), Some(argument)) =
            (wanted.function, wanted.argument)
            && self.columns.info(argument)?.data_type.is_integer()
        {
            // Exact sums and counts; floating point only of what is opened.
            let mut parts = Vec::new();
            for function in [Function::Sum, Function::Count] {
                let label = format!(
                    "{}({})",
                    function.name(),
                    self.columns.info(argument)?.label
                );
                let info = Info::new(DataType::Int64, function == Function::Sum, label);
                let call = (Over::Aggregate(function, frame), Some(argument), None);
                parts.push(self.add_call(call, info, rows, calls)?);
            }
            if let [sum, count] = parts[..] {
                let average = quotient(sum.expr(), count.expr(), DataType::Float64);
                let id = self.columns.compute(&average)?;
                after.push((id, average));
                return Ok(id);
            }
        }
        let info = Info::new(
            wanted.field.data_type().clone(),
            wanted.field.is_nullable(),
            label,
        );
        let call = (wanted.function, wanted.argument, wanted.default.clone());
        self.add_call(call, info, rows, calls)
    }

    /// Adds a function with what is known of its values.
    fn add_call(
        &mut self,
        (function, argument, default): (Over, Option<ColumnId>, Option<ScalarValue>),
        mut info: Info,
        rows: u64,
        calls: &mut Vec<WindowCall>,
    ) -> Result<ColumnId> {
        let known = calls.iter().find(|known| {
            known.function == function && known.argument == argument && known.default == default
        });
        if let Some(known) = known {
            return Ok(known.id);
        }
        let of = match argument {
            Some(argument) => Some(self.columns.info(argument)?.clone()),
            None => None,
        };
        let magnitude = argument.and_then(|id| self.columns.magnitude(&id.expr()));
        match function {
            Over::RowNumber
            | Over::Rank
            | Over::DenseRank
            | Over::Aggregate(Function::Count, _) => info.most = Some(u128::from(rows)),
            Over::Aggregate(Function::Sum, _) => {
                info.most = magnitude.and_then(|most| most.checked_mul(u128::from(rows.max(1))));
            }
            Over::Lag(_) | Over::Lead(_) | Over::Aggregate(Function::Min | Function::Max, _) => {
                info.most = match &default {
                    None => magnitude,
                    Some(value) => {
                        let literal = Expr::Literal(value.clone(), None);
                        let own = self.columns.magnitude(&literal);
                        magnitude.zip(own).map(|(a, b)| a.max(b))
                    }
                };
                if let Some(of) = of.filter(|_| default.is_none()) {
                    info.codes = of.codes;
                    info.bytes = of.bytes;
                    info.distinct = of.distinct;
                }
            }
            Over::Aggregate(..) => {}
        }
        let id = self.columns.add(info);
        calls.push(WindowCall {
            id,
            function,
            argument,
            default,
        });
        Ok(id)
    }

    fn label(&self, wanted: &Wanted) -> Result<String> {
        let argument = match wanted.argument {
            Some(argument) => self.columns.info(argument)?.label.clone(),
            None => "*".to_owned(),
        };
        Ok(match wanted.function {
            Over::RowNumber => "row_number()".to_owned(),
            Over::Rank => "rank()".to_owned(),
            Over::DenseRank => "dense_rank()".to_owned(),
            Over::Lag(by) => format!("lag({argument}, {by})"),
            Over::Lead(by) => format!("lead({argument}, {by})"),
            Over::Aggregate(function, _) => format!("{}({argument})", function.name()),
        })
    }

    /// Which function it is, over which column, and the literal where there is no row.
    fn over(
        &mut self,
        call: &WindowFunction,
        schema: &DFSchema,
        column: &mut dyn FnMut(&mut Self, &Expr) -> Result<ColumnId>,
    ) -> Result<(Over, Option<ColumnId>, Option<ScalarValue>)> {
        let name = call.fun.name().to_owned();
        let upper = name.to_uppercase();
        let query = self.query;
        let refuse =
            |what: &str| query.unsupported(&format!("{upper}{what}"), &[upper.as_str(), "OVER"]);
        let of = &call.params;
        if of.distinct {
            return Err(refuse("(DISTINCT ...) as a window function"));
        }
        if of.null_treatment.is_some() {
            return Err(refuse(" with IGNORE NULLS"));
        }
        if let WindowFunctionDefinition::WindowUDF(_) = &call.fun {
            let function = match name.as_str() {
                "row_number" => Over::RowNumber,
                "rank" => Over::Rank,
                "dense_rank" => Over::DenseRank,
                "lag" | "lead" => return self.shifted(call, schema, column),
                _ => return Err(refuse(" as a window function")),
            };
            return Ok((function, None, None));
        }
        let function = match name.as_str() {
            "count" => Function::Count,
            "sum" => Function::Sum,
            "avg" => Function::Avg,
            "min" => Function::Min,
            "max" => Function::Max,
            _ => return Err(refuse(" as a window function")),
        };
        let frame = self.frame(&of.window_frame, of.order_by.is_empty())?;
        let [argument] = of.args.as_slice() else {
            return Err(refuse(" of several arguments"));
        };
        let mut argument = unaliased(argument.clone());
        // The engine averages integers as floating point; sums of them are exact.
        if let (Function::Avg, Expr::Cast(cast)) = (function, &argument)
            && *cast.field.data_type() == DataType::Float64
            && is_integer(&cast.expr, schema)
        {
            argument = cast.expr.as_ref().clone();
        }
        if let Some(filter) = &of.filter {
            let when = vec![(filter.clone(), Box::new(argument))];
            argument = Expr::Case(Case::new(None, when, None));
        }
        let function_of = Over::Aggregate(function, frame);
        if function == Function::Count && matches!(&argument, Expr::Literal(of, _) if !of.is_null())
        {
            return Ok((function_of, None, None));
        }
        Ok((function_of, Some(column(self, &argument)?), None))
    }

    /// LAG and LEAD by a literal number of rows, with a literal where there is no such row.
    fn shifted(
        &mut self,
        call: &WindowFunction,
        schema: &DFSchema,
        column: &mut dyn FnMut(&mut Self, &Expr) -> Result<ColumnId>,
    ) -> Result<(Over, Option<ColumnId>, Option<ScalarValue>)> {
        let name = call.fun.name().to_uppercase();
        let query = self.query;
        let refuse = |what: &str| query.unsupported(&format!("{name}{what}"), &[name.as_str()]);
        let literal = |at: usize| match call.params.args.get(at) {
            None => Ok(None),
            Some(Expr::Literal(value, _)) => Ok(Some(value.clone())),
            Some(_) => Err(refuse(" by anything but literals")),
        };
        let by = match literal(1)? {
            None => 1,
            Some(value) => match value.cast_to(&DataType::Int64) {
                Ok(ScalarValue::Int64(Some(by))) => by,
                _ => return Err(refuse(" by anything but a number of rows")),
            },
        };
        let Some(argument) = call.params.args.first() else {
            return Err(refuse(" of nothing"));
        };
        let default = match literal(2)?.filter(|value| !value.is_null()) {
            None => None,
            Some(value) => {
                let (_, field) = argument_field(argument, schema)?;
                let value = value.cast_to(field.data_type());
                Some(value.map_err(|_| refuse(" with a literal of another type"))?)
            }
        };
        let forward = (name == "LEAD") != (by < 0);
        let by = by.unsigned_abs();
        let function = if forward {
            Over::Lead(by)
        } else {
            Over::Lag(by)
        };
        Ok((function, Some(column(self, argument)?), default))
    }

    /// Where a frame ends; it has to begin with its partition.
    fn frame(&self, frame: &WindowFrame, unordered: bool) -> Result<Frame> {
        let unbounded = |bound: &WindowFrameBound| match bound {
            WindowFrameBound::Preceding(by) | WindowFrameBound::Following(by) => by.is_null(),
            WindowFrameBound::CurrentRow => false,
        };
        let begins = matches!(&frame.start_bound, WindowFrameBound::Preceding(_))
            && unbounded(&frame.start_bound);
        let ends = matches!(&frame.end_bound, WindowFrameBound::Following(_))
            && unbounded(&frame.end_bound);
        let current = frame.end_bound == WindowFrameBound::CurrentRow;
        match frame.units {
            WindowFrameUnits::Rows | WindowFrameUnits::Range if begins && ends => {
                Ok(Frame::Partition)
            }
            // Without an order all rows are equal in it.
            WindowFrameUnits::Range if begins && current && unordered => Ok(Frame::Partition),
            WindowFrameUnits::Range if begins && current => Ok(Frame::Range),
            WindowFrameUnits::Rows if begins && current && !unordered => Ok(Frame::Rows),
            WindowFrameUnits::Rows if begins && current => Err(self
                .query
                .unsupported("a frame of ROWS without an order", &["ROWS", "OVER"])),
            _ => Err(self.query.unsupported(
                "a window frame other than from UNBOUNDED PRECEDING to CURRENT ROW or UNBOUNDED \
                 FOLLOWING",
                &["ROWS", "RANGE", "GROUPS", "OVER"],
            )),
        }
    }
}

/// A window on top of a relation; part of the one that is there already where both have one partition and
/// the order matters to one of them alone.
fn over_one_order(
    rel: Rel,
    partition: Vec<ColumnId>,
    order: Vec<SortKey>,
    calls: Vec<WindowCall>,
) -> Rel {
    let looks: BTreeSet<ColumnId> = calls
        .iter()
        .filter_map(|call| call.argument)
        .chain(used_by(order.iter().map(|key| &key.expr)))
        .chain(partition.iter().copied())
        .collect();
    let total = |calls: &[WindowCall]| {
        let mut functions = calls.iter().map(|call| call.function);
        functions.all(|of| matches!(of, Over::Aggregate(_, Frame::Partition)))
    };
    match rel {
        Rel::Window {
            input,
            partition: known,
            order: before,
            calls: mut all,
        } if known == partition
            && !all.iter().any(|call| looks.contains(&call.id))
            && (order.is_empty() && total(&calls) || before.is_empty() && total(&all)) =>
        {
            all.extend(calls);
            Rel::Window {
                input,
                partition,
                order: if order.is_empty() { before } else { order },
                calls: all,
            }
        }
        other => Rel::Window {
            input: Box::new(other),
            partition,
            order,
            calls,
        },
    }
}

fn argument_field(
    argument: &Expr,
    schema: &DFSchema,
) -> Result<(
    Option<datafusion::common::TableReference>,
    std::sync::Arc<Field>,
)> {
    use datafusion::logical_expr::ExprSchemable;
    argument
        .to_field(schema)
        .map_err(|_| Error::new(Code::TypeMismatch, "an expression of the query has no type"))
}

fn is_integer(expr: &Expr, schema: &DFSchema) -> bool {
    argument_field(expr, schema).is_ok_and(|(_, field)| field.data_type().is_integer())
}
