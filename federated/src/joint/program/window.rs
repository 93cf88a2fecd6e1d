//! Functions over the rows of a partition, of a program.

use super::{Cells, Result, Rows, Runner, convert, internal, times_flag};
use crate::joint::program::convert::Number;
use crate::plan::program::{Frame, OrderKey, Variable, WindowCall, WindowFunction};
use std::collections::BTreeMap;
use veilgate_mpc::circuit::{not, or};
use veilgate_mpc::context::Context;
use veilgate_mpc::net::Step;
use veilgate_mpc::oblivious::window::{self, Function};
use veilgate_mpc::share::BitColumn;
use veilgate_mpc::table::{Column, SharedTable};

/// What the operator is asked for: columns of its own, and functions of them.
#[derive(Default)]
struct Asked {
    columns: Vec<Column>,
    functions: Vec<Function>,
    /// For each variable a flag that it is not NULL.
    present: BTreeMap<Variable, Option<usize>>,
}

impl Asked {
    fn push(&mut self, column: Column) -> usize {
        self.columns.push(column);
        self.columns.len() - 1
    }

    /// Where the flag is that a value is there; none where every one is.
    fn present(&mut self, ctx: &Context, variable: Variable, cells: &Cells) -> Option<usize> {
        if let Some(known) = self.present.get(&variable) {
            return *known;
        }
        let flag = cells.null.as_ref().map(|null| not(ctx, null));
        let flag = flag.map(|flag| self.push(Column::Bits(flag)));
        self.present.insert(variable, flag);
        flag
    }
}

impl Runner<'_> {
    /// The rows with a column for each function.
    pub(super) fn window(
        &self,
        ctx: &mut Context,
        step: &Step,
        rows: Rows,
        partition: &[Variable],
        order: &[OrderKey],
        calls: &[WindowCall],
    ) -> Result<Rows> {
        let mut asked = Asked::default();
        let keys = self.key_columns(ctx, &step.narrow("partition"), &rows, partition)?;
        let keys: Vec<usize> = keys.into_iter().map(|key| asked.push(key)).collect();
        let order = self.order_bits(ctx, &step.narrow("order"), &rows, order)?;
        for (at, call) in calls.iter().enumerate() {
            self.ask(ctx, &step.at("argument", at), &rows, call, &mut asked)?;
        }
        let table = SharedTable {
            columns: asked.columns,
            valid: rows.valid.clone(),
        };
        let here = step.narrow("window");
        let made = window::window(ctx, &here, &table, &keys, &order, &asked.functions)?;
        let mut made = made.into_iter();
        let mut rows = rows;
        for (at, call) in calls.iter().enumerate() {
            let here = step.at("result", at);
            let (cells, there) = self.answer(ctx, &here, &rows, call, &mut made)?;
            if let (Some(variable), Some(there)) = (call.there, there) {
                let flag = Cells {
                    parts: vec![Column::Bits(there)],
                    null: None,
                };
                rows.columns.insert(variable, flag);
            }
            rows.columns.insert(call.variable, cells);
        }
        Ok(rows)
    }

    /// The bits of keys, each after its NULL flag, so that NULLs are equal.
    pub(super) fn key_columns(
        &self,
        ctx: &mut Context,
        step: &Step,
        rows: &Rows,
        keys: &[Variable],
    ) -> Result<Vec<Column>> {
        let mut columns = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let cells = rows.cells(*key)?;
            columns.extend(cells.null.clone().map(Column::Bits));
            let bits = self.bits_of(ctx, &step.at("key", at), cells)?;
            columns.push(Column::Bits(bits));
        }
        Ok(columns)
    }

    /// Adds what one function needs; [`Self::answer`] takes the results in the same order.
    fn ask(
        &self,
        ctx: &mut Context,
        step: &Step,
        rows: &Rows,
        call: &WindowCall,
        asked: &mut Asked,
    ) -> Result<()> {
        use WindowFunction as F;
        match call.function {
            F::RowNumber => asked.functions.push(Function::RowNumber),
            F::Rank => asked.functions.push(Function::Rank),
            F::DenseRank => asked.functions.push(Function::DenseRank),
            F::Lag { by } | F::Lead { by } => {
                let cells = argument(rows, call)?;
                let by = usize::try_from(by).unwrap_or(usize::MAX);
                let parts = cells.parts.iter().cloned();
                for part in parts.chain(cells.null.clone().map(Column::Bits)) {
                    let column = asked.push(part);
                    asked.functions.push(match call.function {
                        F::Lag { .. } => Function::Lag { column, by },
                        _ => Function::Lead { column, by },
                    });
                }
            }
            F::Count(frame) => {
                let when = match call.argument {
                    None => None,
                    Some(variable) => asked.present(ctx, variable, rows.cells(variable)?),
                };
                let frame = frame_of(frame);
                asked.functions.push(Function::Count { when, frame });
            }
            F::Sum(frame) => {
                let cells = argument(rows, call)?;
                let [part] = cells.parts.as_slice() else {
                    return Err(internal("a sum of a long text"));
                };
                let column = asked.push(part.clone());
                let frame = frame_of(frame);
                asked.functions.push(Function::Sum { column, frame });
                let variable = call.argument.ok_or_else(|| internal("a sum of nothing"))?;
                if let Some(column) = asked.present(ctx, variable, cells) {
                    // Whether any value is there.
                    asked.functions.push(Function::Max { column, frame });
                }
            }
            F::Min(frame) | F::Max(frame) => {
                let cells = argument(rows, call)?;
                let variable = call
                    .argument
                    .ok_or_else(|| internal("an extreme of nothing"))?;
                let mut bits = self.bits_of(ctx, step, cells)?;
                if self.is_signed(variable)? {
                    bits = convert::flipped(ctx, bits);
                }
                let minimum = matches!(call.function, F::Min(_));
                // The flag on top has every value go before none.
                if let Some(null) = &cells.null {
                    let flag = match minimum {
                        true => null.clone(),
                        false => not(ctx, null),
                    };
                    bits = BitColumn::concat(&[&bits, &flag])?;
                }
                let column = asked.push(Column::Bits(bits));
                let frame = frame_of(frame);
                asked.functions.push(match minimum {
                    true => Function::Min { column, frame },
                    false => Function::Max { column, frame },
                });
            }
        }
        Ok(())
    }

    /// The value of one function, and whether there is the row that it is of.
    fn answer(
        &self,
        ctx: &mut Context,
        step: &Step,
        rows: &Rows,
        call: &WindowCall,
        made: &mut dyn Iterator<Item = Column>,
    ) -> Result<(Cells, Option<BitColumn>)> {
        use WindowFunction as F;
        let mut next = || {
            made.next()
                .ok_or_else(|| internal("a window without its result"))
        };
        let plain = |column: Column, null: Option<BitColumn>| Cells {
            parts: vec![column],
            null,
        };
        Ok(match call.function {
            F::RowNumber | F::Rank | F::DenseRank | F::Count(_) => (plain(next()?, None), None),
            F::Sum(_) => {
                let sum = next()?;
                let null = match argument(rows, call)?.null {
                    None => None,
                    Some(_) => Some(not(ctx, &flag(next()?)?)),
                };
                (plain(sum, null), None)
            }
            F::Min(_) | F::Max(_) => {
                let Column::Bits(bits) = next()? else {
                    return Err(internal("an extreme that is no bits"));
                };
                let (mut value, mut null) = (bits, None);
                if argument(rows, call)?.null.is_some() {
                    let top = value.width() - 1;
                    let leading = value.bit_range(top, 1);
                    null = Some(match call.function {
                        F::Min(_) => leading,
                        _ => not(ctx, &leading),
                    });
                    value = value.bit_range(0, top);
                }
                // What is NULL was zero, and is again.
                if let Some(variable) = call.argument
                    && self.is_signed(variable)?
                {
                    value = convert::flipped(ctx, value);
                }
                (plain(Column::Bits(value), null), None)
            }
            F::Lag { .. } | F::Lead { .. } => {
                let cells = argument(rows, call)?;
                let mut parts = Vec::new();
                let mut there = None;
                for at in 0..cells.parts.len() {
                    let (value, flag_of) = (next()?, flag(next()?)?);
                    let number = Number::of(&value);
                    let here = step.at("part", at);
                    parts.push(times_flag(ctx, &here, &number, &flag_of)?.column());
                    there = Some(flag_of);
                }
                let there = there.ok_or_else(|| internal("a value of no column"))?;
                let missing = not(ctx, &there);
                let null = match cells.null {
                    None => missing,
                    Some(_) => {
                        let null = flag(next()?)?;
                        // That this one is there is known.
                        next()?;
                        or(ctx, &step.narrow("null"), &null, &missing)?
                    }
                };
                let cells = Cells {
                    parts,
                    null: Some(null),
                };
                (cells, Some(there))
            }
        })
    }
}

fn argument<'r>(rows: &'r Rows, call: &WindowCall) -> Result<&'r Cells> {
    let variable = call
        .argument
        .ok_or_else(|| internal("a function over a partition of nothing"))?;
    rows.cells(variable)
}

fn flag(column: Column) -> Result<BitColumn> {
    match column {
        Column::Bits(bits) => Ok(bits),
        _ => Err(internal("a flag that is no bit")),
    }
}

fn frame_of(frame: Frame) -> window::Frame {
    match frame {
        Frame::Rows => window::Frame::Rows,
        Frame::Range => window::Frame::Range,
        Frame::Partition => window::Frame::Partition,
    }
}
