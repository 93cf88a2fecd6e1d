//! `users.toml`: who the users are, as plain values that have been checked.

use super::password::{Cost, PasswordHash};
use super::secret::{Digest, TokenId};
use super::{Shown, User};
use crate::clock::{from_rfc3339, rfc3339};
use crate::config::Mistakes;
use crate::config::reader::{Document, Table};
use crate::identity::check_name;
use std::collections::HashSet;
use std::fmt::{self, Write as _};
use std::fs::Metadata;
use std::path::Path;
use std::str::FromStr;

/// Bytes of the largest file that is read: some ten thousand users.
const LONGEST: u64 = 4 << 20;

/// What somebody may be at a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Asks queries.
    Analyst,
    /// Reads the ledger.
    Auditor,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 2] = [Self::Analyst, Self::Auditor];

    /// Its name in files and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Analyst => "analyst",
            Self::Auditor => "auditor",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| "a role is \"analyst\" or \"auditor\"".into())
    }
}

/// The users in a file, no two with one name, no two tokens with one id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UsersFile {
    pub(crate) users: Vec<Entry>,
}

/// A user as the file has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// At least one, in ascending order.
    pub(crate) roles: Vec<Role>,
    pub(crate) password: Option<PasswordHash>,
    pub(crate) tokens: Vec<TokenEntry>,
}

/// A token as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenEntry {
    pub(crate) id: TokenId,
    pub(crate) digest: Digest,
    /// Unix seconds from which on it counts no more.
    pub(crate) expires: u64,
}

impl UsersFile {
    /// Reads a file that only its owner can read.
    ///
    /// # Errors
    /// Every mistake in it.
    pub(crate) fn load(path: &Path) -> Result<Self, Mistakes> {
        Self::load_with_metadata(path).map(|(file, _)| file)
    }

    /// The same, with what the system says of the file that was read.
    ///
    /// # Errors
    /// Every mistake in it.
    pub(super) fn load_with_metadata(path: &Path) -> Result<(Self, Metadata), Mistakes> {
        let (text, metadata) = crate::private_file::read(path, LONGEST).map_err(|what| {
            let make = if path.exists() {
                ""
            } else {
                "; `veilgate user add` makes it"
            };
            Mistakes::one(format!("users file {}: {what}{make}", path.display()))
        })?;
        Ok((Self::parse(&path.display().to_string(), &text)?, metadata))
    }

    /// Reads the text of a file of this name.
    ///
    /// # Errors
    /// Every mistake in it.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self, Mistakes> {
        // Variables do not override who may log in.
        let document = Document::parse(name, text.to_owned(), &[]);
        let file = Self::read(&document);
        let mistakes = document.mistakes();
        if mistakes.is_empty() {
            Ok(file)
        } else {
            Err(mistakes)
        }
    }

    fn read(document: &Document) -> Self {
        let root = document.root();
        root.version();
        let mut users: Vec<Entry> = Vec::new();
        let (mut names, mut ids) = (HashSet::new(), HashSet::new());
        let mut cost: Option<Cost> = None;
        for table in root.tables("users") {
            let Some(user) = Entry::read(&table, &mut ids) else {
                continue;
            };
            if !names.insert(user.name.clone()) {
                table.mistake("name", "another user has the same");
            }
            if let Some(hash) = &user.password
                && *cost.get_or_insert(hash.cost()) != hash.cost()
            {
                table.mistake(
                    "password",
                    "has other parameters than the hashes before it, which would show in the time of \
                     an answer; set it again with `veilgate user add --replace`",
                );
            }
            users.push(user);
        }
        Self { users }
    }

    /// The text of the file.
    pub(super) fn to_toml(&self) -> String {
        let mut text = String::from(
            "# The users of this gateway, written by `veilgate user`, which keeps no other comments.\n\
             # Passwords and tokens are here as hashes alone; still, nobody else may read this file.\n\
             version = 1\n",
        );
        for user in &self.users {
            let roles: Vec<String> = user
                .roles
                .iter()
                .map(|role| format!("\"{role}\""))
                .collect();
            let _ = write!(
                text,
                "\n[[users]]\nname = \"{}\"\nroles = [{}]\n",
                user.name,
                roles.join(", ")
            );
            if let Some(hash) = &user.password {
                let _ = writeln!(text, "password = \"{}\"", hash.to_phc());
            }
            for token in &user.tokens {
                let _ = write!(
                    text,
                    "\n[[users.tokens]]\nid = \"{}\"\ndigest = \"{}\"\nexpires = \"{}\"\n",
                    token.id,
                    token.digest.to_hex(),
                    rfc3339(token.expires)
                );
            }
        }
        text
    }

    /// The user of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.users.iter().find(|user| user.name == name)
    }

    /// The same, to change.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Entry> {
        self.users.iter_mut().find(|user| user.name == name)
    }

    /// The token of this id and whose it is.
    pub(crate) fn token(&self, id: &TokenId) -> Option<(&Entry, &TokenEntry)> {
        self.users.iter().find_map(|user| {
            let token = user.tokens.iter().find(|token| token.id == *id)?;
            Some((user, token))
        })
    }

    /// What the hashes of this file cost.
    pub(super) fn cost(&self) -> Cost {
        let mut hashes = self.users.iter().filter_map(|user| user.password.as_ref());
        hashes.next().map_or(Cost::DEFAULT, PasswordHash::cost)
    }

    /// Hashes a new password as this file's others are. Takes as long as a login.
    ///
    /// # Errors
    /// `Internal` without random numbers or memory.
    pub(crate) fn hash(&self, password: &str) -> veilgate_federated::error::Result<PasswordHash> {
        PasswordHash::of(password, self.cost())
    }
}

impl Entry {
    fn read(table: &Table<'_>, ids: &mut HashSet<TokenId>) -> Option<Self> {
        let name = table.require("name", "zhang.wei", |name| {
            check_name(name).map(|()| name.to_owned())
        });
        let roles = read_roles(table);
        let password = table.text("password").map(|text| text.parse());
        let password = match password.transpose() {
            Ok(password) => password,
            Err(what) => {
                let what: String = what;
                table.mistake("password", what);
                None
            }
        };
        let mut tokens = Vec::new();
        for token in table.tables("tokens") {
            let Some(read) = TokenEntry::read(&token) else {
                continue;
            };
            if !ids.insert(read.id.clone()) {
                token.mistake("id", "another token has the same");
            }
            tokens.push(read);
        }
        Some(Self {
            name: name?,
            roles: roles?,
            password,
            tokens,
        })
    }

    /// The user who has shown their password.
    pub(super) fn by_password(&self) -> Option<User> {
        let hash = self.password.as_ref()?;
        Some(self.user(Shown::Password(hash.fingerprint())))
    }

    /// The user who has shown a token of theirs.
    pub(super) fn by_token(&self, token: &TokenEntry) -> User {
        self.user(Shown::Token(token.id.clone()))
    }

    fn user(&self, shown: Shown) -> User {
        User {
            name: self.name.clone(),
            roles: self.roles.clone(),
            shown,
        }
    }

    /// Whether what was shown still counts.
    pub(super) fn accepts(&self, shown: &Shown, now: u64) -> bool {
        match shown {
            Shown::Password(fingerprint) => self
                .password
                .as_ref()
                .is_some_and(|hash| hash.fingerprint() == *fingerprint),
            Shown::Token(id) => self
                .tokens
                .iter()
                .any(|token| token.id == *id && now < token.expires),
        }
    }
}

fn read_roles(table: &Table<'_>) -> Option<Vec<Role>> {
    let texts = table.texts("roles", "[\"analyst\"]")?;
    let mut roles = Vec::new();
    for text in &texts {
        match text.parse::<Role>() {
            Ok(role) => roles.push(role),
            Err(what) => table.mistake("roles", what),
        }
    }
    if texts.is_empty() {
        table.mistake("roles", "needs at least one of \"analyst\" and \"auditor\"");
    }
    roles.sort();
    if roles.windows(2).any(|pair| pair[0] == pair[1]) {
        table.mistake("roles", "names one role twice");
    }
    Some(roles)
}

impl TokenEntry {
    fn read(table: &Table<'_>) -> Option<Self> {
        let id = table.require("id", "3fa29c10", str::parse::<TokenId>);
        let digest = table.require("digest", "<64 hexadecimal digits>", str::parse::<Digest>);
        let expires = table.require("expires", "2026-11-21T04:13:44Z", |text| {
            from_rfc3339(text).ok_or("a time in UTC, as 2026-11-21T04:13:44Z")
        });
        Some(Self {
            id: id?,
            digest: digest?,
            expires: expires?,
        })
    }
}
