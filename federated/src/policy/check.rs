//! Whether a policy goes together with the catalogue beside it: names, and who is counted.
//!
//! The one place where both are first brought together; start-up, `config check` and the sandbox all
//! come by here. It must not know of files or plans.

use super::{Policy, Rule};
use crate::catalog::diagnose::hint;
use crate::catalog::{Published, Table, Unit, names};
use crate::error::{Code, Error, Result};
use std::collections::BTreeSet;

/// Where a mistake is.
pub(super) enum Place {
    /// The policy's department.
    Department,
    /// The level of this number.
    Level(usize),
    /// The rule of this number.
    Rule(usize),
}

/// Something that does not go together.
pub(super) struct Mistake {
    pub(super) place: Place,
    pub(super) code: Code,
    pub(super) message: String,
}

impl Policy {
    /// Checks that the policy speaks of the catalogue's own department, tables and columns, and that
    /// whatever it counts has a unit. [`file::load_for`](super::file::load_for) tells the line too.
    ///
    /// # Errors
    /// [`Code::BadConfig`], naming what is unknown, with the nearest name that exists;
    /// [`Code::NoUnit`] for a threshold on a table of which nobody is counted.
    pub fn check_against(&self, published: &Published) -> Result<()> {
        match mistakes(self, published).into_iter().next() {
            None => Ok(()),
            Some(mistake) => Err(Error::new(
                mistake.code,
                format!("policy of {}: {}", self.department, mistake.message),
            )),
        }
    }
}

/// Everything that does not go together, each once.
pub(super) fn mistakes(policy: &Policy, published: &Published) -> Vec<Mistake> {
    let wrong = |place: Place, message: String| Mistake {
        place,
        code: Code::BadConfig,
        message,
    };
    if policy.department != published.department {
        let message = format!(
            "the catalogue beside it is of department `{}`",
            published.department
        );
        return vec![wrong(Place::Department, message)];
    }
    let mut found = Vec::new();
    let mut told = BTreeSet::new();
    let levels = policy.levels.iter().enumerate();
    let rules = policy.rules.iter().enumerate();
    let named = levels
        .map(|(at, (table, column, _))| (Place::Level(at), table, column))
        .chain(rules.map(|(at, rule)| (Place::Rule(at), &rule.table, &rule.column)));
    for (place, table, column) in named {
        if let Some(message) = unknown(published, table, column)
            && told.insert(message.clone())
        {
            found.push(wrong(place, message));
        }
    }
    let weighted = policy.rules.iter().position(|rule| rule.weights.is_some());
    if let Some(at) = weighted {
        let message = "`weights` is not counted by this version, so that a rule that says it would promise \
                       too much: leave it out";
        found.push(wrong(Place::Rule(at), message.to_owned()));
    }
    found.extend(
        published
            .tables
            .iter()
            .filter(|table| table.unit == Unit::None)
            .filter_map(|table| uncounted(policy, table)),
    );
    found
}

/// What the catalogue does not have.
fn unknown(published: &Published, table: &str, column: &str) -> Option<String> {
    let Some(found) = published.table(table) else {
        let tables = published.tables.iter().map(|each| each.name.as_str());
        return Some(format!(
            "[tables.{table}] is not in the catalogue; {}",
            hint(table, tables)
        ));
    };
    if column == "*" || found.column(column).is_some() {
        return None;
    }
    let columns = found.columns.iter().map(|each| each.name.as_str());
    Some(format!(
        "[tables.{table}.columns.{column}] is not in the catalogue; {}",
        hint(column, columns)
    ))
}

/// That a threshold is asked for where nobody is counted: by a rule, or by a level alone.
fn uncounted(policy: &Policy, table: &Table) -> Option<Mistake> {
    let of_table = |(_, rule): &(usize, &Rule)| rule.table == table.name && rule.k > 1;
    let rule = policy.rules.iter().enumerate().find(of_table);
    let level = policy
        .levels
        .iter()
        .enumerate()
        .find(|(_, (of, _, level))| *of == table.name && level.k_floor() > 1);
    let (place, asks) = match (rule, level) {
        (Some((at, rule)), _) => (
            Place::Rule(at),
            format!("rule {} asks for k = {}", rule.name, rule.k),
        ),
        (None, Some((at, (_, column, level)))) => {
            let of = match column.as_str() {
                "*" => String::new(),
                column => format!(" of column {column}"),
            };
            (
                Place::Level(at),
                format!(
                    "level {}{of} asks for k = {}",
                    level.name(),
                    level.k_floor()
                ),
            )
        }
        (None, None) => return None,
    };
    Some(Mistake {
        place,
        code: Code::NoUnit,
        message: format!(
            "{asks}, and table {}.{} has unit = \"none\" in catalog.toml, so that nobody can be \
             counted: write there unit = \"{}\", or whichever column names the person or firm, or \
             unit = \"row\" if every row really is another one; or write level = \"L1\" and k = 1 \
             here if the table is public reference data",
            policy.department,
            table.name,
            likely_unit(table)
        ),
    })
}

/// The column that most likely names people or firms, or an example of one.
fn likely_unit(table: &Table) -> &str {
    table
        .columns
        .iter()
        .filter_map(|column| Some((names::naming(&column.name)?, column.name.as_str())))
        .min_by_key(|(naming, _)| *naming)
        .map_or("person_id", |(_, name)| name)
}
