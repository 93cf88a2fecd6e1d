//! How much memory a run needs at a computing party: a function of public sizes alone.

use super::layout::{Form, Kind, Layout, kind, normal};
use super::program;
use crate::error::Result;
use crate::plan::{JointPlan, Operator};
use veilgate_mpc::oblivious::join::Matches;

/// Bytes for fragments of these sizes, one for each: either shares while rows move, or the keys of a join
/// while all else waits.
///
/// # Errors
/// `LimitExceeded` for a join without equal columns of too many rows; `PeerMisbehaved` for a plan that
/// is not valid.
pub fn memory_due(plan: &JointPlan, sizes: &[usize]) -> Result<u64> {
    due(plan, &Layout::of(plan)?, sizes)
}

pub(super) fn due(plan: &JointPlan, layout: &Layout, sizes: &[usize]) -> Result<u64> {
    let mut moving = 0_u64;
    for (index, rows) in sizes.iter().enumerate() {
        let mut bits = 0_u64;
        for place in layout.of_fragment(index) {
            bits += u64::from(width(kind(plan, *place)?));
        }
        // Two components, held at most three times over while rows move.
        moving = moving.saturating_add((*rows as u64).saturating_mul(bits.div_ceil(8) * 6));
    }
    Ok(moving.max(joining(plan, sizes)?))
}

fn width(kind: Kind) -> u32 {
    match kind {
        Kind::Bits(width) => width,
        Kind::Ring64 => 64,
        Kind::Ring128 => 128,
    }
}

/// The memory of the largest oblivious join while it finds matches.
fn joining(plan: &JointPlan, sizes: &[usize]) -> Result<u64> {
    let mut rows: Vec<usize> = Vec::with_capacity(plan.operators.len());
    let mut most = 0;
    for operator in &plan.operators {
        let of = |relation: usize| rows.get(relation).copied().unwrap_or(0);
        let size = |fragment: usize| sizes.get(fragment).copied().unwrap_or(0);
        let made = match operator {
            Operator::Input { fragment } => size(*fragment),
            Operator::Align { fragments, .. } => {
                fragments.iter().map(|f| size(*f)).max().unwrap_or(0)
            }
            Operator::Join {
                left,
                right,
                left_key,
                ..
            } => {
                let bits = width(kind(plan, (normal(plan, *left_key), Form::Value))?);
                let all = of(*left).saturating_add(of(*right));
                most = most.max(Matches::work_bytes(all, bits as usize));
                of(*left)
            }
            Operator::Filter { input, .. } | Operator::Aggregate { input, .. } => of(*input),
            Operator::Program(program) => {
                most = most.max(program::joining(plan, program, sizes)?);
                0
            }
        };
        rows.push(made);
    }
    Ok(most)
}
