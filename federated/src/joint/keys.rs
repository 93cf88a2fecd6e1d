//! Keys of one run: tag keys and dummies among owners, streams among computing parties.
//!
//! Two owners derive a common key from the secret that they share. Of three or more, the first draws
//! it and sends it to the others over its links; nobody else sees it, the neutral party least of all.

use super::blame::Failure;
use super::participant;
use super::run::Run;
use super::seeds::{Key, Seeds};
use crate::error::{Code, Error, Result};
use crate::plan::{Encoding, FragmentIndex, JointPlan, Operator, PartyIndex};
use std::collections::{BTreeMap, BTreeSet};
use veilgate_mpc::net::{Link, Step};
use veilgate_mpc::prss::{Prss, Seed};
use zeroize::Zeroizing;

/// What a key that owners have in common is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// Tags of one key class.
    Tags(u32),
    /// Dummies of the alignment which is this operator.
    Dummies(usize),
}

impl Purpose {
    fn label(self) -> String {
        match self {
            Self::Tags(class) => format!("tags/{class}"),
            Self::Dummies(operator) => format!("dummies/{operator}"),
        }
    }
}

/// The keys that I have in common with other owners.
pub(super) type CommonKeys = BTreeMap<Purpose, Key>;

/// Agrees on every common key that I have a part in.
pub(super) fn agree(
    run: &Run<'_>,
    link: &mut dyn Link,
    seeds: &Seeds,
) -> std::result::Result<CommonKeys, Failure> {
    let mut keys = CommonKeys::new();
    for (purpose, owners) in purposes(run.plan) {
        if !owners.contains(&run.me) {
            continue;
        }
        let label = purpose.label();
        let step = Step::new("keys").narrow(&label);
        let others: Vec<PartyIndex> = owners.iter().copied().filter(|o| *o != run.me).collect();
        let key = match others.as_slice() {
            [] => seeds.own(&label)?,
            [other] => seeds.pair(*other, &label)?,
            _ if owners.first() == Some(&run.me) => {
                let key = seeds.own(&label)?;
                for other in others {
                    link.send(participant(other), &step, key.as_ref())?;
                }
                key
            }
            [lead, ..] => {
                let mut key = Zeroizing::new([0; 32]);
                link.recv_into(participant(*lead), &step, key.as_mut())?;
                key
            }
        };
        keys.insert(purpose, key);
    }
    Ok(keys)
}

/// Every common key of a plan, with the owners that have it, in one order for all.
fn purposes(plan: &JointPlan) -> BTreeMap<Purpose, BTreeSet<PartyIndex>> {
    let mut purposes: BTreeMap<Purpose, BTreeSet<PartyIndex>> = BTreeMap::new();
    for fragment in &plan.fragments {
        for column in &fragment.columns {
            if let Encoding::KeyTag { class, .. } = column.encoding {
                let owners = purposes.entry(Purpose::Tags(class)).or_default();
                owners.insert(fragment.owner);
            }
        }
    }
    for (index, operator) in plan.operators.iter().enumerate() {
        if let Operator::Align { fragments, .. } = operator {
            let owner = |fragment: &FragmentIndex| plan.fragments.get(*fragment).map(|f| f.owner);
            let owners = fragments.iter().filter_map(owner).collect();
            purposes.insert(Purpose::Dummies(index), owners);
        }
    }
    purposes
}

/// The streams that computing party `seat` has in common with each of the two others.
pub(super) fn prss(run: &Run<'_>, seat: usize, seeds: &Seeds) -> Result<Prss> {
    let with = |offset: usize| -> Result<Seed> {
        let other = run
            .plan
            .computing_parties()
            .map(|parties| parties[(seat + offset) % 3])
            .ok_or_else(|| Error::new(Code::Internal, "the plan lacks computing parties"))?;
        Ok(Seed(*seeds.pair(other, "prss")?))
    };
    Ok(Prss::new(with(2)?, with(1)?))
}
