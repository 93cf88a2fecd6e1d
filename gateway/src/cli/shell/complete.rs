//! Completion of keywords, tables, columns and commands, and where a statement goes on on a new line.

use crate::cli::client::Member;
use rustyline::completion::{Completer, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};
use std::collections::{BTreeMap, BTreeSet};
use veilgate_federated::planner::statement::split;

const KEYWORDS: [&str; 45] = [
    "AND",
    "AS",
    "ASC",
    "AVG",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COUNT",
    "CROSS",
    "DESC",
    "DISTINCT",
    "ELSE",
    "END",
    "EXISTS",
    "EXPLAIN",
    "FROM",
    "FULL",
    "GROUP",
    "HAVING",
    "IN",
    "INNER",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MAX",
    "MEDIAN",
    "MIN",
    "NOT",
    "NULL",
    "ON",
    "OR",
    "ORDER",
    "OVER",
    "PARTITION",
    "RIGHT",
    "SELECT",
    "SET",
    "SUM",
    "THEN",
    "UNION",
    "WHEN",
    "WHERE",
];

const COMMANDS: [&str; 11] = [
    "\\?",
    "\\case",
    "\\d",
    "\\dt",
    "\\explain",
    "\\format",
    "\\o",
    "\\purpose",
    "\\q",
    "\\r",
    "\\timing",
];

/// What the line editor asks.
#[derive(Default)]
pub(super) struct Assistant {
    /// Columns by `department.table`.
    tables: BTreeMap<String, Vec<String>>,
}

impl Assistant {
    /// Knows the tables of these departments.
    pub(super) fn new(members: &[Member]) -> Self {
        let catalogs = members.iter().filter_map(|member| member.catalog.as_ref());
        let tables = catalogs.flat_map(|catalog| {
            catalog.tables.iter().map(|table| {
                let columns = table.columns.iter().map(|column| column.name.clone());
                (
                    format!("{}.{}", catalog.department, table.name),
                    columns.collect(),
                )
            })
        });
        Self {
            tables: tables.collect(),
        }
    }

    /// What the word that ends at `position` can become, and where it starts.
    pub(super) fn candidates(&self, line: &str, position: usize) -> (usize, Vec<String>) {
        let before = line.get(..position).unwrap_or(line);
        let belongs = |letter: char| letter.is_alphanumeric() || "_.\\?".contains(letter);
        let start = before
            .char_indices()
            .rev()
            .take_while(|(_, letter)| belongs(*letter))
            .last()
            .map_or(before.len(), |(at, _)| at);
        let word = before.get(start..).unwrap_or_default();
        if word.starts_with('\\') && before.trim_start() == word {
            return (start, starting(COMMANDS.iter().copied(), word));
        }
        let columns = |of: &[String], prefix: &str| -> Vec<String> {
            of.iter()
                .map(|column| format!("{prefix}{column}"))
                .collect()
        };
        let mut all = BTreeSet::new();
        if let Some((qualifier, _)) = word.rsplit_once('.') {
            let prefix = format!("{qualifier}.");
            if let Some(table) = self.named(line, qualifier) {
                all.extend(columns(table, &prefix));
            }
            all.extend(self.tables.keys().cloned());
            return (start, starting(all.iter().map(String::as_str), word));
        }
        if word.is_empty() {
            return (start, Vec::new());
        }
        all.extend(self.tables.keys().cloned());
        all.extend(self.tables.values().flatten().cloned());
        let mut found = starting(all.iter().map(String::as_str), word);
        let keywords = starting(KEYWORDS.iter().copied(), &word.to_uppercase());
        let lower = word.chars().all(|letter| !letter.is_uppercase());
        found.extend(keywords.into_iter().map(|keyword| match lower {
            true => keyword.to_lowercase(),
            false => keyword,
        }));
        (start, found)
    }

    /// The columns of a table by its own name, or by the name that the line gives it.
    fn named(&self, line: &str, name: &str) -> Option<&Vec<String>> {
        if let Some(columns) = self.tables.get(name) {
            return Some(columns);
        }
        let words: Vec<&str> = line
            .split(|letter: char| letter.is_whitespace() || ",()".contains(letter))
            .filter(|word| !word.is_empty() && !word.eq_ignore_ascii_case("as"))
            .collect();
        let pair = words
            .windows(2)
            .find(|pair| pair[1] == name && self.tables.contains_key(pair[0]));
        pair.and_then(|pair| self.tables.get(pair[0]))
    }
}

fn starting<'a>(all: impl Iterator<Item = &'a str>, with: &str) -> Vec<String> {
    all.filter(|word| word.starts_with(with) && *word != with)
        .map(str::to_owned)
        .collect()
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (start, found) = self.candidates(line, position);
        let pairs = found.into_iter().map(|word| Pair {
            display: word.clone(),
            replacement: word,
        });
        Ok((start, pairs.collect()))
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let input = context.input();
        let whole = input.trim_start().starts_with('\\') || split(input).1.is_empty();
        Ok(match whole {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

impl Hinter for Assistant {
    type Hint = String;
}

impl Highlighter for Assistant {}

impl Helper for Assistant {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_completed() {
        let tables = BTreeMap::from([
            (
                "tax.income".to_owned(),
                vec!["person_id".to_owned(), "year".to_owned()],
            ),
            ("civil.residents".to_owned(), vec!["district".to_owned()]),
        ]);
        let assistant = Assistant { tables };
        let of = |line: &str| assistant.candidates(line, line.len());
        assert_eq!(of("SEL"), (0, vec!["SELECT".to_owned()]));
        assert_eq!(
            of("select d"),
            (
                7,
                vec![
                    "district".to_owned(),
                    "desc".to_owned(),
                    "distinct".to_owned()
                ]
            )
        );
        assert_eq!(of("SELECT x FROM ta").1, ["tax.income"]);
        assert_eq!(of("SELECT x FROM tax.i").1, ["tax.income"]);
        assert_eq!(of("\\ti"), (0, vec!["\\timing".to_owned()]));
        let line = "SELECT i.p FROM tax.income AS i";
        assert_eq!(
            assistant.candidates(line, 10),
            (7, vec!["i.person_id".to_owned()])
        );
        assert_eq!(of("SELECT 省份").1, Vec::<String>::new());
    }
}
