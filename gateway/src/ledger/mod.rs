//! The append-only Merkle log of one gateway: tamper-evident without a blockchain.
//!
//! RFC 6962 hashes in the C2SP tlog-tiles layout on plain files, the tree head a C2SP checkpoint: a
//! signed note by the gateway's own key. What is appended is durable before anybody is told. A leaf
//! says that something happened, with digests and names of rules; never a data value, never SQL.
//!
//! | module | holds |
//! |---|---|
//! | `leaf` | what is recorded |
//! | `layout` | paths of tiles, bundles of entries |
//! | `note` | the origin, its key, signing and checking checkpoints |
//! | `files` | durable and atomic writing; reading tiles |
//! | `verify` | checking a whole ledger offline |
//! | `proof` | one file that proves what is said of one run |
//!
//! Knows nothing of runs beyond their id. Room is left for witnesses: a checkpoint can carry more
//! signatures, and [`Ledger::growth_proof`] is what they ask for.

mod files;
mod layout;
mod leaf;
mod note;
mod proof;
mod recent;
mod verify;

#[cfg(test)]
mod tests;

pub use leaf::Leaf;
pub use note::{Head, LogKey};
pub(crate) use recent::recent;

pub use proof::{Proof, prove};
pub use verify::{Report, verify};

use crate::identity::{self, Identity};
use files::Folder;
use layout::{HEIGHT, TILE};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use tlog_tiles::{
    EMPTY_HASH, Hash, HashReader, Tile, TileHashReader, prove_tree, record_hash, stored_hash_index,
    stored_hashes_for_record_hash, tree_hash,
};
use veilgate_federated::error::{Code, Error, Result};

/// Where a leaf is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeafRef {
    /// Its number in the ledger, from 0.
    pub index: u64,
}

/// One gateway's log, open for appending by this process alone.
#[derive(Debug)]
pub struct Ledger {
    folder: Folder,
    identity: Arc<Identity>,
    key: LogKey,
    size: u64,
    root: Hash,
    /// A write failed where it is unknown what reached the disk.
    broken: bool,
}

impl Ledger {
    /// Opens the ledger in `folder`, which is made if there is none, and removes what an interrupted
    /// append left behind beyond the last checkpoint.
    ///
    /// # Errors
    /// `LedgerCorrupt` when what the checkpoint commits to is missing or altered at the tree's right
    /// edge, or the checkpoint is not this identity's; `BadConfig` when the folder cannot be written
    /// or another process has it open.
    pub fn open(folder: &Path, identity: Arc<Identity>) -> Result<Self> {
        let key = LogKey::of(&identity);
        let folder = Folder::lock(folder)?;
        let head = if folder.is_new()? {
            folder.write(layout::KEY, key.vkey_line().as_bytes())?;
            let head = Head {
                size: 0,
                root: EMPTY_HASH.0,
            };
            folder.write(layout::CHECKPOINT, &key.sign(&identity, &head)?)?;
            head
        } else {
            key.check_vkey_line(&folder.read(layout::KEY)?)?;
            key.open(&folder.read(layout::CHECKPOINT)?)?
        };
        let ledger = Self {
            folder,
            identity,
            key,
            size: head.size,
            root: Hash(head.root),
            broken: false,
        };
        ledger.check_edge()?;
        ledger.folder.remove_uncommitted(head.size)?;
        Ok(ledger)
    }

    /// How many leaves there are.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The signed checkpoint of the present size.
    ///
    /// # Errors
    /// As [`Ledger::open`].
    pub fn checkpoint(&self) -> Result<Vec<u8>> {
        self.folder.read(layout::CHECKPOINT)
    }

    /// Appends one leaf; durable when this returns.
    ///
    /// # Errors
    /// As [`Ledger::append_all`].
    pub fn append(&mut self, leaf: &Leaf) -> Result<LeafRef> {
        self.append_all(std::slice::from_ref(leaf))?;
        Ok(LeafRef {
            index: self.size - 1,
        })
    }

    /// Appends several leaves under one checkpoint, all or none; durable when this returns. Gives
    /// the place of the first.
    ///
    /// # Errors
    /// `LimitExceeded` when the disk is full; `Internal` when it cannot be written; `LedgerCorrupt`
    /// when the files have been altered since. Nothing is then recorded; after a failure in the
    /// checkpoint itself the ledger must be opened again.
    pub fn append_all(&mut self, leaves: &[Leaf]) -> Result<LeafRef> {
        let first = LeafRef { index: self.size };
        let mut entries = Vec::with_capacity(leaves.len());
        let mut openings = String::new();
        for (leaf, index) in leaves.iter().zip(self.size..) {
            let salt = identity::random()?;
            entries.push(leaf.entry(&salt)?);
            openings.push_str(&leaf.opening(index, &salt));
        }
        // Whoever may open the commitments needs the salts to be as durable as the leaves.
        self.folder.append_private(layout::OPENINGS, &openings)?;
        self.append_entries(&entries)?;
        Ok(first)
    }

    fn append_entries(&mut self, entries: &[Vec<u8>]) -> Result<()> {
        if self.broken {
            return Err(Error::new(
                Code::Internal,
                "the ledger could not be written before; restart the gateway",
            ));
        }
        if entries.is_empty() {
            return Ok(());
        }
        let head = self.write_tree(entries)?;
        let note = self.key.sign(&self.identity, &head)?;
        self.broken = true;
        self.folder.write(layout::CHECKPOINT, &note)?;
        self.broken = false;
        let before = self.size;
        self.size = head.size;
        self.root = Hash(head.root);
        self.folder.remove_superseded(before, self.size);
        Ok(())
    }

    /// The hashes that prove that the tree of `old_size` leaves is the beginning of this one, for
    /// witnesses (RFC 6962, 2.1.2).
    ///
    /// # Errors
    /// `BadRequest` for a size that this ledger never had before; `LedgerCorrupt` for altered tiles.
    pub fn growth_proof(&self, old_size: u64) -> Result<Vec<[u8; 32]>> {
        if old_size == 0 || old_size > self.size {
            return Err(Error::new(
                Code::BadRequest,
                format!("sizes from 1 to {} can be asked for", self.size),
            ));
        }
        let reader = TileHashReader::new(self.size, self.root, &self.folder);
        let proof = prove_tree(self.size, old_size, &reader).map_err(altered)?;
        Ok(proof.into_iter().map(|hash| hash.0).collect())
    }

    /// Reads the tiles on the tree's right edge and the last bundle against the signed root.
    fn check_edge(&self) -> Result<()> {
        if self.size == 0 {
            return Ok(());
        }
        let reader = TileHashReader::new(self.size, self.root, &self.folder);
        let last = self.size - 1;
        let first = last / TILE * TILE;
        let bundle = self.folder.read_bundle(first / TILE, self.size)?;
        let indexes: Vec<u64> = (first..=last).map(|n| stored_hash_index(0, n)).collect();
        let hashes = reader.read_hashes(&indexes).map_err(altered)?;
        for ((entry, hash), index) in bundle.iter().zip(hashes).zip(first..) {
            if record_hash(entry) != hash {
                return Err(corrupt(format!("entry {index} has been altered")));
            }
        }
        Ok(())
    }

    /// Writes entries and tiles beyond the present size, durably but not yet committed.
    fn write_tree(&self, entries: &[Vec<u8>]) -> Result<Head> {
        let base = TileHashReader::new(self.size, self.root, &self.folder);
        let mut hashes = Overlay {
            base: (self.size > 0).then_some(base),
            new: HashMap::new(),
        };
        let mut size = self.size;
        for entry in entries {
            let new = stored_hashes_for_record_hash(size, record_hash(entry), &hashes)
                .map_err(altered)?;
            hashes.new.extend((stored_hash_index(0, size)..).zip(new));
            size += 1;
        }
        self.write_bundles(entries, size, &hashes)?;
        for tile in Tile::new_tiles(HEIGHT, self.size, size) {
            let data = tile.read_data(&hashes).map_err(altered)?;
            self.folder.write(&layout::tile_path(&tile), &data)?;
        }
        Ok(Head {
            size,
            root: tree_hash(size, &hashes).map_err(altered)?.0,
        })
    }

    fn write_bundles(&self, entries: &[Vec<u8>], size: u64, hashes: &Overlay<'_>) -> Result<()> {
        let first = self.size / TILE;
        let mut bundle = Vec::new();
        let mut width = self.size % TILE;
        if width > 0 {
            // What is there is written again as part of a wider bundle, so it must be intact.
            bundle = self.folder.read(&layout::bundle_path(first, width))?;
            let old = layout::split_bundle(&bundle, width)?;
            let indexes: Vec<u64> = (first * TILE..self.size)
                .map(|n| stored_hash_index(0, n))
                .collect();
            let known = hashes.read_hashes(&indexes).map_err(altered)?;
            if old.iter().map(|entry| record_hash(entry)).ne(known) {
                return Err(corrupt("the last entries have been altered"));
            }
        }
        let mut number = first;
        for (entry, index) in entries.iter().zip(self.size..) {
            layout::push_entry(&mut bundle, entry)?;
            width += 1;
            if width == TILE || index + 1 == size {
                self.folder
                    .write(&layout::bundle_path(number, width), &bundle)?;
                bundle.clear();
                width = 0;
                number += 1;
            }
        }
        Ok(())
    }
}

/// Hashes of the tree on disk, and those computed since.
struct Overlay<'a> {
    base: Option<TileHashReader<'a>>,
    new: HashMap<u64, Hash>,
}

impl HashReader for Overlay<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> std::result::Result<Vec<Hash>, tlog_tiles::Error> {
        let old: Vec<u64> = indexes
            .iter()
            .copied()
            .filter(|index| !self.new.contains_key(index))
            .collect();
        let mut read = match &self.base {
            Some(base) if !old.is_empty() => base.read_hashes(&old)?,
            _ => Vec::new(),
        }
        .into_iter();
        indexes
            .iter()
            .map(|index| match self.new.get(index) {
                Some(hash) => Ok(*hash),
                None => read.next().ok_or(tlog_tiles::Error::IndexesNotInTree),
            })
            .collect()
    }
}

fn altered(_: tlog_tiles::Error) -> Error {
    corrupt("the tiles do not fit the signed checkpoint: a file has been altered or is missing")
}

fn corrupt(what: impl Into<String>) -> Error {
    Error::new(Code::LedgerCorrupt, what)
}
