//! Reading files that hold secrets: only their owner may be able to.

use std::fs::{File, Metadata};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use zeroize::Zeroizing;

/// The text of a file that nobody but its owner can read, and what the system says of the file that
/// was read.
///
/// # Errors
/// What is wrong with it and how to mend it, without the file's name: missing, open to others, longer
/// than `longest` bytes, no text.
pub(crate) fn read(
    path: &Path,
    longest: u64,
) -> std::result::Result<(Zeroizing<String>, Metadata), String> {
    let failed = |error: std::io::Error| error.kind().to_string();
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "mode {mode:04o} lets others read the secrets in it; run: chmod 600 {}",
            path.display()
        ));
    }
    let mut text = Zeroizing::new(String::new());
    let length = file
        .take(longest + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if length as u64 > longest {
        return Err(format!("longer than {longest} bytes"));
    }
    Ok((text, metadata))
}
