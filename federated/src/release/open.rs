//! From guarded shares to a released answer.

use super::ReleaseReceipt;
use super::decode::{self, Opened, OpenedColumn, Words};
use crate::error::{Code, Error, Result};
use crate::flow::Permitted;
use crate::joint::has_null_bit;
use crate::local::finish::post_process;
use crate::plan::program::{Program, Relational, chunks};
use crate::plan::{Encoding, JointPlan, Operator};
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use std::fmt;
use std::sync::Arc;
use veilgate_mpc::input::ClearColumn;
use veilgate_mpc::release::{ClearTable, final_share, reconstruct};
use veilgate_mpc::share::Role;
use veilgate_mpc::table::SharedTable;

/// A computing party's shares of the result, after every guard. Made by joint execution alone.
pub struct Guarded {
    role: Role,
    table: SharedTable,
    transcript: [u8; 32],
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guarded({} rows)", self.table.rows())
    }
}

impl Guarded {
    pub(crate) fn new(role: Role, table: SharedTable, transcript: [u8; 32]) -> Self {
        Self {
            role,
            table,
            transcript,
        }
    }

    /// This party's final share, for the result party alone. It leaves only when all parties have
    /// signed for the release (`run::Committed`).
    ///
    /// # Errors
    /// `Internal` when the receipt is of another run.
    pub fn seal(self, receipt: &ReleaseReceipt) -> Result<Vec<u8>> {
        if receipt.transcript() != &self.transcript {
            return Err(Error::new(
                Code::Internal,
                "the release that was recorded is not the one that was computed",
            ));
        }
        Ok(final_share(self.role, &self.table))
    }
}

/// What a permitted plan gave, after every guard: all that may be shown to the analyst.
#[derive(Debug)]
pub struct Released {
    batch: RecordBatch,
    notices: Vec<String>,
}

impl Released {
    /// The rows, with the schema that the plan declares.
    #[must_use]
    pub fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// What the analyst is told about them.
    #[must_use]
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Both.
    #[must_use]
    pub fn into_parts(self) -> (RecordBatch, Vec<String>) {
        (self.batch, self.notices)
    }
}

/// Opens a result at the result party: reconstructs from the final shares of P0, P1 and P2, each
/// word checked against its second holder, then applies HAVING, ORDER BY and LIMIT.
///
/// # Errors
/// `PeerMisbehaved` for shares that disagree or are no shares, naming a department where one is to
/// blame; `Overflow` when a released value does not fit its type; the errors of
/// [`crate::local::finish`].
pub async fn open(permitted: &Permitted, shares: [Vec<u8>; 3]) -> Result<Released> {
    open_plan(permitted.plan(), &shares).await
}

/// [`open`], for a plan whose permission the caller answers for.
pub(crate) async fn open_plan(plan: &JointPlan, shares: &[Vec<u8>; 3]) -> Result<Released> {
    let opened = opened(plan, shares)?;
    let arrays = decode::columns(plan, &opened)?;
    let fields: Vec<Field> = plan
        .release
        .columns
        .iter()
        .zip(0..)
        .map(|(column, index): (_, usize)| {
            Field::new(
                format!("r{index}"),
                column.data_type.to_arrow(),
                column.nullable,
            )
        })
        .collect();
    let options = RecordBatchOptions::new().with_row_count(Some(opened.rows));
    let released =
        RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)
            .map_err(|_| {
                Error::new(
                    Code::Internal,
                    "the released columns are not what the plan declares",
                )
            })?;
    let notices = notices(plan, &opened);
    let batch = post_process(released, &plan.release.sql, &plan.release.output).await?;
    Ok(Released { batch, notices })
}

pub(super) fn opened(plan: &JointPlan, shares: &[Vec<u8>; 3]) -> Result<Opened> {
    if let Some(Operator::Program(program)) = plan.operators.last() {
        return opened_program(plan, program, shares);
    }
    let Some(Operator::Aggregate { keys, cells, .. }) = plan.operators.get(plan.release.input)
    else {
        return Err(Error::new(
            Code::Internal,
            "the release is not of an aggregate",
        ));
    };
    let ClearTable { columns, valid } = reconstruct([&shares[0], &shares[1], &shares[2]])
        .map_err(|error| disagree(plan, &error))?;
    let rows = valid.len();
    // A global aggregate's one row is always released.
    let keep: Vec<usize> = (0..rows).filter(|&row| valid[row]).collect();
    let mut columns = columns.into_iter();
    let mut next = |with_null: bool| -> Result<OpenedColumn> {
        let due = || {
            Error::new(
                Code::PeerMisbehaved,
                "the final shares are not of the result that the plan declares",
            )
        };
        let words = picked(columns.next().ok_or_else(due)?, rows, &keep).ok_or_else(due)?;
        let nulls = if with_null {
            match picked(columns.next().ok_or_else(due)?, rows, &keep).ok_or_else(due)? {
                Words::Bits { width: 1, words } => {
                    Some(words.iter().map(|word| word & 1 == 1).collect())
                }
                _ => return Err(due()),
            }
        } else {
            None
        };
        Ok(OpenedColumn { words, nulls })
    };
    let keys = keys
        .iter()
        .map(|key| next(has_null_bit(plan, *key)?))
        .collect::<Result<_>>()?;
    let cells = cells.iter().map(|_| next(true)).collect::<Result<_>>()?;
    Ok(Opened {
        rows: keep.len(),
        keys,
        cells,
    })
}

/// The columns that a program opens: the parts of each, then its NULL flags where it can be NULL.
fn opened_program(plan: &JointPlan, program: &Program, shares: &[Vec<u8>; 3]) -> Result<Opened> {
    let types = program.check(&plan.fragments)?;
    let ClearTable { columns, valid } = reconstruct([&shares[0], &shares[1], &shares[2]])
        .map_err(|error| disagree(plan, &error))?;
    let rows = valid.len();
    let keep: Vec<usize> = (0..rows).filter(|&row| valid[row]).collect();
    let mut columns = columns.into_iter();
    let due = || {
        Error::new(
            Code::PeerMisbehaved,
            "the final shares are not of the result that the plan declares",
        )
    };
    let mut next = || picked(columns.next().ok_or_else(due)?, rows, &keep).ok_or_else(due);
    let mut cells = Vec::with_capacity(program.opened.len());
    for variable in &program.opened {
        let value = types.value(*variable)?;
        let words = match &value.form {
            Encoding::Text { max_bytes } => {
                let parts = chunks(*max_bytes)
                    .iter()
                    .map(|_| next())
                    .collect::<Result<Vec<_>>>()?;
                joined(&parts, 8 * (max_bytes + 1), keep.len()).ok_or_else(due)?
            }
            _ => next()?,
        };
        let nulls = match value.nullable {
            false => None,
            true => match next()? {
                Words::Bits { width: 1, words } => {
                    Some(words.iter().map(|word| word & 1 == 1).collect())
                }
                _ => return Err(due()),
            },
        };
        cells.push(OpenedColumn { words, nulls });
    }
    Ok(Opened {
        rows: keep.len(),
        keys: Vec::new(),
        cells,
    })
}

/// The parts of a text, the least significant first, as one column of `width` bits.
fn joined(parts: &[Words], width: u32, rows: usize) -> Option<Words> {
    let stride = width.div_ceil(64) as usize;
    let mut made = vec![0_u64; rows * stride];
    let mut from = 0;
    for part in parts {
        let Words::Bits { width, words } = part else {
            return None;
        };
        let per_row = width.div_ceil(64) as usize;
        if words.len() != rows * per_row {
            return None;
        }
        for (row, of) in words.chunks_exact(per_row).enumerate() {
            for (word, bits) in of.iter().enumerate() {
                let bit = from + 64 * word;
                let at = row * stride + bit / 64;
                *made.get_mut(at)? |= bits << (bit % 64);
                if bit % 64 > 0 && bits >> (64 - bit % 64) > 0 {
                    *made.get_mut(at + 1)? |= bits >> (64 - bit % 64);
                }
            }
        }
        from += *width as usize;
    }
    Some(Words::Bits { width, words: made })
}

/// Shares that do not fit together: which of two parties is to blame cannot be known here.
fn disagree(plan: &JointPlan, error: &veilgate_mpc::Error) -> Error {
    let seats = plan.computing_parties().unwrap_or_default();
    let names = seats.map(|seat| plan.parties.get(seat).map_or("", |p| p.department.as_str()));
    let [p0, p1, p2] = names;
    Error::new(
        Code::PeerMisbehaved,
        format!("the final shares do not fit together (P0 {p0}, P1 {p1}, P2 {p2}): {error}"),
    )
}

/// The rows at `keep`; none when the column does not have `rows` rows.
fn picked(column: ClearColumn, rows: usize, keep: &[usize]) -> Option<Words> {
    if column.rows() != rows {
        return None;
    }
    Some(match column {
        ClearColumn::Bits { width, words } => {
            let per_row = width.div_ceil(64);
            let mut kept = Vec::with_capacity(keep.len() * per_row);
            for row in keep {
                kept.extend_from_slice(&words[row * per_row..(row + 1) * per_row]);
            }
            Words::Bits {
                width: u32::try_from(width).ok()?,
                words: kept,
            }
        }
        ClearColumn::Arith64(words) => Words::Ring64(keep.iter().map(|&row| words[row]).collect()),
        ClearColumn::Arith128(words) => {
            Words::Ring128(keep.iter().map(|&row| words[row]).collect())
        }
    })
}

/// What is said about what is not shown. A count of withheld groups is given only over a public
/// domain, where it counts empty groups too.
fn notices(plan: &JointPlan, opened: &Opened) -> Vec<String> {
    if let Some(Operator::Program(program)) = plan.operators.last() {
        return program_notices(plan, program, opened);
    }
    let Some(Operator::Aggregate { keys, units, .. }) = plan.operators.get(plan.release.input)
    else {
        return vec![];
    };
    if units.is_empty() {
        return vec![];
    }
    let fewer = fewer(plan, units.iter().map(|unit| (unit.k, unit.owner)));
    let mut notices = vec![];
    if !keys.is_empty() {
        let withheld = plan
            .release
            .public_groups
            .map(|groups| (groups, groups.saturating_sub(opened.rows as u64)));
        match withheld {
            Some((_, 0)) => {}
            Some((groups, withheld)) => {
                notices.push(format!("{withheld} of {groups} groups: empty, or {fewer}"));
            }
            None => notices.push(format!("groups of {fewer}; how many is not told")),
        }
    }
    if has_null(opened) {
        notices.push(format!("values shown as NULL: no value at all, or {fewer}"));
    }
    notices
}

fn has_null(opened: &Opened) -> bool {
    let null = |cell: &OpenedColumn| cell.nulls.iter().flatten().any(|null| *null);
    opened.cells.iter().any(null)
}

/// Below which thresholds something is withheld, in words.
fn fewer(plan: &JointPlan, units: impl Iterator<Item = (u32, usize)>) -> String {
    let mut thresholds: Vec<(u32, &str)> = units
        .filter_map(|(k, owner)| Some((k, plan.parties.get(owner)?.department.as_str())))
        .collect();
    thresholds.sort_unstable();
    thresholds.dedup();
    let thresholds: Vec<String> = thresholds
        .iter()
        .map(|(k, department)| format!("{k} units of {department}"))
        .collect();
    format!("fewer than {}", thresholds.join(" or "))
}

/// What is said of a program's guards.
fn program_notices(plan: &JointPlan, program: &Program, opened: &Opened) -> Vec<String> {
    let mut units = Vec::new();
    let (mut rows, mut atoms) = (false, false);
    for operator in &program.operators {
        if let Relational::Guard {
            units: own,
            keeps_rows,
            ..
        } = operator
        {
            units.extend(own.iter().map(|unit| (unit.k, unit.owner)));
            rows |= !keeps_rows;
            atoms |= own.iter().any(|unit| !unit.atoms.is_empty());
        }
    }
    if units.is_empty() {
        return vec![];
    }
    let fewer = fewer(plan, units.into_iter());
    let mut notices = vec![];
    if rows {
        notices.push(format!("groups of {fewer}; how many is not told"));
    }
    if has_null(opened) {
        notices.push(match atoms {
            false => format!("values shown as NULL: no value at all, or {fewer}"),
            true => format!(
                "values shown as NULL: no value at all, or {fewer} in some part of the group by which the \
                 numbers of this query differ"
            ),
        });
    }
    notices
}
