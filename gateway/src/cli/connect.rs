//! Where a command's federation is, and who asks: from `--dir`, or from the files named.

use super::args::ConnectArgs;
use std::path::{Path, PathBuf};
use veilgate_federated::error::{Code, Error, Result};

/// The folder of a sandbox that holds its keys, ledgers and addresses.
pub const STATE: &str = ".veilgate";

/// Who asks, and at which home gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// The analyst's name.
    pub analyst: String,
    /// The department of the home gateway.
    pub department: String,
}

impl Who {
    /// Reads `analyst@department`.
    ///
    /// # Errors
    /// `BadRequest` for anything else.
    pub fn parse(text: &str) -> Result<Self> {
        match text.split_once('@') {
            Some((analyst, department))
                if !analyst.is_empty() && !department.is_empty() && !department.contains('@') =>
            {
                Ok(Self {
                    analyst: analyst.to_owned(),
                    department: department.to_owned(),
                })
            }
            _ => Err(Error::new(
                Code::BadRequest,
                "--as takes an analyst and a department, for example --as analyst@civil",
            )),
        }
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.analyst, self.department)
    }
}

/// Everything needed to reach a home gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The federation file.
    pub federation: PathBuf,
    /// The analyst's identity file.
    pub identity: PathBuf,
    /// Who asks.
    pub who: Who,
}

impl Target {
    /// From a command's options; a sandbox in the current folder is found without any.
    ///
    /// # Errors
    /// `BadRequest` when something is missing.
    pub fn resolve(args: &ConnectArgs) -> Result<Self> {
        if let Some(federation) = &args.federation {
            let missing = |option: &str| {
                Error::new(
                    Code::BadRequest,
                    format!("with --federation, {option} is needed too"),
                )
            };
            return Ok(Self {
                federation: federation.clone(),
                identity: args.identity.clone().ok_or_else(|| missing("--identity"))?,
                who: Who::parse(args.analyst.as_deref().ok_or_else(|| missing("--as"))?)?,
            });
        }
        let dir = args.dir.as_deref().unwrap_or_else(|| Path::new("."));
        Self::in_sandbox(dir, args.analyst.as_deref())
    }

    /// In a sandbox's folder, as its analyst or as the one named.
    ///
    /// # Errors
    /// `BadRequest` when no sandbox was started there.
    pub fn in_sandbox(dir: &Path, analyst: Option<&str>) -> Result<Self> {
        let state = dir.join(STATE);
        let federation = state.join("federation.toml");
        if !federation.is_file() {
            return Err(Error::new(
                Code::BadRequest,
                format!(
                    "no federation in {}: name a sandbox's folder with --dir, or use --federation, \
                     --identity and --as",
                    dir.display()
                ),
            ));
        }
        let who = match analyst {
            Some(text) => Who::parse(text)?,
            None => Who::parse(
                std::fs::read_to_string(state.join("analyst"))
                    .unwrap_or_default()
                    .trim(),
            )?,
        };
        Ok(Self {
            identity: state.join("analysts").join(format!("{}.pem", who.analyst)),
            federation,
            who,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_an_analyst_at_a_department() {
        let who = Who::parse("analyst@civil").unwrap();
        assert_eq!(who.to_string(), "analyst@civil");
        for bad in ["", "analyst", "@civil", "analyst@", "a@b@c"] {
            assert_eq!(Who::parse(bad).unwrap_err().code, Code::BadRequest);
        }
    }

    #[test]
    fn a_folder_without_a_sandbox_says_what_to_name() {
        let dir = tempfile::tempdir().unwrap();
        let error = Target::in_sandbox(dir.path(), None).unwrap_err();
        assert!(error.message.contains("--dir"), "{error}");
    }
}
