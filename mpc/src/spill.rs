//! Shares that wait while others are worked on: in memory where the run's budget leaves room, else in an
//! encrypted file that no name leads to.
//!
//! A file holds blocks of AES-256-GCM (NIST SP 800-38D) under a random key that is never written and is
//! wiped when the columns come back; a block's number is its nonce. The file is unlinked before its first
//! byte is written, so it is gone with the process, however that ends. Adversary: whoever reads or
//! alters the disk learns the number of bytes and can at most fail the run.

use crate::error::{Error, Result};
use crate::share::{Arith, BitColumn};
use crate::table::{Column, SharedTable};
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use rand::TryRng;
use rand::rngs::SysRng;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use zerocopy::{FromBytes, IntoBytes};

/// Plain bytes of a block.
const BLOCK: usize = 1 << 20;
const TAG: usize = 16;

/// The memory that a run may use at this party, and the folder for what does not fit.
#[derive(Debug, Clone)]
pub struct Memory {
    budget: u64,
    folder: PathBuf,
}

impl Memory {
    /// `budget` bytes; encrypted temporary files go to `folder`.
    #[must_use]
    pub fn new(budget: u64, folder: &Path) -> Self {
        Self {
            budget,
            folder: folder.to_owned(),
        }
    }

    /// Bytes.
    #[must_use]
    pub fn budget(&self) -> u64 {
        self.budget
    }
}

/// A table that waits.
pub struct Parked(Place);

enum Place {
    Memory(SharedTable),
    File(Box<Away>),
}

impl std::fmt::Debug for Parked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Place::Memory(table) => write!(f, "Parked({} rows, in memory)", table.rows()),
            Place::File(away) => write!(f, "Parked({} rows, in a file)", away.rows),
        }
    }
}

/// Columns in a file, validity last.
struct Away {
    sealed: Sealed,
    rows: usize,
    shapes: Vec<Shape>,
}

#[derive(Clone, Copy)]
enum Shape {
    Bits(usize),
    Arith64,
    Arith128,
}

impl Parked {
    /// Sets a table aside while work goes on that takes `work` bytes: to a file if both exceed the
    /// budget. Without a budget tables wait in memory.
    ///
    /// # Errors
    /// `ResourceExhausted` when the work alone exceeds the budget, or the folder does not take the file.
    pub fn new(memory: Option<&Memory>, table: SharedTable, work: u64) -> Result<Self> {
        let Some(memory) = memory else {
            return Ok(Self(Place::Memory(table)));
        };
        if work > memory.budget {
            return Err(Error::ResourceExhausted(format!(
                "the work on {} rows needs about {work} bytes of memory, {} are allowed",
                table.rows(),
                memory.budget
            )));
        }
        if work.saturating_add(table.bytes()) <= memory.budget {
            return Ok(Self(Place::Memory(table)));
        }
        let mut away = Away {
            sealed: Sealed::new(&memory.folder)?,
            rows: table.rows(),
            shapes: Vec::new(),
        };
        let SharedTable { columns, valid } = table;
        for column in columns.into_iter().chain([Column::Bits(valid)]) {
            // Each is freed before the next is written.
            let (shape, a, b) = match &column {
                Column::Bits(c) => (Shape::Bits(c.width()), c.a.as_bytes(), c.b.as_bytes()),
                Column::Arith64(c) => (Shape::Arith64, c.a.as_bytes(), c.b.as_bytes()),
                Column::Arith128(c) => (Shape::Arith128, c.a.as_bytes(), c.b.as_bytes()),
            };
            away.shapes.push(shape);
            away.sealed.write(a)?;
            away.sealed.write(b)?;
        }
        Ok(Self(Place::File(Box::new(away))))
    }

    /// Whether it waits in a file.
    #[must_use]
    pub fn is_in_file(&self) -> bool {
        matches!(self.0, Place::File(_))
    }

    /// The table again.
    ///
    /// # Errors
    /// `ResourceExhausted` when the file does not give back what was written.
    pub fn back(self) -> Result<SharedTable> {
        let mut away = match self.0 {
            Place::Memory(table) => return Ok(table),
            Place::File(away) => away,
        };
        away.sealed.rewind()?;
        let rows = away.rows;
        let words = rows.div_ceil(64);
        let mut columns = Vec::with_capacity(away.shapes.len());
        for shape in &away.shapes {
            let sealed = &mut away.sealed;
            columns.push(match *shape {
                Shape::Bits(width) => {
                    let (a, b) = sealed.read_both(width * words)?;
                    Column::Bits(BitColumn::from_planes(width, rows, a, b)?)
                }
                Shape::Arith64 => {
                    let (a, b) = sealed.read_both(rows)?;
                    Column::Arith64(Arith { a, b })
                }
                Shape::Arith128 => {
                    let (a, b) = sealed.read_both(rows)?;
                    Column::Arith128(Arith { a, b })
                }
            });
        }
        match columns.pop() {
            Some(Column::Bits(valid)) => Ok(SharedTable { columns, valid }),
            _ => Err(failed("a table without validity")),
        }
    }
}

/// An encrypted file.
struct Sealed {
    file: File,
    cipher: Aes256Gcm,
    next: u64,
    room: Vec<u8>,
}

impl Sealed {
    fn new(folder: &Path) -> Result<Self> {
        let file = tempfile::tempfile_in(folder).map_err(|error| {
            failed(&format!(
                "no temporary file in {}: {}",
                folder.display(),
                error.kind()
            ))
        })?;
        let mut key = zeroize::Zeroizing::new([0_u8; 32]);
        let drawn = SysRng.try_fill_bytes(&mut key[..]);
        drawn.map_err(|_| failed("no random key"))?;
        Ok(Self {
            file,
            cipher: Aes256Gcm::new(&(*key).into()),
            next: 0,
            room: Vec::new(),
        })
    }

    /// A nonce for each block, under a key for each file.
    fn nonce(&mut self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.next.to_le_bytes());
        self.next += 1;
        nonce
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        for block in bytes.chunks(BLOCK) {
            let nonce = Nonce::from(self.nonce());
            let mut room = std::mem::take(&mut self.room);
            room.clear();
            room.extend_from_slice(block);
            let tag = self
                .cipher
                .encrypt_inout_detached(&nonce, &[], room.as_mut_slice().into())
                .map_err(|_| failed("encryption"))?;
            room.extend_from_slice(&tag);
            let written = self.file.write_all(&room);
            self.room = room;
            written.map_err(|error| failed(&format!("writing: {}", error.kind())))?;
        }
        Ok(())
    }

    fn rewind(&mut self) -> Result<()> {
        self.next = 0;
        let done = self.file.rewind();
        done.map_err(|error| failed(&format!("rewinding: {}", error.kind())))
    }

    fn read_both<T: FromBytes + IntoBytes + Clone + Default>(
        &mut self,
        count: usize,
    ) -> Result<(Vec<T>, Vec<T>)> {
        let (mut a, mut b) = (vec![T::default(); count], vec![T::default(); count]);
        self.read(a.as_mut_bytes())?;
        self.read(b.as_mut_bytes())?;
        Ok((a, b))
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<()> {
        for block in bytes.chunks_mut(BLOCK) {
            let nonce = Nonce::from(self.nonce());
            let mut tag = [0_u8; TAG];
            let read = self.file.read_exact(block);
            let read = read.and_then(|()| self.file.read_exact(&mut tag));
            read.map_err(|error| failed(&format!("reading: {}", error.kind())))?;
            self.cipher
                .decrypt_inout_detached(&nonce, &[], block.into(), &Tag::from(tag))
                .map_err(|_| failed("a temporary file was altered"))?;
        }
        Ok(())
    }
}

fn failed(what: &str) -> Error {
    Error::ResourceExhausted(format!("shares could not wait on disk: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prss::Stream;
    use crate::share::Role;
    use crate::testing::{data, share_table};
    use std::io::SeekFrom;

    /// More than a block in some columns.
    fn table(rows: usize) -> SharedTable {
        use crate::input::ClearColumn;
        let mut s: Stream = data(rows as u64);
        let clear = crate::release::ClearTable {
            columns: vec![
                ClearColumn::Arith64(s.words(rows)),
                ClearColumn::Bits {
                    width: 70,
                    words: s.words(2 * rows),
                },
                ClearColumn::Arith128(s.words(rows)),
            ],
            valid: vec![true; rows],
        };
        share_table(1, Role::P1, &clear).unwrap()
    }

    fn same(a: &SharedTable, b: &SharedTable) -> bool {
        let bits = |x: &BitColumn, y: &BitColumn| x.a == y.a && x.b == y.b;
        bits(&a.valid, &b.valid)
            && a.columns.len() == b.columns.len()
            && a.columns.iter().zip(&b.columns).all(|pair| match pair {
                (Column::Bits(x), Column::Bits(y)) => bits(x, y),
                (Column::Arith64(x), Column::Arith64(y)) => x.a == y.a && x.b == y.b,
                (Column::Arith128(x), Column::Arith128(y)) => x.a == y.a && x.b == y.b,
                _ => false,
            })
    }

    #[test]
    fn what_waits_comes_back_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for rows in [1, 65, 200_000] {
            let before = table(rows);
            let bytes = before.bytes();
            for (budget, to_file) in [(bytes + 10, false), (bytes + 9, true), (10, true)] {
                let memory = Memory::new(budget, folder.path());
                let parked = Parked::new(Some(&memory), table(rows), 10).unwrap();
                assert_eq!(parked.is_in_file(), to_file);
                assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
                assert!(same(&parked.back().unwrap(), &before));
            }
            let parked = Parked::new(None, table(rows), u64::MAX).unwrap();
            assert!(!parked.is_in_file());
            let memory = Memory::new(9, folder.path());
            let error = Parked::new(Some(&memory), table(rows), 10).unwrap_err();
            assert!(error.to_string().contains("10 bytes"), "{error}");
        }
    }

    #[test]
    fn what_lies_on_disk_is_not_what_waits_and_cannot_be_altered() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::new(0, folder.path());
        let park = || {
            let parked = Parked::new(Some(&memory), table(5000), 0).unwrap();
            let Place::File(away) = parked.0 else {
                panic!("not in a file")
            };
            away
        };
        let mut away = park();
        let mut disk = Vec::new();
        away.sealed.file.rewind().unwrap();
        away.sealed.file.read_to_end(&mut disk).unwrap();
        let Column::Arith64(first) = &table(5000).columns[0] else {
            panic!("another column")
        };
        for word in first.a.iter().take(100) {
            assert!(!disk.windows(8).any(|w| w == word.to_le_bytes()));
        }
        let mut again = Vec::new();
        let mut other = park();
        other.sealed.file.rewind().unwrap();
        other.sealed.file.read_to_end(&mut again).unwrap();
        assert_eq!(again.len(), disk.len());
        assert_ne!(again, disk, "the same key twice");

        for at in [0, 39_999, 40_000, disk.len() as u64 - 1] {
            let mut away = park();
            let mut byte = [0];
            away.sealed.file.seek(SeekFrom::Start(at)).unwrap();
            away.sealed.file.read_exact(&mut byte).unwrap();
            away.sealed.file.seek(SeekFrom::Start(at)).unwrap();
            away.sealed.file.write_all(&[byte[0] ^ 1]).unwrap();
            let error = Parked(Place::File(away)).back().unwrap_err();
            assert!(error.to_string().contains("altered"), "{error}");
        }
        let away = park();
        away.sealed.file.set_len(1000).unwrap();
        let error = Parked(Place::File(away)).back().unwrap_err();
        assert!(error.to_string().contains("reading"), "{error}");

        let missing = Memory::new(0, &folder.path().join("gone"));
        let error = Parked::new(Some(&missing), table(5), 0).unwrap_err();
        assert!(
            error.to_string().contains("no temporary file in"),
            "{error}"
        );
    }
}
