//! Which rows of a group a number is over: conditions, and the atoms into which they split the group.

use super::super::build::one;
use super::super::columns::{ColumnId, Columns, used};
use super::super::{Aggregate, Block, Function, JoinKind, Rel};
use crate::error::Result;
use crate::planner::columns::split;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{Case, Cast};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use std::collections::BTreeMap;

/// The most conditions of the numbers of one group.
pub(super) const MAX_CONDITIONS: usize = 4;

/// The conditions of the aggregates of a group: each number is over the rows where all of its own hold.
pub(super) struct Atoms {
    /// Truth values that are never NULL.
    pub(super) conditions: Vec<Expr>,
    /// For each aggregate the positions of its conditions.
    of: BTreeMap<ColumnId, Vec<usize>>,
}

impl Atoms {
    pub(super) fn of(aggregates: &[Aggregate], columns: &Columns) -> Result<Self> {
        let mut atoms = Self {
            conditions: Vec::new(),
            of: BTreeMap::new(),
        };
        for aggregate in aggregates {
            let mut own = Vec::new();
            if let Some(argument) = &aggregate.argument {
                let mut list = Vec::new();
                holds(argument, columns, &mut list)?;
                for condition in list {
                    let known = atoms.conditions.iter().position(|of| *of == condition);
                    let at = known.unwrap_or(atoms.conditions.len());
                    if known.is_none() {
                        atoms.conditions.push(condition);
                    }
                    own.push(at);
                }
            }
            atoms.of.insert(aggregate.id, own);
        }
        Ok(atoms)
    }

    /// The atoms that an aggregate is over; none for all rows.
    pub(super) fn over(&self, id: ColumnId) -> Vec<usize> {
        match self.of.get(&id).map(Vec::as_slice) {
            None | Some([]) => Vec::new(),
            Some(own) => (0..1_usize << self.conditions.len())
                .filter(|pattern| own.iter().all(|at| pattern >> at & 1 == 1))
                .collect(),
        }
    }

    /// The column in the rows of one atom, NULL in others.
    pub(super) fn only(&self, pattern: usize, column: ColumnId) -> Expr {
        let parts =
            self.conditions
                .iter()
                .enumerate()
                .map(|(at, condition)| match pattern >> at & 1 {
                    1 => condition.clone(),
                    _ => Expr::Not(Box::new(condition.clone())),
                });
        let whole = parts.reduce(|a, b| {
            Expr::BinaryExpr(BinaryExpr::new(Box::new(a), Operator::And, Box::new(b)))
        });
        match whole {
            None => column.expr(),
            Some(whole) => when(whole, column.expr()),
        }
    }

    /// Columns that keep rows of different atoms apart wherever rows are grouped before, each computed by
    /// whose rows they are.
    pub(super) fn apart(&self, input: &mut Rel, columns: &mut Columns) -> Result<Vec<ColumnId>> {
        let mut list = Vec::new();
        for condition in &self.conditions {
            let looks = used(condition);
            // A partner that is missing is a row of its own already.
            if let Expr::IsNotNull(of) = condition
                && let Some(id) = ColumnId::of_expr(of)
                && !columns.info(id)?.null_there
            {
                continue;
            }
            let id = columns.compute(condition)?;
            if below(input, id, condition) {
                columns.flag(condition.clone(), id);
                list.push(id);
            } else {
                list.extend(looks);
            }
        }
        Ok(list)
    }
}

/// Computes a column where all that it looks at is made, below outer joins too.
fn below(rel: &mut Rel, id: ColumnId, expr: &Expr) -> bool {
    if !rel.has(&used(expr)) {
        return false;
    }
    let deeper = match rel {
        Rel::Block(block) => {
            let mut inputs = block.inputs.iter_mut();
            inputs.any(|input| below(input, id, expr))
        }
        Rel::Join {
            kind, left, right, ..
        } => {
            below(left, id, expr)
                || matches!(kind, JoinKind::Left | JoinKind::Full) && below(right, id, expr)
        }
        _ => false,
    };
    if deeper {
        return true;
    }
    if rel.owner().is_none() {
        return false;
    }
    let before = std::mem::replace(rel, Rel::Block(Block::default()));
    *rel = before.computing(vec![(id, expr.clone())]);
    true
}

/// The conditions that all hold where an expression is not NULL.
pub(in crate::planner::algebra) fn holds(
    expr: &Expr,
    columns: &Columns,
    into: &mut Vec<Expr>,
) -> Result<()> {
    if !columns.type_of(expr)?.1 {
        return Ok(());
    }
    match expr {
        Expr::Alias(alias) => holds(&alias.expr, columns, into),
        Expr::Cast(Cast { expr: inner, .. }) | Expr::Negative(inner) => holds(inner, columns, into),
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Plus | Operator::Minus | Operator::Multiply,
            right,
        }) => {
            holds(left, columns, into)?;
            holds(right, columns, into)
        }
        Expr::Case(Case {
            expr: None,
            when_then_expr,
            else_expr,
        }) if when_then_expr.len() == 1 && else_expr.as_ref().is_none_or(|of| is_null(of)) => {
            let (condition, then) = &when_then_expr[0];
            for part in split(condition.as_ref().clone(), Operator::And) {
                match &part {
                    Expr::IsNotNull(of) => holds(of, columns, into)?,
                    other => add(true_of(other, columns)?, into),
                }
            }
            holds(then, columns, into)
        }
        other => {
            add(Expr::IsNotNull(Box::new(other.clone())), into);
            Ok(())
        }
    }
}

fn add(condition: Expr, into: &mut Vec<Expr>) {
    if !into.contains(&condition) {
        into.push(condition);
    }
}

/// Whether a condition is true, which is never NULL.
pub(in crate::planner::algebra) fn true_of(condition: &Expr, columns: &Columns) -> Result<Expr> {
    if !columns.type_of(condition)?.1 {
        return Ok(condition.clone());
    }
    let truth = |value| Box::new(Expr::Literal(ScalarValue::Boolean(Some(value)), None));
    Ok(Expr::Case(Case::new(
        None,
        vec![(Box::new(condition.clone()), truth(true))],
        Some(truth(false)),
    )))
}

/// A sum or count as one whose argument is NULL in the rows that add nothing: a group without rows that do
/// is withheld, as one with too few is.
pub(super) fn sharpened(
    function: Function,
    argument: Expr,
    columns: &Columns,
) -> Result<(Function, Option<Expr>)> {
    if function == Function::Count {
        if !columns.type_of(&argument)?.1 {
            return Ok((Function::Count, None));
        }
        let mut list = Vec::new();
        holds(&argument, columns, &mut list)?;
        let whole = list.into_iter().reduce(|a, b| {
            Expr::BinaryExpr(BinaryExpr::new(Box::new(a), Operator::And, Box::new(b)))
        });
        return Ok(match whole {
            None => (Function::Count, None),
            Some(whole) => (Function::Sum, Some(when(whole, one()))),
        });
    }
    Ok((function, Some(without_zero(argument))))
}

/// `CASE WHEN c THEN x ELSE 0 END` without the zero, and `COALESCE(x, 0)` as x.
fn without_zero(expr: Expr) -> Expr {
    match expr {
        Expr::Alias(alias) => without_zero(*alias.expr),
        Expr::Case(mut case)
            if case.expr.is_none()
                && case.when_then_expr.len() == 1
                && case.else_expr.as_ref().is_some_and(|of| is_zero(of)) =>
        {
            case.else_expr = None;
            // COALESCE, as the engine takes it apart.
            if let (Expr::IsNotNull(of), then) = (
                case.when_then_expr[0].0.as_ref(),
                case.when_then_expr[0].1.as_ref(),
            ) && of.as_ref() == then
            {
                return then.clone();
            }
            Expr::Case(case)
        }
        Expr::Cast(Cast { expr, field }) => Expr::Cast(Cast {
            expr: Box::new(without_zero(*expr)),
            field,
        }),
        Expr::ScalarFunction(call)
            if call.func.name() == "coalesce" && call.args.len() == 2 && is_zero(&call.args[1]) =>
        {
            call.args[0].clone()
        }
        other => other,
    }
}

fn when(condition: Expr, then: Expr) -> Expr {
    Expr::Case(Case::new(
        None,
        vec![(Box::new(condition), Box::new(then))],
        None,
    ))
}

fn is_null(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => value.is_null(),
        Expr::Cast(Cast { expr, .. }) => is_null(expr),
        _ => false,
    }
}

fn is_zero(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) => matches!(
            value,
            ScalarValue::Int64(Some(0)) | ScalarValue::Decimal128(Some(0), ..)
        ),
        Expr::Cast(Cast { expr, .. }) => is_zero(expr),
        _ => false,
    }
}
