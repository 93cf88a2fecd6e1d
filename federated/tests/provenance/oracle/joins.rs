//! Joins of every kind, by looking at every pair of rows with equal keys.

use super::engine::Failure;
use super::evaluate::{Evaluator, Place, truths};
use super::relation::{Column, People, Relation};
use arrow::array::{ArrayRef, BooleanArray};
use datafusion::common::{NullEquality, ScalarValue};
use datafusion::logical_expr::logical_plan::builder::build_join_schema;
use datafusion::logical_expr::{Expr, Join, JoinType, LogicalPlan};
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

/// More pairs of rows than a test needs.
const MOST_PAIRS: usize = 400_000;

/// The two sides of a join, and which rows go together.
struct Sides {
    left: Relation,
    right: Relation,
    left_keys: Vec<Vec<ScalarValue>>,
    right_keys: Vec<Vec<ScalarValue>>,
    /// The scans of the right side, and of the left.
    right_scans: Vec<usize>,
    left_scans: Vec<usize>,
    pairs: Vec<(usize, usize)>,
}

impl Sides {
    /// The other way around.
    fn turned(self) -> Self {
        Self {
            left: self.right,
            right: self.left,
            left_keys: self.right_keys,
            right_keys: self.left_keys,
            right_scans: self.left_scans,
            left_scans: self.right_scans,
            pairs: self.pairs.into_iter().map(|(a, b)| (b, a)).collect(),
        }
    }

    /// The right rows that go with each left one.
    fn partners(&self) -> Vec<Vec<usize>> {
        let mut partners = vec![vec![]; self.left.rows()];
        for (left, right) in &self.pairs {
            partners[*left].push(*right);
        }
        partners
    }
}

impl Evaluator<'_> {
    pub fn join(&mut self, join: &Join, place: Place) -> Result<Relation, Failure> {
        let asks = |kind| {
            matches!(
                kind,
                JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark
            )
        };
        let asked = |kind| {
            matches!(
                kind,
                JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark
            )
        };
        let inside = Place {
            released: false,
            scalar: false,
        };
        let first = self.scans.len();
        let of_left = if asked(join.join_type) { inside } else { place };
        let left = self.step(&join.left, of_left)?;
        let left_scans = self.scans_since(first);
        let middle = self.scans.len();
        let of_right = if asks(join.join_type) { inside } else { place };
        let right = self.step(&join.right, of_right)?;
        let (on_left, on_right): (Vec<Expr>, Vec<Expr>) = join.on.iter().cloned().unzip();
        let mut sides = Sides {
            left_keys: left.keys(self.engine, &on_left)?,
            right_keys: right.keys(self.engine, &on_right)?,
            left,
            right,
            left_scans,
            right_scans: self.scans_since(middle),
            pairs: vec![],
        };
        sides.pairs = equal(&sides, join.null_equality)?;
        self.filter_pairs(join, &mut sides, place)?;
        self.loosen(join, &sides, place)?;
        match join.join_type {
            JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
                paired(join, &sides)
            }
            JoinType::LeftSemi | JoinType::LeftAnti | JoinType::LeftMark => {
                self.asked(join, &sides, &on_left)
            }
            JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark => {
                self.asked(join, &sides.turned(), &on_right)
            }
        }
    }

    /// Leaves the pairs for which the condition beside equality is true.
    fn filter_pairs(
        &mut self,
        join: &Join,
        sides: &mut Sides,
        place: Place,
    ) -> Result<(), Failure> {
        let Some(filter) = &join.filter else {
            return Ok(());
        };
        let both = beside(&sides.left, &sides.right, &sides.pairs)?;
        self.loose |= place.released && both.looks_at_cells(filter)?;
        let kept = truths(&both.evaluate(self.engine, filter)?)?;
        let pairs = sides.pairs.iter().zip(kept);
        sides.pairs = pairs
            .filter(|(_, kept)| *kept)
            .map(|(pair, _)| *pair)
            .collect();
        Ok(())
    }

    /// Says whether withholding groups on one side changes more than their own rows.
    fn loosen(&mut self, join: &Join, sides: &Sides, place: Place) -> Result<(), Failure> {
        if !place.released {
            return Ok(());
        }
        for (left, right) in &join.on {
            self.loose |= sides.left.looks_at_cells(left)?;
            self.loose |= sides.right.looks_at_cells(right)?;
        }
        let (left, right) = (scalar(&join.left), scalar(&join.right));
        let groups = |rows: &Relation, scalar: bool| !scalar && rows.has_groups();
        self.loose |= match join.join_type {
            JoinType::Left => groups(&sides.right, right),
            JoinType::Right => groups(&sides.left, left),
            JoinType::Full => groups(&sides.left, left) || groups(&sides.right, right),
            _ => false,
        };
        Ok(())
    }

    /// Semi, anti and mark joins: rows of the left side, for what is known of the right.
    fn asked(&mut self, join: &Join, sides: &Sides, on: &[Expr]) -> Result<Relation, Failure> {
        let partners = sides.partners();
        let absent = self.absent(join, sides, on)?;
        let anti = matches!(join.join_type, JoinType::LeftAnti | JoinType::RightAnti);
        let semi = matches!(join.join_type, JoinType::LeftSemi | JoinType::RightSemi);
        if join.null_aware && (join.filter.is_some() || on.len() != 1) {
            return Err("the oracle does not know NOT IN with a correlated condition".to_owned());
        }
        let null = |key: &Vec<ScalarValue>| key.iter().any(ScalarValue::is_null);
        let unknown = join.null_aware && sides.right_keys.iter().any(null);
        let mut result = sides.left.clone();
        for (row, found) in partners.iter().enumerate() {
            let behind = match found.is_empty() {
                true => Rc::clone(&absent[row]),
                false => Rc::new(People::all(found.iter().map(|at| &sides.right.people[*at]))),
            };
            result.people[row] = People::both(&result.people[row], &behind);
        }
        if anti {
            let fails = |row: usize| {
                let own = !sides.right_keys.is_empty() && null(&sides.left_keys[row]);
                join.null_aware && (unknown || own)
            };
            result = result.keep(|row| partners[row].is_empty() && !fails(row))?;
        } else if semi {
            result = result.keep(|row| !partners[row].is_empty())?;
        } else {
            let found: BooleanArray = partners
                .iter()
                .map(|found| Some(!found.is_empty()))
                .collect();
            let mark: ArrayRef = Arc::new(found);
            result.columns.push(Column::plain(mark));
        }
        result.schema = Arc::clone(&join.schema);
        Ok(result)
    }

    /// For each left row those whom it tells about if it has no partner: its own join keys, as a unit of
    /// every scan of the right side.
    fn absent(
        &mut self,
        join: &Join,
        sides: &Sides,
        on: &[Expr],
    ) -> Result<Vec<Rc<People>>, Failure> {
        let semi = matches!(join.join_type, JoinType::LeftSemi | JoinType::RightSemi);
        if semi {
            return Ok(vec![Rc::default(); sides.left.rows()]);
        }
        let guarded = sides.right_scans.iter().any(|scan| self.scans[*scan].k > 1);
        if on.is_empty() && guarded {
            return Err("the oracle does not know an anti join without equality".to_owned());
        }
        let mut absent = vec![];
        for key in &sides.left_keys {
            let mut people = People::default();
            if !key.iter().any(ScalarValue::is_null) && !on.is_empty() {
                let unit = self.unit(key.clone());
                for scan in &sides.right_scans {
                    people.add(&People::of(*scan, unit));
                }
            }
            absent.push(Rc::new(people));
        }
        Ok(absent)
    }
}

/// Whether a side is a scalar subquery, of which the rows always stay.
fn scalar(plan: &LogicalPlan) -> bool {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => alias.alias.table().starts_with("__scalar_sq"),
        LogicalPlan::Projection(step) => scalar(&step.input),
        _ => false,
    }
}

/// The pairs of rows with equal keys.
fn equal(sides: &Sides, nulls: NullEquality) -> Result<Vec<(usize, usize)>, Failure> {
    let mut at: HashMap<&Vec<ScalarValue>, Vec<usize>> = HashMap::new();
    for (row, key) in sides.right_keys.iter().enumerate() {
        at.entry(key).or_default().push(row);
    }
    let mut pairs = vec![];
    for (row, key) in sides.left_keys.iter().enumerate() {
        let null = key.iter().any(ScalarValue::is_null);
        if null && nulls == NullEquality::NullEqualsNothing {
            continue;
        }
        for other in at.get(key).into_iter().flatten() {
            pairs.push((row, *other));
        }
        if pairs.len() > MOST_PAIRS {
            return Err("a join of more rows than the oracle looks at".to_owned());
        }
    }
    Ok(pairs)
}

/// The rows of both sides side by side.
fn beside(
    left: &Relation,
    right: &Relation,
    pairs: &[(usize, usize)],
) -> Result<Relation, Failure> {
    let schema = build_join_schema(&left.schema, &right.schema, &JoinType::Inner);
    let some = |rows: Vec<usize>| rows.into_iter().map(Some).collect::<Vec<_>>();
    let (lefts, rights): (Vec<usize>, Vec<usize>) = pairs.iter().copied().unzip();
    let (left, right) = (left.take(&some(lefts))?, right.take(&some(rights))?);
    Ok(Relation {
        schema: Arc::new(schema.map_err(super::engine::failed)?),
        columns: [left.columns, right.columns].concat(),
        people: vec![Rc::default(); pairs.len()],
    })
}

/// Inner and outer joins.
fn paired(join: &Join, sides: &Sides) -> Result<Relation, Failure> {
    let mut pairs: Vec<(Option<usize>, Option<usize>)> = sides
        .pairs
        .iter()
        .map(|(left, right)| (Some(*left), Some(*right)))
        .collect();
    if matches!(join.join_type, JoinType::Left | JoinType::Full) {
        let found: BTreeSet<usize> = sides.pairs.iter().map(|pair| pair.0).collect();
        let alone = (0..sides.left.rows()).filter(|row| !found.contains(row));
        pairs.extend(alone.map(|row| (Some(row), None)));
    }
    if matches!(join.join_type, JoinType::Right | JoinType::Full) {
        let found: BTreeSet<usize> = sides.pairs.iter().map(|pair| pair.1).collect();
        let alone = (0..sides.right.rows()).filter(|row| !found.contains(row));
        pairs.extend(alone.map(|row| (None, Some(row))));
    }
    let (lefts, rights): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let (left, right) = (sides.left.take(&lefts)?, sides.right.take(&rights)?);
    let people = left.people.iter().zip(&right.people);
    Ok(Relation {
        schema: Arc::clone(&join.schema),
        people: people.map(|(a, b)| People::both(a, b)).collect(),
        columns: [left.columns, right.columns].concat(),
    })
}
