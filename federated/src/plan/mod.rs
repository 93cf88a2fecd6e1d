//! The joint plan: what the gateways agree to run, in types that cannot express anything else.
//!
//! A [`JointPlan`] can be checked without trusting who made it: decoding validates totally
//! (`wire`), the digest is over canonical bytes, and every gateway runs its own flow check. Its joint
//! operators are either those of one guarded aggregate, or a [`program::Program`].

use crate::schema::{Department, ScalarType};
use arrow::datatypes::{Field, Schema, SchemaRef};
use std::sync::Arc;
use std::time::Duration;
use veilgate_mpc::net::LinkProfile;

pub mod explain;
pub mod program;
pub(crate) mod validate;
pub mod wire;

pub use wire::{Validated, decode, digest, encode};

/// The version of the plan format that this engine writes and reads.
pub const PLAN_VERSION: u32 = 2;

/// What the gateways agree to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JointPlan {
    /// Which engine made it; every gateway must run the same.
    pub engine: Engine,
    /// Every gateway with a role, in ascending order of name.
    pub parties: Vec<Party>,
    /// What each owner runs alone.
    pub fragments: Vec<Fragment>,
    /// Joint operators; operator `i` makes relation `i`.
    pub operators: Vec<Operator>,
    /// The only way out.
    pub release: Release,
    /// What the connections are like.
    pub line: Line,
}

/// What joint execution takes the connections between gateways to be like. It chooses among variants of
/// one protocol (ripple or tree, comparisons or radix), never what is computed; so that all choose alike
/// it is part of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Round trip in microseconds.
    pub round_trip_micros: u32,
    /// Bandwidth of one direction.
    pub bytes_per_second: u64,
    /// Connections between each two computing parties, each with a thread of its own at both ends.
    pub lanes: u32,
}

impl Line {
    /// Ten seconds.
    pub const MAX_ROUND_TRIP_MICROS: u32 = 10_000_000;
    /// A kilobyte to a terabyte a second.
    pub const BANDWIDTHS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000_000_000;

    /// Of one pair.
    pub const MAX_LANES: u32 = 16;

    /// For the protocols.
    #[must_use]
    pub fn profile(&self) -> LinkProfile {
        LinkProfile {
            round_trip: Duration::from_micros(u64::from(self.round_trip_micros)),
            bytes_per_second: self.bytes_per_second,
        }
    }
}

impl Default for Line {
    /// Gateways on one machine or in one rack: 40 microseconds, 2 GB/s, one thread
    /// each.
    fn default() -> Self {
        Self {
            round_trip_micros: 40,
            bytes_per_second: 2_000_000_000,
            lanes: 1,
        }
    }
}

/// The engine that a plan is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// The version of Veilgate.
    pub version: String,
    /// SHA-256 of the query engine's configuration.
    pub config_hash: [u8; 32],
}

/// Index into [`JointPlan::parties`].
pub type PartyIndex = usize;
/// Index into [`JointPlan::fragments`].
pub type FragmentIndex = usize;
/// Index into [`JointPlan::operators`]: the relation which that operator makes.
pub type Relation = usize;

/// One gateway and its roles in this plan. It is an input party if it owns a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// Its department.
    pub department: Department,
    /// P0, P1 or P2 of the three computing parties.
    pub computing: Option<u8>,
    /// Whether the result is opened to it. Exactly one party of a plan; its home gateway.
    pub result: bool,
    /// SHA-256 of the catalogue that the plan was made against; none without data in this plan.
    pub catalog_version: Option<[u8; 32]>,
}

/// What one department runs alone, in the clear, on its own data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// Whose data.
    pub owner: PartyIndex,
    /// `SELECT expr AS c0, ... FROM table [WHERE ...] [GROUP BY ...]`, over this department alone.
    pub sql: String,
    /// What leaves, one for each output column, in order.
    pub columns: Vec<FragmentColumn>,
    /// The public number of rows it is padded to.
    pub size: PublicSize,
    /// The planner's estimate of real rows, from published statistics.
    pub estimated_rows: u64,
    /// At most one row for each value of its join key.
    pub unique_key: bool,
}

/// What all parties may know about the size of a fragment's result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicSize {
    /// The owner pads its row count to a public bucket when it runs (leakage `sizes`).
    Bucket,
    /// Padded to this declared maximum (leakage `none`).
    Declared(u64),
}

/// One column that leaves its owner, and in which form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FragmentColumn {
    /// Its SQL type in the fragment's result.
    pub data_type: ScalarType,
    /// Whether it can be NULL; a nullable column carries a shared null bit, key tags excepted.
    pub nullable: bool,
    /// The form in which it leaves.
    pub encoding: Encoding,
    /// For people: the expression over the owner's columns.
    pub label: String,
}

/// The form in which a column leaves its owner. In every form only shares, or tags for the neutral
/// party, leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encoding {
    /// A keyed pseudorandom tag for joining; NULL keys match nothing and are dropped by the
    /// fragment. Several adjacent key-tag columns of one class form one composite key.
    KeyTag {
        /// Columns that are compared with one another carry tags under the key of one class.
        class: u32,
        /// Width of the tag.
        bits: u32,
    },
    /// A tag of the privacy unit, under a key that only the owner has.
    UnitTag {
        /// Width of the tag.
        bits: u32,
    },
    /// Arithmetic shares in Z_2^64: an integer or an unscaled decimal. NULL is carried as 0.
    Ring64,
    /// Arithmetic shares in Z_2^128.
    Ring128,
    /// Boolean shares, two's complement in this many bits (1 for Bool, 32 for Date, 64 for Timestamp, else 64 or 128).
    /// NULL is carried as 0.
    Bits(u32),
    /// Boolean shares of the position in a public code list, in the fewest bits.
    Codes(Vec<String>),
    /// Boolean shares of the UTF-8 bytes, zero-padded, first byte most significant, then one byte
    /// of length.
    Text {
        /// The declared maximum.
        max_bytes: u32,
    },
}

/// A column of a fragment, wherever it has travelled to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnRef {
    /// Which fragment.
    pub fragment: FragmentIndex,
    /// Which of its output columns.
    pub column: usize,
}

/// A joint operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operator {
    /// A fragment becomes a shared relation.
    Input {
        /// Which.
        fragment: FragmentIndex,
    },
    /// Aligned join of fragments of distinct owners on one key class through a neutral party.
    Align {
        /// The fragments, each unique per key.
        fragments: Vec<FragmentIndex>,
        /// The common key class.
        class: u32,
        /// The neutral computing party: no owner, not the result party.
        neutral: PartyIndex,
        /// For each fragment the computing party that holds its payload masks.
        mask_holders: Vec<PartyIndex>,
    },
    /// Oblivious sort-based inner join; the right side is unique per key, checked inside.
    Join {
        /// Left relation.
        left: Relation,
        /// Right relation.
        right: Relation,
        /// Key tag on the left.
        left_key: ColumnRef,
        /// Key tag on the right.
        right_key: ColumnRef,
    },
    /// Rows where the predicate is not true become invalid.
    Filter {
        /// Input relation.
        input: Relation,
        /// The predicate.
        predicate: Predicate,
    },
    /// A program over all fragments, each taken in by an operator before. The last operator.
    Program(program::Program),
    /// Groups, with their cells and unit counts. The last operator.
    Aggregate {
        /// Input relation.
        input: Relation,
        /// Group keys; none: one global group.
        keys: Vec<ColumnRef>,
        /// Numbers to release for each group.
        cells: Vec<Cell>,
        /// Counts that guard them.
        units: Vec<UnitCount>,
    },
}

/// A condition over columns of several owners, by its "is true" bit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Predicate {
    /// Compares two columns of one encoding; NULL compares as not true.
    Compare {
        /// How.
        comparator: Comparator,
        /// Left column.
        left: ColumnRef,
        /// Right column.
        right: ColumnRef,
    },
    /// A Bool column that its owner computed.
    Flag(ColumnRef),
    /// Conjunction.
    All(Vec<Predicate>),
    /// Disjunction.
    Any(Vec<Predicate>),
}

/// A comparison operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparator {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterEqual,
}

/// One number for each group: `sum(sum * weights)` or `sum(weights)` over rows whose `argument` is
/// not NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The summed ring column; none for a count.
    pub sum: Option<ColumnRef>,
    /// Row multiplicities (Ring64 counts) of pre-aggregated fragments, multiplied in.
    pub weights: Vec<ColumnRef>,
    /// The column whose NULLs do not contribute; none for COUNT(*).
    pub argument: Option<ColumnRef>,
    /// Indices of the unit counts that must all reach their k.
    pub guards: Vec<usize>,
}

/// How many privacy units of one owner contribute to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitCount {
    /// Whose units.
    pub owner: PartyIndex,
    /// None: every joined row is another unit. Some: count distinct tags.
    pub unit: Option<ColumnRef>,
    /// Only rows where this column is not NULL.
    pub argument: Option<ColumnRef>,
    /// The threshold, at least 1.
    pub k: u32,
}

/// What leaves, to whom, under which guards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The aggregate operator.
    pub input: Relation,
    /// Columns `r0, r1, ...` of the table `released`, guarded.
    pub columns: Vec<ReleasedColumn>,
    /// A group is withheld unless all of these unit counts reach their k.
    pub group_guards: Vec<usize>,
    /// The size of the public group domain, where there is one.
    pub public_groups: Option<u64>,
    /// Final projection, HAVING, ORDER BY and LIMIT over `released`, on guarded values only.
    pub sql: String,
    /// The schema that the analyst sees.
    pub output: Vec<OutputColumn>,
}

/// A column of the table `released`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleasedColumn {
    /// Where it comes from.
    pub source: ReleasedSource,
    /// Its type.
    pub data_type: ScalarType,
    /// Whether it can be NULL (withheld cells are).
    pub nullable: bool,
}

/// Where a released column comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleasedSource {
    /// A group key, by position.
    Key(usize),
    /// A cell, by position.
    Cell(usize),
    /// A column that a program opens, by position.
    Opened(usize),
    /// The quotient of two cells, formed at release: needs the right to both.
    Average {
        /// The sum.
        sum: usize,
        /// The count.
        count: usize,
    },
}

/// A column that the analyst sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: ScalarType,
    /// Whether it can be NULL.
    pub nullable: bool,
}

/// The schema of these columns, as it is advertised and delivered.
#[must_use]
pub fn output_schema(output: &[OutputColumn]) -> SchemaRef {
    let field = |column: &OutputColumn| {
        Field::new(&column.name, column.data_type.to_arrow(), column.nullable)
    };
    Arc::new(Schema::new(output.iter().map(field).collect::<Vec<_>>()))
}

impl JointPlan {
    /// The party to which the result is opened.
    #[must_use]
    pub fn result_party(&self) -> Option<PartyIndex> {
        self.parties.iter().position(|party| party.result)
    }

    /// The computing parties in the order P0, P1, P2, where the plan names all three.
    #[must_use]
    pub fn computing_parties(&self) -> Option<[PartyIndex; 3]> {
        let find = |role: u8| {
            self.parties
                .iter()
                .position(|party| party.computing == Some(role))
        };
        Some([find(0)?, find(1)?, find(2)?])
    }

    /// Whether a party takes part in the joint execution: it owns a fragment or computes. A result
    /// party that does neither only receives.
    #[must_use]
    pub fn takes_part(&self, party: PartyIndex) -> bool {
        self.parties
            .get(party)
            .is_some_and(|party| party.computing.is_some())
            || self
                .fragments
                .iter()
                .any(|fragment| fragment.owner == party)
    }

    /// The key by which the owner of a fragment sorts its rows before they enter: that of the first
    /// oblivious join which it is in.
    #[must_use]
    pub fn sorted_by(&self, fragment: FragmentIndex) -> Option<ColumnRef> {
        self.operators.iter().find_map(|operator| match operator {
            Operator::Join {
                left_key,
                right_key,
                ..
            } => [*left_key, *right_key]
                .into_iter()
                .find(|key| key.fragment == fragment),
            _ => None,
        })
    }

    /// The index of a department among the parties.
    #[must_use]
    pub fn party(&self, department: &str) -> Option<PartyIndex> {
        self.parties
            .iter()
            .position(|party| party.department == department)
    }
}
