//! The gateways of a sandbox as processes: started together, ended together.
//!
//! Every child ends when its standard input closes, which the system does even when this process
//! is killed. Nothing is left running.

use super::state::GatewayFiles;
use crate::cli::say;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::sync::mpsc;
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::schema::Department;

/// How long all gateways may take to start.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a gateway may take to end before it is killed.
const END_LIMIT: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(20);
/// Lines of a log that an error quotes.
const TAIL: usize = 6;

/// Running gateways; dropping ends them.
#[derive(Debug)]
pub struct Fleet {
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    files: GatewayFiles,
    child: Child,
    /// It ended by itself, which was told.
    ended: bool,
}

impl Fleet {
    /// Starts one process for each gateway and waits until all are ready.
    ///
    /// # Errors
    /// When a gateway ends before it is ready, with the blame of its exit code and the end of its
    /// log; `PeerUnavailable` when one is not ready in time.
    pub async fn start(gateways: Vec<GatewayFiles>) -> Result<Self> {
        let program = std::env::current_exe()
            .map_err(|_| Error::new(Code::Internal, "the path of this program is unknown"))?;
        let (sender, mut ready) = mpsc::unbounded_channel();
        let mut fleet = Self {
            running: Vec::with_capacity(gateways.len()),
        };
        for (index, files) in gateways.into_iter().enumerate() {
            let child = spawn(&program, index, &files, &sender)?;
            fleet.running.push(Running {
                files,
                child,
                ended: false,
            });
        }
        drop(sender);
        let mut waiting: Vec<usize> = (0..fleet.running.len()).collect();
        let all = async {
            while !waiting.is_empty() {
                match ready.recv().await {
                    Some((index, true)) => waiting.retain(|&other| other != index),
                    Some((index, false)) => return fleet.running[index].ended().await,
                    None => break,
                }
            }
            Ok(())
        };
        match tokio::time::timeout(START_LIMIT, all).await {
            Ok(outcome) => outcome?,
            Err(_) => {
                let late: Vec<&str> = waiting
                    .iter()
                    .map(|&index| fleet.running[index].files.department.as_str())
                    .collect();
                return Err(Error::new(
                    Code::PeerUnavailable,
                    format!(
                        "not ready after {} s: {}",
                        START_LIMIT.as_secs(),
                        late.join(", ")
                    ),
                ));
            }
        }
        Ok(fleet)
    }

    /// Department and process id of every gateway.
    #[must_use]
    pub fn pids(&self) -> Vec<(Department, u32)> {
        self.running
            .iter()
            .map(|running| (running.files.department.clone(), running.child.id()))
            .collect()
    }

    /// Tells of every gateway that ends by itself; the others go on, as in a real federation.
    ///
    /// # Errors
    /// When none is left: why the last one ended.
    pub async fn watch(&mut self) -> Result<()> {
        loop {
            for running in &mut self.running {
                if !running.ended
                    && let Ok(Some(status)) = running.child.try_wait()
                {
                    running.ended = true;
                    say(&running.failure(status).message);
                }
            }
            if self.running.iter().all(|running| running.ended) {
                return Err(Error::new(Code::PeerUnavailable, "no gateway is left"));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

impl Fleet {
    /// Ends all gateways.
    pub fn end(&mut self) {
        for running in &mut self.running {
            drop(running.child.stdin.take());
        }
        let mut patience = END_LIMIT;
        for running in &mut self.running {
            loop {
                match running.child.try_wait() {
                    Ok(Some(_)) => break,
                    _ if patience.is_zero() => {
                        let _ = running.child.kill();
                        let _ = running.child.wait();
                        break;
                    }
                    _ => {
                        std::thread::sleep(POLL);
                        patience = patience.saturating_sub(POLL);
                    }
                }
            }
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.end();
    }
}

impl Running {
    /// A gateway closed its output before it was ready: why?
    async fn ended(&mut self) -> Result<()> {
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Err(self.failure(status)),
                Ok(None) => tokio::time::sleep(POLL).await,
                Err(_) => return Err(Error::new(Code::Internal, "a gateway cannot be waited for")),
            }
        }
    }

    fn failure(&self, status: ExitStatus) -> Error {
        let code = match status.code() {
            Some(64) => Code::BadConfig,
            Some(70) => Code::Internal,
            Some(75) => Code::LimitExceeded,
            Some(76) => Code::PeerMisbehaved,
            _ => Code::PeerUnavailable,
        };
        let mut message = format!(
            "the gateway of {} ended by itself ({status}); its log {}",
            self.files.department,
            self.files.log.display()
        );
        let tail = tail(&self.files.log);
        if tail.is_empty() {
            message.push_str(" is empty");
        } else {
            message.push_str(" ends with:");
        }
        for line in tail {
            message.push_str("\n    ");
            message.push_str(&line);
        }
        Error::new(code, message).at(self.files.department.as_str())
    }
}

fn spawn(
    program: &Path,
    index: usize,
    files: &GatewayFiles,
    ready: &mpsc::UnboundedSender<(usize, bool)>,
) -> Result<Child> {
    let failed = |error: std::io::Error| {
        Error::new(
            Code::PeerUnavailable,
            format!(
                "cannot start the gateway of {}: {}",
                files.department,
                error.kind()
            ),
        )
    };
    let log = std::fs::File::create(&files.log).map_err(failed)?;
    let mut child = Command::new(program)
        .arg("gateway")
        .arg("--config")
        .arg(&files.config)
        .arg("--exit-with-stdin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        // Ctrl-C at the terminal reaches this process alone, which then ends its children in order.
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    if let Some(output) = child.stdout.take() {
        let ready = ready.clone();
        std::thread::spawn(move || {
            let mut told = false;
            for line in BufReader::new(output)
                .lines()
                .map_while(std::io::Result::ok)
            {
                if !told && line.starts_with("ready ") {
                    told = true;
                    let _ = ready.send((index, true));
                }
            }
            if !told {
                let _ = ready.send((index, false));
            }
        });
    }
    Ok(child)
}

/// The last lines of a log.
fn tail(log: &Path) -> Vec<String> {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(TAIL)..]
        .iter()
        .map(|line| (*line).to_owned())
        .collect()
}
