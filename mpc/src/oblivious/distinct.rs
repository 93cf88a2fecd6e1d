//! DISTINCT: a sort, then the first row of each run of equal values stays valid.
//!
//! The order is (invalid, columns), stable, so the row that stays is the first of its kind. One sort,
//! the passage of all columns, `width - 1` bits for equality and one AND. Leakage: none. Semi-honest.

use super::segment::run_starts;
use super::sort::{reunited, sort_by};
use crate::circuit::and;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::net::Step;
use crate::share::BitColumn;
use crate::table::{Column, SharedTable};

/// The table in the order of `columns` (bit columns, the first one leading), with one valid row for
/// each combination of their values among valid rows: the first. Other columns are that row's.
///
/// # Errors
/// `InvalidInput` for no columns, or columns that are not bits; those of the link.
pub fn distinct(
    ctx: &mut Context,
    step: &Step,
    table: &SharedTable,
    columns: &[usize],
) -> Result<SharedTable> {
    table.check("distinct")?;
    let keys: Vec<&BitColumn> = columns
        .iter()
        .map(|&c| table.bits("distinct", c))
        .collect::<Result<_>>()?;
    if keys.is_empty() {
        return Err(Error::InvalidInput {
            operator: "distinct",
            what: "no columns".into(),
        });
    }
    if table.rows() == 0 {
        return Ok(table.clone());
    }
    let invalid = table.valid.clone().not(ctx.role());
    let order: Vec<&BitColumn> = std::iter::once(&invalid).chain(keys).collect();
    let mut sorted = sort_by(ctx, &step.narrow("sort"), &order)?;
    let there = sorted.keys.remove(0).not(ctx.role());
    // Invalid rows follow all valid ones: a valid row's predecessor is valid.
    let keys: Vec<&BitColumn> = sorted.keys.iter().collect();
    let first = run_starts(ctx, &step.narrow("runs"), &BitColumn::concat(&keys)?)?;
    let valid = and(ctx, &step.narrow("first"), &there, &first)?;
    let others = (0..table.columns.len()).filter(|at| !columns.contains(at));
    let others: Vec<usize> = others.collect();
    let moving: Vec<&Column> = others.iter().map(|&at| &table.columns[at]).collect();
    let moved = sorted.order.apply(ctx, &step.narrow("rows"), &moving)?;
    Ok(SharedTable {
        columns: reunited(columns, sorted.keys, others, moved),
        valid,
    })
}
