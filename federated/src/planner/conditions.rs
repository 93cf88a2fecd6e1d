//! Conditions by who evaluates them, the columns that joins make equal, and the grain of each
//! table's fragment.

use super::block::{Block, Relation};
use super::columns::{self, ColumnId};
use super::order::{self, Equal, Shape};
use super::predicate::{self, Condition};
use super::text::Query;
use crate::catalog::{Column, Unit};
use crate::error::{Code, Error, Result};
use crate::flow::bounds;
use datafusion::common::DFSchema;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use std::collections::BTreeSet;

/// A block with its conditions sorted.
pub(super) struct Sorted<'a> {
    pub(super) block: &'a Block,
    /// Types of base columns.
    pub(super) types: DFSchema,
    /// Conditions of each relation, for its owner.
    pub(super) local: Vec<Vec<Expr>>,
    /// Conditions across relations, all of which must hold.
    pub(super) cross: Vec<Condition>,
    pub(super) equal: Vec<Equal>,
    pub(super) shapes: Vec<Shape>,
}

impl Sorted<'_> {
    /// The join-key columns of a relation.
    pub(super) fn key_columns(&self, relation: usize) -> Vec<usize> {
        self.equal
            .iter()
            .filter_map(|equal| equal.of(relation))
            .collect()
    }
}

/// Sorts the conditions of a block and shapes its fragments.
pub(super) fn sort<'a>(query: &Query, block: &'a Block) -> Result<Sorted<'a>> {
    let types = columns::base_schema(&block.relations)?;
    let mut local: Vec<Vec<Expr>> = vec![Vec::new(); block.relations.len()];
    let mut cross = Vec::new();
    let mut pairs = Vec::new();
    for conjunct in &block.conjuncts {
        let relations = columns::relations_of(conjunct);
        if relations.len() < 2 {
            let owner = relations.first().copied().unwrap_or(0);
            push(&mut local, owner, conjunct.clone());
        } else if let Some(pair) = equality(query, block, conjunct)? {
            pairs.push(pair);
        } else {
            // What NOT brought up to the top can be one owner's after all.
            let lowered = predicate::lower(query, block, &types, conjunct)?;
            let parts = match lowered {
                Condition::All(parts) => parts,
                other => vec![other],
            };
            for part in parts {
                match part {
                    Condition::Flag { relation, expr } => push(&mut local, relation, expr),
                    other => cross.push(other),
                }
            }
        }
    }
    let (equal, within) = order::equalities(&pairs);
    for (a, b) in within {
        let same = Expr::BinaryExpr(BinaryExpr::new(
            Box::new(columns::column_expr(a)),
            Operator::Eq,
            Box::new(columns::column_expr(b)),
        ));
        push(&mut local, a.relation, same);
    }
    let shapes = (0..block.relations.len())
        .map(|relation| shape(block, relation, &equal, &cross))
        .collect::<Result<Vec<_>>>()?;
    Ok(Sorted {
        block,
        types,
        local,
        cross,
        equal,
        shapes,
    })
}

fn push(local: &mut [Vec<Expr>], relation: usize, expr: Expr) {
    if let Some(conditions) = local.get_mut(relation) {
        conditions.push(expr);
    }
}

/// The columns that a conjunct makes equal, when it is `a.x = b.y` between plain columns.
fn equality(query: &Query, block: &Block, conjunct: &Expr) -> Result<Option<(ColumnId, ColumnId)>> {
    let Expr::BinaryExpr(BinaryExpr {
        left,
        op: Operator::Eq,
        right,
    }) = conjunct
    else {
        return Ok(None);
    };
    let (Some(left), Some(right)) = (columns::base_column(left), columns::base_column(right))
    else {
        return Ok(None);
    };
    let (Some((left_name, a)), Some((right_name, b))) = (named(block, left), named(block, right))
    else {
        return Ok(None);
    };
    let place = |error: Error| match query.find_column(None, &a.name) {
        Some((line, column)) => error.position(line, column),
        None => error,
    };
    if a.data_type != b.data_type {
        return Err(place(Error::new(
            Code::TypeMismatch,
            format!(
                "{left_name} is {} and {right_name} is {}: join keys need one type",
                a.data_type, b.data_type
            ),
        )));
    }
    if a.canonical != b.canonical {
        return Err(place(Error::new(
            Code::BadConfig,
            format!(
                "{left_name} and {right_name} are brought to different canonical forms ({} and {}): \
                 their owners declare one form in catalog.toml before they are joined",
                forms(a),
                forms(b)
            ),
        )));
    }
    Ok(Some((left, right)))
}

fn forms(column: &Column) -> String {
    let names: Vec<String> = column
        .canonical
        .iter()
        .map(|form| format!("{form:?}").to_lowercase())
        .collect();
    format!("[{}]", names.join(", "))
}

fn named(block: &Block, id: ColumnId) -> Option<(String, &Column)> {
    let relation = block.relations.get(id.relation)?;
    let column = relation.table.columns.get(id.column)?;
    Some((format!("{}.{}", relation.name(), column.name), column))
}

/// One expression of a fragment's grain.
struct Grain {
    columns: BTreeSet<usize>,
    /// The column that it is, if it is one.
    plain: Option<usize>,
    /// A public bound on its distinct values, NULL included.
    distinct: Option<u64>,
}

fn shape(block: &Block, relation: usize, equal: &[Equal], cross: &[Condition]) -> Result<Shape> {
    let of = block
        .relations
        .get(relation)
        .ok_or_else(|| Error::new(Code::Internal, "a relation of the plan does not exist"))?;
    let mut grain = Vec::new();
    let plain = |column: usize, null: bool| Grain {
        columns: BTreeSet::from([column]),
        plain: Some(column),
        distinct: distinct(of, column, null),
    };
    for class in equal {
        grain.extend(class.of(relation).map(|column| plain(column, false)));
    }
    for id in block.groups.iter().filter(|id| id.relation == relation) {
        grain.push(plain(id.column, true));
    }
    let unit = match &of.table.unit {
        Unit::Column(unit) => of
            .table
            .columns
            .iter()
            .position(|column| column.name == *unit),
        Unit::Row | Unit::None => None,
    };
    grain.extend(unit.map(|column| plain(column, true)));
    for condition in cross {
        condition.leaves(&mut |leaf, expr| {
            if leaf != relation {
                return;
            }
            grain.push(match columns::base_column(expr) {
                Some(id) => plain(id.column, true),
                None => Grain {
                    columns: columns::base_columns(expr)
                        .iter()
                        .map(|id| id.column)
                        .collect(),
                    plain: None,
                    distinct: None,
                },
            });
        });
    }
    let key: Vec<usize> = of
        .table
        .key
        .iter()
        .filter_map(|name| {
            of.table
                .columns
                .iter()
                .position(|column| column.name == *name)
        })
        .collect();
    let is_plain = |column: &usize| grain.iter().any(|expr| expr.plain == Some(*column));
    let one_row_each = !key.is_empty() && key.iter().all(is_plain);
    let grouped = of.table.unit != Unit::Row && !grain.is_empty() && !one_row_each;
    let factors: Vec<Option<u64>> = grain.iter().map(|expr| expr.distinct).collect();
    let bound = bounds::rows(&of.table, grouped.then_some(factors.as_slice()));
    Ok(Shape {
        grouped,
        grain: grain.into_iter().map(|expr| expr.columns).collect(),
        key,
        bound,
    })
}

/// The public bound on distinct values of a column; `null` counts NULL as one where it can be.
pub(super) fn distinct(of: &Relation, column: usize, null: bool) -> Option<u64> {
    bounds::distinct(of.table.columns.get(column)?, null)
}
