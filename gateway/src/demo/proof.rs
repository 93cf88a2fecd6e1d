//! The tour's proof: what the home gateway's ledger says of a query, verified offline by another
//! process, and the same file with one bit flipped.

use crate::cli::print;
use crate::config::Federation;
use crate::sandbox::Sandbox;
use std::path::Path;
use std::process::{Command, Stdio};
use veilgate_federated::error::{Code, Error, Result};

/// Where the proof is written, in the sandbox's state folder.
const PROOF: &str = "query.proof";
/// The copy that is tampered with.
const TAMPERED: &str = "tampered.proof";

/// Makes the proof of a query, verifies it, flips a bit of a copy, and verifies that.
///
/// # Errors
/// `Internal` when the proof does not verify, or the tampered one does.
pub(super) fn show(sandbox: &Sandbox, query_id: &str) -> Result<()> {
    let state = sandbox.state.dir();
    let department = sandbox.who.department.as_str();
    let federation = Federation::load(&sandbox.target().federation)?;
    let key = federation
        .get(department)
        .map(|gateway| gateway.public_key.to_string())
        .unwrap_or_default();
    let ledger = sandbox.state.ledger(department);
    let ledger = ledger.strip_prefix(state).unwrap_or(&ledger);
    let ledger = ledger.to_string_lossy();

    expect(
        state,
        &[
            "audit", "prove", &ledger, "--query", query_id, "--file", PROOF,
        ],
        0,
    )?;
    expect(state, &["audit", "verify", PROOF, "--key", &key], 0)?;
    let place = flip_one_bit(&state.join(PROOF), &state.join(TAMPERED))?;
    print(&format!(
        "\nNow one bit of a copy is flipped, in byte {place}:\n\n"
    ))?;
    expect(
        state,
        &["audit", "verify", TAMPERED, "--key", &key],
        Code::LedgerCorrupt.blame().exit_code(),
    )
}

/// Runs this program as a user would, shows what it says, and checks its exit code.
fn expect(dir: &Path, args: &[&str], expected: u8) -> Result<()> {
    let internal = |what: String| Error::new(Code::Internal, what);
    let program = std::env::current_exe()
        .map_err(|_| internal("the path of this program is unknown".to_owned()))?;
    print(&as_typed(args))?;
    let output = Command::new(program)
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| internal(format!("cannot start this program: {}", error.kind())))?;
    let said = [output.stdout, output.stderr].concat();
    print(&String::from_utf8_lossy(&said))?;
    let code = output.status.code();
    if code != Some(0) {
        print(&format!("exit code {}\n", code.unwrap_or(-1)))?;
    }
    if code == Some(i32::from(expected)) {
        Ok(())
    } else {
        Err(internal(format!(
            "`veilgate {} {}` should have ended with exit code {expected}",
            args.first().copied().unwrap_or_default(),
            args.get(1).copied().unwrap_or_default()
        )))
    }
}

/// A command as a user types it, an option a line where it is long.
fn as_typed(args: &[&str]) -> String {
    let mut text = String::from("$ veilgate");
    let mut column = text.len();
    for arg in args {
        if arg.starts_with("--") && column > 40 {
            text.push_str(" \\\n     ");
            column = 5;
        }
        text.push(' ');
        text.push_str(arg);
        column += 1 + arg.len();
    }
    text.push('\n');
    text
}

/// Copies a file with its middle bit flipped; returns the place of the byte.
fn flip_one_bit(from: &Path, to: &Path) -> Result<usize> {
    let failed = |error: std::io::Error| {
        Error::new(
            Code::Internal,
            format!("the proof cannot be copied: {}", error.kind()),
        )
    };
    let mut bytes = std::fs::read(from).map_err(failed)?;
    let place = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(place) {
        *byte ^= 1;
    }
    std::fs::write(to, bytes).map_err(failed)?;
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_broken_before_options() {
        assert_eq!(
            as_typed(&["audit", "verify", "q.proof"]),
            "$ veilgate audit verify q.proof\n"
        );
        let ledger = "civil/state/ledger/of/somebody";
        assert_eq!(
            as_typed(&["audit", "prove", ledger, "--query", "00ff"]),
            format!("$ veilgate audit prove {ledger} \\\n      --query 00ff\n")
        );
    }

    #[test]
    fn exactly_one_bit_differs() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::write(&from, b"0123456789").unwrap();
        let place = flip_one_bit(&from, &to).unwrap();
        let (a, b) = (std::fs::read(&from).unwrap(), std::fs::read(&to).unwrap());
        let bits: u32 = a.iter().zip(&b).map(|(a, b)| (a ^ b).count_ones()).sum();
        assert_eq!((bits, a[place] ^ b[place]), (1, 1));
    }
}
