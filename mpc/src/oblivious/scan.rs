//! Carrying bits along segments of rows.
//!
//! `carried[r] = start[r] | (go[r] & carried[r - 1])`: a carry chain over rows. Pairs (start, go)
//! combine associatively; inside 64-row words by Kogge-Stone (six rounds), then the words' last pairs
//! recursively, then one round to spread what enters each word. About 13 bits a row and party,
//! 7 rounds a factor of 64 in rows: 28 for 2^24. Wide payloads do not travel so: they
//! move as differences and become local prefix sums (see [`super::join`]).

use crate::circuit::{Gates, One, cross};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::net::Step;
use crate::share::BitColumn;

/// `start` carried down through rows where `go` is set.
///
/// # Errors
/// `InvalidInput` for flags of different rows or wider than a bit; those of the link.
pub fn carry(
    ctx: &mut Context,
    step: &Step,
    start: &BitColumn,
    go: &BitColumn,
) -> Result<BitColumn> {
    if start.width() != 1 || go.width() != 1 || start.rows() != go.rows() {
        return Err(Error::InvalidInput {
            operator: "carry",
            what: "flags of different shapes".into(),
        });
    }
    let mut gates = Gates::new(ctx, step)?;
    // Start and go exclude each other below, so that OR is XOR.
    let (both_a, both_b) = gates.and(ctx, (&start.a, &start.b), (&go.a, &go.b))?;
    let go = go.xor(&BitColumn::make(1, go.rows(), both_a, both_b));
    let rows = start.rows();
    let (a, b) = chain(
        ctx,
        &mut gates,
        (start.a.clone(), start.b.clone()),
        (go.a, go.b),
    )?;
    Ok(BitColumn::make(1, rows, a, b))
}

/// My two components of a plane.
type Plane = (Vec<u64>, Vec<u64>);

/// The carries of all rows, from exclusive (start, go) pairs. Bits past the last row are as good as
/// rows: nothing flows back from them.
fn chain(
    ctx: &mut Context,
    gates: &mut Gates<'_>,
    mut start: Plane,
    mut go: Plane,
) -> Result<Plane> {
    let words = start.0.len();
    let one = One::of(ctx.role());
    for level in 0..6 {
        let shift = 1 << level;
        // What enters a word from below is no start, and goes.
        let fill = (1_u64 << shift) - 1;
        let (mut a, mut b) = (vec![0; 2 * words], vec![0; 2 * words]);
        gates.round(ctx, words, &mut a, &mut b, |segment, offset, tile| {
            let (low, enter) = if segment == 0 {
                (&start, (0, 0))
            } else {
                (&go, (one.a & fill, one.b & fill))
            };
            for (i, t) in tile.iter_mut().enumerate() {
                let i = offset + i;
                let (la, lb) = ((low.0[i] << shift) | enter.0, (low.1[i] << shift) | enter.1);
                *t ^= cross(go.0[i], go.1[i], la, lb);
            }
        })?;
        for i in 0..words {
            start.0[i] ^= a[i];
            start.1[i] ^= b[i];
        }
        go = (a.split_off(words), b.split_off(words));
    }
    if words > 1 {
        let top = |v: &Plane| (pack_top_bits(&v.0), pack_top_bits(&v.1));
        let above = chain(ctx, gates, top(&start), top(&go))?;
        // The carry out of word w - 1 enters word w.
        let spread = |v: &[u64]| -> Vec<u64> {
            let entering = |w: usize| {
                if w == 0 {
                    0
                } else {
                    v[(w - 1) / 64] >> ((w - 1) % 64) & 1
                }
            };
            (0..words)
                .map(|w| 0_u64.wrapping_sub(entering(w)))
                .collect()
        };
        let (a, b) = gates.and(ctx, (&go.0, &go.1), (&spread(&above.0), &spread(&above.1)))?;
        for i in 0..words {
            start.0[i] ^= a[i];
            start.1[i] ^= b[i];
        }
    }
    Ok(start)
}

/// Bit 63 of every word, packed.
fn pack_top_bits(words: &[u64]) -> Vec<u64> {
    words
        .chunks(64)
        .map(|chunk| {
            chunk
                .iter()
                .enumerate()
                .fold(0, |packed, (i, w)| packed | (w >> 63) << i)
        })
        .collect()
}
