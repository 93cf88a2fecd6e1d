//! Shared tables: columns of one length and a validity bit per row. Knows nothing of SQL types or
//! names; the caller keeps what a column means.

use crate::context::Context;
use crate::error::{Error, Result};
use crate::net::Step;
use crate::ring::Ring;
use crate::share::{Arith, BitColumn};

/// A shared column.
#[derive(Debug, Clone)]
pub enum Column {
    /// XOR-shared bit strings, 1 to 256 bits a row: keys, codes, flags, null bits.
    Bits(BitColumn),
    /// Additively shared numbers modulo 2^64.
    Arith64(Arith<u64>),
    /// Additively shared numbers modulo 2^128.
    Arith128(Arith<u128>),
}

impl Column {
    /// How many rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::Bits(c) => c.rows(),
            Self::Arith64(c) => c.rows(),
            Self::Arith128(c) => c.rows(),
        }
    }

    /// Memory that both components take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let words = match self {
            Self::Bits(c) => c.width() * c.rows().div_ceil(64),
            Self::Arith64(c) => c.rows(),
            Self::Arith128(c) => 2 * c.rows(),
        };
        16 * words as u64
    }

    /// The running sums (XOR for bits). Local.
    #[must_use]
    pub fn prefix_sums(&self) -> Self {
        match self {
            Self::Bits(c) => Self::Bits(c.prefix_xor()),
            Self::Arith64(c) => Self::Arith64(c.prefix_sums()),
            Self::Arith128(c) => Self::Arith128(c.prefix_sums()),
        }
    }

    /// Each row less the row before (XOR for bits). Local.
    #[must_use]
    pub fn differences(&self) -> Self {
        match self {
            Self::Bits(c) => Self::Bits(c.differences()),
            Self::Arith64(c) => Self::Arith64(c.differences()),
            Self::Arith128(c) => Self::Arith128(c.differences()),
        }
    }

    /// Rows `from..from + count`.
    #[must_use]
    pub fn slice(&self, from: usize, count: usize) -> Self {
        match self {
            Self::Bits(c) => Self::Bits(c.slice(from, count)),
            Self::Arith64(c) => Self::Arith64(c.slice(from, count)),
            Self::Arith128(c) => Self::Arith128(c.slice(from, count)),
        }
    }

    /// The rows of `self`, then those of `other`, a column of the same kind and width.
    ///
    /// # Errors
    /// `InvalidInput` naming the operator.
    pub fn followed_by(self, operator: &'static str, other: &Self) -> Result<Self> {
        match (self, other) {
            (Self::Bits(a), Self::Bits(b)) if a.width() == b.width() => {
                Ok(Self::Bits(a.followed_by(b)))
            }
            (Self::Arith64(a), Self::Arith64(b)) => Ok(Self::Arith64(a.followed_by(b))),
            (Self::Arith128(a), Self::Arith128(b)) => Ok(Self::Arith128(a.followed_by(b))),
            _ => Err(Error::InvalidInput {
                operator,
                what: "columns of different kinds".into(),
            }),
        }
    }

    /// The first row in each of `rows` rows. Local.
    ///
    /// # Errors
    /// `InvalidInput` for a column without rows.
    pub fn repeated(&self, rows: usize) -> Result<Self> {
        fn number<T: Ring>(x: &Arith<T>, rows: usize) -> Result<Arith<T>> {
            let (a, b) = x.components();
            let of = |words: &[T]| vec![words.first().copied().unwrap_or_default(); rows];
            Arith::from_components(of(a), of(b))
        }
        if self.rows() == 0 {
            return Err(Error::InvalidInput {
                operator: "repeated",
                what: "a column without rows".into(),
            });
        }
        Ok(match self {
            Self::Bits(c) => Self::Bits(c.slice(0, 1).repeated(rows)),
            Self::Arith64(c) => Self::Arith64(number(c, rows)?),
            Self::Arith128(c) => Self::Arith128(number(c, rows)?),
        })
    }

    /// The first `rows` rows, zero rows added where there are fewer.
    #[must_use]
    pub fn resized(self, rows: usize) -> Self {
        match self {
            Self::Bits(c) => Self::Bits(c.resized(rows)),
            Self::Arith64(c) => Self::Arith64(c.resized(rows)),
            Self::Arith128(c) => Self::Arith128(c.resized(rows)),
        }
    }
}

/// Shared columns and a validity bit per row: a row that is not valid is not there, whatever its
/// cells hold. This hides cardinality.
#[derive(Debug, Clone)]
pub struct SharedTable {
    /// The columns, all of `valid.rows()` rows.
    pub columns: Vec<Column>,
    /// Width 1.
    pub valid: BitColumn,
}

impl SharedTable {
    /// Rows, valid or not.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.valid.rows()
    }

    /// Memory that its shares take.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let columns = self.columns.iter().map(Column::bytes).sum::<u64>();
        columns + 16 * self.valid.words() as u64
    }

    /// Rows `from..from + count`.
    #[must_use]
    pub fn slice(&self, from: usize, count: usize) -> Self {
        Self {
            columns: self.columns.iter().map(|c| c.slice(from, count)).collect(),
            valid: self.valid.slice(from, count),
        }
    }

    /// The rows of `self`, then those of `other`, a table of the same shape: UNION ALL. Local.
    ///
    /// # Errors
    /// `InvalidInput` naming the operator.
    pub fn followed_by(self, operator: &'static str, other: &Self) -> Result<Self> {
        if self.columns.len() != other.columns.len() {
            return Err(Error::InvalidInput {
                operator,
                what: format!(
                    "{} columns and {} columns",
                    self.columns.len(),
                    other.columns.len()
                ),
            });
        }
        Ok(Self {
            valid: self.valid.followed_by(&other.valid),
            columns: self
                .columns
                .into_iter()
                .zip(&other.columns)
                .map(|(a, b)| a.followed_by(operator, b))
                .collect::<Result<_>>()?,
        })
    }

    /// The rows of `left` beside those of `right`, every pair, row after row of `right`. Local.
    ///
    /// # Errors
    /// `InvalidInput` for columns of different lengths.
    pub fn every_pair(left: &Self, right: &Self) -> Result<(Self, Self)> {
        let (rows, few) = (left.rows(), right.rows());
        if few == 0 {
            return Ok((left.slice(0, 0), right.clone()));
        }
        let mut each = Vec::with_capacity(few);
        for row in 0..few {
            let one = right.slice(row, 1);
            let columns = one.columns.iter().map(|column| column.repeated(rows));
            each.push(Self {
                columns: columns.collect::<Result<_>>()?,
                valid: one.valid.repeated(rows),
            });
        }
        Ok((
            Self::one_after_another(vec![left.clone(); few])?,
            Self::one_after_another(each)?,
        ))
    }

    /// Neighbours first, so that a row is copied a logarithmic number of times.
    fn one_after_another(mut tables: Vec<Self>) -> Result<Self> {
        while tables.len() > 1 {
            let mut halved = Vec::with_capacity(tables.len().div_ceil(2));
            let mut rest = tables.into_iter();
            while let Some(first) = rest.next() {
                halved.push(match rest.next() {
                    Some(second) => first.followed_by("every_pair", &second)?,
                    None => first,
                });
            }
            tables = halved;
        }
        tables.pop().ok_or_else(|| Error::InvalidInput {
            operator: "every_pair",
            what: "no table".into(),
        })
    }

    /// Checks that all columns have one length and the validity bit is one bit.
    ///
    /// # Errors
    /// `InvalidInput` naming the operator.
    pub fn check(&self, operator: &'static str) -> Result<()> {
        let rows = self.rows();
        if self.valid.width() != 1 || self.columns.iter().any(|c| c.rows() != rows) {
            return Err(Error::InvalidInput {
                operator,
                what: format!("a table of {rows} rows has columns of other lengths"),
            });
        }
        Ok(())
    }

    /// Column `index` as bits.
    ///
    /// # Errors
    /// `InvalidInput` when there is no such column or it is arithmetic.
    pub fn bits(&self, operator: &'static str, index: usize) -> Result<&BitColumn> {
        match self.columns.get(index) {
            Some(Column::Bits(c)) => Ok(c),
            _ => Err(Error::InvalidInput {
                operator,
                what: format!("column {index} is not a bit column"),
            }),
        }
    }

    /// The table with every cell of an invalid row set to zero. Operators leave garbage in such
    /// rows (other rows' cells); whatever is released must go through here first.
    ///
    /// # Errors
    /// Those of the link.
    pub fn clear_invalid(&self, ctx: &mut Context, step: &Step) -> Result<Self> {
        crate::circuit::clear_rows(ctx, step, self)
    }
}
