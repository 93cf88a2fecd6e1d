//! Functions that the planner itself puts into expressions.

use crate::local::functions::{average_as, moment};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions::math;
use datafusion::logical_expr::expr::{Case, ScalarFunction};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, cast};
use std::sync::Arc;

pub(in crate::planner) use crate::local::functions::AVERAGE;

/// `sum / count` as the engine's AVG has it: NULL for a count of 0; decimals truncate at the scale of
/// `data_type`, integers divide as floating point.
pub(super) fn quotient(sum: Expr, count: Expr, data_type: DataType) -> Expr {
    let function = Arc::new(average_as(data_type));
    Expr::ScalarFunction(ScalarFunction::new_udf(function, vec![sum, count]))
}

/// A statistic of one or two columns that is made of sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statistic {
    Variance { sample: bool, root: bool },
    Covariance { sample: bool },
    Correlation,
}

impl Statistic {
    /// The statistic of this name.
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "var" | "var_samp" => Self::Variance {
                sample: true,
                root: false,
            },
            "var_pop" => Self::Variance {
                sample: false,
                root: false,
            },
            "stddev" | "stddev_samp" => Self::Variance {
                sample: true,
                root: true,
            },
            "stddev_pop" => Self::Variance {
                sample: false,
                root: true,
            },
            "covar" | "covar_samp" => Self::Covariance { sample: true },
            "covar_pop" => Self::Covariance { sample: false },
            "corr" => Self::Correlation,
            _ => return None,
        })
    }
}

/// Sums over the rows where both columns are there.
pub(super) struct Sums {
    pub(super) n: Expr,
    pub(super) x: Expr,
    pub(super) y: Expr,
    pub(super) xx: Expr,
    pub(super) yy: Expr,
    pub(super) xy: Expr,
}

/// A statistic of released sums (the textbook formulas, of exact moments).
pub(super) fn statistic(of: Statistic, sums: &Sums) -> Expr {
    let m = |x: &Expr, y: &Expr, xy: &Expr| {
        Expr::ScalarFunction(ScalarFunction::new_udf(
            Arc::new(moment()),
            vec![sums.n.clone(), x.clone(), y.clone(), xy.clone()],
        ))
    };
    let root = |of: Expr| Expr::ScalarFunction(ScalarFunction::new_udf(math::sqrt(), vec![of]));
    let float = |of: Expr| cast(of, DataType::Float64);
    let divided = |a: Expr, b: Expr| binary(a, Operator::Divide, b);
    let integer = |value: i64| Expr::Literal(ScalarValue::Int64(Some(value)), None);
    let by = |sample: bool| {
        let n = float(sums.n.clone());
        let less = match sample {
            true => float(binary(sums.n.clone(), Operator::Minus, integer(1))),
            false => n.clone(),
        };
        binary(n, Operator::Multiply, less)
    };
    // Of fewer rows there is none.
    let where_defined = |least: i64, value: Expr| {
        let enough = binary(sums.n.clone(), Operator::GtEq, integer(least));
        Expr::Case(Case::new(
            None,
            vec![(Box::new(enough), Box::new(value))],
            None,
        ))
    };
    match of {
        Statistic::Variance {
            sample,
            root: square,
        } => {
            let variance = divided(m(&sums.x, &sums.x, &sums.xx), by(sample));
            let value = if square { root(variance) } else { variance };
            where_defined(if sample { 2 } else { 1 }, value)
        }
        Statistic::Covariance { sample } => where_defined(
            if sample { 2 } else { 1 },
            divided(m(&sums.x, &sums.y, &sums.xy), by(sample)),
        ),
        Statistic::Correlation => {
            let (x, y) = (m(&sums.x, &sums.x, &sums.xx), m(&sums.y, &sums.y, &sums.yy));
            let both = binary(root(x), Operator::Multiply, root(y));
            let some = binary(
                both.clone(),
                Operator::Gt,
                cast(integer(0), DataType::Float64),
            );
            Expr::Case(Case::new(
                None,
                vec![(
                    Box::new(some),
                    Box::new(divided(m(&sums.x, &sums.y, &sums.xy), both)),
                )],
                None,
            ))
        }
    }
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}
