//! One streaming pass over a table's files: types, NULLs, lengths, uniqueness of likely keys.

use super::column_name;
use super::observe::{Shapes, is_valid_id};
use super::sample::Sample;
use crate::catalog::{Canonical, Column, Format, Source, names};
use crate::error::{Code, Error, Result};
use crate::local::canonical::canonical_text;
use crate::local::source_files;
use crate::schema::ScalarType;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, UInt64Type};
use std::borrow::Cow;
use std::hash::{DefaultHasher, Hasher};
use std::path::Path;
use std::sync::Arc;
use unicode_normalization::is_nfc;

/// Rows read at a time.
const BATCH: usize = 8192;
/// The most digits after the point that a float column gets.
const FLOAT_SCALE: u8 = 6;

/// What was seen of a table.
pub(super) struct TableProfile {
    pub(super) rows: u64,
    pub(super) columns: Vec<ColumnProfile>,
    pub(super) notices: Vec<String>,
}

/// What was seen of a column.
pub(super) struct ColumnProfile {
    pub(super) name: String,
    /// Its name in the file, whose capitals tell words apart.
    pub(super) header: String,
    /// The type that the file declares; none in a CSV file.
    declared: Option<ScalarType>,
    /// Whether a value is beyond what 64 bits with a sign hold.
    beyond_int64: bool,
    /// Whether the file declares a float, which becomes a decimal in fixed point.
    float: bool,
    shapes: Shapes,
    pub(super) values: u64,
    pub(super) nulls: u64,
    pub(super) max_bytes: u64,
    valid_ids: u64,
    /// Of likely keys: hashes of values trimmed and in NFC, and of valid identifiers.
    hashes: Option<(Vec<u64>, Vec<u64>)>,
    /// Its distinct values, to compare with those of other tables.
    pub(super) sample: Sample,
    /// Values with a digit in them.
    with_digit: u64,
    /// The least and the greatest, as long as all are whole numbers.
    range: Option<(i64, i64)>,
}

impl ColumnProfile {
    fn new(header: &str, declared: Option<ScalarType>, float: bool, first: bool) -> Self {
        let likely = first || names::is_id(header) || names::naming(header).is_some();
        Self {
            name: column_name(header),
            header: header.to_owned(),
            declared,
            beyond_int64: false,
            float,
            shapes: Shapes::any(),
            values: 0,
            nulls: 0,
            max_bytes: 0,
            valid_ids: 0,
            hashes: likely.then(Default::default),
            sample: Sample::default(),
            with_digit: 0,
            range: None,
        }
    }

    /// The type to declare.
    pub(super) fn data_type(&self) -> ScalarType {
        if self.beyond_int64 {
            return ScalarType::Decimal {
                precision: 20,
                scale: 0,
            };
        }
        if let Some(declared) = self.declared {
            return declared;
        }
        let shapes = &self.shapes;
        if self.values == 0 && !self.float {
            return ScalarType::Utf8;
        }
        if self.float {
            let scale = shapes.fraction.clamp(2, FLOAT_SCALE);
            let precision = (shapes.whole + 1 + scale).clamp(10, 38);
            return ScalarType::Decimal { precision, scale };
        }
        if shapes.bool {
            ScalarType::Bool
        } else if shapes.date {
            ScalarType::Date
        } else if shapes.timestamp {
            ScalarType::Timestamp
        } else if shapes.eighteen || self.is_id18() {
            ScalarType::Utf8
        } else if shapes.int {
            ScalarType::Int64
        } else if shapes.decimal {
            let precision = (shapes.whole + 1 + shapes.fraction).min(38);
            ScalarType::Decimal {
                precision,
                scale: shapes.fraction,
            }
        } else {
            ScalarType::Utf8
        }
    }

    /// Whether its values are rounded to the type to declare.
    pub(super) fn is_float(&self) -> bool {
        self.float
    }

    /// Whether at least 95 % of the values are identifiers with a valid check digit.
    pub(super) fn is_id18(&self) -> bool {
        self.valid_ids > 0 && self.valid_ids * 100 >= self.values * 95
    }

    /// Values that `id18` makes NULL.
    pub(super) fn invalid_ids(&self) -> u64 {
        self.values - self.valid_ids
    }

    /// Whether there are values, none NULL in the file, and no two alike in canonical form.
    pub(super) fn is_unique(&self, column: &Column) -> bool {
        let Some((texts, ids)) = &self.hashes else {
            let all = self.values > 0 && self.nulls == 0 && self.values == self.sample.distinct();
            return all && self.sample.is_exact() && !column.canonical.contains(&Canonical::Id18);
        };
        let mut hashes = if column.canonical.contains(&Canonical::Id18) {
            ids.clone()
        } else {
            texts.clone()
        };
        let before = hashes.len();
        hashes.sort_unstable();
        hashes.dedup();
        self.values > 0 && self.nulls == 0 && hashes.len() == before
    }

    /// Whether it is whole numbers that hardly leave one out from 0 or 1 on, as rows are numbered.
    pub(super) fn is_running(&self) -> bool {
        self.range.is_some_and(|(least, greatest)| {
            let span = u64::try_from(greatest).unwrap_or(0);
            (0..=1).contains(&least) && span <= self.sample.distinct().saturating_mul(2)
        })
    }

    /// The greatest value, of whole numbers from 0 on.
    pub(super) fn greatest(&self) -> Option<u64> {
        let (least, greatest) = self.range?;
        u64::try_from(least).ok()?;
        u64::try_from(greatest).ok()
    }

    /// Whether nearly all values have a digit, as identifiers have and words have not.
    pub(super) fn has_digits(&self) -> bool {
        self.values > 0 && self.with_digit * 10 >= self.values * 9
    }

    /// Whether nearly every value is another one.
    pub(super) fn is_nearly_unique(&self) -> bool {
        self.values > 0 && self.sample.distinct() * 10 >= self.values * 9
    }

    /// Rows with one value, on average.
    pub(super) fn repeats(&self) -> u64 {
        self.values / self.sample.distinct().max(1)
    }

    /// Takes a value of text or a whole number into account for comparing columns.
    fn compare(&mut self, text: &str, upper: &str) {
        self.with_digit += u64::from(text.bytes().any(|byte| byte.is_ascii_digit()));
        self.sample.see(hash(upper.as_bytes()));
    }

    fn see_whole(&mut self, text: &str) {
        if let Ok(value) = text.parse::<i64>() {
            let (least, greatest) = self.range.unwrap_or((value, value));
            self.range = Some((least.min(value), greatest.max(value)));
        }
    }

    fn see_text(&mut self, array: &StringArray) {
        for value in array {
            let Some(value) = value else {
                self.nulls += 1;
                continue;
            };
            self.values += 1;
            let trimmed = value.trim();
            self.shapes.see(trimmed);
            let text = if is_nfc(trimmed) {
                Cow::Borrowed(trimmed)
            } else {
                Cow::Owned(canonical_text(trimmed, &[Canonical::Nfc]).unwrap_or_default())
            };
            self.max_bytes = self.max_bytes.max(text.len() as u64);
            let valid = is_valid_id(text.as_bytes());
            self.compare(&text, &text.to_uppercase());
            if self.shapes.int {
                self.see_whole(&text);
            }
            self.valid_ids += u64::from(valid);
            if let Some((texts, ids)) = &mut self.hashes {
                texts.push(hash(text.as_bytes()));
                if valid {
                    ids.push(hash(text.to_uppercase().as_bytes()));
                }
            }
        }
    }

    /// A column whose type the file declares: only NULLs and, of likely keys, values count.
    fn see_typed(&mut self, array: &ArrayRef) {
        self.nulls += array.null_count() as u64;
        self.values += (array.len() - array.null_count()) as u64;
        if let Some(values) = array.as_primitive_opt::<UInt64Type>() {
            self.beyond_int64 |= values.iter().flatten().any(|v| i64::try_from(v).is_err());
        }
        let compared = self.declared == Some(ScalarType::Int64);
        if self.hashes.is_some() || compared {
            let options = CastOptions::default();
            let text = cast_with_options(array, &DataType::Utf8, &options).ok();
            let text = text.as_ref().and_then(|array| array.as_string_opt::<i32>());
            for value in text
                .iter()
                .flat_map(|text| text.iter().flatten())
                .filter(|_| compared)
            {
                self.compare(value, value);
                self.see_whole(value);
            }
            match (&mut self.hashes, text) {
                (Some((texts, _)), Some(text)) => {
                    texts.extend(text.iter().flatten().map(|value| hash(value.as_bytes())));
                }
                _ => self.hashes = None,
            }
        }
    }

    fn see_float(&mut self, array: &ArrayRef) -> bool {
        self.nulls += array.null_count() as u64;
        self.values += (array.len() - array.null_count()) as u64;
        self.hashes = None;
        let Ok(array) = cast_with_options(array, &DataType::Float64, &CastOptions::default())
        else {
            return false;
        };
        let Some(values) = array.as_primitive_opt::<Float64Type>() else {
            return false;
        };
        let mut finite = true;
        for value in values.iter().flatten() {
            finite &= value.is_finite();
            // Rust writes floats in the fewest digits that read back, without exponents.
            self.shapes.see(&value.to_string());
        }
        finite
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Reads all files of a source once.
///
/// # Errors
/// `BadSource` and `SourceUnavailable`, naming the file.
pub(super) fn profile(source: &Source) -> Result<TableProfile> {
    let mut table = TableProfile {
        rows: 0,
        columns: Vec::new(),
        notices: Vec::new(),
    };
    let mut header: Option<Vec<String>> = None;
    for path in source_files(source)? {
        let names = match source.format {
            Format::Csv => csv(&path, &mut table)?,
            Format::Parquet => parquet(&path, &mut table)?,
        };
        if *header.get_or_insert_with(|| names.clone()) != names {
            return Err(bad(&path, "has other columns than the files before it"));
        }
    }
    if table.columns.is_empty() {
        return Err(bad(
            &source.path,
            "has no column that a catalogue can declare",
        ));
    }
    Ok(table)
}

fn bad(path: &Path, what: &str) -> Error {
    Error::new(Code::BadSource, format!("{} {what}", path.display()))
}

fn open(path: &Path) -> Result<std::fs::File> {
    std::fs::File::open(path).map_err(|error| {
        Error::new(
            Code::SourceUnavailable,
            format!("{}: {}", path.display(), error.kind()),
        )
    })
}

/// The names of columns, all different.
fn distinct_names(path: &Path, headers: &[String]) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for header in headers {
        let name = column_name(header);
        if names.contains(&name) {
            return Err(bad(path, &format!("has two columns that are named {name}")));
        }
        names.push(name);
    }
    Ok(names)
}

fn csv(path: &Path, table: &mut TableProfile) -> Result<Vec<String>> {
    let format = arrow::csv::reader::Format::default().with_header(true);
    let (schema, _) = format
        .infer_schema(std::io::BufReader::new(open(path)?), Some(0))
        .map_err(|_| bad(path, "has no readable header line"))?;
    let headers: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
    let names = distinct_names(path, &headers)?;
    if table.columns.is_empty() {
        table.columns = headers
            .iter()
            .enumerate()
            .map(|(at, header)| ColumnProfile::new(header, None, false, at == 0))
            .collect();
    }
    let fields: Vec<Field> = names
        .iter()
        .map(|name| Field::new(name, DataType::Utf8, true))
        .collect();
    let reader = arrow::csv::ReaderBuilder::new(Arc::new(Schema::new(fields)))
        .with_header(true)
        .with_batch_size(BATCH)
        .build(std::io::BufReader::with_capacity(1 << 20, open(path)?))
        .map_err(|_| bad(path, "cannot be read as CSV"))?;
    for batch in reader {
        // The engine's own text can quote cells.
        let batch = batch.map_err(|_| {
            bad(
                path,
                &format!(
                    "is malformed CSV near row {}: a line with another number of fields than the header, an open quote, or text that is not UTF-8",
                    table.rows + 1
                ),
            )
        })?;
        see(table, &batch, path)?;
    }
    Ok(names)
}

fn parquet(path: &Path, table: &mut TableProfile) -> Result<Vec<String>> {
    use parquet::arrow::ProjectionMask;
    use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
    let failed = || bad(path, "cannot be read as Parquet");
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(open(path)?, options)
        .map_err(|_| failed())?;
    let schema = Arc::clone(builder.schema());
    let headers: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
    let names = distinct_names(path, &headers)?;
    let kept: Vec<(usize, Declared)> = schema
        .fields()
        .iter()
        .enumerate()
        .filter_map(|(at, field)| Some((at, declared(field.data_type())?)))
        .collect();
    if table.columns.is_empty() {
        for (at, name) in names.iter().enumerate() {
            match kept.iter().find(|(index, _)| *index == at) {
                None => table.notices.push(format!(
                    "column {name} is left out: its Parquet type cannot take part in joint queries"
                )),
                Some((_, declared)) => {
                    let (scalar, float) = match declared {
                        Declared::Scalar(scalar) => (Some(*scalar), false),
                        Declared::Text => (Some(ScalarType::Utf8), false),
                        Declared::Float => (None, true),
                    };
                    if float {
                        table.notices.push(format!(
                            "column {name} is a float in Parquet; it is read in fixed point, rounded to the declared scale"
                        ));
                    }
                    table
                        .columns
                        .push(ColumnProfile::new(&headers[at], scalar, float, at == 0));
                }
            }
        }
    }
    let mask = ProjectionMask::roots(
        builder.parquet_schema(),
        kept.iter().map(|(index, _)| *index),
    );
    let reader = builder
        .with_projection(mask)
        .with_batch_size(BATCH)
        .build()
        .map_err(|_| failed())?;
    for batch in reader {
        see(table, &batch.map_err(|_| failed())?, path)?;
    }
    Ok(names)
}

/// How a Parquet column is declared.
enum Declared {
    Scalar(ScalarType),
    Text,
    Float,
}

fn declared(data_type: &DataType) -> Option<Declared> {
    Some(match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Declared::Text,
        DataType::Float32 | DataType::Float64 => Declared::Float,
        DataType::Boolean => Declared::Scalar(ScalarType::Bool),
        DataType::Date32 | DataType::Date64 => Declared::Scalar(ScalarType::Date),
        DataType::Timestamp(..) => Declared::Scalar(ScalarType::Timestamp),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale) => Declared::Scalar(ScalarType::Decimal {
            precision: *precision,
            scale: u8::try_from(*scale).ok()?,
        }),
        integer if integer.is_integer() => Declared::Scalar(ScalarType::Int64),
        _ => return None,
    })
}

fn see(table: &mut TableProfile, batch: &RecordBatch, path: &Path) -> Result<()> {
    if batch.num_columns() != table.columns.len() {
        return Err(bad(path, "has other columns than the files before it"));
    }
    table.rows += batch.num_rows() as u64;
    for (column, array) in table.columns.iter_mut().zip(batch.columns()) {
        let unreadable = || {
            bad(
                path,
                &format!("holds another type in column {}", column.name),
            )
        };
        if column.float {
            if !column.see_float(array) {
                return Err(bad(
                    path,
                    &format!(
                        "holds infinite or undefined floats in column {}",
                        column.name
                    ),
                ));
            }
        } else if matches!(column.declared, None | Some(ScalarType::Utf8)) {
            let text = cast_with_options(array, &DataType::Utf8, &CastOptions::default())
                .map_err(|_| unreadable())?;
            column.see_text(text.as_string_opt::<i32>().ok_or_else(unreadable)?);
        } else {
            column.see_typed(array);
        }
    }
    Ok(())
}
