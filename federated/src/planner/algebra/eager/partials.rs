//! What sides hand over for an aggregate: partial sums, counts of rows, and values with the conditions of the
//! rows that they are over.

use super::super::build::{crosses, one};
use super::super::columns::{ColumnId, Info, used};
use super::super::guard::conditions::holds;
use super::super::nulls::{AtNulls, at_nulls};
use super::super::{Aggregate, Function, Tally};
use super::products::Product;
use super::{Eager, binary, integer, or_else};
use crate::error::{Code, Error, Result};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::functions::core::expr_fn::coalesce;
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::{Expr, Operator};

impl Eager<'_> {
    /// What a side hands over of its units.
    pub(super) fn units(
        &mut self,
        aggregate: &Aggregate,
        tally: Tally,
        argument: Expr,
        side: usize,
    ) -> Result<(Tally, Expr)> {
        if !self.sides[side].groups {
            return Ok((tally, argument));
        }
        let (function, above) = match tally {
            Tally::Distinct => (Function::Count, Tally::Sum),
            Tally::Sum => (Function::Units(Tally::Sum), Tally::Sum),
            Tally::Max => (Function::Units(Tally::Max), Tally::Max),
        };
        let mut info = self.columns.info(aggregate.id)?.clone();
        info.nullable = self.sides[side].optional || tally != Tally::Distinct;
        info.null_there = tally != Tally::Distinct;
        info.apart = Vec::new();
        let id = self.columns.add(info);
        self.sides[side].partial.push(Aggregate {
            id,
            function,
            argument: Some(argument),
        });
        Ok((above, id.expr()))
    }

    /// The argument of an aggregate that is not taken apart, as far as one side computes it.
    pub(super) fn whole(&mut self, function: Function, argument: Expr) -> Result<Expr> {
        let Some(side) = self.side(&used(&argument)) else {
            return Ok(argument);
        };
        let there = !self.sides[side].optional || at_nulls(&argument) == AtNulls::Null;
        let partial = matches!(function, Function::Min | Function::Max) && self.sides[side].groups;
        if !partial || !there {
            return Ok(argument);
        }
        let id = self.columns.compute(&argument)?;
        self.sides[side].partial.push(Aggregate {
            id,
            function,
            argument: Some(argument),
        });
        Ok(id.expr())
    }

    pub(super) fn count(
        &mut self,
        products: Vec<Product>,
        aggregate: (&Aggregate, Option<u128>),
        made: &mut Vec<Aggregate>,
    ) -> Result<Expr> {
        let plain = products
            .iter()
            .all(|product| product.of_side.is_empty() && product.joint.is_none());
        let weighted = self.sides.iter().any(|side| side.groups);
        if plain && !weighted {
            return self.aggregate(Function::Count, None, aggregate, made);
        }
        let sum = self.sum(products, aggregate, made)?;
        Ok(or_else(sum, 0))
    }

    pub(super) fn sum(
        &mut self,
        products: Vec<Product>,
        aggregate: (&Aggregate, Option<u128>),
        made: &mut Vec<Aggregate>,
    ) -> Result<Expr> {
        let mut sum: Option<Expr> = None;
        for product in products {
            let negative = product.negative;
            let term = self.product(product)?;
            sum = Some(match (sum, negative) {
                (None, false) => term,
                (None, true) => Expr::Negative(Box::new(term)),
                (Some(sum), false) => binary(sum, Operator::Plus, term),
                (Some(sum), true) => binary(sum, Operator::Minus, term),
            });
        }
        let argument = sum.unwrap_or_else(|| integer(0));
        self.aggregate(Function::Sum, Some(argument), aggregate, made)
    }

    /// A product as an expression over what the sides hand over.
    fn product(&mut self, product: Product) -> Result<Expr> {
        let mut factors: Vec<Expr> = Vec::new();
        for side in 0..self.sides.len() {
            match product.of_side.get(&side) {
                Some(factor) if self.sides[side].groups => {
                    let sum = self.partial_sum(side, factor)?;
                    factors.push(self.flagged(side, factor, sum)?);
                }
                Some(factor) => {
                    let value = self.factor(side, factor)?;
                    factors.push(self.flagged(side, factor, value)?);
                }
                None if self.sides[side].groups => factors.push(self.weight(side)?),
                None => {}
            }
        }
        factors.extend(product.joint);
        let mut factors = factors.into_iter();
        let first = factors.next().unwrap_or_else(one);
        Ok(factors.fold(first, |product, factor| {
            binary(product, Operator::Multiply, factor)
        }))
    }

    fn partial_sum(&mut self, side: usize, factor: &Expr) -> Result<Expr> {
        let known = self.sides[side]
            .partial
            .iter()
            .find(|of| of.function == Function::Sum && of.argument.as_ref() == Some(factor));
        if let Some(known) = known {
            return Ok(known.id.expr());
        }
        let (of, _) = self.columns.type_of(factor)?;
        let data_type = match of {
            DataType::Decimal128(precision, scale) => {
                DataType::Decimal128((precision + 10).min(38), scale)
            }
            _ => DataType::Int64,
        };
        let label = format!("sum({})", self.columns.label(factor));
        let mut info = Info::new(data_type, true, label);
        info.most = self.summed(factor, self.sides[side].most);
        let id = self.columns.add(info);
        self.sides[side].partial.push(Aggregate {
            id,
            function: Function::Sum,
            argument: Some(factor.clone()),
        });
        Ok(id.expr())
    }

    /// A value of a side where the conditions hold of the rows that it is over, if these are columns of the
    /// side, and zero elsewhere: values over the same rows then differ in nothing else.
    fn flagged(&mut self, side: usize, factor: &Expr, value: Expr) -> Result<Expr> {
        let mut list = Vec::new();
        holds(factor, self.columns, &mut list)?;
        let of = &self.sides[side];
        let own = match of.groups {
            true => &of.keys,
            false => &of.columns,
        };
        let mut flags = Vec::new();
        for condition in &list {
            let mut known = self.columns.flags_of(condition);
            match known.find(|id| own.contains(id)) {
                Some(flag) => flags.push(flag.expr()),
                None => return Ok(value),
            }
        }
        let whole = flags.into_iter().reduce(|a, b| binary(a, Operator::And, b));
        // A sum of what is never NULL is none either: a group has rows.
        let sure = whole.is_none() && of.groups && self.guarded;
        if whole.is_none() && !sure || of.rel.owner().is_none() || !of.groups && of.optional {
            return Ok(value);
        }
        let zero = ScalarValue::new_zero(&self.columns.type_of(&value)?.0)
            .map_err(|_| Error::new(Code::Internal, "a sum of what is no number"))?;
        let or_zero = coalesce(vec![value.clone(), Expr::Literal(zero, None)]);
        let list = match of.groups {
            true => &of.after,
            false => &of.computed,
        };
        let id = match list.iter().find(|(_, known)| *known == or_zero) {
            Some((id, _)) => *id,
            None => {
                let id = self.columns.compute(&or_zero)?;
                let most = self.columns.magnitude(&value);
                if let Some(info) = self.columns.info_mut(id) {
                    info.most = most;
                    info.nullable = self.sides[side].optional;
                    info.null_there = false;
                }
                let side = &mut self.sides[side];
                match side.groups {
                    true => side.after.push((id, or_zero)),
                    false => side.computed.push((id, or_zero)),
                }
                id
            }
        };
        Ok(match whole {
            None => id.expr(),
            Some(whole) => Expr::Case(Case::new(
                None,
                vec![(Box::new(whole), Box::new(id.expr()))],
                None,
            )),
        })
    }

    /// The number of rows of a side behind a joined row.
    pub(super) fn weight(&mut self, side: usize) -> Result<Expr> {
        let id = match self.sides[side].weight {
            Some(id) => id,
            None => {
                let side_of = &self.sides[side];
                let mut info = Info::new(DataType::Int64, side_of.optional, "count(*)".to_owned());
                info.most = Some(u128::from(side_of.most));
                let id = self.columns.add(info);
                self.sides[side].partial.push(Aggregate {
                    id,
                    function: Function::Count,
                    argument: None,
                });
                self.sides[side].weight = Some(id);
                id
            }
        };
        Ok(match self.sides[side].optional {
            // A row without a partner is there once.
            true => or_else(id.expr(), 1),
            false => id.expr(),
        })
    }

    /// A factor of a side that does not group, computed there.
    fn factor(&mut self, side: usize, factor: &Expr) -> Result<Expr> {
        if ColumnId::of_expr(factor).is_some() || self.sides[side].optional {
            return Ok(factor.clone());
        }
        let known = self.sides[side].computed.iter();
        if let Some((id, _)) = known.clone().find(|(_, of)| of == factor) {
            return Ok(id.expr());
        }
        if !crosses(&self.columns.type_of(factor)?.0) {
            return Ok(factor.clone());
        }
        let id = self.columns.compute(factor)?;
        self.sides[side].computed.push((id, factor.clone()));
        Ok(id.expr())
    }

    pub(super) fn aggregate(
        &mut self,
        function: Function,
        argument: Option<Expr>,
        (of, most): (&Aggregate, Option<u128>),
        made: &mut Vec<Aggregate>,
    ) -> Result<Expr> {
        let known = made
            .iter()
            .find(|known| known.function == function && known.argument == argument);
        if let Some(known) = known {
            return Ok(known.id.expr());
        }
        let data_type = match &argument {
            None => DataType::Int64,
            Some(argument) => match self.columns.type_of(argument)?.0 {
                DataType::Decimal128(precision, scale) => {
                    DataType::Decimal128((precision + 10).min(38), scale)
                }
                _ => DataType::Int64,
            },
        };
        let label = self.columns.info(of.id)?.label.clone();
        let mut info = Info::new(data_type, argument.is_some(), label);
        info.most = most;
        let id = self.columns.add(info);
        made.push(Aggregate {
            id,
            function,
            argument,
        });
        Ok(id.expr())
    }

    /// A bound on a sum of this over so many rows.
    pub(super) fn summed(&self, argument: &Expr, rows: u64) -> Option<u128> {
        self.columns
            .magnitude(argument)?
            .checked_mul(u128::from(rows.max(1)))
    }
}
