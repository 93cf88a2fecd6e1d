//! Eager aggregation (Yan and Larson, VLDB 1995): below joins every owner groups its rows by what the
//! joins and groups above still look at, with partial sums and a count of rows, so that fewer rows enter
//! the computation, and each at most once for a key.
//!
//! A sum is taken apart into products of factors of one side each; a side's factor becomes its partial
//! sum, and a side without one gives its number of rows, by which the others are multiplied. A union is
//! one side, each of whose inputs groups alone.

mod partials;
mod products;
mod sides;
mod unions;

use super::build::one;
use super::columns::{ColumnId, Columns, substitute, used, used_by};
use super::exists::reduced;
use super::functions::quotient;
use super::unions::computing;
use super::{Aggregate, Block, Function, JoinKind, Rel, Tally};
use crate::error::{Code, Error, Result};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::Case;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, cast};
use products::Product;
use sides::{joins_look, leaves, replaced};
use std::collections::{BTreeMap, BTreeSet};

/// Aggregates as early as possible, everywhere in a relation.
pub(in crate::planner) fn eager(rel: Rel, columns: &mut Columns) -> Result<Rel> {
    if rel.owner().is_some() {
        return Ok(rel);
    }
    let rel = match rel {
        Rel::Join {
            kind: kind @ (JoinKind::Semi | JoinKind::Anti),
            left,
            right,
            on,
            conditions,
        } => {
            let (right, conditions) = once(*right, &on, conditions, columns)?;
            Rel::Join {
                kind,
                left,
                right: Box::new(right),
                on,
                conditions,
            }
        }
        other => other,
    };
    match rel.map_inputs(&mut |input| eager(input, columns))? {
        Rel::Group {
            input,
            keys,
            aggregates,
        } => group(*input, keys, aggregates, columns),
        other => Ok(other),
    }
}

/// The right side of a semi or anti join: a row for each key is enough.
fn once(
    right: Rel,
    on: &[(ColumnId, ColumnId)],
    conditions: Vec<Expr>,
    columns: &mut Columns,
) -> Result<(Rel, Vec<Expr>)> {
    if right.owner().is_none() && conditions.is_empty() {
        return Ok((right, conditions));
    }
    match reduced(right.clone(), on, conditions.clone(), columns)? {
        Some(reduced) => Ok(reduced),
        None => Ok((right, conditions)),
    }
}

/// One input below a group, while it is rewritten.
struct Side {
    rel: Rel,
    columns: BTreeSet<ColumnId>,
    /// A public bound on its rows.
    most: u64,
    /// Whether it groups its rows.
    groups: bool,
    /// Whether it can have no row for a joined one.
    optional: bool,
    keys: BTreeSet<ColumnId>,
    partial: Vec<Aggregate>,
    /// The number of rows behind each of its groups.
    weight: Option<ColumnId>,
    computed: Vec<(ColumnId, Expr)>,
    /// Computed of its groups.
    after: Vec<(ColumnId, Expr)>,
}

fn group(
    input: Rel,
    keys: Vec<ColumnId>,
    aggregates: Vec<Aggregate>,
    columns: &mut Columns,
) -> Result<Rel> {
    let unchanged = |input: Rel, keys, aggregates| Rel::Group {
        input: Box::new(input),
        keys,
        aggregates,
    };
    let alone = input.owner().is_some();
    if alone && !aggregates.iter().any(|of| of.function.only_joint()) {
        return Ok(unchanged(input, keys, aggregates));
    }
    let mut input = input;
    let block = match &mut input {
        Rel::Block(block) if !alone => std::mem::take(block),
        _ if alone => Block {
            inputs: vec![input],
            ..Block::default()
        },
        Rel::Join { .. } | Rel::Union { .. } | Rel::Window { .. } => Block {
            inputs: vec![input],
            ..Block::default()
        },
        _ => return Ok(unchanged(input, keys, aggregates)),
    };
    let again = (block.clone(), keys.clone(), aggregates.clone());
    if let Some(rel) = Eager::new(block, columns, true).group(keys, aggregates)? {
        return Ok(rel);
    }
    let (block, keys, aggregates) = again;
    let rel = Eager::new(block, columns, false).group(keys, aggregates)?;
    rel.ok_or_else(|| Error::new(Code::Internal, "units that are counted twice"))
}

struct Eager<'a> {
    columns: &'a mut Columns,
    block: Block,
    sides: Vec<Side>,
    /// A public bound on joined rows, before any side groups.
    joined: u64,
    /// Whether a side may hand over numbers of units in place of their tags.
    counts: bool,
    /// Whether a guard is above: which rows a number is over then matters.
    guarded: bool,
}

impl<'a> Eager<'a> {
    fn new(block: Block, columns: &'a mut Columns, counts: bool) -> Self {
        let mut sides = Vec::new();
        for input in &block.inputs {
            leaves(input, false, &mut |rel, optional| {
                sides.push(Side {
                    rel: rel.clone(),
                    columns: rel.columns().into_iter().collect(),
                    most: rel.most(columns),
                    groups: false,
                    optional,
                    keys: BTreeSet::new(),
                    partial: Vec::new(),
                    weight: None,
                    computed: Vec::new(),
                    after: Vec::new(),
                });
            });
        }
        let joined = Rel::Block(block.clone()).most(columns).max(1);
        Self {
            columns,
            block,
            sides,
            joined,
            counts,
            guarded: false,
        }
    }

    /// The side that has all of these columns.
    fn side(&self, of: &BTreeSet<ColumnId>) -> Option<usize> {
        let mut sides = self.sides.iter();
        sides.position(|side| of.is_subset(&side.columns))
    }

    /// None where units would be counted twice.
    fn group(mut self, keys: Vec<ColumnId>, aggregates: Vec<Aggregate>) -> Result<Option<Rel>> {
        let units = |of: &Aggregate| matches!(of.function, Function::Units(_));
        self.guarded = aggregates.iter().any(units);
        // Arguments over columns of the sides alone.
        let mut by: BTreeMap<ColumnId, Expr> = BTreeMap::new();
        for (id, expr) in &self.block.computed {
            by.insert(*id, substitute(expr, &by)?);
        }
        let mut plans = Vec::new();
        for aggregate in &aggregates {
            let argument = match &aggregate.argument {
                Some(argument) => Some(substitute(argument, &by)?),
                None => None,
            };
            plans.push(self.plan(aggregate, argument)?);
        }
        let apart = self.kept_apart(&aggregates)?;
        self.look(&keys, &plans, &apart)?;
        let alone = self.counting(&plans);
        let mut made = Vec::new();
        let mut after = Vec::new();
        for (aggregate, plan) in aggregates.iter().zip(plans) {
            self.make(aggregate, plan, &mut made, &mut after)?;
        }
        let input = self.rebuilt()?;
        let set: BTreeSet<ColumnId> = keys.iter().copied().collect();
        for side in &alone {
            let whole = set.union(side).copied().collect();
            if !input.unique_on(&whole) {
                return Ok(None);
            }
        }
        let single = !made.iter().any(units);
        let rel = if !keys.is_empty() && single && input.unique_on(&set) {
            single_rows(input, made, self.columns)?
        } else {
            let (keys, same) = self.least(&input, keys)?;
            made.extend(same);
            Rel::Group {
                input: Box::new(input),
                keys,
                aggregates: made,
            }
        };
        Ok(Some(rel.computing(after)))
    }

    /// Columns in which rows that differ stay apart.
    fn kept_apart(&self, aggregates: &[Aggregate]) -> Result<BTreeSet<ColumnId>> {
        let mut apart = BTreeSet::new();
        for aggregate in aggregates {
            apart.extend(&self.columns.info(aggregate.id)?.apart);
        }
        Ok(apart)
    }

    /// The keys of every side that hands over numbers of units in place of tags: none of its rows may be
    /// in two joined ones of a group.
    fn counting(&self, plans: &[Plan]) -> Vec<BTreeSet<ColumnId>> {
        let mut list = Vec::new();
        for plan in plans {
            if let Plan::Units(Tally::Distinct, _, side) = plan
                && let Some(side) = self.sides.get(*side)
                && side.groups
            {
                list.push(side.keys.clone());
            }
        }
        list
    }

    /// Keys without those that the others determine, the widest left out first; what is left out has one
    /// value in each group.
    fn least(&self, input: &Rel, keys: Vec<ColumnId>) -> Result<(Vec<ColumnId>, Vec<Aggregate>)> {
        let mut widest: Vec<(bool, ColumnId)> = Vec::new();
        for key in &keys {
            let info = self.columns.info(*key)?;
            let text = info.data_type == DataType::Utf8 && info.codes.is_empty();
            widest.push((text, *key));
        }
        widest.sort_by_key(|(text, _)| !text);
        let mut least: BTreeSet<ColumnId> = keys.iter().copied().collect();
        let mut same = Vec::new();
        for (_, key) in widest {
            let mut less = least.clone();
            less.remove(&key);
            if !less.is_empty() && input.determined(&less).contains(&key) {
                least = less;
                same.push(Aggregate {
                    id: key,
                    function: Function::Any,
                    argument: Some(key.expr()),
                });
            }
        }
        let keys = keys.into_iter().filter(|key| least.contains(key)).collect();
        Ok((keys, same))
    }

    /// How an aggregate comes about.
    fn plan(&mut self, aggregate: &Aggregate, argument: Option<Expr>) -> Result<Plan> {
        let Some(argument) = argument else {
            return Ok(Plan::Count(vec![Product::default()]));
        };
        Ok(match aggregate.function {
            Function::Count => {
                let nullable = self.columns.type_of(&argument)?.1;
                if !nullable {
                    return Ok(Plan::Count(vec![Product::default()]));
                }
                let indicator = Expr::Case(Case::new(
                    None,
                    vec![(
                        Box::new(Expr::IsNotNull(Box::new(argument.clone()))),
                        Box::new(one()),
                    )],
                    Some(Box::new(integer(0))),
                ));
                Plan::Count(self.products(&indicator, true)?)
            }
            Function::Sum => Plan::Sum(self.products(&argument, false)?),
            Function::Avg => {
                let count = Aggregate {
                    id: aggregate.id,
                    function: Function::Count,
                    argument: Some(argument.clone()),
                };
                match self.plan(&count, Some(argument.clone()))? {
                    Plan::Count(counts) => Plan::Average(self.products(&argument, false)?, counts),
                    other => other,
                }
            }
            Function::Min | Function::Max | Function::Any | Function::CountDistinct => {
                Plan::Whole(argument)
            }
            Function::Units(tally) => match self.side(&used(&argument)) {
                Some(side) if tally != Tally::Distinct => Plan::Units(tally, argument, side),
                // A tag that no two rows of the side share.
                Some(side) if self.counts && self.sides[side].rel.unique_on(&used(&argument)) => {
                    Plan::Units(tally, argument, side)
                }
                _ => Plan::Whole(argument),
            },
            Function::Median | Function::Percentile { .. } => Plan::Each(argument),
        })
    }

    /// Decides which sides group, by what the joint part looks at.
    fn look(
        &mut self,
        keys: &[ColumnId],
        plans: &[Plan],
        apart: &BTreeSet<ColumnId>,
    ) -> Result<()> {
        let mut looked: BTreeSet<ColumnId> = keys.iter().copied().collect();
        looked.extend(apart);
        looked.extend(self.block.equal.iter().flat_map(|(a, b)| [*a, *b]));
        looked.extend(used_by(&self.block.conditions));
        for input in &self.block.inputs {
            joins_look(input, &mut looked);
        }
        for plan in plans {
            match plan {
                Plan::Whole(argument) | Plan::Each(argument) => looked.extend(used(argument)),
                Plan::Count(products) | Plan::Sum(products) => {
                    looked.extend(used_by(products.iter().filter_map(|of| of.joint.as_ref())));
                }
                Plan::Units(..) => {}
                Plan::Average(sums, counts) => {
                    let all = sums.iter().chain(counts);
                    looked.extend(used_by(all.filter_map(|of| of.joint.as_ref())));
                }
            }
        }
        for (id, expr) in self.block.computed.iter().rev() {
            if looked.contains(id) {
                looked.extend(used(expr));
            }
        }
        let mut rels: Vec<(Rel, bool)> = Vec::new();
        for input in &self.block.inputs {
            leaves(input, false, &mut |rel, optional| {
                rels.push((rel.clone(), optional));
            });
        }
        let alone = rels.len() == 1;
        let each = plans.iter().any(|plan| matches!(plan, Plan::Each(_)));
        for (side, (rel, _)) in self.sides.iter_mut().zip(&rels) {
            side.keys = looked.intersection(&side.columns).copied().collect();
            side.groups = !each
                && match rel.owner() {
                    Some(_) => !rel.unique_on(&side.keys),
                    // A group of no rows is a row, which a join would take for one.
                    None => (alone || !side.keys.is_empty()) && unions::groups(rel, &side.keys),
                };
        }
        for side in 0..self.sides.len() {
            if !alone && self.sides[side].groups && self.sides[side].keys.is_empty() {
                self.weight(side)?;
            }
        }
        Ok(())
    }

    /// Adds what computes an aggregate: partial ones at the sides, then one over joined rows, then what
    /// makes it of the aggregate's type.
    fn make(
        &mut self,
        aggregate: &Aggregate,
        plan: Plan,
        made: &mut Vec<Aggregate>,
        after: &mut Vec<(ColumnId, Expr)>,
    ) -> Result<()> {
        let data_type = self.columns.info(aggregate.id)?.data_type.clone();
        // Sums are over joined rows, however they are taken apart.
        let rows = Some(u128::from(self.joined));
        let bound = match &aggregate.argument {
            None => rows,
            Some(argument) => self.summed(argument, self.joined),
        };
        match plan {
            Plan::Count(products) => {
                let count = self.count(products, (aggregate, rows), made)?;
                after.push((aggregate.id, count));
            }
            Plan::Sum(products) => {
                let sum = self.sum(products, (aggregate, bound), made)?;
                after.push((aggregate.id, cast_to(sum, &data_type, self.columns)?));
            }
            Plan::Average(sums, counts) => {
                let sum = self.sum(sums, (aggregate, bound), made)?;
                let count = self.count(counts, (aggregate, rows), made)?;
                after.push((aggregate.id, quotient(sum, count, data_type)));
            }
            Plan::Units(tally, argument, side) => {
                let (tally, argument) = self.units(aggregate, tally, argument, side)?;
                made.push(Aggregate {
                    id: aggregate.id,
                    function: Function::Units(tally),
                    argument: Some(argument),
                });
            }
            Plan::Each(argument) => made.push(Aggregate {
                id: aggregate.id,
                function: aggregate.function,
                argument: Some(argument),
            }),
            Plan::Whole(argument) => {
                let argument = self.whole(aggregate.function, argument)?;
                made.push(Aggregate {
                    id: aggregate.id,
                    function: aggregate.function,
                    argument: Some(argument),
                });
            }
        }
        Ok(())
    }

    /// The block with its sides as they were decided.
    fn rebuilt(&mut self) -> Result<Rel> {
        let mut block = std::mem::take(&mut self.block);
        let several = self.sides.len() > 1;
        let (mut next, mut failure) = (0, None);
        let mut kept = |rel: Result<Rel>| {
            rel.unwrap_or_else(|error| {
                failure = Some(error);
                Rel::Block(Block::default())
            })
        };
        block.inputs = block
            .inputs
            .into_iter()
            .map(|input| {
                replaced(input, &mut |rel| {
                    let side = self.sides.get_mut(next);
                    next += 1;
                    match side {
                        None => rel,
                        Some(side) if side.groups => {
                            // The one group of no keys is there without a row, too.
                            let some = side.weight.filter(|_| several && side.keys.is_empty());
                            let some = some.map(|id| binary(id.expr(), Operator::Gt, integer(0)));
                            let grouped =
                                unions::grouped(rel, &side.keys, &side.partial, self.columns);
                            kept(grouped)
                                .filtered(some.into_iter().collect())
                                .computing(std::mem::take(&mut side.after))
                        }
                        Some(side) => kept(computing(
                            rel,
                            std::mem::take(&mut side.computed),
                            self.columns,
                        )),
                    }
                })
            })
            .collect();
        if let Some(error) = failure {
            return Err(error);
        }
        // Arguments no longer ask for computed columns over what is grouped away.
        let there: BTreeSet<ColumnId> = block.inputs.iter().flat_map(Rel::columns).collect();
        let mut known = there;
        block.computed.retain(|(id, expr)| {
            let stays = used(expr).is_subset(&known);
            if stays {
                known.insert(*id);
            }
            stays
        });
        Ok(match block.inputs.len() {
            1 if block.conditions.is_empty() && block.computed.is_empty() => block.inputs.remove(0),
            _ => Rel::Block(block),
        })
    }
}

/// What computes an aggregate.
enum Plan {
    /// Units of one side.
    Units(Tally, Expr, usize),
    Count(Vec<Product>),
    Sum(Vec<Product>),
    Average(Vec<Product>, Vec<Product>),
    /// Over joined rows as it is, however often each is there.
    Whole(Expr),
    /// Over every joined row, as often as it is there: no side may group its rows.
    Each(Expr),
}

/// Groups of one row each: aggregates as expressions.
fn single_rows(input: Rel, made: Vec<Aggregate>, columns: &mut Columns) -> Result<Rel> {
    let mut computed = Vec::new();
    for aggregate in made {
        let data_type = columns.info(aggregate.id)?.data_type.clone();
        let expr = match (aggregate.function, aggregate.argument) {
            (Function::Count, None) | (_, None) => one(),
            (
                Function::Count | Function::CountDistinct | Function::Units(Tally::Distinct),
                Some(argument),
            ) => Expr::Case(Case::new(
                None,
                vec![(
                    Box::new(Expr::IsNotNull(Box::new(argument))),
                    Box::new(one()),
                )],
                Some(Box::new(integer(0))),
            )),
            (Function::Avg, Some(argument)) => quotient(argument, one(), data_type),
            (_, Some(argument)) => cast_to(argument, &data_type, columns)?,
        };
        computed.push((aggregate.id, expr));
    }
    Ok(input.computing(computed))
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

fn integer(value: i64) -> Expr {
    Expr::Literal(ScalarValue::Int64(Some(value)), None)
}

/// The number, or this one where it is NULL.
fn or_else(expr: Expr, value: i64) -> Expr {
    Expr::Case(Case::new(
        None,
        vec![(
            Box::new(Expr::IsNull(Box::new(expr.clone()))),
            Box::new(integer(value)),
        )],
        Some(Box::new(expr)),
    ))
}

fn cast_to(expr: Expr, data_type: &DataType, columns: &Columns) -> Result<Expr> {
    if columns.type_of(&expr)?.0 == *data_type {
        return Ok(expr);
    }
    Ok(cast(expr, data_type.clone()))
}
