//! Changing `users.toml`: one change at a time, each in full or not at all.

use super::file::UsersFile;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use veilgate_federated::error::{Code, Error, Result};

/// After the name of the file whose changes it orders.
const LOCK: &str = ".lock";

/// Reads the file, lets `change` change it, and writes it back, mode 0600, durable when this returns.
/// Others who change it wait meanwhile. Without a file, the change starts from no users.
///
/// # Errors
/// Those of `change`, after which nothing is written; `BadConfig` for a file with mistakes, or that
/// cannot be written.
pub(crate) fn edit<T>(path: &Path, change: impl FnOnce(&mut UsersFile) -> Result<T>) -> Result<T> {
    let wrong = |error: io::Error| {
        Error::new(
            Code::BadConfig,
            format!(
                "users file {} cannot be written: {}",
                path.display(),
                error.kind()
            ),
        )
    };
    // What a link points at is replaced, not the link.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    // Let go when this returns, by whatever way.
    let _lock = lock(&path).map_err(wrong)?;
    let mut file = if path.try_exists().map_err(wrong)? {
        UsersFile::load(&path)?
    } else {
        UsersFile::default()
    };
    let outcome = change(&mut file)?;
    let text = file.to_toml();
    // A file that does not load locks everybody out, so none is ever written.
    if UsersFile::parse("", &text).ok().as_ref() != Some(&file) {
        return Err(Error::new(
            Code::Internal,
            "the users would not read back as they are; nothing was changed",
        ));
    }
    replace(&path, &text).map_err(wrong)?;
    Ok(outcome)
}

/// Waits for the lock of this file.
fn lock(path: &Path) -> io::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(LOCK);
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(PathBuf::from(name))?;
    lock.lock()?;
    Ok(lock)
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Mode 0600 from the start; removed again if anything fails.
    let mut temporary = tempfile::NamedTempFile::new_in(folder)?;
    temporary.write_all(text.as_bytes())?;
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    File::open(folder)?.sync_all()
}
