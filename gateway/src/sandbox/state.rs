//! What a sandbox keeps under `DIR/.veilgate/`: keys, configuration, ledgers, logs; and what it reads of
//! `DIR` itself.
//!
//! ```text
//! federated_tables.toml        [[federated_tables]] of the federation, if there are any
//! .veilgate/lock               held while the sandbox runs
//! .veilgate/federation.toml    addresses and public keys
//! .veilgate/analyst            who asks when nobody is named: analyst@department
//! .veilgate/analysts/NAME.pem  the analysts' identities
//! .veilgate/DEPARTMENT/        identity.pem, clients.pem, clients.key, users.toml,
//!                              gateway.toml, gateway.log, state/
//! .veilgate/connect.json       how Flight SQL clients connect, once the gateways are ready
//! .veilgate/password           of the users of its gateways
//! .veilgate/ca.pem, ca.key      the authority of the certificates that clients are shown
//! .veilgate/pids               department and process id of every gateway
//! ```

use super::authority::Authority;
use super::folder::Folder;
use crate::cli::connect::{STATE, Target, Who};
use crate::config::Federation;
use crate::identity::{Identity, PublicKey};
use crate::users::{Entry, Role, USERS_FILE};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::schema::Department;
use zeroize::Zeroizing;

/// The file of a sandbox's folder that declares federated tables.
pub const FEDERATED_TABLES: &str = "federated_tables.toml";

/// The file that tells Flight SQL clients how to connect.
pub const CONNECT: &str = "connect.json";

/// The state of one sandbox, locked.
#[derive(Debug)]
pub struct State {
    dir: PathBuf,
    /// Ports by department, the same whenever its gateways start again.
    ports: RefCell<BTreeMap<Department, u16>>,
    /// Held until the sandbox ends.
    _lock: File,
}

/// One gateway that is about to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayFiles {
    /// Its department.
    pub department: Department,
    /// Where it listens.
    pub address: String,
    /// Its configuration.
    pub config: PathBuf,
    /// Its log.
    pub log: PathBuf,
}

impl State {
    /// Opens or makes the state of the sandbox in `dir`.
    ///
    /// # Errors
    /// `BadRequest` when another process runs this sandbox, or the folder cannot be written.
    pub fn open(dir: &Path) -> Result<Self> {
        let dir = dir.join(STATE);
        make_private(&dir)?;
        let path = dir.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| unwritable(&path, &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                dir,
                ports: RefCell::default(),
                _lock: lock,
            }),
            Err(std::fs::TryLockError::WouldBlock) => Err(Error::new(
                Code::BadRequest,
                format!(
                    "a sandbox runs in {} already: query it with `veilgate query --dir`, or end it \
                     with Ctrl-C",
                    dir.parent().unwrap_or(&dir).display()
                ),
            )),
            Err(std::fs::TryLockError::Error(error)) => Err(unwritable(&path, &error)),
        }
    }

    /// Writes everything that the gateways of `folder` and the analyst `who` need.
    ///
    /// # Errors
    /// `BadRequest` or `BadConfig` naming the file that cannot be read or written.
    pub fn prepare(&self, folder: &Folder, who: &Who) -> Result<Vec<GatewayFiles>> {
        let gateways = folder.gateways();
        let ports = self.ports(&gateways)?;
        let password = self.password()?;
        let analysts = self.analysts(&who.analyst)?;
        let authority = Authority::open(&self.dir)?;
        let mut federation =
            String::from("# Written by `veilgate sandbox` at every start.\nversion = 1\n");
        let _ = write!(federation, "\n[line]\nlanes = {}\n", folder.threads);
        let mut files = Vec::new();
        for (department, port) in gateways.iter().zip(&ports) {
            let home = self.dir.join(department);
            make_private(&home)?;
            let key = identity(department, &home.join("identity.pem"))?;
            let neutral = folder.neutral.contains(department);
            authority.certify(&home)?;
            if !neutral {
                make_user(&home.join(USERS_FILE), &who.analyst, &password)?;
            }
            let address = format!("127.0.0.1:{port}");
            let _ = write!(
                federation,
                "\n[[gateways]]\ndepartment = \"{department}\"\naddress = \"{address}\"\n\
                 public_key = \"{key}\"\noperator = \"{department}\"\nhost = \"{department}.sandbox\"\n\
                 neutral = {neutral}\ndata_over_grpc = {}\n",
                folder.data_over_grpc
            );
            let config = home.join("gateway.toml");
            let data = (!neutral).then(|| folder.path.join(department));
            write(
                &config,
                &gateway_toml(department, &address, data.as_deref(), &self.dir, &analysts),
            )?;
            files.push(GatewayFiles {
                department: department.clone(),
                address,
                config,
                log: home.join("gateway.log"),
            });
        }
        let declared = folder.path.join(FEDERATED_TABLES);
        if declared.exists() {
            let text = std::fs::read_to_string(&declared).map_err(|error| {
                let what = format!("cannot read {}: {}", declared.display(), error.kind());
                Error::new(Code::BadConfig, what)
            })?;
            let _ = write!(federation, "\n# {FEDERATED_TABLES}\n{text}");
        }
        write(&self.federation(), &federation)?;
        if declared.exists() {
            Federation::load(&self.federation())
                .map_err(|mistakes| Error::new(Code::BadConfig, mistakes.to_string()))?;
        }
        write(&self.dir.join("analyst"), &format!("{who}\n"))?;
        Ok(files)
    }

    /// The ports of these gateways.
    fn ports(&self, gateways: &[Department]) -> Result<Vec<u16>> {
        let mut known = self.ports.borrow_mut();
        let fresh: Vec<&Department> = gateways
            .iter()
            .filter(|department| !known.contains_key(*department))
            .collect();
        let ports = free_ports(fresh.len())?;
        known.extend(fresh.into_iter().cloned().zip(ports));
        Ok(gateways.iter().map(|of| known[of]).collect())
    }

    /// The password of its users, which is made at the first start.
    fn password(&self) -> Result<Zeroizing<String>> {
        let path = self.dir.join("password");
        if let Ok(text) = std::fs::read_to_string(&path) {
            return Ok(Zeroizing::new(text.trim().to_owned()));
        }
        let bytes = Zeroizing::new(crate::identity::random::<15>()?);
        let password = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()));
        write_private(&path, &password)?;
        Ok(password)
    }

    /// Writes `connect.json` for Flight SQL clients of the home gateway: `uri`, `username`, `password`,
    /// and `ca`, the path of the authority's certificate.
    ///
    /// # Errors
    /// `BadRequest` when the file cannot be written.
    pub fn write_connect(&self, gateways: &[GatewayFiles], who: &Who) -> Result<PathBuf> {
        let home = gateways.iter().find(|of| of.department == who.department);
        let home = home.ok_or_else(|| Error::new(Code::Internal, "no home gateway"))?;
        let password = self.password()?;
        let connect = serde_json::json!({
            "uri": format!("grpc+tls://{}", home.address.replace("127.0.0.1", "localhost")),
            "username": who.analyst,
            "password": password.as_str(),
            "ca": self.dir.join("ca.pem"),
        });
        let path = self.dir.join(CONNECT);
        write_private(&path, &Zeroizing::new(format!("{connect:#}\n")))?;
        Ok(path)
    }

    /// The folder itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn federation(&self) -> PathBuf {
        self.dir.join("federation.toml")
    }

    /// How to reach the sandbox as `who`.
    #[must_use]
    pub fn target(&self, who: &Who) -> Target {
        Target {
            federation: self.federation(),
            identity: self.analyst_file(&who.analyst),
            who: who.clone(),
        }
    }

    fn analyst_file(&self, name: &str) -> PathBuf {
        self.dir.join("analysts").join(format!("{name}.pem"))
    }

    /// The ledger of a department.
    #[must_use]
    pub fn ledger(&self, department: &str) -> PathBuf {
        self.dir.join(department).join("state").join("ledger")
    }

    /// Notes the process ids, for whoever looks after a crash.
    ///
    /// # Errors
    /// `BadRequest` when the file cannot be written.
    pub fn note_pids(&self, pids: &[(Department, u32)]) -> Result<()> {
        let lines: String = pids
            .iter()
            .map(|(department, pid)| format!("{department} {pid}\n"))
            .collect();
        write(&self.dir.join("pids"), &lines)
    }

    /// The analysts who may ask: those known from earlier, `analyst`, and the one named now.
    fn analysts(&self, named: &str) -> Result<Vec<(String, PublicKey)>> {
        let folder = self.dir.join("analysts");
        make_private(&folder)?;
        let mut names = vec!["analyst".to_owned(), named.to_owned()];
        let entries = std::fs::read_dir(&folder).map_err(|error| unwritable(&folder, &error))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "pem")
                && let Some(stem) = path.file_stem()
            {
                names.push(stem.to_string_lossy().into_owned());
            }
        }
        names.sort();
        names.dedup();
        names
            .into_iter()
            .map(|name| {
                let key = identity(&name, &self.analyst_file(&name))?;
                Ok((name, key))
            })
            .collect()
    }
}

fn gateway_toml(
    department: &str,
    address: &str,
    data: Option<&Path>,
    state: &Path,
    analysts: &[(String, PublicKey)],
) -> String {
    let home = state.join(department);
    let path = |path: &Path| toml::Value::String(path.display().to_string()).to_string();
    let mut text = format!(
        "# Written by `veilgate sandbox` at every start.\nversion = 1\ndepartment = \"{department}\"\n\
         listen = \"{address}\"\nidentity = {}\nfederation = {}\nstate = {}\n",
        path(&home.join("identity.pem")),
        path(&state.join("federation.toml")),
        path(&home.join("state")),
    );
    if let Some(data) = data {
        let _ = writeln!(text, "data = {}", path(data));
        let _ = write!(
            text,
            "users = {}\nreflection = true\n\n[clients]\ncertificate = {}\nkey = {}\n",
            path(&home.join(USERS_FILE)),
            path(&home.join("clients.pem")),
            path(&home.join("clients.key"))
        );
        for (name, key) in analysts {
            let _ = write!(
                text,
                "\n[[analysts]]\nname = \"{name}\"\npublic_key = \"{key}\"\n"
            );
        }
    }
    text
}

/// Adds a user to the file of a gateway, unless it has them already.
fn make_user(path: &Path, name: &str, password: &str) -> Result<()> {
    crate::users::edit(path, |file| {
        if file.get(name).is_none() {
            let password = Some(file.hash(password)?);
            file.users.push(Entry {
                name: name.to_owned(),
                roles: vec![Role::Analyst],
                password,
                tokens: Vec::new(),
            });
        }
        Ok(())
    })
}

/// Writes a file that only its owner can read, in one step.
fn write_private(path: &Path, text: &str) -> Result<()> {
    let unwritable = |error: std::io::Error| unwritable(path, &error);
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(unwritable)?;
    file.write_all(text.as_bytes()).map_err(unwritable)?;
    file.persist(path)
        .map_err(|error| self::unwritable(path, &error.error))?;
    Ok(())
}

/// The public key in an identity file, which is made where it is missing.
fn identity(name: &str, path: &Path) -> Result<PublicKey> {
    if path.exists() {
        return Ok(Identity::load(name, path)?.public_key());
    }
    let identity = Identity::generate(name)?;
    identity.save(path)?;
    Ok(identity.public_key())
}

/// Ports of the loopback that are free now.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let failed = |error: std::io::Error| {
        Error::new(
            Code::BadRequest,
            format!("cannot listen on 127.0.0.1: {}", error.kind()),
        )
    };
    // All are held until the last is known, so that they differ.
    let listeners = (0..count)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0"))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(failed)?;
    listeners
        .iter()
        .map(|listener| Ok(listener.local_addr().map_err(failed)?.port()))
        .collect()
}

fn make_private(dir: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| unwritable(dir, &error))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::new(
        Code::BadRequest,
        format!("cannot write {}: {}", path.display(), error.kind()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sandbox_at_a_time_in_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let first = State::open(dir.path()).unwrap();
        let second = State::open(dir.path()).unwrap_err();
        assert!(second.message.contains("already"), "{second}");
        drop(first);
        State::open(dir.path()).unwrap();
    }

    #[test]
    fn federated_tables_are_declared_in_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        for department in ["north", "south"] {
            std::fs::create_dir(dir.path().join(department)).unwrap();
            std::fs::write(dir.path().join(department).join("t.csv"), "a\n").unwrap();
        }
        let folder = Folder::open(dir.path()).unwrap();
        let who = Who::parse("analyst@north").unwrap();
        let state = State::open(dir.path()).unwrap();
        let declare = |member: &str| {
            let text = format!(
                "[[federated_tables]]\nname = \"all.t\"\nmembers = [\"north.t\", \"{member}\"]\n"
            );
            std::fs::write(dir.path().join(FEDERATED_TABLES), text).unwrap();
            state.prepare(&folder, &who)
        };
        declare("south.t").unwrap();
        let federation = Federation::load(&state.federation()).unwrap();
        assert_eq!(federation.tables()[0].name(), "all.t");
        let error = declare("east.t").unwrap_err();
        assert_eq!(error.code, Code::BadConfig);
        assert!(
            error
                .message
                .contains("no gateway has the department `east`"),
            "{error}"
        );
    }

    #[test]
    fn keys_outlive_a_restart_and_ports_differ() {
        let dir = tempfile::tempdir().unwrap();
        for department in ["civil", "tax"] {
            std::fs::create_dir(dir.path().join(department)).unwrap();
            std::fs::write(dir.path().join(department).join("t.csv"), "a\n").unwrap();
        }
        let folder = Folder::open(dir.path()).unwrap();
        let who = Who::parse("analyst@civil").unwrap();
        let keys = || {
            let state = State::open(dir.path()).unwrap();
            let files = state.prepare(&folder, &who).unwrap();
            assert_eq!(files.len(), 3);
            let text = std::fs::read_to_string(state.federation()).unwrap();
            let lines = |start: &str| -> Vec<String> {
                text.lines()
                    .filter(|line| line.starts_with(start))
                    .map(str::to_owned)
                    .collect()
            };
            let mut addresses = lines("address");
            addresses.dedup();
            assert_eq!(addresses.len(), 3);
            lines("public_key")
        };
        assert_eq!(keys(), keys());
    }
}
