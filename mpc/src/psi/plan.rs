//! What the parties of an aligned join agree on beforehand, and what each brings along.

use super::Dummies;
use super::tag::{MAX_ROWS, TAG_BITS};
use crate::error::{Error, Result};
use crate::input::{ClearColumn, ColumnKind};
use crate::net::{Participant, Step};
use crate::prss::{Seed, Stream};
use std::fmt;
use zeroize::Zeroize;

/// Bytes of a tag on the wire.
pub(super) const TAG_BYTES: usize = TAG_BITS / 8;

/// The most owners: overlaps are counted for every set of them.
const MAX_OWNERS: usize = 8;

/// The name under which errors of this protocol are reported.
pub(super) const OPERATOR: &str = "aligned join";

/// One bit a row.
pub(super) const FLAG: ColumnKind = ColumnKind::Bits { width: 1 };

/// Rows of one frame: few enough to stay in a cache between making and sending. A multiple of 64, so
/// that bit columns cut into frames lose nothing.
pub(super) const CHUNK: usize = 1 << 13;

/// The public description of one alignment; equal at all parties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlignPlan {
    /// The owners, in the order of the output columns. Two or more; exactly two are computing
    /// parties.
    pub owners: Vec<OwnerPlan>,
    /// The computing party that owns nothing here and matches the tags.
    pub neutral: Participant,
    /// Dummy matches.
    pub dummies: Dummies,
    /// Which rows come out.
    pub kind: AlignKind,
}

/// Which rows an aligned join keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlignKind {
    /// Keys that all owners have: as many rows as the smallest owner has after padding.
    Inner,
    /// All rows of the first of two owners, the second's columns where the key matches.
    Left,
    /// The first owner's rows whose key all others have; others have no payload.
    Semi,
    /// The first owner's rows whose key not all others have; others have no payload.
    Anti,
    /// No rows: what a [`GroupPlan`](super::GroupPlan) sums over.
    Groups,
}

/// The public description of one owner's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerPlan {
    /// Who owns it.
    pub participant: Participant,
    /// Who holds the masks of its payload: a computing owner, not this one.
    pub mask_holder: Participant,
    /// N': rows after padding. At least the real rows plus [`Dummies::headroom`].
    pub padded_rows: usize,
    /// Its payload columns.
    pub columns: Vec<ColumnKind>,
}

/// One owner's rows: unique keys, as tags, with payload. `Debug` shows its shape alone.
#[derive(Clone)]
pub struct OwnerTable {
    /// A tag per row, from [`super::tag::Tagger`] under the alignment's tag key. Rows with a NULL
    /// key match nothing and are left out.
    pub tags: Vec<u128>,
    /// Payload columns of as many rows, of the plan's kinds.
    pub columns: Vec<ClearColumn>,
}

impl fmt::Debug for OwnerTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "OwnerTable({} rows, {:?})",
            self.tags.len(),
            self.columns
        )
    }
}

/// What an owner knows that others do not. All fresh for the run; the step separates alignments.
#[derive(Debug, Clone)]
pub struct OwnerSecrets {
    /// Known to all owners and to nobody else: numbers and tags of the dummies.
    pub common: Seed,
    /// Known to this owner alone: the order of its rows, tags of padding rows.
    pub private: Seed,
    /// Known to this owner and one other each: payload masks.
    pub pairwise: Vec<(Participant, Seed)>,
}

impl OwnerSecrets {
    /// The stream of masks for column `column` of `owner`, known to it and its mask holder.
    pub(super) fn masks(&self, peer: Participant, step: &Step, place: Place) -> Result<Stream> {
        let found = self.pairwise.iter().find(|(with, _)| *with == peer);
        let Some((_, seed)) = found else {
            return Err(invalid(format!("no pairwise seed with participant {peer}")));
        };
        Ok(stream(seed, &place.step(step, "mask")))
    }
}

/// One column of one owner; columns from `OwnerPlan::columns.len()` on are the protocol's own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) owner: usize,
    pub(super) column: usize,
}

impl Place {
    /// `step/owner{i}/column{j}/{name}`.
    pub(super) fn step(self, step: &Step, name: &str) -> Step {
        step.at("owner", self.owner)
            .at("column", self.column)
            .narrow(name)
    }
}

/// The stream that a seed gives at a step.
pub(super) fn stream(seed: &Seed, step: &Step) -> Stream {
    let hash = blake3::keyed_hash(&seed.0, step.path().as_bytes());
    let mut key = [0; 16];
    key.copy_from_slice(&hash.as_bytes()[..16]);
    let stream = Stream::new(&key);
    key.zeroize();
    stream
}

pub(super) fn invalid(what: String) -> Error {
    Error::InvalidInput {
        operator: OPERATOR,
        what,
    }
}

/// Lengths of the frames that carry `rows` rows.
pub(super) fn chunks(rows: usize) -> impl Iterator<Item = std::ops::Range<usize>> + Clone {
    (0..rows)
        .step_by(CHUNK)
        .map(move |start| start..rows.min(start + CHUNK))
}

impl AlignPlan {
    /// The smallest padded size of the form m * 2^e, 16 <= m < 32, that holds `rows` rows, the most
    /// dummies among `owners` owners, and `floor`: sizes are told to a sixteenth.
    #[must_use]
    pub fn padded_rows(rows: usize, floor: usize, dummies: &Dummies, owners: usize) -> usize {
        let least = (rows + dummies.headroom(owners)).max(floor);
        let unit = (least / 16).max(1).next_power_of_two();
        let unit = if unit * 16 > least {
            (unit / 2).max(1)
        } else {
            unit
        };
        least.div_ceil(unit) * unit
    }

    /// The most dummies that one owner can have.
    pub(super) fn headroom(&self) -> usize {
        self.dummies.headroom(self.owners.len())
    }

    /// P: rows of the output. Of an inner join those of the smallest owner, else those of the first.
    #[must_use]
    pub fn rows(&self) -> usize {
        let sizes = self.owners.iter().map(|owner| owner.padded_rows);
        let rows = match self.kind {
            AlignKind::Inner | AlignKind::Groups => sizes.min(),
            AlignKind::Left | AlignKind::Semi | AlignKind::Anti => sizes.take(1).min(),
        };
        rows.unwrap_or(0)
    }

    /// The columns that `owner` hands over: its payload and, unless rows are only summed, a bit that
    /// says whether a row is real.
    pub(super) fn handed_over(&self, owner: usize) -> Vec<ColumnKind> {
        let mut kinds = self.owners[owner].columns.clone();
        if self.kind != AlignKind::Groups {
            kinds.push(FLAG);
        }
        kinds
    }

    pub(super) fn index_of(&self, participant: Participant) -> Result<usize> {
        self.owners
            .iter()
            .position(|owner| owner.participant == participant)
            .ok_or_else(|| invalid(format!("participant {participant} owns no table here")))
    }

    /// Checks the plan against the three computing parties.
    ///
    /// # Errors
    /// `InvalidInput` naming the rule that it breaks.
    pub fn validate(&self, computing: &[Participant; 3]) -> Result<()> {
        let is_owner = |who| self.owners.iter().any(|owner| owner.participant == who);
        let rule = |holds: bool, what: &str| match holds {
            true => Ok(()),
            false => Err(invalid(what.to_owned())),
        };
        let count = self.owners.len();
        rule(
            (2..=MAX_OWNERS).contains(&count),
            "fewer than two owners, or more than eight",
        )?;
        rule(
            computing.contains(&self.neutral) && !is_owner(self.neutral),
            "the neutral party must compute and own nothing",
        )?;
        rule(
            computing
                .iter()
                .all(|&who| who == self.neutral || is_owner(who)),
            "two owners must be computing parties",
        )?;
        let others = self.owners.iter().skip(1);
        match self.kind {
            AlignKind::Inner | AlignKind::Groups => {}
            AlignKind::Left => rule(count == 2, "a left join of more than two owners")?,
            AlignKind::Semi | AlignKind::Anti => rule(
                others.clone().all(|owner| owner.columns.is_empty()),
                "a semi or anti join with columns of another owner than the first",
            )?,
        }
        rule(
            others.clone().all(|o| o.padded_rows >= self.rows()),
            "a left, semi or anti join in which another owner's padded size is below the first's",
        )?;
        let all = self.owners.iter().map(|owner| owner.padded_rows);
        let all = all.fold(0_usize, usize::saturating_add);
        rule(all <= MAX_ROWS, "more rows than tags can tell apart")?;
        for (index, owner) in self.owners.iter().enumerate() {
            let who = owner.participant;
            rule(self.index_of(who)? == index, "an owner appears twice")?;
            let holder = owner.mask_holder;
            rule(
                holder != who && holder != self.neutral && computing.contains(&holder),
                "a mask holder must be a computing owner other than the payload's",
            )?;
            rule(
                owner.padded_rows >= self.headroom(),
                &format!(
                    "a padded size below the {} dummies there may be",
                    self.headroom()
                ),
            )?;
            for kind in &owner.columns {
                kind.check(OPERATOR)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padded_sizes_are_coarse_and_sufficient() {
        let dummies = Dummies::new(1, 1, 30).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for rows in 0..100_000 {
            let padded = AlignPlan::padded_rows(rows, 64, &dummies, 2);
            assert!(padded >= rows + dummies.most() && padded >= 64);
            assert!(padded as f64 <= 64.0_f64.max((rows + dummies.most()) as f64 * 1.0626));
            seen.insert(padded);
        }
        assert!(seen.len() < 200);
        assert_eq!(
            AlignPlan::padded_rows(1 << 20, 0, &Dummies::NONE, 2),
            1 << 20
        );
        assert_eq!(AlignPlan::padded_rows(0, 0, &Dummies::NONE, 2), 0);
    }

    #[test]
    fn plans_that_break_a_rule_are_refused() {
        let owner = |who, holder| OwnerPlan {
            participant: Participant(who),
            mask_holder: Participant(holder),
            padded_rows: 10,
            columns: vec![],
        };
        let plan = |owners| AlignPlan {
            owners,
            neutral: Participant(2),
            dummies: Dummies::NONE,
            kind: AlignKind::Inner,
        };
        let computing = [0, 1, 2].map(Participant);
        assert!(
            plan(vec![owner(0, 1), owner(1, 0)])
                .validate(&computing)
                .is_ok()
        );
        assert!(
            plan(vec![owner(3, 1), owner(0, 1), owner(1, 0)])
                .validate(&computing)
                .is_ok()
        );
        for owners in [
            vec![owner(0, 1)],
            vec![owner(0, 1), owner(3, 0)],
            vec![owner(0, 1), owner(1, 0), owner(1, 0)],
            vec![owner(0, 0), owner(1, 0)],
            vec![owner(0, 2), owner(1, 0)],
            vec![owner(0, 1), owner(1, 0), owner(2, 0)],
            vec![owner(0, 1), owner(1, 0), owner(3, 4)],
        ] {
            assert!(plan(owners).validate(&computing).is_err());
        }
        for kind in [AlignKind::Left, AlignKind::Semi, AlignKind::Anti] {
            let mut other = plan(vec![owner(0, 1), owner(1, 0)]);
            other.kind = kind;
            assert!(other.validate(&computing).is_ok());
            let mut small = other.clone();
            small.owners[1].padded_rows = 9;
            assert!(small.validate(&computing).is_err());
            other.owners[1].columns.push(ColumnKind::Arith64);
            assert_eq!(other.validate(&computing).is_ok(), kind == AlignKind::Left);
        }
        let mut three = plan(vec![owner(3, 1), owner(0, 1), owner(1, 0)]);
        three.kind = AlignKind::Left;
        assert!(three.validate(&computing).is_err());
        let mut tight = plan(vec![owner(0, 1), owner(1, 0)]);
        tight.dummies = Dummies::new(1, 1, 30).unwrap();
        assert!(tight.validate(&computing).is_err());
    }
}
