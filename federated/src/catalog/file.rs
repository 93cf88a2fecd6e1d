//! `catalog.toml`: reading it with every mistake explained, and writing it.
//!
//! The format is described in `docs/catalog.md`. It must not know of the data itself.

use super::diagnose::{File, hint, is_department_name, is_name};
pub use super::render::render;
pub(crate) use super::render::{quote, quote_key, quote_list, write_new};
use super::{
    Canonical, Catalog, Column, Format, Published, Source, Table, Unit, names, parse_type,
};
use crate::error::{Code, Error, Result};
use crate::schema::ScalarType;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use toml::Spanned;

/// The name of the file in a department's folder.
pub const FILE_NAME: &str = "catalog.toml";
/// More columns than this in one table are refused.
const MAX_COLUMNS: usize = 1024;
/// The greatest `max_bytes` of a text column.
pub(super) const MAX_TEXT_BYTES: u32 = 4096;
/// The greatest `max_rows`.
const MAX_ROWS: u64 = 1 << 40;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogFile<T> {
    version: Option<Spanned<u32>>,
    department: Option<Spanned<String>>,
    #[serde(default)]
    tables: T,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TableEntry {
    name: Option<Spanned<String>>,
    pub(super) source: Option<Spanned<String>>,
    pub(super) format: Option<Spanned<String>>,
    description: Option<String>,
    key: Option<Vec<Spanned<String>>>,
    pub(super) unit: Option<Spanned<String>>,
    max_rows: Option<Spanned<u64>>,
    pub(super) columns: Option<Vec<ColumnEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ColumnEntry {
    pub(super) name: Spanned<String>,
    #[serde(rename = "type")]
    data_type: Spanned<String>,
    #[serde(default = "yes")]
    nullable: bool,
    #[serde(default)]
    description: String,
    #[serde(default)]
    canonical: Vec<Canonical>,
    #[serde(default)]
    max_bytes: u32,
    #[serde(default)]
    codes: Vec<Spanned<String>>,
    #[serde(default)]
    max_distinct: u64,
    #[serde(default)]
    max_abs: u64,
    #[serde(default)]
    max_repeats: u64,
    #[serde(default)]
    fixed_point: bool,
}

/// What a file says, all of it or a part.
pub(super) struct Entries {
    pub(super) version: Option<Spanned<u32>>,
    pub(super) department: Option<Spanned<String>>,
    pub(super) tables: Vec<(Spanned<String>, TableEntry)>,
}

impl Entries {
    /// Whether a table lacks something that it must say.
    pub(super) fn is_incomplete(&self) -> bool {
        self.tables.iter().any(|(_, table)| {
            table.source.is_none()
                || table.unit.is_none()
                || table.max_rows.is_none()
                || table.columns.is_none()
        })
    }
}

/// Reads tables as a list, `[[tables]]`, or by name, `[tables.visits]`; each may say a part only.
pub(super) fn entries(file: &File<'_>) -> Result<Entries> {
    let by_name = toml::from_str::<toml::Table>(file.text)
        .is_ok_and(|all| all.get("tables").is_some_and(toml::Value::is_table));
    let (version, department, tables) = if by_name {
        let entry: CatalogFile<BTreeMap<Spanned<String>, TableEntry>> = file.parse()?;
        let tables: Vec<_> = entry.tables.into_iter().collect();
        (entry.version, entry.department, tables)
    } else {
        let entry: CatalogFile<Vec<Spanned<TableEntry>>> = file.parse()?;
        let mut tables = Vec::with_capacity(entry.tables.len());
        for table in entry.tables {
            let span = table.span();
            let mut table = table.into_inner();
            let Some(name) = table.name.take() else {
                return Err(file.error(span, "missing field `name`"));
            };
            tables.push((name, table));
        }
        (entry.version, entry.department, tables)
    };
    if let Some((
        _,
        TableEntry {
            name: Some(name), ..
        },
    )) = tables.iter().find(|(_, table)| table.name.is_some())
    {
        return Err(file.error(name.span(), "the name of this table is in its heading"));
    }
    if let Some(version) = version.as_ref().filter(|version| *version.get_ref() != 1) {
        return Err(file.error(
            version.span(),
            format!(
                "catalogue version {} is not known; this engine reads version 1",
                version.get_ref()
            ),
        ));
    }
    if let Some(department) = &department
        && !is_department_name(department.get_ref())
    {
        return Err(file.error(
            department.span(),
            "a department's name is lower-case letters a-z, digits and `_`, a letter first",
        ));
    }
    Ok(Entries {
        version,
        department,
        tables,
    })
}

impl TableEntry {
    /// What is not said, from elsewhere. `source` is relative to the department's folder.
    pub(super) fn fill(&mut self, table: &Table, source: &str) {
        fn from<T>(value: T) -> Spanned<T> {
            Spanned::new(0..0, value)
        }
        self.source.get_or_insert_with(|| from(source.to_owned()));
        self.unit
            .get_or_insert_with(|| from(table.unit.name().to_owned()));
        self.max_rows.get_or_insert_with(|| from(table.max_rows));
        self.key
            .get_or_insert_with(|| table.key.iter().cloned().map(from).collect());
        self.columns.get_or_insert_with(|| {
            let entry = |column: &Column| ColumnEntry {
                name: from(column.name.clone()),
                data_type: from(column.data_type.to_string()),
                nullable: column.nullable,
                description: column.description.clone(),
                canonical: column.canonical.clone(),
                max_bytes: column.max_bytes,
                codes: column.codes.iter().cloned().map(from).collect(),
                max_distinct: column.max_distinct,
                max_abs: column.max_abs,
                max_repeats: column.max_repeats,
                fixed_point: column.fixed_point,
            };
            table.columns.iter().map(entry).collect()
        });
    }
}

fn yes() -> bool {
    true
}

/// Reads `FOLDER/catalog.toml`. Sources are resolved against the folder and must lie inside it.
///
/// # Errors
/// [`Code::BadConfig`] with file, line, column and a hint; [`Code::SourceUnavailable`] when the
/// file cannot be read.
pub fn load(folder: &Path) -> Result<Catalog> {
    let path = folder.join(FILE_NAME);
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Error::new(
            Code::SourceUnavailable,
            format!("cannot read {}: {}", path.display(), error.kind()),
        )
    })?;
    parse(&text, &path.display().to_string(), folder)
}

/// Reads the text of a catalogue. `name` is how messages call it; `folder` is where sources lie.
///
/// # Errors
/// [`Code::BadConfig`] with file, line, column and a hint.
pub fn parse(text: &str, name: &str, folder: &Path) -> Result<Catalog> {
    let file = File { name, text };
    let entries = entries(&file)?;
    let missing = |field: &str| file.error(0..0, format!("missing field `{field}`"));
    if entries.version.is_none() {
        return Err(missing("version"));
    }
    let Some(department) = entries.department else {
        return Err(missing("department"));
    };
    let mut names = BTreeSet::new();
    let mut tables = Vec::with_capacity(entries.tables.len());
    for (name, entry) in entries.tables {
        if !names.insert(name.get_ref().clone()) {
            return Err(file.error(
                name.span(),
                format!("table `{}` is declared twice", name.get_ref()),
            ));
        }
        tables.push(read_table(&file, &name, entry, folder)?);
    }
    tables.sort_by(|(left, _), (right, _)| left.name.cmp(&right.name));
    let (tables, sources) = tables.into_iter().unzip();
    Ok(Catalog {
        published: Published {
            department: department.into_inner(),
            tables,
        },
        sources,
    })
}

/// A table of the file: all that it must say, said.
pub(super) fn read_table(
    file: &File<'_>,
    table: &Spanned<String>,
    entry: TableEntry,
    folder: &Path,
) -> Result<(Table, Source)> {
    let name = table.get_ref().clone();
    if !is_name(&name) {
        return Err(file.error(table.span(), bad_name("table", &name)));
    }
    let missing = |field: &str| {
        let message =
            format!("table `{name}` has no `{field}`; `veilgate sandbox` fills in what is missing");
        file.error(table.span(), message)
    };
    let Some(source) = &entry.source else {
        return Err(missing("source"));
    };
    let source = read_source(file, source, entry.format.as_ref(), folder)?;
    let Some(given_columns) = entry.columns else {
        return Err(missing("columns"));
    };
    let Some(given_unit) = &entry.unit else {
        return Err(no_unit(file, table, &given_columns));
    };
    let Some(max_rows) = &entry.max_rows else {
        return Err(missing("max_rows"));
    };
    if given_columns.is_empty() || given_columns.len() > MAX_COLUMNS {
        return Err(file.error(
            table.span(),
            format!("table `{name}` needs 1 to {MAX_COLUMNS} columns"),
        ));
    }
    if *max_rows.get_ref() == 0 || *max_rows.get_ref() > MAX_ROWS {
        return Err(file.error(
            max_rows.span(),
            format!("`max_rows` of table `{name}` is a public upper bound: 1 to {MAX_ROWS}"),
        ));
    }
    let columns = read_columns(file, &name, given_columns)?;
    let column_names: Vec<&str> = columns.iter().map(|c: &Column| c.name.as_str()).collect();
    let given_key = entry.key.unwrap_or_default();
    let key = read_key(file, &name, &given_key, &column_names)?;
    let unit = read_unit(file, &name, given_unit, &column_names)?;
    let table = Table {
        name,
        description: entry.description.unwrap_or_default(),
        key,
        unit,
        max_rows: *max_rows.get_ref(),
        columns,
    };
    Ok((table, source))
}

fn no_unit(file: &File<'_>, table: &Spanned<String>, columns: &[ColumnEntry]) -> Error {
    let likely = columns
        .iter()
        .filter_map(|column| {
            let name = column.name.get_ref().as_str();
            Some((names::naming(name)?, name))
        })
        .min_by_key(|(naming, _)| *naming)
        .map_or("person_id", |(_, name)| name);
    let told = file.error(
        table.span(),
        format!(
            "table `{}` has no `unit`, and thresholds count people or firms, never rows: write unit = \
             {}, or whichever column names the person or firm, unit = \"row\" if every row is another one, or \
             unit = \"none\" if it is public reference data",
            table.get_ref(),
            quote(likely)
        ),
    );
    Error::new(Code::NoUnit, told.message)
}

fn read_columns(file: &File<'_>, name: &str, entries: Vec<ColumnEntry>) -> Result<Vec<Column>> {
    let mut seen = BTreeSet::new();
    let mut columns = Vec::with_capacity(entries.len());
    for column in entries {
        if !seen.insert(column.name.get_ref().clone()) {
            return Err(file.error(
                column.name.span(),
                format!(
                    "column `{}` of table `{name}` is declared twice",
                    column.name.get_ref()
                ),
            ));
        }
        columns.push(read_column(file, column)?);
    }
    Ok(columns)
}

fn read_key(
    file: &File<'_>,
    name: &str,
    entries: &[Spanned<String>],
    column_names: &[&str],
) -> Result<Vec<String>> {
    let mut key: Vec<String> = Vec::with_capacity(entries.len());
    for column in entries {
        let given = column.get_ref();
        if !column_names.contains(&given.as_str()) {
            return Err(file.error(
                column.span(),
                format!(
                    "`key` of table `{name}` names `{given}`, which is not among its columns; {}",
                    hint(given, column_names.iter().copied())
                ),
            ));
        }
        if key.contains(given) {
            return Err(file.error(
                column.span(),
                format!("`key` of table `{name}` names `{given}` twice"),
            ));
        }
        key.push(given.clone());
    }
    Ok(key)
}

fn read_unit(
    file: &File<'_>,
    name: &str,
    entry: &Spanned<String>,
    column_names: &[&str],
) -> Result<Unit> {
    match entry.get_ref().as_str() {
        "row" => Ok(Unit::Row),
        "none" => Ok(Unit::None),
        column if column_names.contains(&column) => Ok(Unit::Column(column.to_owned())),
        other => Err(file.error(
            entry.span(),
            format!(
                "`unit` of table `{name}` is \"row\", \"none\" or one of its columns, and `{other}` is not; {}",
                hint(other, column_names.iter().copied())
            ),
        )),
    }
}

fn bad_name(what: &str, name: &str) -> String {
    format!(
        "`{name}` cannot name a {what}: lower-case letters, digits and `_`, no digit first, at most 128 bytes"
    )
}

pub(super) fn read_source(
    file: &File<'_>,
    source: &Spanned<String>,
    format: Option<&Spanned<String>>,
    folder: &Path,
) -> Result<Source> {
    let given = Path::new(source.get_ref());
    let inside = given
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if given.as_os_str().is_empty() || !inside {
        return Err(file.error(
            source.span(),
            "a source is a relative path inside the department's folder, without `..`",
        ));
    }
    let path = folder.join(given);
    if let (Ok(real), Ok(folder)) = (path.canonicalize(), folder.canonicalize())
        && !real.starts_with(folder)
    {
        return Err(file.error(
            source.span(),
            "this source is a link to outside the department's folder",
        ));
    }
    let format = match format.map(|f| (f, f.get_ref().as_str())) {
        Some((_, "csv")) => Format::Csv,
        Some((_, "parquet")) => Format::Parquet,
        Some((spanned, other)) => {
            return Err(file.error(
                spanned.span(),
                format!("format `{other}` is not known: use \"parquet\" or \"csv\""),
            ));
        }
        None => format_of(&path).ok_or_else(|| {
            file.error(
                source.span(),
                "the format cannot be told from the name; add format = \"parquet\" or \"csv\"",
            )
        })?,
    };
    Ok(Source { path, format })
}

/// The format that a file's name, or the files of a folder, tell.
#[must_use]
pub fn format_of(path: &Path) -> Option<Format> {
    let by_name = |path: &Path| {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "csv" => Some(Format::Csv),
            "parquet" | "pq" => Some(Format::Parquet),
            _ => None,
        }
    };
    if !path.is_dir() {
        return by_name(path);
    }
    let mut found = None;
    for entry in std::fs::read_dir(path).ok()?.flatten() {
        match (by_name(&entry.path()), found) {
            (None, _) => {}
            (Some(one), None) => found = Some(one),
            (Some(one), Some(other)) if one == other => {}
            _ => return None,
        }
    }
    found
}

fn read_column(file: &File<'_>, entry: ColumnEntry) -> Result<Column> {
    let name = entry.name.get_ref().clone();
    let wrong = |message: String| file.error(entry.name.span(), message);
    if !is_name(&name) {
        return Err(wrong(bad_name("column", &name)));
    }
    let data_type = parse_type(entry.data_type.get_ref())
        .map_err(|message| file.error(entry.data_type.span(), message))?;
    let text = data_type == ScalarType::Utf8;
    if !text && (entry.max_bytes > 0 || !entry.codes.is_empty() || !entry.canonical.is_empty()) {
        return Err(wrong(format!(
            "column `{name}` is {data_type}: `max_bytes`, `codes` and `canonical` are for utf8"
        )));
    }
    if entry.max_bytes > MAX_TEXT_BYTES {
        return Err(wrong(format!(
            "`max_bytes` of column `{name}` is at most {MAX_TEXT_BYTES}"
        )));
    }
    let number = matches!(data_type, ScalarType::Int64 | ScalarType::Decimal { .. });
    if !number && entry.max_abs > 0 {
        return Err(wrong(format!(
            "column `{name}` is {data_type}: `max_abs` is for int64 and decimal"
        )));
    }
    if entry.fixed_point && !matches!(data_type, ScalarType::Decimal { .. }) {
        return Err(wrong(format!(
            "column `{name}` is {data_type}: `fixed_point` is for decimal"
        )));
    }
    if entry.canonical.contains(&Canonical::Upper) && entry.canonical.contains(&Canonical::Lower) {
        return Err(wrong(format!(
            "column `{name}` cannot be canonicalised to both upper and lower case"
        )));
    }
    let mut codes: Vec<String> = Vec::with_capacity(entry.codes.len());
    let mut seen = BTreeSet::new();
    for code in entry.codes {
        let (span, code) = (code.span(), code.into_inner());
        if !seen.insert(code.clone()) {
            return Err(file.error(span, format!("code `{code}` of column `{name}` twice")));
        }
        if entry.max_bytes > 0 && code.len() > entry.max_bytes as usize {
            return Err(file.error(
                span,
                format!("code `{code}` is longer than `max_bytes` of column `{name}`"),
            ));
        }
        if crate::local::canonical::canonical_text(&code, &entry.canonical).as_deref()
            != Some(code.as_str())
        {
            return Err(file.error(
                span,
                format!(
                    "code `{code}` of column `{name}` is not in the form that `canonical` gives"
                ),
            ));
        }
        codes.push(code);
    }
    Ok(Column {
        name,
        data_type,
        nullable: entry.nullable,
        description: entry.description,
        canonical: entry.canonical,
        max_bytes: entry.max_bytes,
        codes,
        max_distinct: entry.max_distinct,
        max_abs: entry.max_abs,
        max_repeats: entry.max_repeats,
        fixed_point: entry.fixed_point,
    })
}

impl Canonical {
    /// Its name in `catalog.toml`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Nfc => "nfc",
            Self::Trim => "trim",
            Self::NoSpaces => "no_spaces",
            Self::Upper => "upper",
            Self::Lower => "lower",
            Self::Id18 => "id18",
        }
    }
}

/// Checks a catalogue that came from elsewhere (a peer) as the file's own rules do.
///
/// # Errors
/// [`Code::BadConfig`] naming department, table and column.
pub fn check_published(published: &Published) -> Result<()> {
    let text = render(
        &Catalog {
            published: published.clone(),
            sources: published
                .tables
                .iter()
                .map(|_| Source {
                    path: PathBuf::from("published.csv"),
                    format: Format::Csv,
                })
                .collect(),
        },
        Path::new("."),
    );
    let name = format!("the catalogue of {}", published.department);
    let again = parse(&text, &name, Path::new("."))?;
    if again.published == *published {
        Ok(())
    } else {
        Err(Error::new(
            Code::BadConfig,
            format!("{name} is not in its canonical form"),
        ))
    }
}
