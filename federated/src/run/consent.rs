//! From a permitted plan to running it: nonces, signed consents, seeds.

use super::seeds::RunSeeds;
use super::token::Prepared;
use super::{RunId, Signed, Signer, Verifier, array};
use crate::error::{Code, Error, Result};
use crate::flow::Permitted;
use sha2::{Digest, Sha256};
use veilgate_proto::peer::v1::ConsentBody;

const CONSENT_DOMAIN: &str = "veilgate consent v1";

/// A plan that passed this gateway's flow check; nothing has been promised yet.
#[derive(Debug)]
pub struct Proposed {
    permitted: Permitted,
    run: RunId,
    analyst: String,
    nonce: [u8; 32],
}

/// What this gateway vouches for in its consent.
#[derive(Debug, Clone)]
pub struct Versions {
    /// Of its policy; empty without data.
    pub policy: Vec<u8>,
    /// Of its catalogue; empty without data.
    pub catalog: Vec<u8>,
    /// Of the files that its fragments will read; empty without a fragment.
    pub snapshot: Vec<u8>,
}

impl Proposed {
    /// Takes a permitted plan. `nonce` is fresh randomness.
    #[must_use]
    pub fn new(permitted: Permitted, run: RunId, analyst: String, nonce: [u8; 32]) -> Self {
        Self {
            permitted,
            run,
            analyst,
            nonce,
        }
    }

    /// What this gateway contributes to everybody's consents.
    #[must_use]
    pub fn nonce(&self) -> [u8; 32] {
        self.nonce
    }

    /// The plan, as this gateway permits it.
    #[must_use]
    pub fn permitted(&self) -> &Permitted {
        &self.permitted
    }

    /// Signs the consent. `ephemeral` is 32 bytes of fresh randomness, `expires_at` Unix seconds.
    ///
    /// # Errors
    /// `PeerMisbehaved` when the nonces are not one for each party, or mine is not among them.
    pub fn consent(
        self,
        nonces: &[Vec<u8>],
        ephemeral: [u8; 32],
        versions: Versions,
        expires_at: u64,
        signer: &dyn Signer,
    ) -> Result<(Consenting, Signed)> {
        let parties = &self.permitted.plan().parties;
        let me = self.permitted.me();
        if nonces.len() != parties.len() {
            return Err(Error::new(
                Code::PeerMisbehaved,
                format!("{} nonces for {} parties", nonces.len(), parties.len()),
            ));
        }
        for nonce in nonces {
            array::<32>(nonce, "nonce")?;
        }
        if nonces[me] != self.nonce {
            return Err(Error::new(
                Code::PeerMisbehaved,
                "the nonce that this gateway gave is not among those to consent to",
            ));
        }
        let secret = x25519_dalek::StaticSecret::from(ephemeral);
        let body = ConsentBody {
            run_id: self.run.0.to_vec(),
            plan_digest: self.permitted.digest().to_vec(),
            nonces: nonces.to_vec(),
            department: parties[me].department.clone(),
            ephemeral_key: x25519_dalek::PublicKey::from(&secret).as_bytes().to_vec(),
            policy_version: versions.policy,
            catalog_version: versions.catalog,
            snapshot: versions.snapshot,
            expires_at,
            analyst: self.analyst.clone(),
        };
        let signed = Signed::new(signer, CONSENT_DOMAIN, &body);
        let consenting = Consenting {
            permitted: self.permitted,
            run: self.run,
            analyst: self.analyst,
            nonces: nonces.to_vec(),
            mine: signed.clone(),
            secret,
        };
        Ok((consenting, signed))
    }
}

/// This gateway has signed; it waits for everybody's consents over the same digest.
pub struct Consenting {
    permitted: Permitted,
    run: RunId,
    analyst: String,
    nonces: Vec<Vec<u8>>,
    mine: Signed,
    secret: x25519_dalek::StaticSecret,
}

impl std::fmt::Debug for Consenting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Consenting({})", self.run)
    }
}

impl Consenting {
    /// The plan, as this gateway permits it.
    #[must_use]
    pub fn permitted(&self) -> &Permitted {
        &self.permitted
    }

    /// Verifies everybody's consents (in the order of the parties) and derives the seeds. `now` is
    /// Unix seconds.
    ///
    /// # Errors
    /// `DigestMismatch`, `PeerMisbehaved`, naming the department; nothing has started.
    pub fn start(self, consents: &[Signed], verifier: &dyn Verifier, now: u64) -> Result<Running> {
        let plan = self.permitted.plan();
        if consents.len() != plan.parties.len() {
            return Err(Error::new(
                Code::PeerMisbehaved,
                format!(
                    "{} consents for {} parties",
                    consents.len(),
                    plan.parties.len()
                ),
            ));
        }
        let me = self.permitted.me();
        let mut publics = Vec::with_capacity(consents.len());
        for (party, (consent, nonces)) in plan
            .parties
            .iter()
            .zip(consents.iter().zip(std::iter::repeat(&self.nonces)))
        {
            let department = party.department.as_str();
            let refuse = |code, what: &str| Err(Error::new(code, what.to_owned()).at(department));
            let body: ConsentBody = consent.open(verifier, department, CONSENT_DOMAIN)?;
            if body.department != department || body.run_id != self.run.0 {
                return refuse(
                    Code::PeerMisbehaved,
                    "a consent is of another run or department",
                );
            }
            if body.plan_digest != self.permitted.digest() {
                return refuse(Code::DigestMismatch, "consented to another plan");
            }
            if &body.nonces != nonces || body.analyst != self.analyst {
                return refuse(
                    Code::DigestMismatch,
                    "consented to other nonces or another analyst",
                );
            }
            if body.expires_at < now {
                return refuse(Code::PeerMisbehaved, "its consent has expired");
            }
            if let Some(version) = &party.catalog_version
                && body.catalog_version != version
            {
                return refuse(Code::DigestMismatch, "its catalogue has changed");
            }
            publics.push(array::<32>(&body.ephemeral_key, "ephemeral key")?);
        }
        if consents[me] != self.mine {
            return Err(Error::new(
                Code::PeerMisbehaved,
                "the consent handed back is not the one that this gateway gave",
            ));
        }
        let mut hash = Sha256::new();
        hash.update(b"veilgate consents v1\0");
        for consent in consents {
            hash.update((consent.body.len() as u64).to_be_bytes());
            hash.update(&consent.body);
        }
        let consents_digest: [u8; 32] = hash.finalize().into();
        let departments: Vec<String> = plan
            .parties
            .iter()
            .map(|party| party.department.clone())
            .collect();
        let seeds = RunSeeds::agree(me, &self.secret, &publics, &departments, &consents_digest)?;
        Ok(Running {
            permitted: self.permitted,
            run: self.run,
            consents_digest,
            seeds,
        })
    }
}

/// Everybody has consented to the same digest; the plan may run.
#[derive(Debug)]
pub struct Running {
    pub(super) permitted: Permitted,
    pub(super) run: RunId,
    pub(super) consents_digest: [u8; 32],
    pub(super) seeds: RunSeeds,
}

impl Running {
    /// The plan to run.
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

    /// Signs the release token over what was exchanged. Call it only when the release leaf is
    /// durable. `took_part` is whether this party owns a fragment or computes: only these have
    /// channels and must sign for a release.
    #[must_use]
    pub fn prepare(
        self,
        channels: &[veilgate_mpc::net::ChannelDigest],
        signer: &dyn Signer,
    ) -> (Prepared, Signed) {
        Prepared::new(self, channels, signer)
    }
}
