//! Random secrets that stand for a user: how they look, and the digests that are kept of them.
//!
//! A secret is 32 random bytes as 43 characters of base64url (RFC 4648, 5). It cannot be guessed, so
//! one SHA-256 is enough to keep it by.

use crate::identity::random;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use subtle::ConstantTimeEq;
use veilgate_federated::error::Result;
use zeroize::Zeroizing;

/// Before everything that is a secret of Veilgate's, for people and for scanners of leaks.
pub(super) const PREFIX: &str = "veilgate_";

/// Characters of a secret.
const SECRET: usize = 43;

/// The SHA-256 of a secret's characters; to be compared in constant time, which `==` does.
#[derive(Clone, Copy)]
pub(crate) struct Digest([u8; 32]);

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Digest {}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest")
    }
}

impl Digest {
    /// That of a text.
    pub(super) fn of(secret: &str) -> Self {
        Self(Sha256::digest(secret.as_bytes()).into())
    }

    /// One that is the digest of nothing known.
    pub(super) fn of_nothing() -> Self {
        Self([0; 32])
    }

    /// 64 digits, for the file alone.
    pub(super) fn to_hex(self) -> String {
        hex::encode(self.0)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut bytes = [0; 32];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) if !text.bytes().any(|byte| byte.is_ascii_uppercase()) => Ok(Self(bytes)),
            _ => Err("not a SHA-256 of 64 lower-case hexadecimal digits; \
                      remove the token and make one with `veilgate user token`"
                .into()),
        }
    }
}

/// The public name of a token: 4 to 16 lower-case letters and digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TokenId(String);

impl TokenId {
    /// A fresh one, of 8 digits.
    ///
    /// # Errors
    /// `Internal` without random numbers.
    pub(crate) fn generate() -> Result<Self> {
        Ok(Self(hex::encode(random::<4>()?)))
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for TokenId {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if (4..=16).contains(&text.len()) && text.bytes().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err("the id of a token has 4 to 16 lower-case letters and digits".into())
        }
    }
}

/// A fresh secret behind this prefix, with the digest to keep.
///
/// # Errors
/// `Internal` without random numbers.
pub(super) fn generate(prefix: &str) -> Result<(Zeroizing<String>, Digest)> {
    let bytes = Zeroizing::new(random::<32>()?);
    let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes));
    let digest = Digest::of(&secret);
    Ok((Zeroizing::new(format!("{prefix}{}", *secret)), digest))
}

/// A fresh token of this id, `veilgate_<id>_<secret>`, with the digest to keep.
///
/// # Errors
/// `Internal` without random numbers.
pub(crate) fn new_token(id: &TokenId) -> Result<(Zeroizing<String>, Digest)> {
    generate(&format!("{PREFIX}{id}_"))
}

/// Id and secret of a token's text; `None` for a text that is none.
pub(super) fn parse_token(text: &str) -> Option<(TokenId, &str)> {
    let rest = text.strip_prefix(PREFIX)?;
    // From the end: a secret may hold `_` too.
    let (id, secret) = rest.split_at_checked(rest.len().checked_sub(SECRET)?)?;
    let id = id.strip_suffix('_')?.parse().ok()?;
    is_secret(secret).then_some((id, secret))
}

/// Whether a text has the form of a secret.
pub(super) fn is_secret(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    text.len() == SECRET && text.bytes().all(allowed)
}
