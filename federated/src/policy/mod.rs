//! A department's rules, per column and per use. Deny by default; unknown fields are errors.

mod bounds;
mod check;
pub mod file;
mod json;

pub use bounds::{MAX_MIN_ROWS, MAX_WEIGHTS};

use crate::error::{Code, Error, Result};
use crate::schema::Department;
use std::fmt;

/// The parsed `policy.toml` of one department.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Whose rules.
    pub department: Department,
    /// SHA-256 of the canonical JSON ([`Policy::to_json`]), domain-separated: what a consent names.
    pub version: [u8; 32],
    /// Sets of three computing parties that this department accepts. Empty: none.
    pub computing: Vec<[Department; 3]>,
    /// Rules, in the order of the file.
    pub rules: Vec<Rule>,
    /// Levels of columns: (table, column, level); the column `*` stands for those without their own.
    pub levels: Vec<(String, String, Level)>,
    /// An input padded to fewer rows than this is not handed over. 0: no such floor.
    pub min_rows: u64,
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
    /// Its stable name, for example `tax.income.taxable_income/aggregate(sum)`.
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
    /// The purposes, one of which the analyst states word for word; empty: any, or none.
    pub purposes: Vec<String>,
    /// Whether the analyst states the number of a case.
    pub case: bool,
    /// At most how often one row of the table may count in a sum or count after joins repeat it; none
    /// said: what the column's level says ([`Policy::weights`]).
    pub weights: Option<u32>,
}

/// What an analyst says that an answer is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reason<'a> {
    /// The purpose; empty where nothing was said.
    pub purpose: &'a str,
    /// The number of the case; empty where nothing was said.
    pub case: &'a str,
}

impl Rule {
    /// Whether it is for analysts of `home`.
    #[must_use]
    pub fn receives(&self, home: &str) -> bool {
        self.recipients.is_empty() || self.recipients.iter().any(|name| name == home)
    }

    /// What an analyst with this reason would have to say for it, in words; none where all is said.
    #[must_use]
    pub fn unsaid(&self, reason: Reason<'_>) -> Option<String> {
        let mut words = Vec::new();
        let stated = self.purposes.iter().any(|name| name == reason.purpose);
        if !self.purposes.is_empty() && !stated {
            let names: Vec<String> = self.purposes.iter().map(|of| format!("`{of}`")).collect();
            words.push(format!("the purpose {}", names.join(" or ")));
        }
        if self.case && reason.case.trim().is_empty() {
            words.push("a case number".to_owned());
        }
        (!words.is_empty()).then(|| words.join(" and "))
    }
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
    /// MIN: a single value.
    Min,
    /// MAX: a single value.
    Max,
    /// MEDIAN and percentiles: a value, or the mean of two.
    Median,
}

/// The named leakage profiles, from least to most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leakage {
    /// Only declared maximum input sizes.
    None,
    /// Padded input sizes to all; the noisy number of matches to the neutral party.
    Sizes,
}

impl Level {
    /// Its name in files and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::L1 => "L1",
            Self::L2 => "L2",
            Self::L3 => "L3",
            Self::L4 => "L4",
        }
    }

    /// The least k that a rule for such a column can have.
    #[must_use]
    pub fn k_floor(self) -> u32 {
        match self {
            Self::L1 => 1,
            Self::L2 => 3,
            Self::L3 => 5,
            Self::L4 => 10,
        }
    }

    /// The most leakage that a rule for such a column can accept.
    #[must_use]
    pub fn leakage_ceiling(self) -> Leakage {
        match self {
            Self::L1 | Self::L2 => Leakage::Sizes,
            Self::L3 | Self::L4 => Leakage::None,
        }
    }

    /// The level of this name. State secrets (`L5`) have none: they cannot be registered.
    ///
    /// # Errors
    /// What is accepted.
    pub fn from_name(name: &str) -> std::result::Result<Self, String> {
        match name {
            "L1" => Ok(Self::L1),
            "L2" => Ok(Self::L2),
            "L3" => Ok(Self::L3),
            "L4" => Ok(Self::L4),
            "L5" => Err(
                "L5 (state secrets, core data) cannot be registered: remove the column from the catalogue"
                    .to_owned(),
            ),
            other => Err(format!("level `{other}` is not known: use L1, L2, L3 or L4")),
        }
    }
}

impl AggregateFunction {
    /// Its name in files and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::Median => "median",
        }
    }
}

impl Use {
    /// Every use, raw output last.
    pub const ALL: [Self; 12] = [
        Self::JoinKey,
        Self::Filter,
        Self::GroupKey,
        Self::Aggregate(AggregateFunction::Count),
        Self::Aggregate(AggregateFunction::Sum),
        Self::Aggregate(AggregateFunction::Avg),
        Self::Aggregate(AggregateFunction::Min),
        Self::Aggregate(AggregateFunction::Max),
        Self::Aggregate(AggregateFunction::Median),
        Self::Having,
        Self::SortKey,
        Self::Output,
    ];

    /// The use of this name, as [`fmt::Display`] writes it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|each| each.to_string() == name)
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::JoinKey => f.write_str("join_key"),
            Self::Filter => f.write_str("filter"),
            Self::GroupKey => f.write_str("group_key"),
            Self::Aggregate(function) => write!(f, "aggregate({})", function.name()),
            Self::Having => f.write_str("having"),
            Self::SortKey => f.write_str("sort_key"),
            Self::Output => f.write_str("output"),
        }
    }
}

impl Leakage {
    /// Its name in files and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Sizes => "sizes",
        }
    }
}

impl Policy {
    /// The level of a column: its own, else the table's. `L4` for one that is not classified, so
    /// that what nobody has thought about is treated as sensitive.
    #[must_use]
    pub fn level(&self, table: &str, column: &str) -> Level {
        let named = |name: &str| {
            self.levels
                .iter()
                .find(|(t, c, _)| t == table && c == name)
                .map(|(_, _, level)| *level)
        };
        named(column).or_else(|| named("*")).unwrap_or(Level::L4)
    }

    /// The canonical JSON that is published to peers, without the version, which follows from it.
    #[must_use]
    pub fn to_json(&self) -> String {
        json::render(self)
    }

    /// Reads the canonical JSON of a peer, checks it as a file is checked, and computes its version.
    ///
    /// # Errors
    /// [`Code::BadConfig`], naming the rule.
    pub fn from_json(text: &str) -> Result<Self> {
        let policy = json::parse(text)?;
        policy.validate()?;
        Ok(policy)
    }

    /// A policy of these rules, without a floor of rows, with its version.
    ///
    /// # Errors
    /// [`Code::BadConfig`], naming the rule that a level does not allow.
    pub fn new(
        department: Department,
        computing: Vec<[Department; 3]>,
        rules: Vec<Rule>,
        levels: Vec<(String, String, Level)>,
    ) -> Result<Self> {
        let mut policy = Self {
            department,
            version: [0; 32],
            computing,
            rules,
            levels,
            min_rows: 0,
        };
        policy.version = json::version(&policy);
        policy.validate()?;
        Ok(policy)
    }

    /// The invariants of every policy, wherever it came from.
    fn validate(&self) -> Result<()> {
        let wrong = |message: String| {
            Err(Error::new(
                Code::BadConfig,
                format!("policy of {}: {message}", self.department),
            ))
        };
        for set in &self.computing {
            if let Some(problem) = computing_problem(set) {
                return wrong(problem);
            }
        }
        if let Some(problem) = bounds::min_rows_problem(self.min_rows) {
            return wrong(problem);
        }
        for rule in &self.rules {
            if let Some(problem) = self.rule_problem(rule) {
                return wrong(format!("rule {}: {problem}", rule.name));
            }
        }
        Ok(())
    }

    /// What a column's level does not allow about a rule.
    fn rule_problem(&self, rule: &Rule) -> Option<String> {
        if rule.k == 0 {
            return Some("k is at least 1".to_owned());
        }
        if let Some(problem) = rule.purposes.iter().find_map(|of| purpose_problem(of)) {
            return Some(problem);
        }
        if let Some(problem) = bounds::weights_problem(rule) {
            return Some(problem);
        }
        let level = self.rule_level(rule);
        if rule.k < level.k_floor() {
            return Some(format!(
                "k = {} is below {}, the least that level {} allows",
                rule.k,
                level.k_floor(),
                level.name()
            ));
        }
        if rule.leakage > level.leakage_ceiling() {
            return Some(format!(
                "level {} allows leakage = \"{}\" only",
                level.name(),
                level.leakage_ceiling().name()
            ));
        }
        None
    }
}

/// What is wrong with a set of computing parties.
fn computing_problem(set: &[Department; 3]) -> Option<String> {
    let [a, b, c] = set;
    if a == b || b == c || a == c {
        return Some("a computing set names three different departments".to_owned());
    }
    set.iter()
        .find(|name| !crate::catalog::diagnose::is_department_name(name))
        .map(|name| format!("`{name}` in a computing set cannot name a department"))
}

/// The longest purpose or case number, in characters.
pub const MAX_REASON: usize = 200;

/// What is wrong with a purpose in a rule.
fn purpose_problem(purpose: &str) -> Option<String> {
    let good = !purpose.trim().is_empty() && is_reason(purpose);
    (!good).then(|| format!("a purpose has 1 to {MAX_REASON} characters, all of them printable"))
}

/// Whether a text can be a purpose or a case number: short, without characters that control or cannot be
/// seen.
#[must_use]
pub fn is_reason(text: &str) -> bool {
    text.chars().count() <= MAX_REASON && text.chars().all(is_seen)
}

/// Whether a character is neither a control nor one that only formats text (general categories Cc, Cf, Zl, Zp of
/// Unicode, as far as they are in use).
fn is_seen(c: char) -> bool {
    !c.is_control()
        && !matches!(
            c,
            '\u{ad}'
                | '\u{600}'..='\u{605}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}
