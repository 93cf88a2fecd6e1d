//! The walk over a program's operators.

use super::together::Shown;
use super::values::Origins;
use super::{Scan, Thresholds, Unguarded};
use crate::local::lineage::{Dependencies, Who};
use crate::plan::program::{Expression, JoinKind, Relational, Variable};
use std::collections::{BTreeMap, BTreeSet};

/// Columns, and rows of fragments: [`row`].
pub(super) type Names = BTreeSet<Variable>;

/// Who stands behind the rows of a relation, of one scan.
#[derive(Debug, Clone)]
pub(super) enum Standing {
    /// Each row is of one unit at most, which any of these columns names.
    Each(Names),
    /// Each row is of as many as these columns say, at least. Names of the rows that they came with; of no
    /// unit behind two of them where `disjoint`.
    Many {
        counts: Names,
        rows: Names,
        disjoint: bool,
    },
    Unknown,
}

/// A number of units behind a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) scan: Scan,
    pub(super) over: Over,
}

/// Which of the rows behind a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Over {
    All,
    /// Those where these truth values, of columns of the program, are as said.
    Part(Vec<(Expression, bool)>),
    /// Those where these, of the fragment, are.
    Local(Vec<(String, bool)>),
}

/// What is known of a relation.
#[derive(Debug, Clone, Default)]
pub(super) struct Relation {
    pub(super) who: BTreeMap<Scan, Standing>,
    pub(super) unique: Vec<Names>,
    /// All that its rows have.
    pub(super) names: Names,
}

pub(super) struct Follow<'a> {
    pub(super) of: &'a Thresholds<'a>,
    pub(super) relations: Vec<Relation>,
    pub(super) counts: BTreeMap<Variable, Vec<Count>>,
    pub(super) found: Vec<Unguarded>,
    /// What makes every column.
    pub(super) made: Origins<'a>,
    /// What guards let through.
    pub(super) shown: Vec<Shown>,
    pub(super) known: Dependencies<Variable>,
    /// What follows from a union's column that names units, where it is not NULL.
    pub(super) of_units: Vec<(Variable, Names)>,
}

/// The name of a fragment's rows, beside its columns.
fn row(fragment: usize) -> Variable {
    Variable(u32::MAX - u32::try_from(fragment).unwrap_or(u32::MAX))
}

impl<'a> Follow<'a> {
    pub(super) fn new(of: &'a Thresholds<'a>) -> Self {
        let mut follow = Self {
            of,
            relations: Vec::new(),
            counts: BTreeMap::new(),
            found: Vec::new(),
            made: Origins::of(of.program),
            shown: Vec::new(),
            known: Dependencies::default(),
            of_units: Vec::new(),
        };
        for fragment in 0..of.plan.fragments.len() {
            let relation = follow.fragment(fragment);
            follow.relations.push(relation);
        }
        follow
    }

    /// What this department knows of its own fragments; of others only that they have rows.
    fn fragment(&mut self, fragment: usize) -> Relation {
        let count = self.of.plan.fragments[fragment].columns.len();
        let columns: Names = (0..count)
            .map(|column| self.of.variable(fragment, column))
            .collect();
        let row = row(fragment);
        self.known.add([row], columns.iter().copied());
        let mut relation = Relation {
            who: BTreeMap::new(),
            unique: vec![BTreeSet::from([row])],
            names: columns,
        };
        relation.names.insert(row);
        let Some(units) = self.of.own.get(&fragment) else {
            return relation;
        };
        for (scan, who) in &units.who {
            let standing = match who {
                Who::Each(_) => {
                    let named = (0..count).filter(|column| units.names_unit(*scan, *column));
                    let named: Names = named
                        .map(|column| self.of.variable(fragment, column))
                        .collect();
                    let ones = (0..count).filter(|column| {
                        let counts = units.counts(*column);
                        counts
                            .iter()
                            .any(|of| of.scan == *scan && of.over.is_empty())
                    });
                    match named.is_empty() {
                        false => Standing::Each(named),
                        true => Standing::Many {
                            counts: ones
                                .map(|column| self.of.variable(fragment, column))
                                .collect(),
                            rows: BTreeSet::from([row]),
                            disjoint: units.is_once(*scan),
                        },
                    }
                }
                Who::Many { disjoint, .. } => {
                    let all = |column: &usize| {
                        let counts = units.counts(*column);
                        counts
                            .iter()
                            .any(|of| of.scan == *scan && of.over.is_empty())
                    };
                    let counts = (0..count).filter(all);
                    Standing::Many {
                        counts: counts
                            .map(|column| self.of.variable(fragment, column))
                            .collect(),
                        rows: BTreeSet::from([row]),
                        disjoint: *disjoint,
                    }
                }
                Who::Unknown => Standing::Unknown,
            };
            relation.who.insert((fragment, *scan), standing);
        }
        for column in 0..count {
            let made: Vec<Count> = units
                .counts(column)
                .iter()
                .map(|of| Count {
                    scan: (fragment, of.scan),
                    over: match of.over.is_empty() {
                        true => Over::All,
                        false => {
                            Over::Local(of.over.iter().map(|(of, is)| (of.clone(), *is)).collect())
                        }
                    },
                })
                .collect();
            if !made.is_empty() {
                self.counts.insert(self.of.variable(fragment, column), made);
            }
        }
        relation
    }

    /// Names that follow from these: by joins and groups, and by what own fragments are.
    pub(super) fn closure(&self, of: &Names) -> Names {
        let mut known = self.known.closure(of);
        loop {
            let before = known.len();
            for (fragment, units) in self.of.own {
                let count = self.of.plan.fragments[*fragment].columns.len();
                let there: BTreeSet<usize> = (0..count)
                    .filter(|column| known.contains(&self.of.variable(*fragment, *column)))
                    .collect();
                if units.unique_on(&there) {
                    known.insert(row(*fragment));
                }
                let more = units.determined(&there).into_iter();
                known.extend(more.map(|column| self.of.variable(*fragment, column)));
            }
            if known.len() == before {
                return known;
            }
            known = self.known.closure(&known);
        }
    }

    pub(super) fn unique_on(&self, relation: &Relation, of: &Names) -> bool {
        let known = self.closure(of);
        relation.unique.iter().any(|set| set.is_subset(&known))
    }

    /// Everything that is not guarded.
    pub(super) fn program(mut self) -> Vec<Unguarded> {
        for (position, operator) in self.of.program.operators.iter().enumerate() {
            let made = self.operator(position, operator);
            self.relations.push(made);
        }
        self.together();
        if let Some(last) = self.relations.last() {
            let left: Vec<Scan> = last.who.keys().copied().collect();
            for scan in left {
                if self.of.k(scan) > 1 {
                    self.found.push(Unguarded {
                        scan,
                        what: "the release of rows without a guard of the privacy units".to_owned(),
                        instead: "groups, or an aggregate for the whole,",
                    });
                }
            }
        }
        self.found
    }

    pub(super) fn take(&self, relation: usize) -> Relation {
        self.relations.get(relation).cloned().unwrap_or_default()
    }

    fn operator(&mut self, position: usize, operator: &Relational) -> Relation {
        match operator {
            Relational::Join {
                kind,
                left,
                right,
                on,
                matched,
                most,
                left_most,
            } => {
                let (left, right) = (self.take(*left), self.take(*right));
                let mut made = self.join(*kind, left, right, on, (*most, *left_most));
                made.names.extend(matched);
                made
            }
            Relational::Beside { left, right, most } => {
                let (left, right) = (self.take(*left), self.take(*right));
                if *most == 1 {
                    self.known.add([], right.names.iter().copied());
                }
                both(left, right)
            }
            Relational::Filter { input, .. } | Relational::Top { input, .. } => self.take(*input),
            Relational::Map { input, computed } => {
                let mut made = self.take(*input);
                for (variable, expression) in computed {
                    let mut looks = Vec::new();
                    expression.columns(&mut looks);
                    self.known.add(looks, [*variable]);
                    made.names.insert(*variable);
                    if let Expression::Column(of) = expression {
                        self.known.add([*variable], [*of]);
                        renamed(&mut made, *of, *variable);
                    }
                }
                made
            }
            Relational::Group {
                input,
                keys,
                aggregates,
                ..
            } => self.group(*input, keys, aggregates),
            Relational::Guard {
                input,
                units,
                cells,
                keeps_rows,
            } => self.guard((position, *input), units, cells, *keeps_rows),
            Relational::Window {
                input,
                partition,
                calls,
                ..
            } => {
                let mut made = self.take(*input);
                let known = self.closure(&partition.iter().copied().collect());
                for who in made.who.values_mut() {
                    // A row sees others of its own unit alone.
                    if !matches!(who, Standing::Each(tags) if !tags.is_disjoint(&known)) {
                        *who = Standing::Unknown;
                    }
                }
                made.names.extend(calls.iter().map(|call| call.variable));
                made.names
                    .extend(calls.iter().filter_map(|call| call.there));
                made
            }
            Relational::Union { inputs, columns } => self.union(position, inputs, columns),
        }
    }

    fn join(
        &mut self,
        kind: JoinKind,
        left: Relation,
        right: Relation,
        on: &[(Variable, Variable)],
        (most, left_most): (u64, Option<u64>),
    ) -> Relation {
        let lefts: Names = on.iter().map(|(a, _)| *a).collect();
        // Rows without a key are not counted, and stay in some joins.
        let keyed = matches!(kind, JoinKind::Inner | JoinKind::Semi)
            || lefts
                .iter()
                .all(|of| self.of.types.value(*of).is_ok_and(|of| !of.nullable));
        if left_most == Some(1) && keyed {
            self.known.add(lefts.clone(), left.names.iter().copied());
        }
        if matches!(kind, JoinKind::Semi | JoinKind::Anti | JoinKind::NotIn) {
            let mut made = left;
            for (scan, who) in right.who {
                let absent = kind != JoinKind::Semi;
                let named: Names = on
                    .iter()
                    .filter(|(_, b)| {
                        absent || matches!(&who, Standing::Each(tags) if tags.contains(b))
                    })
                    .map(|(a, _)| *a)
                    .collect();
                let who = match named.is_empty() {
                    true => Standing::Unknown,
                    false => Standing::Each(named),
                };
                made.who.insert(scan, who);
            }
            return made;
        }
        // The right side is checked to have one row for each key, or as many as are said.
        if most == 1 && kind != JoinKind::Full {
            self.known.add(lefts, right.names.iter().copied());
        }
        let mut made = both(left, right);
        if kind == JoinKind::Inner {
            for (a, b) in on {
                self.known.add([*a], [*b]);
                self.known.add([*b], [*a]);
                renamed(&mut made, *a, *b);
                renamed(&mut made, *b, *a);
            }
        }
        made
    }

    /// Rows of several relations: units of one are named by a column that is NULL in the others' rows, by the
    /// program's word, not by theirs.
    fn union(
        &mut self,
        position: usize,
        inputs: &[(usize, Vec<Option<Variable>>)],
        columns: &[Variable],
    ) -> Relation {
        let row = row(self.of.plan.fragments.len() + position);
        let mut made = Relation {
            who: BTreeMap::new(),
            unique: vec![BTreeSet::from([row])],
            names: columns.iter().copied().collect(),
        };
        made.names.insert(row);
        self.known.add([row], columns.iter().copied());
        for (at, (input, own)) in inputs.iter().enumerate() {
            let alone = |names: &Names| -> Names {
                let place = |place: &usize| {
                    let others = inputs.iter().enumerate().filter(|(other, _)| *other != at);
                    own[*place].is_some_and(|of| names.contains(&of))
                        && others.into_iter().all(|(_, (_, of))| of[*place].is_none())
                };
                let places = (0..columns.len()).filter(place);
                places.map(|place| columns[place]).collect()
            };
            for (scan, who) in self.take(*input).who {
                // What one input adds of a unit another could take away.
                let table = self.of.table(scan);
                let again = inputs.iter().enumerate().any(|(other, (input, _))| {
                    let mut scans = self
                        .relations
                        .get(*input)
                        .into_iter()
                        .flat_map(|of| of.who.keys());
                    other != at && scans.any(|other| self.of.table(*other) == table)
                });
                let standing = match who {
                    _ if again => Standing::Unknown,
                    Standing::Each(names) => {
                        let named = alone(&names);
                        let follows = self.closure(&names);
                        let there =
                            |place: &usize| own[*place].is_some_and(|of| follows.contains(&of));
                        let more: Names = (0..columns.len())
                            .filter(there)
                            .map(|place| columns[place])
                            .collect();
                        let pairs = named.iter().map(|tag| (*tag, more.clone()));
                        self.of_units.extend(pairs);
                        match named.is_empty() {
                            true => Standing::Unknown,
                            false => Standing::Each(named),
                        }
                    }
                    Standing::Many {
                        counts, disjoint, ..
                    } => {
                        let counts = alone(&counts);
                        for column in &counts {
                            let all = Count {
                                scan,
                                over: Over::All,
                            };
                            self.counts.entry(*column).or_default().push(all);
                        }
                        Standing::Many {
                            counts,
                            rows: BTreeSet::from([row]),
                            disjoint,
                        }
                    }
                    Standing::Unknown => Standing::Unknown,
                };
                made.who.insert(scan, standing);
            }
        }
        made
    }
}

/// A truth value without the NOT before it.
pub(super) fn literal(of: &Expression) -> (Expression, bool) {
    match of {
        Expression::Not(inner) => {
            let (base, is) = literal(inner);
            (base, !is)
        }
        other => (other.clone(), true),
    }
}

/// Rows of both, in every combination.
fn both(left: Relation, right: Relation) -> Relation {
    let unique = left.unique.iter().flat_map(|a| {
        right
            .unique
            .iter()
            .map(move |b| a.union(b).copied().collect())
    });
    let mut made = Relation {
        who: left.who,
        unique: unique.collect(),
        names: left.names,
    };
    made.who.extend(right.who);
    made.names.extend(right.names);
    made
}

/// What is equal to a column stands for the same.
fn renamed(relation: &mut Relation, of: Variable, to: Variable) {
    for who in relation.who.values_mut() {
        if let Standing::Each(names) | Standing::Many { counts: names, .. } = who
            && names.contains(&of)
        {
            names.insert(to);
        }
    }
}
