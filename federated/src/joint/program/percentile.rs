//! Medians and percentiles of the groups of a program.
//!
//! With a row's number r in its group in the order of the values, and the number n of them, the value
//! asked for lies at `p (n - 1) / q` from 0. Rows that are nearer to that than one place are one or two,
//! the lower and the upper one; where they are is the sign of small numbers. Both values, and how far
//! the place is from the lower one, are summed by group, which shows nothing; what is asked for is
//! `(q lower + t (upper - lower)) / q`. Nothing is opened.

use super::{Cells, Result, Rows, Runner, convert, internal};
use crate::plan::program::{AggregateKind, OrderKey, Variable};
use veilgate_mpc::circuit::{a2b, and, b2a, bit_to_arith, multiply, multiply_by_flag, not};
use veilgate_mpc::context::Context;
use veilgate_mpc::net::Step;
use veilgate_mpc::oblivious::window::{self, Frame, Function};
use veilgate_mpc::share::{Arith, BitColumn};
use veilgate_mpc::table::{Column, SharedTable};

/// A place among the values of a group: `p / q` of the way from the first to the last.
#[derive(Debug, Clone, Copy)]
struct Place {
    p: u64,
    q: u64,
}

impl Place {
    fn of(function: AggregateKind) -> Result<Self> {
        match function {
            AggregateKind::Median => Ok(Self { p: 1, q: 2 }),
            AggregateKind::Percentile { parts, digits } => Ok(Self {
                p: parts.into(),
                q: 10_u64
                    .checked_pow(digits.into())
                    .ok_or_else(|| internal("a percentile of too many digits"))?,
            }),
            _ => Err(internal("a percentile that is none")),
        }
    }
}

impl Runner<'_> {
    /// Columns to be summed by group: the lower value, the upper one, and in units of `1 / q` how far the
    /// place is from the lower one.
    pub(super) fn middle(
        &self,
        ctx: &mut Context,
        step: &Step,
        rows: &Rows,
        keys: &[Variable],
        (function, variable): (AggregateKind, Variable),
    ) -> Result<[Column; 3]> {
        let place = Place::of(function)?;
        let cells = rows.cells(variable)?;
        let count = rows.rows();
        let mut columns = self.key_columns(ctx, &step.narrow("keys"), rows, keys)?;
        let partition: Vec<usize> = (0..columns.len()).collect();
        let when = cells.null.as_ref().map(|null| not(ctx, null));
        let when = when.map(|flag| {
            columns.push(Column::Bits(flag));
            columns.len() - 1
        });
        let order = OrderKey {
            variable,
            ascending: true,
            nulls_first: false,
        };
        let order = self.order_bits(ctx, &step.narrow("order"), rows, &[order])?;
        let table = SharedTable {
            columns,
            valid: rows.valid.clone(),
        };
        let functions = [
            Function::RowNumber,
            Function::Count {
                when,
                frame: Frame::Partition,
            },
        ];
        let here = step.narrow("numbers");
        let numbers = window::window(ctx, &here, &table, &partition, &order, &functions)?;
        let [Column::Arith64(number), Column::Arith64(values)] = numbers.as_slice() else {
            return Err(internal("numbers of rows that are none"));
        };
        // How far the place is beyond the row: p (n - 1) - q (r - 1).
        let role = ctx.role();
        let beyond = values.scaled(place.p).minus(&number.scaled(place.q));
        let beyond = beyond.plus_public(role, place.q.wrapping_sub(place.p));
        // Less than q beyond, not at all, or less than q before.
        let width = (u64::BITS
            - (count as u64 + 2)
                .saturating_mul(2 * place.q)
                .leading_zeros())
            + 1;
        let below = Arith::zeros(count).minus(&beyond);
        let tests = beyond
            .clone()
            .followed_by(&below.clone().plus_public(role, place.q - 1))
            .followed_by(&beyond.plus_public(role, place.q - 1));
        let signs = a2b(ctx, &step.narrow("signs"), &tests, width.min(64) as usize)?;
        let signs = not(ctx, &signs.bit_range(signs.width() - 1, 1));
        let test = |at: usize| signs.slice(at * count, count);
        let (not_before, near_below, near_above) = (test(0), test(1), test(2));
        let before = not(ctx, &not_before);
        let both = and(
            ctx,
            &step.narrow("chosen"),
            &not_before.followed_by(&before),
            &near_below.followed_by(&near_above),
        )?;
        let (lower, upper) = (both.slice(0, count), both.slice(count, count));
        let bits = self.bits_of(ctx, &step.narrow("bits"), cells)?;
        let signed = self.is_signed(variable)?;
        let value = |ctx: &mut Context, name: &'static str, flag: &BitColumn| -> Result<Column> {
            let step = step.narrow(name);
            let chosen = convert::masked(ctx, &step.narrow("mask"), &bits, flag)?;
            let number = b2a::<u128>(ctx, &step.narrow("number-of"), &chosen, signed)?;
            Ok(Column::Arith128(number))
        };
        let low = value(ctx, "lower", &lower)?;
        let high = value(ctx, "upper", &upper)?;
        let reach = multiply_by_flag(ctx, &step.narrow("reach"), &beyond, &lower)?;
        Ok([low, high, Column::Arith64(reach)])
    }

    /// What is asked for, from the sums of [`Self::middle`] and the NULL flags of groups without a value.
    pub(super) fn between(
        &self,
        ctx: &mut Context,
        step: &Step,
        function: AggregateKind,
        sums: [Column; 3],
        null: Option<BitColumn>,
    ) -> Result<Cells> {
        let place = Place::of(function)?;
        let [
            Column::Arith128(low),
            Column::Arith128(high),
            Column::Arith64(reach),
        ] = sums
        else {
            return Err(internal("sums of another kind"));
        };
        // Below q, and never negative.
        let width = (u64::BITS - place.q.leading_zeros()) as usize + 1;
        let reach = a2b(ctx, &step.narrow("reach"), &reach, width)?;
        let reach = b2a::<u128>(ctx, &step.narrow("wide"), &reach, false)?;
        let gap = high.minus(&low);
        let gap = multiply(ctx, &step.narrow("gap"), &gap, &reach)?;
        let mut made = low.scaled(place.q.into()).plus(&gap);
        if function == AggregateKind::Median {
            made = self.half(ctx, &step.narrow("half"), &made)?;
        }
        Ok(Cells {
            parts: vec![Column::Arith128(made)],
            null,
        })
    }

    /// Half of each number, truncated towards zero: the half rounded down, and one more where a
    /// negative number is odd.
    fn half(&self, ctx: &mut Context, step: &Step, x: &Arith<u128>) -> Result<Arith<u128>> {
        let bits = a2b(ctx, &step.narrow("bits"), x, 128)?;
        let (odd, negative) = (bits.bit_range(0, 1), bits.bit_range(127, 1));
        let more = and(ctx, &step.narrow("odd"), &odd, &negative)?;
        let down = b2a::<u128>(ctx, &step.narrow("down"), &bits.bit_range(1, 127), true)?;
        let more: Arith<u128> = bit_to_arith(ctx, &step.narrow("more"), &more)?;
        Ok(down.plus(&more))
    }
}
