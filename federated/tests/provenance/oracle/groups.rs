//! Groups and their cells, and what of them is withheld.

use super::branches::{branches, joined};
use super::engine::{Failure, failed};
use super::evaluate::{Evaluator, Place, bare, truths};
use super::relation::{Branch, Column, Origin, People, Relation, array};
use super::verdict::{CellVerdict, Counts, GroupVerdict};
use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::{AggregateFunction, AggregateFunctionParams};
use datafusion::logical_expr::{Aggregate, Expr, ExprSchemable};
use datafusion::physical_expr::aggregate::{AggregateFunctionExpr, LoweredAggregateBuilder};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

/// The aggregates whose rows that contribute are those that are not NULL.
const KNOWN: [&str; 17] = [
    "count",
    "sum",
    "avg",
    "min",
    "max",
    "median",
    "percentile_cont",
    "var",
    "var_pop",
    "stddev",
    "stddev_pop",
    "covar_samp",
    "covar_pop",
    "corr",
    "bool_and",
    "bool_or",
    "var_samp",
];

/// An aggregate over all rows of its input.
struct Cell {
    name: String,
    data_type: DataType,
    aggregate: Arc<AggregateFunctionExpr>,
    arguments: Vec<ArrayRef>,
    /// The rows that FILTER leaves.
    kept: Option<Vec<bool>>,
    /// By which branches each row contributes; none where it does not.
    contributes: Vec<Branch>,
    /// Whether it can be over fewer rows than the group.
    conditional: bool,
    /// Those in the frames of the windows that it looks at.
    frames: Vec<Vec<Rc<People>>>,
}

/// The groups of a step: their keys, and their rows.
struct Groups {
    keys: Vec<Vec<ScalarValue>>,
    rows: Vec<Vec<usize>>,
}

impl Evaluator<'_> {
    pub fn aggregate(&mut self, step: &Aggregate, place: Place) -> Result<Relation, Failure> {
        let first = self.scans.len();
        let below = Place {
            released: false,
            scalar: false,
        };
        let input = self.step(&step.input, below)?;
        let scans = self.scans_since(first);
        if let Some(expr) = step
            .group_expr
            .iter()
            .find(|e| matches!(e, Expr::GroupingSet(_)))
        {
            return Err(format!("the oracle does not know {expr}"));
        }
        let groups = self.split(step, &input)?;
        let cells: Vec<Cell> = step
            .aggr_expr
            .iter()
            .map(|expr| self.cell(expr, step, &input))
            .collect::<Result<_, _>>()?;
        let node = self.nodes;
        self.nodes += 1;
        let mut verdicts = vec![];
        for (keys, rows) in groups.keys.iter().zip(&groups.rows) {
            verdicts.push(self.verdict(node, &scans, keys, rows, &cells, &input)?);
        }
        let withheld = self.withhold && (place.released || place.scalar);
        let stays = place.scalar || step.group_expr.is_empty();
        let mut result = self.table(
            step,
            &groups,
            &cells,
            &verdicts,
            &input,
            withheld.then_some(place),
        )?;
        for at in 0..result.columns.len() {
            let keys = step.group_expr.len();
            if place.released {
                result.columns[at].origin = match at < keys {
                    true => Origin::Key { node, index: at },
                    false => Origin::Cell {
                        node,
                        index: at - keys,
                    },
                };
            }
        }
        let asked = scans.iter().any(|scan| self.scans[*scan].k > 1);
        self.loose_values |= place.scalar && !place.released && asked;
        if place.released {
            for scan in scans {
                self.judged[scan] = true;
            }
            result.people = vec![Rc::default(); result.rows()];
        }
        let shown: Vec<bool> = verdicts.iter().map(|verdict| verdict.shown).collect();
        if place.released {
            self.groups.extend(verdicts);
        }
        match withheld && !stays {
            true => result.keep(|row| shown[row]),
            false => Ok(result),
        }
    }

    fn split(&self, step: &Aggregate, input: &Relation) -> Result<Groups, Failure> {
        if step.group_expr.is_empty() {
            return Ok(Groups {
                keys: vec![vec![]],
                rows: vec![(0..input.rows()).collect()],
            });
        }
        let mut at: HashMap<Vec<ScalarValue>, usize> = HashMap::new();
        let mut groups = Groups {
            keys: vec![],
            rows: vec![],
        };
        for (row, key) in input
            .keys(self.engine, &step.group_expr)?
            .into_iter()
            .enumerate()
        {
            let group = *at.entry(key.clone()).or_insert_with(|| {
                groups.keys.push(key);
                groups.rows.push(vec![]);
                groups.rows.len() - 1
            });
            groups.rows[group].push(row);
        }
        Ok(groups)
    }

    fn cell(&self, expr: &Expr, step: &Aggregate, input: &Relation) -> Result<Cell, Failure> {
        let Expr::AggregateFunction(AggregateFunction { func, params }) = bare(expr) else {
            return Err(format!("the oracle does not know the aggregate {expr}"));
        };
        if !KNOWN.contains(&func.name()) || params.null_treatment.is_some() {
            return Err(format!("the oracle does not know {}", func.name()));
        }
        let schema = input.nullable()?;
        let batch = input.batch()?;
        let simple = |expr: &Expr| self.engine.simplified(expr, &schema);
        let mut ordered = params.order_by.clone();
        for order in &mut ordered {
            order.expr = simple(&order.expr)?;
        }
        let lowered = Expr::AggregateFunction(AggregateFunction {
            func: Arc::clone(&func),
            params: AggregateFunctionParams {
                args: params.args.iter().map(simple).collect::<Result<_, _>>()?,
                filter: None,
                order_by: ordered,
                ..params.clone()
            },
        });
        let state = self.engine.state();
        let context = Default::default();
        let arrow = batch.schema();
        let lowered = LoweredAggregateBuilder::new(
            &lowered,
            &schema,
            &arrow,
            state.execution_props(),
            &context,
        )
        .build()
        .map_err(failed)?;
        let mut arguments = vec![];
        for argument in lowered.aggregate.expressions() {
            let values = argument.evaluate(&batch).map_err(failed)?;
            arguments.push(values.into_array(batch.num_rows()).map_err(failed)?);
        }
        let kept = match &params.filter {
            Some(filter) => Some(truths(&input.evaluate(self.engine, filter)?)?),
            None => None,
        };
        let (contributes, conditional) =
            self.contributing(&params, &arguments, kept.as_ref(), step, input)?;
        let mut frames = vec![];
        for argument in &params.args {
            let seen = input.seen(argument)?;
            frames.extend(seen.iter().filter_map(|column| column.frames.clone()));
        }
        Ok(Cell {
            name: expr.schema_name().to_string(),
            data_type: lowered.aggregate.field().data_type().clone(),
            aggregate: lowered.aggregate,
            arguments,
            kept,
            contributes,
            conditional,
            frames,
        })
    }

    /// The rows that contribute to an aggregate, and whether that can be fewer than all.
    fn contributing(
        &self,
        params: &AggregateFunctionParams,
        arguments: &[ArrayRef],
        kept: Option<&Vec<bool>>,
        step: &Aggregate,
        input: &Relation,
    ) -> Result<(Vec<Branch>, bool), Failure> {
        let mut by: Option<Vec<Branch>> = None;
        let mut conditional = kept.is_some();
        for argument in params
            .args
            .iter()
            .filter(|arg| !matches!(arg, Expr::Literal(..)))
        {
            conditional |= argument
                .nullable(step.input.schema().as_ref())
                .map_err(failed)?;
            by = joined(by, branches(self.engine, argument, input)?);
        }
        conditional |= by.is_some();
        let mut contributes = by.unwrap_or_else(|| vec![Some(vec![]); input.rows()]);
        for (row, branch) in contributes.iter_mut().enumerate() {
            let missing = arguments.iter().any(|values| values.is_null(row));
            if missing || kept.is_some_and(|kept| !kept[row]) {
                *branch = None;
            }
        }
        Ok((contributes, conditional))
    }

    fn verdict(
        &self,
        node: usize,
        scans: &[usize],
        keys: &[ScalarValue],
        rows: &[usize],
        cells: &[Cell],
        input: &Relation,
    ) -> Result<GroupVerdict, Failure> {
        let counts = |people: &People| -> Counts {
            scans
                .iter()
                .map(|scan| (*scan, people.count(*scan)))
                .collect()
        };
        let enough = |counts: &Counts| {
            let mut all = counts.iter();
            all.all(|(scan, count)| self.scans[*scan].allows(*count))
        };
        let all = counts(&People::all(rows.iter().map(|row| &input.people[*row])));
        let shown = enough(&all);
        // Rows that contribute to the same cells, by the same branches.
        let mut atoms: BTreeMap<Vec<&Branch>, People> = BTreeMap::new();
        for row in rows {
            let alike = cells.iter().map(|cell| &cell.contributes[*row]).collect();
            atoms.entry(alike).or_default().add(&input.people[*row]);
        }
        let atoms_ok = atoms.values().all(|people| {
            let mut counts = counts(people).into_iter();
            counts.all(|(scan, count)| count == 0 || self.scans[scan].allows(count))
        });
        let mut verdicts = vec![];
        for cell in cells {
            let mut parts: BTreeMap<&Branch, People> = BTreeMap::new();
            for row in rows.iter().filter(|row| cell.contributes[**row].is_some()) {
                let part = parts.entry(&cell.contributes[*row]).or_default();
                part.add(&input.people[*row]);
                for frames in &cell.frames {
                    part.add(&frames[*row]);
                }
            }
            let fewest = |scan: &usize| {
                let counts = parts.values().map(|people| people.count(*scan));
                (*scan, counts.min().unwrap_or(0))
            };
            let counts: Counts = scans.iter().map(fewest).collect();
            verdicts.push(CellVerdict {
                name: cell.name.clone(),
                conditional: cell.conditional,
                shown: shown && enough(&counts) && (!cell.conditional || atoms_ok),
                value: value(cell, rows)?,
                counts,
            });
        }
        Ok(GroupVerdict {
            node,
            keys: keys.to_vec(),
            rows: all,
            shown,
            cells: verdicts,
            atoms_ok,
        })
    }

    /// The groups as rows; cells withheld where a place says so.
    fn table(
        &self,
        step: &Aggregate,
        groups: &Groups,
        cells: &[Cell],
        verdicts: &[GroupVerdict],
        input: &Relation,
        withheld: Option<Place>,
    ) -> Result<Relation, Failure> {
        let mut columns = vec![];
        for at in 0..step.group_expr.len() {
            let keys = groups.keys.iter().map(|key| key[at].clone()).collect();
            let data_type = step.schema.field(at).data_type();
            columns.push(Column::plain(array(keys, data_type)?));
        }
        for (at, cell) in cells.iter().enumerate() {
            let mut list = vec![];
            for verdict in verdicts {
                let own = &verdict.cells[at];
                let shown = match withheld {
                    None => true,
                    Some(place) if place.released => own.shown,
                    // Inside, a scalar subquery needs its own k and no more.
                    Some(_) => {
                        let mut counts = verdict.rows.iter().chain(&own.counts);
                        counts.all(|(scan, count)| self.scans[*scan].allows(*count))
                    }
                };
                list.push(match shown {
                    true => own.value.clone(),
                    false => ScalarValue::try_from(&cell.data_type).map_err(failed)?,
                });
            }
            columns.push(Column::plain(array(list, &cell.data_type)?));
        }
        let people = groups.rows.iter().map(|rows| {
            let all = rows.iter().map(|row| &input.people[*row]);
            Rc::new(People::all(all))
        });
        Ok(Relation {
            schema: Arc::clone(&step.schema),
            columns,
            people: people.collect(),
        })
    }
}

/// The value of a cell over these rows.
fn value(cell: &Cell, rows: &[usize]) -> Result<ScalarValue, Failure> {
    let kept = rows
        .iter()
        .filter(|row| cell.kept.as_ref().is_none_or(|kept| kept[**row]));
    let at: UInt32Array = kept.filter_map(|row| u32::try_from(*row).ok()).collect();
    let mut arguments = vec![];
    for argument in &cell.arguments {
        arguments.push(take(argument, &at, None).map_err(failed)?);
    }
    let mut accumulator = cell.aggregate.create_accumulator().map_err(failed)?;
    accumulator.update_batch(&arguments).map_err(failed)?;
    accumulator.evaluate().map_err(failed)
}
