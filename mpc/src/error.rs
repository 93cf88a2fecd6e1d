//! What can go wrong in a protocol, by who is to blame. No variant ever carries a data value.

use crate::net::{Participant, Step};

/// The result of every protocol step.
pub type Result<T> = std::result::Result<T, Error>;

/// A protocol failure. Every variant ends the run; nothing has been opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A peer sent something that the protocol does not allow.
    #[error("participant {peer} broke the protocol at step {step}: {what}")]
    PeerMisbehaved {
        /// Who sent it.
        peer: Participant,
        /// Where.
        step: Step,
        /// What was wrong with it, in terms of public sizes only.
        what: Misbehaviour,
    },
    /// A peer closed its connection or did not answer before the deadline.
    #[error("participant {peer} is gone at step {step}: {why}")]
    PeerGone {
        /// Who is gone.
        peer: Participant,
        /// Where.
        step: Step,
        /// How this was noticed.
        why: Gone,
    },
    /// The inputs break a public precondition of an operator (unequal lengths, width out of range).
    #[error("invalid input to {operator}: {what}")]
    InvalidInput {
        /// The operator that refused.
        operator: &'static str,
        /// The precondition, in terms of public sizes only.
        what: String,
    },
    /// A side declared unique per key is not. Carries no key: this one bit is the declared leakage.
    #[error("a table that the plan declares unique per join key holds a duplicate key")]
    DuplicateKey,
    /// A key has more rows than the plan declares. Carries no key: this one bit is the declared leakage.
    #[error("a key has more rows than the plan declares")]
    BoundExceeded,
    /// A step was used twice; a random stream would have repeated.
    #[error("step {0} was used twice")]
    StepReused(Step),
    /// The run was cancelled from outside.
    #[error("the run was cancelled")]
    Cancelled,
    /// The memory or size budget of the run would be exceeded.
    #[error("resources exhausted: {0}")]
    ResourceExhausted(String),
}

/// How a peer broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// A message of another length than both sides can compute.
    #[error("sent {got} bytes where {expected} were due")]
    Length {
        /// Bytes due.
        expected: u64,
        /// Bytes announced.
        got: u64,
    },
    /// A message of another step: repeated, reordered or of another plan.
    #[error("sent a message of another step")]
    OutOfStep,
    /// The frame is not a frame.
    #[error("sent a malformed frame: {0}")]
    Malformed(&'static str),
    /// The second holder of a share, or the statement of its owner, disagrees.
    #[error("its {0} differs from what the second holder has")]
    Equivocation(&'static str),
}

/// How it was noticed that a peer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Gone {
    /// The connection was closed.
    #[error("connection closed")]
    Closed,
    /// Nothing arrived before the deadline.
    #[error("no message before the deadline")]
    Deadline,
    /// The socket failed.
    #[error("connection failed ({0:?})")]
    Io(std::io::ErrorKind),
}
