//! Every type that a source can hold, as the type that the catalogue declares: exactly, rounded where
//! declared, or refused without a value; and joint answers over them equal to clear ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod joint;
mod scan;
