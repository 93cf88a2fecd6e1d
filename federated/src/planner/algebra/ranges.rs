//! Public bounds on what expressions can be: how large a number, how long a text.

use super::columns::{ColumnId, Columns};
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

/// A bound on years, weeks and days of a year of any date.
const DATE_PART: u128 = 6_000_000;

impl Columns {
    /// A bound on the absolute value of a number, in units of its last digit.
    pub(in crate::planner) fn magnitude(&self, expr: &Expr) -> Option<u128> {
        let (data_type, _) = self.type_of(expr).ok()?;
        let of_type = type_bound(&data_type);
        let own = self.bound(expr, &data_type);
        match (own, of_type) {
            (Some(own), Some(of_type)) => Some(own.min(of_type)),
            (own, of_type) => own.or(of_type),
        }
    }

    fn bound(&self, expr: &Expr, data_type: &DataType) -> Option<u128> {
        let to = scale(data_type)?;
        match expr {
            Expr::Column(column) => self.info(ColumnId::of(column)?).ok()?.most,
            Expr::Literal(value, _) => match value {
                ScalarValue::Int64(Some(value)) => Some(u128::from(value.unsigned_abs())),
                ScalarValue::Int32(Some(value)) => Some(u128::from(value.unsigned_abs())),
                ScalarValue::Decimal128(Some(value), ..) => Some(value.unsigned_abs()),
                _ => None,
            },
            Expr::Alias(alias) => self.magnitude(&alias.expr),
            Expr::Negative(inner) => self.magnitude(inner),
            Expr::Cast(cast) => self.scaled(&cast.expr, to),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
                Operator::Plus | Operator::Minus => {
                    self.scaled(left, to)?.checked_add(self.scaled(right, to)?)
                }
                Operator::Multiply => self.magnitude(left)?.checked_mul(self.magnitude(right)?),
                Operator::Divide => self.magnitude_of_quotient(left, right, data_type),
                _ => None,
            },
            Expr::Case(case) => {
                let results = case.when_then_expr.iter().map(|(_, then)| then);
                results
                    .chain(&case.else_expr)
                    .filter(
                        |result| !matches!(result.as_ref(), Expr::Literal(of, _) if of.is_null()),
                    )
                    .map(|result| self.scaled(result, to))
                    .try_fold(0, |most: u128, of| Some(most.max(of?)))
            }
            Expr::ScalarFunction(call) if call.func.name() == "date_part" => Some(DATE_PART),
            _ => None,
        }
    }

    /// A bound on the absolute value of a quotient, before it is divided: no divisor is less than a unit of
    /// its last digit.
    pub(in crate::planner) fn magnitude_of_quotient(
        &self,
        left: &Expr,
        right: &Expr,
        data_type: &DataType,
    ) -> Option<u128> {
        let (has, by) = (self.type_of(left).ok()?.0, self.type_of(right).ok()?.0);
        let more = (scale(data_type)? + scale(&by)?).checked_sub(scale(&has)?)?;
        self.magnitude(left)?
            .checked_mul(10_u128.checked_pow(u32::from(more))?)
    }

    /// The bound at a scale.
    fn scaled(&self, expr: &Expr, to: u8) -> Option<u128> {
        let (data_type, _) = self.type_of(expr).ok()?;
        let most = self.magnitude(expr)?;
        let from = scale(&data_type)?;
        match to.checked_sub(from) {
            Some(more) => most.checked_mul(10_u128.checked_pow(u32::from(more))?),
            None => Some(most / 10_u128.checked_pow(u32::from(from - to))? + 1),
        }
    }

    /// A bound on the bytes of a text.
    pub(in crate::planner) fn text_bytes(&self, expr: &Expr) -> Option<u32> {
        match expr {
            Expr::Column(column) => self.info(ColumnId::of(column)?).ok()?.bytes,
            Expr::Alias(alias) => self.text_bytes(&alias.expr),
            Expr::Literal(ScalarValue::Utf8(Some(text)), _) => u32::try_from(text.len()).ok(),
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::StringConcat,
                right,
            }) => self.text_bytes(left)?.checked_add(self.text_bytes(right)?),
            Expr::ScalarFunction(call) => {
                let whole = call.args.first().and_then(|first| self.text_bytes(first));
                let characters = match (call.func.name(), call.args.as_slice()) {
                    ("substr", [_, _, length]) | ("left" | "right", [_, length]) => match length {
                        Expr::Literal(ScalarValue::Int64(Some(length)), _) => {
                            u32::try_from(*length).ok()
                        }
                        _ => None,
                    },
                    ("substr" | "left" | "right" | "btrim" | "ltrim" | "rtrim", _) => return whole,
                    // Another case of a character has at most three times its bytes.
                    ("upper" | "lower", _) => return whole.and_then(|of| of.checked_mul(3)),
                    ("concat", all) => {
                        let mut parts = all.iter().map(|part| self.text_bytes(part));
                        return parts.try_fold(0_u32, |sum, of| sum.checked_add(of?));
                    }
                    _ => return None,
                };
                // A character has at most four bytes.
                let cut = characters.and_then(|of| of.checked_mul(4));
                match (whole, cut) {
                    (Some(whole), Some(cut)) => Some(whole.min(cut)),
                    (whole, cut) => whole.or(cut),
                }
            }
            Expr::Case(case) => {
                let results = case.when_then_expr.iter().map(|(_, then)| then);
                results
                    .chain(&case.else_expr)
                    .map(|result| self.text_bytes(result))
                    .try_fold(0, |most: u32, of| Some(most.max(of?)))
            }
            _ => None,
        }
    }
}

/// Digits after the point of a number; none for what is not one.
pub(super) fn scale(data_type: &DataType) -> Option<u8> {
    match data_type {
        DataType::Decimal128(_, scale) => u8::try_from(*scale).ok(),
        of if of.is_integer() => Some(0),
        _ => None,
    }
}

fn type_bound(data_type: &DataType) -> Option<u128> {
    match data_type {
        DataType::Decimal128(precision, _) => 10_u128.checked_pow(u32::from(*precision)),
        DataType::Int8 => Some(1 << 7),
        DataType::Int16 => Some(1 << 15),
        DataType::Int32 => Some(1 << 31),
        DataType::Int64 => Some(1 << 63),
        _ => None,
    }
}
