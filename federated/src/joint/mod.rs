//! Joint execution: what one participant of a run does, from clear fragments to guarded shares.
//!
//! One blocking call, [`execute`], for every party that owns a fragment or computes. All of them
//! walk the plan's operators in the same order:
//!
//! | module | step |
//! |---|---|
//! | `size` | every owner announces the public size of its fragments |
//! | `keys` | owners of a key class agree on its tag key; tags are computed |
//! | `layout` | which columns enter in which forms: read off the plan |
//! | `memory` | what a run needs: a bound before anything is allocated |
//! | `prepare` | clear columns, padded, in those forms |
//! | `input` | statements are exchanged, then inputs are shared or aligned |
//! | `filter` | predicates across departments |
//! | `run` | the walk over the operators |
//! | `aggregate` | groups, cells and unit counts; then the guards of [`crate::release`] |
//! | `program` | instead of these three: the operators of a program |
//!
//! It must not know of SQL, policy, sockets or the clock; what it is given to run has been checked.

mod aggregate;
mod blame;
mod filter;
mod input;
mod keys;
mod layout;
mod memory;
mod prepare;
mod program;
mod relation;
mod run;
mod seeds;
mod size;

pub use memory::memory_due;
pub use seeds::Seeds;
pub use size::bucket;

pub(crate) use layout::has_null_bit;

use crate::error::{Code, Error, Result};
use crate::local::encode::EncodedFragment;
use crate::plan::{FragmentIndex, JointPlan, PartyIndex};
use crate::release::Guarded;
use blame::Blamed;
use run::Run;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use veilgate_mpc::context::Context;
use veilgate_mpc::net::{ChannelDigest, Link, Participant, Step, Traffic};
use veilgate_mpc::share::Role;
use veilgate_mpc::spill::Memory;

/// My fragments' results, from [`crate::local::encode`].
#[derive(Default)]
pub struct Inputs {
    /// Each of my fragments, once.
    pub fragments: Vec<(FragmentIndex, EncodedFragment)>,
    /// The memory that this run may use here, and where shares wait beyond it; none: no limit.
    pub memory: Option<Memory>,
    /// Inputs of mine are padded to as many rows at least, where their size is not declared.
    pub min_rows: u64,
}

/// Signs what I state about my inputs, and checks what others state about theirs. Statements
/// travel over the run's links; all are exchanged before any share is sent.
pub trait StatementExchange {
    /// My signature over a statement, for this run.
    ///
    /// # Errors
    /// When it cannot be signed; the run ends.
    fn sign(&mut self, statement: &[u8]) -> Result<Vec<u8>>;

    /// Accepts and keeps another party's statement.
    ///
    /// # Errors
    /// When the signature is not that party's; the run ends.
    fn accept(&mut self, from: PartyIndex, statement: &[u8], signature: &[u8]) -> Result<()>;
}

/// Told what is being done, with the number of rows it is done to: public values only.
pub type Progress = Arc<dyn Fn(&str, u64) + Send + Sync>;

/// What a party has in the end.
#[derive(Debug)]
pub enum Outcome {
    /// A computing party: its shares of the guarded result.
    Computing(Guarded),
    /// A party that only gave input.
    Input,
}

/// A party's part of a run, done. Nothing has been opened.
#[derive(Debug)]
pub struct Execution {
    /// What it has.
    pub outcome: Outcome,
    /// What it sent and received.
    pub traffic: Traffic,
    /// Digests of all that crossed, for the agreement check before release.
    pub digests: Vec<ChannelDigest>,
}

impl Execution {
    /// A digest of everything that this party sent and received.
    #[must_use]
    pub fn transcript(&self) -> [u8; 32] {
        transcript(&self.digests)
    }
}

fn transcript(digests: &[ChannelDigest]) -> [u8; 32] {
    let mut hash = blake3::Hasher::new_derive_key("veilgate joint execution transcript v1");
    for digest in digests {
        hash.update(&[digest.peer.0]);
        hash.update(&digest.sent);
        hash.update(&digest.received);
    }
    *hash.finalize().as_bytes()
}

/// Runs my part of a plan. Blocks; participant `i` of the links is party `i` of the plan. The first link
/// reaches every party that takes part; a computing party has one more to the other two for every
/// further lane of the plan's line.
///
/// # Errors
/// By blame, with departments' names: `DuplicateKey`, `LimitExceeded`, `PeerUnavailable`,
/// `PeerMisbehaved`, `Cancelled`, `Internal`. Nothing has been opened.
#[allow(clippy::too_many_arguments)] // what a participant is made of
pub fn execute(
    plan: &JointPlan,
    me: PartyIndex,
    mut links: Vec<Box<dyn Link>>,
    seeds: &Seeds,
    inputs: Inputs,
    statements: &mut dyn StatementExchange,
    progress: Progress,
    cancel: Arc<AtomicBool>,
) -> Result<Execution> {
    let run = Run::new(plan, me)?;
    let due = run.seat().map_or(1, |_| plan.line.lanes as usize);
    if links.len() != due {
        return Err(Error::new(
            Code::Internal,
            format!("{} links where the plan takes {due}", links.len()),
        ));
    }
    let mut link = links.remove(0);
    let memory = inputs.memory.clone();
    let prepared = run.prepare(link.as_mut(), seeds, inputs, statements, &progress)?;
    let Some(seat) = run.seat() else {
        run.give(link.as_mut(), prepared)?;
        return Ok(Execution {
            outcome: Outcome::Input,
            digests: link.digests(),
            traffic: link.traffic(),
        });
    };
    let prss = keys::prss(&run, seat, seeds)?;
    let profile = link.profile();
    let ctx = Context::new(Role::ALL[seat], run.computing, link, prss, profile, cancel);
    let told = Box::new(move |step: &Step, rows: u64| progress(step.path(), rows));
    let ctx = ctx.and_then(|ctx| ctx.with_workers(links));
    let mut ctx = ctx.blamed(&run.blame)?.with_progress(told);
    if let Some(memory) = memory {
        ctx.limit_memory(memory);
    }
    let table = run.compute(&mut ctx, prepared)?;
    let digests = ctx.digests();
    let guarded = Guarded::new(Role::ALL[seat], table, transcript(&digests));
    Ok(Execution {
        outcome: Outcome::Computing(guarded),
        digests,
        traffic: ctx.traffic(),
    })
}

/// Party `i` of a plan is participant `i` of its links.
fn participant(party: PartyIndex) -> Participant {
    // cannot fail: `Run::new` refuses plans of more parties.
    Participant(u8::try_from(party).unwrap_or(u8::MAX))
}
