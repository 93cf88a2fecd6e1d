//! GROUP BY with sums and counts.
//!
//! Sort by (invalid, keys); a group then is a run of rows, and its last row ends it. Running sums are
//! local, so after moving the ends to the front (order kept), a group's aggregate is the difference of
//! neighbouring running sums: no products at all. COUNT DISTINCT counts the first rows of (group,
//! unit) runs, in an order by (invalid, keys, not when, unit); several of one unit share an order by
//! (invalid, keys, unit) and count runs by their flags' ORs (`distinct`). Group boundaries fall on the
//! same positions in every such order, so running sums of several orders meet by position.
//!
//! Cost: one sort (one more per further distinct unit, whatever the flags), one equality a row, one partition, two
//! passages of each aggregate. Leakage: none beyond the row count. Adversary: semi-honest. See
//! `docs/protocols/group.md`.

mod distinct;
mod value;

pub use value::Which;

use self::distinct::Class;
use super::compact::partition;
use super::shuffle::Permutation;
use super::sort::{Sorted, sort_by};
use crate::circuit::{and, bit_to_arith, bit_to_arith64, equal, inner_product};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::net::Step;
use crate::ring::Ring;
use crate::share::{Arith, BitColumn, Role};
use crate::table::{Column, SharedTable};
use std::collections::BTreeMap;

/// An aggregate over the valid rows of a group. Columns are indices into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agg {
    /// The number of rows, or of rows where the flag `when` is set. Below 2^64: `Arith64`.
    Count {
        /// A bit column of width 1.
        when: Option<usize>,
    },
    /// The sum of an arithmetic column, modulo its ring; the caller declares a range that fits, and
    /// has set NULL cells to zero.
    Sum {
        /// An arithmetic column.
        column: usize,
    },
    /// One of the values of a bit column, among rows where `when` is set: the value's bits, and one on
    /// top that there is none. First and last are in the table's row order.
    Value {
        /// Which one.
        which: Which,
        /// A bit column.
        column: usize,
        /// A bit column of width 1.
        when: Option<usize>,
    },
    /// The number of different values of `unit`, among rows where `when` is set: `Arith64`.
    CountDistinct {
        /// A bit column.
        unit: usize,
        /// A bit column of width 1.
        when: Option<usize>,
    },
}

const NAME: &str = "group";

/// Groups `table` by `keys` (bit columns; none means one global group) and aggregates. The result has
/// the key columns, then a column per aggregate. With keys it has as many rows as the table: the real
/// groups first, ascending by key, the rest invalid (holding garbage), so that a public bound on the
/// number of groups may cut it. The global group is one valid row, also over no rows.
///
/// # Errors
/// `InvalidInput` for columns of the wrong kind; those of the link.
pub fn aggregate(
    ctx: &mut Context,
    step: &Step,
    table: &SharedTable,
    keys: &[usize],
    aggs: &[Agg],
) -> Result<SharedTable> {
    run(ctx, step, table, keys, aggs, false)
}

/// As [`aggregate`], of a table whose rows already are in the order by (invalid, keys): no sort but
/// for distinct counts. That the order holds is the caller's promise; groups are runs of equal keys.
///
/// # Errors
/// As [`aggregate`].
pub fn aggregate_sorted(
    ctx: &mut Context,
    step: &Step,
    table: &SharedTable,
    keys: &[usize],
    aggs: &[Agg],
) -> Result<SharedTable> {
    run(ctx, step, table, keys, aggs, true)
}

fn run(
    ctx: &mut Context,
    step: &Step,
    table: &SharedTable,
    keys: &[usize],
    aggs: &[Agg],
    is_sorted: bool,
) -> Result<SharedTable> {
    table.check(NAME)?;
    check_columns(table, keys, aggs)?;
    if keys.is_empty() {
        return global(ctx, step, table, aggs);
    }
    let key_columns: Vec<&BitColumn> = keys
        .iter()
        .map(|&k| table.bits(NAME, k))
        .collect::<Result<_>>()?;
    if table.rows() == 0 {
        return Ok(no_rows(table, keys, aggs));
    }

    // The first unit counted lends its order to all other aggregates, unless the rows' own matters.
    let needs_own = |agg: &Agg| {
        matches!(
            agg,
            Agg::Value {
                which: Which::First | Which::Last,
                ..
            }
        )
    };
    let classes = distinct::classes(aggs);
    let lent = classes.first().filter(|_| !aggs.iter().any(needs_own));
    let order = if is_sorted && lent.is_none() {
        Order::given(ctx, &step.narrow("sort"), table, &key_columns)?
    } else {
        Order::sort(ctx, &step.narrow("sort"), table, &key_columns, lent)?
    };
    let lent = lent.map(|_| &order);
    let mut distinct = distinct_counts(ctx, step, table, &key_columns, &classes, lent)?;
    let mut values = Vec::with_capacity(aggs.len());
    for (i, agg) in aggs.iter().enumerate() {
        values.push(match distinct.remove(&i) {
            Some(counts) => counts,
            None => running(ctx, &step.at("aggregate", i), table, &order, *agg)?,
        });
    }

    // A row ends its group if it is valid and the next row does not go on with it.
    let goes_on = and(ctx, &step.narrow("goes-on"), &order.same, &order.valid)?.shifted_down();
    let ends = and(
        ctx,
        &step.narrow("ends"),
        &order.valid,
        &goes_on.not(ctx.role()),
    )?;
    let to_front = partition(ctx, &step.narrow("partition"), &ends)?;
    let mut moving = order.key_columns(&key_columns);
    moving.push(Column::Bits(ends));
    moving.extend(values);
    let mut columns = to_front.apply(
        ctx,
        &step.narrow("front"),
        &moving.iter().collect::<Vec<_>>(),
    )?;
    let Column::Bits(valid) = columns.remove(keys.len()) else {
        return Err(wrong(keys.len()));
    };
    for (column, agg) in columns[keys.len()..].iter_mut().zip(aggs) {
        // Sums run through all groups; values begin anew with each.
        if !matches!(agg, Agg::Value { .. }) {
            *column = column.differences();
        }
    }
    ctx.report(&step.narrow("grouped"), table.rows());
    Ok(SharedTable { columns, valid })
}

/// The running value of an aggregate that is no distinct count, in this order.
fn running(
    ctx: &mut Context,
    step: &Step,
    table: &SharedTable,
    order: &Order,
    agg: Agg,
) -> Result<Column> {
    Ok(match agg {
        Agg::Count { when: None } => {
            let counts: Vec<u64> = (1..=table.rows() as u64).collect();
            Column::Arith64(Arith::public(ctx.role(), &counts))
        }
        Agg::Count { when: Some(when) } => {
            let flag = table.bits(NAME, when)?;
            let flag = order.move_bits(ctx, &step.narrow("move"), flag)?;
            Column::Arith64(bit_to_arith64(ctx, &step.narrow("bits"), &flag)?.prefix_sums())
        }
        Agg::Value {
            which,
            column,
            when,
        } => {
            let value = with_none(ctx.role(), table.bits(NAME, column)?, flag(table, when)?)?;
            let value = order.move_bits(ctx, &step.narrow("move"), &value)?;
            let first = order.same.clone().not(ctx.role());
            Column::Bits(value::running(ctx, step, &first, &value, which)?)
        }
        Agg::Sum { column } => match &order.permutation {
            None => table.columns[column].prefix_sums(),
            Some(permutation) => {
                let moved = permutation.apply(ctx, step, &[&table.columns[column]])?;
                moved
                    .first()
                    .map(Column::prefix_sums)
                    .ok_or_else(|| wrong(column))?
            }
        },
        Agg::CountDistinct { unit, .. } => return Err(wrong(unit)),
    })
}

/// No groups.
fn no_rows(table: &SharedTable, keys: &[usize], aggs: &[Agg]) -> SharedTable {
    let mut columns: Vec<Column> = keys.iter().map(|&k| table.columns[k].clone()).collect();
    columns.extend(aggs.iter().map(|agg| match agg {
        Agg::Sum { column } => table.columns[*column].clone(),
        Agg::Value { column, .. } => {
            let width = table.bits(NAME, *column).map_or(1, BitColumn::width);
            Column::Bits(BitColumn::zeros(width + 1, 0))
        }
        _ => Column::Arith64(Arith::zeros(0)),
    }));
    let valid = table.valid.clone();
    SharedTable { columns, valid }
}

/// The running distinct counts by aggregate, each class over an order of its own; `lent` is that of the
/// first.
fn distinct_counts(
    ctx: &mut Context,
    step: &Step,
    table: &SharedTable,
    keys: &[&BitColumn],
    classes: &[Class],
    lent: Option<&Order>,
) -> Result<BTreeMap<usize, Column>> {
    let mut all = BTreeMap::new();
    for (number, class) in classes.iter().enumerate() {
        let step = step.at("aggregate", class.members[0].0);
        let counts = match lent.filter(|_| number == 0) {
            Some(order) => order.distinct(ctx, &step, table, class)?,
            None => Order::sort(ctx, &step.narrow("sort"), table, keys, Some(class))?
                .distinct(ctx, &step, table, class)?,
        };
        all.extend(class.members.iter().map(|(index, _)| *index).zip(counts));
    }
    Ok(all)
}

fn flag(table: &SharedTable, when: Option<usize>) -> Result<Option<&BitColumn>> {
    when.map(|when| table.bits(NAME, when)).transpose()
}

/// A value with a bit on top that there is none: where the flag is not set. Local.
fn with_none(role: Role, value: &BitColumn, there: Option<&BitColumn>) -> Result<BitColumn> {
    let none = match there {
        None => BitColumn::zeros(1, value.rows()),
        Some(there) => there.clone().not(role),
    };
    BitColumn::concat(&[value, &none])
}

/// Rows in an order by (invalid, keys) and, within groups, by what a distinct count needs.
struct Order {
    /// None where the rows came in order.
    permutation: Option<Permutation>,
    /// In this order: the keys side by side (first key highest), validity, and whether a row has the
    /// keys of the row above.
    key: BitColumn,
    valid: BitColumn,
    same: BitColumn,
    /// In this order: the distinct count's unit and its flag.
    distinct: Option<(BitColumn, Option<BitColumn>)>,
}

impl Order {
    /// The order that the rows have.
    fn given(
        ctx: &mut Context,
        step: &Step,
        table: &SharedTable,
        keys: &[&BitColumn],
    ) -> Result<Self> {
        let key = BitColumn::concat(&keys.iter().rev().copied().collect::<Vec<_>>())?;
        let same = equal(ctx, &step.narrow("same"), &key, &key.shifted_up())?.with_first_row_zero();
        Ok(Self {
            permutation: None,
            key,
            valid: table.valid.clone(),
            same,
            distinct: None,
        })
    }

    /// A column of the table in this order.
    fn move_bits(&self, ctx: &mut Context, step: &Step, column: &BitColumn) -> Result<BitColumn> {
        match &self.permutation {
            None => Ok(column.clone()),
            Some(permutation) => permutation.apply_bits(ctx, step, column),
        }
    }

    fn sort(
        ctx: &mut Context,
        step: &Step,
        table: &SharedTable,
        keys: &[&BitColumn],
        distinct: Option<&Class>,
    ) -> Result<Self> {
        let role = ctx.role();
        let invalid = table.valid.clone().not(role);
        let key = BitColumn::concat(&keys.iter().rev().copied().collect::<Vec<_>>())?;
        let mut by = vec![&invalid, &key];
        let unit = distinct.map(|class| table.bits(NAME, class.unit));
        let unit = unit.transpose()?;
        let when = distinct.and_then(Class::single).and_then(|(_, when)| when);
        let when = flag(table, when)?;
        let unless = when.map(|w| w.clone().not(role));
        by.extend(unless.as_ref());
        by.extend(unit);
        let Sorted { order, keys } = sort_by(ctx, &step.narrow("order"), &by)?;
        let mut keys = keys.into_iter();
        let mut next = || {
            keys.next().ok_or_else(|| Error::InvalidInput {
                operator: NAME,
                what: "a sort that lost a key".into(),
            })
        };
        let (valid, key) = (next()?.not(role), next()?);
        let distinct = match unit {
            None => None,
            Some(_) => {
                let when = when.map(|_| next()).transpose()?;
                Some((next()?, when.map(|unless| unless.not(role))))
            }
        };
        let same = equal(ctx, &step.narrow("same"), &key, &key.shifted_up())?.with_first_row_zero();
        Ok(Self {
            permutation: Some(order),
            key,
            valid,
            same,
            distinct,
        })
    }

    /// The running numbers of different units, of each count of the class. Alone it counts a row if its
    /// flag is set and the row above is not of the same group and unit (flagged rows come first in a
    /// group, so the row above is flagged too).
    fn distinct(
        &self,
        ctx: &mut Context,
        step: &Step,
        table: &SharedTable,
        class: &Class,
    ) -> Result<Vec<Column>> {
        let Some((unit, when)) = &self.distinct else {
            return Err(wrong(class.unit));
        };
        let same = equal(ctx, &step.narrow("unit"), unit, &unit.shifted_up())?;
        let again = and(ctx, &step.narrow("again"), &same, &self.same)?;
        if class.single().is_none() {
            let flags = class.flags(table)?;
            let flags = flags.map(|flags| self.move_bits(ctx, &step.narrow("move"), &flags));
            // The first invalid row may have the last valid one's keys and unit.
            let again = and(ctx, &step.narrow("valid"), &again, &self.valid)?;
            let numbers = class.numbers(ctx, step, again, flags.transpose()?.as_ref(), None)?;
            let running = numbers
                .into_iter()
                .map(|x| Column::Arith64(x.prefix_sums()));
            return Ok(running.collect());
        }
        let mut first = again.not(ctx.role());
        if let Some(when) = when {
            first = and(ctx, &step.narrow("when"), &first, when)?;
        }
        let first = bit_to_arith64(ctx, &step.narrow("bits"), &first)?;
        Ok(vec![Column::Arith64(first.prefix_sums())])
    }

    /// The single key columns in this order.
    fn key_columns(&self, keys: &[&BitColumn]) -> Vec<Column> {
        let mut end = self.key.width();
        keys.iter()
            .map(|k| {
                end -= k.width();
                Column::Bits(self.key.bit_range(end, k.width()))
            })
            .collect()
    }
}

/// One group of all rows: sums of flags and inner products, no sort but for distinct counts.
fn global(
    ctx: &mut Context,
    step: &Step,
    table: &SharedTable,
    aggs: &[Agg],
) -> Result<SharedTable> {
    let mut distinct: BTreeMap<usize, Arith<u64>> = BTreeMap::new();
    for class in distinct::classes(aggs) {
        let step = step.at("aggregate", class.members[0].0);
        let counts = distinct_units(ctx, &step, table, &class)?;
        distinct.extend(class.members.iter().map(|(index, _)| *index).zip(counts));
    }
    let mut columns = Vec::with_capacity(aggs.len());
    for (i, agg) in aggs.iter().enumerate() {
        let step = step.at("aggregate", i);
        columns.push(match *agg {
            Agg::Count { when } => {
                let flag = gate(ctx, &step, table, when)?;
                Column::Arith64(bit_to_arith64(ctx, &step.narrow("bits"), &flag)?.sum())
            }
            Agg::Value {
                which,
                column,
                when,
            } => {
                let flag = gate(ctx, &step, table, when)?;
                let value = with_none(ctx.role(), table.bits(NAME, column)?, Some(&flag))?;
                let first = BitColumn::zeros(1, table.rows());
                let running = value::running(ctx, &step, &first, &value, which)?;
                Column::Bits(match table.rows() {
                    0 => BitColumn::ones(ctx.role(), value.width(), 1),
                    rows => running.slice(rows - 1, 1),
                })
            }
            Agg::Sum { column } => match &table.columns[column] {
                Column::Arith64(x) => Column::Arith64(sum_where(ctx, &step, x, &table.valid)?),
                Column::Arith128(x) => Column::Arith128(sum_where(ctx, &step, x, &table.valid)?),
                Column::Bits(_) => return Err(wrong(column)),
            },
            Agg::CountDistinct { unit, .. } => {
                Column::Arith64(distinct.remove(&i).ok_or_else(|| wrong(unit))?)
            }
        });
    }
    let valid = BitColumn::ones(ctx.role(), 1, 1);
    Ok(SharedTable { columns, valid })
}

/// Valid rows where the flag is set.
fn gate(
    ctx: &mut Context,
    step: &Step,
    table: &SharedTable,
    when: Option<usize>,
) -> Result<BitColumn> {
    match when {
        None => Ok(table.valid.clone()),
        Some(when) => and(
            ctx,
            &step.narrow("gate"),
            &table.valid,
            table.bits(NAME, when)?,
        ),
    }
}

fn sum_where<T: Ring>(
    ctx: &mut Context,
    step: &Step,
    x: &Arith<T>,
    flag: &BitColumn,
) -> Result<Arith<T>> {
    let flag: Arith<T> = bit_to_arith(ctx, &step.narrow("bits"), flag)?;
    inner_product(ctx, &step.narrow("product"), x, &flag)
}

/// The numbers of different units among valid rows, of each count of the class.
fn distinct_units(
    ctx: &mut Context,
    step: &Step,
    table: &SharedTable,
    class: &Class,
) -> Result<Vec<Arith<u64>>> {
    let unit = table.bits(NAME, class.unit)?;
    if let Some((_, when)) = class.single() {
        let flag = gate(ctx, step, table, when)?;
        return Ok(vec![distinct_where(ctx, step, unit, &flag)?]);
    }
    let invalid = table.valid.clone().not(ctx.role());
    let Sorted { order, keys } = sort_by(ctx, &step.narrow("sort"), &[&invalid, unit])?;
    let [invalid, unit] = &keys[..] else {
        return Err(wrong(class.unit));
    };
    let valid = invalid.clone().not(ctx.role());
    let same = equal(ctx, &step.narrow("same"), unit, &unit.shifted_up())?.with_first_row_zero();
    let again = and(ctx, &step.narrow("valid"), &same, &valid)?;
    let flags = class.flags(table)?;
    let flags = flags.map(|flags| order.apply_bits(ctx, &step.narrow("move"), &flags));
    let numbers = class.numbers(ctx, step, again, flags.transpose()?.as_ref(), Some(&valid))?;
    Ok(numbers.into_iter().map(|x| x.sum()).collect())
}

fn distinct_where(
    ctx: &mut Context,
    step: &Step,
    unit: &BitColumn,
    flag: &BitColumn,
) -> Result<Arith<u64>> {
    let unless = flag.clone().not(ctx.role());
    let sorted = sort_by(ctx, &step.narrow("sort"), &[&unless, unit])?;
    let [unless, unit] = &sorted.keys[..] else {
        return Err(wrong(0));
    };
    let same = equal(ctx, &step.narrow("same"), unit, &unit.shifted_up())?.with_first_row_zero();
    let flag = unless.clone().not(ctx.role());
    let first = and(ctx, &step.narrow("first"), &flag, &same.not(ctx.role()))?;
    Ok(bit_to_arith64(ctx, &step.narrow("bits"), &first)?.sum())
}

fn check_columns(table: &SharedTable, keys: &[usize], aggs: &[Agg]) -> Result<()> {
    for &key in keys {
        table.bits(NAME, key)?;
    }
    for agg in aggs {
        let when = match *agg {
            Agg::Count { when } => when,
            Agg::Sum { column } => match table.columns.get(column) {
                Some(Column::Arith64(_) | Column::Arith128(_)) => None,
                _ => return Err(wrong(column)),
            },
            Agg::Value { column, when, .. } => {
                table.bits(NAME, column)?;
                when
            }
            Agg::CountDistinct { unit, when } => {
                table.bits(NAME, unit)?;
                when
            }
        };
        if let Some(when) = when
            && table.bits(NAME, when)?.width() != 1
        {
            return Err(wrong(when));
        }
    }
    Ok(())
}

fn wrong(column: usize) -> Error {
    Error::InvalidInput {
        operator: NAME,
        what: format!("column {column} is missing or of another kind"),
    }
}
