//! `veilgate demo`: generated people of three departments, and a guided tour over them. The
//! federation itself is a sandbox like any other.

mod chance;
mod files;
mod people;
mod proof;
mod tables;
#[cfg(test)]
mod tests;
mod tour;

use crate::cli::args::{Common, DemoArgs, Format};
use crate::cli::client::until_signal;
use crate::cli::{print, query, runtime, say};
use crate::sandbox::{Folder, Sandbox};
use std::path::Path;
use veilgate_federated::error::{Code, Error, Result};

/// The departments with data.
const OWNERS: [&str; 3] = ["civil", "tax", "social"];

/// Runs the command.
///
/// # Errors
/// Whatever the command meets; see `docs/errors.md`.
pub fn run(args: &DemoArgs, common: &Common) -> Result<()> {
    if let Some(dir) = &args.export {
        never_over_files(dir)?;
        export(dir, args.people, args.seed)?;
        if !common.quiet {
            say(&format!(
                "wrote tables, catalogues and policies of {} to {}; go on with: veilgate sandbox {}",
                OWNERS.join(", "),
                dir.display(),
                dir.display()
            ));
        }
        return Ok(());
    }
    if args.sql.is_none() && !args.serve && common.output != Format::Table {
        return Err(Error::new(
            Code::BadRequest,
            "the tour is for people; with --output, give a query with --sql",
        ));
    }
    let runtime = runtime()?;
    // What serves ends by itself, and well, when it is told to.
    let outcome = runtime.block_on(async {
        match args.serve {
            true => show(args, common).await,
            false => until_signal(show(args, common)).await,
        }
    });
    runtime.shutdown_background();
    outcome
}

async fn show(args: &DemoArgs, common: &Common) -> Result<()> {
    let temporary;
    let dir = if let Some(dir) = &args.keep {
        dir.as_path()
    } else {
        temporary = tempfile::Builder::new()
            .prefix("veilgate-demo-")
            .tempdir()
            .map_err(|error| {
                Error::new(
                    Code::BadRequest,
                    format!("cannot make a temporary folder: {}", error.kind()),
                )
            })?;
        temporary.path()
    };
    let tell = |line: &str| {
        if !common.quiet {
            say(line);
        }
    };
    if dir.join(OWNERS[0]).exists() {
        tell(&format!("using the tables in {}", dir.display()));
    } else {
        tell(&format!(
            "generating {} people (seed {})",
            args.people, args.seed
        ));
        let (target, people, seed) = (dir.to_owned(), args.people, args.seed);
        tokio::task::spawn_blocking(move || export(&target, people, seed))
            .await
            .map_err(|_| Error::new(Code::Internal, "generating people failed"))??;
    }
    tell("starting four gateways on this machine");
    let mut sandbox = Sandbox::start(Folder::open(dir)?, Some(&args.analyst), common.quiet).await?;
    if args.serve {
        let welcome = crate::sandbox::welcome(&sandbox, dir);
        print(&format!("{}\n{welcome}\n", sandbox.python()))?;
        sandbox.serve().await?;
        tell("ending the gateways");
        return Ok(());
    }
    if let Some(sql) = &args.sql {
        let answer = sandbox.ask(sql, common.quiet).await?;
        drop(sandbox);
        return query::show(&answer, common);
    }
    tour::walk(&mut sandbox, args, common.quiet).await
}

/// Writes the generated tables, catalogues and policies below `dir`, in sandbox form.
///
/// # Errors
/// `BadRequest` when a file cannot be written.
pub fn export(dir: &Path, people: u64, seed: u64) -> Result<()> {
    let sizes = tables::write(dir, people, seed)?;
    files::write(dir, &sizes)
}

/// Somebody's own files are never overwritten.
fn never_over_files(dir: &Path) -> Result<()> {
    match OWNERS
        .iter()
        .map(|owner| dir.join(owner))
        .find(|path| path.exists())
    {
        Some(path) => Err(Error::new(
            Code::BadRequest,
            format!(
                "{} exists already: name another folder, or remove it",
                path.display()
            ),
        )),
        None => Ok(()),
    }
}
