//! How many rows a relation has: a public bound, and an estimate from published statistics.

use super::columns::{ColumnId, Columns};
use super::{Block, Facts, JoinKind, Rel};
use crate::flow::bounds;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use std::collections::BTreeSet;

impl Rel {
    /// What is publicly known about its rows. `columns` are those that are asked for.
    pub(super) fn facts(&self, columns: &Columns, asked: &[ColumnId]) -> Facts {
        Facts {
            keys: self.least_keys(asked),
            repeats: asked
                .iter()
                .filter_map(|id| Some((*id, self.repeats_of(*id)?)))
                .collect(),
            most: self.most(columns),
            estimate: self.estimate(columns),
        }
    }

    /// A smallest set of these columns on which it is unique, if there is one.
    fn least_keys(&self, asked: &[ColumnId]) -> Vec<BTreeSet<ColumnId>> {
        let mut key: BTreeSet<ColumnId> = asked.iter().copied().collect();
        if !self.unique_on(&key) {
            return Vec::new();
        }
        // Drops what the rest determines, the last first, so that keys that come first stay.
        let mut keys = Vec::new();
        for id in asked.iter().rev() {
            let mut less = key.clone();
            less.remove(id);
            if self.unique_on(&less) {
                key = less;
            }
        }
        keys.push(key.clone());
        // Another one that does without each column of the first.
        for gone in key {
            let mut other: BTreeSet<ColumnId> = asked.iter().copied().collect();
            other.remove(&gone);
            if !self.unique_on(&other) {
                continue;
            }
            for id in asked.iter().rev() {
                let mut less = other.clone();
                if less.remove(id) && self.unique_on(&less) {
                    other = less;
                }
            }
            if !keys.contains(&other) {
                keys.push(other);
            }
        }
        keys
    }

    /// A public bound on rows.
    pub(super) fn most(&self, columns: &Columns) -> u64 {
        match self {
            Self::Scan { table, .. } => bounds::rows(table, None),
            Self::Block(block) => block.rows(&|rel: &Self| rel.most(columns)),
            Self::Join {
                kind,
                left,
                right,
                on,
                ..
            } => {
                let right_keys = on.iter().map(|(_, b)| *b).collect();
                let (a, b) = (left.most(columns), right.most(columns));
                match kind {
                    JoinKind::Semi | JoinKind::Anti | JoinKind::NotIn => a,
                    JoinKind::Left if right.unique_on(&right_keys) => a,
                    JoinKind::Full if right.unique_on(&right_keys) => a.saturating_add(b),
                    _ => a.saturating_mul(b.max(1)),
                }
            }
            Self::Group { input, keys, .. } => {
                if keys.is_empty() {
                    return 1;
                }
                // A key that others determine makes no more groups.
                let mut least: BTreeSet<ColumnId> = keys.iter().copied().collect();
                for key in keys.iter().rev() {
                    let mut less = least.clone();
                    less.remove(key);
                    if input.determined(&less).contains(key) {
                        least = less;
                    }
                }
                let distinct = least.iter().map(|key| {
                    let info = columns.info(*key).ok()?;
                    Some(info.distinct?.saturating_add(u64::from(info.nullable)))
                });
                let most = input.most(columns);
                bounds::product(distinct).map_or(most, |groups| groups.clamp(1, most.max(1)))
            }
            Self::Sort { input, fetch, .. } => {
                let most = input.most(columns);
                fetch.map_or(most, |fetch| most.min(fetch as u64))
            }
            Self::Window { input, .. } | Self::Guard { input, .. } => input.most(columns),
            Self::Union { inputs, .. } => inputs
                .iter()
                .map(|(input, _)| input.most(columns))
                .fold(0, u64::saturating_add),
            Self::Fragment { facts, .. } => facts.most,
        }
    }

    /// About how many rows.
    pub(super) fn estimate(&self, columns: &Columns) -> u64 {
        match self {
            Self::Scan { table, .. } => table.max_rows.max(1),
            Self::Block(block) => {
                let mut rows = block.rows(&|rel: &Self| rel.estimate(columns));
                // The others keep the part of the rows that they keep of their own.
                if block.inputs.len() > 1 {
                    for input in &block.inputs {
                        let (most, about) = (input.most(columns), input.estimate(columns));
                        if input.owner().is_some() && about < most && rows > about {
                            rows = scaled(rows, about, most);
                        }
                    }
                }
                for condition in &block.conditions {
                    rows = rows.div_ceil(share(columns, condition));
                }
                rows.clamp(1, self.most(columns).max(1))
            }
            Self::Join { kind, left, .. } => match kind {
                JoinKind::Semi | JoinKind::Anti | JoinKind::NotIn => {
                    left.estimate(columns).div_ceil(2)
                }
                _ => self.most(columns).min(left.estimate(columns).max(1)),
            },
            Self::Group { input, .. } => self.most(columns).min(input.estimate(columns)),
            Self::Sort { input, fetch, .. } => {
                let rows = input.estimate(columns);
                fetch.map_or(rows, |fetch| rows.min(fetch as u64))
            }
            Self::Window { input, .. } | Self::Guard { input, .. } => input.estimate(columns),
            Self::Union { inputs, .. } => inputs
                .iter()
                .map(|(input, _)| input.estimate(columns))
                .fold(0, u64::saturating_add),
            Self::Fragment { facts, .. } => facts.estimate,
        }
    }
}

fn scaled(rows: u64, part: u64, whole: u64) -> u64 {
    let scaled = u128::from(rows) * u128::from(part) / u128::from(whole.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX).max(1)
}

/// One in how many rows a condition keeps.
fn share(columns: &Columns, condition: &Expr) -> u64 {
    match condition {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::Eq,
            right,
        }) => [left, right]
            .iter()
            .filter_map(|side| ColumnId::of_expr(side))
            .filter_map(|id| columns.info(id).ok()?.distinct)
            .max()
            .unwrap_or(10)
            .max(1),
        Expr::IsNotNull(_) => 1,
        Expr::Like(like) if !like.negated => 20,
        _ => 3,
    }
}

impl Block {
    /// The rows of the input to which all others add columns alone; the product where there is none.
    fn rows(&self, of: &dyn Fn(&Rel) -> u64) -> u64 {
        let roots = self.inputs.iter().filter(|input| {
            let own: BTreeSet<ColumnId> = input.columns().into_iter().collect();
            self.others_determined(&own, input)
        });
        roots.map(of).min().unwrap_or_else(|| {
            self.inputs
                .iter()
                .map(of)
                .fold(1, |product: u64, rows| product.saturating_mul(rows.max(1)))
        })
    }

    /// Whether the other inputs have at most one row for each row of this one.
    pub(super) fn others_determined(&self, known: &BTreeSet<ColumnId>, root: &Rel) -> bool {
        let mut rest = self.clone();
        rest.inputs
            .retain(|input| input.columns() != root.columns());
        rest.determined(known).1
    }
}
