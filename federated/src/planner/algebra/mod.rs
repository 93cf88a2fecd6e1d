//! Relational algebra over columns with a name of their own: what the planner rewrites.
//!
//! A [`Rel`] is made from the engine's optimised plan ([`build`]), brought into a form in which every
//! department does alone what it can ([`localise`], [`eager`]), and cut into fragments ([`cut`]), whose
//! text is a small normal form ([`text`]). Every column of every operator has one [`ColumnId`], unique in
//! the query, so that operators can be moved without renaming anything.
//!
//! It must not know of shares, policy or data.

mod bounds;
mod build;
mod columns;
mod cut;
mod eager;
mod exists;
mod functions;
mod guard;
mod keys;
mod localise;
mod lower;
mod nulls;
mod ranges;
#[cfg(test)]
mod tests;
mod text;
mod unions;

pub(super) use build::build;
pub(super) use columns::{ColumnId, Columns};
pub(super) use cut::{Cut, cut};
pub(super) use eager::eager;
pub(super) use functions::AVERAGE;
pub(super) use guard::{Demands, Guarded, guard};
pub(super) use localise::localise;
pub(super) use lower::{Lowered, lower};
pub(super) use text::fragment;

use crate::catalog::Table;
use crate::error::Result;
use crate::plan::program::Frame;
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Expr;
use std::collections::BTreeSet;

/// A relation.
#[derive(Debug, Clone)]
pub(super) enum Rel {
    /// A table of one department; one column for each of the table's that is read.
    Scan {
        department: String,
        table: Box<Table>,
        /// Position in the table, and its name here.
        columns: Vec<(usize, ColumnId)>,
    },
    /// Inner joins, computed columns and conditions.
    Block(Block),
    /// A join that is not inner.
    Join {
        kind: JoinKind,
        left: Box<Rel>,
        right: Box<Rel>,
        /// Equal columns, left and right.
        on: Vec<(ColumnId, ColumnId)>,
        /// Further conditions of a match, over both sides.
        conditions: Vec<Expr>,
    },
    /// Groups; without keys one group, also over no rows.
    Group {
        input: Box<Rel>,
        keys: Vec<ColumnId>,
        aggregates: Vec<Aggregate>,
    },
    /// Rows in an order, the first `skip` left out and at most `fetch` kept.
    Sort {
        input: Box<Rel>,
        keys: Vec<SortKey>,
        skip: usize,
        fetch: Option<usize>,
    },
    /// Further columns over the rows of a partition, in an order; all rows stay.
    Window {
        input: Box<Rel>,
        partition: Vec<ColumnId>,
        order: Vec<SortKey>,
        calls: Vec<WindowCall>,
    },
    /// All rows of several relations: the n-th column of each is `columns[n]` here.
    Union {
        inputs: Vec<(Rel, Vec<ColumnId>)>,
        columns: Vec<ColumnId>,
    },
    /// The same rows, of which those with too few privacy units behind them are withheld.
    Guard { input: Box<Rel>, guard: Box<Guard> },
    /// What a department computed alone: fragment `index`.
    Fragment {
        index: usize,
        columns: Vec<ColumnId>,
        facts: Box<Facts>,
    },
}

/// Inner joins of several relations, then computed columns, then conditions.
#[derive(Debug, Clone, Default)]
pub(super) struct Block {
    pub(super) inputs: Vec<Rel>,
    /// Columns of different inputs that are equal, neither of them NULL.
    pub(super) equal: Vec<(ColumnId, ColumnId)>,
    /// Computed columns, each over columns of inputs and those before it.
    pub(super) computed: Vec<(ColumnId, Expr)>,
    /// Conditions that must all be true.
    pub(super) conditions: Vec<Expr>,
}

/// What is withheld of a relation.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    /// One for each scan of a table with privacy units.
    pub(super) units: Vec<GuardUnit>,
    /// Values, and the atoms that each is over where these are columns already; none for all rows.
    pub(super) cells: Vec<(ColumnId, Vec<usize>)>,
    /// Whether the one row of a result for the whole stays.
    pub(super) keeps_rows: bool,
}

/// What counts the units of one scan.
#[derive(Debug, Clone)]
pub(super) struct GuardUnit {
    pub(super) department: String,
    pub(super) k: u32,
    /// The units behind a row.
    pub(super) rows: ColumnId,
    /// Those behind its atoms, where the owner counts them itself.
    pub(super) atoms: Vec<ColumnId>,
}

/// How units are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tally {
    /// Different tags.
    Distinct,
    /// The sum of counts of units of which none is counted twice.
    Sum,
    /// The greatest of several counts: at least so many.
    Max,
}

/// Which rows a join keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JoinKind {
    /// All left rows, right columns NULL without a match.
    Left,
    /// All rows of both.
    Full,
    /// Left rows with a match.
    Semi,
    /// Left rows without one.
    Anti,
    /// Left rows whose key is certainly not among the right ones: NOT IN.
    NotIn,
}

/// One aggregate of a group.
#[derive(Debug, Clone)]
pub(super) struct Aggregate {
    pub(super) id: ColumnId,
    pub(super) function: Function,
    /// None for COUNT(*).
    pub(super) argument: Option<Expr>,
}

/// An aggregate function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Function {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    /// One of the values, all of which are the same.
    Any,
    CountDistinct,
    /// Of decimals: truncated at their scale.
    Median,
    /// At `parts / 10^digits` of the way through the values, with so many digits more.
    Percentile {
        parts: u32,
        digits: u8,
    },
    /// The number of privacy units, of tags or counts.
    Units(Tally),
}

impl Function {
    /// MEDIAN as a percentile.
    pub(super) const HALF: Self = Self::Percentile {
        parts: 5,
        digits: 1,
    };

    /// Whether no department's engine has it: it is computed jointly, whosever the rows are.
    pub(super) fn only_joint(self) -> bool {
        matches!(self, Self::Percentile { .. }) && self != Self::HALF
    }
}

/// A function over the rows of a partition.
#[derive(Debug, Clone)]
pub(super) struct WindowCall {
    pub(super) id: ColumnId,
    pub(super) function: Over,
    /// None for COUNT(*), and for numbers of rows.
    pub(super) argument: Option<ColumnId>,
    /// Of LAG and LEAD: a literal of the argument's type where there is no such row.
    pub(super) default: Option<ScalarValue>,
}

/// Which function over the rows of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    RowNumber,
    Rank,
    DenseRank,
    Lag(u64),
    Lead(u64),
    /// COUNT, SUM, AVG, MIN or MAX of a frame.
    Aggregate(Function, Frame),
}

/// One key of an order.
#[derive(Debug, Clone)]
pub(super) struct SortKey {
    pub(super) expr: Expr,
    pub(super) ascending: bool,
    pub(super) nulls_first: bool,
}

/// What is publicly known about the rows of a relation.
#[derive(Debug, Clone, Default)]
pub(super) struct Facts {
    /// Sets of columns of which no two rows have the same values; an empty set: at most one row.
    pub(super) keys: Vec<BTreeSet<ColumnId>>,
    /// The most rows with one value of a column, where that is declared.
    pub(super) repeats: Vec<(ColumnId, u64)>,
    /// The most rows.
    pub(super) most: u64,
    /// About how many rows.
    pub(super) estimate: u64,
}

impl Rel {
    /// The columns that it has.
    pub(super) fn columns(&self) -> Vec<ColumnId> {
        match self {
            Self::Scan { columns, .. } => columns.iter().map(|(_, id)| *id).collect(),
            Self::Block(block) => {
                let mut all: Vec<ColumnId> = block.inputs.iter().flat_map(Self::columns).collect();
                all.extend(block.computed.iter().map(|(id, _)| *id));
                all
            }
            Self::Join {
                kind, left, right, ..
            } => {
                let mut all = left.columns();
                if matches!(kind, JoinKind::Left | JoinKind::Full) {
                    all.extend(right.columns());
                }
                all
            }
            Self::Group {
                keys, aggregates, ..
            } => {
                let made = aggregates.iter().map(|of| of.id);
                keys.iter().copied().chain(made).collect()
            }
            Self::Sort { input, .. } | Self::Guard { input, .. } => input.columns(),
            Self::Window { input, calls, .. } => {
                let mut all = input.columns();
                all.extend(calls.iter().map(|call| call.id));
                all
            }
            Self::Union { columns, .. } | Self::Fragment { columns, .. } => columns.clone(),
        }
    }

    /// The table's column that a column is, where it is one: department, table, position.
    pub(super) fn base(&self, id: ColumnId) -> Option<(&str, &Table, usize)> {
        if let Self::Scan {
            department,
            table,
            columns,
        } = self
        {
            let (at, _) = columns.iter().find(|(_, known)| *known == id)?;
            return Some((department.as_str(), table.as_ref(), *at));
        }
        self.inputs().into_iter().find_map(|input| input.base(id))
    }

    /// Whether it has all of these columns.
    pub(super) fn has(&self, columns: &BTreeSet<ColumnId>) -> bool {
        let own: BTreeSet<ColumnId> = self.columns().into_iter().collect();
        columns.is_subset(&own)
    }

    /// The one department that computes it alone; none where it reads tables of several, or fragments, or
    /// has what is only computed jointly.
    pub(super) fn owner(&self) -> Option<&str> {
        let mut owner = None;
        for of in self.owners() {
            match (owner, of) {
                (_, None) => return None,
                (None, of) => owner = of,
                (Some(known), Some(of)) if known != of => return None,
                _ => {}
            }
        }
        owner
    }

    /// The department of every leaf, none for a fragment and what is only computed jointly.
    fn owners(&self) -> Vec<Option<&str>> {
        match self {
            Self::Scan { department, .. } => vec![Some(department.as_str())],
            Self::Fragment { .. } | Self::Guard { .. } => vec![None],
            Self::Group { aggregates, .. }
                if aggregates.iter().any(|of| of.function.only_joint()) =>
            {
                vec![None]
            }
            _ => self.inputs().into_iter().flat_map(Self::owners).collect(),
        }
    }

    /// The relations that it is made from.
    pub(super) fn inputs(&self) -> Vec<&Self> {
        match self {
            Self::Scan { .. } | Self::Fragment { .. } => Vec::new(),
            Self::Block(block) => block.inputs.iter().collect(),
            Self::Join { left, right, .. } => vec![left, right],
            Self::Group { input, .. }
            | Self::Sort { input, .. }
            | Self::Window { input, .. }
            | Self::Guard { input, .. } => {
                vec![input]
            }
            Self::Union { inputs, .. } => inputs.iter().map(|(input, _)| input).collect(),
        }
    }

    /// The same over other inputs, in their order.
    pub(super) fn map_inputs(self, change: &mut dyn FnMut(Self) -> Result<Self>) -> Result<Self> {
        let mut boxed = |input: Box<Self>| change(*input).map(Box::new);
        Ok(match self {
            Self::Scan { .. } | Self::Fragment { .. } => self,
            Self::Block(mut block) => {
                block.inputs = block
                    .inputs
                    .into_iter()
                    .map(change)
                    .collect::<Result<_>>()?;
                Self::Block(block)
            }
            Self::Join {
                kind,
                left,
                right,
                on,
                conditions,
            } => Self::Join {
                kind,
                left: boxed(left)?,
                right: boxed(right)?,
                on,
                conditions,
            },
            Self::Group {
                input,
                keys,
                aggregates,
            } => Self::Group {
                input: boxed(input)?,
                keys,
                aggregates,
            },
            Self::Sort {
                input,
                keys,
                skip,
                fetch,
            } => Self::Sort {
                input: boxed(input)?,
                keys,
                skip,
                fetch,
            },
            Self::Window {
                input,
                partition,
                order,
                calls,
            } => Self::Window {
                input: boxed(input)?,
                partition,
                order,
                calls,
            },
            Self::Guard { input, guard } => Self::Guard {
                input: boxed(input)?,
                guard,
            },
            Self::Union { inputs, columns } => Self::Union {
                inputs: inputs
                    .into_iter()
                    .map(|(input, of)| Ok((change(input)?, of)))
                    .collect::<Result<_>>()?,
                columns,
            },
        })
    }

    /// The same with these computed columns on top.
    pub(super) fn computing(self, computed: Vec<(ColumnId, Expr)>) -> Self {
        if computed.is_empty() {
            return self;
        }
        match self {
            Self::Block(mut block) if block.conditions.is_empty() => {
                block.computed.extend(computed);
                Self::Block(block)
            }
            other => Self::Block(Block {
                inputs: vec![other],
                computed,
                ..Block::default()
            }),
        }
    }

    /// The same where these conditions hold.
    pub(super) fn filtered(self, conditions: Vec<Expr>) -> Self {
        if conditions.is_empty() {
            return self;
        }
        match self {
            Self::Block(mut block) => {
                block.conditions.extend(conditions);
                Self::Block(block)
            }
            other => Self::Block(Block {
                inputs: vec![other],
                conditions,
                ..Block::default()
            }),
        }
    }
}
