//! Which tables join on what, in which order, and by which strategy that is possible.
//!
//! An equality class is a set of columns, at most one of each table, that a query makes equal. Two
//! tables join on all classes that both have.

use super::block::Block;
use super::columns::ColumnId;
use super::text::Query;
use crate::error::{Code, Error, Result};
use std::collections::BTreeSet;

/// Columns made equal: at most one of each relation, ascending by relation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Equal {
    pub(super) columns: Vec<ColumnId>,
}

impl Equal {
    /// The column of a relation.
    pub(super) fn of(&self, relation: usize) -> Option<usize> {
        self.columns
            .iter()
            .find(|id| id.relation == relation)
            .map(|id| id.column)
    }
}

/// What rows a relation's fragment has.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// Grouped by its grain, with counts; otherwise one row for each row of the table.
    pub(super) grouped: bool,
    /// The table columns behind each expression of the grain.
    pub(super) grain: Vec<BTreeSet<usize>>,
    /// The declared key of the table, as columns.
    pub(super) key: Vec<usize>,
    /// The public bound on rows.
    pub(super) bound: u64,
}

impl Shape {
    /// Whether the fragment has at most one row for each combination of values of these columns.
    pub(super) fn unique_on(&self, columns: &BTreeSet<usize>) -> bool {
        if self.grouped {
            self.grain.iter().all(|expr| expr.is_subset(columns))
        } else {
            !self.key.is_empty() && self.key.iter().all(|column| columns.contains(column))
        }
    }
}

/// One oblivious join: `right` is unique on `classes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// The relation whose key columns are compared on the left.
    pub(super) left: usize,
    pub(super) right: usize,
    /// Equality classes, ascending.
    pub(super) classes: Vec<usize>,
}

/// An order of oblivious joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) root: usize,
    pub(super) steps: Vec<Step>,
}

/// The equality classes of a query, and equalities within one table that follow from them.
pub(super) fn equalities(
    pairs: &[(ColumnId, ColumnId)],
) -> (Vec<Equal>, Vec<(ColumnId, ColumnId)>) {
    let mut classes: Vec<Vec<ColumnId>> = Vec::new();
    for (a, b) in pairs {
        let (mut merged, rest): (Vec<_>, Vec<_>) = classes
            .into_iter()
            .partition(|class| class.contains(a) || class.contains(b));
        let mut class = merged.drain(..).flatten().collect::<Vec<_>>();
        for id in [*a, *b] {
            if !class.contains(&id) {
                class.push(id);
            }
        }
        classes = rest;
        classes.push(class);
    }
    let mut local = Vec::new();
    let mut equal: Vec<Equal> = classes
        .into_iter()
        .map(|mut class| {
            class.sort_unstable();
            let mut columns: Vec<ColumnId> = Vec::new();
            for id in class {
                match columns.iter().find(|known| known.relation == id.relation) {
                    Some(known) => local.push((*known, id)),
                    None => columns.push(id),
                }
            }
            Equal { columns }
        })
        .collect();
    equal.sort_by(|a, b| a.columns.cmp(&b.columns));
    (equal, local)
}

/// Equality classes of a relation, ascending.
pub(super) fn classes_of(equal: &[Equal], relation: usize) -> Vec<usize> {
    (0..equal.len())
        .filter(|class| equal.get(*class).is_some_and(|e| e.of(relation).is_some()))
        .collect()
}

fn key_columns(equal: &[Equal], relation: usize, classes: &[usize]) -> BTreeSet<usize> {
    classes
        .iter()
        .filter_map(|class| equal.get(*class)?.of(relation))
        .collect()
}

/// The classes on which all tables can be aligned at once, or why they cannot.
pub(super) fn alignment(
    block: &Block,
    equal: &[Equal],
    shapes: &[Shape],
) -> std::result::Result<Vec<usize>, String> {
    let all: Vec<usize> = (0..equal.len()).collect();
    let mut owners = BTreeSet::new();
    for (relation, of) in block.relations.iter().enumerate() {
        if !owners.insert(of.department.as_str()) {
            return Err(format!("{} has two tables in the query", of.department));
        }
        if classes_of(equal, relation) != all {
            return Err("the tables have no key in common to all of them".to_owned());
        }
    }
    for (relation, (of, shape)) in block.relations.iter().zip(shapes).enumerate() {
        if !shape.unique_on(&key_columns(equal, relation, &all)) {
            return Err(format!(
                "{} has several rows for one value of the join key",
                of.name()
            ));
        }
    }
    Ok(all)
}

/// The cheapest order of oblivious joins.
///
/// # Errors
/// `Unsupported` for tables that no equality joins, `NotUnique` where no order has a unique right
/// side throughout.
pub(super) fn oblivious(
    query: &Query,
    block: &Block,
    equal: &[Equal],
    shapes: &[Shape],
) -> Result<Order> {
    connected(query, block, equal)?;
    let mut best: Option<(u128, Order)> = None;
    for root in 0..shapes.len() {
        let order = Order {
            root,
            steps: Vec::new(),
        };
        extend(equal, shapes, order, 0, &mut best);
    }
    match best {
        Some((_, order)) => Ok(order),
        None => Err(not_unique(block, equal, shapes)),
    }
}

/// Adds every possible next join; keeps the cheapest complete order, the first among equals.
fn extend(
    equal: &[Equal],
    shapes: &[Shape],
    order: Order,
    cost: u128,
    best: &mut Option<(u128, Order)>,
) {
    if order.steps.len() + 1 == shapes.len() {
        if best.as_ref().is_none_or(|(known, _)| cost < *known) {
            *best = Some((cost, order));
        }
        return;
    }
    let joined = |order: &Order| -> Vec<usize> {
        let mut joined = vec![order.root];
        joined.extend(order.steps.iter().map(|step| step.right));
        joined
    };
    let left_rows = shapes
        .get(order.root)
        .map_or(0, |shape| u128::from(shape.bound));
    let known = joined(&order);
    for right in (0..shapes.len()).filter(|right| !known.contains(right)) {
        let Some(shape) = shapes.get(right) else {
            continue;
        };
        let classes: Vec<usize> = classes_of(equal, right)
            .into_iter()
            .filter(|class| {
                equal
                    .get(*class)
                    .is_some_and(|e| known.iter().any(|left| e.of(*left).is_some()))
            })
            .collect();
        if classes.is_empty() || !shape.unique_on(&key_columns(equal, right, &classes)) {
            continue;
        }
        // A right side has the one key on which it is unique; the root can have several.
        let left = known.iter().copied().find(|left| {
            let has_all = key_columns(equal, *left, &classes).len() == classes.len();
            let own = order.steps.iter().find(|step| step.right == *left);
            has_all && own.is_none_or(|step| step.classes == classes)
        });
        let Some(left) = left else { continue };
        let mut next = order.clone();
        next.steps.push(Step {
            left,
            right,
            classes,
        });
        let cost = cost + left_rows + u128::from(shape.bound);
        extend(equal, shapes, next, cost, best);
    }
}

fn connected(query: &Query, block: &Block, equal: &[Equal]) -> Result<()> {
    let mut known = BTreeSet::from([0]);
    loop {
        let before = known.len();
        for class in equal {
            if class.columns.iter().any(|id| known.contains(&id.relation)) {
                known.extend(class.columns.iter().map(|id| id.relation));
            }
        }
        if known.len() == before {
            break;
        }
    }
    let apart = block
        .relations
        .iter()
        .enumerate()
        .find(|(relation, _)| !known.contains(relation));
    let (Some((_, apart)), Some(first)) = (apart, block.relations.first()) else {
        return Ok(());
    };
    let error = query.unsupported(
        &format!(
            "a join without equality of columns: nothing joins {} with {}",
            apart.name(),
            first.name()
        ),
        &[],
    );
    Err(match query.find(&apart.table.name, 1) {
        Some((line, column)) => error.position(line, column),
        None => error,
    })
}

fn not_unique(block: &Block, equal: &[Equal], shapes: &[Shape]) -> Error {
    let many: Vec<String> = block
        .relations
        .iter()
        .zip(shapes)
        .enumerate()
        .filter_map(|(relation, (of, shape))| {
            let columns = key_columns(equal, relation, &classes_of(equal, relation));
            if shape.unique_on(&columns) {
                return None;
            }
            let names: Vec<&str> = columns
                .iter()
                .filter_map(|column| of.table.columns.get(*column))
                .map(|column| column.name.as_str())
                .collect();
            Some(format!("{} ({})", of.name(), names.join(", ")))
        })
        .collect();
    let message = if many.len() > 1 {
        format!(
            "each of these tables can have several rows for one value of its join columns, or has \
             several privacy units in them: {}; a join needs all but one to have a single row",
            many.join(", ")
        )
    } else {
        "no order of these joins has a single row for each key on its right side".to_owned()
    };
    Error::new(Code::NotUnique, message)
}
