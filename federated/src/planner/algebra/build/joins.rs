//! Joins of every kind, and subqueries that the engine turned into joins.

use super::super::columns::ColumnId;
use super::super::exists::{holds, reduced};
use super::super::{Block, JoinKind, Rel};
use super::{Builder, Built, one};
use crate::error::{Code, Error, Result};
use crate::planner::columns::split;
use datafusion::common::{JoinType, NullEquality, ScalarValue};
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::{Expr, Join, Operator};

impl Builder<'_> {
    pub(super) fn join(&mut self, join: &Join) -> Result<Built> {
        use JoinType as T;
        let mut left = self.plan(&join.left)?;
        let mut right = self.plan(&join.right)?;
        let (mut left_keys, mut right_keys) = (Vec::new(), Vec::new());
        let mut on = Vec::new();
        for (a, b) in &join.on {
            let a = self.column(
                a,
                join.left.schema(),
                &left.output,
                &mut left.rel,
                &mut left_keys,
            )?;
            let b = self.column(
                b,
                join.right.schema(),
                &right.output,
                &mut right.rel,
                &mut right_keys,
            )?;
            if join.null_equality == NullEquality::NullEqualsNull {
                self.null_equal(&mut on, (a, &mut left_keys), (b, &mut right_keys))?;
            } else {
                on.push((a, b));
            }
        }
        let left_rel = left.rel.computing(left_keys);
        let right_rel = right.rel.computing(right_keys);
        let both: Vec<ColumnId> = left.output.iter().chain(&right.output).copied().collect();
        let mut conditions = Vec::new();
        if let Some(filter) = &join.filter {
            let schema = join
                .left
                .schema()
                .join(join.right.schema())
                .map_err(|_| Error::new(Code::Internal, "two sides of a join have one name"))?;
            let mut none = Rel::Block(Block::default());
            for part in split(filter.clone(), Operator::And) {
                conditions.push(self.expr(&part, &schema, &both, &mut none)?);
            }
            if !none.inputs().is_empty() {
                return Err(self
                    .query
                    .unsupported("a scalar subquery in ON of an outer join", &["ON"]));
            }
        }
        let (kind, swapped) = match join.join_type {
            T::Inner => {
                return Ok(Built {
                    rel: Rel::Block(Block {
                        inputs: vec![left_rel, right_rel],
                        equal: on,
                        computed: Vec::new(),
                        conditions,
                    }),
                    output: both,
                });
            }
            T::Left => (JoinKind::Left, false),
            T::Right => (JoinKind::Left, true),
            T::Full => (JoinKind::Full, false),
            T::LeftSemi => (JoinKind::Semi, false),
            T::RightSemi => (JoinKind::Semi, true),
            T::LeftAnti if join.null_aware => (JoinKind::NotIn, false),
            T::LeftAnti => (JoinKind::Anti, false),
            T::RightAnti => (JoinKind::Anti, true),
            T::LeftMark => return self.mark(left_rel, left.output, right_rel, on, conditions),
            T::RightMark => {
                let on = on.into_iter().map(|(a, b)| (b, a)).collect();
                return self.mark(right_rel, right.output, left_rel, on, conditions);
            }
        };
        let output = match (kind, swapped) {
            (JoinKind::Left | JoinKind::Full, _) => both,
            (_, false) => left.output.clone(),
            (_, true) => right.output.clone(),
        };
        let (mut left_rel, mut right_rel) = (left_rel, right_rel);
        if swapped {
            std::mem::swap(&mut left_rel, &mut right_rel);
            on = on.into_iter().map(|(a, b)| (b, a)).collect();
        }
        if on.is_empty() && matches!(kind, JoinKind::Semi | JoinKind::Anti) {
            return self.anything(kind, left_rel, output, right_rel, conditions);
        }
        if matches!(kind, JoinKind::Left | JoinKind::Full) {
            self.columns.can_be_null(&right_rel.columns());
        }
        if kind == JoinKind::Full {
            self.columns.can_be_null(&left_rel.columns());
        }
        Ok(Built {
            rel: Rel::Join {
                kind,
                left: Box::new(left_rel),
                right: Box::new(right_rel),
                on,
                conditions,
            },
            output,
        })
    }

    /// Two columns that are equal where both are NULL, too: as a flag, and a value in place of NULL.
    fn null_equal(
        &mut self,
        on: &mut Vec<(ColumnId, ColumnId)>,
        (a, left): (ColumnId, &mut Vec<(ColumnId, Expr)>),
        (b, right): (ColumnId, &mut Vec<(ColumnId, Expr)>),
    ) -> Result<()> {
        let (x, y) = (self.columns.info(a)?.clone(), self.columns.info(b)?.clone());
        if !x.nullable && !y.nullable {
            on.push((a, b));
            return Ok(());
        }
        let value = ScalarValue::new_default(&x.data_type).map_err(|_| {
            self.query
                .unsupported("a set operation over a column of this type", &[])
        })?;
        for make in [
            |id: ColumnId, _: &ScalarValue| Expr::IsNull(Box::new(id.expr())),
            |id: ColumnId, value: &ScalarValue| {
                Expr::Case(Case::new(
                    None,
                    vec![(
                        Box::new(Expr::IsNull(Box::new(id.expr()))),
                        Box::new(Expr::Literal(value.clone(), None)),
                    )],
                    Some(Box::new(id.expr())),
                ))
            },
        ] {
            let (of_a, of_b) = (make(a, &value), make(b, &value));
            let (id_a, id_b) = (self.columns.compute(&of_a)?, self.columns.compute(&of_b)?);
            self.columns.never_null(id_a);
            self.columns.never_null(id_b);
            left.push((id_a, of_a));
            right.push((id_b, of_b));
            on.push((id_a, id_b));
        }
        Ok(())
    }

    /// EXISTS or IN as a truth value of its own: whether a left row has a match.
    fn mark(
        &mut self,
        left: Rel,
        mut output: Vec<ColumnId>,
        right: Rel,
        on: Vec<(ColumnId, ColumnId)>,
        conditions: Vec<Expr>,
    ) -> Result<Built> {
        let unsupported = || {
            self.query.unsupported(
                "EXISTS or IN beside OR, with more than one condition beside equality",
                &["EXISTS", "IN"],
            )
        };
        let (right, conditions) =
            reduced(right, &on, conditions, self.columns)?.ok_or_else(unsupported)?;
        if on.is_empty() {
            let found = holds(&right, conditions, self.columns)?;
            let mark = self.columns.compute(&found)?;
            output.push(mark);
            let both = Rel::Block(Block {
                inputs: vec![left, right],
                computed: vec![(mark, found)],
                ..Block::default()
            });
            return Ok(Built { rel: both, output });
        }
        let partner = self.columns.compute(&one())?;
        let right = right.computing(vec![(partner, one())]);
        self.columns.can_be_null(&right.columns());
        let joined = Rel::Join {
            kind: JoinKind::Left,
            left: Box::new(left),
            right: Box::new(right),
            on,
            conditions,
        };
        let found = Expr::IsNotNull(Box::new(partner.expr()));
        let mark = self.columns.compute(&found)?;
        output.push(mark);
        Ok(Built {
            rel: joined.computing(vec![(mark, found)]),
            output,
        })
    }

    /// EXISTS without equal columns: the other side is one row that says what there is.
    fn anything(
        &mut self,
        kind: JoinKind,
        left: Rel,
        output: Vec<ColumnId>,
        right: Rel,
        conditions: Vec<Expr>,
    ) -> Result<Built> {
        let Some((right, conditions)) = reduced(right, &[], conditions, self.columns)? else {
            return Err(self.query.unsupported(
                "EXISTS without an equality, with more than one comparison",
                &["EXISTS", "IN", "ANY", "ALL"],
            ));
        };
        let found = holds(&right, conditions, self.columns)?;
        let condition = match kind {
            JoinKind::Anti => Expr::Not(Box::new(found)),
            _ => found,
        };
        Ok(Built {
            rel: Rel::Block(Block {
                inputs: vec![left, right],
                conditions: vec![condition],
                ..Block::default()
            }),
            output,
        })
    }
}
