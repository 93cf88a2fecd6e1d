//! Sums taken apart into products of factors of one side each.

use super::super::build::one;
use super::super::columns::used;
use super::super::nulls::{AtNulls, at_nulls};
use super::{Eager, binary, integer};
use crate::error::Result;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{Case, Cast};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use std::collections::BTreeMap;

/// The most products that one sum is taken apart into.
const MAX_PRODUCTS: usize = 16;

/// One product: a factor for each side that has one, and what is computed jointly.
#[derive(Clone, Default)]
pub(super) struct Product {
    pub(super) negative: bool,
    pub(super) of_side: BTreeMap<usize, Expr>,
    pub(super) joint: Option<Expr>,
}

impl Eager<'_> {
    /// The products that an expression is the sum of: one, computed jointly, where it cannot be taken
    /// apart.
    ///
    /// A side that can be without a row hands over NULL then. `counts`: what is NULL counts as zero, so
    /// that expressions that are zero there may be computed at such a side too.
    pub(super) fn products(&self, expr: &Expr, counts: bool) -> Result<Vec<Product>> {
        let whole = vec![Product {
            joint: Some(expr.clone()),
            ..Product::default()
        }];
        let Some(products) = self.apart(expr, counts)? else {
            return Ok(whole);
        };
        // A NULL in one product would take the others along.
        let several = products.len() > 1;
        if products.len() > MAX_PRODUCTS || (several && self.columns.type_of(expr)?.1) {
            return Ok(whole);
        }
        Ok(products)
    }

    fn apart(&self, expr: &Expr, counts: bool) -> Result<Option<Vec<Product>>> {
        let of = used(expr);
        if !of.is_empty()
            && let Some(side) = self.side(&of)
        {
            return Ok(Some(vec![self.of_side(side, expr.clone(), counts)]));
        }
        if of.is_empty() {
            return Ok(Some(vec![Product {
                joint: Some(expr.clone()),
                ..Product::default()
            }]));
        }
        match expr {
            Expr::Alias(alias) => self.apart(&alias.expr, counts),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let joined = match op {
                    Operator::Plus | Operator::Minus | Operator::Multiply => {
                        self.apart(left, counts)?.zip(self.apart(right, counts)?)
                    }
                    _ => None,
                };
                let Some((mut left, right)) = joined else {
                    return Ok(None);
                };
                Ok(Some(match op {
                    Operator::Plus => {
                        left.extend(right);
                        left
                    }
                    Operator::Minus => {
                        left.extend(right.into_iter().map(|product| Product {
                            negative: !product.negative,
                            ..product
                        }));
                        left
                    }
                    _ => {
                        if left.len() * right.len() > MAX_PRODUCTS {
                            return Ok(None);
                        }
                        let mut all = Vec::new();
                        for a in &left {
                            for b in &right {
                                all.push(times(a.clone(), b.clone()));
                            }
                        }
                        all
                    }
                }))
            }
            // What only widens does not change the value.
            Expr::Cast(of) => match (self.columns.type_of(&of.expr)?.0, of.field.data_type()) {
                (DataType::Decimal128(p, s), DataType::Decimal128(to, scale))
                    if s == *scale && p <= *to =>
                {
                    self.apart(&of.expr, counts)
                }
                _ => Ok(None),
            },
            Expr::Case(Case {
                expr: None,
                when_then_expr,
                else_expr: Some(otherwise),
            }) => {
                let [(when, then)] = when_then_expr.as_slice() else {
                    return Ok(None);
                };
                // NULL times zero is not zero.
                if !is_zero(otherwise) || self.columns.type_of(then)?.1 {
                    return Ok(None);
                }
                let indicator = Expr::Case(Case::new(
                    None,
                    vec![(when.clone(), Box::new(one()))],
                    Some(Box::new(integer(0))),
                ));
                let indicator = match self.side(&used(&indicator)) {
                    Some(side) => self.of_side(side, indicator, counts),
                    None => Product {
                        joint: Some(indicator),
                        ..Product::default()
                    },
                };
                // A product that is NULL where the condition fails would be left out of the sum, as
                // zero is.
                Ok(self.apart(then, counts)?.map(|products| {
                    products
                        .into_iter()
                        .map(|product| times(product, indicator.clone()))
                        .collect()
                }))
            }
            _ => Ok(None),
        }
    }

    /// A factor over the columns of one side: computed there, unless the side can be without a row and the
    /// factor is something all the same.
    fn of_side(&self, side: usize, factor: Expr, counts: bool) -> Product {
        let there = !self.sides[side].optional
            || match at_nulls(&factor) {
                AtNulls::Null => true,
                AtNulls::Nothing => counts,
                AtNulls::Other => false,
            };
        match there {
            true => Product {
                of_side: BTreeMap::from([(side, factor)]),
                ..Product::default()
            },
            false => Product {
                joint: Some(factor),
                ..Product::default()
            },
        }
    }
}

fn times(a: Product, b: Product) -> Product {
    let mut of_side = a.of_side;
    for (side, factor) in b.of_side {
        let product = match of_side.remove(&side) {
            Some(before) => binary(before, Operator::Multiply, factor),
            None => factor,
        };
        of_side.insert(side, product);
    }
    Product {
        negative: a.negative != b.negative,
        of_side,
        joint: match (a.joint, b.joint) {
            (Some(a), Some(b)) => Some(binary(a, Operator::Multiply, b)),
            (a, b) => a.or(b),
        },
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
