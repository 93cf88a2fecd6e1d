//! One guard: whether it counts enough units of every scan, and every atom of the numbers behind it.

use super::follow::{Count, Follow, Over, Relation, Standing, literal};
use super::{Scan, Unguarded};
use crate::local::lineage::FragmentUnits;
use crate::plan::program::{
    Aggregate, AggregateKind, Definitions, Expression, GuardedCell, Relational, UnitGuard, Variable,
};
use std::collections::BTreeSet;

/// Where a number of a guarded relation comes from.
enum Source<'a> {
    /// Groups over this relation, with these aggregates.
    Group(usize, &'a [Variable], &'a [Aggregate]),
    /// An own fragment.
    Fragment(usize, &'a FragmentUnits),
    /// Another's: what stands behind it is for that department to see to.
    Others,
}

/// A number that is seen behind a guard: the conditions of the rows that it is over, and the atoms by which
/// the guard withholds it.
type Number = (Variable, Vec<(Condition, bool)>, Vec<u32>);

/// Conditions of a number, in the words of where it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    Of(Expression),
    Local(String),
}

impl<'a> Follow<'a> {
    pub(super) fn guard(
        &mut self,
        (position, input): (usize, usize),
        units: &[UnitGuard],
        cells: &[GuardedCell],
        keeps_rows: bool,
    ) -> Relation {
        let mut made = self.relations.get(input).cloned().unwrap_or_default();
        let scans: Vec<Scan> = made.who.keys().copied().collect();
        let values = self.values(position, input, cells, keeps_rows);
        if let Ok(values) = &values {
            self.lets_through(&scans, values.iter().map(|(value, ..)| *value).collect());
        }
        for scan in scans {
            let who = made.who.remove(&scan);
            let k = self.of.k(scan);
            if k <= 1 {
                continue;
            }
            let guard = units.iter().find(|unit| {
                unit.owner == self.of.index
                    && unit.k >= k
                    && self.counts_all(scan, unit.rows, who.as_ref())
            });
            let Some(guard) = guard else {
                self.found.push(Unguarded {
                    scan,
                    what: "the release of groups without a count of the privacy units".to_owned(),
                    instead: "the same",
                });
                continue;
            };
            match &values {
                Ok(values) => self.atoms(scan, guard, values),
                Err(what) => self.found.push(Unguarded {
                    scan,
                    what: what.clone(),
                    instead: "numbers each over a whole group, or over a part of it by FILTER,",
                }),
            }
        }
        made
    }

    /// Whether a column is the number of units behind a row.
    fn counts_all(&self, scan: Scan, rows: Variable, who: Option<&Standing>) -> bool {
        let all = Count {
            scan,
            over: Over::All,
        };
        let known = self
            .counts
            .get(&rows)
            .is_some_and(|list| list.contains(&all));
        known
            && match who {
                Some(Standing::Each(_)) => true,
                Some(Standing::Many { counts, .. }) => counts.contains(&rows),
                Some(Standing::Unknown) | None => false,
            }
    }

    /// Every number that is seen behind a guard, with the conditions of the rows that it is over and the
    /// atoms by which the guard withholds it.
    fn values(
        &self,
        position: usize,
        input: usize,
        cells: &[GuardedCell],
        keeps_rows: bool,
    ) -> Result<Vec<Number>, String> {
        let first = self.of.plan.fragments.len();
        let (program, types) = (self.of.program, self.of.types);
        let above = Definitions::of(program, types, first, input);
        let source = self.source(input);
        let seen = self.seen(position);
        let mut list = Vec::new();
        for variable in types.relations.get(input).into_iter().flatten() {
            if !seen.contains(variable) || self.is_key(&source, *variable, &above) {
                continue;
            }
            let conditions = self.conditions(&source, *variable, &above)?;
            let cell = cells.iter().find(|cell| cell.value == *variable);
            match cell {
                Some(cell) => list.push((*variable, conditions, cell.atoms.clone())),
                None if keeps_rows => {
                    return Err("the release of a number that is not guarded".to_owned());
                }
                None => list.push((*variable, conditions, Vec::new())),
            }
        }
        Ok(list)
    }

    /// The columns that operators after this one look at, or that are opened.
    fn seen(&self, position: usize) -> BTreeSet<Variable> {
        let mut seen: BTreeSet<Variable> = self.of.program.opened.iter().copied().collect();
        for operator in &self.of.program.operators[position + 1..] {
            seen.extend(operator.looks_at());
        }
        seen
    }

    fn source(&self, relation: usize) -> Source<'a> {
        let of = self.of;
        let first = of.plan.fragments.len();
        let mut at = relation;
        loop {
            let Some(operator) = at
                .checked_sub(first)
                .and_then(|at| of.program.operators.get(at))
            else {
                return match of.own.get(&at) {
                    Some(units) => Source::Fragment(at, units),
                    None => Source::Others,
                };
            };
            match operator {
                Relational::Map { input, .. } => at = *input,
                Relational::Group {
                    input,
                    keys,
                    aggregates,
                    ..
                } => return Source::Group(*input, keys, aggregates),
                // No scan of this department is below what is none of these, or it is not counted.
                _ => return Source::Others,
            }
        }
    }

    /// Whether a column is what groups are formed by, or is computed of that alone.
    fn is_key(&self, source: &Source<'_>, variable: Variable, above: &Definitions<'_>) -> bool {
        if let Some(of) = above.get(variable) {
            let mut looks = Vec::new();
            of.columns(&mut looks);
            return looks.into_iter().all(|of| self.is_key(source, of, above));
        }
        match source {
            Source::Group(_, keys, aggregates) => {
                keys.contains(&variable)
                    || aggregates.iter().any(|of| {
                        of.variable == variable
                            && of.function == AggregateKind::Any
                            && of.argument.is_some_and(|argument| {
                                self.closure(&keys.iter().copied().collect())
                                    .contains(&argument)
                            })
                    })
            }
            Source::Fragment(..) | Source::Others => false,
        }
    }

    fn conditions(
        &self,
        source: &Source<'_>,
        variable: Variable,
        above: &Definitions<'_>,
    ) -> Result<Vec<(Condition, bool)>, String> {
        if let Some(of) = above.get(variable) {
            let mut looks = Vec::new();
            of.columns(&mut looks);
            let mut all = Vec::new();
            for inner in looks {
                for condition in self.conditions(source, inner, above)? {
                    if !all.contains(&condition) {
                        all.push(condition);
                    }
                }
            }
            return Ok(all);
        }
        match source {
            Source::Others => Ok(Vec::new()),
            Source::Fragment(fragment, units) => {
                let Some((_, _, column)) =
                    self.of.own_column(variable).filter(|of| of.0 == *fragment)
                else {
                    return Ok(Vec::new());
                };
                if let Some(why) = units.unusual(column) {
                    return Err(format!("an aggregate of {why}"));
                }
                if !units.is_mixed(column) {
                    return Ok(Vec::new());
                }
                let conditions = units.conditions(column).iter();
                Ok(conditions
                    .map(|of| (Condition::Local(of.clone()), true))
                    .collect())
            }
            Source::Group(input, _, aggregates) => {
                let Some(aggregate) = aggregates.iter().find(|of| of.variable == variable) else {
                    return Ok(Vec::new());
                };
                self.aggregate(*input, aggregate)
            }
        }
    }

    /// The conditions of an aggregate, and whether it is of what may be aggregated.
    pub(super) fn aggregate(
        &self,
        input: usize,
        aggregate: &Aggregate,
    ) -> Result<Vec<(Condition, bool)>, String> {
        let Some(argument) = aggregate.argument else {
            return Ok(Vec::new());
        };
        let first = self.of.plan.fragments.len();
        let below = Definitions::of(self.of.program, self.of.types, first, input);
        let counts = matches!(
            aggregate.function,
            AggregateKind::Count | AggregateKind::CountDistinct
        );
        let list = below.of_column(argument);
        let list = list.map_err(|_| "a number whose rows cannot be told".to_owned())?;
        let list: Vec<(Condition, bool)> = list
            .iter()
            .map(|condition| {
                let (of, is) = literal(condition);
                (Condition::Of(of), is)
            })
            .collect();
        self.usual(argument, counts, &list)?;
        Ok(list)
    }

    /// Whether the atoms of a guard are all there are of the numbers behind it, and each number is withheld
    /// by its own.
    fn atoms(&mut self, scan: Scan, guard: &UnitGuard, values: &[Number]) {
        let conditional = values.iter().any(|(_, of, _)| !of.is_empty());
        if !conditional {
            return;
        }
        let mut refuse = |what: &str| {
            self.found.push(Unguarded {
                scan,
                what: what.to_owned(),
                instead: "the same with a count of every part of a group that numbers differ by,",
            });
        };
        let mut patterns: Vec<Vec<(Condition, bool)>> = Vec::new();
        for atom in &guard.atoms {
            let counts = self.counts.get(atom).into_iter().flatten();
            let own = counts
                .filter(|of| of.scan == scan)
                .find_map(|of| match &of.over {
                    Over::All => None,
                    Over::Part(parts) => Some(
                        parts
                            .iter()
                            .map(|(of, is)| (Condition::Of(of.clone()), *is))
                            .collect(),
                    ),
                    Over::Local(parts) => Some(
                        parts
                            .iter()
                            .map(|(of, is)| (Condition::Local(of.clone()), *is))
                            .collect(),
                    ),
                });
            match own {
                Some(pattern) => patterns.push(pattern),
                None => {
                    refuse("an atom without a count of the privacy units");
                    return;
                }
            }
        }
        if !complete(&patterns) {
            refuse("numbers over different parts of a group, of which not every part is counted");
            return;
        }
        for (_, conditions, atoms) in values {
            let due: Vec<u32> = match conditions.is_empty() {
                true => continue,
                false => (0_u32..)
                    .zip(&patterns)
                    .filter(|(_, pattern)| conditions.iter().all(|of| pattern.contains(of)))
                    .map(|(at, _)| at)
                    .collect(),
            };
            let whole = 1_usize << patterns.first().map_or(0, Vec::len);
            let share = whole >> conditions.len().min(16);
            if due != *atoms || due.len() != share {
                refuse("a number over a part of a group that its guard does not count");
                return;
            }
        }
    }
}

/// Whether these are all combinations of one set of conditions, each once.
fn complete(patterns: &[Vec<(Condition, bool)>]) -> bool {
    let Some(first) = patterns.first() else {
        return false;
    };
    if first.is_empty() || first.len() > 16 || patterns.len() != 1 << first.len() {
        return false;
    }
    let mut seen = BTreeSet::new();
    for pattern in patterns {
        if pattern.len() != first.len() {
            return false;
        }
        let mut bits = 0_u32;
        for (at, (condition, _)) in first.iter().enumerate() {
            match pattern.iter().find(|(of, _)| of == condition) {
                None => return false,
                Some((_, true)) => bits |= 1 << at,
                Some((_, false)) => {}
            }
        }
        seen.insert(bits);
    }
    // A condition named twice would leave some combination out.
    seen.len() == patterns.len()
}
