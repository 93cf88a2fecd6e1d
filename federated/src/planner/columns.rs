//! References of a normalised block: base columns below the aggregate, groups and cells above it.

use super::block::Relation;
use crate::error::{Code, Error, Result};
use arrow::datatypes::Field;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, TableReference};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use std::collections::HashMap;
use std::sync::Arc;

/// Qualifier of base columns: the relation's index follows.
const BASE: char = '#';
/// Qualifiers above the aggregate.
pub(super) const GROUP: &str = "group";
pub(super) const CELL: &str = "cell";

/// A base column: relation and position in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ColumnId {
    pub(super) relation: usize,
    pub(super) column: usize,
}

/// What an expression above the aggregate stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Above {
    Group(usize),
    Cell(usize),
}

/// The base column that an expression is, if it is one.
pub(super) fn base_column(expr: &Expr) -> Option<ColumnId> {
    match expr {
        Expr::Column(column) => base(column),
        Expr::Alias(alias) => base_column(&alias.expr),
        _ => None,
    }
}

/// The base column that a reference names.
pub(super) fn base(column: &Column) -> Option<ColumnId> {
    let relation = column.relation.as_ref()?.table().strip_prefix(BASE)?;
    Some(ColumnId {
        relation: relation.parse().ok()?,
        column: column.name.parse().ok()?,
    })
}

/// The group or cell that a reference names.
pub(super) fn above(column: &Column) -> Option<Above> {
    let index = column.name.parse().ok()?;
    match column.relation.as_ref()?.table() {
        GROUP => Some(Above::Group(index)),
        CELL => Some(Above::Cell(index)),
        _ => None,
    }
}

/// A base column as an expression.
pub(super) fn column_expr(id: ColumnId) -> Expr {
    reference(format!("{BASE}{}", id.relation), id.column)
}

/// A qualified column, without the engine's parsing of names.
pub(super) fn reference(qualifier: impl Into<Arc<str>>, index: usize) -> Expr {
    Expr::Column(Column::new(
        Some(TableReference::bare(qualifier)),
        index.to_string(),
    ))
}

/// Types of base columns, for typing expressions over them.
pub(super) fn base_schema(relations: &[Relation]) -> Result<DFSchema> {
    let fields = relations
        .iter()
        .enumerate()
        .flat_map(|(index, relation)| {
            let qualifier = TableReference::bare(format!("{BASE}{index}"));
            relation
                .table
                .columns
                .iter()
                .enumerate()
                .map(move |(position, column)| {
                    (
                        Some(qualifier.clone()),
                        Arc::new(Field::new(
                            position.to_string(),
                            column.data_type.to_arrow(),
                            column.nullable,
                        )),
                    )
                })
        })
        .collect();
    DFSchema::new_with_metadata(fields, HashMap::new())
        .map_err(|_| Error::new(Code::Internal, "the tables of the query have no schema"))
}

/// The base columns of an expression, in order of first use.
pub(super) fn base_columns(expr: &Expr) -> Vec<ColumnId> {
    let mut found = Vec::new();
    // The closure never fails.
    let _ = expr.apply(|node| {
        if let Expr::Column(column) = node
            && let Some(id) = base(column)
            && !found.contains(&id)
        {
            found.push(id);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

/// The relations of an expression, ascending.
pub(super) fn relations_of(expr: &Expr) -> Vec<usize> {
    let mut relations: Vec<usize> = base_columns(expr).iter().map(|id| id.relation).collect();
    relations.sort_unstable();
    relations.dedup();
    relations
}

/// Groups and cells of an expression above the aggregate.
pub(super) fn above_columns(expr: &Expr) -> Vec<Above> {
    let mut found = Vec::new();
    let _ = expr.apply(|node| {
        if let Expr::Column(column) = node
            && let Some(item) = above(column)
            && !found.contains(&item)
        {
            found.push(item);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    found
}

/// Splits at AND, left to right, without recursion.
pub(super) fn split(expr: Expr, operator: Operator) -> Vec<Expr> {
    let mut pending = vec![expr];
    let mut parts = Vec::new();
    while let Some(next) = pending.pop() {
        match next {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if op == operator => {
                pending.push(*right);
                pending.push(*left);
            }
            Expr::Alias(alias) => pending.push(*alias.expr),
            other => parts.push(other),
        }
    }
    parts
}
