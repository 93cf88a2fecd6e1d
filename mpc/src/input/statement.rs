//! What an owner states about its input before it shares it: sizes, and a hash of every component.

use super::column::{ColumnKind, MAX_WIDTH};
use crate::error::{Error, Result};

/// Version of the encoding.
const VERSION: u8 = 1;

/// The most columns of one input.
const MAX_COLUMNS: usize = 4096;

/// One owner's statement. Signed and distributed by the gateway: all statements of a run are
/// exchanged before any share is sent, so nobody chooses its input after seeing another's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputStatement {
    /// Rows of every column.
    pub rows: u64,
    /// Shapes of the columns.
    pub columns: Vec<ColumnKind>,
    /// Salted BLAKE3 hash of each of the three components; hides the component from whoever does
    /// not hold it.
    pub hashes: [[u8; 32]; 3],
}

impl InputStatement {
    /// Canonical bytes: version, rows (u64), columns (u32), per column a tag and for bits a width
    /// (u16), three hashes; all little-endian.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.shape());
        out.extend(self.hashes.iter().flatten());
        out
    }

    /// The part of the encoding that says rows and columns; it is also part of every hash.
    pub(super) fn shape(&self) -> Vec<u8> {
        let mut out = self.rows.to_le_bytes().to_vec();
        let count = u32::try_from(self.columns.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_le_bytes());
        for column in &self.columns {
            match column {
                ColumnKind::Bits { width } => {
                    out.push(0);
                    let width = u16::try_from(*width).unwrap_or(u16::MAX);
                    out.extend_from_slice(&width.to_le_bytes());
                }
                ColumnKind::Arith64 => out.push(1),
                ColumnKind::Arith128 => out.push(2),
            }
        }
        out
    }

    /// Decodes canonical bytes; nothing else is accepted.
    ///
    /// # Errors
    /// `InvalidInput` for any other bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader(bytes);
        let statement = reader.statement().filter(|_| reader.0.is_empty());
        statement.ok_or_else(|| Error::InvalidInput {
            operator: "input statement",
            what: format!("{} bytes that are not a statement", bytes.len()),
        })
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*head)
    }

    fn statement(&mut self) -> Option<InputStatement> {
        if self.take()? != [VERSION] {
            return None;
        }
        let rows = u64::from_le_bytes(self.take()?);
        let count = usize::try_from(u32::from_le_bytes(self.take()?)).ok()?;
        if count > MAX_COLUMNS {
            return None;
        }
        let columns = (0..count).map(|_| self.column()).collect::<Option<_>>()?;
        let hashes = [self.take()?, self.take()?, self.take()?];
        Some(InputStatement {
            rows,
            columns,
            hashes,
        })
    }

    fn column(&mut self) -> Option<ColumnKind> {
        match self.take()? {
            [0] => {
                let width = usize::from(u16::from_le_bytes(self.take()?));
                (1..=MAX_WIDTH)
                    .contains(&width)
                    .then_some(ColumnKind::Bits { width })
            }
            [1] => Some(ColumnKind::Arith64),
            [2] => Some(ColumnKind::Arith128),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_survive_and_nothing_else_decodes() {
        let statement = InputStatement {
            rows: 77,
            columns: vec![
                ColumnKind::Bits { width: 256 },
                ColumnKind::Arith64,
                ColumnKind::Arith128,
            ],
            hashes: [[1; 32], [2; 32], [3; 32]],
        };
        let bytes = statement.encode();
        assert_eq!(InputStatement::decode(&bytes).unwrap(), statement);
        for length in 0..bytes.len() {
            assert!(InputStatement::decode(&bytes[..length]).is_err());
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(InputStatement::decode(&longer).is_err());
        for (at, value) in [(0, 2), (13, 3), (14, 1), (12, 255), (15, 0)] {
            let mut wrong = bytes.clone();
            wrong[at] = value;
            let decoded = InputStatement::decode(&wrong);
            assert!(decoded.is_err() || decoded.unwrap().encode() == wrong);
        }
    }
}
