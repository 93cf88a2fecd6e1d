//! The end of a run: each computing party hands its final share to the result party, who alone puts
//! the table together. The result party need not be a computing party.
//!
//! `P_i` sends its first component of every column, and a hash of its second, which `P_{i+1}` sends as
//! first: one lying party is noticed. Whether anything may be released at all is decided by the
//! caller, before; cells of invalid rows must have been cleared
//! ([`SharedTable::clear_invalid`](crate::table::SharedTable::clear_invalid)).
//!
//! Message: role (1 byte), rows (u64), number of columns (u32), each column's kind (0 bits, 1 u64,
//! 2 u128) and width (u32), the hash (32 bytes), the components in column order and the validity bit
//! last, all little-endian; bit columns as row-major words.

use crate::bits::row_words;
use crate::error::{Error, Result};
use crate::input::ClearColumn;
use crate::ring::Word;
use crate::share::{BitColumn, Role};
use crate::table::{Column, SharedTable};

/// A table in the clear, at the result party.
#[derive(Clone, PartialEq, Eq)]
pub struct ClearTable {
    /// The columns.
    pub columns: Vec<ClearColumn>,
    /// Whether each row is there.
    pub valid: Vec<bool>,
}

impl std::fmt::Debug for ClearTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClearTable({} rows, redacted)", self.valid.len())
    }
}

/// My share of the result, for the result party only.
#[must_use]
pub fn final_share(role: Role, table: &SharedTable) -> Vec<u8> {
    let mut first = Vec::new();
    let mut second = Vec::new();
    for column in &table.columns {
        components(column, &mut first, &mut second);
    }
    bit_components(&table.valid, &mut first, &mut second);
    let mut out = header(role, table);
    out.extend_from_slice(blake3::hash(&second).as_bytes());
    out.extend_from_slice(&first);
    out
}

/// Puts the final shares of P0, P1 and P2 together.
///
/// # Errors
/// `InvalidInput` naming the role whose share has another shape, or whose component differs from what
/// its second holder vouches for.
pub fn reconstruct(shares: [&[u8]; 3]) -> Result<ClearTable> {
    let parsed = [
        parse(shares[0], 0)?,
        parse(shares[1], 1)?,
        parse(shares[2], 2)?,
    ];
    for i in 0..3 {
        let next = (i + 1) % 3;
        if parsed[i].shape != parsed[next].shape {
            return Err(refused(format!(
                "the shares of P{i} and P{next} differ in shape"
            )));
        }
        if blake3::hash(parsed[next].components).as_bytes() != parsed[i].vouched {
            return Err(refused(format!(
                "the share of P{next} is not what P{i} vouches for"
            )));
        }
    }
    let shape = &parsed[0].shape;
    let mut at = 0;
    let mut take = |bytes: usize| {
        at += bytes;
        [0, 1, 2].map(|i| &parsed[i].components[at - bytes..at])
    };
    let mut columns = Vec::with_capacity(shape.kinds.len());
    for &(kind, width) in &shape.kinds {
        columns.push(match kind {
            0 => ClearColumn::Bits {
                width,
                words: sum(take(shape.rows * row_words(width) * 8), |a, b| a ^ b),
            },
            1 => ClearColumn::Arith64(sum(take(shape.rows * 8), u64::wrapping_add)),
            _ => ClearColumn::Arith128(sum(take(shape.rows * 16), u128::wrapping_add)),
        });
    }
    let valid: Vec<u64> = sum(take(shape.rows * 8), |a: u64, b| a ^ b);
    Ok(ClearTable {
        columns,
        valid: valid.into_iter().map(|v| v & 1 == 1).collect(),
    })
}

#[derive(PartialEq, Eq)]
struct Shape {
    rows: usize,
    kinds: Vec<(u8, usize)>,
}

struct Parsed<'b> {
    shape: Shape,
    vouched: &'b [u8],
    components: &'b [u8],
}

fn header(role: Role, table: &SharedTable) -> Vec<u8> {
    let mut out = vec![u8::try_from(role.index()).unwrap_or(u8::MAX)];
    out.extend_from_slice(&(table.rows() as u64).to_le_bytes());
    out.extend_from_slice(
        &u32::try_from(table.columns.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    );
    for column in &table.columns {
        let (kind, width) = match column {
            Column::Bits(c) => (0, c.width()),
            Column::Arith64(_) => (1, 64),
            Column::Arith128(_) => (2, 128),
        };
        out.push(kind);
        out.extend_from_slice(&u32::try_from(width).unwrap_or(u32::MAX).to_le_bytes());
    }
    out
}

fn parse(bytes: &[u8], role: usize) -> Result<Parsed<'_>> {
    let short = || refused(format!("the share of P{role} is malformed"));
    let mut rest = bytes;
    let mut take = |count: usize| -> Result<&[u8]> {
        let (head, tail) = rest.split_at_checked(count).ok_or_else(short)?;
        rest = tail;
        Ok(head)
    };
    if usize::from(take(1)?[0]) != role {
        return Err(short());
    }
    let number = |b: &[u8]| b.iter().rev().fold(0_u64, |n, &b| n << 8 | u64::from(b));
    let small = |n: u64| usize::try_from(n).map_err(|_| short());
    let rows = small(number(take(8)?))?;
    let count = small(number(take(4)?))?;
    let mut kinds = Vec::new();
    let mut due = rows.checked_mul(8).ok_or_else(short)?;
    for _ in 0..count {
        let kind = take(1)?[0];
        let width = small(number(take(4)?))?;
        let bytes = match (kind, width) {
            (0, 1..) => row_words(width) * 8,
            (1, 64) => 8,
            (2, 128) => 16,
            _ => return Err(short()),
        };
        due = rows
            .checked_mul(bytes)
            .and_then(|b| due.checked_add(b))
            .ok_or_else(short)?;
        kinds.push((kind, width));
    }
    let vouched = take(32)?;
    if rest.len() != due {
        return Err(short());
    }
    Ok(Parsed {
        shape: Shape { rows, kinds },
        vouched,
        components: rest,
    })
}

fn components(column: &Column, first: &mut Vec<u8>, second: &mut Vec<u8>) {
    use zerocopy::IntoBytes;
    match column {
        Column::Bits(c) => bit_components(c, first, second),
        Column::Arith64(c) => {
            first.extend_from_slice(c.a.as_bytes());
            second.extend_from_slice(c.b.as_bytes());
        }
        Column::Arith128(c) => {
            first.extend_from_slice(c.a.as_bytes());
            second.extend_from_slice(c.b.as_bytes());
        }
    }
}

fn bit_components(column: &BitColumn, first: &mut Vec<u8>, second: &mut Vec<u8>) {
    use zerocopy::IntoBytes;
    let (a, b) = column.to_row_words();
    first.extend_from_slice(a.as_bytes());
    second.extend_from_slice(b.as_bytes());
}

fn sum<T: Word>(parts: [&[u8]; 3], add: impl Fn(T, T) -> T) -> Vec<T> {
    use zerocopy::IntoBytes;
    let mut words = parts.map(|part| {
        let mut words = vec![T::default(); part.len() / T::BYTES];
        words.as_mut_bytes().copy_from_slice(part);
        words
    });
    let [out, second, third] = &mut words;
    for ((o, s), t) in out.iter_mut().zip(second).zip(third) {
        *o = add(add(*o, *s), *t);
    }
    std::mem::take(out)
}

fn refused(what: String) -> Error {
    Error::InvalidInput {
        operator: "release",
        what,
    }
}
