//! The structure of a joint plan, checked without trust in whoever made it.
//!
//! A plan that passes refers to nothing that it does not have, uses everything that it asks for,
//! and has the shape that the protocols assume. Nothing here knows a catalogue or a policy.

mod operators;
mod release;

pub(crate) use operators::{key_class, predicate_columns, relation_facts};
pub(crate) use release::public_groups;

use super::{ColumnRef, Encoding, FragmentColumn, JointPlan, Line, PublicSize};
use crate::error::{Code, Error, Result};
use crate::schema::ScalarType;
use std::collections::{BTreeMap, BTreeSet};

/// The most parties, fragments, operators and columns of one plan, and the longest texts.
const MAX_PARTIES: usize = 64;
const MAX_FRAGMENTS: usize = 64;
const MAX_OPERATORS: usize = 256;
const MAX_COLUMNS: usize = 1024;
const MAX_NAME_BYTES: usize = 128;
const MAX_LABEL_BYTES: usize = 4096;
const MAX_SQL_BYTES: usize = 64 * 1024;
const MAX_TEXT_BYTES: u32 = 4096;
const MAX_CODES: usize = 1 << 16;
/// The most rows that a fragment can declare.
const MAX_ROWS: u64 = 1 << 40;

/// Checks a plan.
///
/// # Errors
/// `LimitExceeded` above the caps, `PeerMisbehaved` for anything else that is not allowed.
pub(super) fn validate(plan: &JointPlan) -> Result<()> {
    caps(plan)?;
    let line = plan.line;
    ensure(
        line.round_trip_micros <= Line::MAX_ROUND_TRIP_MICROS
            && Line::BANDWIDTHS.contains(&line.bytes_per_second)
            && (1..=Line::MAX_LANES).contains(&line.lanes),
        || "a line whose round trip, bandwidth or lanes are out of range".to_owned(),
    )?;
    for (index, fragment) in plan.fragments.iter().enumerate() {
        ensure(fragment.owner < plan.parties.len(), || {
            format!("fragment {index} belongs to no party")
        })?;
    }
    parties(plan)?;
    for (index, fragment) in plan.fragments.iter().enumerate() {
        if let PublicSize::Declared(rows) = fragment.size {
            ensure((1..=MAX_ROWS).contains(&rows), || {
                format!("fragment {index} declares {rows} rows")
            })?;
        }
        for (column, of) in fragment.columns.iter().enumerate() {
            encoding(of).map_err(|error| {
                refusal(format!("column {column} of fragment {index}: {error}"))
            })?;
        }
    }
    key_classes(plan)?;
    operators::check(plan)?;
    release::check(plan)?;
    every_column_used(plan)
}

fn refusal(message: impl Into<String>) -> Error {
    Error::new(
        Code::PeerMisbehaved,
        format!("the joint plan is not valid: {}", message.into()),
    )
}

fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<()> {
    if holds {
        Ok(())
    } else {
        Err(refusal(message()))
    }
}

fn caps(plan: &JointPlan) -> Result<()> {
    let at_most = |what: &str, found: usize, most: usize| {
        if found <= most {
            return Ok(());
        }
        Err(Error::new(
            Code::LimitExceeded,
            format!("the joint plan has {found} {what}; at most {most} are accepted"),
        ))
    };
    at_most("parties", plan.parties.len(), MAX_PARTIES)?;
    at_most("fragments", plan.fragments.len(), MAX_FRAGMENTS)?;
    at_most("operators", plan.operators.len(), MAX_OPERATORS)?;
    let columns = plan.fragments.iter().map(|of| of.columns.len()).sum();
    at_most("columns", columns, MAX_COLUMNS)?;
    at_most("released columns", plan.release.columns.len(), MAX_COLUMNS)?;
    at_most("output columns", plan.release.output.len(), MAX_COLUMNS)?;
    at_most(
        "bytes in an engine version",
        plan.engine.version.len(),
        MAX_NAME_BYTES,
    )?;
    at_most(
        "bytes of release SQL",
        plan.release.sql.len(),
        MAX_SQL_BYTES,
    )?;
    for party in &plan.parties {
        at_most("bytes in a name", party.department.len(), MAX_NAME_BYTES)?;
    }
    for column in &plan.release.output {
        at_most(
            "bytes in an output name",
            column.name.len(),
            MAX_LABEL_BYTES,
        )?;
    }
    for fragment in &plan.fragments {
        at_most("bytes of fragment SQL", fragment.sql.len(), MAX_SQL_BYTES)?;
        for column in &fragment.columns {
            at_most("bytes in a label", column.label.len(), MAX_LABEL_BYTES)?;
        }
    }
    Ok(())
}

fn parties(plan: &JointPlan) -> Result<()> {
    let mut previous: Option<&str> = None;
    for (index, party) in plan.parties.iter().enumerate() {
        let name = party.department.as_str();
        ensure(is_name(name), || {
            format!("party {index} has no proper name")
        })?;
        ensure(previous.is_none_or(|before| before < name), || {
            "parties are not in ascending order of name".to_owned()
        })?;
        previous = Some(name);
        let owns = plan.fragments.iter().any(|of| of.owner == index);
        ensure(owns == party.catalog_version.is_some(), || {
            format!(
                "{name}: a catalogue version belongs to a party with a fragment, and only to it"
            )
        })?;
        ensure(owns || party.computing.is_some() || party.result, || {
            format!("{name} has no role")
        })?;
    }
    let results = plan.parties.iter().filter(|party| party.result).count();
    ensure(results == 1, || {
        format!("{results} result parties instead of one")
    })?;
    let computing: BTreeSet<u8> = plan.parties.iter().filter_map(|of| of.computing).collect();
    let seats = plan
        .parties
        .iter()
        .filter(|of| of.computing.is_some())
        .count();
    ensure(seats == 3 && computing == BTreeSet::from([0, 1, 2]), || {
        "there are not exactly three computing parties P0, P1, P2".to_owned()
    })
}

/// Whether this is a department's name: lower-case letters, digits and `_`, a letter first.
fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Whether a type and the form in which it leaves go together.
fn encoding(column: &FragmentColumn) -> std::result::Result<(), String> {
    check_type(column.data_type)?;
    let data_type = column.data_type;
    if data_type == ScalarType::Float64 {
        return Err("a float does not leave a department".to_owned());
    }
    let fits = match &column.encoding {
        Encoding::KeyTag { bits, .. } | Encoding::UnitTag { bits } => (32..=128).contains(bits),
        Encoding::Ring64 | Encoding::Ring128 => {
            matches!(data_type, ScalarType::Int64 | ScalarType::Decimal { .. })
        }
        Encoding::Bits(bits) => match data_type {
            ScalarType::Bool => *bits == 1,
            ScalarType::Date => *bits == 32,
            ScalarType::Timestamp => *bits == 64,
            ScalarType::Int64 => (2..=64).contains(bits),
            ScalarType::Decimal { precision, .. } => {
                (2..=64).contains(bits) || *bits <= 128 && precision > 18
            }
            ScalarType::Utf8 | ScalarType::Float64 => false,
        },
        Encoding::Codes(values) => {
            let distinct: BTreeSet<&str> = values.iter().map(String::as_str).collect();
            data_type == ScalarType::Utf8
                && !values.is_empty()
                && values.len() <= MAX_CODES
                && distinct.len() == values.len()
        }
        Encoding::Text { max_bytes } => {
            data_type == ScalarType::Utf8 && (1..=MAX_TEXT_BYTES).contains(max_bytes)
        }
    };
    if fits {
        Ok(())
    } else {
        Err(format!("{data_type} does not leave in this form"))
    }
}

fn check_type(data_type: ScalarType) -> std::result::Result<(), String> {
    match data_type {
        ScalarType::Decimal { precision, scale }
            if !(1..=38).contains(&precision) || scale > precision =>
        {
            Err(format!("there is no type {data_type}"))
        }
        _ => Ok(()),
    }
}

/// Key columns of one class lie side by side in a fragment, and have the same width and types in
/// every fragment.
fn key_classes(plan: &JointPlan) -> Result<()> {
    let mut shapes: BTreeMap<u32, (u32, Vec<ScalarType>)> = BTreeMap::new();
    for (index, fragment) in plan.fragments.iter().enumerate() {
        let mut here: BTreeMap<u32, (usize, u32, Vec<ScalarType>)> = BTreeMap::new();
        for (position, column) in fragment.columns.iter().enumerate() {
            let Encoding::KeyTag { class, bits } = column.encoding else {
                continue;
            };
            let (next, width, types) = here.entry(class).or_insert((position, bits, Vec::new()));
            ensure(*next == position && *width == bits, || {
                format!("the key of class {class} in fragment {index} is torn apart")
            })?;
            *next = position + 1;
            types.push(column.data_type);
        }
        for (class, (_, width, types)) in here {
            let shape = shapes
                .entry(class)
                .or_insert_with(|| (width, types.clone()));
            ensure(*shape == (width, types), || {
                format!("key columns of class {class} differ in type or width")
            })?;
        }
    }
    Ok(())
}

/// The column that a reference names.
pub(crate) fn column(plan: &JointPlan, at: ColumnRef) -> Result<&FragmentColumn> {
    plan.fragments
        .get(at.fragment)
        .and_then(|fragment| fragment.columns.get(at.column))
        .ok_or_else(|| refusal("a column is named that no fragment has"))
}

/// What is asked for and not used does not serve the purpose: it is refused.
fn every_column_used(plan: &JointPlan) -> Result<()> {
    let (columns, classes) = operators::used(plan);
    for (fragment, of) in plan.fragments.iter().enumerate() {
        for (column, what) in of.columns.iter().enumerate() {
            let used = match what.encoding {
                Encoding::KeyTag { class, .. } => classes.contains(&(fragment, class)),
                _ => columns.contains(&ColumnRef { fragment, column }),
            };
            ensure(used, || {
                format!("column {column} of fragment {fragment} is asked for and not used")
            })?;
        }
    }
    Ok(())
}
