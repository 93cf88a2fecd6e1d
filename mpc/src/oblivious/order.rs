//! ORDER BY as bits: several keys, ascending or descending, signed or not, NULLs first or last, become
//! bit columns whose order as unsigned numbers is the wanted one. Local; every operator that sorts
//! takes what comes out.

use crate::share::{BitColumn, Role};

/// One key of an order.
#[derive(Debug, Clone, Copy)]
pub struct OrderKey<'t> {
    /// Its values; those of NULL rows must all be the same (zero), or ties among NULLs are not in the
    /// rows' order.
    pub column: &'t BitColumn,
    /// Where it is NULL.
    pub null: Option<&'t BitColumn>,
    /// Largest first.
    pub descending: bool,
    /// NULLs before all values, whatever the direction.
    pub nulls_first: bool,
    /// Two's complement numbers.
    pub signed: bool,
}

impl<'t> OrderKey<'t> {
    /// Ascending, unsigned, without NULLs.
    #[must_use]
    pub fn ascending(column: &'t BitColumn) -> Self {
        Self {
            column,
            null: None,
            descending: false,
            nulls_first: false,
            signed: false,
        }
    }

    /// The key's bits for comparison as unsigned numbers: the NULL bit leads. Local.
    #[must_use]
    pub fn encode(&self, role: Role) -> Vec<BitColumn> {
        let mut out = Vec::with_capacity(2);
        if let Some(null) = self.null {
            let null = null.clone();
            out.push(if self.nulls_first {
                null.not(role)
            } else {
                null
            });
        }
        let mut value = self.column.clone();
        if self.signed {
            let mut sign = vec![0; value.width().div_ceil(64)];
            sign[(value.width() - 1) / 64] = 1 << ((value.width() - 1) % 64);
            value = value.xor_public(role, &sign);
        }
        if self.descending {
            value = value.not(role);
        }
        out.push(value);
        out
    }
}

/// Bit columns, most significant first, whose order as unsigned numbers is that of valid rows by the
/// keys, then invalid rows. Local.
#[must_use]
pub fn encode(role: Role, valid: &BitColumn, keys: &[OrderKey<'_>]) -> Vec<BitColumn> {
    let mut out = vec![valid.clone().not(role)];
    out.extend(keys.iter().flat_map(|key| key.encode(role)));
    out
}
