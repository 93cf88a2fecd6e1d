//! Mistakes in a department's own files, with file, line, column and a hint.
//!
//! For `catalog.toml` and `policy.toml`. It must not know what the files mean.

use crate::error::{Code, Error, Result};
use std::ops::Range;

/// The text of one file, for pointing into it.
#[derive(Clone, Copy)]
pub(crate) struct File<'a> {
    /// Its name, as messages show it.
    pub(crate) name: &'a str,
    /// Its text.
    pub(crate) text: &'a str,
}

impl File<'_> {
    /// Line and column of a byte offset, both from 1; the column counts characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(start..).map_or(0, |text| text.chars().count()) + 1;
        (line, column)
    }

    /// A mistake at this place.
    pub(crate) fn error(&self, span: Range<usize>, message: impl AsRef<str>) -> Error {
        let (line, column) = self.position(span.start);
        Error::new(
            Code::BadConfig,
            format!(
                "{}, line {line}, column {column}: {}",
                self.name,
                message.as_ref()
            ),
        )
    }

    /// A mistake that has no place.
    pub(crate) fn error_nowhere(&self, message: impl AsRef<str>) -> Error {
        Error::new(
            Code::BadConfig,
            format!("{}: {}", self.name, message.as_ref()),
        )
    }

    /// Reads TOML; every unknown field is a mistake.
    pub(crate) fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        toml::from_str(self.text).map_err(|error: toml::de::Error| {
            let message = error.message().trim().replace('\n', "; ");
            let message = match near_field(&message) {
                Some(near) => format!("{message}; did you mean `{near}`?"),
                None => message,
            };
            match error.span() {
                Some(span) => self.error(span, message),
                None => self.error_nowhere(message),
            }
        })
    }
}

/// The expected field nearest to the unknown one, from serde's message.
fn near_field(message: &str) -> Option<String> {
    let rest = message
        .strip_prefix("unknown field ")
        .or_else(|| message.strip_prefix("unknown variant "))?;
    let mut names = rest.split('`').skip(1).step_by(2);
    let given = names.next()?;
    nearest(given, names).map(str::to_owned)
}

/// The name nearest to a misspelt one, when it is near enough to be meant.
pub(crate) fn nearest<'a>(
    given: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    names
        .into_iter()
        .map(|name| (edit_distance(given, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.chars().count() / 4)
        .min()
        .map(|(_, name)| name)
}

/// `"; did you mean `x`?"`, or the list of what there is.
pub(crate) fn hint<'a>(given: &str, names: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(given, names.clone()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => {
            let names: Vec<&str> = names.into_iter().take(20).collect();
            format!("there are: {}", names.join(", "))
        }
    }
}

/// Levenshtein distance (Wagner and Fischer 1974), in characters.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = i;
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        for (j, b) in right.iter().enumerate() {
            let above = row[j + 1];
            let best = (diagonal + usize::from(a != *b))
                .min(above + 1)
                .min(row[j] + 1);
            diagonal = above;
            row[j + 1] = best;
        }
    }
    row.last().copied().unwrap_or(0)
}

/// Whether `name` can name a department: lower-case ASCII letters, digits and `_`, a letter first.
pub(crate) fn is_department_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.len() <= 63
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Whether `name` can name a table or a column: letters of any script without upper-case forms,
/// digits and `_`, no digit first.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && !name.starts_with(char::is_numeric)
        && name
            .chars()
            .all(|c| (c.is_alphanumeric() && !c.is_uppercase()) || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters() {
        let file = File {
            name: "f",
            text: "a\n名x = 1\n",
        };
        assert_eq!(file.position(0), (1, 1));
        assert_eq!(file.position(2), (2, 1));
        assert_eq!(file.position(5), (2, 2));
        assert_eq!(file.position(10_000).0, 3);
    }

    #[test]
    fn near_names_are_found() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(nearest("incme", ["income", "pension"]), Some("income"));
        assert_eq!(nearest("x", ["income", "pension"]), None);
        assert_eq!(
            near_field("unknown field `keyy`, expected one of `name`, `key`"),
            Some("key".to_owned())
        );
    }

    #[test]
    fn names() {
        assert!(is_name("person_id") && is_name("身份证号"));
        assert!(!is_name("Person") && !is_name("1st") && !is_name("a b") && !is_name(""));
        assert!(is_department_name("civil") && !is_department_name("民政"));
    }
}
