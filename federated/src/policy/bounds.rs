//! Bounds that rules set beside k: how often one row may count, and the least size of an input.
//!
//! It must not know of plans: who counts rows and pads inputs asks here for the bound.

use super::{AggregateFunction, Level, Policy, Rule, Use};

/// The greatest `weights` of a rule, the most partners that a join gives a row.
pub const MAX_WEIGHTS: u32 = 64;
/// The greatest `min_rows` of a policy, as that of `max_rows` in a catalogue.
pub const MAX_MIN_ROWS: u64 = 1 << 40;

impl Level {
    /// At most how often one row may count where a rule does not say `weights`; none: no bound.
    #[must_use]
    pub fn weights(self) -> Option<u32> {
        match self {
            Self::L1 => None,
            Self::L2 => Some(64),
            Self::L3 => Some(8),
            Self::L4 => Some(1),
        }
    }
}

impl Policy {
    /// The rules for a use of a column: its own, or else those that the table has for every column.
    /// A column with a rule of its own for a use does not take the table's.
    #[must_use]
    pub fn rules_for(&self, table: &str, column: &str, what: &Use) -> Vec<&Rule> {
        let named = |name: &str| -> Vec<&Rule> {
            self.rules
                .iter()
                .filter(|rule| rule.table == table && rule.column == name && rule.permits == *what)
                .collect()
        };
        let own = named(column);
        if own.is_empty() { named("*") } else { own }
    }

    /// At most how often one row may count by this rule in a sum or count of `column`, which is the
    /// rule's own or, of a rule for `*`, any of its table. None: no bound.
    #[must_use]
    pub fn rule_weights(&self, rule: &Rule, column: &str) -> Option<u32> {
        rule.weights.or_else(|| {
            let level = if column == "*" {
                self.rule_level(rule)
            } else {
                self.level(&rule.table, column)
            };
            level.weights()
        })
    }

    /// At most how often one row of the table may count in this use of a column: the least bound of
    /// the rules that could permit it, so that it holds by whichever is taken. The column `*` stands
    /// for `COUNT(*)`, which is held to every rule of the table. None: no bound.
    #[must_use]
    pub fn weights(&self, table: &str, column: &str, what: &Use) -> Option<u32> {
        if column == "*" {
            let rules = self.rules.iter().filter(|rule| rule.table == table);
            let rules: Vec<&Rule> = rules.collect();
            if rules.is_empty() {
                return self.table_level(table).weights();
            }
            return rules
                .into_iter()
                .filter_map(|rule| self.rule_weights(rule, &rule.column))
                .min();
        }
        let rules = self.rules_for(table, column, what);
        if rules.is_empty() {
            return self.level(table, column).weights();
        }
        rules
            .into_iter()
            .filter_map(|rule| self.rule_weights(rule, column))
            .min()
    }

    /// The level that a rule is held to. One for `*` reaches every column of its table, the most
    /// sensitive one too.
    pub(super) fn rule_level(&self, rule: &Rule) -> Level {
        if rule.column == "*" {
            self.table_level(&rule.table)
        } else {
            self.level(&rule.table, &rule.column)
        }
    }

    /// The level of a table's most sensitive column.
    fn table_level(&self, table: &str) -> Level {
        self.levels
            .iter()
            .filter(|(of, _, _)| of == table)
            .map(|(_, _, level)| *level)
            .max()
            .unwrap_or(Level::L4)
    }
}

/// What is wrong with the `weights` of a rule.
pub(super) fn weights_problem(rule: &Rule) -> Option<String> {
    let weights = rule.weights?;
    if !(1..=MAX_WEIGHTS).contains(&weights) {
        return Some(format!(
            "weights = {weights} is not 1 to {MAX_WEIGHTS}, how often one row may count"
        ));
    }
    let counts = matches!(
        rule.permits,
        Use::Aggregate(AggregateFunction::Count | AggregateFunction::Sum | AggregateFunction::Avg)
    );
    (!counts).then(|| {
        "`weights` is for aggregates of count, sum and avg: write those functions in a rule of their own"
            .to_owned()
    })
}

/// What is wrong with the `min_rows` of a policy.
pub(super) fn min_rows_problem(min_rows: u64) -> Option<String> {
    (min_rows > MAX_MIN_ROWS).then(|| format!("`min_rows` is at most {MAX_MIN_ROWS}"))
}
