//! Prepare and commit: nothing is opened before every owner and computing party has signed for it,
//! and every byte sent digests to the byte received.

use super::{RunId, RunSeeds, Running, Signed, Signer, Verifier, array};
use crate::error::{Code, Error, Result};
use crate::flow::Permitted;
use std::collections::BTreeMap;
use veilgate_mpc::net::ChannelDigest;
use veilgate_proto::peer::v1 as wire;

const TOKEN_DOMAIN: &str = "veilgate release token v1";

/// This gateway has computed its part, written its release leaf and signed its token.
#[derive(Debug)]
pub struct Prepared {
    permitted: Permitted,
    run: RunId,
    consents_digest: [u8; 32],
    seeds: RunSeeds,
    mine: Signed,
}

/// Everybody has signed for the release: the final share may go to the result party.
#[derive(Debug)]
pub struct Committed {
    seeds: RunSeeds,
    permitted: Permitted,
    run: RunId,
}

impl Committed {
    /// The plan that was run.
    #[must_use]
    pub fn permitted(&self) -> &Permitted {
        &self.permitted
    }

    /// Seeds shared with the other parties.
    #[must_use]
    pub fn seeds(&self) -> &RunSeeds {
        &self.seeds
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.run
    }
}

type Channels = BTreeMap<u32, ([u8; 32], [u8; 32])>;

impl Prepared {
    pub(super) fn new(
        running: Running,
        channels: &[ChannelDigest],
        signer: &dyn Signer,
    ) -> (Self, Signed) {
        let party = &running.permitted.plan().parties[running.permitted.me()];
        let body = wire::TokenBody {
            run_id: running.run.0.to_vec(),
            plan_digest: running.permitted.digest().to_vec(),
            department: party.department.clone(),
            consents_digest: running.consents_digest.to_vec(),
            channels: channels
                .iter()
                .map(|channel| wire::ChannelDigest {
                    peer: u32::from(channel.peer.0),
                    sent: channel.sent.to_vec(),
                    received: channel.received.to_vec(),
                })
                .collect(),
        };
        let mine = Signed::new(signer, TOKEN_DOMAIN, &body);
        let prepared = Self {
            permitted: running.permitted,
            run: running.run,
            consents_digest: running.consents_digest,
            seeds: running.seeds,
            mine: mine.clone(),
        };
        (prepared, mine)
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> RunId {
        self.run
    }

    /// Verifies the tokens of all parties (in the order of the plan's parties) and that what each
    /// sent is what the other received.
    ///
    /// # Errors
    /// `PeerMisbehaved` or `DigestMismatch`, naming the department; nothing has been opened.
    pub fn commit(self, tokens: &[Signed], verifier: &dyn Verifier) -> Result<Committed> {
        let parties = &self.permitted.plan().parties;
        if tokens.len() != parties.len() {
            return Err(Error::new(
                Code::PeerMisbehaved,
                format!(
                    "{} release tokens for {} parties",
                    tokens.len(),
                    parties.len()
                ),
            ));
        }
        if tokens[self.permitted.me()] != self.mine {
            return Err(Error::new(
                Code::PeerMisbehaved,
                "the release token handed back is not the one that this gateway gave",
            ));
        }
        let mut channels: Vec<Channels> = Vec::with_capacity(tokens.len());
        for (party, token) in parties.iter().zip(tokens) {
            let department = party.department.as_str();
            let body: wire::TokenBody = token.open(verifier, department, TOKEN_DOMAIN)?;
            if body.department != department || body.run_id != self.run.0 {
                return Err(Error::new(
                    Code::PeerMisbehaved,
                    "a release token is of another run or department",
                )
                .at(department));
            }
            if body.plan_digest != self.permitted.digest()
                || body.consents_digest != self.consents_digest
            {
                return Err(Error::new(
                    Code::DigestMismatch,
                    "signed the release of another plan or other consents",
                )
                .at(department));
            }
            let mut map = Channels::new();
            for channel in &body.channels {
                let digests = (
                    array(&channel.sent, "channel digest")?,
                    array(&channel.received, "channel digest")?,
                );
                map.insert(channel.peer, digests);
            }
            channels.push(map);
        }
        self.agree(&channels)?;
        Ok(Committed {
            seeds: self.seeds,
            permitted: self.permitted,
            run: self.run,
        })
    }

    /// Every two parties that took part saw the same bytes in both directions.
    fn agree(&self, channels: &[Channels]) -> Result<()> {
        let plan = self.permitted.plan();
        let takes_part: Vec<bool> = (0..plan.parties.len())
            .map(|party| plan.takes_part(party))
            .collect();
        for (a, mine) in channels.iter().enumerate() {
            for (b, theirs) in channels.iter().enumerate() {
                if a == b || !takes_part[a] || !takes_part[b] {
                    continue;
                }
                let index = |party: usize| u32::try_from(party).unwrap_or(u32::MAX);
                let sent = mine.get(&index(b)).map(|digests| digests.0);
                let received = theirs.get(&index(a)).map(|digests| digests.1);
                if sent.is_none() || sent != received {
                    return Err(Error::new(
                        Code::PeerMisbehaved,
                        format!(
                            "{} and {} disagree on what was sent from the first to the second",
                            plan.parties[a].department, plan.parties[b].department
                        ),
                    ));
                }
            }
        }
        Ok(())
    }
}
