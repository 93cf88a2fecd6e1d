//! Checking a whole ledger offline: every entry, every tile, the root, the signature.

use super::files::Folder;
use super::layout::{self, TILE};
use super::{Head, LogKey, corrupt, leaf};
use crate::identity::PublicKey;
use std::collections::BTreeMap;
use std::path::Path;
use tlog_tiles::{EMPTY_HASH, Hash, Tile, node_hash, record_hash};
use veilgate_federated::error::{Error, Result};

/// How often the newest checkpoint of a growing ledger is tried for.
const TRIES: usize = 100;

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whose ledger.
    pub department: String,
    /// The key that signed it.
    pub public_key: PublicKey,
    /// How many leaves.
    pub size: u64,
    /// The root of the tree.
    pub root: [u8; 32],
    /// How many leaves of each kind.
    pub kinds: BTreeMap<String, u64>,
    /// Files that the checkpoint does not commit to: the rest of an interrupted append.
    pub uncommitted: Vec<String>,
}

/// Recomputes everything in the ledger at `path`. Without `key`, the key beside the ledger is
/// trusted, which proves consistency but not origin.
///
/// # Errors
/// `LedgerCorrupt` with what does not fit, and in which file.
pub fn verify(path: &Path, key: Option<PublicKey>) -> Result<Report> {
    verify_once(&Opened::new(path, key)?)
}

/// A ledger as one checkpoint has it, although a gateway may go on appending.
pub(super) struct Opened {
    pub(super) folder: Folder,
    pub(super) log: LogKey,
    pub(super) checkpoint: Vec<u8>,
    pub(super) head: Head,
}

impl Opened {
    /// Reads the newest checkpoint, checks its signature, and reads ahead what may go away.
    pub(super) fn new(path: &Path, key: Option<PublicKey>) -> Result<Self> {
        let mut folder = Folder::for_reading(path);
        let log = log_key(&folder, key)?;
        let mut tries = 1;
        loop {
            let checkpoint = folder.read(layout::CHECKPOINT)?;
            let head = log.open(&checkpoint).map_err(|error| {
                let file = folder.path().join(layout::CHECKPOINT);
                corrupt(format!("{}: {}", file.display(), error.message))
            })?;
            match folder.read_edge(head.size) {
                Ok(()) => {
                    return Ok(Self {
                        folder,
                        log,
                        checkpoint,
                        head,
                    });
                }
                // Gone because there is a newer checkpoint by now?
                Err(error) => {
                    if tries == TRIES || folder.read(layout::CHECKPOINT)? == checkpoint {
                        return Err(error);
                    }
                    tries += 1;
                }
            }
        }
    }
}

/// The key beside a ledger, checked against the one given.
fn log_key(folder: &Folder, key: Option<PublicKey>) -> Result<LogKey> {
    let file = folder.path().join(layout::KEY);
    let wrong = |what: &str| corrupt(format!("{}: {what}", file.display()));
    let line = folder.read(layout::KEY)?;
    let text = std::str::from_utf8(&line)
        .ok()
        .and_then(|line| line.strip_suffix('\n'))
        .ok_or_else(|| wrong("damaged"))?;
    let log = LogKey::from_vkey(text).map_err(|error| wrong(&error.message))?;
    if key.is_some_and(|key| key != log.public_key()) {
        return Err(wrong("this ledger is of another key than the one given"));
    }
    Ok(log)
}

fn verify_once(opened: &Opened) -> Result<Report> {
    let Opened {
        folder, log, head, ..
    } = opened;
    let mut tree = Tree {
        folder,
        levels: Vec::new(),
    };
    let mut kinds = BTreeMap::new();
    for number in 0..head.size.div_ceil(TILE) {
        let first = number * TILE;
        for (entry, index) in folder.read_bundle(number, head.size)?.iter().zip(first..) {
            let fields = leaf::read_entry(entry).ok_or_else(|| {
                let width = (head.size - first).min(TILE);
                let file = folder.path().join(layout::bundle_path(number, width));
                corrupt(format!(
                    "{}: entry {index} is not a canonical leaf",
                    file.display()
                ))
            })?;
            let kind = fields.get("kind").and_then(|kind| kind.as_str());
            *kinds
                .entry(kind.unwrap_or_default().to_owned())
                .or_insert(0) += 1;
            tree.push(0, record_hash(entry))?;
        }
    }
    let root = tree.finish(head.size)?;
    if root.0 != head.root {
        return Err(corrupt(format!(
            "{}: the entries do not give the root that the checkpoint signs",
            folder.path().display()
        )));
    }
    Ok(Report {
        department: log.department().to_owned(),
        public_key: log.public_key(),
        size: head.size,
        root: head.root,
        kinds,
        uncommitted: folder.strangers(head.size)?,
    })
}

/// Hashes of the tiles being filled, level by level, each compared with its file when complete.
struct Tree<'a> {
    folder: &'a Folder,
    levels: Vec<Level>,
}

#[derive(Default)]
struct Level {
    /// Tiles completed.
    number: u64,
    /// Hashes of the one being filled.
    hashes: Vec<u8>,
}

impl Tree<'_> {
    fn push(&mut self, level: usize, hash: Hash) -> Result<()> {
        if self.levels.len() == level {
            self.levels.push(Level::default());
        }
        let filling = &mut self.levels[level];
        filling.hashes.extend_from_slice(&hash.0);
        if filling.hashes.len() as u64 / 32 < TILE {
            return Ok(());
        }
        let number = filling.number;
        filling.number += 1;
        let hashes = std::mem::take(&mut filling.hashes);
        self.compare(level, number, &hashes)?;
        self.push(level + 1, Tile::subtree_hash(&hashes))
    }

    /// Compares the partial tiles, and folds everything into the root.
    fn finish(self, size: u64) -> Result<Hash> {
        if size == 0 {
            return Ok(EMPTY_HASH);
        }
        // From the lowest level up: perfect subtrees from the right, smaller ones first.
        let mut root: Option<Hash> = None;
        for (level, filling) in self.levels.iter().enumerate() {
            if filling.hashes.is_empty() {
                continue;
            }
            self.compare(level, filling.number, &filling.hashes)?;
            let mut rest = filling.hashes.as_slice();
            let mut subtrees = Vec::new();
            while !rest.is_empty() {
                let count = rest.len() / 32;
                let perfect = 1 << count.ilog2();
                let (subtree, tail) = rest.split_at(perfect * 32);
                subtrees.push(Tile::subtree_hash(subtree));
                rest = tail;
            }
            for subtree in subtrees.into_iter().rev() {
                root = Some(match root {
                    Some(right) => node_hash(subtree, right),
                    None => subtree,
                });
            }
        }
        root.ok_or_else(|| corrupt("the ledger has no entries"))
    }

    fn compare(&self, level: usize, number: u64, hashes: &[u8]) -> Result<()> {
        let level = u8::try_from(level).map_err(|_| corrupt("the tree is too high"))?;
        let name = layout::hash_tile_path(level, number, hashes.len() as u64 / 32);
        let stored = self.folder.read(&name)?;
        if stored == hashes {
            return Ok(());
        }
        let file = self.folder.path().join(&name);
        let file = file.display();
        if stored.len() != hashes.len() {
            return Err(corrupt(format!("{file}: wrong length")));
        }
        let differs = stored
            .chunks(32)
            .zip(hashes.chunks(32))
            .position(|(stored, computed)| stored != computed)
            .unwrap_or_default() as u64;
        let place = number * TILE + differs;
        Err(mismatch(&file.to_string(), level, place))
    }
}

fn mismatch(file: &str, level: u8, place: u64) -> Error {
    if level == 0 {
        corrupt(format!(
            "{file}: hash {place} is not that of entry {place}: the tile or the entry has been altered"
        ))
    } else {
        corrupt(format!(
            "{file}: hash {place} of level {level} is not that of the tile below: one has been altered"
        ))
    }
}
