//! The joint plan as canonical bytes, its digest, and the way back.
//!
//! [`decode`] is total: whatever bytes a peer sends, it returns a [`Validated`] plan or an error,
//! and two different byte strings never decode to one plan. It must not know who made a plan.

mod from_wire;
mod program;
mod to_wire;

use super::JointPlan;
use super::validate::validate;
use crate::error::{Code, Error, Result};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use veilgate_proto::plan::v1 as pb;

/// The most bytes that an encoded plan may have.
pub const MAX_PLAN_BYTES: usize = 1 << 20;

/// What separates plan digests from every other hash.
const DIGEST_DOMAIN: &[u8] = b"veilgate joint plan v1\0";

/// A plan whose structure was checked, with its canonical bytes and their digest. Only [`decode`]
/// makes one. Being valid says nothing about being permitted: that is `flow`'s to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Validated {
    plan: JointPlan,
    bytes: Vec<u8>,
    digest: [u8; 32],
}

impl Validated {
    /// Encodes and decodes a plan that this gateway made itself.
    ///
    /// # Errors
    /// `LimitExceeded` for a plan above the size caps; `Internal` for a plan that is not valid,
    /// since whoever made it is us.
    pub fn from_plan(plan: &JointPlan) -> Result<Self> {
        let made = decode(&encode(plan)).map_err(|error| match error.code {
            Code::LimitExceeded => error,
            _ => Error::new(
                Code::Internal,
                format!(
                    "the planner made a plan that is not valid: {}",
                    error.message
                ),
            ),
        })?;
        if made.plan == *plan {
            Ok(made)
        } else {
            Err(Error::new(
                Code::Internal,
                "the planner made a plan that does not encode to itself",
            ))
        }
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &JointPlan {
        &self.plan
    }

    /// Its canonical bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The digest of its canonical bytes.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }
}

/// The canonical bytes of a plan. A plan that does not fit the format (an index beyond 32 bits, a
/// declared size of 0) gives bytes that do not decode to it: [`Validated::from_plan`] notices.
#[must_use]
pub fn encode(plan: &JointPlan) -> Vec<u8> {
    to_wire::plan(plan).encode_to_vec()
}

/// SHA-256 over a domain tag and a plan's canonical bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(DIGEST_DOMAIN);
    hash.update(bytes);
    hash.finalize().into()
}

/// Reads a plan off the wire and validates it totally.
///
/// # Errors
/// `LimitExceeded` above the size caps; `WrongVersion` for another plan version; `DigestMismatch`
/// for bytes that are not a plan or not its canonical encoding; `PeerMisbehaved` for a plan whose
/// structure is not allowed.
pub fn decode(bytes: &[u8]) -> Result<Validated> {
    if bytes.len() > MAX_PLAN_BYTES {
        return Err(Error::new(
            Code::LimitExceeded,
            format!(
                "a joint plan of {} bytes; at most {MAX_PLAN_BYTES} are read",
                bytes.len()
            ),
        ));
    }
    let message = pb::JointPlan::decode(bytes)
        .map_err(|_| Error::new(Code::DigestMismatch, "the bytes are not a joint plan"))?;
    let plan = from_wire::plan(message)?;
    if encode(&plan) != bytes {
        return Err(Error::new(
            Code::DigestMismatch,
            "the joint plan is not in its canonical encoding",
        ));
    }
    validate(&plan)?;
    Ok(Validated {
        plan,
        bytes: bytes.to_vec(),
        digest: digest(bytes),
    })
}
