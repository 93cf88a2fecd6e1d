//! Replicated secret shares of vectors (Araki et al., CCS 2016): `x = x_0 + x_1 + x_2`, where `P_i`
//! holds `(x_i, x_{i+1})`; for bits the sum is XOR.
//!
//! A share type holds one party's two components of a whole vector. Linear operations are local and
//! live here; everything that talks lives in [`crate::circuit`]. No `Display`, and `Debug` shows
//! sizes only.

mod bits;

pub use bits::BitColumn;

use crate::error::{Error, Result};
use crate::ring::Ring;

/// One of the three computing parties. `P_i` holds components `i` and `i + 1` of every sharing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Components 0 and 1.
    P0,
    /// Components 1 and 2.
    P1,
    /// Components 2 and 0.
    P2,
}

impl Role {
    /// All three, in order.
    pub const ALL: [Self; 3] = [Self::P0, Self::P1, Self::P2];

    /// 0, 1 or 2: the index of the role's first component.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::P0 => 0,
            Self::P1 => 1,
            Self::P2 => 2,
        }
    }

    /// `P_{i+1}`, who also holds my second component.
    #[must_use]
    pub const fn next(self) -> Self {
        match self {
            Self::P0 => Self::P1,
            Self::P1 => Self::P2,
            Self::P2 => Self::P0,
        }
    }

    /// `P_{i-1}`, who also holds my first component.
    #[must_use]
    pub const fn prev(self) -> Self {
        self.next().next()
    }
}

/// An additively shared vector over Z_2^k: one party's components `x_i` and `x_{i+1}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Arith<T> {
    pub(crate) a: Vec<T>,
    pub(crate) b: Vec<T>,
}

impl<T> std::fmt::Debug for Arith<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Arith({} rows, redacted)", self.a.len())
    }
}

impl<T: Ring> Arith<T> {
    /// From my components `x_i` and `x_{i+1}`.
    ///
    /// # Errors
    /// `InvalidInput` when their lengths differ.
    pub fn from_components(first: Vec<T>, second: Vec<T>) -> Result<Self> {
        if first.len() != second.len() {
            return Err(Error::InvalidInput {
                operator: "Arith::from_components",
                what: format!("lengths {} and {}", first.len(), second.len()),
            });
        }
        Ok(Self {
            a: first,
            b: second,
        })
    }

    /// My components `x_i` and `x_{i+1}`.
    #[must_use]
    pub fn components(&self) -> (&[T], &[T]) {
        (&self.a, &self.b)
    }

    /// My components, moved out.
    #[must_use]
    pub fn into_components(self) -> (Vec<T>, Vec<T>) {
        (self.a, self.b)
    }

    /// How many values.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.a.len()
    }

    /// A sharing of a public vector: component 0 holds it, the others are zero.
    #[must_use]
    pub fn public(role: Role, values: &[T]) -> Self {
        let zero = || vec![T::default(); values.len()];
        Self {
            a: if role == Role::P0 {
                values.to_vec()
            } else {
                zero()
            },
            b: if role == Role::P2 {
                values.to_vec()
            } else {
                zero()
            },
        }
    }

    /// A sharing of zeros.
    #[must_use]
    pub fn zeros(rows: usize) -> Self {
        Self {
            a: vec![T::default(); rows],
            b: vec![T::default(); rows],
        }
    }

    /// Row by row sum. Rows past the shorter operand are dropped; operators check lengths first.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        self.zip(other, T::plus)
    }

    /// Row by row difference.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.zip(other, T::minus)
    }

    /// Every row times a public constant.
    #[must_use]
    pub fn scaled(&self, factor: T) -> Self {
        self.map(|x| x.times(factor))
    }

    /// Every row plus a public constant.
    #[must_use]
    pub fn plus_public(&self, role: Role, constant: T) -> Self {
        let mut out = self.clone();
        let component = match role {
            Role::P0 => &mut out.a,
            Role::P1 => return out,
            Role::P2 => &mut out.b,
        };
        for x in component {
            *x = x.plus(constant);
        }
        out
    }

    /// The running sums: row `r` is the sum of rows `0..=r`. Local.
    #[must_use]
    pub fn prefix_sums(&self) -> Self {
        let run = |v: &[T]| {
            let mut sum = T::default();
            v.iter()
                .map(|&x| {
                    sum = sum.plus(x);
                    sum
                })
                .collect()
        };
        Self {
            a: run(&self.a),
            b: run(&self.b),
        }
    }

    /// Row `r` minus row `r - 1`; row 0 stays. The inverse of [`Self::prefix_sums`]. Local.
    #[must_use]
    pub fn differences(&self) -> Self {
        let run = |v: &[T]| {
            let mut last = T::default();
            v.iter()
                .map(|&x| {
                    let d = x.minus(last);
                    last = x;
                    d
                })
                .collect()
        };
        Self {
            a: run(&self.a),
            b: run(&self.b),
        }
    }

    /// The sum of all rows, as one row. Local.
    #[must_use]
    pub fn sum(&self) -> Self {
        let run = |v: &[T]| vec![v.iter().fold(T::default(), |s, &x| s.plus(x))];
        Self {
            a: run(&self.a),
            b: run(&self.b),
        }
    }

    /// Rows `from..from + count`.
    #[must_use]
    pub fn slice(&self, from: usize, count: usize) -> Self {
        Self {
            a: self.a[from..from + count].to_vec(),
            b: self.b[from..from + count].to_vec(),
        }
    }

    /// All rows, then zeros up to `rows`; or the first `rows`.
    #[must_use]
    pub fn resized(mut self, rows: usize) -> Self {
        self.a.resize(rows, T::default());
        self.b.resize(rows, T::default());
        self
    }

    /// The rows of `self`, then those of `other`.
    #[must_use]
    pub fn followed_by(mut self, other: &Self) -> Self {
        self.a.extend_from_slice(&other.a);
        self.b.extend_from_slice(&other.b);
        self
    }

    /// Rows 0, 2, 4, ... and rows 1, 3, 5, ... Local.
    #[must_use]
    pub fn split(&self) -> (Self, Self) {
        let every_other = |from: usize| Self {
            a: self.a.iter().skip(from).step_by(2).copied().collect(),
            b: self.b.iter().skip(from).step_by(2).copied().collect(),
        };
        (every_other(0), every_other(1))
    }

    /// The inverse of [`Self::split`]: `even` has as many rows as `odd`, or one more. Local.
    #[must_use]
    pub fn interleaved(even: &Self, odd: &Self) -> Self {
        let run = |even: &[T], odd: &[T]| {
            let mut out = Vec::with_capacity(even.len() + odd.len());
            for (i, &x) in even.iter().enumerate() {
                out.push(x);
                out.extend(odd.get(i));
            }
            out
        };
        Self {
            a: run(&even.a, &odd.a),
            b: run(&even.b, &odd.b),
        }
    }

    /// The rows in reverse order. Local.
    #[must_use]
    pub fn reversed(&self) -> Self {
        Self {
            a: self.a.iter().rev().copied().collect(),
            b: self.b.iter().rev().copied().collect(),
        }
    }

    fn zip(&self, other: &Self, f: impl Fn(T, T) -> T) -> Self {
        let run = |x: &[T], y: &[T]| x.iter().zip(y).map(|(&x, &y)| f(x, y)).collect();
        Self {
            a: run(&self.a, &other.a),
            b: run(&self.b, &other.b),
        }
    }

    fn map(&self, f: impl Fn(T) -> T) -> Self {
        Self {
            a: self.a.iter().map(|&x| f(x)).collect(),
            b: self.b.iter().map(|&x| f(x)).collect(),
        }
    }
}
