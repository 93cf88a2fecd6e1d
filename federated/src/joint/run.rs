//! The walk over a plan's operators: the same at every party, each doing its part.

use super::blame::{Blamed, Failure, Names};
use super::input::Prepared;
use super::layout::Layout;
use super::program::Runner;
use super::relation::Relation;
use super::{aggregate, filter, participant};
use crate::error::{Code, Error, Result};
use crate::plan::{JointPlan, Operator, PartyIndex};
use crate::release;
use veilgate_mpc::circuit::and;
use veilgate_mpc::context::Context;
use veilgate_mpc::net::{Link, Participant, Step};
use veilgate_mpc::oblivious::join::{Kind, Matches, Side};
use veilgate_mpc::table::SharedTable;

/// What a party knows before anything is exchanged.
pub(super) struct Run<'a> {
    pub(super) plan: &'a JointPlan,
    pub(super) me: PartyIndex,
    pub(super) computing: [Participant; 3],
    pub(super) layout: Layout,
    pub(super) blame: Names,
}

impl<'a> Run<'a> {
    pub(super) fn new(plan: &'a JointPlan, me: PartyIndex) -> Result<Self> {
        let internal = |what: &str| Error::new(Code::Internal, what);
        let computing = plan
            .computing_parties()
            .ok_or_else(|| internal("the plan lacks computing parties"))?;
        if !plan.takes_part(me) {
            return Err(internal("this party has no part in joint execution"));
        }
        if plan.parties.len() > usize::from(u8::MAX) {
            return Err(internal("more parties than participants have numbers"));
        }
        Ok(Self {
            plan,
            me,
            computing: computing.map(participant),
            layout: Layout::of(plan)?,
            blame: Names::of(plan),
        })
    }

    /// My seat among P0, P1, P2, if I compute.
    pub(super) fn seat(&self) -> Option<usize> {
        let me = participant(self.me);
        self.computing.iter().position(|party| *party == me)
    }

    /// Every other party that takes part.
    pub(super) fn others(&self) -> impl Iterator<Item = PartyIndex> + '_ {
        (0..self.plan.parties.len())
            .filter(|party| *party != self.me && self.plan.takes_part(*party))
    }

    pub(super) fn misbehaved(&self, party: PartyIndex, what: &str) -> Error {
        let error = Error::new(Code::PeerMisbehaved, what);
        match self.plan.parties.get(party) {
            Some(party) => error.at(party.department.clone()),
            None => error,
        }
    }

    /// The part of a party that owns fragments and does not compute.
    pub(super) fn give(&self, link: &mut dyn Link, mut prepared: Prepared) -> Result<()> {
        for (index, operator) in self.plan.operators.iter().enumerate() {
            self.give_operator(link, &mut prepared, index, operator)
                .blamed(&self.blame)?;
        }
        Ok(())
    }

    /// The part of a computing party: guarded shares of the result.
    pub(super) fn compute(&self, ctx: &mut Context, mut prepared: Prepared) -> Result<SharedTable> {
        let mut relations: Vec<Option<Relation>> = vec![];
        // Inputs first, so that owners who do not compute are done early.
        for (index, operator) in self.plan.operators.iter().enumerate() {
            let entered = self.enter(ctx, &mut prepared, index, operator);
            relations.push(entered.blamed(&self.blame)?);
        }
        drop(prepared);
        for (index, operator) in self.plan.operators.iter().enumerate() {
            let step = Step::new("operator").at("", index);
            let mut take = |relation: usize| {
                let taken = relations.get_mut(relation).and_then(Option::take);
                taken.ok_or_else(|| Error::new(Code::Internal, "a relation is used twice"))
            };
            let made = match operator {
                Operator::Input { .. } | Operator::Align { .. } => continue,
                Operator::Join {
                    left,
                    right,
                    left_key,
                    right_key,
                } => {
                    let (left, right) = (take(*left)?, take(*right)?);
                    self.join(ctx, &step, left, right, [*left_key, *right_key])
                }
                Operator::Filter { input, predicate } => {
                    let input = take(*input)?;
                    filter::is_true(ctx, &step, self.plan, &input, predicate).and_then(|bit| {
                        let mut input = input;
                        let gate = step.narrow("valid");
                        input.table.valid = and(ctx, &gate, &input.table.valid, &bit)?;
                        Ok(input)
                    })
                }
                Operator::Program(program) => {
                    let runner = Runner::new(program, &self.plan.fragments)?;
                    let mut inputs = Vec::with_capacity(self.plan.fragments.len());
                    for fragment in 0..self.plan.fragments.len() {
                        let at = self.plan.operators.iter().position(
                            |of| matches!(of, Operator::Input { fragment: f } if *f == fragment),
                        );
                        let relation = at.and_then(|at| relations.get_mut(at)?.take());
                        let relation = relation.ok_or_else(|| {
                            Error::new(Code::Internal, "a fragment that was not taken in")
                        })?;
                        inputs.push(relation.rows(self.plan, fragment).blamed(&self.blame)?);
                    }
                    return runner.run(ctx, inputs).blamed(&self.blame);
                }
                Operator::Aggregate {
                    input,
                    keys,
                    cells,
                    units,
                } => {
                    let input = take(*input)?;
                    let plan = self.plan;
                    let unguarded =
                        aggregate::aggregate(ctx, &step, plan, &input, keys, cells, units)
                            .blamed(&self.blame)?;
                    let step = Step::new("release");
                    return release::apply(ctx, &step, plan, unguarded).blamed(&self.blame);
                }
            };
            let made = made.blamed(&self.blame)?;
            relations[index] = Some(made);
        }
        Err(Error::new(Code::Internal, "a plan without an aggregate"))
    }

    /// While the matches are found, all columns but keys wait.
    fn join(
        &self,
        ctx: &mut Context,
        step: &Step,
        mut left: Relation,
        mut right: Relation,
        [left_key, right_key]: [crate::plan::ColumnRef; 2],
    ) -> std::result::Result<Relation, Failure> {
        use super::layout::Form::Value;
        let left_key = left.position(self.plan, left_key, Value)?;
        let right_key = right.position(self.plan, right_key, Value)?;
        let keys = [left.of_key(left_key), right.of_key(right_key)];
        let rows = keys[0].rows() + keys[1].rows();
        let width = keys[0].bits("join", 0)?.width();
        let work = Matches::work_bytes(rows, width);
        let waiting = [
            left.park(ctx.memory(), work)?,
            right.park(ctx.memory(), work)?,
        ];
        let sorted = [left.ascends_by(left_key), right.ascends_by(right_key)];
        let sides = [
            side(&keys[0], &[0], sorted[0]),
            side(&keys[1], &[0], sorted[1]),
        ];
        let matches = Matches::find(ctx, step, Kind::Inner, sides[0], sides[1], None)?;
        drop(keys);
        let [left_table, right_table] = waiting;
        left.table = left_table.back()?;
        right.table = right_table.back()?;
        let keep = right.kept(right_key);
        let (left_at, right_at) = ([left_key], [right_key]);
        let sides = [
            side(&left.table, &left_at, sorted[0]),
            side(&right.table, &right_at, sorted[1]),
        ];
        let table = matches.join(ctx, step, sides[0], sides[1], &keep)?;
        Ok(left.joined(&right, [left_key, right_key], table))
    }
}

/// A side of a join by key tags, which are never NULL.
fn side<'t>(table: &'t SharedTable, keys: &'t [usize], sorted: bool) -> Side<'t> {
    Side {
        table,
        keys,
        nulls: &[],
        sorted,
    }
}
