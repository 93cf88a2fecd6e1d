//! The types of functions over the rows of a partition.

use super::types::{
    MAX_KEYS, boolean, declared, ensure, is_wide_text, ordered, refusal, scale, sortable,
};
use super::{OrderKey, ProgramRelation, Types, Value, Variable, WindowCall, WindowFunction};
use crate::error::Result;
use crate::plan::Encoding;
use crate::schema::ScalarType;
use std::collections::BTreeSet;

/// The most functions of one operator.
const MAX_CALLS: usize = 256;

impl Types {
    /// The columns of a relation with those of these functions.
    pub(super) fn window(
        &mut self,
        input: ProgramRelation,
        partition: &[Variable],
        order: &[OrderKey],
        calls: &[WindowCall],
    ) -> Result<BTreeSet<Variable>> {
        ensure(
            partition.len() <= MAX_KEYS && order.len() <= MAX_KEYS,
            "a window of many keys",
        )?;
        ensure(
            (1..=MAX_CALLS).contains(&calls.len()),
            "a window of no or of many functions",
        )?;
        let mut known = BTreeSet::new();
        for key in partition {
            sortable(self.column(input, *key)?)?;
            ensure(known.insert(*key), "a key of a partition is named twice")?;
        }
        for key in order {
            let value = self.column(input, key.variable)?;
            ensure(!is_wide_text(value), "an order by long text")?;
            ordered(value)?;
        }
        let mut made = self.relations.get(input).cloned().unwrap_or_default();
        for call in calls {
            let value = self.call(input, call)?;
            self.define(call.variable, value)?;
            made.insert(call.variable);
            if let Some(there) = call.there {
                let shifts = matches!(
                    call.function,
                    WindowFunction::Lag { .. } | WindowFunction::Lead { .. }
                );
                ensure(shifts, "a flag of a function that has none")?;
                self.define(there, boolean(false))?;
                made.insert(there);
            }
        }
        Ok(made)
    }

    fn call(&self, input: ProgramRelation, call: &WindowCall) -> Result<Value> {
        use WindowFunction as F;
        let argument = match call.argument {
            Some(variable) => Some(self.column(input, variable)?),
            None => None,
        };
        let count = Value {
            data_type: ScalarType::Int64,
            nullable: false,
            form: Encoding::Ring64,
        };
        let value = match (call.function, argument) {
            (F::RowNumber | F::Rank | F::DenseRank, None) | (F::Count(_), _) => count,
            (F::Sum(_), Some(of)) => {
                ensure(
                    matches!(of.form, Encoding::Ring64 | Encoding::Ring128),
                    "a sum of what is in no ring",
                )?;
                ensure(
                    scale(of.data_type) == scale(call.data_type),
                    "a sum of another scale",
                )?;
                Value {
                    data_type: call.data_type,
                    ..of.clone()
                }
            }
            (F::Min(_) | F::Max(_), Some(of)) => {
                sortable(of)?;
                ordered(of)?;
                declared(of, call.data_type, of.nullable)
            }
            (F::Lag { .. } | F::Lead { .. }, Some(of)) => {
                ensure(
                    !matches!(of.form, Encoding::KeyTag { .. } | Encoding::UnitTag { .. }),
                    "a tag of another row",
                )?;
                declared(of, call.data_type, true)
            }
            _ => return Err(refusal("a function over a partition with other arguments")),
        };
        ensure(
            value.data_type == call.data_type,
            "a function of another type than is declared",
        )?;
        Ok(value)
    }
}
