//! Files as people and attackers make them; logins, tokens and sessions on real files.

mod files;
mod logins;

use super::*;
use crate::clock::unix_now;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const PASSWORD: &str = "correct horse battery";

/// A folder for one test, and the path of a users file in it.
fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(USERS_FILE);
    (folder, path)
}

fn entry(name: &str, roles: &[Role], password: Option<&str>) -> Entry {
    Entry {
        name: name.into(),
        roles: roles.to_vec(),
        password: password.map(|text| UsersFile::default().hash(text).unwrap()),
        tokens: Vec::new(),
    }
}

/// Adds a user, or replaces the one of this name.
fn put(path: &Path, entry: Entry) {
    edit(path, |file| {
        file.users.retain(|user| user.name != entry.name);
        file.users.push(entry);
        Ok(())
    })
    .unwrap();
}

/// Gives a user a token that expires in so many seconds.
fn give_token(path: &Path, name: &str, seconds: i64) -> (TokenId, String) {
    let id = TokenId::generate().unwrap();
    let (text, digest) = new_token(&id).unwrap();
    let token = TokenEntry {
        id: id.clone(),
        digest,
        expires: unix_now().saturating_add_signed(seconds),
    };
    edit(path, |file| {
        file.get_mut(name).unwrap().tokens.push(token);
        Ok(())
    })
    .unwrap();
    (id, text.to_string())
}
