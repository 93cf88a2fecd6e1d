//! `veilgate sandbox`: a federation on this machine, one process for each department, over the
//! newcomer's own files.

mod authority;
pub mod folder;
pub mod process;
pub mod state;

use crate::cli::args::{Common, SandboxArgs};
use crate::cli::client::{Answer, Reason, ended, until_signal};
use crate::cli::connect::{Target, Who};
use crate::cli::{print, query, runtime, say};
pub use folder::{Folder, Stamps};
use process::Fleet;
use state::{GatewayFiles, State};
use std::path::Path;
use std::time::Duration;
use veilgate_federated::error::{Code, Error, Result};

/// How often the files of a sandbox that serves are looked at.
const LOOK: Duration = Duration::from_millis(500);

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
    /// Its files as they were before they were read.
    read: Stamps,
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
        let read = folder.stamps();
        folder.check()?;
        let gateways = state.prepare(&folder, &who)?;
        let fleet = Fleet::start(gateways.clone()).await?;
        state.note_pids(&fleet.pids())?;
        state.write_connect(&gateways, &who)?;
        Ok(Self {
            fleet,
            state,
            folder,
            who,
            read,
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
        query::ask(&target, sql, &Reason::default(), quiet).await
    }

    /// Stays until Ctrl-C, SIGTERM, or no gateway is left.
    ///
    /// # Errors
    /// That no gateway is left.
    pub async fn stay(&mut self) -> Result<()> {
        tokio::select! {
            signal = ended() => signal,
            failure = self.fleet.watch() => failure,
        }
    }

    /// As [`Sandbox::stay`], and starts the gateways again when a file of a department changes. What does
    /// not load is told, and what runs goes on.
    ///
    /// # Errors
    /// That no gateway is left, or that they did not start again.
    pub async fn serve(&mut self) -> Result<()> {
        let mut seen = self.folder.stamps();
        // One watch for all the time: a signal that comes while gateways start again is not lost.
        let signal = ended();
        tokio::pin!(signal);
        loop {
            tokio::select! {
                ended = &mut signal => return ended,
                failure = self.fleet.watch() => return failure,
                () = tokio::time::sleep(LOOK) => {}
            }
            let now = self.folder.stamps();
            // Whoever writes has come to an end when nothing changes between two looks.
            let settled = now == seen;
            seen = now;
            if !settled || seen == self.read {
                continue;
            }
            self.read.clone_from(&seen);
            match self.reread() {
                Ok(gateways) => {
                    self.fleet.end();
                    self.fleet = tokio::select! {
                        ended = &mut signal => return ended,
                        fleet = Fleet::start(gateways.clone()) => fleet?,
                    };
                    self.state.note_pids(&self.fleet.pids())?;
                    self.state.write_connect(&gateways, &self.who)?;
                    say("a file changed: the gateways started again");
                }
                Err(error) => say(&format!("a file changed, and what ran goes on: {error}")),
            }
        }
    }

    /// Reads the folder anew.
    fn reread(&mut self) -> Result<Vec<GatewayFiles>> {
        let mut folder = Folder::open(&self.folder.path)?;
        folder.data_over_grpc = self.folder.data_over_grpc;
        folder.threads = self.folder.threads;
        for notice in folder.write_starters()? {
            say(&notice);
        }
        self.read = folder.stamps();
        folder.check()?;
        let gateways = self.state.prepare(&folder, &self.who)?;
        self.folder = folder;
        Ok(gateways)
    }

    /// How Python connects, ready to be pasted.
    #[must_use]
    pub fn python(&self) -> String {
        let path = self.state.dir().join(state::CONNECT);
        format!(
            "Python, after `pip install adbc-driver-flightsql pyarrow pandas`:\n\n\
             import json\n\
             import adbc_driver_flightsql.dbapi as veilgate\n\
             to = json.load(open({:?}))\n\
             options = {{\"username\": to[\"username\"], \"password\": to[\"password\"],\n\
             \x20          \"adbc.flight.sql.client_option.tls_root_certs\": open(to[\"ca\"]).read()}}\n\
             with veilgate.connect(to[\"uri\"], db_kwargs=options, autocommit=True) as connection:\n\
             \x20   with connection.cursor() as cursor:\n\
             \x20       cursor.execute(\"SELECT table_name, column_name FROM veilgate.catalog\")\n\
             \x20       print(cursor.fetch_df())\n",
            path.display().to_string()
        )
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
        if args.serve {
            print(&format!("{}\n", sandbox.python()))?;
        }
        print(&format!("{}\n", welcome(&sandbox, &args.dir)))?;
        match args.serve {
            true => sandbox.serve().await?,
            false => sandbox.stay().await?,
        }
        say("ending the gateways");
        Ok(())
    });
    runtime.shutdown_background();
    outcome
}

/// How to go on.
pub fn welcome(sandbox: &Sandbox, dir: &Path) -> String {
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
