//! Whether a plan is within what a gateway allows for one run, before anything runs.

use super::Costs;
use super::cost::estimate;
use crate::error::{Code, Error, Result};
use crate::joint::memory_due;
use crate::plan::{JointPlan, Operator, PublicSize};

/// What one run may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of memory at one computing party.
    pub memory_bytes: u64,
    /// Bytes that all parties together send.
    pub sent_bytes: u64,
}

/// What a plan is expected to use.
struct Use {
    memory: u64,
    sent: u64,
}

/// Refuses a plan that would exceed a budget.
///
/// # Errors
/// `LimitExceeded` with the expected cost, what it is mostly for, and what would be cheaper; for a plan
/// that is not valid as [`crate::joint::memory_due`].
pub fn within(plan: &JointPlan, budget: Budget) -> Result<()> {
    let due = expected(plan)?;
    let memory = due.memory > budget.memory_bytes;
    if !memory && due.sent <= budget.sent_bytes {
        return Ok(());
    }
    let (what, due_of, allowed) = match memory {
        true => (
            "memory at a computing party",
            due.memory,
            budget.memory_bytes,
        ),
        false => ("traffic of all parties", due.sent, budget.sent_bytes),
    };
    Err(Error::new(
        Code::LimitExceeded,
        format!(
            "this query would need about {} of {what}, {} are allowed ({} and {} in all{}). Cheaper: {}",
            size(due_of),
            size(allowed),
            size(due.memory),
            size(due.sent),
            mostly(plan),
            cheaper(plan, &due, budget),
        ),
    ))
}

fn expected(plan: &JointPlan) -> Result<Use> {
    let costs = estimate(plan);
    let rows = costs.fragments.iter();
    let sizes: Vec<usize> = rows
        .map(|of| usize::try_from(of.rows).unwrap_or(usize::MAX))
        .collect();
    Ok(Use {
        memory: memory_due(plan, &sizes)?,
        sent: costs.bytes(),
    })
}

/// The most expensive operator, as EXPLAIN names it.
fn mostly(plan: &JointPlan) -> String {
    let Costs {
        operators, program, ..
    } = estimate(plan);
    let most = |list: &[super::cost::OperatorCost]| {
        let all = list.iter().enumerate();
        all.map(|(at, of)| (of.bytes, at)).max()
    };
    let name = |letter: char, found: Option<(u64, usize)>| match found {
        Some((bytes, at)) if bytes > 0 => {
            format!("; most of it for {letter}{at} of EXPLAIN, {}", size(bytes))
        }
        _ => String::new(),
    };
    match plan.operators.last() {
        Some(Operator::Program(_)) => name('p', most(&program)),
        _ => name('o', most(&operators)),
    }
}

/// A variant of the plan that would need less.
fn cheaper(plan: &JointPlan, due: &Use, budget: Budget) -> String {
    let mut variant = plan.clone();
    for fragment in &mut variant.fragments {
        fragment.size = PublicSize::Bucket;
    }
    if let Ok(padded) = expected(&variant)
        && (padded.memory < due.memory / 2 || padded.sent < due.sent / 2)
    {
        let fits = padded.memory <= budget.memory_bytes && padded.sent <= budget.sent_bytes;
        return format!(
            "with leakage `sizes` in the rules of every department, sizes padded instead of declared, \
             about {} and {}, which {}",
            size(padded.memory),
            size(padded.sent),
            if fits {
                "is allowed"
            } else {
                "is not allowed either"
            }
        );
    }
    "a condition that one department can apply alone, fewer columns, or a group by the join columns \
     below the join"
        .to_owned()
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        1_048_576..10_737_418_240 => format!("{} MiB", bytes.div_ceil(1 << 20)),
        _ => format!("{} GiB", bytes.div_ceil(1 << 30)),
    }
}
