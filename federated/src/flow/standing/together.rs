//! What several guards over one table show together: their numbers, subtracted, are over units that nobody
//! has counted.

use super::follow::Follow;
use super::{Scan, Unguarded};
use crate::plan::program::{Relational, Variable};
use std::collections::{BTreeMap, BTreeSet};

/// What a guard lets through.
pub(super) struct Shown {
    /// The scans that it counts, one of each table.
    scans: BTreeMap<String, Scan>,
    /// Its numbers.
    values: Vec<Variable>,
}

/// Which guards a column's numbers have passed.
#[derive(Default)]
struct Passed(BTreeMap<Variable, BTreeSet<usize>>);

impl Passed {
    fn of(&self, columns: impl IntoIterator<Item = Variable>) -> BTreeSet<usize> {
        let known = columns.into_iter().filter_map(|of| self.0.get(&of));
        known.flatten().copied().collect()
    }

    /// A column is made of these.
    fn made(&mut self, column: Variable, of: impl IntoIterator<Item = Variable>) {
        let all = self.of(of);
        if !all.is_empty() {
            self.0.entry(column).or_default().extend(all);
        }
    }

    fn through(&mut self, operator: &Relational) {
        match operator {
            Relational::Map { computed, .. } => {
                for (column, by) in computed {
                    let mut looks = Vec::new();
                    by.columns(&mut looks);
                    self.made(*column, looks);
                }
            }
            Relational::Group { aggregates, .. } => {
                for of in aggregates {
                    self.made(of.variable, of.argument.into_iter().chain(of.when));
                }
            }
            Relational::Window { order, calls, .. } => {
                for call in calls {
                    let order = order.iter().map(|key| key.variable);
                    self.made(call.variable, call.argument.into_iter().chain(order));
                }
            }
            Relational::Union { inputs, columns } => {
                for (place, column) in columns.iter().enumerate() {
                    let own = inputs.iter().filter_map(|(_, of)| *of.get(place)?);
                    self.made(*column, own);
                }
            }
            _ => {}
        }
    }
}

impl Follow<'_> {
    /// A guard counts the units of these scans, and lets these numbers through.
    pub(super) fn lets_through(&mut self, scans: &[Scan], values: Vec<Variable>) {
        let counted = scans.iter().filter(|scan| self.of.k(**scan) > 1);
        let scans = counted.map(|scan| (self.of.table(*scan).to_owned(), *scan));
        let scans = scans.collect();
        self.shown.push(Shown { scans, values });
    }

    /// Refuses numbers of two guards over one table in one result.
    pub(super) fn together(&mut self) {
        let mut passed = Passed::default();
        for (at, shown) in self.shown.iter().enumerate() {
            for value in &shown.values {
                passed.0.entry(*value).or_default().insert(at);
            }
        }
        for operator in &self.of.program.operators {
            passed.through(operator);
        }
        let opened = passed.of(self.of.program.opened.iter().copied());
        let mut tables = BTreeSet::new();
        for shown in opened.iter().filter_map(|at| self.shown.get(*at)) {
            for (table, scan) in &shown.scans {
                if !tables.insert(table) {
                    self.found.push(Unguarded {
                        scan: *scan,
                        what: "two results, whose numbers could be subtracted,".to_owned(),
                        instead: "one GROUP BY, with FILTER, or with windows over its groups,",
                    });
                }
            }
        }
    }
}
