//! Federated tables: one name for the rows that several departments hold, each its own part.
//!
//! `national.lineitem` means the UNION ALL of its members and is nothing else: it becomes that before a
//! query is planned, so plans, rules and every owner's check know the members alone. Whoever declares one
//! gains no right to anything.

use super::Federation;
use crate::catalog::{Table, diagnose};
use crate::error::{Code, Error, Result};
use crate::schema::Department;
use std::collections::BTreeSet;

/// The most members of one table.
const MAX_MEMBERS: usize = 64;

/// One table whose rows several departments hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FederatedTable {
    /// The name before the point, which no department has.
    space: String,
    table: String,
    members: Vec<(Department, String)>,
}

impl FederatedTable {
    /// A table of this name, `space.table`, and these members, each `department.table`.
    ///
    /// # Errors
    /// What is wrong with a name, or with the members.
    pub fn new(name: &str, members: &[String]) -> std::result::Result<Self, String> {
        let (space, table) = parts(name)?;
        let members: Vec<(Department, String)> = members
            .iter()
            .map(|member| parts(member))
            .collect::<std::result::Result<_, _>>()?;
        if !(2..=MAX_MEMBERS).contains(&members.len()) {
            return Err(format!("{name} needs 2 to {MAX_MEMBERS} members"));
        }
        let mut seen = BTreeSet::new();
        for member in &members {
            if member.0 == space {
                return Err(format!(
                    "{name} has a member in `{space}`, its own first name: take one that no \
                     department has"
                ));
            }
            if !seen.insert(member) {
                return Err(format!("{name} has {}.{} twice", member.0, member.1));
            }
        }
        Ok(Self {
            space,
            table,
            members,
        })
    }

    /// Its name in SQL.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}", self.space, self.table)
    }

    /// The name before the point.
    #[must_use]
    pub fn space(&self) -> &str {
        &self.space
    }

    /// The name after the point.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Department and table of each member.
    #[must_use]
    pub fn members(&self) -> &[(Department, String)] {
        &self.members
    }

    /// The members' tables, the columns of each in the order of the first's.
    ///
    /// # Errors
    /// `BadConfig` where a member has other columns, types, code lists or canonical forms, or a department
    /// has the name before the point; `UnknownTable` where a member is not published.
    pub(super) fn resolve<'a>(&'a self, federation: &'a Federation) -> Result<Vec<Part<'a>>> {
        let bad = |what: String| Error::new(Code::BadConfig, format!("{}: {what}", self.name()));
        if federation.member(&self.space).is_some() {
            return Err(bad(format!("a department is named `{}` too", self.space)));
        }
        let mut resolved: Vec<Part<'a>> = Vec::new();
        for (department, name) in &self.members {
            let table = federation
                .member(department)
                .and_then(|member| member.catalog.as_ref())
                .and_then(|catalog| catalog.table(name))
                .ok_or_else(|| {
                    Error::new(
                        Code::UnknownTable,
                        format!(
                            "there is no table {department}.{name}, a member of {}",
                            self.name()
                        ),
                    )
                })?;
            if let Some(first) = resolved.first() {
                alike(first, department, table).map_err(bad)?;
            }
            resolved.push(Part { department, table });
        }
        Ok(resolved)
    }
}

/// A member of a federated table.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    pub(super) department: &'a str,
    pub(super) table: &'a Table,
}

/// Two members have the same columns, in whatever order.
fn alike(first: &Part<'_>, department: &str, table: &Table) -> std::result::Result<(), String> {
    let (one, other) = (
        format!("{}.{}", first.department, first.table.name),
        format!("{department}.{}", table.name),
    );
    for column in &first.table.columns {
        let Some(same) = table.column(&column.name) else {
            return Err(format!("{other} has no column {}", column.name));
        };
        if same.data_type != column.data_type {
            return Err(format!(
                "column {} is {} in {one} and {} in {other}",
                column.name, column.data_type, same.data_type
            ));
        }
        if same.canonical != column.canonical {
            return Err(format!(
                "column {} has two canonical forms in {one} and {other}",
                column.name
            ));
        }
        if same.codes != column.codes {
            return Err(format!(
                "column {} has two code lists in {one} and {other}",
                column.name
            ));
        }
    }
    match table
        .columns
        .iter()
        .find(|column| first.table.column(&column.name).is_none())
    {
        Some(more) => Err(format!("{one} has no column {}", more.name)),
        None => Ok(()),
    }
}

/// `a.b`, both of them names.
fn parts(name: &str) -> std::result::Result<(String, String), String> {
    match name.split_once('.') {
        Some((space, table)) if diagnose::is_department_name(space) && diagnose::is_name(table) => {
            Ok((space.to_owned(), table.to_owned()))
        }
        _ => Err(format!(
            "`{name}` is not `department.table`, in lower-case letters, digits and `_`"
        )),
    }
}
