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
use veilgate_mpc::net::{Link, Participant, Traffic};
use veilgate_mpc::release::final_share;
use veilgate_mpc::share::Role;
use veilgate_mpc::spill::Memory;
use veilgate_mpc::table::SharedTable;
use veilgate_mpc::testing::context;

/// Silence of another participant after which a run has failed.
const DEADLINE: Duration = Duration::from_secs(600);

/// Reads its setup and orders from standard input; answers on standard output.
pub(crate) fn party() -> Result<(), String> {
    veilgate_mpc::heap::keep_freed_memory();
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
    let lanes = entry.lanes(&setup.params);
    let lanes = connect(&setup.credentials, &listener, &addresses, lanes)?;
    let mut links: Vec<Box<dyn Link>> = Vec::new();
    for pairs in lanes {
        links.push(Box::new(link(me, pairs, &setup.params)?));
    }
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
        links = run_once(entry, &setup.params, me, run, job, links)?;
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
    mut links: Vec<Box<dyn Link>>,
) -> Result<Vec<Box<dyn Link>>, String> {
    let before: Vec<Traffic> = links.iter().map(|link| link.traffic()).collect();
    let cpu = process::own_cpu_seconds();
    let outcome = match job {
        Job::Compute(job) => {
            let role = *Role::ALL.get(me).ok_or("no such role")?;
            let seed = params.seed.wrapping_mul(1_000).wrapping_add(run);
            let first = links.remove(0);
            let ctx = context(seed, role, first, params.profile()).map_err(text)?;
            let mut ctx = ctx.with_workers(links).map_err(text)?;
            if let Some(mib) = params.memory_mib {
                ctx.limit_memory(Memory::new(mib << 20, &std::env::temp_dir()));
            }
            let outcome = job(&mut ctx).map(|table| End::Share(role, table));
            links = ctx.into_links();
            outcome
        }
        Job::Alone(job) => job(&mut *links[0]).map(End::Flags),
    };
    // Everything sent has left, and the digests of all channels are done: part of every real run.
    for link in &mut links {
        link.digests();
    }
    let cpu = process::own_cpu_seconds() - cpu;
    let (mut bytes_sent, mut rounds) = (0, 0);
    for (link, before) in links.iter().zip(before) {
        let after = link.traffic();
        bytes_sent += after.bytes_sent - before.bytes_sent;
        rounds = (after.rounds - before.rounds).max(rounds);
    }
    let mut report = Report {
        error: None,
        cpu_s: cpu,
        bytes_sent,
        rounds,
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
    Ok(links)
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
