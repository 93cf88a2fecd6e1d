//! Random tables: what is stored (dirty), and what it means (clean), made side by side.

use arrow::array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{Field, Schema};
use std::collections::BTreeMap;
use std::sync::Arc;
use veilgate_federated::catalog::{Canonical, Column, Format, Table, Unit};
use veilgate_federated::schema::ScalarType;

/// A small generator with a printed seed (SplitMix64, Steele et al., OOPSLA 2014).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `low..=high`.
    pub fn range(&mut self, low: i64, high: i64) -> i64 {
        let span = (high - low) as u64 + 1;
        low + (self.next() % span) as i64
    }

    pub fn index(&mut self, length: usize) -> usize {
        (self.next() % length as u64) as usize
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.index(of.len())]
    }

    pub fn shuffle<T>(&mut self, of: &mut [T]) {
        for last in (1..of.len()).rev() {
            of.swap(last, self.index(last + 1));
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Int(i64),
    Decimal(i128),
    Date(i32),
    Timestamp(i64),
    Bool(bool),
    Text(String),
}

/// A column with its clean values; `dirty` says whether stored text differs from them.
#[derive(Clone)]
pub struct RandomColumn {
    pub spec: Column,
    pub values: Vec<Option<Value>>,
    pub dirty: bool,
}

#[derive(Clone)]
pub struct RandomTable {
    pub department: String,
    pub columns: Vec<RandomColumn>,
    pub rows: usize,
    pub unique: bool,
    pub unit: Unit,
    pub k: u32,
    pub format: Format,
}

/// What the tables of one case have in common.
pub struct Shape {
    pub key_type: ScalarType,
    pub composite: bool,
    pub ids: i64,
}

impl Shape {
    pub fn random(dice: &mut Dice) -> Self {
        let key_type = match dice.index(6) {
            0 => ScalarType::Date,
            3 => ScalarType::Timestamp,
            1 => ScalarType::Decimal {
                precision: 8,
                scale: 2,
            },
            2 => ScalarType::Int64,
            _ => ScalarType::Utf8,
        };
        Self {
            key_type,
            composite: dice.chance(15),
            ids: dice.range(3, 50),
        }
    }

    fn id(&self, number: i64) -> Value {
        match self.key_type {
            ScalarType::Utf8 => Value::Text(format!("ID{number:03}X")),
            ScalarType::Date => Value::Date((number * 37 - 400) as i32),
            ScalarType::Timestamp => Value::Timestamp(number * 86_399_000_001 - 400_000_000_000),
            ScalarType::Decimal { .. } => Value::Decimal(i128::from(number) * 25 - 300),
            _ => Value::Int(number * 1_000_003 - 7),
        }
    }
}

const CODES: [&str; 5] = ["east", "north", "south", "west", "zone five"];
const TEXTS: [&str; 7] = ["a", "ab", "abc", "b", "é", "中文", "zz top"];

fn column(name: &str, data_type: ScalarType, nullable: bool) -> Column {
    Column {
        name: name.to_owned(),
        data_type,
        nullable,
        description: String::new(),
        canonical: vec![],
        max_bytes: 0,
        codes: vec![],
        max_distinct: 0,
        max_abs: 0,
        max_repeats: 0,
        fixed_point: false,
    }
}

impl RandomTable {
    pub fn random(dice: &mut Dice, shape: &Shape, department: &str, unique: bool) -> Self {
        let rows = match dice.index(6) {
            0 => dice.index(3),
            _ => dice.index(61),
        };
        let mut table = Self {
            department: department.to_owned(),
            columns: vec![],
            rows: 0,
            unique,
            unit: Unit::None,
            k: dice.range(1, 4) as u32,
            format: if dice.chance(30) {
                Format::Csv
            } else {
                Format::Parquet
            },
        };
        table.add_keys(dice, shape, rows);
        table.add_payload(dice);
        table.unit = match dice.index(10) {
            0 => Unit::None,
            1 => Unit::Row,
            2..=4 => Unit::Column("person".to_owned()),
            _ => Unit::Column("id".to_owned()),
        };
        table
    }

    /// Declares how often a value of the first column is there, where that is seldom enough.
    pub fn declare_repeats(&mut self) {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for value in self.columns[0].values.iter().flatten() {
            *counts.entry(format!("{value:?}")).or_default() += 1;
        }
        let most = counts.into_values().max().unwrap_or(1);
        self.columns[0].spec.max_repeats = if most <= 8 { most } else { 0 };
    }

    fn add_keys(&mut self, dice: &mut Dice, shape: &Shape, rows: usize) {
        let mut ids: Vec<(Option<Value>, Value)> = (0..rows)
            .map(|_| {
                let id = shape.id(dice.range(0, shape.ids));
                (Some(id), Value::Int(dice.range(0, 2)))
            })
            .collect();
        if self.unique {
            let mut seen = vec![];
            ids.retain(|(id, part)| {
                let key = (id.clone(), shape.composite.then(|| part.clone()));
                let fresh = !seen.contains(&key);
                seen.push(key);
                fresh
            });
        }
        let nullable = !self.unique && dice.chance(40);
        if nullable {
            for (id, _) in &mut ids {
                if dice.chance(10) {
                    *id = None;
                }
            }
        }
        self.rows = ids.len();
        let mut spec = column("id", shape.key_type, nullable);
        let dirty = shape.key_type == ScalarType::Utf8;
        if dirty {
            spec.canonical = vec![Canonical::Nfc, Canonical::Trim, Canonical::Upper];
        }
        let (ids, parts): (Vec<_>, Vec<_>) = ids.into_iter().unzip();
        self.columns.push(RandomColumn {
            spec,
            values: ids,
            dirty,
        });
        if shape.composite {
            self.columns.push(RandomColumn {
                spec: column("part", ScalarType::Int64, false),
                values: parts.into_iter().map(Some).collect(),
                dirty: false,
            });
        }
    }

    fn add_payload(&mut self, dice: &mut Dice) {
        let decimal = |precision, scale| ScalarType::Decimal { precision, scale };
        self.add(dice, "person", ScalarType::Utf8, |dice, spec| {
            spec.canonical = vec![Canonical::Lower];
            Value::Text(format!("p{}", dice.range(0, 25)))
        });
        self.add(dice, "x", ScalarType::Int64, |dice, spec| {
            spec.max_abs = 20;
            Value::Int(dice.range(-20, 20))
        });
        self.add(dice, "big", ScalarType::Int64, |dice, _| {
            Value::Int(*dice.pick(&[i64::MIN, i64::MAX, 0, -1, 1 << 40]))
        });
        self.add(dice, "amount", decimal(14, 2), |dice, _| {
            let large = dice.chance(10);
            let most = if large { 99_999_999_999_999 } else { 500_000 };
            Value::Decimal(i128::from(dice.range(-most, most)))
        });
        self.add(dice, "wide", decimal(25, 3), |dice, _| {
            let low = i128::from(dice.range(-1_000_000, 1_000_000));
            Value::Decimal(if dice.chance(20) {
                low * 1_000_000_000_000_000_000
            } else {
                low
            })
        });
        self.add(dice, "day", ScalarType::Date, |dice, _| {
            Value::Date(dice.range(-20_000, 20_000) as i32 / 2_000 * 1_500)
        });
        self.add(dice, "at", ScalarType::Timestamp, |dice, _| {
            // Few days, a few times of each, some of them before 1970.
            let day = dice.range(-9, 9) * 700 * 86_400_000_000;
            Value::Timestamp(day + *dice.pick(&[0, 1, 45_296_789_000, 86_399_999_999]))
        });
        self.add(dice, "flag", ScalarType::Bool, |dice, _| {
            Value::Bool(dice.chance(50))
        });
        self.add(dice, "code", ScalarType::Utf8, |dice, spec| {
            spec.codes = CODES.iter().map(|&code| code.to_owned()).collect();
            Value::Text((*dice.pick(&CODES)).to_owned())
        });
        self.add(dice, "text", ScalarType::Utf8, |dice, spec| {
            spec.max_bytes = 8;
            Value::Text((*dice.pick(&TEXTS)).to_owned())
        });
    }

    fn add(
        &mut self,
        dice: &mut Dice,
        name: &str,
        data_type: ScalarType,
        mut value: impl FnMut(&mut Dice, &mut Column) -> Value,
    ) {
        let nullable = dice.chance(60);
        let mut spec = column(name, data_type, nullable);
        // Once, so that the bounds are declared for an empty table too.
        value(dice, &mut spec);
        let values = (0..self.rows)
            .map(|_| {
                let value = value(dice, &mut spec);
                (!nullable || !dice.chance(20)).then_some(value)
            })
            .collect();
        let dirty = !spec.canonical.is_empty();
        self.columns.push(RandomColumn {
            spec,
            values,
            dirty,
        });
    }

    /// The same rows in the hands of several departments; some of them may have none.
    pub fn split(&self, dice: &mut Dice, departments: &[&str]) -> Vec<Self> {
        let all = dice.chance(25).then(|| dice.index(departments.len()));
        let owner: Vec<usize> = (0..self.rows)
            .map(|_| all.unwrap_or_else(|| dice.index(departments.len())))
            .collect();
        let part = |(at, name): (usize, &&str)| {
            let columns = self.columns.iter().map(|column| {
                let values = column.values.iter().zip(&owner);
                RandomColumn {
                    values: values
                        .filter(|(_, owner)| **owner == at)
                        .map(|(value, _)| value.clone())
                        .collect(),
                    ..column.clone()
                }
            });
            Self {
                department: (*name).to_owned(),
                columns: columns.collect(),
                rows: owner.iter().filter(|owner| **owner == at).count(),
                ..self.clone()
            }
        };
        departments.iter().enumerate().map(part).collect()
    }

    /// What the department publishes.
    pub fn published(&self) -> Table {
        let composite = self.columns.iter().any(|c| c.spec.name == "part");
        let mut key = vec![];
        if self.unique {
            key.push("id".to_owned());
            if composite {
                key.push("part".to_owned());
            }
        }
        Table {
            name: "t".to_owned(),
            description: String::new(),
            key,
            unit: self.unit.clone(),
            max_rows: 64,
            columns: self.columns.iter().map(|c| c.spec.clone()).collect(),
        }
    }

    /// What its files hold.
    pub fn stored(&self, dice: &mut Dice) -> RecordBatch {
        let columns = self.columns.iter().map(|column| {
            let values = column.values.iter().map(|value| match value {
                Some(Value::Text(text)) if column.dirty => {
                    Some(Value::Text(soiled(text, &column.spec, dice)))
                }
                other => other.clone(),
            });
            (column.spec.clone(), values.collect::<Vec<_>>())
        });
        batch(columns.collect())
    }

    /// What they mean, with a column `rowid` that no department has.
    pub fn clean(&self) -> RecordBatch {
        let mut columns: Vec<_> = self
            .columns
            .iter()
            .map(|column| (column.spec.clone(), column.values.clone()))
            .collect();
        let rowids = (0..self.rows).map(|row| Some(Value::Int(row as i64)));
        columns.push((column("rowid", ScalarType::Int64, false), rowids.collect()));
        batch(columns)
    }
}

/// The same text before canonicalisation.
fn soiled(text: &str, spec: &Column, dice: &mut Dice) -> String {
    let mut text = text.to_owned();
    if spec.canonical.contains(&Canonical::Upper) && dice.chance(50) {
        text = text.to_lowercase();
    }
    if spec.canonical.contains(&Canonical::Lower) && dice.chance(50) {
        text = text.to_uppercase();
    }
    if spec.canonical.contains(&Canonical::Trim) {
        if dice.chance(30) {
            text.insert(0, ' ');
        }
        if dice.chance(30) {
            text.push_str("  ");
        }
    }
    text
}

fn batch(columns: Vec<(Column, Vec<Option<Value>>)>) -> RecordBatch {
    let mut fields = vec![];
    let mut arrays: Vec<ArrayRef> = vec![];
    for (spec, values) in columns {
        fields.push(Field::new(
            &spec.name,
            spec.data_type.to_arrow(),
            spec.nullable,
        ));
        arrays.push(array(spec.data_type, &values));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn array(data_type: ScalarType, values: &[Option<Value>]) -> ArrayRef {
    macro_rules! collect {
        ($variant:ident, $array:ty) => {
            Arc::new(
                values
                    .iter()
                    .map(|value| match value {
                        Some(Value::$variant(value)) => Some(value.clone()),
                        _ => None,
                    })
                    .collect::<$array>(),
            )
        };
    }
    match data_type {
        ScalarType::Int64 => collect!(Int, Int64Array),
        ScalarType::Date => collect!(Date, Date32Array),
        ScalarType::Timestamp => collect!(Timestamp, TimestampMicrosecondArray),
        ScalarType::Bool => collect!(Bool, BooleanArray),
        ScalarType::Utf8 => collect!(Text, StringArray),
        ScalarType::Decimal { precision, scale } => {
            let array: Decimal128Array = values
                .iter()
                .map(|value| match value {
                    Some(Value::Decimal(value)) => Some(*value),
                    _ => None,
                })
                .collect();
            Arc::new(
                array
                    .with_precision_and_scale(precision, scale as i8)
                    .unwrap(),
            )
        }
        ScalarType::Float64 => unreachable!("no table holds floating point"),
    }
}
