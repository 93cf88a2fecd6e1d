//! Less-than on planes: ripple inside groups of bits, a tree across the groups.
//!
//! A group of `g` bits ripples from its lowest bit: `lt' = b ^ ((a ^ b ^ 1) & (lt ^ b))`, one AND a
//! bit, beside `eq' = eq & (a ^ b ^ 1)` for every group but the lowest. Groups then combine pairwise:
//! `lt = lt_hi ^ (eq_hi & lt_lo)`, `eq = eq_hi & eq_lo`. One group of all bits is the ripple (width
//! ANDs and rounds), groups of one bit the (lt, eq) tree (about 3 width ANDs, log rounds; Garay,
//! Schoenmakers, Villegas, PKC 2007). [`Comparison`] chooses `g` by rows and round trip.

use super::gates::{Gates, One, cross};
use super::pieces::{Cuttable, cut, on_each};
use super::same_shape;
use crate::context::Context;
use crate::error::Result;
use crate::net::{LinkProfile, Step};
use crate::share::BitColumn;

/// Whether `x < y`, row by row, as unsigned or two's complement numbers of `width` bits.
/// Bits and rounds: [`Comparison::and_gates`] and [`Comparison::rounds`].
///
/// # Errors
/// `InvalidInput` for different shapes; those of the link.
pub fn less_than(
    ctx: &mut Context,
    step: &Step,
    x: &BitColumn,
    y: &BitColumn,
    signed: bool,
) -> Result<BitColumn> {
    same_shape("less_than", x, y)?;
    if let Some(pieces) = cut(ctx, x.rows()) {
        return on_each(ctx, step, pieces, |ctx, step, rows| {
            less_than(ctx, step, &x.piece(rows), &y.piece(rows), signed)
        });
    }
    let mut gates = Gates::new(ctx, step)?;
    let comparison = Comparison::choose(ctx.profile(), x.width(), x.rows());
    let words = x.words();
    let (a, b) = if signed {
        // Swapping the sign bits maps two's complement order to unsigned order.
        let swap = |c: &BitColumn, d: &BitColumn| {
            let sign = (c.width() - 1) * words;
            let mut out = c.clone();
            out.a[sign..].copy_from_slice(&d.a[sign..]);
            out.b[sign..].copy_from_slice(&d.b[sign..]);
            out
        };
        let (u, v) = (swap(x, y), swap(y, x));
        let sides = [Side::of(&u), Side::of(&v)];
        comparison.run(ctx, &mut gates, words, &sides)?
    } else {
        let sides = [Side::of(x), Side::of(y)];
        comparison.run(ctx, &mut gates, words, &sides)?
    };
    Ok(BitColumn::make(1, x.rows(), a, b))
}

/// My components of the planes of one side; plane `i` begins at word `i * stride`, so that a prefix of
/// the rows can be compared in place.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'p> {
    pub(crate) a: &'p [u64],
    pub(crate) b: &'p [u64],
    pub(crate) stride: usize,
}

/// Writes the words of my two components of a bit's plane.
type Make<'p> = dyn Fn(usize, &mut [u64], &mut [u64]) + 'p;

/// A side of a comparison.
pub(crate) enum Side<'p> {
    /// Planes that are there.
    Planes(Operand<'p>),
    /// Planes made when they are needed.
    Made(Box<Make<'p>>),
}

/// My two components of a plane.
type PlaneRef<'p> = (&'p [u64], &'p [u64]);

impl<'p> Side<'p> {
    fn of(column: &'p BitColumn) -> Self {
        Self::Planes(Operand {
            a: &column.a,
            b: &column.b,
            stride: column.words(),
        })
    }

    /// The planes of `bits`, `words` words each; those that are made are kept in `room`.
    fn planes<'r>(
        &self,
        bits: impl Iterator<Item = usize> + Clone,
        words: usize,
        room: &'r mut Pairs,
    ) -> Vec<PlaneRef<'r>>
    where
        'p: 'r,
    {
        match *self {
            Self::Planes(operand) => bits
                .map(|bit| {
                    let range = bit * operand.stride..bit * operand.stride + words;
                    (&operand.a[range.clone()], &operand.b[range])
                })
                .collect(),
            Self::Made(ref make) => {
                let due = bits.clone().count() * words;
                room.a.resize(due.max(room.a.len()), 0);
                room.b.resize(due.max(room.b.len()), 0);
                let made = room.a.chunks_mut(words).zip(room.b.chunks_mut(words));
                for (bit, (a, b)) in bits.clone().zip(made) {
                    make(bit, a, b);
                }
                let planes = room.a.chunks(words).zip(room.b.chunks(words));
                planes.take(bits.count()).collect()
            }
        }
    }
}

/// The shape of a comparison: its width, and the bits that ripple together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Comparison {
    width: usize,
    group: usize,
}

/// Computing and sending one AND gate, in picoseconds of wall time, beside its share of the link.
const GATE_PICOSECONDS: u128 = 150;

/// The time that a circuit of `gates` AND gates a row is expected to take.
pub(crate) fn picoseconds(profile: LinkProfile, rounds: usize, gates: usize, rows: usize) -> u128 {
    let bandwidth = u128::from(profile.bytes_per_second.max(1));
    let gate = GATE_PICOSECONDS + 1_000_000_000_000 / 8 / bandwidth;
    profile.round_trip.as_nanos() * 1000 * rounds as u128 + gate * (gates * rows) as u128
}

impl Comparison {
    /// The cheapest shape for `rows` comparisons of `width` bits at once.
    pub(crate) fn choose(profile: LinkProfile, width: usize, rows: usize) -> Self {
        let cost = |c: &Self| picoseconds(profile, c.rounds(), c.and_gates(), rows);
        [1, 2, 4, 8, 16, 32, width]
            .into_iter()
            .filter(|&group| group <= width)
            .map(|group| Self { width, group })
            .min_by_key(cost)
            .unwrap_or(Self { width, group: 1 })
    }

    fn groups(self) -> usize {
        self.width.div_ceil(self.group)
    }

    /// Rounds.
    pub(crate) fn rounds(self) -> usize {
        self.group + self.groups().next_power_of_two().trailing_zeros() as usize
    }

    /// AND gates, that is bits sent, per row and party.
    pub(crate) fn and_gates(self) -> usize {
        let groups = self.groups();
        // Bits above the lowest group, less the first bit of each group.
        let chains = (self.width - self.group) - (groups - 1);
        let mut left = groups;
        let mut tree = 0;
        while left > 1 {
            tree += 2 * (left / 2) - 1;
            left = left.div_ceil(2);
        }
        self.width + chains + tree
    }

    /// `x < y` over planes of `words` words. Plane 0 is the lowest bit.
    pub(crate) fn run(
        self,
        ctx: &mut Context,
        gates: &mut Gates<'_>,
        words: usize,
        [x, y]: &[Side<'_>; 2],
    ) -> Result<(Vec<u64>, Vec<u64>)> {
        if words == 0 {
            return Ok((Vec::new(), Vec::new()));
        }
        let one = One::of(ctx.role());
        let mut rooms = [Pairs::zeros(0), Pairs::zeros(0)];
        let groups = self.groups();
        let mut less = Pairs::zeros(groups * words);
        // Plane j of `same` belongs to group j + 1.
        let mut same = Pairs::zeros((groups - 1) * words);
        let mut out = Pairs::zeros((2 * groups - 1) * words);
        for bit in 0..self.group {
            // The groups that have this bit: all, or all but the shorter top one.
            let active = (0..groups)
                .filter(|j| j * self.group + bit < self.width)
                .count();
            let chains = if bit == 0 { 0 } else { active - 1 };
            let length = (active + chains) * words;
            let of_groups = (0..active).map(|group| group * self.group + bit);
            let [x_room, y_room] = &mut rooms;
            let xs = x.planes(of_groups.clone(), words, x_room);
            let ys = y.planes(of_groups, words, y_room);
            gates.round(
                ctx,
                words,
                &mut out.a[..length],
                &mut out.b[..length],
                |segment, offset, tile| {
                    let (group, is_less) = if segment < active {
                        (segment, true)
                    } else {
                        (segment - active + 1, false)
                    };
                    let n = tile.len();
                    let (xa, xb) = cut_plane(xs[group], offset, n);
                    let (ya, yb) = cut_plane(ys[group], offset, n);
                    if is_less {
                        let at = group * words + offset;
                        let (la, lb) = (&less.a[at..at + n], &less.b[at..at + n]);
                        for i in 0..n {
                            let product = cross(
                                xa[i] ^ ya[i] ^ one.a,
                                xb[i] ^ yb[i] ^ one.b,
                                la[i] ^ ya[i],
                                lb[i] ^ yb[i],
                            );
                            // A summand of its own component may travel with the product.
                            tile[i] ^= product ^ ya[i];
                        }
                    } else {
                        let at = (group - 1) * words + offset;
                        let (ea, eb) = (&same.a[at..at + n], &same.b[at..at + n]);
                        for i in 0..n {
                            tile[i] ^=
                                cross(xa[i] ^ ya[i] ^ one.a, xb[i] ^ yb[i] ^ one.b, ea[i], eb[i]);
                        }
                    }
                },
            )?;
            if groups == 1 {
                std::mem::swap(&mut less, &mut out);
            } else {
                less.a[..active * words].copy_from_slice(&out.a[..active * words]);
                less.b[..active * words].copy_from_slice(&out.b[..active * words]);
            }
            if bit == 0 {
                for (group, ((xa, xb), (ya, yb))) in xs.iter().zip(&ys).enumerate().skip(1) {
                    for i in 0..words {
                        let to = (group - 1) * words + i;
                        same.a[to] = xa[i] ^ ya[i] ^ one.a;
                        same.b[to] = xb[i] ^ yb[i] ^ one.b;
                    }
                }
            } else {
                let n = chains * words;
                same.a[..n].copy_from_slice(&out.a[active * words..active * words + n]);
                same.b[..n].copy_from_slice(&out.b[active * words..active * words + n]);
            }
        }
        combine(ctx, gates, words, groups, less, same)
    }
}

/// Two components of some planes.
struct Pairs {
    a: Vec<u64>,
    b: Vec<u64>,
}

impl Pairs {
    fn zeros(words: usize) -> Self {
        Self {
            a: vec![0; words],
            b: vec![0; words],
        }
    }
}

/// The tree over groups: neighbours combine until one `lt` is left.
fn combine(
    ctx: &mut Context,
    gates: &mut Gates<'_>,
    words: usize,
    mut groups: usize,
    mut less: Pairs,
    mut same: Pairs,
) -> Result<(Vec<u64>, Vec<u64>)> {
    while groups > 1 {
        let pairs = groups / 2;
        // Segments: `lt` of every pair, then `eq` of every pair but the lowest.
        let mut out = Pairs::zeros((2 * pairs - 1) * words);
        gates.round(
            ctx,
            words,
            &mut out.a,
            &mut out.b,
            |segment, offset, tile| {
                let n = tile.len();
                let (pair, is_less) = if segment < pairs {
                    (segment, true)
                } else {
                    (segment - pairs + 1, false)
                };
                let high = 2 * pair * words + offset;
                let (ha, hb) = (&same.a[high..high + n], &same.b[high..high + n]);
                let (la, lb) = if is_less {
                    let low = 2 * pair * words + offset;
                    (&less.a[low..low + n], &less.b[low..low + n])
                } else {
                    let low = (2 * pair - 1) * words + offset;
                    (&same.a[low..low + n], &same.b[low..low + n])
                };
                for i in 0..n {
                    tile[i] ^= cross(ha[i], hb[i], la[i], lb[i]);
                }
            },
        )?;
        let left = groups.div_ceil(2);
        let mut next_less = Pairs::zeros(left * words);
        let mut next_same = Pairs::zeros((left - 1) * words);
        for pair in 0..pairs {
            let to = pair * words..(pair + 1) * words;
            let high = (2 * pair + 1) * words..(2 * pair + 2) * words;
            xor_of(
                &mut next_less.a[to.clone()],
                &out.a[to.clone()],
                &less.a[high.clone()],
            );
            xor_of(&mut next_less.b[to.clone()], &out.b[to], &less.b[high]);
        }
        let kept = (pairs - 1) * words;
        next_same.a[..kept].copy_from_slice(&out.a[pairs * words..]);
        next_same.b[..kept].copy_from_slice(&out.b[pairs * words..]);
        if left > pairs {
            // The odd group at the top passes through.
            next_less.a[pairs * words..].copy_from_slice(&less.a[(groups - 1) * words..]);
            next_less.b[pairs * words..].copy_from_slice(&less.b[(groups - 1) * words..]);
            next_same.a[kept..].copy_from_slice(&same.a[(groups - 2) * words..]);
            next_same.b[kept..].copy_from_slice(&same.b[(groups - 2) * words..]);
        }
        (less, same, groups) = (next_less, next_same, left);
    }
    Ok((less.a, less.b))
}

/// `count` words of a plane from word `from` on.
fn cut_plane((a, b): PlaneRef<'_>, from: usize, count: usize) -> PlaneRef<'_> {
    (&a[from..from + count], &b[from..from + count])
}

fn xor_of(out: &mut [u64], x: &[u64], y: &[u64]) {
    for ((o, x), y) in out.iter_mut().zip(x).zip(y) {
        *o = x ^ y;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{share_bits, three_parties_with};
    use std::time::Duration;

    #[test]
    fn bytes_and_rounds_are_those_of_the_formula() {
        for micros in [0, 40, 1000, 100_000] {
            let profile = LinkProfile {
                round_trip: Duration::from_micros(micros),
                bytes_per_second: 1_000_000_000,
            };
            for width in [1_usize, 2, 7, 20, 64, 100] {
                for rows in [1_usize, 64, 5000] {
                    let parties = three_parties_with(1, profile, |ctx| {
                        let words = vec![1; rows * width.div_ceil(64)];
                        let x = share_bits(1, ctx.role(), width, rows, &words)?;
                        less_than(ctx, &Step::new("less"), &x, &x, false).map(drop)
                    })
                    .unwrap();
                    let shape = Comparison::choose(profile, width, rows);
                    for (_, traffic) in parties {
                        let plane = rows.div_ceil(64) * 8;
                        assert_eq!(traffic.bytes_sent, (shape.and_gates() * plane) as u64);
                        assert_eq!(traffic.rounds, shape.rounds() as u64);
                    }
                }
            }
        }
    }

    #[test]
    fn long_links_take_trees_and_short_ones_ripple() {
        let slow = LinkProfile {
            round_trip: Duration::from_millis(20),
            bytes_per_second: 100_000_000,
        };
        assert_eq!(Comparison::choose(slow, 64, 1000).rounds(), 7);
        let ripple = Comparison::choose(LinkProfile::LOOPBACK, 64, 1 << 20);
        assert_eq!((ripple.rounds(), ripple.and_gates()), (64, 64));
    }
}
