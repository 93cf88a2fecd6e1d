//! Runs a protocol benchmark: one operating-system process a participant, connected on loopback by
//! mutually authenticated TLS, optionally over a simulated slower line; this process coordinates and
//! compares what comes out with clear text.

mod party;
mod tls;

pub(crate) use party::party;

use crate::entries::Entry;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use veilgate_mpc::net::LinkProfile;
use veilgate_mpc::release::{ClearTable, reconstruct};

/// The parameters of one benchmark, the same at all participants.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Params {
    pub(crate) rows: usize,
    pub(crate) key_bits: usize,
    pub(crate) owners: usize,
    pub(crate) threads: usize,
    pub(crate) rtt_ms: f64,
    pub(crate) mbps: Option<u64>,
    pub(crate) seed: u64,
    /// The memory budget of a participant.
    pub(crate) memory_mib: Option<u64>,
}

impl Params {
    /// What the participants take their links for: what is simulated, or loopback.
    pub(crate) fn profile(&self) -> LinkProfile {
        let loopback = LinkProfile::LOOPBACK;
        LinkProfile {
            round_trip: loopback.round_trip + Duration::from_secs_f64(self.rtt_ms / 1000.0),
            bytes_per_second: self
                .mbps
                .map_or(loopback.bytes_per_second, |mbps| mbps * 1_000_000 / 8),
        }
    }

    pub(crate) fn is_shaped(&self) -> bool {
        self.rtt_ms > 0.0 || self.mbps.is_some()
    }
}

/// What a participant is told first.
#[derive(Serialize, Deserialize)]
struct Setup {
    bench: String,
    params: Params,
    credentials: tls::Credentials,
}

/// What a participant tells after a run. The length of its share of the result follows, then the share.
#[derive(Serialize, Deserialize)]
struct Report {
    error: Option<String>,
    cpu_s: f64,
    bytes_sent: u64,
    rounds: u64,
    peak_rss_bytes: u64,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Prints one JSON line a run.
pub(crate) fn run(entry: &Entry, params: &Params, runs: u32) -> Result<(), String> {
    let participants = entry.participants(params);
    let mut parties = Parties::start(entry, params, participants)?;
    for run in 0..runs.max(1) {
        let outcome = parties.run()?;
        let bytes: Vec<u64> = outcome.reports.iter().map(|r| r.bytes_sent).collect();
        let rows = entry.rows_in_all(params).max(1);
        let per_row = bytes.iter().sum::<u64>() as f64 * 8.0 / participants as f64 / rows as f64;
        let checked = match (entry.check)(params, &outcome.result) {
            Ok(()) => true,
            Err(what) => {
                crate::tell(&format!("{}: wrong result: {what}", entry.name));
                false
            }
        };
        let line = serde_json::json!({
            "bench": entry.name, "rows": params.rows, "key_bits": params.key_bits,
            "threads": params.threads, "owners": params.owners,
            "rtt_ms": params.rtt_ms, "mbps": params.mbps, "seed": params.seed,
            "memory_mib": params.memory_mib,
            "warm": run > 0,
            "wall_s": round(outcome.wall), "cpu_s": round(outcome.reports.iter().map(|r| r.cpu_s).sum()),
            "bytes_sent": bytes,
            "rounds": outcome.reports.iter().map(|r| r.rounds).max(),
            "peak_rss_bytes": outcome.reports.iter().map(|r| r.peak_rss_bytes).collect::<Vec<_>>(),
            "bits_per_row_and_party": (per_row * 10.0).round() / 10.0,
            "checked": checked,
        });
        crate::print(&line.to_string());
        if !checked {
            return Err(format!("{}: the result is wrong", entry.name));
        }
    }
    Ok(())
}

fn round(seconds: f64) -> f64 {
    (seconds * 10_000.0).round() / 10_000.0
}

/// One run of all participants.
struct Outcome {
    wall: f64,
    reports: Vec<Report>,
    result: ClearTable,
}

/// The participants' processes; they end with this.
struct Parties {
    parties: Vec<Party>,
    ends_in_the_clear: bool,
}

struct Party {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Parties {
    fn start(entry: &Entry, params: &Params, participants: usize) -> Result<Self, String> {
        let exe = std::env::current_exe().map_err(text)?;
        let mut parties = Self {
            parties: Vec::new(),
            ends_in_the_clear: entry.ends_in_the_clear(),
        };
        for credentials in tls::credentials(participants)? {
            let mut child = Command::new(&exe)
                .arg(crate::PARTY)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .map_err(text)?;
            let input = child.stdin.take().ok_or("no pipe to a participant")?;
            let output = child.stdout.take().ok_or("no pipe from a participant")?;
            let mut party = Party {
                child,
                input,
                output: BufReader::new(output),
            };
            let setup = Setup {
                bench: entry.name.to_owned(),
                params: params.clone(),
                credentials,
            };
            party.tell(&serde_json::to_string(&setup).map_err(text)?)?;
            parties.parties.push(party);
        }
        let addresses: Vec<SocketAddr> = parties
            .parties
            .iter_mut()
            .map(|party| party.hear()?.parse().map_err(text))
            .collect::<Result<_, String>>()?;
        let addresses = serde_json::to_string(&addresses).map_err(text)?;
        for party in &mut parties.parties {
            party.tell(&addresses)?;
        }
        Ok(parties)
    }

    fn run(&mut self) -> Result<Outcome, String> {
        for party in &mut self.parties {
            party.tell("prepare")?;
        }
        for party in &mut self.parties {
            match party.hear()?.as_str() {
                "ready" => {}
                what => return Err(what.to_owned()),
            }
        }
        let started = Instant::now();
        for party in &mut self.parties {
            party.tell("go")?;
        }
        let reports: Vec<Report> = self
            .parties
            .iter_mut()
            .map(|party| serde_json::from_str(&party.hear()?).map_err(text))
            .collect::<Result<_, String>>()?;
        let wall = started.elapsed().as_secs_f64();
        let mut shares = Vec::new();
        for (party, report) in self.parties.iter_mut().zip(&reports) {
            if let Some(error) = &report.error {
                return Err(error.clone());
            }
            let mut share = vec![0; party.hear()?.parse().map_err(text)?];
            party.output.read_exact(&mut share).map_err(text)?;
            shares.push(share);
        }
        let result = match &shares[..] {
            [flags, ..] if self.ends_in_the_clear => ClearTable {
                columns: Vec::new(),
                valid: flags.iter().map(|&flag| flag == 1).collect(),
            },
            [first, second, third, ..] => reconstruct([first, second, third]).map_err(text)?,
            _ => return Err("no result".to_owned()),
        };
        Ok(Outcome {
            wall,
            reports,
            result,
        })
    }
}

impl Party {
    fn tell(&mut self, line: &str) -> Result<(), String> {
        self.input
            .write_all(format!("{line}\n").as_bytes())
            .map_err(text)
    }

    fn hear(&mut self) -> Result<String, String> {
        let mut line = String::new();
        match self.output.read_line(&mut line).map_err(text)? {
            0 => Err("a participant ended early".to_owned()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}

impl Drop for Parties {
    fn drop(&mut self) {
        for party in &mut self.parties {
            // Whoever still computes is not wanted any more.
            let _ = party.child.kill();
            let _ = party.child.wait();
        }
    }
}
