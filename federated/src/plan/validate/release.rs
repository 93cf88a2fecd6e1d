//! The release: only keys and cells of the aggregate, all of them, in types that can hold them.

use super::{check_type, column, ensure, refusal};
use crate::error::Result;
use crate::plan::program::Program;
use crate::plan::{
    Cell, ColumnRef, Encoding, Fragment, JointPlan, Operator, ReleasedColumn, ReleasedSource,
};
use crate::schema::ScalarType;
use std::collections::BTreeSet;

/// Checks the release of a plan whose operators are valid.
pub(super) fn check(plan: &JointPlan) -> Result<()> {
    if let Some(Operator::Program(program)) = plan.operators.last() {
        return check_program(plan, program);
    }
    let release = &plan.release;
    let last = plan.operators.len().saturating_sub(1);
    let Some(Operator::Aggregate {
        keys, cells, units, ..
    }) = plan.operators.get(release.input)
    else {
        return Err(refusal("the release is not of the aggregate"));
    };
    ensure(release.input == last, || {
        "the release is not of the last operator".to_owned()
    })?;
    let guards: BTreeSet<_> = release.group_guards.iter().collect();
    ensure(
        guards.len() == release.group_guards.len()
            && release
                .group_guards
                .iter()
                .all(|guard| *guard < units.len()),
        || "a group is guarded by a unit count that does not exist, or twice".to_owned(),
    )?;
    ensure(
        release.public_groups.is_none()
            || release.public_groups == public_groups(&plan.fragments, keys),
        || "a public group domain of another size than its keys have".to_owned(),
    )?;
    ensure(
        !release.columns.is_empty() && !release.output.is_empty() && !release.sql.is_empty(),
        || "nothing is released".to_owned(),
    )?;
    for output in &release.output {
        check_type(output.data_type).map_err(refusal)?;
    }
    let mut released_keys = BTreeSet::new();
    let mut released_cells = BTreeSet::new();
    for released in &release.columns {
        check_type(released.data_type).map_err(refusal)?;
        match released.source {
            ReleasedSource::Key(key) => {
                let at = *keys.get(key).ok_or_else(missing)?;
                check_key(plan, at, released)?;
                released_keys.insert(key);
            }
            ReleasedSource::Cell(index) => {
                let cell = cells.get(index).ok_or_else(missing)?;
                check_cell(plan, cell, keys.is_empty(), released)?;
                released_cells.insert(index);
            }
            ReleasedSource::Opened(_) => {
                return Err(refusal("a column that no program opens"));
            }
            ReleasedSource::Average { sum, count } => {
                let total = cells.get(sum).ok_or_else(missing)?;
                let number = cells.get(count).ok_or_else(missing)?;
                ensure(
                    total.sum.is_some()
                        && number.sum.is_none()
                        && released.nullable
                        && matches!(
                            released.data_type,
                            ScalarType::Decimal { .. } | ScalarType::Float64
                        ),
                    || "an average that is not the quotient of a sum and a count".to_owned(),
                )?;
                released_cells.extend([sum, count]);
            }
        }
    }
    ensure(
        released_keys.len() == keys.len() && released_cells.len() == cells.len(),
        || "a key or cell is computed and not released".to_owned(),
    )
}

/// Everything that a program opens, once, in types that hold it.
fn check_program(plan: &JointPlan, program: &Program) -> Result<()> {
    let release = &plan.release;
    ensure(
        release.input + 1 == plan.operators.len()
            && release.group_guards.is_empty()
            && release.public_groups.is_none()
            && release.columns.len() == program.opened.len()
            && !release.output.is_empty()
            && !release.sql.is_empty(),
        || "a release that is not of the program".to_owned(),
    )?;
    for output in &release.output {
        check_type(output.data_type).map_err(refusal)?;
    }
    let types = program.check(&plan.fragments)?;
    for (at, (released, variable)) in release.columns.iter().zip(&program.opened).enumerate() {
        check_type(released.data_type).map_err(refusal)?;
        let value = types.value(*variable)?;
        let is = value.data_type;
        ensure(
            released.source == ReleasedSource::Opened(at)
                && (released.nullable || !value.nullable)
                && (is == released.data_type
                    || scale(is).is_some() && scale(is) == scale(released.data_type)),
            || "a column is opened as another type than it has".to_owned(),
        )?;
    }
    Ok(())
}

fn missing() -> crate::error::Error {
    refusal("a released column comes from a key or cell that does not exist")
}

fn check_key(plan: &JointPlan, at: ColumnRef, released: &ReleasedColumn) -> Result<()> {
    let key = column(plan, at)?;
    ensure(
        released.data_type == key.data_type && released.nullable == key.nullable,
        || "a group key is released in another type".to_owned(),
    )
}

fn check_cell(
    plan: &JointPlan,
    cell: &Cell,
    global: bool,
    released: &ReleasedColumn,
) -> Result<()> {
    let fits = match cell.sum {
        None => released.data_type == ScalarType::Int64,
        Some(sum) => scale(column(plan, sum)?.data_type) == scale(released.data_type),
    };
    ensure(fits, || "a cell is released in another scale".to_owned())?;
    // What is withheld shows as NULL. A group below its own guards is withheld as a whole.
    let withheld_alone = cell
        .guards
        .iter()
        .any(|guard| global || !plan.release.group_guards.contains(guard));
    let empty = cell.sum.is_some() && (global || cell.argument.is_some());
    ensure(released.nullable || !(withheld_alone || empty), || {
        "a cell that can be withheld is released as never NULL".to_owned()
    })
}

/// Digits after the point of a number; none for what is not one.
fn scale(data_type: ScalarType) -> Option<u8> {
    match data_type {
        ScalarType::Int64 => Some(0),
        ScalarType::Decimal { scale, .. } => Some(scale),
        _ => None,
    }
}

/// The size of the group domain, where it is public: the product of the values that everybody knows
/// each key can have, NULL included. None without keys.
pub(crate) fn public_groups(fragments: &[Fragment], keys: &[ColumnRef]) -> Option<u64> {
    if keys.is_empty() {
        return None;
    }
    keys.iter().try_fold(1_u64, |product, key| {
        let column = fragments.get(key.fragment)?.columns.get(key.column)?;
        let values = match &column.encoding {
            Encoding::Codes(codes) => codes.len() as u64,
            Encoding::Bits(1) => 2,
            _ => return None,
        };
        Some(product.saturating_mul(values.saturating_add(u64::from(column.nullable))))
    })
}
