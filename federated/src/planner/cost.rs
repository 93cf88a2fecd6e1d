//! Estimated rows, bytes and rounds, as functions of public sizes and published statistics alone.
//!
//! Formulas: bits sent per row and party of the operations in `docs/protocols`; all figures are for
//! all parties together. They choose between strategies and are shown by EXPLAIN; nothing relies on
//! them.

mod program;

use super::block::Relation;
use super::columns;
use super::conditions::distinct;
use super::order::Shape;
use crate::plan::{
    ColumnRef, Encoding, Fragment, FragmentIndex, JointPlan, Operator, Predicate, PublicSize,
    UnitCount,
};
use datafusion::logical_expr::{Expr, Operator as Op};
use veilgate_mpc::net::LinkProfile;
use veilgate_mpc::oblivious::sort::{Cost, merge_cost, sort_cost};

/// Computing parties.
const PARTIES: u64 = 3;
/// Bits a row and party of grouping after the sort.
const GROUP_BITS: u64 = 543;
/// Rounds of grouping after the sort.
const GROUP_ROUNDS: u64 = 14;
/// Words that an aligned payload takes on its way to replicated form.
const ALIGN_WORDS: u64 = 4;

/// What a fragment sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentCost {
    /// Rows, padding included.
    pub rows: u64,
    /// Bytes that leave the owner as shares or tags.
    pub bytes: u64,
}

/// What a joint operator sends among the computing parties.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperatorCost {
    /// Rows that come out, invalid ones included.
    pub rows: u64,
    /// Bytes of all parties together.
    pub bytes: u64,
    /// Rounds.
    pub rounds: u64,
}

/// Estimates for a plan.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Costs {
    /// One for each fragment.
    pub fragments: Vec<FragmentCost>,
    /// One for each operator.
    pub operators: Vec<OperatorCost>,
    /// One for each operator of the program, where the plan is one.
    pub program: Vec<OperatorCost>,
}

impl Costs {
    /// Bytes in all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let fragments = self.fragments.iter().map(|of| of.bytes);
        let operators = self.operators.iter().chain(&self.program);
        let operators = operators.map(|of| of.bytes);
        fragments.chain(operators).fold(0, u64::saturating_add)
    }

    /// Rounds in all.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        self.operators
            .iter()
            .chain(&self.program)
            .map(|of| of.rounds)
            .fold(0, u64::saturating_add)
    }
}

/// Estimates a plan.
pub(super) fn estimate(plan: &JointPlan) -> Costs {
    let aligned = plan
        .operators
        .iter()
        .any(|operator| matches!(operator, Operator::Align { .. }));
    let fragments: Vec<FragmentCost> = plan
        .fragments
        .iter()
        .map(|fragment| {
            let rows = padded(fragment);
            let bits = if aligned {
                tag_bits(fragment) + ALIGN_WORDS * payload_bits(fragment)
            } else {
                tag_bits(fragment) + payload_bits(fragment)
            };
            FragmentCost {
                rows,
                bytes: bytes(rows, bits + 1),
            }
        })
        .collect();
    let mut operators: Vec<OperatorCost> = Vec::new();
    for operator in &plan.operators {
        let cost = operator_cost(plan, &fragments, &operators, operator);
        operators.push(cost);
    }
    let rows: Vec<u64> = fragments.iter().map(|of| of.rows).collect();
    let program = match plan.operators.last() {
        Some(Operator::Program(of)) => program::estimate(plan, of, &rows),
        _ => Vec::new(),
    };
    Costs {
        fragments,
        operators,
        program,
    }
}

fn operator_cost(
    plan: &JointPlan,
    fragments: &[FragmentCost],
    before: &[OperatorCost],
    operator: &Operator,
) -> OperatorCost {
    let rows_of = |relation: usize| before.get(relation).map_or(0, |of| of.rows);
    match operator {
        Operator::Input { fragment } => OperatorCost {
            rows: fragments.get(*fragment).map_or(0, |of| of.rows),
            bytes: 0,
            rounds: 1,
        },
        Operator::Align { fragments: of, .. } => {
            let rows = of
                .iter()
                .filter_map(|fragment| fragments.get(*fragment))
                .map(|of| of.rows)
                .min()
                .unwrap_or(0);
            // Positions to each owner; payload is counted with the fragments.
            OperatorCost {
                rows,
                bytes: bytes(rows, 32 * of.len() as u64),
                rounds: 4,
            }
        }
        Operator::Join {
            left,
            right,
            left_key,
            right_key,
        } => {
            // Owners sort what comes straight from them; what a join by another key leaves is sorted.
            let merged = [(left, left_key), (right, right_key)]
                .iter()
                .all(|(relation, key)| {
                    let first = first_input(plan, **relation);
                    first == Some(key.fragment) && plan.sorted_by(key.fragment) == Some(**key)
                });
            let all = rows_of(*left).saturating_add(rows_of(*right));
            let key_bits = column_bits(plan, *left_key);
            let cost = if merged { merge_cost } else { sort_cost };
            let (bits, rounds) = of_rows(cost, plan, all, key_bits);
            let width: u64 = plan.fragments.iter().map(payload_bits).sum();
            OperatorCost {
                rows: rows_of(*left),
                bytes: bytes(all, PARTIES * (bits + 3 * width + 128)),
                rounds: rounds + 20,
            }
        }
        Operator::Filter { input, predicate } => {
            let (bits, rounds) = predicate_cost(plan, predicate);
            OperatorCost {
                rows: rows_of(*input),
                bytes: bytes(rows_of(*input), PARTIES * bits),
                rounds,
            }
        }
        Operator::Program(_) => OperatorCost {
            rows: 0,
            bytes: 0,
            rounds: 0,
        },
        Operator::Aggregate {
            input,
            keys,
            cells,
            units,
        } => {
            let rows = rows_of(*input);
            let key_bits: u64 = keys.iter().map(|key| column_bits(plan, *key)).sum();
            let (sort, mut rounds) = of_rows(sort_cost, plan, rows, key_bits);
            let mut bits = sort + GROUP_BITS;
            for cell in cells {
                let width = cell.sum.map_or(64, |sum| column_bits(plan, sum));
                bits += width * (1 + cell.weights.len() as u64) + 64;
                rounds += cell.weights.len() as u64;
            }
            for unit in units {
                let (more, more_rounds) = unit_cost(plan, unit, rows, key_bits);
                bits += more;
                rounds += more_rounds;
            }
            let groups = plan.release.public_groups.unwrap_or(rows).min(rows).max(1);
            OperatorCost {
                rows: if keys.is_empty() { 1 } else { groups },
                bytes: bytes(rows, PARTIES * bits),
                rounds: rounds + GROUP_ROUNDS + 8,
            }
        }
    }
}

/// The fragment whose rows' order a relation is in.
fn first_input(plan: &JointPlan, relation: usize) -> Option<FragmentIndex> {
    match plan.operators.get(relation)? {
        Operator::Input { fragment } => Some(*fragment),
        Operator::Filter { input, .. } if *input < relation => first_input(plan, *input),
        Operator::Join { left, .. } if *left < relation => first_input(plan, *left),
        _ => None,
    }
}

/// Bits a row and party, and rounds, of an operator on keys of so many bits.
fn of_rows(
    cost: impl Fn(LinkProfile, usize, usize) -> Cost,
    plan: &JointPlan,
    rows: u64,
    key_bits: u64,
) -> (u64, u64) {
    if key_bits == 0 {
        return (0, 0);
    }
    let count = |n: u64| usize::try_from(n).unwrap_or(usize::MAX >> 1);
    let cost = cost(plan.line.profile(), count(rows), count(key_bits));
    (cost.bits as u64, cost.rounds as u64)
}

fn unit_cost(plan: &JointPlan, unit: &UnitCount, rows: u64, key_bits: u64) -> (u64, u64) {
    match unit.unit {
        None => (64, 1),
        Some(tag) => {
            let width = key_bits + column_bits(plan, tag);
            let (bits, rounds) = of_rows(sort_cost, plan, rows, width);
            (bits + 64, rounds + 8)
        }
    }
}

fn predicate_cost(plan: &JointPlan, predicate: &Predicate) -> (u64, u64) {
    match predicate {
        Predicate::Compare { left, .. } => {
            let bits = column_bits(plan, *left);
            (3 * bits, u64::from(u64::BITS - bits.leading_zeros()) + 1)
        }
        Predicate::Flag(_) => (1, 1),
        Predicate::All(items) | Predicate::Any(items) => {
            let costs: Vec<_> = items
                .iter()
                .map(|item| predicate_cost(plan, item))
                .collect();
            (
                costs.iter().map(|(bits, _)| bits + 1).sum(),
                costs.iter().map(|(_, rounds)| *rounds).max().unwrap_or(0) + items.len() as u64,
            )
        }
    }
}

fn padded(fragment: &Fragment) -> u64 {
    match fragment.size {
        PublicSize::Declared(rows) => rows,
        // The middle of a bucket.
        PublicSize::Bucket => fragment.estimated_rows.max(128).saturating_mul(9) / 8,
    }
}

fn width(encoding: &Encoding) -> u64 {
    match encoding {
        Encoding::KeyTag { bits, .. } | Encoding::UnitTag { bits } | Encoding::Bits(bits) => {
            u64::from(*bits)
        }
        Encoding::Ring64 => 64,
        Encoding::Ring128 => 128,
        Encoding::Codes(codes) => {
            let last = codes.len().saturating_sub(1) as u64;
            u64::from(u64::BITS - last.leading_zeros()).max(1)
        }
        Encoding::Text { max_bytes } => 8 * (u64::from(*max_bytes) + 1),
    }
}

fn column_bits(plan: &JointPlan, at: ColumnRef) -> u64 {
    plan.fragments
        .get(at.fragment)
        .and_then(|fragment| fragment.columns.get(at.column))
        .map_or(0, |column| width(&column.encoding))
}

/// Composite keys are one tag.
fn tag_bits(fragment: &Fragment) -> u64 {
    let mut classes = Vec::new();
    let mut bits = 0;
    for column in &fragment.columns {
        if let Encoding::KeyTag { class, bits: width } = column.encoding
            && !classes.contains(&class)
        {
            classes.push(class);
            bits += u64::from(width);
        }
    }
    bits
}

fn payload_bits(fragment: &Fragment) -> u64 {
    fragment
        .columns
        .iter()
        .filter(|column| !matches!(column.encoding, Encoding::KeyTag { .. }))
        .map(|column| width(&column.encoding) + u64::from(column.nullable))
        .sum()
}

fn bytes(rows: u64, bits: u64) -> u64 {
    let bits = u128::from(rows) * u128::from(bits);
    u64::try_from(bits / 8).unwrap_or(u64::MAX)
}

/// Rows that a fragment is expected to have, from published bounds and textbook selectivities.
pub(super) fn estimated_rows(of: &Relation, shape: &Shape, conditions: &[Expr]) -> u64 {
    let selectivity: f64 = conditions
        .iter()
        .map(|condition| selectivity(of, condition, 0))
        .product();
    let rows = of.table.max_rows.max(1);
    // Rows stay far below 2^52, and an estimate may round.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss
    )]
    let kept = (rows as f64 * selectivity.clamp(0.0, 1.0)).ceil() as u64;
    kept.clamp(1, rows).min(shape.bound)
}

#[allow(clippy::cast_precision_loss)]
fn selectivity(of: &Relation, condition: &Expr, depth: usize) -> f64 {
    if depth > 64 {
        return 1.0;
    }
    let next = |expr: &Expr| selectivity(of, expr, depth + 1);
    let equal = |expr: &Expr| {
        columns::base_column(expr)
            .and_then(|id| distinct(of, id.column, false))
            .map_or(0.1, |values| 1.0 / values.max(1) as f64)
    };
    match condition {
        Expr::BinaryExpr(binary) => match binary.op {
            Op::And => next(&binary.left) * next(&binary.right),
            Op::Or => (next(&binary.left) + next(&binary.right)).min(1.0),
            Op::Eq => equal(&binary.left).min(equal(&binary.right)),
            Op::NotEq => 0.9,
            _ => 1.0 / 3.0,
        },
        Expr::Not(inner) => 1.0 - next(inner),
        Expr::InList(list) => {
            let kept = (equal(&list.expr) * list.list.len() as f64).min(1.0);
            if list.negated { 1.0 - kept } else { kept }
        }
        Expr::Between(_) => 0.25,
        Expr::Like(_) => 0.25,
        Expr::IsNull(_) => 0.1,
        Expr::IsNotNull(_) => 0.9,
        Expr::Column(_) | Expr::IsTrue(_) | Expr::IsFalse(_) => 0.5,
        _ => 0.5,
    }
}
