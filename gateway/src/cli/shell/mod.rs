//! `veilgate shell`: statements typed one after another, over one connection.

mod complete;
mod meta;

use super::args::{Common, Format, ShellArgs};
use super::client::{Answer, Client, Member, Reason};
use super::connect::Target;
use super::output::{self, Rows};
use super::progress::Progress;
use super::{catalog, print, query, report, runtime, say};
use complete::Assistant;
use meta::{HELP, Meta};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Editor};
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::time::Instant;
use tokio::runtime::Runtime;
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::planner::statement::split;

/// Lines of history that are kept.
const HISTORY: usize = 2_000;
/// The longest script on standard input, in bytes.
const LONGEST: u64 = 1 << 20;

/// One session at a home gateway.
struct Shell {
    client: Client,
    runtime: Runtime,
    reason: Reason,
    format: Format,
    quiet: bool,
    timing: bool,
    file: Option<File>,
}

pub(super) fn run(args: &ShellArgs, common: &Common) -> Result<()> {
    if common.output == Format::Arrow {
        return Err(Error::new(
            Code::BadRequest,
            "the shell shows tables, csv or json: use `veilgate query` for an Arrow stream",
        ));
    }
    let target = Target::resolve(&args.connect)?;
    let runtime = runtime()?;
    let client = runtime.block_on(interruptible(Client::connect(&target)))?;
    let mut shell = Shell {
        client,
        runtime,
        reason: Reason::from(&args.reason),
        format: common.output,
        quiet: common.quiet,
        timing: false,
        file: None,
    };
    if std::io::stdin().is_terminal() {
        return shell.talk(&target);
    }
    let mut text = String::new();
    let stdin = std::io::stdin().lock();
    let read = stdin.take(LONGEST + 1).read_to_string(&mut text);
    let read = read.map_err(|error| {
        let what = format!("cannot read standard input: {}", error.kind());
        Error::new(Code::BadRequest, what)
    })?;
    if read as u64 > LONGEST {
        return Err(Error::new(
            Code::BadRequest,
            "standard input is longer than 1 MiB",
        ));
    }
    shell.script(&text)
}

impl Shell {
    /// Statements and commands of standard input, up to the first that fails.
    fn script(&mut self, text: &str) -> Result<()> {
        let mut pending = String::new();
        for line in text.lines() {
            if pending.trim().is_empty() && line.trim_start().starts_with('\\') {
                if !self.command(line)? {
                    return Ok(());
                }
                continue;
            }
            pending.push_str(line);
            pending.push('\n');
            if !line.contains(';') {
                continue;
            }
            let (statements, rest) = split(&pending);
            for statement in statements {
                self.statement(&statement)?;
            }
            pending = rest;
            pending.push('\n');
        }
        match pending.trim() {
            "" => Ok(()),
            last => self.statement(last),
        }
    }

    /// A conversation on a terminal.
    fn talk(&mut self, target: &Target) -> Result<()> {
        let broken = |error: ReadlineError| {
            Error::new(
                Code::BadRequest,
                format!("the terminal cannot be used: {error}"),
            )
        };
        let config = Config::builder()
            .max_history_size(HISTORY)
            .map_err(broken)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .auto_add_history(true)
            .build();
        let mut editor: Editor<Assistant, FileHistory> =
            Editor::with_config(config).map_err(broken)?;
        let history = history();
        if let Some(path) = &history {
            // There is none at the first start.
            let _ = editor.load_history(path);
        }
        let members = self.members()?;
        let tables: usize = members
            .iter()
            .filter_map(|member| member.catalog.as_ref())
            .map(|catalog| catalog.tables.len())
            .sum();
        editor.set_helper(Some(Assistant::new(&members)));
        if !self.quiet {
            say(&format!(
                "Veilgate {}: you are {}, {tables} tables. \\? for help, \\q to end.",
                env!("CARGO_PKG_VERSION"),
                target.who
            ));
        }
        let prompt = format!("{}> ", target.who.department);
        loop {
            let typed = match editor.readline(&prompt) {
                Ok(typed) => typed,
                // Ctrl-C throws the line away.
                Err(ReadlineError::Interrupted) => continue,
                Err(ReadlineError::Eof) => break,
                Err(error) => return Err(broken(error)),
            };
            if let Some(path) = &history {
                let _ = editor.append_history(path);
            }
            let outcome = match typed.trim_start().starts_with('\\') {
                true => self.command(&typed),
                false => self.statements(&typed).map(|()| true),
            };
            match outcome {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    let _ = report::failure(&error);
                }
            }
            if typed.trim() == "\\r" {
                match self.members() {
                    Ok(members) => editor.set_helper(Some(Assistant::new(&members))),
                    Err(error) => {
                        let _ = report::failure(&error);
                    }
                }
            }
        }
        Ok(())
    }

    fn statements(&mut self, typed: &str) -> Result<()> {
        let (statements, _) = split(typed);
        statements
            .iter()
            .try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, sql: &str) -> Result<()> {
        let started = Instant::now();
        let mut progress = Progress::start(self.quiet || !std::io::stdin().is_terminal());
        let asked = self.client.query(sql, &self.reason, &mut progress);
        let answer = self.runtime.block_on(interruptible(asked));
        drop(progress);
        self.show(&answer?)?;
        if self.timing {
            say(&format!(
                "time:      {:.3} s",
                started.elapsed().as_secs_f64()
            ));
        }
        Ok(())
    }

    fn show(&mut self, answer: &Answer) -> Result<()> {
        self.rows(&answer.rows)?;
        if self.quiet {
            return Ok(());
        }
        let count = answer.rows.len();
        let plural = if count == 1 { "" } else { "s" };
        say(&format!("({count} row{plural})"));
        if !answer.notices.is_empty() {
            say(&query::notices(answer));
        }
        Ok(())
    }

    fn rows(&mut self, rows: &Rows) -> Result<()> {
        match &mut self.file {
            Some(file) => rows.write(self.format, output::line_width(), file),
            None => output::print(rows, self.format),
        }
    }

    /// Does a command; false when the shell is to end.
    fn command(&mut self, text: &str) -> Result<bool> {
        match Meta::parse(text)? {
            Meta::Help => print(&format!("{HELP}\n"))?,
            Meta::Quit => return Ok(false),
            Meta::Tables => {
                let members = self.members()?;
                self.rows(&catalog::tables(&members)?)?;
            }
            Meta::Columns(name) => {
                let members = self.members()?;
                let rows = catalog::rows_of(&members, &name)?;
                self.rows(&rows)?;
            }
            Meta::Explain(sql) => {
                let asked = self.client.explain(&sql, &self.reason);
                let explained = self.runtime.block_on(interruptible(asked))?;
                print(&format!("{}\n", explained.text.trim_end()))?;
            }
            Meta::Purpose(text) => {
                self.reason.purpose = text.unwrap_or_else(|| self.reason.purpose.clone());
                said("purpose", &self.reason.purpose);
            }
            Meta::Case(text) => {
                self.reason.case = text.unwrap_or_else(|| self.reason.case.clone());
                said("case", &self.reason.case);
            }
            Meta::Timing(on) => {
                self.timing = on.unwrap_or(!self.timing);
                say(if self.timing {
                    "timing is on"
                } else {
                    "timing is off"
                });
            }
            Meta::Output(path) => self.file = path.map(|path| opened(&path)).transpose()?,
            Meta::Format(format) => self.format = format,
            Meta::Reread => {}
        }
        Ok(true)
    }

    fn members(&mut self) -> Result<Vec<Member>> {
        self.runtime.block_on(interruptible(self.client.catalog()))
    }
}

/// Runs work until it ends or Ctrl-C comes, and nothing but Ctrl-C: the shell ends by other signals.
async fn interruptible<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        outcome = work => outcome,
        signal = tokio::signal::ctrl_c() => Err(match signal {
            Ok(()) => Error::new(
                Code::Cancelled,
                "cancelled by the analyst; nothing was released",
            ),
            Err(_) => Error::new(Code::Internal, "signals cannot be watched on this system"),
        }),
    }
}

fn said(what: &str, value: &str) {
    match value {
        "" => say(&format!("no {what} is told")),
        value => say(&format!("{what}: {value}")),
    }
}

fn opened(path: &PathBuf) -> Result<File> {
    File::create(path).map_err(|error| {
        let what = format!("cannot write {}: {}", path.display(), error.kind());
        Error::new(Code::BadRequest, what)
    })
}

/// Where history is kept, by the XDG base directory specification; none without a home.
fn history() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let state = set("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(set("HOME")?).join(".local/state")))?;
    let folder = state.join("veilgate");
    std::fs::create_dir_all(&folder).ok()?;
    let path = folder.join("history");
    if !path.exists() {
        use std::os::unix::fs::OpenOptionsExt;
        let mut options = std::fs::OpenOptions::new();
        let made = options.write(true).create_new(true).mode(0o600).open(&path);
        made.ok()?;
    }
    Some(path)
}
