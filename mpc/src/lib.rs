//! Three-party secure computation over columns: the cryptographic engine of Veilgate.
//!
//! Setting: three computing parties hold replicated secret shares (Araki et al., CCS 2016); any
//! number of input parties hand shares to them. Adversary: one semi-honest computing party, no two
//! of the three collude. Protocol code is plain blocking code that reads like the papers it cites.
//!
//! This crate knows nothing of SQL, policy, gateways, tokio, tonic or the clock.
//! The modules, bottom-up:
//!
//! | module | holds |
//! |---|---|
//! | [`error`] | one error type, by blame |
//! | [`ring`], [`bits`] | words and groups; bit-sliced planes |
//! | [`share`] | replicated shares of vectors |
//! | [`prss`] | randomness from pairwise seeds |
//! | [`net`] | [`net::Link`]: framed bytes between participants, named by a [`net::Step`] |
//! | [`context`] | who I am, the channels, the shared randomness |
//! | [`circuit`] | bit logic, comparison, addition, conversion, multiplication |
//! | [`oblivious`] | shuffle, sort, compact, scan, group, join |
//! | [`table`] | shared columns and tables |
//! | [`spill`] | tables that wait beyond the memory budget, in encrypted files |
//! | [`release`] | final shares, and what the result party makes of them |
//! | [`heap`] | what the allocator does with freed memory |
//! | [`testing`] | three parties in threads from one seed |
//! | [`input`] | how an owner's columns become shares |
//! | [`psi`] | matching keys of several owners; the aligned join |

pub mod bits;
pub mod circuit;
pub mod context;
pub mod error;
pub mod heap;
pub mod input;
pub mod net;
pub mod oblivious;
mod open;
pub mod prss;
pub mod psi;
pub mod release;
pub mod ring;
pub mod share;
pub mod spill;
pub mod table;
pub mod testing;

pub use error::{Error, Result};
