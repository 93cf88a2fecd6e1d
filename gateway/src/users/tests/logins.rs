//! Passwords, tokens and sessions.

use super::super::login::Snapshot;
use super::super::password::{Cost, PasswordHash};
use super::super::secret::parse_token;
use super::*;
use std::time::{Duration, Instant};
use veilgate_federated::error::{Code, Error};

/// `li` with a password, `audit` without.
fn users() -> (TempDir, PathBuf, Users) {
    let (folder, path) = folder();
    put(&path, entry("li", &[Role::Analyst], Some(PASSWORD)));
    put(&path, entry("audit", &[Role::Auditor], None));
    let users = Users::open(&path).unwrap();
    (folder, path, users)
}

fn wrong(error: &Error) {
    assert_eq!(error.code, Code::WrongCredentials, "{error}");
    assert_eq!(error.blame().exit_code(), 67);
}

#[tokio::test]
async fn the_right_password_logs_in_and_a_wrong_one_waits() {
    let (_folder, _, users) = users();
    let user = users.login("li", PASSWORD).await.unwrap();
    assert_eq!((user.name(), user.roles()), ("li", &[Role::Analyst][..]));
    assert!(user.has(Role::Analyst) && !user.has(Role::Auditor));
    assert_eq!(users.failures(), 0);
    let start = Instant::now();
    let wrong_password = users.login("li", "correct horse batterz");
    let unknown = users.login("nobody", PASSWORD);
    let none = users.login("audit", "");
    let (wrong_password, unknown, none) = tokio::join!(wrong_password, unknown, none);
    assert!(start.elapsed() >= Duration::from_millis(500));
    let wrong_password = wrong_password.unwrap_err();
    wrong(&wrong_password);
    assert_eq!(unknown.unwrap_err(), wrong_password, "one answer for all");
    assert_eq!(none.unwrap_err(), wrong_password);
    assert_eq!(users.failures(), 3);
    let long = "a".repeat(LONGEST_PASSWORD + 1);
    let error = users.login("li", &long).await.unwrap_err();
    assert_eq!(error.code, Code::BadRequest);
}

#[tokio::test]
async fn logins_run_on_any_thread_and_too_many_are_told_to_come_back() {
    let (_folder, _, users) = users();
    let mut tasks = tokio::task::JoinSet::new();
    // A refusal keeps its place for half a second or more, long after the last has come.
    for index in 0..130 {
        let users = users.clone();
        tasks.spawn(async move { users.login(&format!("nobody{index}"), PASSWORD).await });
    }
    let outcomes = tasks.join_all().await;
    let count = |code| {
        let errors = outcomes.iter().map(|outcome| outcome.as_ref().unwrap_err());
        errors.filter(|error| error.code == code).count()
    };
    assert_eq!(count(Code::WrongCredentials), 128);
    assert_eq!(count(Code::LimitExceeded), 2);
}

#[test]
fn unknown_names_cost_one_hash_like_the_others() {
    let costly: PasswordHash = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdHNhbHRzYWx0c2FsdA\
                                $aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g"
        .parse()
        .unwrap();
    let known = |hash: PasswordHash| {
        let mut li = entry("li", &[Role::Analyst], None);
        li.password = Some(hash);
        let users = vec![entry("audit", &[Role::Auditor], None), li];
        Snapshot::new(UsersFile { users }).unwrap()
    };
    let usual = UsersFile::default().hash(PASSWORD).unwrap();
    assert_eq!(usual.cost(), Cost::DEFAULT);
    for hash in [usual, costly] {
        let snapshot = known(hash.clone());
        let (candidate, user) = snapshot.candidate("li");
        assert_eq!((candidate, user.unwrap().name()), (&hash, "li"));
        for name in ["audit", "nobody", ""] {
            let (candidate, user) = snapshot.candidate(name);
            assert_eq!(candidate.cost(), hash.cost(), "{name}");
            assert_eq!(user, None, "{name}");
        }
    }
    let empty = Snapshot::new(UsersFile::default()).unwrap();
    assert_eq!(empty.candidate("li").0.cost(), Cost::DEFAULT);
    assert!(!empty.candidate("li").0.fits(""));
}

#[test]
fn reads_the_hashes_of_other_tools() {
    // argon2-cffi 25.1.0 (the reference C code): hash_secret(.., b"reference salt 1", time_cost=2,
    // memory_cost=19456, parallelism=1, hash_len=32, type=Type.ID).
    let hash: PasswordHash = REFERENCE.parse().unwrap();
    assert!(hash.fits("correct horse battery"));
    assert!(!hash.fits("correct horse batterz"));
    assert_eq!(hash.to_phc(), REFERENCE);
}

const REFERENCE: &str = "$argon2id$v=19$m=19456,t=2,p=1$cmVmZXJlbmNlIHNhbHQgMQ$uj9l73z4sOT9Y2nJsiUx+XVM7qNSBL4zS+khCtwhd24";

#[tokio::test]
async fn the_file_counts_as_it_is_now_and_fails_closed() {
    let (_folder, path, users) = users();
    let clone = users.clone();
    let user = users.login("li", PASSWORD).await.unwrap();
    put(
        &path,
        entry("wang", &[Role::Auditor], Some("another pass phrase")),
    );
    clone.login("wang", "another pass phrase").await.unwrap();
    let good = std::fs::read(&path).unwrap();
    let refused = async |broken: &str| {
        let error = users.login("li", PASSWORD).await.unwrap_err();
        assert_eq!(error.code, Code::BadConfig, "{broken}");
        assert!(!error.message.contains('/'), "tells no path: {error}");
        assert_eq!(users.token("x").unwrap_err().code, Code::BadConfig);
        assert_eq!(users.still(&user).unwrap_err().code, Code::BadConfig);
    };
    std::fs::write(&path, "version = 1\nuser = 1\n").unwrap();
    refused("mistake").await;
    std::fs::write(&path, &good).unwrap();
    users.login("li", PASSWORD).await.unwrap();
    let mode = |mode| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&path, mode).unwrap();
    };
    mode(0o644);
    refused("mode").await;
    mode(0o600);
    users.login("li", PASSWORD).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    refused("missing").await;
    put(&path, entry("li", &[Role::Auditor], Some(PASSWORD)));
    let user = users.login("li", PASSWORD).await.unwrap();
    assert_eq!(user.roles(), [Role::Auditor]);
    assert!(Users::open(path.join("nothing")).is_err());
}

#[test]
fn tokens_are_known_until_they_expire_or_are_revoked() {
    let (_folder, path, users) = users();
    let (id, text) = give_token(&path, "audit", 60);
    let (_, expired) = give_token(&path, "li", -1);
    assert!(text.starts_with(&format!("veilgate_{id}_")));
    assert_eq!(text.len(), "veilgate_".len() + 8 + 1 + 43);
    assert_eq!(users.token(&text).unwrap().name(), "audit");
    let error = users.token(&expired).unwrap_err();
    wrong(&error);
    assert!(error.message.contains("expired at 20"), "{error}");
    let last = if text.ends_with('A') { 'B' } else { 'A' };
    let other_secret = format!("{}{last}", &text[..text.len() - 1]);
    let other_id = text.replace(&id.to_string(), "0000zzzz");
    let unknown = users.token(&other_id).unwrap_err();
    wrong(&unknown);
    let altered = expired.replace(&expired[20..], &text[20..]);
    for bad in [
        &other_secret,
        &altered,
        "",
        "veilgate_",
        "veilgate_s_",
        &text[1..],
    ] {
        assert_eq!(users.token(bad).unwrap_err(), unknown, "one answer for all");
    }
    assert_eq!(users.failures(), 8);
    edit(&path, |file| {
        file.get_mut("audit").unwrap().tokens.clear();
        Ok(())
    })
    .unwrap();
    assert_eq!(users.token(&text).unwrap_err(), unknown);
}

#[test]
fn the_text_of_a_token_is_taken_apart_from_its_end() {
    let secret = "_".repeat(43);
    let text = format!("veilgate_3fa2_{secret}");
    let (id, found) = parse_token(&text).unwrap();
    assert_eq!((id.to_string().as_str(), found), ("3fa2", secret.as_str()));
    for bad in [
        "veilgate_3fa2_",
        &format!("veilgate_{secret}"),
        &format!("veilgate__{secret}"),
        &format!("veilgate_s_{secret}"),
        &format!("veilgate_3fa2{}", "a".repeat(43)),
        &format!("Veilgate_3fa2_{secret}"),
        &format!("veilgate_3fa2_{}", "税".repeat(15)),
        &format!("veilgate_3fa2_{}=", "a".repeat(42)),
        &format!("veilgate_{}_{secret}", "a".repeat(17)),
    ] {
        assert!(parse_token(bad).is_none(), "{bad}");
    }
}

#[tokio::test]
async fn sessions_follow_the_file() {
    let (_folder, path, users) = users();
    let sessions = Sessions::new(users.clone());
    let li = users.login("li", PASSWORD).await.unwrap();
    let session = sessions.issue(&li).unwrap();
    assert!(session.starts_with(SESSION_PREFIX));
    assert_eq!(session.len(), SESSION_PREFIX.len() + 43);
    assert_eq!(sessions.check(&session).unwrap(), li);
    assert_eq!(sessions.bearer(&session).unwrap(), li);
    // Other roles.
    edit(&path, |file| {
        file.get_mut("li").unwrap().roles = vec![Role::Auditor];
        Ok(())
    })
    .unwrap();
    assert_eq!(sessions.check(&session).unwrap().roles(), [Role::Auditor]);
    // A file with a mistake lets nobody in, and ends no session.
    let good = std::fs::read(&path).unwrap();
    std::fs::write(&path, "garbage").unwrap();
    assert_eq!(sessions.check(&session).unwrap_err().code, Code::BadConfig);
    std::fs::write(&path, good).unwrap();
    sessions.check(&session).unwrap();
    // Another password ends it for good.
    put(&path, entry("li", &[Role::Analyst], Some(PASSWORD)));
    wrong(&sessions.check(&session).unwrap_err());
    assert_eq!(sessions.len(), 0);

    let (_, token) = give_token(&path, "audit", 60);
    let audit = sessions.bearer(&token).unwrap();
    let session = sessions.issue(&audit).unwrap();
    sessions.check(&session).unwrap();
    // So does a token that is taken away, and a user.
    edit(&path, |file| {
        file.get_mut("audit").unwrap().tokens.clear();
        Ok(())
    })
    .unwrap();
    wrong(&sessions.check(&session).unwrap_err());
    let li = users.login("li", PASSWORD).await.unwrap();
    let (ended, revoked) = (sessions.issue(&li).unwrap(), sessions.issue(&li).unwrap());
    sessions.revoke(&ended);
    wrong(&sessions.check(&ended).unwrap_err());
    sessions.check(&revoked).unwrap();
    edit(&path, |file| {
        file.users.clear();
        Ok(())
    })
    .unwrap();
    wrong(&sessions.check(&revoked).unwrap_err());
    for bad in ["", SESSION_PREFIX, "veilgate_s_short", &token] {
        wrong(&sessions.check(bad).unwrap_err());
        sessions.revoke(bad);
    }
}

#[test]
fn sessions_end_when_idle_and_at_last() {
    let (_folder, path, users) = users();
    let (_, token) = give_token(&path, "audit", 60);
    let audit = users.token(&token).unwrap();
    let sessions = Sessions::new(users);
    let start = Instant::now();
    let minutes = |minutes: u64| start + Duration::from_secs(60 * minutes);
    let idle = sessions.issue_at(&audit, start).unwrap();
    let used = sessions.issue_at(&audit, start).unwrap();
    for session in [&idle, &used] {
        assert!(sessions.enter(session, 1).is_some());
        assert!(sessions.enter(session, 1).is_none(), "that is no news");
    }
    for half_hours in 0..24 {
        sessions.check_at(&used, minutes(30 * half_hours)).unwrap();
    }
    wrong(&sessions.check_at(&idle, minutes(60)).unwrap_err());
    wrong(&sessions.check_at(&used, minutes(12 * 60)).unwrap_err());
    wrong(&sessions.check_at(&used, start).unwrap_err());
    assert_eq!(sessions.len(), 0);
}

#[test]
fn sessions_end_some_time_after_their_last_connection() {
    let (_folder, path, users) = users();
    let (_, token) = give_token(&path, "audit", 60);
    let audit = users.token(&token).unwrap();
    let sessions = Sessions::new(users);
    let start = Instant::now();
    let minutes = |minutes: u64| start + Duration::from_secs(60 * minutes);
    let session = sessions.issue_at(&audit, start).unwrap();
    let entered = sessions.enter(&session, 1).unwrap();
    sessions.enter(&session, 2).unwrap();
    sessions.leave_at(&entered, 1, minutes(1));
    assert!(sessions.sweep(minutes(50)).is_empty(), "one is left");
    assert_eq!(sessions.list()[0].connections, 1);
    sessions.leave_at(&entered, 2, minutes(50));
    sessions.leave_at(&entered, 2, minutes(55));
    sessions.check_at(&session, minutes(59)).unwrap();
    // It comes back, and leaves again.
    sessions.enter(&session, 3).unwrap();
    sessions.leave_at(&entered, 3, minutes(70));
    assert!(sessions.sweep(minutes(79)).is_empty());
    assert_eq!(sessions.sweep(minutes(80)), [entered]);
    wrong(&sessions.check_at(&session, minutes(80)).unwrap_err());
    // One whose client never came back.
    sessions.issue_at(&audit, start).unwrap();
    assert_eq!(sessions.sweep(minutes(10)).len(), 1);
    assert_eq!(sessions.len(), 0);
}

#[test]
fn the_least_recently_used_session_makes_room() {
    let (_folder, path, users) = users();
    let (_, token) = give_token(&path, "audit", 60);
    let audit = users.token(&token).unwrap();
    let sessions = Sessions::new(users);
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let first = sessions.issue_at(&audit, at(0)).unwrap();
    let second = sessions.issue_at(&audit, at(1)).unwrap();
    for session in [&first, &second] {
        sessions.enter(session, 1).unwrap();
    }
    for _ in 2..10_000 {
        sessions.issue_at(&audit, at(2)).unwrap();
    }
    sessions.check_at(&first, at(3)).unwrap();
    sessions.issue_at(&audit, at(4)).unwrap();
    assert_eq!(sessions.len(), 10_000);
    sessions.check_at(&first, at(5)).unwrap();
    wrong(&sessions.check_at(&second, at(5)).unwrap_err());
    // Those that have ended go first, all of them.
    let later = at(60 * 60 * 1_000 + 4);
    sessions.issue_at(&audit, later).unwrap();
    assert_eq!(sessions.len(), 2, "the first was used at 5 ms");
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let (_folder, path, users) = users();
    let (_, token) = give_token(&path, "li", 60);
    let li = users.login("li", PASSWORD).await.unwrap();
    let by_token = users.token(&token).unwrap();
    let sessions = Sessions::new(users.clone());
    let session = sessions.issue(&li).unwrap();
    let file = UsersFile::load(&path).unwrap();
    let entry = file.get("li").unwrap();
    let hash = entry.password.as_ref().unwrap().to_phc();
    let shown = format!("{users:?} {sessions:?} {li:?} {by_token:?} {file:?}");
    for secret in [
        &hash[hash.len() - 20..],
        &entry.tokens[0].digest.to_hex(),
        &token[token.len() - 20..],
        &session[SESSION_PREFIX.len()..],
        PASSWORD,
        "argon2id",
    ] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
