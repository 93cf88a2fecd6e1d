//! Who stands behind the rows and numbers of a fragment: this department's privacy units, followed through
//! the plan that its own engine makes of the text, whoever wrote it.
//!
//! Every value of the plan is an attribute with a number of its own. A relation keeps the attributes of the
//! tables that it is made of, shown or not, so that what follows from what (declared keys, groups,
//! equalities) can be asked of any of its columns. It must not know of rules.

mod conditions;
mod groups;
mod relation;

use super::NotAllowed;
use super::dependencies::Dependencies;
use super::types::analysed;
use crate::catalog::Published;
use conditions::Condition;
use relation::Follow;
use std::collections::{BTreeMap, BTreeSet};

type Result<T> = std::result::Result<T, NotAllowed>;

/// A value of a fragment's plan.
pub(crate) type Attribute = usize;

/// The part of a group that a number is over: conditions, each of which holds or does not.
pub(crate) type Pattern = BTreeMap<Condition, bool>;

/// Who stands behind the rows of a relation, of one scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    /// Each row is of one unit at most, which any of these attributes names.
    Each(BTreeSet<Attribute>),
    /// Each row is of several; the attributes that name the group which it was made as. No unit is in a
    /// second group, where `disjoint`.
    Many {
        rows: BTreeSet<Attribute>,
        disjoint: bool,
    },
    /// It cannot be told.
    Unknown,
}

/// A number of units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Of which scan.
    pub(crate) scan: usize,
    /// Over which part of the rows; all, where it is empty.
    pub(crate) over: Pattern,
}

/// A fragment whose units are followed.
#[derive(Debug, Clone)]
pub(crate) struct FragmentUnits {
    /// The table of every scan.
    pub(crate) tables: Vec<String>,
    /// For every scan who stands behind a row.
    pub(crate) who: BTreeMap<usize, Who>,
    columns: Vec<Attribute>,
    unique: Vec<BTreeSet<Attribute>>,
    known: Dependencies<Attribute>,
    counted: BTreeMap<Attribute, Vec<Counted>>,
    /// The conditions of values of aggregates: the rows that they are over.
    conditions: BTreeMap<Attribute, Vec<Condition>>,
    /// Those of which rows that differ are in one group.
    mixed: BTreeSet<Attribute>,
    /// What must not be summed where there are thresholds, and why.
    unusual: BTreeMap<Attribute, &'static str>,
    truths: BTreeMap<Attribute, Condition>,
}

/// Follows the units of a fragment over its department's tables.
///
/// # Errors
/// The construct through which units cannot be followed.
pub(crate) fn fragment_units(sql: &str, catalog: &Published) -> Result<FragmentUnits> {
    let plan = analysed(sql, &catalog.tables)?;
    let mut follow = Follow::new(catalog);
    let made = follow.plan(&plan)?;
    follow.ones(&made);
    Ok(FragmentUnits {
        tables: follow.tables,
        who: made.who,
        columns: made.columns,
        unique: made.unique,
        known: follow.known,
        counted: follow.counted,
        conditions: follow.conditions,
        mixed: follow.mixed,
        unusual: follow.unusual,
        truths: follow
            .computed
            .iter()
            .map(|(attribute, of)| (*attribute, of.to_string()))
            .collect(),
    })
}

impl FragmentUnits {
    fn attributes(&self, columns: &BTreeSet<usize>) -> BTreeSet<Attribute> {
        columns
            .iter()
            .filter_map(|column| self.columns.get(*column).copied())
            .collect()
    }

    /// Whether no two rows have the same values of these columns.
    pub(crate) fn unique_on(&self, columns: &BTreeSet<usize>) -> bool {
        let of = self.attributes(columns);
        self.known.reaches(&of, &self.unique)
    }

    /// The columns that follow from these.
    pub(crate) fn determined(&self, columns: &BTreeSet<usize>) -> BTreeSet<usize> {
        let known = self.known.closure(&self.attributes(columns));
        self.columns
            .iter()
            .enumerate()
            .filter(|(_, attribute)| known.contains(attribute))
            .map(|(column, _)| column)
            .collect()
    }

    /// Whether a column names the unit that a row is of.
    pub(crate) fn names_unit(&self, scan: usize, column: usize) -> bool {
        match (self.who.get(&scan), self.columns.get(column)) {
            (Some(Who::Each(tags)), Some(attribute)) => tags.contains(attribute),
            _ => false,
        }
    }

    /// Whether each row is of another unit of the scan.
    pub(crate) fn is_once(&self, scan: usize) -> bool {
        match self.who.get(&scan) {
            Some(Who::Each(tags)) => tags
                .iter()
                .any(|tag| self.known.reaches(&BTreeSet::from([*tag]), &self.unique)),
            _ => false,
        }
    }

    /// The numbers of units that a column is.
    pub(crate) fn counts(&self, column: usize) -> &[Counted] {
        let attribute = self.columns.get(column);
        attribute
            .and_then(|of| self.counted.get(of))
            .map_or(&[], Vec::as_slice)
    }

    /// The conditions of the rows that a number is over; none for a value of rows, or of all rows.
    pub(crate) fn conditions(&self, column: usize) -> &[Condition] {
        let attribute = self.columns.get(column);
        attribute
            .and_then(|of| self.conditions.get(of))
            .map_or(&[], Vec::as_slice)
    }

    /// Whether a number is over a part of the rows behind its own, which are not kept apart by it.
    pub(crate) fn is_mixed(&self, column: usize) -> bool {
        let attribute = self.columns.get(column);
        attribute.is_some_and(|of| self.mixed.contains(of))
    }

    /// The condition that a truth value is.
    pub(crate) fn truth(&self, column: usize) -> Option<&Condition> {
        let attribute = self.columns.get(column)?;
        self.truths.get(attribute)
    }

    /// Why a column must not be summed where there are thresholds.
    pub(crate) fn unusual(&self, column: usize) -> Option<&'static str> {
        let attribute = self.columns.get(column)?;
        self.unusual.get(attribute).copied()
    }
}
