//! Cuts a relation into what each department computes alone and what is left to compute jointly.

use super::columns::{ColumnId, Columns, Info, used, used_by};
use super::{Block, JoinKind, Rel};
use arrow::datatypes::DataType;
use std::collections::BTreeSet;

/// What one department computes alone.
#[derive(Debug, Clone)]
pub(in crate::planner) struct Part {
    pub(in crate::planner) department: String,
    pub(in crate::planner) rel: Rel,
    /// What of it leaves, in order.
    pub(in crate::planner) columns: Vec<ColumnId>,
}

/// A relation, cut.
#[derive(Debug, Clone)]
pub(in crate::planner) struct Cut {
    pub(in crate::planner) parts: Vec<Part>,
    /// Over fragments alone.
    pub(in crate::planner) rel: Rel,
}

/// Cuts a relation of which these columns are wanted. Columns that nothing wants are dropped on the way.
pub(in crate::planner) fn cut(rel: Rel, wanted: &[ColumnId], columns: &Columns) -> Cut {
    let mut cutter = Cutter {
        columns,
        parts: Vec::new(),
    };
    let rel = cutter.cut(rel, &wanted.iter().copied().collect());
    Cut {
        parts: cutter.parts,
        rel,
    }
}

struct Cutter<'a> {
    columns: &'a Columns,
    parts: Vec<Part>,
}

impl Cutter<'_> {
    fn cut(&mut self, rel: Rel, wanted: &BTreeSet<ColumnId>) -> Rel {
        if let Rel::Sort {
            keys, skip, fetch, ..
        } = &rel
            && rel.owner().is_some()
        {
            // Rows leave in no order: it is made again of what is opened.
            let mut below = wanted.clone();
            below.extend(used_by(keys.iter().map(|key| &key.expr)));
            let (keys, whole) = (keys.clone(), *skip == 0 && fetch.is_none());
            let inner = match rel {
                Rel::Sort { input, .. } if whole => self.cut(*input, &below),
                rel if self.opens(&rel, wanted) => return self.above(rel, &below),
                rel => self.part(rel, &below),
            };
            return Rel::Sort {
                input: Box::new(inner),
                keys,
                skip: 0,
                fetch: None,
            };
        }
        if rel.owner().is_some() && !self.opens(&rel, wanted) {
            return match rel {
                Rel::Block(block) => self.floats_above(block, wanted),
                rel => self.part(rel, wanted),
            };
        }
        self.above(rel, wanted)
    }

    /// A fragment; floating point that it would hand over is formed above it.
    fn floats_above(&mut self, block: Block, wanted: &BTreeSet<ColumnId>) -> Rel {
        let mut below = wanted.clone();
        let mut computed = Vec::new();
        for (id, expr) in block.computed.iter().rev() {
            let float = |info: &Info| info.data_type == DataType::Float64;
            if below.contains(id) && self.columns.info(*id).is_ok_and(float) {
                below.remove(id);
                below.extend(used(expr));
                computed.push((*id, expr.clone()));
            }
        }
        computed.reverse();
        self.part(Rel::Block(block), &below).computing(computed)
    }

    /// A fragment.
    fn part(&mut self, rel: Rel, wanted: &BTreeSet<ColumnId>) -> Rel {
        let department = rel.owner().unwrap_or_default().to_owned();
        let columns: Vec<ColumnId> = rel
            .columns()
            .into_iter()
            .filter(|id| wanted.contains(id))
            .collect();
        let facts = Box::new(rel.facts(self.columns, &columns));
        let index = self.parts.len();
        self.parts.push(Part {
            department,
            rel,
            columns: columns.clone(),
        });
        Rel::Fragment {
            index,
            columns,
            facts,
        }
    }

    /// What is joint, over what is cut.
    fn above(&mut self, rel: Rel, wanted: &BTreeSet<ColumnId>) -> Rel {
        match rel {
            Rel::Scan { .. } | Rel::Fragment { .. } => rel,
            Rel::Block(block) => self.block(block, wanted),
            Rel::Join {
                kind,
                left,
                right,
                on,
                conditions,
            } => {
                let mut below = used_by(&conditions);
                below.extend(on.iter().flat_map(|(a, b)| [*a, *b]));
                if matches!(kind, JoinKind::Left | JoinKind::Full) {
                    below.extend(wanted);
                    let right = self.cut(*right, &below);
                    let left = self.cut(*left, &below);
                    return Rel::Join {
                        kind,
                        left: Box::new(left),
                        right: Box::new(right),
                        on,
                        conditions,
                    };
                }
                let right = self.cut(*right, &below);
                below.extend(wanted);
                Rel::Join {
                    kind,
                    left: Box::new(self.cut(*left, &below)),
                    right: Box::new(right),
                    on,
                    conditions,
                }
            }
            Rel::Group {
                input,
                keys,
                mut aggregates,
            } => {
                aggregates.retain(|of| wanted.contains(&of.id));
                let mut below: BTreeSet<ColumnId> = keys.iter().copied().collect();
                below.extend(used_by(
                    aggregates.iter().filter_map(|of| of.argument.as_ref()),
                ));
                Rel::Group {
                    input: Box::new(self.cut(*input, &below)),
                    keys,
                    aggregates,
                }
            }
            Rel::Sort {
                input,
                keys,
                skip,
                fetch,
            } => {
                let mut below = wanted.clone();
                below.extend(used_by(keys.iter().map(|key| &key.expr)));
                Rel::Sort {
                    input: Box::new(self.cut(*input, &below)),
                    keys,
                    skip,
                    fetch,
                }
            }
            Rel::Window {
                input,
                partition,
                order,
                mut calls,
            } => {
                calls.retain(|call| wanted.contains(&call.id));
                if calls.is_empty() {
                    return self.cut(*input, wanted);
                }
                let mut below = wanted.clone();
                below.extend(&partition);
                below.extend(used_by(order.iter().map(|key| &key.expr)));
                below.extend(calls.iter().filter_map(|call| call.argument));
                Rel::Window {
                    input: Box::new(self.cut(*input, &below)),
                    partition,
                    order,
                    calls,
                }
            }
            Rel::Guard { input, mut guard } => {
                guard.cells.retain(|(id, _)| wanted.contains(id));
                let atoms = guard.cells.iter().any(|(_, over)| !over.is_empty());
                let mut below = wanted.clone();
                for unit in &mut guard.units {
                    if !atoms {
                        unit.atoms.clear();
                    }
                    below.insert(unit.rows);
                    below.extend(&unit.atoms);
                }
                Rel::Guard {
                    input: Box::new(self.cut(*input, &below)),
                    guard,
                }
            }
            Rel::Union { inputs, columns } => {
                let kept: Vec<usize> = (0..columns.len())
                    .filter(|at| wanted.contains(&columns[*at]))
                    .collect();
                Rel::Union {
                    inputs: inputs
                        .into_iter()
                        .map(|(input, of)| {
                            let of: Vec<ColumnId> = kept.iter().map(|at| of[*at]).collect();
                            let below = of.iter().copied().collect();
                            (self.cut(input, &below), of)
                        })
                        .collect(),
                    columns: kept.into_iter().map(|at| columns[at]).collect(),
                }
            }
        }
    }

    /// Whether a relation computes, on its top, what cannot leave its owner: floating point is formed of
    /// opened sums and counts.
    fn opens(&self, rel: &Rel, wanted: &BTreeSet<ColumnId>) -> bool {
        match rel {
            Rel::Block(block) => {
                block.inputs.len() == 1
                    && block.conditions.is_empty()
                    && block.computed.iter().any(|(id, _)| {
                        let float = |info: &Info| info.data_type == DataType::Float64;
                        wanted.contains(id) && self.columns.info(*id).is_ok_and(float)
                    })
            }
            Rel::Sort { input, .. } => self.opens(input, wanted),
            _ => false,
        }
    }

    fn block(&mut self, block: Block, wanted: &BTreeSet<ColumnId>) -> Rel {
        let mut below = wanted.clone();
        below.extend(used_by(&block.conditions));
        below.extend(block.equal.iter().flat_map(|(a, b)| [*a, *b]));
        let mut computed = Vec::new();
        for (id, expr) in block.computed.into_iter().rev() {
            if below.contains(&id) {
                below.extend(used(&expr));
                computed.push((id, expr));
            }
        }
        computed.reverse();
        Rel::Block(Block {
            inputs: block
                .inputs
                .into_iter()
                .map(|input| self.cut(input, &below))
                .collect(),
            equal: block.equal,
            computed,
            conditions: block.conditions,
        })
    }
}
