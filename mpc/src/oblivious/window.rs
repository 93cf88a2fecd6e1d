//! Window functions: over the rows of a partition in an order, results in the table's own row order.
//!
//! One sort by (invalid, partition, order); partitions and peers (rows equal in the order) are runs of
//! it; each function is a segmented scan ([`super::segment`]) or a local shift gated by whether the
//! other row is of the same partition; the inverse permutation brings all results back at once.
//! Functions of frames end at the current row, or at its last peer (SQL's default, RANGE). Leakage:
//! none. Adversary: semi-honest. See `docs/protocols/window.md`.

use super::segment::{
    run_starts, segmented_extreme, segmented_first_number, segmented_last, segmented_last_number,
    segmented_sum,
};
use super::sort::sort_by;
use crate::circuit::{and, bit_to_arith64};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::net::Step;
use crate::share::{Arith, BitColumn};
use crate::table::{Column, SharedTable};

/// Where the frame of a running function ends; it begins with the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// ROWS: at the current row.
    Rows,
    /// RANGE: at the last row equal to it in the order.
    Range,
    /// At the partition's end: totals.
    Partition,
}

/// A window function. Columns are indices into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// The row's number in its partition, from 1: `Arith64`. Ties are in the table's row order.
    RowNumber,
    /// The number of the first peer: `Arith64`.
    Rank,
    /// The number of different values of the order so far: `Arith64`.
    DenseRank,
    /// The column's value `by` rows before, then a flag (width 1) that there is such a row.
    Lag {
        /// Any column.
        column: usize,
        /// Rows.
        by: usize,
    },
    /// The column's value `by` rows after, then a flag that there is such a row.
    Lead {
        /// Any column.
        column: usize,
        /// Rows.
        by: usize,
    },
    /// The number of rows of the frame, or of those with the flag `when`: `Arith64`.
    Count {
        /// A bit column of width 1.
        when: Option<usize>,
        /// Where the frame ends.
        frame: Frame,
    },
    /// The sum over the frame of an arithmetic column, whose NULL cells are zero.
    Sum {
        /// An arithmetic column.
        column: usize,
        /// Where the frame ends.
        frame: Frame,
    },
    /// The least value of the frame of a bit column, as an unsigned number.
    Min {
        /// A bit column.
        column: usize,
        /// Where the frame ends.
        frame: Frame,
    },
    /// The greatest.
    Max {
        /// A bit column.
        column: usize,
        /// Where the frame ends.
        frame: Frame,
    },
}

const NAME: &str = "window";

/// The functions' columns, in their order, as many rows as the table and in its row order; rows that
/// are not valid hold garbage. `order` are bit columns of the table's rows, the first leading, as
/// [`super::order`] makes them.
///
/// # Errors
/// `InvalidInput` for columns of the wrong kind; those of the link.
pub fn window(
    ctx: &mut Context,
    step: &Step,
    table: &SharedTable,
    partition: &[usize],
    order: &[BitColumn],
    functions: &[Function],
) -> Result<Vec<Column>> {
    table.check(NAME)?;
    if order.iter().any(|o| o.rows() != table.rows()) {
        return Err(invalid("an order of other rows"));
    }
    let keys: Vec<&BitColumn> = partition
        .iter()
        .map(|&k| table.bits(NAME, k))
        .collect::<Result<_>>()?;
    let role = ctx.role();
    let invalid_rows = table.valid.clone().not(role);
    let mut by = vec![&invalid_rows];
    by.extend(&keys);
    by.extend(order);
    let sorted = sort_by(ctx, &step.narrow("sort"), &by)?;

    // The keys of the order, the partition's first: runs of a prefix are partitions.
    let all = BitColumn::concat(&sorted.keys.iter().collect::<Vec<_>>())?;
    let sorted = sorted.order;
    let partition_bits = 1 + keys.iter().map(|k| k.width()).sum::<usize>();
    let partitions = run_starts(
        ctx,
        &step.narrow("partitions"),
        &all.bit_range(0, partition_bits),
    )?;
    let peers = if order.is_empty() {
        partitions.clone()
    } else {
        run_starts(ctx, &step.narrow("peers"), &all)?
    };
    drop(all);
    let ones = Arith::public(role, &vec![1_u64; table.rows()]);
    let mut scans = Scans {
        partitions,
        peers,
        ones,
        number: None,
    };

    let mut moved: Vec<&Column> = Vec::new();
    let flags: Vec<Column> = functions
        .iter()
        .filter_map(|f| match f {
            Function::Count { when: Some(w), .. } => Some(table.bits(NAME, *w)),
            _ => None,
        })
        .map(|flag| flag.cloned().map(Column::Bits))
        .collect::<Result<_>>()?;
    let mut flag = flags.iter();
    for function in functions {
        match function {
            Function::Lag { column, .. }
            | Function::Lead { column, .. }
            | Function::Sum { column, .. }
            | Function::Min { column, .. }
            | Function::Max { column, .. } => {
                let column = table.columns.get(*column);
                moved.push(column.ok_or_else(|| invalid("a column that is not there"))?);
            }
            Function::Count { when: Some(_), .. } => moved.extend(flag.next()),
            _ => {}
        }
    }
    let mut moved = sorted
        .apply(ctx, &step.narrow("columns"), &moved)?
        .into_iter();
    let mut out = Vec::new();
    for (i, function) in functions.iter().enumerate() {
        let step = step.at("function", i);
        scans.run(ctx, &step, function, &mut moved, &mut out)?;
    }
    sorted.apply_inverse(ctx, &step.narrow("back"), &out.iter().collect::<Vec<_>>())
}

fn invalid(what: &str) -> Error {
    Error::InvalidInput {
        operator: NAME,
        what: what.to_owned(),
    }
}

/// The sorted rows' runs.
struct Scans {
    /// The first row of each partition.
    partitions: BitColumn,
    /// The first row of each run of peers.
    peers: BitColumn,
    ones: Arith<u64>,
    /// Row numbers, once computed.
    number: Option<Arith<u64>>,
}

impl Scans {
    fn run(
        &mut self,
        ctx: &mut Context,
        step: &Step,
        function: &Function,
        moved: &mut impl Iterator<Item = Column>,
        out: &mut Vec<Column>,
    ) -> Result<()> {
        let missing = || invalid("a column of the wrong kind");
        match *function {
            Function::RowNumber => {
                let number = self.number(ctx, step)?;
                out.push(Column::Arith64(number));
            }
            Function::Rank => {
                let number = self.number(ctx, step)?;
                let step = step.narrow("rank");
                let rank = segmented_first_number(ctx, &step, &self.peers, &number)?;
                out.push(Column::Arith64(rank));
            }
            Function::DenseRank => {
                let first = bit_to_arith64(ctx, &step.narrow("peers"), &self.peers)?;
                let step = step.narrow("dense");
                let dense = segmented_sum(ctx, &step, &self.partitions, &first)?;
                out.push(Column::Arith64(dense));
            }
            Function::Lag { by, .. } | Function::Lead { by, .. } => {
                let column = moved.next().ok_or_else(missing)?;
                let rows = column.rows();
                let back = self.same_partition(ctx, step, by)?;
                let by = by.min(rows);
                if matches!(function, Function::Lag { .. }) {
                    let pad = column.slice(0, 0).resized(by);
                    out.push(pad.followed_by(NAME, &column.slice(0, rows - by))?);
                    out.push(Column::Bits(back));
                } else {
                    out.push(column.slice(by, rows - by).resized(rows));
                    out.push(Column::Bits(back.slice(by, rows - by).resized(rows)));
                }
            }
            Function::Count { when: None, frame } => {
                let number = self.number(ctx, step)?;
                out.push(Column::Arith64(self.at_end(ctx, step, frame, number)?));
            }
            Function::Count {
                when: Some(_),
                frame,
            } => {
                let Some(Column::Bits(flag)) = moved.next() else {
                    return Err(missing());
                };
                let flag = bit_to_arith64(ctx, &step.narrow("when"), &flag)?;
                let step_sum = step.narrow("count");
                let count = segmented_sum(ctx, &step_sum, &self.partitions, &flag)?;
                out.push(Column::Arith64(self.at_end(ctx, step, frame, count)?));
            }
            Function::Sum { frame, .. } => {
                let sum = step.narrow("sum");
                out.push(match moved.next().ok_or_else(missing)? {
                    Column::Arith64(x) => {
                        let x = segmented_sum(ctx, &sum, &self.partitions, &x)?;
                        Column::Arith64(self.at_end(ctx, step, frame, x)?)
                    }
                    Column::Arith128(x) => {
                        let x = segmented_sum(ctx, &sum, &self.partitions, &x)?;
                        Column::Arith128(self.at_end(ctx, step, frame, x)?)
                    }
                    Column::Bits(_) => return Err(missing()),
                });
            }
            Function::Min { frame, .. } | Function::Max { frame, .. } => {
                let Some(Column::Bits(x)) = moved.next() else {
                    return Err(missing());
                };
                let maximum = matches!(function, Function::Max { .. });
                let scan = step.narrow("extreme");
                let x = segmented_extreme(ctx, &scan, &self.partitions, &x, maximum)?;
                let end = step.narrow("end");
                out.push(Column::Bits(match frame {
                    Frame::Rows => x,
                    Frame::Range => segmented_last(ctx, &end, &self.peers, &x)?,
                    Frame::Partition => segmented_last(ctx, &end, &self.partitions, &x)?,
                }));
            }
        }
        Ok(())
    }

    fn number(&mut self, ctx: &mut Context, step: &Step) -> Result<Arith<u64>> {
        if let Some(number) = &self.number {
            return Ok(number.clone());
        }
        let step = step.narrow("number");
        let number = segmented_sum(ctx, &step, &self.partitions, &self.ones)?;
        self.number = Some(number.clone());
        Ok(number)
    }

    /// A running number at the end of its frame.
    fn at_end<T: crate::ring::Ring>(
        &self,
        ctx: &mut Context,
        step: &Step,
        frame: Frame,
        running: Arith<T>,
    ) -> Result<Arith<T>> {
        let step = step.narrow("end");
        match frame {
            Frame::Rows => Ok(running),
            Frame::Range => segmented_last_number(ctx, &step, &self.peers, &running),
            Frame::Partition => segmented_last_number(ctx, &step, &self.partitions, &running),
        }
    }

    /// Whether the row `by` rows before is of the same partition: no partition begins in between.
    /// Doubling: `ceil(log2 by)` to twice as many ANDs and rounds.
    fn same_partition(&self, ctx: &mut Context, step: &Step, by: usize) -> Result<BitColumn> {
        let role = ctx.role();
        let rows = self.partitions.rows();
        let mut out = BitColumn::ones(role, 1, rows);
        // `power` says that of `reach` rows back, for powers of two; row 0 begins a partition.
        let mut power = self.partitions.clone().not(role).with_first_row_zero();
        let (mut reach, mut done) = (1_usize, 0);
        if by >= rows {
            return Ok(BitColumn::zeros(1, rows));
        }
        for bit in 0..usize::BITS - by.leading_zeros() {
            let step = step.at("reach", bit as usize);
            if by >> bit & 1 == 1 {
                let further = down(&power, done);
                out = and(ctx, &step.narrow("take"), &out, &further)?;
                done += reach;
            }
            if by >> (bit + 1) != 0 {
                let further = down(&power, reach);
                power = and(ctx, &step.narrow("double"), &power, &further)?;
                reach *= 2;
            }
        }
        Ok(out)
    }
}

/// Row `r` of the result is row `r - by`; the first ones are zero.
fn down(flag: &BitColumn, by: usize) -> BitColumn {
    let by = by.min(flag.rows());
    BitColumn::zeros(1, by).followed_by(&flag.slice(0, flag.rows() - by))
}
