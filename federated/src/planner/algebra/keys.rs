//! What determines what: functional dependencies, from declared keys, groups and equalities.

use super::columns::{ColumnId, used};
use super::{Block, JoinKind, Over, Rel};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use std::collections::BTreeSet;

type Set = BTreeSet<ColumnId>;

/// Classes of columns that are equal, each with two or more.
pub(super) fn classes(equal: &[(ColumnId, ColumnId)]) -> Vec<Set> {
    let mut classes: Vec<Set> = Vec::new();
    for (a, b) in equal {
        let (merged, rest): (Vec<Set>, Vec<Set>) = classes
            .into_iter()
            .partition(|class| class.contains(a) || class.contains(b));
        let mut class: Set = merged.into_iter().flatten().collect();
        class.extend([*a, *b]);
        classes = rest;
        classes.push(class);
    }
    classes.sort();
    classes
}

impl Rel {
    /// Whether it has at most one row for each combination of values of these columns, NULLs taken for
    /// equal.
    pub(super) fn unique_on(&self, columns: &Set) -> bool {
        match self {
            Self::Scan {
                table, columns: of, ..
            } => {
                table.max_rows <= 1
                    || !table.key.is_empty()
                        && table.key.iter().all(|name| {
                            of.iter().any(|(position, id)| {
                                columns.contains(id)
                                    && table.columns.get(*position).is_some_and(|column| {
                                        column.name == *name && !column.nullable
                                    })
                            })
                        })
            }
            Self::Block(block) => block.determined(columns).1,
            Self::Join {
                kind,
                left,
                right,
                on,
                ..
            } => match kind {
                JoinKind::Semi | JoinKind::Anti | JoinKind::NotIn => left.unique_on(columns),
                JoinKind::Left => {
                    left.unique_on(columns) && right.unique_on(&right_keys(on, columns))
                }
                JoinKind::Full => false,
            },
            Self::Group { input, keys, .. } => {
                let known = input.determined(columns);
                keys.iter().all(|key| known.contains(key))
            }
            Self::Sort { input, fetch, .. } => *fetch == Some(1) || input.unique_on(columns),
            Self::Guard { input, .. } => input.unique_on(columns),
            Self::Window {
                input,
                partition,
                calls,
                ..
            } => {
                let known = input.determined(columns);
                let numbered = calls
                    .iter()
                    .any(|call| call.function == Over::RowNumber && columns.contains(&call.id));
                input.unique_on(columns)
                    || numbered && partition.iter().all(|key| known.contains(key))
            }
            Self::Union { .. } => false,
            Self::Fragment { facts, .. } => facts.keys.iter().any(|key| key.is_subset(columns)),
        }
    }

    /// The most rows for each combination of values of these columns, where that is known.
    pub(super) fn repeats(&self, columns: &Set) -> Option<u64> {
        if self.unique_on(columns) {
            return Some(1);
        }
        columns.iter().filter_map(|id| self.repeats_of(*id)).min()
    }

    /// The most rows with one value of a column, which its table declares.
    pub(super) fn repeats_of(&self, id: ColumnId) -> Option<u64> {
        match self {
            Self::Scan { table, columns, .. } => {
                let (position, _) = columns.iter().find(|(_, known)| *known == id)?;
                let most = table.columns.get(*position)?.max_repeats;
                (most > 0).then_some(most)
            }
            Self::Block(block) => {
                let id = block
                    .computed
                    .iter()
                    .find(|(known, _)| *known == id)
                    .map_or(Some(id), |(_, expr)| ColumnId::of_expr(expr))?;
                let one = Set::from([id]);
                let input = block.inputs.iter().find(|input| input.has(&one))?;
                let own: Set = input.columns().into_iter().collect();
                // The others add columns to each of its rows, and repeat none.
                let alone = block.inputs.len() == 1 || block.others_determined(&own, input);
                input.repeats_of(id).filter(|_| alone)
            }
            Self::Join {
                kind,
                left,
                right,
                on,
                ..
            } => {
                let one = *kind != JoinKind::Full
                    && (*kind != JoinKind::Left || right.unique_on(&right_keys(on, &Set::new())));
                left.repeats_of(id).filter(|_| one)
            }
            Self::Group { input, keys, .. } => input.repeats_of(id).filter(|_| keys.contains(&id)),
            Self::Sort { input, .. } | Self::Window { input, .. } | Self::Guard { input, .. } => {
                input.repeats_of(id)
            }
            Self::Union { .. } => None,
            Self::Fragment { facts, .. } => facts
                .repeats
                .iter()
                .find(|(known, _)| *known == id)
                .map(|(_, most)| *most),
        }
    }

    /// The columns whose values follow from those of `columns`, these included.
    pub(super) fn determined(&self, columns: &Set) -> Set {
        let own: Set = self.columns().into_iter().collect();
        let mut known: Set = columns.intersection(&own).copied().collect();
        match self {
            Self::Block(block) => known = block.determined(&known).0,
            Self::Join {
                kind,
                left,
                right,
                on,
                ..
            } => {
                known.extend(left.determined(&known));
                // What is joined on is the left key, or NULL for all rows of it.
                if *kind == JoinKind::Left && on.iter().all(|(a, _)| known.contains(a)) {
                    known.extend(on.iter().map(|(_, b)| *b));
                }
                if *kind == JoinKind::Left
                    && on.iter().all(|(a, _)| known.contains(a))
                    && right.unique_on(&right_keys(on, &known))
                {
                    known.extend(right.columns());
                }
            }
            Self::Group { input, keys, .. } => {
                let below = input.determined(&known);
                known.extend(keys.iter().copied().filter(|key| below.contains(key)));
            }
            Self::Sort { input, .. } | Self::Guard { input, .. } => {
                known = input.determined(&known);
            }
            Self::Window { input, .. } => known.extend(input.determined(&known)),
            _ => {}
        }
        if self.unique_on_own(&known) {
            known.extend(own);
        }
        known
    }

    fn unique_on_own(&self, columns: &Set) -> bool {
        match self {
            Self::Group { keys, .. } => keys.iter().all(|key| columns.contains(key)),
            Self::Scan { .. } | Self::Fragment { .. } | Self::Window { .. } => {
                self.unique_on(columns)
            }
            _ => false,
        }
    }
}

fn right_keys(on: &[(ColumnId, ColumnId)], columns: &Set) -> Set {
    on.iter()
        .map(|(_, b)| *b)
        .chain(columns.iter().copied())
        .collect()
}

impl Block {
    /// What follows from these columns, and whether a whole row does.
    pub(super) fn determined(&self, columns: &Set) -> (Set, bool) {
        let classes = classes(&self.equal);
        let mut known = columns.clone();
        known.extend(self.conditions.iter().filter_map(constant));
        let mut done = vec![false; self.inputs.len()];
        loop {
            let before = (known.len(), done.clone());
            for class in &classes {
                if !class.is_disjoint(&known) {
                    known.extend(class);
                }
            }
            for (id, expr) in &self.computed {
                if used(expr).is_subset(&known) {
                    known.insert(*id);
                }
            }
            for (input, done) in self.inputs.iter().zip(&mut done) {
                if *done {
                    continue;
                }
                known.extend(input.determined(&known));
                if input.unique_on(&known) {
                    *done = true;
                    known.extend(input.columns());
                }
            }
            if (known.len(), &done) == (before.0, &before.1) {
                break;
            }
        }
        (known, done.iter().all(|done| *done))
    }
}

/// The column that a condition makes equal to a literal.
fn constant(condition: &Expr) -> Option<ColumnId> {
    let Expr::BinaryExpr(BinaryExpr {
        left,
        op: Operator::Eq,
        right,
    }) = condition
    else {
        return None;
    };
    match (left.as_ref(), right.as_ref()) {
        (column, Expr::Literal(..)) | (Expr::Literal(..), column) => ColumnId::of_expr(column),
        _ => None,
    }
}
