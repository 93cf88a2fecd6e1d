//! Groups of a program.

use super::{Cells, Result, Rows, Runner, chunk_count, convert, internal};
use crate::plan::program::{Aggregate, AggregateKind, Variable};
use std::collections::BTreeMap;
use veilgate_mpc::circuit::{and, greater_equal_public, not};
use veilgate_mpc::context::Context;
use veilgate_mpc::net::Step;
use veilgate_mpc::oblivious::group::{self, Agg, Which};
use veilgate_mpc::share::BitColumn;
use veilgate_mpc::table::{Column, SharedTable};

impl Runner<'_> {
    pub(super) fn group(
        &self,
        ctx: &mut Context,
        step: &Step,
        rows: Rows,
        keys: &[Variable],
        aggregates: &[Aggregate],
        most: u64,
    ) -> Result<Rows> {
        let count_rows = rows.rows();
        let mut columns: Vec<Column> = Vec::new();
        let mut push = |column: Column| {
            columns.push(column);
            columns.len() - 1
        };
        let mut key_positions = Vec::new();
        let mut key_places = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let cells = rows.cells(*key)?;
            let bits = self.bits_of(ctx, &step.at("key", at), cells)?;
            // NULL leads, so that NULLs are one group.
            let null = cells.null.clone().map(|null| push(Column::Bits(null)));
            let value = push(Column::Bits(bits));
            key_positions.extend(null);
            key_positions.push(value);
            key_places.push((*key, null.is_some()));
        }
        let mut aggs = Vec::new();
        // For each aggregate: the first of its results, how many, and the one that counts its values.
        let mut results = Vec::new();
        let mut present: BTreeMap<Variable, Option<usize>> = BTreeMap::new();
        for (at, aggregate) in aggregates.iter().enumerate() {
            let here = step.at("aggregate", at);
            let when = match aggregate.argument {
                _ if aggregate.when.is_some() => {
                    self.counted(ctx, &here, &rows, aggregate, &mut push)?
                }
                None => None,
                Some(variable) => match present.get(&variable) {
                    Some(known) => *known,
                    None => {
                        let null = rows.cells(variable)?.null.clone();
                        let flag = null.map(|null| push(Column::Bits(not(ctx, &null))));
                        present.insert(variable, flag);
                        flag
                    }
                },
            };
            let first = aggs.len();
            let mut some = None;
            match (aggregate.function, aggregate.argument) {
                (AggregateKind::Count, _) => aggs.push(Agg::Count { when }),
                (AggregateKind::CountDistinct, Some(variable)) => {
                    let bits = self.bits_of(ctx, &here, rows.cells(variable)?)?;
                    let unit = push(Column::Bits(bits));
                    aggs.push(Agg::CountDistinct { unit, when });
                }
                (AggregateKind::Sum, Some(variable)) => {
                    let cells = rows.cells(variable)?;
                    let [part] = cells.parts.as_slice() else {
                        return Err(internal("a sum of a long text"));
                    };
                    let column = push(part.clone());
                    aggs.push(Agg::Sum { column });
                    if when.is_some() || keys.is_empty() {
                        aggs.push(Agg::Count { when });
                        some = Some(aggs.len() - 1);
                    }
                }
                (
                    function @ (AggregateKind::Median | AggregateKind::Percentile { .. }),
                    Some(variable),
                ) => {
                    let chosen = self.middle(ctx, &here, &rows, keys, (function, variable))?;
                    for column in chosen {
                        let column = push(column);
                        aggs.push(Agg::Sum { column });
                    }
                    if when.is_some() || keys.is_empty() {
                        aggs.push(Agg::Count { when });
                        some = Some(aggs.len() - 1);
                    }
                }
                (AggregateKind::Min | AggregateKind::Max, Some(variable)) => {
                    let bits = self.bits_of(ctx, &here, rows.cells(variable)?)?;
                    let bits = match self.is_signed(variable)? {
                        true => convert::flipped(ctx, bits),
                        false => bits,
                    };
                    let column = push(Column::Bits(bits));
                    let which = match aggregate.function {
                        AggregateKind::Min => Which::Min,
                        _ => Which::Max,
                    };
                    aggs.push(Agg::Value {
                        which,
                        column,
                        when,
                    });
                }
                (AggregateKind::Any, Some(variable)) => {
                    for part in rows.cells(variable)?.parts.clone() {
                        let column = push(part);
                        aggs.push(Agg::Value {
                            which: Which::First,
                            column,
                            when,
                        });
                    }
                }
                (_, None) => return Err(internal("an aggregate of nothing")),
            }
            results.push((first, some));
        }
        let table = SharedTable {
            columns,
            valid: rows.valid,
        };
        let grouped = group::aggregate(ctx, &step.narrow("group"), &table, &key_positions, &aggs)?;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let grouped = match keys.is_empty() || most >= grouped.rows() {
            true => grouped,
            false => grouped.slice(0, most),
        };
        let mut made = BTreeMap::new();
        let mut at = 0;
        for (key, nullable) in key_places {
            let null = match nullable {
                true => {
                    at += 1;
                    Some(grouped.bits("program", at - 1)?.clone())
                }
                false => None,
            };
            let value = Column::Bits(grouped.bits("program", at)?.clone());
            at += 1;
            made.insert(
                key,
                Cells {
                    parts: vec![value],
                    null,
                },
            );
        }
        for (index, (aggregate, (first, some))) in aggregates.iter().zip(results).enumerate() {
            let here = step.at("result", index);
            let first = key_positions.len() + first;
            let cells = self.result(
                ctx,
                &here,
                &grouped,
                aggregate,
                first,
                some.map(|some| key_positions.len() + some),
                (keys.is_empty(), count_rows),
            )?;
            made.insert(aggregate.variable, cells);
        }
        Ok(Rows {
            columns: made,
            valid: grouped.valid,
            sorted: None,
        })
    }

    /// Where the rows that a count with a condition counts are flagged.
    fn counted(
        &self,
        ctx: &mut Context,
        step: &Step,
        rows: &Rows,
        aggregate: &Aggregate,
        push: &mut dyn FnMut(Column) -> usize,
    ) -> Result<Option<usize>> {
        let Some(when) = aggregate.when else {
            return Ok(None);
        };
        let flag = self.bits_of(ctx, step, rows.cells(when)?)?;
        let null = match aggregate.argument {
            None => None,
            Some(variable) => rows.cells(variable)?.null.clone(),
        };
        let flag = match null {
            None => flag,
            Some(null) => and(ctx, &step.narrow("there"), &flag, &not(ctx, &null))?,
        };
        Ok(Some(push(Column::Bits(flag))))
    }

    #[allow(clippy::too_many_arguments)] // what a result is made of
    fn result(
        &self,
        ctx: &mut Context,
        step: &Step,
        grouped: &SharedTable,
        aggregate: &Aggregate,
        first: usize,
        some: Option<usize>,
        (global, rows): (bool, usize),
    ) -> Result<Cells> {
        let column = |at: usize| {
            let found = grouped.columns.get(at).cloned();
            found.ok_or_else(|| internal("an aggregate without its result"))
        };
        // Where there is no value; none where there always is one.
        let no_value = |ctx: &mut Context| -> Result<Option<BitColumn>> {
            let Some(some) = some else {
                return Ok(None);
            };
            let Column::Arith64(count) = column(some)? else {
                return Err(internal("a count that is no number"));
            };
            let bits = (rows.max(1) as u64).ilog2() as usize + 1;
            let any = greater_equal_public(ctx, step, &count, 1, bits)?;
            Ok(Some(not(ctx, &any)))
        };
        match (aggregate.function, aggregate.argument) {
            (AggregateKind::Sum, _) => Ok(Cells {
                parts: vec![column(first)?],
                null: no_value(ctx)?,
            }),
            (function @ (AggregateKind::Median | AggregateKind::Percentile { .. }), _) => {
                let sums = [column(first)?, column(first + 1)?, column(first + 2)?];
                let null = no_value(ctx)?;
                self.between(ctx, &step.narrow("between"), function, sums, null)
            }
            (AggregateKind::Min | AggregateKind::Max | AggregateKind::Any, Some(variable)) => {
                let parts = match aggregate.function {
                    AggregateKind::Any => chunk_count(&self.types.value(variable)?.form),
                    _ => 1,
                };
                let nullable = self.types.value(variable)?.nullable || global;
                let mut values = Vec::new();
                let mut null = None;
                for part in 0..parts {
                    let Column::Bits(of) = column(first + part)? else {
                        return Err(internal("a value that is no bits"));
                    };
                    let value = of.bit_range(0, of.width() - 1);
                    let none = of.bit_range(of.width() - 1, 1);
                    let signed =
                        aggregate.function != AggregateKind::Any && self.is_signed(variable)?;
                    let value = match signed {
                        true => convert::flipped(ctx, value),
                        false => value,
                    };
                    let value = match nullable {
                        false => value,
                        true => {
                            let some = not(ctx, &none);
                            convert::masked(ctx, &step.at("mask", part), &value, &some)?
                        }
                    };
                    values.push(Column::Bits(value));
                    if nullable && part == 0 {
                        null = Some(none);
                    }
                }
                Ok(Cells {
                    parts: values,
                    null,
                })
            }
            _ => Ok(Cells {
                parts: vec![column(first)?],
                null: None,
            }),
        }
    }
}
