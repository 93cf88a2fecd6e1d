//! Columns by rows, as their owner has them in the clear. Knows nothing of parties.

use super::component::Component;
use crate::bits::{plane_words, row_words, to_planes, to_rows};
use crate::error::{Error, Result};
use crate::net::{Link, Participant, Step};
use crate::prss::Stream;
use std::fmt;
use zerocopy::IntoBytes;

/// The widest bit column.
pub const MAX_WIDTH: usize = 256;

/// The public shape of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnKind {
    /// `width` bits a row (1 to 256), shared by XOR.
    Bits {
        /// Bits a row.
        width: usize,
    },
    /// One element of Z_2^64 a row.
    Arith64,
    /// One element of Z_2^128 a row.
    Arith128,
}

impl ColumnKind {
    /// Bytes that `rows` rows take on the wire. Bits travel as planes: `width` bits a row, rounded
    /// up to 64 rows.
    #[must_use]
    pub fn wire_bytes(self, rows: usize) -> usize {
        match self {
            Self::Bits { width } => width * plane_words(rows) * 8,
            Self::Arith64 => rows * 8,
            Self::Arith128 => rows * 16,
        }
    }

    /// # Errors
    /// `InvalidInput` for a width outside 1 to 256.
    pub(crate) fn check(self, operator: &'static str) -> Result<()> {
        match self {
            Self::Bits { width } if !(1..=MAX_WIDTH).contains(&width) => Err(Error::InvalidInput {
                operator,
                what: format!("a bit column of width {width}"),
            }),
            _ => Ok(()),
        }
    }
}

/// A column in the clear. `Debug` shows its shape alone.
#[derive(Clone, PartialEq, Eq)]
pub enum ClearColumn {
    /// Row-major, `ceil(width / 64)` words a row, lowest word first; bits from `width` on are zero.
    Bits {
        /// Bits a row, 1 to 256.
        width: usize,
        /// `rows * ceil(width / 64)` words.
        words: Vec<u64>,
    },
    /// Elements of Z_2^64; signed numbers as two's complement.
    Arith64(Vec<u64>),
    /// Elements of Z_2^128; signed numbers as two's complement.
    Arith128(Vec<u128>),
}

impl fmt::Debug for ClearColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClearColumn({:?}, {} rows)", self.kind(), self.rows())
    }
}

impl ClearColumn {
    /// Its public shape.
    #[must_use]
    pub fn kind(&self) -> ColumnKind {
        match self {
            Self::Bits { width, .. } => ColumnKind::Bits { width: *width },
            Self::Arith64(_) => ColumnKind::Arith64,
            Self::Arith128(_) => ColumnKind::Arith128,
        }
    }

    /// Rows; 0 for a bit column of width 0, which nothing accepts.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::Bits { width, words } => words.len().checked_div(row_words(*width)).unwrap_or(0),
            Self::Arith64(words) => words.len(),
            Self::Arith128(words) => words.len(),
        }
    }

    /// Checks that this is a column of `kind` with `rows` rows and no bits past its width.
    ///
    /// # Errors
    /// `InvalidInput` saying what differs.
    pub(crate) fn check(
        &self,
        operator: &'static str,
        kind: ColumnKind,
        rows: usize,
    ) -> Result<()> {
        let wrong = |what: String| Err(Error::InvalidInput { operator, what });
        self.kind().check(operator)?;
        if self.kind() != kind || self.rows() != rows {
            return wrong(format!(
                "a column of {:?} with {} rows where {kind:?} with {rows} rows was declared",
                self.kind(),
                self.rows()
            ));
        }
        if let Self::Bits { width, words } = self {
            let stride = row_words(*width);
            let above = match width % 64 {
                0 => 0,
                bits => u64::MAX << bits,
            };
            let whole = words.len() == rows * stride;
            let excess = words
                .chunks_exact(stride)
                .any(|row| row[stride - 1] & above != 0);
            if !whole || excess {
                return wrong(format!("words that are not rows of {width} bits"));
            }
        }
        Ok(())
    }

    /// No rows yet, room for `rows`.
    pub(crate) fn with_capacity(kind: ColumnKind, rows: usize) -> Self {
        match kind {
            ColumnKind::Bits { width } => Self::Bits {
                width,
                words: Vec::with_capacity(rows * row_words(width)),
            },
            ColumnKind::Arith64 => Self::Arith64(Vec::with_capacity(rows)),
            ColumnKind::Arith128 => Self::Arith128(Vec::with_capacity(rows)),
        }
    }

    /// Appends random rows: those of [`Component::random`].
    pub(crate) fn append_random(&mut self, rows: usize, stream: &mut Stream) {
        match self {
            Self::Bits { width, words } => {
                let planes = stream.words(*width * plane_words(rows));
                words.extend_from_slice(&to_rows(&planes, rows, *width));
            }
            Self::Arith64(words) => stream.fill(tail(words, rows)),
            Self::Arith128(words) => stream.fill(tail(words, rows)),
        }
    }

    /// Appends rows that arrive as one frame, as [`Component`] has them. Any bytes of the right
    /// length are rows.
    pub(crate) fn append_received(
        &mut self,
        rows: usize,
        link: &mut dyn Link,
        from: Participant,
        step: &Step,
    ) -> Result<()> {
        match self {
            Self::Bits { width, words } => {
                let mut planes = vec![0_u64; *width * plane_words(rows)];
                link.recv_into(from, step, planes.as_mut_bytes())?;
                words.extend_from_slice(&to_rows(&planes, rows, *width));
                Ok(())
            }
            Self::Arith64(words) => link.recv_into(from, step, tail(words, rows).as_mut_bytes()),
            Self::Arith128(words) => link.recv_into(from, step, tail(words, rows).as_mut_bytes()),
        }
    }

    /// The same values as group elements.
    pub(crate) fn into_component(self) -> Component {
        let rows = self.rows();
        match self {
            Self::Bits { width, words } => Component::Bits {
                width,
                rows,
                planes: to_planes(&words, rows, width),
            },
            Self::Arith64(words) => Component::Arith64(words),
            Self::Arith128(words) => Component::Arith128(words),
        }
    }

    /// The rows at `positions`, in that order. A position past the last row gives zero: this is how
    /// padding rows get their payload.
    pub(crate) fn gather(&self, positions: &[u32]) -> Self {
        match self {
            Self::Bits { width, words } => {
                let stride = row_words(*width);
                let words = if stride == 1 {
                    gather(words, positions)
                } else {
                    let mut out = vec![0; positions.len() * stride];
                    for (row, &position) in out.chunks_exact_mut(stride).zip(positions) {
                        let from = position as usize * stride;
                        if let Some(source) = words.get(from..from + stride) {
                            row.copy_from_slice(source);
                        }
                    }
                    out
                };
                Self::Bits {
                    width: *width,
                    words,
                }
            }
            Self::Arith64(words) => Self::Arith64(gather(words, positions)),
            Self::Arith128(words) => Self::Arith128(gather(words, positions)),
        }
    }
}

/// `rows` new elements at the end.
fn tail<T: Copy + Default>(words: &mut Vec<T>, rows: usize) -> &mut [T] {
    let before = words.len();
    words.resize(before + rows, T::default());
    &mut words[before..]
}

fn gather<T: Copy + Default>(words: &[T], positions: &[u32]) -> Vec<T> {
    positions
        .iter()
        .map(|&position| words.get(position as usize).copied().unwrap_or_default())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::memory::network;

    const KINDS: [ColumnKind; 6] = [
        ColumnKind::Bits { width: 1 },
        ColumnKind::Bits { width: 5 },
        ColumnKind::Bits { width: 64 },
        ColumnKind::Bits { width: 200 },
        ColumnKind::Arith64,
        ColumnKind::Arith128,
    ];

    #[test]
    fn rows_and_components_agree() {
        let step = Step::new("c");
        for kind in KINDS {
            for rows in [0, 1, 63, 64, 65, 1000] {
                let component = Component::random(kind, rows, &mut Stream::new(&[3; 16]));
                let mut column = ClearColumn::with_capacity(kind, rows);
                column.append_random(rows, &mut Stream::new(&[3; 16]));
                column.check("test", kind, rows).unwrap();
                let mut links = network(2);
                links[0]
                    .send(Participant(1), &step, component.as_bytes())
                    .unwrap();
                let mut received = ClearColumn::with_capacity(kind, rows);
                received
                    .append_received(rows, &mut links[1], Participant(0), &step)
                    .unwrap();
                assert!(received == column);
                // The same but for bits past the last row.
                let mut difference = column.clone().into_component();
                difference.sub(&component);
                let mut rest = ClearColumn::with_capacity(kind, rows);
                links[0]
                    .send(Participant(1), &step, difference.as_bytes())
                    .unwrap();
                rest.append_received(rows, &mut links[1], Participant(0), &step)
                    .unwrap();
                let none = column.gather(&vec![u32::MAX; rows]);
                assert!(rest == none);
                let order: Vec<u32> = (0..rows as u32).rev().collect();
                assert!(column.gather(&order).gather(&order) == column);
            }
        }
    }

    #[test]
    fn shapes_are_checked_and_debug_is_redacted() {
        let bits = |width, words| ClearColumn::Bits { width, words };
        let kind = ColumnKind::Bits { width: 5 };
        assert!(bits(5, vec![31, 0]).check("test", kind, 2).is_ok());
        assert!(bits(5, vec![32, 0]).check("test", kind, 2).is_err());
        assert!(bits(5, vec![1]).check("test", kind, 2).is_err());
        assert!(bits(6, vec![1, 1]).check("test", kind, 2).is_err());
        let wide = ColumnKind::Bits { width: 300 };
        assert!(bits(300, vec![0; 5]).check("test", wide, 1).is_err());
        assert!(
            bits(0, vec![])
                .check("test", ColumnKind::Bits { width: 0 }, 0)
                .is_err()
        );
        let odd = ColumnKind::Bits { width: 100 };
        assert!(bits(100, vec![0; 5]).check("test", odd, 2).is_err());
        let shown = format!("{:?}", ClearColumn::Arith64(vec![424_242]));
        assert!(!shown.contains("424242"));
    }
}
