//! Public bounds that follow from a catalogue: what the planner declares, and what each owner
//! re-derives of its own fragments before it believes a plan.

use crate::catalog::{Column, Table};
use crate::schema::ScalarType;

/// The public bound on distinct values of a column; `null` counts NULL as one where it can be.
pub(crate) fn distinct(column: &Column, null: bool) -> Option<u64> {
    let values = if !column.codes.is_empty() {
        column.codes.len() as u64
    } else if column.data_type == ScalarType::Bool {
        2
    } else if column.max_distinct > 0 {
        column.max_distinct
    } else {
        return None;
    };
    Some(values.saturating_add(u64::from(null && column.nullable)))
}

/// The product, where every factor is known.
pub(crate) fn product(mut factors: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    factors.try_fold(1_u64, |product, factor| {
        Some(product.saturating_mul(factor?))
    })
}

/// The most rows of a fragment over this table. A grouped one names the bound on each grouping
/// expression; one that is not has at most one row for each declared key without NULLs.
pub(crate) fn rows(table: &Table, grouped: Option<&[Option<u64>]>) -> u64 {
    let combinations = match grouped {
        Some(factors) => product(factors.iter().copied()),
        None if table.key.is_empty() => None,
        None => product(table.key.iter().map(|name| {
            let column = table.column(name)?;
            // Keys of which a part is NULL may repeat.
            distinct(column, false).filter(|_| !column.nullable)
        })),
    };
    let most = table.max_rows.max(1);
    combinations.map_or(most, |rows| rows.clamp(1, most))
}

/// The most bytes of a text column, after canonicalisation; none where nothing is declared.
pub(crate) fn text_bytes(column: &Column) -> Option<u32> {
    let of_codes = column.codes.iter().map(String::len).max().unwrap_or(0);
    let bytes = match column.max_bytes {
        0 => u32::try_from(of_codes).unwrap_or(u32::MAX),
        declared => declared,
    };
    (bytes > 0).then_some(bytes)
}
