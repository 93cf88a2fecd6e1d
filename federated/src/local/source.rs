//! A department's files as the tables that its catalogue declares.
//!
//! Every column that needs it passes through one function, `deliver`, which casts, brings text to
//! its canonical form and enforces what is declared: no NULL where there is none, code lists, lengths,
//! bounds. Columns that need nothing stay plain, so that filters reach the files. An error says
//! table, column and how many rows, never a value. Knows nothing of fragments or peers.

use super::canonical::canonical_array;
use super::convert::{castable, convert};
use super::sanitise::engine_error;
use crate::catalog::infer::column_name;
use crate::catalog::{Catalog, Column, Format, Source, Table};
use crate::error::{Code, Error, Result};
use crate::schema::ScalarType;
use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Int64Type, Schema};
use datafusion::common::DataFusionError;
use datafusion::dataframe::DataFrame;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, ident,
};
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionContext};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// The files of a source, ascending.
///
/// # Errors
/// `SourceUnavailable` when the path cannot be read, `BadSource` when it holds no file of its format.
pub(crate) fn files(source: &Source) -> Result<Vec<PathBuf>> {
    let gone = |error: std::io::Error| {
        Error::new(
            Code::SourceUnavailable,
            format!("{}: {}", file_name(source), error.kind()),
        )
    };
    if !fs::metadata(&source.path).map_err(gone)?.is_dir() {
        return Ok(vec![source.path.clone()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(&source.path).map_err(gone)? {
        let path = entry.map_err(gone)?.path();
        if path.extension().and_then(|text| text.to_str()) == Some(extension(source.format)) {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(Error::new(
            Code::BadSource,
            format!(
                "{} holds no .{} file",
                file_name(source),
                extension(source.format)
            ),
        ));
    }
    files.sort();
    Ok(files)
}

fn extension(format: Format) -> &'static str {
    match format {
        Format::Parquet => "parquet",
        Format::Csv => "csv",
    }
}

/// What identifies the present content of a source: path, size and modification time of each file.
pub(super) fn stamp(source: &Source) -> Result<Vec<u8>> {
    let mut stamp = Vec::new();
    for path in files(source)? {
        let gone = |error: std::io::Error| {
            Error::new(
                Code::SourceUnavailable,
                format!("{}: {}", path_name(&path), error.kind()),
            )
        };
        let metadata = fs::metadata(&path).map_err(gone)?;
        let modified = metadata.modified().map_err(gone)?;
        let nanos = modified
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos());
        let name = path.as_os_str().as_encoded_bytes();
        stamp.extend_from_slice(&(name.len() as u64).to_le_bytes());
        stamp.extend_from_slice(name);
        stamp.extend_from_slice(&metadata.len().to_le_bytes());
        stamp.extend_from_slice(&nanos.to_le_bytes());
    }
    Ok(stamp)
}

/// Registers a table of the catalogue under its name, as declared.
///
/// # Errors
/// `BadSource` naming file and column; `SourceUnavailable`.
pub(super) async fn register(
    context: &SessionContext,
    catalog: &Catalog,
    index: usize,
) -> Result<()> {
    let (Some(table), Some(source)) = (
        catalog.published.tables.get(index),
        catalog.sources.get(index),
    ) else {
        return Err(Error::new(Code::Internal, "a table without a source"));
    };
    let department = &catalog.published.department;
    let at = |error: Error| Error {
        message: format!("{department}.{}: {}", table.name, error.message),
        ..error
    };
    let raw = read(context, table, source).await.map_err(at)?;
    let mut columns = Vec::with_capacity(table.columns.len());
    for column in &table.columns {
        columns.push(
            delivered(department, table, column, raw.schema().as_arrow(), source).map_err(at)?,
        );
    }
    let frame = raw.select(columns).map_err(|error| engine_error(&error))?;
    context
        .register_table(table_name(&table.name), frame.into_view())
        .map_err(|error| engine_error(&error))?;
    Ok(())
}

/// The table's name as the engine writes it: exactly as it stands.
fn table_name(name: &str) -> datafusion::common::TableReference {
    datafusion::common::TableReference::bare(name.to_owned())
}

async fn read(context: &SessionContext, table: &Table, source: &Source) -> Result<DataFrame> {
    let paths: Vec<String> = files(source)?
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    match source.format {
        Format::Parquet => context
            .read_parquet(
                paths,
                ParquetReadOptions {
                    file_extension: "",
                    ..ParquetReadOptions::default()
                }
                .skip_metadata(true),
            )
            .await
            .map_err(|error| bad_file(&error, source)),
        Format::Csv => {
            let mut header: Option<Vec<String>> = None;
            for path in files(source)? {
                let found = csv_header(&path)?;
                if *header.get_or_insert_with(|| found.clone()) != found {
                    return Err(Error::new(
                        Code::BadSource,
                        format!(
                            "{} has another header line than the files before it",
                            path_name(&path)
                        ),
                    ));
                }
            }
            let names = header.unwrap_or_default();
            let mut seen = HashSet::new();
            for name in &names {
                if !seen.insert(name) {
                    return Err(Error::new(
                        Code::BadSource,
                        format!("{}: the header names a column twice", file_name(source)),
                    ));
                }
            }
            for column in &table.columns {
                if !seen.contains(&column.name) {
                    return Err(missing_column(source, &column.name));
                }
            }
            let fields: Vec<Field> = names
                .iter()
                .map(|name| Field::new(name, DataType::Utf8, true))
                .collect();
            let schema = Schema::new(fields);
            let options = CsvReadOptions::new()
                .has_header(true)
                // A quoted line break must not cut a row in two.
                .newlines_in_values(true)
                .file_extension("")
                .schema(&schema);
            context
                .read_csv(paths, options)
                .await
                .map_err(|error| bad_file(&error, source))
        }
    }
}

/// A failure to open a file, by kind.
fn bad_file(error: &DataFusionError, source: &Source) -> Error {
    let error = engine_error(error);
    let code = match error.code {
        Code::SourceUnavailable | Code::LimitExceeded => error.code,
        _ => Code::BadSource,
    };
    let kind = match source.format {
        Format::Parquet => "Parquet",
        Format::Csv => "CSV",
    };
    Error::new(
        code,
        format!("{} cannot be read as {kind}", file_name(source)),
    )
}

/// The last part of a source's path, for messages.
pub(super) fn file_name(source: &Source) -> String {
    path_name(&source.path)
}

/// Errors travel to other departments, so they name files without the folders around them.
fn path_name(path: &Path) -> String {
    path.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn missing_column(source: &Source, column: &str) -> Error {
    Error::new(
        Code::BadSource,
        format!(
            "{} has no column {column}, which catalog.toml declares",
            file_name(source)
        ),
    )
}

/// The names in a CSV file's first line.
///
/// # Errors
/// `SourceUnavailable` or `BadSource` naming the file.
fn csv_header(path: &Path) -> Result<Vec<String>> {
    let file = fs::File::open(path).map_err(|error| {
        Error::new(
            Code::SourceUnavailable,
            format!("{}: {}", path_name(path), error.kind()),
        )
    })?;
    let format = arrow::csv::reader::Format::default().with_header(true);
    let (schema, _) = format.infer_schema(file, Some(0)).map_err(|_| {
        Error::new(
            Code::BadSource,
            format!("{} has no readable header line", path_name(path)),
        )
    })?;
    Ok(schema
        .fields()
        .iter()
        .map(|field| column_name(field.name()))
        .collect())
}

/// The expression that delivers one column.
fn delivered(
    department: &str,
    table: &Table,
    column: &Column,
    raw: &Schema,
    source: &Source,
) -> Result<Expr> {
    let field = raw
        .fields()
        .iter()
        .find(|field| *field.name() == column.name)
        .or_else(|| {
            let mut fields = raw.fields().iter();
            fields.find(|field| column_name(field.name()) == column.name)
        })
        .ok_or_else(|| missing_column(source, &column.name))?;
    let raw_column = ident(field.name());
    let declared = column.data_type.to_arrow();
    if !castable(field.data_type(), column) {
        let float = matches!(field.data_type(), DataType::Float32 | DataType::Float64);
        let hint = match column.data_type {
            ScalarType::Decimal { .. } if float => {
                "; declare `fixed_point = true` to have it rounded"
            }
            _ => "",
        };
        return Err(Error::new(
            Code::BadSource,
            format!(
                "{}: column {} holds {}, which does not fit the declared {}{hint}",
                file_name(source),
                column.name,
                field.data_type(),
                column.data_type
            ),
        ));
    }
    let plain = field.data_type() == &declared
        && (column.nullable || !field.is_nullable())
        && column.canonical.is_empty()
        && column.max_bytes == 0
        && column.codes.is_empty()
        && column.max_abs == 0
        && !matches!(
            column.data_type,
            ScalarType::Decimal { .. } | ScalarType::Timestamp
        );
    if plain {
        return Ok(raw_column.alias(&column.name));
    }
    let function = ScalarUDF::new_from_impl(Deliver {
        name: format!(
            "{department}.{}.{} ({})",
            table.name,
            column.name,
            file_name(source)
        ),
        column: column.clone(),
        signature: Signature::any(1, Volatility::Immutable),
    });
    Ok(function.call(vec![raw_column]).alias(&column.name))
}

/// Casts, canonicalises and checks one column.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Deliver {
    /// `department.table.column (file)`.
    name: String,
    column: Column,
    signature: Signature,
}

impl ScalarUDFImpl for Deliver {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> datafusion::common::Result<DataType> {
        Ok(self.column.data_type.to_arrow())
    }

    fn return_field_from_args(
        &self,
        _: ReturnFieldArgs<'_>,
    ) -> datafusion::common::Result<FieldRef> {
        Ok(Arc::new(Field::new(
            &self.name,
            self.column.data_type.to_arrow(),
            self.column.nullable,
        )))
    }

    fn invoke_with_args(
        &self,
        arguments: ScalarFunctionArgs,
    ) -> datafusion::common::Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let [array] = &arrays[..] else {
            return Err(DataFusionError::Internal("one argument".to_owned()));
        };
        let delivered = self
            .deliver(array)
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(ColumnarValue::Array(delivered))
    }
}

impl Deliver {
    /// How many rows is for the owner's log alone: a count can depend on the query's conditions.
    fn bad(&self, rows: usize, what: &str) -> Error {
        tracing::warn!(column = %self.name, rows, what, "a source breaks what is declared");
        Error::new(Code::BadSource, format!("{}: some rows {what}", self.name))
    }

    fn deliver(&self, array: &ArrayRef) -> Result<ArrayRef> {
        let declared = self.column.data_type.to_arrow();
        // Timestamps have bounds of their own.
        let timestamp = ScalarType::Timestamp.to_arrow();
        let array = if array.data_type() == &declared && declared != timestamp {
            Arc::clone(array)
        } else {
            convert(array, &self.column).map_err(|lost| self.bad(lost.rows, &lost.what))?
        };
        let array = match array.as_string_opt::<i32>() {
            Some(text) => Arc::new(self.text(text)?) as ArrayRef,
            None => array,
        };
        self.bounds(&array)?;
        if !self.column.nullable && array.null_count() > 0 {
            return Err(self.bad(array.null_count(), "are NULL, which catalog.toml rules out"));
        }
        Ok(array)
    }

    fn text(&self, text: &StringArray) -> Result<StringArray> {
        let text = canonical_array(text, &self.column.canonical);
        if self.column.max_bytes > 0 {
            let most = self.column.max_bytes as usize;
            let longer = text
                .iter()
                .flatten()
                .filter(|value| value.len() > most)
                .count();
            if longer > 0 {
                return Err(self.bad(
                    longer,
                    &format!("are longer than the {most} bytes declared"),
                ));
            }
        }
        if !self.column.codes.is_empty() {
            let codes: HashSet<&str> = self.column.codes.iter().map(String::as_str).collect();
            let outside = text
                .iter()
                .flatten()
                .filter(|value| !codes.contains(value))
                .count();
            if outside > 0 {
                return Err(self.bad(outside, "are outside the code list declared"));
            }
        }
        Ok(text)
    }

    fn bounds(&self, array: &ArrayRef) -> Result<()> {
        let most = u128::from(self.column.max_abs);
        let beyond = match array.data_type() {
            DataType::Int64 if most > 0 => array
                .as_primitive::<Int64Type>()
                .iter()
                .flatten()
                .filter(|value| u128::from(value.unsigned_abs()) > most)
                .count(),
            DataType::Decimal128(precision, _) => {
                let digits = 10_u128.saturating_pow(u32::from(*precision)) - 1;
                let most = if most > 0 { most.min(digits) } else { digits };
                array
                    .as_primitive::<Decimal128Type>()
                    .iter()
                    .flatten()
                    .filter(|value| value.unsigned_abs() > most)
                    .count()
            }
            _ => 0,
        };
        if beyond > 0 {
            return Err(self.bad(beyond, "are beyond the bound declared"));
        }
        Ok(())
    }
}
