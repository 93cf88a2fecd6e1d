//! What the oracle says about a query.

use super::relation::Origin;
use arrow::array::RecordBatch;
use datafusion::common::ScalarValue;

/// One occurrence of a table with a privacy unit.
#[derive(Clone, Debug, PartialEq)]
pub struct Scan {
    pub table: String,
    pub k: u32,
}

impl Scan {
    /// Whether so many units are enough. A k of 1 asks for nothing, not even for one.
    pub fn allows(&self, count: usize) -> bool {
        self.k <= 1 || count >= self.k as usize
    }
}

/// The units of each scan that was asked for: (its index in `Judgement::scans`, how many).
pub type Counts = Vec<(usize, usize)>;

/// An outermost group, or a row that is in none.
#[derive(Clone, Debug)]
pub struct GroupVerdict {
    /// The groups of one GROUP BY have the same number.
    pub node: usize,
    /// The values of its keys; of a row in no group, all of its values.
    pub keys: Vec<ScalarValue>,
    /// The units behind all of its rows.
    pub rows: Counts,
    /// Whether it is released at all.
    pub shown: bool,
    /// What it tells.
    pub cells: Vec<CellVerdict>,
    /// Whether its conditions split it into parts of nobody or of enough.
    pub atoms_ok: bool,
}

/// One number of an outermost group.
#[derive(Clone, Debug)]
pub struct CellVerdict {
    /// As the engine names it.
    pub name: String,
    /// The units behind the rows that contribute; of several branches the fewest.
    pub counts: Counts,
    /// Whether it can be over fewer rows than the group has.
    pub conditional: bool,
    /// Whether it is released.
    pub shown: bool,
    /// What it is, if it is released: over the rows that a subquery that is withheld leaves.
    pub value: ScalarValue,
}

/// What the answer is, and what it may show.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The answer over the data in the clear.
    pub clear: RecordBatch,
    /// The answer after withholding.
    pub expected: RecordBatch,
    /// Every outermost group.
    pub groups: Vec<GroupVerdict>,
    /// The same where nothing is withheld, no subquery either.
    pub clear_groups: Vec<GroupVerdict>,
    /// The occurrences of tables with units.
    pub scans: Vec<Scan>,
    /// Where each column comes from.
    pub origins: Vec<Origin>,
    /// Whether withholding one cell can bring or take rows.
    pub loose: bool,
    /// Whether a subquery inside of a group is withheld below k: one that is withheld more often gives
    /// numbers that are neither the clear nor the expected ones.
    pub loose_values: bool,
    /// Whether it can change the order.
    pub loose_order: bool,
}

/// What the oracle says about an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// As expected.
    Equal,
    /// All that is shown is right and may be shown; so many rows and cells more could be.
    Stricter { rows: usize, cells: usize },
    /// Something is shown that is below k.
    Shows(String),
    /// Something is shown that is not so.
    Differs(String),
    /// Not as expected, and whether it may be so cannot be said.
    Undecided,
}
