//! Whose units stand behind the groups of a program, and what counts them.

use super::Scan;
use super::follow::{Count, Follow, Names, Over, Relation, Standing, literal};
use crate::plan::program::{
    Aggregate, AggregateKind, Definitions, Expression, Variable, in_any_form,
};
use std::collections::BTreeMap;

impl Follow<'_> {
    pub(super) fn group(
        &mut self,
        input: usize,
        keys: &[Variable],
        aggregates: &[Aggregate],
    ) -> Relation {
        let relation = self.take(input);
        let set: Names = keys.iter().copied().collect();
        let first = self.of.plan.fragments.len();
        let (program, types) = (self.of.program, self.of.types);
        let definitions = Definitions::of(program, types, first, input);
        for aggregate in aggregates {
            let made = self.counted(&relation, &set, aggregate, &definitions);
            if !made.is_empty() {
                self.counts.insert(aggregate.variable, made);
            }
        }
        let known = self.closure(&set);
        let mut who = BTreeMap::new();
        for (scan, of) in &relation.who {
            let made = match of {
                Standing::Each(tags) if !tags.is_disjoint(&known) => {
                    let mut named: Names = tags.intersection(&set).copied().collect();
                    // One value of what is the same in the group.
                    named.extend(aggregates.iter().filter_map(|aggregate| {
                        let argument = aggregate.argument?;
                        let same = aggregate.function == AggregateKind::Any
                            && known.contains(&argument)
                            && tags.contains(&argument);
                        same.then_some(aggregate.variable)
                    }));
                    match named.is_empty() {
                        true => self.many(*scan, aggregates, &set, true),
                        false => Standing::Each(named),
                    }
                }
                Standing::Each(tags) if self.one_of(*scan, tags, aggregates).is_some() => {
                    Standing::Each(self.one_of(*scan, tags, aggregates).unwrap_or_default())
                }
                Standing::Each(tags) => self.many(*scan, aggregates, &set, {
                    let mut own = self.closure(tags);
                    for (tag, more) in &self.of_units {
                        if own.contains(tag) {
                            own.extend(more);
                        }
                    }
                    set.is_subset(&self.closure(&own))
                }),
                Standing::Many { disjoint, .. } => self.many(*scan, aggregates, &set, *disjoint),
                Standing::Unknown => Standing::Unknown,
            };
            who.insert(*scan, made);
        }
        let mut names = set.clone();
        names.extend(aggregates.iter().map(|of| of.variable));
        self.known.add(set.iter().copied(), names.clone());
        Relation {
            who,
            unique: vec![set],
            names,
        }
    }

    /// The columns that are one of the units behind a group, where these are not counted: as many units are at
    /// least different as these are.
    fn one_of(&self, scan: Scan, tags: &Names, aggregates: &[Aggregate]) -> Option<Names> {
        let counted = aggregates.iter().any(|of| {
            let counts = self.counts.get(&of.variable).into_iter().flatten();
            counts.into_iter().any(|of| of.scan == scan)
        });
        let named: Names = aggregates
            .iter()
            .filter(|of| of.function == AggregateKind::Any)
            .filter(|of| of.argument.is_some_and(|of| tags.contains(&of)))
            .map(|of| of.variable)
            .collect();
        (!counted && !named.is_empty()).then_some(named)
    }

    /// Groups of rows of several units.
    fn many(&self, scan: Scan, aggregates: &[Aggregate], keys: &Names, disjoint: bool) -> Standing {
        let all = Count {
            scan,
            over: Over::All,
        };
        let counts = aggregates
            .iter()
            .map(|of| of.variable)
            .filter(|variable| {
                self.counts
                    .get(variable)
                    .is_some_and(|list| list.contains(&all))
            })
            .collect();
        Standing::Many {
            counts,
            rows: keys.clone(),
            disjoint,
        }
    }

    /// The units that an aggregate counts.
    fn counted(
        &self,
        relation: &Relation,
        keys: &Names,
        aggregate: &Aggregate,
        definitions: &Definitions<'_>,
    ) -> Vec<Count> {
        let Some(argument) = aggregate.argument else {
            return Vec::new();
        };
        let argument = match definitions.get(argument).map(in_any_form) {
            Some(Expression::Column(of)) => *of,
            _ => argument,
        };
        // Of sums: `CASE WHEN flag THEN count END`.
        let (argument, flag) = match definitions.get(argument) {
            Some(Expression::Case { when, otherwise })
                if matches!(otherwise.as_ref(), Expression::Null(_)) =>
            {
                match when.as_slice() {
                    [(Expression::Column(flag), Expression::Column(of))] => (*of, Some(*flag)),
                    _ => return Vec::new(),
                }
            }
            _ => (argument, None),
        };
        let flag = flag.or(aggregate.when);
        let over = match flag {
            None => Over::All,
            Some(flag) => match definitions.get(flag) {
                Some(Expression::All(parts)) => Over::Part(parts.iter().map(literal).collect()),
                _ => return Vec::new(),
            },
        };
        let mut made = Vec::new();
        for (scan, who) in &relation.who {
            let counts = match (who, aggregate.function) {
                (Standing::Each(tags), AggregateKind::CountDistinct) => tags.contains(&argument),
                // Each row is another unit; what is NULL is not counted.
                (Standing::Each(tags), AggregateKind::Count) => {
                    let mut whole = keys.clone();
                    whole.insert(argument);
                    tags.contains(&argument) && self.unique_on(relation, &whole)
                }
                (Standing::Many { counts, .. }, AggregateKind::Max) => counts.contains(&argument),
                (
                    Standing::Many {
                        counts,
                        rows,
                        disjoint: true,
                    },
                    AggregateKind::Sum,
                ) => {
                    let whole = keys.union(rows).copied().collect();
                    counts.contains(&argument) && self.unique_on(relation, &whole)
                }
                _ => false,
            };
            if counts {
                made.push(Count {
                    scan: *scan,
                    over: over.clone(),
                });
            }
        }
        made
    }
}
