//! What the ledger records: one flat JSON object a leaf, in canonical form (RFC 8785).
//!
//! Digests, names of rules and codes, the purpose and the time; the analyst and the case number only as
//! salted commitments, whose opening stays in a private file, so that it can be shredded while proofs
//! survive.

use crate::clock::rfc3339;
use crate::session::Asker;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::run::RunId;

/// Bytes of salt in a commitment.
pub(super) const SALT: usize = 32;

/// One thing that happened. `now` is always in Unix seconds.
#[derive(Clone)]
pub struct Leaf {
    fields: BTreeMap<&'static str, Value>,
    /// Shown as commitments.
    private: BTreeMap<&'static str, String>,
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.fields).finish()
    }
}

impl Leaf {
    fn new(kind: &'static str, now: u64) -> Self {
        let fields = [
            ("version", Value::from(1)),
            ("kind", Value::from(kind)),
            ("time", Value::from(rfc3339(now))),
        ];
        Self {
            fields: fields.into(),
            private: BTreeMap::new(),
        }
    }

    fn of_run(kind: &'static str, run: &RunId, now: u64) -> Self {
        Self::new(kind, now).with("run", hex::encode(run.0))
    }

    fn with(mut self, field: &'static str, value: impl Into<Value>) -> Self {
        self.fields.insert(field, value.into());
        self
    }

    /// A plan was allowed, or refused for the reason in `refusal`. `explain_only`: it was only to be
    /// explained, not run.
    #[must_use]
    pub(crate) fn admission(
        run: &RunId,
        plan: &[u8; 32],
        asker: &Asker,
        refusal: Option<&Error>,
        explain_only: bool,
        now: u64,
    ) -> Self {
        let decision = if refusal.is_some() { "deny" } else { "allow" };
        let mut leaf = Self::of_run("admission", run, now)
            .with("plan", hex::encode(plan))
            .with("decision", decision)
            .with("explain", explain_only);
        leaf.private.insert("analyst", asker.analyst.clone());
        if !asker.case.is_empty() {
            leaf.private.insert("case", asker.case.clone());
        }
        if !asker.purpose.is_empty() {
            leaf = leaf.with("purpose", asker.purpose.as_str());
        }
        if let Some(error) = refusal {
            leaf = leaf.with("reason", error.code.name());
            if let Some(denial) = &error.denial {
                leaf = leaf
                    .with("rule", denial.rule.as_str())
                    .with("column", denial.column.as_str());
            }
        }
        leaf
    }

    /// This gateway signed its consent to the plan, under this version of its policy.
    #[must_use]
    pub fn consent(run: &RunId, plan: &[u8; 32], policy: &[u8], now: u64) -> Self {
        Self::of_run("consent", run, now)
            .with("plan", hex::encode(plan))
            .with("policy", hex::encode(policy))
    }

    /// This gateway held the consents of all and started.
    #[must_use]
    pub fn start(run: &RunId, plan: &[u8; 32], now: u64) -> Self {
        Self::of_run("start", run, now).with("plan", hex::encode(plan))
    }

    /// This gateway agreed to the release; `transcript` is the digest of what it exchanged.
    #[must_use]
    pub fn release(run: &RunId, plan: &[u8; 32], transcript: &[u8; 32], now: u64) -> Self {
        Self::of_run("release", run, now)
            .with("plan", hex::encode(plan))
            .with("transcript", hex::encode(transcript))
    }

    /// The run ended with this error; nothing was opened.
    #[must_use]
    pub fn failure(run: &RunId, code: Code, now: u64) -> Self {
        Self::of_run("failure", run, now).with("reason", code.name())
    }

    /// A part of the configuration (`policy`, `catalogue`, `federation`) took effect in the version
    /// with this digest.
    #[must_use]
    pub fn configuration(part: &'static str, digest: &[u8; 32], now: u64) -> Self {
        Self::new("configuration", now)
            .with("part", part)
            .with("digest", hex::encode(digest))
    }

    /// The canonical bytes. All names are ASCII, so that RFC 8785's order is that of a `BTreeMap`.
    ///
    /// # Errors
    /// `Internal` when it does not serialise.
    pub(super) fn entry(&self, salt: &[u8; SALT]) -> Result<Vec<u8>> {
        let mut fields = self.fields.clone();
        for (field, text) in &self.private {
            fields.insert(
                field,
                Value::from(commitment(field, text, &own(field, salt))),
            );
        }
        serde_json::to_vec(&fields)
            .map_err(|_| Error::new(Code::Internal, "a ledger entry does not serialise"))
    }

    /// Lines that open the commitments, for the private file: one each, so that one can be shown or
    /// shredded without the others.
    pub(super) fn opening(&self, index: u64, salt: &[u8; SALT]) -> String {
        let lines = self.private.iter().map(|(field, text)| {
            let line = BTreeMap::from([
                (*field, Value::from(text.as_str())),
                ("leaf", Value::from(index)),
                ("salt", Value::from(hex::encode(own(field, salt)))),
            ]);
            format!("{}\n", serde_json::json!(line))
        });
        lines.collect()
    }
}

/// The salt of one field.
pub(super) fn own(field: &str, salt: &[u8; SALT]) -> [u8; SALT] {
    let mut hash = Sha256::new();
    hash.update(format!("veilgate {field} salt v1\0"));
    hash.update(salt);
    hash.finalize().into()
}

/// SHA-256 over a domain tag with the name of the field, the salt and the text, in hexadecimal.
pub(super) fn commitment(field: &str, text: &str, salt: &[u8; SALT]) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("veilgate {field} commitment v1\0"));
    hash.update(salt);
    hash.update(text.as_bytes());
    hex::encode(hash.finalize())
}

/// Reads an entry back; `None` unless it is canonical and has a version and kind.
pub(super) fn read_entry(entry: &[u8]) -> Option<BTreeMap<String, Value>> {
    let fields: BTreeMap<String, Value> = serde_json::from_slice(entry).ok()?;
    let canonical = serde_json::to_vec(&fields).ok()? == entry;
    let known = fields.get("version") == Some(&Value::from(1))
        && fields.get("kind").is_some_and(Value::is_string);
    (canonical && known).then_some(fields)
}
