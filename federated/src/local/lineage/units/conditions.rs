//! Which rows an aggregate is over, and what may be summed.

use super::relation::{Follow, Relation};
use super::{Attribute, Result};
use crate::local::lineage::NotAllowed;
use crate::local::lineage::steps::unaliased;
use datafusion::common::Column;
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use std::collections::BTreeSet;

/// A truth value over attributes of tables, in one form.
pub(crate) type Condition = String;

/// The most columns of a product, and digits of its literals in all.
const MAX_FACTORS: usize = 3;
const MAX_DIGITS: usize = 6;

/// The name of an attribute within an expression.
fn name(of: Attribute) -> String {
    format!("a{of}")
}

pub(super) fn attribute(column: &Column) -> Option<Attribute> {
    match column.relation {
        None => column.name.strip_prefix('a')?.parse().ok(),
        Some(_) => None,
    }
}

/// The attributes of an expression.
pub(super) fn attributes(expr: &Expr) -> BTreeSet<Attribute> {
    let mut found = BTreeSet::new();
    // The closure never fails.
    let _ = expr.apply(|node| {
        if let Expr::Column(column) = node {
            found.extend(attribute(column));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

impl Follow<'_> {
    /// An expression over a relation's columns as one over attributes that are not computed.
    pub(super) fn expanded(&self, expr: &Expr, relation: &Relation) -> Result<Expr> {
        let unknown = || NotAllowed::new("a column that is not there");
        let mut failed = false;
        let made = expr.clone().transform_up(|node| {
            Ok(match &node {
                Expr::Alias(alias) => Transformed::yes(unaliased(&alias.expr).clone()),
                Expr::Column(column) => match relation.find(column) {
                    Some(of) => {
                        let new = match self.computed.get(&of) {
                            Some(known) => known.clone(),
                            None => Expr::Column(Column::new_unqualified(name(of))),
                        };
                        Transformed::yes(new)
                    }
                    None => {
                        failed = true;
                        Transformed::no(node)
                    }
                },
                _ => Transformed::no(node),
            })
        });
        match made {
            Ok(made) if !failed => Ok(made.data),
            _ => Err(unknown()),
        }
    }

    /// The attribute that an expanded expression is, if it is one.
    pub(super) fn plain(&self, expr: &Expr) -> Option<Attribute> {
        match expr {
            Expr::Column(column) => attribute(column),
            Expr::Alias(alias) => self.plain(&alias.expr),
            _ => None,
        }
    }

    /// Whether an expanded expression can be NULL.
    pub(super) fn nullable(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Column(column) => attribute(column).is_none_or(|of| self.null.contains(&of)),
            Expr::Literal(value, _) => value.is_null(),
            Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::IsTrue(_)
            | Expr::IsFalse(_)
            | Expr::IsUnknown(_)
            | Expr::IsNotTrue(_)
            | Expr::IsNotFalse(_)
            | Expr::IsNotUnknown(_) => false,
            of if or_else(of).is_some() => {
                or_else(of).is_some_and(|(value, last)| self.nullable(value) && self.nullable(last))
            }
            Expr::Case(case) => {
                let results = case.when_then_expr.iter().map(|(_, then)| then);
                case.else_expr.as_ref().is_none_or(|of| self.nullable(of))
                    || results.into_iter().any(|of| self.nullable(of))
            }
            Expr::ScalarFunction(call) if call.func.name() == "coalesce" => {
                call.args.iter().all(|of| self.nullable(of))
            }
            Expr::ScalarFunction(call) if call.func.name() == "nullif" => true,
            other => {
                let mut any = false;
                let _ = other.apply_children(|child| {
                    any |= self.nullable(child);
                    Ok(TreeNodeRecursion::Continue)
                });
                any
            }
        }
    }

    /// The conditions that all hold where an expanded expression is not NULL.
    pub(super) fn holds(&self, expr: &Expr, into: &mut Vec<Expr>) {
        if !self.nullable(expr) {
            match expr {
                // Nothing where there is none adds nothing.
                of if or_else(of).is_some() => {
                    if let Some((value, _)) = or_else(of).filter(|(_, last)| is_zero(last)) {
                        self.holds(value, into);
                    }
                }
                Expr::Alias(alias) => self.holds(&alias.expr, into),
                Expr::Cast(cast) => self.holds(&cast.expr, into),
                Expr::Negative(inner) => self.holds(inner, into),
                Expr::BinaryExpr(BinaryExpr { left, op, right }) if arithmetic(*op) => {
                    self.holds(left, into);
                    self.holds(right, into);
                }
                _ => {}
            }
            return;
        }
        match expr {
            Expr::Alias(alias) => self.holds(&alias.expr, into),
            Expr::Cast(cast) => self.holds(&cast.expr, into),
            Expr::Negative(inner) => self.holds(inner, into),
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::Plus | Operator::Minus | Operator::Multiply,
                right,
            }) => {
                self.holds(left, into);
                self.holds(right, into);
            }
            Expr::Case(Case {
                expr: None,
                when_then_expr,
                else_expr,
            }) if when_then_expr.len() == 1 && else_expr.as_ref().is_none_or(|of| is_null(of)) => {
                let (condition, then) = &when_then_expr[0];
                for part in parts(condition) {
                    match part {
                        Expr::IsNotNull(of) => self.holds(of, into),
                        other => push(self.truth(other), into),
                    }
                }
                self.holds(then, into);
            }
            other => push(Expr::IsNotNull(Box::new(other.clone())), into),
        }
    }

    /// That a condition is true.
    fn truth(&self, condition: &Expr) -> Expr {
        if !self.nullable(condition) {
            return condition.clone();
        }
        let value = |value| Box::new(Expr::Literal(ScalarValue::Boolean(Some(value)), None));
        Expr::Case(Case::new(
            None,
            vec![(Box::new(condition.clone()), value(true))],
            Some(value(false)),
        ))
    }

    /// The rows of one atom: `CASE WHEN a AND NOT b THEN x END` as its conditions and x; an expression
    /// without a condition is over all rows.
    pub(super) fn over(&self, expr: &Expr) -> (super::Pattern, Expr) {
        let mut pattern = super::Pattern::new();
        if let Expr::Case(Case {
            expr: None,
            when_then_expr,
            else_expr,
        }) = expr
            && when_then_expr.len() == 1
            && else_expr.as_ref().is_none_or(|of| is_null(of))
        {
            let (condition, then) = &when_then_expr[0];
            for part in parts(condition) {
                match part {
                    Expr::Not(inner) => pattern.insert(self.truth(inner).to_string(), false),
                    other => pattern.insert(self.truth(other).to_string(), true),
                };
            }
            return (pattern, then.as_ref().clone());
        }
        (pattern, expr.clone())
    }

    /// Why a value must not be summed where there are thresholds: it could pack or pick single values.
    pub(super) fn unusual_sum(&self, expr: &Expr) -> Option<&'static str> {
        sum_of_products(expr, &mut 0, MAX_DIGITS).err()
    }
}

/// The value of a CASE that has one, and nothing else.
fn one_branch(expr: &Expr) -> &Expr {
    match expr {
        Expr::Case(Case {
            expr: None,
            when_then_expr,
            else_expr,
        }) if when_then_expr.len() == 1 && else_expr.as_ref().is_none_or(|of| is_null(of)) => {
            &when_then_expr[0].1
        }
        other => other,
    }
}

/// `COALESCE(x, n)`, and `CASE WHEN x IS NULL THEN n ELSE x END`: x and n.
fn or_else(expr: &Expr) -> Option<(&Expr, &Expr)> {
    match expr {
        Expr::ScalarFunction(call) if call.func.name() == "coalesce" => {
            match call.args.as_slice() {
                [value, last] => Some((value, last)),
                _ => None,
            }
        }
        Expr::Case(case) if case.expr.is_none() => {
            let [(condition, then)] = case.when_then_expr.as_slice() else {
                return None;
            };
            let otherwise = case.else_expr.as_deref()?;
            let same = matches!(condition.as_ref(), Expr::IsNull(of) if of.as_ref() == otherwise);
            same.then_some((otherwise, then))
        }
        _ => None,
    }
}

/// The number of columns of the largest product of an expression; `digits` are those of its literals.
fn sum_of_products(
    expr: &Expr,
    digits: &mut usize,
    most: usize,
) -> std::result::Result<usize, &'static str> {
    let factors = match expr {
        Expr::Column(_) => 1,
        Expr::Alias(alias) => sum_of_products(&alias.expr, digits, most)?,
        Expr::Literal(value, _) => {
            *digits += significant(value);
            if *digits > most {
                return Err("literals of more than six digits");
            }
            0
        }
        Expr::Cast(cast) => {
            let from_truth = matches!(
                cast.expr.as_ref(),
                Expr::BinaryExpr(BinaryExpr { op, .. }) if !arithmetic(*op)
            ) || matches!(
                cast.expr.as_ref(),
                Expr::IsNull(_)
                    | Expr::IsNotNull(_)
                    | Expr::Not(_)
                    | Expr::Like(_)
                    | Expr::InList(_)
            );
            if from_truth {
                return Err("a truth value as a number");
            }
            sum_of_products(&cast.expr, digits, most)?
        }
        Expr::Negative(inner) => sum_of_products(inner, digits, most)?,
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if arithmetic(*op) => {
            let a = sum_of_products(left, digits, most)?;
            let b = sum_of_products(right, digits, most)?;
            match op {
                Operator::Multiply => a + b,
                _ => a.max(b),
            }
        }
        of if or_else(of).is_some_and(|(_, last)| is_none_or_one(last)) => {
            let value = or_else(of).map_or(of, |(value, _)| value);
            sum_of_products(value, digits, most)?
        }
        Expr::ScalarFunction(call)
            if !matches!(
                call.func.name(),
                "coalesce" | "nullif" | "starts_with" | "strpos"
            ) =>
        {
            1
        }
        // What is NULL elsewhere is told by its conditions.
        Expr::Case(_) => match one_branch(expr) {
            inner if std::ptr::eq(inner, expr) => return Err("CASE with several results"),
            inner => sum_of_products(inner, digits, most)?,
        },
        _ => return Err("an expression that picks values"),
    };
    match factors > MAX_FACTORS {
        true => Err("a product of more than three columns"),
        false => Ok(factors),
    }
}

/// Whether an expression is the number one.
pub(super) fn is_one(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(ScalarValue::Int64(Some(1)), _))
}

fn is_zero(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => significant(value) == 0,
        Expr::Cast(cast) => is_zero(&cast.expr),
        _ => false,
    }
}

fn is_none_or_one(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) if value.to_string() == "1" => true,
        Expr::Cast(cast) => is_none_or_one(&cast.expr),
        other => is_zero(other),
    }
}

fn arithmetic(op: Operator) -> bool {
    matches!(
        op,
        Operator::Plus | Operator::Minus | Operator::Multiply | Operator::Divide
    )
}

/// The digits of a literal, leading and trailing zeros aside for its size.
fn significant(value: &ScalarValue) -> usize {
    let text = match value {
        ScalarValue::Decimal128(Some(value), ..) => value.unsigned_abs().to_string(),
        other => other.to_string(),
    };
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    digits.trim_start_matches('0').len()
}

/// The parts of a conjunction.
pub(super) fn parts(condition: &Expr) -> Vec<&Expr> {
    match condition {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::And,
            right,
        }) => {
            let mut list = parts(left);
            list.extend(parts(right));
            list
        }
        Expr::Alias(alias) => parts(&alias.expr),
        other => vec![other],
    }
}

fn push(condition: Expr, into: &mut Vec<Expr>) {
    if !into.contains(&condition) {
        into.push(condition);
    }
}

pub(super) fn is_null(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => value.is_null(),
        Expr::Cast(cast) => is_null(&cast.expr),
        _ => false,
    }
}
