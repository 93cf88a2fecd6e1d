//! Functional dependencies: what follows from what.

use std::collections::BTreeSet;

/// Rules "whoever knows these knows those", over any names.
#[derive(Debug, Clone)]
pub(crate) struct Dependencies<T> {
    list: Vec<(BTreeSet<T>, BTreeSet<T>)>,
}

impl<T> Default for Dependencies<T> {
    fn default() -> Self {
        Self { list: Vec::new() }
    }
}

impl<T: Ord + Copy> Dependencies<T> {
    /// From these the others follow.
    pub(crate) fn add(
        &mut self,
        from: impl IntoIterator<Item = T>,
        to: impl IntoIterator<Item = T>,
    ) {
        let rule = (from.into_iter().collect(), to.into_iter().collect());
        self.list.push(rule);
    }

    /// All that follows from these, themselves included.
    pub(crate) fn closure(&self, of: &BTreeSet<T>) -> BTreeSet<T> {
        let mut known = of.clone();
        loop {
            let before = known.len();
            for (from, to) in &self.list {
                if from.is_subset(&known) {
                    known.extend(to);
                }
            }
            if known.len() == before {
                return known;
            }
        }
    }

    /// Whether one of these sets follows.
    pub(crate) fn reaches(&self, of: &BTreeSet<T>, sets: &[BTreeSet<T>]) -> bool {
        let known = self.closure(of);
        sets.iter().any(|set| set.is_subset(&known))
    }
}
