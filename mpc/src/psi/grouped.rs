//! Grouped alignment: sums over the rows that match, a group each, without a shared row in between.
//!
//! One of the owners gives each of its rows a group, as a number below the public G' in an order that it
//! alone knows, and hands over one row of key columns a group. The neutral party matches tags as in an
//! aligned join, then tells both mask holders which of the rows they have masks for belong to which
//! group, groups in an order that it alone knows. Now `sum of payload = sum of u + sum of v` over a
//! group, and the neutral party has all `u`, the mask holder all `v`: both add up locally, and only
//! sums are reshared. Dummies match and have payload zero; their owner gives each a random group, and
//! hands over how many each group got, which is taken off the group's size.
//!
//! Sums being local, nothing can gate a row by every owner's word that it is real, as an aligned join
//! does: a padding row that carries another owner's tag counts, with payload zero. Owners are trusted so
//! far here, and the number of dummies is the grouping owner's word alone.
//!
//! Beyond the leakage of an aligned join the neutral party and both mask holders learn the sizes of
//! the groups, dummies included, under pseudonyms: the atom `groups`. See
//! `docs/protocols/aligned-join.md`. Adversary: semi-honest, the neutral party colludes with no owner.

use super::align::{masks_by_row, outsider, take_rows};
use super::matching::{TagHash, match_tags};
use super::owner::{Prepared, send_masked};
use super::pairing::{receive_positions, send_positions};
use super::plan::{AlignKind, AlignPlan, OwnerSecrets, OwnerTable, Place, chunks, invalid, stream};
use super::reshare::{self, HalfSent, Pieces, receive_half, send_half};
use crate::circuit::{a2b, equal_public};
use crate::context::Context;
use crate::error::{Error, Misbehaviour, Result};
use crate::input::{ClearColumn, ColumnKind};
use crate::net::{Link, Participant, Step};
use crate::prss::Seed;
use crate::share::Arith;
use crate::table::{Column, SharedTable};
use zerocopy::IntoBytes;

/// The public description of a grouped alignment; equal at all parties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPlan {
    /// The join, of kind [`AlignKind::Groups`]. Its owners' columns are what is summed.
    pub align: AlignPlan,
    /// Index of the owner whose rows have groups.
    pub by: usize,
    /// G': groups after padding.
    pub padded_groups: usize,
    /// The columns that name a group.
    pub keys: Vec<ColumnKind>,
}

/// The groups of one owner's rows. `Debug` shows its shape alone.
#[derive(Clone)]
pub struct Groups {
    /// The group of each row.
    pub of_row: Vec<u32>,
    /// The plan's key columns, a row a group.
    pub keys: Vec<ClearColumn>,
}

impl std::fmt::Debug for Groups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Groups({} rows, {:?})", self.of_row.len(), self.keys)
    }
}

/// What is summed or handed over together, with one list of positions: an owner's columns, or the
/// table of groups.
struct Part {
    index: usize,
    owner: Participant,
    holder: Participant,
    /// Rows that the owner hands over.
    rows: usize,
    kinds: Vec<ColumnKind>,
}

impl GroupPlan {
    /// Checks the plan against the three computing parties.
    ///
    /// # Errors
    /// `InvalidInput` naming the rule that it breaks.
    pub fn validate(&self, computing: &[Participant; 3]) -> Result<()> {
        self.align.validate(computing)?;
        let sums = self.align.owners.iter().flat_map(|owner| &owner.columns);
        let rule = |holds: bool, what: &str| match holds {
            true => Ok(()),
            false => Err(invalid(what.to_owned())),
        };
        rule(
            self.align.kind == AlignKind::Groups,
            "a group plan of another kind than groups",
        )?;
        rule(
            sums.clone()
                .all(|kind| !matches!(kind, ColumnKind::Bits { .. })),
            "a column to be summed that is no number",
        )?;
        rule(
            self.by < self.align.owners.len() && self.padded_groups > 0,
            "no owner, or no room, for groups",
        )?;
        rule(
            u32::try_from(self.padded_groups).is_ok(),
            "more groups than numbers",
        )?;
        self.keys
            .iter()
            .try_for_each(|kind| kind.check(super::plan::OPERATOR))
    }

    /// The owners' columns, then the table of groups: its keys and the number of dummies.
    fn parts(&self) -> Vec<Part> {
        let owners = self.align.owners.iter().enumerate();
        let mut parts: Vec<Part> = owners
            .map(|(index, owner)| Part {
                index,
                owner: owner.participant,
                holder: owner.mask_holder,
                rows: owner.padded_rows,
                kinds: owner.columns.clone(),
            })
            .collect();
        let by = &self.align.owners[self.by];
        let mut kinds = self.keys.clone();
        kinds.push(ColumnKind::Arith64);
        parts.push(Part {
            index: parts.len(),
            owner: by.participant,
            holder: by.mask_holder,
            rows: self.padded_groups,
            kinds,
        });
        parts
    }

    /// Whether a part's columns are summed over groups rather than one row a group.
    fn is_summed(&self, part: &Part) -> bool {
        part.index < self.align.owners.len()
    }
}

/// Runs a grouped alignment as a computing owner. Returns G' rows: the key columns, the sums of all
/// owners' columns in plan order, and the number of rows, as elements of Z_2^64; a group without rows is
/// invalid.
///
/// `groups` are those of the owner that the plan names, and `None` at others. Sums are modulo 2^64 or
/// 2^128: the caller sees to it that they fit, and that NULLs are zero.
///
/// # Errors
/// As [`align_owner`](super::align_owner); `InvalidInput` for groups that do not fit the plan.
pub fn group_owner(
    ctx: &mut Context,
    step: &Step,
    plan: &GroupPlan,
    table: OwnerTable,
    groups: Option<Groups>,
    secrets: &OwnerSecrets,
) -> Result<SharedTable> {
    let computing = ctx.participants();
    plan.validate(&computing)?;
    hand_over(ctx.link(), step, plan, table, groups, secrets)?;
    let (me, neutral) = (ctx.link().me(), plan.align.neutral);
    let sizes = receive_sizes(ctx.link(), step, plan)?;
    let matches = sizes.iter().map(|&size| size as usize).sum();
    let mut started: Vec<Vec<HalfSent>> = Vec::new();
    for part in plan.parts() {
        let mut halves = Vec::new();
        if part.holder == me && !part.kinds.is_empty() {
            let of_part = step.at("owner", part.index);
            let rows = if plan.is_summed(&part) {
                matches
            } else {
                part.rows
            };
            let positions = receive_positions(ctx.link(), neutral, &of_part, rows, part.rows)?;
            for (column, &kind) in part.kinds.iter().enumerate() {
                let place = Place {
                    owner: part.index,
                    column,
                };
                let mut masks = secrets.masks(part.owner, step, place)?;
                let masks = masks_by_row(kind, part.rows, &mut masks);
                let half = gather_or_sum(plan, &part, &masks, &positions, &sizes).into_component();
                let third = outsider(&plan.align, computing, part.holder);
                halves.push(send_half(ctx, step, place, half, third, neutral)?);
            }
        }
        started.push(halves);
    }
    finish(ctx, step, plan, &sizes, started)
}

/// Runs a grouped alignment as the neutral party; `private` is a seed known to it alone. Returns its
/// shares of the same table.
///
/// # Errors
/// As [`align_neutral`](super::align_neutral); `PeerMisbehaved` for a group that the plan has not.
pub fn group_neutral(
    ctx: &mut Context,
    step: &Step,
    plan: &GroupPlan,
    private: &Seed,
) -> Result<SharedTable> {
    let computing = ctx.participants();
    plan.validate(&computing)?;
    if ctx.link().me() != plan.align.neutral {
        return Err(invalid("not the neutral party".to_owned()));
    }
    let mut taken = take_rows(ctx.link(), step, &plan.align, Some(plan.by))?;
    let parts = plan.parts();
    if let Some(groups) = parts.last() {
        taken
            .payloads
            .push(receive_groups(ctx.link(), step, groups)?);
    }
    let by = plan.align.owners[plan.by].participant;
    let malformed = |owner: Participant, index: usize, what| Error::PeerMisbehaved {
        peer: owner,
        step: step.at("owner", index),
        what: Misbehaviour::Malformed(what),
    };
    if taken
        .groups
        .iter()
        .any(|&group| group as usize >= plan.padded_groups)
    {
        return Err(malformed(by, plan.by, "a group that the plan has not"));
    }
    ctx.check()?;
    let mut random = stream(private, &step.narrow("pairing"));
    let mut key = [0; 4];
    random.fill(&mut key);
    let matches = match_tags(&taken.tags, TagHash::new(key)).map_err(|duplicate| {
        let owner = plan.align.owners[duplicate.owner].participant;
        malformed(owner, duplicate.owner, "one tag for two rows")
    })?;
    // Matches in random order, then by group; groups in random order.
    let count = matches.rows[0].len();
    let shown = random.permutation(plan.padded_groups);
    let mut shuffled = random.permutation(count);
    let mut place = vec![0_u32; plan.padded_groups];
    for (&group, at) in shown.iter().zip(0..) {
        place[group as usize] = at;
    }
    let group_of =
        |at: u32| place[taken.groups[matches.rows[plan.by][at as usize] as usize] as usize];
    shuffled.sort_by_key(|&at| group_of(at));
    let mut sizes = vec![0_u32; plan.padded_groups];
    for &at in &shuffled {
        sizes[group_of(at) as usize] += 1;
    }
    for owner in &plan.align.owners {
        if computing.contains(&owner.participant) {
            let to = owner.participant;
            ctx.link()
                .send(to, &step.narrow("sizes"), sizes.as_bytes())?;
        }
    }
    let positions_of = |part: &Part| -> Vec<u32> {
        match plan.is_summed(part) {
            true => {
                let rows = &matches.rows[part.index];
                shuffled.iter().map(|&at| rows[at as usize]).collect()
            }
            false => shown.clone(),
        }
    };
    // All positions first: a mask holder takes them before it takes halves.
    let positions: Vec<Vec<u32>> = parts.iter().map(positions_of).collect();
    for (part, positions) in parts.iter().zip(&positions) {
        if !part.kinds.is_empty() {
            let of_part = step.at("owner", part.index);
            send_positions(ctx.link(), part.holder, &of_part, positions)?;
        }
    }
    let mut started = Vec::new();
    for ((part, payload), positions) in parts.iter().zip(taken.payloads).zip(&positions) {
        let mut halves = Vec::new();
        for (column, masked) in payload.into_iter().enumerate() {
            let place = Place {
                owner: part.index,
                column,
            };
            let half = gather_or_sum(plan, part, &masked, positions, &sizes).into_component();
            let third = outsider(&plan.align, computing, part.holder);
            halves.push(send_half(ctx, step, place, half, third, part.holder)?);
        }
        started.push(halves);
    }
    finish(ctx, step, plan, &sizes, started)
}

/// An owner that does not compute: hands over its rows and is done.
///
/// # Errors
/// As [`align_input_owner`](super::align_input_owner).
pub fn group_input_owner(
    link: &mut dyn Link,
    step: &Step,
    plan: &GroupPlan,
    computing: &[Participant; 3],
    table: OwnerTable,
    groups: Option<Groups>,
    secrets: &OwnerSecrets,
) -> Result<()> {
    plan.validate(computing)?;
    hand_over(link, step, plan, table, groups, secrets)
}

/// Sends an owner's rows and, of the owner whose rows have groups, these.
fn hand_over(
    link: &mut dyn Link,
    step: &Step,
    plan: &GroupPlan,
    table: OwnerTable,
    groups: Option<Groups>,
    secrets: &OwnerSecrets,
) -> Result<()> {
    let index = plan.align.index_of(link.me())?;
    if groups.is_some() != (index == plan.by) {
        return Err(invalid(
            "groups at another owner than the plan names".to_owned(),
        ));
    }
    let rows = table.tags.len();
    let mut prepared = Prepared::new(step, &plan.align, index, table, secrets)?;
    let Some(groups) = groups else {
        return prepared.send(link, step, &plan.align, secrets, None);
    };
    let count = check_groups(plan, &groups, rows)?;
    let padded = plan.padded_groups;
    let number = prepared.private.permutation(padded);
    let bound = u32::try_from(padded).unwrap_or(u32::MAX);
    // Dummies and padding rows: any group.
    let mut of_row: Vec<u32> = groups.of_row.iter().map(|&g| number[g as usize]).collect();
    while of_row.len() < prepared.order.len() {
        of_row.push(prepared.private.below(bound));
    }
    let mut dummies = vec![0_u64; padded];
    for &group in &of_row[rows..rows + prepared.dummies] {
        dummies[group as usize] += 1;
    }
    prepared.send(link, step, &plan.align, secrets, Some(&of_row))?;
    let mut group_at = vec![0_u32; padded];
    for (group, &at) in (0..).zip(&number) {
        group_at[at as usize] = group;
    }
    debug_assert!(count <= padded);
    let mut columns: Vec<ClearColumn> = groups.keys.iter().map(|c| c.gather(&group_at)).collect();
    columns.push(ClearColumn::Arith64(dummies));
    let part = plan.parts().pop();
    let holder = part.as_ref().map_or(plan.align.neutral, |part| part.holder);
    let index = plan.align.owners.len();
    let mut masks = (0..columns.len())
        .map(|column| {
            secrets.masks(
                holder,
                step,
                Place {
                    owner: index,
                    column,
                },
            )
        })
        .collect::<Result<Vec<_>>>()?;
    let order: Vec<u32> = (0..bound).collect();
    for (chunk, range) in chunks(padded).enumerate() {
        let step = step.at("owner", index).at("payload", chunk);
        send_masked(
            link,
            plan.align.neutral,
            &step,
            &columns,
            &mut masks,
            &order[range],
        )?;
    }
    Ok(())
}

/// How many groups there are.
fn check_groups(plan: &GroupPlan, groups: &Groups, rows: usize) -> Result<usize> {
    let largest = groups
        .of_row
        .iter()
        .max()
        .map_or(0, |&group| group as usize + 1);
    let count = groups.keys.first().map_or(largest, ClearColumn::rows);
    if groups.of_row.len() != rows || largest > count || count > plan.padded_groups {
        return Err(invalid(format!(
            "{count} groups of {} rows where {} of {rows} rows were declared",
            groups.of_row.len(),
            plan.padded_groups
        )));
    }
    if groups.keys.len() != plan.keys.len() {
        return Err(invalid(format!("{} group columns", groups.keys.len())));
    }
    for (column, &kind) in groups.keys.iter().zip(&plan.keys) {
        column.check(super::plan::OPERATOR, kind, count)?;
    }
    Ok(count)
}

/// A part's column at `positions`, summed over groups if the part is an owner's.
fn gather_or_sum(
    plan: &GroupPlan,
    part: &Part,
    column: &ClearColumn,
    positions: &[u32],
    sizes: &[u32],
) -> ClearColumn {
    if !plan.is_summed(part) {
        return column.gather(positions);
    }
    let mut rest = positions;
    let groups = sizes.iter().map(|&size| {
        let (group, after) = rest.split_at(size as usize);
        rest = after;
        group
    });
    match column {
        ClearColumn::Arith64(words) => ClearColumn::Arith64(
            groups
                .map(|group| {
                    group
                        .iter()
                        .fold(0, |sum: u64, &at| sum.wrapping_add(words[at as usize]))
                })
                .collect(),
        ),
        ClearColumn::Arith128(words) => ClearColumn::Arith128(
            groups
                .map(|group| {
                    group
                        .iter()
                        .fold(0, |sum: u128, &at| sum.wrapping_add(words[at as usize]))
                })
                .collect(),
        ),
        // The plan was checked: none of these is summed.
        ClearColumn::Bits { .. } => column.gather(&[]),
    }
}

fn receive_sizes(link: &mut dyn Link, step: &Step, plan: &GroupPlan) -> Result<Vec<u32>> {
    let mut sizes = vec![0_u32; plan.padded_groups];
    let (from, step) = (plan.align.neutral, step.narrow("sizes"));
    link.recv_into(from, &step, sizes.as_mut_bytes())?;
    let most = plan
        .align
        .owners
        .iter()
        .map(|owner| owner.padded_rows)
        .min();
    let total: u64 = sizes.iter().map(|&size| u64::from(size)).sum();
    if total > most.unwrap_or(0) as u64 {
        return Err(Error::PeerMisbehaved {
            peer: from,
            step,
            what: Misbehaviour::Malformed("groups of more rows than there are"),
        });
    }
    Ok(sizes)
}

fn receive_groups(link: &mut dyn Link, step: &Step, part: &Part) -> Result<Vec<ClearColumn>> {
    let kinds = part.kinds.iter();
    let mut columns: Vec<ClearColumn> = kinds
        .map(|&kind| ClearColumn::with_capacity(kind, part.rows))
        .collect();
    for (chunk, range) in chunks(part.rows).enumerate() {
        let step = step.at("owner", part.index).at("payload", chunk);
        for column in &mut columns {
            column.append_received(range.len(), link, part.owner, &step)?;
        }
    }
    Ok(columns)
}

/// From halves to the table: keys, sums, number of rows.
fn finish(
    ctx: &mut Context,
    step: &Step,
    plan: &GroupPlan,
    sizes: &[u32],
    started: Vec<Vec<HalfSent>>,
) -> Result<SharedTable> {
    let (me, computing) = (ctx.link().me(), ctx.participants());
    let neutral = plan.align.neutral;
    let mut columns = Vec::new();
    for (part, halves) in plan.parts().into_iter().zip(started) {
        let third = outsider(&plan.align, computing, part.holder);
        let mut pieces: Vec<Pieces> = Vec::new();
        if me == third {
            for (column, &kind) in part.kinds.iter().enumerate() {
                let step = Place {
                    owner: part.index,
                    column,
                }
                .step(step, "reshare");
                let rows = plan.padded_groups;
                pieces.push(reshare::outsider(
                    ctx,
                    &step,
                    kind,
                    rows,
                    part.holder,
                    neutral,
                )?);
            }
        } else {
            let other = if me == neutral { part.holder } else { neutral };
            for half in halves {
                pieces.push(receive_half(ctx, half, third, other)?);
            }
        }
        for [first, second] in pieces {
            columns.push(first.into_column(second)?);
        }
    }
    let Some(Column::Arith64(dummies)) = columns.pop() else {
        return Err(invalid("no number of dummies".to_owned()));
    };
    let sums = columns.len() - plan.keys.len();
    columns.rotate_left(sums);
    let sizes: Vec<u64> = sizes.iter().map(|&size| u64::from(size)).collect();
    let count = Arith::public(ctx.role(), &sizes).minus(&dummies);
    // Fewer rows than 2^32.
    let bits = a2b(ctx, &step.narrow("count"), &count, 32)?;
    let empty = equal_public(ctx, &step.narrow("empty"), &bits, &[0])?;
    columns.push(Column::Arith64(count));
    Ok(SharedTable {
        columns,
        valid: empty.not(ctx.role()),
    })
}
