//! Groups, cells and unit counts: what the guards of [`crate::release`] are then applied to.
//!
//! Every cell and every unit count is one aggregate over rows of the joined relation; equal ones are
//! computed once.

use super::blame::Failure;
use super::layout::{Form, Kind, has_null_bit, kind};
use super::relation::Relation;
use crate::error::{Code, Error};
use crate::plan::{Cell, ColumnRef, JointPlan, UnitCount};
use crate::release::{CellPlace, KeyPlace, Unguarded};
use std::collections::BTreeMap;
use veilgate_mpc::circuit::{and, multiply, multiply_by_flag, not};
use veilgate_mpc::context::Context;
use veilgate_mpc::net::Step;
use veilgate_mpc::oblivious::group::{self, Agg};
use veilgate_mpc::share::BitColumn;
use veilgate_mpc::table::{Column, SharedTable};

/// One aggregate over the joined rows.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Ask {
    /// Rows where `when` is not NULL.
    Count { when: Option<ColumnRef> },
    /// The sum of a product, over rows where `when` is not NULL.
    Sum {
        sum: Option<ColumnRef>,
        weights: Vec<ColumnRef>,
        when: Option<ColumnRef>,
    },
    /// Distinct units, over rows where none of `when` is NULL.
    Distinct {
        unit: ColumnRef,
        when: Vec<ColumnRef>,
    },
}

/// Runs the aggregate of a plan.
pub(super) fn aggregate(
    ctx: &mut Context,
    step: &Step,
    plan: &JointPlan,
    input: &Relation,
    keys: &[ColumnRef],
    cells: &[Cell],
    units: &[UnitCount],
) -> Result<Unguarded, Failure> {
    let mut work = Work {
        plan,
        input,
        columns: vec![],
        present: BTreeMap::new(),
        asks: vec![],
        aggs: vec![],
    };
    let mut key_positions = vec![];
    let mut key_places = vec![];
    for key in keys {
        let value = work.push(input.column(plan, *key, Form::Value)?.clone());
        key_positions.push(value);
        let null = if has_null_bit(plan, *key)? {
            let null = work.push(input.column(plan, *key, Form::Null)?.clone());
            key_positions.push(null);
            Some(null)
        } else {
            None
        };
        key_places.push(KeyPlace { value, null });
    }
    let mut unit_asks = vec![];
    for unit in units {
        let ask = unit_ask(plan, unit)?;
        unit_asks.push(work.ask(ctx, step, ask)?);
    }
    let mut cell_asks = vec![];
    for cell in cells {
        let ask = cell_ask(plan, cell)?;
        let value = work.ask(ctx, step, ask)?;
        let some = match cell.sum {
            Some(_) if !surely_some(plan, cell, keys, units) => {
                let when = nullable(plan, cell.argument)?;
                Some(work.ask(ctx, step, Ask::Count { when })?)
            }
            _ => None,
        };
        cell_asks.push((value, some));
    }
    let joined_rows = input.table.rows();
    let table = SharedTable {
        columns: work.columns,
        valid: input.table.valid.clone(),
    };
    let grouped = group::aggregate(
        ctx,
        &step.narrow("group"),
        &table,
        &key_positions,
        &work.aggs,
    )?;
    let first = key_positions.len();
    Ok(Unguarded {
        table: grouped,
        keys: key_places,
        cells: cell_asks
            .into_iter()
            .map(|(value, some)| CellPlace {
                value: first + value,
                some: some.map(|some| first + some),
            })
            .collect(),
        units: unit_asks.into_iter().map(|ask| first + ask).collect(),
        joined_rows,
    })
}

/// The column, if it can be NULL.
fn nullable(plan: &JointPlan, at: Option<ColumnRef>) -> Result<Option<ColumnRef>, Error> {
    Ok(match at {
        Some(at) if has_null_bit(plan, at)? => Some(at),
        _ => None,
    })
}

fn unit_ask(plan: &JointPlan, unit: &UnitCount) -> Result<Ask, Error> {
    let argument = nullable(plan, unit.argument)?;
    Ok(match unit.unit {
        None => Ask::Count { when: argument },
        Some(tag) => {
            let mut when: Vec<_> = nullable(plan, Some(tag))?.into_iter().collect();
            when.extend(argument.filter(|argument| *argument != tag));
            when.sort_unstable();
            Ask::Distinct { unit: tag, when }
        }
    })
}

fn cell_ask(plan: &JointPlan, cell: &Cell) -> Result<Ask, Error> {
    let when = nullable(plan, cell.argument)?;
    if cell.sum.is_none() && cell.weights.is_empty() {
        return Ok(Ask::Count { when });
    }
    let mut weights = cell.weights.clone();
    weights.sort_unstable();
    Ok(Ask::Sum {
        sum: cell.sum,
        weights,
        when,
    })
}

/// Whether a guard, or being a group at all, already says that some row contributes to this sum.
fn surely_some(plan: &JointPlan, cell: &Cell, keys: &[ColumnRef], units: &[UnitCount]) -> bool {
    let argument = nullable(plan, cell.argument).unwrap_or(None);
    if argument.is_none() && !keys.is_empty() {
        return true;
    }
    let guards = cell.guards.iter().chain(&plan.release.group_guards);
    guards
        .filter_map(|guard| units.get(*guard))
        .any(|unit| argument.is_none() || nullable(plan, unit.argument) == Ok(argument))
}

/// The table that is grouped, while it is put together.
struct Work<'a> {
    plan: &'a JointPlan,
    input: &'a Relation,
    columns: Vec<Column>,
    /// Where the bit "none of these is NULL" is.
    present: BTreeMap<Vec<ColumnRef>, usize>,
    asks: Vec<Ask>,
    aggs: Vec<Agg>,
}

impl Work<'_> {
    fn push(&mut self, column: Column) -> usize {
        self.columns.push(column);
        self.columns.len() - 1
    }

    /// The index of this aggregate among the results.
    fn ask(&mut self, ctx: &mut Context, step: &Step, ask: Ask) -> Result<usize, Failure> {
        if let Some(known) = self.asks.iter().position(|before| *before == ask) {
            return Ok(known);
        }
        let index = self.asks.len();
        let here = step.at("aggregate", index);
        let agg = match &ask {
            Ask::Count { when } => Agg::Count {
                when: self.present(ctx, step, when.as_slice())?,
            },
            Ask::Distinct { unit, when } => {
                let when = self.present(ctx, step, when)?;
                let unit = self.input.column(self.plan, *unit, Form::Value)?.clone();
                Agg::CountDistinct {
                    unit: self.push(unit),
                    when,
                }
            }
            Ask::Sum { sum, weights, when } => {
                let product = self.product(ctx, &here, *sum, weights)?;
                // A NULL that is itself summed is carried as zero.
                let gate = when.filter(|when| *sum != Some(*when));
                let column = match gate {
                    None => product,
                    Some(when) => {
                        let flag = self.present_bit(ctx, when)?;
                        let gate = here.narrow("present");
                        match product {
                            Column::Arith64(x) => {
                                Column::Arith64(multiply_by_flag(ctx, &gate, &x, &flag)?)
                            }
                            Column::Arith128(x) => {
                                Column::Arith128(multiply_by_flag(ctx, &gate, &x, &flag)?)
                            }
                            Column::Bits(_) => return Err(not_arithmetic().into()),
                        }
                    }
                };
                Agg::Sum {
                    column: self.push(column),
                }
            }
        };
        self.asks.push(ask);
        self.aggs.push(agg);
        Ok(index)
    }

    /// The product of a sum's column and its weights, in the ring of the column.
    fn product(
        &self,
        ctx: &mut Context,
        step: &Step,
        sum: Option<ColumnRef>,
        weights: &[ColumnRef],
    ) -> Result<Column, Failure> {
        let wide = match sum {
            Some(sum) => kind(self.plan, (sum, Form::Value))? == Kind::Ring128,
            None => false,
        };
        let form = if wide { Form::Lifted } else { Form::Value };
        let factors = sum.map(|sum| (sum, Form::Value)).into_iter();
        let factors = factors.chain(weights.iter().map(|weight| (*weight, form)));
        let mut product: Option<Column> = None;
        for (index, (at, form)) in factors.enumerate() {
            let factor = self.input.column(self.plan, at, form)?;
            let here = step.at("times", index);
            product = Some(match (product, factor) {
                (None, factor) => factor.clone(),
                (Some(Column::Arith64(x)), Column::Arith64(y)) => {
                    Column::Arith64(multiply(ctx, &here, &x, y)?)
                }
                (Some(Column::Arith128(x)), Column::Arith128(y)) => {
                    Column::Arith128(multiply(ctx, &here, &x, y)?)
                }
                _ => return Err(not_arithmetic().into()),
            });
        }
        Ok(product.ok_or_else(not_arithmetic)?)
    }

    fn present_bit(&self, ctx: &Context, at: ColumnRef) -> Result<BitColumn, Failure> {
        Ok(not(ctx, self.input.bits(self.plan, at, Form::Null)?))
    }

    /// Where the bit "none of these is NULL" is; none when there is nothing to ask.
    fn present(
        &mut self,
        ctx: &mut Context,
        step: &Step,
        columns: &[ColumnRef],
    ) -> Result<Option<usize>, Failure> {
        let Some((first, rest)) = columns.split_first() else {
            return Ok(None);
        };
        if let Some(known) = self.present.get(columns) {
            return Ok(Some(*known));
        }
        let mut bit = self.present_bit(ctx, *first)?;
        let here = step.at("present", self.present.len());
        for (index, at) in rest.iter().enumerate() {
            let next = self.present_bit(ctx, *at)?;
            bit = and(ctx, &here.at("and", index), &bit, &next)?;
        }
        let position = self.push(Column::Bits(bit));
        self.present.insert(columns.to_vec(), position);
        Ok(Some(position))
    }
}

fn not_arithmetic() -> Error {
    Error::new(Code::Internal, "a sum over columns of different rings")
}
