//! Products in Z_2^k: one word a row and party, one round (Araki et al., CCS 2016, section 3.1;
//! masks as in [`super::gates`]).

use super::convert::bit_to_arith;
use super::logic::and_mask;
use super::pieces::{Cuttable, cut, on_each};
use super::same_rows;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::net::Step;
use crate::ring::Ring;
use crate::share::{Arith, BitColumn};
use crate::table::{Column, SharedTable};

/// `x_i y_i + x_i y_{i+1} + x_{i+1} y_i`.
#[inline(always)]
pub(crate) fn cross_arith<T: Ring>(xa: T, xb: T, ya: T, yb: T) -> T {
    xa.times(ya.plus(yb)).plus(xb.times(ya))
}

/// The products, row by row. One word, 1 round.
///
/// # Errors
/// `InvalidInput` for different rows; those of the link.
pub fn multiply<T: Ring>(
    ctx: &mut Context,
    step: &Step,
    x: &Arith<T>,
    y: &Arith<T>,
) -> Result<Arith<T>> {
    same_rows("multiply", x.rows(), y.rows())?;
    if let Some(pieces) = cut(ctx, x.rows()) {
        return on_each(ctx, step, pieces, |ctx, step, rows| {
            multiply(ctx, step, &x.piece(rows), &y.piece(rows))
        });
    }
    let mut a: Vec<T> = ctx.zeros_add(step, x.rows())?;
    for (i, z) in a.iter_mut().enumerate() {
        *z = z.plus(cross_arith(x.a[i], x.b[i], y.a[i], y.b[i]));
    }
    let mut b = vec![T::default(); a.len()];
    ctx.pass_back(step, &a, &mut b)?;
    Ok(Arith { a, b })
}

/// The sum of the products of all rows, as one row. One word whatever the length, 1 round.
///
/// # Errors
/// As [`multiply`].
pub fn inner_product<T: Ring>(
    ctx: &mut Context,
    step: &Step,
    x: &Arith<T>,
    y: &Arith<T>,
) -> Result<Arith<T>> {
    same_rows("inner_product", x.rows(), y.rows())?;
    let mut a: Vec<T> = ctx.zeros_add(step, 1)?;
    for i in 0..x.rows() {
        a[0] = a[0].plus(cross_arith(x.a[i], x.b[i], y.a[i], y.b[i]));
    }
    let mut b = vec![T::default()];
    ctx.pass_back(step, &a, &mut b)?;
    Ok(Arith { a, b })
}

/// Inner products of consecutive runs of `length` rows: one word for each, 1 round.
///
/// # Errors
/// `InvalidInput` for different rows, or rows that are no multiple of the length; those of the link.
pub fn inner_products<T: Ring>(
    ctx: &mut Context,
    step: &Step,
    x: &Arith<T>,
    y: &Arith<T>,
    length: usize,
) -> Result<Arith<T>> {
    same_rows("inner_products", x.rows(), y.rows())?;
    if length == 0 || !x.rows().is_multiple_of(length) {
        return Err(Error::InvalidInput {
            operator: "inner_products",
            what: format!("{} rows in runs of {length}", x.rows()),
        });
    }
    let mut a: Vec<T> = ctx.zeros_add(step, x.rows() / length)?;
    for (run, z) in a.iter_mut().enumerate() {
        for i in run * length..(run + 1) * length {
            *z = z.plus(cross_arith(x.a[i], x.b[i], y.a[i], y.b[i]));
        }
    }
    let mut b = vec![T::default(); a.len()];
    ctx.pass_back(step, &a, &mut b)?;
    Ok(Arith { a, b })
}

/// `x` where `flag`, zero elsewhere: [`bit_to_arith`], then [`multiply`]. Two words, 3 rounds.
///
/// # Errors
/// `InvalidInput` for different rows or a flag wider than one bit; those of the link.
pub fn multiply_by_flag<T: Ring>(
    ctx: &mut Context,
    step: &Step,
    x: &Arith<T>,
    flag: &BitColumn,
) -> Result<Arith<T>> {
    same_rows("multiply_by_flag", x.rows(), flag.rows())?;
    let flag = bit_to_arith(ctx, &step.narrow("flag"), flag)?;
    multiply(ctx, &step.narrow("product"), x, &flag)
}

/// The sum of all rows, as one row. Local.
#[must_use]
pub fn sum<T: Ring>(x: &Arith<T>) -> Arith<T> {
    x.sum()
}

/// The table with all cells of invalid rows set to zero. The validity bit is converted once a ring.
///
/// # Errors
/// `InvalidInput` for a table whose columns differ in length; those of the link.
pub fn clear_rows(ctx: &mut Context, step: &Step, table: &SharedTable) -> Result<SharedTable> {
    table.check("clear_rows")?;
    let mut flag64 = None;
    let mut flag128 = None;
    let mut columns = Vec::with_capacity(table.columns.len());
    for (i, column) in table.columns.iter().enumerate() {
        let step = step.at("column", i);
        columns.push(match column {
            Column::Bits(c) => Column::Bits(and_mask(ctx, &step, c, &table.valid)?),
            Column::Arith64(c) => {
                let flag = match flag64.take() {
                    Some(flag) => flag,
                    None => bit_to_arith(ctx, &step.narrow("flag"), &table.valid)?,
                };
                let cleared = multiply(ctx, &step.narrow("product"), c, &flag)?;
                flag64 = Some(flag);
                Column::Arith64(cleared)
            }
            Column::Arith128(c) => {
                let flag = match flag128.take() {
                    Some(flag) => flag,
                    None => bit_to_arith(ctx, &step.narrow("flag"), &table.valid)?,
                };
                let cleared = multiply(ctx, &step.narrow("product"), c, &flag)?;
                flag128 = Some(flag);
                Column::Arith128(cleared)
            }
        });
    }
    Ok(SharedTable {
        columns,
        valid: table.valid.clone(),
    })
}
