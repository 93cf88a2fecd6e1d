//! EXISTS with a comparison beside equality: whether a row with a smaller, greater or different value is
//! there follows from the least and the greatest value of each key.

use super::columns::{ColumnId, Columns, Info, used};
use super::{Aggregate, Function, Rel};
use crate::error::Result;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use std::collections::BTreeSet;

/// The right side of a semi, anti or mark join with at most one row for each combination of its columns
/// in `on`, exactly one without, and the conditions that a match still has to meet; none where there is
/// more than one comparison of both sides.
pub(super) fn reduced(
    right: Rel,
    on: &[(ColumnId, ColumnId)],
    conditions: Vec<Expr>,
    columns: &mut Columns,
) -> Result<Option<(Rel, Vec<Expr>)>> {
    let own: BTreeSet<ColumnId> = right.columns().into_iter().collect();
    let of_right = |expr: &Expr| {
        let looks = used(expr);
        !looks.is_empty() && looks.is_subset(&own)
    };
    let (alone, mut rest): (Vec<Expr>, Vec<Expr>) = conditions.into_iter().partition(of_right);
    let right = right.filtered(alone);
    let keys: BTreeSet<ColumnId> = on.iter().map(|(_, b)| *b).collect();
    if !keys.is_empty() && right.unique_on(&keys) {
        return Ok(Some((right, rest)));
    }
    // What looks at the left side alone is a condition of the match as it is.
    let both: Vec<usize> = rest
        .iter()
        .enumerate()
        .filter(|(_, expr)| !used(expr).is_disjoint(&own))
        .map(|(at, _)| at)
        .collect();
    let mut aggregates = Vec::new();
    let right = match both.as_slice() {
        [] => right,
        [at] => {
            let Some(compared) = Compared::of(&rest[*at], &own) else {
                return Ok(None);
            };
            let (right, value) = match ColumnId::of_expr(&compared.value) {
                Some(id) => (right, id),
                None => {
                    let id = columns.compute(&compared.value)?;
                    (right.computing(vec![(id, compared.value.clone())]), id)
                }
            };
            let mut of = |function| -> Result<Expr> {
                let mut info = columns.info(value)?.clone();
                info.nullable |= keys.is_empty();
                info.null_there = info.nullable;
                info.distinct = None;
                let id = columns.add(info);
                aggregates.push(Aggregate {
                    id,
                    function,
                    argument: Some(value.expr()),
                });
                Ok(id.expr())
            };
            let compare =
                |extreme: Expr| binary(extreme, compared.operator, compared.other.clone());
            rest[*at] = match compared.operator {
                Operator::NotEq => {
                    let (least, greatest) = (of(Function::Min)?, of(Function::Max)?);
                    binary(compare(least), Operator::Or, compare(greatest))
                }
                Operator::Lt | Operator::LtEq => compare(of(Function::Min)?),
                _ => compare(of(Function::Max)?),
            };
            right
        }
        _ => return Ok(None),
    };
    if keys.is_empty() && both.is_empty() {
        let info = Info::new(DataType::Int64, false, "count(*)".to_owned());
        aggregates.push(Aggregate {
            id: columns.add(info),
            function: Function::Count,
            argument: None,
        });
    }
    Ok(Some((
        Rel::Group {
            input: Box::new(right),
            keys: keys.into_iter().collect(),
            aggregates,
        },
        rest,
    )))
}

/// Whether there is a match in the one row that [`reduced`] leaves without keys.
pub(super) fn holds(right: &Rel, conditions: Vec<Expr>, columns: &Columns) -> Result<Expr> {
    let mut all = conditions;
    if let Rel::Group { aggregates, .. } = right {
        let counts = |of: &&Aggregate| of.function == Function::Count;
        if let Some(count) = aggregates.iter().find(counts) {
            let none = Expr::Literal(ScalarValue::Int64(Some(0)), None);
            all.push(binary(count.id.expr(), Operator::Gt, none));
        }
    }
    let whole = all.into_iter().reduce(|a, b| binary(a, Operator::And, b));
    let truth = |value| Expr::Literal(ScalarValue::Boolean(Some(value)), None);
    let whole = whole.unwrap_or_else(|| truth(true));
    // What is NULL is no match.
    if !columns.type_of(&whole)?.1 {
        return Ok(whole);
    }
    Ok(Expr::Case(Case::new(
        None,
        vec![(Box::new(whole), Box::new(truth(true)))],
        Some(Box::new(truth(false))),
    )))
}

/// A comparison of a value of the right side, first, with another.
struct Compared {
    value: Expr,
    operator: Operator,
    other: Expr,
}

impl Compared {
    fn of(expr: &Expr, right: &BTreeSet<ColumnId>) -> Option<Self> {
        let Expr::BinaryExpr(BinaryExpr {
            left: a,
            op,
            right: b,
        }) = expr
        else {
            return None;
        };
        let (value, operator, other) = match (used(a).is_subset(right), used(b).is_subset(right)) {
            (true, _) if used(b).is_disjoint(right) => (a, *op, b),
            (_, true) if used(a).is_disjoint(right) => (b, op.swap()?, a),
            _ => return None,
        };
        matches!(
            operator,
            Operator::NotEq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq
        )
        .then(|| Self {
            value: value.as_ref().clone(),
            operator,
            other: other.as_ref().clone(),
        })
    }
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}
