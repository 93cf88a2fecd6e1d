//! Errors by blame: who has to act, with what code, and how to mend it.
//!
//! One [`Error`] travels from where it happens to the analyst's terminal, over the wire too. It
//! never carries a data value: names of departments, tables, columns and rules, and public sizes,
//! are all that a message may hold.

use crate::schema::Department;
use std::fmt;

/// The result of everything in this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Blame {
    /// The analyst, or whoever wrote the request, config or file.
    InvalidRequest,
    /// Whoever asks, who has not shown who they are.
    Unauthenticated,
    /// Nobody: policy does not allow it.
    PolicyDenied,
    /// A peer gateway did what the protocol does not allow.
    PeerMisbehaved,
    /// A peer or a source cannot be reached.
    Unavailable,
    /// A budget of memory, bytes or time is used up.
    ResourceExhausted,
    /// We.
    Internal,
}

impl Blame {
    /// The process exit code (sysexits, with 67 for unknown users, 77 for a refusal by policy).
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::InvalidRequest => 64,
            Self::Unauthenticated => 67,
            Self::Unavailable => 69,
            Self::Internal => 70,
            Self::ResourceExhausted => 75,
            Self::PeerMisbehaved => 76,
            Self::PolicyDenied => 77,
        }
    }

    /// The name of the gRPC status that carries it.
    #[must_use]
    pub fn grpc_status(self) -> &'static str {
        match self {
            Self::InvalidRequest => "INVALID_ARGUMENT",
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::PolicyDenied => "PERMISSION_DENIED",
            Self::PeerMisbehaved => "ABORTED",
            Self::Unavailable => "UNAVAILABLE",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::Internal => "INTERNAL",
        }
    }
}

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $blame:ident, $mend:literal;)+) => {
        /// A documented error. `docs/errors.md` is generated from this list.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code { $($(#[doc = $doc])+ $name,)+ }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The stable name, as printed and as sent to peers.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// Who has to act.
            #[must_use]
            pub fn blame(self) -> Blame {
                match self { $(Self::$name => Blame::$blame,)+ }
            }

            /// What to do about it.
            #[must_use]
            pub fn mend(self) -> &'static str {
                match self { $(Self::$name => $mend,)+ }
            }

            /// What it means.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+),)+ }
            }
        }
    };
}

codes! {
    /// The SQL text does not parse.
    SqlSyntax = "sql-syntax", InvalidRequest, "Correct the SQL at the position named.";
    /// The SQL names a table that the federation's catalogue does not have.
    UnknownTable = "unknown-table", InvalidRequest, "List the tables with `veilgate catalog`; write them as department.table.";
    /// The SQL names a column that its table does not have.
    UnknownColumn = "unknown-column", InvalidRequest, "List the columns with `veilgate catalog`.";
    /// A name fits several columns.
    AmbiguousColumn = "ambiguous-column", InvalidRequest, "Qualify the column with its table or alias.";
    /// The operands of an expression have types that do not go together.
    TypeMismatch = "type-mismatch", InvalidRequest, "Cast one side, or compare columns of one type.";
    /// The SQL is valid, but its construct is not supported by joint queries.
    Unsupported = "unsupported", InvalidRequest, "See docs/sql.md for what is supported, and the message for a way around.";
    /// A join needs one side with at most one row per key, and neither side is known to have that.
    NotUnique = "not-unique", InvalidRequest, "Declare the table's key in its catalog.toml, or aggregate one side per key.";
    /// A table declared unique per key holds a duplicate key.
    DuplicateKey = "duplicate-key", InvalidRequest, "The owner corrects the data or the key declared in catalog.toml.";
    /// A value does not fit the type of its column or of the result.
    Overflow = "overflow", InvalidRequest, "Use a wider decimal, or aggregate less.";
    /// A source file cannot be read as what the catalogue says.
    BadSource = "bad-source", InvalidRequest, "The owner corrects the file or its entry in catalog.toml.";
    /// A configuration, catalogue, policy or federation file has a mistake.
    BadConfig = "bad-config", InvalidRequest, "Correct the file at the line named; `veilgate config check` explains every mistake.";
    /// Thresholds count people or firms, and a table does not say who they are.
    NoUnit = "no-unit", InvalidRequest, "Say in catalog.toml whose privacy a row of the table concerns: unit = a column, \"row\" or \"none\".";
    /// The command line or the API call is not valid.
    BadRequest = "bad-request", InvalidRequest, "See the command's --help.";
    /// A ledger, checkpoint or proof does not verify.
    LedgerCorrupt = "ledger-corrupt", PeerMisbehaved, "Keep the files, freeze the gateway, and compare with the checkpoints that others hold.";

    /// A user's name and password or their token is not known, was revoked or has expired.
    WrongCredentials = "wrong-credentials", Unauthenticated, "Check name and password, or log in again; the gateway's operator gives new ones with `veilgate user`.";

    /// A department's policy refuses a use of a column, or the computing set.
    PolicyDenied = "policy-denied", PolicyDenied, "Ask for what the message says would be allowed, or apply to the department.";

    /// A peer presented another identity than the federation file pins.
    WrongIdentity = "wrong-identity", PeerMisbehaved, "Compare the peer's key with federation.toml; correct whichever is wrong.";
    /// A peer speaks another version of the protocol or runs another engine.
    WrongVersion = "wrong-version", PeerMisbehaved, "Bring all gateways to one version.";
    /// A gateway consented to another plan digest, or the plan does not decode to itself.
    DigestMismatch = "digest-mismatch", PeerMisbehaved, "Retry; if it happens again, compare versions and catalogues of the gateways named.";
    /// A peer sent what the protocol does not allow.
    PeerMisbehaved = "peer-misbehaved", PeerMisbehaved, "Look at that gateway's log for this run; exclude the gateway until it is explained.";

    /// A gateway cannot be reached, or went away in the middle of a run.
    PeerUnavailable = "peer-unavailable", Unavailable, "Start the gateway named, or check its address and the network; then retry.";
    /// A department's source cannot be reached.
    SourceUnavailable = "source-unavailable", Unavailable, "The owner restores the source; then retry.";
    /// The run was cancelled, or the gateway is shutting down.
    Cancelled = "cancelled", Unavailable, "Run the query again.";

    /// A limit of memory, bytes, rows or time would be exceeded.
    LimitExceeded = "limit-exceeded", ResourceExhausted, "Ask for less, or raise the limit in the gateway's configuration.";

    /// A defect of Veilgate.
    Internal = "internal", Internal, "Report it with the query id and the logs.";
}

impl Code {
    /// The code of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.name() == name)
    }
}

/// Why a department refuses: which rule, which column, and what it would allow instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The department whose policy refuses.
    pub department: Department,
    /// The rule that decides, for example `tax.income.taxable_income: output` or `default deny`.
    pub rule: String,
    /// The column refused, as `department.table.column`; empty when the refusal is of the whole plan.
    pub column: String,
    /// The use that was asked for, for example `output` or `aggregate(sum) for civil`.
    pub asked: String,
    /// What would be allowed instead.
    pub alternative: String,
}

/// A failure, with everything that its reader needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What kind; decides blame, exit code and status.
    pub code: Code,
    /// The department where it happened or that is to blame, when it is not the reader's own.
    pub department: Option<Department>,
    /// What happened: names and public sizes only.
    pub message: String,
    /// Line and column in the SQL text (1-based), where known.
    pub position: Option<(u64, u64)>,
    /// Details of a refusal.
    pub denial: Option<Box<Denial>>,
}

impl Error {
    /// An error of this kind.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            department: None,
            message: message.into(),
            position: None,
            denial: None,
        }
    }

    /// Names the department where it happened.
    #[must_use]
    pub fn at(mut self, department: impl Into<Department>) -> Self {
        self.department.get_or_insert(department.into());
        self
    }

    /// Adds the position in the SQL text.
    #[must_use]
    pub fn position(mut self, line: u64, column: u64) -> Self {
        self.position = Some((line, column));
        self
    }

    /// A refusal by policy.
    #[must_use]
    pub fn denied(denial: Denial) -> Self {
        Self {
            code: Code::PolicyDenied,
            department: Some(denial.department.clone()),
            message: format!("{} does not allow {}", denial.department, denial.asked),
            position: None,
            denial: Some(Box::new(denial)),
        }
    }

    /// Who has to act.
    #[must_use]
    pub fn blame(&self) -> Blame {
        self.code.blame()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(department) = &self.department {
            write!(f, " (at {department})")?;
        }
        if let Some((line, column)) = self.position {
            write!(f, " at line {line}, column {column}")?;
        }
        if let Some(denial) = &self.denial {
            if !denial.column.is_empty() {
                write!(f, "\n  column: {}", denial.column)?;
            }
            write!(f, "\n  rule: {}", denial.rule)?;
            write!(f, "\n  allowed instead: {}", denial.alternative)?;
            return Ok(());
        }
        write!(f, "\n  mend: {}", self.code.mend())
    }
}

impl std::error::Error for Error {}
