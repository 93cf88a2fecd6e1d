//! One file that proves what a gateway's ledger says of one run, verified offline.
//!
//! It holds the leaves of the run as they are in the log, their inclusion proofs (RFC 6962, 2.1.1),
//! the signed checkpoint and the key. Every byte counts: a file that does not encode to itself is
//! refused.

use super::files::Folder;
use super::verify::Opened;
use super::{Head, LogKey, corrupt, layout, leaf};
use crate::identity::PublicKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::path::Path;
use tlog_tiles::{Hash, TileHashReader, check_record, prove_record, record_hash};
use veilgate_federated::error::{Code, Error, Result};

const FORMAT: &str = "veilgate ledger proof v1";

/// The fewest digits that name a query.
const SHORTEST_ID: usize = 8;

/// What a gateway recorded of one run, with proofs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    format: String,
    /// The run, 64 hexadecimal digits.
    query: String,
    /// C2SP verifier key.
    key: String,
    /// C2SP signed note.
    checkpoint: String,
    leaves: Vec<Included>,
}

/// A leaf with its inclusion proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Included {
    index: u64,
    entry: String,
    /// Hashes from the leaf's sibling up, in base64.
    path: Vec<String>,
}

/// Proves what the ledger at `path` says of the run whose id starts with `query` (at least eight
/// hexadecimal digits).
///
/// # Errors
/// `BadRequest` when it says nothing of it, or `query` names several; `LedgerCorrupt` when the
/// ledger does not fit together where it was read.
pub fn prove(path: &Path, query: &str) -> Result<Proof> {
    let query = query.to_lowercase();
    let fine = (SHORTEST_ID..=64).contains(&query.len())
        && query.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !fine {
        return Err(Error::new(
            Code::BadRequest,
            "a query id has 8 to 64 hexadecimal digits",
        ));
    }
    let Opened {
        folder,
        log,
        checkpoint,
        head,
    } = Opened::new(path, None)?;
    let found = find(&folder, head, &query)?;
    let run = single_run(&found, &query)?;
    let reader = TileHashReader::new(head.size, Hash(head.root), &folder);
    let mut leaves = Vec::with_capacity(found.len());
    for (index, _, entry) in found {
        let hashes = prove_record(head.size, index, &reader).map_err(super::altered)?;
        leaves.push(Included {
            index,
            entry: String::from_utf8(entry)
                .map_err(|_| corrupt(format!("entry {index} is not text")))?,
            path: hashes.iter().map(|hash| STANDARD.encode(hash.0)).collect(),
        });
    }
    let proof = Proof {
        format: FORMAT.to_owned(),
        query: run,
        key: log.vkey(),
        checkpoint: String::from_utf8(checkpoint)
            .map_err(|_| corrupt("the checkpoint is not text"))?,
        leaves,
    };
    // Entries were found by reading, not yet compared with the tree.
    proof.check(None)?;
    Ok(proof)
}

/// Leaf number, run and entry of what may be meant.
type Found = Vec<(u64, String, Vec<u8>)>;

fn find(folder: &Folder, head: Head, query: &str) -> Result<Found> {
    let mut found = Vec::new();
    for number in 0..head.size.div_ceil(layout::TILE) {
        let first = number * layout::TILE;
        for (entry, index) in folder
            .read_bundle(number, head.size)?
            .into_iter()
            .zip(first..)
        {
            let run = leaf::read_entry(&entry)
                .and_then(|fields| Some(fields.get("run")?.as_str()?.to_owned()));
            if let Some(run) = run.filter(|run| run.starts_with(query)) {
                found.push((index, run, entry));
            }
        }
    }
    Ok(found)
}

fn single_run(found: &Found, query: &str) -> Result<String> {
    let wrong = |what: &str| Err(Error::new(Code::BadRequest, format!("{what} {query}")));
    match found.first() {
        None => wrong("this ledger has no leaf of query"),
        Some((_, run, _)) if found.iter().all(|(_, other, _)| other == run) => Ok(run.clone()),
        Some(_) => wrong("several queries start with"),
    }
}

impl Proof {
    /// The bytes of the file.
    ///
    /// # Errors
    /// `Internal` when it does not serialise.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|_| Error::new(Code::Internal, "a proof does not serialise"))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads a file; verify it with [`Proof::check`].
    ///
    /// # Errors
    /// `LedgerCorrupt` unless it is exactly what [`Proof::to_bytes`] gives.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let proof: Self = serde_json::from_slice(bytes).map_err(|error| {
            corrupt(format!(
                "not a ledger proof: damaged at line {}, column {}",
                error.line(),
                error.column()
            ))
        })?;
        if proof.format != FORMAT || proof.to_bytes()? != bytes {
            return Err(corrupt("not a ledger proof in canonical form"));
        }
        Ok(proof)
    }

    /// Verifies signature and inclusion of every leaf. Without `key`, the key in the file is
    /// trusted, which proves consistency but not origin.
    ///
    /// # Errors
    /// `LedgerCorrupt` with what does not fit.
    pub fn check(&self, key: Option<PublicKey>) -> Result<Head> {
        let log = self.log()?;
        if key.is_some_and(|key| key != log.public_key()) {
            return Err(corrupt("the proof is of another key than the one given"));
        }
        let head = log.open(self.checkpoint.as_bytes())?;
        if self.leaves.is_empty() {
            return Err(corrupt("the proof has no leaves"));
        }
        let mut before = None;
        for included in &self.leaves {
            included.check(&self.query, head)?;
            if before.is_some_and(|before| before >= included.index) {
                return Err(corrupt("the leaves are not in order"));
            }
            before = Some(included.index);
        }
        Ok(head)
    }

    /// The key in the file.
    ///
    /// # Errors
    /// `LedgerCorrupt` when it is damaged.
    pub fn log(&self) -> Result<LogKey> {
        LogKey::from_vkey(&self.key)
    }

    /// The run.
    #[must_use]
    pub fn query(&self) -> &str {
        &self.query
    }

    /// The leaves: number and canonical JSON.
    pub fn leaves(&self) -> impl Iterator<Item = (u64, &str)> {
        self.leaves
            .iter()
            .map(|included| (included.index, included.entry.as_str()))
    }
}

impl Included {
    fn check(&self, query: &str, head: Head) -> Result<()> {
        let index = self.index;
        let wrong = |what: &str| corrupt(format!("leaf {index}: {what}"));
        let path = self
            .path
            .iter()
            .map(|text| {
                let bytes = STANDARD.decode(text).ok()?;
                bytes.try_into().ok().map(Hash)
            })
            .collect::<Option<Vec<Hash>>>()
            .ok_or_else(|| wrong("the inclusion proof is damaged"))?;
        let hash = record_hash(self.entry.as_bytes());
        check_record(&path, head.size, Hash(head.root), index, hash)
            .map_err(|_| wrong("it is not in the tree that the checkpoint signs"))?;
        let fields =
            leaf::read_entry(self.entry.as_bytes()).ok_or_else(|| wrong("not a canonical leaf"))?;
        if fields.get("run").and_then(|run| run.as_str()) != Some(query) {
            return Err(wrong("it is of another query"));
        }
        Ok(())
    }
}
