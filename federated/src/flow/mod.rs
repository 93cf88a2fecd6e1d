//! The flow check: may this plan run, by the rules of this department alone?
//!
//! Every gateway with a role runs it for itself, with its own catalogue and policy, and trusts
//! nobody: not the planner, not the other owners. Each column of this department is followed
//! through the plan, from the text of the fragments to the release; every use of it needs a rule,
//! and every released number needs this department's threshold in front of it. What is not known
//! here is refused.
//!
//! | module | asks |
//! |---|---|
//! | [`rules`] | which rule permits a use, and what would be permitted instead |
//! | `bounds` | which rows, values and bytes the catalogue bounds |
//! | `fragments` | what this department's fragments compute, re-derived from their text |
//! | `uses` | what the plan uses each column for |
//! | `guards` | whether the thresholds hold |
//! | `program` | all of this for a plan of several steps |
//!
//! Nothing here knows of data, sockets or the clock.

pub(crate) mod bounds;
mod fragments;
mod guards;
mod program;
pub mod rules;
mod standing;
mod uses;

pub(crate) use program::{thresholds, unguarded};
pub use rules::row_output_denial;

use crate::catalog::Published;
use crate::error::{Code, Denial, Error, Result};
use crate::plan::{Encoding, Engine, JointPlan, Operator, PartyIndex, PublicSize, Validated};
use crate::policy::{Level, Policy, Reason};
use std::borrow::Borrow;
use std::collections::BTreeSet;

/// Who checks, with what.
#[derive(Debug, Clone, Copy)]
pub struct Me<'a> {
    /// This department.
    pub department: &'a str,
    /// Its published tables; none for a gateway without data.
    pub catalog: Option<&'a Published>,
    /// Its rules; none for a gateway without data.
    pub policy: Option<&'a Policy>,
    /// The engine that this gateway runs.
    pub engine: &'a Engine,
    /// The department of the analyst who asks.
    pub home: &'a str,
    /// What the answer is for.
    pub reason: Reason<'a>,
}

/// A plan that this gateway's own check permits. Only [`check`] makes one.
#[derive(Debug, Clone)]
pub struct Permitted {
    validated: Validated,
    me: PartyIndex,
    rules: Vec<(String, String)>,
    policy_version: Option<[u8; 32]>,
    catalog_version: Option<[u8; 32]>,
}

impl Permitted {
    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &JointPlan {
        self.validated.plan()
    }

    /// The plan with its bytes.
    #[must_use]
    pub fn validated(&self) -> &Validated {
        &self.validated
    }

    /// The digest of the plan.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.validated.digest()
    }

    /// This gateway among the plan's parties.
    #[must_use]
    pub fn me(&self) -> PartyIndex {
        self.me
    }

    /// The rules that let the plan pass, each with what it is needed for, in a fixed order.
    #[must_use]
    pub fn rules(&self) -> &[(String, String)] {
        &self.rules
    }

    /// The version of the policy that was applied.
    #[must_use]
    pub fn policy_version(&self) -> Option<[u8; 32]> {
        self.policy_version
    }

    /// The version of the catalogue that was applied.
    #[must_use]
    pub fn catalog_version(&self) -> Option<[u8; 32]> {
        self.catalog_version
    }
}

/// Checks a plan with the rules of one department.
///
/// # Errors
/// - `WrongVersion` for a plan of another engine, `DigestMismatch` for one made against another
///   catalogue of this department;
/// - `PeerMisbehaved` for a plan in which this department or the home department has not the role
///   that it should have;
/// - `PolicyDenied` with the refusal that says most: rule, column, and what would be allowed.
pub fn check(plan: impl Borrow<Validated>, me: &Me<'_>) -> Result<Permitted> {
    let validated = plan.borrow();
    let index = role(validated.plan(), me)?;
    let (grants, denials) = examine(validated.plan(), index, me)?;
    if let Some(first) = denials.into_iter().next() {
        return Err(Error::denied(first));
    }
    Ok(Permitted {
        validated: validated.clone(),
        me: index,
        rules: grants,
        policy_version: me.policy.map(|policy| policy.version),
        catalog_version: me.catalog.map(Published::version),
    })
}

/// Every reason why a plan is refused, the most useful first; none for one that is permitted.
///
/// # Errors
/// As [`check`], refusals by policy aside.
pub fn denials(plan: &Validated, me: &Me<'_>) -> Result<Vec<Denial>> {
    let index = role(plan.plan(), me)?;
    Ok(examine(plan.plan(), index, me)?.1)
}

/// What concerns every gateway: the engine, the home department, being named at all.
fn role(plan: &JointPlan, me: &Me<'_>) -> Result<PartyIndex> {
    let misbehaved = |message: String| Err(Error::new(Code::PeerMisbehaved, message));
    if plan.engine != *me.engine {
        return Err(Error::new(
            Code::WrongVersion,
            format!(
                "the plan is for {}, and {} runs {}{}",
                plan.engine.version,
                me.department,
                me.engine.version,
                if plan.engine.version == me.engine.version {
                    " with another configuration"
                } else {
                    ""
                }
            ),
        )
        .at(me.department));
    }
    let Some(index) = plan.party(me.department) else {
        return misbehaved(format!("{} has no role in this plan", me.department));
    };
    let result = plan.result_party().map(|party| &plan.parties[party]);
    if result.is_none_or(|party| party.department != me.home) {
        return misbehaved(format!(
            "the result of this plan is not opened to {}, whose analyst asks for it",
            me.home
        ));
    }
    Ok(index)
}

type Examined = (Vec<(String, String)>, Vec<Denial>);

fn examine(plan: &JointPlan, index: PartyIndex, me: &Me<'_>) -> Result<Examined> {
    let party = &plan.parties[index];
    let owns = plan.fragments.iter().any(|of| of.owner == index);
    if !owns {
        // It lends its computing: whose data it computes on is for the owners to accept.
        return Ok((Vec::new(), Vec::new()));
    }
    let catalog = me.catalog.ok_or_else(|| {
        Error::new(
            Code::DigestMismatch,
            "the plan asks for data of a department that has no catalogue",
        )
        .at(me.department)
    })?;
    if party.catalog_version != Some(catalog.version()) {
        return Err(Error::new(
            Code::DigestMismatch,
            format!(
                "the plan was made against another catalogue of {}",
                me.department
            ),
        )
        .at(me.department));
    }
    let Some(policy) = me.policy else {
        return Ok((
            Vec::new(),
            vec![Denial {
                department: me.department.to_owned(),
                rule: "default deny".to_owned(),
                column: String::new(),
                asked: "any use of its data".to_owned(),
                alternative: "nothing: it has no rules".to_owned(),
            }],
        ));
    };

    if let Some(Operator::Program(of)) = plan.operators.last() {
        return program::examine(plan, of, index, me, catalog, policy);
    }
    let mut denials = Vec::new();
    let lineages = fragments::derive(plan, index, me, catalog, &mut denials)?;
    if !denials.is_empty() {
        // What a fragment outside the grammar would use cannot be told.
        return Ok((Vec::new(), denials));
    }
    let asked = uses::collect(plan, index, me, &lineages, &mut denials)?;
    let sizes = needs_sizes(plan, index);
    let tables: BTreeSet<&str> = plan
        .fragments
        .iter()
        .zip(&lineages)
        .filter(|(fragment, _)| fragment.owner == index)
        .map(|(_, lineage)| lineage.table.as_str())
        .collect();
    let granted = rules::decide(&asked, &tables, me, policy, sizes, &mut denials);
    sensitive(plan, me, policy, &asked, &mut denials);
    guards::check(
        plan,
        index,
        me,
        catalog,
        &lineages,
        &guards::Needed {
            k: granted.k.max(1),
            rule: &granted.names,
        },
        &mut denials,
    )?;
    denials.extend(floors(plan, index, me, policy));
    denials.extend(computing(plan, me, policy));
    Ok((granted.rules, denials))
}

/// Whether others learn the padded size of one of this department's inputs.
fn needs_sizes(plan: &JointPlan, me: PartyIndex) -> bool {
    let mine = |fragment: usize| plan.fragments[fragment].owner == me;
    let bucket = plan
        .fragments
        .iter()
        .any(|of| of.owner == me && of.size == PublicSize::Bucket);
    bucket
        || plan.operators.iter().any(|operator| match operator {
            Operator::Align { fragments, .. } => fragments.iter().any(|of| mine(*of)),
            _ => false,
        })
}

/// From level L3 on the result party does not compute, while computing parties are only trusted
/// to follow the protocol.
fn sensitive(
    plan: &JointPlan,
    me: &Me<'_>,
    policy: &Policy,
    asked: &BTreeSet<uses::Asked>,
    denials: &mut Vec<Denial>,
) {
    let computes = plan
        .parties
        .iter()
        .any(|party| party.result && party.computing.is_some());
    if !computes {
        return;
    }
    let most = asked
        .iter()
        .map(|of| (policy.level(&of.table, &of.column), of))
        .filter(|(level, _)| *level >= Level::L3)
        .max_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(a.1)));
    if let Some((level, of)) = most {
        denials.push(Denial {
            department: me.department.to_owned(),
            rule: format!(
                "{}.{}.{}: level {}",
                me.department,
                of.table,
                of.column,
                level.name()
            ),
            column: format!("{}.{}.{}", me.department, of.table, of.column),
            asked: format!(
                "{} to compute and to receive the result of a column of level {}",
                me.home,
                level.name()
            ),
            alternative: "the same with three computing parties other than the department that \
                          asks"
                .to_owned(),
        });
    }
}

/// The fewest bits of a tag: two keys of one table that share a tag would count as one.
const MIN_TAG_BITS: u32 = 64;

/// Tags that are too short, and declared sizes below this department's own floor.
fn floors(plan: &JointPlan, index: PartyIndex, me: &Me<'_>, policy: &Policy) -> Vec<Denial> {
    let mut found = Vec::new();
    let mut deny = |rule: String, asked: String, alternative: String| {
        found.push(Denial {
            department: me.department.to_owned(),
            rule,
            column: String::new(),
            asked,
            alternative,
        });
    };
    for (position, fragment) in plan.fragments.iter().enumerate() {
        if fragment.owner != index {
            continue;
        }
        let short = fragment.columns.iter().find_map(|of| match of.encoding {
            Encoding::KeyTag { bits, .. } | Encoding::UnitTag { bits } => {
                (bits < MIN_TAG_BITS).then_some(bits)
            }
            _ => None,
        });
        if let Some(bits) = short {
            deny(
                "fragments: tags".to_owned(),
                format!("tags of {bits} bits in fragment {position}"),
                format!("the same with tags of at least {MIN_TAG_BITS} bits"),
            );
        }
        if let PublicSize::Declared(rows) = fragment.size
            && rows < policy.min_rows
        {
            deny(
                format!("{}: min_rows", me.department),
                format!("fragment {position} padded to {rows} rows"),
                format!("the same padded to {} rows", policy.min_rows),
            );
        }
    }
    found
}

/// The three computing parties are a set that this department has signed.
fn computing(plan: &JointPlan, me: &Me<'_>, policy: &Policy) -> Option<Denial> {
    let seats: BTreeSet<&str> = plan
        .computing_parties()?
        .iter()
        .map(|party| plan.parties[*party].department.as_str())
        .collect();
    let accepted = policy
        .computing
        .iter()
        .any(|set| set.iter().map(String::as_str).collect::<BTreeSet<_>>() == seats);
    if accepted {
        return None;
    }
    let sets: Vec<String> = policy.computing.iter().map(|set| set.join(" + ")).collect();
    Some(Denial {
        department: me.department.to_owned(),
        rule: format!("{}: computing", me.department),
        column: String::new(),
        asked: format!(
            "computing by {}",
            seats.into_iter().collect::<Vec<_>>().join(" + ")
        ),
        alternative: if sets.is_empty() {
            "nothing: it accepts no computing parties".to_owned()
        } else {
            format!("computing by {}", sets.join(", or by "))
        },
    })
}
