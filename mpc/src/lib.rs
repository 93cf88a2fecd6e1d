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
//! | [`net`] | [`net::Link`]: framed bytes between participants, named by a [`net::Step`] |

pub mod error;
pub mod net;

pub use error::{Error, Result};
