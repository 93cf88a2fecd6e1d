//! Users of a gateway who log in with a password or a token, instead of a pinned key.
//!
//! `users.toml` says who there is; `veilgate user` writes it. [`Users`] answers who a name and password
//! or a token belong to, [`Sessions`] keeps those who have logged in. The file is looked at on every
//! question, so that a change counts at once; a file that does not load lets nobody in. Secrets are
//! kept as hashes alone, on disk and in memory. Knows nothing of sockets, of HTTP, or of what a user
//! may ask.

mod attempts;
mod file;
mod login;
mod password;
mod secret;
mod sessions;
mod store;

#[cfg(test)]
mod tests;

pub use file::Role;
pub use login::Users;
pub use sessions::{Listed, SESSION_PREFIX, Sessions};

pub(crate) use file::{Entry, TokenEntry, UsersFile};
pub(crate) use password::{LONGEST_PASSWORD, SHORTEST_PASSWORD};
pub(crate) use secret::{Digest, TokenId, new_token};
pub(crate) use sessions::digest;
pub(crate) use store::edit;

/// The usual name of the file, beside `gateway.toml`.
pub const USERS_FILE: &str = "users.toml";

/// Somebody who has shown who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    name: String,
    roles: Vec<Role>,
    /// By what they have shown it; when that is gone from the file, so is the session.
    shown: Shown,
}

/// What a user has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Shown {
    /// The password with this fingerprint.
    Password(Digest),
    /// The token of this id.
    Token(TokenId),
}

impl User {
    /// Their name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What they may be here, in ascending order, at least one.
    #[must_use]
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// Whether they have this role.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}
