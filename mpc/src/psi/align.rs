//! The aligned join: owners' rows are matched by a neutral computing party that sees tags alone, and
//! come out as a replicated sharing in an order that nobody can relate to its own rows.
//!
//! Source: server-aided matching of Kamara, Mohassel, Raykova and Sadeghian, FC 2014; masked payload
//! and rerandomisation as in `docs/protocols/aligned-join.md`, which has the functionality, every
//! party's view and simulator, leakage, rounds and bytes. Adversary: semi-honest, the neutral party
//! colludes with no owner.
//!
//! **Validity without an AND.** An inner or semi join's valid rows are those that match and are no
//! dummies. Dummies match at every owner, so the dummies are a subset of the matches: valid = match XOR
//! dummy. The first owner's dummy bit is one more payload column, and the neutral party adds its match
//! bit to its half of that column before it is reshared. Padding rows carry fresh random tags and match
//! nothing. For an anti join the owner hands over (row XOR dummy) instead, row being set for its real
//! rows: a real row's match turns it off, a dummy's too. A left join has the first bit, and row as a
//! second, which is its validity.

use super::owner::{hand_over, unpack_tags};
use super::pairing::{Pairing, pair, receive_positions, send_positions};
use super::plan::{
    AlignKind, AlignPlan, OwnerSecrets, OwnerTable, Place, TAG_BYTES, chunks, invalid, stream,
};
use super::reshare::{self, HalfSent, Pieces, receive_half, send_half};
use crate::context::Context;
use crate::error::{Error, Misbehaviour, Result};
use crate::input::{ClearColumn, ColumnKind};
use crate::net::{Link, Participant, Step};
use crate::prss::{Seed, Stream};
use crate::table::{Column, SharedTable};
use zerocopy::IntoBytes;

/// Components of all columns handed over, owner by owner; the flags are the first owner's last.
type Output = Vec<Vec<Pieces>>;

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
    let output = owner(ctx, step, plan, table, secrets)?;
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
    mut output: Output,
) -> Result<SharedTable> {
    let bits = output.first_mut().and_then(Vec::pop);
    let flags = bits.map(|[first, second]| first.into_column(second));
    let Some(Ok(Column::Bits(flags))) = flags else {
        return Err(invalid("no validity bits".to_owned()));
    };
    let mut columns: Vec<Column> = output
        .into_iter()
        .flatten()
        .map(|[first, second]| first.into_column(second))
        .collect::<Result<_>>()?;
    if plan.kind != AlignKind::Left {
        let valid = flags;
        return Ok(SharedTable { columns, valid });
    }
    let valid = flags.bit_range(0, 1);
    let matched = Column::Bits(valid.clone());
    // What an unmatched row is paired with must not be read as its partner.
    let second = SharedTable {
        columns: columns.split_off(plan.owners[0].columns.len()),
        valid,
    };
    let second = second.clear_invalid(ctx, &step.narrow("gate"))?;
    columns.extend(second.columns);
    columns.push(matched);
    Ok(SharedTable {
        columns,
        valid: flags.bit_range(1, 1),
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

/// A computing owner.
fn owner(
    ctx: &mut Context,
    step: &Step,
    plan: &AlignPlan,
    table: OwnerTable,
    secrets: &OwnerSecrets,
) -> Result<Output> {
    let computing = ctx.participants();
    validate(plan, &computing)?;
    hand_over(ctx.link(), step, plan, table, secrets)?;
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
        let positions = match kinds.is_empty() {
            true => Vec::new(),
            false => receive_positions(
                ctx.link(),
                plan.neutral,
                &step.at("owner", index),
                rows,
                owner.padded_rows,
            )?,
        };
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
    let mut output = Vec::new();
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
        output.push(columns);
    }
    Ok(output)
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
    let matched = matched.extended(plan.kind.flag_bits());
    for (index, (owner, positions)) in plan.owners.iter().zip(&positions).enumerate() {
        if !plan.handed_over(index).is_empty() {
            let step = step.at("owner", index);
            send_positions(ctx.link(), owner.mask_holder, &step, positions)?;
        }
    }
    let mut started: Vec<Vec<HalfSent>> = Vec::new();
    for (index, (owner, payload)) in plan.owners.iter().zip(payloads).enumerate() {
        let outsider = outsider(plan, computing, owner.mask_holder);
        let mut halves = Vec::new();
        for (column, masked) in payload.into_iter().enumerate() {
            let mut half = masked.gather(&positions[index]).into_component();
            if index == 0 && column == owner.columns.len() {
                half.add(&matched);
            }
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
    plan.owners
        .iter()
        .zip(started)
        .map(|(owner, halves)| {
            let outsider = outsider(plan, computing, owner.mask_holder);
            halves
                .into_iter()
                .map(|half| receive_half(ctx, half, outsider, owner.mask_holder))
                .collect()
        })
        .collect()
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
