//! What can be measured. A benchmark is one entry of [`ALL`]: how a participant gets its inputs (not
//! measured), what it runs (measured), and what the opened result must be.

mod aligned;
mod circuits;
mod moves;
mod relations;
mod two_party;

use crate::harness::Params;
use veilgate_mpc::context::Context;
use veilgate_mpc::input::ClearColumn;
use veilgate_mpc::net::Link;
use veilgate_mpc::release::ClearTable;
use veilgate_mpc::share::{BitColumn, Role};
use veilgate_mpc::table::{Column, SharedTable};
use veilgate_mpc::testing::{data, share_table};

/// What a computing party runs.
type Compute = Box<dyn FnOnce(&mut Context) -> veilgate_mpc::Result<SharedTable>>;

/// What a participant runs.
pub(crate) enum Job {
    /// A computing party, which ends with its share of the result.
    Compute(Compute),
    /// A participant outside the three: an owner that hands over its input, or a party of a two-party
    /// protocol, one of whom ends with a flag a row.
    Alone(Alone),
}

type Alone = Box<dyn FnOnce(&mut dyn Link) -> veilgate_mpc::Result<Vec<bool>>>;

/// One benchmark.
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// Key bits unless told otherwise, and which are possible.
    pub(crate) key_bits: usize,
    /// The participant's inputs and protocol.
    prepare: fn(&Params, usize) -> Result<Job, String>,
    /// Compares the opened result with a computation in the clear.
    pub(crate) check: fn(&Params, &ClearTable) -> Result<(), String>,
    /// Sides of `rows` rows each.
    sides: usize,
    /// Who takes part.
    kind: Kind,
}

/// Who takes part in a benchmark.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The three computing parties, who end with shares.
    Three,
    /// The same, and owners that do not compute.
    Owners,
    /// Two parties, the first of whom ends with flags.
    Two,
}

/// Every benchmark, in the order of the documentation.
pub(crate) const ALL: &[Entry] = &[
    circuits::AND,
    circuits::EQUAL,
    circuits::LESS,
    circuits::MUL,
    circuits::A2B,
    circuits::B2A,
    circuits::RESHARE,
    moves::SHUFFLE,
    moves::SORT,
    moves::SORT_NARROW,
    moves::MERGE,
    moves::TOPK,
    relations::GROUP,
    relations::DISTINCT,
    relations::WINDOW,
    relations::JOIN_OBLIVIOUS,
    relations::JOIN_SORTED,
    aligned::JOIN_ALIGNED,
    aligned::JOIN_GROUPED,
    two_party::PSI_ECDH,
];

/// The entry of a name.
pub(crate) fn find(name: &str) -> Option<&'static Entry> {
    ALL.iter().find(|entry| entry.name == name)
}

impl Entry {
    pub(crate) fn prepare(&self, params: &Params, me: usize) -> Result<Job, String> {
        if !(1..=256).contains(&params.key_bits) {
            return Err(format!("--key-bits {}: 1 to 256", params.key_bits));
        }
        (self.prepare)(params, me)
    }

    /// How many processes take part.
    pub(crate) fn participants(&self, params: &Params) -> usize {
        match self.kind {
            Kind::Three => 3,
            Kind::Owners => (params.owners + 1).max(3),
            Kind::Two => 2,
        }
    }

    /// Connections of a pair of participants: one for each thread, where a thread has its own.
    pub(crate) fn lanes(&self, params: &Params) -> usize {
        match self.kind {
            Kind::Two => 1,
            _ => params.threads,
        }
    }

    /// Whether the first participant ends with flags in the clear, and nobody with shares.
    pub(crate) fn ends_in_the_clear(&self) -> bool {
        self.kind == Kind::Two
    }

    /// Rows of all sides together.
    pub(crate) fn rows_in_all(&self, params: &Params) -> usize {
        let sides = match self.kind {
            Kind::Owners => params.owners,
            _ => self.sides,
        };
        params.rows * sides
    }
}

/// The role of a participant, all of whom compute.
fn role(me: usize) -> Result<Role, String> {
    Role::ALL
        .get(me)
        .copied()
        .ok_or_else(|| format!("no role {me}"))
}

/// A participant's share of a clear table.
fn shared(params: &Params, me: usize, table: &ClearTable) -> Result<SharedTable, String> {
    share_table(params.seed, role(me)?, table).map_err(|error| error.to_string())
}

/// A table of given columns, all rows valid.
fn table(columns: Vec<ClearColumn>, rows: usize) -> ClearTable {
    ClearTable {
        columns,
        valid: vec![true; rows],
    }
}

/// A result of one column.
fn result(ctx: &Context, column: Column) -> SharedTable {
    let rows = column.rows();
    SharedTable {
        columns: vec![column],
        valid: BitColumn::ones(ctx.role(), 1, rows),
    }
}

/// Uniformly random numbers; `salt` tells columns apart.
fn numbers(params: &Params, salt: u64, count: usize) -> Vec<u64> {
    data(params.seed.wrapping_mul(31).wrapping_add(salt)).words(count)
}

/// Uniformly random keys of the benchmark's width, row-major.
fn keys(params: &Params, salt: u64, rows: usize) -> ClearColumn {
    let stride = params.key_bits.div_ceil(64);
    let mut words = numbers(params, salt, rows * stride);
    let rest = params.key_bits % 64;
    if rest != 0 {
        for row in words.chunks_exact_mut(stride) {
            row[stride - 1] &= (1 << rest) - 1;
        }
    }
    ClearColumn::Bits {
        width: params.key_bits,
        words,
    }
}

/// The words of a bit column, and how many a row.
fn words(column: &ClearColumn) -> Result<(&[u64], usize), String> {
    match column {
        ClearColumn::Bits { width, words } => Ok((words, width.div_ceil(64))),
        _ => Err("not a bit column".to_owned()),
    }
}

fn arith64(column: &ClearColumn) -> Result<&[u64], String> {
    match column {
        ClearColumn::Arith64(values) => Ok(values),
        _ => Err("not an arithmetic column".to_owned()),
    }
}

/// A column of a result by number.
fn column(table: &ClearTable, index: usize) -> Result<&ClearColumn, String> {
    table
        .columns
        .get(index)
        .ok_or_else(|| format!("no column {index}"))
}

/// Compares row by row.
fn same<T: PartialEq>(got: &[T], due: &[T]) -> Result<(), String> {
    if got.len() != due.len() {
        return Err(format!("{} rows instead of {}", got.len(), due.len()));
    }
    match got.iter().zip(due).position(|(got, due)| got != due) {
        None => Ok(()),
        Some(row) => Err(format!("row {row} differs")),
    }
}
