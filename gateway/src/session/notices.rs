//! What an analyst is told beside an answer: what was withheld, what others learned, which tables were
//! read and which rules allowed it, where the ledgers have it, what it cost. Functions of the plan, of public
//! sizes, and of what every party signed.

use super::coordinator::Prepared;
use prost::Message;
use std::collections::BTreeSet;
use std::time::Instant;
use veilgate_federated::local::lineage::fragment_tables;
use veilgate_federated::plan::{JointPlan, Operator, PublicSize};
use veilgate_federated::planner::Planned;
use veilgate_federated::release::Released;
use veilgate_federated::run::Signed;
use veilgate_proto::peer::v1 as wire;

/// How long the steps of a query took.
pub(super) struct Times {
    last: Instant,
    told: Vec<String>,
}

impl Times {
    /// The first step begins now.
    pub(super) fn start() -> Self {
        Self {
            last: Instant::now(),
            told: Vec::new(),
        }
    }

    /// This step ends now.
    pub(super) fn end(&mut self, step: &str) {
        let took = self.last.elapsed();
        self.last = Instant::now();
        self.told
            .push(format!("{step} {:.1} ms", took.as_secs_f64() * 1e3));
    }

    /// The notice of them.
    pub(super) fn notice(&self) -> (String, String) {
        ("time".to_owned(), self.told.join(", "))
    }
}

/// What files a party reads, of its consent, which every party has verified.
pub(super) fn snapshot(consent: &Signed) -> Vec<u8> {
    let body = wire::ConsentBody::decode(consent.body.as_slice());
    body.map(|body| body.snapshot).unwrap_or_default()
}

/// (department, rule, what for), from every gateway's own check.
pub(super) fn rules(
    planned: &Planned,
    replies: &[wire::ProposeReply],
) -> Vec<(String, String, String)> {
    let parties = planned.plan.parties.iter();
    parties
        .zip(replies)
        .flat_map(|(party, reply)| {
            reply.rules.iter().map(|line| {
                let (rule, what) = line.split_once('\t').unwrap_or((line, ""));
                (party.department.clone(), rule.to_owned(), what.to_owned())
            })
        })
        .collect()
}

/// All notices but that of time.
pub(super) fn notices(
    planned: &Planned,
    released: &Released,
    replies: &[wire::ProposeReply],
    prepared: &Prepared,
) -> Vec<(String, String)> {
    let mut notices: Vec<(String, String)> = released
        .notices()
        .iter()
        .map(|text| ("withheld".to_owned(), text.clone()))
        .collect();
    for text in leakage(&planned.plan) {
        notices.push(("leakage".to_owned(), text));
    }
    for text in sources(&planned.plan, &prepared.snapshots) {
        notices.push(("source".to_owned(), text));
    }
    for (department, rule, what) in rules(planned, replies) {
        let text = if rule.ends_with(&what) {
            rule
        } else {
            format!("{rule}: {what}")
        };
        let own = [".", ":"].map(|next| format!("{department}{next}"));
        let text = if own.iter().any(|own| text.starts_with(own.as_str())) {
            text
        } else {
            format!("{department}: {text}")
        };
        notices.push(("rule".to_owned(), text));
    }
    let parties = planned.plan.parties.iter();
    for (party, token) in parties.zip(&prepared.tokens) {
        notices.push((
            "ledger".to_owned(),
            format!("{}: release leaf {}", party.department, token.ledger_leaf),
        ));
    }
    let parties = planned.plan.parties.iter();
    for (party, token) in parties.zip(&prepared.tokens) {
        if token.bytes_sent > 0 {
            notices.push((
                "traffic".to_owned(),
                format!(
                    "{}: {} bytes sent to other gateways, {} rounds",
                    party.department, token.bytes_sent, token.rounds
                ),
            ));
        }
    }
    notices
}

/// Which tables were read, as they were at that moment.
fn sources(plan: &JointPlan, snapshots: &[Vec<u8>]) -> Vec<String> {
    let parties = plan.parties.iter().zip(snapshots).enumerate();
    parties
        .filter_map(|(owner, (party, snapshot))| {
            let own = plan.fragments.iter().filter(|of| of.owner == owner);
            let tables: BTreeSet<String> = own
                .filter_map(|fragment| fragment_tables(&fragment.sql).ok())
                .flatten()
                .collect();
            let tables: Vec<String> = tables.into_iter().collect();
            (!tables.is_empty()).then(|| {
                format!(
                    "{}: {}; files as of {}",
                    party.department,
                    tables.join(", "),
                    hex::encode(snapshot.get(..6).unwrap_or_default())
                )
            })
        })
        .collect()
}

/// What the run told beyond its result, and to whom.
fn leakage(plan: &JointPlan) -> Vec<String> {
    let name = |party: usize| plan.parties[party].department.as_str();
    let owners: Vec<&str> = plan
        .fragments
        .iter()
        .filter(|fragment| fragment.size == PublicSize::Bucket)
        .map(|fragment| name(fragment.owner))
        .collect();
    let mut told = Vec::new();
    if !owners.is_empty() {
        told.push(format!(
            "row counts of {}, rounded up, to every party",
            owners.join(", ")
        ));
    }
    for operator in &plan.operators {
        if let Operator::Align { neutral, .. } = operator {
            told.push(format!(
                "the noisy number of matches, to {}",
                name(*neutral)
            ));
        }
    }
    told
}
