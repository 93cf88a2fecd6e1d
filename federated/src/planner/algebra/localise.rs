//! Brings together what one department can do alone: inner joins are taken apart and put together again
//! by owner, outer and semi joins and conditions move down to the owner of all that they look at.
//!
//! The engine's join order follows FROM; cut as it stands, it would split one owner's tables over
//! several fragments in 11 of the 22 queries of TPC-H.

use super::columns::{ColumnId, substitute, used, used_by};
use super::keys::classes;
use super::{Block, JoinKind, Rel};
use crate::error::Result;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use std::collections::{BTreeMap, BTreeSet};

/// The same relation, with as much as possible below each owner.
pub(in crate::planner) fn localise(rel: Rel) -> Result<Rel> {
    if rel.owner().is_some() {
        return Ok(flattened(rel));
    }
    Ok(match rel {
        Rel::Scan { .. } | Rel::Fragment { .. } => rel,
        Rel::Block(mut block) => {
            block.inputs = block
                .inputs
                .into_iter()
                .map(localise)
                .collect::<Result<_>>()?;
            settle(block)
        }
        Rel::Join {
            kind,
            left,
            right,
            on,
            conditions,
        } => join(kind, localise(*left)?, localise(*right)?, on, conditions)?,
        Rel::Group {
            input,
            keys,
            aggregates,
        } => Rel::Group {
            input: Box::new(localise(*input)?),
            keys,
            aggregates,
        },
        Rel::Sort {
            input,
            keys,
            skip,
            fetch,
        } => Rel::Sort {
            input: Box::new(localise(*input)?),
            keys,
            skip,
            fetch,
        },
        Rel::Union { inputs, columns } => Rel::Union {
            inputs: inputs
                .into_iter()
                .map(|(input, of)| Ok((localise(input)?, of)))
                .collect::<Result<_>>()?,
            columns,
        },
    })
}

/// Blocks of blocks as one, where all belongs to one owner.
fn flattened(rel: Rel) -> Rel {
    match rel {
        Rel::Block(mut block) => {
            block.inputs = block.inputs.into_iter().map(flattened).collect();
            Rel::Block(merge(block, |_| true))
        }
        Rel::Join {
            kind,
            left,
            right,
            on,
            conditions,
        } => Rel::Join {
            kind,
            left: Box::new(flattened(*left)),
            right: Box::new(flattened(*right)),
            on,
            conditions,
        },
        Rel::Group {
            input,
            keys,
            aggregates,
        } => Rel::Group {
            input: Box::new(flattened(*input)),
            keys,
            aggregates,
        },
        Rel::Sort {
            input,
            keys,
            skip,
            fetch,
        } => Rel::Sort {
            input: Box::new(flattened(*input)),
            keys,
            skip,
            fetch,
        },
        Rel::Union { inputs, columns } => Rel::Union {
            inputs: inputs
                .into_iter()
                .map(|(input, of)| (flattened(input), of))
                .collect(),
            columns,
        },
        other => other,
    }
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
fn settle(block: Block) -> Rel {
    let mut block = merge(block, |inner| inner.owner().is_none());
    equalities(&mut block);
    while move_down(&mut block) || contract(&mut block) {}
    if block.inputs.len() == 1
        && block.equal.is_empty()
        && block.computed.is_empty()
        && block.conditions.is_empty()
    {
        return block.inputs.remove(0);
    }
    Rel::Block(block)
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
            None => block.computed.push((id, expr)),
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
                let equal = Expr::BinaryExpr(BinaryExpr::new(
                    Box::new(a.expr()),
                    Operator::Eq,
                    Box::new(b.expr()),
                ));
                update(block, input, |rel| rel.filtered(vec![equal]));
                moved = true;
            }
            None => block.equal.push((a, b)),
        }
    }
    moved
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
            return Ok(settle(block));
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
