//! Errors of the query engine, by kind and without their text: it can quote literals and cells.
//!
//! Whatever of ours was carried through the engine comes out unchanged.

use crate::error::{Code, Error};
use arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;

/// Our error for one of the engine.
#[must_use]
pub fn engine_error(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => {
            engine_error(inner)
        }
        DataFusionError::Shared(inner) => engine_error(inner),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => engine_error(first),
            None => internal("an empty list of errors"),
        },
        DataFusionError::External(inner) => external(inner.as_ref()),
        DataFusionError::ArrowError(inner, _) => arrow_error(inner),
        DataFusionError::ParquetError(_) => {
            Error::new(Code::BadSource, "a Parquet file cannot be decoded")
        }
        DataFusionError::IoError(inner) => Error::new(
            Code::SourceUnavailable,
            format!("a source cannot be read: {}", inner.kind()),
        ),
        DataFusionError::ObjectStore(_) => {
            Error::new(Code::SourceUnavailable, "a source cannot be read")
        }
        DataFusionError::SQL(_, _) => Error::new(Code::SqlSyntax, "the SQL does not parse"),
        DataFusionError::NotImplemented(_) => Error::new(
            Code::Unsupported,
            "the query engine does not support a construct of this query",
        ),
        DataFusionError::SchemaError(inner, _) => match inner.as_ref() {
            SchemaError::AmbiguousReference { .. }
            | SchemaError::DuplicateUnqualifiedField { .. }
            | SchemaError::DuplicateQualifiedField { .. } => {
                Error::new(Code::AmbiguousColumn, "a column name fits several columns")
            }
            SchemaError::FieldNotFound { .. } => {
                Error::new(Code::UnknownColumn, "a column is not in its table")
            }
        },
        DataFusionError::Plan(_) => Error::new(
            Code::TypeMismatch,
            "the SQL cannot be planned: a table, a function or the types of an expression do not fit",
        ),
        DataFusionError::ResourcesExhausted(_) => Error::new(
            Code::LimitExceeded,
            "local execution needs more memory than it is given",
        ),
        DataFusionError::ExecutionJoin(join) => {
            if join.is_cancelled() {
                Error::new(Code::Cancelled, "local execution was cancelled")
            } else {
                internal("a task of the query engine ended abnormally")
            }
        }
        DataFusionError::Execution(_) => Error::new(
            Code::Overflow,
            "an expression of the query failed on a value: a cast, an overflow or a division",
        ),
        _ => internal("the query engine failed"),
    }
}

/// Our error for one of Arrow.
#[must_use]
pub fn arrow_error(error: &ArrowError) -> Error {
    match error {
        ArrowError::ExternalError(inner) => external(inner.as_ref()),
        ArrowError::DivideByZero => Error::new(Code::Overflow, "a division by zero"),
        ArrowError::ArithmeticOverflow(_) => {
            Error::new(Code::Overflow, "a result does not fit its type")
        }
        ArrowError::CastError(_) | ArrowError::ParseError(_) => Error::new(
            Code::Overflow,
            "a value cannot be cast to the type asked for",
        ),
        ArrowError::InvalidArgumentError(_) => Error::new(
            Code::Overflow,
            "a value does not fit the precision of its decimal, or an argument its function",
        ),
        ArrowError::CsvError(_) => Error::new(Code::BadSource, "a CSV file is malformed"),
        ArrowError::ParquetError(_) => {
            Error::new(Code::BadSource, "a Parquet file cannot be decoded")
        }
        ArrowError::IoError(_, inner) => Error::new(
            Code::SourceUnavailable,
            format!("a source cannot be read: {}", inner.kind()),
        ),
        ArrowError::MemoryError(_) => Error::new(
            Code::LimitExceeded,
            "local execution needs more memory than it is given",
        ),
        _ => internal("an Arrow operation failed"),
    }
}

/// Ours, when it is ours; otherwise what it stands for.
fn external(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Error {
    if let Some(ours) = error.downcast_ref::<Error>() {
        return ours.clone();
    }
    if let Some(engine) = error.downcast_ref::<DataFusionError>() {
        return engine_error(engine);
    }
    if let Some(arrow) = error.downcast_ref::<ArrowError>() {
        return arrow_error(arrow);
    }
    if error
        .downcast_ref::<parquet::errors::ParquetError>()
        .is_some()
    {
        return Error::new(Code::BadSource, "a Parquet file cannot be decoded");
    }
    internal("a part of the query engine failed")
}

fn internal(what: &str) -> Error {
    Error::new(Code::Internal, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_of_the_engine_passes() {
        let secret = "11010119900307001X";
        let carried = Error::new(Code::DuplicateKey, "ours");
        let cases = [
            (DataFusionError::Execution(secret.into()), Code::Overflow),
            (DataFusionError::Plan(secret.into()), Code::TypeMismatch),
            (DataFusionError::Internal(secret.into()), Code::Internal),
            (
                DataFusionError::ResourcesExhausted(secret.into()),
                Code::LimitExceeded,
            ),
            (ArrowError::CastError(secret.into()).into(), Code::Overflow),
            (
                ArrowError::ArithmeticOverflow(secret.into()).into(),
                Code::Overflow,
            ),
            (
                DataFusionError::Context(
                    secret.into(),
                    Box::new(DataFusionError::External(Box::new(carried))),
                ),
                Code::DuplicateKey,
            ),
        ];
        for (engine, code) in cases {
            let ours = engine_error(&engine);
            assert_eq!(ours.code, code);
            assert!(!ours.to_string().contains(secret), "{ours}");
        }
    }
}
