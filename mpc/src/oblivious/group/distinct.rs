//! Several distinct counts of one unit over one order.
//!
//! In an order by (invalid, keys, unit) the rows of one unit in one group are a run. Each count has a
//! flag; the flags run along side by side, ORed, in one segmented scan, and a unit counts where its run
//! ends with the flag set. So any number of flags takes one sort. A single count sorts by its flag too
//! instead, and needs no scan (`Order::distinct`).

use super::super::segment::{last_rows, segmented_or};
use super::{Agg, NAME};
use crate::circuit::{and, and_mask, bit_to_arith64};
use crate::context::Context;
use crate::error::Result;
use crate::net::Step;
use crate::share::{Arith, BitColumn};
use crate::table::SharedTable;

/// The distinct counts of one unit.
pub(super) struct Class {
    /// The unit's column.
    pub(super) unit: usize,
    /// Which aggregates they are, and their flags' columns.
    pub(super) members: Vec<(usize, Option<usize>)>,
}

/// The distinct counts among `aggs`, those of one unit together, by first occurrence.
pub(super) fn classes(aggs: &[Agg]) -> Vec<Class> {
    let mut classes: Vec<Class> = Vec::new();
    for (index, agg) in aggs.iter().enumerate() {
        let Agg::CountDistinct { unit, when } = *agg else {
            continue;
        };
        match classes.iter_mut().find(|class| class.unit == unit) {
            Some(class) => class.members.push((index, when)),
            None => classes.push(Class {
                unit,
                members: vec![(index, when)],
            }),
        }
    }
    classes
}

impl Class {
    /// Whether it is one count alone.
    pub(super) fn single(&self) -> Option<(usize, Option<usize>)> {
        match self.members[..] {
            [single] => Some(single),
            _ => None,
        }
    }

    /// The flags of its counts side by side, in the order of those that have one; `None` if none has.
    pub(super) fn flags(&self, table: &SharedTable) -> Result<Option<BitColumn>> {
        let flags = self.members.iter().filter_map(|(_, when)| *when);
        let flags: Vec<&BitColumn> = flags
            .map(|when| table.bits(NAME, when))
            .collect::<Result<_>>()?;
        match flags[..] {
            [] => Ok(None),
            _ => BitColumn::concat(&flags).map(Some),
        }
    }

    /// Of each count, 1 at the last row of every run in which its flag is set anywhere, 0 elsewhere.
    /// `again` says that a row goes on with the run of the row above; runs hold valid rows alone, or
    /// invalid ones. `flags` are [`Self::flags`] in this order, `ends` the rows that may count, if not
    /// all.
    ///
    /// With F flags `5 F` bits a row and party and a word for each count; `2 log2 n + 3` rounds and the
    /// conversion's.
    ///
    /// # Errors
    /// Those of the link.
    pub(super) fn numbers(
        &self,
        ctx: &mut Context,
        step: &Step,
        again: BitColumn,
        flags: Option<&BitColumn>,
        ends: Option<&BitColumn>,
    ) -> Result<Vec<Arith<u64>>> {
        let rows = again.rows();
        let first = again.not(ctx.role());
        let mut last = last_rows(ctx, &first);
        if let Some(ends) = ends {
            last = and(ctx, &step.narrow("ends"), &last, ends)?;
        }
        let mut counted = Vec::with_capacity(self.members.len());
        let mut set = match flags {
            None => Vec::new(),
            Some(flags) => {
                let any = segmented_or(ctx, &step.narrow("any"), &first, flags)?;
                let set = and_mask(ctx, &step.narrow("last"), &any, &last)?;
                (0..set.width()).map(|bit| set.bit_range(bit, 1)).collect()
            }
        }
        .into_iter();
        for (_, when) in &self.members {
            counted.push(match when {
                None => last.clone(),
                Some(_) => set.next().unwrap_or_else(|| BitColumn::zeros(1, rows)),
            });
        }
        let all = BitColumn::stacked(&counted);
        drop(counted);
        let numbers = bit_to_arith64(ctx, &step.narrow("bits"), &all)?;
        let each = (0..self.members.len()).map(|at| numbers.slice(at * rows, rows));
        Ok(each.collect())
    }
}
