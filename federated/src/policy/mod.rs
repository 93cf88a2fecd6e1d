//! A department's rules, per column and per use. Deny by default; unknown fields are errors.

use crate::schema::Department;

/// The parsed `policy.toml` of one department.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whose rules.
    pub department: Department,
    /// SHA-256 of the file's bytes, domain-separated: what a consent names.
    pub version: [u8; 32],
    /// Sets of three computing parties that this department accepts. Empty: none.
    pub computing: Vec<[Department; 3]>,
    /// Rules, in the order of the file.
    pub rules: Vec<Rule>,
    /// Levels of columns: (table, column, level).
    pub levels: Vec<(String, String, Level)>,
}

/// Classification of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Basic public data.
    L1,
    /// Ordinary personal data, non-core trade secrets.
    L2,
    /// Core trade secrets, sensitive public data.
    L3,
    /// Important data, sensitive personal data.
    L4,
}

/// One permitted use of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its stable name, for example `tax.income.taxable_income/aggregate`.
    pub name: String,
    /// The table.
    pub table: String,
    /// The column; `*` stands for every column of the table.
    pub column: String,
    /// What is permitted.
    pub permits: Use,
    /// The least number of privacy units behind every released cell; at least 1.
    pub k: u32,
    /// The leakage that is accepted for this use.
    pub leakage: Leakage,
    /// Departments whose analysts may receive results that use it; empty: every one.
    pub recipients: Vec<Department>,
}

/// A use of a column in a query.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Use {
    /// Equality with another department's column decides which rows meet.
    JoinKey,
    /// A condition on this column, alone or against another department's.
    Filter,
    /// Groups are formed by its values, which are released.
    GroupKey,
    /// An aggregate of it is released.
    Aggregate(AggregateFunction),
    /// An aggregate of it is compared in HAVING.
    Having,
    /// The order of its released values decides ORDER BY.
    SortKey,
    /// Its raw values are released.
    Output,
}

/// An aggregate function of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AggregateFunction {
    /// COUNT(column); COUNT(*) uses no column.
    Count,
    /// SUM
    Sum,
    /// AVG: released as sum and count.
    Avg,
}

/// The named leakage profiles, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leakage {
    /// Only declared maximum input sizes.
    None,
    /// Padded input sizes to all; the noisy number of matches to the neutral party.
    Sizes,
}
