//! Joint plans run in the clear, operator by operator: what a plan means, without shares and
//! without guards.

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::{Field, Schema};
use datafusion::common::ScalarValue;
use datafusion::datasource::MemTable;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use veilgate_federated::local::clear_session;
use veilgate_federated::plan::{
    Cell, ColumnRef, Comparator, Encoding, JointPlan, Operator, Predicate, ReleasedSource,
    UnitCount,
};
use veilgate_federated::schema::ScalarType;

pub(crate) type Rows = Vec<Vec<ScalarValue>>;

/// A table of one department.
pub(crate) struct Data {
    pub(crate) department: String,
    pub(crate) name: String,
    pub(crate) batch: RecordBatch,
}

/// Runs SQL over these tables; `schema` names a department, or every table is bare.
pub(crate) fn run(sql: &str, tables: &[(String, RecordBatch)]) -> (Rows, Arc<Schema>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let context = clear_session();
        for (name, batch) in tables {
            if let Some((department, _)) = name.split_once('.') {
                let _ = context
                    .sql(&format!("CREATE SCHEMA IF NOT EXISTS {department}"))
                    .await
                    .unwrap();
            }
            let table = MemTable::try_new(batch.schema(), vec![vec![batch.clone()]]).unwrap();
            context
                .register_table(name.as_str(), Arc::new(table))
                .unwrap();
        }
        let frame = context
            .sql(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let batches = frame
            .collect()
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        let mut rows = Vec::new();
        for batch in batches {
            for row in 0..batch.num_rows() {
                rows.push(
                    batch
                        .columns()
                        .iter()
                        .map(|column| ScalarValue::try_from_array(column, row).unwrap())
                        .collect(),
                );
            }
        }
        (rows, schema)
    })
}

/// A joined row: for each fragment in it, the position of its row.
type Joined = BTreeMap<usize, usize>;

pub(crate) struct Clear<'a> {
    plan: &'a JointPlan,
    fragments: Vec<Rows>,
}

/// What the aggregate makes of one group.
pub(crate) struct Group {
    pub(crate) keys: Vec<ScalarValue>,
    pub(crate) cells: Vec<Option<i128>>,
    pub(crate) units: Vec<usize>,
}

impl<'a> Clear<'a> {
    pub(crate) fn new(plan: &'a JointPlan, data: &[Data]) -> Self {
        let fragments = plan
            .fragments
            .iter()
            .map(|fragment| {
                let owner = &plan.parties[fragment.owner].department;
                let own: Vec<_> = data
                    .iter()
                    .filter(|table| table.department == *owner)
                    .map(|table| (table.name.clone(), table.batch.clone()))
                    .collect();
                let (rows, schema) = run(&fragment.sql, &own);
                for (field, column) in schema.fields().iter().zip(&fragment.columns) {
                    assert_eq!(
                        *field.data_type(),
                        column.data_type.to_arrow(),
                        "{}",
                        fragment.sql
                    );
                    assert_eq!(field.is_nullable(), column.nullable, "{}", fragment.sql);
                }
                for row in &rows {
                    for (value, column) in row.iter().zip(&fragment.columns) {
                        fits(value, &column.encoding, &fragment.sql);
                    }
                }
                rows
            })
            .collect();
        Self { plan, fragments }
    }

    fn value(&self, row: &Joined, at: ColumnRef) -> &ScalarValue {
        &self.fragments[at.fragment][row[&at.fragment]][at.column]
    }

    fn key(&self, fragment: usize, row: usize, class: u32) -> Vec<ScalarValue> {
        self.plan.fragments[fragment]
            .columns
            .iter()
            .zip(&self.fragments[fragment][row])
            .filter(|(column, _)| {
                matches!(column.encoding, Encoding::KeyTag { class: c, .. } if c == class)
            })
            .map(|(_, value)| {
                assert!(!value.is_null(), "a NULL key left its owner");
                value.clone()
            })
            .collect()
    }

    fn unique(&self, fragment: usize, class: u32) -> Vec<(Vec<ScalarValue>, usize)> {
        let mut keys: Vec<(Vec<ScalarValue>, usize)> = Vec::new();
        for row in 0..self.fragments[fragment].len() {
            let key = self.key(fragment, row, class);
            assert!(
                !keys.iter().any(|(known, _)| *known == key),
                "a duplicate key"
            );
            keys.push((key, row));
        }
        keys
    }

    /// The groups of the plan, in the order of their first row.
    pub(crate) fn groups(&self) -> Vec<Group> {
        let mut relations: Vec<Vec<Joined>> = Vec::new();
        for operator in &self.plan.operators {
            let made = match operator {
                Operator::Program(_) => panic!("a program is run by another test"),
                Operator::Input { fragment } => (0..self.fragments[*fragment].len())
                    .map(|row| Joined::from([(*fragment, row)]))
                    .collect(),
                Operator::Align {
                    fragments, class, ..
                } => {
                    let sides: Vec<_> = fragments.iter().map(|f| self.unique(*f, *class)).collect();
                    sides[0]
                        .iter()
                        .filter_map(|(key, _)| {
                            fragments
                                .iter()
                                .zip(&sides)
                                .map(|(fragment, side)| {
                                    let (_, row) = side.iter().find(|(known, _)| known == key)?;
                                    Some((*fragment, *row))
                                })
                                .collect()
                        })
                        .collect()
                }
                Operator::Join {
                    left,
                    right,
                    left_key,
                    right_key,
                } => {
                    let Encoding::KeyTag { class, .. } =
                        self.plan.fragments[right_key.fragment].columns[right_key.column].encoding
                    else {
                        panic!("a join without a tag")
                    };
                    assert_eq!(
                        relations[*right].len(),
                        self.fragments[right_key.fragment].len()
                    );
                    let side = self.unique(right_key.fragment, class);
                    relations[*left]
                        .iter()
                        .filter_map(|row| {
                            let key = self.key(left_key.fragment, row[&left_key.fragment], class);
                            let (_, other) = side.iter().find(|(known, _)| *known == key)?;
                            let mut joined = row.clone();
                            joined.insert(right_key.fragment, *other);
                            Some(joined)
                        })
                        .collect()
                }
                Operator::Filter { input, predicate } => relations[*input]
                    .iter()
                    .filter(|row| self.holds(row, predicate))
                    .cloned()
                    .collect(),
                Operator::Aggregate {
                    input,
                    keys,
                    cells,
                    units,
                } => return self.aggregate(&relations[*input], keys, cells, units),
            };
            relations.push(made);
        }
        panic!("a plan without an aggregate")
    }

    fn holds(&self, row: &Joined, predicate: &Predicate) -> bool {
        match predicate {
            Predicate::Compare {
                comparator,
                left,
                right,
            } => {
                let (left, right) = (self.value(row, *left), self.value(row, *right));
                if left.is_null() || right.is_null() {
                    return false;
                }
                let order = left.partial_cmp(right).unwrap();
                match comparator {
                    Comparator::Equal => order.is_eq(),
                    Comparator::NotEqual => order.is_ne(),
                    Comparator::Less => order.is_lt(),
                    Comparator::LessEqual => order.is_le(),
                    Comparator::Greater => order.is_gt(),
                    Comparator::GreaterEqual => order.is_ge(),
                }
            }
            Predicate::Flag(at) => *self.value(row, *at) == ScalarValue::Boolean(Some(true)),
            Predicate::All(items) => items.iter().all(|item| self.holds(row, item)),
            Predicate::Any(items) => items.iter().any(|item| self.holds(row, item)),
        }
    }

    fn aggregate(
        &self,
        rows: &[Joined],
        keys: &[ColumnRef],
        cells: &[Cell],
        units: &[UnitCount],
    ) -> Vec<Group> {
        let mut groups: Vec<(Vec<ScalarValue>, Vec<&Joined>)> = Vec::new();
        if keys.is_empty() {
            groups.push((Vec::new(), Vec::new()));
        }
        for row in rows {
            let key: Vec<_> = keys
                .iter()
                .map(|key| self.value(row, *key).clone())
                .collect();
            match groups.iter_mut().find(|(known, _)| *known == key) {
                Some((_, members)) => members.push(row),
                None => groups.push((key, vec![row])),
            }
        }
        groups
            .into_iter()
            .map(|(keys, rows)| Group {
                keys,
                cells: cells.iter().map(|cell| self.cell(&rows, cell)).collect(),
                units: units.iter().map(|unit| self.units(&rows, unit)).collect(),
            })
            .collect()
    }

    fn present(&self, row: &Joined, argument: Option<ColumnRef>) -> bool {
        argument.is_none_or(|at| !self.value(row, at).is_null())
    }

    fn cell(&self, rows: &[&Joined], cell: &Cell) -> Option<i128> {
        let mut total = cell.sum.is_none().then_some(0);
        for row in rows.iter().filter(|row| self.present(row, cell.argument)) {
            let summed = cell
                .sum
                .map_or(1, |at| integer(self.value(row, at)).unwrap());
            let weight: i128 = cell
                .weights
                .iter()
                .map(|at| integer(self.value(row, *at)).unwrap())
                .product();
            total = Some(total.unwrap_or(0) + summed * weight);
        }
        total
    }

    fn units(&self, rows: &[&Joined], unit: &UnitCount) -> usize {
        let counted: Vec<_> = rows
            .iter()
            .filter(|row| self.present(row, unit.argument))
            .collect();
        match unit.unit {
            None => counted.len(),
            Some(tag) => counted
                .iter()
                .map(|row| self.value(row, tag))
                .filter(|value| !value.is_null())
                .map(ToString::to_string)
                .collect::<BTreeSet<_>>()
                .len(),
        }
    }

    /// The rows that the analyst sees, in order.
    pub(crate) fn release(&self, groups: &[Group]) -> Rows {
        let release = &self.plan.release;
        let fields: Vec<Field> = release
            .columns
            .iter()
            .enumerate()
            .map(|(i, of)| Field::new(format!("r{i}"), of.data_type.to_arrow(), of.nullable))
            .collect();
        let columns: Vec<ArrayRef> = release
            .columns
            .iter()
            .map(|column| {
                let values = groups.iter().map(|group| match column.source {
                    ReleasedSource::Opened(_) => panic!("a program is run by another test"),
                    ReleasedSource::Key(key) => group.keys[key].clone(),
                    ReleasedSource::Cell(cell) => number(group.cells[cell], column.data_type),
                    ReleasedSource::Average { sum, count } => average(
                        group.cells[sum],
                        group.cells[count].unwrap(),
                        column.data_type,
                    ),
                });
                let values: Vec<ScalarValue> = values.collect();
                if values.is_empty() {
                    return datafusion::arrow::array::new_empty_array(&column.data_type.to_arrow());
                }
                ScalarValue::iter_to_array(values).unwrap()
            })
            .collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let (rows, schema) = run(&release.sql, &[("released".to_owned(), batch)]);
        for (field, column) in schema.fields().iter().zip(&release.output) {
            assert_eq!(
                *field.data_type(),
                column.data_type.to_arrow(),
                "{}",
                release.sql
            );
        }
        rows
    }
}

fn fits(value: &ScalarValue, encoding: &Encoding, sql: &str) {
    match (encoding, value) {
        (_, value) if value.is_null() => {}
        (Encoding::Codes(codes), ScalarValue::Utf8(Some(text))) => {
            assert!(codes.contains(text), "{sql}");
        }
        (Encoding::Text { max_bytes }, ScalarValue::Utf8(Some(text))) => {
            assert!(text.len() <= *max_bytes as usize, "{sql}");
        }
        (Encoding::Ring64 | Encoding::Ring128, value) => {
            assert!(integer(value).is_some(), "{sql}");
        }
        _ => {}
    }
}

fn integer(value: &ScalarValue) -> Option<i128> {
    match value {
        ScalarValue::Int64(Some(value)) => Some(i128::from(*value)),
        ScalarValue::Decimal128(Some(value), _, _) => Some(*value),
        _ => None,
    }
}

fn number(value: Option<i128>, data_type: ScalarType) -> ScalarValue {
    match data_type {
        ScalarType::Decimal { precision, scale } => {
            ScalarValue::Decimal128(value, precision, scale as i8)
        }
        _ => ScalarValue::Int64(value.map(|value| i64::try_from(value).unwrap())),
    }
}

fn average(sum: Option<i128>, count: i128, data_type: ScalarType) -> ScalarValue {
    match data_type {
        ScalarType::Decimal { precision, scale } => {
            ScalarValue::Decimal128(sum.map(|sum| sum * 10_000 / count), precision, scale as i8)
        }
        _ => ScalarValue::Float64(sum.map(|sum| sum as f64 / count as f64)),
    }
}
