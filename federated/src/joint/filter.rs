//! Predicates over columns of several owners: one shared "is true" bit a row. NULL is never true.

use super::blame::Failure;
use super::layout::{Form, encoding, has_null_bit};
use super::relation::Relation;
use crate::error::{Code, Error};
use crate::plan::{ColumnRef, Comparator, Encoding, JointPlan, Predicate};
use veilgate_mpc::circuit::{and, equal, less_than, not, or};
use veilgate_mpc::context::Context;
use veilgate_mpc::net::Step;
use veilgate_mpc::share::BitColumn;

/// The rows for which the predicate is true.
pub(super) fn is_true(
    ctx: &mut Context,
    step: &Step,
    plan: &JointPlan,
    input: &Relation,
    predicate: &Predicate,
) -> Result<BitColumn, Failure> {
    match predicate {
        Predicate::Compare {
            comparator,
            left,
            right,
        } => compare(ctx, step, plan, input, *comparator, [*left, *right]),
        Predicate::Flag(at) => {
            let flag = input.bits(plan, *at, Form::Value)?.clone();
            known(ctx, step, plan, input, flag, &[*at])
        }
        Predicate::All(parts) => fold(ctx, step, plan, input, parts, and),
        Predicate::Any(parts) => fold(ctx, step, plan, input, parts, or),
    }
}

type Gate = fn(&mut Context, &Step, &BitColumn, &BitColumn) -> veilgate_mpc::Result<BitColumn>;

fn fold(
    ctx: &mut Context,
    step: &Step,
    plan: &JointPlan,
    input: &Relation,
    parts: &[Predicate],
    gate: Gate,
) -> Result<BitColumn, Failure> {
    let mut folded: Option<BitColumn> = None;
    for (index, part) in parts.iter().enumerate() {
        let bit = is_true(ctx, &step.at("part", index), plan, input, part)?;
        folded = Some(match folded {
            None => bit,
            Some(before) => gate(ctx, &step.at("gate", index), &before, &bit)?,
        });
    }
    let empty = || Error::new(Code::Internal, "an empty conjunction or disjunction");
    Ok(folded.ok_or_else(empty)?)
}

fn compare(
    ctx: &mut Context,
    step: &Step,
    plan: &JointPlan,
    input: &Relation,
    comparator: Comparator,
    [left, right]: [ColumnRef; 2],
) -> Result<BitColumn, Failure> {
    let a = input.bits(plan, left, Form::Value)?;
    let b = input.bits(plan, right, Form::Value)?;
    // Numbers and dates are two's complement; text and single bits are plain.
    let signed = matches!(encoding(plan, left)?, Encoding::Bits(width) if *width > 1);
    let here = step.narrow("compare");
    let (bit, negated) = match comparator {
        Comparator::Equal => (equal(ctx, &here, a, b)?, false),
        Comparator::NotEqual => (equal(ctx, &here, a, b)?, true),
        Comparator::Less => (less_than(ctx, &here, a, b, signed)?, false),
        Comparator::GreaterEqual => (less_than(ctx, &here, a, b, signed)?, true),
        Comparator::Greater => (less_than(ctx, &here, b, a, signed)?, false),
        Comparator::LessEqual => (less_than(ctx, &here, b, a, signed)?, true),
    };
    let bit = if negated { not(ctx, &bit) } else { bit };
    known(ctx, step, plan, input, bit, &[left, right])
}

/// `bit`, where none of the columns is NULL.
fn known(
    ctx: &mut Context,
    step: &Step,
    plan: &JointPlan,
    input: &Relation,
    mut bit: BitColumn,
    columns: &[ColumnRef],
) -> Result<BitColumn, Failure> {
    for (index, at) in columns.iter().enumerate() {
        if has_null_bit(plan, *at)? {
            let present = not(ctx, input.bits(plan, *at, Form::Null)?);
            bit = and(ctx, &step.at("present", index), &bit, &present)?;
        }
    }
    Ok(bit)
}
