//! The only way out: guards inside MPC, a durable record, then one opening at the result party.
//!
//! | module | holds |
//! |---|---|
//! | `guard` | threshold and suppression over shares: the end of joint execution |
//! | `journal` | [`ReleaseJournal`], and the [`ReleaseReceipt`] that only it gives out |
//! | `open` | [`Guarded`] -> final shares -> [`Released`] |
//! | `decode` | opened words as Arrow columns, and averages |
//!
//! [`Guarded`] is made in one place (joint execution, after the guards) and gives its shares only
//! for a [`ReleaseReceipt`]; [`Released`] is made in one place, [`open`]. Nothing else may be
//! serialised towards an analyst.

mod decode;
mod guard;
mod journal;
mod open;
#[cfg(test)]
mod tests;

pub use journal::{ReleaseEntry, ReleaseJournal, ReleaseReceipt};
pub use open::{Guarded, Released, open};

pub(crate) use guard::{CellPlace, KeyPlace, Unguarded, apply};
pub(crate) use open::open_plan;
