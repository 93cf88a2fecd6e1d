//! `veilgate user`: who may log in at a gateway with a password or a token.

use super::args::{Common, RoleArg, UserAddArgs, UserCommand, UsersAt};
use super::output::{self, Rows};
use super::{print, say};
use crate::clock::{rfc3339, unix_now};
use crate::config::{GatewayConfig, environment};
use crate::identity::check_name;
use crate::users::{
    Entry, LONGEST_PASSWORD, Role, SHORTEST_PASSWORD, TokenEntry, TokenId, USERS_FILE, UsersFile,
    edit, new_token,
};
use arrow::array::{ArrayRef, StringArray};
use arrow::record_batch::RecordBatch;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use veilgate_federated::error::{Code, Error, Result};
use zeroize::Zeroizing;

const DAY: u64 = 86_400;

pub(super) fn run(command: &UserCommand, common: &Common) -> Result<()> {
    match command {
        UserCommand::Add(args) => add(args, common),
        UserCommand::List { at } => list(at, common),
        UserCommand::Revoke { name, token, at } => revoke(at, name, token.as_deref(), common),
        UserCommand::Token { name, days, at } => token(at, name, *days, common),
    }
}

/// The users' file of a gateway.
fn users_file(at: &UsersAt) -> Result<PathBuf> {
    let config = GatewayConfig::load(&at.config, &environment())?;
    config.users.ok_or_else(|| {
        Error::new(
            Code::BadConfig,
            format!(
                "{} names no users file; add this line above its first [section]:\n  users = \"{USERS_FILE}\"",
                at.config.display()
            ),
        )
    })
}

fn add(args: &UserAddArgs, common: &Common) -> Result<()> {
    let path = users_file(&args.at)?;
    check_name(&args.name).map_err(|what| Error::new(Code::BadRequest, what))?;
    let mut roles: Vec<Role> = args.roles.iter().map(|role| Role::from(*role)).collect();
    roles.sort();
    roles.dedup();
    // Before anything is typed.
    if path.exists() {
        check_new(&UsersFile::load(&path)?, args)?;
    }
    let password = if args.no_password {
        None
    } else {
        Some(password(args.password_file.as_deref())?)
    };
    edit(&path, |file| {
        check_new(file, args)?;
        let hash = password.as_ref().map(|text| file.hash(text)).transpose()?;
        if let Some(user) = file.get_mut(&args.name) {
            user.roles = roles;
            user.password = hash;
        } else {
            file.users.push(Entry {
                name: args.name.clone(),
                roles,
                password: hash,
                tokens: Vec::new(),
            });
        }
        Ok(())
    })?;
    notice(
        common,
        &format!("{}: saved in {}", args.name, path.display()),
    );
    Ok(())
}

/// Whether the user is new, or there, as the command line says.
fn check_new(file: &UsersFile, args: &UserAddArgs) -> Result<()> {
    match (file.get(&args.name), args.replace) {
        (Some(_), false) => Err(Error::new(
            Code::BadRequest,
            format!(
                "there is a user {} already; --replace changes their roles and password",
                args.name
            ),
        )),
        (None, true) => Err(unknown(&args.name)),
        _ => Ok(()),
    }
}

fn list(at: &UsersAt, common: &Common) -> Result<()> {
    let file = UsersFile::load(&users_file(at)?)?;
    output::print(&rows(&file, unix_now())?, common.output)
}

/// One row for each user.
fn rows(file: &UsersFile, now: u64) -> Result<Rows> {
    let column = |of: &dyn Fn(&Entry) -> String| {
        Arc::new(StringArray::from_iter_values(file.users.iter().map(of))) as ArrayRef
    };
    let token = |token: &TokenEntry| {
        let word = if token.expires > now {
            "until"
        } else {
            "expired"
        };
        format!("{} {word} {}", token.id, rfc3339(token.expires))
    };
    let batch = RecordBatch::try_from_iter([
        ("name", column(&|user| user.name.clone())),
        ("roles", column(&|user| joined(user.roles.iter()))),
        (
            "password",
            column(&|user| if user.password.is_some() { "yes" } else { "no" }.into()),
        ),
        (
            "tokens",
            column(&|user| joined(user.tokens.iter().map(token))),
        ),
    ])
    .map_err(|_| Error::new(Code::Internal, "the users do not fit their columns"))?;
    Ok(Rows::from_batch(batch))
}

fn joined(items: impl Iterator<Item = impl ToString>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    items.join(", ")
}

fn revoke(at: &UsersAt, name: &str, token: Option<&str>, common: &Common) -> Result<()> {
    let path = existing(at)?;
    let what = edit(&path, |file| {
        let Some(user) = file.get_mut(name) else {
            return Err(unknown(name));
        };
        let Some(id) = token else {
            let tokens = user.tokens.len();
            file.users.retain(|user| user.name != name);
            return Ok(format!("revoked {name} and {tokens} token(s)"));
        };
        let before = user.tokens.len();
        user.tokens.retain(|token| token.id.to_string() != id);
        if user.tokens.len() == before {
            return Err(Error::new(
                Code::BadRequest,
                format!("{name} has no token of this id; `veilgate user list` shows the ids"),
            ));
        }
        Ok(format!("revoked token {id} of {name}"))
    })?;
    notice(common, &what);
    Ok(())
}

fn token(at: &UsersAt, name: &str, days: u64, common: &Common) -> Result<()> {
    let path = existing(at)?;
    let expires = unix_now() + days * DAY;
    let (id, text) = edit(&path, |file| {
        let mut id = TokenId::generate()?;
        while file.token(&id).is_some() {
            id = TokenId::generate()?;
        }
        let user = file.get_mut(name).ok_or_else(|| unknown(name))?;
        let (text, digest) = new_token(&id)?;
        user.tokens.push(TokenEntry {
            id: id.clone(),
            digest,
            expires,
        });
        Ok((id, text))
    })?;
    notice(
        common,
        &format!(
            "token {id} of {name} until {}; it is not shown again",
            rfc3339(expires)
        ),
    );
    print(&Zeroizing::new(format!("{}\n", *text)))
}

/// The users' file of a gateway, which must be there.
fn existing(at: &UsersAt) -> Result<PathBuf> {
    let path = users_file(at)?;
    // Its mistakes are told before any lock is made beside it.
    UsersFile::load(&path)?;
    Ok(path)
}

fn unknown(name: &str) -> Error {
    Error::new(
        Code::BadRequest,
        format!("there is no user {name}; `veilgate user list` shows them"),
    )
}

fn notice(common: &Common, line: &str) {
    if !common.quiet {
        say(line);
    }
}

/// A new password: from a file, typed twice, or from standard input.
fn password(file: Option<&Path>) -> Result<Zeroizing<String>> {
    let text = if let Some(path) = file {
        let from = path.display().to_string();
        File::open(path)
            .and_then(first_line)
            .map_err(|error| unreadable(&from, &error))?
    } else if std::io::stdin().is_terminal() {
        typed_twice()?
    } else {
        first_line(std::io::stdin().lock()).map_err(|error| unreadable("standard input", &error))?
    };
    check_password(&text)?;
    Ok(text)
}

fn check_password(text: &str) -> Result<()> {
    let wrong = |what: String| Err(Error::new(Code::BadRequest, what));
    if text.is_empty() {
        return wrong(
            "the password is empty; type it, pipe it in, or give --password-file or --no-password"
                .into(),
        );
    }
    if text.chars().any(char::is_control) {
        return wrong("the password holds control characters, which nobody can type".into());
    }
    if text.chars().count() < SHORTEST_PASSWORD {
        return wrong(format!(
            "the password has fewer than {SHORTEST_PASSWORD} characters; choose a longer one"
        ));
    }
    if text.len() > LONGEST_PASSWORD {
        return wrong(format!(
            "the password has more than {LONGEST_PASSWORD} bytes; choose a shorter one"
        ));
    }
    Ok(())
}

/// What is before the first line's end; no more is read than a password and some may have.
fn first_line(from: impl Read) -> std::io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::new());
    from.take(2 * LONGEST_PASSWORD as u64)
        .read_to_string(&mut text)?;
    let line = text.split('\n').next().unwrap_or_default();
    Ok(Zeroizing::new(
        line.strip_suffix('\r').unwrap_or(line).to_owned(),
    ))
}

fn typed_twice() -> Result<Zeroizing<String>> {
    let terminal = console::Term::stderr();
    if !terminal.is_term() {
        return Err(Error::new(
            Code::BadRequest,
            "standard error is no terminal to ask for the password on; give --password-file",
        ));
    }
    let ask = |prompt: &str| {
        terminal
            .write_str(prompt)
            .and_then(|()| terminal.read_secure_line())
            .map(Zeroizing::new)
            .map_err(|error| unreadable("the terminal", &error))
    };
    let first = ask("Password: ")?;
    check_password(&first)?;
    if *ask("Again: ")? == *first {
        Ok(first)
    } else {
        Err(Error::new(
            Code::BadRequest,
            "the two passwords differ; nothing was changed",
        ))
    }
}

fn unreadable(from: &str, error: &std::io::Error) -> Error {
    Error::new(
        Code::BadRequest,
        format!("cannot read the password from {from}: {}", error.kind()),
    )
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Analyst => Self::Analyst,
            RoleArg::Auditor => Self::Auditor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_and_bounded() {
        for (text, expected) in [
            ("correct horse\n", "correct horse"),
            ("correct horse", "correct horse"),
            ("correct horse\r\nmore\n", "correct horse"),
            (" spaces count \n", " spaces count "),
            ("", ""),
        ] {
            assert_eq!(*first_line(text.as_bytes()).unwrap(), expected);
        }
        check_password("twelve chars").unwrap();
        check_password("密码密码密码密码密码密码").unwrap();
        check_password(&"a".repeat(LONGEST_PASSWORD)).unwrap();
        let long = "a".repeat(LONGEST_PASSWORD + 1);
        for bad in ["", "eleven char", "a tab\tis no key", &long] {
            let error = check_password(bad).unwrap_err();
            assert_eq!(error.code, Code::BadRequest);
            assert!(bad.is_empty() || !error.message.contains(bad));
        }
    }
}
