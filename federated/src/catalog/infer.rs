//! A starter `catalog.toml` for a folder of CSV and Parquet files.
//!
//! One streaming pass over every file ([`profile`]), then rules that err on the exact side: decimals
//! instead of floats, text for anything that looks like an identifier with leading zeros or a check
//! digit. It must not publish values: no code lists, no bounds of numbers.

mod observe;
mod profile;

use super::diagnose::is_name;
use super::file::{FILE_NAME, format_of, render, write_new};
use super::{Canonical, Catalog, Column, Format, Published, Source, Table, Unit};
use crate::error::{Code, Error, Result};
use crate::schema::ScalarType;
use profile::{ColumnProfile, TableProfile};
use std::path::{Path, PathBuf};

/// Text of at most this many bytes can be a group key; `max_bytes` is not rounded beyond it.
const GROUP_KEY_BYTES: u64 = 31;
/// Words in the name of a column that identifies a person.
const PERSON_WORDS: [&str; 9] = [
    "person",
    "resident",
    "citizen",
    "patient",
    "taxpayer",
    "insured",
    "id_card",
    "idcard",
    "身份证",
];

/// The name that a column has in SQL, from its name in a file: lower case, `_` for whatever cannot
/// stand in a name. Scans find columns by it, so files keep their own spelling.
#[must_use]
pub fn column_name(header: &str) -> String {
    let mut name = String::with_capacity(header.len());
    for c in header.trim_matches(['\u{feff}', ' ', '\t', '\r']).chars() {
        if c.is_alphanumeric() || c == '_' {
            name.extend(c.to_lowercase());
        } else {
            name.push('_');
        }
    }
    if name.is_empty() || name.starts_with(char::is_numeric) {
        name.insert(0, '_');
    }
    name
}

/// Writes a starter `catalog.toml` into a department's folder, unless there is one.
/// Returns what was written and what to look at, for people.
///
/// # Errors
/// [`Code::BadSource`] or [`Code::SourceUnavailable`] naming file and column; [`Code::BadConfig`]
/// when a file's name or header cannot be a table.
pub fn write_starter(folder: &Path, department: &str) -> Result<Vec<String>> {
    let path = folder.join(FILE_NAME);
    if path.exists() {
        return Ok(Vec::new());
    }
    let (catalog, mut notices) = infer(folder, department)?;
    let text = render(&catalog, folder);
    // What is written must be what is read back.
    let again = super::file::parse(&text, &path.display().to_string(), folder)?;
    if again != catalog {
        return Err(Error::new(
            Code::Internal,
            "a starter catalogue does not read back as it was written",
        ));
    }
    if write_new(&path, &text)? {
        notices.insert(
            0,
            format!(
                "wrote {}: {} tables; check types, keys and units before real use",
                path.display(),
                catalog.published.tables.len()
            ),
        );
    }
    Ok(notices)
}

/// The starter catalogue of a folder, and notices for people.
///
/// # Errors
/// As [`write_starter`].
pub fn infer(folder: &Path, department: &str) -> Result<(Catalog, Vec<String>)> {
    let mut notices = Vec::new();
    let mut found = Vec::new();
    for (path, format) in sources(folder)? {
        let stem = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned());
        let name = column_name(stem.as_deref().unwrap_or_default());
        if !is_name(&name)
            || found
                .iter()
                .any(|(table, _): &(Table, Source)| table.name == name)
        {
            return Err(Error::new(
                Code::BadConfig,
                format!(
                    "{}: no table can be named `{name}`, or another file already is; rename the file",
                    path.display()
                ),
            ));
        }
        let source = Source { path, format };
        let profile = profile::profile(&source)?;
        let place = format!("{department}.{name}");
        notices.extend(
            profile
                .notices
                .iter()
                .map(|notice| format!("{place}: {notice}")),
        );
        let table = table(name, &profile);
        notices.push(describe(&place, &table));
        found.push((table, source));
    }
    if found.is_empty() {
        return Err(Error::new(
            Code::BadSource,
            format!("{} holds no .csv or .parquet table", folder.display()),
        ));
    }
    found.sort_by(|(left, _), (right, _)| left.name.cmp(&right.name));
    let (tables, sources) = found.into_iter().unzip();
    let catalog = Catalog {
        published: Published {
            department: department.to_owned(),
            tables,
        },
        sources,
    };
    Ok((catalog, notices))
}

/// The tables of a folder: its files, and its sub-folders of files of one kind. Hidden names and
/// other files are passed over.
fn sources(folder: &Path) -> Result<Vec<(PathBuf, Format)>> {
    let gone = |error: std::io::Error| {
        Error::new(
            Code::SourceUnavailable,
            format!("{}: {}", folder.display(), error.kind()),
        )
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(gone)? {
        let path = entry.map_err(gone)?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && let Some(format) = format_of(&path) {
            found.push((path, format));
        }
    }
    found.sort_by(|(left, _), (right, _)| left.cmp(right));
    Ok(found)
}

fn table(name: String, profile: &TableProfile) -> Table {
    let columns: Vec<Column> = profile.columns.iter().map(column).collect();
    let identifies = |at: &usize| *at == 0 || is_id_name(&columns[*at].name);
    let key: Vec<String> = (0..columns.len())
        .filter(identifies)
        .find(|at| profile.columns[*at].is_unique(&columns[*at]))
        .map(|at| columns[at].name.clone())
        .into_iter()
        .collect();
    let unit = columns
        .iter()
        .find(|column| is_person_column(column))
        .map(|column| column.name.clone())
        .or_else(|| key.first().cloned())
        .or_else(|| {
            let ids = columns.iter().find(|column| is_id_name(&column.name));
            ids.map(|column| column.name.clone())
        })
        .map_or(Unit::Row, Unit::Column);
    Table {
        name,
        description: String::new(),
        key,
        unit,
        max_rows: two_digits_up(profile.rows),
        columns,
    }
}

fn is_id_name(name: &str) -> bool {
    name == "id" || name.ends_with("_id")
}

fn is_person_column(column: &Column) -> bool {
    column.canonical.contains(&Canonical::Id18)
        || (PERSON_WORDS.iter().any(|word| column.name.contains(word))
            && (is_id_name(&column.name) || column.name.contains("身份证")))
}

fn column(profile: &ColumnProfile) -> Column {
    let data_type = profile.data_type();
    let mut canonical = Vec::new();
    let mut max_bytes = 0;
    if data_type == ScalarType::Utf8 {
        canonical = vec![Canonical::Nfc, Canonical::Trim];
        if profile.is_id18() {
            canonical.extend([Canonical::Upper, Canonical::Id18]);
        }
        max_bytes = text_bound(profile.max_bytes);
    }
    Column {
        name: profile.name.clone(),
        data_type,
        nullable: profile.nulls > 0 || (profile.is_id18() && profile.invalid_ids() > 0),
        description: String::new(),
        canonical,
        max_bytes,
        codes: Vec::new(),
        max_distinct: 0,
        max_abs: 0,
        max_repeats: 0,
        fixed_point: profile.is_float(),
    }
}

/// Rounded up to eight bytes, but not beyond what a group key can have when the text fits one.
fn text_bound(bytes: u64) -> u32 {
    let rounded = bytes.max(1).next_multiple_of(8);
    let bound = if bytes <= GROUP_KEY_BYTES {
        rounded.min(GROUP_KEY_BYTES)
    } else {
        rounded
    };
    // Text beyond what a catalogue can declare has no bound: it can be a key or a local filter.
    u32::try_from(bound)
        .ok()
        .filter(|bound| *bound <= super::file::MAX_TEXT_BYTES)
        .unwrap_or(0)
}

/// Rounded up to two significant digits, at least 1.
fn two_digits_up(rows: u64) -> u64 {
    let mut unit = 1_u64;
    while rows / unit >= 100 {
        unit = unit.saturating_mul(10);
    }
    rows.div_ceil(unit).saturating_mul(unit).max(1)
}

/// One line about what was inferred.
fn describe(place: &str, table: &Table) -> String {
    let key = match &table.key[..] {
        [] => "no key".to_owned(),
        key => format!("key {}", key.join(", ")),
    };
    let unit = match &table.unit {
        Unit::Column(column) => column.as_str(),
        Unit::Row => "row",
        Unit::None => "none",
    };
    format!(
        "{place}: {key}, privacy unit {unit}, at most {} rows, {} columns",
        table.max_rows,
        table.columns.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_rounded_up() {
        for (rows, bound) in [
            (0, 1),
            (1, 1),
            (99, 99),
            (100, 100),
            (101, 110),
            (300_123, 310_000),
        ] {
            assert_eq!(two_digits_up(rows), bound, "{rows}");
        }
        assert_eq!(two_digits_up(u64::MAX), u64::MAX);
        for (bytes, bound) in [
            (0, 8),
            (8, 8),
            (9, 16),
            (18, 24),
            (25, 31),
            (31, 31),
            (32, 32),
            (33, 40),
            (5000, 0),
        ] {
            assert_eq!(text_bound(bytes), bound, "{bytes}");
        }
    }

    #[test]
    fn names_from_headers() {
        for (header, name) in [
            ("\u{feff}PersonID ", "personid"),
            ("Taxable Income (RMB)", "taxable_income__rmb_"),
            ("2024", "_2024"),
            ("身份证号", "身份证号"),
            ("", "_"),
        ] {
            assert_eq!(column_name(header), name);
            assert!(is_name(name));
        }
    }
}
