//! Permutations as shared positions, and made of other permutations.
//!
//! The destination of each row is the row's number moved back; that of a row under `second` after `first`
//! is the number moved back by both. Shared destinations become a permutation by a fresh shuffle and one
//! opening ([`by_destinations`]): a secret permutation composed with a uniformly random one. Leakage:
//! none beyond the number of rows. Adversary: semi-honest.

use super::super::compact::by_destinations;
use super::Permutation;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::net::Step;
use crate::share::Arith;

impl Permutation {
    /// Where each row goes: row `r` moves to row `destinations[r]`. 43 bits a row and party, 2 rounds.
    ///
    /// # Errors
    /// Those of the link.
    pub fn destinations(&self, ctx: &mut Context, step: &Step) -> Result<Arith<u32>> {
        let rows = self.numbers(ctx);
        self.return_positions(ctx, step, &rows)
    }

    /// The permutation that moves row `r` to `destinations[r]`. 75 bits a row and party, 3 rounds.
    ///
    /// `destinations` must be a permutation of `0..rows`: what is opened would tell repetitions.
    ///
    /// # Errors
    /// `InvalidInput` where they are none; those of the link.
    pub fn from_destinations(
        ctx: &mut Context,
        step: &Step,
        destinations: &Arith<u32>,
    ) -> Result<Self> {
        by_destinations(ctx, step, destinations)
    }

    /// This permutation, then `next`, as one. 160 bits a row and party, 7 rounds.
    ///
    /// # Errors
    /// `InvalidInput` for a permutation of other rows; those of the link.
    pub fn then(&self, ctx: &mut Context, step: &Step, next: &Self) -> Result<Self> {
        if next.rows() != self.rows() {
            return Err(Error::InvalidInput {
                operator: "permutation",
                what: format!("{} rows, then {}", self.rows(), next.rows()),
            });
        }
        let after = next.destinations(ctx, &step.narrow("second"))?;
        let both = self.return_positions(ctx, &step.narrow("first"), &after)?;
        by_destinations(ctx, &step.narrow("both"), &both)
    }

    /// The inverse: what moved rows forth moves them back. Local.
    #[must_use]
    pub fn inverted(self) -> Self {
        Self {
            turned: !self.turned,
            ..self
        }
    }

    /// The numbers of the rows.
    fn numbers(&self, ctx: &Context) -> Arith<u32> {
        let rows: Vec<u32> = (0_u32..).take(self.rows()).collect();
        Arith::public(ctx.role(), &rows)
    }
}
