//! Tiny tables of which everything is known, and answers as text.

use crate::oracle::{Judgement, Oracle};
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::sync::Arc;
use veilgate_federated::catalog::Unit;

/// A column that has NULLs.
pub fn nullable(name: &str, values: &[Option<i64>]) -> (Field, ArrayRef) {
    let values = Int64Array::from(values.to_vec());
    (Field::new(name, values_type(), true), Arc::new(values))
}

pub fn numbers(name: &str, values: &[i64]) -> (Field, ArrayRef) {
    let values = Int64Array::from(values.to_vec());
    (Field::new(name, values_type(), false), Arc::new(values))
}

fn values_type() -> arrow::datatypes::DataType {
    arrow::datatypes::DataType::Int64
}

pub fn texts(name: &str, values: &[&str]) -> (Field, ArrayRef) {
    let field = Field::new(name, arrow::datatypes::DataType::Utf8, false);
    (field, Arc::new(StringArray::from(values.to_vec())))
}

fn truths(name: &str, values: &[bool]) -> (Field, ArrayRef) {
    let field = Field::new(name, arrow::datatypes::DataType::Boolean, false);
    (field, Arc::new(BooleanArray::from(values.to_vec())))
}

pub fn batch(columns: Vec<(Field, ArrayRef)>) -> RecordBatch {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

/// Six people of three cities: three of `a`, of whom the last has no `x`; one of `b`; two of `c`.
fn people() -> RecordBatch {
    batch(vec![
        numbers("id", &[1, 2, 3, 4, 5, 6]),
        texts("city", &["a", "a", "a", "b", "c", "c"]),
        nullable(
            "x",
            &[Some(10), Some(20), None, Some(40), Some(50), Some(60)],
        ),
        truths("flag", &[true, true, false, true, true, false]),
    ])
}

/// Visits of four of them, and one of somebody who is not known.
fn visits() -> RecordBatch {
    batch(vec![
        nullable(
            "person",
            &[Some(1), Some(1), Some(2), Some(4), Some(5), None],
        ),
        numbers("cost", &[5, 7, 9, 1, 2, 3]),
    ])
}

/// Public rates of two cities.
fn rates() -> RecordBatch {
    batch(vec![texts("code", &["a", "b"]), numbers("rate", &[2, 3])])
}

/// People of a second office: two of `a`, two of `d`.
fn others() -> RecordBatch {
    batch(vec![
        numbers("id", &[1, 7, 8, 9]),
        texts("city", &["a", "a", "d", "d"]),
    ])
}

/// Items without people: every row is a unit.
fn items() -> RecordBatch {
    batch(vec![
        texts("kind", &["m", "m", "m", "n"]),
        numbers("price", &[1, 2, 4, 8]),
    ])
}

/// The oracle of these tables; k of people and of visits, 2 of everything else.
pub fn world(people_k: u32, visits_k: u32) -> Oracle {
    let unit = |name: &str| Unit::Column(name.to_owned());
    let mut oracle = Oracle::new(vec![
        ("civil.p".to_owned(), people(), unit("id"), people_k),
        ("tax.v".to_owned(), visits(), unit("person"), visits_k),
        ("tax.rates".to_owned(), rates(), Unit::None, 9),
        ("north.p".to_owned(), others(), unit("id"), 2),
        ("trade.items".to_owned(), items(), Unit::Row, 2),
    ]);
    let declared = oracle.declare("trade.twice", &["trade.items", "trade.items"]);
    declared.unwrap();
    oracle
}

/// Rows as text.
pub fn rows(batch: &RecordBatch) -> Vec<String> {
    let options = FormatOptions::default().with_null("NULL");
    let formatters: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).unwrap())
        .collect();
    (0..batch.num_rows())
        .map(|row| {
            let cells = formatters.iter().map(|f| f.value(row).to_string());
            cells.collect::<Vec<_>>().join(" ")
        })
        .collect()
}

/// The units of each scan behind the groups with this first key.
pub fn behind(judgement: &Judgement, key: &str) -> Vec<usize> {
    let named = |group: &&crate::oracle::GroupVerdict| {
        group.keys.first().map_or("", |_| key) == key
            && group
                .keys
                .first()
                .is_none_or(|first| first.to_string() == key)
    };
    let group = judgement.groups.iter().find(named).unwrap();
    group.rows.iter().map(|(_, count)| *count).collect()
}

/// The units of each scan behind the cell `at` of the group with this first key.
pub fn of_cell(judgement: &Judgement, key: &str, at: usize) -> Vec<usize> {
    let named = |group: &&crate::oracle::GroupVerdict| {
        group
            .keys
            .first()
            .is_none_or(|first| first.to_string() == key)
    };
    let group = judgement.groups.iter().find(named).unwrap();
    let counts = group.cells[at].counts.iter();
    counts.map(|(_, count)| *count).collect()
}
