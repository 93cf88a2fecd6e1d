//! Compares an answer with what the oracle expects.

use super::engine::{Failure, failed};
use super::relation::Origin;
use super::verdict::{Judgement, Verdict};
use arrow::array::RecordBatch;
use arrow::compute::cast;
use datafusion::common::ScalarValue;
use std::collections::BTreeMap;

type Row = Vec<ScalarValue>;

pub fn compare(judgement: &Judgement, got: &RecordBatch, ordered: bool, limited: bool) -> Verdict {
    let rows = |batch: &RecordBatch| rows(batch, &judgement.expected);
    let all = (rows(&judgement.clear), rows(&judgement.expected), rows(got));
    let (clear, expected, got) = match all {
        (Ok(clear), Ok(expected), Ok(got)) => (clear, expected, got),
        (Err(what), ..) | (_, Err(what), _) | (.., Err(what)) => return Verdict::Differs(what),
    };
    if equal(&expected, &got, ordered) {
        return Verdict::Equal;
    }
    let judge = Judge {
        judgement,
        clear: &clear,
        expected: &expected,
        got: &got,
    };
    if let Some(verdict) = judge.by_groups() {
        return verdict;
    }
    if limited || judgement.loose {
        return Verdict::Undecided;
    }
    let verdict = judge.row_by_row();
    let checked = ordered && !judgement.loose_order;
    match verdict {
        Verdict::Stricter { rows: 0, cells: 0 } if checked => {
            Verdict::Differs("the rows are in another order".to_owned())
        }
        // All that can differ is the order, which withheld cells change.
        Verdict::Stricter { rows: 0, cells: 0 } => Verdict::Undecided,
        Verdict::Stricter { .. } if checked && !judge.in_order() => {
            Verdict::Differs("the rows are in another order".to_owned())
        }
        verdict => verdict,
    }
}

/// Rows as values of the types of another batch.
fn rows(batch: &RecordBatch, like: &RecordBatch) -> Result<Vec<Row>, Failure> {
    if batch.num_columns() != like.num_columns() {
        return Err(format!(
            "{} columns instead of {}",
            batch.num_columns(),
            like.num_columns()
        ));
    }
    let mut arrays = vec![];
    for (own, other) in batch.columns().iter().zip(like.columns()) {
        arrays.push(cast(own, other.data_type()).map_err(failed)?);
    }
    (0..batch.num_rows())
        .map(|row| super::relation::values(&arrays, row))
        .collect()
}

/// Whether two values are the same; floating point nearly.
pub fn same(a: &ScalarValue, b: &ScalarValue) -> bool {
    match (a, b) {
        (ScalarValue::Float64(Some(a)), ScalarValue::Float64(Some(b))) => {
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
        }
        _ => a == b,
    }
}

fn same_row(a: &Row, b: &Row) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
}

/// The same rows, in the same order or in any.
pub fn equal(a: &[Row], b: &[Row], ordered: bool) -> bool {
    if a.len() != b.len() {
        return false;
    }
    if ordered {
        return a.iter().zip(b).all(|(a, b)| same_row(a, b));
    }
    let mut rest: Vec<&Row> = b.iter().collect();
    a.iter().all(|row| {
        let found = rest.iter().position(|other| same_row(row, other));
        found.is_some_and(|at| {
            rest.swap_remove(at);
            true
        })
    })
}

struct Judge<'a> {
    judgement: &'a Judgement,
    clear: &'a [Row],
    expected: &'a [Row],
    got: &'a [Row],
}

/// The rows that have one key.
#[derive(Default)]
struct Bucket<'a> {
    clear: Vec<&'a Row>,
    expected: Vec<&'a Row>,
    got: Vec<&'a Row>,
}

impl<'a> Judge<'a> {
    /// Where the rows of the result are groups of one GROUP BY, each with its keys: what a row shows of a
    /// group that is withheld, whatever LIMIT and HAVING made of it.
    fn by_groups(&self) -> Option<Verdict> {
        let origins = &self.judgement.origins;
        let nodes = origins.iter().filter_map(|origin| match origin {
            Origin::Key { node, .. } | Origin::Cell { node, .. } => Some(*node),
            _ => None,
        });
        let mut nodes: Vec<usize> = nodes.collect();
        nodes.dedup();
        let [node] = nodes[..] else { return None };
        let groups = self
            .judgement
            .groups
            .iter()
            .filter(|group| group.node == node);
        let groups: Vec<_> = groups.collect();
        let width = groups.first()?.keys.len();
        let column = |wanted| origins.iter().position(|origin| *origin == wanted);
        let keys: Vec<usize> = (0..width)
            .map(|index| column(Origin::Key { node, index }))
            .collect::<Option<_>>()?;
        for row in self.got {
            if width > 0 && keys.iter().all(|at| row[*at].is_null()) {
                // Of an outer join without a partner, perhaps.
                continue;
            }
            let own = |group: &&super::verdict::GroupVerdict| {
                let mut pairs = keys.iter().zip(&group.keys);
                pairs.all(|(at, key)| same(&row[*at], key))
            };
            // What is there only because a subquery was not withheld is shown, too.
            let clear = self.judgement.clear_groups.iter();
            let clear = clear
                .filter(|group| group.node == node)
                .find(|group| own(group));
            let Some(group) = groups.iter().copied().find(|group| own(group)) else {
                return Some(match clear {
                    Some(_) => Verdict::Shows(format!("the row {row:?} of no group")),
                    None => self.unlike(format!("there is no group {row:?}")),
                });
            };
            if !group.shown && width > 0 {
                return Some(Verdict::Shows(format!("the row {row:?} of {group:?}")));
            }
            for (index, cell) in group.cells.iter().enumerate() {
                let Some(at) = column(Origin::Cell { node, index }) else {
                    continue;
                };
                let right = same(&row[at], &cell.value);
                if row[at].is_null() || (cell.shown && right) {
                    continue;
                }
                let open = clear.is_some_and(|group| same(&row[at], &group.cells[index].value));
                return Some(match right || open {
                    true => Verdict::Shows(format!("{cell:?} in the row {row:?}")),
                    false => self.unlike(format!("{cell:?} in the row {row:?}")),
                });
            }
        }
        None
    }

    /// Neither what is expected nor what is so in the clear: wrong, unless a subquery that is withheld more
    /// often than it has to be gives other numbers.
    fn unlike(&self, what: String) -> Verdict {
        match self.judgement.loose_values {
            true => Verdict::Undecided,
            false => Verdict::Differs(what),
        }
    }

    /// The columns by which a row is found.
    fn key(&self, row: &Row) -> Vec<ScalarValue> {
        let pairs = row.iter().zip(&self.judgement.origins);
        let keys = pairs.filter(|(_, origin)| !origin.looks_at_cells());
        keys.map(|(value, _)| value.clone()).collect()
    }

    fn buckets(&self) -> BTreeMap<String, Bucket<'a>> {
        let mut buckets: BTreeMap<String, Bucket<'a>> = BTreeMap::new();
        let name = |row: &Row| format!("{:?}", self.key(row));
        for row in self.clear {
            buckets.entry(name(row)).or_default().clear.push(row);
        }
        for row in self.expected {
            buckets.entry(name(row)).or_default().expected.push(row);
        }
        for row in self.got {
            buckets.entry(name(row)).or_default().got.push(row);
        }
        buckets
    }

    fn row_by_row(&self) -> Verdict {
        let (mut fewer_rows, mut fewer_cells) = (0, 0);
        let mut undecided = false;
        for bucket in self.buckets().values() {
            let verdict = match (bucket.clear.as_slice(), bucket.got.as_slice()) {
                ([clear], [] | [_]) => self.one(clear, bucket),
                _ => self.several(bucket),
            };
            match verdict {
                Verdict::Equal => {}
                Verdict::Stricter { rows, cells } => {
                    fewer_rows += rows;
                    fewer_cells += cells;
                }
                Verdict::Undecided => undecided = true,
                other => return other,
            }
        }
        match undecided {
            true => Verdict::Undecided,
            false => Verdict::Stricter {
                rows: fewer_rows,
                cells: fewer_cells,
            },
        }
    }

    /// One row in the clear.
    fn one(&self, clear: &Row, bucket: &Bucket<'_>) -> Verdict {
        let (due, got) = match (bucket.expected.first(), bucket.got.first()) {
            (None, None) => return Verdict::Equal,
            (None, Some(got)) => return Verdict::Shows(format!("the row {got:?}")),
            (Some(_), None) => return Verdict::Stricter { rows: 1, cells: 0 },
            (Some(due), Some(got)) => (due, got),
        };
        let mut cells = 0;
        for (at, value) in got.iter().enumerate() {
            if same(value, &due[at]) {
                continue;
            }
            match self.judgement.origins[at] {
                _ if same(value, &clear[at]) => {
                    return Verdict::Shows(format!("column {at} of the row {got:?}"));
                }
                Origin::Mixed => return Verdict::Undecided,
                _ if value.is_null() => cells += 1,
                _ => {
                    return self.unlike(format!(
                        "column {at} of the row {got:?}, in the clear {clear:?}"
                    ));
                }
            }
        }
        Verdict::Stricter { rows: 0, cells }
    }

    /// Several rows that look the same but for their cells.
    fn several(&self, bucket: &Bucket<'_>) -> Verdict {
        let mut due: Vec<&Row> = bucket.expected.clone();
        let mut open = vec![];
        for got in &bucket.got {
            match due.iter().position(|row| same_row(row, got)) {
                Some(at) => {
                    due.swap_remove(at);
                }
                None => open.push(*got),
            }
        }
        let missing = due.len().saturating_sub(open.len());
        if self.judgement.origins.contains(&Origin::Mixed) && !open.is_empty() {
            return Verdict::Undecided;
        }
        if let Some(pairs) = matched(&open, &due) {
            let cells = pairs.iter().map(|(got, due)| {
                let pairs = got.iter().zip(due.iter());
                pairs
                    .filter(|(got, due)| got.is_null() && !due.is_null())
                    .count()
            });
            return Verdict::Stricter {
                rows: missing,
                cells: cells.sum(),
            };
        }
        match matched(&bucket.got, &bucket.clear) {
            Some(_) => Verdict::Shows(format!("one of the rows {open:?}")),
            None => self.unlike(format!(
                "the rows {open:?}, in the clear {:?}",
                bucket.clear
            )),
        }
    }

    /// Whether the rows stand in the order of those that are expected.
    fn in_order(&self) -> bool {
        let mut due = self.expected.iter().map(|row| self.key(row));
        self.got.iter().all(|row| {
            let key = self.key(row);
            due.any(|other| same_row(&other, &key))
        })
    }
}

/// A row for each of these that shows all that it shows.
fn matched<'a>(of: &[&'a Row], to: &[&'a Row]) -> Option<Vec<(&'a Row, &'a Row)>> {
    let mut partner: Vec<Option<usize>> = vec![None; to.len()];
    for at in 0..of.len() {
        if !place(at, of, to, &mut partner, &mut vec![false; to.len()]) {
            return None;
        }
    }
    let pairs = partner.iter().enumerate();
    Some(
        pairs
            .filter_map(|(right, left)| left.map(|left| (of[left], to[right])))
            .collect(),
    )
}

/// Finds a partner for one row, moving others.
fn place(
    at: usize,
    of: &[&Row],
    to: &[&Row],
    partner: &mut Vec<Option<usize>>,
    tried: &mut Vec<bool>,
) -> bool {
    for right in 0..to.len() {
        let mut pairs = of[at].iter().zip(to[right].iter());
        let weaker = pairs.all(|(a, b)| a.is_null() || same(a, b));
        if !weaker || tried[right] {
            continue;
        }
        tried[right] = true;
        let other = partner[right];
        if other.is_none_or(|other| place(other, of, to, partner, tried)) {
            partner[right] = Some(at);
            return true;
        }
    }
    false
}
