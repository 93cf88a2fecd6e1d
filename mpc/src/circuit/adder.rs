//! Arithmetic to bits: one binary adder.
//!
//! `x = x_0 + x_1 + x_2`. P0 knows `y = x_0 + x_1` and shares it in XOR form: component 2 is zero,
//! component 1 comes from the seed of P0 and P1, component 0 (the rest) goes to P2: one word. `x_2` is
//! already a component: it is shared for free as component 2. A ripple-carry adder then takes one
//! AND a bit: `c' = c ^ ((y ^ c) & (z ^ c))`; for long round trips, carries by Sklansky's prefix
//! tree (1960): about `w log w` ANDs, `log w` rounds. P2 sees one uniform word a row, P1 nothing,
//! beside the gates. Adversary: semi-honest.

use super::compare::picoseconds;
use super::gates::{Gates, cross};
use super::pieces::{Cuttable, cut, on_each};
use crate::bits::{plane_words, to_planes};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::net::{LinkProfile, Step};
use crate::ring::Ring;
use crate::share::{Arith, BitColumn, Role};
use zerocopy::IntoBytes;

/// The lowest `bits` bits of every row. `64/3` bits for the sharing and `bits - 1` for the ripple,
/// `bits` rounds; or the prefix tree where round trips cost more.
///
/// # Errors
/// `InvalidInput` when `bits` is 0 or more than the ring has; those of the link.
pub fn a2b<T: Ring>(
    ctx: &mut Context,
    step: &Step,
    x: &Arith<T>,
    bits: usize,
) -> Result<BitColumn> {
    if bits == 0 || bits > T::BITS as usize {
        return Err(Error::InvalidInput {
            operator: "a2b",
            what: format!("{bits} bits of a ring of {}", T::BITS),
        });
    }
    if let Some(pieces) = cut(ctx, x.rows()) {
        return on_each(ctx, step, pieces, |ctx, step, rows| {
            a2b(ctx, step, &x.piece(rows), bits)
        });
    }
    let rows = x.rows();
    let words = plane_words(rows);
    let planes = |values: &mut dyn Iterator<Item = T>| to_bit_planes(values, rows, bits);
    let share = step.narrow("share");
    let mask = ctx
        .stream_of_component(1, &share)?
        .map(|mut s| s.words::<u64>(bits * words));
    let zero = || vec![0_u64; bits * words];
    let (y, z) = match ctx.role() {
        Role::P0 => {
            let mut y0 = planes(&mut x.a.iter().zip(&x.b).map(|(a, b)| a.plus(*b)));
            let y1 = mask.unwrap_or_default();
            for (y, m) in y0.iter_mut().zip(&y1) {
                *y ^= *m;
            }
            ctx.send(Role::P2, &share, &y0)?;
            ((y0, y1), (zero(), zero()))
        }
        Role::P1 => {
            let z2 = planes(&mut x.b.iter().copied());
            ((mask.unwrap_or_default(), zero()), (zero(), z2))
        }
        Role::P2 => {
            let mut y0 = zero();
            ctx.receive(Role::P0, &share, &mut y0)?;
            let z2 = planes(&mut x.a.iter().copied());
            ((zero(), y0), (z2, zero()))
        }
    };
    let y = BitColumn::make(bits, rows, y.0, y.1);
    let z = BitColumn::make(bits, rows, z.0, z.1);
    add(ctx, &step.narrow("add"), &y, &z)
}

/// The sum modulo `2^width`. `width - 1` bits and rounds by ripple, or about `width log2 width` bits and
/// `1 + ceil(log2 width)` rounds by the prefix tree. A carry out is had by widening both first.
///
/// # Errors
/// `InvalidInput` for different shapes; those of the link.
pub fn add(ctx: &mut Context, step: &Step, x: &BitColumn, y: &BitColumn) -> Result<BitColumn> {
    super::same_shape("add", x, y)?;
    if let Some(pieces) = cut(ctx, x.rows()) {
        return on_each(ctx, step, pieces, |ctx, step, rows| {
            add(ctx, step, &x.piece(rows), &y.piece(rows))
        });
    }
    let mut gates = Gates::new(ctx, step)?;
    if prefix_is_cheaper(ctx.profile(), x.width(), x.rows()) {
        prefix_sum(ctx, &mut gates, x, y)
    } else {
        ripple_sum(ctx, &mut gates, x, y)
    }
}

/// The difference modulo `2^width`, as `not(not(x) + y)`: `-v - 1` is the complement of `v`. Cost of
/// [`add`].
///
/// # Errors
/// As [`add`].
pub fn subtract(ctx: &mut Context, step: &Step, x: &BitColumn, y: &BitColumn) -> Result<BitColumn> {
    let role = ctx.role();
    Ok(add(ctx, step, &x.clone().not(role), y)?.not(role))
}

/// `-x` modulo `2^width`, as `not(x - 1) = not(x + 11..1)`. Cost of [`add`].
///
/// # Errors
/// As [`add`].
pub fn negate(ctx: &mut Context, step: &Step, x: &BitColumn) -> Result<BitColumn> {
    let role = ctx.role();
    let minus_one = BitColumn::ones(role, x.width(), x.rows());
    Ok(add(ctx, step, x, &minus_one)?.not(role))
}

/// Bits as a number modulo `2^k`, zero-extended, or sign-extended where `signed`.
///
/// `x = z_0 + z_1 + z_2` with `z_0` from the seed of P2 and P0 and `z_1` from that of P0 and P1. P0
/// knows `t = -(z_0 + z_1)` and shares it in XOR form (component 1 from the seed of P0 and P1,
/// component 0 to P2, component 2 zero); an adder gives `z_2 = x + t` in XOR form, of which P2 sends P1
/// component 0 and P1 sends P2 component 1. Views: P2 sees `t` masked; P1 and P2 see `z_2`, uniform to
/// P1 by `z_0` and to P2 by `z_1`, which each lacks. An adder of `k` bits, `k/3` for the mask and
/// `2k/3` for the opening: `2k - 1` bits by ripple; rounds of [`add`] and 2. Semi-honest.
///
/// # Errors
/// `InvalidInput` when the column is wider than the ring; those of the link.
pub fn b2a<T: Ring>(
    ctx: &mut Context,
    step: &Step,
    x: &BitColumn,
    signed: bool,
) -> Result<Arith<T>> {
    let (rows, bits) = (x.rows(), T::BITS as usize);
    if x.width() > bits {
        return Err(Error::InvalidInput {
            operator: "b2a",
            what: format!("{} bits for a ring of {bits}", x.width()),
        });
    }
    if let Some(pieces) = cut(ctx, rows) {
        return on_each(ctx, step, pieces, |ctx, step, rows| {
            b2a(ctx, step, &x.piece(rows), signed)
        });
    }
    let x = x.extended(bits, signed);
    let (numbers, mask) = (step.narrow("numbers"), step.narrow("mask"));
    let z0 = ctx
        .stream_of_component(0, &numbers)?
        .map_or_else(Vec::new, |mut s| s.words::<T>(rows));
    let z1 = ctx
        .stream_of_component(1, &numbers)?
        .map_or_else(Vec::new, |mut s| s.words::<T>(rows));
    let words = plane_words(rows);
    let masked = ctx
        .stream_of_component(1, &mask)?
        .map_or_else(Vec::new, |mut s| s.words::<u64>(bits * words));
    let zero = || vec![0_u64; bits * words];
    let (a, b) = match ctx.role() {
        Role::P0 => {
            let zero_of = T::default();
            let mut values = z0.iter().zip(&z1).map(|(a, b)| zero_of.minus(a.plus(*b)));
            let mut t0 = to_bit_planes(&mut values, rows, bits);
            for (t, m) in t0.iter_mut().zip(&masked) {
                *t ^= *m;
            }
            ctx.send(Role::P2, &mask, &t0)?;
            (t0, masked)
        }
        Role::P1 => (masked, zero()),
        Role::P2 => {
            let mut t0 = zero();
            ctx.receive(Role::P0, &mask, &mut t0)?;
            (zero(), t0)
        }
    };
    let t = BitColumn::make(bits, rows, a, b);
    let z2 = add(ctx, &step.narrow("add"), &x, &t)?;
    let open = step.narrow("open");
    // Of z_2 each of P1 and P2 lacks one component; both are to know it whole.
    let (send, to) = match ctx.role() {
        Role::P0 => return Ok(Arith { a: z0, b: z1 }),
        Role::P1 => (&z2.a, Role::P2),
        Role::P2 => (&z2.b, Role::P1),
    };
    ctx.send(to, &open, send)?;
    let mut planes = zero();
    ctx.receive(to, &open, &mut planes)?;
    for ((p, a), b) in planes.iter_mut().zip(&z2.a).zip(&z2.b) {
        *p ^= a ^ b;
    }
    let z2 = from_bit_planes(&planes, rows, bits);
    Ok(match ctx.role() {
        Role::P1 => Arith { a: z1, b: z2 },
        _ => Arith { a: z2, b: z0 },
    })
}

/// Numbers from `bits` planes.
fn from_bit_planes<T: Ring>(planes: &[u64], rows: usize, bits: usize) -> Vec<T> {
    let stride = bits.div_ceil(64);
    crate::bits::to_rows(planes, rows, bits)
        .chunks_exact(stride)
        .map(|words| {
            let mut value = T::default();
            let bytes = words.as_bytes();
            value
                .as_mut_bytes()
                .copy_from_slice(&bytes[..T::BYTES.min(bytes.len())]);
            value
        })
        .collect()
}

/// Whether `x >= k`, for `x` and `k` of at most `bits` bits: the sign of `x - k` modulo
/// `2^(bits + 1)`. Cost of [`a2b`] with `bits + 1` bits. Wrong answers, never errors, if a row breaks
/// the bound; declare it from the plan.
///
/// # Errors
/// `InvalidInput` when `bits` is not below the ring's, or `k` is wider; those of the link.
pub fn greater_equal_public<T: Ring>(
    ctx: &mut Context,
    step: &Step,
    x: &Arith<T>,
    k: u64,
    bits: usize,
) -> Result<BitColumn> {
    if bits == 0 || bits >= T::BITS as usize || (bits < 64 && k >> bits != 0) {
        return Err(Error::InvalidInput {
            operator: "greater_equal_public",
            what: format!("a bound of {bits} bits"),
        });
    }
    let difference = x.plus_public(ctx.role(), T::default().minus(T::from_u64(k)));
    let difference = a2b(ctx, step, &difference, bits + 1)?;
    Ok(difference.bit_range(bits, 1).not(ctx.role()))
}

/// The lowest `bits` planes of `values`.
fn to_bit_planes<T: Ring>(
    values: &mut dyn Iterator<Item = T>,
    rows: usize,
    bits: usize,
) -> Vec<u64> {
    let stride = bits.div_ceil(64);
    let mut words = Vec::with_capacity(rows * stride);
    for value in values {
        let bytes = value.as_bytes();
        for lane in 0..stride {
            let mut word = [0; 8];
            let from = &bytes[lane * 8..bytes.len().min(lane * 8 + 8)];
            word[..from.len()].copy_from_slice(from);
            words.push(u64::from_le_bytes(word));
        }
    }
    to_planes(&words, rows, bits)
}

fn prefix_is_cheaper(profile: LinkProfile, bits: usize, rows: usize) -> bool {
    let levels = (usize::BITS - (bits - 1).leading_zeros()) as usize;
    let prefix = picoseconds(profile, levels + 1, bits * (levels + 1), rows);
    prefix < picoseconds(profile, bits - 1, bits - 1, rows)
}

fn ripple_sum(
    ctx: &mut Context,
    gates: &mut Gates<'_>,
    y: &BitColumn,
    z: &BitColumn,
) -> Result<BitColumn> {
    let words = y.words();
    let mut sum = y.xor(z);
    let (mut ca, mut cb) = (vec![0_u64; words], vec![0_u64; words]);
    let (mut ta, mut tb) = (vec![0_u64; words], vec![0_u64; words]);
    for bit in 0..y.width() - 1 {
        let at = bit * words;
        gates.round(ctx, words, &mut ta, &mut tb, |_, offset, tile| {
            for (i, t) in tile.iter_mut().enumerate() {
                let (i, j) = (offset + i, at + offset + i);
                *t ^= cross(
                    y.a[j] ^ ca[i],
                    y.b[j] ^ cb[i],
                    z.a[j] ^ ca[i],
                    z.b[j] ^ cb[i],
                );
            }
        })?;
        let next = (bit + 1) * words;
        for i in 0..words {
            ca[i] ^= ta[i];
            cb[i] ^= tb[i];
            sum.a[next + i] ^= ca[i];
            sum.b[next + i] ^= cb[i];
        }
    }
    Ok(sum)
}

fn prefix_sum(
    ctx: &mut Context,
    gates: &mut Gates<'_>,
    y: &BitColumn,
    z: &BitColumn,
) -> Result<BitColumn> {
    let (words, bits) = (y.words(), y.width());
    let sum = y.xor(z);
    let (mut ga, mut gb) = gates.and(ctx, (&y.a, &y.b), (&z.a, &z.b))?;
    let (mut pa, mut pb) = (sum.a.clone(), sum.b.clone());
    let mut reach = 1;
    while reach < bits {
        // Every bit in the upper half of its block of 2 * reach takes in the top of the lower half.
        let upper: Vec<usize> = (0..bits).filter(|bit| bit / reach % 2 == 1).collect();
        let below = |bit: usize| (bit / reach * reach - 1) * words;
        let n = upper.len();
        let (mut ta, mut tb) = (vec![0; 2 * n * words], vec![0; 2 * n * words]);
        gates.round(ctx, words, &mut ta, &mut tb, |segment, offset, tile| {
            let bit = upper[segment % n];
            let (p, low) = (bit * words + offset, below(bit) + offset);
            let (la, lb) = if segment < n { (&ga, &gb) } else { (&pa, &pb) };
            for (i, t) in tile.iter_mut().enumerate() {
                *t ^= cross(pa[p + i], pb[p + i], la[low + i], lb[low + i]);
            }
        })?;
        for (index, &bit) in upper.iter().enumerate() {
            for i in 0..words {
                ga[bit * words + i] ^= ta[index * words + i];
                gb[bit * words + i] ^= tb[index * words + i];
                pa[bit * words + i] = ta[(n + index) * words + i];
                pb[bit * words + i] = tb[(n + index) * words + i];
            }
        }
        reach *= 2;
    }
    let mut out = sum;
    for i in words..bits * words {
        out.a[i] ^= ga[i - words];
        out.b[i] ^= gb[i - words];
    }
    Ok(out)
}
