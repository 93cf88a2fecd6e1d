//! One participant's process: connects, then runs the protocol as often as it is told to.

use super::tls::{Pair, connect};
use super::{Params, Report, Setup, text};
use crate::entries::{self, Entry, Job};
use crate::process;
use std::io::{BufRead, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};
use veilgate_mpc::net::shaped::{Clock, Schedule, ShapedRead};
use veilgate_mpc::net::stream::{PeerStreams, ReadHalf, StreamLink};
use veilgate_mpc::net::{Link, Participant};
use veilgate_mpc::release::final_share;
use veilgate_mpc::share::Role;
use veilgate_mpc::table::SharedTable;
use veilgate_mpc::testing::context;

/// Silence of another participant after which a run has failed.
const DEADLINE: Duration = Duration::from_secs(600);

/// Reads its setup and orders from standard input; answers on standard output.
pub(crate) fn party() -> Result<(), String> {
    let mut lines = std::io::stdin().lock().lines();
    let mut hear = || lines.next().transpose().map_err(text);
    let setup = hear()?.ok_or("no setup")?;
    let setup: Setup = serde_json::from_str(&setup).map_err(text)?;
    let entry = entries::find(&setup.bench).ok_or("no such benchmark")?;
    let me = setup.credentials.me();
    let listener = TcpListener::bind(("127.0.0.1", 0)).map_err(text)?;
    say(&listener.local_addr().map_err(text)?.to_string())?;
    let addresses = hear()?.ok_or("no addresses")?;
    let addresses: Vec<SocketAddr> = serde_json::from_str(&addresses).map_err(text)?;
    let mut lanes = connect(&setup.credentials, &listener, &addresses, 1)?;
    let pairs = lanes.pop().ok_or("no connections")?;
    let mut link: Box<dyn Link> = Box::new(link(me, pairs, &setup.params)?);
    let mut run = 0;
    while let Some(order) = hear()? {
        if order != "prepare" {
            return Err(format!("unknown order {order}"));
        }
        let job = match entry.prepare(&setup.params, me) {
            Ok(job) => job,
            Err(what) => {
                say(&what)?;
                continue;
            }
        };
        process::forget_peak();
        say("ready")?;
        if hear()?.as_deref() != Some("go") {
            return Ok(());
        }
        link = run_once(entry, &setup.params, me, run, job, link)?;
        run += 1;
    }
    Ok(())
}

/// What a participant ends with.
enum End {
    Share(Role, SharedTable),
    Flags(Vec<bool>),
}

fn run_once(
    entry: &Entry,
    params: &Params,
    me: usize,
    run: u64,
    job: Job,
    link: Box<dyn Link>,
) -> Result<Box<dyn Link>, String> {
    let before = link.traffic();
    let cpu = process::own_cpu_seconds();
    let (outcome, mut link) = match job {
        Job::Compute(job) => {
            let role = *Role::ALL.get(me).ok_or("no such role")?;
            let seed = params.seed.wrapping_mul(1_000).wrapping_add(run);
            let mut ctx = context(seed, role, link, params.profile()).map_err(text)?;
            let outcome = job(&mut ctx).map(|table| End::Share(role, table));
            (outcome, ctx.into_link())
        }
        Job::Alone(job) => {
            let mut link = link;
            (job(&mut *link).map(End::Flags), link)
        }
    };
    // Everything sent has left, and the digests of all channels are done: part of every real run.
    link.digests();
    let cpu = process::own_cpu_seconds() - cpu;
    let after = link.traffic();
    let mut report = Report {
        error: None,
        cpu_s: cpu,
        bytes_sent: after.bytes_sent - before.bytes_sent,
        rounds: after.rounds - before.rounds,
        peak_rss_bytes: process::peak_bytes(std::process::id()),
    };
    if let Err(error) = &outcome {
        report.error = Some(format!("{}: party {me}: {error}", entry.name));
    }
    // The clock stops with the report; the share of the result comes after.
    say(&serde_json::to_string(&report).map_err(text)?)?;
    let share = match outcome {
        Ok(End::Share(role, table)) => final_share(role, &table),
        Ok(End::Flags(flags)) => flags.into_iter().map(u8::from).collect(),
        Err(_) => Vec::new(),
    };
    say(&share.len().to_string())?;
    let mut out = std::io::stdout().lock();
    out.write_all(&share).map_err(text)?;
    out.flush().map_err(text)?;
    Ok(link)
}

fn say(line: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").map_err(text)?;
    out.flush().map_err(text)
}

fn link(me: usize, pairs: Vec<Pair>, params: &Params) -> Result<StreamLink, String> {
    let participant = |index: usize| u8::try_from(index).map(Participant).map_err(text);
    let started = Instant::now();
    let clock: Clock = Arc::new(move || started.elapsed());
    let mut peers: Vec<PeerStreams> = Vec::new();
    for pair in pairs {
        let read: Box<dyn ReadHalf> = if params.is_shaped() {
            let one_way = Duration::from_secs_f64(params.rtt_ms / 2000.0);
            let line = Schedule::new(one_way, params.mbps.map(|mbps| mbps * 1_000_000));
            Box::new(ShapedRead::new(pair.read, line, Arc::clone(&clock)).map_err(text)?)
        } else {
            Box::new(pair.read)
        };
        peers.push((participant(pair.peer)?, Box::new(pair.write), read));
    }
    StreamLink::new(
        participant(me)?,
        peers,
        params.profile(),
        DEADLINE,
        Arc::default(),
    )
    .map_err(text)
}
