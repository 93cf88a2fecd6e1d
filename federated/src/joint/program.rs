//! Runs a [`Program`] over shares: one computing party's part.
//!
//! Every operator keeps the invariants that a value which is NULL is zero in its row, and that columns
//! nobody looks at any more are dropped before rows move.

mod convert;
mod expression;

use super::blame::Failure;
use crate::error::{Code, Error};
use crate::plan::program::{
    Aggregate, AggregateKind, JoinKind, OrderKey, Program, Relational, Types, Variable, code_bits,
};
use crate::plan::{Encoding, Fragment, JointPlan};
use convert::Number;
use std::collections::{BTreeMap, BTreeSet};
use veilgate_mpc::circuit::{and, greater_equal_public, multiply_by_flag, not, or};
use veilgate_mpc::context::Context;
use veilgate_mpc::net::Step;
use veilgate_mpc::oblivious::compact::compact;
use veilgate_mpc::oblivious::group::{self, Agg, Which};
use veilgate_mpc::oblivious::join::{Kind, Matches, Side};
use veilgate_mpc::oblivious::order::{OrderKey as Order, encode};
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

    /// Bit columns that can be compared, of one width for both sides, in the order of `on`.
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
                } => {
                    let (left, right) = (take(*left)?, take(*right)?);
                    self.join(ctx, &step, *kind, left, right, on, *matched, keep)?
                }
                Relational::Beside { left, one } => {
                    let (left, one) = (take(*left)?, take(*one)?);
                    beside(ctx, &step, left, one)?
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
                Relational::Top { input, keys, rows } => {
                    let of = take(*input)?;
                    self.top(ctx, &step, of, keys, *rows)?
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

    #[allow(clippy::too_many_arguments)] // what a join is made of
    fn join(
        &self,
        ctx: &mut Context,
        step: &Step,
        kind: JoinKind,
        left: Rows,
        right: Rows,
        on: &[(Variable, Variable)],
        matched: Option<Variable>,
        keep: Option<&BTreeSet<Variable>>,
    ) -> Result<Rows> {
        let left_rows = left.rows();
        let (mut lefts, mut rights) = (Vec::new(), Vec::new());
        for (at, (a, b)) in on.iter().enumerate() {
            let here = step.at("key", at);
            let (x, y) = self.aligned(ctx, &here, (&left, *a), (&right, *b))?;
            lefts.push((x, left.cells(*a)?.null.clone()));
            rights.push((y, right.cells(*b)?.null.clone()));
        }
        // One key that neither side can lack, by which both sides came sorted, is merged.
        let sorted = |rows: &Rows, variable: Variable| rows.sorted == Some(variable);
        let merges = kind != JoinKind::Full
            && matches!(on, [(a, b)] if sorted(&left, *a) && sorted(&right, *b))
            && lefts.iter().chain(&rights).all(|(_, null)| null.is_none());
        let flat_right_keep = |rows: &Rows| -> BTreeSet<Variable> {
            let wanted = |v: &Variable| keep.is_none_or(|keep| keep.contains(v));
            rows.columns.keys().copied().filter(|v| wanted(v)).collect()
        };
        let (left_keys, right_keys) = (key_table(&left, lefts), key_table(&right, rights));
        let kind_of = match kind {
            JoinKind::Inner => Kind::Inner,
            JoinKind::Left => Kind::Left,
            JoinKind::Semi => Kind::Semi,
            JoinKind::Anti => Kind::Anti,
            JoinKind::NotIn => Kind::NotIn,
            JoinKind::Full => Kind::Full,
        };
        let side =
            |of: &'_ KeyTable| -> (Vec<usize>, Vec<usize>) { (of.keys.clone(), of.nulls.clone()) };
        let (lk, ln) = side(&left_keys);
        let (rk, rn) = side(&right_keys);
        let matches = Matches::find(
            ctx,
            step,
            kind_of,
            Side {
                table: &left_keys.table,
                keys: &lk,
                nulls: &ln,
                sorted: merges,
            },
            Side {
                table: &right_keys.table,
                keys: &rk,
                nulls: &rn,
                sorted: merges,
            },
        )?;
        let mut left = left;
        let mut right = right;
        let right_keep = match kind {
            JoinKind::Inner | JoinKind::Left | JoinKind::Full => flat_right_keep(&right),
            _ => BTreeSet::new(),
        };
        right.retain(&right_keep);
        if let Some(keep) = keep {
            left.retain(keep);
        }
        let sorted_by = left.sorted;
        let left_kept: Vec<Variable> = left.columns.keys().copied().collect();
        // The keys come along, as the operator wants to see them; they are dropped after.
        let (left, right) = (left.flat(), right.flat());
        let (lefts, rights) = (left.table.columns.len(), right.table.columns.len());
        let left_table = with_keys(left.table, &left_keys);
        let right_table = with_keys(right.table, &right_keys);
        let shifted =
            |at: &[usize], by: usize| -> Vec<usize> { at.iter().map(|k| k + by).collect() };
        let (lk, ln) = (shifted(&lk, lefts), shifted(&ln, lefts));
        let (rk, rn) = (shifted(&rk, rights), shifted(&rn, rights));
        let kept: Vec<usize> = (0..rights).collect();
        let joined = matches.join(
            ctx,
            step,
            Side {
                table: &left_table,
                keys: &lk,
                nulls: &ln,
                sorted: merges,
            },
            Side {
                table: &right_table,
                keys: &rk,
                nulls: &rn,
                sorted: merges,
            },
            &kept,
        )?;
        let offset = left_table.columns.len();
        let mut places = left.places;
        let moved = right.places.into_iter();
        places.extend(moved.map(|(variable, first, parts, null)| {
            (variable, first + offset, parts, null.map(|at| at + offset))
        }));
        let flag_at =
            |at: usize| Ok::<_, Failure>(joined.bits("program", offset + rights + at)?.clone());
        let (left_there, flag) = match kind {
            JoinKind::Left => (None, Some(flag_at(0)?)),
            JoinKind::Full => (Some(flag_at(0)?), Some(flag_at(1)?)),
            _ => (None, None),
        };
        let mut rows = Rows::of(joined, &places)?;
        if let Some(there) = left_there {
            let missing = not(ctx, &there);
            for (at, variable) in left_kept.iter().enumerate() {
                let Some(cells) = rows.columns.get_mut(variable) else {
                    continue;
                };
                cells.null = Some(match cells.null.take() {
                    None => missing.clone(),
                    Some(null) => or(ctx, &step.at("left_null", at), &null, &missing)?,
                });
            }
        }
        rows.sorted = sorted_by.filter(|_| rows.rows() == left_rows);
        if let Some(flag) = flag {
            let missing = not(ctx, &flag);
            for (at, variable) in right_keep.iter().enumerate() {
                let Some(cells) = rows.columns.get_mut(variable) else {
                    continue;
                };
                cells.null = Some(match cells.null.take() {
                    None => missing.clone(),
                    Some(null) => or(ctx, &step.at("null", at), &null, &missing)?,
                });
            }
            if let Some(matched) = matched {
                rows.columns.insert(
                    matched,
                    Cells {
                        parts: vec![Column::Bits(flag)],
                        null: None,
                    },
                );
            }
        }
        Ok(rows)
    }

    /// Two columns that are to be compared, as bits of one width.
    fn aligned(
        &self,
        ctx: &mut Context,
        step: &Step,
        (left, a): (&Rows, Variable),
        (right, b): (&Rows, Variable),
    ) -> Result<(BitColumn, BitColumn)> {
        let x = self.bits_of(ctx, &step.narrow("left"), left.cells(a)?)?;
        let y = self.bits_of(ctx, &step.narrow("right"), right.cells(b)?)?;
        let form = &self.types.value(a)?.form;
        Ok(match (form, &self.types.value(b)?.form) {
            (Encoding::Text { .. }, Encoding::Text { .. }) => convert::same_text(x, y),
            (Encoding::Bits(_) | Encoding::Ring64 | Encoding::Ring128, _) => {
                convert::same_width(x, y)
            }
            _ => (x, y),
        })
    }

    fn bits_of(&self, ctx: &mut Context, step: &Step, cells: &Cells) -> Result<BitColumn> {
        let [part] = cells.parts.as_slice() else {
            return Err(internal("bits of a long text"));
        };
        convert::bits(ctx, step, part)
    }

    fn group(
        &self,
        ctx: &mut Context,
        step: &Step,
        rows: Rows,
        keys: &[Variable],
        aggregates: &[Aggregate],
        most: u64,
    ) -> Result<Rows> {
        let count_rows = rows.rows();
        let mut columns: Vec<Column> = Vec::new();
        let mut push = |column: Column| {
            columns.push(column);
            columns.len() - 1
        };
        let mut key_positions = Vec::new();
        let mut key_places = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let cells = rows.cells(*key)?;
            let bits = self.bits_of(ctx, &step.at("key", at), cells)?;
            // NULL leads, so that NULLs are one group.
            let null = cells.null.clone().map(|null| push(Column::Bits(null)));
            let value = push(Column::Bits(bits));
            key_positions.extend(null);
            key_positions.push(value);
            key_places.push((*key, null.is_some()));
        }
        let mut aggs = Vec::new();
        // For each aggregate: the first of its results, how many, and the one that counts its values.
        let mut results = Vec::new();
        let mut present: BTreeMap<Variable, Option<usize>> = BTreeMap::new();
        for (at, aggregate) in aggregates.iter().enumerate() {
            let here = step.at("aggregate", at);
            let when = match aggregate.argument {
                None => None,
                Some(variable) => match present.get(&variable) {
                    Some(known) => *known,
                    None => {
                        let null = rows.cells(variable)?.null.clone();
                        let flag = null.map(|null| push(Column::Bits(not(ctx, &null))));
                        present.insert(variable, flag);
                        flag
                    }
                },
            };
            let first = aggs.len();
            let mut some = None;
            match (aggregate.function, aggregate.argument) {
                (AggregateKind::Count, _) => aggs.push(Agg::Count { when }),
                (AggregateKind::CountDistinct, Some(variable)) => {
                    let bits = self.bits_of(ctx, &here, rows.cells(variable)?)?;
                    let unit = push(Column::Bits(bits));
                    aggs.push(Agg::CountDistinct { unit, when });
                }
                (AggregateKind::Sum, Some(variable)) => {
                    let cells = rows.cells(variable)?;
                    let [part] = cells.parts.as_slice() else {
                        return Err(internal("a sum of a long text"));
                    };
                    let column = push(part.clone());
                    aggs.push(Agg::Sum { column });
                    if when.is_some() || keys.is_empty() {
                        aggs.push(Agg::Count { when });
                        some = Some(aggs.len() - 1);
                    }
                }
                (AggregateKind::Min | AggregateKind::Max, Some(variable)) => {
                    let bits = self.bits_of(ctx, &here, rows.cells(variable)?)?;
                    let bits = match self.is_signed(variable)? {
                        true => convert::flipped(ctx, bits),
                        false => bits,
                    };
                    let column = push(Column::Bits(bits));
                    let which = match aggregate.function {
                        AggregateKind::Min => Which::Min,
                        _ => Which::Max,
                    };
                    aggs.push(Agg::Value {
                        which,
                        column,
                        when,
                    });
                }
                (AggregateKind::Any, Some(variable)) => {
                    for part in rows.cells(variable)?.parts.clone() {
                        let column = push(part);
                        aggs.push(Agg::Value {
                            which: Which::First,
                            column,
                            when,
                        });
                    }
                }
                (_, None) => return Err(internal("an aggregate of nothing")),
            }
            results.push((first, some));
        }
        let table = SharedTable {
            columns,
            valid: rows.valid,
        };
        let grouped = group::aggregate(ctx, &step.narrow("group"), &table, &key_positions, &aggs)?;
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let grouped = match keys.is_empty() || most >= grouped.rows() {
            true => grouped,
            false => grouped.slice(0, most),
        };
        let mut made = BTreeMap::new();
        let mut at = 0;
        for (key, nullable) in key_places {
            let null = match nullable {
                true => {
                    at += 1;
                    Some(grouped.bits("program", at - 1)?.clone())
                }
                false => None,
            };
            let value = Column::Bits(grouped.bits("program", at)?.clone());
            at += 1;
            made.insert(
                key,
                Cells {
                    parts: vec![value],
                    null,
                },
            );
        }
        for (index, (aggregate, (first, some))) in aggregates.iter().zip(results).enumerate() {
            let here = step.at("result", index);
            let first = key_positions.len() + first;
            let cells = self.result(
                ctx,
                &here,
                &grouped,
                aggregate,
                first,
                some.map(|some| key_positions.len() + some),
                (keys.is_empty(), count_rows),
            )?;
            made.insert(aggregate.variable, cells);
        }
        Ok(Rows {
            columns: made,
            valid: grouped.valid,
            sorted: None,
        })
    }

    #[allow(clippy::too_many_arguments)] // what a result is made of
    fn result(
        &self,
        ctx: &mut Context,
        step: &Step,
        grouped: &SharedTable,
        aggregate: &Aggregate,
        first: usize,
        some: Option<usize>,
        (global, rows): (bool, usize),
    ) -> Result<Cells> {
        let column = |at: usize| {
            let found = grouped.columns.get(at).cloned();
            found.ok_or_else(|| internal("an aggregate without its result"))
        };
        match (aggregate.function, aggregate.argument) {
            (AggregateKind::Sum, _) => {
                let null = match some {
                    None => None,
                    Some(some) => {
                        let Column::Arith64(count) = column(some)? else {
                            return Err(internal("a count that is no number"));
                        };
                        let bits = (rows.max(1) as u64).ilog2() as usize + 1;
                        let any = greater_equal_public(ctx, step, &count, 1, bits)?;
                        Some(not(ctx, &any))
                    }
                };
                Ok(Cells {
                    parts: vec![column(first)?],
                    null,
                })
            }
            (AggregateKind::Min | AggregateKind::Max | AggregateKind::Any, Some(variable)) => {
                let parts = match aggregate.function {
                    AggregateKind::Any => chunk_count(&self.types.value(variable)?.form),
                    _ => 1,
                };
                let nullable = self.types.value(variable)?.nullable || global;
                let mut values = Vec::new();
                let mut null = None;
                for part in 0..parts {
                    let Column::Bits(of) = column(first + part)? else {
                        return Err(internal("a value that is no bits"));
                    };
                    let value = of.bit_range(0, of.width() - 1);
                    let none = of.bit_range(of.width() - 1, 1);
                    let signed =
                        aggregate.function != AggregateKind::Any && self.is_signed(variable)?;
                    let value = match signed {
                        true => convert::flipped(ctx, value),
                        false => value,
                    };
                    let value = match nullable {
                        false => value,
                        true => {
                            let some = not(ctx, &none);
                            convert::masked(ctx, &step.at("mask", part), &value, &some)?
                        }
                    };
                    values.push(Column::Bits(value));
                    if nullable && part == 0 {
                        null = Some(none);
                    }
                }
                Ok(Cells {
                    parts: values,
                    null,
                })
            }
            _ => Ok(Cells {
                parts: vec![column(first)?],
                null: None,
            }),
        }
    }

    /// Whether a column's bits are two's complement.
    fn is_signed(&self, variable: Variable) -> Result<bool> {
        Ok(convert::signed(self.types.value(variable)?))
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
        let mut bits = Vec::new();
        for (at, key) in keys.iter().enumerate() {
            let cells = rows.cells(key.variable)?;
            let of = self.bits_of(ctx, &step.at("key", at), cells)?;
            bits.push((of, cells.null.clone(), self.is_signed(key.variable)?, *key));
        }
        let orders: Vec<Order<'_>> = bits
            .iter()
            .map(|(column, null, signed, key)| Order {
                column,
                null: null.as_ref(),
                descending: !key.ascending,
                nulls_first: key.nulls_first,
                signed: *signed,
            })
            .collect();
        let encoded = encode(ctx.role(), &rows.valid, &orders);
        let references: Vec<&BitColumn> = encoded.iter().collect();
        let flat = rows.flat();
        let table = top_k(ctx, &step.narrow("top"), &flat.table, &references, most)?;
        Rows::of(table, &flat.places)
    }

    fn union(
        &self,
        ctx: &mut Context,
        step: &Step,
        parts: Vec<(Rows, &Vec<Variable>)>,
        columns: &[Variable],
    ) -> Result<Rows> {
        let mut made: Option<(Vec<Cells>, BitColumn)> = None;
        for (index, (rows, of)) in parts.into_iter().enumerate() {
            let mut cells = Vec::new();
            for (at, (from, to)) in of.iter().zip(columns).enumerate() {
                let here = step.at("part", index).at("column", at);
                let value = self.types.value(*to)?;
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

/// The memory of the largest join of a program while it finds matches, given the fragments' rows.
pub(super) fn joining(
    plan: &JointPlan,
    program: &Program,
    sizes: &[usize],
) -> std::result::Result<u64, Error> {
    let types = program.check(&plan.fragments)?;
    let mut rows: Vec<usize> = sizes.to_vec();
    let mut most = 0;
    for operator in &program.operators {
        let of = |relation: usize| rows.get(relation).copied().unwrap_or(0);
        let made = match operator {
            Relational::Join {
                kind,
                left,
                right,
                on,
                ..
            } => {
                let mut bits = 0;
                for (a, b) in on {
                    let width = |variable| -> std::result::Result<usize, Error> {
                        Ok(match &types.value(variable)?.form {
                            Encoding::KeyTag { bits, .. }
                            | Encoding::UnitTag { bits }
                            | Encoding::Bits(bits) => *bits as usize,
                            Encoding::Ring64 => 64,
                            Encoding::Ring128 => 128,
                            Encoding::Codes(codes) => code_bits(codes.len()) as usize,
                            Encoding::Text { max_bytes } => 8 * (*max_bytes as usize + 1),
                        })
                    };
                    bits += width(*a)?.max(width(*b)?);
                }
                let all = of(*left).saturating_add(of(*right));
                most = most.max(Matches::work_bytes(all, bits));
                if *kind == JoinKind::Full {
                    all
                } else {
                    of(*left)
                }
            }
            Relational::Beside { left: input, .. }
            | Relational::Filter { input, .. }
            | Relational::Map { input, .. } => of(*input),
            Relational::Group { input, most, .. } => {
                of(*input).min(usize::try_from(*most).unwrap_or(usize::MAX))
            }
            Relational::Top { input, rows, .. } => {
                of(*input).min(usize::try_from(*rows).unwrap_or(usize::MAX))
            }
            Relational::Union { inputs, .. } => inputs
                .iter()
                .map(|(input, _)| of(*input))
                .fold(0, usize::saturating_add),
        };
        rows.push(made);
    }
    Ok(most)
}

fn chunk_count(form: &Encoding) -> usize {
    match form {
        Encoding::Text { max_bytes } => crate::plan::program::chunks(*max_bytes).len(),
        _ => 1,
    }
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

/// The keys of one side of a join.
struct KeyTable {
    table: SharedTable,
    keys: Vec<usize>,
    nulls: Vec<usize>,
}

fn key_table(rows: &Rows, columns: Vec<(BitColumn, Option<BitColumn>)>) -> KeyTable {
    let mut made = KeyTable {
        table: SharedTable {
            columns: Vec::new(),
            valid: rows.valid.clone(),
        },
        keys: Vec::new(),
        nulls: Vec::new(),
    };
    for (key, null) in columns {
        made.keys.push(made.table.columns.len());
        made.table.columns.push(Column::Bits(key));
        if let Some(null) = null {
            made.nulls.push(made.table.columns.len());
            made.table.columns.push(Column::Bits(null));
        }
    }
    made
}

fn with_keys(mut table: SharedTable, keys: &KeyTable) -> SharedTable {
    table.columns.extend(keys.table.columns.iter().cloned());
    table
}

/// Every row of `left` beside the one of `one`. Local but for its validity.
fn beside(ctx: &mut Context, step: &Step, left: Rows, one: Rows) -> Result<Rows> {
    let rows = left.rows();
    let mut made = left;
    let repeated = |column: &Column| match column {
        Column::Bits(bits) => Column::Bits(bits.slice(0, 1).repeated(rows)),
        Column::Arith64(x) => Column::Arith64(repeated_number(x, rows)),
        Column::Arith128(x) => Column::Arith128(repeated_number(x, rows)),
    };
    if one.rows() == 0 {
        made.valid = BitColumn::zeros(1, rows);
    } else {
        let valid = one.valid.slice(0, 1).repeated(rows);
        made.valid = and(ctx, &step.narrow("valid"), &made.valid, &valid)?;
    }
    for (variable, cells) in one.columns {
        let cells = match one.valid.rows() {
            0 => cells,
            _ => Cells {
                parts: cells.parts.iter().map(repeated).collect(),
                null: cells.null.map(|null| null.slice(0, 1).repeated(rows)),
            },
        };
        made.columns.insert(variable, cells);
    }
    Ok(made)
}

fn repeated_number<T: veilgate_mpc::ring::Ring>(x: &Arith<T>, rows: usize) -> Arith<T> {
    let (a, b) = x.components();
    let of = |words: &[T]| vec![words.first().copied().unwrap_or_default(); rows];
    Arith::from_components(of(a), of(b)).unwrap_or_else(|_| Arith::zeros(rows))
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
