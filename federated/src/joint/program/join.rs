//! Joins of a program.

use super::super::blame::Failure;
use super::{Cells, Result, Rows, Runner, convert};
use crate::error::{Code, Error};
use crate::plan::program::{JoinKind, Program, Relational, Variable, code_bits};
use crate::plan::{Encoding, JointPlan};
use std::collections::BTreeSet;
use veilgate_mpc::circuit::{not, or};
use veilgate_mpc::context::Context;
use veilgate_mpc::net::Step;
use veilgate_mpc::oblivious::join::{Kind, Matches, Side, join_many};
use veilgate_mpc::share::BitColumn;
use veilgate_mpc::table::{Column, SharedTable};

/// The most rows that a join makes which repeats rows of both sides.
const MAX_ROWS: usize = 1 << 24;

impl Runner<'_> {
    #[allow(clippy::too_many_arguments)] // what a join is made of
    pub(super) fn join(
        &self,
        ctx: &mut Context,
        step: &Step,
        kind: JoinKind,
        left: Rows,
        right: Rows,
        on: &[(Variable, Variable)],
        (matched, most, left_most): (Option<Variable>, u64, Option<u64>),
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
        let several = usize::try_from(most).unwrap_or(usize::MAX);
        let matches = match several {
            1 => Some(Matches::find(
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
                left_most,
            )?),
            _ => None,
        };
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
        let sides = (
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
        );
        let joined = match matches {
            Some(matches) => matches.join(ctx, step, sides.0, sides.1, &kept)?,
            None => join_many(ctx, step, kind_of, sides.0, sides.1, &kept, several, None)?,
        };
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
}

/// The memory of the largest join of a program while it finds matches, given the fragments' rows.
pub(in crate::joint) fn joining(
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
                most: partners,
                ..
            } => {
                let partners = usize::try_from(*partners).unwrap_or(usize::MAX);
                let lefts = of(*left).saturating_mul(partners);
                if partners > 1 && lefts > MAX_ROWS {
                    return Err(too_many_rows());
                }
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
                let all = lefts.saturating_add(of(*right));
                most = most.max(Matches::work_bytes(all, bits));
                if *kind == JoinKind::Full { all } else { lefts }
            }
            Relational::Beside {
                left,
                right,
                most: few,
            } => {
                let few = usize::try_from(*few).unwrap_or(usize::MAX);
                let made = of(*left).saturating_mul(of(*right).min(few).max(1));
                if made > MAX_ROWS {
                    return Err(too_many_rows());
                }
                made
            }
            Relational::Filter { input, .. }
            | Relational::Map { input, .. }
            | Relational::Guard { input, .. }
            | Relational::Window { input, .. } => of(*input),
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

fn too_many_rows() -> Error {
    Error::new(
        Code::LimitExceeded,
        format!("a join that repeats rows of both sides would make more than {MAX_ROWS} rows"),
    )
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
