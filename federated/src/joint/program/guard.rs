//! Guards of a program: rows and columns behind which too few privacy units stand are withheld.
//!
//! **Adversary**: semi-honest computing parties. **Leakage**: none: every result is a fresh sharing, and no
//! value is opened. **Cost**: for each count and row one conversion of [`COUNT_BITS`] bits (one, and one
//! more for atoms), all counts together in the rounds of one; then an AND for each table and atom, and a
//! product for each guarded column. See `docs/protocols/guards.md`.

use super::{Cells, Number, Result, Rows, Runner, convert, internal, times_flag};
use crate::plan::program::{GuardedCell, UnitGuard, Variable};
use veilgate_mpc::circuit::{a2b, and, not, or};
use veilgate_mpc::context::Context;
use veilgate_mpc::net::Step;
use veilgate_mpc::ring::Ring;
use veilgate_mpc::share::{Arith, BitColumn};
use veilgate_mpc::table::Column;

/// Counts of units are below 2^40. Rows that are no groups hold anything, and stay invalid.
const COUNT_BITS: usize = 40;

impl Runner<'_> {
    pub(super) fn guard(
        &self,
        ctx: &mut Context,
        step: &Step,
        mut rows: Rows,
        units: &[UnitGuard],
        cells: &[GuardedCell],
        keeps_rows: bool,
    ) -> Result<Rows> {
        let passes = self.passes(ctx, step, &rows, units)?;
        let enough = all(ctx, &step.narrow("rows"), passes.iter().map(|of| &of.rows))?;
        let mut shown: Vec<(Vec<u32>, BitColumn)> = Vec::new();
        let mut atoms_fit = None;
        for (at, cell) in cells.iter().enumerate() {
            if cell.atoms.is_empty() && !keeps_rows {
                continue;
            }
            let here = step.at("cell", at);
            let known = shown.iter().position(|(atoms, _)| *atoms == cell.atoms);
            let known = match known {
                Some(known) => known,
                None => {
                    let flag = match cell.atoms.is_empty() {
                        true => enough.clone(),
                        false => {
                            let fit = match atoms_fit.take() {
                                Some(fit) => fit,
                                None => fitting(ctx, &step.narrow("atoms"), &passes)?,
                            };
                            let fit = atoms_fit.insert(fit);
                            let fit = and(ctx, &here.narrow("fit"), fit, &enough)?;
                            self.some(ctx, &here, &passes, &cell.atoms, fit)?
                        }
                    };
                    shown.push((cell.atoms.clone(), flag));
                    shown.len() - 1
                }
            };
            let flag = &shown[known].1;
            withhold(ctx, &here, &mut rows, cell.value, flag)?;
        }
        if !keeps_rows {
            rows.valid = and(ctx, &step.narrow("valid"), &rows.valid, &enough)?;
        }
        Ok(rows)
    }

    /// Every count compared with its k, and those of atoms with one.
    fn passes(
        &self,
        ctx: &mut Context,
        step: &Step,
        rows: &Rows,
        units: &[UnitGuard],
    ) -> Result<Vec<Pass>> {
        let count = rows.rows();
        let mut differences: Option<Arith<u64>> = None;
        let mut add = |ctx: &Context, x: &Arith<u64>, least: u64| {
            let of = x.plus_public(ctx.role(), 0_u64.minus(least));
            differences = Some(match differences.take() {
                None => of,
                Some(before) => before.followed_by(&of),
            });
        };
        for (at, unit) in units.iter().enumerate() {
            let here = step.at("units", at);
            let k = u64::from(unit.k.max(1));
            let x = self.count(ctx, &here, rows, unit.rows)?;
            add(ctx, &x, k);
            for (index, atom) in unit.atoms.iter().enumerate() {
                let x = self.count(ctx, &here.at("atom", index), rows, *atom)?;
                add(ctx, &x, k);
                add(ctx, &x, 1);
            }
        }
        let differences = differences.ok_or_else(|| internal("a guard by no units"))?;
        let bits = a2b(ctx, &step.narrow("compare"), &differences, COUNT_BITS + 1)?;
        let enough = not(ctx, &bits.bit_range(COUNT_BITS, 1));
        let mut from = 0;
        let mut next = || {
            let part = enough.slice(from, count);
            from += count;
            part
        };
        Ok(units
            .iter()
            .map(|unit| Pass {
                rows: next(),
                atoms: unit.atoms.iter().map(|_| (next(), next())).collect(),
            })
            .collect())
    }

    /// A count as a number; where there is none it is zero.
    fn count(
        &self,
        ctx: &mut Context,
        step: &Step,
        rows: &Rows,
        variable: Variable,
    ) -> Result<Arith<u64>> {
        let [part] = rows.cells(variable)?.parts.as_slice() else {
            return Err(internal("a count that is a long text"));
        };
        convert::narrow(ctx, step, Number::of(part), true)
    }

    /// Where enough units of every table stand behind one of these atoms at least, and `fit` holds.
    fn some(
        &self,
        ctx: &mut Context,
        step: &Step,
        passes: &[Pass],
        atoms: &[u32],
        fit: BitColumn,
    ) -> Result<BitColumn> {
        let mut flag = fit;
        for (at, pass) in passes.iter().enumerate() {
            let here = step.at("units", at);
            let mut any: Option<BitColumn> = None;
            for atom in atoms {
                let (enough, _) = pass
                    .atoms
                    .get(*atom as usize)
                    .ok_or_else(|| internal("an atom that is not there"))?;
                any = Some(match any {
                    None => enough.clone(),
                    Some(before) => or(ctx, &here.at("or", *atom as usize), &before, enough)?,
                });
            }
            if let Some(any) = any {
                flag = and(ctx, &here.narrow("and"), &flag, &any)?;
            }
        }
        Ok(flag)
    }
}

/// Which counts of one table reach its k.
struct Pass {
    rows: BitColumn,
    /// For each atom whether it reaches k, and whether it has any unit.
    atoms: Vec<(BitColumn, BitColumn)>,
}

/// Where every atom of every table has no unit, or enough. What reaches k has one, so the two differ where
/// there are too few.
fn fitting(ctx: &mut Context, step: &Step, passes: &[Pass]) -> Result<BitColumn> {
    let mut fits = Vec::new();
    for pass in passes {
        for (enough, some) in &pass.atoms {
            fits.push(not(ctx, &enough.xor(some)));
        }
    }
    all(ctx, step, fits.iter())
}

fn all<'a>(
    ctx: &mut Context,
    step: &Step,
    flags: impl Iterator<Item = &'a BitColumn>,
) -> Result<BitColumn> {
    let mut made: Option<BitColumn> = None;
    for (at, flag) in flags.enumerate() {
        made = Some(match made {
            None => flag.clone(),
            Some(before) => and(ctx, &step.at("and", at), &before, flag)?,
        });
    }
    made.ok_or_else(|| internal("a guard by no units"))
}

/// The column where the flag is set; elsewhere zero, and NULL.
fn withhold(
    ctx: &mut Context,
    step: &Step,
    rows: &mut Rows,
    variable: Variable,
    flag: &BitColumn,
) -> Result<()> {
    let cells = rows.cells(variable)?.clone();
    let mut parts = Vec::with_capacity(cells.parts.len());
    for (at, part) in cells.parts.iter().enumerate() {
        let here = step.at("mask", at);
        let number: Column = times_flag(ctx, &here, &Number::of(part), flag)?.column();
        parts.push(number);
    }
    let hidden = not(ctx, flag);
    let null = match cells.null {
        None => hidden,
        Some(null) => or(ctx, &step.narrow("null"), &null, &hidden)?,
    };
    rows.columns.insert(
        variable,
        Cells {
            parts,
            null: Some(null),
        },
    );
    Ok(())
}
