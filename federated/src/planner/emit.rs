//! Expressions back to SQL text: a small normal form that plans to the same expression again.
//!
//! Identifiers are quoted, literals typed, parentheses as few as precedence allows. Whatever has no
//! form here is refused; nothing is approximated.

use super::algebra::AVERAGE;
use crate::error::{Code, Error, Result};
use crate::local::lineage::unusual_arguments;
use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{Column, ScalarValue};
use datafusion::logical_expr::expr::{Case, Cast, Like, ScalarFunction};
use datafusion::logical_expr::{Expr, Operator};

/// How deep an expression may nest.
const MAX_DEPTH: usize = 128;

/// Deterministic functions over the columns of one row, as owners accept them in fragments.
const ROW_FUNCTIONS: &[&str] = &[
    "abs",
    "btrim",
    "character_length",
    "coalesce",
    "concat",
    "date_part",
    "date_trunc",
    "left",
    "lower",
    "ltrim",
    "nullif",
    "right",
    "rtrim",
    "starts_with",
    "strpos",
    "substr",
    "upper",
];

/// Functions over released values besides.
const RELEASED_FUNCTIONS: &[&str] = &[
    "moment", "cbrt", "ceil", "exp", "floor", "greatest", "least", "ln", "log", "log10", "log2",
    "power", "round", "signum", "sqrt", "trunc",
];

/// Whether a scalar function of this name may be used anywhere.
pub(super) fn allowed(function: &str) -> bool {
    ROW_FUNCTIONS.contains(&function) || RELEASED_FUNCTIONS.contains(&function)
}

/// Where an expression is evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In a fragment, over one row.
    Row,
    /// After the release, over guarded values.
    Released,
}

/// A quoted identifier.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The name of a type in SQL.
pub(super) fn type_name(data_type: &DataType) -> Result<String> {
    Ok(match data_type {
        DataType::Int16 => "SMALLINT".to_owned(),
        DataType::Int32 => "INT".to_owned(),
        DataType::Int64 => "BIGINT".to_owned(),
        DataType::Float32 => "REAL".to_owned(),
        DataType::Float64 => "DOUBLE".to_owned(),
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Timestamp(TimeUnit::Microsecond, None) => "TIMESTAMP(6)".to_owned(),
        DataType::Utf8 => "VARCHAR".to_owned(),
        DataType::Decimal128(precision, scale) if *scale >= 0 => {
            format!("DECIMAL({precision}, {scale})")
        }
        _ => {
            return Err(refuse(
                "a type other than int64, decimal, date, timestamp, bool and utf8",
            ));
        }
    })
}

/// SQL text of an expression; `column` names its columns.
///
/// # Errors
/// [`Code::Unsupported`] for whatever has no form here.
pub(super) fn emit(
    expr: &Expr,
    place: Place,
    column: &dyn Fn(&Column) -> Result<String>,
) -> Result<String> {
    Emitter { place, column }.text(expr, 0, 0)
}

fn refuse(construct: &str) -> Error {
    Error::new(
        Code::Unsupported,
        format!("joint queries do not support {construct}"),
    )
}

const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARE: u8 = 4;
const ADD: u8 = 5;
const MULTIPLY: u8 = 6;
const UNARY: u8 = 7;
const ATOM: u8 = 8;

struct Emitter<'a> {
    place: Place,
    column: &'a dyn Fn(&Column) -> Result<String>,
}

impl Emitter<'_> {
    /// Text that binds at least as tightly as `least`.
    fn text(&self, expr: &Expr, least: u8, depth: usize) -> Result<String> {
        if depth > MAX_DEPTH {
            return Err(Error::new(
                Code::LimitExceeded,
                format!("an expression of the SQL nests deeper than {MAX_DEPTH} levels"),
            ));
        }
        let (text, binds) = self.form(expr, depth + 1)?;
        Ok(if binds < least {
            format!("({text})")
        } else {
            text
        })
    }

    fn form(&self, expr: &Expr, depth: usize) -> Result<(String, u8)> {
        let not = |negated: bool| if negated { "NOT " } else { "" };
        Ok(match expr {
            Expr::Alias(alias) => return self.form(&alias.expr, depth),
            Expr::Column(column) => ((self.column)(column)?, ATOM),
            Expr::Literal(value, _) => literal(value)?,
            Expr::BinaryExpr(binary) => {
                let (operator, binds) = operator(binary.op)?;
                // Left-associative; comparisons and concatenation do not chain.
                let left = if matches!(binds, COMPARE | ATOM) {
                    binds.min(COMPARE) + 1
                } else {
                    binds
                };
                // AND and OR are associative: no parentheses on the right either.
                let right = if matches!(binds, OR | AND) {
                    binds
                } else {
                    binds.min(COMPARE.max(binds)) + 1
                };
                let (left, right, binds) = if binary.op == Operator::StringConcat {
                    (ATOM, ATOM, ADD)
                } else {
                    (left, right, binds)
                };
                (
                    format!(
                        "{} {operator} {}",
                        self.text(&binary.left, left, depth)?,
                        self.text(&binary.right, right, depth)?
                    ),
                    binds,
                )
            }
            Expr::Not(inner) => (format!("NOT {}", self.text(inner, COMPARE, depth)?), NOT),
            Expr::Negative(inner) => (format!("-{}", self.text(inner, ATOM, depth)?), UNARY),
            Expr::IsNull(inner) => self.is(inner, "NULL", depth)?,
            Expr::IsNotNull(inner) => self.is(inner, "NOT NULL", depth)?,
            Expr::IsTrue(inner) => self.is(inner, "TRUE", depth)?,
            Expr::IsNotTrue(inner) => self.is(inner, "NOT TRUE", depth)?,
            Expr::IsFalse(inner) => self.is(inner, "FALSE", depth)?,
            Expr::IsNotFalse(inner) => self.is(inner, "NOT FALSE", depth)?,
            Expr::IsUnknown(inner) => self.is(inner, "UNKNOWN", depth)?,
            Expr::IsNotUnknown(inner) => self.is(inner, "NOT UNKNOWN", depth)?,
            Expr::Between(between) => (
                format!(
                    "{} {}BETWEEN {} AND {}",
                    self.text(&between.expr, ADD, depth)?,
                    not(between.negated),
                    self.text(&between.low, ADD, depth)?,
                    self.text(&between.high, ADD, depth)?
                ),
                COMPARE,
            ),
            Expr::InList(list) => (
                format!(
                    "{} {}IN ({})",
                    self.text(&list.expr, ADD, depth)?,
                    not(list.negated),
                    self.list(&list.list, depth)?
                ),
                COMPARE,
            ),
            Expr::Like(like) => self.like(like, depth)?,
            Expr::Case(case) => (self.case(case, depth)?, ATOM),
            Expr::Cast(cast) => self.cast(cast, depth)?,
            Expr::ScalarFunction(function) => self.function(function, depth)?,
            Expr::ScalarSubquery(_)
            | Expr::InSubquery(_)
            | Expr::Exists(_)
            | Expr::SetComparison(_) => return Err(refuse("a subquery in an expression")),
            Expr::WindowFunction(_) => return Err(refuse("a window function")),
            Expr::AggregateFunction(_) => {
                return Err(refuse(
                    "an aggregate function inside another expression here",
                ));
            }
            Expr::Placeholder(_) => return Err(refuse("a parameter without a value")),
            Expr::TryCast(_) => return Err(refuse("TRY_CAST")),
            Expr::SimilarTo(_) => return Err(refuse("SIMILAR TO")),
            _ => return Err(refuse("an expression of this query")),
        })
    }

    fn is(&self, inner: &Expr, what: &str, depth: usize) -> Result<(String, u8)> {
        Ok((
            format!("{} IS {what}", self.text(inner, ADD, depth)?),
            COMPARE,
        ))
    }

    fn list(&self, items: &[Expr], depth: usize) -> Result<String> {
        let items: Vec<String> = items
            .iter()
            .map(|item| self.text(item, 0, depth))
            .collect::<Result<_>>()?;
        Ok(items.join(", "))
    }

    fn like(&self, like: &Like, depth: usize) -> Result<(String, u8)> {
        let escape = match like.escape_char {
            Some('\'') => " ESCAPE ''''".to_owned(),
            Some(escape) => format!(" ESCAPE '{escape}'"),
            None => String::new(),
        };
        Ok((
            format!(
                "{} {}{} {}{escape}",
                self.text(&like.expr, ADD, depth)?,
                if like.negated { "NOT " } else { "" },
                if like.case_insensitive {
                    "ILIKE"
                } else {
                    "LIKE"
                },
                self.text(&like.pattern, ADD, depth)?
            ),
            COMPARE,
        ))
    }

    fn case(&self, case: &Case, depth: usize) -> Result<String> {
        let mut text = "CASE".to_owned();
        if let Some(operand) = &case.expr {
            text.push_str(&format!(" {}", self.text(operand, 0, depth)?));
        }
        for (when, then) in &case.when_then_expr {
            text.push_str(&format!(
                " WHEN {} THEN {}",
                self.text(when, 0, depth)?,
                self.text(then, 0, depth)?
            ));
        }
        if let Some(otherwise) = &case.else_expr {
            text.push_str(&format!(" ELSE {}", self.text(otherwise, 0, depth)?));
        }
        text.push_str(" END");
        Ok(text)
    }

    fn cast(&self, cast: &Cast, depth: usize) -> Result<(String, u8)> {
        let target = cast.field.data_type();
        if let (
            Expr::Literal(value @ ScalarValue::Utf8(Some(_)), _),
            DataType::Date32 | DataType::Timestamp(TimeUnit::Microsecond, None),
        ) = (cast.expr.as_ref(), target)
        {
            let value = value.cast_to(target).map_err(|_| {
                let expected = match target {
                    DataType::Date32 => "a date literal is not written YYYY-MM-DD",
                    _ => "a timestamp literal is not written YYYY-MM-DD hh:mm:ss",
                };
                Error::new(Code::TypeMismatch, expected)
            })?;
            return literal(&value);
        }
        Ok((
            format!(
                "CAST({} AS {})",
                self.text(&cast.expr, 0, depth)?,
                type_name(target)?
            ),
            ATOM,
        ))
    }

    fn function(&self, function: &ScalarFunction, depth: usize) -> Result<(String, u8)> {
        let name = function.func.name();
        if name == AVERAGE {
            let data_type = function
                .func
                .return_type(&[])
                .map_err(|_| refuse("an average of this type"))?;
            return Ok((
                format!(
                    "CAST({name}({}) AS {})",
                    self.list(&function.args, depth)?,
                    type_name(&data_type)?
                ),
                ATOM,
            ));
        }
        if !allowed(name) {
            return Err(refuse(&format!("the function {name}")));
        }
        if self.place == Place::Row && !ROW_FUNCTIONS.contains(&name) {
            return Err(refuse(&format!(
                "the function {name} over single rows: only over the result"
            )));
        }
        if let Some(what) = unusual_arguments(function) {
            return Err(refuse(what));
        }
        Ok((
            format!("{name}({})", self.list(&function.args, depth)?),
            ATOM,
        ))
    }
}

fn operator(operator: Operator) -> Result<(&'static str, u8)> {
    Ok(match operator {
        Operator::Or => ("OR", OR),
        Operator::And => ("AND", AND),
        Operator::Eq => ("=", COMPARE),
        Operator::NotEq => ("<>", COMPARE),
        Operator::Lt => ("<", COMPARE),
        Operator::LtEq => ("<=", COMPARE),
        Operator::Gt => (">", COMPARE),
        Operator::GtEq => (">=", COMPARE),
        Operator::IsDistinctFrom => ("IS DISTINCT FROM", COMPARE),
        Operator::IsNotDistinctFrom => ("IS NOT DISTINCT FROM", COMPARE),
        Operator::Plus => ("+", ADD),
        Operator::Minus => ("-", ADD),
        Operator::Multiply => ("*", MULTIPLY),
        Operator::Divide => ("/", MULTIPLY),
        Operator::Modulo => ("%", MULTIPLY),
        Operator::StringConcat => ("||", ADD),
        _ => return Err(refuse("an operator of this query")),
    })
}

/// The text of a literal; a negative one binds as a unary minus.
fn literal(value: &ScalarValue) -> Result<(String, u8)> {
    let number = |text: String| {
        let binds = if text.starts_with('-') { UNARY } else { ATOM };
        (text, binds)
    };
    Ok(match value {
        ScalarValue::Null => ("NULL".to_owned(), ATOM),
        ScalarValue::Boolean(Some(value)) => {
            (if *value { "TRUE" } else { "FALSE" }.to_owned(), ATOM)
        }
        null if null.is_null() => (
            format!("CAST(NULL AS {})", type_name(&null.data_type())?),
            ATOM,
        ),
        ScalarValue::Int32(Some(value)) => (format!("CAST({value} AS INT)"), ATOM),
        ScalarValue::Int64(Some(value)) => number(value.to_string()),
        ScalarValue::UInt64(Some(value)) => number(value.to_string()),
        ScalarValue::Utf8(Some(value)) => (format!("'{}'", value.replace('\'', "''")), ATOM),
        ScalarValue::Decimal128(Some(value), precision, scale) => {
            let scale = usize::try_from(*scale)
                .map_err(|_| refuse("a decimal literal with an exponent"))?;
            let digits = format!("{:0>width$}", value.unsigned_abs(), width = scale + 1);
            let (whole, fraction) = digits.split_at(digits.len() - scale);
            let sign = if *value < 0 { "-" } else { "" };
            let text = if fraction.is_empty() {
                format!("{sign}{whole}.")
            } else {
                format!("{sign}{whole}.{fraction}")
            };
            // What the engine gives the literal by itself: its digits without leading zeros.
            let natural = digits.trim_start_matches('0').len().max(scale).max(1);
            if natural == usize::from(*precision) && !fraction.is_empty() {
                number(text)
            } else {
                let text = text.trim_end_matches('.').to_owned();
                (
                    format!("CAST({text} AS DECIMAL({precision}, {scale}))"),
                    ATOM,
                )
            }
        }
        ScalarValue::Date32(Some(_)) => match value.cast_to(&DataType::Utf8) {
            Ok(ScalarValue::Utf8(Some(text))) => (format!("DATE '{text}'"), ATOM),
            _ => return Err(refuse("a date literal of this query")),
        },
        ScalarValue::TimestampMicrosecond(Some(_), None) => match value.cast_to(&DataType::Utf8) {
            Ok(ScalarValue::Utf8(Some(text))) => (format!("TIMESTAMP(6) '{text}'"), ATOM),
            _ => return Err(refuse("a timestamp literal of this query")),
        },
        _ => {
            return Err(refuse(
                "a literal of this query: use integers, decimals, dates, timestamps or text",
            ));
        }
    })
}
