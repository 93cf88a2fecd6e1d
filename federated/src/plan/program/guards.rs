//! The types of guarded relations.

use super::types::{ensure, scale};
use super::{GuardedCell, ProgramRelation, Types, UnitGuard, Variable};
use crate::error::Result;
use crate::plan::Encoding;
use std::collections::BTreeSet;

/// The most tables of which one operator counts the units.
const MAX_UNITS: usize = 64;
/// The most atoms of a row: four conditions.
pub(crate) const MAX_ATOMS: usize = 16;

impl Types {
    /// The columns of the input, of which guarded ones can be NULL.
    pub(super) fn guard(
        &mut self,
        input: ProgramRelation,
        units: &[UnitGuard],
        cells: &[GuardedCell],
        keeps_rows: bool,
    ) -> Result<BTreeSet<Variable>> {
        ensure(
            (1..=MAX_UNITS).contains(&units.len()),
            "a guard by no units, or by those of many tables",
        )?;
        let atoms = units[0].atoms.len();
        ensure(atoms <= MAX_ATOMS, "a guard of many atoms")?;
        for unit in units {
            ensure(unit.k >= 1, "a guard without a threshold")?;
            ensure(
                unit.atoms.len() == atoms,
                "a guard whose tables have different atoms",
            )?;
            for count in unit.counts() {
                let value = self.column(input, count)?;
                let number = matches!(value.form, Encoding::Ring64 | Encoding::Bits(_));
                ensure(
                    number && scale(value.data_type) == Some(0),
                    "a guard by what is no count",
                )?;
            }
        }
        let mut known = BTreeSet::new();
        for cell in cells {
            let value = self.column(input, cell.value)?;
            ensure(
                !matches!(
                    value.form,
                    Encoding::KeyTag { .. } | Encoding::UnitTag { .. }
                ),
                "a guarded tag",
            )?;
            ensure(known.insert(cell.value), "a column is guarded twice")?;
            ensure(
                cell.atoms.iter().all(|atom| (*atom as usize) < atoms),
                "an atom that the guard does not have",
            )?;
            ensure(
                cell.atoms.windows(2).all(|pair| pair[0] < pair[1]),
                "atoms that are not in order",
            )?;
            if (keeps_rows || !cell.atoms.is_empty())
                && let Some(value) = self.values.get_mut(&cell.value)
            {
                value.nullable = true;
            }
        }
        Ok(self.relations.get(input).cloned().unwrap_or_default())
    }
}
