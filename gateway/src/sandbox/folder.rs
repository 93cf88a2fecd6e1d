//! A sandbox's folder: which departments it has, their starter files, and who is neutral.

use crate::identity::check_department;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::schema::Department;
use veilgate_federated::{catalog, policy};

/// Three parties compute; a federation has at least that many gateways.
const LEAST_GATEWAYS: usize = 3;

/// Files, when each was changed last, and how long it is.
pub type Stamps = BTreeMap<PathBuf, (SystemTime, u64)>;

/// The departments of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The folder.
    pub path: PathBuf,
    /// Departments with data, ascending.
    pub owners: Vec<Department>,
    /// Gateways without data, ascending.
    pub neutral: Vec<Department>,
    /// Whether its gateways' data connections are gRPC streams.
    pub data_over_grpc: bool,
    /// Threads of each computing gateway in a query.
    pub threads: u32,
}

/// Three gateways compute.
fn third_of_processors() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(processors / 3).map_or(1, |n| n.clamp(1, 16))
}

impl Folder {
    /// Looks for departments, and adds a neutral gateway where there is none.
    ///
    /// # Errors
    /// `BadRequest` when the folder cannot be read or holds no tables; `BadConfig` for a folder
    /// whose name cannot be a department's.
    pub fn open(path: &Path) -> Result<Self> {
        let unreadable = |error: std::io::Error| {
            Error::new(
                Code::BadRequest,
                format!("cannot read {}: {}", path.display(), error.kind()),
            )
        };
        let path = &path.canonicalize().map_err(unreadable)?;
        let (mut owners, mut neutral) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || !entry.path().is_dir() {
                continue;
            }
            check_department(&name).map_err(|what| {
                Error::new(
                    Code::BadConfig,
                    format!("folder {}: {what}", entry.path().display()),
                )
            })?;
            if has_tables(&entry.path()).map_err(unreadable)? {
                owners.push(name);
            } else {
                neutral.push(name);
            }
        }
        owners.sort();
        neutral.sort();
        if owners.is_empty() {
            return Err(Error::new(
                Code::BadRequest,
                format!(
                    "no tables in {}: put CSV or Parquet files into one folder for each department, \
                     for example {}/health/visits.csv",
                    path.display(),
                    path.display()
                ),
            ));
        }
        let mut candidates = ["bureau", "neutral", "bureau_2", "bureau_3"].into_iter();
        while neutral.is_empty() || owners.len() + neutral.len() < LEAST_GATEWAYS {
            let Some(name) = candidates.find(|name| {
                !owners.iter().any(|owner| owner == name) && !neutral.iter().any(|n| n == name)
            }) else {
                break;
            };
            neutral.push(name.to_owned());
        }
        neutral.sort();
        Ok(Self {
            path: path.clone(),
            owners,
            neutral,
            data_over_grpc: false,
            threads: third_of_processors(),
        })
    }

    /// Every gateway, ascending.
    #[must_use]
    pub fn gateways(&self) -> Vec<Department> {
        let mut all = [self.owners.clone(), self.neutral.clone()].concat();
        all.sort();
        all
    }

    /// Writes `catalog.toml` and `policy.toml` where they are missing, and completes a `catalog.toml` that
    /// says a part; returns what to tell.
    ///
    /// # Errors
    /// Those of inferring a catalogue, above all that a table's unit must be said, and of writing files.
    pub fn write_starters(&self) -> Result<Vec<String>> {
        let folders: Vec<(Department, PathBuf)> = self
            .owners
            .iter()
            .map(|owner| (owner.clone(), self.path.join(owner)))
            .collect();
        let mut by_owner: BTreeMap<Department, Vec<String>> =
            catalog::infer::write_starters(&folders)?
                .into_iter()
                .collect();
        let sets = triples(&self.gateways());
        let mut told = Vec::new();
        for (owner, folder) in folders {
            let at = |error: Error| error.at(owner.as_str());
            let mut notices = by_owner.remove(&owner).unwrap_or_default();
            if !folder.join(policy::file::FILE_NAME).exists() {
                let published = catalog::file::load(&folder).map_err(at)?.published;
                let written = policy::file::write_starter(&folder, &published, &sets);
                notices.extend(written.map_err(at)?);
            }
            told.extend(notices.iter().map(|notice| format!("{owner}: {notice}")));
        }
        Ok(told)
    }

    /// When each file of a department, and each of the federation's own, was changed last, and how long it is.
    /// What else lies beside the departments' folders, such as a notebook, is nobody's.
    #[must_use]
    pub fn stamps(&self) -> Stamps {
        fn add(path: &Path, depth: u8, stamps: &mut Stamps) {
            let Ok(metadata) = std::fs::metadata(path) else {
                return;
            };
            if metadata.is_file() {
                let changed = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                stamps.insert(path.to_owned(), (changed, metadata.len()));
            } else if depth > 0 {
                for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
                    if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                        add(&entry.path(), depth - 1, stamps);
                    }
                }
            }
        }
        let mut stamps = BTreeMap::new();
        add(&self.path, 3, &mut stamps);
        stamps.retain(|path, _| {
            let beside = path.parent() == Some(&self.path);
            !beside || path.extension().is_some_and(|end| end == "toml")
        });
        stamps
    }

    /// Loads every catalogue and policy, so that a mistake is told before anything starts.
    ///
    /// # Errors
    /// `BadConfig` with file, line and hint.
    pub fn check(&self) -> Result<()> {
        for owner in &self.owners {
            let folder = self.path.join(owner);
            let at = |error: Error| error.at(owner.as_str());
            let catalog = catalog::file::load(&folder).map_err(at)?;
            policy::file::load_for(&folder, &catalog.published).map_err(at)?;
        }
        Ok(())
    }
}

/// Whether a department's folder has a catalogue or something that can be a table.
fn has_tables(folder: &Path) -> std::io::Result<bool> {
    if folder.join(catalog::file::FILE_NAME).exists() {
        return Ok(true);
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            for inner in std::fs::read_dir(&path)? {
                if is_table_file(&inner?.path()) {
                    return Ok(true);
                }
            }
        } else if is_table_file(&path) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_table_file(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        extension.eq_ignore_ascii_case("csv") || extension.eq_ignore_ascii_case("parquet")
    })
}

/// All sets of three.
fn triples(gateways: &[Department]) -> Vec<[Department; 3]> {
    let mut sets = Vec::new();
    for (i, a) in gateways.iter().enumerate() {
        for (j, b) in gateways.iter().enumerate().skip(i + 1) {
            for c in gateways.iter().skip(j + 1) {
                sets.push([a.clone(), b.clone(), c.clone()]);
            }
        }
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        dir
    }

    #[test]
    fn departments_are_folders_with_tables() {
        let dir = folder(&[
            "tax/income.csv",
            "civil/people/part-0.PARQUET",
            ".git/x.csv",
            "notes.csv",
        ]);
        let found = Folder::open(dir.path()).unwrap();
        assert_eq!(found.owners, ["civil", "tax"]);
        assert_eq!(found.neutral, ["bureau"]);
        assert_eq!(found.gateways(), ["bureau", "civil", "tax"]);
    }

    #[test]
    fn an_empty_folder_is_a_neutral_gateway() {
        let dir = folder(&["a/t.csv", "b/t.csv", "office/readme.txt"]);
        assert_eq!(Folder::open(dir.path()).unwrap().neutral, ["office"]);
    }

    #[test]
    fn there_are_three_gateways_at_least() {
        let dir = folder(&["bureau/t.csv"]);
        let found = Folder::open(dir.path()).unwrap();
        assert_eq!(found.neutral, ["bureau_2", "neutral"]);
        assert_eq!(triples(&found.gateways()).len(), 1);
    }

    #[test]
    fn mistakes_are_told() {
        let empty = folder(&["civil/readme.txt"]);
        let error = Folder::open(empty.path()).unwrap_err();
        assert_eq!(error.code, Code::BadRequest);
        assert!(error.message.contains("health/visits.csv"), "{error}");
        let named = folder(&["My Dept/t.csv"]);
        assert_eq!(
            Folder::open(named.path()).unwrap_err().code,
            Code::BadConfig
        );
        let error = Folder::open(Path::new("/nonexistent/dir")).unwrap_err();
        assert_eq!(error.code, Code::BadRequest);
    }
}
