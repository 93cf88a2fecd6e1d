//! Whose a password or a token is.

use super::attempts::{Attempts, delay};
use super::file::{Entry, UsersFile};
use super::password::{LONGEST_PASSWORD, PasswordHash};
use super::secret::{Digest, parse_token};
use super::{Shown, User};
use crate::clock::{rfc3339, unix_now};
use crate::config::Mistakes;
use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;
use veilgate_federated::error::{Code, Error, Result};
use zeroize::Zeroizing;

/// Passwords that are hashed at the same time.
const HASHING: usize = 2;
/// Logins under way, those included whose refusal waits. Further ones are told to come back.
const UNDER_WAY: usize = 128;

/// The users of a gateway, as `users.toml` has them now. A clone is the same users.
#[derive(Clone)]
pub struct Users {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    current: Mutex<Current>,
    hashing: Arc<Semaphore>,
    under_way: Semaphore,
    attempts: Mutex<Attempts>,
    failures: AtomicU64,
}

/// What was last read.
struct Current {
    /// Of the file that was read; `None` when there was none.
    stamp: Option<Stamp>,
    /// `None`: it does not load, and nobody gets in.
    snapshot: Option<Arc<Snapshot>>,
}

/// One state of the file.
pub(super) struct Snapshot {
    pub(super) file: UsersFile,
    /// What the password of a name without one is compared with.
    decoy: PasswordHash,
}

/// What is different when a file was changed or replaced, or its mode was.
#[derive(PartialEq, Eq)]
struct Stamp([i64; 5], u64, u64);

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self(
            [
                metadata.mtime(),
                metadata.mtime_nsec(),
                metadata.ctime(),
                metadata.ctime_nsec(),
                i64::try_from(metadata.len()).unwrap_or(i64::MAX),
            ],
            metadata.dev(),
            metadata.ino(),
        )
    }
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users")
            .field("path", &self.shared.path)
            .field("failures", &self.failures())
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    fn load(path: &Path) -> std::result::Result<(Self, Stamp), Mistakes> {
        let (file, metadata) = UsersFile::load_with_metadata(path)?;
        let snapshot = Self::new(file).map_err(|error| Mistakes::one(error.message))?;
        Ok((snapshot, Stamp::of(&metadata)))
    }

    pub(super) fn new(file: UsersFile) -> Result<Self> {
        let decoy = PasswordHash::of_nothing(file.cost())?;
        Ok(Self { file, decoy })
    }

    /// The hash to compare a password with, always one of the same cost, and who it shows; nobody when
    /// there is no such user or they have no password.
    pub(super) fn candidate(&self, name: &str) -> (&PasswordHash, Option<User>) {
        let entry = self.file.get(name);
        match entry.and_then(|entry| Some((entry.password.as_ref()?, entry.by_password()?))) {
            Some((hash, user)) => (hash, Some(user)),
            None => (&self.decoy, None),
        }
    }
}

impl Users {
    /// The users in this file.
    ///
    /// # Errors
    /// Every mistake in it. One that comes later is logged, and refuses everybody until it is mended.
    pub fn open(path: impl Into<PathBuf>) -> std::result::Result<Self, Mistakes> {
        let path = path.into();
        let (snapshot, stamp) = Snapshot::load(&path)?;
        let current = Current {
            stamp: Some(stamp),
            snapshot: Some(Arc::new(snapshot)),
        };
        Ok(Self {
            shared: Arc::new(Shared {
                path,
                current: Mutex::new(current),
                hashing: Arc::new(Semaphore::new(HASHING)),
                under_way: Semaphore::new(UNDER_WAY),
                attempts: Mutex::default(),
                failures: AtomicU64::new(0),
            }),
        })
    }

    /// The user of this name, when the password is theirs. To be called on a tokio runtime.
    ///
    /// Every check costs one hash, whether or not there is such a user; two run at the same time. A
    /// refusal waits half a second, then longer with every failure of the name, at most five seconds.
    ///
    /// # Errors
    /// `WrongCredentials`, which does not say what was wrong; `BadRequest` for more than 1024 bytes;
    /// `LimitExceeded` while too many log in; `BadConfig` while the file does not load.
    pub async fn login(&self, name: &str, password: &str) -> Result<User> {
        if password.len() > LONGEST_PASSWORD {
            return Err(Error::new(
                Code::BadRequest,
                format!("a password has at most {LONGEST_PASSWORD} bytes"),
            ));
        }
        let _place = self.shared.under_way.try_acquire().map_err(|_| {
            Error::new(
                Code::LimitExceeded,
                format!("{UNDER_WAY} logins are under way; try again in a few seconds"),
            )
        })?;
        let snapshot = self.snapshot()?;
        let (hash, user) = snapshot.candidate(name);
        let fits = self.fits(hash.clone(), password).await?;
        match user {
            Some(user) if fits => {
                lock(&self.shared.attempts).succeeded(name);
                Ok(user)
            }
            _ => {
                let in_a_row = lock(&self.shared.attempts).failed(name);
                let known = snapshot.file.get(name);
                self.count_refusal(known, &format!("wrong password, {in_a_row} in a row"));
                tokio::time::sleep(delay(in_a_row)).await;
                Err(Error::new(
                    Code::WrongCredentials,
                    "the name or the password is wrong",
                ))
            }
        }
    }

    /// The user whose token this is.
    ///
    /// # Errors
    /// `WrongCredentials` for one that is unknown, revoked or expired, of which only its holder learns
    /// the last; `BadConfig` while the file does not load.
    pub fn token(&self, text: &str) -> Result<User> {
        let snapshot = self.snapshot()?;
        let parsed = parse_token(text);
        let secret = parsed.as_ref().map_or("", |(_, secret)| *secret);
        let found = parsed.as_ref().and_then(|(id, _)| snapshot.file.token(id));
        let digest = found.map_or_else(Digest::of_nothing, |(_, token)| token.digest);
        let fits = Digest::of(secret) == digest;
        let Some((entry, token)) = found.filter(|_| fits) else {
            self.count_refusal(found.map(|(entry, _)| entry), "wrong token");
            return Err(Error::new(
                Code::WrongCredentials,
                "the token is not known here, or was revoked",
            ));
        };
        if unix_now() >= token.expires {
            self.count_refusal(Some(entry), "expired token");
            return Err(Error::new(
                Code::WrongCredentials,
                format!("token {} expired at {}", token.id, rfc3339(token.expires)),
            ));
        }
        Ok(entry.by_token(token))
    }

    /// Logins, tokens and sessions refused since the start.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::Relaxed)
    }

    /// Somebody who has shown who they are, as the file has them now.
    ///
    /// # Errors
    /// `WrongCredentials` when they, or what they have shown, are no longer in it; `BadConfig` while it
    /// does not load.
    pub fn still(&self, user: &User) -> Result<User> {
        self.still_shown(&user.name, &user.shown)
    }

    pub(super) fn still_shown(&self, name: &str, shown: &Shown) -> Result<User> {
        let snapshot = self.snapshot()?;
        let entry = snapshot.file.get(name);
        match entry.filter(|entry| entry.accepts(shown, unix_now())) {
            Some(entry) => Ok(User {
                name: entry.name.clone(),
                roles: entry.roles.clone(),
                shown: shown.clone(),
            }),
            None => {
                self.count_refusal(entry, "revoked during a session");
                Err(Error::new(
                    Code::WrongCredentials,
                    "the session has ended: its user, password or token was changed, revoked or has expired",
                ))
            }
        }
    }

    /// Counts and logs a refusal, by name only for names that are in the file anyway.
    pub(super) fn count_refusal(&self, known: Option<&Entry>, why: &str) {
        self.shared.failures.fetch_add(1, Ordering::Relaxed);
        let user = known.map_or("(unknown)", |entry| entry.name.as_str());
        tracing::warn!(user, why, "refused to log in");
    }

    async fn fits(&self, hash: PasswordHash, password: &str) -> Result<bool> {
        let internal = || Error::new(Code::Internal, "a password check was given up");
        let hashing = Arc::clone(&self.shared.hashing);
        let permit = hashing.acquire_owned().await.map_err(|_| internal())?;
        let password = Zeroizing::new(password.to_owned());
        tokio::task::spawn_blocking(move || {
            // Held to the end of the work, even when nobody waits for it any more.
            let _permit = permit;
            hash.fits(&password)
        })
        .await
        .map_err(|_| internal())
    }

    /// The file as it is now, read again if it has changed.
    fn snapshot(&self) -> Result<Arc<Snapshot>> {
        let refused = || {
            Error::new(
                Code::BadConfig,
                "the users file of this gateway does not load, so nobody gets in; \
                 the gateway's log says why",
            )
        };
        let mut current = lock(&self.shared.current);
        let stamp = std::fs::metadata(&self.shared.path)
            .ok()
            .map(|metadata| Stamp::of(&metadata));
        if stamp != current.stamp {
            *current = self.reload(stamp);
        }
        current.snapshot.clone().ok_or_else(refused)
    }

    fn reload(&self, seen: Option<Stamp>) -> Current {
        match Snapshot::load(&self.shared.path) {
            Ok((snapshot, stamp)) => {
                let count = snapshot.file.users.len();
                tracing::info!(users = count, "the users file was read again");
                Current {
                    stamp: Some(stamp),
                    snapshot: Some(Arc::new(snapshot)),
                }
            }
            Err(mistakes) => {
                tracing::error!(%mistakes, "the users file does not load; nobody gets in");
                Current {
                    stamp: seen,
                    snapshot: None,
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
