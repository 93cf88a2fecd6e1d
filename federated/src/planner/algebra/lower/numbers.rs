//! The numbers of variables, which are known when all fragments' columns are.

use super::window;
use crate::plan::program::{self, Expression, OrderKey, Relational, Variable};

/// The variables that an operator makes, in order.
pub(super) fn defined(operator: &Relational) -> Vec<Variable> {
    match operator {
        Relational::Join { matched, .. } => matched.iter().copied().collect(),
        Relational::Map { computed, .. } => {
            computed.iter().map(|(variable, _)| *variable).collect()
        }
        Relational::Group { aggregates, .. } => aggregates.iter().map(|of| of.variable).collect(),
        Relational::Union { columns, .. } => columns.clone(),
        Relational::Window { calls, .. } => window::defined(calls),
        _ => Vec::new(),
    }
}

fn renumbered_order(keys: Vec<OrderKey>, number: &dyn Fn(Variable) -> Variable) -> Vec<OrderKey> {
    let keys = keys.into_iter().map(|key| OrderKey {
        variable: number(key.variable),
        ..key
    });
    keys.collect()
}

pub(super) fn renumbered(
    operator: Relational,
    number: &dyn Fn(Variable) -> Variable,
) -> Relational {
    match operator {
        Relational::Join {
            kind,
            left,
            right,
            on,
            matched,
            most,
            left_most,
        } => Relational::Join {
            kind,
            left,
            right,
            on: on
                .into_iter()
                .map(|(a, b)| (number(a), number(b)))
                .collect(),
            matched: matched.map(number),
            most,
            left_most,
        },
        Relational::Guard {
            input,
            units,
            cells,
            keeps_rows,
        } => Relational::Guard {
            input,
            units: units
                .into_iter()
                .map(|unit| program::UnitGuard {
                    rows: number(unit.rows),
                    atoms: unit.atoms.into_iter().map(number).collect(),
                    ..unit
                })
                .collect(),
            cells: cells
                .into_iter()
                .map(|cell| program::GuardedCell {
                    value: number(cell.value),
                    ..cell
                })
                .collect(),
            keeps_rows,
        },
        Relational::Beside { .. } => operator,
        Relational::Filter { input, condition } => Relational::Filter {
            input,
            condition: expression(condition, number),
        },
        Relational::Map { input, computed } => Relational::Map {
            input,
            computed: computed
                .into_iter()
                .map(|(variable, of)| (number(variable), expression(of, number)))
                .collect(),
        },
        Relational::Group {
            input,
            keys,
            aggregates,
            most,
        } => Relational::Group {
            input,
            keys: keys.into_iter().map(number).collect(),
            aggregates: aggregates
                .into_iter()
                .map(|of| program::Aggregate {
                    variable: number(of.variable),
                    argument: of.argument.map(number),
                    when: of.when.map(number),
                    ..of
                })
                .collect(),
            most,
        },
        Relational::Top { input, keys, rows } => Relational::Top {
            input,
            keys: renumbered_order(keys, number),
            rows,
        },
        Relational::Window {
            input,
            partition,
            order,
            calls,
        } => Relational::Window {
            input,
            partition: partition.into_iter().map(number).collect(),
            order: renumbered_order(order, number),
            calls: window::renumbered(calls, number),
        },
        Relational::Union { inputs, columns } => Relational::Union {
            inputs: inputs
                .into_iter()
                .map(|(input, of)| {
                    let of = of.into_iter().map(|of| of.map(number));
                    (input, of.collect())
                })
                .collect(),
            columns: columns.into_iter().map(number).collect(),
        },
    }
}

fn expression(of: Expression, number: &dyn Fn(Variable) -> Variable) -> Expression {
    let again = |of: Box<Expression>| Box::new(expression(*of, number));
    let list = |of: Vec<Expression>| {
        of.into_iter()
            .map(|part| expression(part, number))
            .collect()
    };
    match of {
        Expression::Column(variable) => Expression::Column(number(variable)),
        Expression::Number { .. } | Expression::Text { .. } | Expression::Null(_) => of,
        Expression::Not(inner) => Expression::Not(again(inner)),
        Expression::All(parts) => Expression::All(list(parts)),
        Expression::Any(parts) => Expression::Any(list(parts)),
        Expression::Compare {
            comparator,
            left,
            right,
        } => Expression::Compare {
            comparator,
            left: again(left),
            right: again(right),
        },
        Expression::IsNull(inner) => Expression::IsNull(again(inner)),
        Expression::Arithmetic {
            operation,
            left,
            right,
            data_type,
            wide,
        } => Expression::Arithmetic {
            operation,
            left: again(left),
            right: again(right),
            data_type,
            wide,
        },
        Expression::Rescale {
            input,
            data_type,
            wide,
        } => Expression::Rescale {
            input: again(input),
            data_type,
            wide,
        },
        Expression::Bits { input, width } => Expression::Bits {
            input: again(input),
            width,
        },
        Expression::Quotient {
            left,
            right,
            data_type,
            checked,
        } => Expression::Quotient {
            left: again(left),
            right: again(right),
            data_type,
            checked,
        },
        Expression::Case { when, otherwise } => Expression::Case {
            when: when
                .into_iter()
                .map(|(condition, result)| {
                    (expression(condition, number), expression(result, number))
                })
                .collect(),
            otherwise: again(otherwise),
        },
    }
}
