//! What a department publishes about its tables: names, types, keys, units, public bounds.
//!
//! A [`Catalog`] is the parsed `catalog.toml` of one department; [`Published`] is the part that
//! other gateways may see (no paths). Neither holds data. Every public bound is enforced by the
//! owner when a fragment runs.

pub(crate) mod diagnose;
pub mod file;
pub mod infer;
pub(crate) mod names;
mod render;

use crate::schema::{Department, ScalarType};

/// One department's tables, as its own gateway knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// What other gateways may see.
    pub published: Published,
    /// Where each table is read from, in the order of `published.tables`.
    pub sources: Vec<Source>,
}

/// The part of a catalogue that every gateway of the federation may see.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// Whose tables.
    pub department: Department,
    /// The tables, in ascending order of name.
    pub tables: Vec<Table>,
}

/// Where a table is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// A Parquet or CSV file, or a folder of such files of one kind.
    pub path: std::path::PathBuf,
    /// How it is read.
    pub format: Format,
}

/// A file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// Comma-separated values with a header line; empty fields are NULL.
    Csv,
}

/// A table, as published.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its name within the department.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// Columns whose combined values are unique, checked by the owner. Empty: none declared.
    #[serde(default)]
    pub key: Vec<String>,
    /// Whose privacy the rows concern.
    pub unit: Unit,
    /// A public upper bound on rows.
    pub max_rows: u64,
    /// The columns, in order.
    pub columns: Vec<Column>,
}

/// Whose privacy a row concerns: what the threshold k counts.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// The person, household or company named by this column; rows where it is NULL count for nobody.
    Column(String),
    /// Every row is its own unit.
    Row,
    /// Public reference data: nobody's privacy.
    None,
}

impl Unit {
    /// As `catalog.toml` writes it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Column(column) => column,
            Self::Row => "row",
            Self::None => "none",
        }
    }
}

/// A column, as published.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, in the text form `int64`, `decimal(p,s)`, `date`, `timestamp`, `bool`, `utf8`.
    #[serde(rename = "type", with = "type_text")]
    pub data_type: ScalarType,
    /// Whether it can be NULL.
    #[serde(default = "yes")]
    pub nullable: bool,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// How values are brought to one form when scanned, in this order.
    #[serde(default)]
    pub canonical: Vec<Canonical>,
    /// For text: a public upper bound on bytes after canonicalisation. 0: none declared; the column
    /// can then be a join key or a local filter, but not a group key.
    #[serde(default)]
    pub max_bytes: u32,
    /// For text: the public code list. Empty: none.
    #[serde(default)]
    pub codes: Vec<String>,
    /// A public upper bound on distinct values. 0: none declared.
    #[serde(default)]
    pub max_distinct: u64,
    /// A public bound on the absolute value (integers; decimals in units of their last digit).
    /// 0: none declared.
    #[serde(default)]
    pub max_abs: u64,
    /// A public upper bound on rows with one value of this column. 0: none declared. A join on it may then
    /// repeat the rows of both sides.
    #[serde(default, skip_serializing_if = "none")]
    pub max_repeats: u64,
    /// For decimals: the source holds floats or finer digits, rounded to the declared scale when
    /// scanned, so that every value is wrong by up to half a unit of its last digit.
    #[serde(default, skip_serializing_if = "no")]
    pub fixed_point: bool,
}

/// One step of canonicalisation of text, the same on every side of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Canonical {
    /// Unicode normalisation form C.
    Nfc,
    /// Remove leading and trailing white space.
    Trim,
    /// Remove all white space.
    NoSpaces,
    /// Upper case.
    Upper,
    /// Lower case.
    Lower,
    /// Values without a valid check digit (GB 11643 / ISO 7064 MOD 11-2) become NULL.
    Id18,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn none(value: &u64) -> bool {
    *value == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde calls it
fn no(value: &bool) -> bool {
    !value
}

/// `ScalarType` in its text form.
pub mod type_text {
    use crate::schema::ScalarType;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// Writes the text form.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(value: &ScalarType, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(value)
    }

    /// Reads the text form.
    ///
    /// # Errors
    /// An unknown type.
    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<ScalarType, D::Error> {
        let text = String::deserialize(input)?;
        super::parse_type(&text).map_err(D::Error::custom)
    }
}

/// Reads `int64`, `decimal(p,s)`, `date`, `timestamp`, `bool` or `utf8`.
///
/// # Errors
/// What is accepted, when `text` is something else.
pub fn parse_type(text: &str) -> Result<ScalarType, String> {
    let expected =
        || format!("unknown type `{text}`: use int64, decimal(p,s), date, timestamp, bool or utf8");
    match text {
        "int64" => return Ok(ScalarType::Int64),
        "date" => return Ok(ScalarType::Date),
        "timestamp" => return Ok(ScalarType::Timestamp),
        "bool" => return Ok(ScalarType::Bool),
        "utf8" => return Ok(ScalarType::Utf8),
        _ => {}
    }
    let digits = text
        .strip_prefix("decimal(")
        .and_then(|rest| rest.strip_suffix(')'))
        .ok_or_else(expected)?;
    let (precision, scale) = digits.split_once(',').ok_or_else(expected)?;
    let precision: u8 = precision.trim().parse().map_err(|_| expected())?;
    let scale: u8 = scale.trim().parse().map_err(|_| expected())?;
    if precision == 0 || precision > 38 || scale > precision {
        return Err(format!(
            "`{text}`: precision is 1 to 38, scale at most the precision"
        ));
    }
    Ok(ScalarType::Decimal { precision, scale })
}

impl Published {
    /// The version of a catalogue: SHA-256 over its canonical JSON, domain-separated.
    #[must_use]
    pub fn version(&self) -> [u8; 32] {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        hash.update(b"veilgate catalogue v1\0");
        // cannot fail: plain structs of strings and numbers always serialise.
        hash.update(serde_json::to_vec(self).unwrap_or_default());
        hash.finalize().into()
    }

    /// The table of this name.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name)
    }
}

impl Column {
    /// How people are told of it: its name, and its error bound if it has one.
    #[must_use]
    pub fn label(&self) -> String {
        match self.error_bound() {
            Some(bound) => format!("{} ±{bound}", self.name),
            None => self.name.clone(),
        }
    }

    /// The most by which a value can differ from its source, as text; none for exact columns.
    #[must_use]
    pub fn error_bound(&self) -> Option<String> {
        match self.data_type {
            ScalarType::Decimal { scale: 0, .. } if self.fixed_point => Some("0.5".to_owned()),
            ScalarType::Decimal { scale, .. } if self.fixed_point => {
                Some(format!("0.{}5", "0".repeat(usize::from(scale))))
            }
            _ => None,
        }
    }
}

impl Table {
    /// The column of this name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}
