//! What this department's fragments compute, re-derived from their text and its own catalogue.

use super::{Me, bounds};
use crate::catalog::{Published, Table};
use crate::error::{Code, Denial, Error, Result};
use crate::local::lineage::{
    Derivation, FragmentLineage, NotAllowed, fragment_lineage, fragment_types, parse_fragment,
};
use crate::plan::validate::key_class;
use crate::plan::{
    Encoding, FragmentColumn, FragmentIndex, JointPlan, Operator, PartyIndex, PublicSize,
};
use crate::schema::ScalarType;
use std::collections::BTreeSet;

/// The lineages of all fragments: those of this department against its catalogue, the others by
/// their text alone. What does not pass goes to `denials`.
pub(super) fn derive(
    plan: &JointPlan,
    index: PartyIndex,
    me: &Me<'_>,
    catalog: &Published,
    denials: &mut Vec<Denial>,
) -> Result<Vec<FragmentLineage>> {
    let mut lineages = Vec::with_capacity(plan.fragments.len());
    for (position, fragment) in plan.fragments.iter().enumerate() {
        if fragment.owner != index {
            let lineage = parse_fragment(&fragment.sql).map_err(|not| {
                let owner = &plan.parties[fragment.owner].department;
                Error::new(
                    Code::PeerMisbehaved,
                    format!("the fragment of {owner} has {}", not.construct),
                )
                .at(me.home)
            })?;
            ensure_outputs(plan, position, &lineage)?;
            lineages.push(lineage);
            continue;
        }
        match fragment_lineage(&fragment.sql, catalog) {
            Ok(lineage) => {
                ensure_outputs(plan, position, &lineage)?;
                let before = denials.len();
                types(plan, position, me, catalog, &lineage, denials);
                if denials.len() == before {
                    unique(plan, position, me, catalog, &lineage, denials);
                }
                lineages.push(lineage);
            }
            Err(not) => denials.push(refusal(me, position, not, None)),
        }
    }
    Ok(lineages)
}

fn ensure_outputs(
    plan: &JointPlan,
    position: FragmentIndex,
    lineage: &FragmentLineage,
) -> Result<()> {
    if lineage.outputs.len() == plan.fragments[position].columns.len() {
        return Ok(());
    }
    Err(Error::new(
        Code::PeerMisbehaved,
        format!("fragment {position} has other outputs than the plan says"),
    ))
}

fn refusal(me: &Me<'_>, position: FragmentIndex, not: NotAllowed, table: Option<&str>) -> Denial {
    let column = match (&not.column, table) {
        (Some(column), Some(table)) => format!("{}.{table}.{column}", me.department),
        (Some(column), None) => format!("{}: {column}", me.department),
        (None, _) => String::new(),
    };
    Denial {
        department: me.department.to_owned(),
        rule: "fragments: one table, allow-listed functions".to_owned(),
        column,
        asked: format!("fragment {position} with {}", not.construct),
        alternative: "columns, conditions and GROUP BY over one table, as docs/plan-check.md says"
            .to_owned(),
    }
}

/// Types and nullability are what the owner's own engine derives, code lists what it declares.
fn types(
    plan: &JointPlan,
    position: FragmentIndex,
    me: &Me<'_>,
    catalog: &Published,
    lineage: &FragmentLineage,
    denials: &mut Vec<Denial>,
) {
    let fragment = &plan.fragments[position];
    let Some(table) = catalog.table(&lineage.table) else {
        return;
    };
    let derived = match fragment_types(&fragment.sql, table) {
        Ok(derived) => derived,
        Err(not) => {
            denials.push(refusal(me, position, not, Some(&lineage.table)));
            return;
        }
    };
    size(plan, position, me, table, lineage, denials);
    for (at, ((column, (data_type, nullable)), output)) in fragment
        .columns
        .iter()
        .zip(derived)
        .zip(&lineage.outputs)
        .enumerate()
    {
        let proven = output
            .as_column()
            .is_some_and(|name| lineage.not_null.contains(name));
        let declared = output.as_column().and_then(|name| table.column(name));
        let is_key = matches!(column.encoding, Encoding::KeyTag { .. });
        let what = if column.data_type != data_type {
            "another type than it has"
        } else if nullable && !column.nullable && !proven {
            "NULLs that the plan says it does not have"
        } else if is_key && !proven && declared.is_none_or(|of| of.nullable) {
            "NULLs among the join keys, which would match and count as if they were known"
        } else if let Some(what) = unfit(column, output, declared, table) {
            what
        } else {
            continue;
        };
        denials.push(Denial {
            department: me.department.to_owned(),
            rule: "fragments: outputs as the owner derives them".to_owned(),
            column: output
                .columns()
                .and_then(BTreeSet::first)
                .map_or_else(String::new, |name| {
                    format!("{}.{}.{name}", me.department, lineage.table)
                }),
            asked: format!("output c{at} of fragment {position} with {what}"),
            alternative: "a plan made against this department's catalogue".to_owned(),
        });
    }
}

/// Why some value of an output would not fit the form in which it leaves: the failure would tell
/// that there is one.
fn unfit(
    column: &FragmentColumn,
    output: &Derivation,
    declared: Option<&crate::catalog::Column>,
    table: &Table,
) -> Option<&'static str> {
    match (&column.encoding, column.data_type) {
        (Encoding::Codes(values), _) => declared
            .is_none_or(|of| of.codes != *values)
            .then_some("another code list than is declared"),
        (Encoding::Text { max_bytes }, _) => declared
            .and_then(bounds::text_bytes)
            .is_none_or(|most| most > *max_bytes)
            .then_some("text that is not known to fit"),
        (Encoding::Ring64, ScalarType::Decimal { precision, .. }) => {
            let bounded = declared.is_some_and(|of| of.max_abs > 0 && of.max_abs < 1 << 63);
            let fits = match output {
                // The engine adds ten digits to what it sums.
                Derivation::Sum(_) => 10_u128
                    .checked_pow(u32::from(precision.saturating_sub(10)))
                    .and_then(|most| most.checked_mul(u128::from(table.max_rows)))
                    .is_some_and(|most| precision < 38 && most < 1 << 63),
                _ => precision <= 18,
            };
            (!fits && !bounded).then_some("numbers that are not known to fit 64 bits")
        }
        _ => None,
    }
}

/// A declared size below what the catalogue bounds would fail on some data and not on other.
fn size(
    plan: &JointPlan,
    position: FragmentIndex,
    me: &Me<'_>,
    table: &Table,
    lineage: &FragmentLineage,
    denials: &mut Vec<Denial>,
) {
    let PublicSize::Declared(rows) = plan.fragments[position].size else {
        return;
    };
    let factor = |output: &Derivation| match output {
        Derivation::Row(of) if of.columns.is_empty() => Some(Some(1)),
        Derivation::Row(of) => Some(of.as_column().and_then(|name| {
            let null = !lineage.not_null.contains(name);
            bounds::distinct(table.column(name)?, null)
        })),
        _ => None,
    };
    let factors: Vec<Option<u64>> = lineage.outputs.iter().filter_map(factor).collect();
    let least = bounds::rows(table, lineage.grouped.then_some(factors.as_slice()));
    if rows < least {
        denials.push(Denial {
            department: me.department.to_owned(),
            rule: "fragments: sizes that the catalogue bounds".to_owned(),
            column: String::new(),
            asked: format!("fragment {position} padded to {rows} rows"),
            alternative: format!("the same padded to {least} rows"),
        });
    }
}

/// A claim of one row per key is only taken where the grouping or the declared key proves it.
fn unique(
    plan: &JointPlan,
    position: FragmentIndex,
    me: &Me<'_>,
    catalog: &Published,
    lineage: &FragmentLineage,
    denials: &mut Vec<Denial>,
) {
    let fragment = &plan.fragments[position];
    let classes: BTreeSet<u32> = fragment
        .columns
        .iter()
        .filter_map(|of| match of.encoding {
            Encoding::KeyTag { class, .. } => Some(class),
            _ => None,
        })
        .collect();
    let aligned = plan.operators.iter().find_map(|operator| match operator {
        Operator::Align {
            fragments, class, ..
        } if fragments.contains(&position) => Some(*class),
        _ => None,
    });
    let proven = |class: u32| {
        let key: BTreeSet<&str> = key_class(plan, position, class)
            .into_iter()
            .filter_map(|at| lineage.outputs.get(at).and_then(Derivation::as_column))
            .collect();
        one_row_per(catalog, lineage, &key)
    };
    let holds = match aligned {
        Some(class) => proven(class),
        None => !fragment.unique_key || classes.is_empty() || classes.into_iter().any(proven),
    };
    if !holds {
        denials.push(Denial {
            department: me.department.to_owned(),
            rule: format!("{}.{}: key", me.department, lineage.table),
            column: String::new(),
            asked: format!("fragment {position} to have one row for each join key"),
            alternative: "a fragment that groups by its join key".to_owned(),
        });
    }
}

/// Whether a fragment has at most one row for each value of these columns.
pub(super) fn one_row_per(
    catalog: &Published,
    lineage: &FragmentLineage,
    columns: &BTreeSet<&str>,
) -> bool {
    let declared = catalog.table(&lineage.table).is_some_and(|table| {
        !table.key.is_empty() && table.key.iter().all(|of| columns.contains(of.as_str()))
    });
    let grouped = lineage.grouped
        && lineage.outputs.iter().all(|output| match output {
            Derivation::Row(of) => of.columns.iter().all(|of| columns.contains(of.as_str())),
            _ => true,
        });
    // A declared key makes each row of the table its own group.
    declared || grouped
}
