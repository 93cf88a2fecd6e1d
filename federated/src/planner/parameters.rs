//! Parameters of a query: `?` or `$1` in its text, values from one row of Arrow columns.
//!
//! A value becomes a literal of the parsed query, never text that is parsed again as part of it, so
//! that nothing in a value can change what is asked. Everything behind planning sees literals alone.

use super::Federation;
use super::sql;
use super::text::Query;
use crate::error::{Code, Error, Result};
use crate::stack::on_a_deep_stack;
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Decimal128Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray, new_null_array,
};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::sql::sqlparser::ast::{
    Expr as SqlExpr, Statement, Value as SqlValue, visit_expressions_mut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use std::ops::ControlFlow;
use std::sync::Arc;

/// The most parameters of one query.
const MAX_PARAMETERS: usize = 1_000;

/// The parameters of a query: a column each, named `$1` and so on, of the type that it is used as.
/// A query without parameters has none.
///
/// # Errors
/// Those of parsing and typing; [`Code::Unsupported`] for a parameter whose type nothing tells.
pub fn parameters(text: &str, federation: &Federation) -> Result<SchemaRef> {
    super::check_length(text)?;
    on_a_deep_stack(|| {
        let query = Query::parse(text)?;
        let count = query.parameters()?;
        if count == 0 {
            return Ok(Arc::new(Schema::empty()));
        }
        let types = sql::parameter_types(&query, federation)?;
        let fields = (1..=count).map(|number| {
            let name = format!("${number}");
            match types.get(&name) {
                Some(Some(data_type)) => Ok(Field::new(name, plain(data_type), true)),
                _ => Err(Error::new(
                    Code::Unsupported,
                    format!(
                        "nothing tells the type of parameter {name}: write CAST({name} AS a type)"
                    ),
                )),
            }
        });
        Ok(Arc::new(Schema::new(fields.collect::<Result<Vec<_>>>()?)))
    })
}

/// One row of parameters with which a query can be planned before its own are known.
///
/// # Errors
/// [`Code::Unsupported`] for a type that cannot be bound.
pub fn examples(schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = schema.fields().iter().map(|field| -> Result<ArrayRef> {
        Ok(match field.data_type() {
            DataType::Boolean => Arc::new(BooleanArray::from(vec![true])),
            DataType::Utf8 => Arc::new(StringArray::from(vec!["1"])),
            DataType::Date32 => Arc::new(Date32Array::from(vec![1])),
            DataType::Timestamp(_, None) => Arc::new(TimestampMicrosecondArray::from(vec![1])),
            DataType::Decimal128(precision, scale) => {
                let one = Decimal128Array::from(vec![1]);
                let one = one.with_precision_and_scale(*precision, *scale);
                Arc::new(one.map_err(|_| refuse(field.data_type()))?)
            }
            data_type => {
                cast(&Int64Array::from(vec![1]), data_type).map_err(|_| refuse(data_type))?
            }
        })
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_>>()?)
        .map_err(|_| Error::new(Code::Internal, "parameters do not have their own types"))
}

/// Values as a query can take them: each of a kind that its parameter is used as, and NULL of its type.
///
/// # Errors
/// [`Code::TypeMismatch`] for a value of another kind, [`Code::BadRequest`] for more or fewer values than
/// parameters.
pub fn fitted(values: &RecordBatch, due: &SchemaRef) -> Result<RecordBatch> {
    let (given, asked) = (values.num_columns(), due.fields().len());
    if given != asked {
        return Err(Error::new(
            Code::BadRequest,
            format!("the query has {asked} parameters, and {given} values are bound"),
        ));
    }
    let mut fields = Vec::with_capacity(asked);
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(asked);
    for (column, field) in values.columns().iter().zip(due.fields()) {
        let (from, to) = (column.data_type(), field.data_type());
        let mismatch = || {
            Error::new(
                Code::TypeMismatch,
                format!(
                    "parameter {} is used as {to}, and {from} is bound to it",
                    field.name()
                ),
            )
        };
        let strict = CastOptions {
            safe: false,
            ..CastOptions::default()
        };
        let column = match (kind(from), kind(to)) {
            (Kind::Null, _) => new_null_array(to, column.len()),
            // What is more exact than the parameter's type is compared as it is.
            (a, b) if a == b => Arc::clone(column),
            (Kind::Text, Kind::Date | Kind::Time) | (Kind::Date, Kind::Time) => {
                cast_with_options(column, to, &strict).map_err(|_| mismatch())?
            }
            _ => return Err(mismatch()),
        };
        fields.push(Field::new(field.name(), column.data_type().clone(), true));
        columns.push(column);
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
        .map_err(|_| Error::new(Code::Internal, "parameters do not have their own types"))
}

/// What values are compared as.
#[derive(PartialEq, Eq)]
enum Kind {
    Null,
    Bool,
    Number,
    Text,
    Date,
    Time,
    Other,
}

fn kind(data_type: &DataType) -> Kind {
    match data_type {
        DataType::Null => Kind::Null,
        DataType::Boolean => Kind::Bool,
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => Kind::Text,
        DataType::Dictionary(_, of) => kind(of),
        DataType::Date32 => Kind::Date,
        DataType::Timestamp(_, None) => Kind::Time,
        data_type if data_type.is_numeric() => Kind::Number,
        _ => Kind::Other,
    }
}

/// The type to advertise: none of a view or a dictionary.
fn plain(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::Timestamp(_, None) => DataType::Timestamp(TimeUnit::Microsecond, None),
        other => other.clone(),
    }
}

/// `?` are numbered in the order of the text.
pub(super) fn numbered(tokens: &mut [TokenWithSpan]) {
    let marks = tokens
        .iter_mut()
        .filter_map(|token| match &mut token.token {
            Token::Placeholder(text) if text == "?" => Some(text),
            _ => None,
        });
    for (at, text) in marks.enumerate() {
        *text = format!("${}", at + 1);
    }
}

/// How many parameters these words name: the highest of their numbers.
pub(super) fn count(tokens: &[TokenWithSpan]) -> Result<usize> {
    let mut most = 0;
    for token in tokens {
        let Token::Placeholder(text) = &token.token else {
            continue;
        };
        let number = text.strip_prefix('$').and_then(|text| text.parse().ok());
        match number {
            Some(number) if (1..=MAX_PARAMETERS).contains(&number) => most = most.max(number),
            _ => {
                let at = token.span.start;
                return Err(Error::new(
                    Code::Unsupported,
                    format!("a parameter is `?`, or `$1` to `${MAX_PARAMETERS}`"),
                )
                .position(at.line, at.column));
            }
        }
    }
    Ok(most)
}

/// Puts the values of one row in the place of parameters.
pub(super) fn bind(statement: &mut Statement, values: &RecordBatch) -> Result<()> {
    let literals: Vec<SqlExpr> = values
        .columns()
        .iter()
        .map(literal)
        .collect::<Result<_>>()?;
    let _ = visit_expressions_mut(statement, |expr| {
        if let SqlExpr::Value(value) = expr
            && let SqlValue::Placeholder(name) = &value.value
            && let Some(number) = name.strip_prefix('$').and_then(|name| name.parse().ok())
            && let Some(literal) = usize::checked_sub(number, 1).and_then(|at| literals.get(at))
        {
            *expr = literal.clone();
        }
        ControlFlow::<()>::Continue(())
    });
    Ok(())
}

fn refuse(data_type: &DataType) -> Error {
    Error::new(
        Code::Unsupported,
        format!(
            "a parameter of type {data_type}: bind an integer, decimal, text, date, timestamp without \
             zone, or bool"
        ),
    )
}

/// The first value of a column as a literal of its type.
fn literal(column: &ArrayRef) -> Result<SqlExpr> {
    let data_type = column.data_type();
    let column = match data_type {
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Dictionary(..) => {
            &cast(column, &DataType::Utf8).map_err(|_| refuse(data_type))?
        }
        _ => column,
    };
    let null = column.is_empty() || column.is_null(0);
    if let DataType::Utf8 = column.data_type()
        && !null
    {
        let text = column.as_string::<i32>().value(0).to_owned();
        return Ok(SqlExpr::Value(SqlValue::SingleQuotedString(text).into()));
    }
    // What follows is composed of digits and names of types alone.
    let text = || {
        let options = FormatOptions::default();
        let cells = ArrayFormatter::try_new(column, &options).map_err(|_| refuse(data_type))?;
        cells
            .value(0)
            .try_to_string()
            .map_err(|_| refuse(data_type))
    };
    let name = match column.data_type() {
        data_type if data_type.is_integer() => "BIGINT".to_owned(),
        DataType::Float32 | DataType::Float64 => "DECIMAL(38, 10)".to_owned(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::Boolean => "BOOLEAN".to_owned(),
        DataType::Utf8 => "VARCHAR".to_owned(),
        DataType::Date32 => "DATE".to_owned(),
        DataType::Timestamp(_, None) => "TIMESTAMP".to_owned(),
        _ => return Err(refuse(data_type)),
    };
    let sql = match column.data_type() {
        _ if null => format!("CAST(NULL AS {name})"),
        data_type if data_type.is_integer() => text()?,
        DataType::Boolean => text()?,
        DataType::Float32 | DataType::Float64 => decimal(column)?,
        _ => format!("CAST('{}' AS {name})", text()?.replace('T', " ")),
    };
    Parser::new(&GenericDialect {})
        .try_with_sql(&sql)
        .and_then(|mut parser| parser.parse_expr())
        .map_err(|_| refuse(data_type))
}

/// The shortest decimal number that reads back as this one.
fn decimal(column: &ArrayRef) -> Result<String> {
    let wide = cast(column, &DataType::Float64).map_err(|_| refuse(column.data_type()))?;
    let value = wide
        .as_primitive::<arrow::datatypes::Float64Type>()
        .value(0);
    let text = format!("{value}");
    let digits = text.chars().filter(char::is_ascii_digit).count();
    if value.is_finite() && digits <= 38 {
        return Ok(text);
    }
    Err(Error::new(
        Code::TypeMismatch,
        "a floating-point parameter that no decimal of 38 digits holds: bind a decimal",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int32Array, Int64Array, NullArray, UInt64Array};

    fn text_of(column: ArrayRef) -> Result<String> {
        literal(&column).map(|literal| literal.to_string())
    }

    #[test]
    fn values_become_literals_of_their_own_type() {
        let decimal = Decimal128Array::from(vec![-12_345]);
        let decimal = decimal.with_precision_and_scale(9, 2).unwrap();
        let columns: [(ArrayRef, &str); 10] = [
            (Arc::new(Int32Array::from(vec![-7])), "-7"),
            (
                Arc::new(UInt64Array::from(vec![u64::MAX])),
                "18446744073709551615",
            ),
            (Arc::new(decimal), "CAST('-123.45' AS DECIMAL(9,2))"),
            (Arc::new(Float64Array::from(vec![0.1])), "0.1"),
            (
                Arc::new(Float64Array::from(vec![1e21])),
                "1000000000000000000000",
            ),
            (Arc::new(BooleanArray::from(vec![true])), "true"),
            (
                Arc::new(Date32Array::from(vec![19_000])),
                "CAST('2022-01-08' AS DATE)",
            ),
            (
                Arc::new(TimestampMicrosecondArray::from(vec![1])),
                "CAST('1970-01-01 00:00:00.000001' AS TIMESTAMP)",
            ),
            (
                Arc::new(StringArray::from(vec!["'; DROP TABLE x; --"])),
                "'''; DROP TABLE x; --'",
            ),
            (
                Arc::new(StringArray::from(vec![None::<&str>])),
                "CAST(NULL AS VARCHAR)",
            ),
        ];
        for (column, due) in columns {
            assert_eq!(text_of(column).unwrap(), due);
        }
        for value in [f64::NAN, f64::INFINITY, 1e300, 1e-300] {
            let error = text_of(Arc::new(Float64Array::from(vec![value]))).unwrap_err();
            assert_eq!(error.code, Code::TypeMismatch);
            assert!(!error.message.contains("300"), "{error}");
        }
        assert!(text_of(Arc::new(NullArray::new(1))).is_err());
    }

    #[test]
    fn values_fit_their_use_or_are_refused_without_being_shown() {
        let due: SchemaRef = Arc::new(Schema::new(vec![
            Field::new("$1", DataType::Int64, true),
            Field::new("$2", DataType::Date32, true),
        ]));
        let bound = |a: ArrayRef, b: ArrayRef| {
            let values = RecordBatch::try_from_iter_with_nullable([("a", a, true), ("b", b, true)]);
            fitted(&values.unwrap(), &due)
        };
        let day: ArrayRef = Arc::new(StringArray::from(vec!["2024-02-29"]));
        let fits = bound(Arc::new(NullArray::new(1)), Arc::clone(&day)).unwrap();
        assert_eq!(fits.column(0).data_type(), &DataType::Int64);
        assert_eq!(fits.column(1).data_type(), &DataType::Date32);
        let number: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let wrong: ArrayRef = Arc::new(StringArray::from(vec!["secret"]));
        for (a, b) in [(&wrong, &day), (&number, &wrong), (&number, &number)] {
            let error = bound(Arc::clone(a), Arc::clone(b)).unwrap_err();
            assert_eq!(error.code, Code::TypeMismatch);
            assert!(!error.message.contains("secret"), "{error}");
        }
        let one = RecordBatch::try_from_iter([("a", number)]).unwrap();
        assert_eq!(fitted(&one, &due).unwrap_err().code, Code::BadRequest);
    }

    #[test]
    fn examples_are_of_every_type() {
        let types = [
            DataType::Boolean,
            DataType::Int16,
            DataType::UInt64,
            DataType::Float64,
            DataType::Decimal128(38, 10),
            DataType::Utf8,
            DataType::Date32,
            DataType::Timestamp(TimeUnit::Microsecond, None),
        ];
        let fields = types.iter().enumerate();
        let fields = fields.map(|(at, of)| Field::new(format!("${at}"), of.clone(), true));
        let schema: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let made = examples(&schema).unwrap();
        assert_eq!(made.num_rows(), 1);
        for column in made.columns() {
            literal(column).unwrap();
        }
    }
}
