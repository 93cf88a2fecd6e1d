//! The aligned join: owners' rows are matched by a neutral computing party that sees tags alone, and
//! come out as a replicated sharing in an order that nobody can relate to its own rows.
//!
//! Source: server-aided matching of Kamara, Mohassel, Raykova and Sadeghian, FC 2014; masked payload
//! and rerandomisation as in `docs/protocols/aligned-join.md`, which has the functionality, every
//! party's view and simulator, leakage, rounds and bytes. Adversary: semi-honest, the neutral party
//! colludes with no owner.
//!
//! **Every owner says which of its rows are real**: one bit a row, one more payload column. Dummies
//! and padding rows have 0 there, whatever their tags. The neutral party shares its match bit, and a row
//! of an inner or semi join is valid if it matches and is real at *all* owners: an AND of single bits.
//! So no owner's word alone makes a row count, and nobody's padding ever does.

use super::owner::{hand_over, unpack_tags};
use super::pairing::{Pairing, pair, receive_positions, send_positions};
use super::plan::{
    AlignKind, AlignPlan, FLAG, OwnerSecrets, OwnerTable, Place, TAG_BYTES, chunks, invalid, stream,
};
use super::reshare::{self, HalfSent, Pieces, receive_half, send_half};
use crate::circuit::{and, equal_public};
use crate::context::Context;
use crate::error::{Error, Misbehaviour, Result};
use crate::input::{ClearColumn, ColumnKind};
use crate::net::{Link, Participant, Step};
use crate::prss::{Seed, Stream};
use crate::share::BitColumn;
use crate::table::{Column, SharedTable};
use zerocopy::IntoBytes;

/// What resharing gives.
struct Output {
    /// Components of all columns handed over, owner by owner; last which of its rows are real.
    columns: Vec<Vec<Pieces>>,
    /// Whether all owners' rows carry one tag.
    matched: Pieces,
}

/// Runs the aligned join as a computing owner. Returns P rows: the payload columns of all owners in
/// plan order, of a left join then whether the second owner's columns are there (they are zero
/// elsewhere), and which rows are valid.
///
/// `table` is this owner's; see [`OwnerTable`] for what its tags are. Every participant calls its own
/// function with the same plan and step.
///
/// # Errors
/// `DuplicateKey` or `InvalidInput` before anything is sent; `PeerMisbehaved` for positions that are
/// no distinct rows; those of the link.
pub fn align_owner(
    ctx: &mut Context,
    step: &Step,
    plan: &AlignPlan,
    table: OwnerTable,
    secrets: &OwnerSecrets,
) -> Result<SharedTable> {
    validate(plan, &ctx.participants())?;
    hand_over(ctx.link(), step, plan, table, secrets)?;
    after_hand_over(ctx, step, plan, secrets)
}

/// The rest of it, once this owner's rows are handed over.
pub(super) fn after_hand_over(
    ctx: &mut Context,
    step: &Step,
    plan: &AlignPlan,
    secrets: &OwnerSecrets,
) -> Result<SharedTable> {
    let output = owner(ctx, step, plan, secrets)?;
    shared_table(ctx, step, plan, output)
}

/// Runs the aligned join as the neutral party; `private` is a seed known to it alone. Returns its
/// shares of the same table.
///
/// # Errors
/// `PeerMisbehaved` for an owner that sends one tag twice; `InvalidInput` for a plan that breaks a
/// rule; those of the link.
pub fn align_neutral(
    ctx: &mut Context,
    step: &Step,
    plan: &AlignPlan,
    private: &Seed,
) -> Result<SharedTable> {
    let output = neutral(ctx, step, plan, private)?;
    shared_table(ctx, step, plan, output)
}

fn shared_table(
    ctx: &mut Context,
    step: &Step,
    plan: &AlignPlan,
    output: Output,
) -> Result<SharedTable> {
    let mut columns = Vec::new();
    let mut real = Vec::new();
    for mut owner in output.columns {
        real.push(flag(owner.pop())?);
        let payload = owner.into_iter();
        let payload = payload.map(|[first, second]| first.into_column(second));
        columns.push(payload.collect::<Result<Vec<Column>>>()?);
    }
    let matched = flag(Some(output.matched))?;
    let step = step.narrow("valid");
    let (valid, partner) = valid_rows(ctx, &step, plan.kind, &real, &matched)?;
    if let Some(partner) = partner {
        // What an unmatched row is paired with must not be read as its partner.
        let second = SharedTable {
            columns: columns.pop().unwrap_or_default(),
            valid: partner,
        };
        let second = second.clear_invalid(ctx, &step.narrow("gate"))?;
        let there = Column::Bits(second.valid);
        columns.push(second.columns);
        columns.push(vec![there]);
    }
    Ok(SharedTable {
        columns: columns.into_iter().flatten().collect(),
        valid,
    })
}

fn flag(pieces: Option<Pieces>) -> Result<BitColumn> {
    match pieces.map(|[first, second]| first.into_column(second)) {
        Some(Ok(Column::Bits(flag))) => Ok(flag),
        Some(Err(error)) => Err(error),
        _ => Err(invalid("no bit a row".to_owned())),
    }
}

/// Which rows are valid and, of a left join, have a partner; `real` is each owner's bit.
///
/// A match counts if all owners say that their row is real. As many AND gates a row as there are owners,
/// in `ceil(log2(owners + 1))` rounds, one more for an anti join of more than two.
fn valid_rows(
    ctx: &mut Context,
    step: &Step,
    kind: AlignKind,
    real: &[BitColumn],
    matched: &BitColumn,
) -> Result<(BitColumn, Option<BitColumn>)> {
    let (first, others) = real
        .split_first()
        .ok_or_else(|| invalid("no owners".to_owned()))?;
    let mut all: Vec<&BitColumn> = others.iter().collect();
    all.push(matched);
    if kind != AlignKind::Anti {
        all.push(first);
    }
    // All bits of a row are set.
    let ones = vec![u64::MAX; all.len().div_ceil(64)];
    let partner = equal_public(ctx, &step.narrow("all"), &BitColumn::concat(&all)?, &ones)?;
    Ok(match kind {
        AlignKind::Left => (first.clone(), Some(partner)),
        AlignKind::Anti => {
            let alone = partner.not(ctx.role());
            (and(ctx, &step.narrow("alone"), first, &alone)?, None)
        }
        _ => (partner, None),
    })
}

/// An owner that does not compute: hands over its rows and is done.
///
/// # Errors
/// `DuplicateKey` or `InvalidInput` before anything is sent; those of the link.
pub fn align_input_owner(
    link: &mut dyn Link,
    step: &Step,
    plan: &AlignPlan,
    computing: &[Participant; 3],
    table: OwnerTable,
    secrets: &OwnerSecrets,
) -> Result<()> {
    validate(plan, computing)?;
    hand_over(link, step, plan, table, secrets)
}

/// A plan without groups: these are another protocol.
fn validate(plan: &AlignPlan, computing: &[Participant; 3]) -> Result<()> {
    plan.validate(computing)?;
    match plan.kind {
        AlignKind::Groups => Err(invalid("groups without a group plan".to_owned())),
        _ => Ok(()),
    }
}

/// A computing owner that has handed over its rows.
fn owner(
    ctx: &mut Context,
    step: &Step,
    plan: &AlignPlan,
    secrets: &OwnerSecrets,
) -> Result<Output> {
    let computing = ctx.participants();
    let me = ctx.link().me();
    let rows = plan.rows();
    ctx.report(step, rows);
    // First everything that goes out, then what comes in: both ends of a half send before they
    // receive.
    let mut started = Vec::new();
    for (index, owner) in plan.owners.iter().enumerate() {
        let kinds = plan.handed_over(index);
        if owner.mask_holder != me {
            started.push(Vec::new());
            continue;
        }
        let outsider = outsider(plan, computing, owner.mask_holder);
        let mut masks: Vec<Stream> = (0..kinds.len())
            .map(|column| {
                let place = Place {
                    owner: index,
                    column,
                };
                secrets.masks(owner.participant, step, place)
            })
            .collect::<Result<_>>()?;
        let positions = receive_positions(
            ctx.link(),
            plan.neutral,
            &step.at("owner", index),
            rows,
            owner.padded_rows,
        )?;
        let mut halves = Vec::new();
        for (column, (&kind, masks)) in kinds.iter().zip(&mut masks).enumerate() {
            let place = Place {
                owner: index,
                column,
            };
            let half = masks_by_row(kind, owner.padded_rows, masks).gather(&positions);
            let half = half.into_component();
            halves.push(send_half(ctx, step, place, half, outsider, plan.neutral)?);
        }
        started.push(halves);
    }
    let mut all = Vec::new();
    for (index, (owner, halves)) in plan.owners.iter().zip(started).enumerate() {
        let outsider = outsider(plan, computing, owner.mask_holder);
        let mut columns = Vec::new();
        if owner.mask_holder == me {
            for half in halves {
                columns.push(receive_half(ctx, half, outsider, plan.neutral)?);
            }
        } else {
            for (column, kind) in plan.handed_over(index).into_iter().enumerate() {
                let place = Place {
                    owner: index,
                    column,
                };
                let step = place.step(step, "reshare");
                let holder = owner.mask_holder;
                columns.push(reshare::outsider(
                    ctx,
                    &step,
                    kind,
                    rows,
                    holder,
                    plan.neutral,
                )?);
            }
        }
        all.push(columns);
    }
    let matched = reshare::take(ctx, &step.narrow("matched"), FLAG, rows, plan.neutral)?;
    Ok(Output {
        columns: all,
        matched,
    })
}

/// The neutral party. `private` is known to it alone.
fn neutral(ctx: &mut Context, step: &Step, plan: &AlignPlan, private: &Seed) -> Result<Output> {
    let computing = ctx.participants();
    validate(plan, &computing)?;
    if ctx.link().me() != plan.neutral {
        return Err(invalid("not the neutral party".to_owned()));
    }
    let Taken { tags, payloads, .. } = take_rows(ctx.link(), step, plan, None)?;
    ctx.report(step, plan.rows());
    ctx.check()?;
    let mut random = stream(private, &step.narrow("pairing"));
    let pairing =
        pair(&tags, plan.rows(), &mut random).map_err(|duplicate| Error::PeerMisbehaved {
            peer: plan.owners[duplicate.owner].participant,
            step: step.at("owner", duplicate.owner),
            what: Misbehaviour::Malformed("one tag for two rows"),
        })?;
    drop(tags);
    let Pairing { positions, matched } = pairing;
    for (index, (owner, positions)) in plan.owners.iter().zip(&positions).enumerate() {
        let step = step.at("owner", index);
        send_positions(ctx.link(), owner.mask_holder, &step, positions)?;
    }
    let mut started: Vec<Vec<HalfSent>> = Vec::new();
    for (index, (owner, payload)) in plan.owners.iter().zip(payloads).enumerate() {
        let outsider = outsider(plan, computing, owner.mask_holder);
        let mut halves = Vec::new();
        for (column, masked) in payload.into_iter().enumerate() {
            let half = masked.gather(&positions[index]).into_component();
            let place = Place {
                owner: index,
                column,
            };
            halves.push(send_half(
                ctx,
                step,
                place,
                half,
                outsider,
                owner.mask_holder,
            )?);
        }
        started.push(halves);
    }
    let matched = reshare::give(ctx, &step.narrow("matched"), matched)?;
    let columns = plan
        .owners
        .iter()
        .zip(started)
        .map(|(owner, halves)| {
            let outsider = outsider(plan, computing, owner.mask_holder);
            halves
                .into_iter()
                .map(|half| receive_half(ctx, half, outsider, owner.mask_holder))
                .collect()
        })
        .collect::<Result<_>>()?;
    Ok(Output { columns, matched })
}

/// The computing party that is neither neutral nor the mask holder.
pub(super) fn outsider(
    plan: &AlignPlan,
    computing: [Participant; 3],
    holder: Participant,
) -> Participant {
    computing
        .into_iter()
        .find(|&party| party != plan.neutral && party != holder)
        .unwrap_or(holder)
}

/// What the owners handed over: `tags[owner][row]`, `payloads[owner][column]`.
pub(super) struct Taken {
    pub(super) tags: Vec<Vec<u128>>,
    pub(super) payloads: Vec<Vec<ClearColumn>>,
    /// The groups of one owner's rows.
    pub(super) groups: Vec<u32>,
}

/// Takes all owners' rows; those of the owner `grouped` come with their groups.
///
/// Frames are taken from the owners in turn, so that nobody's rows queue up.
pub(super) fn take_rows(
    link: &mut dyn Link,
    step: &Step,
    plan: &AlignPlan,
    grouped: Option<usize>,
) -> Result<Taken> {
    let mut groups = Vec::new();
    let mut tags = Vec::new();
    let mut payloads = Vec::new();
    let mut frames = Vec::new();
    for (index, owner) in plan.owners.iter().enumerate() {
        let rows = owner.padded_rows;
        tags.push(Vec::with_capacity(rows));
        let columns = plan.handed_over(index).into_iter();
        let columns: Vec<_> = columns
            .map(|kind| ClearColumn::with_capacity(kind, rows))
            .collect();
        payloads.push(columns);
        frames.push(chunks(rows).map(|range| range.len()).enumerate());
    }
    let mut left = true;
    while left {
        left = false;
        for (index, owner) in plan.owners.iter().enumerate() {
            let Some((chunk, rows)) = frames[index].next() else {
                continue;
            };
            left = true;
            let (from, step) = (owner.participant, step.at("owner", index));
            let mut frame = vec![0; rows * TAG_BYTES];
            link.recv_into(from, &step.at("tags", chunk), &mut frame)?;
            unpack_tags(&frame, &mut tags[index]);
            if grouped == Some(index) {
                let before = groups.len();
                groups.resize(before + rows, 0_u32);
                let frame = groups[before..].as_mut_bytes();
                link.recv_into(from, &step.at("groups", chunk), frame)?;
            }
            let payload_step = step.at("payload", chunk);
            for column in &mut payloads[index] {
                column.append_received(rows, link, from, &payload_step)?;
            }
        }
    }
    Ok(Taken {
        tags,
        payloads,
        groups,
    })
}

/// The masks of one column, as its owner draws them frame by frame.
pub(super) fn masks_by_row(kind: ColumnKind, rows: usize, masks: &mut Stream) -> ClearColumn {
    let mut all = ClearColumn::with_capacity(kind, rows);
    for range in chunks(rows) {
        all.append_random(range.len(), masks);
    }
    all
}
