//! From SQL over several departments to a released answer.
//!
//! The rooms, in the order a query passes through them:
//!
//! | module | holds |
//! |---|---|
//! | [`error`] | errors by blame, with code, exit code and mend |
//! | [`schema`] | the types that cross between departments |
//! | [`catalog`] | what a department publishes about its tables, and how they are read |
//! | [`policy`] | a department's rules, per column and use |
//! | [`plan`] | `JointPlan`: its types, canonical encoding, digest |
//! | [`planner`] | SQL to a joint plan |
//! | [`flow`] | the policy check of every gateway: `Validated` to `Permitted`, or a refusal |
//! | [`run`] | propose, consent, start, prepare, commit as a sans-IO state machine |
//! | [`local`] | fragments on the query engine, sources, the form in which columns cross |
//! | [`joint`] | joint operators on `veilgate-mpc` |
//! | [`release`] | guards inside MPC, then the only way out: `Guarded` to `Released` |
//! | [`testing`] | a federation in one process, for tests |
//!
//! Only `planner` and `local` name DataFusion. Nothing here knows of sockets, tonic or the clock.

pub mod catalog;
pub mod error;
pub mod flow;
pub mod joint;
pub mod local;
pub mod plan;
pub mod planner;
pub mod policy;
pub mod release;
pub mod run;
pub mod schema;
mod stack;
pub mod testing;
