//! The numbers that a query releases, and the counts of privacy units that guard them.

use super::block::{Call, Function};
use super::columns;
use super::conditions::Sorted;
use super::draft::{Draft, number_form};
use super::keys::KeyClasses;
use super::rules::{self, Demands};
use super::text::Query;
use crate::catalog::Unit;
use crate::error::{Code, Error, Result};
use crate::plan::{Cell, ColumnRef, Encoding, ReleasedColumn, ReleasedSource, UnitCount};
use crate::schema::{Department, ScalarType};
use arrow::datatypes::DataType;
use datafusion::logical_expr::expr::Cast;
use datafusion::logical_expr::{Expr, ExprSchemable};
use std::collections::BTreeMap;

/// Cells and unit counts while they are collected.
pub(super) struct Cells<'a> {
    sorted: &'a Sorted<'a>,
    demands: &'a BTreeMap<Department, Demands>,
    parties: &'a [Department],
    query: &'a Query,
    cells: Vec<Cell>,
    /// Relations with privacy units, and the tag that counts them.
    unit_of: Vec<(usize, Option<ColumnRef>)>,
    units: Vec<(usize, UnitCount)>,
    columns: Vec<ReleasedColumn>,
}

/// What the aggregate computes and releases.
pub(super) struct Finished {
    pub(super) cells: Vec<Cell>,
    pub(super) units: Vec<UnitCount>,
    pub(super) group_guards: Vec<usize>,
    /// One for each call, in order.
    pub(super) columns: Vec<ReleasedColumn>,
}

impl<'a> Cells<'a> {
    /// Nothing yet.
    pub(super) fn new(
        sorted: &'a Sorted<'a>,
        demands: &'a BTreeMap<Department, Demands>,
        parties: &'a [Department],
        query: &'a Query,
    ) -> Self {
        Self {
            sorted,
            demands,
            parties,
            query,
            cells: Vec::new(),
            unit_of: Vec::new(),
            units: Vec::new(),
            columns: Vec::new(),
        }
    }

    /// Decides how the units of each table are counted: each joined row another unit where that is
    /// certain, distinct tags otherwise.
    pub(super) fn units(
        &mut self,
        drafts: &mut [Draft<'_>],
        once: &[bool],
        keys: &KeyClasses,
        key_refs: &BTreeMap<(usize, u32), ColumnRef>,
        bits: u32,
    ) -> Result<()> {
        for (relation, of) in self.sorted.block.relations.iter().enumerate() {
            let Some(draft) = drafts.get_mut(relation) else {
                continue;
            };
            let once = once.get(relation).copied().unwrap_or(false);
            let tag = match &of.table.unit {
                Unit::None => continue,
                Unit::Row if once => None,
                Unit::Row => {
                    return Err(Error::new(
                        Code::NotUnique,
                        format!(
                            "the privacy unit of {} is its row, and this join repeats rows: its \
                             owner declares a unit column, or the key of the other side",
                            of.name()
                        ),
                    ));
                }
                Unit::Column(name) => {
                    let unit = of
                        .table
                        .columns
                        .iter()
                        .position(|column| column.name == *name)
                        .ok_or_else(|| {
                            Error::new(
                                Code::BadConfig,
                                format!("{} has no unit column {name}", of.name()),
                            )
                        })?;
                    let key_columns = self.sorted.key_columns(relation);
                    let never_null =
                        key_columns.contains(&unit) || !draft.catalogued(unit)?.nullable;
                    let single = keys.of_relation(relation).into_iter().find(|(_, tuple)| {
                        matches!(tuple.as_slice(), [equal]
                            if self.sorted.equal.get(*equal).and_then(|e| e.of(relation)) == Some(unit))
                    });
                    let one_row_each = draft.shape.unique_on(&[unit].into());
                    let grouped = draft.shape.grouped;
                    let has_columns = !draft.is_empty() || self.adds_columns(relation, grouped);
                    if once && never_null && one_row_each && has_columns {
                        None
                    } else if let Some((class, _)) = single {
                        key_refs.get(&(relation, class)).copied()
                    } else {
                        let id = columns::ColumnId {
                            relation,
                            column: unit,
                        };
                        Some(draft.value(&columns::column_expr(id), Encoding::UnitTag { bits })?)
                    }
                }
            };
            self.unit_of.push((relation, tag));
        }
        for (relation, _) in self.unit_of.clone() {
            self.unit(relation, None)?;
        }
        Ok(())
    }

    /// Whether groups, conditions or aggregates will give a relation's fragment a column; where it
    /// is grouped, one to group by.
    fn adds_columns(&self, relation: usize, grouped: bool) -> bool {
        let block = self.sorted.block;
        let mut crosses = false;
        for condition in &self.sorted.cross {
            condition.leaves(&mut |leaf, _| crosses |= leaf == relation);
        }
        crosses
            || block.groups.iter().any(|id| id.relation == relation)
            || !grouped
                && block.calls.iter().any(|call| {
                    let Some(argument) = &call.argument else {
                        return false;
                    };
                    // What is never NULL is counted without being sent.
                    columns::relations_of(argument).contains(&relation)
                        && (call.function != Function::Count
                            || argument.nullable(&self.sorted.types).unwrap_or(true))
                })
    }

    /// The count of a relation's units, over rows where the argument is not NULL.
    fn unit(&mut self, relation: usize, argument: Option<ColumnRef>) -> Result<usize> {
        let known = self
            .units
            .iter()
            .position(|(of, unit)| *of == relation && unit.argument == argument);
        if let Some(known) = known {
            return Ok(known);
        }
        let missing = || Error::new(Code::Internal, "a privacy unit of no owner");
        let owner = &self
            .sorted
            .block
            .relations
            .get(relation)
            .ok_or_else(missing)?
            .department;
        let tag = self
            .unit_of
            .iter()
            .find(|(of, _)| *of == relation)
            .and_then(|(_, tag)| *tag);
        let unit = UnitCount {
            owner: rules::party(self.parties, owner).ok_or_else(missing)?,
            unit: tag,
            argument,
            k: self.demands.get(owner).ok_or_else(missing)?.k.max(1),
        };
        self.units.push((relation, unit));
        Ok(self.units.len() - 1)
    }

    /// Adds what one aggregate of the query needs.
    pub(super) fn call(
        &mut self,
        call: &Call,
        drafts: &mut [Draft<'_>],
        row_bound: u128,
    ) -> Result<()> {
        let source = match (call.function, &call.argument) {
            (Function::CountRows, _) | (_, None) => ReleasedSource::Cell(self.count_rows(drafts)?),
            (Function::Count, Some(argument)) => {
                ReleasedSource::Cell(self.count(argument, drafts, row_bound)?)
            }
            (Function::Sum, Some(argument)) => {
                ReleasedSource::Cell(self.sum(argument, drafts, row_bound)?)
            }
            (Function::Avg, Some(argument)) => {
                let sum = self.sum(argument, drafts, row_bound)?;
                let count = self.count(argument, drafts, row_bound)?;
                ReleasedSource::Average { sum, count }
            }
        };
        let data_type = ScalarType::from_arrow(&call.data_type).ok_or_else(|| {
            self.query
                .unsupported("an aggregate with a result of this type", &[])
        })?;
        self.columns.push(ReleasedColumn {
            source,
            data_type,
            nullable: true,
        });
        Ok(())
    }

    fn count_rows(&mut self, drafts: &mut [Draft<'_>]) -> Result<usize> {
        let weights = weights(drafts, None);
        self.cell(None, weights, None)
    }

    fn count(
        &mut self,
        argument: &Expr,
        drafts: &mut [Draft<'_>],
        row_bound: u128,
    ) -> Result<usize> {
        let relation = self.owner_of(argument)?;
        let nullable = argument.nullable(&self.sorted.types).unwrap_or(true);
        if !nullable {
            return self.count_rows(drafts);
        }
        let mut weights = weights(drafts, Some(relation));
        let draft = drafts
            .get_mut(relation)
            .ok_or_else(|| Error::new(Code::Internal, "an aggregate over no table"))?;
        if !draft.shape.grouped {
            let column = self.row_argument(argument, draft, row_bound)?;
            return self.cell(None, weights, Some(column));
        }
        weights.push(draft.count(argument)?);
        let column = if self.is_summed(argument) {
            let (argument, _, scale) = self.number(argument)?;
            draft.sum(&argument, scale)?
        } else {
            draft.count_or_null(argument)?
        };
        self.cell(None, weights, Some(column))
    }

    fn sum(&mut self, argument: &Expr, drafts: &mut [Draft<'_>], row_bound: u128) -> Result<usize> {
        let relation = self.owner_of(argument)?;
        let weights = weights(drafts, Some(relation));
        let draft = drafts
            .get_mut(relation)
            .ok_or_else(|| Error::new(Code::Internal, "an aggregate over no table"))?;
        if draft.shape.grouped {
            let (argument, _, scale) = self.number(argument)?;
            let column = draft.sum(&argument, scale)?;
            // A sum is nullable to the engine, whatever its argument.
            return self.cell(Some(column), weights, Some(column));
        }
        let nullable = argument.nullable(&self.sorted.types).unwrap_or(true);
        let column = self.row_argument(argument, draft, row_bound)?;
        self.cell(Some(column), weights, nullable.then_some(column))
    }

    /// The column of a row's argument: summed if it is a number, else only looked at for NULL.
    fn row_argument(
        &self,
        argument: &Expr,
        draft: &mut Draft<'_>,
        row_bound: u128,
    ) -> Result<ColumnRef> {
        let data_type = self.type_of(argument)?;
        match ScalarType::from_arrow(&data_type) {
            Some(ScalarType::Utf8) => match columns::base_column(argument) {
                Some(id) => {
                    let form = draft.shared_form(id.column)?;
                    draft.value(argument, form)
                }
                None => Err(self
                    .query
                    .unsupported("COUNT of a text expression: count a column", &[])),
            },
            Some(form @ (ScalarType::Bool | ScalarType::Date | ScalarType::Timestamp)) => {
                draft.value(argument, number_form(form)?)
            }
            _ => {
                let summed = self.is_summed(argument);
                let (argument, of, _) = self.number(argument)?;
                let narrow = match of {
                    ScalarType::Decimal { precision, .. } => precision <= 18,
                    _ => true,
                };
                let fits = self.most(&argument, of, draft)?.is_some_and(|most| {
                    most.checked_mul(row_bound).is_some_and(|sum| sum < 1 << 63)
                });
                let form = if fits || (!summed && narrow) {
                    Encoding::Ring64
                } else {
                    Encoding::Ring128
                };
                draft.value(&argument, form)
            }
        }
    }

    /// Whether the query sums this argument too.
    fn is_summed(&self, argument: &Expr) -> bool {
        self.sorted.block.calls.iter().any(|call| {
            matches!(call.function, Function::Sum | Function::Avg)
                && call.argument.as_ref() == Some(argument)
        })
    }

    /// A bound on the absolute value of a number, in units of its last digit.
    fn most(&self, argument: &Expr, of: ScalarType, draft: &Draft<'_>) -> Result<Option<u128>> {
        if let Some(id) = columns::base_column(argument) {
            let declared = draft.catalogued(id.column)?.max_abs;
            if declared > 0 {
                return Ok(Some(u128::from(declared)));
            }
        }
        Ok(match of {
            ScalarType::Decimal { precision, .. } => 10_u128
                .checked_pow(u32::from(precision))
                .map(|power| power - 1),
            _ => None,
        })
    }

    /// A number as int64 or decimal, with its type and scale.
    fn number(&self, argument: &Expr) -> Result<(Expr, ScalarType, u8)> {
        let data_type = self.type_of(argument)?;
        match ScalarType::from_arrow(&data_type) {
            Some(of @ ScalarType::Int64) => Ok((argument.clone(), of, 0)),
            Some(of @ ScalarType::Decimal { scale, .. }) => Ok((argument.clone(), of, scale)),
            None if data_type.is_integer() && data_type != DataType::UInt64 => {
                let cast = Cast::new(Box::new(argument.clone()), DataType::Int64);
                Ok((Expr::Cast(cast), ScalarType::Int64, 0))
            }
            _ => Err(self.query.unsupported(
                "SUM or AVG of anything but int64 and decimal: cast the argument",
                &["SUM", "AVG"],
            )),
        }
    }

    fn type_of(&self, argument: &Expr) -> Result<DataType> {
        argument
            .get_type(&self.sorted.types)
            .map_err(|_| Error::new(Code::TypeMismatch, "an aggregate's argument has no type"))
    }

    fn owner_of(&self, argument: &Expr) -> Result<usize> {
        match columns::relations_of(argument).as_slice() {
            [relation] => Ok(*relation),
            _ => Err(self.query.unsupported(
                "an aggregate over columns of several tables: aggregate each table's columns, and \
                 combine the results",
                &["SUM", "AVG", "COUNT"],
            )),
        }
    }

    fn cell(
        &mut self,
        sum: Option<ColumnRef>,
        weights: Vec<ColumnRef>,
        argument: Option<ColumnRef>,
    ) -> Result<usize> {
        let relations: Vec<usize> = self.unit_of.iter().map(|(relation, _)| *relation).collect();
        let guards = relations
            .into_iter()
            .map(|relation| self.unit(relation, argument))
            .collect::<Result<Vec<_>>>()?;
        let cell = Cell {
            sum,
            weights,
            argument,
            guards,
        };
        Ok(match self.cells.iter().position(|known| *known == cell) {
            Some(known) => known,
            None => {
                self.cells.push(cell);
                self.cells.len() - 1
            }
        })
    }

    /// Everything collected.
    pub(super) fn finish(self) -> Finished {
        let group_guards = self
            .units
            .iter()
            .enumerate()
            .filter(|(_, (_, unit))| unit.argument.is_none())
            .map(|(index, _)| index)
            .collect();
        Finished {
            cells: self.cells,
            units: self.units.into_iter().map(|(_, unit)| unit).collect(),
            group_guards,
            columns: self.columns,
        }
    }
}

/// Row counts of every grouped fragment but one.
fn weights(drafts: &mut [Draft<'_>], except: Option<usize>) -> Vec<ColumnRef> {
    drafts
        .iter_mut()
        .enumerate()
        .filter(|(relation, _)| Some(*relation) != except)
        .filter_map(|(_, draft)| draft.weight())
        .collect()
}
