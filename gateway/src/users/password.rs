//! Hashes of passwords: Argon2id (RFC 9106), written as PHC strings.

use super::secret::Digest;
use crate::identity::random;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use std::fmt;
use std::str::FromStr;
use veilgate_federated::error::{Code, Error, Result};

/// Bytes of the longest password that is looked at.
pub(crate) const LONGEST_PASSWORD: usize = 1024;
/// Characters of the shortest password that `veilgate user` takes.
pub(crate) const SHORTEST_PASSWORD: usize = 12;

/// Bytes of a new salt, as RFC 9106 recommends.
const SALT: usize = 16;
/// Bytes of a hash.
const OUTPUT: usize = 32;

/// What one hash costs. All hashes of a file cost the same, or the time of an answer would tell who
/// has an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    /// KiB of memory (`m`).
    memory: u32,
    /// Passes over it (`t`).
    passes: u32,
    /// Lanes (`p`).
    lanes: u32,
}

impl Cost {
    /// The least that OWASP's Password Storage Cheat Sheet recommends of this memory: 19 MiB, 2 passes,
    /// one lane. A login is then tens of milliseconds, and two at a time stay below 40 MiB.
    pub(super) const DEFAULT: Self = Self {
        memory: 19_456,
        passes: 2,
        lanes: 1,
    };
    /// The most that a file may ask for.
    const MOST: Self = Self {
        memory: 262_144,
        passes: 16,
        lanes: 4,
    };

    fn allowed(self) -> bool {
        (Self::DEFAULT.memory..=Self::MOST.memory).contains(&self.memory)
            && (Self::DEFAULT.passes..=Self::MOST.passes).contains(&self.passes)
            && (Self::DEFAULT.lanes..=Self::MOST.lanes).contains(&self.lanes)
    }
}

impl Default for Cost {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The hash of a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PasswordHash(argon2::PasswordHash);

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

impl PasswordHash {
    /// Hashes a new password. Takes as long as a login.
    ///
    /// # Errors
    /// `Internal` without random numbers or memory.
    pub(super) fn of(password: &str, cost: Cost) -> Result<Self> {
        let internal = |_| Error::new(Code::Internal, "a password cannot be hashed");
        let params = Params::new(cost.memory, cost.passes, cost.lanes, Some(OUTPUT))
            .map_err(|_| Error::new(Code::Internal, "a password cannot be hashed at this cost"))?;
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_with_salt(password.as_bytes(), &random::<SALT>()?)
            .map(Self)
            .map_err(internal)
    }

    /// The hash of no password, for names that have none: to check it costs what the others do.
    ///
    /// # Errors
    /// `Internal` without random numbers.
    pub(super) fn of_nothing(cost: Cost) -> Result<Self> {
        let encode = |bytes: &[u8]| STANDARD_NO_PAD.encode(bytes);
        format!(
            "$argon2id$v=19$m={},t={},p={}${}${}",
            cost.memory,
            cost.passes,
            cost.lanes,
            encode(&random::<SALT>()?),
            encode(&random::<OUTPUT>()?)
        )
        .parse()
        .map_err(|_| Error::new(Code::Internal, "the hash of nobody cannot be made"))
    }

    /// Whether this is the password. Takes tens of milliseconds and the memory of its cost.
    pub(super) fn fits(&self, password: &str) -> bool {
        // Algorithm, version and cost come from the hash, which was checked when it was read.
        Argon2::default()
            .verify_password(password.as_bytes(), &self.0)
            .is_ok()
    }

    /// What it costs.
    pub(super) fn cost(&self) -> Cost {
        let number = |name| self.0.params.get_decimal(name).unwrap_or(0);
        Cost {
            memory: number("m"),
            passes: number("t"),
            lanes: number("p"),
        }
    }

    /// Says in memory which hash this is, without being one that a password can be tried on.
    pub(super) fn fingerprint(&self) -> Digest {
        Digest::of(&self.0.to_string())
    }

    /// The PHC string, for the file alone.
    pub(super) fn to_phc(&self) -> String {
        self.0.to_string()
    }
}

impl FromStr for PasswordHash {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mend = "leave it out and set it with `veilgate user add --replace`";
        let hash = argon2::PasswordHash::new(text)
            .map_err(|_| format!("not a PHC string, $argon2id$v=19$...; {mend}"))?;
        if hash.algorithm.as_str() != "argon2id" || hash.version != Some(19) {
            return Err(format!("not of Argon2id, version 19; {mend}"));
        }
        let complete = hash.salt.is_some_and(|salt| salt.as_ref().len() >= SALT)
            && hash.hash.is_some_and(|output| output.len() == OUTPUT);
        if !complete {
            return Err(format!(
                "needs a salt of {SALT} bytes or more and a hash of {OUTPUT}; {mend}"
            ));
        }
        let read = Self(hash);
        if read.0.params.iter().count() != 3 || !read.cost().allowed() {
            let (least, most) = (Cost::DEFAULT, Cost::MOST);
            return Err(format!(
                "needs exactly m from {} to {}, t from {} to {} and p from {} to {}; {mend}",
                least.memory, most.memory, least.passes, most.passes, least.lanes, most.lanes
            ));
        }
        Ok(read)
    }
}
