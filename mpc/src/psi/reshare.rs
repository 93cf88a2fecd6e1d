//! The second half of an aligned join: from "the neutral party has u, the mask holder has v" to a
//! replicated sharing of u + v that no owner recognises.
//!
//! For a payload column of owner O with mask holder H, let T be the third computing party (T = O when
//! O computes). The component common to T and H and the one common to T and C are fresh words of their
//! pairwise streams, r_TH and r_TC. H sends C `v - r_TH`, C sends H `u - r_TC`, and both take the sum
//! of the two messages as their common component. T receives nothing.
//!
//! A column that the neutral party knows itself, its match bits, takes one message: the component
//! common to A and B is zero, the one common with the party before C is fresh words of their pairwise
//! stream, and the party after C receives the column less these.

use super::plan::Place;
use crate::context::Context;
use crate::error::Result;
use crate::input::{ColumnKind, Component};
use crate::net::{Participant, Step};
use crate::prss::Pair;

/// Two components of one column: common with the previous party, common with the next.
pub(super) type Pieces = [Component; 2];

/// Where the component common with `peer` is kept.
fn place_of(ctx: &Context, peer: Participant) -> Pair {
    if ctx.participant(ctx.role().next()) == peer {
        Pair::Next
    } else {
        Pair::Prev
    }
}

/// Fresh words common with `peer`; the same at both.
fn common(
    ctx: &mut Context,
    peer: Participant,
    step: &Step,
    kind: ColumnKind,
    rows: usize,
) -> Result<Component> {
    let mut stream = ctx.stream(place_of(ctx, peer), &step.narrow("fresh"))?;
    Ok(Component::random(kind, rows, &mut stream))
}

/// The two components in their order.
fn ordered(ctx: &Context, peer: Participant, with_peer: Component, other: Component) -> Pieces {
    match place_of(ctx, peer) {
        Pair::Prev => [with_peer, other],
        Pair::Next => [other, with_peer],
    }
}

/// The third party: both components are fresh words.
pub(super) fn outsider(
    ctx: &mut Context,
    step: &Step,
    kind: ColumnKind,
    rows: usize,
    holder: Participant,
    neutral: Participant,
) -> Result<Pieces> {
    let with_holder = common(ctx, holder, step, kind, rows)?;
    let with_neutral = common(ctx, neutral, step, kind, rows)?;
    Ok(ordered(ctx, holder, with_holder, with_neutral))
}

/// A half that was sent, waiting for the other.
pub(super) struct HalfSent {
    step: Step,
    half: Component,
    fresh: Component,
}

/// A party with one half sends it to `other`, less the words fresh with `outsider`. Finish with
/// [`receive_half`], after all halves are sent.
pub(super) fn send_half(
    ctx: &mut Context,
    step: &Step,
    place: Place,
    mut half: Component,
    outsider: Participant,
    other: Participant,
) -> Result<HalfSent> {
    let step = place.step(step, "reshare");
    let fresh = common(ctx, outsider, &step, half.kind(), half.rows())?;
    half.sub(&fresh);
    half.send(ctx.link(), other, &step)?;
    Ok(HalfSent { step, half, fresh })
}

/// Receives the other half; the sum is the component common with `other`.
pub(super) fn receive_half(
    ctx: &mut Context,
    sent: HalfSent,
    outsider: Participant,
    other: Participant,
) -> Result<Pieces> {
    let HalfSent {
        step,
        mut half,
        fresh,
    } = sent;
    half.add_received(ctx.link(), other, &step)?;
    Ok(ordered(ctx, outsider, fresh, half))
}

/// The neutral party shares a column of its own.
pub(super) fn give(ctx: &mut Context, step: &Step, mut column: Component) -> Result<Pieces> {
    let (prev, next) = (ctx.role().prev(), ctx.role().next());
    let (prev, next) = (ctx.participant(prev), ctx.participant(next));
    let fresh = common(ctx, prev, step, column.kind(), column.rows())?;
    column.sub(&fresh);
    column.send(ctx.link(), next, step)?;
    Ok([fresh, column])
}

/// The other two take it.
pub(super) fn take(
    ctx: &mut Context,
    step: &Step,
    kind: ColumnKind,
    rows: usize,
    neutral: Participant,
) -> Result<Pieces> {
    let given = match place_of(ctx, neutral) {
        Pair::Prev => Component::receive(kind, rows, ctx.link(), neutral, step)?,
        Pair::Next => common(ctx, neutral, step, kind, rows)?,
    };
    Ok(ordered(ctx, neutral, given, Component::zeros(kind, rows)))
}
