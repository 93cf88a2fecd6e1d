//! Reading TOML so that every mistake is found, not only the first, and each with its place.
//!
//! A [`Table`] is read field by field; what was not read when it is finished is an unknown field,
//! answered with the nearest known one. Knows nothing of what the fields mean.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use veilgate_federated::error::{Code, Error};

/// What an overriding variable's name starts with.
pub(crate) const OVERRIDE: &str = "VEILGATE__";

/// Everything wrong with one or several files, in the order of the text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mistakes(Vec<String>);

impl Mistakes {
    /// The mistakes, each one line.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.0
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one.
    pub fn push(&mut self, mistake: impl Into<String>) {
        self.0.push(mistake.into());
    }

    /// Adds those of another file.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// One mistake.
    #[must_use]
    pub fn one(mistake: impl Into<String>) -> Self {
        Self(vec![mistake.into()])
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl From<Mistakes> for Error {
    fn from(mistakes: Mistakes) -> Self {
        Self::new(Code::BadConfig, mistakes.to_string())
    }
}

/// Where a value comes from.
#[derive(Clone)]
enum Place {
    /// Byte offset in the file.
    Offset(usize),
    /// A variable.
    Variable(String),
}

/// A value with its place.
#[derive(Clone)]
struct Node {
    value: Value,
    place: Place,
}

#[derive(Clone)]
enum Value {
    Text(String),
    Integer(Option<u64>),
    Bool(bool),
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
    Other(&'static str),
}

impl Value {
    fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "a whole number",
            Self::Bool(_) => "true or false",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::Other(kind) => kind,
        }
    }
}

/// One file being read.
pub(crate) struct Document {
    name: String,
    text: String,
    root: Node,
    found: RefCell<Vec<(usize, String)>>,
}

impl Document {
    /// Reads a file, with the overrides that concern it.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub(crate) fn open(path: &Path, overrides: &[(String, String)]) -> Result<Self, Mistakes> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Mistakes::one(format!(
                "{}: cannot be read: {}",
                path.display(),
                error.kind()
            ))
        })?;
        Ok(Self::parse(&path.display().to_string(), text, overrides))
    }

    /// Parses as much of the text as can be; syntax errors are the first mistakes.
    pub(crate) fn parse(name: &str, text: String, overrides: &[(String, String)]) -> Self {
        let (table, errors) = DeTable::parse_recoverable(&text);
        let mut root = Node {
            value: Value::Table(convert_table(table.get_ref())),
            place: Place::Offset(0),
        };
        drop(table);
        let found = errors
            .iter()
            .map(|error| {
                let offset = error.span().map_or(0, |span| span.start);
                (offset, error.message().trim().replace('\n', "; "))
            })
            .collect();
        for (variable, value) in overrides {
            set(&mut root, variable, value);
        }
        Self {
            name: name.to_owned(),
            text,
            root,
            found: RefCell::new(found),
        }
    }

    /// The whole file.
    pub(crate) fn root(&self) -> Table<'_> {
        Table::of(self, &self.root, String::new())
    }

    /// The mistakes found; to be called when everything has been read.
    pub(crate) fn mistakes(self) -> Mistakes {
        let mut found = self.found.take();
        found.sort_by_key(|(offset, _)| *offset);
        found.dedup();
        let lines = found.into_iter().map(|(offset, what)| {
            if offset == usize::MAX {
                return what;
            }
            let (line, column) = self.position(offset);
            format!("{}:{line}:{column}: {what}", self.name)
        });
        Mistakes(lines.collect())
    }

    /// Line and column of a byte, both from 1; the column counts characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        let column = before.get(start..).map_or(0, |line| line.chars().count()) + 1;
        (line, column)
    }

    fn add(&self, place: &Place, what: String) {
        let mistake = match place {
            Place::Offset(offset) => (*offset, what),
            Place::Variable(variable) => (usize::MAX, format!("variable {variable}: {what}")),
        };
        self.found.borrow_mut().push(mistake);
    }
}

/// A table of the file, read field by field. Dropping it reports the fields nobody read.
pub(crate) struct Table<'a> {
    document: &'a Document,
    entries: Option<&'a BTreeMap<String, Node>>,
    place: Place,
    path: String,
    known: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Table<'a> {
    fn of(document: &'a Document, node: &'a Node, path: String) -> Self {
        let entries = match &node.value {
            Value::Table(entries) => Some(entries),
            other => {
                let what = format!("`{path}` must be a table, not {}", other.kind());
                document.add(&node.place, what);
                None
            }
        };
        Self {
            document,
            entries,
            place: node.place.clone(),
            path,
            known: RefCell::default(),
        }
    }

    fn node(&self, field: &'static str) -> Option<&'a Node> {
        self.known.borrow_mut().insert(field);
        self.entries?.get(field)
    }

    fn named(&self, field: &str) -> String {
        if self.path.is_empty() {
            field.to_owned()
        } else {
            format!("{}.{field}", self.path)
        }
    }

    fn wrong(&self, field: &str, node: &Node, expected: &str) {
        let what = format!(
            "`{}` must be {expected}, not {}",
            self.named(field),
            node.value.kind()
        );
        self.document.add(&node.place, what);
    }

    /// A mistake at this field, or at the table when the field is missing.
    pub(crate) fn mistake(&self, field: &'static str, what: impl fmt::Display) {
        let place = self.node(field).map_or(&self.place, |node| &node.place);
        self.document
            .add(place, format!("`{}`: {what}", self.named(field)));
    }

    /// Reports the field as missing; for one that must be there.
    fn missing(&self, field: &'static str, example: &str) {
        if self.entries.is_some() {
            let what = format!(
                "`{}` is missing; for example {field} = {example}",
                self.named(field)
            );
            self.document.add(&self.place, what);
        }
    }

    /// Text, if it is there.
    pub(crate) fn text(&self, field: &'static str) -> Option<String> {
        let node = self.node(field)?;
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => {
                self.wrong(field, node, "text in quotes");
                None
            }
        }
    }

    /// Text that must be there.
    pub(crate) fn require_text(&self, field: &'static str, example: &str) -> Option<String> {
        if self.node(field).is_none() {
            self.missing(field, &format!("\"{example}\""));
        }
        self.text(field)
    }

    /// A list of texts that must be there.
    pub(crate) fn texts(&self, field: &'static str, example: &str) -> Option<Vec<String>> {
        let Some(node) = self.node(field) else {
            self.missing(field, example);
            return None;
        };
        let texts = match &node.value {
            Value::List(items) => items
                .iter()
                .map(|item| match &item.value {
                    Value::Text(text) => Some(text.clone()),
                    _ => None,
                })
                .collect(),
            _ => None,
        };
        if texts.is_none() {
            self.wrong(field, node, "a list of texts in quotes");
        }
        texts
    }

    /// Text that must be there and parse.
    pub(crate) fn require<T, E: fmt::Display>(
        &self,
        field: &'static str,
        example: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.require_text(field, example)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(what) => {
                self.mistake(field, what);
                None
            }
        }
    }

    /// A whole number within bounds, or the default.
    pub(crate) fn number(
        &self,
        field: &'static str,
        default: u64,
        bounds: std::ops::RangeInclusive<u64>,
    ) -> u64 {
        let Some(node) = self.node(field) else {
            return default;
        };
        match node.value {
            Value::Integer(Some(value)) if bounds.contains(&value) => return value,
            Value::Integer(_) if bounds.start() == bounds.end() => {
                self.mistake(field, format_args!("must be {}", bounds.start()));
            }
            Value::Integer(_) => self.mistake(
                field,
                format_args!("must be {} to {}", bounds.start(), bounds.end()),
            ),
            _ => self.wrong(field, node, "a whole number"),
        }
        default
    }

    /// True or false; false when absent.
    pub(crate) fn flag(&self, field: &'static str) -> bool {
        let Some(node) = self.node(field) else {
            return false;
        };
        if let Value::Bool(value) = node.value {
            return value;
        }
        self.wrong(field, node, "true or false");
        false
    }

    /// A table within this one; an empty one when absent.
    pub(crate) fn table(&self, field: &'static str) -> Option<Table<'a>> {
        let node = self.node(field)?;
        Some(Table::of(self.document, node, self.named(field)))
    }

    /// The tables of `[[field]]`.
    pub(crate) fn tables(&self, field: &'static str) -> Vec<Table<'a>> {
        let Some(node) = self.node(field) else {
            return Vec::new();
        };
        let Value::List(items) = &node.value else {
            self.wrong(
                field,
                node,
                &format!("a list of tables, each under [[{field}]]"),
            );
            return Vec::new();
        };
        items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let path = format!("{}[{}]", self.named(field), index + 1);
                Table::of(self.document, item, path)
            })
            .collect()
    }

    /// The file's version, which must be 1.
    pub(crate) fn version(&self) {
        if self.node("version").is_none() {
            self.missing("version", "1");
        }
        self.number("version", 1, 1..=1);
    }
}

impl Drop for Table<'_> {
    fn drop(&mut self) {
        let known = self.known.borrow();
        for (field, node) in self.entries.into_iter().flatten() {
            if !known.contains(field.as_str()) {
                let what = format!(
                    "unknown field `{}`{}",
                    self.named(field),
                    hint(field, &known)
                );
                self.document.add(&node.place, what);
            }
        }
    }
}

/// What the writer of an unknown field may have meant.
fn hint(field: &str, known: &BTreeSet<&'static str>) -> String {
    let near = known
        .iter()
        .map(|name| (distance(field, name), name))
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .min();
    match near {
        Some((_, name)) => format!("; did you mean `{name}`?"),
        None => {
            let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            format!("; known are {}", names.join(", "))
        }
    }
}

/// Levenshtein's edit distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, letter) in left.chars().enumerate() {
        let mut diagonal = index;
        row[0] = index + 1;
        for (column, other) in right.iter().enumerate() {
            let replace = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replace.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}

fn convert_table(table: &DeTable<'_>) -> BTreeMap<String, Node> {
    table
        .iter()
        .map(|(key, value)| {
            let mut node = convert(value);
            // The key is the better place to point at, unless it is a list of tables.
            if !matches!(node.value, Value::List(_)) {
                node.place = Place::Offset(key.span().start);
            }
            (key.get_ref().to_string(), node)
        })
        .collect()
}

fn convert(value: &Spanned<DeValue<'_>>) -> Node {
    let place = Place::Offset(value.span().start);
    let value = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            Value::Integer(u64::from_str_radix(number.as_str(), number.radix()).ok())
        }
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Array(items) => Value::List(items.iter().map(convert).collect()),
        DeValue::Table(table) => Value::Table(convert_table(table)),
        DeValue::Float(_) => Value::Other("a number with a point"),
        DeValue::Datetime(_) => Value::Other("a date"),
    };
    Node { value, place }
}

/// Puts a variable's value in its place; tables on the way are made.
fn set(root: &mut Node, variable: &str, text: &str) {
    let Some(path) = variable.strip_prefix(OVERRIDE) else {
        return;
    };
    let place = Place::Variable(variable.to_owned());
    let value = match (text.parse(), text) {
        (Ok(number), _) => Value::Integer(Some(number)),
        (_, "true") => Value::Bool(true),
        (_, "false") => Value::Bool(false),
        _ => Value::Text(text.to_owned()),
    };
    let mut node = root;
    for part in path.split("__") {
        if !matches!(node.value, Value::Table(_)) {
            node.value = Value::Table(BTreeMap::new());
        }
        let Value::Table(entries) = &mut node.value else {
            return; // cannot happen: made one just above
        };
        node = entries.entry(part.to_lowercase()).or_insert_with(|| Node {
            value: Value::Table(BTreeMap::new()),
            place: place.clone(),
        });
    }
    *node = Node { value, place };
}
