//! Oblivious relational operators: what they do with rows depends on public sizes only.
//!
//! Bottom-up: [`shuffle`] moves rows by a permutation that nobody knows; [`sort`] and [`compact`] find
//! such a permutation for an order; [`scan`] carries bits along segments and [`segment`] any associative operator; [`group`] and [`join`] are
//! the SQL operators. Nothing here opens anything but positions and comparison bits of uniformly
//! shuffled rows. Knows no SQL.

pub mod compact;
pub mod group;
pub mod join;
pub mod scan;
pub mod segment;
pub mod shuffle;
pub mod sort;

#[cfg(test)]
mod transcripts;
