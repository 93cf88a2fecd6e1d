//! Files of a ledger: whole files only, written beside and renamed, durable when a call returns.

use super::layout::{self, HEIGHT, TILE};
use super::{corrupt, layout::CHECKPOINT};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use tlog_tiles::{Tile, TileReader};
use veilgate_federated::error::{Code, Error, Result};

/// The longest that any file of a ledger can be: 256 entries of 65,535 bytes.
const LONGEST: u64 = TILE * (2 + 0xffff);

/// The name of a file that is being written.
const TEMPORARY: &str = ".writing";

/// A ledger's folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Held as long as this process may write.
    _lock: Option<File>,
    /// Files read ahead, by name: those that a gateway that appends meanwhile would remove.
    edge: BTreeMap<String, Vec<u8>>,
}

impl Folder {
    /// Makes the folder if there is none, and takes its lock.
    pub(super) fn lock(path: &Path) -> Result<Self> {
        let wrong = |what: &str| {
            Error::new(
                Code::BadConfig,
                format!("ledger folder {}: {what}", path.display()),
            )
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(|error| wrong(&error.kind().to_string()))?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path.join(layout::PRIVATE))
            .map_err(|error| wrong(&error.kind().to_string()))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join(layout::LOCK))
            .map_err(|error| wrong(&error.kind().to_string()))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: Some(lock),
                edge: BTreeMap::new(),
            }),
            Err(TryLockError::WouldBlock) => {
                Err(wrong("another gateway has it open; end that one first"))
            }
            Err(TryLockError::Error(error)) => Err(wrong(&error.kind().to_string())),
        }
    }

    /// The folder for reading alone.
    pub(super) fn for_reading(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            _lock: None,
            edge: BTreeMap::new(),
        }
    }

    /// Reads ahead the partial files of a tree of `size` leaves; all others stay for ever.
    pub(super) fn read_edge(&mut self, size: u64) -> Result<()> {
        self.edge.clear();
        let mut edge = BTreeMap::new();
        for name in layout::partial_files(size) {
            let bytes = self.read(&name)?;
            edge.insert(name, bytes);
        }
        self.edge = edge;
        Ok(())
    }

    /// Whether nothing has been committed here. A folder with tiles but without a checkpoint is not
    /// new: it has lost it.
    pub(super) fn is_new(&self) -> Result<bool> {
        if self.path.join(CHECKPOINT).exists() {
            return Ok(false);
        }
        if self.path.join("tile").exists() {
            return Err(corrupt(format!(
                "ledger {}: there are tiles, but the checkpoint is missing",
                self.path.display()
            )));
        }
        Ok(true)
    }

    /// Reads a file of the ledger.
    pub(super) fn read(&self, name: &str) -> Result<Vec<u8>> {
        if let Some(bytes) = self.edge.get(name) {
            return Ok(bytes.clone());
        }
        let path = self.path.join(name);
        let wrong = |what: &str| corrupt(format!("{}: {what}", path.display()));
        let file = File::open(&path).map_err(|error| wrong(&error.kind().to_string()))?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, LONGEST + 1), &mut bytes)
            .map_err(|error| wrong(&error.kind().to_string()))?;
        if bytes.len() as u64 > LONGEST {
            return Err(wrong("longer than any file of a ledger"));
        }
        Ok(bytes)
    }

    /// The entries of the bundle with this number in a tree of `size` leaves.
    pub(super) fn read_bundle(&self, number: u64, size: u64) -> Result<Vec<Vec<u8>>> {
        let width = (size - number * TILE).min(TILE);
        let name = layout::bundle_path(number, width);
        let bytes = self.read(&name)?;
        let entries = layout::split_bundle(&bytes, width).map_err(|error| {
            corrupt(format!(
                "{}: {}",
                self.path.join(&name).display(),
                error.message
            ))
        })?;
        Ok(entries.into_iter().map(<[u8]>::to_vec).collect())
    }

    /// Replaces a file as a whole; durable when this returns.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.try_write(name, bytes)
            .map_err(|error| self.unwritable(name, &error))
    }

    fn try_write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.path.join(name);
        let folder = path.parent().unwrap_or(&self.path);
        self.make(folder)?;
        let mut temporary = path.clone().into_os_string();
        temporary.push(TEMPORARY);
        let temporary = PathBuf::from(temporary);
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        File::open(folder)?.sync_all()
    }

    /// Makes a folder and those above it, durably.
    fn make(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        let above = folder.parent().unwrap_or(&self.path);
        self.make(above)?;
        match std::fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        File::open(above)?.sync_all()
    }

    /// Appends to a private file; durable when this returns.
    pub(super) fn append_private(&self, name: &str, text: &str) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let append = || {
            let mut file = OpenOptions::new()
                .create(true)
                .append(true)
                .mode(0o600)
                .open(self.path.join(name))?;
            file.write_all(text.as_bytes())?;
            file.sync_data()
        };
        append().map_err(|error| self.unwritable(name, &error))
    }

    fn unwritable(&self, name: &str, error: &io::Error) -> Error {
        let code = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::LimitExceeded,
            _ => Code::Internal,
        };
        let path = self.path.join(name);
        Error::new(
            code,
            format!(
                "the ledger's file {} cannot be written: {}",
                path.display(),
                error.kind()
            ),
        )
    }

    /// Removes the partial files that a larger tree has replaced. They are in nobody's way, so a
    /// failure waits for the next start.
    pub(super) fn remove_superseded(&self, before: u64, now: u64) {
        let kept = layout::partial_files(now);
        for name in layout::partial_files(before).difference(&kept) {
            let _ = std::fs::remove_file(self.path.join(name));
            if let Some(folder) = self.path.join(name).parent() {
                // Only once it is empty.
                let _ = std::fs::remove_dir(folder);
            }
        }
    }

    /// Removes what does not belong to a tree of `size` leaves: the rest of an interrupted append,
    /// and partial files of smaller trees. Files that no ledger writes are left alone.
    pub(super) fn remove_uncommitted(&self, size: u64) -> Result<()> {
        let strangers = self.strangers(size)?;
        let ours = |name: &String| name.starts_with("tile/") || name.ends_with(TEMPORARY);
        for name in strangers.into_iter().filter(ours) {
            std::fs::remove_file(self.path.join(&name))
                .map_err(|error| self.unwritable(&name, &error))?;
        }
        Ok(())
    }

    /// Files below the folder that do not belong to a tree of `size` leaves, without private ones.
    pub(super) fn strangers(&self, size: u64) -> Result<Vec<String>> {
        let expected = layout::files(size);
        let mut found = Vec::new();
        let mut folders = vec![PathBuf::new()];
        let wrong =
            |error: io::Error| corrupt(format!("ledger {}: {}", self.path.display(), error.kind()));
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(self.path.join(&folder)).map_err(wrong)? {
                let entry = entry.map_err(wrong)?;
                let name = folder.join(entry.file_name());
                if entry.file_type().map_err(wrong)?.is_dir() {
                    if name != Path::new(layout::PRIVATE) {
                        folders.push(name);
                    }
                    continue;
                }
                let name = name.to_string_lossy().into_owned();
                if !expected.contains(&name) {
                    found.push(name);
                }
            }
        }
        found.sort();
        Ok(found)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl TileReader for Folder {
    fn height(&self) -> u8 {
        HEIGHT
    }

    fn read_tiles(&self, tiles: &[Tile]) -> std::result::Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        tiles
            .iter()
            .map(|tile| {
                self.read(&layout::tile_path(tile))
                    .map_err(|_| tlog_tiles::Error::InvalidTile)
            })
            .collect()
    }

    fn save_tiles(&self, _: &[Tile], _: &[Vec<u8>]) {}
}
