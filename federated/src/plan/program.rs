//! Relational operators over shares: what the computing parties run when the fragments are in.
//!
//! A [`Program`] is in single-assignment form: every variable is a column, set once, by a fragment or by
//! one operator, and goes wherever its rows go. Relation `i` is fragment `i` for the first ones, then the
//! result of operator after operator; each relation is taken by one operator at most. [`Program::check`]
//! derives every type from those of the fragments, and refuses what does not go together; it must be
//! possible to check a program without trust in who made it.

mod conditions;
mod guards;
mod types;
mod windows;

use super::{Comparator, Encoding, FragmentIndex, PartyIndex};
use crate::schema::ScalarType;

pub(crate) use conditions::{Definitions, atom, in_any_form, or_number};
pub(crate) use guards::MAX_ATOMS;
pub(crate) use types::{
    CHUNK_BYTES, MAX_BESIDE, MAX_PARTNERS, TEXT_CHUNK, Types, chunks, code_bits, scale,
};

/// A column of a program. The columns of the fragments come first, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Variable(pub u32);

/// Index of a relation: fragments first, then what operators make.
pub type ProgramRelation = usize;

/// Operators in the order in which they run, and what is opened of the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The operators.
    pub operators: Vec<Relational>,
    /// Columns `r0, r1, ...` of the last relation that are opened.
    pub opened: Vec<Variable>,
}

/// An operator over relations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relational {
    /// A join on equal columns; NULL equals nothing. The right side has at most `most` rows for each
    /// combination of its columns in `on`, which is checked, except in semi and anti joins.
    Join {
        /// Which rows are kept.
        kind: JoinKind,
        /// The side whose rows stay in their order.
        left: ProgramRelation,
        /// The other.
        right: ProgramRelation,
        /// Pairs of equal columns, left and right.
        on: Vec<(Variable, Variable)>,
        /// Of a left join: whether a row has a partner.
        matched: Option<Variable>,
        /// The most partners of a row; more than one in inner and left joins alone.
        most: u64,
        /// The most left rows for each combination of their columns in `on`, where that is checked: what
        /// relies on it believes nobody's word.
        left_most: Option<u64>,
    },
    /// Every row beside every row of a relation of few.
    Beside {
        /// The rows.
        left: ProgramRelation,
        /// The relation of few rows.
        right: ProgramRelation,
        /// A public bound on its rows.
        most: u64,
    },
    /// The rows where a condition is true.
    Filter {
        /// Input.
        input: ProgramRelation,
        /// The condition.
        condition: Expression,
    },
    /// Further columns, each over those before it.
    Map {
        /// Input.
        input: ProgramRelation,
        /// The columns.
        computed: Vec<(Variable, Expression)>,
    },
    /// Groups; without keys one, also over no rows.
    Group {
        /// Input.
        input: ProgramRelation,
        /// Columns whose values make a group, NULLs taken for equal.
        keys: Vec<Variable>,
        /// What is computed for each.
        aggregates: Vec<Aggregate>,
        /// A public bound on groups.
        most: u64,
    },
    /// The same rows, of which those with too few privacy units behind them are withheld, and guarded columns
    /// where too few stand behind their value. An atom has to have no unit or enough: else all columns over
    /// atoms are withheld, for two of them would tell their difference.
    Guard {
        /// Input.
        input: ProgramRelation,
        /// What counts the units of each table.
        units: Vec<UnitGuard>,
        /// Columns that can be withheld where their row is shown.
        cells: Vec<GuardedCell>,
        /// Whether a row with too few units stays, and all guarded columns are withheld: the one row of a
        /// result for the whole.
        keeps_rows: bool,
    },
    /// The first rows in an order.
    Top {
        /// Input.
        input: ProgramRelation,
        /// The order.
        keys: Vec<OrderKey>,
        /// How many.
        rows: u64,
    },
    /// Further columns over the rows of a partition, in an order.
    Window {
        /// Input, whose rows stay in their order.
        input: ProgramRelation,
        /// Columns whose values make a partition, NULLs taken for equal.
        partition: Vec<Variable>,
        /// The order of a partition.
        order: Vec<OrderKey>,
        /// The columns.
        calls: Vec<WindowCall>,
    },
    /// The rows of several relations one after the other.
    Union {
        /// Relations, and which column of each stands for which of `columns`; none: NULL in all its rows.
        inputs: Vec<(ProgramRelation, Vec<Option<Variable>>)>,
        /// The columns.
        columns: Vec<Variable>,
    },
}

/// Which rows a join keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    /// Left rows with a partner, with its columns.
    Inner,
    /// All left rows, right columns NULL without a partner.
    Left,
    /// Left rows with a partner.
    Semi,
    /// Left rows without one.
    Anti,
    /// Left rows whose key is certainly not among the right ones.
    NotIn,
    /// All rows of both sides, the columns of the other NULL without a partner.
    Full,
}

/// How many privacy units of one owner's table stand behind each row of a guarded relation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitGuard {
    /// Whose units.
    pub owner: PartyIndex,
    /// The least number of units, at least 1.
    pub k: u32,
    /// The number of units of a row.
    pub rows: Variable,
    /// The numbers of units of its atoms: the parts into which the conditions of the guarded columns split
    /// the rows behind it.
    pub atoms: Vec<Variable>,
}

impl UnitGuard {
    /// The counts that it looks at.
    pub fn counts(&self) -> impl Iterator<Item = Variable> + '_ {
        std::iter::once(self.rows).chain(self.atoms.iter().copied())
    }
}

/// A guarded column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardedCell {
    /// Which one. It is NULL where it is withheld.
    pub value: Variable,
    /// The atoms that it is over; none for all rows.
    pub atoms: Vec<u32>,
}

/// An aggregate of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aggregate {
    /// The column that it makes.
    pub variable: Variable,
    /// Which function.
    pub function: AggregateKind,
    /// Over which column; none for the number of rows.
    pub argument: Option<Variable>,
    /// Of counts: only rows where this truth value, which is never NULL, is true.
    pub when: Option<Variable>,
    /// Its type.
    pub data_type: ScalarType,
}

/// An aggregate function. NULLs are passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateKind {
    /// The number of rows, or of values.
    Count,
    /// The sum; NULL of no value.
    Sum,
    /// The least value.
    Min,
    /// The greatest value.
    Max,
    /// One of the values, all of which are the same.
    Any,
    /// The number of different values.
    CountDistinct,
    /// The mean of the two middle values, truncated at their scale; the middle one of an odd number.
    Median,
    /// Of n values in order the one at place `(n - 1) parts / 10^digits`, from 0; between two values,
    /// by the line between them. Exact, with `digits` more digits after the point.
    Percentile {
        /// Which part of the way.
        parts: u32,
        /// In units of the last of so many digits.
        digits: u8,
    },
}

/// A function over the rows of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowCall {
    /// The column that it makes.
    pub variable: Variable,
    /// Which function.
    pub function: WindowFunction,
    /// Over which column.
    pub argument: Option<Variable>,
    /// Its type.
    pub data_type: ScalarType,
    /// Of LAG and LEAD: a column that says whether there is such a row.
    pub there: Option<Variable>,
}

/// Which function over the rows of a partition. NULLs are passed over by those with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowFunction {
    /// The number of the row, from 1.
    RowNumber,
    /// The number of the first row that is equal in the order.
    Rank,
    /// The number of different values of the order so far.
    DenseRank,
    /// The value so many rows before; NULL where there is none.
    Lag {
        /// Rows.
        by: u64,
    },
    /// The value so many rows after.
    Lead {
        /// Rows.
        by: u64,
    },
    /// The number of rows, or of values.
    Count(Frame),
    /// The sum; NULL of no value.
    Sum(Frame),
    /// The least value.
    Min(Frame),
    /// The greatest value.
    Max(Frame),
}

/// Where a frame ends that begins with its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// At the current row.
    Rows,
    /// At the last row that is equal to it in the order.
    Range,
    /// At the end of the partition.
    Partition,
}

impl WindowFunction {
    /// Whether the order of the partition says anything about the value.
    #[must_use]
    pub fn is_ordered(self) -> bool {
        match self {
            Self::RowNumber
            | Self::Rank
            | Self::DenseRank
            | Self::Lag { .. }
            | Self::Lead { .. } => true,
            Self::Count(frame) | Self::Sum(frame) | Self::Min(frame) | Self::Max(frame) => {
                frame != Frame::Partition
            }
        }
    }
}

/// One key of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OrderKey {
    /// The column.
    pub variable: Variable,
    /// Smallest first.
    pub ascending: bool,
    /// NULLs before all values.
    pub nulls_first: bool,
}

/// An expression over the columns of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// A column.
    Column(Variable),
    /// A number, day or truth value, unscaled.
    Number {
        /// The value.
        value: i128,
        /// Its type.
        data_type: ScalarType,
    },
    /// A text that is compared with columns of this form.
    Text {
        /// The value.
        value: String,
        /// A code list or a width.
        form: Encoding,
    },
    /// No value of this type.
    Null(ScalarType),
    /// Logical negation.
    Not(Box<Expression>),
    /// Conjunction, in three-valued logic.
    All(Vec<Expression>),
    /// Disjunction, in three-valued logic.
    Any(Vec<Expression>),
    /// A comparison; NULL where a side is.
    Compare {
        /// Which.
        comparator: Comparator,
        /// Left side.
        left: Box<Expression>,
        /// Right side, of the same type and scale.
        right: Box<Expression>,
    },
    /// Whether there is no value.
    IsNull(Box<Expression>),
    /// Addition, subtraction or multiplication of unscaled numbers.
    Arithmetic {
        /// Which.
        operation: Operation,
        /// Left side.
        left: Box<Expression>,
        /// Right side; of the same scale in sums.
        right: Box<Expression>,
        /// The type of the result.
        data_type: ScalarType,
        /// Modulo 2^128 instead of 2^64; the plan declares that the result fits.
        wide: bool,
    },
    /// The same number with more digits after the point.
    Rescale {
        /// The number.
        input: Box<Expression>,
        /// The type of the result.
        data_type: ScalarType,
        /// Modulo 2^128 instead of 2^64.
        wide: bool,
    },
    /// The same number as two's complement bits.
    Bits {
        /// The number.
        input: Box<Expression>,
        /// How many; the plan declares that the number fits.
        width: u32,
    },
    /// The quotient of two numbers, truncated at the scale of the result.
    Quotient {
        /// The dividend.
        left: Box<Expression>,
        /// The divisor.
        right: Box<Expression>,
        /// The type of the result.
        data_type: ScalarType,
        /// Whether a divisor of zero, in a row that is there, ends the query; that it does is one bit which
        /// is opened. Else its quotient is NULL.
        checked: bool,
    },
    /// The first result whose condition is true.
    Case {
        /// Conditions and results.
        when: Vec<(Expression, Expression)>,
        /// The result where none is true.
        otherwise: Box<Expression>,
    },
}

/// Arithmetic over two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Addition.
    Add,
    /// Subtraction.
    Subtract,
    /// Multiplication.
    Multiply,
}

/// Type and form of a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Its SQL type.
    pub data_type: ScalarType,
    /// Whether it can be NULL.
    pub nullable: bool,
    /// The form in which it is shared.
    pub form: Encoding,
}

impl Relational {
    /// The relations that it takes.
    #[must_use]
    pub fn inputs(&self) -> Vec<ProgramRelation> {
        match self {
            Self::Join { left, right, .. } => vec![*left, *right],
            Self::Beside { left, right, .. } => vec![*left, *right],
            Self::Filter { input, .. }
            | Self::Map { input, .. }
            | Self::Group { input, .. }
            | Self::Guard { input, .. }
            | Self::Top { input, .. }
            | Self::Window { input, .. } => vec![*input],
            Self::Union { inputs, .. } => inputs.iter().map(|(input, _)| *input).collect(),
        }
    }

    /// The columns that it looks at.
    #[must_use]
    pub fn looks_at(&self) -> Vec<Variable> {
        let mut found = Vec::new();
        match self {
            Self::Join { on, .. } => found.extend(on.iter().flat_map(|(a, b)| [*a, *b])),
            Self::Beside { .. } => {}
            Self::Filter { condition, .. } => condition.columns(&mut found),
            Self::Map { computed, .. } => {
                for (_, expression) in computed {
                    expression.columns(&mut found);
                }
            }
            Self::Group {
                keys, aggregates, ..
            } => {
                found.extend(keys);
                found.extend(aggregates.iter().filter_map(|of| of.argument));
                found.extend(aggregates.iter().filter_map(|of| of.when));
            }
            Self::Guard { units, cells, .. } => {
                found.extend(units.iter().flat_map(UnitGuard::counts));
                found.extend(cells.iter().map(|cell| cell.value));
            }
            Self::Top { keys, .. } => found.extend(keys.iter().map(|key| key.variable)),
            Self::Window {
                partition,
                order,
                calls,
                ..
            } => {
                found.extend(partition);
                found.extend(order.iter().map(|key| key.variable));
                found.extend(calls.iter().filter_map(|call| call.argument));
            }
            Self::Union { inputs, .. } => {
                found.extend(inputs.iter().flat_map(|(_, of)| of).flatten());
            }
        }
        found
    }
}

impl Expression {
    /// Whether it divides by what may be zero: that it is, in any row, is opened.
    #[must_use]
    pub fn divides(&self) -> bool {
        match self {
            Self::Quotient { checked: true, .. } => true,
            Self::Column(_) | Self::Number { .. } | Self::Text { .. } | Self::Null(_) => false,
            Self::Not(inner)
            | Self::IsNull(inner)
            | Self::Rescale { input: inner, .. }
            | Self::Bits { input: inner, .. } => inner.divides(),
            Self::All(parts) | Self::Any(parts) => parts.iter().any(Self::divides),
            Self::Compare { left, right, .. }
            | Self::Arithmetic { left, right, .. }
            | Self::Quotient { left, right, .. } => left.divides() || right.divides(),
            Self::Case { when, otherwise } => {
                let mut all = when.iter().flat_map(|(condition, of)| [condition, of]);
                all.any(Self::divides) || otherwise.divides()
            }
        }
    }

    /// Adds the columns that it looks at.
    pub fn columns(&self, into: &mut Vec<Variable>) {
        match self {
            Self::Column(variable) => into.push(*variable),
            Self::Number { .. } | Self::Text { .. } | Self::Null(_) => {}
            Self::Not(input)
            | Self::IsNull(input)
            | Self::Rescale { input, .. }
            | Self::Bits { input, .. } => {
                input.columns(into);
            }
            Self::All(parts) | Self::Any(parts) => {
                for part in parts {
                    part.columns(into);
                }
            }
            Self::Compare { left, right, .. }
            | Self::Arithmetic { left, right, .. }
            | Self::Quotient { left, right, .. } => {
                left.columns(into);
                right.columns(into);
            }
            Self::Case { when, otherwise } => {
                for (condition, result) in when {
                    condition.columns(into);
                    result.columns(into);
                }
                otherwise.columns(into);
            }
        }
    }
}

impl Program {
    /// The variable of a fragment's column.
    #[must_use]
    pub fn variable_of(
        fragments: &[super::Fragment],
        fragment: FragmentIndex,
        column: usize,
    ) -> Variable {
        let before: usize = fragments
            .iter()
            .take(fragment)
            .map(|of| of.columns.len())
            .sum();
        Variable(u32::try_from(before + column).unwrap_or(u32::MAX))
    }
}
