//! `gateway.toml`: one gateway's own settings.

use super::federation::{Federation, check_address, finish};
use super::reader::{Document, Mistakes, Table};
use crate::identity::{Identity, PublicKey, check_department, check_name};
use crate::tls::ClientCertificate;
use std::path::{Path, PathBuf};
use std::time::Duration;
use veilgate_federated::error::Result;
use veilgate_federated::planner::budget::Budget;
use veilgate_federated::schema::Department;

/// One gateway's settings. Relative paths in the file are resolved against its folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayConfig {
    /// Whose gateway.
    pub department: Department,
    /// `host:port` to listen on.
    pub listen: String,
    /// Holds `catalog.toml`, `policy.toml` and the tables; none for a neutral gateway.
    pub data: Option<PathBuf>,
    /// Holds the ledger and whatever must survive a restart.
    pub state: PathBuf,
    /// The private key's file.
    pub identity: PathBuf,
    /// The federation file.
    pub federation: PathBuf,
    /// What clients that do not pin this gateway's key are shown; none lets no such client in.
    pub clients: Option<Clients>,
    /// The users' file; none where only `analysts` ask.
    pub users: Option<PathBuf>,
    /// Whether clients may ask which services there are (gRPC server reflection).
    pub reflection: bool,
    /// Bounds.
    pub limits: Limits,
    /// Who may ask queries here.
    pub analysts: Vec<Analyst>,
}

/// The certificate for clients that know authorities and host names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    /// The chain in PEM, this gateway's own certificate first.
    pub certificate: PathBuf,
    /// Its private key in PEM.
    pub key: PathBuf,
}

/// Bounds of one gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that one run may use here (`memory_mib`; default 2048 MiB).
    pub memory_bytes: usize,
    /// Bytes that all gateways together may send for one run (`traffic_mib`; default 65,536 MiB).
    pub traffic_bytes: u64,
    /// Runs at the same time (`max_runs`; default 8).
    pub max_runs: usize,
    /// The longest that a run may take (`run_seconds`; default 600).
    pub run_deadline: Duration,
    /// The longest silence of a peer during a run (`peer_seconds`; default 8).
    pub peer_silence: Duration,
    /// The longest wait for a peer's data connection (`connect_seconds`; default 6).
    pub connect: Duration,
    /// How long a result waits to be fetched (`result_seconds`; default 86,400: a day).
    pub results: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 2048 << 20,
            traffic_bytes: 65_536 << 20,
            max_runs: 8,
            run_deadline: Duration::from_secs(600),
            peer_silence: Duration::from_secs(8),
            connect: Duration::from_secs(6),
            results: Duration::from_secs(86_400),
        }
    }
}

/// An analyst of this gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Analyst {
    /// Their name, as in `name@department`.
    pub name: String,
    /// Their pinned identity.
    pub public_key: PublicKey,
}

impl GatewayConfig {
    /// Reads a configuration file; `overrides` are [`environment`](super::environment)'s.
    ///
    /// # Errors
    /// Every mistake in it. The files that it names are not opened.
    pub fn load(
        path: &Path,
        overrides: &[(String, String)],
    ) -> std::result::Result<Self, Mistakes> {
        let document = Document::open(path, overrides)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let config = Self::read(&document, folder);
        finish(document, config)
    }

    fn read(document: &Document, folder: &Path) -> Option<Self> {
        let root = document.root();
        root.version();
        let department = root.require("department", "tax", |name| {
            check_department(name).map(|()| name.to_owned())
        });
        let listen = root.require("listen", "0.0.0.0:7070", |text| {
            // Port 0 lets the system choose; only tests and sandboxes want that.
            check_address(text.strip_suffix(":0").map_or(text, |_| "localhost:1"))
                .map(|()| text.to_owned())
        });
        let path = |text: String| folder.join(text);
        let data = root.text("data").map(path);
        let state = root.require_text("state", "state").map(path);
        let identity = root.require_text("identity", "identity.pem").map(path);
        let federation = root
            .require_text("federation", super::FEDERATION_FILE)
            .map(path);
        let clients = root
            .table("clients")
            .and_then(|table| Clients::read(&table, folder));
        let users = root.text("users").map(path);
        let reflection = root.flag("reflection");
        let limits = root
            .table("limits")
            .map_or_else(Limits::default, |table| Limits::read(&table));
        let mut analysts: Vec<Analyst> = Vec::new();
        for table in root.tables("analysts") {
            let Some(analyst) = Analyst::read(&table) else {
                continue;
            };
            if analysts.iter().any(|other| other.name == analyst.name) {
                table.mistake("name", "another analyst has the same");
            }
            if analysts
                .iter()
                .any(|other| other.public_key == analyst.public_key)
            {
                table.mistake("public_key", "another analyst has the same");
            }
            analysts.push(analyst);
        }
        Some(Self {
            department: department?,
            listen: listen?,
            data,
            state: state?,
            identity: identity?,
            federation: federation?,
            clients,
            users,
            reflection,
            limits,
            analysts,
        })
    }

    /// Loads the identity.
    ///
    /// # Errors
    /// `BadConfig` naming the file.
    pub fn load_identity(&self) -> Result<Identity> {
        Identity::load(&self.department, &self.identity)
    }

    /// Loads the certificate for clients, if there is one.
    ///
    /// # Errors
    /// `BadConfig` naming the file.
    pub fn load_clients(&self) -> Result<Option<ClientCertificate>> {
        let clients = self.clients.as_ref();
        clients
            .map(|clients| ClientCertificate::load(&clients.certificate, &clients.key))
            .transpose()
    }

    /// Loads the federation and checks that this gateway is in it as itself.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn load_federation(
        &self,
        identity: &Identity,
    ) -> std::result::Result<Federation, Mistakes> {
        let federation = Federation::load(&self.federation)?;
        self.check_federation(&federation, identity)?;
        Ok(federation)
    }

    fn check_federation(
        &self,
        federation: &Federation,
        identity: &Identity,
    ) -> std::result::Result<(), Mistakes> {
        let file = self.federation.display();
        let mut mistakes = Mistakes::default();
        match federation.get(&self.department) {
            None => mistakes.push(format!(
                "{file}: has no gateway {}; add this gateway's own entry",
                self.department
            )),
            Some(own) => {
                if own.public_key != identity.public_key() {
                    mistakes.push(format!(
                        "{file}: gateway {} has another public_key than the identity file {}; its key is {}",
                        self.department,
                        self.identity.display(),
                        identity.public_key()
                    ));
                }
                if own.neutral && self.data.is_some() {
                    mistakes.push(format!(
                        "{file}: gateway {} is neutral, but its configuration has a data folder",
                        self.department
                    ));
                }
            }
        }
        for analyst in &self.analysts {
            let same = federation
                .gateways()
                .iter()
                .find(|gateway| gateway.public_key == analyst.public_key);
            if let Some(gateway) = same {
                mistakes.push(format!(
                    "{file}: analyst {} and gateway {} have the same public key",
                    analyst.name, gateway.department
                ));
            }
        }
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(mistakes)
        }
    }
}

impl Limits {
    /// What one run may use, as far as a plan tells.
    pub(crate) fn budget(&self) -> Budget {
        Budget {
            memory_bytes: self.memory_bytes as u64,
            sent_bytes: self.traffic_bytes,
        }
    }

    fn read(table: &Table<'_>) -> Self {
        let seconds = |field, default: Duration, most| {
            Duration::from_secs(table.number(field, default.as_secs(), 1..=most))
        };
        let default = Self::default();
        let memory = table.number("memory_mib", 2048, 16..=1 << 24) << 20;
        let runs = table.number("max_runs", 8, 1..=1024);
        Self {
            traffic_bytes: table.number("traffic_mib", 65_536, 1..=1 << 30) << 20,
            memory_bytes: usize::try_from(memory).unwrap_or(usize::MAX),
            max_runs: usize::try_from(runs).unwrap_or(default.max_runs),
            run_deadline: seconds("run_seconds", default.run_deadline, 86_400),
            peer_silence: seconds("peer_seconds", default.peer_silence, 3_600),
            connect: seconds("connect_seconds", default.connect, 600),
            results: seconds("result_seconds", default.results, 31 * 86_400),
        }
    }
}

impl Clients {
    fn read(table: &Table<'_>, folder: &Path) -> Option<Self> {
        let certificate = table.require_text("certificate", "clients.pem");
        let key = table.require_text("key", "clients.key");
        Some(Self {
            certificate: folder.join(certificate?),
            key: folder.join(key?),
        })
    }
}

impl Analyst {
    fn read(table: &Table<'_>) -> Option<Self> {
        let name = table.require("name", "zhang.wei", |name| {
            check_name(name).map(|()| name.to_owned())
        });
        let public_key = table.require("public_key", "ed25519:...", |text| {
            text.parse::<PublicKey>().map_err(|error| error.message)
        });
        Some(Self {
            name: name?,
            public_key: public_key?,
        })
    }
}
