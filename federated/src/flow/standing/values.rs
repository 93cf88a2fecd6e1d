//! What the numbers of an aggregate are made of, anywhere below it: what could pack or pick single values
//! of this department's is refused.

use super::cells::Condition;
use super::follow::Follow;
use crate::plan::program::{
    Aggregate, Expression, Operation, Program, ProgramRelation, Relational, Variable, or_number,
};
use crate::schema::ScalarType;
use std::collections::{BTreeMap, BTreeSet};

/// The most columns of a product, and digits of its literals in all.
const MAX_FACTORS: usize = 3;
const MAX_DIGITS: usize = 6;

/// What makes a column of a program.
enum Origin<'a> {
    Expression(&'a Expression),
    Aggregate(ProgramRelation, &'a Aggregate),
    Union(Vec<Variable>),
    Window(Option<Variable>),
}

/// What makes every column of a program that comes from no fragment.
pub(super) struct Origins<'a>(BTreeMap<Variable, Origin<'a>>);

impl<'a> Origins<'a> {
    pub(super) fn of(program: &'a Program) -> Self {
        let mut all = BTreeMap::new();
        for operator in &program.operators {
            match operator {
                Relational::Map { computed, .. } => {
                    let computed = computed.iter();
                    all.extend(computed.map(|(of, by)| (*of, Origin::Expression(by))));
                }
                Relational::Group {
                    input, aggregates, ..
                } => {
                    let made = aggregates.iter();
                    all.extend(made.map(|of| (of.variable, Origin::Aggregate(*input, of))));
                }
                Relational::Window { calls, .. } => {
                    let calls = calls.iter();
                    all.extend(calls.map(|of| (of.variable, Origin::Window(of.argument))));
                }
                Relational::Union { inputs, columns } => {
                    for (place, of) in columns.iter().enumerate() {
                        let own = inputs.iter().filter_map(|(_, of)| of.get(place).copied());
                        all.insert(*of, Origin::Union(own.flatten().collect()));
                    }
                }
                _ => {}
            }
        }
        Self(all)
    }

    fn expression(&self, of: Variable) -> Option<&'a Expression> {
        match self.0.get(&of) {
            Some(Origin::Expression(by)) => Some(by),
            _ => None,
        }
    }
}

/// What the values of an expression come from: not what only decides.
#[derive(Default)]
struct Values<'a> {
    columns: Vec<Variable>,
    aggregates: Vec<(ProgramRelation, &'a Aggregate)>,
    windows: Vec<Variable>,
}

impl<'a> Follow<'a> {
    /// Refuses what could pack or pick single values of this department's.
    pub(super) fn usual(
        &self,
        argument: Variable,
        counts: bool,
        conditions: &[(Condition, bool)],
    ) -> Result<(), String> {
        let mut from = Values::default();
        self.sources(&Expression::Column(argument), &mut from);
        let mut own = false;
        for variable in from.columns {
            let Some((fragment, units, column)) = self.of.own_column(variable) else {
                continue;
            };
            own = true;
            // What is never NULL says by a flag beside it which rows it is over.
            let said = || {
                let flags: BTreeSet<&String> = conditions
                    .iter()
                    .filter_map(|(of, is)| match of {
                        Condition::Of(Expression::Column(flag)) if *is => {
                            let (of, units, column) = self.of.own_column(*flag)?;
                            units.truth(column).filter(|_| of == fragment)
                        }
                        _ => None,
                    })
                    .collect();
                units.conditions(column).iter().all(|of| flags.contains(of))
            };
            let never = self.of.types.value(variable).is_ok_and(|of| !of.nullable);
            if units.is_mixed(column) || never && !said() {
                return Err("a number over a part of rows that are grouped before".to_owned());
            }
            if let Some(why) = units.unusual(column).filter(|_| !counts) {
                return Err(format!("an aggregate of {why}"));
            }
        }
        own |= !from.aggregates.is_empty();
        for (input, aggregate) in from.aggregates {
            self.aggregate(input, aggregate)?;
        }
        for argument in from.windows {
            let mut shown = Values::default();
            self.sources(&Expression::Column(argument), &mut shown);
            own |= shown
                .columns
                .iter()
                .any(|of| self.of.own_column(*of).is_some());
            if own && !counts {
                return Err("an aggregate of what a window made".to_owned());
            }
        }
        if !own || counts {
            return Ok(());
        }
        sum_of_products(&Expression::Column(argument), &self.made, &mut 0)
            .map(drop)
            .map_err(|why| format!("an aggregate of {why}"))
    }

    fn sources(&self, of: &Expression, into: &mut Values<'a>) {
        match of {
            Expression::Column(variable) => match self.made.0.get(variable) {
                None => into.columns.push(*variable),
                Some(Origin::Expression(by)) => self.sources(by, into),
                Some(Origin::Aggregate(input, by)) => into.aggregates.push((*input, by)),
                Some(Origin::Window(argument)) => into.windows.extend(*argument),
                Some(Origin::Union(all)) => {
                    for of in all {
                        self.sources(&Expression::Column(*of), into);
                    }
                }
            },
            Expression::Case { when, otherwise } => {
                for (_, result) in when {
                    self.sources(result, into);
                }
                self.sources(otherwise, into);
            }
            Expression::Rescale { input, .. }
            | Expression::Bits { input, .. }
            | Expression::Not(input)
            | Expression::IsNull(input) => self.sources(input, into),
            Expression::Arithmetic { left, right, .. }
            | Expression::Quotient { left, right, .. }
            | Expression::Compare { left, right, .. } => {
                self.sources(left, into);
                self.sources(right, into);
            }
            Expression::All(parts) | Expression::Any(parts) => {
                for part in parts {
                    self.sources(part, into);
                }
            }
            Expression::Number { .. } | Expression::Text { .. } | Expression::Null(_) => {}
        }
    }
}

/// The number of columns of the largest product of an expression.
fn sum_of_products(
    of: &Expression,
    made: &Origins<'_>,
    digits: &mut usize,
) -> Result<usize, &'static str> {
    let factors = match of {
        Expression::Column(variable) => match made.expression(*variable) {
            Some(inner) => sum_of_products(inner, made, digits)?,
            None => 1,
        },
        Expression::Number { value, data_type } => {
            if *data_type == ScalarType::Bool {
                return Err("a truth value as a number");
            }
            *digits += value
                .unsigned_abs()
                .to_string()
                .trim_start_matches('0')
                .len();
            if *digits > MAX_DIGITS {
                return Err("literals of more than six digits");
            }
            0
        }
        Expression::Rescale { input, .. } | Expression::Bits { input, .. } => {
            sum_of_products(input, made, digits)?
        }
        Expression::Arithmetic {
            operation,
            left,
            right,
            ..
        } => {
            let a = sum_of_products(left, made, digits)?;
            let b = sum_of_products(right, made, digits)?;
            match operation {
                Operation::Multiply => a + b,
                Operation::Add | Operation::Subtract => a.max(b),
            }
        }
        Expression::Quotient { left, right, .. } => {
            sum_of_products(left, made, digits)? + sum_of_products(right, made, digits)?
        }
        // A number, or none or one where there is none.
        // What is NULL elsewhere is told by its conditions.
        Expression::Case { when, otherwise }
            if when.len() == 1 && matches!(otherwise.as_ref(), Expression::Null(_)) =>
        {
            sum_of_products(&when[0].1, made, digits)?
        }
        Expression::Case { .. } => match or_number(of) {
            Some((value, 0 | 1)) => sum_of_products(value, made, digits)?,
            _ => return Err("CASE with several results"),
        },
        _ => return Err("an expression that picks values"),
    };
    match factors > MAX_FACTORS {
        true => Err("a product of more than three columns"),
        false => Ok(factors),
    }
}
