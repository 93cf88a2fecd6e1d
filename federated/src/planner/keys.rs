//! Join keys of a chosen strategy: which columns leave as tags of which class, and what is then
//! certain about rows.

use super::conditions::Sorted;
use super::order::Order;
use std::collections::BTreeSet;

/// How relations come together.
#[derive(Debug, Clone)]
pub(super) enum Joins {
    /// One table.
    None,
    /// All at once, on these equality classes.
    Aligned(Vec<usize>),
    /// One after the other.
    Oblivious(Order),
}

/// Tuples of equality classes that joins compare, numbered in the order of their first use.
pub(super) struct KeyClasses {
    tuples: Vec<Vec<usize>>,
    /// Classes of each relation, ascending.
    of: Vec<BTreeSet<u32>>,
}

impl KeyClasses {
    pub(super) fn of(joins: &Joins, relations: usize) -> Self {
        let mut keys = Self {
            tuples: Vec::new(),
            of: vec![BTreeSet::new(); relations],
        };
        match joins {
            Joins::None => {}
            Joins::Aligned(classes) => {
                for relation in 0..relations {
                    keys.add(relation, classes);
                }
            }
            Joins::Oblivious(order) => {
                for step in &order.steps {
                    keys.add(step.left, &step.classes);
                    keys.add(step.right, &step.classes);
                }
            }
        }
        keys
    }

    fn add(&mut self, relation: usize, tuple: &[usize]) {
        let class = match self.class(tuple) {
            Some(class) => class,
            None => {
                self.tuples.push(tuple.to_vec());
                u32::try_from(self.tuples.len() - 1).unwrap_or(u32::MAX)
            }
        };
        if let Some(of) = self.of.get_mut(relation) {
            of.insert(class);
        }
    }

    pub(super) fn class(&self, tuple: &[usize]) -> Option<u32> {
        let position = self.tuples.iter().position(|known| known == tuple)?;
        u32::try_from(position).ok()
    }

    /// The key classes of a relation, each with its equality classes.
    pub(super) fn of_relation(&self, relation: usize) -> Vec<(u32, Vec<usize>)> {
        let classes = self.of.get(relation).into_iter().flatten();
        classes
            .filter_map(|class| {
                let tuple = self.tuples.get(usize::try_from(*class).ok()?)?;
                Some((*class, tuple.clone()))
            })
            .collect()
    }

    /// Whether a fragment has one key, and at most one row for each value of it.
    pub(super) fn unique(&self, relation: usize, sorted: &Sorted<'_>) -> bool {
        let [(_, tuple)] = &self.of_relation(relation)[..] else {
            return false;
        };
        let columns = tuple
            .iter()
            .filter_map(|equal| sorted.equal.get(*equal)?.of(relation))
            .collect();
        sorted
            .shapes
            .get(relation)
            .is_some_and(|shape| shape.unique_on(&columns))
    }
}

/// For each relation, whether each row of its fragment appears at most once in the join.
pub(super) fn facts(joins: &Joins, keys: &KeyClasses, sorted: &Sorted<'_>) -> Vec<bool> {
    let relations = sorted.block.relations.len();
    let Joins::Oblivious(order) = joins else {
        return vec![true; relations];
    };
    let mut once = vec![false; relations];
    let mut unique_on = BTreeSet::new();
    if let Some(root) = once.get_mut(order.root) {
        *root = true;
    }
    if keys.unique(order.root, sorted) {
        unique_on.extend(keys.of.get(order.root).into_iter().flatten().copied());
    }
    for step in &order.steps {
        let Some(class) = keys.class(&step.classes) else {
            continue;
        };
        if unique_on.contains(&class)
            && let Some(right) = once.get_mut(step.right)
        {
            *right = true;
        }
    }
    once
}
