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
//! | [`local`] | fragments on the query engine, sources, the form in which columns cross |
//!
//! Only `planner` and `local` name DataFusion. Nothing here knows of sockets, tonic or the clock.

pub mod catalog;
pub mod error;
pub mod local;
pub mod plan;
pub mod planner;
pub mod policy;
pub mod schema;
