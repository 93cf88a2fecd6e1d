//! Expressions over shares, in three-valued logic.

use super::convert::{self, Number};
use super::{Cells, Result, Rows, Runner, internal, times_flag};
use crate::error::{Code, Error};
use crate::plan::program::{Expression, Operation, Value, scale};
use crate::plan::{Comparator, Encoding};
use crate::schema::ScalarType;
use std::borrow::Cow;
use veilgate_mpc::circuit::division::divide;
use veilgate_mpc::circuit::{and, any_row_declared, equal, less_than, multiply, not, or, select};
use veilgate_mpc::context::Context;
use veilgate_mpc::net::Step;
use veilgate_mpc::ring::Ring;
use veilgate_mpc::share::{Arith, BitColumn};
use veilgate_mpc::table::Column;

impl Runner<'_> {
    /// The rows where a condition is true.
    pub(super) fn is_true(
        &self,
        ctx: &mut Context,
        step: &Step,
        input: usize,
        rows: &Rows,
        condition: &Expression,
    ) -> Result<BitColumn> {
        // What is NULL carries zero: it is not true.
        bit(self.evaluate(ctx, step, input, rows, condition)?)
    }

    /// The value of an expression in each row; zero where it is NULL.
    pub(super) fn evaluate(
        &self,
        ctx: &mut Context,
        step: &Step,
        input: usize,
        rows: &Rows,
        expression: &Expression,
    ) -> Result<Cells> {
        let count = rows.rows();
        let plain = |column: Column, null: Option<BitColumn>| Cells {
            parts: vec![column],
            null,
        };
        Ok(match expression {
            Expression::Column(variable) => rows.cells(*variable)?.clone(),
            Expression::Number { .. } | Expression::Text { .. } | Expression::Null(_) => {
                constant(ctx, count, expression, &self.value(input, expression)?)?
            }
            Expression::Not(inner) => {
                let of = self.evaluate(ctx, &step.narrow("of"), input, rows, inner)?;
                let null = of.null.clone();
                let turned = not(ctx, &bit(of)?);
                let turned = match &null {
                    None => turned,
                    Some(null) => {
                        let known = not(ctx, null);
                        and(ctx, &step.narrow("known"), &turned, &known)?
                    }
                };
                plain(Column::Bits(turned), null)
            }
            Expression::All(parts) | Expression::Any(parts) => {
                let all = matches!(expression, Expression::All(_));
                let mut made: Option<(BitColumn, Option<BitColumn>)> = None;
                for (at, part) in parts.iter().enumerate() {
                    let here = step.at("part", at);
                    let of = self.evaluate(ctx, &here, input, rows, part)?;
                    let null = of.null.clone();
                    let value = bit(of)?;
                    made = Some(match made {
                        None => (value, null),
                        Some(before) => connect(ctx, &here, all, before, (value, null))?,
                    });
                }
                let (value, null) = made.ok_or_else(|| internal("an empty conjunction"))?;
                plain(Column::Bits(value), null)
            }
            Expression::Compare {
                comparator,
                left,
                right,
            } => self.compare(ctx, step, input, rows, *comparator, left, right)?,
            Expression::IsNull(inner) => {
                let of = self.evaluate(ctx, &step.narrow("of"), input, rows, inner)?;
                let null = of.null.unwrap_or_else(|| BitColumn::zeros(1, count));
                plain(Column::Bits(null), None)
            }
            Expression::Arithmetic {
                operation,
                left,
                right,
                wide,
                ..
            } => {
                let a = self.evaluate(ctx, &step.narrow("left"), input, rows, left)?;
                let b = self.evaluate(ctx, &step.narrow("right"), input, rows, right)?;
                let null = either(ctx, &step.narrow("null"), a.null.clone(), b.null.clone())?;
                let number = match wide {
                    true => {
                        let x = self.ring128(ctx, &step.narrow("x"), input, left, &a)?;
                        let y = self.ring128(ctx, &step.narrow("y"), input, right, &b)?;
                        Number::Ring128(arithmetic(ctx, step, *operation, &x, &y, (left, right))?)
                    }
                    false => {
                        let x = self.ring64(ctx, &step.narrow("x"), input, left, &a)?;
                        let y = self.ring64(ctx, &step.narrow("y"), input, right, &b)?;
                        Number::Ring64(arithmetic(ctx, step, *operation, &x, &y, (left, right))?)
                    }
                };
                // A product of zero is zero; a sum is not.
                let number = match (&null, operation) {
                    (None, _) | (_, Operation::Multiply) => number,
                    (Some(null), _) => {
                        let known = not(ctx, null);
                        times_flag(ctx, &step.narrow("known"), &number, &known)?
                    }
                };
                plain(number.column(), null)
            }
            Expression::Rescale {
                input: inner,
                data_type,
                wide,
            } => {
                let of = self.evaluate(ctx, &step.narrow("of"), input, rows, inner)?;
                let factor = convert::factor(&self.value(input, inner)?, *data_type)?;
                let column = match wide {
                    true => {
                        let x = self.ring128(ctx, &step.narrow("x"), input, inner, &of)?;
                        Column::Arith128(x.scaled(factor))
                    }
                    false => {
                        let x = self.ring64(ctx, &step.narrow("x"), input, inner, &of)?;
                        #[allow(clippy::cast_possible_truncation)] // modulo 2^64
                        let factor = factor as u64;
                        Column::Arith64(x.scaled(factor))
                    }
                };
                plain(column, of.null)
            }
            Expression::Bits {
                input: inner,
                width,
            } => {
                let of = self.evaluate(ctx, &step.narrow("of"), input, rows, inner)?;
                let signed = convert::signed(&self.value(input, inner)?);
                let here = step.narrow("bits");
                let bits = convert::cut_bits(ctx, &here, Self::number(&of)?, *width, signed)?;
                plain(Column::Bits(bits), of.null)
            }
            Expression::Quotient {
                left,
                right,
                data_type,
                checked,
            } => self.quotient(ctx, step, input, rows, (left, right), *data_type, *checked)?,
            Expression::Case { when, otherwise } => {
                self.case(ctx, step, input, rows, expression, when, otherwise)?
            }
        })
    }

    fn value(&self, input: usize, expression: &Expression) -> Result<Value> {
        Ok(self.types.expression(input, expression, 0)?)
    }

    fn number(cells: &Cells) -> Result<Number> {
        match cells.parts.as_slice() {
            [part] => Ok(Number::of(part)),
            _ => Err(internal("a number that is a long text")),
        }
    }

    fn ring64(
        &self,
        ctx: &mut Context,
        step: &Step,
        input: usize,
        of: &Expression,
        cells: &Cells,
    ) -> Result<Arith<u64>> {
        if let Expression::Number { value, .. } = of {
            let rows = cells.parts.first().map_or(0, Column::rows);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // modulo 2^64
            let word = *value as u64;
            return Ok(Arith::public(ctx.role(), &vec![word; rows]));
        }
        let signed = convert::signed(&self.value(input, of)?);
        convert::narrow(ctx, step, Self::number(cells)?, signed)
    }

    fn ring128(
        &self,
        ctx: &mut Context,
        step: &Step,
        input: usize,
        of: &Expression,
        cells: &Cells,
    ) -> Result<Arith<u128>> {
        if let Expression::Number { value, .. } = of {
            let rows = cells.parts.first().map_or(0, Column::rows);
            return Ok(Arith::public(
                ctx.role(),
                &vec![value.cast_unsigned(); rows],
            ));
        }
        let signed = convert::signed(&self.value(input, of)?);
        convert::wide(ctx, step, Self::number(cells)?, signed)
    }

    #[allow(clippy::too_many_arguments)] // what a comparison is made of
    fn compare(
        &self,
        ctx: &mut Context,
        step: &Step,
        input: usize,
        rows: &Rows,
        comparator: Comparator,
        left: &Expression,
        right: &Expression,
    ) -> Result<Cells> {
        let a = self.evaluate(ctx, &step.narrow("left"), input, rows, left)?;
        let b = self.evaluate(ctx, &step.narrow("right"), input, rows, right)?;
        let (left_of, right_of) = (self.value(input, left)?, self.value(input, right)?);
        let null = either(ctx, &step.narrow("null"), a.null.clone(), b.null.clone())?;
        let x = self.bits_of(ctx, &step.narrow("x"), &a)?;
        let y = self.bits_of(ctx, &step.narrow("y"), &b)?;
        let signed = convert::signed(&left_of) || convert::signed(&right_of);
        let (x, y) = match (&left_of.form, &right_of.form) {
            (Encoding::Text { .. }, _) => convert::same_text(x, y),
            _ if signed => convert::same_width(x, y),
            _ => (x, y),
        };
        let here = step.narrow("compare");
        let (value, turned) = match comparator {
            Comparator::Equal => (equal(ctx, &here, &x, &y)?, false),
            Comparator::NotEqual => (equal(ctx, &here, &x, &y)?, true),
            Comparator::Less => (less_than(ctx, &here, &x, &y, signed)?, false),
            Comparator::GreaterEqual => (less_than(ctx, &here, &x, &y, signed)?, true),
            Comparator::Greater => (less_than(ctx, &here, &y, &x, signed)?, false),
            Comparator::LessEqual => (less_than(ctx, &here, &y, &x, signed)?, true),
        };
        let value = if turned { not(ctx, &value) } else { value };
        let value = match &null {
            None => value,
            Some(null) => {
                let known = not(ctx, null);
                and(ctx, &step.narrow("known"), &value, &known)?
            }
        };
        Ok(Cells {
            parts: vec![Column::Bits(value)],
            null,
        })
    }

    /// Truncated at the scale of the result: `left * 10^k / right`.
    #[allow(clippy::too_many_arguments)] // what a quotient is made of
    fn quotient(
        &self,
        ctx: &mut Context,
        step: &Step,
        input: usize,
        rows: &Rows,
        (left, right): (&Expression, &Expression),
        data_type: ScalarType,
        checked: bool,
    ) -> Result<Cells> {
        let a = self.evaluate(ctx, &step.narrow("left"), input, rows, left)?;
        let b = self.evaluate(ctx, &step.narrow("right"), input, rows, right)?;
        let (left_of, right_of) = (self.value(input, left)?, self.value(input, right)?);
        let digits = scale(data_type)
            .zip(scale(right_of.data_type))
            .map(|(to, by)| to + by)
            .zip(scale(left_of.data_type))
            .and_then(|(due, has)| due.checked_sub(has))
            .and_then(|digits| 10_u128.checked_pow(u32::from(digits)));
        let factor = digits.ok_or_else(|| internal("a quotient of other digits"))?;
        let x = self.ring128(ctx, &step.narrow("x"), input, left, &a)?;
        let x = convert::bits(
            ctx,
            &step.narrow("dividend"),
            &Column::Arith128(x.scaled(factor)),
        )?;
        let y = self.bits_of(ctx, &step.narrow("y"), &b)?;
        let y = y.extended(x.width(), convert::signed(&right_of));
        let quotient = divide(ctx, &step.narrow("divide"), &x, &y, true)?;
        let null = either(ctx, &step.narrow("null"), a.null, b.null)?;
        let null = match checked {
            true => {
                let here = step.narrow("by_zero");
                let there = match &null {
                    None => rows.valid.clone(),
                    Some(null) => {
                        let known = not(ctx, null);
                        and(ctx, &here.narrow("known"), &rows.valid, &known)?
                    }
                };
                let zero = and(ctx, &here.narrow("zero"), &quotient.by_zero, &there)?;
                if any_row_declared(ctx, &here, &zero)? {
                    return Err(Error::new(
                        Code::Overflow,
                        "a division by zero across departments: divide by NULLIF(x, 0), or keep \
                         zeros out with WHERE or CASE",
                    )
                    .into());
                }
                null
            }
            false => {
                let by_zero = Some(quotient.by_zero.clone());
                either(ctx, &step.narrow("by_zero"), null, by_zero)?
            }
        };
        let value = match &null {
            None => quotient.quotient,
            Some(null) => {
                let known = not(ctx, null);
                convert::masked(ctx, &step.narrow("known"), &quotient.quotient, &known)?
            }
        };
        Ok(Cells {
            parts: vec![Column::Bits(value)],
            null,
        })
    }

    #[allow(clippy::too_many_arguments)] // what CASE is made of
    fn case(
        &self,
        ctx: &mut Context,
        step: &Step,
        input: usize,
        rows: &Rows,
        whole: &Expression,
        when: &[(Expression, Expression)],
        otherwise: &Expression,
    ) -> Result<Cells> {
        let due = self.value(input, whole)?;
        // A division is looked at for zero only in the rows that come to it.
        let results = when.iter().map(|(_, result)| result);
        let divides = results.chain([otherwise]).any(Expression::divides);
        let mut open = rows.valid.clone();
        let mut come = Vec::new();
        let mut holds = Vec::new();
        for (at, (condition, _)) in when.iter().enumerate() {
            let here = step.at("when", at);
            let of = self.is_true(ctx, &here.narrow("if"), input, rows, condition)?;
            if divides {
                come.push(and(ctx, &here.narrow("comes"), &open, &of)?);
                let not_here = not(ctx, &of);
                open = and(ctx, &here.narrow("open"), &open, &not_here)?;
            }
            holds.push(of);
        }
        let among = |valid: Option<&BitColumn>| match valid.filter(|_| divides) {
            None => Cow::Borrowed(rows),
            Some(valid) => Cow::Owned(Rows {
                valid: valid.clone(),
                ..rows.clone()
            }),
        };
        let here = step.narrow("else");
        let mut made = self.branch(ctx, &here, input, &among(Some(&open)), otherwise, &due)?;
        for (at, ((_, result), holds)) in when.iter().zip(&holds).enumerate().rev() {
            let here = step.at("when", at);
            let among = among(come.get(at));
            let of = self.branch(ctx, &here.narrow("then"), input, &among, result, &due)?;
            let null = match (of.null, made.null) {
                (None, None) => None,
                (a, b) => {
                    let none = || BitColumn::zeros(1, holds.rows());
                    let (a, b) = (a.unwrap_or_else(none), b.unwrap_or_else(none));
                    Some(select(ctx, &here.narrow("null"), holds, &a, &b)?)
                }
            };
            let mut parts = Vec::new();
            for (part, (a, b)) in of.parts.iter().zip(&made.parts).enumerate() {
                parts.push(choose(ctx, &here.at("select", part), holds, a, b)?);
            }
            made = Cells { parts, null };
        }
        Ok(made)
    }

    /// A result of CASE, in the form of the whole.
    fn branch(
        &self,
        ctx: &mut Context,
        step: &Step,
        input: usize,
        rows: &Rows,
        result: &Expression,
        due: &Value,
    ) -> Result<Cells> {
        let count = rows.rows();
        if let Expression::Null(_) = result {
            let column = match &due.form {
                Encoding::Ring64 => Column::Arith64(Arith::zeros(count)),
                Encoding::Ring128 => Column::Arith128(Arith::zeros(count)),
                Encoding::Bits(width) => Column::Bits(BitColumn::zeros(*width as usize, count)),
                Encoding::Codes(codes) => Column::Bits(BitColumn::zeros(
                    crate::plan::program::code_bits(codes.len()) as usize,
                    count,
                )),
                Encoding::Text { max_bytes } => {
                    Column::Bits(BitColumn::zeros(8 * (*max_bytes as usize + 1), count))
                }
                _ => return Err(internal("no value of a tag")),
            };
            return Ok(Cells {
                parts: vec![column],
                null: Some(BitColumn::ones(ctx.role(), 1, count)),
            });
        }
        let of = self.evaluate(ctx, &step.narrow("of"), input, rows, result)?;
        let column = match (&due.form, result) {
            (Encoding::Ring64, _) => {
                Column::Arith64(self.ring64(ctx, &step.narrow("form"), input, result, &of)?)
            }
            (Encoding::Ring128, _) => {
                Column::Arith128(self.ring128(ctx, &step.narrow("form"), input, result, &of)?)
            }
            _ => {
                let [part] = of.parts.as_slice() else {
                    return Ok(of);
                };
                let from = self.value(input, result)?;
                convert::into_form(ctx, &step.narrow("form"), part, &from, due)?
            }
        };
        Ok(Cells {
            parts: vec![column],
            null: of.null,
        })
    }
}

fn bit(cells: Cells) -> Result<BitColumn> {
    match cells.parts.into_iter().next() {
        Some(Column::Bits(bits)) if bits.width() == 1 => Ok(bits),
        _ => Err(internal("a condition that is no bit")),
    }
}

/// A public value in every row.
fn constant(ctx: &Context, rows: usize, of: &Expression, value: &Value) -> Result<Cells> {
    let mut null = None;
    let (width, words) = match (of, &value.form) {
        (Expression::Number { value, .. }, Encoding::Bits(width)) => {
            #[allow(clippy::cast_possible_truncation)] // halves
            let words = [
                value.cast_unsigned() as u64,
                (value.cast_unsigned() >> 64) as u64,
            ];
            (*width as usize, words.to_vec())
        }
        (Expression::Text { value, .. }, Encoding::Codes(codes)) => {
            let code = codes.iter().position(|code| code == value);
            let code = code.ok_or_else(|| internal("a code outside its list"))?;
            let width = crate::plan::program::code_bits(codes.len());
            (width as usize, vec![code as u64])
        }
        (Expression::Text { value, .. }, Encoding::Text { max_bytes }) => {
            let size = *max_bytes as usize;
            let width = 8 * (size + 1);
            let mut words = vec![0_u64; width.div_ceil(64)];
            let mut set = |at: usize, byte: u8| {
                words[at / 8] |= u64::from(byte) << (8 * (at % 8));
            };
            set(0, u8::try_from(value.len()).unwrap_or(u8::MAX));
            for (i, byte) in value.bytes().enumerate() {
                set(size - i, byte);
            }
            (width, words)
        }
        (Expression::Null(_), _) => {
            null = Some(BitColumn::ones(ctx.role(), 1, rows));
            (1, vec![0])
        }
        _ => return Err(internal("a constant of another form")),
    };
    let stride = width.div_ceil(64);
    let mut row: Vec<u64> = words;
    row.resize(stride, 0);
    if width % 64 != 0 {
        row[stride - 1] &= (1 << (width % 64)) - 1;
    }
    let one = BitColumn::public(ctx.role(), width, 1, &row)?;
    let bits = match rows {
        0 => BitColumn::zeros(width, 0),
        _ => one.repeated(rows),
    };
    Ok(Cells {
        parts: vec![Column::Bits(bits)],
        null,
    })
}

/// NULL where one of two is.
fn either(
    ctx: &mut Context,
    step: &Step,
    a: Option<BitColumn>,
    b: Option<BitColumn>,
) -> Result<Option<BitColumn>> {
    Ok(match (a, b) {
        (Some(a), Some(b)) => Some(or(ctx, step, &a, &b)?),
        (a, b) => a.or(b),
    })
}

type Truth = (BitColumn, Option<BitColumn>);

/// Kleene's conjunction and disjunction. NULL carries zero.
fn connect(ctx: &mut Context, step: &Step, all: bool, a: Truth, b: Truth) -> Result<Truth> {
    let value = match all {
        true => and(ctx, &step.narrow("and"), &a.0, &b.0)?,
        false => or(ctx, &step.narrow("or"), &a.0, &b.0)?,
    };
    if a.1.is_none() && b.1.is_none() {
        return Ok((value, None));
    }
    let rows = value.rows();
    let none = || BitColumn::zeros(1, rows);
    let (a_null, b_null) = (a.1.unwrap_or_else(none), b.1.unwrap_or_else(none));
    // NULL where one is, unless the other decides: false in a conjunction, true in a disjunction.
    let decides = |ctx: &mut Context, step: &Step, value: &BitColumn, null: &BitColumn| match all {
        false => Ok(value.clone()),
        true => {
            let either = or(ctx, step, value, null)?;
            Ok::<BitColumn, veilgate_mpc::Error>(not(ctx, &either))
        }
    };
    let a_decides = decides(ctx, &step.narrow("a"), &a.0, &a_null)?;
    let b_decides = decides(ctx, &step.narrow("b"), &b.0, &b_null)?;
    let decided = or(ctx, &step.narrow("decided"), &a_decides, &b_decides)?;
    let open = not(ctx, &decided);
    let some = or(ctx, &step.narrow("some"), &a_null, &b_null)?;
    let null = and(ctx, &step.narrow("open"), &some, &open)?;
    Ok((value, Some(null)))
}

/// `a` where a flag is set, else `b`.
fn choose(
    ctx: &mut Context,
    step: &Step,
    flag: &BitColumn,
    a: &Column,
    b: &Column,
) -> Result<Column> {
    Ok(match (a, b) {
        (Column::Bits(a), Column::Bits(b)) => Column::Bits(select(ctx, step, flag, a, b)?),
        (Column::Arith64(a), Column::Arith64(b)) => {
            let moved = times_flag(ctx, step, &Number::Ring64(a.minus(b)), flag)?;
            let Number::Ring64(moved) = moved else {
                return Err(internal("a number of another form"));
            };
            Column::Arith64(moved.plus(b))
        }
        (Column::Arith128(a), Column::Arith128(b)) => {
            let moved = times_flag(ctx, step, &Number::Ring128(a.minus(b)), flag)?;
            let Number::Ring128(moved) = moved else {
                return Err(internal("a number of another form"));
            };
            Column::Arith128(moved.plus(b))
        }
        _ => return Err(internal("two results of different forms")),
    })
}

fn arithmetic<T: Ring>(
    ctx: &mut Context,
    step: &Step,
    operation: Operation,
    x: &Arith<T>,
    y: &Arith<T>,
    (left, right): (&Expression, &Expression),
) -> Result<Arith<T>> {
    let public = |of: &Expression| match of {
        Expression::Number { value, .. } => {
            let mut word = T::default();
            let bytes = value.to_le_bytes();
            let due = T::BYTES.min(bytes.len());
            set_bytes(&mut word, &bytes[..due]);
            Some(word)
        }
        _ => None,
    };
    Ok(match operation {
        Operation::Add => x.plus(y),
        Operation::Subtract => x.minus(y),
        Operation::Multiply => match (public(left), public(right)) {
            (_, Some(factor)) => x.scaled(factor),
            (Some(factor), _) => y.scaled(factor),
            _ => multiply(ctx, &step.narrow("multiply"), x, y)?,
        },
    })
}

fn set_bytes<T: Ring>(word: &mut T, bytes: &[u8]) {
    for (index, byte) in bytes.iter().enumerate() {
        let mut part = T::from_u64(u64::from(*byte));
        for _ in 0..8 * index {
            part = part.plus(part);
        }
        *word = word.plus(part);
    }
}
