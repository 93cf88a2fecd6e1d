//! What a plan uses each column of this department for, from fragment to release.

use super::Me;
use crate::error::{Code, Denial, Error, Result};
use crate::local::lineage::{Derivation, Form, FragmentLineage, RowExpression, released_use};
use crate::plan::validate::predicate_columns;
use crate::plan::{Cell, ColumnRef, Encoding, JointPlan, Operator, PartyIndex, ReleasedSource};
use crate::policy::{AggregateFunction, Use};
use std::collections::{BTreeMap, BTreeSet};

/// Columns by fragment and name.
type Columns = BTreeSet<(usize, String)>;

/// One use of one column of this department.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asked {
    pub(super) table: String,
    pub(super) column: String,
    pub(super) what: Use,
}

struct Collector<'a> {
    plan: &'a JointPlan,
    index: PartyIndex,
    me: &'a Me<'a>,
    lineages: &'a [FragmentLineage],
    asked: BTreeSet<Asked>,
    denials: &'a mut Vec<Denial>,
}

/// Collects every use. What can be no permitted use at all goes to `denials`.
pub(super) fn collect(
    plan: &JointPlan,
    index: PartyIndex,
    me: &Me<'_>,
    lineages: &[FragmentLineage],
    denials: &mut Vec<Denial>,
) -> Result<BTreeSet<Asked>> {
    let mut collector = Collector {
        plan,
        index,
        me,
        lineages,
        asked: BTreeSet::new(),
        denials,
    };
    collector.fragments();
    for operator in &plan.operators {
        match operator {
            Operator::Filter { predicate, .. } => {
                let mut columns = BTreeSet::new();
                predicate_columns(predicate, &mut columns);
                for at in columns {
                    collector.compared(at);
                }
            }
            Operator::Aggregate { keys, cells, .. } => {
                for key in keys {
                    collector.group_key(*key);
                }
                for cell in cells {
                    collector.cell(cell);
                }
            }
            Operator::Input { .. }
            | Operator::Align { .. }
            | Operator::Join { .. }
            | Operator::Program(_) => {}
        }
    }
    collector.release()?;
    Ok(collector.asked)
}

impl Collector<'_> {
    fn mine(&self, at: ColumnRef) -> bool {
        self.plan.fragments[at.fragment].owner == self.index
    }

    fn derivation(&self, at: ColumnRef) -> &Derivation {
        &self.lineages[at.fragment].outputs[at.column]
    }

    fn add<'c>(
        &mut self,
        fragment: usize,
        columns: impl IntoIterator<Item = &'c String>,
        what: &Use,
    ) {
        let table = &self.lineages[fragment].table;
        for column in columns {
            self.asked.insert(Asked {
                table: table.clone(),
                column: column.clone(),
                what: what.clone(),
            });
        }
    }

    fn refuse(&mut self, at: ColumnRef, asked: &str, alternative: &str) {
        let lineage = &self.lineages[at.fragment];
        let column = lineage.outputs[at.column]
            .columns()
            .and_then(BTreeSet::first)
            .map_or_else(String::new, |column| {
                let owner = self.plan.fragments[at.fragment].owner;
                let department = &self.plan.parties[owner].department;
                format!("{department}.{}.{column}", lineage.table)
            });
        self.denials.push(Denial {
            department: self.me.department.to_owned(),
            rule: "uses: columns, and sums of linear forms".to_owned(),
            column,
            asked: asked.to_owned(),
            alternative: alternative.to_owned(),
        });
    }

    /// The columns of any owner that conditions, and that group keys depend on.
    fn conditions(&self) -> (Columns, Columns) {
        let mut filters = Columns::new();
        let mut groups = Columns::new();
        for (position, lineage) in self.lineages.iter().enumerate() {
            filters.extend(lineage.filtered.iter().map(|name| (position, name.clone())));
        }
        let behind = |at: ColumnRef| {
            let columns = self.derivation(at).columns().into_iter().flatten();
            columns.map(move |name| (at.fragment, name.clone()))
        };
        for operator in &self.plan.operators {
            match operator {
                Operator::Filter { predicate, .. } => {
                    let mut compared = BTreeSet::new();
                    predicate_columns(predicate, &mut compared);
                    filters.extend(compared.into_iter().flat_map(behind));
                }
                Operator::Program(_) => {}
                Operator::Aggregate { keys, .. } => {
                    groups.extend(keys.iter().copied().flat_map(behind));
                }
                Operator::Input { .. } | Operator::Align { .. } | Operator::Join { .. } => {}
            }
        }
        (filters, groups)
    }

    /// Adds the join keys that are equal to a column in the set, however many joins away.
    fn spread(&self, mut columns: Columns) -> Columns {
        // Each key column: its class, its place in a composite key, and what it is.
        let mut keys: Vec<((u32, usize), (usize, String))> = Vec::new();
        for (position, fragment) in self.plan.fragments.iter().enumerate() {
            let mut places: BTreeMap<u32, usize> = BTreeMap::new();
            for (column, of) in fragment.columns.iter().enumerate() {
                let Encoding::KeyTag { class, .. } = of.encoding else {
                    continue;
                };
                let place = places.entry(class).or_default();
                if let Some(name) = self.lineages[position].outputs[column].as_column() {
                    keys.push(((class, *place), (position, name.to_owned())));
                }
                *place += 1;
            }
        }
        loop {
            let known = columns.len();
            let classes: BTreeSet<(u32, usize)> = keys
                .iter()
                .filter(|(_, column)| columns.contains(column))
                .map(|(class, _)| *class)
                .collect();
            let equal = keys.iter().filter(|(class, _)| classes.contains(class));
            columns.extend(equal.map(|(_, column)| column.clone()));
            if columns.len() == known {
                return columns;
            }
        }
    }

    /// Conditions and keys of fragments. A condition that another owner puts on a join key, and
    /// groups by it, are uses of the key that it is equal to, too.
    fn fragments(&mut self) {
        let lineages = self.lineages;
        let (filters, groups) = self.conditions();
        let filtered = self.spread(filters);
        let grouped = self.spread(groups);
        for (position, fragment) in self.plan.fragments.iter().enumerate() {
            if fragment.owner != self.index {
                continue;
            }
            let lineage = &lineages[position];
            let mut keys = BTreeSet::new();
            for (column, of) in fragment.columns.iter().enumerate() {
                let Encoding::KeyTag { .. } = of.encoding else {
                    continue;
                };
                let at = ColumnRef {
                    fragment: position,
                    column,
                };
                let Some(name) = lineage.outputs[column].as_column() else {
                    self.refuse(
                        at,
                        "a join key that is computed",
                        "a join on the column itself",
                    );
                    continue;
                };
                let name = name.to_owned();
                self.add(position, [&name], &Use::JoinKey);
                if filtered.contains(&(position, name.clone())) {
                    self.add(position, [&name], &Use::Filter);
                }
                if grouped.contains(&(position, name.clone())) {
                    self.add(position, [&name], &Use::GroupKey);
                }
                keys.insert(name);
            }
            self.add(position, &lineage.filtered, &Use::Filter);
            let dropped: Vec<_> = lineage.not_null.difference(&keys).collect();
            self.add(position, dropped, &Use::Filter);
        }
    }

    fn compared(&mut self, at: ColumnRef) {
        if !self.mine(at) {
            return;
        }
        match self.derivation(at).clone() {
            Derivation::Row(of) => self.add(at.fragment, &of.columns, &Use::Filter),
            _ => self.refuse(
                at,
                "a condition on an aggregate before the release",
                "HAVING on the released aggregate",
            ),
        }
    }

    fn group_key(&mut self, at: ColumnRef) {
        if !self.mine(at) {
            return;
        }
        match self.derivation(at).as_column().map(str::to_owned) {
            Some(name) => self.add(at.fragment, [&name], &Use::GroupKey),
            None => self.refuse(
                at,
                "groups by something that is computed",
                "groups by the column itself",
            ),
        }
    }

    /// What a sum or count may be over: a column, or a public linear form.
    fn argument(&mut self, at: ColumnRef, of: &RowExpression, function: AggregateFunction) {
        let what = Use::Aggregate(function);
        if matches!(of.form, Form::Column | Form::Linear) {
            self.add(at.fragment, &of.columns, &what);
        } else {
            self.refuse(
                at,
                &format!("{what} of an expression that is neither a column nor linear"),
                "an aggregate of the column, or of columns added and multiplied by literals of \
                 at most 6 digits",
            );
        }
    }

    fn cell(&mut self, cell: &Cell) {
        let mut counted = None;
        for weight in &cell.weights {
            match self.derivation(*weight).clone() {
                Derivation::CountRows => {}
                Derivation::Count(of) if cell.sum.is_none() && counted.is_none() => {
                    if self.mine(*weight) {
                        self.argument(*weight, &of, AggregateFunction::Count);
                    }
                    counted = Some((*weight, of));
                }
                _ => self.refuse(
                    *weight,
                    "a number that multiplies an aggregate and is no count of rows",
                    "COUNT(*) of a grouped fragment",
                ),
            }
        }
        if let Some(sum) = cell.sum {
            self.sum(cell, sum);
        } else if let Some(argument) = cell.argument
            && self.mine(argument)
        {
            match self.derivation(argument).clone() {
                Derivation::Row(of) if counted.is_none() => {
                    self.argument(argument, &of, AggregateFunction::Count);
                }
                Derivation::CountOrNull(of) | Derivation::Sum(of)
                    if counted.as_ref().is_some_and(|(weight, by)| {
                        weight.fragment == argument.fragment && by.columns == of.columns
                    }) =>
                {
                    self.argument(argument, &of, AggregateFunction::Count);
                }
                _ => self.refuse(
                    argument,
                    "a count over rows that another column selects",
                    "COUNT of the column itself",
                ),
            }
        }
        if let (Some((weight, _)), None) = (&counted, cell.argument)
            && self.mine(*weight)
        {
            self.refuse(
                *weight,
                "a count of a column that is guarded by all rows",
                "the same, guarded by the rows where the column is not NULL",
            );
        }
    }

    fn sum(&mut self, cell: &Cell, sum: ColumnRef) {
        if cell.argument.is_some_and(|argument| argument != sum)
            && (self.mine(sum) || cell.argument.is_some_and(|argument| self.mine(argument)))
        {
            self.refuse(
                if self.mine(sum) {
                    sum
                } else {
                    cell.argument.unwrap_or(sum)
                },
                "a sum over rows that another column selects",
                "SUM of the column itself",
            );
        }
        if !self.mine(sum) {
            return;
        }
        let weighted = cell.weights.iter().any(|of| of.fragment == sum.fragment);
        match self.derivation(sum).clone() {
            Derivation::Row(of) => self.argument(sum, &of, AggregateFunction::Sum),
            Derivation::Sum(of) if !weighted => {
                self.argument(sum, &of, AggregateFunction::Sum);
            }
            _ => self.refuse(
                sum,
                "a sum of counts, or of sums multiplied by counts",
                "SUM of the column itself",
            ),
        }
    }

    /// Columns of this department behind a cell, by fragment.
    fn behind(&self, cell: &Cell) -> Vec<(usize, BTreeSet<String>)> {
        cell.sum
            .iter()
            .chain(&cell.argument)
            .chain(&cell.weights)
            .filter(|at| self.mine(**at))
            .filter_map(|at| Some((at.fragment, self.derivation(*at).columns()?.clone())))
            .collect()
    }

    fn release(&mut self) -> Result<()> {
        let release = &self.plan.release;
        let Some(Operator::Aggregate { cells, .. }) = self.plan.operators.get(release.input) else {
            return Err(Error::new(
                Code::PeerMisbehaved,
                "the release is not of the aggregate",
            ));
        };
        let used = released_use(&release.sql).map_err(|not| {
            Error::new(
                Code::PeerMisbehaved,
                format!("the release has {}", not.construct),
            )
            .at(self.me.home)
        })?;
        let of_column = |position: &usize| match release.columns.get(*position).map(|of| of.source)
        {
            Some(ReleasedSource::Cell(cell)) => Ok(vec![cell]),
            Some(ReleasedSource::Average { sum, count }) => Ok(vec![sum, count]),
            // A released key may be looked at and sorted by.
            Some(ReleasedSource::Key(_) | ReleasedSource::Opened(_)) => Ok(Vec::new()),
            None => Err(Error::new(
                Code::PeerMisbehaved,
                "the release names a column that is not released",
            )
            .at(self.me.home)),
        };
        for position in &used.shown {
            of_column(position)?;
        }
        for (positions, what) in [(&used.conditions, Use::Having), (&used.order, Use::SortKey)] {
            for position in positions {
                for cell in of_column(position)? {
                    for (fragment, columns) in self.behind(&cells[cell]) {
                        self.add(fragment, &columns, &what);
                    }
                }
            }
        }
        for column in &release.columns {
            let ReleasedSource::Average { sum, .. } = column.source else {
                continue;
            };
            // Both parts are opened to the result party.
            for (fragment, columns) in self.behind(&cells[sum]) {
                for function in [
                    AggregateFunction::Avg,
                    AggregateFunction::Sum,
                    AggregateFunction::Count,
                ] {
                    self.add(fragment, &columns, &Use::Aggregate(function));
                }
            }
        }
        Ok(())
    }
}
