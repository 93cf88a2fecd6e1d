//! Run ids that were used, kept on disk: a replayed proposal finds its id taken, even after a
//! restart. One id of 32 bytes after the other; a torn last one is cut off.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::run::RunId;

/// The run ids that this gateway has seen.
#[derive(Debug)]
pub(crate) struct UsedRuns {
    file: File,
    seen: HashSet<RunId>,
}

impl UsedRuns {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let failed = |error: std::io::Error| {
            Error::new(
                Code::BadConfig,
                format!("cannot use {}: {}", path.display(), error.kind()),
            )
        };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let whole = bytes.len() - bytes.len() % 32;
        file.set_len(whole as u64).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let seen = bytes[..whole]
            .chunks_exact(32)
            .filter_map(|chunk| RunId::from_wire(chunk).ok())
            .collect();
        Ok(Self { file, seen })
    }

    /// Marks an id as used, durably.
    pub(crate) fn insert(&mut self, run: RunId) -> Result<()> {
        if self.seen.contains(&run) {
            return Err(Error::new(
                Code::PeerMisbehaved,
                "this run id was used before: a replayed proposal",
            ));
        }
        let failed = |_| {
            Error::new(
                Code::LimitExceeded,
                "the list of used run ids cannot be written: is the disk full?",
            )
        };
        let written = self
            .file
            .write_all(&run.0)
            .and_then(|()| self.file.sync_data());
        if written.is_err() {
            // A torn id must not shift those after it.
            let whole = self.seen.len() as u64 * 32;
            let _ = self.file.set_len(whole);
            let _ = self.file.seek(SeekFrom::Start(whole));
        }
        written.map_err(failed)?;
        self.seen.insert(run);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::UsedRuns;
    use veilgate_federated::run::RunId;

    #[test]
    fn ids_stay_used_over_a_restart_and_a_torn_write() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("used-runs");
        let mut used = UsedRuns::open(&path).unwrap();
        used.insert(RunId([1; 32])).unwrap();
        assert!(used.insert(RunId([1; 32])).is_err());
        drop(used);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.extend_from_slice(&[9; 5]);
        std::fs::write(&path, bytes).unwrap();
        let mut used = UsedRuns::open(&path).unwrap();
        assert!(used.insert(RunId([1; 32])).is_err());
        used.insert(RunId([2; 32])).unwrap();
        drop(used);
        assert!(
            UsedRuns::open(&path)
                .unwrap()
                .insert(RunId([2; 32]))
                .is_err()
        );
    }
}
