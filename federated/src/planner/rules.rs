//! Which rules of which owner a query uses: thresholds, leakage, computing parties.
//!
//! This is the planner's guess, so that its plan passes; the owners decide with their own rules.

use super::Federation;
use super::block::{Block, Function};
use super::columns::{self, Above};
use crate::error::{Denial, Error, Result};
use crate::plan::PartyIndex;
use crate::policy::{AggregateFunction, Leakage, Level, Policy, Rule, Use};
use crate::schema::Department;
use datafusion::logical_expr::Expr;
use std::collections::BTreeSet;

/// One use of one column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ColumnUse {
    pub(super) relation: usize,
    pub(super) column: usize,
    pub(super) asked: Use,
}

/// What the rules of one owner ask of a plan.
#[derive(Debug, Clone)]
pub(super) struct Demands {
    /// The least number of units.
    pub(super) k: u32,
    /// The rule that forbids leakage `sizes`, if one does.
    pub(super) forbids_sizes: Option<String>,
    /// Whether a column of level L3 or above is used: the result party must not compute.
    pub(super) sensitive: bool,
}

/// Every use that a query makes of base columns. `filters` and `keys` are those of its final form.
pub(super) fn uses(
    block: &Block,
    keys: &[columns::ColumnId],
    filters: &[&Expr],
) -> BTreeSet<ColumnUse> {
    let mut uses = BTreeSet::new();
    let mut add = |id: columns::ColumnId, asked: Use| {
        uses.insert(ColumnUse {
            relation: id.relation,
            column: id.column,
            asked,
        });
    };
    for id in keys {
        add(*id, Use::JoinKey);
    }
    for id in filters.iter().flat_map(|expr| columns::base_columns(expr)) {
        add(id, Use::Filter);
    }
    for id in &block.groups {
        add(*id, Use::GroupKey);
    }
    let arguments = |cell: usize| {
        block
            .calls
            .get(cell)
            .and_then(|call| call.argument.as_ref())
            .map(columns::base_columns)
            .unwrap_or_default()
    };
    for (cell, call) in block.calls.iter().enumerate() {
        // An average is released as its sum and count.
        let functions: &[AggregateFunction] = match call.function {
            Function::CountRows => &[],
            Function::Count => &[AggregateFunction::Count],
            Function::Sum => &[AggregateFunction::Sum],
            Function::Avg => &[
                AggregateFunction::Avg,
                AggregateFunction::Sum,
                AggregateFunction::Count,
            ],
        };
        for id in arguments(cell) {
            for function in functions {
                add(id, Use::Aggregate(*function));
            }
        }
    }
    let conditions = block.having.iter().map(|expr| (expr, Use::Having));
    let orders = block.sort.iter().map(|item| (&item.expr, Use::SortKey));
    for (expr, asked) in conditions.chain(orders) {
        for item in columns::above_columns(expr) {
            match item {
                Above::Cell(cell) => {
                    for id in arguments(cell) {
                        add(id, asked.clone());
                    }
                }
                Above::Group(_) => {}
            }
        }
    }
    uses
}

/// The rules that permit a use to analysts of `home`. A column with a rule of its own for a use does
/// not take the table's, as the owner's own check has it.
pub(super) fn matching<'a>(
    policy: &'a Policy,
    table: &str,
    column: &str,
    asked: &Use,
    home: &str,
) -> Vec<&'a Rule> {
    let of = |name: &str| -> Vec<&'a Rule> {
        policy
            .rules
            .iter()
            .filter(|rule| rule.table == table && rule.column == name && rule.permits == *asked)
            .collect()
    };
    let own = of(column);
    let mut rules = if own.is_empty() { of("*") } else { own };
    rules.retain(|rule| rule.receives(home));
    rules
}

/// What the rules of one department ask, over all its tables in the query.
pub(super) fn demands(
    federation: &Federation,
    block: &Block,
    uses: &BTreeSet<ColumnUse>,
    department: &str,
    home: &str,
) -> Demands {
    let mut demands = Demands {
        k: 1,
        forbids_sizes: None,
        sensitive: false,
    };
    let Some(policy) = federation
        .member(department)
        .and_then(|member| member.policy.as_ref())
    else {
        return demands;
    };
    // COUNT(*) of a whole table uses no column, and is held to every rule of the table.
    for (index, relation) in block.relations.iter().enumerate() {
        let used = uses.iter().any(|asked| asked.relation == index);
        if relation.department != department || used {
            continue;
        }
        for rule in policy
            .rules
            .iter()
            .filter(|rule| rule.table == relation.table.name)
        {
            demands.k = demands.k.max(rule.k);
            if rule.leakage == Leakage::None {
                demands.forbids_sizes.get_or_insert(rule.name.clone());
            }
        }
    }
    for asked in uses {
        let Some(relation) = block.relations.get(asked.relation) else {
            continue;
        };
        let Some(column) = relation.table.columns.get(asked.column) else {
            continue;
        };
        if relation.department != department {
            continue;
        }
        let table = &relation.table.name;
        for rule in matching(policy, table, &column.name, &asked.asked, home) {
            demands.k = demands.k.max(rule.k);
            if rule.leakage == Leakage::None {
                demands.forbids_sizes.get_or_insert(rule.name.clone());
            }
        }
        let level = policy.level(table, &column.name);
        demands.k = demands.k.max(level.k_floor());
        demands.sensitive |= level >= Level::L3;
        if level.leakage_ceiling() == Leakage::None {
            demands.forbids_sizes.get_or_insert(format!(
                "{department}.{table}.{}: level {}",
                column.name,
                level.name()
            ));
        }
    }
    demands
}

/// Three computing parties, the neutral one (if any) last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Computing {
    pub(super) departments: [Department; 3],
    /// Whether the last has no data in the plan and is not the result party.
    pub(super) neutral: bool,
}

/// The sets that every owner accepts, the most suitable first.
///
/// # Errors
/// A denial by the first owner that accepts none of what the others accept.
pub(super) fn computing_sets(
    federation: &Federation,
    owners: &[Department],
    home: &str,
    sensitive: bool,
) -> Result<Vec<Computing>> {
    let accepted = |department: &Department| -> Vec<BTreeSet<Department>> {
        federation
            .member(department)
            .and_then(|member| member.policy.as_ref())
            .map(|policy| {
                policy
                    .computing
                    .iter()
                    .map(|set| set.iter().cloned().collect::<BTreeSet<_>>())
                    .filter(|set| {
                        set.len() == 3 && set.iter().all(|name| federation.member(name).is_some())
                    })
                    .collect()
            })
            .unwrap_or_default()
    };
    let mut common: Option<Vec<BTreeSet<Department>>> = None;
    for owner in owners {
        let own = accepted(owner);
        let next: Vec<_> = match common {
            None => own.clone(),
            Some(sets) => sets.into_iter().filter(|set| own.contains(set)).collect(),
        };
        if next.is_empty() {
            return Err(no_computing_set(owner, &own));
        }
        common = Some(next);
    }
    let mut ranked: Vec<(usize, Computing)> = common
        .unwrap_or_default()
        .into_iter()
        .map(|set| rank(set, owners, home, sensitive))
        .collect();
    ranked.sort_by(|a, b| (a.0, &a.1.departments).cmp(&(b.0, &b.1.departments)));
    ranked.dedup();
    Ok(ranked.into_iter().map(|(_, set)| set).collect())
}

fn rank(
    set: BTreeSet<Department>,
    owners: &[Department],
    home: &str,
    sensitive: bool,
) -> (usize, Computing) {
    let has_home = set.contains(home);
    let (mut inside, outside): (Vec<_>, Vec<_>) =
        set.into_iter().partition(|name| owners.contains(name));
    let neutral = outside.len() == 1 && outside.first().is_some_and(|name| name != home);
    let mut score = match (inside.len(), neutral) {
        (2, true) => 0,
        (3, _) => 1,
        (2, false) => 2,
        (1, _) => 3,
        _ => 4,
    };
    if sensitive && has_home {
        score += 10;
    }
    inside.extend(outside);
    let departments: [Department; 3] = std::array::from_fn(|i| {
        // A set of three has three members.
        inside.get(i).cloned().unwrap_or_default()
    });
    (
        score,
        Computing {
            departments,
            neutral,
        },
    )
}

fn no_computing_set(owner: &Department, own: &[BTreeSet<Department>]) -> Error {
    let sets: Vec<String> = own
        .iter()
        .map(|set| set.iter().cloned().collect::<Vec<_>>().join(" + "))
        .collect();
    Error::denied(Denial {
        department: owner.clone(),
        rule: format!("{owner}: computing"),
        column: String::new(),
        asked: "three computing parties that every owner of this query accepts".to_owned(),
        alternative: if sets.is_empty() {
            "nothing: it accepts no computing set of this federation".to_owned()
        } else {
            format!("computing by {}", sets.join(", or by "))
        },
    })
}

/// The index of a department among ascending parties.
pub(super) fn party(parties: &[Department], department: &str) -> Option<PartyIndex> {
    parties.iter().position(|name| name == department)
}
