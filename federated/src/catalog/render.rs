//! Writing `catalog.toml`. It must not decide what stands in it.

use super::{Catalog, Column, Format};
use crate::error::{Code, Error, Result};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

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
        let _ = writeln!(out, "\n[[tables]]\nname = {}", quote(&table.name));
        if !table.description.is_empty() {
            let _ = writeln!(out, "description = {}", quote(&table.description));
        }
        let _ = writeln!(out, "source = {}", quote(&path.display().to_string()));
        let _ = writeln!(out, "format = {}", quote(format));
        if !table.key.is_empty() {
            let _ = writeln!(out, "key = {}", quote_list(&table.key));
        }
        let _ = writeln!(out, "unit = {}", quote(table.unit.name()));
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
