//! A department's folder before its catalogue: what a steward has written, and what the files hold.

use super::profile::{TableProfile, profile};
use super::units::{Choice, Seen};
use super::{column, column_name, two_digits_up};
use crate::catalog::diagnose::{File, hint, is_name};
use crate::catalog::file::{
    Entries, FILE_NAME, TableEntry, entries, format_of, read_source, read_table, render,
};
use crate::catalog::{Catalog, Column, Format, Published, Source, Table, Unit};
use crate::error::{Code, Error, Result};
use std::path::{Path, PathBuf};
use toml::Spanned;

/// A department whose catalogue is to be written or completed.
pub(super) struct Draft {
    pub(super) department: String,
    folder: PathBuf,
    /// The file as it is, and its name for messages.
    given: Option<String>,
    name: String,
    pub(super) tables: Vec<DraftTable>,
}

/// One of its tables.
pub(super) struct DraftTable {
    name: Spanned<String>,
    stem: String,
    source: Source,
    profile: TableProfile,
    columns: Vec<Column>,
    entry: TableEntry,
    pub(super) choice: Option<Choice>,
}

/// What there is of a catalogue.
pub(super) enum Existing {
    Complete,
    Nothing,
    Part(String, Entries),
}

/// Looks at a department's `catalog.toml`.
pub(super) fn existing(folder: &Path) -> Result<Existing> {
    let path = folder.join(FILE_NAME);
    let name = path.display().to_string();
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Existing::Nothing),
        Err(error) => {
            return Err(Error::new(
                Code::SourceUnavailable,
                format!("cannot read {name}: {}", error.kind()),
            ));
        }
    };
    let file = File {
        name: &name,
        text: &text,
    };
    let entries = entries(&file)?;
    Ok(match entries.is_incomplete() {
        true => Existing::Part(text, entries),
        false => Existing::Complete,
    })
}

impl Draft {
    /// Reads every table once.
    pub(super) fn open(
        department: &str,
        folder: &Path,
        given: Option<(String, Entries)>,
    ) -> Result<Self> {
        let name = folder.join(FILE_NAME).display().to_string();
        let (text, entries) = match given {
            Some((text, entries)) => (Some(text), Some(entries)),
            None => (None, None),
        };
        let file = File {
            name: &name,
            text: text.as_deref().unwrap_or_default(),
        };
        let mut found = files(folder)?;
        let mut tables = Vec::new();
        if let Some(entries) = entries {
            if let Some(other) = &entries.department
                && other.get_ref() != department
            {
                return Err(file.error(
                    other.span(),
                    format!("this folder is of department `{department}`"),
                ));
            }
            for (name, entry) in entries.tables {
                let source = given_source(&file, &name, &entry, folder, &found)?;
                found.retain(|(table, other)| table != name.get_ref() && other.path != source.path);
                tables.push(DraftTable::read(name, source, entry)?);
            }
        }
        for (name, source) in found {
            let name = Spanned::new(0..0, name);
            tables.push(DraftTable::read(name, source, TableEntry::default())?);
        }
        if tables.is_empty() {
            return Err(Error::new(
                Code::BadSource,
                format!("{} holds no .csv or .parquet table", folder.display()),
            ));
        }
        tables.sort_by(|left, right| left.name.get_ref().cmp(right.name.get_ref()));
        Ok(Self {
            department: department.to_owned(),
            folder: folder.to_owned(),
            given: text,
            name,
            tables,
        })
    }

    /// A department with a whole catalogue, for comparing its tables with others.
    pub(super) fn of(department: &str, catalog: Catalog) -> Self {
        let tables = catalog.published.tables.into_iter().zip(catalog.sources);
        Self {
            department: department.to_owned(),
            folder: PathBuf::new(),
            given: None,
            name: String::new(),
            tables: tables
                .filter_map(|(table, source)| {
                    // What cannot be read is told when it is queried.
                    let name = Spanned::new(0..0, table.name);
                    DraftTable::read(name, source, TableEntry::default()).ok()
                })
                .collect(),
        }
    }

    /// Its tables, as they are compared.
    pub(super) fn seen(&self) -> impl Iterator<Item = Seen<'_>> {
        self.tables.iter().map(|table| Seen {
            department: &self.department,
            name: table.name.get_ref(),
            stem: &table.stem,
            profile: &table.profile,
            columns: &table.columns,
        })
    }

    /// What the steward has to say of its tables without a unit.
    pub(super) fn questions(&self) -> Vec<String> {
        self.seen()
            .zip(&self.tables)
            .filter(|(_, table)| table.choice.is_none())
            .map(|(seen, table)| {
                seen.question(&table.source.path.display().to_string(), &self.name)
            })
            .collect()
    }

    /// The catalogue, its text, and what to tell people. Every table has a unit by now.
    pub(super) fn finish(mut self) -> Result<(Catalog, String, Vec<String>)> {
        let keys: Vec<Vec<String>> = self
            .seen()
            .zip(&self.tables)
            .map(|(seen, table)| {
                let unit = table
                    .choice
                    .as_ref()
                    .map_or(&Unit::Row, |choice| &choice.unit);
                seen.key(unit)
            })
            .collect();
        let file = File {
            name: &self.name,
            text: self.given.as_deref().unwrap_or_default(),
        };
        let mut notices = Vec::new();
        let (mut tables, mut sources) = (Vec::new(), Vec::new());
        for (draft, key) in std::mem::take(&mut self.tables).into_iter().zip(keys) {
            let place = format!("{}.{}", self.department, draft.name.get_ref());
            let told = draft.profile.notices.iter();
            notices.extend(told.map(|notice| format!("{place}: {notice}")));
            let why = draft
                .choice
                .as_ref()
                .map_or("", |choice| &choice.why)
                .to_owned();
            let (table, source) = draft.finish(key, &file, &self.folder)?;
            notices.push(describe(&place, &table, &why));
            tables.push(table);
            sources.push(source);
        }
        let catalog = Catalog {
            published: Published {
                department: self.department,
                tables,
            },
            sources,
        };
        let mut text = render(&catalog, &self.folder);
        if let Some(given) = &self.given {
            text.push_str("\n# Completed from these lines:\n");
            for line in given.lines() {
                text.push_str(format!("# {line}").trim_end());
                text.push('\n');
            }
        }
        Ok((catalog, text, notices))
    }

    /// Where the catalogue is written, and whether it stands there in part.
    pub(super) fn path(&self) -> (PathBuf, bool) {
        (self.folder.join(FILE_NAME), self.given.is_some())
    }
}

/// The source of a table that the steward names: as they say, else the file of that name.
fn given_source(
    file: &File<'_>,
    name: &Spanned<String>,
    entry: &TableEntry,
    folder: &Path,
    found: &[(String, Source)],
) -> Result<Source> {
    if let Some(source) = &entry.source {
        return read_source(file, source, entry.format.as_ref(), folder);
    }
    let of_name = found.iter().find(|(table, _)| table == name.get_ref());
    of_name.map(|(_, source)| source.clone()).ok_or_else(|| {
        let tables = found.iter().map(|(table, _)| table.as_str());
        file.error(
            name.span(),
            format!(
                "there is no file of table `{}` in this folder; {}",
                name.get_ref(),
                hint(name.get_ref(), tables)
            ),
        )
    })
}

impl DraftTable {
    fn read(name: Spanned<String>, source: Source, entry: TableEntry) -> Result<Self> {
        let stem = source.path.file_stem().unwrap_or_default();
        let stem = stem.to_string_lossy().into_owned();
        let mut profile = profile(&source)?;
        if let Some(columns) = &entry.columns {
            // Only what the steward lists is published.
            let listed = |name: &str| columns.iter().any(|of| of.name.get_ref() == name);
            profile.columns.retain(|of| listed(&of.name));
        }
        let columns = profile.columns.iter().map(column).collect();
        let choice = entry.unit.as_ref().map(|unit| Choice {
            unit: match unit.get_ref().as_str() {
                "row" => Unit::Row,
                "none" => Unit::None,
                column => Unit::Column(column.to_owned()),
            },
            why: "as catalog.toml says".to_owned(),
        });
        Ok(Self {
            name,
            stem,
            source,
            profile,
            columns,
            entry,
            choice,
        })
    }

    fn finish(
        mut self,
        key: Vec<String>,
        file: &File<'_>,
        folder: &Path,
    ) -> Result<(Table, Source)> {
        let inferred = Table {
            name: self.name.get_ref().clone(),
            description: String::new(),
            key,
            unit: self.choice.map_or(Unit::Row, |choice| choice.unit),
            max_rows: two_digits_up(self.profile.rows),
            columns: self.columns,
        };
        let path = self
            .source
            .path
            .strip_prefix(folder)
            .unwrap_or(&self.source.path);
        self.entry.fill(&inferred, &path.display().to_string());
        read_table(file, &self.name, self.entry, folder)
    }
}

/// The tables of a folder: its files, and its sub-folders of files of one kind. Hidden names and
/// other files are passed over.
fn files(folder: &Path) -> Result<Vec<(String, Source)>> {
    let mut found: Vec<(String, Source)> = Vec::new();
    for (path, format) in sources(folder)? {
        let stem = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned());
        let name = column_name(stem.as_deref().unwrap_or_default());
        if !is_name(&name) || found.iter().any(|(table, _)| *table == name) {
            return Err(Error::new(
                Code::BadConfig,
                format!(
                    "{}: no table can be named `{name}`, or another file already is; rename the file",
                    path.display()
                ),
            ));
        }
        found.push((name, Source { path, format }));
    }
    Ok(found)
}

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

/// One line about what was taken, and why.
fn describe(place: &str, table: &Table, why: &str) -> String {
    let unit = match &table.unit {
        Unit::Column(column) => format!("privacy unit {column}"),
        Unit::Row => "every row its own privacy unit".to_owned(),
        Unit::None => "nobody's privacy (unit = \"none\")".to_owned(),
    };
    let key = match &table.key[..] {
        [] => "no key".to_owned(),
        key => format!("key {}", key.join(", ")),
    };
    format!(
        "{place}: {unit}: {why}; {key}, at most {} rows, {} columns",
        table.max_rows,
        table.columns.len()
    )
}
