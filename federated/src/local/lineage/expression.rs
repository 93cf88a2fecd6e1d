//! Expressions over one row: which columns, and in which form.

use super::NotAllowed;
use crate::catalog::Table;
use crate::schema::ScalarType;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, CeilFloorKind, DataType, DateTimeField, ExactNumberInfo, Expr,
    Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, TimezoneInfo, UnaryOperator,
    Value,
};
use std::collections::BTreeSet;

type Result<T> = std::result::Result<T, NotAllowed>;

/// The deepest expression.
const MAX_DEPTH: usize = 256;
/// The most significant digits of a literal in a linear form: more would pack several values, or
/// a rank, into one sum.
const MAX_LINEAR_DIGITS: usize = 6;

/// Deterministic functions over one row that fragments may call.
pub(super) const FUNCTIONS: &[&str] = &[
    "abs",
    "btrim",
    "char_length",
    "character_length",
    "coalesce",
    "concat",
    "date_part",
    "date_trunc",
    "ends_with",
    "extract",
    "left",
    "length",
    "lower",
    "ltrim",
    "nullif",
    "right",
    "rtrim",
    "starts_with",
    "strpos",
    "substr",
    "substring",
    "trim",
    "upper",
];

/// Functions that may be applied to released values besides.
const RELEASED_FUNCTIONS: &[&str] = &[
    "average", "moment", "cbrt", "ceil", "exp", "floor", "greatest", "least", "ln", "log", "log10",
    "log2", "power", "pow", "round", "signum", "sqrt", "trunc",
];

/// What an expression over one row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// No column.
    Constant,
    /// A column as it is.
    Column,
    /// Columns and small literals, added, subtracted, and multiplied by small literals.
    Linear,
    /// Any other deterministic expression, conditions included.
    Other,
}

/// An expression over one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowExpression {
    /// Its form.
    pub form: Form,
    /// The columns that it is computed from.
    pub columns: BTreeSet<String>,
}

impl RowExpression {
    fn constant() -> Self {
        Self {
            form: Form::Constant,
            columns: BTreeSet::new(),
        }
    }

    fn other(mut self) -> Self {
        self.form = Form::Other;
        self
    }

    /// The column, when it is one as it is.
    #[must_use]
    pub fn as_column(&self) -> Option<&str> {
        match self.form {
            Form::Column => self.columns.first().map(String::as_str),
            _ => None,
        }
    }
}

/// What names mean while an expression is read.
#[derive(Clone, Copy)]
pub(super) struct Names<'a> {
    /// The table, by which a column may be qualified.
    pub(super) table: &'a str,
    /// The owner's description of it; none when the reader is not the owner.
    pub(super) schema: Option<&'a Table>,
    /// Whether values are released ones, on which more functions and division are harmless.
    pub(super) released: bool,
}

impl Names<'_> {
    fn column(&self, ident: &Ident) -> Result<RowExpression> {
        let name = name(ident)?;
        if self
            .schema
            .is_some_and(|table| table.column(&name).is_none())
        {
            return Err(NotAllowed {
                construct: "a column that the table does not have".to_owned(),
                column: Some(name),
            });
        }
        Ok(RowExpression {
            form: Form::Column,
            columns: BTreeSet::from([name]),
        })
    }

    /// Reads an expression.
    pub(super) fn read(&self, expr: &Expr) -> Result<RowExpression> {
        self.row(expr, 0)
    }

    fn row(&self, expr: &Expr, depth: usize) -> Result<RowExpression> {
        if depth > MAX_DEPTH {
            return Err(NotAllowed::new("an expression of that depth"));
        }
        let depth = depth + 1;
        match expr {
            Expr::Nested(inner) => self.row(inner, depth),
            Expr::Identifier(ident) => self.column(ident),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [table, column] if name(table)? == self.table => self.column(column),
                _ => Err(NotAllowed::new("a column of another table")),
            },
            Expr::Value(value) => match &value.value {
                Value::Number(_, false)
                | Value::SingleQuotedString(_)
                | Value::Boolean(_)
                | Value::Null => Ok(RowExpression::constant()),
                Value::Placeholder(_) => Err(NotAllowed::new("a parameter")),
                _ => Err(NotAllowed::new("a literal of an unusual kind")),
            },
            Expr::TypedString(typed) => match typed.data_type {
                DataType::Date | DataType::Timestamp(Some(6), TimezoneInfo::None)
                    if !typed.uses_odbc_syntax =>
                {
                    Ok(RowExpression::constant())
                }
                _ => Err(NotAllowed::new(
                    "a typed literal other than DATE and TIMESTAMP(6)",
                )),
            },
            Expr::UnaryOp { op, expr: inner } => {
                let of = self.row(inner, depth)?;
                match op {
                    UnaryOperator::Minus | UnaryOperator::Plus => Ok(match of.form {
                        Form::Column => RowExpression {
                            form: Form::Linear,
                            ..of
                        },
                        _ => of,
                    }),
                    UnaryOperator::Not => Ok(of.other()),
                    _ => Err(NotAllowed::new("an unusual operator")),
                }
            }
            Expr::BinaryOp { left, op, right } => self.binary(left, op, right, depth),
            Expr::Cast {
                kind: CastKind::Cast,
                expr: inner,
                data_type,
                array: false,
                format: None,
            } => self.cast(inner, data_type, depth),
            Expr::IsFalse(of)
            | Expr::IsNotFalse(of)
            | Expr::IsTrue(of)
            | Expr::IsNotTrue(of)
            | Expr::IsNull(of)
            | Expr::IsNotNull(of)
            | Expr::IsUnknown(of)
            | Expr::IsNotUnknown(of) => self.every([of.as_ref()], depth),
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
                self.every([left.as_ref(), right.as_ref()], depth)
            }
            Expr::InList { expr, list, .. } => {
                self.every(std::iter::once(expr.as_ref()).chain(list), depth)
            }
            Expr::Between {
                expr, low, high, ..
            } => self.every([expr.as_ref(), low.as_ref(), high.as_ref()], depth),
            Expr::Like {
                any: false,
                expr,
                pattern,
                ..
            }
            | Expr::ILike {
                any: false,
                expr,
                pattern,
                ..
            } => self.every([expr.as_ref(), pattern.as_ref()], depth),
            Expr::Case {
                operand,
                conditions,
                else_result,
                ..
            } => self.every(
                operand
                    .as_deref()
                    .into_iter()
                    .chain(
                        conditions
                            .iter()
                            .flat_map(|when| [&when.condition, &when.result]),
                    )
                    .chain(else_result.as_deref()),
                depth,
            ),
            Expr::Extract { field, expr, .. } => match field {
                DateTimeField::Year
                | DateTimeField::Quarter
                | DateTimeField::Month
                | DateTimeField::Week(None)
                | DateTimeField::Day
                | DateTimeField::Dow
                | DateTimeField::Doy
                | DateTimeField::Hour
                | DateTimeField::Minute
                | DateTimeField::Second => self.every([expr.as_ref()], depth),
                _ => Err(NotAllowed::new("EXTRACT of an unusual field")),
            },
            Expr::Substring {
                expr,
                substring_from,
                substring_for,
                ..
            } => self.every(
                std::iter::once(expr.as_ref())
                    .chain(substring_from.as_deref())
                    .chain(substring_for.as_deref()),
                depth,
            ),
            Expr::Trim {
                trim_what,
                expr,
                trim_characters: None,
                ..
            } => self.every(
                std::iter::once(expr.as_ref()).chain(trim_what.as_deref()),
                depth,
            ),
            Expr::Position { expr, r#in } => self.every([expr.as_ref(), r#in.as_ref()], depth),
            Expr::Ceil {
                expr,
                field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime),
            }
            | Expr::Floor {
                expr,
                field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime),
            } if self.released => self.every([expr.as_ref()], depth),
            Expr::Function(function) => self.function(function, depth),
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => {
                Err(NotAllowed::new("a subquery"))
            }
            _ => Err(NotAllowed::new("an expression of an unusual kind")),
        }
    }

    /// The union of several expressions, in no particular form.
    fn every<'e>(
        &self,
        parts: impl IntoIterator<Item = &'e Expr>,
        depth: usize,
    ) -> Result<RowExpression> {
        let mut columns = BTreeSet::new();
        for part in parts {
            columns.extend(self.row(part, depth)?.columns);
        }
        Ok(RowExpression {
            form: Form::Other,
            columns,
        })
    }

    fn binary(
        &self,
        left: &Expr,
        op: &BinaryOperator,
        right: &Expr,
        depth: usize,
    ) -> Result<RowExpression> {
        use BinaryOperator as Op;
        let (a, b) = (self.row(left, depth)?, self.row(right, depth)?);
        let small = |of: &RowExpression, expr: &Expr| match of.form {
            Form::Constant => is_small(expr),
            form => form != Form::Other,
        };
        let linear = match op {
            Op::Plus | Op::Minus => small(&a, left) && small(&b, right),
            Op::Multiply => {
                // Only once: literals that multiply one another grow beyond any bound.
                (a.form == Form::Constant || b.form == Form::Constant)
                    && small(&a, left)
                    && small(&b, right)
                    && !multiplies(left)
                    && !multiplies(right)
            }
            Op::Divide | Op::Modulo => {
                // A divisor that depends on data would tell about it by failing.
                if !self.released && !is_positive_number(right) && !is_never_zero(right) {
                    return Err(NotAllowed {
                        construct: "division by anything but a positive literal".to_owned(),
                        column: b.columns.first().cloned(),
                    });
                }
                false
            }
            Op::Eq
            | Op::NotEq
            | Op::Lt
            | Op::LtEq
            | Op::Gt
            | Op::GtEq
            | Op::And
            | Op::Or
            | Op::StringConcat => false,
            _ => return Err(NotAllowed::new("an unusual operator")),
        };
        let mut columns = a.columns;
        columns.extend(b.columns);
        let form = match (linear, columns.is_empty()) {
            (true, true) => Form::Other,
            (true, false) => Form::Linear,
            (false, _) => Form::Other,
        };
        Ok(RowExpression { form, columns })
    }

    /// Only casts that cannot fail on what the columns hold, so that no failure tells about it.
    fn cast(&self, inner: &Expr, target: &DataType, depth: usize) -> Result<RowExpression> {
        let of = self.row(inner, depth)?;
        let narrow = |column: &str| NotAllowed {
            construct: "a cast that can fail or round".to_owned(),
            column: Some(column.to_owned()),
        };
        let target = match target {
            DataType::BigInt(None) | DataType::Int64 => ScalarType::Int64,
            DataType::SmallInt(None) | DataType::Int(None) if of.form == Form::Constant => {
                ScalarType::Int64
            }
            DataType::Date => ScalarType::Date,
            DataType::Timestamp(Some(6), TimezoneInfo::None) => ScalarType::Timestamp,
            DataType::Boolean | DataType::Bool => ScalarType::Bool,
            DataType::Varchar(None) | DataType::Text | DataType::String(None) => ScalarType::Utf8,
            DataType::Decimal(ExactNumberInfo::PrecisionAndScale(precision, scale))
            | DataType::Numeric(ExactNumberInfo::PrecisionAndScale(precision, scale)) => {
                ScalarType::Decimal {
                    precision: u8::try_from(*precision).unwrap_or(u8::MAX),
                    scale: u8::try_from(*scale).unwrap_or(u8::MAX),
                }
            }
            DataType::Double(_) | DataType::DoublePrecision if self.released => ScalarType::Float64,
            _ => return Err(NotAllowed::new("a cast to an unusual type")),
        };
        if of.form == Form::Constant {
            // A constant under a cast is not counted digit by digit: it is no part of a linear form.
            return Ok(of.other());
        }
        if let Some(source) = function_type(inner) {
            if !widens(source, target) {
                return Err(narrow(of.columns.first().map_or("", String::as_str)));
            }
            return Ok(of.other());
        }
        for column in &of.columns {
            let Some(table) = self.schema else { continue };
            let source = table.column(column).map(|column| column.data_type);
            if !source.is_some_and(|source| widens(source, target)) {
                return Err(narrow(column));
            }
        }
        Ok(match target {
            ScalarType::Int64 | ScalarType::Decimal { .. } => of,
            // A day of a timestamp is another value.
            _ => of.other(),
        })
    }

    fn function(&self, function: &Function, depth: usize) -> Result<RowExpression> {
        let arguments = plain_arguments(function)?;
        let name = function_name(function)?;
        let known = FUNCTIONS.contains(&name.as_str())
            || (self.released && RELEASED_FUNCTIONS.contains(&name.as_str()));
        if !known {
            return Err(NotAllowed::new(format!("the function {name}")));
        }
        let mut parts = Vec::with_capacity(arguments.len());
        for argument in arguments {
            match argument {
                FunctionArgExpr::Expr(expr) => parts.push(expr),
                _ => return Err(NotAllowed::new("an argument of an unusual kind")),
            }
        }
        self.every(parts, depth)
    }
}

/// The type of calls that give small integers, whatever their arguments are.
fn function_type(expr: &Expr) -> Option<ScalarType> {
    match expr {
        Expr::Nested(inner) => function_type(inner),
        Expr::Extract { .. } | Expr::Position { .. } => Some(ScalarType::Int64),
        Expr::Function(function) => match function_name(function).ok()?.as_str() {
            "char_length" | "character_length" | "date_part" | "length" | "strpos" => {
                Some(ScalarType::Int64)
            }
            _ => None,
        },
        _ => None,
    }
}

/// Whether no value of `source` fails to be cast to `target`, and no number is rounded.
fn widens(source: ScalarType, target: ScalarType) -> bool {
    use ScalarType::{Date, Decimal, Int64, Timestamp, Utf8};
    match (source, target) {
        (Int64 | Date | Timestamp | Decimal { .. }, Utf8) => true,
        // Not the same value, but a cast that cannot fail.
        (Timestamp, Date) => true,
        (Int64, Decimal { precision, scale }) => precision >= scale.saturating_add(19),
        (
            Decimal {
                precision: from,
                scale: after,
            },
            Decimal { precision, scale },
        ) => scale >= after && precision.saturating_sub(scale) >= from.saturating_sub(after),
        _ => source == target,
    }
}

/// The arguments of a plain call `f(a, b)`: no DISTINCT, FILTER, OVER, ORDER BY or names.
pub(super) fn plain_arguments(function: &Function) -> Result<Vec<&FunctionArgExpr>> {
    let plain = !function.uses_odbc_syntax
        && matches!(function.parameters, FunctionArguments::None)
        && function.filter.is_none()
        && function.null_treatment.is_none()
        && function.over.is_none()
        && function.within_group.is_empty();
    let FunctionArguments::List(list) = &function.args else {
        return Err(NotAllowed::new("a call of an unusual kind"));
    };
    if !plain || list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
        return Err(NotAllowed::new(
            "a call with DISTINCT, FILTER, OVER or ORDER BY",
        ));
    }
    list.args
        .iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(argument) => Ok(argument),
            _ => Err(NotAllowed::new("a named argument")),
        })
        .collect()
}

/// The lower-case name of a function.
pub(super) fn function_name(function: &Function) -> Result<String> {
    match function.name.0.as_slice() {
        [part] => match part.as_ident() {
            Some(ident) => Ok(ident.value.to_ascii_lowercase()),
            None => Err(NotAllowed::new("a function of an unusual name")),
        },
        _ => Err(NotAllowed::new("a function of an unusual name")),
    }
}

/// A name as the engine sees it: quoted as it is, else in lower case.
pub(super) fn name(ident: &Ident) -> Result<String> {
    match ident.quote_style {
        Some('"') => Ok(ident.value.clone()),
        None => Ok(ident.value.to_lowercase()),
        Some(_) => Err(NotAllowed::new("an unusual quote")),
    }
}

/// The text of a number literal, signs and parentheses aside.
fn number(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Nested(inner) => number(inner),
        Expr::UnaryOp {
            op: UnaryOperator::Minus | UnaryOperator::Plus,
            expr: inner,
        } => number(inner),
        Expr::Value(value) => match &value.value {
            Value::Number(text, false) => Some(text.as_str()),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a sum has a product in it.
fn multiplies(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner)
        | Expr::UnaryOp { expr: inner, .. }
        | Expr::Cast { expr: inner, .. } => multiplies(inner),
        Expr::BinaryOp { left, op, right } => {
            matches!(op, BinaryOperator::Multiply) || multiplies(left) || multiplies(right)
        }
        _ => false,
    }
}

fn is_small(expr: &Expr) -> bool {
    number(expr).is_some_and(|text| {
        let plain = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        plain && text.bytes().filter(u8::is_ascii_digit).count() <= MAX_LINEAR_DIGITS
    })
}

/// A divisor that never fails. The least integer divided by -1 would.
/// Whether an expression is NULLIF(..., 0), which is never zero.
fn is_never_zero(expr: &Expr) -> bool {
    let Expr::Function(call) = expr else {
        return false;
    };
    let FunctionArguments::List(list) = &call.args else {
        return false;
    };
    let name = call.name.to_string();
    let zero = match list.args.as_slice() {
        [
            _,
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value))),
        ] => {
            matches!(&value.value, Value::Number(text, _) if text.parse() == Ok(0_u64))
        }
        _ => false,
    };
    name.eq_ignore_ascii_case("nullif") && zero
}

fn is_positive_number(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(_))
        && number(expr).is_some_and(|text| text.bytes().any(|byte| (b'1'..=b'9').contains(&byte)))
}
