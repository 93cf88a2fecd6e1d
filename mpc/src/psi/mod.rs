//! Matching keys between owners without showing them: the aligned join through a neutral party, and
//! private set intersection of two parties alone.
//!
//! | module | holds |
//! |---|---|
//! | [`tag`] | keyed tags of canonical keys |
//! | `plan` | what all agree on beforehand |
//! | `dummies` | the noise on the number of matches |
//! | `owner` | how an owner hands over its rows |
//! | `matching`, `pairing` | what the neutral party does with tags |
//! | `reshare` | from two halves to a replicated sharing |
//! | `align` | the protocol, for each kind of participant |
//! | `grouped` | sums by group over what matches |
//! | [`ecdh`] | intersection of two parties without a third |
//!
//! Knows nothing of SQL or of what a key means.

mod align;
mod dummies;
pub mod ecdh;
mod grouped;
mod matching;
mod owner;
mod pairing;
mod plan;
mod reshare;
pub mod tag;
#[cfg(test)]
mod tests;

pub use align::{align_input_owner, align_neutral, align_owner};
pub use dummies::Dummies;
pub use grouped::{GroupPlan, Groups, group_input_owner, group_neutral, group_owner};
pub use plan::{AlignKind, AlignPlan, OwnerPlan, OwnerSecrets, OwnerTable};
