//! By which branches of CASE and COALESCE a value came: each is a number of its own.

use super::engine::{Engine, Failure};
use super::relation::{Branch, Relation};
use arrow::array::{Array, AsArray};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Case, Expr, Operator};

/// Stands for a zero or NULL inside of a larger expression, where it counts.
const NEUTRAL: u8 = u8::MAX;

/// For each row the branches by which the value came, or none of them where it is the zero or NULL of a
/// branch that leaves rows out; nothing if the expression has no branches.
pub fn branches(
    engine: &Engine,
    expr: &Expr,
    of: &Relation,
) -> Result<Option<Vec<Branch>>, Failure> {
    match expr {
        Expr::Alias(alias) => branches(engine, &alias.expr, of),
        Expr::Cast(cast) => branches(engine, &cast.expr, of),
        Expr::Negative(inner) => branches(engine, inner, of),
        Expr::Column(name) => {
            let at = of.schema.index_of_column(name);
            let at = at.map_err(super::engine::failed)?;
            Ok(of.columns[at].branches.clone())
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right })
            if matches!(op, Operator::Multiply | Operator::Divide) =>
        {
            // Zero times anything is zero; what is divided by is never left out.
            let factor = branches(engine, left, of)?;
            let other = branches(engine, right, of)?;
            let other = match op {
                Operator::Multiply => other,
                _ => other.map(counted),
            };
            Ok(joined(factor, other))
        }
        Expr::Case(case) => of_case(engine, case, of).map(Some),
        Expr::ScalarFunction(function) if function.name() == "coalesce" => {
            of_coalesce(engine, &function.args, of).map(Some)
        }
        Expr::Literal(..) => Ok(None),
        other => {
            let mut all = None;
            for child in children(other) {
                all = joined(all, branches(engine, &child, of)?.map(counted));
            }
            Ok(all)
        }
    }
}

/// The parts of an expression.
fn children(expr: &Expr) -> Vec<Expr> {
    use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
    let mut parts = vec![];
    let _ = expr.apply_children(|child| {
        parts.push(child.clone());
        Ok(TreeNodeRecursion::Continue)
    });
    parts
}

/// What would be left out, as a branch of its own.
fn counted(list: Vec<Branch>) -> Vec<Branch> {
    let counted = list
        .into_iter()
        .map(|branch| Some(branch.unwrap_or_else(|| vec![NEUTRAL])));
    counted.collect()
}

/// The branches of two parts together; left out where one of them is.
pub fn joined(a: Option<Vec<Branch>>, b: Option<Vec<Branch>>) -> Option<Vec<Branch>> {
    match (a, b) {
        (Some(a), Some(b)) => {
            let pairs = a.into_iter().zip(b);
            let both = pairs.map(|(a, b)| match (a, b) {
                (Some(a), Some(b)) => Some([a, b].concat()),
                _ => None,
            });
            Some(both.collect())
        }
        (a, b) => a.or(b),
    }
}

/// A literal that adds nothing.
fn neutral(expr: &Expr) -> bool {
    match expr {
        Expr::Alias(alias) => neutral(&alias.expr),
        Expr::Cast(cast) => neutral(&cast.expr),
        Expr::Literal(value, _) => {
            let zero = ScalarValue::new_zero(&value.data_type());
            value.is_null() || zero.is_ok_and(|zero| zero == *value)
        }
        _ => false,
    }
}

/// The branch `at`, of this value.
fn of_branch(
    engine: &Engine,
    at: usize,
    value: &Expr,
    of: &Relation,
) -> Result<Vec<Branch>, Failure> {
    if neutral(value) {
        return Ok(vec![None; of.rows()]);
    }
    let number = u8::try_from(at).map_err(|_| "a CASE of many branches".to_owned())?;
    let own = vec![Some(vec![number]); of.rows()];
    let inner = branches(engine, value, of)?;
    Ok(joined(Some(own), inner).unwrap_or_default())
}

fn of_case(engine: &Engine, case: &Case, of: &Relation) -> Result<Vec<Branch>, Failure> {
    let mut taken = vec![None; of.rows()];
    let mut found: Vec<Branch> = vec![None; of.rows()];
    for (at, (when, then)) in case.when_then_expr.iter().enumerate() {
        let condition = match &case.expr {
            Some(base) => base.as_ref().clone().eq(when.as_ref().clone()),
            None => when.as_ref().clone(),
        };
        let condition = of.evaluate(engine, &condition)?;
        let condition = condition
            .as_boolean_opt()
            .ok_or("a condition of no truth")?;
        let own = of_branch(engine, at, then, of)?;
        for row in 0..of.rows() {
            if taken[row].is_none() && condition.is_valid(row) && condition.value(row) {
                taken[row] = Some(at);
                found[row].clone_from(&own[row]);
            }
        }
    }
    if let Some(otherwise) = &case.else_expr {
        let own = of_branch(engine, case.when_then_expr.len(), otherwise, of)?;
        for row in 0..of.rows() {
            if taken[row].is_none() {
                found[row].clone_from(&own[row]);
            }
        }
    }
    Ok(found)
}

fn of_coalesce(engine: &Engine, parts: &[Expr], of: &Relation) -> Result<Vec<Branch>, Failure> {
    let mut open = vec![true; of.rows()];
    let mut found: Vec<Branch> = vec![None; of.rows()];
    for (at, part) in parts.iter().enumerate() {
        let values = of.evaluate(engine, part)?;
        let own = of_branch(engine, at, part, of)?;
        for row in 0..of.rows() {
            if open[row] && !values.is_null(row) {
                open[row] = false;
                found[row].clone_from(&own[row]);
            }
        }
    }
    Ok(found)
}
