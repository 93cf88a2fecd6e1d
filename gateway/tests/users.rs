//! `veilgate user` as an operator's scripts see it. No gateway runs here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;
use veilgate::users::{Role, Users};

const PASSWORD: &str = "correct horse battery";

/// A gateway made by `veilgate init`.
struct Made(TempDir);

impl Made {
    fn new() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        let dir = made.dir().to_str().unwrap().to_owned();
        let (code, _, err) = veilgate(&["init", &dir, "--department", "tax"], "");
        assert_eq!(code, 0, "{err}");
        made
    }

    fn dir(&self) -> std::path::PathBuf {
        self.0.path().join("gw")
    }

    fn config(&self) -> String {
        self.dir().join("gateway.toml").to_str().unwrap().to_owned()
    }

    fn users(&self) -> Users {
        Users::open(self.dir().join("users.toml")).unwrap()
    }

    /// Runs `veilgate user` here.
    fn user(&self, args: &[&str], stdin: &str) -> (i32, String, String) {
        let config = self.config();
        veilgate(&[&["user"], args, &["--config", &config]].concat(), stdin)
    }

    /// The same, which must succeed; what it prints.
    fn done(&self, args: &[&str], stdin: &str) -> (String, String) {
        let (code, out, err) = self.user(args, stdin);
        assert_eq!(code, 0, "{args:?}: {err}");
        (out, err)
    }
}

/// Exit code, standard output, standard error.
fn veilgate(args: &[&str], stdin: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_veilgate"))
        .args(args)
        .env_remove("VEILGATE_DIR")
        .env_remove("VEILGATE_CONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without having read it.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    let output = child.wait_with_output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn write(path: &Path, text: &str) -> String {
    std::fs::write(path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_user_is_added_logs_in_and_is_revoked() {
    let made = Made::new();
    let users = made.users();
    let (out, err) = made.done(
        &["add", "zhang.wei", "--role", "analyst", "--role", "auditor"],
        &format!("{PASSWORD}\n"),
    );
    assert_eq!(out, "");
    assert!(err.contains("zhang.wei: saved in"), "{err}");
    let mode = std::fs::metadata(made.dir().join("users.toml"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let user = users.login("zhang.wei", PASSWORD).await.unwrap();
    assert_eq!(user.roles(), [Role::Analyst, Role::Auditor]);

    // There already; with --replace the password is another one, and tokens stay.
    let (token, _) = made.done(&["token", "zhang.wei"], "");
    let again = ["add", "zhang.wei", "--role", "analyst", "--replace"];
    let (code, _, err) = made.user(&again[..4], PASSWORD);
    assert_eq!(code, 64);
    assert!(err.contains("--replace"), "{err}");
    let file = write(&made.0.path().join("password"), "another pass phrase\n");
    made.done(&[&again[..], &["--password-file", &file]].concat(), "");
    assert!(users.still(&user).is_err(), "the password has changed");
    let user = users.login("zhang.wei", "another pass phrase").await;
    assert_eq!(user.unwrap().roles(), [Role::Analyst]);
    assert_eq!(users.token(token.trim_end()).unwrap().name(), "zhang.wei");

    let (out, err) = made.done(&["revoke", "zhang.wei"], "");
    assert_eq!(out, "");
    assert!(err.contains("revoked zhang.wei and 1 token"), "{err}");
    assert!(users.token(token.trim_end()).is_err());
    assert!(users.login("zhang.wei", PASSWORD).await.is_err());
    let (code, _, err) = made.user(&["revoke", "zhang.wei"], "");
    assert_eq!(code, 64);
    assert!(err.contains("there is no user zhang.wei"), "{err}");
}

#[test]
fn a_token_is_printed_once_and_nothing_else_with_it() {
    let made = Made::new();
    let users = made.users();
    made.done(&["add", "audit", "--role", "auditor", "--no-password"], "");
    let (out, err) = made.done(&["token", "audit", "--days", "7"], "");
    let token = out.strip_suffix('\n').unwrap();
    let id = token.split('_').nth(1).unwrap();
    assert!(token.starts_with("veilgate_") && !token.contains('\n'));
    assert!(
        err.contains(&format!("token {id} of audit until 20")),
        "{err}"
    );
    assert!(!err.contains(token));
    assert_eq!(users.token(token).unwrap().name(), "audit");
    let kept = std::fs::read_to_string(made.dir().join("users.toml")).unwrap();
    assert!(kept.contains(id) && !kept.contains(&token[token.len() - 43..]));
    let (second, err) = made.done(&["token", "audit", "--quiet"], "");
    assert_eq!(err, "");

    let (out, _) = made.done(&["list", "--output", "json"], "");
    let listed: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(listed[0]["name"], "audit");
    assert_eq!(listed[0]["roles"], "auditor");
    assert_eq!(listed[0]["password"], "no");
    let tokens = listed[0]["tokens"].as_str().unwrap();
    assert!(tokens.starts_with(&format!("{id} until 20")), "{tokens}");
    assert_eq!(tokens.split(", ").count(), 2);
    let (out, _) = made.done(&["list", "--output", "csv"], "");
    assert!(out.starts_with("name,roles,password,tokens\naudit,auditor,no,"));
    let (out, _) = made.done(&["list"], "");
    assert!(out.contains("audit") && out.contains(id), "{out}");

    let (code, _, err) = made.user(&["revoke", "audit", "--token", "0000"], "");
    assert_eq!(code, 64);
    assert!(err.contains("has no token of this id"), "{err}");
    made.done(&["revoke", "audit", "--token", id], "");
    assert!(users.token(token).is_err());
    users.token(second.trim_end()).unwrap();
}

#[test]
fn mistakes_exit_with_64_and_say_no_password() {
    let made = Made::new();
    let before = std::fs::read(made.dir().join("users.toml")).unwrap();
    let missing = made.0.path().join("missing");
    let missing = missing.to_str().unwrap();
    for (args, stdin, expected) in [
        (&["add", "li"][..], PASSWORD, "--role"),
        (&["add", "li", "--role", "root"], PASSWORD, "auditor"),
        (&["add", "Li", "--role", "analyst"], PASSWORD, "a name has"),
        (&["add", "li", "--role", "analyst"], "", "password is empty"),
        (
            &["add", "li", "--role", "analyst"],
            "hunter2\n",
            "fewer than 12",
        ),
        (
            &["add", "li", "--role", "analyst"],
            &"hunter2".repeat(200),
            "more than 1024 bytes",
        ),
        (
            &["add", "li", "--role", "analyst", "--password-file", missing],
            "",
            "not found",
        ),
        (
            &[
                "add",
                "li",
                "--role",
                "analyst",
                "--no-password",
                "--password-file",
                "f",
            ],
            "",
            "cannot be used with",
        ),
        (
            &["add", "li", "--role", "analyst", "--replace"],
            PASSWORD,
            "there is no user li",
        ),
        (&["token", "li"], "", "there is no user li"),
        (&["token", "li", "--days", "0"], "", "--days"),
        (&["revoke", "li"], "", "there is no user li"),
    ] {
        let (code, out, err) = made.user(args, stdin);
        assert_eq!((code, out.as_str()), (64, ""), "{args:?}: {err}");
        assert!(err.contains(expected), "{args:?}: {expected} in {err}");
        assert!(!err.contains("hunter2"), "{err}");
    }
    assert_eq!(
        std::fs::read(made.dir().join("users.toml")).unwrap(),
        before
    );
    let (code, _, err) = veilgate(&["user", "list"], "");
    assert_eq!(code, 64);
    assert!(err.contains("--config"), "{err}");
}

#[test]
fn a_gateway_without_users_is_told_which_line_to_add() {
    let made = Made::new();
    let config = std::fs::read_to_string(made.config()).unwrap();
    let without: String = config
        .split_inclusive('\n')
        .filter(|line| !line.starts_with("users"))
        .collect();
    assert_ne!(without, config);
    std::fs::write(made.config(), without).unwrap();
    for args in [&["list"][..], &["token", "li"], &["revoke", "li"]] {
        let (code, out, err) = made.user(args, "");
        assert_eq!((code, out.as_str()), (64, ""), "{args:?}");
        assert!(err.contains("  users = \"users.toml\"\n"), "{err}");
    }
}

#[test]
fn a_bad_users_file_is_explained_and_left_alone() {
    let made = Made::new();
    let path = made.dir().join("users.toml");
    let check = |expected: &str| {
        for args in [
            &["list"][..],
            &["token", "li"],
            &["add", "li", "--role", "analyst", "--no-password"],
        ] {
            let (code, _, err) = made.user(args, "");
            assert_eq!(code, 64, "{args:?}");
            assert!(err.contains(expected), "{args:?}: {expected} in {err}");
        }
        let (code, _, err) = veilgate(&["config", "check", &made.config()], "");
        assert_eq!(code, 64);
        assert!(err.contains(expected), "{expected} in {err}");
    };
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    check("chmod 600");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    write(&path, "version = 1\n[[users]]\nname = \"li\"\nrole = []\n");
    check(":4:8: unknown field `users[1].role`; did you mean `roles`?");
    assert!(
        std::fs::read_to_string(&path)
            .unwrap()
            .contains("role = []")
    );
    // A missing file is made by the first user.
    std::fs::remove_file(&path).unwrap();
    let (code, _, err) = made.user(&["list"], "");
    assert_eq!(code, 64);
    assert!(err.contains("`veilgate user add` makes it"), "{err}");
    made.done(&["add", "li", "--role", "analyst", "--no-password"], "");
    made.users();
}

#[test]
fn commands_at_the_same_time_keep_each_others_users() {
    let made = Made::new();
    std::thread::scope(|scope| {
        for index in 0..6 {
            let made = &made;
            scope.spawn(move || {
                let name = format!("user{index}");
                made.done(&["add", &name, "--role", "analyst", "--no-password"], "");
            });
        }
    });
    let (out, _) = made.done(&["list", "--output", "csv"], "");
    assert_eq!(out.lines().count(), 7, "{out}");
}
