//! Oblivious relational operators: what they do with rows depends on public sizes only.
//!
//! Bottom-up: [`shuffle`] moves rows by a permutation that nobody knows; [`sort`] and [`compact`] find
//! such a permutation for an order; [`scan`] carries bits along segments and [`segment`] any associative operator; [`group`], [`distinct`],
//! [`join`], [`sets`], [`window`], [`percentile`] and [`broadcast`] are the SQL operators, [`order`] is
//! ORDER BY. Nothing here opens anything but positions and comparison bits of uniformly
//! shuffled rows. Knows no SQL.

pub mod broadcast;
pub mod compact;
pub mod distinct;
pub mod group;
pub mod join;
pub mod order;
pub mod percentile;
pub mod scan;
pub mod segment;
pub mod sets;
pub mod shuffle;
pub mod sort;
pub mod window;

#[cfg(test)]
mod transcripts;
