//! Which rows a value is over: the conditions under which a column is not NULL.
//!
//! Whoever makes a plan and whoever checks it read them off the program in the same way, so that the atoms
//! that are counted are those of the values that are shown.

use super::{Expression, Program, ProgramRelation, Relational, Types, Variable};
use crate::error::Result;
use crate::schema::ScalarType;
use std::collections::BTreeMap;

/// What the columns of a relation are computed from, as far as rows have not changed since.
pub(crate) struct Definitions<'a> {
    types: &'a Types,
    relation: ProgramRelation,
    of: BTreeMap<Variable, &'a Expression>,
}

impl<'a> Definitions<'a> {
    /// Those of a relation of a program over so many fragments.
    pub(crate) fn of(
        program: &'a Program,
        types: &'a Types,
        fragments: usize,
        relation: ProgramRelation,
    ) -> Self {
        let mut of = BTreeMap::new();
        let mut at = relation;
        while let Some(operator) = at
            .checked_sub(fragments)
            .and_then(|at| program.operators.get(at))
        {
            match operator {
                Relational::Map { input, computed } => {
                    of.extend(computed.iter().map(|(variable, of)| (*variable, of)));
                    at = *input;
                }
                Relational::Filter { input, .. }
                | Relational::Window { input, .. }
                | Relational::Top { input, .. } => at = *input,
                _ => break,
            }
        }
        Self {
            types,
            relation,
            of,
        }
    }

    /// What a column is computed from; none where it came with the rows.
    pub(crate) fn get(&self, variable: Variable) -> Option<&'a Expression> {
        self.of.get(&variable).copied()
    }

    /// The conditions that all hold exactly where a column is not NULL: truth values that are never NULL.
    pub(crate) fn of_column(&self, variable: Variable) -> Result<Vec<Expression>> {
        let mut list = Vec::new();
        self.holds(&Expression::Column(variable), &mut list)?;
        Ok(list)
    }

    fn holds(&self, expression: &Expression, into: &mut Vec<Expression>) -> Result<()> {
        // Nothing where there is none adds nothing.
        if let Some((value, number)) = or_number(expression) {
            return match number {
                0 => self.holds(value, into),
                _ => Ok(()),
            };
        }
        let types = self.types;
        if !types.expression(self.relation, expression, 0)?.nullable {
            return match expression {
                Expression::Column(variable) => match self.get(*variable) {
                    Some(of) => self.holds(of, into),
                    None => Ok(()),
                },
                Expression::Rescale { input, .. } | Expression::Bits { input, .. } => {
                    self.holds(input, into)
                }
                Expression::Arithmetic { left, right, .. } => {
                    self.holds(left, into)?;
                    self.holds(right, into)
                }
                _ => Ok(()),
            };
        }
        match expression {
            Expression::Column(variable) => match self.get(*variable) {
                Some(of) => self.holds(of, into),
                None => {
                    push(not(Expression::IsNull(Box::new(expression.clone()))), into);
                    Ok(())
                }
            },
            Expression::Arithmetic { left, right, .. } => {
                self.holds(left, into)?;
                self.holds(right, into)
            }
            Expression::Rescale { input, .. } | Expression::Bits { input, .. } => {
                self.holds(input, into)
            }
            Expression::Case { when, otherwise }
                if when.len() == 1 && matches!(otherwise.as_ref(), Expression::Null(_)) =>
            {
                let (condition, then) = &when[0];
                self.truth(condition, into)?;
                self.holds(then, into)
            }
            other => {
                push(not(Expression::IsNull(Box::new(other.clone()))), into);
                Ok(())
            }
        }
    }

    /// That a condition is true.
    fn truth(&self, condition: &Expression, into: &mut Vec<Expression>) -> Result<()> {
        if let Expression::All(parts) = condition {
            for part in parts {
                self.truth(part, into)?;
            }
            return Ok(());
        }
        let inlined = match condition {
            Expression::Column(variable) => self.get(*variable).unwrap_or(condition),
            other => other,
        };
        if let Expression::All(_) = inlined {
            return self.truth(inlined, into);
        }
        if let Expression::Not(inner) = inlined
            && matches!(inner.as_ref(), Expression::IsNull(_))
            && let Expression::IsNull(of) = inner.as_ref()
        {
            return self.holds(of, into);
        }
        let nullable = self.types.expression(self.relation, inlined, 0)?.nullable;
        push(
            match nullable {
                false => inlined.clone(),
                true => Expression::Case {
                    when: vec![(inlined.clone(), truth(1))],
                    otherwise: Box::new(truth(0)),
                },
            },
            into,
        );
        Ok(())
    }
}

fn push(condition: Expression, into: &mut Vec<Expression>) {
    if !into.contains(&condition) {
        into.push(condition);
    }
}

fn not(of: Expression) -> Expression {
    Expression::Not(Box::new(of))
}

fn truth(value: i128) -> Expression {
    Expression::Number {
        value,
        data_type: ScalarType::Bool,
    }
}

/// The truth value of one atom: those conditions hold whose bit is set in the pattern, the others do not.
pub(crate) fn atom(conditions: &[Expression], pattern: usize) -> Expression {
    let parts = conditions
        .iter()
        .enumerate()
        .map(|(at, condition)| match pattern >> at & 1 {
            1 => condition.clone(),
            _ => not(condition.clone()),
        });
    Expression::All(parts.collect())
}

/// `CASE WHEN x IS NULL THEN n ELSE x END`: x, and the number n.
pub(crate) fn or_number(of: &Expression) -> Option<(&Expression, i128)> {
    let Expression::Case { when, otherwise } = of else {
        return None;
    };
    let [(Expression::IsNull(value), number)] = when.as_slice() else {
        return None;
    };
    let same = in_any_form(value) == in_any_form(otherwise);
    match in_any_form(number) {
        Expression::Number { value: number, .. } if same => Some((otherwise, *number)),
        _ => None,
    }
}

/// A number, whatever form it is brought into.
pub(crate) fn in_any_form(of: &Expression) -> &Expression {
    match of {
        Expression::Bits { input, .. } => in_any_form(input),
        Expression::Rescale { input, .. } => in_any_form(input),
        other => other,
    }
}
