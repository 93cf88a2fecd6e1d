//! One run of a joint plan, as a sans-IO state machine: propose, consent, start, prepare, commit.
//!
//! Every state is a struct that its transition consumes; there is no way to skip one. Transitions
//! take messages, time and randomness as arguments and return messages, so that sockets,
//! simulation and fuzzing all drive the same code. Blame is on the department that sent the
//! message.
//!
//! | state | reached by | holds |
//! |---|---|---|
//! | [`Proposed`] | a plan that passed this gateway's flow check | the permitted plan, a fresh nonce |
//! | [`Consenting`] | [`Proposed::consent`], with everybody's nonces | what this gateway signed, its ephemeral key |
//! | [`Running`] | [`Consenting::start`], with everybody's valid consents | the seeds |
//! | [`Prepared`] | [`Running::prepare`], after the release leaf is durable | the sealed-in result, the token |
//! | [`Committed`] | [`Prepared::commit`], with everybody's valid tokens | the right to let the final share go |

mod consent;
mod seal;
mod seeds;
mod token;

pub use consent::{Consenting, Proposed, Running, Versions};
pub use seeds::RunSeeds;
pub use token::{Committed, Prepared};

use crate::error::{Code, Error, Result};

/// Names one run among all gateways; never used twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(pub [u8; 32]);

impl RunId {
    /// Reads a run id off the wire.
    ///
    /// # Errors
    /// Another length than 32 bytes.
    pub fn from_wire(bytes: &[u8]) -> Result<Self> {
        Ok(Self(array(bytes, "run id")?))
    }

    /// The short form that people see: the first 12 hexadecimal digits.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Signs as this gateway.
pub trait Signer {
    /// An Ed25519 signature over `domain`, a zero byte and `body`.
    fn sign(&self, domain: &str, body: &[u8]) -> [u8; 64];
}

/// Knows the pinned identity of every gateway of the federation.
pub trait Verifier {
    /// Whether `signature` is the department's over `domain`, a zero byte and `body`. False for an
    /// unknown department.
    fn verify(&self, department: &str, domain: &str, body: &[u8], signature: &[u8]) -> bool;
}

/// A canonical body and the signature over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Canonical protobuf bytes.
    pub body: Vec<u8>,
    /// Ed25519 over the domain tag and the body.
    pub signature: Vec<u8>,
}

impl Signed {
    fn new(signer: &dyn Signer, domain: &str, message: &impl prost::Message) -> Self {
        let body = message.encode_to_vec();
        let signature = signer.sign(domain, &body).to_vec();
        Self { body, signature }
    }

    /// Verifies the signature, then decodes; the body must be canonical.
    fn open<M: prost::Message + Default>(
        &self,
        verifier: &dyn Verifier,
        department: &str,
        domain: &str,
    ) -> Result<M> {
        let misbehaved =
            |what: &str| Error::new(Code::PeerMisbehaved, what.to_owned()).at(department);
        if !verifier.verify(department, domain, &self.body, &self.signature) {
            return Err(misbehaved(
                "a signature does not verify under its pinned identity",
            ));
        }
        let message = M::decode(self.body.as_slice())
            .map_err(|_| misbehaved("a signed message does not decode"))?;
        if message.encode_to_vec() != self.body {
            return Err(misbehaved("a signed message is not in canonical form"));
        }
        Ok(message)
    }
}

fn array<const N: usize>(bytes: &[u8], what: &str) -> Result<[u8; N]> {
    bytes.try_into().map_err(|_| {
        Error::new(
            Code::PeerMisbehaved,
            format!("a {what} has {} bytes, not {N}", bytes.len()),
        )
    })
}
