//! Expressions of the engine as expressions over shares.

use super::{Lower, Relation, Want};
use crate::error::{Code, Error, Result};
use crate::plan::program::{Expression, Operation, code_bits};
use crate::plan::{Comparator, Encoding};
use crate::planner::algebra::columns::ColumnId;
use crate::planner::algebra::functions::AVERAGE;
use crate::planner::algebra::ranges::scale;
use crate::planner::columns::split;
use crate::schema::ScalarType;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

impl Lower<'_> {
    /// An expression over the columns of a relation.
    pub(super) fn expression(
        &mut self,
        of: &Relation,
        expr: &Expr,
        want: Want,
    ) -> Result<Expression> {
        if let Some(id) = ColumnId::of_expr(expr) {
            self.not_rounded(id)?;
            return Ok(Expression::Column(self.variable(of, id, want)?));
        }
        let (data_type, _) = self.columns.type_of(expr)?;
        if data_type == DataType::Boolean {
            return self.condition(of, expr);
        }
        let wide = match want {
            Want::Ring { wide } => wide,
            _ => self
                .columns
                .magnitude(expr)
                .is_none_or(|most| most >= 1 << 63),
        };
        let ring = Want::Ring { wide };
        match expr {
            Expr::Alias(alias) => self.expression(of, &alias.expr, want),
            Expr::Literal(value, _) => self.literal(value),
            Expr::Negative(inner) => {
                let data_type = self.scalar(&data_type)?;
                Ok(Expression::Arithmetic {
                    operation: Operation::Subtract,
                    left: Box::new(Expression::Number {
                        value: 0,
                        data_type,
                    }),
                    right: Box::new(self.expression(of, inner, ring)?),
                    data_type,
                    wide,
                })
            }
            Expr::Cast(cast) => {
                let (from, _) = self.columns.type_of(&cast.expr)?;
                match (scale(&from), scale(&data_type)) {
                    (Some(has), Some(due)) if has == due => self.expression(of, &cast.expr, want),
                    (Some(has), Some(due)) if has < due => {
                        if let Expr::Literal(value, _) = cast.expr.as_ref()
                            && let Ok(value) = value.cast_to(&data_type)
                        {
                            return self.literal(&value);
                        }
                        Ok(Expression::Rescale {
                            input: Box::new(self.expression(of, &cast.expr, ring)?),
                            data_type: self.scalar(&data_type)?,
                            wide,
                        })
                    }
                    _ => Err(self.unsupported(
                        "a cast that loses digits, or to another kind of type, over columns of \
                         several departments",
                    )),
                }
            }
            Expr::BinaryExpr(BinaryExpr {
                left,
                op: Operator::Divide,
                right,
            }) => self.quotient(of, left, right, expr),
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
                let operation = match op {
                    Operator::Plus => Operation::Add,
                    Operator::Minus => Operation::Subtract,
                    Operator::Multiply => Operation::Multiply,
                    _ => {
                        return Err(self.unsupported(&format!(
                            "the operator {op} over columns of several departments, other than in \
                             the result"
                        )));
                    }
                };
                let mut a = self.expression(of, left, ring)?;
                let mut b = self.expression(of, right, ring)?;
                let own = self.scalar(&data_type)?;
                if operation != Operation::Multiply {
                    a = self.at_scale(a, left, own, wide)?;
                    b = self.at_scale(b, right, own, wide)?;
                }
                Ok(Expression::Arithmetic {
                    operation,
                    left: Box::new(a),
                    right: Box::new(b),
                    data_type: own,
                    wide,
                })
            }
            Expr::Case(case) if case.expr.is_none() => {
                let own = self.scalar(&data_type)?;
                // Results first: that a column is NULL is then asked of the form which it has as one.
                let mut results = Vec::new();
                for (_, then) in &case.when_then_expr {
                    results.push(self.result(of, then, want, own)?);
                }
                let otherwise = match &case.else_expr {
                    None => Expression::Null(own),
                    Some(otherwise) => self.result(of, otherwise, want, own)?,
                };
                let mut when = Vec::new();
                for ((condition, _), result) in case.when_then_expr.iter().zip(results) {
                    when.push((self.condition(of, condition)?, result));
                }
                Ok(Expression::Case {
                    when,
                    otherwise: Box::new(otherwise),
                })
            }
            Expr::ScalarFunction(call) if call.func.name() == "coalesce" => {
                let own = self.scalar(&data_type)?;
                let mut made: Option<Expression> = None;
                for argument in call.args.iter().rev() {
                    let value = self.result(of, argument, want, own)?;
                    made = Some(match made {
                        None => value,
                        Some(rest) => Expression::Case {
                            when: vec![(
                                Expression::Not(Box::new(Expression::IsNull(Box::new(
                                    value.clone(),
                                )))),
                                value,
                            )],
                            otherwise: Box::new(rest),
                        },
                    });
                }
                made.ok_or_else(|| self.unsupported("COALESCE of nothing"))
            }
            Expr::ScalarFunction(call) if call.func.name() == "nullif" => {
                let [value, other] = call.args.as_slice() else {
                    return Err(self.unsupported("NULLIF of anything but two values"));
                };
                let own = self.scalar(&data_type)?;
                let equal = Expr::BinaryExpr(BinaryExpr::new(
                    Box::new(value.clone()),
                    Operator::Eq,
                    Box::new(other.clone()),
                ));
                Ok(Expression::Case {
                    when: vec![(self.condition(of, &equal)?, Expression::Null(own))],
                    otherwise: Box::new(self.result(of, value, want, own)?),
                })
            }
            Expr::ScalarFunction(call) if call.func.name() == AVERAGE => {
                let [sum, count] = call.args.as_slice() else {
                    return Err(Error::new(Code::Internal, "an average of no sum and count"));
                };
                let own = self.scalar(&data_type)?;
                if own == ScalarType::Float64 {
                    return Err(self.unsupported(
                        "AVG of integers other than in the result: cast the argument to decimal",
                    ));
                }
                Ok(Expression::Quotient {
                    left: Box::new(self.expression(of, sum, Want::Ring { wide: true })?),
                    right: Box::new(self.expression(of, count, Want::Bits)?),
                    data_type: own,
                    checked: false,
                })
            }
            Expr::ScalarFunction(call) => Err(self.unsupported(&format!(
                "the function {} over columns of several departments",
                call.func.name()
            ))),
            _ => Err(self.unsupported("an expression over columns of several departments")),
        }
    }

    /// A result of CASE at the type of the whole.
    fn result(
        &mut self,
        of: &Relation,
        expr: &Expr,
        want: Want,
        own: ScalarType,
    ) -> Result<Expression> {
        if let Expr::Literal(value, _) = expr
            && value.is_null()
        {
            return Ok(Expression::Null(own));
        }
        let wide = match want {
            Want::Ring { wide } => wide,
            _ => self
                .columns
                .magnitude(expr)
                .is_none_or(|most| most >= 1 << 62),
        };
        let made = self.expression(of, expr, want)?;
        self.at_scale(made, expr, own, wide)
    }

    /// The number with as many digits after the point as the type has.
    fn at_scale(
        &self,
        made: Expression,
        expr: &Expr,
        own: ScalarType,
        wide: bool,
    ) -> Result<Expression> {
        let (data_type, _) = self.columns.type_of(expr)?;
        let due = crate::plan::program::scale(own);
        let (Some(has), Some(due)) = (scale(&data_type), due) else {
            return Ok(made);
        };
        if has == due {
            return Ok(made);
        }
        if has > due {
            return Err(self.unsupported("a number that loses digits"));
        }
        if let Expression::Number { value, .. } = made {
            let factor = 10_i128.checked_pow(u32::from(due - has));
            let value = factor.and_then(|factor| value.checked_mul(factor));
            return Ok(Expression::Number {
                value: value.ok_or_else(|| self.unsupported("a literal of that size"))?,
                data_type: own,
            });
        }
        Ok(Expression::Rescale {
            input: Box::new(made),
            data_type: own,
            wide,
        })
    }

    pub(super) fn literal(&self, value: &ScalarValue) -> Result<Expression> {
        let number = |value: i128, data_type| Ok(Expression::Number { value, data_type });
        match value {
            ScalarValue::Int64(Some(value)) => number((*value).into(), ScalarType::Int64),
            ScalarValue::Int32(Some(value)) => number((*value).into(), ScalarType::Int64),
            ScalarValue::UInt64(Some(value)) => number((*value).into(), ScalarType::Int64),
            ScalarValue::Boolean(Some(value)) => number((*value).into(), ScalarType::Bool),
            ScalarValue::Date32(Some(value)) => number((*value).into(), ScalarType::Date),
            ScalarValue::TimestampMicrosecond(Some(value), None) => {
                number((*value).into(), ScalarType::Timestamp)
            }
            ScalarValue::Decimal128(Some(value), precision, scale) => number(
                *value,
                ScalarType::Decimal {
                    precision: *precision,
                    scale: u8::try_from(*scale)
                        .map_err(|_| self.unsupported("a literal with an exponent"))?,
                },
            ),
            other if other.is_null() => Ok(Expression::Null(self.scalar(&other.data_type())?)),
            _ => Err(self.unsupported("a literal of this type across departments")),
        }
    }

    /// A condition, in three-valued logic.
    pub(super) fn condition(&mut self, of: &Relation, expr: &Expr) -> Result<Expression> {
        if let Some(id) = ColumnId::of_expr(expr) {
            return Ok(Expression::Column(self.variable(of, id, Want::Bits)?));
        }
        match expr {
            Expr::Alias(alias) => self.condition(of, &alias.expr),
            Expr::Literal(value, _) => self.literal(value),
            Expr::Not(inner) => Ok(Expression::Not(Box::new(self.condition(of, inner)?))),
            Expr::IsNull(inner) => self.is_null(of, inner),
            Expr::IsNotNull(inner) => Ok(Expression::Not(Box::new(self.is_null(of, inner)?))),
            Expr::IsTrue(inner) => {
                let inner = self.condition(of, inner)?;
                Ok(Expression::Case {
                    when: vec![(inner, truth(true))],
                    otherwise: Box::new(truth(false)),
                })
            }
            Expr::IsNotTrue(inner) => {
                let inner = self.condition(of, inner)?;
                Ok(Expression::Case {
                    when: vec![(inner, truth(false))],
                    otherwise: Box::new(truth(true)),
                })
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
                Operator::And | Operator::Or => {
                    let parts = split(expr.clone(), *op)
                        .iter()
                        .map(|part| self.condition(of, part))
                        .collect::<Result<Vec<_>>>()?;
                    Ok(match op {
                        Operator::And => Expression::All(parts),
                        _ => Expression::Any(parts),
                    })
                }
                op => match comparator(*op) {
                    Some(comparator) => self.compare(of, comparator, left, right),
                    None => Err(self.unsupported(&format!(
                        "the operator {op} over columns of several departments"
                    ))),
                },
            },
            Expr::Between(between) => {
                let low =
                    self.compare(of, Comparator::GreaterEqual, &between.expr, &between.low)?;
                let high = self.compare(of, Comparator::LessEqual, &between.expr, &between.high)?;
                let both = Expression::All(vec![low, high]);
                Ok(match between.negated {
                    true => Expression::Not(Box::new(both)),
                    false => both,
                })
            }
            Expr::InList(list) => {
                let parts = list
                    .list
                    .iter()
                    .map(|item| self.compare(of, Comparator::Equal, &list.expr, item))
                    .collect::<Result<Vec<_>>>()?;
                let any = Expression::Any(parts);
                Ok(match list.negated {
                    true => Expression::Not(Box::new(any)),
                    false => any,
                })
            }
            Expr::Case(case) if case.expr.is_none() => {
                let mut when = Vec::new();
                for (condition, then) in &case.when_then_expr {
                    when.push((self.condition(of, condition)?, self.condition(of, then)?));
                }
                let otherwise = match &case.else_expr {
                    None => Expression::Null(ScalarType::Bool),
                    Some(otherwise) => self.condition(of, otherwise)?,
                };
                Ok(Expression::Case {
                    when,
                    otherwise: Box::new(otherwise),
                })
            }
            _ => Err(self.unsupported(
                "this condition over columns of several departments: use comparisons, AND, OR, NOT",
            )),
        }
    }

    fn is_null(&mut self, of: &Relation, inner: &Expr) -> Result<Expression> {
        let inner = self.expression(of, inner, Want::Any)?;
        Ok(Expression::IsNull(Box::new(inner)))
    }

    fn compare(
        &mut self,
        of: &Relation,
        comparator: Comparator,
        left: &Expr,
        right: &Expr,
    ) -> Result<Expression> {
        let (a_type, _) = self.columns.type_of(left)?;
        let (b_type, _) = self.columns.type_of(right)?;
        if a_type == DataType::Utf8 && b_type == DataType::Utf8 {
            return self.compare_text(of, comparator, left, right);
        }
        let mut a = self.expression(of, left, Want::Bits)?;
        let mut b = self.expression(of, right, Want::Bits)?;
        if let (Some(a_scale), Some(b_scale)) = (scale(&a_type), scale(&b_type)) {
            let most = |of: &Expr, other: u8| {
                let own = self.columns.type_of(of).ok().and_then(|(of, _)| scale(&of));
                let more = other.saturating_sub(own.unwrap_or(0));
                let most = self.columns.magnitude(of);
                most.and_then(|most| most.checked_mul(10_u128.checked_pow(u32::from(more))?))
            };
            let due = a_scale.max(b_scale);
            let own = ScalarType::Decimal {
                precision: 38,
                scale: due,
            };
            let wide = |of: &Expr| most(of, due).is_none_or(|most| most >= 1 << 63);
            let (a_wide, b_wide) = (wide(left), wide(right));
            a = self.at_scale(a, left, own, a_wide)?;
            b = self.at_scale(b, right, own, b_wide)?;
        }
        Ok(Expression::Compare {
            comparator,
            left: Box::new(a),
            right: Box::new(b),
        })
    }

    fn compare_text(
        &mut self,
        of: &Relation,
        comparator: Comparator,
        left: &Expr,
        right: &Expr,
    ) -> Result<Expression> {
        let text = |expr: &Expr| match expr {
            Expr::Literal(ScalarValue::Utf8(Some(text)), _) => Some(text.clone()),
            _ => None,
        };
        let (column, value, flipped) = match (text(left), text(right)) {
            (None, Some(value)) => (left, value, false),
            (Some(value), None) => (right, value, true),
            (None, None) => {
                return Ok(Expression::Compare {
                    comparator,
                    left: Box::new(self.expression(of, left, Want::Bits)?),
                    right: Box::new(self.expression(of, right, Want::Bits)?),
                });
            }
            _ => return Err(self.unsupported("a comparison of two literals here")),
        };
        let inner = self.expression(of, column, Want::Bits)?;
        let form = self.form_of(&inner)?;
        let fits = match &form {
            Encoding::Codes(codes) => codes.contains(&value),
            Encoding::Text { max_bytes } => value.len() <= *max_bytes as usize,
            _ => false,
        };
        if !fits {
            // What no value can be is equal to none.
            return match comparator {
                Comparator::Equal | Comparator::NotEqual => Ok(Expression::Case {
                    when: vec![(
                        Expression::IsNull(Box::new(inner)),
                        Expression::Null(ScalarType::Bool),
                    )],
                    otherwise: Box::new(truth(comparator == Comparator::NotEqual)),
                }),
                _ => Err(self.unsupported("an order against a text outside the code list")),
            };
        }
        let literal = Expression::Text { value, form };
        let (left, right) = match flipped {
            false => (inner, literal),
            true => (literal, inner),
        };
        Ok(Expression::Compare {
            comparator,
            left: Box::new(left),
            right: Box::new(right),
        })
    }

    /// The form of an expression's value.
    pub(super) fn form_of(&self, of: &Expression) -> Result<Encoding> {
        Ok(match of {
            Expression::Column(variable) => self
                .forms
                .get(variable)
                .cloned()
                .ok_or_else(|| Error::new(Code::Internal, "a column without a form"))?,
            Expression::Number { value, data_type } => match data_type {
                ScalarType::Bool => Encoding::Bits(1),
                _ => {
                    let magnitude = if *value < 0 { !*value } else { *value };
                    Encoding::Bits(129 - magnitude.leading_zeros())
                }
            },
            Expression::Text { form, .. } => form.clone(),
            Expression::Null(_)
            | Expression::Not(_)
            | Expression::All(_)
            | Expression::Any(_)
            | Expression::Compare { .. }
            | Expression::IsNull(_) => Encoding::Bits(1),
            Expression::Arithmetic { wide, .. } | Expression::Rescale { wide, .. } => match wide {
                true => Encoding::Ring128,
                false => Encoding::Ring64,
            },
            Expression::Bits { width, .. } => Encoding::Bits(*width),
            Expression::Quotient { .. } => Encoding::Bits(128),
            Expression::Case { when, otherwise } => {
                let mut made: Option<Encoding> = None;
                for result in when.iter().map(|(_, of)| of).chain([otherwise.as_ref()]) {
                    if matches!(result, Expression::Null(_)) {
                        continue;
                    }
                    let form = self.form_of(result)?;
                    made = Some(match (made, form) {
                        (None, form) => form,
                        (Some(Encoding::Ring128), _) | (_, Encoding::Ring128) => Encoding::Ring128,
                        (Some(Encoding::Ring64), _) | (_, Encoding::Ring64) => Encoding::Ring64,
                        (Some(Encoding::Bits(a)), Encoding::Bits(b)) => Encoding::Bits(a.max(b)),
                        (
                            Some(Encoding::Text { max_bytes: a }),
                            Encoding::Text { max_bytes: b },
                        ) => Encoding::Text {
                            max_bytes: a.max(b),
                        },
                        (Some(form), _) => form,
                    });
                }
                made.unwrap_or(Encoding::Bits(1))
            }
        })
    }

    /// The expression in the form that is wanted.
    pub(super) fn in_form(
        &mut self,
        made: Expression,
        expr: &Expr,
        want: Want,
    ) -> Result<Expression> {
        let form = self.form_of(&made)?;
        Ok(match (want, form) {
            (Want::Bits, Encoding::Ring64 | Encoding::Ring128) => {
                let width = self.width(expr);
                Expression::Bits {
                    input: Box::new(made),
                    width,
                }
            }
            (Want::Ring { wide }, form) => {
                let due = match wide {
                    true => Encoding::Ring128,
                    false => Encoding::Ring64,
                };
                if form == due {
                    return Ok(made);
                }
                let (data_type, _) = self.columns.type_of(expr)?;
                Expression::Rescale {
                    input: Box::new(made),
                    data_type: self.scalar(&data_type)?,
                    wide,
                }
            }
            _ => made,
        })
    }
}

fn truth(value: bool) -> Expression {
    Expression::Number {
        value: value.into(),
        data_type: ScalarType::Bool,
    }
}

fn comparator(op: Operator) -> Option<Comparator> {
    Some(match op {
        Operator::Eq => Comparator::Equal,
        Operator::NotEq => Comparator::NotEqual,
        Operator::Lt => Comparator::Less,
        Operator::LtEq => Comparator::LessEqual,
        Operator::Gt => Comparator::Greater,
        Operator::GtEq => Comparator::GreaterEqual,
        _ => return None,
    })
}

/// The bits in which a form is compared.
pub(super) fn compared_bits(form: &Encoding) -> u32 {
    match form {
        Encoding::Bits(bits) | Encoding::KeyTag { bits, .. } | Encoding::UnitTag { bits } => *bits,
        Encoding::Ring64 => 64,
        Encoding::Ring128 => 128,
        Encoding::Codes(codes) => code_bits(codes.len()),
        Encoding::Text { max_bytes } => 8 * (max_bytes + 1),
    }
}
