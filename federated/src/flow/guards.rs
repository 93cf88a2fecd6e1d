//! Whether this department's thresholds stand before everything that is released.

use super::Me;
use super::fragments::one_row_per;
use crate::catalog::{Published, Unit};
use crate::error::{Denial, Result};
use crate::local::lineage::{Derivation, FragmentLineage};
use crate::plan::validate::relation_facts;
use crate::plan::{ColumnRef, JointPlan, Operator, PartyIndex, UnitCount};
use std::collections::BTreeSet;

/// What the rules ask of the guards.
pub(super) struct Needed<'a> {
    /// The least number of units.
    pub(super) k: u32,
    /// The rule that asks for it.
    pub(super) rule: &'a str,
}

/// Checks the guards of every fragment of this department whose table has a privacy unit.
pub(super) fn check(
    plan: &JointPlan,
    index: PartyIndex,
    me: &Me<'_>,
    catalog: &Published,
    lineages: &[FragmentLineage],
    needed: &Needed<'_>,
    denials: &mut Vec<Denial>,
) -> Result<()> {
    let Some(Operator::Aggregate { cells, units, .. }) = plan.operators.get(plan.release.input)
    else {
        return Ok(());
    };
    let facts = relation_facts(plan)?;
    let at_most_once = &facts[plan.release.input].at_most_once;
    for (position, fragment) in plan.fragments.iter().enumerate() {
        if fragment.owner != index {
            continue;
        }
        let lineage = &lineages[position];
        let Some(table) = catalog.table(&lineage.table) else {
            continue;
        };
        if table.unit == Unit::None {
            continue;
        }
        let provable = at_most_once.contains(&position) && one_unit_a_row(catalog, lineage);
        let counts = |unit: &UnitCount| {
            unit.owner == index
                && match unit.unit {
                    None => provable,
                    Some(at) => at.fragment == position && is_unit(&table.unit, lineage, at),
                }
        };
        let guarded = |guards: &[usize], argument: Option<ColumnRef>| -> Guarded {
            let over: Vec<&UnitCount> = guards
                .iter()
                .map(|guard| &units[*guard])
                .filter(|unit| unit.argument == argument && counts(unit))
                .collect();
            if over.iter().any(|unit| unit.k >= needed.k) {
                Guarded::Enough
            } else if let Some(most) = over.iter().map(|unit| unit.k).max() {
                Guarded::Below(most)
            } else {
                Guarded::Not
            }
        };
        let mut deny = |what: &str, guarded: Guarded| {
            let asked = match guarded {
                Guarded::Enough => return,
                Guarded::Below(k) => format!("{what} with k = {k}"),
                Guarded::Not => format!("{what} without a count of its privacy units"),
            };
            denials.push(Denial {
                department: me.department.to_owned(),
                rule: needed.rule.to_owned(),
                column: match &table.unit {
                    Unit::Column(name) => {
                        format!("{}.{}.{name}", me.department, lineage.table)
                    }
                    Unit::Row | Unit::None => String::new(),
                },
                asked,
                alternative: format!(
                    "the same with k = {} over the privacy units of {}.{}",
                    needed.k, me.department, lineage.table
                ),
            });
        };
        deny(
            "the release of groups",
            guarded(&plan.release.group_guards, None),
        );
        for cell in cells {
            let argument = cell
                .argument
                .filter(|at| plan.fragments[at.fragment].columns[at.column].nullable);
            let best = match (guarded(&cell.guards, argument), cell.argument) {
                (Guarded::Enough, _) => Guarded::Enough,
                // A guard over the rows of a column that is never NULL is as good.
                (_, Some(at)) if argument.is_none() => guarded(&cell.guards, Some(at)),
                (other, _) => other,
            };
            deny("the release of an aggregate", best);
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guarded {
    Enough,
    Below(u32),
    Not,
}

/// Whether a tag counts the declared unit: the column itself, nothing computed.
fn is_unit(unit: &Unit, lineage: &FragmentLineage, at: ColumnRef) -> bool {
    let Unit::Column(name) = unit else {
        return false;
    };
    lineage
        .outputs
        .get(at.column)
        .and_then(Derivation::as_column)
        == Some(name.as_str())
}

/// Whether every row of a fragment concerns another unit, none of them unknown.
fn one_unit_a_row(catalog: &Published, lineage: &FragmentLineage) -> bool {
    let Some(table) = catalog.table(&lineage.table) else {
        return false;
    };
    match &table.unit {
        Unit::None => true,
        Unit::Row => {
            let plain: BTreeSet<&str> = lineage
                .outputs
                .iter()
                .filter_map(Derivation::as_column)
                .collect();
            !lineage.grouped
                || (!table.key.is_empty() && table.key.iter().all(|of| plain.contains(of.as_str())))
        }
        Unit::Column(name) => {
            let known = table.column(name).is_some_and(|of| !of.nullable)
                || lineage.not_null.contains(name);
            let unit = BTreeSet::from([name.as_str()]);
            let unique = one_row_per(catalog, lineage, &unit);
            // Grouping by other columns than the unit would merge units in one row.
            let kept = !lineage.grouped
                || lineage
                    .outputs
                    .iter()
                    .any(|of| of.as_column() == Some(name.as_str()));
            known && unique && kept
        }
    }
}
