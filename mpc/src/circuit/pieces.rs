//! Row by row operators in several threads: each thread has a piece of the rows.

use crate::context::{Context, pieces};
use crate::error::Result;
use crate::net::Step;
use crate::ring::Ring;
use crate::share::{Arith, BitColumn};
use std::ops::Range;

/// A column that can be cut into rows and put together.
pub(super) trait Cuttable: Sized + Send {
    /// Its rows in a range.
    fn piece(&self, rows: &Range<usize>) -> Self;
    /// The rows of all pieces, one after the other.
    fn joined(pieces: Vec<Self>) -> Self;
}

impl Cuttable for BitColumn {
    fn piece(&self, rows: &Range<usize>) -> Self {
        self.slice(rows.start, rows.len())
    }

    fn joined(pieces: Vec<Self>) -> Self {
        Self::stacked(&pieces)
    }
}

impl<T: Ring> Cuttable for Arith<T> {
    fn piece(&self, rows: &Range<usize>) -> Self {
        self.slice(rows.start, rows.len())
    }

    fn joined(pieces: Vec<Self>) -> Self {
        let (a, b): (Vec<_>, Vec<_>) = pieces.into_iter().map(Self::into_components).unzip();
        Self {
            a: a.concat(),
            b: b.concat(),
        }
    }
}

/// The pieces of an operator on `rows` rows; none where one thread does it all.
pub(super) fn cut(ctx: &Context, rows: usize) -> Option<Vec<Range<usize>>> {
    if ctx.threads() == 1 {
        return None;
    }
    let pieces = pieces(rows, ctx.threads(), usize::MAX);
    (pieces.len() > 1).then_some(pieces)
}

/// Runs an operator on each piece.
pub(super) fn on_each<C: Cuttable>(
    ctx: &mut Context,
    step: &Step,
    pieces: Vec<Range<usize>>,
    run: impl Fn(&mut Context, &Step, &Range<usize>) -> Result<C> + Sync,
) -> Result<C> {
    let done = ctx.parallel(pieces, |ctx, number, rows| {
        run(ctx, &step.at("piece", number), &rows)
    })?;
    Ok(C::joined(done))
}
