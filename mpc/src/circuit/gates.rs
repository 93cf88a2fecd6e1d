//! AND gates on planes, a round at a time.
//!
//! `z = x y` over replicated XOR shares (Araki et al., CCS 2016, section 3.2): `P_i` computes
//! `z_i = x_i y_i + x_i y_{i+1} + x_{i+1} y_i + alpha_i` with a fresh sharing `alpha` of zero, sends
//! it to `P_{i-1}` and receives `z_{i+1}`: one bit a gate and party, one round. Adversary:
//! semi-honest. `P_{i-1}` sees `z_i`, uniform to it because it lacks seed `i + 1`.

use crate::context::{Context, TILE};
use crate::error::Result;
use crate::net::Step;
use crate::prss::{Pair, Stream};
use crate::share::Role;

/// The gates of one step: a stream of zero sharings that its rounds draw from in turn, so that a
/// circuit of many rounds derives its keys once.
pub(crate) struct Gates<'s> {
    step: &'s Step,
    next: Stream,
    prev: Stream,
}

/// All ones in the component that carries public constants (component 0), zero elsewhere.
#[derive(Clone, Copy)]
pub(crate) struct One {
    pub(crate) a: u64,
    pub(crate) b: u64,
}

impl One {
    pub(crate) fn of(role: Role) -> Self {
        Self {
            a: if role == Role::P0 { u64::MAX } else { 0 },
            b: if role == Role::P2 { u64::MAX } else { 0 },
        }
    }
}

/// `x_i y_i + x_i y_{i+1} + x_{i+1} y_i`.
#[inline(always)]
pub(crate) fn cross(xa: u64, xb: u64, ya: u64, yb: u64) -> u64 {
    (xa & (ya ^ yb)) ^ (xb & ya)
}

impl<'s> Gates<'s> {
    pub(crate) fn new(ctx: &mut Context, step: &'s Step) -> Result<Self> {
        Ok(Self {
            step,
            next: ctx.stream(Pair::Next, step)?,
            prev: ctx.stream(Pair::Prev, step)?,
        })
    }

    /// One round over `a.len() / words` segments of `words` words. `cross(segment, offset, tile)`
    /// XORs my cross terms of that segment, from word `offset`, into `tile`; `a` and `b` receive my
    /// components of the products.
    pub(crate) fn round(
        &mut self,
        ctx: &mut Context,
        words: usize,
        a: &mut [u64],
        b: &mut [u64],
        mut cross: impl FnMut(usize, usize, &mut [u64]),
    ) -> Result<()> {
        if words == 0 {
            return ctx.check();
        }
        let mut mask = [0_u64; TILE];
        for (segment, plane) in a.chunks_exact_mut(words).enumerate() {
            for (index, tile) in plane.chunks_mut(TILE).enumerate() {
                let mask = &mut mask[..tile.len()];
                self.next.fill(tile);
                self.prev.fill(mask);
                for (x, m) in tile.iter_mut().zip(mask) {
                    *x ^= *m;
                }
                cross(segment, index * TILE, tile);
            }
        }
        ctx.pass_back(self.step, a, b)
    }

    /// The products of equally long word vectors.
    pub(crate) fn and(
        &mut self,
        ctx: &mut Context,
        (xa, xb): (&[u64], &[u64]),
        (ya, yb): (&[u64], &[u64]),
    ) -> Result<(Vec<u64>, Vec<u64>)> {
        let words = xa.len();
        let (mut a, mut b) = (vec![0; words], vec![0; words]);
        self.round(ctx, words, &mut a, &mut b, |_, offset, tile| {
            let end = offset + tile.len();
            let x = xa[offset..end].iter().zip(&xb[offset..end]);
            let y = ya[offset..end].iter().zip(&yb[offset..end]);
            for ((z, (xa, xb)), (ya, yb)) in tile.iter_mut().zip(x).zip(y) {
                *z ^= cross(*xa, *xb, *ya, *yb);
            }
        })?;
        Ok((a, b))
    }
}
