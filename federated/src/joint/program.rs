//! Runs a [`Program`] over shares: one computing party's part.
//!
//! Every operator keeps the invariants that a value which is NULL is zero in its row, and that columns
//! nobody looks at any more are dropped before rows move.

mod convert;
mod expression;
mod group;
mod guard;
mod join;
mod percentile;
mod window;

use super::blame::Failure;
use crate::error::{Code, Error};
use crate::plan::program::{OrderKey, Program, Relational, Types, Variable};
use crate::plan::{Encoding, Fragment};
use convert::Number;
pub(super) use join::joining;
use std::collections::{BTreeMap, BTreeSet};
use veilgate_mpc::circuit::{and, multiply_by_flag, not};
use veilgate_mpc::context::Context;
use veilgate_mpc::net::Step;
use veilgate_mpc::oblivious::compact::compact;
use veilgate_mpc::oblivious::order::OrderKey as Order;
use veilgate_mpc::oblivious::sort::top_k;
use veilgate_mpc::share::{Arith, BitColumn};
use veilgate_mpc::table::{Column, SharedTable};

type Result<T> = std::result::Result<T, Failure>;

fn internal(what: &str) -> Failure {
    Error::new(Code::Internal, what).into()
}

/// A column of a relation.
#[derive(Debug, Clone)]
pub(super) struct Cells {
    /// One column, or several for a long text.
    pub(super) parts: Vec<Column>,
    /// Where it is NULL; none: nowhere.
    pub(super) null: Option<BitColumn>,
}

/// Rows of shares.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    pub(super) columns: BTreeMap<Variable, Cells>,
    pub(super) valid: BitColumn,
    /// The column by which rows ascend, valid or not.
    pub(super) sorted: Option<Variable>,
}

/// Rows as one shared table, while an operator moves them.
struct Flat {
    table: SharedTable,
    /// Where each column's parts begin, how many they are, and where its NULL flags are.
    places: Vec<(Variable, usize, usize, Option<usize>)>,
}

impl Rows {
    fn rows(&self) -> usize {
        self.valid.rows()
    }

    pub(super) fn cells(&self, variable: Variable) -> Result<&Cells> {
        self.columns
            .get(&variable)
            .ok_or_else(|| internal("an operator asks for a column that is not there"))
    }

    fn flat(self) -> Flat {
        let mut columns = Vec::new();
        let mut places = Vec::new();
        for (variable, cells) in self.columns {
            let first = columns.len();
            let parts = cells.parts.len();
            columns.extend(cells.parts);
            let null = cells.null.map(|null| {
                columns.push(Column::Bits(null));
                columns.len() - 1
            });
            places.push((variable, first, parts, null));
        }
        Flat {
            table: SharedTable {
                columns,
                valid: self.valid,
            },
            places,
        }
    }

    fn of(table: SharedTable, places: &[(Variable, usize, usize, Option<usize>)]) -> Result<Self> {
        let mut columns = BTreeMap::new();
        for (variable, first, parts, null) in places {
            let of = table
                .columns
                .get(*first..first + parts)
                .ok_or_else(|| internal("an operator lost a column"))?;
            let null = match null {
                Some(at) => Some(table.bits("program", *at)?.clone()),
                None => None,
            };
            columns.insert(
                *variable,
                Cells {
                    parts: of.to_vec(),
                    null,
                },
            );
        }
        Ok(Self {
            columns,
            valid: table.valid,
            sorted: None,
        })
    }

    /// Drops the columns that nobody looks at any more.
    fn retain(&mut self, needed: &BTreeSet<Variable>) {
        self.columns.retain(|variable, _| needed.contains(variable));
    }
}

/// A run of a program at a computing party.
pub(super) struct Runner<'a> {
    pub(super) program: &'a Program,
    pub(super) types: Types,
}

impl<'a> Runner<'a> {
    pub(super) fn new(
        program: &'a Program,
        fragments: &[Fragment],
    ) -> std::result::Result<Self, Error> {
        Ok(Self {
            program,
            types: program.check(fragments)?,
        })
    }

    /// The opened columns of the last relation, invalid rows cleared and compacted: for each its parts,
    /// then its NULL flags where it can be NULL.
    pub(super) fn run(&self, ctx: &mut Context, inputs: Vec<Rows>) -> Result<SharedTable> {
        let fragments = inputs.len();
        let mut relations: Vec<Option<Rows>> = inputs.into_iter().map(Some).collect();
        let needed = self.needed(fragments);
        for (index, operator) in self.program.operators.iter().enumerate() {
            let step = Step::new("program").at("", index);
            let keep = needed.get(fragments + index);
            let mut take = |relation: usize| {
                let taken = relations.get_mut(relation).and_then(Option::take);
                let mut rows = taken.ok_or_else(|| internal("a relation is used twice"))?;
                if let Some(keep) = needed.get(relation) {
                    rows.retain(keep);
                }
                Ok::<Rows, Failure>(rows)
            };
            let made = match operator {
                Relational::Join {
                    kind,
                    left,
                    right,
                    on,
                    matched,
                    most,
                    left_most,
                } => {
                    let (left, right) = (take(*left)?, take(*right)?);
                    let flag = (*matched, *most, *left_most);
                    self.join(ctx, &step, *kind, left, right, on, flag, keep)?
                }
                Relational::Beside { left, right, most } => {
                    let (left, right) = (take(*left)?, take(*right)?);
                    beside(ctx, &step, left, right, *most)?
                }
                Relational::Filter { input, condition } => {
                    let mut rows = take(*input)?;
                    let relation = *input;
                    let bit = self.is_true(ctx, &step, relation, &rows, condition)?;
                    rows.valid = and(ctx, &step.narrow("valid"), &rows.valid, &bit)?;
                    rows
                }
                Relational::Map { input, computed } => {
                    let mut rows = take(*input)?;
                    for (at, (variable, expression)) in computed.iter().enumerate() {
                        if keep.is_some_and(|keep| !keep.contains(variable))
                            && !computed[at..].iter().any(|(_, later)| {
                                let mut looks = Vec::new();
                                later.columns(&mut looks);
                                looks.contains(variable)
                            })
                        {
                            continue;
                        }
                        let here = step.at("map", at);
                        let cells = self.evaluate(ctx, &here, *input, &rows, expression)?;
                        rows.columns.insert(*variable, cells);
                    }
                    rows
                }
                Relational::Group {
                    input,
                    keys,
                    aggregates,
                    most,
                } => {
                    let rows = take(*input)?;
                    self.group(ctx, &step, rows, keys, aggregates, *most)?
                }
                Relational::Guard {
                    input,
                    units,
                    cells,
                    keeps_rows,
                } => {
                    let rows = take(*input)?;
                    self.guard(ctx, &step, rows, units, cells, *keeps_rows)?
                }
                Relational::Top { input, keys, rows } => {
                    let of = take(*input)?;
                    self.top(ctx, &step, of, keys, *rows)?
                }
                Relational::Window {
                    input,
                    partition,
                    order,
                    calls,
                } => {
                    let rows = take(*input)?;
                    self.window(ctx, &step, rows, partition, order, calls)?
                }
                Relational::Union { inputs, columns } => {
                    let mut parts = Vec::new();
                    for (input, of) in inputs {
                        parts.push((take(*input)?, of));
                    }
                    self.union(ctx, &step, parts, columns)?
                }
            };
            relations.push(Some(made));
        }
        let last = relations.pop().flatten();
        let last = last.ok_or_else(|| internal("a program without a result"))?;
        self.opened(ctx, last)
    }

    /// For each relation the columns that operators after it, or the release, look at.
    fn needed(&self, fragments: usize) -> Vec<BTreeSet<Variable>> {
        let count = fragments + self.program.operators.len();
        let mut needed: Vec<BTreeSet<Variable>> = vec![BTreeSet::new(); count];
        if let Some(last) = needed.last_mut() {
            last.extend(&self.program.opened);
        }
        for (index, operator) in self.program.operators.iter().enumerate().rev() {
            let wanted = needed[fragments + index].clone();
            let looks: BTreeSet<Variable> = operator.looks_at().into_iter().collect();
            for input in operator.inputs() {
                let own = &self.types.relations[input];
                needed[input] = wanted
                    .union(&looks)
                    .filter(|v| own.contains(v))
                    .copied()
                    .collect();
            }
        }
        needed
    }

    fn bits_of(&self, ctx: &mut Context, step: &Step, cells: &Cells) -> Result<BitColumn> {
        let [part] = cells.parts.as_slice() else {
            return Err(internal("bits of a long text"));
        };
        convert::bits(ctx, step, part)
    }

    /// Whether a column's bits are two's complement.
    fn is_signed(&self, variable: Variable) -> Result<bool> {
        Ok(convert::signed(self.types.value(variable)?))
    }

    /// Bit columns, most significant first, whose order as unsigned numbers is this one.
    fn order_bits(
        &self,
        ctx: &mut Context,
        step: &Step,
        rows: &Rows,
        keys: &[OrderKey],
    ) -> Result<Vec<BitColumn>> {
        let mut encoded = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let cells = rows.cells(key.variable)?;
            let column = self.bits_of(ctx, &step.at("key", at), cells)?;
            let order = Order {
                column: &column,
                null: cells.null.as_ref(),
                descending: !key.ascending,
                nulls_first: key.nulls_first,
                signed: self.is_signed(key.variable)?,
            };
            encoded.extend(order.encode(ctx.role()));
        }
        Ok(encoded)
    }

    fn top(
        &self,
        ctx: &mut Context,
        step: &Step,
        rows: Rows,
        keys: &[OrderKey],
        most: u64,
    ) -> Result<Rows> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut encoded = vec![not(ctx, &rows.valid)];
        encoded.extend(self.order_bits(ctx, step, &rows, keys)?);
        let references: Vec<&BitColumn> = encoded.iter().collect();
        let flat = rows.flat();
        let table = top_k(ctx, &step.narrow("top"), &flat.table, &references, most)?;
        Rows::of(table, &flat.places)
    }

    fn union(
        &self,
        ctx: &mut Context,
        step: &Step,
        parts: Vec<(Rows, &Vec<Option<Variable>>)>,
        columns: &[Variable],
    ) -> Result<Rows> {
        let mut made: Option<(Vec<Cells>, BitColumn)> = None;
        for (index, (rows, of)) in parts.into_iter().enumerate() {
            let mut cells = Vec::new();
            for (at, (from, to)) in of.iter().zip(columns).enumerate() {
                let here = step.at("part", index).at("column", at);
                let value = self.types.value(*to)?;
                let Some(from) = from else {
                    cells.push(nothing(ctx, &value.form, rows.rows())?);
                    continue;
                };
                let mut own = rows.cells(*from)?.clone();
                if let [part] = own.parts.as_slice() {
                    let source = self.types.value(*from)?;
                    own.parts = vec![convert::into_form(ctx, &here, part, source, value)?];
                }
                if value.nullable && own.null.is_none() {
                    own.null = Some(BitColumn::zeros(1, rows.rows()));
                }
                cells.push(own);
            }
            made = Some(match made {
                None => (cells, rows.valid),
                Some((before, valid)) => {
                    let joined = before
                        .into_iter()
                        .zip(cells)
                        .map(|(a, b)| followed(a, &b))
                        .collect::<Result<Vec<_>>>()?;
                    (joined, valid.followed_by(&rows.valid))
                }
            });
        }
        let (cells, valid) = made.ok_or_else(|| internal("a union of nothing"))?;
        Ok(Rows {
            columns: columns.iter().copied().zip(cells).collect(),
            valid,
            sorted: None,
        })
    }

    fn opened(&self, ctx: &mut Context, rows: Rows) -> Result<SharedTable> {
        let count = rows.rows();
        let mut columns = Vec::new();
        for variable in &self.program.opened {
            let cells = rows.cells(*variable)?;
            columns.extend(cells.parts.iter().cloned());
            if self.types.value(*variable)?.nullable {
                let null = cells.null.clone();
                let null = null.unwrap_or_else(|| BitColumn::zeros(1, count));
                columns.push(Column::Bits(null));
            }
        }
        let table = SharedTable {
            columns,
            valid: rows.valid,
        };
        let step = Step::new("release");
        // Compacted, so that where a row was says nothing.
        let table = compact(ctx, &step.narrow("order"), &table, count)?;
        Ok(table.clear_invalid(ctx, &step.narrow("clear"))?)
    }
}

fn chunk_count(form: &Encoding) -> usize {
    match form {
        Encoding::Text { max_bytes } => crate::plan::program::chunks(*max_bytes).len(),
        _ => 1,
    }
}

/// A column of this form that is NULL in all rows.
fn nothing(ctx: &Context, form: &Encoding, rows: usize) -> Result<Cells> {
    let parts = match form {
        Encoding::Ring64 => vec![Column::Arith64(Arith::zeros(rows))],
        Encoding::Ring128 => vec![Column::Arith128(Arith::zeros(rows))],
        Encoding::Text { max_bytes } => crate::plan::program::chunks(*max_bytes)
            .into_iter()
            .map(|width| Column::Bits(BitColumn::zeros(width as usize, rows)))
            .collect(),
        other => {
            let width = match other {
                Encoding::Codes(codes) => crate::plan::program::code_bits(codes.len()),
                Encoding::KeyTag { bits, .. }
                | Encoding::UnitTag { bits }
                | Encoding::Bits(bits) => *bits,
                _ => return Err(internal("a form without a width")),
            };
            vec![Column::Bits(BitColumn::zeros(width as usize, rows))]
        }
    };
    Ok(Cells {
        parts,
        null: Some(BitColumn::ones(ctx.role(), 1, rows)),
    })
}

fn followed(a: Cells, b: &Cells) -> Result<Cells> {
    if a.parts.len() != b.parts.len() {
        return Err(internal("a union of texts of different lengths"));
    }
    let parts = a
        .parts
        .into_iter()
        .zip(&b.parts)
        .map(|(a, b)| a.followed_by("union", b))
        .collect::<std::result::Result<_, _>>()?;
    let null = match (a.null, &b.null) {
        (Some(a), Some(b)) => Some(a.followed_by(b)),
        _ => None,
    };
    Ok(Cells { parts, null })
}

/// Every row of `left` beside every row of `right`, which has few. Local but for its validity.
fn beside(ctx: &mut Context, step: &Step, left: Rows, right: Rows, most: u64) -> Result<Rows> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let (left, mut right) = (left.flat(), right.flat());
    if right.table.valid.rows() > most {
        right.table = compact(ctx, &step.narrow("few"), &right.table, most)?;
    }
    let (mut table, each) = SharedTable::every_pair(&left.table, &right.table)?;
    table.valid = and(ctx, &step.narrow("valid"), &table.valid, &each.valid)?;
    let offset = table.columns.len();
    table.columns.extend(each.columns);
    let moved = right.places.into_iter();
    let mut places = left.places;
    places.extend(moved.map(|(variable, first, parts, null)| {
        (variable, first + offset, parts, null.map(|at| at + offset))
    }));
    Rows::of(table, &places)
}

/// The number where a flag is set, else zero.
pub(super) fn times_flag(
    ctx: &mut Context,
    step: &Step,
    number: &Number,
    flag: &BitColumn,
) -> Result<Number> {
    Ok(match number {
        Number::Bits(bits) => Number::Bits(convert::masked(ctx, step, bits, flag)?),
        Number::Ring64(x) => Number::Ring64(multiply_by_flag(ctx, step, x, flag)?),
        Number::Ring128(x) => Number::Ring128(multiply_by_flag(ctx, step, x, flag)?),
    })
}
