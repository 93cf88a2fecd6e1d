//! Quotients, and averages as numbers that are in their order.

use super::super::functions::AVERAGE;
use super::{Lower, Relation, Want};
use crate::error::Result;
use crate::plan::program::Expression;
use crate::schema::ScalarType;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;

impl Lower<'_> {
    /// `left / right`, truncated as the engine does. A literal divisor and NULLIF(x, 0) are not looked at for
    /// zero.
    pub(super) fn quotient(
        &mut self,
        of: &Relation,
        left: &Expr,
        right: &Expr,
        whole: &Expr,
    ) -> Result<Expression> {
        let (data_type, _) = self.columns.type_of(whole)?;
        let fits = self.columns.magnitude_of_quotient(left, right, &data_type);
        let Some(most) = fits.filter(|most| *most < 1 << 126) else {
            return Err(self.unsupported(
                "a division across departments of numbers of so many digits: cast them to fewer",
            ));
        };
        let checked = match right {
            Expr::Literal(value, _) => value.is_null() || is_zero(value),
            // NULL in place of zero.
            Expr::ScalarFunction(call) if call.func.name() == "nullif" => {
                !matches!(call.args.get(1), Some(Expr::Literal(value, _)) if is_zero(value))
            }
            _ => true,
        };
        Ok(Expression::Bits {
            input: Box::new(Expression::Quotient {
                left: Box::new(self.expression(of, left, Want::Ring { wide: true })?),
                right: Box::new(self.expression(of, right, Want::Bits)?),
                data_type: self.scalar(&data_type)?,
                checked,
            }),
            width: 129 - most.leading_zeros(),
        })
    }

    /// An average of integers as a number in the same order: two different ones differ by more than the
    /// inverse of the square of the largest count, so with that many digits their order is exact.
    pub(super) fn average_in_order(
        &mut self,
        of: &Relation,
        expr: &Expr,
    ) -> Result<Option<Expression>> {
        let Expr::ScalarFunction(call) = expr else {
            return Ok(None);
        };
        let (DataType::Float64, AVERAGE, [sum, count]) = (
            self.columns.type_of(expr)?.0,
            call.func.name(),
            call.args.as_slice(),
        ) else {
            return Ok(None);
        };
        let fits = || -> Option<(u8, u128)> {
            let square = self
                .columns
                .magnitude(count)?
                .checked_mul(self.columns.magnitude(count)?)?;
            let digits = square.max(1).ilog10() + 1;
            let most = self
                .columns
                .magnitude(sum)?
                .checked_mul(10_u128.checked_pow(digits)?)?;
            (most < 1 << 126).then_some((u8::try_from(digits).ok()?, most))
        };
        let Some((digits, most)) = fits() else {
            return Err(self.unsupported(
                "ORDER BY an AVG of integers with a LIMIT, over so many rows of so large numbers: \
                 cast the argument to decimal",
            ));
        };
        Ok(Some(Expression::Bits {
            input: Box::new(Expression::Quotient {
                left: Box::new(self.expression(of, sum, Want::Ring { wide: true })?),
                right: Box::new(self.expression(of, count, Want::Bits)?),
                data_type: ScalarType::Decimal {
                    precision: 38,
                    scale: digits,
                },
                checked: false,
            }),
            width: 129 - most.leading_zeros(),
        }))
    }
}

fn is_zero(value: &ScalarValue) -> bool {
    ScalarValue::new_zero(&value.data_type()).is_ok_and(|zero| zero == *value)
}
