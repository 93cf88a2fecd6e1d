//! From an owner's clear result to clear columns in the forms that enter, padded to the public size.

use super::keys::{CommonKeys, Purpose};
use super::layout::{Form, Kind, Place, encoding, key_of, kind};
use super::seeds::Seeds;
use crate::error::{Code, Error, Result};
use crate::local::encode::{EncodedFragment, Values};
use crate::plan::program::CHUNK_BYTES;
use crate::plan::{Encoding, FragmentIndex, JointPlan};
use veilgate_mpc::input::{ClearColumn, ColumnKind};
use veilgate_mpc::psi::tag::Tagger;

/// The shape in which a form is shared.
pub(super) fn column_kind(kind: Kind) -> ColumnKind {
    match kind {
        Kind::Bits(width) => ColumnKind::Bits {
            width: width as usize,
        },
        Kind::Ring64 => ColumnKind::Arith64,
        Kind::Ring128 => ColumnKind::Arith128,
    }
}

/// One of my fragments, while its columns are made.
pub(super) struct Source<'a> {
    pub(super) plan: &'a JointPlan,
    pub(super) fragment: FragmentIndex,
    pub(super) encoded: &'a EncodedFragment,
    pub(super) keys: &'a CommonKeys,
    pub(super) seeds: &'a Seeds,
}

impl Source<'_> {
    /// One form of one column, as many rows as the fragment has.
    pub(super) fn column(&self, (at, form): Place) -> Result<ClearColumn> {
        let encoded = self.encoded.columns.get(at.column).ok_or_else(missing)?;
        let due = kind(self.plan, (at, form))?;
        Ok(match (form, &encoded.values, due) {
            (Form::Null, _, _) => {
                let nulls = (0..self.encoded.rows).map(|row| u64::from(encoded.is_null(row)));
                ClearColumn::Bits {
                    width: 1,
                    words: nulls.collect(),
                }
            }
            (Form::Value, Values::Keys(_), Kind::Bits(width)) => {
                tag_column(&self.tags(at.column, "")?, width)
            }
            (Form::Value, Values::Ring64(words), Kind::Ring64) => {
                ClearColumn::Arith64(words.clone())
            }
            (Form::Value, Values::Ring128(words), Kind::Ring128) => {
                ClearColumn::Arith128(words.clone())
            }
            (Form::Value, Values::Bits { width, words }, Kind::Bits(due)) if *width == due => {
                ClearColumn::Bits {
                    width: due as usize,
                    words: words.clone(),
                }
            }
            (Form::Chunk(part), Values::Bits { width, words }, Kind::Bits(due)) => {
                chunk(words, *width, usize::from(part), due)
            }
            // Counts are not negative.
            (Form::Lifted, Values::Ring64(words), Kind::Ring128) => {
                ClearColumn::Arith128(words.iter().map(|&word| u128::from(word)).collect())
            }
            _ => return Err(missing()),
        })
    }

    /// The tag of every row: of the key that begins at this column, or of the unit in it. Tags of
    /// different scopes are independent.
    pub(super) fn tags(&self, column: usize, scope: &str) -> Result<Vec<u128>> {
        let at = crate::plan::ColumnRef {
            fragment: self.fragment,
            column,
        };
        let fragment = self.plan.fragments.get(self.fragment).ok_or_else(missing)?;
        let (first, count) = key_of(fragment, column);
        let tagger = match encoding(self.plan, at)? {
            Encoding::KeyTag { class, .. } => {
                let key = self.keys.get(&Purpose::Tags(*class)).ok_or_else(missing)?;
                Tagger::new(key, &format!("{scope}key/{class}"))
            }
            // Nobody else needs to compute these.
            Encoding::UnitTag { .. } => {
                let label = format!("unit tags/{}/{column}", self.fragment);
                Tagger::new(&*self.seeds.own(&label)?, "unit")
            }
            _ => return Err(missing()),
        };
        let _ = count;
        let keys = match self.encoded.columns.get(first).map(|column| &column.values) {
            Some(Values::Keys(keys)) => keys,
            _ => return Err(missing()),
        };
        Ok(tagger.tags(self.encoded.rows, |row, writer| {
            writer.column(keys.row(row))
        }))
    }
}

/// Part `part` of every row's bits.
fn chunk(words: &[u64], width: u32, part: usize, due: u32) -> ClearColumn {
    let (stride, per_row) = (width.div_ceil(64) as usize, due.div_ceil(64) as usize);
    let from = part * 8 * CHUNK_BYTES as usize;
    let mut made = Vec::with_capacity(words.len() / stride.max(1) * per_row);
    for row in words.chunks_exact(stride.max(1)) {
        for word in 0..per_row {
            let bit = from + 64 * word;
            let (at, shift) = (bit / 64, bit % 64);
            let low = row.get(at).copied().unwrap_or(0) >> shift;
            let high = match shift {
                0 => 0,
                _ => row.get(at + 1).copied().unwrap_or(0) << (64 - shift),
            };
            let left = due as usize - 64 * word;
            let mask = if left >= 64 {
                u64::MAX
            } else {
                (1 << left) - 1
            };
            made.push((low | high) & mask);
        }
    }
    ClearColumn::Bits {
        width: due as usize,
        words: made,
    }
}

/// The low bits of tags, as rows of bits.
fn tag_column(tags: &[u128], width: u32) -> ClearColumn {
    let per_row = width.div_ceil(64) as usize;
    let mask = u128::MAX >> (128 - width.clamp(1, 128));
    let mut words = Vec::with_capacity(tags.len() * per_row);
    for tag in tags {
        let kept = tag & mask;
        #[allow(clippy::cast_possible_truncation)] // halves
        words.extend_from_slice(&[kept as u64, (kept >> 64) as u64][..per_row]);
    }
    ClearColumn::Bits {
        width: width as usize,
        words,
    }
}

/// Puts rows in ascending order of the bit column `key`.
pub(super) fn sort(columns: &mut [ClearColumn], key: usize) {
    let Some(ClearColumn::Bits { width, words }) = columns.get(key) else {
        return;
    };
    let per_row = width.div_ceil(64);
    let rows = words.len() / per_row.max(1);
    let of = |row: usize| &words[row * per_row..(row + 1) * per_row];
    let mut order: Vec<usize> = (0..rows).collect();
    order.sort_unstable_by(|&i, &j| of(i).iter().rev().cmp(of(j).iter().rev()));
    for column in columns {
        match column {
            ClearColumn::Bits { width, words } => {
                let per_row = width.div_ceil(64);
                let of = |row: usize| &words[row * per_row..(row + 1) * per_row];
                *words = order.iter().flat_map(|&row| of(row)).copied().collect();
            }
            ClearColumn::Arith64(values) => {
                *values = order.iter().map(|&row| values[row]).collect();
            }
            ClearColumn::Arith128(values) => {
                *values = order.iter().map(|&row| values[row]).collect();
            }
        }
    }
}

/// The column with rows appended: zeros, or ones so that they come `last` in ascending order.
pub(super) fn pad(column: &mut ClearColumn, rows: usize, last: bool) {
    match column {
        ClearColumn::Bits { width, words } => {
            let per_row = width.div_ceil(64);
            let ones = match *width % 64 {
                0 => u64::MAX,
                bits => (1 << bits) - 1,
            };
            while words.len() < rows * per_row {
                let top = (words.len() + 1).is_multiple_of(per_row);
                words.push(match (last, top) {
                    (false, _) => 0,
                    (true, false) => u64::MAX,
                    (true, true) => ones,
                });
            }
        }
        ClearColumn::Arith64(words) => words.resize(rows, 0),
        ClearColumn::Arith128(words) => words.resize(rows, 0),
    }
}

/// One bit a row: set for the first `rows`.
pub(super) fn validity(rows: usize, padded: usize) -> ClearColumn {
    let mut words = vec![1; rows];
    words.resize(padded, 0);
    ClearColumn::Bits { width: 1, words }
}

fn missing() -> Error {
    Error::new(
        Code::Internal,
        "a fragment's result is not in the form that the plan names",
    )
}
