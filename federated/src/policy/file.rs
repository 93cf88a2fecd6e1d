//! `policy.toml`: reading it with every mistake explained, and writing a starter.
//!
//! The format is described in `docs/policy.md`. It must not know of plans or queries.

use super::bounds::{min_rows_problem, weights_problem};
use super::check::Place;
use super::{
    AggregateFunction, Leakage, Level, Policy, Rule, Use, computing_problem, purpose_problem,
};
use crate::catalog::diagnose::{File, hint, is_department_name};
use crate::catalog::file::{quote, quote_key, quote_list};
use crate::catalog::{Published, Unit};
use crate::error::{Code, Error, Result};
use crate::schema::Department;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;
use toml::Spanned;

/// The name of the file in a department's folder.
pub const FILE_NAME: &str = "policy.toml";
/// The threshold of a starter policy.
const STARTER_K: u32 = 5;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyFile {
    version: Spanned<u32>,
    department: Spanned<String>,
    #[serde(default)]
    computing: Vec<Spanned<Vec<String>>>,
    min_rows: Option<Spanned<u64>>,
    #[serde(default)]
    tables: BTreeMap<Spanned<String>, TableEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableEntry {
    level: Option<Spanned<String>>,
    #[serde(default)]
    allow: Vec<AllowEntry>,
    #[serde(default)]
    columns: BTreeMap<Spanned<String>, ColumnEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnEntry {
    level: Option<Spanned<String>>,
    #[serde(default)]
    allow: Vec<AllowEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AllowEntry {
    #[serde(rename = "use")]
    permits: Spanned<String>,
    #[serde(default)]
    functions: Vec<Spanned<String>>,
    k: Spanned<u32>,
    leakage: Option<Spanned<String>>,
    recipients: Option<Spanned<Vec<Spanned<String>>>>,
    purposes: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default)]
    case: bool,
    weights: Option<Spanned<u32>>,
}

/// Reads `FOLDER/policy.toml`.
///
/// # Errors
/// [`Code::BadConfig`] with file, line, column and a hint; [`Code::SourceUnavailable`] when the
/// file cannot be read.
pub fn load(folder: &Path) -> Result<Policy> {
    load_file(&folder.join(FILE_NAME))
}

/// Reads a policy file of any name.
///
/// # Errors
/// As [`load`].
pub fn load_file(path: &Path) -> Result<Policy> {
    parse(&read(path)?, &path.display().to_string())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| {
        Error::new(
            Code::SourceUnavailable,
            format!("cannot read {}: {}", path.display(), error.kind()),
        )
    })
}

/// Reads `FOLDER/policy.toml` and holds it against the catalogue beside it, as a gateway does when it
/// starts.
///
/// # Errors
/// As [`load`]; [`Code::BadConfig`] for what the catalogue does not have, and [`Code::NoUnit`] for a
/// threshold on a table without a unit, with file, line and column.
pub fn load_for(folder: &Path, published: &Published) -> Result<Policy> {
    let (policy, mistakes) = load_with_mistakes(folder, published)?;
    match mistakes.into_iter().next() {
        Some(mistake) => Err(mistake),
        None => Ok(policy),
    }
}

/// As [`load_for`], with everything that does not go together with the catalogue.
///
/// # Errors
/// As [`load`].
pub fn load_with_mistakes(folder: &Path, published: &Published) -> Result<(Policy, Vec<Error>)> {
    let path = folder.join(FILE_NAME);
    let (text, name) = (read(&path)?, path.display().to_string());
    let (policy, places) = parse_with_places(&text, &name)?;
    let file = File {
        name: &name,
        text: &text,
    };
    let mistakes = super::check::mistakes(&policy, published)
        .into_iter()
        .map(|mistake| {
            let span = match mistake.place {
                Place::Department => Some(places.department.clone()),
                Place::Level(at) => places.levels.get(at).cloned(),
                Place::Rule(at) => places.rules.get(at).cloned(),
            };
            let told = match span {
                Some(span) => file.error(span, mistake.message),
                None => file.error_nowhere(mistake.message),
            };
            Error::new(mistake.code, told.message)
        })
        .collect();
    Ok((policy, mistakes))
}

/// Reads the text of a policy. `name` is how messages call it.
///
/// # Errors
/// [`Code::BadConfig`] with file, line, column and a hint.
pub fn parse(text: &str, name: &str) -> Result<Policy> {
    parse_with_places(text, name).map(|(policy, _)| policy)
}

/// Where in the text of a file its parts stand, in the order of the policy's own lists.
struct Places {
    department: Range<usize>,
    levels: Vec<Range<usize>>,
    rules: Vec<Range<usize>>,
}

fn parse_with_places(text: &str, name: &str) -> Result<(Policy, Places)> {
    let file = File { name, text };
    let entry: PolicyFile = file.parse()?;
    if *entry.version.get_ref() != 1 {
        return Err(file.error(
            entry.version.span(),
            format!(
                "policy version {} is not known; this engine reads version 1",
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
    let mut reader = Reader {
        file,
        places: Places {
            department: entry.department.span(),
            levels: Vec::new(),
            rules: Vec::new(),
        },
        policy: Policy {
            department: entry.department.into_inner(),
            version: [0; 32],
            computing: Vec::with_capacity(entry.computing.len()),
            rules: Vec::new(),
            levels: Vec::new(),
            min_rows: 0,
        },
        names: BTreeSet::new(),
    };
    if let Some(min_rows) = entry.min_rows {
        let rows = *min_rows.get_ref();
        if let Some(problem) = min_rows_problem(rows) {
            return Err(reader.file.error(min_rows.span(), problem));
        }
        reader.policy.min_rows = rows;
    }
    for set in entry.computing {
        reader.computing_set(set)?;
    }
    for (table, entry) in entry.tables {
        reader.table(&table, entry)?;
    }
    let mut policy = reader.policy;
    policy.version = super::json::version(&policy);
    policy.validate()?;
    Ok((policy, reader.places))
}

struct Reader<'a> {
    file: File<'a>,
    places: Places,
    policy: Policy,
    names: BTreeSet<String>,
}

impl Reader<'_> {
    fn computing_set(&mut self, entry: Spanned<Vec<String>>) -> Result<()> {
        let span = entry.span();
        let set: [Department; 3] = entry.into_inner().try_into().map_err(|_| {
            self.file.error(
                span.clone(),
                "a computing set names exactly three departments",
            )
        })?;
        if let Some(problem) = computing_problem(&set) {
            return Err(self.file.error(span, problem));
        }
        self.policy.computing.push(set);
        Ok(())
    }

    fn table(&mut self, table: &Spanned<String>, entry: TableEntry) -> Result<()> {
        let name = table.get_ref();
        // All levels first: the floor of a rule for `*` is that of the most sensitive column.
        self.level(name, "*", entry.level.as_ref())?;
        for (column, rules) in &entry.columns {
            if column.get_ref() == "*" {
                return Err(self.file.error(
                    column.span(),
                    format!("rules for every column are written under [tables.{name}] itself"),
                ));
            }
            self.level(name, column.get_ref(), rules.level.as_ref())?;
            if entry.level.is_none() && rules.level.is_none() {
                return Err(self.file.error(
                    column.span(),
                    format!(
                        "column `{}` of table `{name}` has no level; add one to it or to the table",
                        column.get_ref()
                    ),
                ));
            }
        }
        if entry.level.is_none() && !entry.allow.is_empty() {
            return Err(self.file.error(
                table.span(),
                format!("table `{name}` has rules for every column and no level; add level = \"L2\" or the like"),
            ));
        }
        self.rules(name, "*", entry.allow)?;
        for (column, rules) in entry.columns {
            self.rules(name, column.get_ref(), rules.allow)?;
        }
        Ok(())
    }

    fn level(&mut self, table: &str, column: &str, entry: Option<&Spanned<String>>) -> Result<()> {
        let Some(entry) = entry else { return Ok(()) };
        let level = Level::from_name(entry.get_ref())
            .map_err(|message| self.file.error(entry.span(), message))?;
        self.policy
            .levels
            .push((table.to_owned(), column.to_owned(), level));
        self.places.levels.push(entry.span());
        Ok(())
    }

    fn rules(&mut self, table: &str, column: &str, entries: Vec<AllowEntry>) -> Result<()> {
        for entry in entries {
            let span = entry.k.span();
            for permits in self.uses(&entry)? {
                let rule = self.rule(table, column, permits, &entry)?;
                if let (Some(weights), Some(problem)) = (&entry.weights, weights_problem(&rule)) {
                    return Err(self
                        .file
                        .error(weights.span(), format!("rule {}: {problem}", rule.name)));
                }
                if let Some(problem) = self.policy.rule_problem(&rule) {
                    return Err(self
                        .file
                        .error(span.clone(), format!("rule {}: {problem}", rule.name)));
                }
                self.policy.rules.push(rule);
                self.places.rules.push(span.clone());
            }
        }
        Ok(())
    }

    /// The uses that one entry stands for: one, or one for each function of an aggregate.
    fn uses(&self, entry: &AllowEntry) -> Result<Vec<Use>> {
        const NAMES: [&str; 7] = [
            "join_key",
            "filter",
            "group_key",
            "aggregate",
            "having",
            "sort_key",
            "output",
        ];
        let name = entry.permits.get_ref().as_str();
        if name != "aggregate" {
            if let Some(function) = entry.functions.first() {
                return Err(self.file.error(
                    function.span(),
                    format!("`functions` belongs to use = \"aggregate\", not to `{name}`"),
                ));
            }
            return match Use::from_name(name) {
                Some(permits) if NAMES.contains(&name) => Ok(vec![permits]),
                _ => Err(self.file.error(
                    entry.permits.span(),
                    format!("use `{name}` is not known; {}", hint(name, NAMES)),
                )),
            };
        }
        if entry.functions.is_empty() {
            return Err(self.file.error(
                entry.permits.span(),
                "use = \"aggregate\" needs functions = [...] out of \"count\", \"sum\", \"avg\", \"min\", \"max\", \"median\"",
            ));
        }
        let mut uses = Vec::with_capacity(entry.functions.len());
        for function in &entry.functions {
            let given = function.get_ref().as_str();
            let known = [
                AggregateFunction::Count,
                AggregateFunction::Sum,
                AggregateFunction::Avg,
                AggregateFunction::Min,
                AggregateFunction::Max,
                AggregateFunction::Median,
            ];
            let Some(found) = known.into_iter().find(|each| each.name() == given) else {
                return Err(self.file.error(
                    function.span(),
                    format!(
                        "function `{given}` is not known; {}",
                        hint(given, known.map(AggregateFunction::name))
                    ),
                ));
            };
            let permits = Use::Aggregate(found);
            if uses.contains(&permits) {
                return Err(self
                    .file
                    .error(function.span(), format!("function `{given}` twice")));
            }
            uses.push(permits);
        }
        Ok(uses)
    }

    /// The items of a list that may be left out, but not be empty.
    fn listed<'e>(
        &self,
        list: Option<&'e Spanned<Vec<Spanned<String>>>>,
        name: &str,
    ) -> Result<&'e [Spanned<String>]> {
        match list {
            None => Ok(&[]),
            Some(list) if list.get_ref().is_empty() => Err(self.file.error(
                list.span(),
                format!(
                    "an empty list of {name} would allow nobody; leave `{name}` out to allow all"
                ),
            )),
            Some(list) => Ok(list.get_ref()),
        }
    }

    fn rule(
        &mut self,
        table: &str,
        column: &str,
        permits: Use,
        entry: &AllowEntry,
    ) -> Result<Rule> {
        let leakage = match entry.leakage.as_ref().map(|l| (l, l.get_ref().as_str())) {
            None | Some((_, "none")) => Leakage::None,
            Some((_, "sizes")) => Leakage::Sizes,
            Some((spanned, other)) => {
                return Err(self.file.error(
                    spanned.span(),
                    format!("leakage `{other}` is not known: use \"none\" or \"sizes\""),
                ));
            }
        };
        let mut recipients = Vec::new();
        for recipient in self.listed(entry.recipients.as_ref(), "recipients")? {
            if !is_department_name(recipient.get_ref()) {
                return Err(self.file.error(
                    recipient.span(),
                    format!(
                        "recipient `{}` cannot name a department",
                        recipient.get_ref()
                    ),
                ));
            }
            recipients.push(recipient.get_ref().clone());
        }
        let mut purposes = Vec::new();
        for purpose in self.listed(entry.purposes.as_ref(), "purposes")? {
            if let Some(problem) = purpose_problem(purpose.get_ref()) {
                return Err(self.file.error(purpose.span(), problem));
            }
            purposes.push(purpose.get_ref().clone());
        }
        let base = format!("{}.{table}.{column}/{permits}", self.policy.department);
        let mut name = base.clone();
        let mut number = 1;
        while !self.names.insert(name.clone()) {
            number += 1;
            name = format!("{base}#{number}");
        }
        Ok(Rule {
            name,
            table: table.to_owned(),
            column: column.to_owned(),
            permits,
            k: *entry.k.get_ref(),
            leakage,
            recipients,
            purposes,
            case: entry.case,
            weights: entry.weights.as_ref().map(|weights| *weights.get_ref()),
        })
    }
}

/// The text of a starter policy: every use of every column except raw output, k = 5 (1 for
/// public reference data), leakage `sizes`, for every recipient.
#[must_use]
pub fn starter(published: &Published, computing: &[[Department; 3]]) -> String {
    let mut out = String::new();
    let sets: Vec<String> = computing.iter().map(|set| quote_list(set)).collect();
    // Writing to a String cannot fail, so results of `write!` are not looked at.
    let _ = writeln!(
        out,
        "# A starter policy: every use except raw output, at least {STARTER_K} privacy units behind every\n\
         # released number. Read it, classify the columns, and take away what this department does not\n\
         # want used. Whatever no rule allows is refused. See docs/policy.md.\n\
         version = 1\n\
         department = {}\n\
         # Which three gateways may compute on shares of this data; no two of them may collude.\n\
         computing = [{}]",
        quote(&published.department),
        sets.join(", ")
    );
    for table in &published.tables {
        // Nobody is counted in public reference data.
        let (level, k) = match table.unit {
            Unit::None => ("L1", 1),
            _ => ("L2", STARTER_K),
        };
        if k == 1 {
            let _ = write!(
                out,
                "\n# Public reference data (unit = \"none\"): nobody's privacy."
            );
        }
        let _ = writeln!(
            out,
            "\n[tables.{}]\nlevel = \"{level}\"\nallow = [",
            quote_key(&table.name)
        );
        for entry in [
            "use = \"join_key\"",
            "use = \"filter\"",
            "use = \"group_key\"",
            "use = \"aggregate\", functions = [\"count\", \"sum\", \"avg\"]",
            "use = \"having\"",
            "use = \"sort_key\"",
        ] {
            let _ = writeln!(out, "  {{ {entry}, k = {k}, leakage = \"sizes\" }},");
        }
        let _ = writeln!(out, "]");
    }
    out
}

/// Writes a starter `policy.toml` into the department's folder, unless there is one.
/// Returns what was written, for people.
///
/// # Errors
/// [`Code::SourceUnavailable`] when the file cannot be written.
pub fn write_starter(
    folder: &Path,
    published: &Published,
    computing: &[[Department; 3]],
) -> Result<Vec<String>> {
    let text = starter(published, computing);
    let path = folder.join(FILE_NAME);
    if crate::catalog::file::write_new(&path, &text)? {
        let mut told = vec![format!(
            "wrote {}: every use except raw output, k = {STARTER_K}, leakage sizes; read it before real use",
            path.display()
        )];
        told.extend(
            published
                .tables
                .iter()
                .filter(|table| table.unit == Unit::None)
                .map(|table| {
                    format!(
                        "{}.{}: public reference data by its unit, so k = 1 in the starter policy",
                        published.department, table.name
                    )
                }),
        );
        Ok(told)
    } else {
        Ok(Vec::new())
    }
}
