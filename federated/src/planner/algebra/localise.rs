//! Brings together what one department can do alone: inner joins are taken apart and put together again
//! by owner, outer and semi joins and conditions move down to the owner of all that they look at.
//!
//! The engine's join order follows FROM; cut as it stands, it would split one owner's tables over
//! several fragments in 11 of the 22 queries of TPC-H.

mod windows;

use super::columns::{ColumnId, Columns, substitute, used, used_by};
use super::guard::conditions::true_of;
use super::keys::classes;
use super::nulls::strict;
use super::unions::into_unions;
use super::{Aggregate, Block, JoinKind, Rel};
use crate::error::{Code, Error, Result};
use crate::planner::columns::split;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use std::collections::{BTreeMap, BTreeSet};

/// The same relation, with as much as possible below each owner.
pub(in crate::planner) fn localise(rel: Rel, columns: &mut Columns) -> Result<Rel> {
    if rel.owner().is_some() {
        return flattened(rel);
    }
    Ok(
        match rel.map_inputs(&mut |input| localise(input, columns))? {
            Rel::Block(block) => settle(block, columns)?,
            Rel::Join {
                kind,
                left,
                right,
                on,
                conditions,
            } => join(kind, *left, *right, on, conditions, columns)?,
            Rel::Group {
                input,
                keys,
                aggregates,
            } => group(*input, keys, aggregates, columns)?,
            Rel::Window {
                input,
                partition,
                order,
                calls,
            } => {
                let (calls, after) = windows::averages(calls, columns)?;
                Rel::Window {
                    input,
                    partition,
                    order,
                    calls,
                }
                .computing(after)
            }
            other => other,
        },
    )
}

/// Blocks of blocks as one, where all belongs to one owner.
fn flattened(rel: Rel) -> Result<Rel> {
    Ok(match rel.map_inputs(&mut flattened)? {
        Rel::Block(block) => Rel::Block(merge(block, |_| true)),
        other => other,
    })
}

/// Takes blocks among the inputs apart, where `which` says so.
fn merge(block: Block, which: impl Fn(&Rel) -> bool) -> Block {
    let mut merged = Block::default();
    for input in block.inputs {
        match input {
            Rel::Block(inner) if which(&Rel::Block(inner.clone())) => {
                merged.inputs.extend(inner.inputs);
                merged.equal.extend(inner.equal);
                merged.computed.extend(inner.computed);
                merged.conditions.extend(inner.conditions);
            }
            other => merged.inputs.push(other),
        }
    }
    merged.equal.extend(block.equal);
    merged.computed.extend(block.computed);
    merged.conditions.extend(block.conditions);
    merged
}

/// Moves columns and conditions to their owners and joins what one owner has, until nothing moves.
fn settle(block: Block, columns: &mut Columns) -> Result<Rel> {
    let mut block = merge(block, |inner| inner.owner().is_none());
    equalities(&mut block);
    loop {
        while move_down(&mut block) || contract(&mut block) || into_unions(&mut block, columns)? {}
        if !own_parts(&mut block, columns)? {
            break;
        }
    }
    if block.inputs.len() == 1
        && block.equal.is_empty()
        && block.computed.is_empty()
        && block.conditions.is_empty()
    {
        return Ok(block.inputs.remove(0));
    }
    Ok(Rel::Block(block))
}

/// Parts of conditions that one owner can compute alone become columns of its own: what is left compares
/// columns, and connects truth values.
fn own_parts(block: &mut Block, columns: &mut Columns) -> Result<bool> {
    let mut made = false;
    let conditions = std::mem::take(&mut block.conditions);
    for condition in conditions {
        let mut new = Vec::new();
        let condition = owned(block, columns, condition, &mut new)?;
        made |= !new.is_empty();
        block.computed.extend(new);
        block.conditions.push(condition);
    }
    Ok(made)
}

/// Groups; conditions within aggregates are computed by owners as far as they can.
fn group(
    input: Rel,
    keys: Vec<ColumnId>,
    mut aggregates: Vec<Aggregate>,
    columns: &mut Columns,
) -> Result<Rel> {
    let input = match input {
        _ if input.owner().is_some() => input,
        Rel::Join { .. } | Rel::Block(_) => {
            let mut block = match input {
                Rel::Block(block) => block,
                other => Block {
                    inputs: vec![other],
                    ..Block::default()
                },
            };
            let mut new = Vec::new();
            for aggregate in &mut aggregates {
                if let Some(argument) = aggregate.argument.take() {
                    let argument = cases(&block, columns, argument, &mut new)?;
                    aggregate.argument = Some(argument);
                }
            }
            let computed = std::mem::take(&mut block.computed);
            for (id, expr) in computed {
                let expr = cases(&block, columns, expr, &mut new)?;
                block.computed.push((id, expr));
            }
            new.append(&mut block.computed);
            block.computed = new;
            settle(block, columns)?
        }
        other => other,
    };
    Ok(Rel::Group {
        input: Box::new(input),
        keys,
        aggregates,
    })
}

/// An expression with the conditions of its CASEs computed by owners as far as they can.
fn cases(
    block: &Block,
    columns: &mut Columns,
    expr: Expr,
    new: &mut Vec<(ColumnId, Expr)>,
) -> Result<Expr> {
    let mut boxed = |expr: Box<Expr>| Ok(Box::new(cases(block, columns, *expr, new)?));
    Ok(match expr {
        Expr::Alias(alias) => *boxed(alias.expr)?,
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (left, right) = (boxed(left)?, boxed(right)?);
            binary(*left, op, *right)
        }
        Expr::Negative(inner) => Expr::Negative(boxed(inner)?),
        Expr::Cast(of) => {
            let data_type = of.field.data_type().clone();
            datafusion::logical_expr::cast(*boxed(of.expr)?, data_type)
        }
        Expr::Case(mut case) if case.expr.is_none() => {
            let mut list = Vec::new();
            for (condition, then) in case.when_then_expr {
                let condition = flagged(block, columns, *condition)?;
                let condition = owned(block, columns, condition, new)?;
                let then = cases(block, columns, *then, new)?;
                list.push((Box::new(condition), Box::new(then)));
            }
            case.when_then_expr = list;
            case.else_expr = match case.else_expr {
                None => None,
                Some(otherwise) => Some(Box::new(cases(block, columns, *otherwise, new)?)),
            };
            Expr::Case(case)
        }
        other => other,
    })
}

/// A condition with the columns that keep rows apart by parts of it.
fn flagged(block: &Block, columns: &Columns, condition: Expr) -> Result<Expr> {
    let mut parts = Vec::new();
    for part in split(condition, Operator::And) {
        let is = true_of(&part, columns)?;
        let mut flags = columns.flags_of(&is);
        let flag = flags.find(|id| block.inputs.iter().any(|of| of.columns().contains(id)));
        parts.push(flag.map_or(part, ColumnId::expr));
    }
    let whole = parts.into_iter().reduce(|a, b| binary(a, Operator::And, b));
    whole.ok_or_else(|| Error::new(Code::Internal, "a condition of no parts"))
}

fn owned(
    block: &Block,
    columns: &mut Columns,
    expr: Expr,
    new: &mut Vec<(ColumnId, Expr)>,
) -> Result<Expr> {
    let looks = used(&expr);
    // Which input computes it: the owner of all that it looks at, or one below outer joins.
    let alone = |part: &Expr| {
        let mut inputs = block.inputs.iter();
        inputs.position(|input| computable_below(input, part))
    };
    if looks.is_empty() || ColumnId::of_expr(&expr).is_some() {
        return Ok(expr);
    }
    if alone(&expr).is_some() {
        let known = new.iter().find(|(_, known)| *known == expr);
        if let Some((id, _)) = known {
            return Ok(id.expr());
        }
        let id = columns.compute(&expr)?;
        new.push((id, expr));
        return Ok(id.expr());
    }
    match expr {
        Expr::BinaryExpr(BinaryExpr {
            op: op @ (Operator::And | Operator::Or),
            left,
            right,
        }) => {
            // Parts of one owner are one truth value.
            let whole = Expr::BinaryExpr(BinaryExpr { left, op, right });
            let mut of_owner: BTreeMap<usize, Expr> = BTreeMap::new();
            let mut rest = Vec::new();
            for part in split(whole, op) {
                match alone(&part).filter(|at| block.inputs[*at].owner().is_some()) {
                    None => rest.push(part),
                    Some(input) => {
                        let joined = match of_owner.remove(&input) {
                            None => part,
                            Some(before) => binary(before, op, part),
                        };
                        of_owner.insert(input, joined);
                    }
                }
            }
            let parts = of_owner.into_values().chain(rest);
            let mut made: Option<Expr> = None;
            for part in parts {
                let part = owned(block, columns, part, new)?;
                made = Some(match made {
                    None => part,
                    Some(before) => binary(before, op, part),
                });
            }
            made.ok_or_else(|| Error::new(Code::Internal, "an empty condition"))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let left = owned(block, columns, *left, new)?;
            let right = owned(block, columns, *right, new)?;
            Ok(binary(left, op, right))
        }
        Expr::Not(inner) => Ok(Expr::Not(Box::new(owned(block, columns, *inner, new)?))),
        Expr::Cast(of) => {
            let inner = owned(block, columns, *of.expr, new)?;
            Ok(datafusion::logical_expr::cast(
                inner,
                of.field.data_type().clone(),
            ))
        }
        other => Ok(other),
    }
}

fn binary(left: Expr, op: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
}

/// Conditions that are equalities of columns of different inputs.
fn equalities(block: &mut Block) {
    let conditions = std::mem::take(&mut block.conditions);
    for condition in conditions {
        let pair = match &condition {
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::Eq,
                right,
            }) => ColumnId::of_expr(left).zip(ColumnId::of_expr(right)),
            _ => None,
        };
        let input = |block: &Block, id| {
            let set = BTreeSet::from([id]);
            block.inputs.iter().position(|input| input.has(&set))
        };
        match pair {
            Some((a, b))
                if input(block, a).is_some()
                    && input(block, b).is_some()
                    && input(block, a) != input(block, b) =>
            {
                block.equal.push((a, b));
            }
            _ => block.conditions.push(condition),
        }
    }
}

/// Moves what one owned input can do alone into it.
fn move_down(block: &mut Block) -> bool {
    let mut moved = false;
    let home = |block: &Block, columns: &BTreeSet<ColumnId>| {
        if columns.is_empty() {
            return None;
        }
        let mut inputs = block.inputs.iter();
        inputs.position(|input| input.owner().is_some() && input.has(columns))
    };
    for (id, expr) in std::mem::take(&mut block.computed) {
        match home(block, &used(&expr)) {
            Some(input) => {
                update(block, input, |rel| rel.computing(vec![(id, expr)]));
                moved = true;
            }
            None => {
                let below = |rel: &mut Rel| compute_below(rel, id, &expr);
                if block.inputs.iter_mut().any(below) {
                    moved = true;
                } else {
                    block.computed.push((id, expr));
                }
            }
        }
    }
    for condition in std::mem::take(&mut block.conditions) {
        match home(block, &used(&condition)) {
            Some(input) => {
                update(block, input, |rel| rel.filtered(vec![condition]));
                moved = true;
            }
            None => block.conditions.push(condition),
        }
    }
    for (a, b) in std::mem::take(&mut block.equal) {
        let pair = BTreeSet::from([a, b]);
        let same = block.inputs.iter().position(|input| input.has(&pair));
        match same {
            Some(input) => {
                let equal = binary(a.expr(), Operator::Eq, b.expr());
                update(block, input, |rel| rel.filtered(vec![equal]));
                moved = true;
            }
            None => block.equal.push((a, b)),
        }
    }
    moved
}

/// Computes a column at the owner of all that it looks at, below joins that keep the rows it is of.
fn compute_below(rel: &mut Rel, id: ColumnId, expr: &Expr) -> bool {
    if !computable_below(rel, expr) {
        return false;
    }
    if rel.owner().is_some() {
        let before = std::mem::replace(rel, Rel::Block(Block::default()));
        *rel = before.computing(vec![(id, expr.clone())]);
        return true;
    }
    match rel {
        Rel::Join {
            kind, left, right, ..
        } => {
            compute_below(left, id, expr)
                || *kind == JoinKind::Left && strict(expr) && compute_below(right, id, expr)
        }
        Rel::Block(block) => {
            let mut inputs = block.inputs.iter_mut();
            inputs.any(|input| compute_below(input, id, expr))
        }
        _ => false,
    }
}

/// Whether [`compute_below`] finds an owner.
fn computable_below(rel: &Rel, expr: &Expr) -> bool {
    let looks = used(expr);
    if looks.is_empty() || !rel.has(&looks) {
        return false;
    }
    if rel.owner().is_some() {
        return true;
    }
    match rel {
        Rel::Join {
            kind, left, right, ..
        } if *kind != JoinKind::Full => {
            computable_below(left, expr)
                || *kind == JoinKind::Left && strict(expr) && computable_below(right, expr)
        }
        Rel::Block(block) => block
            .inputs
            .iter()
            .any(|input| computable_below(input, expr)),
        _ => false,
    }
}

fn update(block: &mut Block, input: usize, change: impl FnOnce(Rel) -> Rel) {
    if let Some(rel) = block.inputs.get_mut(input) {
        let before = std::mem::replace(rel, Rel::Block(Block::default()));
        *rel = change(before);
    }
}

/// Joins two inputs of one owner, where one of them has at most one row for each of the other's.
fn contract(block: &mut Block) -> bool {
    let classes = classes(&block.equal);
    for i in 0..block.inputs.len() {
        for j in i + 1..block.inputs.len() {
            let (a, b) = (&block.inputs[i], &block.inputs[j]);
            if a.owner().is_none() || a.owner() != b.owner() {
                continue;
            }
            let (ours, theirs): (BTreeSet<_>, BTreeSet<_>) = (
                a.columns().into_iter().collect(),
                b.columns().into_iter().collect(),
            );
            let pairs: Vec<(ColumnId, ColumnId)> = classes
                .iter()
                .filter_map(|class| {
                    Some((
                        *class.intersection(&ours).next()?,
                        *class.intersection(&theirs).next()?,
                    ))
                })
                .collect();
            let left = pairs.iter().map(|(a, _)| *a).collect();
            let right = pairs.iter().map(|(_, b)| *b).collect();
            // One row beside all others is no blow-up either.
            let joins = a.unique_on(&left) || b.unique_on(&right);
            if !joins {
                continue;
            }
            let b = block.inputs.remove(j);
            let a = block.inputs.remove(i);
            let joined = merge(
                Block {
                    inputs: vec![a, b],
                    equal: pairs,
                    ..Block::default()
                },
                |_| true,
            );
            block.inputs.insert(i, Rel::Block(joined));
            block.equal.retain(|(a, b)| {
                let both = |side: &BTreeSet<ColumnId>, other: &BTreeSet<ColumnId>| {
                    side.contains(a) && other.contains(b)
                };
                !(both(&ours, &theirs) || both(&theirs, &ours))
            });
            return true;
        }
    }
    false
}

/// A join that is not inner, moved into the input of the left side that has all that it looks at, where
/// that has the owner of the right side.
fn join(
    kind: JoinKind,
    left: Rel,
    right: Rel,
    on: Vec<(ColumnId, ColumnId)>,
    conditions: Vec<Expr>,
    columns: &mut Columns,
) -> Result<Rel> {
    let movable = !matches!(kind, JoinKind::Full | JoinKind::NotIn);
    if let (true, Some(owner), Rel::Block(block)) = (movable, right.owner(), &left) {
        let lefts: BTreeSet<ColumnId> = left.columns().into_iter().collect();
        let mut looked: BTreeSet<ColumnId> = on.iter().map(|(a, _)| *a).collect();
        looked.extend(used_by(&conditions).intersection(&lefts));
        let classes = classes(&block.equal);
        for (index, input) in block.inputs.iter().enumerate() {
            if input.owner() != Some(owner) {
                continue;
            }
            let Some(renamed) = renamed(&looked, input, &classes) else {
                continue;
            };
            let by: BTreeMap<ColumnId, Expr> = renamed
                .iter()
                .map(|(from, to)| (*from, to.expr()))
                .collect();
            let on = on
                .iter()
                .map(|(a, b)| (renamed.get(a).copied().unwrap_or(*a), *b))
                .collect();
            let conditions = conditions
                .iter()
                .map(|condition| substitute(condition, &by))
                .collect::<Result<_>>()?;
            let Rel::Block(mut block) = left else {
                return Ok(left);
            };
            update(&mut block, index, |input| Rel::Join {
                kind,
                left: Box::new(input),
                right: Box::new(right),
                on,
                conditions,
            });
            return settle(block, columns);
        }
    }
    Ok(Rel::Join {
        kind,
        left: Box::new(left),
        right: Box::new(right),
        on,
        conditions,
    })
}

/// Columns of `input` that are, or are equal to, these.
fn renamed(
    columns: &BTreeSet<ColumnId>,
    input: &Rel,
    classes: &[BTreeSet<ColumnId>],
) -> Option<BTreeMap<ColumnId, ColumnId>> {
    let own: BTreeSet<ColumnId> = input.columns().into_iter().collect();
    columns
        .iter()
        .map(|id| {
            if own.contains(id) {
                return Some((*id, *id));
            }
            let class = classes.iter().find(|class| class.contains(id))?;
            Some((*id, *class.intersection(&own).next()?))
        })
        .collect()
}
