//! What expressions are where the columns that they look at are NULL: what may be computed before an outer
//! join adds the rows that have none, and what may not.

use super::columns::used;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

/// An expression where all columns that it looks at are NULL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtNulls {
    /// NULL.
    Null,
    /// NULL or zero.
    Nothing,
    /// Something else, perhaps.
    Other,
}

/// What an expression is where all columns that it looks at are NULL.
pub(super) fn at_nulls(expr: &Expr) -> AtNulls {
    if let Expr::Literal(value, _) = expr {
        return match value {
            _ if value.is_null() => AtNulls::Null,
            ScalarValue::Int64(Some(0)) | ScalarValue::Decimal128(Some(0), ..) => AtNulls::Nothing,
            _ => AtNulls::Other,
        };
    }
    if is_null(expr) {
        return AtNulls::Null;
    }
    match expr {
        Expr::Alias(alias) => at_nulls(&alias.expr),
        Expr::Cast(cast) => at_nulls(&cast.expr),
        Expr::Negative(inner) => at_nulls(inner),
        Expr::Case(Case {
            expr: None,
            when_then_expr,
            else_expr,
        }) => {
            let taken = when_then_expr.iter().filter(|(when, _)| !fails(when));
            let last = else_expr.as_ref().map_or(AtNulls::Null, |of| at_nulls(of));
            taken.fold(last, |all, (_, then)| match (all, at_nulls(then)) {
                (AtNulls::Null, AtNulls::Null) => AtNulls::Null,
                (AtNulls::Other, _) | (_, AtNulls::Other) => AtNulls::Other,
                _ => AtNulls::Nothing,
            })
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            match (op, at_nulls(left), at_nulls(right)) {
                (Operator::Plus | Operator::Minus | Operator::Multiply, a, b)
                    if a == AtNulls::Null || b == AtNulls::Null =>
                {
                    AtNulls::Null
                }
                (Operator::Multiply, a, b) if a != b => AtNulls::Nothing,
                (Operator::Plus | Operator::Minus | Operator::Multiply, a, _) => a,
                _ => AtNulls::Other,
            }
        }
        _ => AtNulls::Other,
    }
}

/// Whether an expression looks at columns, and is NULL where one is.
fn is_null(expr: &Expr) -> bool {
    strict(expr) && !used(expr).is_empty()
}

/// Whether a condition does not hold where all columns that it looks at are NULL.
fn fails(condition: &Expr) -> bool {
    match condition {
        Expr::IsNotNull(of) => at_nulls(of) == AtNulls::Null,
        Expr::Not(of) if matches!(of.as_ref(), Expr::IsNull(of) if at_nulls(of) == AtNulls::Null) => {
            true
        }
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::And,
            right,
        }) => fails(left) || fails(right),
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Or,
            right,
        }) => fails(left) && fails(right),
        other => is_null(other),
    }
}

/// Whether an expression is NULL where a column that it looks at is: it may then be computed before an
/// outer join adds the rows that have none.
pub(super) fn strict(expr: &Expr) -> bool {
    match expr {
        Expr::Column(_) | Expr::Literal(..) => true,
        Expr::Alias(alias) => strict(&alias.expr),
        Expr::Cast(cast) => strict(&cast.expr),
        Expr::Negative(inner) | Expr::Not(inner) => strict(inner),
        Expr::Like(like) => strict(&like.expr) && strict(&like.pattern),
        Expr::Between(of) => strict(&of.expr) && strict(&of.low) && strict(&of.high),
        Expr::InList(list) => {
            strict(&list.expr)
                && list
                    .list
                    .iter()
                    .all(|item| matches!(item, Expr::Literal(of, _) if !of.is_null()))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            !matches!(
                op,
                Operator::And
                    | Operator::Or
                    | Operator::IsDistinctFrom
                    | Operator::IsNotDistinctFrom
            ) && strict(left)
                && strict(right)
        }
        Expr::ScalarFunction(call) => {
            matches!(
                call.func.name(),
                "abs"
                    | "btrim"
                    | "character_length"
                    | "date_part"
                    | "date_trunc"
                    | "left"
                    | "lower"
                    | "ltrim"
                    | "right"
                    | "rtrim"
                    | "starts_with"
                    | "strpos"
                    | "substr"
                    | "upper"
            ) && call.args.iter().all(strict)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::{Columns, Info};
    use super::*;
    use arrow::datatypes::DataType;
    use datafusion::logical_expr::{lit, when};

    #[test]
    fn what_is_left_of_an_expression_without_its_row() {
        let mut columns = Columns::default();
        let id = columns.add(Info::new(DataType::Int64, true, "x".to_owned()));
        let x = || id.expr();
        let case = |condition: Expr, then: Expr, otherwise: Option<Expr>| match otherwise {
            Some(otherwise) => when(condition, then).otherwise(otherwise).unwrap(),
            None => when(condition, then).end().unwrap(),
        };
        for (expr, due) in [
            (x(), AtNulls::Null),
            (x() + lit(7_i64), AtNulls::Null),
            (
                case(x().is_not_null(), x(), Some(lit(7_i64))),
                AtNulls::Other,
            ),
            (
                case(x().is_not_null(), lit(1_i64), Some(lit(0_i64))),
                AtNulls::Nothing,
            ),
            (
                case(x().is_null(), lit(1_i64), Some(lit(0_i64))),
                AtNulls::Other,
            ),
            (case(x().gt(lit(2_i64)), x(), None), AtNulls::Null),
            (case(x().gt(lit(2_i64)), lit(1_i64), None), AtNulls::Null),
            (case(x().is_null(), lit(1_i64), None), AtNulls::Other),
            (
                case(x().gt(lit(2_i64)).or(x().is_null()), lit(1_i64), None),
                AtNulls::Other,
            ),
            (lit(0_i64), AtNulls::Nothing),
            (lit(1_i64), AtNulls::Other),
        ] {
            assert_eq!(at_nulls(&expr), due, "{expr}");
        }
    }
}
