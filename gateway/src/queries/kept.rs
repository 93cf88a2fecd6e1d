//! Results that wait for their analyst on disk, sealed.
//!
//! One file for each: a salt, then sealed pieces, each behind its length (`u32`, big endian). What they hold
//! is the head of the result as JSON behind its length, then the rows as an Arrow IPC stream. The key of a
//! file comes from the gateway's own by HKDF-SHA-256 (RFC 5869) with that salt and the query's number, so
//! that no two files share a key, and a file under another name does not open. Pieces are sealed as
//! those of a carried stream: AES-256-GCM (NIST SP 800-38D) with a counter as the nonce, the last one marked.
//!
//! Knows nothing of sessions and states.

use super::Finished;
use crate::carry::Sealing;
use crate::private_file;
use crate::session::Asker;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::run::RunId;
use zeroize::Zeroizing;

/// Bytes of one piece before it is sealed.
const PIECE: usize = 1 << 20;
/// Rows of one batch.
const SLICE: usize = 65_536;
/// The longest head.
const MAX_HEAD: usize = 1 << 24;
/// What sealing adds to a piece.
const TAG: usize = 16;
/// The end of the name of a file that is not whole yet.
const PART: &str = "part";
/// The end of the name of one that was fetched.
const FETCHED: &str = "fetched";

/// The results that a gateway keeps.
pub(crate) struct Kept {
    folder: PathBuf,
    key: Zeroizing<[u8; 32]>,
    /// For how long.
    pub(crate) patience: Duration,
}

/// What is kept beside the rows.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) analyst: String,
    pub(super) purpose: String,
    pub(super) case: String,
    /// In Unix seconds.
    pub(super) submitted: u64,
    /// In Unix seconds.
    pub(super) expires: u64,
    pub(super) departments: Vec<String>,
    pub(super) rows: usize,
    notices: Vec<(String, String)>,
    digest: Option<[u8; 32]>,
}

impl Head {
    pub(super) fn new(
        asker: &Asker,
        submitted: u64,
        expires: u64,
        departments: &[String],
        finished: &Finished,
    ) -> Self {
        Self {
            analyst: asker.analyst.clone(),
            purpose: asker.purpose.clone(),
            case: asker.case.clone(),
            submitted,
            expires,
            departments: departments.to_vec(),
            rows: finished.rows.num_rows(),
            notices: finished.notices.clone(),
            digest: finished.digest,
        }
    }

    pub(super) fn asker(&self) -> Asker {
        Asker {
            analyst: self.analyst.clone(),
            purpose: self.purpose.clone(),
            case: self.case.clone(),
        }
    }

    pub(super) fn notices(&self) -> &[(String, String)] {
        &self.notices
    }
}

impl Kept {
    /// Opens the folder `results` in a gateway's state, and makes its key where there is none.
    ///
    /// # Errors
    /// `BadConfig` when the folder or its key cannot be used.
    pub(crate) fn open(state: &Path, patience: Duration) -> Result<Self> {
        let folder = state.join("results");
        let wrong = |what: String| {
            Error::new(
                Code::BadConfig,
                format!("cannot use {}: {what}", folder.display()),
            )
        };
        let mut made = std::fs::DirBuilder::new();
        made.recursive(true).mode(0o700);
        made.create(&folder)
            .map_err(|error| wrong(error.kind().to_string()))?;
        let path = state.join("results.key");
        if !path.exists() {
            let fresh: [u8; 32] = crate::identity::random()?;
            let text = Zeroizing::new(hex::encode(fresh));
            write_whole(&path, |file| file.write_all(text.as_bytes()))
                .map_err(|error| wrong(error.kind().to_string()))?;
        }
        let (text, _) = private_file::read(&path, 256)
            .map_err(|what| wrong(format!("{}: {what}", path.display())))?;
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text.trim(), key.as_mut())
            .map_err(|_| wrong(format!("{} is not 64 hexadecimal digits", path.display())))?;
        Ok(Self {
            folder,
            key,
            patience,
        })
    }

    /// Keeps a result.
    ///
    /// # Errors
    /// `LimitExceeded` when the disk does not take it.
    pub(super) fn put(&self, id: RunId, head: &Head, rows: &RecordBatch) -> Result<()> {
        let salt: [u8; 32] = crate::identity::random()?;
        let written = write_whole(&self.path(id), |file| {
            file.write_all(&salt)?;
            let mut sealed = Sealer::new(file, self.sealing(id, &salt));
            let head = serde_json::to_vec(head)?;
            if head.len() > MAX_HEAD {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            let length = u32::try_from(head.len()).map_err(io::Error::other)?;
            sealed.write_all(&length.to_be_bytes())?;
            sealed.write_all(&head)?;
            let mut arrow = StreamWriter::try_new(&mut sealed, &rows.schema()).map_err(other)?;
            // The reader finds the batches one after the other.
            for at in (0..rows.num_rows()).step_by(SLICE) {
                let slice = rows.slice(at, SLICE.min(rows.num_rows() - at));
                arrow.write(&slice).map_err(other)?;
            }
            arrow.finish().map_err(other)?;
            drop(arrow);
            sealed.end()
        });
        written.map_err(|error| {
            Error::new(
                Code::LimitExceeded,
                format!("the result cannot be kept for you: {}", error.kind()),
            )
        })
    }

    /// A kept result.
    ///
    /// # Errors
    /// `Internal` when the file is not what was written.
    pub(super) fn get(&self, id: RunId) -> Result<Finished> {
        let (head, opened) = self.head(id)?;
        let broken = |_: io::Error| damaged(id);
        let mut reader = StreamReader::try_new(opened, None).map_err(|_| damaged(id))?;
        let schema = reader.schema();
        let batches = reader
            .by_ref()
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(|_| damaged(id))?;
        // The last piece says that there are no more.
        if reader.get_mut().read(&mut [0]).map_err(broken)? > 0 {
            return Err(damaged(id));
        }
        let rows = concat_batches(&schema, &batches).map_err(|_| damaged(id))?;
        if rows.num_rows() != head.rows {
            return Err(damaged(id));
        }
        Ok(Finished {
            rows,
            notices: head.notices,
            digest: head.digest,
        })
    }

    /// A result was fetched: the next process of this gateway need not keep it.
    pub(super) fn fetched(&self, id: RunId) {
        let path = self.path(id);
        let _ = std::fs::rename(&path, path.with_extension(FETCHED));
    }

    /// Throws a result away.
    pub(super) fn remove(&self, id: RunId) {
        let path = self.path(id);
        let removed = std::fs::remove_file(&path)
            .or_else(|_| std::fs::remove_file(path.with_extension(FETCHED)));
        if let Err(error) = removed {
            tracing::warn!(query = %id.short(), reason = %error.kind(), "a kept result was not removed");
        }
    }

    /// The results that an earlier process of this gateway kept. What is not whole, or was fetched, is thrown away;
    /// what does not open stays where it is.
    pub(super) fn found(&self) -> Vec<(RunId, Head)> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten();
        let mut found = Vec::new();
        for entry in entries.filter_map(io::Result::ok) {
            let path = entry.path();
            let end = path.extension().and_then(|end| end.to_str());
            if end.is_some_and(|end| [PART, FETCHED].contains(&end)) {
                let _ = std::fs::remove_file(&path);
                continue;
            }
            let name = path.file_name().and_then(|name| name.to_str());
            let id = name.and_then(|name| hex::decode(name).ok());
            let Some(id) = id.and_then(|bytes| RunId::from_wire(&bytes).ok()) else {
                continue;
            };
            match self.head(id) {
                Ok((head, _)) => found.push((id, head)),
                Err(_) => tracing::error!(query = %id.short(), "a kept result does not open"),
            }
        }
        found.sort_by_key(|(_, head)| head.submitted);
        found
    }

    fn head(&self, id: RunId) -> Result<(Head, Opener)> {
        let broken = |_: io::Error| damaged(id);
        let path = self.path(id);
        let file = File::open(&path).or_else(|_| File::open(path.with_extension(FETCHED)));
        let mut file = BufReader::new(file.map_err(broken)?);
        let mut salt = [0; 32];
        file.read_exact(&mut salt).map_err(broken)?;
        let mut opened = Opener {
            file,
            sealing: self.sealing(id, &salt),
            piece: Vec::new(),
            at: 0,
            ended: false,
        };
        let mut length = [0; 4];
        opened.read_exact(&mut length).map_err(broken)?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_HEAD {
            return Err(damaged(id));
        }
        let mut head = vec![0; length];
        opened.read_exact(&mut head).map_err(broken)?;
        let head = serde_json::from_slice(&head).map_err(|_| damaged(id))?;
        Ok((head, opened))
    }

    fn path(&self, id: RunId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    fn sealing(&self, id: RunId, salt: &[u8; 32]) -> Sealing {
        let mut key = Zeroizing::new([0; 32]);
        let info = [b"veilgate result v1".as_slice(), &id.0];
        // cannot fail: 32 bytes are far below what HKDF gives.
        let _ = Hkdf::<Sha256>::new(Some(salt), self.key.as_ref())
            .expand_multi_info(&info, key.as_mut());
        Sealing::new(&key)
    }
}

fn damaged(id: RunId) -> Error {
    Error::new(
        Code::Internal,
        format!("the kept result of query {} is damaged", id.short()),
    )
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

/// Writes a file that is there as a whole or not at all, for nobody but its owner.
fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let part = path.with_extension(PART);
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = BufWriter::new(file.open(&part)?);
    let written = write(&mut file)
        .and_then(|()| file.flush())
        .and_then(|()| file.get_ref().sync_all())
        .and_then(|()| std::fs::rename(&part, path))
        .and_then(|()| File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all());
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written
}

/// Seals what is written, piece after piece.
struct Sealer<W> {
    into: W,
    sealing: Sealing,
    piece: Vec<u8>,
}

impl<W: Write> Sealer<W> {
    fn new(into: W, sealing: Sealing) -> Self {
        Self {
            into,
            sealing,
            piece: Vec::with_capacity(PIECE),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sealed = self.sealing.seal(bytes)?;
        let length = u32::try_from(sealed.len()).map_err(io::Error::other)?;
        self.into.write_all(&length.to_be_bytes())?;
        self.into.write_all(&sealed)
    }

    fn end(mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.piece);
        if !rest.is_empty() {
            self.put(&rest)?;
        }
        self.put(&[])
    }
}

impl<W: Write> Write for Sealer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE {
            let piece = std::mem::take(&mut self.piece);
            self.put(&piece)?;
            self.piece.reserve(PIECE);
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens what a [`Sealer`] wrote.
struct Opener {
    file: BufReader<File>,
    sealing: Sealing,
    piece: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Read for Opener {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() && !self.ended {
            let mut length = [0; 4];
            self.file.read_exact(&mut length)?;
            let length = u32::from_be_bytes(length) as usize;
            if length > PIECE + TAG {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut sealed = vec![0; length];
            self.file.read_exact(&mut sealed)?;
            self.piece = self.sealing.open(sealed)?;
            self.at = 0;
            self.ended = self.piece.is_empty();
        }
        let taken = into.len().min(self.piece.len() - self.at);
        into[..taken].copy_from_slice(&self.piece[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;
    use std::sync::Arc;

    fn store(folder: &Path) -> Kept {
        Kept::open(folder, Duration::from_secs(60)).unwrap()
    }

    fn result(rows: i64) -> Finished {
        let column: Int64Array = (0..rows).collect();
        let rows = RecordBatch::try_from_iter([("n", Arc::new(column) as _)]).unwrap();
        Finished {
            rows,
            notices: vec![("ledger".to_owned(), "tax: leaf 3".to_owned())],
            digest: Some([7; 32]),
        }
    }

    fn put(kept: &Kept, id: RunId, finished: &Finished) -> Head {
        let asker = Asker {
            analyst: "ada@tax".to_owned(),
            purpose: "audit".to_owned(),
            case: "17".to_owned(),
        };
        let head = Head::new(&asker, 5, 65, &["tax".to_owned()], finished);
        kept.put(id, &head, &finished.rows).unwrap();
        head
    }

    #[test]
    fn what_was_kept_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        for (number, rows) in [(1, 0), (2, 3), (3, 400_000)] {
            let (id, finished) = (RunId([number; 32]), result(rows));
            put(&store(folder.path()), id, &finished);
            let kept = store(folder.path());
            let got = kept.get(id).unwrap();
            assert_eq!(got.rows, finished.rows);
            assert_eq!(got.notices, finished.notices);
            assert_eq!(got.digest, finished.digest);
        }
        let kept = store(folder.path());
        let found = kept.found();
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].1.asker().analyst, "ada@tax");
        kept.remove(RunId([2; 32]));
        assert!(kept.get(RunId([2; 32])).is_err());
        // One that was fetched is there for a while, but not in the next process.
        kept.fetched(RunId([3; 32]));
        assert_eq!(kept.get(RunId([3; 32])).unwrap().rows.num_rows(), 400_000);
        assert_eq!(store(folder.path()).found().len(), 1);
        assert!(kept.get(RunId([3; 32])).is_err());
    }

    #[test]
    fn nothing_can_be_read_changed_cut_off_or_exchanged() {
        let folder = tempfile::tempdir().unwrap();
        let kept = store(folder.path());
        let (one, two) = (RunId([1; 32]), RunId([2; 32]));
        put(&kept, one, &result(300_000));
        put(&kept, two, &result(300_000));
        let path = kept.path(one);
        let whole = std::fs::read(&path).unwrap();
        assert!(!whole.windows(7).any(|part| part == b"ada@tax"));
        let counted: Vec<u8> = (100_i64..104).flat_map(i64::to_le_bytes).collect();
        assert!(!whole.windows(32).any(|part| part == counted));
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions())
                & 0o777,
            0o600
        );
        let places = (0..whole.len()).step_by(whole.len() / 97);
        for at in places.chain(whole.len() - 24..whole.len()) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            assert!(kept.get(one).is_err(), "byte {at} changed");
            std::fs::write(&path, &whole[..at]).unwrap();
            assert!(kept.get(one).is_err(), "cut off at {at}");
        }
        std::fs::copy(kept.path(two), &path).unwrap();
        assert!(kept.get(one).is_err(), "another query's file");
        let other = tempfile::tempdir().unwrap();
        let foreign = store(other.path());
        std::fs::write(foreign.path(one), &whole).unwrap();
        assert!(foreign.get(one).is_err(), "another gateway's file");
        assert!(foreign.found().is_empty());
    }
}
