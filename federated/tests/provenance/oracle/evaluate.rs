//! One step of a query after the other, row by row.

use super::branches::branches;
use super::engine::{Engine, Failure, failed};
use super::relation::{Column, Origin, People, Relation, array, values};
use super::verdict::{CellVerdict, GroupVerdict, Scan};
use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{SortColumn, SortOptions, cast, lexsort_to_indices};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{
    BinaryExpr, Expr, FetchType, Filter, Limit, LogicalPlan, Operator, Projection, SkipType, Sort,
    TableScan, Union,
};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use veilgate_federated::catalog::Unit;

/// More rows than a test needs.
const MOST_ROWS: usize = 400_000;

/// The names that the engine gives to scalar subqueries.
const SCALAR: &str = "__scalar_sq";

/// Where in the query a step stands.
#[derive(Clone, Copy)]
pub struct Place {
    /// Below no group: what it gives is released.
    pub released: bool,
    /// In a scalar subquery: its own group is withheld, wherever it stands.
    pub scalar: bool,
}

/// A run over a query, with or without withholding.
pub struct Evaluator<'a> {
    pub engine: &'a Engine,
    pub withhold: bool,
    pub scans: Vec<Scan>,
    /// Whether an outermost group has judged a scan, or another scan counts for it.
    pub judged: Vec<bool>,
    /// Whether another scan counts for it.
    merged: Vec<bool>,
    pub groups: Vec<GroupVerdict>,
    pub nodes: usize,
    /// Rows depend on cells, so that withholding one can bring or take others.
    pub loose: bool,
    /// Their order does.
    pub loose_order: bool,
    /// Numbers depend on a subquery that is withheld by itself.
    pub loose_values: bool,
    units: HashMap<Vec<ScalarValue>, u32>,
}

impl<'a> Evaluator<'a> {
    pub fn new(engine: &'a Engine, withhold: bool) -> Self {
        Self {
            engine,
            withhold,
            scans: vec![],
            judged: vec![],
            merged: vec![],
            groups: vec![],
            nodes: 0,
            loose: false,
            loose_order: false,
            loose_values: false,
            units: HashMap::new(),
        }
    }

    /// A whole query. Rows that are in no group are judged before they are put into order.
    pub fn root(&mut self, plan: &LogicalPlan) -> Result<Relation, Failure> {
        let place = Place {
            released: true,
            scalar: false,
        };
        match plan {
            LogicalPlan::Projection(step) => {
                let input = self.root(&step.input)?;
                self.projection(step, input)
            }
            LogicalPlan::SubqueryAlias(step) => {
                let input = self.root(&step.input)?;
                Ok(renamed(input, plan))
            }
            LogicalPlan::Sort(step) => {
                let input = self.root(&step.input)?;
                self.sort(step, input, place)
            }
            LogicalPlan::Limit(step) => {
                let input = self.root(&step.input)?;
                self.limit(step, input, place)
            }
            other => {
                let rows = self.step(other, place)?;
                self.judge_rows(rows)
            }
        }
    }

    pub fn step(&mut self, plan: &LogicalPlan, place: Place) -> Result<Relation, Failure> {
        let relation = match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan)?,
            LogicalPlan::Projection(step) => {
                let input = self.step(&step.input, place)?;
                self.projection(step, input)?
            }
            LogicalPlan::Filter(step) => {
                let input = self.step(&step.input, place)?;
                self.filter(step, &input, place)?
            }
            LogicalPlan::Sort(step) => {
                let input = self.step(&step.input, place)?;
                self.sort(step, input, place)?
            }
            LogicalPlan::Limit(step) => {
                let input = self.step(&step.input, place)?;
                self.limit(step, input, place)?
            }
            LogicalPlan::SubqueryAlias(step) => {
                let scalar = step.alias.table().starts_with(SCALAR);
                let inner = Place {
                    scalar: scalar || place.scalar,
                    ..place
                };
                renamed(self.step(&step.input, inner)?, plan)
            }
            LogicalPlan::Union(step) => self.union(step, place)?,
            LogicalPlan::Join(join) => self.join(join, place)?,
            LogicalPlan::Aggregate(step) => self.aggregate(step, place)?,
            LogicalPlan::Window(step) => {
                let input = self.step(&step.input, place)?;
                self.window(step, input)?
            }
            LogicalPlan::EmptyRelation(empty) => {
                let rows = usize::from(empty.produce_one_row);
                let columns = empty.schema.fields().iter().map(|field| {
                    Column::plain(arrow::array::new_null_array(field.data_type(), rows))
                });
                Relation {
                    schema: Arc::clone(&empty.schema),
                    columns: columns.collect(),
                    people: vec![Rc::default(); rows],
                }
            }
            other => return Err(format!("the oracle does not know {}", other.display())),
        };
        match relation.rows() > MOST_ROWS {
            true => Err("more rows than the oracle looks at".to_owned()),
            false => Ok(relation),
        }
    }

    /// The number of a unit.
    pub fn unit(&mut self, value: Vec<ScalarValue>) -> u32 {
        let next = u32::try_from(self.units.len()).unwrap_or(u32::MAX);
        *self.units.entry(value).or_insert(next)
    }

    fn scan(&mut self, scan: &TableScan) -> Result<Relation, Failure> {
        let name = format!(
            "{}.{}",
            scan.table_name.schema().unwrap_or_default(),
            scan.table_name.table()
        );
        if !scan.filters.is_empty() || scan.fetch.is_some() {
            return Err(format!(
                "the oracle does not know filters in a scan of {name}"
            ));
        }
        let engine = self.engine;
        let table = engine.tables.get(&name);
        let table = table.ok_or_else(|| format!("the oracle has no table {name}"))?;
        let count = table.rows.num_rows();
        let units: Vec<Option<ScalarValue>> = match &table.unit {
            Unit::None => vec![],
            Unit::Row => (0..count)
                .map(|row| Some(ScalarValue::UInt64(Some(row as u64))))
                .collect(),
            Unit::Column(column) => {
                let found = table.rows.column_by_name(column);
                let found = found.ok_or_else(|| format!("{name} has no unit column {column}"))?;
                let value = |row| ScalarValue::try_from_array(found, row).map_err(failed);
                let all: Vec<ScalarValue> = (0..count).map(value).collect::<Result<_, _>>()?;
                all.into_iter()
                    .map(|v| (!v.is_null()).then_some(v))
                    .collect()
            }
        };
        let mut people = vec![Rc::default(); count];
        if table.unit != Unit::None {
            let number = self.scans.len();
            self.scans.push(Scan {
                table: name,
                k: table.k,
            });
            self.judged.push(false);
            self.merged.push(false);
            for (row, unit) in units.into_iter().enumerate() {
                if let Some(unit) = unit {
                    people[row] = Rc::new(People::of(number, self.unit(vec![unit])));
                }
            }
        }
        let all: Vec<usize> = (0..table.rows.num_columns()).collect();
        let chosen = scan.projection.as_ref().unwrap_or(&all).iter();
        Ok(Relation {
            schema: Arc::clone(&scan.projected_schema),
            columns: chosen
                .map(|at| Column::plain(Arc::clone(table.rows.column(*at))))
                .collect(),
            people,
        })
    }

    fn projection(&self, step: &Projection, input: Relation) -> Result<Relation, Failure> {
        let mut columns = vec![];
        for expr in &step.expr {
            columns.push(self.column(expr, &input)?);
        }
        Ok(Relation {
            schema: Arc::clone(&step.schema),
            columns,
            people: input.people,
        })
    }

    /// A column that an expression makes, with all that is known of its values.
    fn column(&self, expr: &Expr, input: &Relation) -> Result<Column, Failure> {
        let bare = bare(expr);
        if let Expr::Column(name) = &bare {
            let at = input.schema.index_of_column(name).map_err(failed)?;
            return Ok(input.columns[at].clone());
        }
        let seen = input.seen(&bare)?;
        let cells = seen.iter().any(|column| column.origin.looks_at_cells());
        let mixed = seen.iter().any(|column| column.origin == Origin::Mixed);
        let origin = match cells {
            false => Origin::Plain,
            true if mixed || !strict(&bare) => Origin::Mixed,
            true => Origin::Strict,
        };
        let mut frames: Option<Vec<Rc<People>>> = None;
        for list in seen.iter().filter_map(|column| column.frames.as_ref()) {
            frames = Some(match frames {
                None => list.clone(),
                Some(other) => {
                    let pairs = other.iter().zip(list);
                    pairs.map(|(a, b)| People::both(a, b)).collect()
                }
            });
        }
        Ok(Column {
            values: input.evaluate(self.engine, &bare)?,
            origin,
            branches: branches(self.engine, &bare, input)?,
            frames,
        })
    }

    fn filter(
        &mut self,
        step: &Filter,
        input: &Relation,
        place: Place,
    ) -> Result<Relation, Failure> {
        self.loose |= place.released && input.looks_at_cells(&step.predicate)?;
        let kept = truths(&input.evaluate(self.engine, &step.predicate)?)?;
        input.keep(|row| kept[row])
    }

    fn sort(&mut self, step: &Sort, input: Relation, place: Place) -> Result<Relation, Failure> {
        let mut keys = vec![];
        for key in &step.expr {
            self.loose_order |= place.released && input.looks_at_cells(&key.expr)?;
            keys.push(SortColumn {
                values: input.evaluate(self.engine, &key.expr)?,
                options: Some(SortOptions {
                    descending: !key.asc,
                    nulls_first: key.nulls_first,
                }),
            });
        }
        // Equal rows stay as they are.
        let rows = u32::try_from(input.rows()).map_err(failed)?;
        keys.push(SortColumn {
            values: Arc::new(UInt32Array::from_iter_values(0..rows)),
            options: None,
        });
        self.loose |= place.released && step.fetch.is_some();
        let order = lexsort_to_indices(&keys, step.fetch).map_err(failed)?;
        let order: Vec<Option<usize>> =
            order.values().iter().map(|at| Some(*at as usize)).collect();
        input.take(&order)
    }

    fn limit(&mut self, step: &Limit, input: Relation, place: Place) -> Result<Relation, Failure> {
        let SkipType::Literal(skip) = step.get_skip_type().map_err(failed)? else {
            return Err("the oracle does not know an OFFSET that is no literal".to_owned());
        };
        let FetchType::Literal(fetch) = step.get_fetch_type().map_err(failed)? else {
            return Err("the oracle does not know a LIMIT that is no literal".to_owned());
        };
        self.loose |= place.released;
        let end = fetch.map_or(usize::MAX, |fetch| skip.saturating_add(fetch));
        input.keep(|row| row >= skip && row < end)
    }

    fn union(&mut self, step: &Union, place: Place) -> Result<Relation, Failure> {
        let mut parts = vec![];
        let mut first: Option<Vec<usize>> = None;
        for input in &step.inputs {
            let start = self.scans.len();
            let mut part = self.step(input, place)?;
            let own = self.scans_since(start);
            match &first {
                None => first = Some(own),
                Some(first) => self.merge(first, &own, &mut part),
            }
            parts.push(part);
        }
        let mut columns = vec![];
        for (at, field) in step.schema.fields().iter().enumerate() {
            let own: Vec<&Column> = parts.iter().map(|part| &part.columns[at]).collect();
            columns.push(beside(&own, field.data_type())?);
        }
        Ok(Relation {
            schema: Arc::clone(&step.schema),
            columns,
            people: parts.iter().flat_map(|part| part.people.clone()).collect(),
        })
    }

    /// The scans of a part of the query that count for themselves.
    pub fn scans_since(&self, start: usize) -> Vec<usize> {
        let since = start..self.scans.len();
        since.filter(|scan| !self.merged[*scan]).collect()
    }

    /// Counts the people of one table together with those of another, if they are the same.
    fn merge(&mut self, first: &[usize], own: &[usize], part: &mut Relation) {
        let ([to], [from]) = (first, own) else { return };
        let tables = &self.engine.tables;
        let space = |scan: usize| tables.get(&self.scans[scan].table).and_then(|t| t.space);
        if space(*to).is_none() || space(*to) != space(*from) {
            return;
        }
        self.scans[*to].k = self.scans[*to].k.max(self.scans[*from].k);
        self.merged[*from] = true;
        self.judged[*from] = true;
        for people in &mut part.people {
            *people = Rc::new(people.moved(*from, *to));
        }
        let frames = part
            .columns
            .iter_mut()
            .filter_map(|column| column.frames.as_mut());
        for people in frames.flatten() {
            *people = Rc::new(people.moved(*from, *to));
        }
    }

    /// Rows in no group: each is a release of its own.
    fn judge_rows(&mut self, rows: Relation) -> Result<Relation, Failure> {
        let open: Vec<usize> = (0..self.scans.len())
            .filter(|scan| !self.judged[*scan])
            .collect();
        let asked = |scan: &usize| self.scans[*scan].k > 1;
        if !open.iter().any(asked) {
            return Ok(rows);
        }
        let node = self.nodes;
        self.nodes += 1;
        let enough = |people: &People| {
            open.iter()
                .all(|scan| self.scans[*scan].allows(people.count(*scan)))
        };
        let arrays: Vec<ArrayRef> = rows.columns.iter().map(|c| Arc::clone(&c.values)).collect();
        let counts = |people: &People| {
            open.iter()
                .map(|scan| (*scan, people.count(*scan)))
                .collect()
        };
        let mut verdicts = vec![];
        for (row, people) in rows.people.iter().enumerate() {
            let keys = values(&arrays, row)?;
            let mut cells = vec![];
            for (at, column) in rows.columns.iter().enumerate() {
                let Some(frames) = &column.frames else {
                    continue;
                };
                let behind = People::both(&frames[row], people);
                cells.push(CellVerdict {
                    name: rows.schema.field(at).name().clone(),
                    counts: counts(&behind),
                    conditional: false,
                    shown: enough(people) && enough(&behind),
                    value: keys[at].clone(),
                });
            }
            verdicts.push(GroupVerdict {
                node,
                keys,
                rows: counts(people),
                shown: enough(people),
                cells,
                atoms_ok: true,
            });
        }
        if !self.withhold {
            return Ok(rows);
        }
        let shown: Vec<bool> = verdicts.iter().map(|verdict| verdict.shown).collect();
        let mut guarded = rows.clone();
        let windows = guarded
            .columns
            .iter_mut()
            .filter(|column| column.frames.is_some());
        for (cell, column) in windows.enumerate() {
            let mut list = vec![];
            for (row, verdict) in verdicts.iter().enumerate() {
                list.push(match verdict.cells[cell].shown {
                    true => ScalarValue::try_from_array(&column.values, row).map_err(failed)?,
                    false => ScalarValue::try_from(column.values.data_type()).map_err(failed)?,
                });
            }
            column.values = array(list, &column.values.data_type().clone())?;
        }
        self.groups.extend(verdicts);
        guarded.keep(|row| shown[row])
    }
}

/// Under other names.
fn renamed(relation: Relation, plan: &LogicalPlan) -> Relation {
    Relation {
        schema: Arc::clone(plan.schema()),
        ..relation
    }
}

/// Without the names that it was given.
pub fn bare(expr: &Expr) -> Expr {
    match expr {
        Expr::Alias(alias) => bare(&alias.expr),
        other => other.clone(),
    }
}

/// Where a condition is true.
pub fn truths(values: &ArrayRef) -> Result<Vec<bool>, Failure> {
    use arrow::array::AsArray;
    let values = values.as_boolean_opt().ok_or("a condition of no truth")?;
    Ok(values.iter().map(|value| value == Some(true)).collect())
}

/// Whether an expression is NULL wherever one of its columns is.
fn strict(expr: &Expr) -> bool {
    const FUNCTIONS: [&str; 8] = [
        "round", "abs", "floor", "ceil", "trunc", "sqrt", "power", "ln",
    ];
    match expr {
        Expr::Column(_) | Expr::Literal(..) => true,
        Expr::Alias(alias) => strict(&alias.expr),
        Expr::Cast(cast) => strict(&cast.expr),
        Expr::Negative(inner) => strict(inner),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            !matches!(
                op,
                Operator::And
                    | Operator::Or
                    | Operator::IsDistinctFrom
                    | Operator::IsNotDistinctFrom
            ) && strict(left)
                && strict(right)
        }
        Expr::ScalarFunction(function) => {
            FUNCTIONS.contains(&function.name()) && function.args.iter().all(strict)
        }
        _ => false,
    }
}

/// Columns of the inputs of a union, one below the other.
fn beside(own: &[&Column], data_type: &arrow::datatypes::DataType) -> Result<Column, Failure> {
    let arrays: Vec<ArrayRef> = own
        .iter()
        .map(|column| cast(&column.values, data_type).map_err(failed))
        .collect::<Result<_, _>>()?;
    let arrays: Vec<&dyn arrow::array::Array> = arrays.iter().map(AsRef::as_ref).collect();
    let same = own.iter().all(|column| column.origin == own[0].origin);
    let cells = own.iter().any(|column| column.origin.looks_at_cells());
    let mixed = own.iter().any(|column| column.origin == Origin::Mixed);
    let branches = own.iter().any(|column| column.branches.is_some());
    let frames = own.iter().any(|column| column.frames.is_some());
    let whole = |column: &&Column| vec![Some(vec![]); column.values.len()];
    Ok(Column {
        values: arrow::compute::concat(&arrays).map_err(failed)?,
        origin: match (same, cells, mixed) {
            (true, ..) => own[0].origin,
            (_, false, _) => Origin::Plain,
            (.., true) => Origin::Mixed,
            _ => Origin::Strict,
        },
        branches: branches.then(|| {
            let lists = own.iter();
            let lists = lists.flat_map(|c| c.branches.clone().unwrap_or_else(|| whole(c)));
            lists.collect()
        }),
        frames: frames.then(|| {
            let lists = own.iter();
            let none = |c: &Column| vec![Rc::default(); c.values.len()];
            lists
                .flat_map(|c| c.frames.clone().unwrap_or_else(|| none(c)))
                .collect()
        }),
    })
}
