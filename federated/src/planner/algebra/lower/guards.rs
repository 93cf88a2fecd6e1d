//! Guards over shares, and the atoms of a group: which rows its numbers are over is known when all else is.

use super::super::columns::ColumnId;
use super::super::{Guard, Rel};
use super::numbers::renumbered;
use super::{Lower, Place, Relation, Want};
use crate::error::{Code, Error, Result};
use crate::plan::program::{
    self, AggregateKind, Definitions, Expression, GuardedCell, MAX_ATOMS, Program, Relational,
    UnitGuard, Variable, atom,
};
use crate::plan::{Encoding, Fragment};
use crate::schema::ScalarType;
use std::collections::{BTreeMap, BTreeSet};

/// A guard whose atoms are to be counted by the group below it.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    /// Its operator, and that of the group.
    guard: usize,
    group: usize,
}

impl Lower<'_> {
    pub(super) fn guard(&mut self, input: &Rel, guard: &Guard, rel: &Rel) -> Result<Relation> {
        let mut relation = self.rel(input)?;
        let mut units = Vec::new();
        let mut group = None;
        for unit in &guard.units {
            let want = Want::Ring { wide: false };
            let rows = self.variable(&relation, unit.rows, want)?;
            group = self.counted.get(&rows).copied().or(group);
            let atoms = unit
                .atoms
                .iter()
                .map(|id| self.variable(&relation, *id, want))
                .collect::<Result<_>>()?;
            units.push(UnitGuard {
                owner: self.department(&unit.department),
                k: unit.k,
                rows,
                atoms,
            });
        }
        let mut cells: Vec<GuardedCell> = Vec::new();
        for (id, over) in &guard.cells {
            let value = self.variable(&relation, *id, Want::Any)?;
            // No other form of it gets around the guard.
            relation.places.insert(*id, Place::Variable(value));
            if cells.iter().any(|cell| cell.value == value) {
                continue;
            }
            let atoms = over.iter().map(|at| u32::try_from(*at).unwrap_or(u32::MAX));
            cells.push(GuardedCell {
                value,
                atoms: atoms.collect(),
            });
        }
        if let Some(group) = group {
            self.pending.push(Pending {
                guard: self.operators.len(),
                group,
            });
        }
        relation.relation = self.push(Relational::Guard {
            input: relation.relation,
            units,
            cells,
            keeps_rows: guard.keeps_rows,
        });
        relation.rel = rel.clone();
        Ok(relation)
    }

    /// The rows of a side of a join are checked to have one for each value of these columns.
    pub(super) fn check_key(&mut self, side: &Relation, key: BTreeSet<ColumnId>) {
        if let Rel::Fragment { index, .. } = &side.rel {
            self.checked.entry(*index).or_default().push(key);
        }
    }

    /// Whether the owner of a unit's tag knows that no two rows have the same values of these columns: by
    /// its own catalogue, and by what joins check of others.
    pub(super) fn owner_knows(
        &self,
        rel: &Rel,
        tag: ColumnId,
        columns: &BTreeSet<ColumnId>,
    ) -> bool {
        let mut owner = None;
        self.owner_of(rel, tag, &mut owner);
        match self.believed(rel.clone(), owner) {
            Ok(rel) => rel.unique_on(columns),
            Err(_) => false,
        }
    }

    fn owner_of<'r>(&'r self, rel: &Rel, tag: ColumnId, owner: &mut Option<&'r str>) {
        if let Rel::Fragment { index, columns, .. } = rel
            && columns.contains(&tag)
        {
            *owner = self.parts.get(*index).map(|part| part.department.as_str());
        }
        for input in rel.inputs() {
            self.owner_of(input, tag, owner);
        }
    }

    fn believed(&self, rel: Rel, owner: Option<&str>) -> Result<Rel> {
        if let Rel::Fragment {
            index,
            columns,
            mut facts,
        } = rel
        {
            let own = self.parts.get(index).map(|part| part.department.as_str());
            if own.is_none() || own != owner {
                facts.keys = self.checked.get(&index).cloned().unwrap_or_default();
                facts.repeats.clear();
            }
            return Ok(Rel::Fragment {
                index,
                columns,
                facts,
            });
        }
        rel.map_inputs(&mut |input| self.believed(input, owner))
    }

    /// The position of a department among those whose units are counted.
    fn department(&mut self, name: &str) -> usize {
        let known = self.departments.iter().position(|of| of == name);
        known.unwrap_or_else(|| {
            self.departments.push(name.to_owned());
            self.departments.len() - 1
        })
    }
}

/// The program with the atoms of its guards counted.
///
/// # Errors
/// `Unsupported` for the numbers of one group that are over too many different parts of it.
pub(super) fn with_atoms(
    mut program: Program,
    fragments: &[Fragment],
    pending: &[Pending],
) -> Result<Program> {
    // The last first, so that what is put in does not move what is still to be looked at.
    let mut pending = pending.to_vec();
    pending.sort_by_key(|of| std::cmp::Reverse(of.group));
    for of in pending {
        program = counted(program, fragments, &of)?;
    }
    Ok(program)
}

fn counted(program: Program, fragments: &[Fragment], of: &Pending) -> Result<Program> {
    let types = program.check(fragments)?;
    let missing = || Error::new(Code::Internal, "a guard without its group");
    let Some(Relational::Group {
        input, aggregates, ..
    }) = program.operators.get(of.group)
    else {
        return Err(missing());
    };
    let Some(Relational::Guard { units, cells, .. }) = program.operators.get(of.guard) else {
        return Err(missing());
    };
    let below = Definitions::of(&program, &types, fragments.len(), *input);
    let above = Definitions::of(
        &program,
        &types,
        fragments.len(),
        fragments.len() + of.guard - 1,
    );
    // The conditions of every guarded column, through what is computed of aggregates.
    let mut conditions: Vec<Expression> = Vec::new();
    let mut own: Vec<Vec<usize>> = Vec::new();
    for cell in cells {
        let mut list = Vec::new();
        for made in made_of(cell.value, &above) {
            let aggregate = aggregates.iter().find(|of| of.variable == made);
            let argument = aggregate.and_then(|of| of.argument);
            if let Some(argument) = argument {
                list.extend(below.of_column(argument)?);
            }
        }
        let mut positions = Vec::new();
        for condition in list {
            let at = conditions.iter().position(|known| *known == condition);
            positions.push(at.unwrap_or(conditions.len()));
            if at.is_none() {
                conditions.push(condition);
            }
        }
        own.push(positions);
    }
    if conditions.is_empty() {
        return Ok(program);
    }
    if 1 << conditions.len().min(16) > MAX_ATOMS {
        return Err(Error::new(
            Code::Unsupported,
            "joint queries do not support numbers over more than four different parts of one group, \
             where rules ask for a threshold: ask for them in two queries",
        ));
    }
    let arguments: Vec<(Variable, AggregateKind)> = units
        .iter()
        .map(|unit| {
            let made = aggregates.iter().find(|of| of.variable == unit.rows);
            made.and_then(|of| Some((of.argument?, of.function)))
                .ok_or_else(missing)
        })
        .collect::<Result<_>>()?;
    Ok(Counting {
        program: &program,
        fragments,
        of,
        conditions,
        own,
        arguments,
        next: FREE,
    }
    .program(&types))
}

/// The aggregates that a column is computed from.
fn made_of(variable: Variable, above: &Definitions<'_>) -> Vec<Variable> {
    match above.get(variable) {
        None => vec![variable],
        Some(of) => {
            let mut looks = Vec::new();
            of.columns(&mut looks);
            looks
                .into_iter()
                .flat_map(|inner| made_of(inner, above))
                .collect()
        }
    }
}

/// Variables that have no number yet.
const FREE: u32 = 1 << 30;

struct Counting<'a> {
    program: &'a Program,
    fragments: &'a [Fragment],
    of: &'a Pending,
    conditions: Vec<Expression>,
    /// For each guarded column the positions of its conditions.
    own: Vec<Vec<usize>>,
    arguments: Vec<(Variable, AggregateKind)>,
    next: u32,
}

impl Counting<'_> {
    fn fresh(&mut self) -> Variable {
        self.next += 1;
        Variable(self.next)
    }

    /// The program with a map before the group, and the counts in it.
    fn program(mut self, types: &program::Types) -> Program {
        let patterns = 1_usize << self.conditions.len();
        let mut computed: Vec<(Variable, Expression)> = Vec::new();
        let mut flags = Vec::new();
        for pattern in 0..patterns {
            let flag = self.fresh();
            computed.push((flag, atom(&self.conditions, pattern)));
            flags.push(flag);
        }
        let mut made = Vec::new();
        let mut counts: Vec<Vec<Variable>> = Vec::new();
        for (argument, function) in self.arguments.clone() {
            let mut own = Vec::new();
            for flag in &flags {
                let variable = self.fresh();
                own.push(variable);
                let (argument, when) = match function {
                    AggregateKind::Count | AggregateKind::CountDistinct => (argument, Some(*flag)),
                    _ => {
                        let only = self.fresh();
                        computed.push((only, only_there(argument, *flag, types)));
                        (only, None)
                    }
                };
                made.push(program::Aggregate {
                    variable,
                    function,
                    argument: Some(argument),
                    when,
                    data_type: ScalarType::Int64,
                });
            }
            counts.push(own);
        }
        self.rebuilt(computed, made, &counts)
    }

    fn rebuilt(
        &self,
        computed: Vec<(Variable, Expression)>,
        made: Vec<program::Aggregate>,
        counts: &[Vec<Variable>],
    ) -> Program {
        let first = self.fragments.len();
        let mut operators = Vec::new();
        for (at, operator) in self.program.operators.iter().enumerate() {
            let mut operator = operator.clone();
            if at > self.of.group {
                moved(&mut operator, first + self.of.group);
            }
            match &mut operator {
                Relational::Group {
                    input, aggregates, ..
                } if at == self.of.group => {
                    operators.push(Relational::Map {
                        input: *input,
                        computed: computed.clone(),
                    });
                    *input = first + at;
                    aggregates.extend(made.clone());
                }
                Relational::Guard { units, cells, .. } if at == self.of.guard => {
                    for (unit, own) in units.iter_mut().zip(counts) {
                        unit.atoms.clone_from(own);
                    }
                    for (cell, own) in cells.iter_mut().zip(&self.own) {
                        cell.atoms = over(own, self.conditions.len());
                    }
                }
                _ => {}
            }
            operators.push(operator);
        }
        numbered(
            Program {
                operators,
                opened: self.program.opened.clone(),
            },
            self.fragments,
        )
    }
}

/// The atoms in which all of these conditions hold; none where there are no conditions.
fn over(own: &[usize], conditions: usize) -> Vec<u32> {
    if own.is_empty() {
        return Vec::new();
    }
    (0..1_u32 << conditions)
        .filter(|pattern| own.iter().all(|at| pattern >> at & 1 == 1))
        .collect()
}

/// A count in the rows where a flag is set, NULL in others.
fn only_there(count: Variable, flag: Variable, types: &program::Types) -> Expression {
    let data_type = types
        .value(count)
        .map_or(ScalarType::Int64, |of| of.data_type);
    Expression::Case {
        when: vec![(Expression::Column(flag), Expression::Column(count))],
        otherwise: Box::new(Expression::Null(data_type)),
    }
}

/// The relations from this one on are one later.
fn moved(operator: &mut Relational, from: usize) {
    let later = |relation: &mut usize| {
        if *relation >= from {
            *relation += 1;
        }
    };
    match operator {
        Relational::Join { left, right, .. } | Relational::Beside { left, right, .. } => {
            later(left);
            later(right);
        }
        Relational::Filter { input, .. }
        | Relational::Map { input, .. }
        | Relational::Group { input, .. }
        | Relational::Guard { input, .. }
        | Relational::Top { input, .. }
        | Relational::Window { input, .. } => later(input),
        Relational::Union { inputs, .. } => {
            for (input, _) in inputs {
                later(input);
            }
        }
    }
}

/// The program with its variables numbered in order.
fn numbered(program: Program, fragments: &[Fragment]) -> Program {
    let columns: usize = fragments.iter().map(|of| of.columns.len()).sum();
    let mut next = u32::try_from(columns).unwrap_or(u32::MAX);
    let mut numbers: BTreeMap<Variable, Variable> = BTreeMap::new();
    for operator in &program.operators {
        for variable in super::numbers::defined(operator) {
            numbers.insert(variable, Variable(next));
            next += 1;
        }
    }
    let number = |variable: Variable| numbers.get(&variable).copied().unwrap_or(variable);
    Program {
        opened: program.opened.iter().copied().map(number).collect(),
        operators: program
            .operators
            .into_iter()
            .map(|operator| renumbered(operator, &number))
            .collect(),
    }
}

/// Whether a form tells units apart.
pub(super) fn tells_apart(form: &Encoding) -> bool {
    !matches!(form, Encoding::Ring64 | Encoding::Ring128)
}
