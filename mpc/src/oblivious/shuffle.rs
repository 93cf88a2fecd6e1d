//! Moving rows by a permutation that no party knows.
//!
//! The permutation is a product of three, each drawn from the seed of one pair, so every party lacks
//! one. With `a` the party of the first and second factor, `b` of the first and third, `c` of the
//! second and third, and `x = v + w` where `a` holds `v` (two components) and `b` holds `w`:
//! 1. `a` sends `b` `X = second(first(v + Z)) + Z'`; `b` sends `c` `Y = first(w - Z)`, with `Z` from the
//!    seed of a and b, `Z'` from that of a and c;
//! 2. `b` has `third(X)`, `c` has `third(second(Y) - Z')`, which sum to the result. The component common
//!    to a and b and the one common to a and c are drawn from seeds; b and c each subtract theirs and
//!    exchange the remainders, whose sum is the component common to b and c.
//!
//! Four words for all parties together, 2 rounds. Views: `a` receives nothing; `b` receives `X`, masked
//! by `Z'`, and `c` receives `Y`, masked by `Z`, each uniform; the exchanged remainders are determined
//! by the fresh output shares and what the receiver has. Leakage: none. Adversary: semi-honest.
//! Source: the three-party shuffle of Araki et al., CCS 2021 ("Secure graph analysis at scale"),
//! with the outer masks dropped where the resharing already masks.
//!
//! The inverse runs the inverted factors in the other order, with `a` and `c` trading places.

mod compose;
mod route;

pub(super) use route::Cut;
use route::{Part, Route};

use crate::bits::{plane_words, row_words, rows_of_planes};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::net::Step;
use crate::ring::{Additive, Word, Xor};
use crate::share::{Arith, BitColumn, Role};
use crate::table::{Column, SharedTable};

/// A uniformly random permutation of rows, unknown to every single party.
///
/// One shuffle permits one opened order: [`Shuffle::in_order`] consumes it. Two orders opened against
/// one shuffle would reveal joint ranks.
pub struct Shuffle {
    factors: [Option<Vec<u32>>; 3],
    rows: usize,
}

/// A fixed secret permutation: a [`Shuffle`], then a public order of the shuffled rows, or the inverse of
/// that. It can move any number of columns, forth and back.
pub struct Permutation {
    shuffle: Shuffle,
    turned: bool,
}

impl std::fmt::Debug for Shuffle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shuffle({} rows, redacted)", self.rows)
    }
}

impl std::fmt::Debug for Permutation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Permutation({} rows, redacted)", self.shuffle.rows)
    }
}

/// Which way rows move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forth,
    Back,
}

impl Shuffle {
    /// Draws the two factors that I know. Local.
    ///
    /// # Errors
    /// `InvalidInput` above 2^32 - 1 rows; `StepReused`.
    pub fn draw(ctx: &mut Context, step: &Step, rows: usize) -> Result<Self> {
        if u32::try_from(rows).is_err() {
            return Err(Error::InvalidInput {
                operator: "shuffle",
                what: format!("{rows} rows"),
            });
        }
        let step = step.narrow("permutation");
        let mut factor = |component| -> Result<Option<Vec<u32>>> {
            let stream = ctx.stream_of_component(component, &step)?;
            Ok(stream.map(|mut s| s.permutation(rows)))
        };
        // P0 and P1 share seed 1, P2 and P0 seed 0, P1 and P2 seed 2.
        let factors = [factor(1)?, factor(0)?, factor(2)?];
        Ok(Self { factors, rows })
    }

    /// Moves row-major words of `stride` a row, XOR-shared, to their shuffled places.
    pub(crate) fn records(
        &self,
        ctx: &mut Context,
        step: &Step,
        a: Vec<u64>,
        b: Vec<u64>,
        stride: usize,
    ) -> Result<(Vec<u64>, Vec<u64>)> {
        let route = self.route(ctx.role(), Direction::Forth);
        route.run::<Xor<u64>>(ctx, step, a, b, stride)
    }

    /// Moves positions to their shuffled places.
    pub(crate) fn positions(
        &self,
        ctx: &mut Context,
        step: &Step,
        x: &Arith<u32>,
    ) -> Result<Arith<u32>> {
        let route = self.route(ctx.role(), Direction::Forth);
        let (a, b) = route.run::<Additive<u32>>(ctx, step, &x.a, &x.b, 1)?;
        Ok(Arith { a, b })
    }

    /// Moves a bit column to its shuffled places.
    pub(crate) fn bits(
        &self,
        ctx: &mut Context,
        step: &Step,
        column: &BitColumn,
    ) -> Result<BitColumn> {
        let route = self.route(ctx.role(), Direction::Forth);
        move_bits(ctx, step, &route, &[column])
    }

    /// Moves shuffled positions back to where they came from. The shuffle is spent.
    pub(crate) fn return_positions(
        self,
        ctx: &mut Context,
        step: &Step,
        x: &Arith<u32>,
    ) -> Result<Arith<u32>> {
        Permutation::of(self).return_positions(ctx, step, x)
    }

    /// The shuffle, then `order`: row `j` of the result is shuffled row `order[j]`.
    pub(crate) fn in_order(mut self, order: &[u32]) -> Permutation {
        if let Some(third) = &mut self.factors[2] {
            *third = compose(third, order);
        }
        Permutation::of(self)
    }

    fn route(&self, role: Role, direction: Direction) -> Route {
        let known = |factor: usize| self.factors[factor].as_deref().unwrap_or_default();
        let (a, c) = match direction {
            Direction::Forth => (Role::P0, Role::P2),
            Direction::Back => (Role::P2, Role::P0),
        };
        let part = match (direction, role) {
            (Direction::Forth, Role::P0) => Part::A {
                both: compose(known(0), known(1)),
            },
            (Direction::Forth, Role::P1) => Part::B {
                first: known(0).to_vec(),
                third: known(2).to_vec(),
            },
            (Direction::Forth, Role::P2) => Part::C {
                both: compose(known(1), known(2)),
                third: known(2).to_vec(),
            },
            (Direction::Back, Role::P2) => Part::A {
                both: compose(&inverse(known(2)), &inverse(known(1))),
            },
            (Direction::Back, Role::P1) => Part::B {
                first: inverse(known(2)),
                third: inverse(known(0)),
            },
            (Direction::Back, Role::P0) => {
                let third = inverse(known(0));
                Part::C {
                    both: compose(&inverse(known(1)), &third),
                    third,
                }
            }
        };
        Route {
            a,
            b: Role::P1,
            c,
            part,
        }
    }
}

impl Permutation {
    fn of(shuffle: Shuffle) -> Self {
        Self {
            shuffle,
            turned: false,
        }
    }

    /// How many rows it moves.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shuffle.rows
    }

    fn route(&self, role: Role, direction: Direction) -> Route {
        let direction = match (self.turned, direction) {
            (false, direction) => direction,
            (true, Direction::Forth) => Direction::Back,
            (true, Direction::Back) => Direction::Forth,
        };
        self.shuffle.route(role, direction)
    }

    /// Moves rows forth. About 4/3 words a word and party, 2 rounds a kind of column.
    ///
    /// # Errors
    /// `InvalidInput` for columns of another length; those of the link.
    pub fn apply(
        &self,
        ctx: &mut Context,
        step: &Step,
        columns: &[&Column],
    ) -> Result<Vec<Column>> {
        self.moved(ctx, step, columns, Direction::Forth)
    }

    /// Moves rows back: the inverse of [`Self::apply`], at the same cost.
    ///
    /// # Errors
    /// As [`Self::apply`].
    pub fn apply_inverse(
        &self,
        ctx: &mut Context,
        step: &Step,
        columns: &[&Column],
    ) -> Result<Vec<Column>> {
        self.moved(ctx, step, columns, Direction::Back)
    }

    /// [`Self::apply`] for bit columns alone.
    pub(crate) fn apply_bits(
        &self,
        ctx: &mut Context,
        step: &Step,
        column: &BitColumn,
    ) -> Result<BitColumn> {
        let route = self.route(ctx.role(), Direction::Forth);
        move_bits(ctx, step, &route, &[column])
    }

    /// [`Self::apply_inverse`] for bit columns alone.
    pub(crate) fn return_bits(
        &self,
        ctx: &mut Context,
        step: &Step,
        column: &BitColumn,
    ) -> Result<BitColumn> {
        let route = self.route(ctx.role(), Direction::Back);
        move_bits(ctx, step, &route, &[column])
    }

    /// [`Self::apply_inverse`] for positions.
    pub(crate) fn return_positions(
        &self,
        ctx: &mut Context,
        step: &Step,
        x: &Arith<u32>,
    ) -> Result<Arith<u32>> {
        let route = self.route(ctx.role(), Direction::Back);
        let (a, b) = route.run::<Additive<u32>>(ctx, step, &x.a, &x.b, 1)?;
        Ok(Arith { a, b })
    }

    fn moved(
        &self,
        ctx: &mut Context,
        step: &Step,
        columns: &[&Column],
        direction: Direction,
    ) -> Result<Vec<Column>> {
        if columns.iter().any(|c| c.rows() != self.rows()) {
            return Err(Error::InvalidInput {
                operator: "permutation",
                what: format!("a column that has not {} rows", self.rows()),
            });
        }
        let route = self.route(ctx.role(), direction);
        // Bit columns travel side by side as one.
        let bits: Vec<&BitColumn> = columns
            .iter()
            .filter_map(|c| match c {
                Column::Bits(b) => Some(b),
                _ => None,
            })
            .collect();
        let together = if bits.is_empty() {
            None
        } else {
            Some(move_bits(ctx, &step.narrow("bits"), &route, &bits)?)
        };
        let mut from = 0;
        let mut out = Vec::with_capacity(columns.len());
        for (i, column) in columns.iter().enumerate() {
            let step = step.at("column", i);
            out.push(match (column, &together) {
                (Column::Bits(c), Some(all)) => {
                    from += c.width();
                    Column::Bits(all.bit_range(from - c.width(), c.width()))
                }
                (Column::Bits(c), None) => Column::Bits(c.clone()),
                (Column::Arith64(c), _) => {
                    let (a, b) = route.run::<Additive<u64>>(ctx, &step, &c.a, &c.b, 1)?;
                    Column::Arith64(Arith { a, b })
                }
                (Column::Arith128(c), _) => {
                    let (a, b) = route.run::<Additive<u128>>(ctx, &step, &c.a, &c.b, 1)?;
                    Column::Arith128(Arith { a, b })
                }
            });
        }
        Ok(out)
    }
}

/// The table with its rows in a uniformly random order that nobody knows.
///
/// # Errors
/// `InvalidInput` for columns of different lengths; those of the link.
pub fn shuffle(ctx: &mut Context, step: &Step, table: &SharedTable) -> Result<SharedTable> {
    table.check("shuffle")?;
    let permutation = Permutation::of(Shuffle::draw(ctx, step, table.rows())?);
    permute_table(ctx, &step.narrow("rows"), &permutation, table)
}

/// Moves all columns of a table and its validity.
///
/// # Errors
/// As [`Permutation::apply`].
pub fn permute_table(
    ctx: &mut Context,
    step: &Step,
    permutation: &Permutation,
    table: &SharedTable,
) -> Result<SharedTable> {
    let valid = Column::Bits(table.valid.clone());
    let mut columns: Vec<&Column> = table.columns.iter().collect();
    columns.push(&valid);
    let mut moved = permutation.apply(ctx, step, &columns)?;
    match moved.pop() {
        Some(Column::Bits(valid)) => Ok(SharedTable {
            columns: moved,
            valid,
        }),
        _ => Err(Error::InvalidInput {
            operator: "permutation",
            what: "no validity column".into(),
        }),
    }
}

/// Moves bit columns side by side, as one, in lanes of the smallest word that fits.
fn move_bits(
    ctx: &mut Context,
    step: &Step,
    route: &Route,
    columns: &[&BitColumn],
) -> Result<BitColumn> {
    let width: usize = columns.iter().map(|c| c.width()).sum();
    let rows = columns.first().map_or(0, |c| c.rows());
    if rows == 0 {
        return Ok(BitColumn::zeros(width, 0));
    }
    let full = width / 64 * 64;
    let mut parts = Vec::new();
    if full > 0 {
        let (a, b) = rows_of(ctx, columns, 0, full)?;
        let (a, b) = route.run::<Xor<u64>>(ctx, &step.narrow("words"), a, b, full / 64)?;
        parts.push(BitColumn::from_row_words(full, rows, &a, &b)?);
    }
    if full < width {
        let (a, b) = rows_of(ctx, columns, full, width)?;
        let step = step.narrow("rest");
        let (a, b) = match width - full {
            ..=8 => narrow_lane::<u8>(ctx, &step, route, a, b)?,
            9..=16 => narrow_lane::<u16>(ctx, &step, route, a, b)?,
            17..=32 => narrow_lane::<u32>(ctx, &step, route, a, b)?,
            _ => route.run::<Xor<u64>>(ctx, &step, a, b, 1)?,
        };
        parts.push(BitColumn::from_row_words(width - full, rows, &a, &b)?);
    }
    match parts.len() {
        1 => Ok(parts.remove(0)),
        _ => BitColumn::concat(&parts.iter().collect::<Vec<_>>()),
    }
}

/// Bits `from..to` of some columns side by side, as row-major words.
pub(super) fn rows_of(
    ctx: &mut Context,
    columns: &[&BitColumn],
    from: usize,
    to: usize,
) -> Result<(Vec<u64>, Vec<u64>)> {
    let rows = columns.first().map_or(0, |c| c.rows());
    let (words, stride) = (plane_words(rows).max(1), row_words(to - from));
    let cut = Cut::new(rows, stride, ctx.threads());
    let mut run = |component: fn(&BitColumn) -> &[u64]| {
        let planes = columns.iter().flat_map(|c| component(c).chunks(words));
        let planes: Vec<&[u64]> = planes.skip(from).take(to - from).collect();
        let mut out = vec![0; rows * stride];
        cut.each(ctx, &mut out, |_, _, first, out| {
            rows_of_planes(&planes, first / stride / 64, out);
            Ok(())
        })?;
        Ok(out)
    };
    Ok((run(|c| &c.a)?, run(|c| &c.b)?))
}

/// A word that low bits of a 64-bit word fit into.
trait Lane: Word + std::ops::BitXor<Output = Self> + Into<u64> {
    fn cut(word: u64) -> Self;
}

macro_rules! lanes {
    ($($t:ty),*) => {$(
        impl Lane for $t {
            #[allow(clippy::cast_possible_truncation)]
            fn cut(word: u64) -> Self {
                word as Self
            }
        }
    )*};
}
lanes!(u8, u16, u32);

fn narrow_lane<T: Lane>(
    ctx: &mut Context,
    step: &Step,
    route: &Route,
    a: Vec<u64>,
    b: Vec<u64>,
) -> Result<(Vec<u64>, Vec<u64>)> {
    let cut = |v: Vec<u64>| v.iter().map(|&w| T::cut(w)).collect::<Vec<T>>();
    let (a, b) = route.run::<Xor<T>>(ctx, step, cut(a), cut(b), 1)?;
    let widen = |v: Vec<T>| v.into_iter().map(Into::into).collect();
    Ok((widen(a), widen(b)))
}

/// Row `j` of the result is row `index[j]` of `source`.
pub(crate) fn gather<T: Word>(source: &[T], index: &[u32]) -> Vec<T> {
    index.iter().map(|&i| source[i as usize]).collect()
}

/// First gather by `first`, then by `second`.
fn compose(first: &[u32], second: &[u32]) -> Vec<u32> {
    second.iter().map(|&j| first[j as usize]).collect()
}

fn inverse(gather: &[u32]) -> Vec<u32> {
    let mut out = vec![0; gather.len()];
    for (position, &from) in (0_u32..).zip(gather) {
        out[from as usize] = position;
    }
    out
}
