//! Programs on the wire, both ways.

use super::from_wire::{all, index, refuse, required, scalar as to_scalar};
use super::to_wire::{index as number, scalar as from_scalar};
use crate::error::Result;
use crate::plan::Encoding;
use crate::plan::program::{
    Aggregate, AggregateKind, Expression, Frame, GuardedCell, JoinKind, Operation, OrderKey,
    Program, Relational, UnitGuard, Variable, WindowCall, WindowFunction,
};
use veilgate_proto::plan::v1 as pb;

pub(super) fn program(program: &Program) -> pb::Program {
    pb::Program {
        operators: program.operators.iter().map(operator).collect(),
        opened: variables(&program.opened),
    }
}

fn variables(list: &[Variable]) -> Vec<u32> {
    list.iter().map(|variable| variable.0).collect()
}

/// One more than the number, so that zero is free for none.
fn optional(variable: Option<Variable>) -> u32 {
    variable.map_or(0, |variable| variable.0.saturating_add(1))
}

fn operator(operator: &Relational) -> pb::Relational {
    use pb::relational::Kind;
    let kind = match operator {
        Relational::Join {
            kind,
            left,
            right,
            on,
            matched,
            most,
            left_most,
        } => Kind::Join(pb::RelationalJoin {
            kind: join_kind(*kind).into(),
            left: number(*left),
            right: number(*right),
            left_on: on.iter().map(|(a, _)| a.0).collect(),
            right_on: on.iter().map(|(_, b)| b.0).collect(),
            matched: optional(*matched),
            most: *most,
            left_most: left_most.unwrap_or(0),
        }),
        Relational::Guard {
            input,
            units,
            cells,
            keeps_rows,
        } => Kind::Guard(pb::Guard {
            input: number(*input),
            units: units.iter().map(unit).collect(),
            cells: cells
                .iter()
                .map(|cell| pb::GuardedCell {
                    value: cell.value.0,
                    atoms: cell.atoms.clone(),
                })
                .collect(),
            keeps_rows: *keeps_rows,
        }),
        Relational::Beside { left, right, most } => Kind::Beside(pb::Beside {
            left: number(*left),
            right: number(*right),
            most: *most,
        }),
        Relational::Filter { input, condition } => Kind::Filter(pb::RelationalFilter {
            input: number(*input),
            condition: Some(expression(condition)),
        }),
        Relational::Map { input, computed } => Kind::Map(pb::Map {
            input: number(*input),
            computed: computed
                .iter()
                .map(|(variable, of)| pb::Computed {
                    variable: variable.0,
                    expression: Some(expression(of)),
                })
                .collect(),
        }),
        Relational::Group {
            input,
            keys,
            aggregates,
            most,
        } => Kind::Group(pb::Group {
            input: number(*input),
            keys: variables(keys),
            aggregates: aggregates.iter().map(aggregate).collect(),
            most: *most,
        }),
        Relational::Top { input, keys, rows } => Kind::Top(pb::Top {
            input: number(*input),
            keys: order(keys),
            rows: *rows,
        }),
        Relational::Window {
            input,
            partition,
            order: by,
            calls,
        } => Kind::Window(pb::Window {
            input: number(*input),
            partition: variables(partition),
            order: order(by),
            calls: calls.iter().map(call).collect(),
        }),
        Relational::Union { inputs, columns } => Kind::Union(pb::Union {
            inputs: inputs
                .iter()
                .map(|(relation, columns)| pb::UnionInput {
                    relation: number(*relation),
                    columns: columns.iter().map(|of| optional(*of)).collect(),
                })
                .collect(),
            columns: variables(columns),
        }),
    };
    pb::Relational { kind: Some(kind) }
}

fn unit(of: &UnitGuard) -> pb::UnitGuard {
    pb::UnitGuard {
        owner: number(of.owner),
        k: of.k,
        rows: of.rows.0,
        atoms: variables(&of.atoms),
    }
}

fn order(keys: &[OrderKey]) -> Vec<pb::OrderKey> {
    let keys = keys.iter().map(|key| pb::OrderKey {
        variable: key.variable.0,
        ascending: key.ascending,
        nulls_first: key.nulls_first,
    });
    keys.collect()
}

fn call(of: &WindowCall) -> pb::WindowCall {
    use WindowFunction as F;
    let (kind, frame, by) = match of.function {
        F::RowNumber => (pb::WindowKind::RowNumber, None, 0),
        F::Rank => (pb::WindowKind::Rank, None, 0),
        F::DenseRank => (pb::WindowKind::DenseRank, None, 0),
        F::Lag { by } => (pb::WindowKind::Lag, None, by),
        F::Lead { by } => (pb::WindowKind::Lead, None, by),
        F::Count(frame) => (pb::WindowKind::Count, Some(frame), 0),
        F::Sum(frame) => (pb::WindowKind::Sum, Some(frame), 0),
        F::Min(frame) => (pb::WindowKind::Min, Some(frame), 0),
        F::Max(frame) => (pb::WindowKind::Max, Some(frame), 0),
    };
    let frame = match frame {
        None => pb::WindowFrame::Unspecified,
        Some(Frame::Rows) => pb::WindowFrame::Rows,
        Some(Frame::Range) => pb::WindowFrame::Range,
        Some(Frame::Partition) => pb::WindowFrame::Partition,
    };
    pb::WindowCall {
        variable: of.variable.0,
        function: kind.into(),
        argument: optional(of.argument),
        r#type: Some(from_scalar(of.data_type)),
        frame: frame.into(),
        by,
        there: optional(of.there),
    }
}

fn join_kind(kind: JoinKind) -> pb::JoinKind {
    match kind {
        JoinKind::Inner => pb::JoinKind::Inner,
        JoinKind::Left => pb::JoinKind::Left,
        JoinKind::Semi => pb::JoinKind::Semi,
        JoinKind::Anti => pb::JoinKind::Anti,
        JoinKind::NotIn => pb::JoinKind::NotIn,
        JoinKind::Full => pb::JoinKind::Full,
    }
}

fn aggregate(of: &Aggregate) -> pb::GroupAggregate {
    let function = match of.function {
        AggregateKind::Count => pb::AggregateKind::Count,
        AggregateKind::Sum => pb::AggregateKind::Sum,
        AggregateKind::Min => pb::AggregateKind::Min,
        AggregateKind::Max => pb::AggregateKind::Max,
        AggregateKind::Any => pb::AggregateKind::Any,
        AggregateKind::CountDistinct => pb::AggregateKind::CountDistinct,
        AggregateKind::Median => pb::AggregateKind::Median,
        AggregateKind::Percentile { .. } => pb::AggregateKind::Percentile,
    };
    let (parts, digits) = match of.function {
        AggregateKind::Percentile { parts, digits } => (parts, digits),
        _ => (0, 0),
    };
    pb::GroupAggregate {
        variable: of.variable.0,
        function: function.into(),
        argument: optional(of.argument),
        when: optional(of.when),
        r#type: Some(from_scalar(of.data_type)),
        parts,
        digits: digits.into(),
    }
}

fn boxed(of: &Expression) -> Option<Box<pb::Expression>> {
    Some(Box::new(expression(of)))
}

fn list(parts: &[Expression]) -> pb::ExpressionList {
    pb::ExpressionList {
        items: parts.iter().map(expression).collect(),
    }
}

fn expression(of: &Expression) -> pb::Expression {
    use pb::expression::Kind;
    let kind = match of {
        Expression::Column(variable) => Kind::Column(variable.0),
        Expression::Number { value, data_type } => Kind::Number(pb::Number {
            value: value.to_le_bytes().to_vec(),
            r#type: Some(from_scalar(*data_type)),
        }),
        Expression::Text { value, form } => Kind::Text(pb::TextValue {
            value: value.clone(),
            form: match form {
                Encoding::Codes(values) => Some(pb::text_value::Form::Codes(pb::Codes {
                    values: values.clone(),
                })),
                Encoding::Text { max_bytes } => Some(pb::text_value::Form::Text(pb::Text {
                    max_bytes: *max_bytes,
                })),
                _ => None,
            },
        }),
        Expression::Null(data_type) => Kind::Null(from_scalar(*data_type)),
        Expression::Not(inner) => Kind::Not(Box::new(expression(inner))),
        Expression::All(parts) => Kind::All(list(parts)),
        Expression::Any(parts) => Kind::Any(list(parts)),
        Expression::Compare {
            comparator,
            left,
            right,
        } => Kind::Compare(Box::new(pb::ExpressionComparison {
            comparator: super::to_wire::comparator_of(*comparator).into(),
            left: boxed(left),
            right: boxed(right),
        })),
        Expression::IsNull(inner) => Kind::IsNull(Box::new(expression(inner))),
        Expression::Arithmetic {
            operation,
            left,
            right,
            data_type,
            wide,
        } => Kind::Arithmetic(Box::new(pb::Arithmetic {
            operation: match operation {
                Operation::Add => pb::Operation::Add,
                Operation::Subtract => pb::Operation::Subtract,
                Operation::Multiply => pb::Operation::Multiply,
            }
            .into(),
            left: boxed(left),
            right: boxed(right),
            r#type: Some(from_scalar(*data_type)),
            wide: *wide,
        })),
        Expression::Rescale {
            input,
            data_type,
            wide,
        } => Kind::Rescale(Box::new(pb::Rescale {
            input: boxed(input),
            r#type: Some(from_scalar(*data_type)),
            wide: *wide,
        })),
        Expression::Bits { input, width } => Kind::ToBits(Box::new(pb::ToBits {
            input: boxed(input),
            width: *width,
        })),
        Expression::Quotient {
            left,
            right,
            data_type,
            checked,
        } => Kind::Quotient(Box::new(pb::Quotient {
            left: boxed(left),
            right: boxed(right),
            r#type: Some(from_scalar(*data_type)),
            checked: *checked,
        })),
        Expression::Case { when, otherwise } => Kind::Case(Box::new(pb::Case {
            when: when
                .iter()
                .map(|(condition, result)| pb::When {
                    condition: Some(expression(condition)),
                    result: Some(expression(result)),
                })
                .collect(),
            otherwise: boxed(otherwise),
        })),
    };
    pb::Expression { kind: Some(kind) }
}

/// A program off the wire.
pub(super) fn read(program: pb::Program) -> Result<Program> {
    Ok(Program {
        operators: all(program.operators, read_operator)?,
        opened: read_variables(program.opened),
    })
}

fn read_variables(list: Vec<u32>) -> Vec<Variable> {
    list.into_iter().map(Variable).collect()
}

fn read_optional(number: u32) -> Option<Variable> {
    number.checked_sub(1).map(Variable)
}

fn read_operator(operator: pb::Relational) -> Result<Relational> {
    use pb::relational::Kind;
    Ok(match required(operator.kind, "an unknown operator")? {
        Kind::Join(join) => {
            if join.left_on.len() != join.right_on.len() {
                return refuse("a join with a column that has no partner");
            }
            Relational::Join {
                kind: match pb::JoinKind::try_from(join.kind) {
                    Ok(pb::JoinKind::Inner) => JoinKind::Inner,
                    Ok(pb::JoinKind::Left) => JoinKind::Left,
                    Ok(pb::JoinKind::Semi) => JoinKind::Semi,
                    Ok(pb::JoinKind::Anti) => JoinKind::Anti,
                    Ok(pb::JoinKind::NotIn) => JoinKind::NotIn,
                    Ok(pb::JoinKind::Full) => JoinKind::Full,
                    Ok(pb::JoinKind::Unspecified) | Err(_) => {
                        return refuse("a join of an unknown kind");
                    }
                },
                most: join.most,
                left_most: (join.left_most > 0).then_some(join.left_most),
                left: index(join.left),
                right: index(join.right),
                on: read_variables(join.left_on)
                    .into_iter()
                    .zip(read_variables(join.right_on))
                    .collect(),
                matched: read_optional(join.matched),
            }
        }
        Kind::Beside(beside) => Relational::Beside {
            left: index(beside.left),
            right: index(beside.right),
            most: beside.most,
        },
        Kind::Filter(filter) => Relational::Filter {
            input: index(filter.input),
            condition: read_expression(required(filter.condition, "condition in a filter")?)?,
        },
        Kind::Map(map) => Relational::Map {
            input: index(map.input),
            computed: all(map.computed, |of| {
                let expression = required(of.expression, "expression for a column")?;
                Ok((Variable(of.variable), read_expression(expression)?))
            })?,
        },
        Kind::Group(group) => Relational::Group {
            input: index(group.input),
            keys: read_variables(group.keys),
            aggregates: all(group.aggregates, read_aggregate)?,
            most: group.most,
        },
        Kind::Top(top) => Relational::Top {
            input: index(top.input),
            keys: read_order(top.keys),
            rows: top.rows,
        },
        Kind::Window(window) => Relational::Window {
            input: index(window.input),
            partition: read_variables(window.partition),
            order: read_order(window.order),
            calls: all(window.calls, read_call)?,
        },
        Kind::Guard(guard) => Relational::Guard {
            input: index(guard.input),
            units: all(guard.units, |of| {
                Ok(UnitGuard {
                    owner: index(of.owner),
                    k: of.k,
                    rows: Variable(of.rows),
                    atoms: read_variables(of.atoms),
                })
            })?,
            cells: all(guard.cells, |of| {
                Ok(GuardedCell {
                    value: Variable(of.value),
                    atoms: of.atoms,
                })
            })?,
            keeps_rows: guard.keeps_rows,
        },
        Kind::Union(union) => Relational::Union {
            inputs: all(union.inputs, |input| {
                let columns = input.columns.into_iter().map(read_optional);
                Ok((index(input.relation), columns.collect()))
            })?,
            columns: read_variables(union.columns),
        },
    })
}

fn read_order(keys: Vec<pb::OrderKey>) -> Vec<OrderKey> {
    let keys = keys.into_iter().map(|key| OrderKey {
        variable: Variable(key.variable),
        ascending: key.ascending,
        nulls_first: key.nulls_first,
    });
    keys.collect()
}

fn read_call(of: pb::WindowCall) -> Result<WindowCall> {
    use WindowFunction as F;
    use pb::WindowKind as K;
    let frame = match pb::WindowFrame::try_from(of.frame) {
        Ok(pb::WindowFrame::Unspecified) => None,
        Ok(pb::WindowFrame::Rows) => Some(Frame::Rows),
        Ok(pb::WindowFrame::Range) => Some(Frame::Range),
        Ok(pb::WindowFrame::Partition) => Some(Frame::Partition),
        Err(_) => return refuse("an unknown frame of a window"),
    };
    let function = match (K::try_from(of.function), frame) {
        (Ok(K::RowNumber), None) => F::RowNumber,
        (Ok(K::Rank), None) => F::Rank,
        (Ok(K::DenseRank), None) => F::DenseRank,
        (Ok(K::Lag), None) => F::Lag { by: of.by },
        (Ok(K::Lead), None) => F::Lead { by: of.by },
        (Ok(K::Count), Some(frame)) => F::Count(frame),
        (Ok(K::Sum), Some(frame)) => F::Sum(frame),
        (Ok(K::Min), Some(frame)) => F::Min(frame),
        (Ok(K::Max), Some(frame)) => F::Max(frame),
        _ => return refuse("an unknown function of a window, or one with another frame"),
    };
    Ok(WindowCall {
        variable: Variable(of.variable),
        function,
        argument: read_optional(of.argument),
        data_type: to_scalar(of.r#type)?,
        there: read_optional(of.there),
    })
}

fn read_aggregate(of: pb::GroupAggregate) -> Result<Aggregate> {
    Ok(Aggregate {
        variable: Variable(of.variable),
        function: match pb::AggregateKind::try_from(of.function) {
            Ok(pb::AggregateKind::Count) => AggregateKind::Count,
            Ok(pb::AggregateKind::Sum) => AggregateKind::Sum,
            Ok(pb::AggregateKind::Min) => AggregateKind::Min,
            Ok(pb::AggregateKind::Max) => AggregateKind::Max,
            Ok(pb::AggregateKind::Any) => AggregateKind::Any,
            Ok(pb::AggregateKind::CountDistinct) => AggregateKind::CountDistinct,
            Ok(pb::AggregateKind::Median) => AggregateKind::Median,
            Ok(pb::AggregateKind::Percentile) => AggregateKind::Percentile {
                parts: of.parts,
                digits: match u8::try_from(of.digits) {
                    Ok(digits) => digits,
                    Err(_) => return refuse("a percentile of that many digits"),
                },
            },
            Ok(pb::AggregateKind::Unspecified) | Err(_) => {
                return refuse("an unknown aggregate function");
            }
        },
        argument: read_optional(of.argument),
        when: read_optional(of.when),
        data_type: to_scalar(of.r#type)?,
    })
}

fn inner(of: Option<Box<pb::Expression>>) -> Result<Box<Expression>> {
    let of = required(of, "part in an expression")?;
    Ok(Box::new(read_expression(*of)?))
}

fn read_expression(of: pb::Expression) -> Result<Expression> {
    use pb::expression::Kind;
    Ok(match required(of.kind, "known kind of expression")? {
        Kind::Column(variable) => Expression::Column(Variable(variable)),
        Kind::Number(number) => {
            let Ok(bytes) = <[u8; 16]>::try_from(number.value.as_slice()) else {
                return refuse("a number that is not 16 bytes long");
            };
            Expression::Number {
                value: i128::from_le_bytes(bytes),
                data_type: to_scalar(number.r#type)?,
            }
        }
        Kind::Text(text) => Expression::Text {
            value: text.value,
            form: match required(text.form, "form for a text")? {
                pb::text_value::Form::Codes(codes) => Encoding::Codes(codes.values),
                pb::text_value::Form::Text(text) => Encoding::Text {
                    max_bytes: text.max_bytes,
                },
            },
        },
        Kind::Null(data_type) => Expression::Null(to_scalar(Some(data_type))?),
        Kind::Not(of) => Expression::Not(inner(Some(of))?),
        Kind::All(parts) => Expression::All(all(parts.items, read_expression)?),
        Kind::Any(parts) => Expression::Any(all(parts.items, read_expression)?),
        Kind::Compare(compare) => Expression::Compare {
            comparator: super::from_wire::comparator(compare.comparator)?,
            left: inner(compare.left)?,
            right: inner(compare.right)?,
        },
        Kind::IsNull(of) => Expression::IsNull(inner(Some(of))?),
        Kind::Arithmetic(arithmetic) => Expression::Arithmetic {
            operation: match pb::Operation::try_from(arithmetic.operation) {
                Ok(pb::Operation::Add) => Operation::Add,
                Ok(pb::Operation::Subtract) => Operation::Subtract,
                Ok(pb::Operation::Multiply) => Operation::Multiply,
                Ok(pb::Operation::Unspecified) | Err(_) => {
                    return refuse("an unknown arithmetic operation");
                }
            },
            left: inner(arithmetic.left)?,
            right: inner(arithmetic.right)?,
            data_type: to_scalar(arithmetic.r#type)?,
            wide: arithmetic.wide,
        },
        Kind::Rescale(rescale) => Expression::Rescale {
            input: inner(rescale.input)?,
            data_type: to_scalar(rescale.r#type)?,
            wide: rescale.wide,
        },
        Kind::ToBits(bits) => Expression::Bits {
            input: inner(bits.input)?,
            width: bits.width,
        },
        Kind::Quotient(quotient) => Expression::Quotient {
            left: inner(quotient.left)?,
            right: inner(quotient.right)?,
            data_type: to_scalar(quotient.r#type)?,
            checked: quotient.checked,
        },
        Kind::Case(case) => Expression::Case {
            when: all(case.when, |when| {
                Ok((
                    read_expression(required(when.condition, "condition in CASE")?)?,
                    read_expression(required(when.result, "result in CASE")?)?,
                ))
            })?,
            otherwise: inner(case.otherwise)?,
        },
    })
}
