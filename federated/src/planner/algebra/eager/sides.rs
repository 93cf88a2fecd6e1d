//! The relations whose rows joined rows are made of, wherever they are below joins.

use super::super::columns::{ColumnId, used_by};
use super::super::{JoinKind, Rel};
use std::collections::BTreeSet;

/// The relations below outer, semi and anti joins whose rows joined rows are made of.
pub(super) fn leaves(rel: &Rel, optional: bool, visit: &mut dyn FnMut(&Rel, bool)) {
    match rel {
        Rel::Join {
            kind: JoinKind::Left,
            left,
            right,
            ..
        } if rel.owner().is_none() => {
            leaves(left, optional, visit);
            leaves(right, true, visit);
        }
        Rel::Join {
            kind: JoinKind::Semi | JoinKind::Anti | JoinKind::NotIn,
            left,
            ..
        } if rel.owner().is_none() => leaves(left, optional, visit),
        Rel::Block(block) if rel.owner().is_none() && block.computed.is_empty() => {
            for input in &block.inputs {
                leaves(input, optional, visit);
            }
        }
        other => visit(other, optional),
    }
}

/// The relation with those that [`leaves`] visits replaced, in the same order.
pub(super) fn replaced(rel: Rel, change: &mut dyn FnMut(Rel) -> Rel) -> Rel {
    let joint = rel.owner().is_none();
    match rel {
        Rel::Join {
            kind: kind @ JoinKind::Left,
            left,
            right,
            on,
            conditions,
        } if joint => Rel::Join {
            kind,
            left: Box::new(replaced(*left, change)),
            right: Box::new(replaced(*right, change)),
            on,
            conditions,
        },
        Rel::Join {
            kind: kind @ (JoinKind::Semi | JoinKind::Anti | JoinKind::NotIn),
            left,
            right,
            on,
            conditions,
        } if joint => Rel::Join {
            kind,
            left: Box::new(replaced(*left, change)),
            right,
            on,
            conditions,
        },
        Rel::Block(mut block) if joint && block.computed.is_empty() => {
            block.inputs = block
                .inputs
                .into_iter()
                .map(|input| replaced(input, change))
                .collect();
            Rel::Block(block)
        }
        other => change(other),
    }
}

/// What the joins above leaves look at.
pub(super) fn joins_look(rel: &Rel, looked: &mut BTreeSet<ColumnId>) {
    if rel.owner().is_some() {
        return;
    }
    match rel {
        Rel::Join {
            kind,
            left,
            right,
            on,
            conditions,
        } if *kind != JoinKind::Full => {
            looked.extend(on.iter().flat_map(|(a, b)| [*a, *b]));
            looked.extend(used_by(conditions));
            joins_look(left, looked);
            if *kind == JoinKind::Left {
                joins_look(right, looked);
            }
        }
        Rel::Block(block) if block.computed.is_empty() => {
            looked.extend(block.equal.iter().flat_map(|(a, b)| [*a, *b]));
            looked.extend(used_by(&block.conditions));
            for input in &block.inputs {
                joins_look(input, looked);
            }
        }
        _ => {}
    }
}
