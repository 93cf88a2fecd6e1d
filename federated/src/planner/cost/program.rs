//! Estimates for programs.

use super::{GROUP_BITS, GROUP_ROUNDS, OperatorCost, PARTIES, bytes, of_rows, width};
use crate::plan::JointPlan;
use crate::plan::program::{
    AggregateKind, Expression, JoinKind, Program, Relational, Types, Variable, WindowFunction,
};
use veilgate_mpc::oblivious::sort::sort_cost;

/// Bits a row and party of a product, a sum's conversion and a quotient, by ripple.
const PRODUCT_BITS: u64 = 64;
const CONVERT_BITS: u64 = 128;
const COUNT_BITS: u64 = 64;
const QUOTIENT_BITS: u64 = 128 * 130;
/// Numbers of rows in groups, and where they lie in a percentile's reach.
const NUMBERS_BITS: u64 = 12 * PRODUCT_BITS;

/// What every operator sends, given the rows of the fragments; none for a program that is not valid.
pub(super) fn estimate(
    plan: &JointPlan,
    program: &Program,
    fragments: &[u64],
) -> Vec<OperatorCost> {
    let Ok(types) = program.check(&plan.fragments) else {
        return Vec::new();
    };
    let mut rows: Vec<u64> = fragments.to_vec();
    let mut costs = Vec::new();
    for (index, operator) in program.operators.iter().enumerate() {
        let cost = Estimate {
            plan,
            types: &types,
            rows: &rows,
        }
        .operator(operator, plan.fragments.len() + index);
        rows.push(cost.rows);
        costs.push(cost);
    }
    costs
}

struct Estimate<'a> {
    plan: &'a JointPlan,
    types: &'a Types,
    rows: &'a [u64],
}

impl Estimate<'_> {
    fn of(&self, relation: usize) -> u64 {
        self.rows.get(relation).copied().unwrap_or(0)
    }

    fn bits(&self, variable: Variable) -> u64 {
        self.types
            .value(variable)
            .map_or(64, |value| width(&value.form) + u64::from(value.nullable))
    }

    fn all_bits(&self, relation: usize) -> u64 {
        let columns = self.types.relations.get(relation);
        let columns = columns.into_iter().flatten();
        columns.map(|variable| self.bits(*variable)).sum()
    }

    fn operator(&self, operator: &Relational, made: usize) -> OperatorCost {
        match operator {
            Relational::Join {
                kind,
                left,
                right,
                on,
                most,
                ..
            } => {
                // Left rows are repeated once for every partner that there may be.
                let lefts = self.of(*left).saturating_mul(*most);
                let all = lefts.saturating_add(self.of(*right));
                let key: u64 = on
                    .iter()
                    .map(|(a, b)| self.bits(*a).max(self.bits(*b)))
                    .sum();
                let (bits, rounds) = of_rows(sort_cost, self.plan, all, key + 1);
                let kept = self.all_bits(made).saturating_sub(self.all_bits(*left));
                OperatorCost {
                    rows: match kind {
                        JoinKind::Full => all,
                        _ => lefts,
                    },
                    bytes: bytes(all, PARTIES * bits).saturating_add(bytes(all, 4 * kept)),
                    rounds: rounds + 12,
                }
            }
            Relational::Beside { left, right, most } => {
                let rows = self
                    .of(*left)
                    .saturating_mul(self.of(*right).min(*most).max(1));
                OperatorCost {
                    rows,
                    bytes: bytes(rows, PARTIES),
                    rounds: 1,
                }
            }
            Relational::Filter { input, condition } => {
                let (bits, rounds) = self.expression(condition);
                OperatorCost {
                    rows: self.of(*input),
                    bytes: bytes(self.of(*input), PARTIES * (bits + 1)),
                    rounds: rounds + 1,
                }
            }
            Relational::Map { input, computed } => {
                let costs = computed.iter().map(|(_, of)| self.expression(of));
                let (bits, rounds) =
                    costs.fold((0, 0), |(b, r), (bits, rounds)| (b + bits, r + rounds));
                OperatorCost {
                    rows: self.of(*input),
                    bytes: bytes(self.of(*input), PARTIES * bits),
                    rounds,
                }
            }
            Relational::Group {
                input,
                keys,
                aggregates,
                most,
            } => {
                let rows = self.of(*input);
                let key: u64 = keys.iter().map(|key| self.bits(*key)).sum();
                let (mut bits, mut rounds) = of_rows(sort_cost, self.plan, rows, key);
                for aggregate in aggregates {
                    let own = aggregate.argument.map_or(64, |of| self.bits(of));
                    bits += match aggregate.function {
                        // An order of its own, numbers in it, and the way back.
                        AggregateKind::Median | AggregateKind::Percentile { .. } => {
                            let (sorts, more) = of_rows(sort_cost, self.plan, rows, key + own);
                            rounds += more + 2 * u64::from(rows.max(2).ilog2());
                            sorts + 2 * own + NUMBERS_BITS
                        }
                        AggregateKind::Count | AggregateKind::Sum => 2 * own,
                        // A segmented scan over every doubling.
                        _ => own * 2 * u64::from(rows.max(2).ilog2()),
                    };
                    rounds += 2;
                }
                if !keys.is_empty() {
                    bits += GROUP_BITS;
                    rounds += GROUP_ROUNDS;
                }
                OperatorCost {
                    rows: if keys.is_empty() { 1 } else { rows.min(*most) },
                    bytes: bytes(rows, PARTIES * bits),
                    rounds,
                }
            }
            Relational::Top { input, keys, rows } => {
                let of = self.of(*input);
                let key: u64 = keys.iter().map(|key| self.bits(key.variable)).sum();
                let (bits, rounds) = of_rows(sort_cost, self.plan, of, key + 1);
                OperatorCost {
                    rows: of.min(*rows),
                    // About 7 of the 21 comparisons that a sort makes.
                    bytes: bytes(of, PARTIES * (bits / 3 + 2 * self.all_bits(*input))),
                    rounds,
                }
            }
            Relational::Window {
                input,
                partition,
                order,
                calls,
            } => {
                let rows = self.of(*input);
                let keys = partition.iter().copied();
                let keys = keys.chain(order.iter().map(|key| key.variable));
                let key: u64 = keys.map(|key| self.bits(key)).sum();
                let (mut bits, mut rounds) = of_rows(sort_cost, self.plan, rows, key + 1);
                let levels = u64::from(rows.max(2).ilog2());
                for call in calls {
                    let own = call.argument.map_or(64, |of| self.bits(of));
                    // There and back, and a segmented scan of sums or of comparisons.
                    bits += 2 * own
                        + match call.function {
                            WindowFunction::Lag { .. } | WindowFunction::Lead { .. } => own,
                            WindowFunction::Min(_) | WindowFunction::Max(_) => own * 8,
                            _ => 3 * PRODUCT_BITS,
                        };
                    rounds += match call.function {
                        WindowFunction::Lag { .. } | WindowFunction::Lead { .. } => 2,
                        WindowFunction::Min(_) | WindowFunction::Max(_) => 14 * levels,
                        _ => 2 * levels,
                    };
                }
                OperatorCost {
                    rows,
                    bytes: bytes(rows, PARTIES * bits),
                    rounds,
                }
            }
            Relational::Guard {
                input,
                units,
                cells,
                ..
            } => {
                let rows = self.of(*input);
                let counts: u64 = units.iter().map(|unit| unit.counts().count() as u64).sum();
                let values: u64 = cells.iter().map(|cell| self.bits(cell.value)).sum();
                OperatorCost {
                    rows,
                    bytes: bytes(rows, PARTIES * (2 * COUNT_BITS * counts + 2 * values)),
                    rounds: COUNT_BITS + 8,
                }
            }
            Relational::Union { inputs, .. } => OperatorCost {
                rows: inputs
                    .iter()
                    .map(|(input, _)| self.of(*input))
                    .fold(0, u64::saturating_add),
                bytes: 0,
                rounds: 0,
            },
        }
    }

    fn expression(&self, of: &Expression) -> (u64, u64) {
        let sum = |costs: &mut dyn Iterator<Item = (u64, u64)>| {
            costs.fold((0, 0), |(b, r), (bits, rounds)| (b + bits, r + rounds))
        };
        match of {
            Expression::Column(_)
            | Expression::Number { .. }
            | Expression::Text { .. }
            | Expression::Null(_)
            | Expression::IsNull(_) => (0, 0),
            Expression::Not(inner) | Expression::Rescale { input: inner, .. } => {
                self.expression(inner)
            }
            Expression::All(parts) | Expression::Any(parts) => {
                let (bits, rounds) = sum(&mut parts.iter().map(|part| self.expression(part)));
                (bits + parts.len() as u64, rounds + parts.len() as u64)
            }
            Expression::Compare { left, right, .. } => {
                let (bits, rounds) = sum(&mut [left, right].iter().map(|of| self.expression(of)));
                (bits + PRODUCT_BITS, rounds + 7)
            }
            Expression::Arithmetic { left, right, .. } => {
                let (bits, rounds) = sum(&mut [left, right].iter().map(|of| self.expression(of)));
                (bits + PRODUCT_BITS, rounds + 1)
            }
            Expression::Bits { input, .. } => {
                let (bits, rounds) = self.expression(input);
                (bits + CONVERT_BITS, rounds + 64)
            }
            Expression::Quotient { left, right, .. } => {
                let (bits, rounds) = sum(&mut [left, right].iter().map(|of| self.expression(of)));
                (bits + QUOTIENT_BITS, rounds + 128 * 130)
            }
            Expression::Case { when, otherwise } => {
                let parts = when
                    .iter()
                    .flat_map(|(condition, result)| [condition, result]);
                let (bits, rounds) = sum(&mut parts
                    .chain([otherwise.as_ref()])
                    .map(|part| self.expression(part)));
                (
                    bits + PRODUCT_BITS * when.len() as u64,
                    rounds + when.len() as u64,
                )
            }
        }
    }
}
