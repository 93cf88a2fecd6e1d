//! Checkpoints (<https://c2sp.org/tlog-checkpoint>): the tree head as a signed note by the gateway's
//! Ed25519 key, under the log's origin as the key's name.

use super::corrupt;
use crate::identity::{Identity, PublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use signed_note::{Note, Signature, key_id};
use tlog_tiles::{Checkpoint, Hash};
use veilgate_federated::error::{Code, Error, Result};

/// Ed25519 in C2SP signed notes.
const ALGORITHM: u8 = 1;
/// Before the department in an origin.
const ORIGIN: &str = "veilgate/";

/// A tree head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// How many leaves.
    pub size: u64,
    /// The Merkle tree's root.
    pub root: [u8; 32],
}

/// The key of a log: its origin, which names it, and the gateway's public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogKey {
    origin: String,
    public: PublicKey,
}

impl LogKey {
    /// The key of the ledger of this gateway.
    #[must_use]
    pub fn of(identity: &Identity) -> Self {
        Self {
            origin: format!("{ORIGIN}{}", identity.name()),
            public: identity.public_key(),
        }
    }

    /// Reads a C2SP verifier key, `origin+id+base64`, and only in its canonical form.
    ///
    /// # Errors
    /// `LedgerCorrupt` for anything else.
    pub fn from_vkey(text: &str) -> Result<Self> {
        let wrong = || corrupt("the verifier key is damaged");
        let (origin, rest) = text.split_once('+').ok_or_else(wrong)?;
        let (_, encoded) = rest.split_once('+').ok_or_else(wrong)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| wrong())?;
        let key = bytes.strip_prefix(&[ALGORITHM]).ok_or_else(wrong)?;
        let key = Self {
            origin: origin.to_owned(),
            public: PublicKey::from_bytes(key.try_into().map_err(|_| wrong())?)
                .map_err(|_| wrong())?,
        };
        // That covers the id and every other character.
        if origin.starts_with(ORIGIN) && key.vkey() == text {
            Ok(key)
        } else {
            Err(wrong())
        }
    }

    /// The department whose ledger it is.
    #[must_use]
    pub fn department(&self) -> &str {
        self.origin.strip_prefix(ORIGIN).unwrap_or(&self.origin)
    }

    /// The gateway's key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public
    }

    /// The C2SP verifier key, for other tools.
    #[must_use]
    pub fn vkey(&self) -> String {
        format!(
            "{}+{:08x}+{}",
            self.origin,
            self.id(),
            STANDARD.encode(self.encoded())
        )
    }

    pub(super) fn vkey_line(&self) -> String {
        self.vkey() + "\n"
    }

    /// Checks that a ledger's key file is of this key.
    pub(super) fn check_vkey_line(&self, line: &[u8]) -> Result<()> {
        if line == self.vkey_line().as_bytes() {
            Ok(())
        } else {
            Err(corrupt(
                "the ledger's vkey file is of another gateway or key: give each identity its own state folder",
            ))
        }
    }

    fn encoded(&self) -> Vec<u8> {
        [&[ALGORITHM], self.public.as_bytes().as_slice()].concat()
    }

    fn id(&self) -> u32 {
        key_id(&self.origin, &self.encoded())
    }

    /// The signed checkpoint of `head`.
    pub(super) fn sign(&self, identity: &Identity, head: &Head) -> Result<Vec<u8>> {
        let internal = || Error::new(Code::Internal, "a checkpoint cannot be made");
        let text = Checkpoint::new(&self.origin, head.size, Hash(head.root), "")
            .map_err(|_| internal())?
            .to_bytes();
        let signature = identity.sign_raw(&text);
        let signature = Signature::new(self.origin.clone(), self.id(), signature.to_vec())
            .map_err(|_| internal())?;
        let note = Note::new(&text, &[signature]).map_err(|_| internal())?;
        Ok(note.to_bytes())
    }

    /// Reads a checkpoint and verifies its signature by this key. Every byte counts: what does not
    /// encode to itself, or carries a signature that cannot be verified, is refused.
    ///
    /// # Errors
    /// `LedgerCorrupt`.
    pub fn open(&self, bytes: &[u8]) -> Result<Head> {
        let wrong = |what: &str| corrupt(format!("checkpoint: {what}"));
        let note = Note::from_bytes(bytes).map_err(|_| wrong("not a signed note"))?;
        if note.to_bytes() != bytes {
            return Err(wrong("not in canonical form"));
        }
        let text = note.text();
        let checkpoint =
            Checkpoint::from_bytes(text).map_err(|_| wrong("not a checkpoint of a log"))?;
        if checkpoint.to_bytes() != text || !checkpoint.extension().is_empty() {
            return Err(wrong("not in canonical form"));
        }
        if checkpoint.origin() != self.origin {
            return Err(wrong("it is of another log"));
        }
        let signature = self.only_signature(&bytes[text.len()..]);
        let signature = signature.ok_or_else(|| wrong("not signed by this log's key alone"))?;
        if !self.public.verify_raw(text, signature.signature()) {
            return Err(wrong("the signature does not verify"));
        }
        Ok(Head {
            size: checkpoint.size(),
            root: checkpoint.hash().0,
        })
    }

    /// The one signature after the text, if it names this key. Cosignatures of witnesses will follow
    /// it, once there are keys to verify them with.
    fn only_signature(&self, block: &[u8]) -> Option<Signature> {
        let line = block.strip_prefix(b"\n")?.strip_suffix(b"\n")?;
        let signature = Signature::from_bytes(line).ok()?;
        (signature.name() == self.origin && signature.id() == self.id()).then_some(signature)
    }
}
