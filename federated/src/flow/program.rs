//! The check of a plan whose operators are a [`Program`].
//!
//! Every column of this department is followed from its tables through the fragments, which this
//! department plans for itself, and through the program to the release. A value carries the columns
//! that flow into it row by row, and those that flow in through aggregates, with their functions:
//!
//! | where a value goes | what of this department's columns needs a rule |
//! |---|---|
//! | a condition, CASE, a comparison, a divisor that may be zero | `filter` of what flows in row by row, `having` of what was aggregated |
//! | an equality of a join | `join_key`, and between departments `filter`: the others' conditions are not looked into |
//! | a group that is neither joined nor filtered by | `group_key` |
//! | an aggregate | `aggregate(...)` |
//! | ORDER BY, LIMIT | `sort_key` |
//! | the release | `group_key` for the key of a group, which no join on other columns repeats afterwards, `output` for a row's value, `aggregate(...)` for others |
//!
//! Whether enough privacy units stand behind what is released is for [`standing`](super::standing) to see to.

use super::uses::Asked;
use super::{Examined, Me, computing, floors, needs_sizes, rules, sensitive};
use crate::catalog::Published;
use crate::error::{Code, Denial, Error, Result};
use crate::local::lineage::{ColumnName, Flow, NotAllowed, Through, fragment_steps, released_use};
use crate::plan::program::{
    AggregateKind, Expression, JoinKind, OrderKey, Program, Relational, Variable, WindowCall,
    WindowFunction,
};
use crate::plan::{Fragment, JointPlan, Operator, PartyIndex, ReleasedSource};
use crate::policy::{AggregateFunction, Policy, Use};
use std::collections::{BTreeMap, BTreeSet};

/// Uses while they are collected.
#[derive(Default)]
struct Uses {
    asked: BTreeSet<Asked>,
    grouped: BTreeSet<ColumnName>,
}

impl Uses {
    fn add(&mut self, (table, column): &ColumnName, what: Use) {
        self.asked.insert(Asked {
            table: table.clone(),
            column: column.clone(),
            what,
        });
    }

    fn compared(&mut self, value: &Flow) {
        for name in &value.rows {
            self.add(name, Use::Filter);
        }
        for name in value.aggregated.keys() {
            self.add(name, Use::Having);
        }
    }

    fn joined(&mut self, value: &Flow, joint: bool) {
        for name in &value.rows {
            self.add(name, Use::JoinKey);
            if joint {
                self.add(name, Use::Filter);
            }
        }
        for name in value.aggregated.keys() {
            self.add(name, Use::Having);
        }
    }

    fn sorted(&mut self, value: &Flow) {
        for name in value.rows.iter().chain(value.aggregated.keys()) {
            self.add(name, Use::SortKey);
        }
    }

    fn grouped(&mut self, value: &Flow) {
        self.grouped.extend(value.rows.iter().cloned());
        for name in value.aggregated.keys() {
            self.add(name, Use::Having);
        }
    }

    fn released(&mut self, value: &Flow) {
        for name in &value.rows {
            self.add(
                name,
                if value.key {
                    Use::GroupKey
                } else {
                    Use::Output
                },
            );
        }
        for (name, functions) in &value.aggregated {
            for function in functions {
                self.add(name, Use::Aggregate(function_of(*function)));
            }
        }
    }

    /// Groups by what is neither joined nor filtered by.
    fn finish(mut self) -> BTreeSet<Asked> {
        for name in std::mem::take(&mut self.grouped) {
            let known = |what: Use| {
                self.asked.contains(&Asked {
                    table: name.0.clone(),
                    column: name.1.clone(),
                    what,
                })
            };
            if !known(Use::JoinKey) && !known(Use::Filter) {
                self.add(&name, Use::GroupKey);
            }
        }
        self.asked
    }
}

/// What this department's columns are used for.
struct Followed {
    asked: BTreeSet<Asked>,
    tables: BTreeSet<String>,
    refused: Vec<(usize, NotAllowed)>,
}

fn follow(
    plan: &JointPlan,
    program: &Program,
    index: PartyIndex,
    home: &str,
    catalog: &Published,
) -> Result<Followed> {
    let mut uses = Uses::default();
    let mut values: BTreeMap<Variable, Flow> = BTreeMap::new();
    let mut tables: BTreeSet<String> = BTreeSet::new();
    let mut refused = Vec::new();
    for (position, fragment) in plan.fragments.iter().enumerate() {
        if fragment.owner != index {
            continue;
        }
        match own_fragment(fragment, catalog, &mut uses, &mut tables) {
            Ok(made) => {
                for (column, value) in made.into_iter().enumerate() {
                    let variable = Program::variable_of(&plan.fragments, position, column);
                    values.insert(variable, value);
                }
            }
            Err(not) => refused.push((position, not)),
        }
    }
    if refused.is_empty() {
        let relations = plan.fragments.iter().enumerate();
        Follow {
            values: &mut values,
            uses: &mut uses,
            relations: relations
                .map(|(position, fragment)| {
                    (0..fragment.columns.len())
                        .map(|column| Program::variable_of(&plan.fragments, position, column))
                        .collect()
                })
                .collect(),
        }
        .program(program);
        release(plan, program, home, &values, &mut uses)?;
    }
    Ok(Followed {
        asked: uses.finish(),
        tables,
        refused,
    })
}

/// The least number of units that a department's rules and levels ask for behind what a plan releases of
/// each of its tables: what a planner goes by, who does not know what will be said of purpose and case.
///
/// # Errors
/// As [`super::check`], refusals by policy aside.
pub(crate) fn thresholds(
    plan: &JointPlan,
    index: PartyIndex,
    home: &str,
    catalog: &Published,
    policy: &Policy,
) -> Result<BTreeMap<String, u32>> {
    let Some(Operator::Program(program)) = plan.operators.last() else {
        return Ok(BTreeMap::new());
    };
    let followed = follow(plan, program, index, home, catalog)?;
    let sizes = needs_sizes(plan, index);
    Ok(rules::thresholds(
        &followed.asked,
        &followed.tables,
        home,
        policy,
        sizes,
    ))
}

/// What a department's check would say of a plan's guards, as far as a planner can know; none where it would
/// permit them.
///
/// # Errors
/// As [`super::check`], refusals by policy aside.
pub(crate) fn unguarded(
    plan: &JointPlan,
    index: PartyIndex,
    home: &str,
    catalog: &Published,
    policy: &Policy,
) -> Result<Option<Denial>> {
    let Some(Operator::Program(program)) = plan.operators.last() else {
        return Ok(None);
    };
    let needed = thresholds(plan, index, home, catalog, policy)?;
    let needed = needed.into_iter().map(|(table, k)| {
        let rule = String::new();
        (table, rules::Needed { k, rule })
    });
    let me = Me {
        department: &policy.department,
        catalog: Some(catalog),
        policy: Some(policy),
        engine: &plan.engine,
        home,
        reason: crate::policy::Reason::default(),
    };
    let mut denials = Vec::new();
    super::standing::check(
        plan,
        program,
        index,
        &me,
        catalog,
        &needed.collect(),
        &mut denials,
    )?;
    Ok(denials.into_iter().next())
}

/// Examines a plan that is a program.
pub(super) fn examine(
    plan: &JointPlan,
    program: &Program,
    index: PartyIndex,
    me: &Me<'_>,
    catalog: &Published,
    policy: &Policy,
) -> Result<Examined> {
    let mut denials = Vec::new();
    let Followed {
        asked,
        tables,
        refused,
    } = follow(plan, program, index, me.home, catalog)?;
    denials.extend(
        refused
            .iter()
            .map(|(position, not)| refusal(me, *position, not)),
    );
    if !denials.is_empty() {
        return Ok((Vec::new(), denials));
    }
    let names: BTreeSet<&str> = tables.iter().map(String::as_str).collect();
    let sizes = needs_sizes(plan, index);
    let granted = rules::decide(&asked, &names, me, policy, sizes, &mut denials);
    sensitive(plan, me, policy, &asked, &mut denials);
    if denials.is_empty() {
        super::standing::check(
            plan,
            program,
            index,
            me,
            catalog,
            &granted.tables,
            &mut denials,
        )?;
    }
    denials.extend(floors(plan, index, me, policy));
    denials.extend(computing(plan, me, policy));
    Ok((granted.rules, denials))
}

fn refusal(me: &Me<'_>, position: usize, not: &NotAllowed) -> Denial {
    Denial {
        department: me.department.to_owned(),
        rule: "fragments: own tables, allow-listed functions".to_owned(),
        column: not.column.clone().unwrap_or_default(),
        asked: format!("fragment {position} with {}", not.construct),
        alternative: "what docs/plan-check.md says of fragments".to_owned(),
    }
}

fn function_of(through: Through) -> AggregateFunction {
    match through {
        Through::Count => AggregateFunction::Count,
        Through::Sum => AggregateFunction::Sum,
        Through::Avg => AggregateFunction::Avg,
        Through::Min => AggregateFunction::Min,
        Through::Max => AggregateFunction::Max,
        Through::Median => AggregateFunction::Median,
    }
}

/// What the columns of one of this department's fragments are made of.
fn own_fragment(
    fragment: &Fragment,
    catalog: &Published,
    uses: &mut Uses,
    tables: &mut BTreeSet<String>,
) -> std::result::Result<Vec<Flow>, NotAllowed> {
    let steps = fragment_steps(&fragment.sql, catalog)?;
    let fits =
        steps.outputs.len() == fragment.columns.len()
            && steps.outputs.iter().zip(&fragment.columns).all(
                |((_, data_type, nullable), column)| {
                    *data_type == column.data_type && (column.nullable || !nullable)
                },
            );
    if !fits {
        return Err(NotAllowed::new("other outputs than the plan says"));
    }
    steps.compared.iter().for_each(|flow| uses.compared(flow));
    steps
        .joined
        .iter()
        .for_each(|flow| uses.joined(flow, false));
    steps.grouped.iter().for_each(|flow| uses.grouped(flow));
    steps.sorted.iter().for_each(|flow| uses.sorted(flow));
    tables.extend(steps.tables);
    Ok(steps.outputs.into_iter().map(|(flow, ..)| flow).collect())
}

/// Follows values through the program.
struct Follow<'a> {
    values: &'a mut BTreeMap<Variable, Flow>,
    uses: &'a mut Uses,
    /// The columns of each relation so far, or more.
    relations: Vec<Vec<Variable>>,
}

impl Follow<'_> {
    fn program(&mut self, program: &Program) {
        for operator in &program.operators {
            self.operator(operator);
            let mut columns: Vec<Variable> = Vec::new();
            for input in operator.inputs() {
                columns.extend(self.relations.get(input).into_iter().flatten());
            }
            match operator {
                // A join repeats rows: what was the key of a group stands beside others' rows now. What is
                // joined on stays one: it is what the other side's rows are grouped by, as well.
                Relational::Join {
                    kind: JoinKind::Inner | JoinKind::Left | JoinKind::Full,
                    on,
                    ..
                } => {
                    let joined = |column| on.iter().any(|(a, b)| *a == column || *b == column);
                    for column in columns.iter().filter(|column| !joined(**column)) {
                        if let Some(value) = self.values.get_mut(column) {
                            value.key = false;
                        }
                    }
                }
                Relational::Map { computed, .. } => columns.extend(computed.iter().map(|of| of.0)),
                Relational::Group { aggregates, .. } => {
                    columns.extend(aggregates.iter().map(|of| of.variable));
                }
                Relational::Window { calls, .. } => {
                    columns.extend(calls.iter().map(|call| call.variable));
                    columns.extend(calls.iter().filter_map(|call| call.there));
                }
                Relational::Union { columns: made, .. } => columns.extend(made),
                _ => {}
            }
            self.relations.push(columns);
        }
    }

    fn of(&self, variable: Variable) -> Flow {
        self.values.get(&variable).cloned().unwrap_or_default()
    }

    fn operator(&mut self, operator: &Relational) {
        match operator {
            Relational::Join { kind, on, .. } => {
                for (a, b) in on {
                    let (left, right) = (self.of(*a), self.of(*b));
                    self.uses.joined(&left, true);
                    self.uses.joined(&right, true);
                    // Equal columns are one from here on.
                    if *kind == JoinKind::Inner {
                        let one = left.same(&right);
                        self.values.insert(*a, one.clone());
                        self.values.insert(*b, one);
                    }
                }
            }
            Relational::Beside { .. } | Relational::Guard { .. } => {}
            Relational::Filter { condition, .. } => {
                let value = self.expression(condition);
                self.uses.compared(&value);
            }
            Relational::Map { computed, .. } => {
                for (variable, expression) in computed {
                    let value = self.expression(expression);
                    self.values.insert(*variable, value);
                }
            }
            Relational::Group {
                keys, aggregates, ..
            } => {
                for key in keys {
                    let mut value = self.of(*key);
                    value.key = true;
                    self.uses.grouped(&value);
                    self.values.insert(*key, value);
                }
                for aggregate in aggregates {
                    let argument = aggregate.argument.map(|variable| self.of(variable));
                    let argument = argument.unwrap_or_default();
                    let function = match aggregate.function {
                        AggregateKind::Count | AggregateKind::CountDistinct => Through::Count,
                        AggregateKind::Sum => Through::Sum,
                        AggregateKind::Min => Through::Min,
                        AggregateKind::Max => Through::Max,
                        AggregateKind::Median | AggregateKind::Percentile { .. } => Through::Median,
                        AggregateKind::Any => {
                            let value = Flow {
                                key: true,
                                ..argument
                            };
                            self.uses.grouped(&value);
                            self.values.insert(aggregate.variable, value);
                            continue;
                        }
                    };
                    self.values
                        .insert(aggregate.variable, argument.through(function));
                }
            }
            Relational::Top { keys, .. } => {
                for key in keys {
                    let value = self.of(key.variable);
                    self.uses.sorted(&value);
                }
            }
            Relational::Window {
                partition,
                order,
                calls,
                ..
            } => self.window(partition, order, calls),
            Relational::Union { inputs, columns } => {
                for (at, variable) in columns.iter().enumerate() {
                    let mut made = Flow {
                        key: true,
                        ..Flow::default()
                    };
                    for (_, of) in inputs {
                        if let Some(Some(from)) = of.get(at) {
                            let value = self.of(*from);
                            made.key &= value.key || value.rows.is_empty();
                            made.add(&value);
                        }
                    }
                    self.values.insert(*variable, made);
                }
            }
        }
    }

    /// What depends on the order carries what the order looks at, row by row: a rank tells how a row
    /// compares with others.
    fn window(&mut self, partition: &[Variable], order: &[OrderKey], calls: &[WindowCall]) {
        use WindowFunction as F;
        for key in partition {
            let value = self.of(*key);
            self.uses.grouped(&value);
        }
        let mut by = Flow::default();
        for key in order {
            let value = self.of(key.variable);
            self.uses.sorted(&value);
            by.add(&value);
        }
        for call in calls {
            let argument = call.argument.map(|variable| self.of(variable));
            let argument = argument.unwrap_or_default();
            let mut value = match call.function {
                F::RowNumber | F::Rank | F::DenseRank | F::Lag { .. } | F::Lead { .. } => Flow {
                    key: false,
                    ..argument
                },
                F::Count(_) => argument.through(Through::Count),
                F::Sum(_) => argument.through(Through::Sum),
                F::Min(_) => argument.through(Through::Min),
                F::Max(_) => argument.through(Through::Max),
            };
            if call.function.is_ordered() {
                value.add(&by);
            }
            self.values.insert(call.variable, value);
            if let Some(there) = call.there {
                self.values.insert(there, by.clone());
            }
        }
    }

    fn expression(&mut self, expression: &Expression) -> Flow {
        match expression {
            Expression::Column(variable) => self.of(*variable),
            Expression::Number { .. } | Expression::Text { .. } | Expression::Null(_) => {
                Flow::default()
            }
            Expression::Rescale { input, .. } | Expression::Bits { input, .. } => {
                self.expression(input)
            }
            // That a divisor is zero is told.
            Expression::Quotient {
                left,
                right,
                checked: true,
                ..
            } => {
                let mut value = self.expression(left);
                let divisor = self.expression(right);
                self.uses.compared(&divisor);
                value.key = false;
                value.add(&divisor);
                value
            }
            Expression::Arithmetic { left, right, .. }
            | Expression::Quotient { left, right, .. } => {
                let mut value = self.expression(left);
                value.key = false;
                value.add(&self.expression(right));
                value
            }
            Expression::Not(inner) | Expression::IsNull(inner) => {
                let value = self.expression(inner);
                self.decided(value)
            }
            Expression::All(parts) | Expression::Any(parts) => {
                let mut value = Flow::default();
                for part in parts {
                    value.add(&self.expression(part));
                }
                self.decided(value)
            }
            Expression::Compare { left, right, .. } => {
                let mut value = self.expression(left);
                value.add(&self.expression(right));
                self.decided(value)
            }
            Expression::Case { when, otherwise } => {
                let mut value = self.expression(otherwise);
                for (condition, result) in when {
                    let condition = self.expression(condition);
                    self.uses.compared(&condition);
                    value.add(&condition);
                    value.add(&self.expression(result));
                }
                value.key = false;
                value
            }
        }
    }

    fn decided(&mut self, mut value: Flow) -> Flow {
        self.uses.compared(&value);
        value.key = false;
        value
    }
}

/// What is opened, and what is done with it afterwards.
fn release(
    plan: &JointPlan,
    program: &Program,
    home: &str,
    values: &BTreeMap<Variable, Flow>,
    uses: &mut Uses,
) -> Result<()> {
    let blame = |what: String| Error::new(Code::PeerMisbehaved, what).at(home);
    let of = |position: usize| -> Result<Flow> {
        let source = plan.release.columns.get(position).map(|of| of.source);
        let Some(ReleasedSource::Opened(opened)) = source else {
            return Err(blame(
                "the release names a column that is not opened".to_owned(),
            ));
        };
        let variable = program.opened.get(opened).copied();
        let value = variable.and_then(|variable| values.get(&variable).cloned());
        Ok(value.unwrap_or_default())
    };
    // Everything that is opened is seen, whether or not it is shown.
    for variable in &program.opened {
        if let Some(value) = values.get(variable) {
            uses.released(value);
        }
    }
    let used = released_use(&plan.release.sql)
        .map_err(|not| blame(format!("the release has {}", not.construct)))?;
    for position in &used.shown {
        of(*position)?;
    }
    for position in &used.conditions {
        uses.compared(&of(*position)?);
    }
    for position in &used.order {
        uses.sorted(&of(*position)?);
    }
    Ok(())
}
