//! One running plan at this gateway: local fragments on the data runtime, links to the other
//! parties, the joint execution on a thread of its own, then the release leaf and the token.

use crate::carry::{self, CarryRead};
use crate::ledger::Leaf;
use crate::node::Node;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::joint::{self, Execution, Inputs, Outcome, Seeds, StatementExchange};
use veilgate_federated::local::encode;
use veilgate_federated::plan::{JointPlan, PartyIndex};
use veilgate_federated::release::{Guarded, ReleaseEntry, ReleaseJournal, ReleaseReceipt};
use veilgate_federated::run::{Prepared, RunId, Running, Signed, Verifier};
use veilgate_mpc::heap;
use veilgate_mpc::net::stream::{PeerStreams, StreamLink};
use veilgate_mpc::net::tls::{TlsRead, TlsWrite};
use veilgate_mpc::net::{ChannelDigest, Link, Participant, Traffic};
use veilgate_mpc::spill::Memory;
use veilgate_proto::peer::v1 as wire;
use wire::run_event::Event;

const STATEMENT_DOMAIN: &str = "veilgate input statement v1";

/// A run that this gateway has prepared.
pub(super) struct Finished {
    pub(super) prepared: Prepared,
    pub(super) token: Signed,
    /// The guarded shares of a computing party, and the right to let them go once committed.
    pub(super) result: Option<(Guarded, ReleaseReceipt)>,
    pub(super) traffic: Traffic,
    pub(super) leaf: u64,
}

/// How long what a run freed is kept for the next one.
const KEEP_MEMORY: Duration = Duration::from_secs(30);

type Sender = mpsc::Sender<Result<Event>>;

/// Runs the plan to the release token. Nothing has been opened when it returns.
pub(super) async fn run(
    node: &Arc<Node>,
    running: Running,
    events: Sender,
    cancel: Arc<AtomicBool>,
) -> Result<Finished> {
    let plan = running.permitted().plan().clone();
    let me = running.permitted().me();
    if !plan.takes_part(me) {
        return prepare(node, running, None).await;
    }
    tell(&events, "local", 0);
    // Links come up while the local fragments run: the slower of the two is what is waited for.
    let links = lanes(node, &plan, me, &running, &cancel);
    let inputs = node.spawn_local(fragments(Arc::clone(node), plan.clone(), me));
    let (lanes, inputs) = tokio::select! {
        both = async { tokio::try_join!(links, inputs) } => both?,
        () = cancelled(&cancel) => return Err(Error::new(Code::Cancelled, "the run was cancelled")),
    };
    let seeds = Seeds::of_run(running.seeds(), me, plan.parties.len(), node.random()?)?;
    let participant = Participant(u8::try_from(me).map_err(|_| too_many())?);
    let mut links: Vec<Box<dyn Link>> = Vec::with_capacity(lanes.len());
    for peers in lanes {
        let link = StreamLink::new(
            participant,
            peers,
            plan.line.profile(),
            // A busy peer may be silent for long; a dead one closes its connections.
            node.limits.run_deadline,
            Arc::clone(&cancel),
        );
        let link = link.map_err(|error| Error::new(Code::Internal, error.to_string()))?;
        links.push(Box::new(link));
    }
    let mut statements = Statements {
        node: Arc::clone(node),
        departments: plan
            .parties
            .iter()
            .map(|party| party.department.clone())
            .collect(),
        run: running.run(),
        digest: running.permitted().digest(),
    };
    let reporter = events.clone();
    let progress: joint::Progress = Arc::new(move |phase: &str, rows: u64| {
        let event = wire::Progress {
            phase: "joint".to_owned(),
            rows,
            bytes: 0,
            rounds: 0,
            detail: doing(phase).to_owned(),
        };
        // Progress may be dropped; the run does not wait for it.
        let _ = reporter.try_send(Ok(Event::Progress(event)));
    });
    let (done, outcome) = oneshot::channel();
    std::thread::Builder::new()
        .name(format!("run-{}", running.run().short()))
        .spawn(move || {
            let result = joint::execute(
                &plan,
                me,
                links,
                &seeds,
                inputs,
                &mut statements,
                progress,
                cancel,
            );
            let _ = done.send(result);
        })
        .map_err(|_| Error::new(Code::LimitExceeded, "no thread could be started"))?;
    let execution = outcome
        .await
        .map_err(|_| Error::new(Code::Internal, "the joint execution ended abnormally"))?;
    tokio::spawn(async {
        tokio::time::sleep(KEEP_MEMORY).await;
        let _ = tokio::task::spawn_blocking(heap::give_back).await;
    });
    let execution = execution?;
    tell(&events, "release", 0);
    prepare(node, running, Some(execution)).await
}

/// Resolves within a tenth of a second of the flag.
async fn cancelled(cancel: &AtomicBool) {
    while !cancel.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Makes the release leaf durable, then signs the token.
async fn prepare(
    node: &Arc<Node>,
    running: Running,
    execution: Option<Execution>,
) -> Result<Finished> {
    let (traffic, digests, transcript) = match &execution {
        Some(execution) => (
            execution.traffic,
            execution.digests.clone(),
            execution.transcript(),
        ),
        None => (Traffic::default(), Vec::<ChannelDigest>::new(), [0; 32]),
    };
    node.still_permitted()?;
    let entry = ReleaseEntry {
        run: running.run().0,
        plan_digest: running.permitted().digest(),
        transcript,
    };
    let journal_node = Arc::clone(node);
    let receipt = tokio::task::spawn_blocking(move || {
        ReleaseReceipt::obtain(&mut Journal(journal_node), &entry)
    })
    .await
    .map_err(|_| Error::new(Code::Internal, "the ledger writer ended abnormally"))??;
    let leaf = receipt.record();
    let (prepared, token) = running.prepare(&digests, node.identity.as_ref());
    let result = match execution.map(|execution| execution.outcome) {
        Some(Outcome::Computing(guarded)) => Some((guarded, receipt)),
        Some(Outcome::Input) | None => None,
    };
    Ok(Finished {
        prepared,
        token,
        result,
        traffic,
        leaf,
    })
}

/// Runs and encodes my fragments.
async fn fragments(node: Arc<Node>, plan: JointPlan, me: PartyIndex) -> Result<Inputs> {
    let mut inputs = Inputs {
        memory: Some(Memory::new(node.limits.memory_bytes as u64, &node.state)),
        min_rows: node.min_rows(),
        ..Inputs::default()
    };
    for (index, fragment) in plan.fragments.iter().enumerate() {
        if fragment.owner != me {
            continue;
        }
        let data = node.data()?;
        let expect: Vec<_> = fragment
            .columns
            .iter()
            .map(|column| (column.data_type, column.nullable))
            .collect();
        let batches = data.engine.run(&fragment.sql, &expect).await?;
        let encoded = encode::encode(&batches, &fragment.columns)?;
        inputs.fragments.push((index, encoded));
    }
    Ok(inputs)
}

/// The connections with every other party that takes part, then those of a computing party with the
/// other two for further lanes.
async fn lanes(
    node: &Arc<Node>,
    plan: &JointPlan,
    me: PartyIndex,
    running: &Running,
    cancel: &Arc<AtomicBool>,
) -> Result<Vec<Vec<PeerStreams>>> {
    let all = (0..plan.parties.len()).filter(|party| *party != me && plan.takes_part(*party));
    let mut lanes = vec![links(node, plan, me, running, cancel, 0, all.collect()).await?];
    let computing = plan.computing_parties().unwrap_or_default();
    if computing.contains(&me) {
        let others: Vec<PartyIndex> = computing.into_iter().filter(|party| *party != me).collect();
        let further = u8::try_from(plan.line.lanes).unwrap_or(1);
        for lane in 1..further {
            let peers = others.clone();
            lanes.push(links(node, plan, me, running, cancel, lane, peers).await?);
        }
    }
    Ok(lanes)
}

/// One connection each way with every one of `peers`.
async fn links(
    node: &Arc<Node>,
    plan: &JointPlan,
    me: PartyIndex,
    running: &Running,
    cancel: &Arc<AtomicBool>,
    lane: u8,
    peers: Vec<PartyIndex>,
) -> Result<Vec<PeerStreams>> {
    let run = running.run();
    let peers: Vec<(usize, String)> = peers
        .into_iter()
        .map(|index| (index, plan.parties[index].department.clone()))
        .collect();
    let mut tasks = Vec::with_capacity(peers.len());
    let mut carried = Vec::new();
    for (index, department) in peers {
        if node.over_grpc(&department) {
            let ends = [me, index];
            carried.push(carry_link(node, running, ends, lane, department, cancel));
            continue;
        }
        let (node, cancel) = (Arc::clone(node), Arc::clone(cancel));
        tasks.push(tokio::task::spawn_blocking(move || {
            let outgoing = node.transport.dial_data(&department, run, lane)?;
            let incoming =
                node.registry
                    .expect(run, &department, lane, node.limits.connect, &cancel)?;
            let io = |_| {
                Error::new(Code::PeerUnavailable, "its data connection failed")
                    .at(department.clone())
            };
            for socket in [&outgoing.sock, &incoming.sock] {
                watch(socket, node.limits.peer_silence).map_err(io)?;
            }
            let write = TlsWrite::new(outgoing.conn, outgoing.sock).map_err(io)?;
            let read = TlsRead::new(incoming.conn, incoming.sock).map_err(io)?;
            let participant = Participant(u8::try_from(index).map_err(|_| too_many())?);
            let streams: PeerStreams = (participant, Box::new(write), Box::new(read));
            Ok::<_, Error>(streams)
        }));
    }
    let mut streams = futures::future::try_join_all(carried).await?;
    for task in tasks {
        let task = task
            .await
            .map_err(|_| Error::new(Code::Internal, "a connecting thread ended abnormally"))?;
        streams.push(task?);
    }
    Ok(streams)
}

/// The same as gRPC streams, which watch the host at the other end by themselves.
async fn carry_link(
    node: &Arc<Node>,
    running: &Running,
    [me, peer]: [PartyIndex; 2],
    lane: u8,
    department: String,
    cancel: &Arc<AtomicBool>,
) -> Result<PeerStreams> {
    let (run, seeds) = (running.run(), running.seeds());
    let outgoing = carry::key(seeds, peer, me, peer, lane)?;
    let incoming = carry::key(seeds, peer, peer, me, lane)?;
    let arrival = {
        let (node, department, cancel) = (Arc::clone(node), department.clone(), Arc::clone(cancel));
        tokio::task::spawn_blocking(move || {
            let wait = node.limits.connect;
            node.carried.expect(run, &department, lane, wait, &cancel)
        })
    };
    let write = carry::dial(&node.transport, &department, run, lane, &outgoing).await?;
    let arrived = arrival
        .await
        .map_err(|_| Error::new(Code::Internal, "a connecting thread ended abnormally"))??;
    let read = CarryRead::new(arrived, &incoming);
    let participant = Participant(u8::try_from(peer).map_err(|_| too_many())?);
    Ok((participant, Box::new(write), Box::new(read)))
}

/// A host that vanishes without closing its connections is noticed within `silence`, however busy
/// its protocol thread may be allowed to be.
fn watch(socket: &TcpStream, silence: Duration) -> std::io::Result<()> {
    let socket = socket2::SockRef::from(socket);
    let probe = socket2::TcpKeepalive::new()
        .with_time(silence / 4)
        .with_interval(silence / 4)
        .with_retries(3);
    socket.set_tcp_keepalive(&probe)?;
    socket.set_tcp_user_timeout(Some(silence))
}

fn too_many() -> Error {
    Error::new(Code::Internal, "a plan has at most 255 parties")
}

fn tell(events: &Sender, phase: &str, rows: u64) {
    let event = wire::Progress {
        phase: phase.to_owned(),
        rows,
        ..wire::Progress::default()
    };
    let _ = events.try_send(Ok(Event::Progress(event)));
}

/// What a step of the joint execution does, for people.
fn doing(step: &str) -> &'static str {
    const WORDS: [(&str, &str); 7] = [
        ("merge", "merging shares"),
        ("sort", "sorting shares"),
        ("align", "aligning by tags"),
        ("join", "joining shares"),
        ("filter", "filtering shares"),
        ("guard", "applying guards"),
        ("input", "sharing inputs"),
    ];
    WORDS
        .iter()
        .find(|(word, _)| step.contains(word))
        .map_or("computing on shares", |(_, text)| text)
}

/// The release journal: this gateway's ledger.
struct Journal(Arc<Node>);

impl ReleaseJournal for Journal {
    fn record(&mut self, entry: &ReleaseEntry) -> Result<u64> {
        let leaf = Leaf::release(
            &RunId(entry.run),
            &entry.plan_digest,
            &entry.transcript,
            self.0.now(),
        );
        self.0.record_blocking(&leaf)
    }
}

/// Input statements, signed for this run and this plan.
struct Statements {
    node: Arc<Node>,
    departments: Vec<String>,
    run: RunId,
    digest: [u8; 32],
}

impl Statements {
    fn body(&self, statement: &[u8]) -> Vec<u8> {
        [&self.run.0[..], &self.digest[..], statement].concat()
    }
}

impl StatementExchange for Statements {
    fn sign(&mut self, statement: &[u8]) -> Result<Vec<u8>> {
        let body = self.body(statement);
        Ok(self.node.identity.sign(STATEMENT_DOMAIN, &body).to_vec())
    }

    fn accept(&mut self, from: PartyIndex, statement: &[u8], signature: &[u8]) -> Result<()> {
        let department = &self.departments[from];
        let body = self.body(statement);
        let verifier: &dyn Verifier = self.node.federation.as_ref();
        if verifier.verify(department, STATEMENT_DOMAIN, &body, signature) {
            return Ok(());
        }
        Err(Error::new(
            Code::PeerMisbehaved,
            "the signature of its input statement does not verify",
        )
        .at(department.clone()))
    }
}
