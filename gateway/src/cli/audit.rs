//! `veilgate audit`: verifies ledgers and proofs offline, and makes proofs.

use super::{print, say};
use crate::identity::PublicKey;
use crate::ledger::{self, Proof};
use std::fmt::Write as _;
use std::path::Path;
use veilgate_federated::error::{Code, Error, Result};

/// The longest proof that is read.
const LONGEST: u64 = 64 << 20;

/// Verifies a ledger's folder or a proof's file.
///
/// # Errors
/// `LedgerCorrupt` (exit 76) with what does not fit and where; `BadRequest` when there is nothing
/// at `path` or the key is none.
pub fn verify(path: &Path, key: Option<&str>) -> Result<()> {
    let key = key
        .map(str::parse::<PublicKey>)
        .transpose()
        .map_err(|error| Error::new(Code::BadRequest, format!("--key: {}", error.message)))?;
    let text = if path.is_dir() {
        ledger_text(&ledger::verify(path, key)?)
    } else {
        proof_text(&read(path)?, key).map_err(|mut error| {
            error.message = format!("{}: {}", path.display(), error.message);
            error
        })?
    };
    if key.is_none() {
        say(
            "note: the key was taken from what it verifies: that proves consistency, not origin. \
             Give --key with the key in your federation.toml.",
        );
    }
    print(&text)
}

/// Writes the proof of what a ledger says of a query.
///
/// # Errors
/// `BadRequest` when it says nothing of it or the file cannot be written; `LedgerCorrupt`.
pub fn prove(ledger: &Path, query: &str, file: &Path) -> Result<()> {
    let proof = ledger::prove(ledger, query)?;
    std::fs::write(file, proof.to_bytes()?).map_err(|error| {
        Error::new(
            Code::BadRequest,
            format!("{} cannot be written: {}", file.display(), error.kind()),
        )
    })?;
    print(&format!(
        "{}: {} leaves of query {} in the ledger of {}\n",
        file.display(),
        proof.leaves().count(),
        proof.query(),
        proof.log()?.department()
    ))
}

fn read(path: &Path) -> Result<Proof> {
    let wrong = |what: String| {
        Error::new(
            Code::BadRequest,
            format!("{} cannot be read: {what}", path.display()),
        )
    };
    let length = std::fs::metadata(path)
        .map_err(|error| wrong(error.kind().to_string()))?
        .len();
    if length > LONGEST {
        return Err(wrong("too long for a proof".into()));
    }
    let bytes = std::fs::read(path).map_err(|error| wrong(error.kind().to_string()))?;
    Proof::from_bytes(&bytes)
}

fn ledger_text(report: &ledger::Report) -> String {
    let mut text = format!(
        "verified: the ledger of {}, {} leaves\n  root  {}\n  key   {}\n",
        report.department,
        report.size,
        hex::encode(report.root),
        report.public_key
    );
    for (kind, count) in &report.kinds {
        let _ = writeln!(text, "  {count:>6} {kind}");
    }
    for name in &report.uncommitted {
        let _ = writeln!(text, "  not part of the ledger: {name}");
    }
    text
}

fn proof_text(proof: &Proof, key: Option<PublicKey>) -> Result<String> {
    let head = proof.check(key)?;
    let log = proof.log()?;
    let mut text = format!(
        "verified: query {} in the ledger of {} ({} leaves)\n  root  {}\n  key   {}\n",
        proof.query(),
        log.department(),
        head.size,
        hex::encode(head.root),
        log.public_key()
    );
    for (index, entry) in proof.leaves() {
        let _ = writeln!(text, "  leaf {index}: {}", shown(entry));
    }
    Ok(text)
}

/// The fields of a leaf that a person looks for.
fn shown(entry: &str) -> String {
    let fields: serde_json::Value = serde_json::from_str(entry).unwrap_or_default();
    ["time", "kind", "decision", "reason", "rule", "plan"]
        .into_iter()
        .filter_map(|name| {
            let value = fields.get(name)?.as_str()?;
            Some(match name {
                "plan" => format!("plan {}", value.get(..12).unwrap_or(value)),
                "rule" => format!("rule {value}"),
                _ => value.to_owned(),
            })
        })
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use crate::ledger::{Leaf, Ledger};
    use std::sync::Arc;
    use veilgate_federated::run::RunId;

    #[test]
    fn verifies_a_ledger_and_a_proof_until_they_are_altered() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("ledger");
        let identity = Arc::new(Identity::generate("tax").unwrap());
        let key = identity.public_key().to_string();
        let mut ledger = Ledger::open(&dir, identity).unwrap();
        let run = RunId([9; 32]);
        let asker = crate::session::Asker {
            analyst: "zhang.wei".to_owned(),
            ..crate::session::Asker::default()
        };
        ledger
            .append_all(&[
                Leaf::admission(&run, &[1; 32], &asker, None, false, 1),
                Leaf::start(&run, &[1; 32], 2),
            ])
            .unwrap();
        verify(&dir, None).unwrap();
        verify(&dir, Some(&key)).unwrap();
        let other = Identity::generate("tax").unwrap().public_key().to_string();
        assert_eq!(
            verify(&dir, Some(&other)).unwrap_err().blame().exit_code(),
            76
        );
        assert_eq!(verify(&dir, Some("x")).unwrap_err().code, Code::BadRequest);

        let file = folder.path().join("q.proof");
        prove(&dir, &hex::encode(run.0), &file).unwrap();
        verify(&file, Some(&key)).unwrap();
        let text = proof_text(&read(&file).unwrap(), None).unwrap();
        assert!(
            text.contains("admission, allow, plan 010101010101"),
            "{text}"
        );
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        std::fs::write(&file, bytes).unwrap();
        let error = verify(&file, Some(&key)).unwrap_err();
        assert_eq!(error.blame().exit_code(), 76);
        assert!(error.message.contains("q.proof"), "{error}");

        let missing = verify(&folder.path().join("nothing"), None).unwrap_err();
        assert_eq!(missing.code, Code::BadRequest);
    }
}
