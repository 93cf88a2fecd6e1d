//! `veilgate sandbox`: a federation on this machine, one process for each department, over the
//! newcomer's own files.

pub mod folder;
pub mod process;
pub mod state;

use crate::cli::args::{Common, SandboxArgs};
use crate::cli::client::{Answer, ended, until_signal};
use crate::cli::connect::{Target, Who};
use crate::cli::{print, query, runtime, say};
pub use folder::Folder;
use process::Fleet;
use state::State;
use std::path::Path;
use veilgate_federated::error::{Code, Error, Result};

/// A running sandbox; dropping it ends its gateways.
#[derive(Debug)]
pub struct Sandbox {
    // Before the state: its lock is released only when the gateways have ended.
    fleet: Fleet,
    /// What it keeps on disk.
    pub state: State,
    /// Its departments.
    pub folder: Folder,
    /// Who asks when nobody is named.
    pub who: Who,
}

impl Sandbox {
    /// Starts the gateways of the departments in `folder`, with starter files where they are missing.
    ///
    /// # Errors
    /// Whatever is wrong with its files, or a gateway that does not start.
    pub async fn start(folder: Folder, analyst: Option<&str>, quiet: bool) -> Result<Self> {
        let who = who(&folder, analyst)?;
        let state = State::open(&folder.path)?;
        for notice in folder.write_starters()? {
            if !quiet {
                say(&notice);
            }
        }
        folder.check()?;
        let gateways = state.prepare(&folder, &who)?;
        let fleet = Fleet::start(gateways).await?;
        state.note_pids(&fleet.pids())?;
        Ok(Self {
            fleet,
            state,
            folder,
            who,
        })
    }

    /// How to reach it as its default analyst.
    #[must_use]
    pub fn target(&self) -> Target {
        self.state.target(&self.who)
    }

    /// Runs a query.
    ///
    /// # Errors
    /// Those of the query; those of a gateway that ends in the middle.
    pub async fn ask(&mut self, sql: &str, quiet: bool) -> Result<Answer> {
        let target = self.target();
        query::ask(&target, sql, quiet).await
    }

    /// Stays until Ctrl-C, SIGTERM, or a gateway ends by itself.
    ///
    /// # Errors
    /// That a gateway ended by itself.
    pub async fn stay(&mut self) -> Result<()> {
        tokio::select! {
            signal = ended() => signal,
            failure = self.fleet.watch() => failure,
        }
    }
}

/// The analyst named, or `analyst` at the first department with data.
fn who(folder: &Folder, analyst: Option<&str>) -> Result<Who> {
    let Some(text) = analyst else {
        return Ok(Who {
            analyst: "analyst".to_owned(),
            department: folder.owners.first().cloned().unwrap_or_default(),
        });
    };
    let who = Who::parse(text)?;
    crate::identity::check_name(&who.analyst)
        .map_err(|what| Error::new(Code::BadRequest, format!("--as {text}: {what}")))?;
    let refused = |why: &str| {
        Error::new(
            Code::BadRequest,
            format!(
                "--as {text}: {why}; a home gateway is one of {}",
                folder.owners.join(", ")
            ),
        )
    };
    if folder.neutral.contains(&who.department) {
        return Err(refused(
            "a neutral gateway computes for others and receives no results",
        ));
    }
    if !folder.owners.contains(&who.department) {
        return Err(refused("there is no such department"));
    }
    Ok(who)
}

/// Runs the command.
///
/// # Errors
/// Whatever the command meets; see `docs/errors.md`.
pub fn run(args: &SandboxArgs, common: &Common) -> Result<()> {
    let runtime = runtime()?;
    let outcome = runtime.block_on(async {
        let mut folder = Folder::open(&args.dir)?;
        folder.data_over_grpc = args.data_over_grpc;
        folder.threads = args.threads.unwrap_or(folder.threads);
        let start = Sandbox::start(folder, args.analyst.as_deref(), common.quiet);
        let mut sandbox = until_signal(start).await?;
        if let Some(sql) = &args.sql {
            let answer = until_signal(sandbox.ask(sql, common.quiet)).await?;
            drop(sandbox);
            return query::show(&answer, common);
        }
        print(&format!("{}\n", welcome(&sandbox, &args.dir)))?;
        sandbox.stay().await?;
        say("ending the gateways");
        Ok(())
    });
    runtime.shutdown_background();
    outcome
}

/// How to go on.
fn welcome(sandbox: &Sandbox, dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "{} gateways run: {}; neutral: {}. You are {}.\n\
         In another terminal:\n\
         \x20 veilgate catalog --dir {dir}\n\
         \x20 veilgate query   --dir {dir} \"SELECT ...\"\n\
         \x20 veilgate explain --dir {dir} \"SELECT ...\"\n\
         Ctrl-C ends them.",
        sandbox.folder.gateways().len(),
        sandbox.folder.owners.join(", "),
        sandbox.folder.neutral.join(", "),
        sandbox.who,
    )
}
