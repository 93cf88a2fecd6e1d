//! A shared table, with the place of every fragment's column in it.

use super::blame::Failure;
use super::layout::{Form, Place, normal};
use super::program::{Cells, Rows};
use crate::error::{Code, Error, Result};
use crate::plan::program::Program;
use crate::plan::{ColumnRef, FragmentIndex, JointPlan};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use veilgate_mpc::share::BitColumn;
use veilgate_mpc::spill::{Memory, Parked};
use veilgate_mpc::table::{Column, SharedTable};

/// A relation between two operators.
pub(super) struct Relation {
    pub(super) table: SharedTable,
    places: BTreeMap<Place, usize>,
    /// The column by which rows ascend, valid or not.
    sorted: Option<usize>,
}

impl Relation {
    /// A table whose columns are these, in order.
    pub(super) fn new(table: SharedTable, places: impl IntoIterator<Item = Place>) -> Self {
        let places = places.into_iter().zip(0..).collect();
        Self {
            table,
            places,
            sorted: None,
        }
    }

    /// The relation of rows that their owner sorted by this key.
    pub(super) fn sorted_by(mut self, key: Option<ColumnRef>) -> Self {
        self.sorted = key.and_then(|key| self.places.get(&(key, Form::Value)).copied());
        self
    }

    /// The columns of a fragment as variables of a program.
    pub(super) fn rows(
        self,
        plan: &JointPlan,
        fragment: FragmentIndex,
    ) -> std::result::Result<Rows, Failure> {
        let of = plan.fragments.get(fragment);
        let mut columns = BTreeMap::new();
        let mut sorted = None;
        for column in 0..of.map_or(0, |of| of.columns.len()) {
            let at = ColumnRef { fragment, column };
            let mut parts = Vec::new();
            let variable = Program::variable_of(&plan.fragments, fragment, column);
            if let Some(position) = self.places.get(&(at, Form::Value)).copied() {
                parts.push(self.table.columns[position].clone());
                if self.sorted == Some(position) {
                    sorted = Some(variable);
                }
            }
            for part in 0..u16::MAX {
                match self.places.get(&(at, Form::Chunk(part))) {
                    Some(position) => parts.push(self.table.columns[*position].clone()),
                    None => break,
                }
            }
            let null = match self.places.get(&(at, Form::Null)) {
                Some(position) => Some(self.table.bits("program", *position)?.clone()),
                None => None,
            };
            columns.insert(variable, Cells { parts, null });
        }
        Ok(Rows {
            columns,
            valid: self.table.valid,
            sorted,
        })
    }

    /// The position of a column in one form.
    pub(super) fn position(&self, plan: &JointPlan, at: ColumnRef, form: Form) -> Result<usize> {
        let at = if form == Form::Value {
            normal(plan, at)
        } else {
            at
        };
        let position = self.places.get(&(at, form));
        position.copied().ok_or_else(|| {
            Error::new(
                Code::Internal,
                "an operator asks for a column that its input does not have",
            )
        })
    }

    /// The column in one form.
    pub(super) fn column(&self, plan: &JointPlan, at: ColumnRef, form: Form) -> Result<&Column> {
        let position = self.position(plan, at, form)?;
        self.table
            .columns
            .get(position)
            .ok_or_else(|| Error::new(Code::Internal, "a relation has lost a column"))
    }

    /// The column in one form, which is a form in bits.
    pub(super) fn bits(&self, plan: &JointPlan, at: ColumnRef, form: Form) -> Result<&BitColumn> {
        match self.column(plan, at, form)? {
            Column::Bits(bits) => Ok(bits),
            _ => Err(Error::new(
                Code::Internal,
                "an operator asks for bits of an arithmetic column",
            )),
        }
    }

    /// A table of the key alone, with the rows' validity.
    pub(super) fn of_key(&self, key: usize) -> SharedTable {
        SharedTable {
            columns: self.table.columns.get(key).cloned().into_iter().collect(),
            valid: self.table.valid.clone(),
        }
    }

    /// Sets the table aside while work goes on that takes `work` bytes.
    pub(super) fn park(
        &mut self,
        memory: Option<&Memory>,
        work: u64,
    ) -> veilgate_mpc::Result<Parked> {
        let nothing = SharedTable {
            columns: vec![],
            valid: BitColumn::zeros(1, 0),
        };
        Parked::new(memory, std::mem::replace(&mut self.table, nothing), work)
    }

    /// Whether rows ascend by the column at this position, valid or not.
    pub(super) fn ascends_by(&self, key: usize) -> bool {
        self.sorted == Some(key)
    }

    /// What a join of `self` and `right` keeps of the right: all columns but the key, which equals the
    /// left one.
    pub(super) fn kept(&self, right_key: usize) -> Vec<usize> {
        (0..self.table.columns.len())
            .filter(|position| *position != right_key)
            .collect()
    }

    /// The relation that a join made of `self`, whose rows stay in their order, and `right`: all columns
    /// of the left, then those kept of the right.
    pub(super) fn joined(self, right: &Self, keys: [usize; 2], table: SharedTable) -> Self {
        let [left_key, right_key] = keys;
        let lefts = self.table.columns.len();
        let mut places = self.places;
        for (place, &at) in &right.places {
            let at = match at.cmp(&right_key) {
                Ordering::Less => lefts + at,
                Ordering::Equal => left_key,
                Ordering::Greater => lefts + at - 1,
            };
            places.insert(*place, at);
        }
        Self {
            table,
            places,
            sorted: self.sorted,
        }
    }
}
