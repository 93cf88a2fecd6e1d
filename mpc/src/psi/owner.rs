//! The first half of an aligned join: an owner hands its tags and masked payload to the neutral
//! party, in an order that it alone knows.

use super::matching::{TagHash, match_tags};
use super::plan::{
    AlignPlan, OPERATOR, OwnerSecrets, OwnerTable, Place, TAG_BYTES, chunks, invalid, stream,
};
use crate::error::{Error, Result};
use crate::input::{ClearColumn, Component};
use crate::net::{Link, Participant, Step};
use crate::prss::Stream;
use zerocopy::IntoBytes;

/// Checks the table, then sends it: per frame of rows the tags and every column minus its mask.
///
/// # Errors
/// `DuplicateKey` or `InvalidInput` before anything is sent; those of the link.
pub(super) fn hand_over(
    link: &mut dyn Link,
    step: &Step,
    plan: &AlignPlan,
    table: OwnerTable,
    secrets: &OwnerSecrets,
) -> Result<()> {
    let index = plan.index_of(link.me())?;
    let prepared = Prepared::new(step, plan, index, table, secrets)?;
    prepared.send(link, step, plan, secrets, None)
}

/// An owner's rows, dummies and padding rows, ready to be sent.
pub(super) struct Prepared {
    index: usize,
    /// Real rows, then dummies, then padding.
    pub(super) tags: Vec<u128>,
    /// Columns of the real rows; all others are zero, as is their bit that says which are real.
    columns: Vec<ClearColumn>,
    /// How many dummies are common to all; they follow the real rows.
    pub(super) dummies: usize,
    /// The row at each place: the permutation that mixes them.
    pub(super) order: Vec<u32>,
    /// The rest of the owner's private randomness.
    pub(super) private: Stream,
}

impl Prepared {
    /// Checks the table of owner `index` and draws dummies, padding and order.
    pub(super) fn new(
        step: &Step,
        plan: &AlignPlan,
        index: usize,
        table: OwnerTable,
        secrets: &OwnerSecrets,
    ) -> Result<Self> {
        let OwnerTable { tags, mut columns } = table;
        let rows = tags.len();
        check(plan, index, rows, &columns)?;
        let mut private = stream(&secrets.private, &step.narrow("order"));
        let mut key = [0; 4];
        private.fill(&mut key);
        let tags = [tags];
        match_tags(&tags, TagHash::new(key)).map_err(|_| Error::DuplicateKey)?;
        let [mut tags] = tags;
        let padded = plan.owners[index].padded_rows;
        let dummies = add_dummies(plan, index, step, secrets, &mut tags);
        let padding = padded - tags.len();
        tags.extend(private.words::<u128>(padding));
        let order = private.permutation(padded);
        if plan.handed_over(index).len() > columns.len() {
            columns.push(real(rows));
        }
        Ok(Self {
            index,
            tags,
            columns,
            dummies,
            order,
            private,
        })
    }

    /// Sends it all, with the group of each row if there are groups.
    pub(super) fn send(
        &self,
        link: &mut dyn Link,
        step: &Step,
        plan: &AlignPlan,
        secrets: &OwnerSecrets,
        groups: Option<&[u32]>,
    ) -> Result<()> {
        let owner = &plan.owners[self.index];
        let mut masks: Vec<Stream> = (0..self.columns.len())
            .map(|column| {
                let place = Place {
                    owner: self.index,
                    column,
                };
                secrets.masks(owner.mask_holder, step, place)
            })
            .collect::<Result<_>>()?;
        let step = step.at("owner", self.index);
        for (chunk, range) in chunks(owner.padded_rows).enumerate() {
            let order = &self.order[range];
            let bytes = pack_tags(&self.tags, order);
            link.send(plan.neutral, &step.at("tags", chunk), &bytes)?;
            if let Some(groups) = groups {
                let groups: Vec<u32> = order.iter().map(|&row| groups[row as usize]).collect();
                link.send(plan.neutral, &step.at("groups", chunk), groups.as_bytes())?;
            }
            let step = step.at("payload", chunk);
            send_masked(link, plan.neutral, &step, &self.columns, &mut masks, order)?;
        }
        Ok(())
    }
}

/// Sends the rows at `order` of every column, minus its mask.
pub(super) fn send_masked(
    link: &mut dyn Link,
    to: Participant,
    step: &Step,
    columns: &[ClearColumn],
    masks: &mut [Stream],
    order: &[u32],
) -> Result<()> {
    for (column, masks) in columns.iter().zip(masks) {
        let mut masked = column.gather(order).into_component();
        masked.sub(&Component::random(column.kind(), order.len(), masks));
        link.send(to, step, masked.as_bytes())?;
    }
    Ok(())
}

/// Adds the tags of this owner's dummies, those common to all owners first; says how many these are.
///
/// Every set of two or more owners has dummies of its own, numbers and tags from the owners' common
/// stream. Only those common to all become output rows.
fn add_dummies(
    plan: &AlignPlan,
    index: usize,
    step: &Step,
    secrets: &OwnerSecrets,
    tags: &mut Vec<u128>,
) -> usize {
    let mut common = stream(&secrets.common, &step.narrow("dummies"));
    let all = (1_usize << plan.owners.len()) - 1;
    let mut common_to_all = 0;
    for set in (1..=all).rev().filter(|set| set.count_ones() >= 2) {
        let dummies = plan.dummies.draw(&mut common);
        let drawn = common.words::<u128>(dummies);
        if set >> index & 1 == 1 {
            tags.extend(drawn);
        }
        if set == all {
            common_to_all = dummies;
        }
    }
    common_to_all
}

fn check(plan: &AlignPlan, index: usize, rows: usize, columns: &[ClearColumn]) -> Result<()> {
    let owner = &plan.owners[index];
    if rows + plan.headroom() > owner.padded_rows {
        return Err(invalid(format!(
            "the padded size is below the rows plus the {} dummies there may be",
            plan.headroom()
        )));
    }
    if columns.len() != owner.columns.len() {
        return Err(invalid(format!(
            "{} payload columns where {} were declared",
            columns.len(),
            owner.columns.len()
        )));
    }
    for (column, &kind) in columns.iter().zip(&owner.columns) {
        column.check(OPERATOR, kind, rows)?;
    }
    Ok(())
}

/// Which rows are real. Rows past the end, dummies and padding, count as zero.
fn real(rows: usize) -> ClearColumn {
    ClearColumn::Bits {
        width: 1,
        words: vec![1; rows],
    }
}

/// The tags at `order`, truncated, [`TAG_BYTES`] bytes each.
fn pack_tags(tags: &[u128], order: &[u32]) -> Vec<u8> {
    let mut packed = vec![0; order.len() * TAG_BYTES];
    for (bytes, &from) in packed.chunks_exact_mut(TAG_BYTES).zip(order) {
        bytes.copy_from_slice(&tags[from as usize].to_le_bytes()[..TAG_BYTES]);
    }
    packed
}

/// The inverse of [`pack_tags`]: appends the tags of one frame.
pub(super) fn unpack_tags(frame: &[u8], tags: &mut Vec<u128>) {
    tags.extend(frame.chunks_exact(TAG_BYTES).map(|bytes| {
        let mut tag = [0; 16];
        tag[..TAG_BYTES].copy_from_slice(bytes);
        u128::from_le_bytes(tag)
    }));
}

#[cfg(test)]
mod tests {
    use super::super::tag::truncate;
    use super::*;

    #[test]
    fn packed_tags_survive() {
        let mut stream = Stream::new(&[4; 16]);
        let tags: Vec<u128> = stream.words(50);
        let order = stream.permutation(50);
        let frame = pack_tags(&tags, &order);
        let mut back = vec![];
        unpack_tags(&frame, &mut back);
        assert_eq!(back.len(), 50);
        assert!(
            back.iter()
                .zip(&order)
                .all(|(t, &i)| *t == truncate(tags[i as usize]))
        );
    }
}
