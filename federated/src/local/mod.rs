//! What one department runs alone, in the clear, on its own data, and the query engine itself.
//!
//! | module | holds |
//! |---|---|
//! | [`engine`] | the one configuration of the query engine, and its hash |
//! | `pushdown` | the engine's filter pushdown, where it is right |
//! | [`sanitise`] | the engine's errors, without the values that they quote |
//! | `fragment` | runs the SQL of a fragment over the department's catalogue |
//! | `source` | scans of Parquet and CSV files as the catalogue describes them |
//! | `convert` | a source's own types as the declared ones: exactly, or rounded where declared |
//! | `verify` | what a catalogue promises of a whole table: rows, distinct values, key |
//! | `functions` | averages of released sums and counts |
//! | `truncate` | `date_trunc`, which never fails on data |
//! | [`canonical`] | brings text to one form, column by column |
//! | [`encode`] | clear columns in the form in which they cross |
//! | [`views`] | queries over a gateway's own views |
//! | [`finish`] | HAVING, ORDER BY, LIMIT and projection over released values |
//!
//! It must not know of peers, shares or policy.

pub mod canonical;
#[cfg(feature = "tpch")]
mod clear;
mod convert;
pub mod encode;
pub mod engine;
pub mod finish;
mod fragment;
pub(crate) mod functions;
pub mod lineage;
mod pushdown;
pub mod sanitise;
mod source;
pub(crate) mod truncate;
mod verify;
pub mod views;

#[cfg(feature = "tpch")]
pub use clear::clear;
pub use engine::{assert_engine, clear_session, engine, engine_config};
pub use fragment::{DataFusionEngine, LocalEngine};
pub(crate) use source::files as source_files;
