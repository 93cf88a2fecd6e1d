//! Joint operators: a tree that takes in every fragment once and ends in the only aggregate.

use super::{column, ensure, refusal};
use crate::error::Result;
use crate::plan::program::{Program, Relational, Variable};
use crate::plan::{
    Cell, ColumnRef, Encoding, FragmentIndex, JointPlan, Operator, PartyIndex, Predicate, Relation,
    UnitCount,
};
use crate::schema::ScalarType;
use std::collections::BTreeSet;

const MAX_PREDICATE_DEPTH: usize = 24;
const MAX_PREDICATE_NODES: usize = 512;
const MAX_CELLS: usize = 1024;
const MAX_UNITS: usize = 1024;

/// What is known about a relation from the operators alone, taking fragments' claims of unique
/// keys as true.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RelationFacts {
    /// Fragments whose columns it has.
    pub(crate) fragments: BTreeSet<FragmentIndex>,
    /// Fragments of which every row appears at most once.
    pub(crate) at_most_once: BTreeSet<FragmentIndex>,
    /// Key classes with at most one row for each key.
    pub(crate) unique_on: BTreeSet<u32>,
}

/// The columns of a key class in a fragment, adjacent; empty where it has none.
pub(crate) fn key_class(plan: &JointPlan, fragment: FragmentIndex, class: u32) -> Vec<usize> {
    let columns = plan
        .fragments
        .get(fragment)
        .map_or(&[][..], |of| of.columns.as_slice());
    columns
        .iter()
        .enumerate()
        .filter(|(_, of)| matches!(of.encoding, Encoding::KeyTag { class: c, .. } if c == class))
        .map(|(position, _)| position)
        .collect()
}

/// The key classes of a fragment.
fn classes(plan: &JointPlan, fragment: FragmentIndex) -> BTreeSet<u32> {
    plan.fragments
        .get(fragment)
        .map_or(&[][..], |of| of.columns.as_slice())
        .iter()
        .filter_map(|of| match of.encoding {
            Encoding::KeyTag { class, .. } => Some(class),
            _ => None,
        })
        .collect()
}

/// The class of the key tag at `at`, when `at` is the first column of its key.
fn class_at(plan: &JointPlan, at: ColumnRef) -> Result<u32> {
    match column(plan, at)?.encoding {
        Encoding::KeyTag { class, .. }
            if key_class(plan, at.fragment, class).first() == Some(&at.column) =>
        {
            Ok(class)
        }
        _ => Err(refusal("a join names a column that does not begin a key")),
    }
}

/// Facts about every relation, in order.
///
/// # Errors
/// `PeerMisbehaved` for anything but a tree over all fragments.
pub(crate) fn relation_facts(plan: &JointPlan) -> Result<Vec<RelationFacts>> {
    let mut facts: Vec<RelationFacts> = Vec::with_capacity(plan.operators.len());
    let mut consumed = vec![false; plan.operators.len()];
    let mut entered = vec![false; plan.fragments.len()];
    for (index, operator) in plan.operators.iter().enumerate() {
        let mut take = |relation: Relation| {
            let fresh = relation < index && !consumed[relation];
            ensure(fresh, || {
                format!("operator {index} takes a relation that is not there for it")
            })?;
            consumed[relation] = true;
            Ok(relation)
        };
        let mut enter = |fragment: FragmentIndex| {
            let fresh = entered.get(fragment) == Some(&false);
            ensure(fresh, || {
                format!("operator {index} takes a fragment that is not there for it")
            })?;
            entered[fragment] = true;
            Ok(fragment)
        };
        let made = match operator {
            Operator::Input { fragment } => {
                let fragment = enter(*fragment)?;
                let classes = classes(plan, fragment);
                RelationFacts {
                    fragments: BTreeSet::from([fragment]),
                    at_most_once: BTreeSet::from([fragment]),
                    // With keys of several classes the claim does not say which one is unique.
                    unique_on: if plan.fragments[fragment].unique_key && classes.len() == 1 {
                        classes
                    } else {
                        BTreeSet::new()
                    },
                }
            }
            Operator::Align {
                fragments, class, ..
            } => {
                for fragment in fragments {
                    enter(*fragment)?;
                }
                let all: BTreeSet<_> = fragments.iter().copied().collect();
                RelationFacts {
                    fragments: all.clone(),
                    at_most_once: all,
                    unique_on: BTreeSet::from([*class]),
                }
            }
            Operator::Join {
                left,
                right,
                left_key,
                right_key,
            } => {
                let (left, right) = (&facts[take(*left)?], &facts[take(*right)?]);
                join_facts(plan, left, right, *left_key, *right_key)?
            }
            Operator::Program(_) => return Err(refusal("a program that is not the whole plan")),
            Operator::Filter { input, .. } | Operator::Aggregate { input, .. } => {
                facts[take(*input)?].clone()
            }
        };
        facts.push(made);
    }
    ensure(entered.iter().all(|entered| *entered), || {
        "a fragment is not taken in by any operator".to_owned()
    })?;
    let last = plan.operators.len().saturating_sub(1);
    ensure(consumed.iter().take(last).all(|taken| *taken), || {
        "the result of an operator is not used".to_owned()
    })?;
    Ok(facts)
}

fn join_facts(
    plan: &JointPlan,
    left: &RelationFacts,
    right: &RelationFacts,
    left_key: ColumnRef,
    right_key: ColumnRef,
) -> Result<RelationFacts> {
    ensure(
        left.fragments.contains(&left_key.fragment)
            && right.fragments.contains(&right_key.fragment),
        || "a join's key is not on its side".to_owned(),
    )?;
    let class = class_at(plan, left_key)?;
    ensure(class == class_at(plan, right_key)?, || {
        "a join compares keys of different classes".to_owned()
    })?;
    ensure(right.unique_on.contains(&class), || {
        "the right side of a join is not unique per key".to_owned()
    })?;
    let mut made = left.clone();
    made.fragments.extend(&right.fragments);
    if left.unique_on.contains(&class) {
        made.at_most_once.extend(&right.at_most_once);
        made.unique_on.extend(&right.unique_on);
    }
    Ok(made)
}

/// Checks every operator.
pub(super) fn check(plan: &JointPlan) -> Result<()> {
    ensure(!plan.fragments.is_empty(), || {
        "there is no fragment".to_owned()
    })?;
    if let Some(Operator::Program(program)) = plan.operators.last() {
        return check_program(plan, program);
    }
    let facts = relation_facts(plan)?;
    for (index, operator) in plan.operators.iter().enumerate() {
        let last = index + 1 == plan.operators.len();
        ensure(
            last == matches!(operator, Operator::Aggregate { .. }),
            || "exactly one aggregate has to be the last operator".to_owned(),
        )?;
        match operator {
            Operator::Input { .. } | Operator::Join { .. } | Operator::Program(_) => {}
            Operator::Align {
                fragments,
                class,
                neutral,
                mask_holders,
            } => align(plan, fragments, *class, *neutral, mask_holders)?,
            Operator::Filter { predicate, .. } => {
                let mut nodes = 0;
                check_predicate(plan, &facts[index], predicate, 0, &mut nodes)?;
            }
            Operator::Aggregate {
                keys, cells, units, ..
            } => aggregate(plan, &facts[index], keys, cells, units)?,
        }
    }
    ensure(!plan.operators.is_empty(), || {
        "there is no operator".to_owned()
    })
}

/// A program takes in every fragment, in order, and is alone.
fn check_program(plan: &JointPlan, program: &Program) -> Result<()> {
    let inputs = plan
        .operators
        .split_last()
        .map_or(&[][..], |(_, rest)| rest);
    let in_order = inputs
        .iter()
        .enumerate()
        .all(|(at, operator)| matches!(operator, Operator::Input { fragment } if *fragment == at));
    ensure(in_order && inputs.len() == plan.fragments.len(), || {
        "a program that does not take in every fragment in order".to_owned()
    })?;
    for operator in &program.operators {
        if let Relational::Guard { units, .. } = operator {
            let named = units.iter().all(|unit| unit.owner < plan.parties.len());
            ensure(named, || "a guard by the units of no party".to_owned())?;
        }
    }
    program.check(&plan.fragments).map(drop)
}

fn align(
    plan: &JointPlan,
    fragments: &[FragmentIndex],
    class: u32,
    neutral: PartyIndex,
    mask_holders: &[PartyIndex],
) -> Result<()> {
    let owners: BTreeSet<PartyIndex> = fragments
        .iter()
        .map(|of| plan.fragments[*of].owner)
        .collect();
    ensure(
        fragments.len() >= 2 && owners.len() == fragments.len(),
        || "an aligned join needs two or more fragments, each of another owner".to_owned(),
    )?;
    for fragment in fragments {
        ensure(
            plan.fragments[*fragment].unique_key && !key_class(plan, *fragment, class).is_empty(),
            || format!("fragment {fragment} is aligned without a unique key of class {class}"),
        )?;
    }
    let party = plan
        .parties
        .get(neutral)
        .ok_or_else(|| refusal("the neutral party does not exist"))?;
    ensure(
        party.computing.is_some()
            && !party.result
            && plan.fragments.iter().all(|of| of.owner != neutral),
        || {
            format!(
                "{} is not neutral: it must compute, own nothing, and not receive the result",
                party.department
            )
        },
    )?;
    let computing = plan.computing_parties().unwrap_or_default();
    ensure(
        computing
            .iter()
            .all(|seat| *seat == neutral || owners.contains(seat)),
        || "an aligned join needs the neutral party and two owners to compute".to_owned(),
    )?;
    ensure(mask_holders.len() == fragments.len(), || {
        "an aligned join needs a mask holder for each fragment".to_owned()
    })?;
    for (fragment, holder) in fragments.iter().zip(mask_holders) {
        ensure(
            computing.contains(holder)
                && *holder != neutral
                && *holder != plan.fragments[*fragment].owner,
            || {
                format!(
                    "the masks of fragment {fragment} must be held by a computing party that is \
                     neither its owner nor neutral"
                )
            },
        )?;
    }
    Ok(())
}

fn check_predicate(
    plan: &JointPlan,
    facts: &RelationFacts,
    predicate: &Predicate,
    depth: usize,
    nodes: &mut usize,
) -> Result<()> {
    *nodes += 1;
    ensure(
        depth <= MAX_PREDICATE_DEPTH && *nodes <= MAX_PREDICATE_NODES,
        || "a predicate is too large".to_owned(),
    )?;
    match predicate {
        Predicate::Compare {
            comparator,
            left,
            right,
        } => {
            let (left, right) = (shared(plan, facts, *left)?, shared(plan, facts, *right)?);
            let ordered = match &left.encoding {
                Encoding::Bits(_) | Encoding::Text { .. } => true,
                Encoding::Codes(_) => false,
                _ => return Err(refusal("a comparison over a column that is not in bits")),
            };
            use crate::plan::Comparator::{Equal, NotEqual};
            ensure(
                left.encoding == right.encoding
                    && comparable(left.data_type, right.data_type)
                    && (ordered || matches!(comparator, Equal | NotEqual)),
                || "a comparison of columns whose encodings do not go together".to_owned(),
            )
        }
        Predicate::Flag(at) => {
            let of = shared(plan, facts, *at)?;
            ensure(
                of.data_type == ScalarType::Bool && of.encoding == Encoding::Bits(1),
                || "a flag that is not a Bool".to_owned(),
            )
        }
        Predicate::All(items) | Predicate::Any(items) => {
            ensure(!items.is_empty(), || {
                "an empty conjunction or disjunction".to_owned()
            })?;
            items
                .iter()
                .try_for_each(|item| check_predicate(plan, facts, item, depth + 1, nodes))
        }
    }
}

/// Whether two columns of one encoding carry numbers on one scale.
fn comparable(left: ScalarType, right: ScalarType) -> bool {
    match (left, right) {
        (ScalarType::Decimal { scale: a, .. }, ScalarType::Decimal { scale: b, .. }) => a == b,
        _ => left == right,
    }
}

/// A column that a relation has.
fn shared<'a>(
    plan: &'a JointPlan,
    facts: &RelationFacts,
    at: ColumnRef,
) -> Result<&'a crate::plan::FragmentColumn> {
    ensure(facts.fragments.contains(&at.fragment), || {
        "a column is named that its relation does not have".to_owned()
    })?;
    column(plan, at)
}

fn aggregate(
    plan: &JointPlan,
    facts: &RelationFacts,
    keys: &[ColumnRef],
    cells: &[Cell],
    units: &[UnitCount],
) -> Result<()> {
    ensure(cells.len() <= MAX_CELLS && units.len() <= MAX_UNITS, || {
        "too many cells or unit counts".to_owned()
    })?;
    let distinct: BTreeSet<_> = keys.iter().collect();
    ensure(distinct.len() == keys.len(), || {
        "a group key is named twice".to_owned()
    })?;
    for key in keys {
        ensure(
            matches!(
                shared(plan, facts, *key)?.encoding,
                Encoding::Bits(_) | Encoding::Codes(_) | Encoding::Text { .. }
            ),
            || "a group key that is not in bits".to_owned(),
        )?;
    }
    for cell in cells {
        check_cell(plan, facts, cell, units.len())?;
    }
    for (index, unit) in units.iter().enumerate() {
        check_units(plan, facts, unit)?;
        let guards = cells.iter().any(|cell| cell.guards.contains(&index))
            || plan.release.group_guards.contains(&index);
        ensure(guards, || format!("unit count {index} guards nothing"))?;
        let known = unit
            .argument
            .is_none_or(|at| cells.iter().any(|cell| cell.argument == Some(at)));
        ensure(known, || {
            format!("unit count {index} is over an argument that no cell has")
        })?;
    }
    Ok(())
}

fn check_cell(plan: &JointPlan, facts: &RelationFacts, cell: &Cell, units: usize) -> Result<()> {
    let mut weighted = BTreeSet::new();
    for weight in &cell.weights {
        let of = shared(plan, facts, *weight)?;
        ensure(
            of.encoding == Encoding::Ring64 && of.data_type == ScalarType::Int64 && !of.nullable,
            || "a weight that is not a count".to_owned(),
        )?;
        ensure(weighted.insert(weight.fragment), || {
            "a cell with two weights of one fragment".to_owned()
        })?;
    }
    if let Some(sum) = cell.sum {
        let of = shared(plan, facts, sum)?;
        ensure(
            matches!(of.encoding, Encoding::Ring64 | Encoding::Ring128),
            || "a sum over a column that is not in a ring".to_owned(),
        )?;
        ensure(!of.nullable || cell.argument.is_some(), || {
            "a sum over a nullable column without its argument".to_owned()
        })?;
    }
    if let Some(argument) = cell.argument {
        let of = shared(plan, facts, argument)?;
        ensure(
            !matches!(
                of.encoding,
                Encoding::KeyTag { .. } | Encoding::UnitTag { .. }
            ) || cell.sum.is_none(),
            || "a sum whose argument is a tag".to_owned(),
        )?;
    }
    let guards: BTreeSet<_> = cell.guards.iter().collect();
    ensure(
        guards.len() == cell.guards.len() && cell.guards.iter().all(|guard| *guard < units),
        || "a cell is guarded by a unit count that does not exist, or twice".to_owned(),
    )
}

fn check_units(plan: &JointPlan, facts: &RelationFacts, units: &UnitCount) -> Result<()> {
    ensure(units.k >= 1, || "a threshold of 0".to_owned())?;
    ensure(
        plan.fragments.iter().any(|of| of.owner == units.owner),
        || "a unit count of a party without data".to_owned(),
    )?;
    if let Some(unit) = units.unit {
        let of = shared(plan, facts, unit)?;
        ensure(plan.fragments[unit.fragment].owner == units.owner, || {
            "a unit count over a column of another owner".to_owned()
        })?;
        // A composite key is finer than the unit: it would count one unit several times.
        let single = match of.encoding {
            Encoding::UnitTag { .. } => true,
            Encoding::KeyTag { class, .. } => key_class(plan, unit.fragment, class).len() == 1,
            _ => false,
        };
        ensure(single, || {
            "a unit count over a column that is not one tag".to_owned()
        })?;
    }
    if let Some(argument) = units.argument {
        shared(plan, facts, argument)?;
    }
    Ok(())
}

/// Columns that operators use, and keys (fragment, class) that joins use.
pub(super) fn used(plan: &JointPlan) -> (BTreeSet<ColumnRef>, BTreeSet<(FragmentIndex, u32)>) {
    let mut columns = BTreeSet::new();
    let mut keys = BTreeSet::new();
    for operator in &plan.operators {
        match operator {
            Operator::Input { .. } => {}
            Operator::Program(program) => program_uses(plan, program, &mut columns, &mut keys),
            Operator::Align {
                fragments, class, ..
            } => keys.extend(fragments.iter().map(|of| (*of, *class))),
            Operator::Join {
                left_key,
                right_key,
                ..
            } => {
                for key in [left_key, right_key] {
                    if let Ok(class) = class_at(plan, *key) {
                        keys.insert((key.fragment, class));
                    }
                }
            }
            Operator::Filter { predicate, .. } => predicate_columns(predicate, &mut columns),
            Operator::Aggregate {
                keys: group,
                cells,
                units,
                ..
            } => {
                columns.extend(group);
                for cell in cells {
                    columns.extend(cell.sum);
                    columns.extend(&cell.weights);
                    columns.extend(cell.argument);
                }
                columns.extend(units.iter().filter_map(|of| of.unit));
            }
        }
    }
    (columns, keys)
}

/// The columns of fragments that a program looks at, or opens.
fn program_uses(
    plan: &JointPlan,
    program: &Program,
    columns: &mut BTreeSet<ColumnRef>,
    keys: &mut BTreeSet<(FragmentIndex, u32)>,
) {
    let mut looked: BTreeSet<Variable> = program.opened.iter().copied().collect();
    for operator in &program.operators {
        looked.extend(operator.looks_at());
    }
    for (fragment, of) in plan.fragments.iter().enumerate() {
        for (column, what) in of.columns.iter().enumerate() {
            // One column stands for the rows, where nothing else of them matters.
            let alone = of.columns.len() == 1;
            let variable = Program::variable_of(&plan.fragments, fragment, column);
            if !looked.contains(&variable) && !alone {
                continue;
            }
            columns.insert(ColumnRef { fragment, column });
            if let Encoding::KeyTag { class, .. } = what.encoding {
                keys.insert((fragment, class));
            }
        }
    }
}

/// Every column that a predicate looks at.
pub(crate) fn predicate_columns(predicate: &Predicate, into: &mut BTreeSet<ColumnRef>) {
    match predicate {
        Predicate::Compare { left, right, .. } => into.extend([left, right]),
        Predicate::Flag(column) => {
            into.insert(*column);
        }
        Predicate::All(items) | Predicate::Any(items) => {
            for item in items {
                predicate_columns(item, into);
            }
        }
    }
}
