//! Every operator against clear text, over random tables.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod arithmetic;
mod circuits;
mod clear;
mod division;
mod groups;
mod joins;
mod moves;
mod nullable;
mod promises;
mod segments;
mod sets;
mod sorts;
mod threads;
mod windows;
