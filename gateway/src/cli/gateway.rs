//! `veilgate gateway`: the process of one department.

use super::args::GatewayArgs;
use super::client::ended;
use super::{print, runtime};
use crate::config::GatewayConfig;
use std::io::Read;
use tokio::sync::oneshot;
use veilgate_federated::error::Result;

pub(super) fn run(args: &GatewayArgs) -> Result<()> {
    let config = GatewayConfig::load(&args.config, &crate::config::environment())?;
    start_log();
    let runtime = runtime()?;
    let department = config.department.clone();
    let outcome = runtime.block_on(async {
        let (sender, ready) = oneshot::channel();
        let gateway = crate::node::run_gateway(config, sender);
        let announced = async {
            if let Ok(address) = ready.await {
                print(&format!("ready {department} {address}\n"))?;
            }
            std::future::pending::<Result<()>>().await
        };
        tokio::select! {
            outcome = gateway => outcome,
            failure = announced => failure,
            signal = ended() => signal,
            () = stdin_closed(), if args.exit_with_stdin => Ok(()),
        }
    });
    runtime.shutdown_background();
    outcome
}

/// JSON lines on standard error; `RUST_LOG` chooses what.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .json()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}

/// Waits until whoever started this process is gone.
async fn stdin_closed() {
    let (sender, closed) = oneshot::channel();
    // A plain thread: a read that never returns must not hold up the end of the runtime.
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        let mut buffer = [0; 256];
        while !matches!(input.read(&mut buffer), Ok(0) | Err(_)) {}
        let _ = sender.send(());
    });
    let _ = closed.await;
}
