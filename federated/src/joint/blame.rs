//! Failures of protocols, as failures of departments.

use crate::error::{Code, Error};
use crate::plan::JointPlan;
use std::sync::Arc;
use veilgate_mpc::net::Participant;

/// Names of departments by participant.
#[derive(Debug, Clone)]
pub(super) struct Names(Arc<[String]>);

impl Names {
    /// Participants are parties.
    pub(super) fn of(plan: &JointPlan) -> Self {
        let names = plan.parties.iter().map(|party| party.department.clone());
        Self(names.collect())
    }

    fn name(&self, participant: Participant) -> String {
        let name = self.0.get(usize::from(participant.0));
        name.map_or_else(|| participant.to_string(), Clone::clone)
    }

    /// The department's error for a protocol's.
    pub(super) fn error(&self, error: veilgate_mpc::Error) -> Error {
        use veilgate_mpc::Error as Mpc;
        match error {
            Mpc::PeerMisbehaved { peer, step, what } => {
                Error::new(Code::PeerMisbehaved, format!("it {what}, at step {step}"))
                    .at(self.name(peer))
            }
            Mpc::PeerGone { peer, step, why } => Error::new(
                Code::PeerUnavailable,
                format!("it went away in the middle of a run, at step {step}: {why}"),
            )
            .at(self.name(peer)),
            Mpc::DuplicateKey => Error::new(
                Code::DuplicateKey,
                "a table that the plan takes as unique per join key holds a duplicate key",
            ),
            Mpc::Cancelled => Error::new(Code::Cancelled, "the run was cancelled"),
            Mpc::ResourceExhausted(what) => Error::new(Code::LimitExceeded, what),
            other => Error::new(Code::Internal, other.to_string()),
        }
    }
}

/// Either kind of failure inside joint execution.
#[derive(Debug)]
pub(super) enum Failure {
    Mpc(veilgate_mpc::Error),
    Own(Error),
}

impl From<veilgate_mpc::Error> for Failure {
    fn from(error: veilgate_mpc::Error) -> Self {
        Self::Mpc(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Own(error)
    }
}

/// Turns protocol failures into departments'.
pub(super) trait Blamed<T> {
    fn blamed(self, names: &Names) -> crate::error::Result<T>;
}

impl<T> Blamed<T> for Result<T, Failure> {
    fn blamed(self, names: &Names) -> crate::error::Result<T> {
        self.map_err(|failure| match failure {
            Failure::Mpc(error) => names.error(error),
            Failure::Own(error) => error,
        })
    }
}

impl<T> Blamed<T> for veilgate_mpc::Result<T> {
    fn blamed(self, names: &Names) -> crate::error::Result<T> {
        self.map_err(|error| names.error(error))
    }
}
