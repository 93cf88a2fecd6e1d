//! Rows, and for each row the units that stand behind it.

use super::engine::{Engine, Failure, failed};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Field, Schema};
use datafusion::common::{DFSchema, DFSchemaRef, ScalarValue};
use datafusion::logical_expr::Expr;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

/// For each scan, the units behind a row, a group or a cell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct People(BTreeMap<usize, BTreeSet<u32>>);

impl People {
    pub fn of(scan: usize, unit: u32) -> Self {
        Self(BTreeMap::from([(scan, BTreeSet::from([unit]))]))
    }

    /// Everybody of `other`, too.
    pub fn add(&mut self, other: &Self) {
        for (scan, units) in &other.0 {
            self.0.entry(*scan).or_default().extend(units);
        }
    }

    pub fn count(&self, scan: usize) -> usize {
        self.0.get(&scan).map_or(0, BTreeSet::len)
    }

    /// The units of one scan as those of another.
    pub fn moved(&self, from: usize, to: usize) -> Self {
        let mut moved = self.clone();
        if let Some(units) = moved.0.remove(&from) {
            moved.0.entry(to).or_default().extend(units);
        }
        moved
    }

    /// Everybody behind any of these.
    pub fn all<'a>(of: impl IntoIterator<Item = &'a Rc<Self>>) -> Self {
        let mut all = Self::default();
        for people in of {
            all.add(people);
        }
        all
    }

    /// Everybody behind either.
    pub fn both(a: &Rc<Self>, b: &Rc<Self>) -> Rc<Self> {
        match (a.0.is_empty(), b.0.is_empty()) {
            (_, true) => Rc::clone(a),
            (true, false) => Rc::clone(b),
            (false, false) => Rc::new(Self::all([a, b])),
        }
    }
}

/// Where a column of a result comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Origin {
    /// Nothing that can be withheld alone.
    Plain,
    /// A key of an outermost group.
    Key { node: usize, index: usize },
    /// A cell of an outermost group.
    Cell { node: usize, index: usize },
    /// Made of cells, and NULL where one of them is.
    Strict,
    /// Made of cells in another way, so that a withheld one need not make it NULL.
    Mixed,
}

impl Origin {
    pub fn looks_at_cells(self) -> bool {
        matches!(self, Self::Cell { .. } | Self::Strict | Self::Mixed)
    }

    pub fn of_group(self) -> bool {
        self != Self::Plain
    }
}

/// Which branches of CASE a value came by; none for a zero or NULL that stands for "not counted".
pub type Branch = Option<Vec<u8>>;

#[derive(Clone)]
pub struct Column {
    pub values: ArrayRef,
    pub origin: Origin,
    /// For each row, where some expression below has branches.
    pub branches: Option<Vec<Branch>>,
    /// For each row, those in the frame of a window that made the value.
    pub frames: Option<Vec<Rc<People>>>,
}

impl Column {
    pub fn plain(values: ArrayRef) -> Self {
        Self {
            values,
            origin: Origin::Plain,
            branches: None,
            frames: None,
        }
    }

    /// These rows; none where there is no partner.
    fn take(&self, rows: &[Option<usize>]) -> Result<Self, Failure> {
        let at: UInt32Array = rows
            .iter()
            .map(|row| row.and_then(|row| u32::try_from(row).ok()))
            .collect();
        let pick = |list: &Vec<Branch>| -> Vec<Branch> {
            let picked = rows.iter().map(|row| row.and_then(|row| list[row].clone()));
            picked.collect()
        };
        let frames = self.frames.as_ref().map(|list| {
            let picked = rows
                .iter()
                .map(|row| row.map_or_else(Rc::default, |row| Rc::clone(&list[row])));
            picked.collect()
        });
        Ok(Self {
            values: take(&self.values, &at, None).map_err(failed)?,
            origin: self.origin,
            branches: self.branches.as_ref().map(pick),
            frames,
        })
    }
}

/// The rows of one step of a query.
#[derive(Clone)]
pub struct Relation {
    pub schema: DFSchemaRef,
    pub columns: Vec<Column>,
    /// Who stands behind each row; as long as there are rows.
    pub people: Vec<Rc<People>>,
}

impl Relation {
    pub fn rows(&self) -> usize {
        self.people.len()
    }

    /// These rows, with nobody and NULL for none.
    pub fn take(&self, rows: &[Option<usize>]) -> Result<Self, Failure> {
        let columns = self.columns.iter().map(|column| column.take(rows));
        let people = rows
            .iter()
            .map(|row| row.map_or_else(Rc::default, |row| Rc::clone(&self.people[row])));
        Ok(Self {
            schema: Arc::clone(&self.schema),
            columns: columns.collect::<Result<_, _>>()?,
            people: people.collect(),
        })
    }

    /// The rows for which this is true.
    pub fn keep(&self, keep: impl Fn(usize) -> bool) -> Result<Self, Failure> {
        let rows: Vec<Option<usize>> = (0..self.rows())
            .filter(|row| keep(*row))
            .map(Some)
            .collect();
        self.take(&rows)
    }

    /// Names as the plan has them, types as they are, and everything nullable: what is withheld is NULL.
    pub fn nullable(&self) -> Result<DFSchema, Failure> {
        let fields = self.schema.iter().zip(&self.columns);
        let fields = fields.map(|((qualifier, field), column)| {
            let field = Field::new(field.name(), column.values.data_type().clone(), true);
            (qualifier.cloned(), Arc::new(field))
        });
        DFSchema::new_with_metadata(fields.collect(), Default::default()).map_err(failed)
    }

    pub fn batch(&self) -> Result<RecordBatch, Failure> {
        let fields = self.schema.fields().iter().zip(&self.columns);
        let fields = fields.map(|(field, column)| {
            Field::new(field.name(), column.values.data_type().clone(), true)
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let arrays = self.columns.iter().map(|c| Arc::clone(&c.values)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows()));
        RecordBatch::try_new_with_options(schema, arrays, &options).map_err(failed)
    }

    /// The values of an expression over the rows.
    pub fn evaluate(&self, engine: &Engine, expr: &Expr) -> Result<ArrayRef, Failure> {
        engine.evaluate(expr, &self.nullable()?, &self.batch()?)
    }

    /// The values of expressions, row by row.
    pub fn keys(&self, engine: &Engine, of: &[Expr]) -> Result<Vec<Vec<ScalarValue>>, Failure> {
        let arrays: Vec<ArrayRef> = of
            .iter()
            .map(|expr| self.evaluate(engine, expr))
            .collect::<Result<_, _>>()?;
        (0..self.rows()).map(|row| values(&arrays, row)).collect()
    }

    /// The columns that an expression looks at.
    pub fn seen(&self, expr: &Expr) -> Result<Vec<&Column>, Failure> {
        let mut seen = vec![];
        for name in expr.column_refs() {
            let at = self.schema.index_of_column(name).map_err(failed)?;
            seen.push(&self.columns[at]);
        }
        Ok(seen)
    }

    pub fn looks_at_cells(&self, expr: &Expr) -> Result<bool, Failure> {
        let seen = self.seen(expr)?;
        Ok(seen.iter().any(|column| column.origin.looks_at_cells()))
    }

    pub fn has_groups(&self) -> bool {
        self.columns.iter().any(|column| column.origin.of_group())
    }
}

/// One row of several arrays.
pub fn values(arrays: &[ArrayRef], row: usize) -> Result<Vec<ScalarValue>, Failure> {
    let values = arrays
        .iter()
        .map(|array| ScalarValue::try_from_array(array, row).map_err(failed));
    values.collect()
}

/// These values as an array of this type.
pub fn array(
    values: Vec<ScalarValue>,
    data_type: &arrow::datatypes::DataType,
) -> Result<ArrayRef, Failure> {
    match values.is_empty() {
        true => Ok(arrow::array::new_empty_array(data_type)),
        false => ScalarValue::iter_to_array(values).map_err(failed),
    }
}
