//! A shared table, with the place of every fragment's column in it.

use super::layout::{Form, Place, normal};
use crate::error::{Code, Error, Result};
use crate::plan::{ColumnRef, JointPlan};
use std::collections::BTreeMap;
use veilgate_mpc::share::BitColumn;
use veilgate_mpc::table::{Column, SharedTable};

/// A relation between two operators.
pub(super) struct Relation {
    pub(super) table: SharedTable,
    places: BTreeMap<Place, usize>,
}

impl Relation {
    /// A table whose columns are these, in order.
    pub(super) fn new(table: SharedTable, places: impl IntoIterator<Item = Place>) -> Self {
        let places = places.into_iter().zip(0..).collect();
        Self { table, places }
    }

    /// A table, and where columns are in it.
    pub(super) fn from_parts(table: SharedTable, places: BTreeMap<Place, usize>) -> Self {
        Self { table, places }
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

    /// The relation that a join makes of `self` and `right`: all columns of the left, then those of
    /// the right except its key, which equals the left one.
    pub(super) fn joined(self, right: &Self, left_key: usize, right_key: usize) -> Joined {
        let mut places = self.places;
        let mut next = self.table.columns.len();
        let mut keep = vec![];
        let mut by_position: Vec<(usize, Place)> = right
            .places
            .iter()
            .map(|(place, at)| (*at, *place))
            .collect();
        by_position.sort_unstable();
        for (position, place) in by_position {
            if position == right_key {
                places.insert(place, left_key);
            } else {
                keep.push(position);
                places.insert(place, next);
                next += 1;
            }
        }
        Joined {
            left: self.table,
            keep,
            places,
        }
    }
}

/// What a join is given, and where its columns will be.
pub(super) struct Joined {
    pub(super) left: SharedTable,
    pub(super) keep: Vec<usize>,
    pub(super) places: BTreeMap<Place, usize>,
}
