//! One gateway process: everything that its services share, and starting and stopping them.
//!
//! The node is what a department *is* while it runs: identity, federation, data with its policy,
//! ledger, limits. It reads the clock and draws randomness for those below, who must not.

use crate::api::{AnalystService, PeerService};
use crate::carry::Carried;
use crate::config::{Federation, Gateway as FederationEntry, GatewayConfig, Limits};
use crate::flight::FlightService;
use crate::identity::{self, Identity};
use crate::ledger::{Leaf, Ledger};
use crate::queries::{Kept, QueryManager};
use crate::session::coordinator::Coordinator;
use crate::session::participant::Participant;
use crate::tls::{DataRegistry, Transport};
use crate::users::Users;
use crate::{clock, used_runs::UsedRuns};
use arrow_flight::flight_service_server::FlightServiceServer;
use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tonic::transport::Channel;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};
use veilgate_federated::catalog::{self, Published};
use veilgate_federated::error::{Code, Denial, Error, Result};
use veilgate_federated::flow::{Me, Permitted};
use veilgate_federated::local::{self, DataFusionEngine, LocalEngine};
use veilgate_federated::plan::Engine;
use veilgate_federated::planner::Member;
use veilgate_federated::policy::{self, Policy, Reason};
use veilgate_federated::run::{RunId, Signer, Verifier, Versions};
use veilgate_proto::analyst::v1::DESCRIPTORS;
use veilgate_proto::analyst::v1::analyst_server::AnalystServer;
use veilgate_proto::peer::v1 as wire;
use veilgate_proto::peer::v1::peer_client::PeerClient;
use veilgate_proto::peer::v1::peer_server::PeerServer;

/// The version of the protocol between gateways; both ends must have the same.
pub const PROTOCOL_VERSION: u32 = 1;

/// The largest gRPC message: plans are at most 1 MiB, results are aggregates.
const MAX_MESSAGE: usize = 64 << 20;

/// Everything that the services of one gateway share.
pub(crate) struct Node {
    pub(crate) department: String,
    pub(crate) identity: Arc<Identity>,
    pub(crate) federation: Arc<Federation>,
    pub(crate) transport: Arc<Transport>,
    pub(crate) registry: Arc<DataRegistry>,
    /// The same, of what arrives as gRPC streams.
    pub(crate) carried: DataRegistry<Carried>,
    pub(crate) limits: Limits,
    pub(crate) engine: Engine,
    /// The folder of what this gateway keeps; shares wait there, encrypted, where memory is tight.
    pub(crate) state: PathBuf,
    data: Option<Data>,
    ledger: Mutex<Ledger>,
    used: Mutex<UsedRuns>,
    channels: Mutex<HashMap<String, Channel>>,
    /// DataFusion's own threads, apart from those that serve the network.
    local: tokio::runtime::Handle,
}

/// A department's tables and rules.
pub(crate) struct Data {
    pub(crate) published: Published,
    pub(crate) policy: Policy,
    pub(crate) engine: Box<dyn LocalEngine>,
    folder: PathBuf,
}

impl Node {
    fn new(config: &GatewayConfig, local: tokio::runtime::Handle) -> Result<Self> {
        let identity = Arc::new(config.load_identity()?);
        let federation = Arc::new(config.load_federation(&identity)?);
        let guests = config.load_clients()?;
        let transport = Arc::new(Transport::new(
            Arc::clone(&identity),
            Arc::clone(&federation),
            &config.analysts,
            guests.as_ref(),
        )?);
        let data = match &config.data {
            Some(folder) => Some(Data::load(folder, &config.department, &config.limits)?),
            None => None,
        };
        let ledger = Ledger::open(&config.state.join("ledger"), Arc::clone(&identity))?;
        let used = UsedRuns::open(&config.state.join("used-runs"))?;
        Ok(Self {
            department: config.department.clone(),
            identity,
            federation,
            transport,
            registry: Arc::new(DataRegistry::new()),
            carried: DataRegistry::new(),
            limits: config.limits.clone(),
            engine: local::engine(),
            state: config.state.clone(),
            data,
            ledger: Mutex::new(ledger),
            used: Mutex::new(used),
            channels: Mutex::default(),
            local,
        })
    }

    /// Whether data connections with a gateway are gRPC streams: the federation file says so of it or of
    /// this gateway, so both ends agree.
    pub(crate) fn over_grpc(&self, peer: &str) -> bool {
        let ends = [peer, &self.department].map(|department| self.federation.get(department));
        ends.into_iter()
            .flatten()
            .any(|gateway| gateway.data_over_grpc)
    }

    /// This department's data.
    ///
    /// # Errors
    /// `Internal` at a gateway without data: the flow check lets no fragment of such an owner pass.
    pub(crate) fn data(&self) -> Result<&Data> {
        self.data
            .as_ref()
            .ok_or_else(|| Error::new(Code::Internal, "this gateway has no data"))
    }

    /// The fewest rows that an input of this gateway's may look like.
    pub(crate) fn min_rows(&self) -> u64 {
        self.data.as_ref().map_or(0, |data| data.policy.min_rows)
    }

    /// What the flow check needs to know of this gateway.
    pub(crate) fn me<'a>(&'a self, home: &'a str, reason: Reason<'a>) -> Me<'a> {
        Me {
            department: &self.department,
            catalog: self.data.as_ref().map(|data| &data.published),
            policy: self.data.as_ref().map(|data| &data.policy),
            engine: &self.engine,
            home,
            reason,
        }
    }

    /// The versions that a consent names, the snapshot of the files to be read among them.
    pub(crate) fn versions(&self, permitted: &Permitted) -> Result<Versions> {
        let Some(data) = &self.data else {
            return Ok(Versions {
                policy: Vec::new(),
                catalog: Vec::new(),
                snapshot: Vec::new(),
            });
        };
        let me = permitted.me();
        let owns = permitted
            .plan()
            .fragments
            .iter()
            .any(|fragment| fragment.owner == me);
        Ok(Versions {
            policy: data.policy.version.to_vec(),
            catalog: data.published.version().to_vec(),
            snapshot: if owns {
                data.engine.snapshot()?.to_vec()
            } else {
                Vec::new()
            },
        })
    }

    /// Whether what was permitted at admission still is, at the moment of release: the policy file
    /// must still be the one that this gateway consented with.
    ///
    /// # Errors
    /// `PolicyDenied` when the policy has changed or is gone; `BadConfig` when it does not load.
    pub(crate) fn still_permitted(&self) -> Result<()> {
        let Some(data) = &self.data else {
            return Ok(());
        };
        let now = policy::file::load(&data.folder)?;
        if now.version == data.policy.version {
            return Ok(());
        }
        Err(Error::denied(Denial {
            department: self.department.clone(),
            rule: "the policy changed while the query ran".to_owned(),
            column: String::new(),
            asked: "release under the policy of before".to_owned(),
            alternative: "the same query, once the gateway has been restarted with the new policy"
                .to_owned(),
        }))
    }

    /// This gateway as a member of the federation, for its own planner.
    pub(crate) fn member(&self) -> Member {
        Member {
            department: self.department.clone(),
            catalog: self.data.as_ref().map(|data| data.published.clone()),
            policy: self.data.as_ref().map(|data| data.policy.clone()),
        }
    }

    /// What other gateways may see.
    pub(crate) fn published(&self) -> Result<wire::CatalogReply> {
        let Some(data) = &self.data else {
            return Ok(wire::CatalogReply::default());
        };
        let internal = |_| Error::new(Code::Internal, "the catalogue does not serialise");
        Ok(wire::CatalogReply {
            json: serde_json::to_vec(&data.published).map_err(internal)?,
            policy_json: data.policy.to_json().into_bytes(),
        })
    }

    pub(crate) fn hello(&self) -> wire::HelloRequest {
        wire::HelloRequest {
            protocol_version: PROTOCOL_VERSION,
            engine_version: self.engine.version.clone(),
            config_hash: self.engine.config_hash.to_vec(),
        }
    }

    /// Refuses a peer of another protocol or engine.
    pub(crate) fn check_hello(
        &self,
        protocol: u32,
        engine: &str,
        config_hash: &[u8],
        peer: &str,
    ) -> Result<()> {
        same_version(
            &self.department,
            &self.engine,
            peer,
            protocol,
            engine,
            config_hash,
        )
    }

    pub(crate) fn other_gateways(&self) -> Vec<FederationEntry> {
        self.federation
            .gateways()
            .iter()
            .filter(|gateway| gateway.department != self.department)
            .cloned()
            .collect()
    }

    /// A client to another gateway, over a connection that is kept.
    pub(crate) fn peer_client(&self, department: &str) -> Result<PeerClient<Channel>> {
        let mut channels = lock(&self.channels);
        let channel = match channels.get(department) {
            Some(channel) => channel.clone(),
            None => {
                let channel = self.transport.peer_channel(department)?;
                channels.insert(department.to_owned(), channel.clone());
                channel
            }
        };
        Ok(PeerClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE))
    }

    /// Marks a run id as used, durably, before anything else happens in its name.
    pub(crate) fn use_run_id(&self, run: RunId) -> Result<()> {
        lock(&self.used).insert(run)
    }

    /// Where the ledger is.
    pub(crate) fn ledger_folder(&self) -> PathBuf {
        self.state.join("ledger")
    }

    /// Appends a leaf to the ledger and waits until it is durable.
    pub(crate) async fn record(self: &Arc<Self>, leaf: Leaf) -> Result<u64> {
        let node = Arc::clone(self);
        tokio::task::spawn_blocking(move || node.record_blocking(&leaf))
            .await
            .map_err(|_| Error::new(Code::Internal, "the ledger writer ended abnormally"))?
    }

    /// As [`Node::record`], on a thread that may block.
    pub(crate) fn record_blocking(&self, leaf: &Leaf) -> Result<u64> {
        Ok(lock(&self.ledger).append(leaf)?.index)
    }

    /// Runs work of the local engine on its own threads.
    pub(crate) async fn spawn_local<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let task = AbortOnDrop(self.local.spawn(work));
        task.await
            .map_err(|_| Error::new(Code::Internal, "a local fragment ended abnormally"))?
    }

    pub(crate) fn random<const N: usize>(&self) -> Result<[u8; N]> {
        identity::random()
    }

    pub(crate) fn now(&self) -> u64 {
        clock::unix_now()
    }
}

impl Data {
    fn load(folder: &Path, department: &str, limits: &Limits) -> Result<Self> {
        let catalog = catalog::file::load(folder)?;
        // One catalogue and policy, held against each other.
        let policy = policy::file::load_for(folder, &catalog.published)?;
        for found in [&catalog.published.department, &policy.department] {
            if found != department {
                return Err(Error::new(
                    Code::BadConfig,
                    format!(
                        "{} holds files of department {found}, this gateway is {department}",
                        folder.display()
                    ),
                ));
            }
        }
        let published = catalog.published.clone();
        let engine = DataFusionEngine::new(catalog).with_memory(limits.memory_bytes);
        Ok(Self {
            published,
            policy,
            engine: Box::new(engine),
            folder: folder.to_owned(),
        })
    }
}

/// A task that does not outlive whoever waits for it.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Future for AbortOnDrop<T> {
    type Output = std::result::Result<T, tokio::task::JoinError>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Signer for Identity {
    fn sign(&self, domain: &str, body: &[u8]) -> [u8; 64] {
        Identity::sign(self, domain, body)
    }
}

impl Verifier for Federation {
    fn verify(&self, department: &str, domain: &str, body: &[u8], signature: &[u8]) -> bool {
        self.get(department)
            .is_some_and(|gateway| gateway.public_key.verify(domain, body, signature))
    }
}

/// Two gateways run a plan together only with one protocol, one engine and one configuration of it.
fn same_version(
    department: &str,
    mine: &Engine,
    peer: &str,
    protocol: u32,
    engine: &str,
    config_hash: &[u8],
) -> Result<()> {
    let refuse = |what: String| Err(Error::new(Code::WrongVersion, what).at(peer));
    if protocol != PROTOCOL_VERSION {
        return refuse(format!(
            "{peer} speaks protocol version {protocol}, {department} speaks {PROTOCOL_VERSION}"
        ));
    }
    if engine != mine.version || config_hash != mine.config_hash {
        // A peer's version string is shown only if it looks like one.
        let printable = |c: char| c.is_ascii_graphic() || c == ' ';
        let shown = if engine.len() <= 64 && engine.chars().all(printable) {
            engine
        } else {
            "unreadable"
        };
        return refuse(format!(
            "{peer} runs engine {shown}, {department} runs {}, or they are configured differently",
            mine.version
        ));
    }
    Ok(())
}

/// A member of the federation from what its gateway publishes.
pub(crate) fn member_from_wire(department: &str, reply: &wire::CatalogReply) -> Result<Member> {
    let broken = |what: &str| {
        Error::new(
            Code::PeerMisbehaved,
            format!("the {what} that it publishes does not decode"),
        )
        .at(department)
    };
    if reply.json.is_empty() {
        return Ok(Member {
            department: department.to_owned(),
            catalog: None,
            policy: None,
        });
    }
    let catalog: Published =
        serde_json::from_slice(&reply.json).map_err(|_| broken("catalogue"))?;
    let policy = std::str::from_utf8(&reply.policy_json)
        .ok()
        .and_then(|text| Policy::from_json(text).ok())
        .ok_or_else(|| broken("policy"))?;
    if catalog.department != department || policy.department != department {
        return Err(broken("department"));
    }
    Ok(Member {
        department: department.to_owned(),
        catalog: Some(catalog),
        policy: Some(policy),
    })
}

/// Runs the gateway until the future is dropped. `ready` is told the address once it accepts
/// connections. Dropping it closes every connection: peers see their runs end.
///
/// # Errors
/// `BadConfig` for files that do not load or an address that is taken.
pub async fn run_gateway(
    config: GatewayConfig,
    ready: tokio::sync::oneshot::Sender<std::net::SocketAddr>,
) -> Result<()> {
    veilgate_mpc::heap::keep_freed_memory();
    let local = tokio::runtime::Builder::new_multi_thread()
        .thread_name("local")
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|_| Error::new(Code::LimitExceeded, "no threads for local fragments"))?;
    let local = Background(Some(local));
    let node = Arc::new(Node::new(&config, local.handle()?)?);
    let taken = |error: std::io::Error| {
        Error::new(
            Code::BadConfig,
            format!("cannot listen on {}: {}", config.listen, error.kind()),
        )
    };
    let listener = TcpListener::bind(&config.listen).await.map_err(taken)?;
    let address = listener.local_addr().map_err(taken)?;
    let participant = Arc::new(Participant::new(Arc::clone(&node)));
    let coordinator = Arc::new(Coordinator::new(
        Arc::clone(&node),
        Arc::clone(&participant),
    ));
    let incoming = node.transport.listen(listener, Arc::clone(&node.registry));
    let peer = PeerServer::new(PeerService {
        node: Arc::clone(&node),
        participant: Arc::clone(&participant),
    })
    .max_decoding_message_size(MAX_MESSAGE)
    .max_encoding_message_size(MAX_MESSAGE);
    let users = match &config.users {
        Some(path) => Some(Users::open(path)?),
        None => None,
    };
    let kept = Kept::open(&config.state, node.limits.results)?;
    let manager = QueryManager::new(Arc::clone(&node), coordinator, kept, users);
    let manager = Arc::new(manager);
    let flight = FlightServiceServer::new(FlightService::new(Arc::clone(&manager))?)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let analyst = AnalystServer::new(AnalystService {
        manager: Arc::clone(&manager),
    })
    .max_decoding_message_size(MAX_MESSAGE)
    .max_encoding_message_size(MAX_MESSAGE);
    tracing::info!(department = %node.department, %address, "gateway is ready");
    // Whoever started this gateway may no longer care.
    let _ = ready.send(address);
    let sweeper = Arc::clone(&participant);
    let _cancelling = CancelOnDrop(participant);
    let serving = tonic::transport::Server::builder()
        .initial_stream_window_size(16 << 20)
        .initial_connection_window_size(32 << 20)
        .http2_keepalive_interval(Some(std::time::Duration::from_secs(10)))
        .add_service(peer)
        .add_service(analyst)
        .add_service(flight)
        .add_optional_service(reflection(&config)?)
        .serve_with_incoming(incoming);
    tokio::select! {
        served = serving => {
            served.map_err(|_| Error::new(Code::Internal, "the listener failed"))
        }
        () = sweeper.sweep() => Err(Error::new(Code::Internal, "runs are no longer watched")),
        () = manager.sweep() => Err(Error::new(Code::Internal, "results are no longer watched")),
    }
}

/// What tells clients of the services of analysts, where the configuration says so.
fn reflection(
    config: &GatewayConfig,
) -> Result<Option<ServerReflectionServer<impl ServerReflection>>> {
    if !config.reflection {
        return Ok(None);
    }
    let made = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .build_v1();
    made.map(Some)
        .map_err(|_| Error::new(Code::Internal, "the services cannot be described"))
}

/// Ends every run when the gateway stops.
struct CancelOnDrop(Arc<Participant>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel_all();
    }
}

/// A runtime that may be dropped within another: its threads end in the background.
struct Background(Option<tokio::runtime::Runtime>);

impl Background {
    fn handle(&self) -> Result<tokio::runtime::Handle> {
        self.0
            .as_ref()
            .map(|runtime| runtime.handle().clone())
            .ok_or_else(|| Error::new(Code::Internal, "the local runtime is gone"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{PROTOCOL_VERSION, same_version};
    use veilgate_federated::error::Code;
    use veilgate_federated::plan::Engine;

    #[test]
    fn another_version_is_refused_by_name() {
        let mine = Engine {
            version: "veilgate 0.2.0".to_owned(),
            config_hash: [7; 32],
        };
        let check = |protocol, engine: &str, hash: [u8; 32]| {
            same_version("civil", &mine, "tax", protocol, engine, &hash)
        };
        assert_eq!(check(PROTOCOL_VERSION, "veilgate 0.2.0", [7; 32]), Ok(()));
        for (protocol, engine, hash) in [
            (PROTOCOL_VERSION - 1, "veilgate 0.2.0", [7; 32]),
            (PROTOCOL_VERSION, "veilgate 0.1.0", [7; 32]),
            (PROTOCOL_VERSION, "veilgate 0.2.0", [8; 32]),
            (PROTOCOL_VERSION, "veilgate 0.2.0\u{1b}[31m", [7; 32]),
        ] {
            let error = check(protocol, engine, hash).unwrap_err();
            assert_eq!(error.code, Code::WrongVersion);
            assert_eq!(error.department.as_deref(), Some("tax"));
            assert!(!error.message.contains('\u{1b}'));
        }
    }
}
