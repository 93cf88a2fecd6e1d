//! The engine's errors as ours: what it is, where it is, what was perhaps meant.
//!
//! The engine's own text can quote literals, so none of it passes: only names of tables, columns,
//! functions and types do.

use super::sql::Tables;
use super::text::Query;
use crate::error::{Code, Error};
use datafusion::common::{Column, DataFusionError, SchemaError};
use datafusion::sql::sqlparser::parser::ParserError;

/// A text that does not parse.
pub(super) fn syntax(error: &ParserError) -> Error {
    let text = match error {
        ParserError::RecursionLimitExceeded => {
            return Error::new(Code::LimitExceeded, "the SQL nests too deeply");
        }
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
    };
    // "Expected: X, found: Y at Line: 1, Column: 2"; Y can be a literal, X is the parser's own.
    let expected = text
        .strip_prefix("Expected: ")
        .and_then(|rest| rest.split_once(", found: "))
        .map(|(expected, _)| expected)
        .filter(|expected| !expected.contains(['\'', '"']) && expected.len() < 100);
    let message = match expected {
        Some(expected) => format!("the SQL does not parse: expected {expected}"),
        None => "the SQL does not parse".to_owned(),
    };
    let error = Error::new(Code::SqlSyntax, message);
    match location(text) {
        Some((line, column)) => error.position(line, column),
        None => error,
    }
}

fn location(text: &str) -> Option<(u64, u64)> {
    let (_, rest) = text.rsplit_once("Line: ")?;
    let (line, column) = rest.split_once(", Column: ")?;
    let digits: String = column.chars().take_while(char::is_ascii_digit).collect();
    Some((line.trim().parse().ok()?, digits.parse().ok()?))
}

/// A table that the catalogue does not have.
pub(super) fn unknown_table(key: &(String, String), tables: &Tables) -> Error {
    let asked = if key.0.is_empty() {
        key.1.clone()
    } else {
        format!("{}.{}", key.0, key.1)
    };
    let all: Vec<String> = tables
        .0
        .keys()
        .map(|(department, table)| format!("{department}.{table}"))
        .collect();
    let same_name: Vec<&String> = all
        .iter()
        .filter(|name| {
            name.split_once('.')
                .is_some_and(|(_, table)| table == key.1)
        })
        .collect();
    let near = if same_name.is_empty() {
        near_misses(&asked, all.iter().map(String::as_str))
    } else {
        same_name.into_iter().cloned().collect()
    };
    Error::new(
        Code::UnknownTable,
        format!("there is no table {}{}", name(&asked), perhaps(&near)),
    )
}

/// Any other failure of planning.
pub(super) fn planning(
    query: &Query,
    tables: &Tables,
    ours: Option<Error>,
    error: &DataFusionError,
) -> Error {
    if let Some(ours) = ours {
        let table = ours
            .message
            .strip_prefix("there is no table ")
            .and_then(|rest| rest.split([':', ';', ' ']).next())
            .map(|full| full.rsplit('.').next().unwrap_or(full).to_owned());
        return match table.and_then(|table| query.find(&table, 1)) {
            Some((line, column)) => ours.position(line, column),
            None => ours,
        };
    }
    match root(error) {
        DataFusionError::SchemaError(inner, _) => schema(query, tables, inner),
        DataFusionError::Plan(text) => plan_text(query, text),
        DataFusionError::NotImplemented(_) => query.unsupported("a construct of this query", &[]),
        DataFusionError::SQL(inner, _) => syntax(inner),
        DataFusionError::ResourcesExhausted(_) => {
            Error::new(Code::LimitExceeded, "the SQL nests too deeply")
        }
        _ => Error::new(
            Code::Unsupported,
            "the query cannot be planned: a construct or a literal does not go with its types",
        ),
    }
}

fn root(error: &DataFusionError) -> &DataFusionError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => root(inner),
        DataFusionError::Collection(errors) => errors.first().map_or(error, root),
        DataFusionError::Shared(inner) => root(inner),
        _ => error,
    }
}

fn schema(query: &Query, tables: &Tables, error: &SchemaError) -> Error {
    let (code, column, message) = match error {
        SchemaError::FieldNotFound {
            field,
            valid_fields,
        } => {
            let every: Vec<String> = if valid_fields.is_empty() {
                let columns = |schema: &arrow::datatypes::SchemaRef| -> Vec<String> {
                    schema.fields().iter().map(|f| f.name().clone()).collect()
                };
                tables.0.values().flat_map(columns).collect()
            } else {
                valid_fields
                    .iter()
                    .map(|field| field.name.clone())
                    .collect()
            };
            let near = near_misses(&field.name, every.iter().map(String::as_str));
            (
                Code::UnknownColumn,
                field.as_ref().clone(),
                format!(
                    "there is no column {}{}",
                    name(&field.flat_name()),
                    perhaps(&near)
                ),
            )
        }
        SchemaError::AmbiguousReference { field } => (
            Code::AmbiguousColumn,
            field.as_ref().clone(),
            format!("the column {} is in several tables", name(&field.name)),
        ),
        SchemaError::DuplicateQualifiedField { name: column, .. }
        | SchemaError::DuplicateUnqualifiedField { name: column } => (
            Code::AmbiguousColumn,
            Column::new_unqualified(column.clone()),
            "a table or column name appears twice: give each an alias".to_owned(),
        ),
    };
    let error = Error::new(code, message);
    let qualifier = column.relation.as_ref().map(|relation| relation.table());
    match query.find_column(qualifier, &column.name) {
        Some((line, column)) => error.position(line, column),
        None => error,
    }
}

fn plan_text(query: &Query, text: &str) -> Error {
    if let Some(function) = text
        .split_once("Invalid function '")
        .and_then(|(_, rest)| rest.split('\'').next())
    {
        return query.unsupported(&format!("the function {}", name(function)), &[function]);
    }
    if text.contains("must be in GROUP BY")
        || text.contains("must appear in the GROUP BY")
        || text.contains("could not be resolved from available columns")
        || text.contains("references non-aggregate values")
    {
        return Error::new(
            Code::Unsupported,
            "a column outside of an aggregate function is not among the columns of GROUP BY",
        );
    }
    if text.contains("unique expression names") {
        return Error::new(
            Code::AmbiguousColumn,
            "two columns of the result have one name: give each an alias",
        );
    }
    let types: Vec<&str> = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| {
            matches!(
                *word,
                "Int64"
                    | "Decimal128"
                    | "Date32"
                    | "Timestamp"
                    | "Boolean"
                    | "Utf8"
                    | "Float64"
                    | "Interval"
            )
        })
        .collect();
    if text.contains("coerce")
        || text.contains("Cannot infer")
        || text.contains("No function matches")
        || text.contains("but it must be a boolean")
        || text.contains("non-boolean")
        || text.contains("not support")
        || !types.is_empty()
    {
        let mut seen: Vec<&str> = Vec::new();
        for word in types {
            let word = readable(word);
            if !seen.contains(&word) {
                seen.push(word);
            }
        }
        let what = if seen.is_empty() {
            String::new()
        } else {
            format!(": {}", seen.join(", "))
        };
        return Error::new(
            Code::TypeMismatch,
            format!("the types of an expression do not go together{what}"),
        );
    }
    Error::new(
        Code::Unsupported,
        "the query cannot be planned: a construct of it is not supported",
    )
}

fn readable(word: &str) -> &str {
    match word {
        "Int64" => "int64",
        "Decimal128" => "decimal",
        "Date32" => "date",
        "Timestamp" => "timestamp",
        "Boolean" => "bool",
        "Utf8" => "utf8",
        "Float64" => "float64",
        _ => "interval",
    }
}

/// A name from the text, cut to a size that a message bears.
pub(super) fn name(text: &str) -> String {
    let cut: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
    cut
}

fn perhaps(near: &[String]) -> String {
    match near {
        [] => String::new(),
        [one] => format!("; did you mean {one}?"),
        several => format!("; did you mean one of {}?", several.join(", ")),
    }
}

/// At most three names that differ by few edits, nearest first.
fn near_misses<'a>(asked: &str, all: impl Iterator<Item = &'a str>) -> Vec<String> {
    let asked: String = asked.chars().take(80).collect();
    let mut near: Vec<(usize, &str)> = all
        .map(|candidate| (distance(&asked, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= 1 + candidate.chars().count().min(asked.len()) / 3)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter()
        .take(3)
        .map(|(_, candidate)| candidate.to_owned())
        .collect()
}

/// Levenshtein distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = i;
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        for (j, b) in right.iter().enumerate() {
            let above = row.get(j + 1).copied().unwrap_or(usize::MAX - 1);
            let before = row.get(j).copied().unwrap_or(usize::MAX - 1);
            let next = (diagonal + usize::from(a != *b))
                .min(above + 1)
                .min(before + 1);
            diagonal = above;
            if let Some(cell) = row.get_mut(j + 1) {
                *cell = next;
            }
        }
    }
    row.last().copied().unwrap_or(0)
}
