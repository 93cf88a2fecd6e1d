//! A starter `catalog.toml` for folders of CSV and Parquet files.
//!
//! One streaming pass over every file ([`profile`]), then rules that err on the exact side: decimals
//! instead of floats, text for anything that looks like an identifier with leading zeros or a check
//! digit, and no privacy unit without evidence ([`units`]). It must not publish values: no code lists,
//! no bounds of numbers.

mod draft;
mod observe;
mod profile;
mod sample;
mod units;

use super::file::write_new;
use super::{Canonical, Column};
use crate::error::{Code, Error, Result};
use crate::schema::{Department, ScalarType};
use draft::{Draft, Existing};
use profile::ColumnProfile;
use std::path::{Path, PathBuf};
use units::Seen;

/// Text of at most this many bytes can be a group key; `max_bytes` is not rounded beyond it.
const GROUP_KEY_BYTES: u64 = 31;

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

/// Writes a starter `catalog.toml` into a department's folder, as [`write_starters`] does.
///
/// # Errors
/// As [`write_starters`].
pub fn write_starter(folder: &Path, department: &str) -> Result<Vec<String>> {
    let one = [(department.to_owned(), folder.to_owned())];
    let told = write_starters(&one)?;
    Ok(told.into_iter().flat_map(|(_, notices)| notices).collect())
}

/// Writes a starter `catalog.toml` into every department's folder without one, and completes those in
/// which a table says only a part of what it must: what is written there stands. Returns by department
/// what was written and what to look at, for people. Either all are written or none.
///
/// # Errors
/// [`Code::NoUnit`] when nothing tells whose privacy the rows of a table concern, with the line to
/// write; [`Code::BadSource`] or [`Code::SourceUnavailable`] naming file and column;
/// [`Code::BadConfig`] when a file's name or header cannot be a table, or for a mistake in a catalogue.
pub fn write_starters(
    departments: &[(Department, PathBuf)],
) -> Result<Vec<(Department, Vec<String>)>> {
    let (mut drafts, mut complete) = (Vec::new(), Vec::new());
    for (department, folder) in departments {
        let at = |error: Error| error.at(department.as_str());
        let given = match draft::existing(folder).map_err(at)? {
            Existing::Complete => {
                complete.push((department, folder));
                continue;
            }
            Existing::Nothing => None,
            Existing::Part(text, entries) => Some((text, entries)),
        };
        drafts.push(Draft::open(department, folder, given).map_err(at)?);
    }
    choose(&mut drafts, &complete);
    let questions: Vec<String> = drafts.iter().flat_map(Draft::questions).collect();
    if !questions.is_empty() {
        return Err(Error::new(Code::NoUnit, questions.join("\n")));
    }
    let mut ready = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let department = draft.department.clone();
        let at = |error: Error| error.at(department.as_str());
        let (path, completes) = draft.path();
        let (catalog, text, notices) = draft.finish().map_err(at)?;
        // What is written must be what is read back.
        let folder = path.parent().unwrap_or(&path);
        let again = super::file::parse(&text, &path.display().to_string(), folder).map_err(at)?;
        if again != catalog {
            return Err(Error::new(
                Code::Internal,
                "a starter catalogue does not read back as it was written",
            ));
        }
        let count = catalog.published.tables.len();
        ready.push((department, path, completes, text, count, notices));
    }
    let mut told = Vec::with_capacity(ready.len());
    for (department, path, completes, text, count, mut notices) in ready {
        let written = match completes {
            true => replace(&path, &text).map(|()| true),
            false => write_new(&path, &text),
        };
        if written.map_err(|error| error.at(department.as_str()))? {
            let done = if completes { "completed" } else { "wrote" };
            notices.insert(
                0,
                format!(
                    "{done} {}: {count} tables; check types, keys and units before real use",
                    path.display()
                ),
            );
        }
        told.push((department, notices));
    }
    Ok(told)
}

/// Looks for the unit of every table that has none: by names first, and where they do not tell, among
/// the values of other tables, those of departments with whole catalogues too.
fn choose(drafts: &mut [Draft], complete: &[(&Department, &PathBuf)]) {
    for draft in &mut *drafts {
        let named: Vec<_> = draft.seen().map(|seen| seen.by_name()).collect();
        for (table, choice) in draft.tables.iter_mut().zip(named) {
            table.choice = table.choice.take().or(choice);
        }
    }
    let undecided = |draft: &Draft| draft.tables.iter().any(|table| table.choice.is_none());
    if !drafts.iter().any(undecided) {
        return;
    }
    let neighbours: Vec<Draft> = complete
        .iter()
        .filter_map(|(department, folder)| {
            // What is wrong with it is told when it is loaded.
            let catalog = super::file::load(folder).ok()?;
            Some(Draft::of(department, catalog))
        })
        .collect();
    let all: Vec<Seen<'_>> = drafts
        .iter()
        .chain(&neighbours)
        .flat_map(Draft::seen)
        .collect();
    let mut found = Vec::new();
    for (at, draft) in drafts.iter().enumerate() {
        for (table, seen) in draft.seen().enumerate() {
            if draft.tables[table].choice.is_none() {
                found.push((at, table, seen.by_others(&all)));
            }
        }
    }
    for (at, table, choice) in found {
        drafts[at].tables[table].choice = choice;
    }
}

/// Writes a file anew, whole or not at all.
fn replace(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_file_name(".catalog.toml.new");
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| {
        Error::new(
            Code::SourceUnavailable,
            format!("cannot write {}: {}", path.display(), error.kind()),
        )
    })
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

#[cfg(test)]
mod tests {
    use super::super::diagnose::is_name;
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
