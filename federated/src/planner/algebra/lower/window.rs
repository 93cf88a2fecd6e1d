//! Window functions over shares.

use super::{Lower, Place, Relation, Want};
use crate::error::Result;
use crate::plan::Encoding;
use crate::plan::program::{
    Expression, OrderKey, Relational, Variable, WindowCall, WindowFunction,
};
use crate::planner::algebra::columns::ColumnId;
use crate::planner::algebra::{Function, Over, Rel, SortKey, WindowCall as Call};
use datafusion::common::ScalarValue;

impl Lower<'_> {
    /// The rows with a column for each function.
    pub(super) fn window(
        &mut self,
        mut input: Relation,
        partition: &[ColumnId],
        order: &[SortKey],
        calls: &[Call],
        rel: &Rel,
    ) -> Result<Relation> {
        let mut list = Vec::new();
        let mut keys: Vec<Variable> = Vec::new();
        for key in partition {
            let variable = self.as_key(&input, *key, &mut list)?;
            if !keys.contains(&variable) {
                keys.push(variable);
            }
        }
        let mut by = Vec::new();
        for key in order {
            let variable = self.as_column(&input, &key.expr, Want::Bits, &mut list)?;
            by.push(OrderKey {
                variable,
                ascending: key.ascending,
                nulls_first: key.nulls_first,
            });
        }
        let mut wanted = Vec::new();
        for call in calls {
            let function = self.function(call.function)?;
            let want = self.want(call, function)?;
            let argument = match call.argument {
                None => None,
                Some(argument) => {
                    Some(self.as_column(&input, &argument.expr(), want, &mut list)?)
                }
            };
            wanted.push((call, function, argument));
        }
        if !list.is_empty() {
            input.relation = self.push(Relational::Map {
                input: input.relation,
                computed: list,
            });
        }
        let mut made = Vec::new();
        let mut defaults = Vec::new();
        for (call, function, argument) in wanted {
            let form = match (function, argument) {
                (
                    WindowFunction::Sum(_)
                    | WindowFunction::Min(_)
                    | WindowFunction::Max(_)
                    | WindowFunction::Lag { .. }
                    | WindowFunction::Lead { .. },
                    Some(argument),
                ) => self.forms.get(&argument).cloned(),
                _ => None,
            };
            let variable = self.fresh(form.unwrap_or(Encoding::Ring64));
            let there = match &call.default {
                None => None,
                Some(value) => {
                    let there = self.fresh(Encoding::Bits(1));
                    defaults.push((call.id, variable, there, value));
                    Some(there)
                }
            };
            input.places.insert(call.id, Place::Variable(variable));
            made.push(WindowCall {
                variable,
                function,
                argument,
                data_type: self.scalar(&self.columns.info(call.id)?.data_type)?,
                there,
            });
        }
        input.relation = self.push(Relational::Window {
            input: input.relation,
            partition: keys,
            order: by,
            calls: made,
        });
        let mut list = Vec::new();
        for (id, variable, there, value) in defaults {
            let value = self.default(value)?;
            let expression = Expression::Case {
                when: vec![(Expression::Column(there), Expression::Column(variable))],
                otherwise: Box::new(value),
            };
            let form = self.form_of(&expression)?;
            let variable = self.fresh(form);
            list.push((variable, expression));
            input.places.insert(id, Place::Variable(variable));
        }
        if !list.is_empty() {
            input.relation = self.push(Relational::Map {
                input: input.relation,
                computed: list,
            });
        }
        input.rel = rel.clone();
        Ok(input)
    }

    fn function(&self, of: Over) -> Result<WindowFunction> {
        Ok(match of {
            Over::RowNumber => WindowFunction::RowNumber,
            Over::Rank => WindowFunction::Rank,
            Over::DenseRank => WindowFunction::DenseRank,
            Over::Lag(by) => WindowFunction::Lag { by },
            Over::Lead(by) => WindowFunction::Lead { by },
            Over::Aggregate(Function::Count, frame) => WindowFunction::Count(frame),
            Over::Aggregate(Function::Sum, frame) => WindowFunction::Sum(frame),
            Over::Aggregate(Function::Min, frame) => WindowFunction::Min(frame),
            Over::Aggregate(Function::Max, frame) => WindowFunction::Max(frame),
            Over::Aggregate(function, _) => {
                let name = function.name().to_uppercase();
                return Err(self.unsupported(&format!("{name} as a window function")));
            }
        })
    }

    /// The form in which the column is wanted.
    fn want(&self, call: &Call, function: WindowFunction) -> Result<Want> {
        Ok(match function {
            WindowFunction::Sum(_) => {
                let narrow = |most: Option<u128>| most.is_some_and(|most| most < 1 << 63);
                let of = call.argument.map(ColumnId::expr);
                let of = of.and_then(|of| self.columns.magnitude(&of));
                let most = self.columns.info(call.id)?.most;
                Want::Ring {
                    wide: !(narrow(of) && narrow(most)),
                }
            }
            WindowFunction::Lag { .. } | WindowFunction::Lead { .. } => Want::Any,
            _ => Want::Bits,
        })
    }

    /// A literal in place of a row that is not there.
    fn default(&self, value: &ScalarValue) -> Result<Expression> {
        if let ScalarValue::Utf8(_) = value {
            return Err(self.unsupported("a text in place of a row that is not there"));
        }
        self.literal(value)
    }
}

/// The variables of functions, in order.
pub(super) fn defined(calls: &[WindowCall]) -> Vec<Variable> {
    let each = calls.iter();
    each.flat_map(|call| std::iter::once(call.variable).chain(call.there))
        .collect()
}

pub(super) fn renumbered(
    calls: Vec<WindowCall>,
    number: &dyn Fn(Variable) -> Variable,
) -> Vec<WindowCall> {
    let calls = calls.into_iter().map(|call| WindowCall {
        variable: number(call.variable),
        argument: call.argument.map(number),
        there: call.there.map(number),
        ..call
    });
    calls.collect()
}
