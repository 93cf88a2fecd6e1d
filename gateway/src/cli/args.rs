//! The command tree: what can be typed, and its help. Knows nothing of how commands work.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "veilgate",
    version,
    about = "Query the data of several departments together. Rows never leave their department.",
    after_help = EXIT_CODES,
    arg_required_else_help = true,
    max_term_width = 100,
    infer_subcommands = false
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Options of every command.
    #[command(flatten)]
    pub common: Common,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// How results are written to standard output.
    #[arg(
        long,
        short = 'o',
        value_enum,
        default_value = "table",
        global = true,
        value_name = "FORMAT"
    )]
    pub output: Format,
    /// No progress and no notices on standard error.
    #[arg(long, short = 'q', global = true)]
    pub quiet: bool,
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// Comma-separated, with a header line; NULL is an empty field.
    Csv,
    /// One array of objects; decimals are exact numbers, dates ISO text.
    Json,
    /// An Arrow IPC stream.
    Arrow,
}

const EXIT_CODES: &str = "\
Exit codes:
  0   done
  64  the request, query or file is not valid
  67  wrong name, password or token
  69  a gateway or source cannot be reached, or the run was cancelled
  70  a defect of Veilgate
  75  a limit of memory, rows or time was reached
  76  a peer misbehaved, or a ledger does not verify
  77  refused by a department's policy

Start with:  veilgate demo";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A guided tour: four gateways on this machine, generated people, one joint query.
    Demo(DemoArgs),
    /// The same with your own CSV or Parquet files: DIR/<department>/<table>.csv|parquet.
    Sandbox(SandboxArgs),
    /// Runs the gateway of one department.
    Gateway(GatewayArgs),
    /// Runs a joint query at your home gateway.
    Query(QueryArgs),
    /// Says what a query would send where, and which rules allow it. Runs nothing.
    Explain(QueryArgs),
    /// Statements typed one after another, with history and completion.
    Shell(ShellArgs),
    /// Lists the tables and columns that the federation publishes.
    #[command(after_help = "\
Examples:
  veilgate catalog --dir DIR
  veilgate catalog --federation federation.toml --identity analyst.pem --as analyst@civil")]
    Catalog(ConnectArgs),
    /// Makes the identity and the files of a new gateway.
    Init(InitArgs),
    /// Checks configuration files.
    Config {
        /// What to do with them.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Says who may log in at a gateway with a password or a token.
    User {
        /// What to do.
        #[command(subcommand)]
        command: UserCommand,
    },
    /// Verifies ledgers and makes proofs, offline.
    Audit {
        /// What to do.
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Prints the certificate of an identity, for tools that log in with it.
    Certificate(CertificateArgs),
    /// Prints a completion script for your shell.
    Completions(CompletionsArgs),
}

/// `veilgate demo`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  veilgate demo                              the tour
  veilgate demo --people 5000 --seed 7       other people
  veilgate demo --sql \"SELECT COUNT(*) AS people FROM civil.residents r
      JOIN tax.income i ON r.person_id = i.person_id\" --output json
  veilgate demo --serve                      keep it running for Python and other tools
  veilgate demo --export my-sandbox          write the data and policies, then
  veilgate sandbox my-sandbox                run them as your own")]
pub struct DemoArgs {
    /// How many residents to generate.
    #[arg(long, default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(u64).range(100..=5_000_000))]
    pub people: u64,
    /// The seed of the generated data: the same seed gives the same files.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Runs this query instead of the tour, and ends.
    #[arg(long, value_name = "QUERY", conflicts_with = "export")]
    pub sql: Option<String>,
    /// Who asks; their department is home gateway and receives the result.
    #[arg(
        long = "as",
        value_name = "ANALYST@DEPARTMENT",
        default_value = "analyst@civil"
    )]
    pub analyst: String,
    /// Writes the generated data and policies to this folder in sandbox form, and ends.
    #[arg(long, value_name = "DIR", conflicts_with = "keep")]
    pub export: Option<PathBuf>,
    /// Keeps the gateways running for other tools, and says how Python connects, instead of the tour.
    #[arg(long, conflicts_with_all = ["export", "sql"])]
    pub serve: bool,
    /// Works in this folder and leaves it; otherwise a temporary folder is used and removed.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

/// `veilgate sandbox`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
DIR has one folder for each department, with one CSV or Parquet file for each table:
  DIR/health/visits.csv
  DIR/schools/pupils.parquet
Where a department has no catalog.toml or policy.toml, a starter one is written for you to edit.
Keys, ledgers and logs go to DIR/.veilgate/. A neutral gateway `bureau` is added if there is none.

Examples:
  veilgate sandbox DIR                       start; then `veilgate query --dir DIR \"...\"`
  veilgate sandbox DIR --sql \"SELECT COUNT(*) AS n FROM health.visits v
      JOIN schools.pupils p ON v.person_id = p.person_id\" --output json")]
pub struct SandboxArgs {
    /// The folder with one sub-folder for each department.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Runs this query and ends; otherwise the gateways stay until Ctrl-C.
    #[arg(long, value_name = "QUERY")]
    pub sql: Option<String>,
    /// Says how Python connects, and starts the gateways again when a table, a catalogue or a policy
    /// changes. `DIR/.veilgate/connect.json` tells tools how to connect.
    #[arg(long, conflicts_with = "sql")]
    pub serve: bool,
    /// Who asks; their department is home gateway and receives the result. Default: `analyst` at
    /// the first department that has data.
    #[arg(long = "as", value_name = "ANALYST@DEPARTMENT")]
    pub analyst: Option<String>,
    /// Carries data connections as gRPC streams, as between gateways that only HTTP/2 reaches.
    #[arg(long)]
    pub data_over_grpc: bool,
    /// Threads of each computing gateway in a query; a third of the processors unless told otherwise.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub threads: Option<u32>,
}

/// `veilgate gateway`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  veilgate gateway --config /etc/veilgate/gateway.toml

When it is ready it prints one line to standard output: `ready DEPARTMENT ADDRESS`.
SIGTERM and Ctrl-C end it: running queries are given up and their peers told.")]
pub struct GatewayArgs {
    /// The gateway's configuration file.
    #[arg(
        long,
        short = 'c',
        value_name = "FILE",
        env = "VEILGATE_CONFIG",
        hide_env_values = true
    )]
    pub config: PathBuf,
    /// Also ends when standard input is closed, so that it never outlives who started it.
    #[arg(long)]
    pub exit_with_stdin: bool,
}

/// How to reach a running federation.
#[derive(Debug, Clone, Args)]
pub struct ConnectArgs {
    /// A running sandbox or kept demo; stands for its federation and identity files.
    #[arg(long, value_name = "DIR", env = "VEILGATE_DIR", hide_env_values = true)]
    pub dir: Option<PathBuf>,
    /// The federation file: addresses and public keys of the gateways. Goes before --dir.
    #[arg(long, value_name = "FILE")]
    pub federation: Option<PathBuf>,
    /// Your identity file, known to your home gateway.
    #[arg(long, value_name = "FILE", requires = "federation")]
    pub identity: Option<PathBuf>,
    /// Who asks, and at which home gateway. With --dir it can be left out.
    #[arg(long = "as", value_name = "ANALYST@DEPARTMENT")]
    pub analyst: Option<String>,
}

/// `veilgate query`, `veilgate explain`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  veilgate query --dir DIR \"SELECT r.district, COUNT(*) AS people FROM civil.residents r
      JOIN tax.income i ON r.person_id = i.person_id GROUP BY r.district\"
  veilgate query --federation federation.toml --identity analyst.pem --as analyst@civil -f q.sql
  veilgate query --dir DIR --purpose \"fraud inquiry\" --case 2026/17 -f q.sql
  veilgate explain --dir DIR < q.sql

In a sandbox's folder, --dir can be left out. Ctrl-C cancels the query at every gateway.")]
pub struct QueryArgs {
    /// The query; without it and without --file, standard input is read.
    #[arg(value_name = "SQL")]
    pub sql: Option<String>,
    /// Reads the query from a file; `-` is standard input.
    #[arg(long, short = 'f', value_name = "FILE", conflicts_with = "sql")]
    pub file: Option<PathBuf>,
    /// What the answer is for.
    #[command(flatten)]
    pub reason: ReasonArgs,
    /// Where.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// What answers are for.
#[derive(Debug, Clone, Args)]
pub struct ReasonArgs {
    /// What the answer is for; every department with a part in the query records it, and some ask for it.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    pub purpose: String,
    /// The number of the case that the answer is for.
    #[arg(
        long = "case",
        value_name = "NUMBER",
        default_value = "",
        hide_default_value = true
    )]
    pub case: String,
}

/// `veilgate shell`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  veilgate shell --dir DIR
  veilgate shell --federation federation.toml --identity analyst.pem --as analyst@civil
  veilgate shell --dir DIR --output csv < script.sql

In a sandbox's folder, --dir can be left out. \\? lists the commands; Ctrl-C cancels a query at every
gateway, Ctrl-D ends the shell. A script ends at the first statement that fails, with its exit code.")]
pub struct ShellArgs {
    /// What answers are for, until `\\purpose` or `\\case` says otherwise.
    #[command(flatten)]
    pub reason: ReasonArgs,
    /// Where.
    #[command(flatten)]
    pub connect: ConnectArgs,
}

/// `veilgate init`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  veilgate init /etc/veilgate --department tax --listen 0.0.0.0:7070

It prints the entry of federation.toml to exchange with the other departments.")]
pub struct InitArgs {
    /// The folder to make the files in.
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// The department's name, as in `department.table`: lower-case letters, digits and `_`.
    #[arg(long, value_name = "NAME")]
    pub department: String,
    /// The address that other gateways and analysts connect to.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7070")]
    pub listen: String,
    /// A gateway without data of its own, that lends its computing power.
    #[arg(long)]
    pub neutral: bool,
}

/// `veilgate config`
#[derive(Debug, Clone, Subcommand)]
pub enum ConfigCommand {
    /// Loads a gateway's configuration, federation, catalogue and policy, and explains every mistake.
    #[command(after_help = "Example:\n  veilgate config check /etc/veilgate/gateway.toml")]
    Check {
        /// The gateway's configuration file.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// `veilgate user`
#[derive(Debug, Clone, Subcommand)]
pub enum UserCommand {
    /// Adds a user, with a password that is typed, piped in or read from a file.
    #[command(after_help = "\
Examples:
  veilgate user add zhang.wei --role analyst --config gateway.toml
  veilgate user add audit --role auditor --no-password      then `veilgate user token audit`
  veilgate user add zhang.wei --role analyst --replace      another password; tokens stay

Only a hash of the password is kept. A running gateway knows the change at once.")]
    Add(UserAddArgs),
    /// Lists the users, their roles and their tokens.
    #[command(after_help = "\
Example:
  veilgate user list --config gateway.toml --output json")]
    List {
        /// Which gateway.
        #[command(flatten)]
        at: UsersAt,
    },
    /// Takes away a user with all their tokens, or one token.
    #[command(after_help = "\
Examples:
  veilgate user revoke zhang.wei --config gateway.toml
  veilgate user revoke zhang.wei --token 3fa29c10

A running gateway knows the change at once: sessions end too.")]
    Revoke {
        /// The user.
        #[arg(value_name = "NAME")]
        name: String,
        /// Takes away only the token of this id.
        #[arg(long, value_name = "ID")]
        token: Option<String>,
        /// Which gateway.
        #[command(flatten)]
        at: UsersAt,
    },
    /// Makes a token, which stands for the user until it expires, and prints it once.
    #[command(after_help = "\
Example:
  veilgate user token zhang.wei --days 30 --config gateway.toml > token

Only a digest of the token is kept. Its id and expiry go to standard error.")]
    Token {
        /// The user.
        #[arg(value_name = "NAME")]
        name: String,
        /// Days until it expires.
        #[arg(long, default_value_t = 30, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=366))]
        days: u64,
        /// Which gateway.
        #[command(flatten)]
        at: UsersAt,
    },
}

/// Whose users.
#[derive(Debug, Clone, Args)]
pub struct UsersAt {
    /// The gateway's configuration file, whose `users` names the file to look at.
    #[arg(
        long,
        short = 'c',
        value_name = "FILE",
        env = "VEILGATE_CONFIG",
        hide_env_values = true
    )]
    pub config: PathBuf,
}

/// `veilgate user add`
#[derive(Debug, Clone, Args)]
pub struct UserAddArgs {
    /// The user's name: lower-case letters, digits, `_`, `-` and `.`.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// What they may be; can be given several times.
    #[arg(long = "role", value_name = "ROLE", value_enum, required = true)]
    pub roles: Vec<RoleArg>,
    /// Reads the password from the first line of this file.
    #[arg(long, value_name = "FILE", conflicts_with = "no_password")]
    pub password_file: Option<PathBuf>,
    /// They log in with tokens alone.
    #[arg(long)]
    pub no_password: bool,
    /// Changes the roles and the password of a user there is.
    #[arg(long)]
    pub replace: bool,
    /// Which gateway.
    #[command(flatten)]
    pub at: UsersAt,
}

/// What a user may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// Asks queries.
    Analyst,
    /// Reads the ledger.
    Auditor,
}

/// `veilgate audit`
#[derive(Debug, Clone, Subcommand)]
pub enum AuditCommand {
    /// Verifies a ledger folder or a proof file.
    #[command(after_help = "\
Examples:
  veilgate audit verify /var/lib/veilgate/ledger
  veilgate audit verify q.proof --key ed25519:...

Exit code 76 when it does not verify, with what and where.")]
    Verify {
        /// A ledger folder, or a file made by `veilgate audit prove`.
        #[arg(value_name = "PATH")]
        path: PathBuf,
        /// The gateway's public key, `ed25519:...`, from a source that you trust. Without it the
        /// key beside the ledger is used, which proves consistency but not origin.
        #[arg(long, value_name = "KEY")]
        key: Option<String>,
    },
    /// Makes one file that proves what a gateway's ledger says of a query.
    #[command(after_help = "\
Example:
  veilgate audit prove /var/lib/veilgate/ledger --query ID --file q.proof")]
    Prove {
        /// The ledger folder.
        #[arg(value_name = "LEDGER")]
        ledger: PathBuf,
        /// The query id, as shown with its result.
        #[arg(long, value_name = "ID")]
        query: String,
        /// The file to write.
        #[arg(long, value_name = "FILE")]
        file: PathBuf,
    },
}

/// `veilgate certificate`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  veilgate certificate analyst.pem > analyst.crt

Tools for Arrow Flight SQL and gRPC take it as their client certificate, with analyst.pem as its key, and need
no password at a gateway that pins the key. Nothing secret is in it.")]
pub struct CertificateArgs {
    /// The identity's private key.
    #[arg(value_name = "IDENTITY")]
    pub identity: PathBuf,
}

/// `veilgate completions`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Example:
  veilgate completions bash > /etc/bash_completion.d/veilgate")]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}
