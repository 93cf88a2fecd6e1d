//! The guards, inside MPC, before anything is opened: threshold, then suppression, then a size that
//! says nothing.
//!
//! A group is withheld unless every group guard reaches its k; a cell unless every guard of its own
//! does. What is withheld becomes zero with its NULL bit set (or an invalid row), then valid rows
//! are compacted to a public bound. A global aggregate keeps its one row, whatever it counts.
//!
//! **Adversary**: semi-honest computing parties. **Leakage**: none beyond public sizes: every result
//! is a fresh sharing, and no value is opened here. **Cost**: one comparison of `log2(rows)` bits per
//! unit count and group, one product per cell and group, one compaction. See
//! `docs/protocols/release.md`.

use crate::plan::{JointPlan, Operator, UnitCount};
use std::collections::BTreeMap;
use veilgate_mpc::circuit::{
    and, and_mask, bit_to_arith64, bit_to_arith128, greater_equal_public, multiply, not,
};
use veilgate_mpc::context::Context;
use veilgate_mpc::net::Step;
use veilgate_mpc::oblivious::compact::compact;
use veilgate_mpc::share::{Arith, BitColumn};
use veilgate_mpc::table::{Column, SharedTable};
use veilgate_mpc::{Error, Result};

/// Where a group key is.
pub(crate) struct KeyPlace {
    pub(crate) value: usize,
    pub(crate) null: Option<usize>,
}

/// Where a cell is, and, for a sum, a count of the rows that contribute where nothing else says
/// that there are any.
pub(crate) struct CellPlace {
    pub(crate) value: usize,
    pub(crate) some: Option<usize>,
}

/// An aggregate before its guards.
pub(crate) struct Unguarded {
    pub(crate) table: SharedTable,
    pub(crate) keys: Vec<KeyPlace>,
    pub(crate) cells: Vec<CellPlace>,
    /// Where each unit count is.
    pub(crate) units: Vec<usize>,
    /// Public: rows that were grouped.
    pub(crate) joined_rows: usize,
}

/// Applies the guards of a plan. The result holds, for every key, its value and its NULL bit (where
/// it can be NULL), then for every cell its value and its NULL bit.
pub(crate) fn apply(
    ctx: &mut Context,
    step: &Step,
    plan: &JointPlan,
    unguarded: Unguarded,
) -> Result<SharedTable> {
    let Some(Operator::Aggregate { units, cells, .. }) = plan.operators.get(plan.release.input)
    else {
        return Err(invalid("a release of something that is no aggregate"));
    };
    let global = unguarded.keys.is_empty();
    let mut unguarded = unguarded;
    if !global && let Some(domain) = domain(plan) {
        // Groups come first: the rest of the table is known to be empty.
        let keep = domain.min(unguarded.table.rows());
        unguarded.table = unguarded.table.slice(0, keep);
    }
    let mut guards = Guards {
        step,
        unguarded: &unguarded,
        units,
        passes: BTreeMap::new(),
    };
    let mut valid = unguarded.table.valid.clone();
    if !global {
        for guard in &plan.release.group_guards {
            let pass = guards.pass(ctx, *guard)?;
            valid = and(ctx, &step.at("group", *guard), &valid, &pass)?;
        }
    }
    let mut columns = vec![];
    for (index, key) in unguarded.keys.iter().enumerate() {
        let here = step.at("key", index);
        for position in [Some(key.value), key.null].into_iter().flatten() {
            let bits = bits(&unguarded.table, position)?;
            let masked = and_mask(ctx, &here.at("mask", position), bits, &valid)?;
            columns.push(Column::Bits(masked));
        }
    }
    let mut flags: BTreeMap<(Vec<usize>, Option<usize>), Flag> = BTreeMap::new();
    for (index, (place, cell)) in unguarded.cells.iter().zip(cells).enumerate() {
        let here = step.at("cell", index);
        // In one order, so that cells under the same guards share their gates.
        let mut own = cell.guards.clone();
        if global {
            own.extend(&plan.release.group_guards);
        } else {
            own.retain(|guard| !plan.release.group_guards.contains(guard));
        }
        own.sort_unstable();
        own.dedup();
        let key = (own, place.some);
        let flag = match flags.remove(&key) {
            Some(flag) => flag,
            None => {
                let first = (!global).then(|| valid.clone());
                Flag::new(guards.open(ctx, &here, first, &key.0, key.1)?)
            }
        };
        let mut flag = flag;
        let (value, null) = flag.apply(ctx, &here, &unguarded.table, place.value)?;
        columns.push(value);
        columns.push(Column::Bits(null));
        flags.insert(key, flag);
    }
    if global {
        // One row, whether or not any row was counted.
        let valid = BitColumn::ones(ctx.role(), 1, valid.rows());
        return Ok(SharedTable { columns, valid });
    }
    let table = SharedTable { columns, valid };
    let keep = public_bound(plan, units, unguarded.joined_rows).min(table.rows());
    compact(ctx, &step.narrow("bound"), &table, keep)
}

/// The public number of groups, where there is one.
fn domain(plan: &JointPlan) -> Option<usize> {
    let groups = plan.release.public_groups?;
    Some(usize::try_from(groups).unwrap_or(usize::MAX).max(1))
}

/// How many groups can be released at most: a released group has at least k units, hence at least k
/// of the grouped rows.
fn public_bound(plan: &JointPlan, units: &[UnitCount], joined_rows: usize) -> usize {
    let guards = plan.release.group_guards.iter();
    let most = guards
        .filter_map(|guard| units.get(*guard))
        .map(|unit| unit.k);
    let k = most.max().unwrap_or(1).max(1);
    let bound = joined_rows / usize::try_from(k).unwrap_or(usize::MAX);
    bound.min(domain(plan).unwrap_or(usize::MAX)).max(1)
}

/// Comparisons of unit counts with their k, each made once.
struct Guards<'a> {
    step: &'a Step,
    unguarded: &'a Unguarded,
    units: &'a [UnitCount],
    passes: BTreeMap<usize, BitColumn>,
}

impl Guards<'_> {
    /// Where this unit count reaches its k.
    fn pass(&mut self, ctx: &mut Context, guard: usize) -> Result<BitColumn> {
        if let Some(known) = self.passes.get(&guard) {
            return Ok(known.clone());
        }
        let (unit, place) = match (self.units.get(guard), self.unguarded.units.get(guard)) {
            (Some(unit), Some(place)) => (unit, *place),
            _ => return Err(invalid("a guard that the plan does not have")),
        };
        let here = self.step.at("units", guard);
        let pass = self.at_least(ctx, &here, place, u64::from(unit.k.max(1)))?;
        self.passes.insert(guard, pass.clone());
        Ok(pass)
    }

    /// Where all of these guards pass, and some row contributes.
    fn open(
        &mut self,
        ctx: &mut Context,
        step: &Step,
        first: Option<BitColumn>,
        guards: &[usize],
        some: Option<usize>,
    ) -> Result<Option<BitColumn>> {
        let mut open = first;
        for guard in guards {
            let pass = self.pass(ctx, *guard)?;
            open = Some(both(ctx, &step.at("guard", *guard), open, pass)?);
        }
        if let Some(some) = some {
            let pass = self.at_least(ctx, &step.narrow("some"), some, 1)?;
            open = Some(both(ctx, &step.narrow("and_some"), open, pass)?);
        }
        Ok(open)
    }

    fn at_least(
        &self,
        ctx: &mut Context,
        step: &Step,
        position: usize,
        k: u64,
    ) -> Result<BitColumn> {
        let Column::Arith64(count) = column(&self.unguarded.table, position)? else {
            return Err(invalid("a count that is not in Z_2^64"));
        };
        // Counts are at most the number of rows. Rows that are no groups hold anything, and are
        // gated by their validity.
        let most = (self.unguarded.joined_rows as u64).max(k);
        greater_equal_public(ctx, step, count, k, most.ilog2() as usize + 1)
    }
}

fn both(
    ctx: &mut Context,
    step: &Step,
    before: Option<BitColumn>,
    pass: BitColumn,
) -> Result<BitColumn> {
    match before {
        None => Ok(pass),
        Some(before) => and(ctx, step, &before, &pass),
    }
}

/// Whether a cell is shown, in the forms that its value needs.
struct Flag {
    /// None: always.
    open: Option<BitColumn>,
    narrow: Option<Arith<u64>>,
    wide: Option<Arith<u128>>,
}

impl Flag {
    fn new(open: Option<BitColumn>) -> Self {
        Self {
            open,
            narrow: None,
            wide: None,
        }
    }

    /// The value where it is shown, else zero; and its NULL bit.
    fn apply(
        &mut self,
        ctx: &mut Context,
        step: &Step,
        table: &SharedTable,
        position: usize,
    ) -> Result<(Column, BitColumn)> {
        let value = column(table, position)?;
        let Some(open) = &self.open else {
            return Ok((value.clone(), BitColumn::zeros(1, table.rows())));
        };
        let (flag, product) = (step.narrow("flag"), step.narrow("mask"));
        let value = match value {
            Column::Arith64(x) => {
                let bit = match self.narrow.take() {
                    Some(bit) => bit,
                    None => bit_to_arith64(ctx, &flag, open)?,
                };
                let bit = self.narrow.insert(bit);
                Column::Arith64(multiply(ctx, &product, x, bit)?)
            }
            Column::Arith128(x) => {
                let bit = match self.wide.take() {
                    Some(bit) => bit,
                    None => bit_to_arith128(ctx, &flag, open)?,
                };
                let bit = self.wide.insert(bit);
                Column::Arith128(multiply(ctx, &product, x, bit)?)
            }
            Column::Bits(_) => return Err(invalid("a cell in bits")),
        };
        Ok((value, not(ctx, open)))
    }
}

fn column(table: &SharedTable, position: usize) -> Result<&Column> {
    let column = table.columns.get(position);
    column.ok_or_else(|| invalid("a cell that the aggregate does not have"))
}

fn bits(table: &SharedTable, position: usize) -> Result<&BitColumn> {
    match table.columns.get(position) {
        Some(Column::Bits(bits)) => Ok(bits),
        _ => Err(invalid("a group key that is not in bits")),
    }
}

fn invalid(what: &str) -> Error {
    Error::InvalidInput {
        operator: "release guards",
        what: what.to_owned(),
    }
}
