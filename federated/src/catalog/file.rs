//! `catalog.toml`: reading it with every mistake explained, and writing it.
//!
//! The format is described in `docs/catalog.md`. It must not know of the data itself.

use super::diagnose::{File, hint, is_department_name, is_name};
use super::{Canonical, Catalog, Column, Format, Published, Source, Table, Unit, parse_type};
use crate::error::{Code, Error, Result};
use crate::schema::ScalarType;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fmt::Write as _;
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
struct CatalogFile {
    version: Spanned<u32>,
    department: Spanned<String>,
    #[serde(default)]
    tables: Vec<TableEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableEntry {
    name: Spanned<String>,
    source: Spanned<String>,
    format: Option<Spanned<String>>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    key: Vec<Spanned<String>>,
    unit: Spanned<String>,
    max_rows: Spanned<u64>,
    columns: Vec<ColumnEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnEntry {
    name: Spanned<String>,
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
    let entry: CatalogFile = file.parse()?;
    if *entry.version.get_ref() != 1 {
        return Err(file.error(
            entry.version.span(),
            format!(
                "catalogue version {} is not known; this engine reads version 1",
                entry.version.get_ref()
            ),
        ));
    }
    if !is_department_name(entry.department.get_ref()) {
        return Err(file.error(
            entry.department.span(),
            "a department's name is lower-case letters a-z, digits and `_`, a letter first",
        ));
    }
    let mut names = BTreeSet::new();
    let mut tables = Vec::with_capacity(entry.tables.len());
    for table in entry.tables {
        if !names.insert(table.name.get_ref().clone()) {
            return Err(file.error(
                table.name.span(),
                format!("table `{}` is declared twice", table.name.get_ref()),
            ));
        }
        tables.push(read_table(&file, table, folder)?);
    }
    tables.sort_by(|(left, _), (right, _)| left.name.cmp(&right.name));
    let (tables, sources) = tables.into_iter().unzip();
    Ok(Catalog {
        published: Published {
            department: entry.department.into_inner(),
            tables,
        },
        sources,
    })
}

fn read_table(file: &File<'_>, entry: TableEntry, folder: &Path) -> Result<(Table, Source)> {
    let name = entry.name.get_ref().clone();
    if !is_name(&name) {
        return Err(file.error(entry.name.span(), bad_name("table", &name)));
    }
    if entry.columns.is_empty() || entry.columns.len() > MAX_COLUMNS {
        return Err(file.error(
            entry.name.span(),
            format!("table `{name}` needs 1 to {MAX_COLUMNS} columns"),
        ));
    }
    if *entry.max_rows.get_ref() == 0 || *entry.max_rows.get_ref() > MAX_ROWS {
        return Err(file.error(
            entry.max_rows.span(),
            format!("`max_rows` of table `{name}` is a public upper bound: 1 to {MAX_ROWS}"),
        ));
    }
    let source = read_source(file, &entry, folder)?;
    let mut seen = BTreeSet::new();
    let mut columns = Vec::with_capacity(entry.columns.len());
    for column in entry.columns {
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
    let column_names: Vec<&str> = columns.iter().map(|c: &Column| c.name.as_str()).collect();
    let mut key = Vec::with_capacity(entry.key.len());
    for column in &entry.key {
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
    let unit = match entry.unit.get_ref().as_str() {
        "row" => Unit::Row,
        "none" => Unit::None,
        column if column_names.contains(&column) => Unit::Column(column.to_owned()),
        other => {
            return Err(file.error(
                entry.unit.span(),
                format!(
                    "`unit` of table `{name}` is \"row\", \"none\" or one of its columns, and `{other}` is not; {}",
                    hint(other, column_names.iter().copied())
                ),
            ));
        }
    };
    let table = Table {
        name,
        description: entry.description,
        key,
        unit,
        max_rows: *entry.max_rows.get_ref(),
        columns,
    };
    Ok((table, source))
}

fn bad_name(what: &str, name: &str) -> String {
    format!(
        "`{name}` cannot name a {what}: lower-case letters, digits and `_`, no digit first, at most 128 bytes"
    )
}

fn read_source(file: &File<'_>, entry: &TableEntry, folder: &Path) -> Result<Source> {
    let given = Path::new(entry.source.get_ref());
    let inside = given
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if given.as_os_str().is_empty() || !inside {
        return Err(file.error(
            entry.source.span(),
            "a source is a relative path inside the department's folder, without `..`",
        ));
    }
    let path = folder.join(given);
    if let (Ok(real), Ok(folder)) = (path.canonicalize(), folder.canonicalize())
        && !real.starts_with(folder)
    {
        return Err(file.error(
            entry.source.span(),
            "this source is a link to outside the department's folder",
        ));
    }
    let format = match entry.format.as_ref().map(|f| (f, f.get_ref().as_str())) {
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
                entry.source.span(),
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

/// The text of a catalogue, one line for each column. Sources are written relative to `folder`.
///
/// [`parse`] of the result gives the same catalogue.
#[must_use]
pub fn render(catalog: &Catalog, folder: &Path) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail, so results of `write!` are not looked at.
    let _ = writeln!(
        out,
        "# What this department publishes about its tables. See docs/catalog.md."
    );
    let _ = writeln!(out, "version = 1");
    let _ = writeln!(out, "department = {}", quote(&catalog.published.department));
    for (table, source) in catalog.published.tables.iter().zip(&catalog.sources) {
        let path: PathBuf = source
            .path
            .strip_prefix(folder)
            .unwrap_or(&source.path)
            .to_owned();
        let format = match source.format {
            Format::Parquet => "parquet",
            Format::Csv => "csv",
        };
        let unit = match &table.unit {
            Unit::Column(column) => column.as_str(),
            Unit::Row => "row",
            Unit::None => "none",
        };
        let _ = writeln!(out, "\n[[tables]]\nname = {}", quote(&table.name));
        if !table.description.is_empty() {
            let _ = writeln!(out, "description = {}", quote(&table.description));
        }
        let _ = writeln!(out, "source = {}", quote(&path.display().to_string()));
        let _ = writeln!(out, "format = {}", quote(format));
        if !table.key.is_empty() {
            let _ = writeln!(out, "key = {}", quote_list(&table.key));
        }
        let _ = writeln!(out, "unit = {}", quote(unit));
        let _ = writeln!(out, "max_rows = {}", table.max_rows);
        let _ = writeln!(out, "columns = [");
        for column in &table.columns {
            let _ = writeln!(out, "  {},", render_column(column));
        }
        let _ = writeln!(out, "]");
    }
    out
}

fn render_column(column: &Column) -> String {
    let mut fields = vec![
        format!("name = {}", quote(&column.name)),
        format!("type = {}", quote(&column.data_type.to_string())),
        format!("nullable = {}", column.nullable),
    ];
    if !column.description.is_empty() {
        fields.push(format!("description = {}", quote(&column.description)));
    }
    if !column.canonical.is_empty() {
        let steps: Vec<String> = column
            .canonical
            .iter()
            .map(|step| step.name().to_owned())
            .collect();
        fields.push(format!("canonical = {}", quote_list(&steps)));
    }
    for (name, value) in [
        ("max_bytes", u64::from(column.max_bytes)),
        ("max_distinct", column.max_distinct),
        ("max_abs", column.max_abs),
        ("max_repeats", column.max_repeats),
    ] {
        if value > 0 {
            fields.push(format!("{name} = {value}"));
        }
    }
    if column.fixed_point {
        fields.push("fixed_point = true".to_owned());
    }
    if !column.codes.is_empty() {
        fields.push(format!("codes = {}", quote_list(&column.codes)));
    }
    format!("{{ {} }}", fields.join(", "))
}

/// A TOML basic string.
pub(crate) fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

/// A key of a TOML table.
pub(crate) fn quote_key(name: &str) -> String {
    if name.is_ascii() {
        name.to_owned()
    } else {
        quote(name)
    }
}

pub(crate) fn quote_list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| quote(text)).collect();
    format!("[{}]", quoted.join(", "))
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

/// Writes a new file; leaves an existing one alone and says so with `false`.
pub(crate) fn write_new(path: &Path, text: &str) -> Result<bool> {
    use std::io::Write as _;
    let failed = |error: std::io::Error| {
        Error::new(
            Code::SourceUnavailable,
            format!("cannot write {}: {}", path.display(), error.kind()),
        )
    };
    let mut file = match std::fs::File::create_new(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    file.write_all(text.as_bytes()).map_err(failed)?;
    Ok(true)
}
