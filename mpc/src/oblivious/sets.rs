//! UNION, INTERSECT and EXCEPT, of tables of bit columns; NULLs are values like others (their NULL
//! bit is a column), as SQL has it for sets. UNION ALL is
//! [`SharedTable::followed_by`].
//!
//! UNION is [`distinct`] of both tables' rows; the others are semi and anti joins of the distinct left
//! rows. With ALL, rows are numbered among their equals on both sides, and the number joins too: a row
//! that stands m times left and n times right stands min(m, n) or max(m - n, 0) times in the result.
//! Costs and leakage are those of the parts: none beyond row counts. Semi-honest.

use super::distinct::distinct;
use super::join::{Kind, Side, join, number_rows};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::net::Step;
use crate::table::{Column, SharedTable};

/// Rows of either table, once each: as many rows as both have.
///
/// # Errors
/// `InvalidInput` for tables of different columns, or arithmetic ones; those of the link.
pub fn union(
    ctx: &mut Context,
    step: &Step,
    left: &SharedTable,
    right: &SharedTable,
) -> Result<SharedTable> {
    let all = all_columns(left, right)?;
    let both = left.clone().followed_by("union", right)?;
    distinct(ctx, step, &both, &all)
}

/// Rows of both tables: as many rows as the left table.
///
/// # Errors
/// As [`union`].
pub fn intersect(
    ctx: &mut Context,
    step: &Step,
    left: &SharedTable,
    right: &SharedTable,
    all: bool,
) -> Result<SharedTable> {
    matching(ctx, step, Kind::Semi, left, right, all)
}

/// Rows of the left table that are not in the right one: as many rows as the left table.
///
/// # Errors
/// As [`union`].
pub fn except(
    ctx: &mut Context,
    step: &Step,
    left: &SharedTable,
    right: &SharedTable,
    all: bool,
) -> Result<SharedTable> {
    matching(ctx, step, Kind::Anti, left, right, all)
}

fn matching(
    ctx: &mut Context,
    step: &Step,
    kind: Kind,
    left: &SharedTable,
    right: &SharedTable,
    all: bool,
) -> Result<SharedTable> {
    let mut keys = all_columns(left, right)?;
    if !all {
        let left = distinct(ctx, &step.narrow("distinct"), left, &keys)?;
        let (left, right) = (side(&left, &keys), side(right, &keys));
        return join(ctx, &step.narrow("join"), kind, left, right, &[], None);
    }
    let rows = left.rows().max(right.rows());
    let bits = (usize::BITS - rows.leading_zeros()).max(1) as usize;
    let mut numbered = |name: &str, table: &SharedTable| -> Result<SharedTable> {
        let number = number_rows(ctx, &step.narrow(name), &side(table, &keys), bits)?;
        let mut table = table.clone();
        table.columns.push(Column::Bits(number));
        Ok(table)
    };
    let (left, right) = (numbered("left", left)?, numbered("right", right)?);
    keys.push(keys.len());
    let (left, right) = (side(&left, &keys), side(&right, &keys));
    let mut out = join(ctx, &step.narrow("join"), kind, left, right, &[], None)?;
    out.columns.pop();
    Ok(out)
}

fn side<'t>(table: &'t SharedTable, keys: &'t [usize]) -> Side<'t> {
    Side {
        table,
        keys,
        nulls: &[],
        sorted: false,
    }
}

fn all_columns(left: &SharedTable, right: &SharedTable) -> Result<Vec<usize>> {
    let kinds = |table: &SharedTable| -> Option<Vec<usize>> {
        let columns = table.columns.iter().map(|c| match c {
            Column::Bits(c) => Some(c.width()),
            _ => None,
        });
        columns.collect()
    };
    match (kinds(left), kinds(right)) {
        (Some(a), Some(b)) if a == b && !a.is_empty() => Ok((0..a.len()).collect()),
        _ => Err(Error::InvalidInput {
            operator: "sets",
            what: "tables of different columns, or of arithmetic ones".into(),
        }),
    }
}
