//! Reading and changing the file.

use super::*;
use crate::clock::rfc3339;
use std::os::unix::fs::PermissionsExt;
use veilgate_federated::error::{Code, Error};

const SALT: &str = "c2FsdHNhbHRzYWx0c2FsdA";
const HASH: &str = "aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g";

fn phc(start: &str) -> String {
    format!("${start}${SALT}${HASH}")
}

fn user(name: &str, rest: &str) -> String {
    format!("[[users]]\nname = \"{name}\"\nroles = [\"analyst\"]\n{rest}\n")
}

fn token(id: &str) -> String {
    format!(
        "[[users.tokens]]\nid = \"{id}\"\ndigest = \"{}\"\nexpires = \"2026-11-21T04:13:44Z\"\n",
        "ab".repeat(32)
    )
}

fn password(hash: &str) -> String {
    user("li", &format!("password = \"{hash}\""))
}

/// The mistakes in a file of these entries.
fn mistakes(entries: &str) -> String {
    UsersFile::parse("u", &format!("version = 1\n{entries}"))
        .err()
        .map(|mistakes| mistakes.to_string())
        .unwrap_or_default()
}

#[test]
fn a_good_file_loads_into_plain_values() {
    let text = format!(
        "version = 1\n{}{}{}",
        password(&phc("argon2id$v=19$m=19456,t=2,p=1")),
        token("3fa29c10"),
        "[[users]]\nname = \"audit\"\nroles = [\"auditor\", \"analyst\"]\n"
    );
    let file = UsersFile::parse("u", &text).unwrap();
    let li = file.get("li").unwrap();
    assert_eq!(li.roles, [Role::Analyst]);
    assert!(li.password.is_some());
    assert_eq!(li.tokens[0].id.to_string(), "3fa29c10");
    assert_eq!(rfc3339(li.tokens[0].expires), "2026-11-21T04:13:44Z");
    let audit = file.get("audit").unwrap();
    assert_eq!(audit.roles, [Role::Analyst, Role::Auditor]);
    assert_eq!(audit.password, None);
    assert_eq!(UsersFile::parse("u", &file.to_toml()).unwrap(), file);
    assert_eq!(
        UsersFile::parse("u", "version = 1\n").unwrap(),
        UsersFile::default()
    );
}

#[test]
fn every_mistake_is_told_with_its_place() {
    let good = phc("argon2id$v=19$m=19456,t=2,p=1");
    let costly = phc("argon2id$v=19$m=65536,t=3,p=4");
    assert_eq!(mistakes(&password(&costly)), "");
    for (entries, expected) in [
        (user("Li", ""), "u:3:1: `users[1].name`: a name has"),
        (
            user("li", "") + &user("li", ""),
            "u:7:1: `users[2].name`: another user has the same",
        ),
        (
            "[[users]]\nname = \"li\"\n".into(),
            "`users[1].roles` is missing; for example roles = [\"analyst\"]",
        ),
        (
            "[[users]]\nname = \"li\"\nroles = []\n".into(),
            "needs at least one of",
        ),
        (
            "[[users]]\nname = \"li\"\nroles = [\"root\"]\n".into(),
            "a role is \"analyst\" or \"auditor\"",
        ),
        (
            "[[users]]\nname = \"li\"\nroles = [\"analyst\", \"analyst\"]\n".into(),
            "names one role twice",
        ),
        (
            "[[users]]\nname = \"li\"\nroles = \"analyst\"\n".into(),
            "a list of texts",
        ),
        (
            user("li", "pasword = \"x\""),
            "unknown field `users[1].pasword`; did you mean `password`?",
        ),
        (user("li", "password = 7"), "must be text in quotes"),
        (password("hunter2"), "not a PHC string"),
        (password(""), "not a PHC string"),
        (
            password(&phc("argon2i$v=19$m=19456,t=2,p=1")),
            "not of Argon2id",
        ),
        (
            password(&phc("argon2id$v=16$m=19456,t=2,p=1")),
            "not of Argon2id",
        ),
        (
            password(&phc("argon2id$m=19456,t=2,p=1")),
            "not of Argon2id",
        ),
        (
            password("$2b$12$abcdefghijklmnopqrstuv"),
            "not a PHC string",
        ),
        (
            password(&phc("argon2id$v=19$m=4096,t=2,p=1")),
            "needs exactly m from 19456",
        ),
        (
            password(&phc("argon2id$v=19$m=4294967295,t=2,p=1")),
            "needs exactly m",
        ),
        (
            password(&phc("argon2id$v=19$m=19456,t=1,p=1")),
            "needs exactly",
        ),
        (
            password(&phc("argon2id$v=19$m=19456,t=2,p=99")),
            "needs exactly",
        ),
        (password(&phc("argon2id$v=19$m=19456,t=2")), "needs exactly"),
        (
            password(&phc("argon2id$v=19$m=19456,t=2,p=1,keyid=abcd")),
            "needs exactly",
        ),
        (
            password(&format!("$argon2id$v=19$m=19456,t=2,p=1${SALT}")),
            "needs a salt",
        ),
        (
            password(&format!(
                "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ${HASH}"
            )),
            "needs a salt",
        ),
        (
            password(&format!("$argon2id$v=19$m=19456,t=2,p=1${SALT}${SALT}")),
            "needs a salt",
        ),
        (
            password(&good) + &user("wang", &format!("password = \"{costly}\"")),
            "has other parameters than the hashes before it",
        ),
        (
            user("li", "") + &token("3fa2") + &token("3fa2"),
            "`users[1].tokens[2].id`: another token has the same",
        ),
        (
            user("li", "") + &token("3fa2") + &user("wang", "") + &token("3fa2"),
            "`users[2].tokens[1].id`: another token has the same",
        ),
        (
            user("li", "") + &token("s"),
            "the id of a token has 4 to 16",
        ),
        (
            user("li", "") + &token("3FA2"),
            "the id of a token has 4 to 16",
        ),
        (
            user("li", "") + &token("3fa2").replace("abab", "ABab"),
            "not a SHA-256",
        ),
        (
            user("li", "") + &token("3fa2").replace("\"abab", "\"ab"),
            "not a SHA-256",
        ),
        (
            user("li", "") + &token("3fa2").replace("04:13:44Z", "04:13:44+08:00"),
            "a time in UTC",
        ),
        (
            user("li", "") + &token("3fa2").replace("\"2026-11-21T04:13:44Z\"", "2026-11-21"),
            "must be text in quotes",
        ),
    ] {
        let found = mistakes(&entries);
        assert!(
            found.contains(expected),
            "{expected} in {found:?} of\n{entries}"
        );
        for secret in [SALT, HASH, "hunter2", "abababab"] {
            assert!(!found.contains(secret), "{found}");
        }
    }
    let found = UsersFile::parse("u", "version = 2\nuser = []\n").unwrap_err();
    assert_eq!(found.lines().len(), 2, "{found}");
}

#[test]
fn garbage_is_refused_and_nothing_panics() {
    let text = format!(
        "version = 1\n{}{}{}",
        password(&phc("argon2id$v=19$m=19456,t=2,p=1")),
        token("3fa29c10"),
        token("3fa29c11")
    );
    UsersFile::parse("u", &text).unwrap();
    // What is cut off or altered may still be a file, but then it reads back as what it is.
    let check = |text: &str| {
        if let Ok(file) = UsersFile::parse("u", text) {
            assert_eq!(UsersFile::parse("u", &file.to_toml()).unwrap(), file);
        }
    };
    for end in 0..text.len() {
        check(&text[..end]);
    }
    for (at, _) in text.char_indices() {
        for letter in ["\"", "\n", "[", "=", "$", "0", "\u{0}", "税"] {
            let mut altered = text.clone();
            altered.replace_range(at..=at, letter);
            check(&altered);
        }
    }
    for garbage in ["\u{0}\u{1}", "[[[[[[", "version", "= = =", "\u{feff}{}"] {
        assert!(UsersFile::parse("u", garbage).is_err(), "{garbage:?}");
    }
}

#[test]
fn only_a_private_file_of_text_is_read() {
    let (_folder, path) = folder();
    let refused = |expected: &str| {
        let error = UsersFile::load(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected} in {error}");
        assert!(error.contains(USERS_FILE), "{error}");
    };
    refused("`veilgate user add` makes it");
    put(&path, entry("li", &[Role::Analyst], None));
    for mode in [0o640, 0o604, 0o660, 0o644] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        refused("chmod 600");
    }
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    UsersFile::load(&path).unwrap();
    std::fs::write(&path, [0xff, 0xfe, 0]).unwrap();
    refused("invalid data");
    std::fs::write(&path, vec![b'#'; (4 << 20) + 1]).unwrap();
    refused("longer than");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
    refused("directory");
}

#[test]
fn a_change_is_written_in_full_or_not_at_all() {
    let (folder, path) = folder();
    put(&path, entry("li", &[Role::Analyst], Some(PASSWORD)));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::read(&path).unwrap();
    let failed = edit(&path, |file| {
        file.users.clear();
        Err::<(), _>(Error::new(Code::BadRequest, "no"))
    });
    assert_eq!(failed.unwrap_err().message, "no");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    // A file with mistakes is not replaced by one without its users.
    std::fs::write(&path, "version = 1\nuser = 1\n").unwrap();
    assert!(edit(&path, |_| Ok(())).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"version = 1\nuser = 1\n");
    // What cannot be read back is not written.
    std::fs::write(&path, &before).unwrap();
    let failed = edit(&path, |file| {
        file.users.push(entry("li", &[Role::Analyst], None));
        Ok(())
    });
    assert_eq!(failed.unwrap_err().code, Code::Internal);
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let left: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|file| file.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 2, "the file and its lock alone: {left:?}");
}

#[test]
fn changes_at_the_same_time_are_all_kept() {
    let (_folder, path) = folder();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let path = &path;
            scope.spawn(move || {
                for index in 0..5 {
                    put(
                        path,
                        entry(&format!("u{thread}_{index}"), &[Role::Auditor], None),
                    );
                }
            });
        }
    });
    assert_eq!(UsersFile::load(&path).unwrap().users.len(), 20);
}

#[test]
fn a_link_stays_one() {
    let (folder, path) = folder();
    let real = folder.path().join("real.toml");
    put(&real, entry("li", &[Role::Analyst], None));
    std::os::unix::fs::symlink(&real, &path).unwrap();
    put(&path, entry("wang", &[Role::Analyst], None));
    assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink());
    assert_eq!(UsersFile::load(&real).unwrap().users.len(), 2);
}
