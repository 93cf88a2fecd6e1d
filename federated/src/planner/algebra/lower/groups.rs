//! Groups over shares: keys and arguments as columns, and the functions of the aggregates.

use super::super::columns::{ColumnId, used};
use super::super::{Aggregate, Function, Rel, Tally};
use super::{Lower, Place, Relation, Want};
use crate::error::Result;
use crate::plan::Encoding;
use crate::plan::program::{self, AggregateKind, Expression, Relational, Variable};
use arrow::datatypes::DataType;
use datafusion::logical_expr::Expr;
use std::collections::{BTreeMap, BTreeSet};

impl Lower<'_> {
    pub(super) fn group(
        &mut self,
        input: Relation,
        keys: &[ColumnId],
        aggregates: &[Aggregate],
        rel: &Rel,
    ) -> Result<Relation> {
        let mut input = input;
        let mut list = Vec::new();
        let mut places = BTreeMap::new();
        let mut by: Vec<Variable> = Vec::new();
        for key in keys {
            let variable = self.as_key(&input, *key, &mut list)?;
            if !by.contains(&variable) {
                by.push(variable);
            }
            places.insert(*key, Place::Variable(variable));
        }
        let mut wanted = Vec::new();
        for aggregate in aggregates {
            let data_type = self.scalar(&self.columns.info(aggregate.id)?.data_type)?;
            let function = match aggregate.function {
                Function::Count => AggregateKind::Count,
                Function::Sum => AggregateKind::Sum,
                Function::Min => AggregateKind::Min,
                Function::Max => AggregateKind::Max,
                Function::Any => AggregateKind::Any,
                Function::CountDistinct => AggregateKind::CountDistinct,
                Function::Median => AggregateKind::Median,
                Function::Percentile { parts, digits } => {
                    AggregateKind::Percentile { parts, digits }
                }
                Function::Units(Tally::Sum) => AggregateKind::Sum,
                Function::Units(Tally::Max) => AggregateKind::Max,
                Function::Units(Tally::Distinct) => {
                    let mut whole: BTreeSet<ColumnId> = keys.iter().copied().collect();
                    whole.extend(aggregate.argument.iter().flat_map(used));
                    let tag = aggregate.argument.as_ref().and_then(ColumnId::of_expr);
                    let once = tag.is_some_and(|tag| self.owner_knows(&input.rel, tag, &whole));
                    match once {
                        // Each row is another unit.
                        true => AggregateKind::Count,
                        false => AggregateKind::CountDistinct,
                    }
                }
                Function::Avg => {
                    return Err(self.unsupported(
                        "AVG of an expression over columns of several departments that can be NULL",
                    ));
                }
            };
            let want = match function {
                _ if aggregate.function == Function::Units(Tally::Distinct) => {
                    Want::Unit { alone: false }
                }
                AggregateKind::Sum => {
                    // Where the sum fits and every column does, what is between them may wrap.
                    let narrow = |most: Option<u128>| most.is_some_and(|most| most < 1 << 63);
                    let looks = aggregate.argument.iter().flat_map(used);
                    let columns = self.columns;
                    let fits = looks
                        .into_iter()
                        .all(|id| narrow(columns.magnitude(&id.expr())));
                    Want::Ring {
                        wide: !(fits && narrow(self.columns.info(aggregate.id)?.most)),
                    }
                }
                AggregateKind::Any => match self.columns.info(aggregate.id)?.data_type {
                    DataType::Utf8 => Want::Any,
                    _ => Want::Bits,
                },
                _ => Want::Bits,
            };
            let argument = match &aggregate.argument {
                None => None,
                Some(argument) => Some(self.as_column(&input, argument, want, &mut list)?),
            };
            let units = matches!(aggregate.function, Function::Units(_));
            wanted.push((aggregate.id, function, argument, data_type, units));
        }
        if !list.is_empty() {
            input.relation = self.push(Relational::Map {
                input: input.relation,
                computed: list,
            });
        }
        let mut made = Vec::new();
        for (id, function, argument, data_type, units) in wanted {
            let form = match (function, argument) {
                (AggregateKind::Count | AggregateKind::CountDistinct, _) | (_, None) => {
                    Encoding::Ring64
                }
                (AggregateKind::Median | AggregateKind::Percentile { .. }, _) => Encoding::Ring128,
                (_, Some(argument)) => {
                    let form = self.forms.get(&argument).cloned();
                    form.unwrap_or(Encoding::Ring64)
                }
            };
            let variable = self.fresh(form);
            places.insert(id, Place::Variable(variable));
            if units {
                self.counted.insert(variable, self.operators.len());
            }
            made.push(program::Aggregate {
                variable,
                function,
                argument,
                when: None,
                data_type,
            });
        }
        let relation = self.push(Relational::Group {
            input: input.relation,
            keys: by,
            aggregates: made,
            most: rel.most(self.columns).max(1),
        });
        Ok(Relation {
            relation,
            places,
            rel: rel.clone(),
        })
    }

    /// A column in bits, as a key of groups and partitions.
    pub(super) fn as_key(
        &mut self,
        input: &Relation,
        key: ColumnId,
        list: &mut Vec<(Variable, Expression)>,
    ) -> Result<Variable> {
        self.not_rounded(key)?;
        let variable = self.variable(input, key, Want::Bits)?;
        if !self.is_ring(variable) {
            return Ok(variable);
        }
        let width = self.width(&key.expr());
        let bits = Expression::Bits {
            input: Box::new(Expression::Column(variable)),
            width,
        };
        Ok(self.listed(bits, Encoding::Bits(width), list))
    }

    /// The column that an expression is in this form; it is added to the list where it is none.
    pub(super) fn as_column(
        &mut self,
        input: &Relation,
        expr: &Expr,
        want: Want,
        list: &mut Vec<(Variable, Expression)>,
    ) -> Result<Variable> {
        let expression = self.expression(input, expr, want)?;
        Ok(match self.in_form(expression, expr, want)? {
            Expression::Column(variable) => variable,
            other => {
                let form = self.form_of(&other)?;
                self.listed(other, form, list)
            }
        })
    }

    pub(super) fn listed(
        &mut self,
        of: Expression,
        form: Encoding,
        list: &mut Vec<(Variable, Expression)>,
    ) -> Variable {
        if let Some((variable, _)) = list.iter().find(|(_, known)| *known == of) {
            return *variable;
        }
        let variable = self.fresh(form);
        list.push((variable, of));
        variable
    }
}
