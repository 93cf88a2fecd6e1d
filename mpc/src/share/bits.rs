//! XOR-shared columns of fixed-width bit strings, kept as bit-sliced planes.

use super::Role;
use crate::bits::{self, copy_rows, plane_words, row_words};
use crate::error::{Error, Result};

/// An XOR-shared column, `width` bits a row: one party's components `x_i` and `x_{i+1}`.
///
/// Held as planes (see [`crate::bits`]): plane 0 is the lowest bit, each `plane_words(rows)` words.
/// Bits past the last row are undefined in memory; what leaves the column masks them. A flag column
/// has width 1. Row-major words go in and out through [`Self::from_row_words`] and
/// [`Self::to_row_words`].
#[derive(Clone)]
pub struct BitColumn {
    width: usize,
    rows: usize,
    pub(crate) a: Vec<u64>,
    pub(crate) b: Vec<u64>,
}

impl std::fmt::Debug for BitColumn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "BitColumn({} rows of {} bits, redacted)",
            self.rows, self.width
        )
    }
}

impl BitColumn {
    /// From planes: `width * plane_words(rows)` words a component.
    ///
    /// # Errors
    /// `InvalidInput` for a width of 0 or components of another length.
    pub fn from_planes(
        width: usize,
        rows: usize,
        first: Vec<u64>,
        second: Vec<u64>,
    ) -> Result<Self> {
        let due = width * plane_words(rows);
        if width == 0 || first.len() != due || second.len() != due {
            return Err(invalid("BitColumn::from_planes", width, rows, first.len()));
        }
        Ok(Self::make(width, rows, first, second))
    }

    /// From row-major words: `rows * row_words(width)` words a component, lowest word first. Bits
    /// past `width` are ignored.
    ///
    /// # Errors
    /// `InvalidInput` for a width of 0 or components of another length.
    pub fn from_row_words(
        width: usize,
        rows: usize,
        first: &[u64],
        second: &[u64],
    ) -> Result<Self> {
        let due = rows * row_words(width);
        if width == 0 || first.len() != due || second.len() != due {
            return Err(invalid(
                "BitColumn::from_row_words",
                width,
                rows,
                first.len(),
            ));
        }
        Ok(Self::make(
            width,
            rows,
            bits::to_planes(first, rows, width),
            bits::to_planes(second, rows, width),
        ))
    }

    /// For callers inside the crate that computed the lengths.
    pub(crate) fn make(width: usize, rows: usize, a: Vec<u64>, b: Vec<u64>) -> Self {
        debug_assert_eq!(a.len(), width * plane_words(rows));
        debug_assert_eq!(b.len(), a.len());
        Self { width, rows, a, b }
    }

    /// A sharing of public row-major words: component 0 holds them, the others are zero.
    ///
    /// # Errors
    /// `InvalidInput` for a width of 0 or another number of words.
    pub fn public(role: Role, width: usize, rows: usize, words: &[u64]) -> Result<Self> {
        if width == 0 || words.len() != rows * row_words(width) {
            return Err(invalid("BitColumn::public", width, rows, words.len()));
        }
        let planes = bits::to_planes(words, rows, width);
        let zero = vec![0; planes.len()];
        Ok(match role {
            Role::P0 => Self::make(width, rows, planes, zero),
            Role::P1 => Self::make(width, rows, zero.clone(), zero),
            Role::P2 => Self::make(width, rows, zero, planes),
        })
    }

    /// A sharing of zeros.
    #[must_use]
    pub fn zeros(width: usize, rows: usize) -> Self {
        let words = width * plane_words(rows);
        Self::make(width, rows, vec![0; words], vec![0; words])
    }

    /// A sharing of `width` ones a row; with width 1, the flag `true`.
    #[must_use]
    pub fn ones(role: Role, width: usize, rows: usize) -> Self {
        Self::zeros(width, rows).not(role)
    }

    /// Bits a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// My components `x_i` and `x_{i+1}`, as planes. Bits past the last row are undefined.
    #[must_use]
    pub fn components(&self) -> (&[u64], &[u64]) {
        (&self.a, &self.b)
    }

    /// My components as row-major words.
    #[must_use]
    pub fn to_row_words(&self) -> (Vec<u64>, Vec<u64>) {
        (
            bits::to_rows(&self.a, self.rows, self.width),
            bits::to_rows(&self.b, self.rows, self.width),
        )
    }

    /// Words a plane.
    pub(crate) fn words(&self) -> usize {
        plane_words(self.rows)
    }

    /// Bit-wise XOR of equal shapes. Local.
    #[must_use]
    pub fn xor(&self, other: &Self) -> Self {
        debug_assert_eq!((self.width, self.rows), (other.width, other.rows));
        let run = |x: &[u64], y: &[u64]| x.iter().zip(y).map(|(x, y)| x ^ y).collect();
        Self::make(
            self.width,
            self.rows,
            run(&self.a, &other.a),
            run(&self.b, &other.b),
        )
    }

    /// Bit-wise complement. Local.
    #[must_use]
    pub fn not(mut self, role: Role) -> Self {
        match role {
            Role::P0 => self.a.iter_mut().for_each(|x| *x = !*x),
            Role::P1 => {}
            Role::P2 => self.b.iter_mut().for_each(|x| *x = !*x),
        }
        self
    }

    /// XOR with a public constant of `width` bits, in every row. Local.
    #[must_use]
    pub fn xor_public(mut self, role: Role, constant: &[u64]) -> Self {
        let words = self.words();
        let component = match role {
            Role::P0 => &mut self.a,
            Role::P1 => return self,
            Role::P2 => &mut self.b,
        };
        for (bit, plane) in component.chunks_exact_mut(words.max(1)).enumerate() {
            if constant.get(bit / 64).copied().unwrap_or(0) >> (bit % 64) & 1 == 1 {
                plane.iter_mut().for_each(|x| *x = !*x);
            }
        }
        self
    }

    /// Bits `from..from + count` of every row. Local.
    #[must_use]
    pub fn bit_range(&self, from: usize, count: usize) -> Self {
        let words = self.words();
        let range = from * words..(from + count) * words;
        Self::make(
            count,
            self.rows,
            self.a[range.clone()].to_vec(),
            self.b[range].to_vec(),
        )
    }

    /// Wider rows: zero bits on top, or copies of the highest bit where `signed`. Local.
    #[must_use]
    pub fn extended(&self, width: usize, signed: bool) -> Self {
        let words = self.words();
        let top = (self.width - 1) * words;
        let grow = |planes: &[u64]| {
            let mut out = planes.to_vec();
            for _ in self.width..width {
                if signed {
                    out.extend_from_slice(&planes[top..]);
                } else {
                    out.resize(out.len() + words, 0);
                }
            }
            out
        };
        let width = width.max(self.width);
        Self::make(width, self.rows, grow(&self.a), grow(&self.b))
    }

    /// A flag times public words: `width` bits, those of `words` where the flag is set. Local.
    #[must_use]
    pub fn times_public(&self, width: usize, words: &[u64]) -> Self {
        debug_assert_eq!(self.width, 1);
        let spread = |plane: &[u64]| {
            let mut out = Vec::with_capacity(width * plane.len());
            for bit in 0..width {
                let set = words.get(bit / 64).copied().unwrap_or(0) >> (bit % 64) & 1;
                let mask = 0_u64.wrapping_sub(set);
                out.extend(plane.iter().map(|word| word & mask));
            }
            out
        };
        Self::make(width, self.rows, spread(&self.a), spread(&self.b))
    }

    /// A flag in each of `width` bits. Local.
    #[must_use]
    pub fn wide(&self, width: usize) -> Self {
        debug_assert_eq!(self.width, 1);
        Self::make(width, self.rows, self.a.repeat(width), self.b.repeat(width))
    }

    /// One row's bits in each of `rows` rows. Local.
    #[must_use]
    pub fn repeated(&self, rows: usize) -> Self {
        debug_assert_eq!(self.rows, 1);
        let words = plane_words(rows);
        let spread = |planes: &[u64]| {
            let bits = planes.iter().map(|word| 0_u64.wrapping_sub(word & 1));
            bits.flat_map(|bit| std::iter::repeat_n(bit, words))
                .collect()
        };
        Self::make(self.width, rows, spread(&self.a), spread(&self.b))
    }

    /// Rows concatenated bit by bit, the first column lowest: width is the sum of widths. Local.
    ///
    /// # Errors
    /// `InvalidInput` when there is no column or their rows differ.
    pub fn concat(columns: &[&Self]) -> Result<Self> {
        let rows = columns.first().map_or(0, |c| c.rows);
        if columns.is_empty() || columns.iter().any(|c| c.rows != rows) {
            return Err(invalid("BitColumn::concat", columns.len(), rows, 0));
        }
        let join =
            |f: fn(&Self) -> &Vec<u64>| columns.iter().flat_map(|c| f(c).iter().copied()).collect();
        Ok(Self::make(
            columns.iter().map(|c| c.width).sum(),
            rows,
            join(|c| &c.a),
            join(|c| &c.b),
        ))
    }

    /// Rows `from..from + count`. Local.
    #[must_use]
    pub fn slice(&self, from: usize, count: usize) -> Self {
        let mut out = Self::zeros(self.width, count);
        out.put(0, self, from, count);
        out
    }

    /// The first `rows` rows, zero rows added where there are fewer. Local.
    #[must_use]
    pub fn resized(&self, rows: usize) -> Self {
        let mut out = Self::zeros(self.width, rows);
        out.put(0, self, 0, rows.min(self.rows));
        out
    }

    /// The rows of `self`, then those of `other` (of equal width). Local.
    #[must_use]
    pub fn followed_by(&self, other: &Self) -> Self {
        let mut out = self.resized(self.rows + other.rows);
        out.put(self.rows, other, 0, other.rows);
        out
    }

    /// The rows of all columns, of one width, one after the other. Local.
    #[must_use]
    pub(crate) fn stacked(columns: &[Self]) -> Self {
        let rows = columns.iter().map(|c| c.rows).sum();
        let width = columns.first().map_or(1, |c| c.width);
        let mut out = Self::zeros(width, rows);
        let mut at = 0;
        for column in columns {
            out.put(at, column, 0, column.rows);
            at += column.rows;
        }
        out
    }

    /// Row `r` of the result is row `r - 1`; row 0 is zero. Local.
    #[must_use]
    pub fn shifted_up(&self) -> Self {
        self.each_plane(bits::shift_rows_up)
    }

    /// Row `r` of the result is row `r + 1`; the last row is zero. Local.
    #[must_use]
    pub fn shifted_down(&self) -> Self {
        let mut out = self.each_plane(bits::shift_rows_down);
        if self.rows > 0 {
            let last = (self.rows - 1) / 64;
            let keep = !(1 << ((self.rows - 1) % 64));
            let words = self.words();
            for component in [&mut out.a, &mut out.b] {
                for plane in component.chunks_exact_mut(words) {
                    plane[last] &= keep;
                }
            }
        }
        out
    }

    /// The running XOR: row `r` is the XOR of rows `0..=r`. Local.
    #[must_use]
    pub fn prefix_xor(&self) -> Self {
        self.each_plane(|source, target| {
            let mut carry = 0;
            for (t, &word) in target.iter_mut().zip(source) {
                let mut x = word;
                for shift in [1, 2, 4, 8, 16, 32] {
                    x ^= x << shift;
                }
                *t = x ^ carry;
                carry = 0_u64.wrapping_sub(*t >> 63);
            }
        })
    }

    /// Row `r` XOR row `r - 1`; row 0 stays. The inverse of [`Self::prefix_xor`]. Local.
    #[must_use]
    pub fn differences(&self) -> Self {
        self.xor(&self.shifted_up())
    }

    /// Rows 0, 2, 4, ... and rows 1, 3, 5, ... Local.
    #[must_use]
    pub fn split(&self) -> (Self, Self) {
        let mut even = Self::zeros(self.width, self.rows.div_ceil(2));
        let mut odd = Self::zeros(self.width, self.rows / 2);
        let (words, evens, odds) = (self.words().max(1), even.words().max(1), odd.words());
        for (source, even, odd) in [
            (&self.a, &mut even.a, &mut odd.a),
            (&self.b, &mut even.b, &mut odd.b),
        ] {
            for (plane, source) in source.chunks_exact(words).enumerate() {
                bits::split_rows(
                    source,
                    &mut even[plane * evens..(plane + 1) * evens],
                    &mut odd[plane * odds..(plane + 1) * odds],
                );
            }
        }
        (even, odd)
    }

    /// The inverse of [`Self::split`]: `even` has as many rows as `odd`, or one more. Local.
    #[must_use]
    pub fn interleaved(even: &Self, odd: &Self) -> Self {
        debug_assert!(even.rows == odd.rows || even.rows == odd.rows + 1);
        let mut out = Self::zeros(even.width, even.rows + odd.rows);
        let (words, evens, odds) = (out.words().max(1), even.words(), odd.words());
        for (target, even, odd) in [(&mut out.a, &even.a, &odd.a), (&mut out.b, &even.b, &odd.b)] {
            for (plane, target) in target.chunks_exact_mut(words).enumerate() {
                bits::interleave_rows(
                    &even[plane * evens..(plane + 1) * evens],
                    &odd[plane * odds..(plane + 1) * odds],
                    target,
                );
            }
        }
        out
    }

    /// The rows in reverse order. Local.
    #[must_use]
    pub fn reversed(&self) -> Self {
        self.each_plane(|source, target| bits::reverse_rows(source, self.rows, target))
    }

    /// Row `j` of the result is row `index[j]`. Local; the index is public.
    #[must_use]
    pub(crate) fn gathered(&self, index: &[u32]) -> Self {
        let mut out = Self::zeros(self.width, index.len());
        let (mine, theirs) = (out.words().max(1), self.words().max(1));
        for (target, source) in [(&mut out.a, &self.a), (&mut out.b, &self.b)] {
            for (target, source) in target
                .chunks_exact_mut(mine)
                .zip(source.chunks_exact(theirs))
            {
                for (word, index) in target.iter_mut().zip(index.chunks(64)) {
                    *word = index.iter().enumerate().fold(0, |word, (bit, &i)| {
                        word | (source[i as usize / 64] >> (i % 64) & 1) << bit
                    });
                }
            }
        }
        out
    }

    /// The same with row 0 set to a sharing of zero. Local.
    #[must_use]
    pub(crate) fn with_first_row_zero(mut self) -> Self {
        let words = self.words().max(1);
        for component in [&mut self.a, &mut self.b] {
            for plane in component.chunks_exact_mut(words) {
                plane[0] &= !1;
            }
        }
        self
    }

    /// Copies `count` rows of `source`, from row `from`, to my rows from `at`. Local.
    fn put(&mut self, at: usize, source: &Self, from: usize, count: usize) {
        if count == 0 {
            return;
        }
        let (mine, theirs) = (self.words(), source.words());
        for (target, source) in [(&mut self.a, &source.a), (&mut self.b, &source.b)] {
            for (t, s) in target
                .chunks_exact_mut(mine)
                .zip(source.chunks_exact(theirs))
            {
                copy_rows(s, from, t, at, count);
            }
        }
    }

    fn each_plane(&self, f: impl Fn(&[u64], &mut [u64])) -> Self {
        let mut out = Self::zeros(self.width, self.rows);
        let words = self.words().max(1);
        for (target, source) in [(&mut out.a, &self.a), (&mut out.b, &self.b)] {
            for (t, s) in target
                .chunks_exact_mut(words)
                .zip(source.chunks_exact(words))
            {
                f(s, t);
            }
        }
        out
    }
}

fn invalid(operator: &'static str, width: usize, rows: usize, got: usize) -> Error {
    Error::InvalidInput {
        operator,
        what: format!("width {width}, {rows} rows, {got} words"),
    }
}
