//! Which rule permits a use of a column, and what would be permitted instead.

use super::Me;
use super::uses::Asked;
use crate::catalog::Published;
use crate::error::Denial;
use crate::policy::{AggregateFunction, Leakage, Policy, Rule, Use};
use std::collections::{BTreeMap, BTreeSet};

/// What the rules of one department ask of a plan that they permit.
#[derive(Debug, Default)]
pub(super) struct Granted {
    /// The threshold that all of them need.
    pub(super) k: u32,
    /// The rule that needs that threshold.
    pub(super) names: String,
    /// Rule, and what it is needed for.
    pub(super) rules: Vec<(String, String)>,
    /// The threshold of each table.
    pub(super) tables: BTreeMap<String, Needed>,
}

/// The least number of units that a table needs, and the rule that asks for it.
#[derive(Debug, Clone, Default)]
pub(super) struct Needed {
    pub(super) k: u32,
    pub(super) rule: String,
}

/// The rules for a use of a column: its own, or else those that the table has for every column.
/// A column with a rule of its own for a use does not take the table's.
#[must_use]
pub fn rules_for<'a>(policy: &'a Policy, table: &str, column: &str, what: &Use) -> Vec<&'a Rule> {
    policy.rules_for(table, column, what)
}

/// Looks for a rule for every use. `sizes` says whether the plan shows padded sizes.
pub(super) fn decide(
    asked: &BTreeSet<Asked>,
    tables: &BTreeSet<&str>,
    me: &Me<'_>,
    policy: &Policy,
    sizes: bool,
    denials: &mut Vec<Denial>,
) -> Granted {
    let mut granted = Granted::default();
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut refused: Vec<(u8, Denial)> = Vec::new();
    let mut need = |table: &str, k: u32, name: &str| {
        if k > granted.k {
            granted.k = k;
            name.clone_into(&mut granted.names);
        }
        let own = granted.tables.entry(table.to_owned()).or_default();
        if k > own.k {
            own.k = k;
            name.clone_into(&mut own.rule);
        }
    };
    for of in asked {
        let column = format!("{}.{}.{}", me.department, of.table, of.column);
        let level = policy.level(&of.table, &of.column);
        need(
            &of.table,
            level.k_floor(),
            &format!("{column}: level {}", level.name()),
        );
        let candidates = rules_for(policy, &of.table, &of.column, &of.what);
        let for_home: Vec<&Rule> = candidates
            .iter()
            .copied()
            .filter(|rule| rule.receives(me.home))
            .collect();
        let stated: Vec<&Rule> = for_home
            .iter()
            .copied()
            .filter(|rule| rule.unsaid(me.reason).is_none())
            .collect();
        let leakage_fits = |rule: &&Rule| !sizes || rule.leakage == Leakage::Sizes;
        let permits = stated
            .iter()
            .copied()
            .filter(leakage_fits)
            .min_by_key(|rule| rule.k)
            .filter(|_| !sizes || level.leakage_ceiling() == Leakage::Sizes);
        let deny = |rule: String, asked: String, alternative: String| {
            let denial = Denial {
                department: me.department.to_owned(),
                rule,
                column: column.clone(),
                asked,
                alternative,
            };
            (rank(&of.what), denial)
        };
        if let Some(rule) = permits {
            need(&of.table, rule.k, &rule.name);
            used.entry(rule.name.clone())
                .or_default()
                .insert(of.what.to_string());
        } else if let Some((rule, unsaid)) = unstated(&stated, &for_home, me) {
            refused.push(deny(
                rule.name.clone(),
                format!("{} of {column} without {unsaid}", of.what),
                format!("{} with {unsaid}, stated before the query", of.what),
            ));
        } else if let Some(rule) = stated.first() {
            let rule = if leakage_fits(rule) {
                format!("{column}: level {}", level.name())
            } else {
                rule.name.clone()
            };
            refused.push(deny(
                rule,
                format!("{} of {column} with leakage `sizes`", of.what),
                format!("{} by a plan with leakage `none` (oblivious join)", of.what),
            ));
        } else if let Some(rule) = candidates.first() {
            refused.push(deny(
                rule.name.clone(),
                format!("{} of {column} for {}", of.what, me.home),
                format!(
                    "{} for analysts of {}",
                    of.what,
                    recipients(&candidates).join(", ")
                ),
            ));
        } else {
            refused.push(deny(
                format!("{column}: no rule allows {}", of.what),
                format!("{} of {column}", of.what),
                alternative(policy, me, of),
            ));
        }
    }
    refused.sort_by_key(|(rank, _)| *rank);
    denials.extend(refused.into_iter().map(|(_, denial)| denial));
    for table in tables {
        if !asked.iter().any(|of| of.table == *table) {
            rows_alone(table, me, policy, sizes, &mut need, &mut used, denials);
        }
    }
    granted.rules = used
        .into_iter()
        .map(|(rule, what)| (rule, what.into_iter().collect::<Vec<_>>().join(", ")))
        .collect();
    granted
}

/// The least number of units for each table, by the rules that fit, whatever is said of purpose and case.
pub(super) fn thresholds(
    asked: &BTreeSet<Asked>,
    tables: &BTreeSet<String>,
    home: &str,
    policy: &Policy,
    sizes: bool,
) -> BTreeMap<String, u32> {
    let mut needed: BTreeMap<String, u32> = BTreeMap::new();
    for table in tables {
        let mut k = 1;
        let mut used = false;
        for of in asked.iter().filter(|of| of.table == *table) {
            used = true;
            k = k.max(policy.level(&of.table, &of.column).k_floor());
            let rules = rules_for(policy, &of.table, &of.column, &of.what);
            let fit = rules
                .into_iter()
                .filter(|rule| rule.receives(home))
                .filter(|rule| !sizes || rule.leakage == Leakage::Sizes);
            k = k.max(fit.map(|rule| rule.k).min().unwrap_or(1));
        }
        if !used {
            let rules = policy.rules.iter().filter(|rule| rule.table == *table);
            k = k.max(rules.map(|rule| rule.k).max().unwrap_or(1));
        }
        needed.insert(table.clone(), k);
    }
    needed
}

/// `COUNT(*)` of a table uses no column: it is held to every rule of the table.
fn rows_alone(
    table: &str,
    me: &Me<'_>,
    policy: &Policy,
    sizes: bool,
    need: &mut impl FnMut(&str, u32, &str),
    used: &mut BTreeMap<String, BTreeSet<String>>,
    denials: &mut Vec<Denial>,
) {
    let of_table: Vec<&Rule> = policy
        .rules
        .iter()
        .filter(|rule| rule.table == table)
        .collect();
    let deny = |rule: String, alternative: String| Denial {
        department: me.department.to_owned(),
        rule,
        column: String::new(),
        asked: format!("a count of the rows of {}.{table}", me.department),
        alternative,
    };
    if !of_table.iter().any(|rule| rule.receives(me.home)) {
        denials.push(deny(
            format!("{}.{table}: no rule for {}", me.department, me.home),
            "nothing: the table has no rule for this department's analysts".to_owned(),
        ));
        return;
    }
    let mut unstated = of_table
        .iter()
        .filter_map(|rule| Some((rule, rule.unsaid(me.reason)?)));
    if let Some((rule, unsaid)) = unstated.next() {
        denials.push(deny(
            rule.name.clone(),
            format!("the same with {unsaid}, stated before the query"),
        ));
        return;
    }
    if let Some(rule) = of_table
        .iter()
        .find(|rule| sizes && rule.leakage == Leakage::None)
    {
        denials.push(deny(
            rule.name.clone(),
            "the same by a plan with leakage `none`".to_owned(),
        ));
        return;
    }
    for rule in of_table {
        need(table, rule.k, &rule.name);
    }
    used.entry(format!("{}.{table}: every rule", me.department))
        .or_default()
        .insert("count of rows".to_owned());
}

/// The rule that would permit a use if more were said, and what; none where one permits it as it is.
fn unstated<'r>(
    stated: &[&'r Rule],
    for_home: &[&'r Rule],
    me: &Me<'_>,
) -> Option<(&'r Rule, String)> {
    let rule = for_home.first().filter(|_| stated.is_empty())?;
    Some((rule, rule.unsaid(me.reason)?))
}

/// The order in which refusals are told: what is nearest to raw data first.
fn rank(what: &Use) -> u8 {
    match what {
        Use::Output => 0,
        Use::GroupKey => 1,
        Use::Aggregate(_) => 2,
        Use::Having => 3,
        Use::SortKey => 4,
        Use::Filter => 5,
        Use::JoinKey => 6,
    }
}

fn recipients(rules: &[&Rule]) -> Vec<String> {
    let all: BTreeSet<&str> = rules
        .iter()
        .flat_map(|rule| rule.recipients.iter().map(String::as_str))
        .collect();
    all.into_iter().map(str::to_owned).collect()
}

/// What the rules would allow with the column, in words.
fn alternative(policy: &Policy, me: &Me<'_>, of: &Asked) -> String {
    let allowed = allowed(policy, &of.table, &of.column, me.home);
    let average = rules_for(
        policy,
        &of.table,
        &of.column,
        &Use::Aggregate(AggregateFunction::Avg),
    );
    let part = matches!(
        of.what,
        Use::Aggregate(AggregateFunction::Sum | AggregateFunction::Count)
    );
    if part && !average.is_empty() {
        return format!(
            "{allowed}; an average is released as its sum and count, so it needs \
             aggregate(sum, count) too"
        );
    }
    allowed
}

/// What is allowed with a column for analysts of `home`: uses with their thresholds, in words.
#[must_use]
pub fn allowed(policy: &Policy, table: &str, column: &str, home: &str) -> String {
    let k_of = |what: &Use| {
        rules_for(policy, table, column, what)
            .into_iter()
            .filter(|rule| rule.receives(home))
            .map(|rule| rule.k)
            .min()
    };
    let mut words = Vec::new();
    let mut by_k: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for function in [
        AggregateFunction::Sum,
        AggregateFunction::Avg,
        AggregateFunction::Count,
        AggregateFunction::Min,
        AggregateFunction::Max,
        AggregateFunction::Median,
    ] {
        if let Some(k) = k_of(&Use::Aggregate(function)) {
            by_k.entry(k).or_default().push(function.name());
        }
    }
    for (k, functions) in by_k {
        words.push(format!("aggregate({}) with k = {k}", functions.join(", ")));
    }
    for what in [
        Use::GroupKey,
        Use::Filter,
        Use::JoinKey,
        Use::Having,
        Use::SortKey,
        Use::Output,
    ] {
        if let Some(k) = k_of(&what) {
            words.push(format!("{what} with k = {k}"));
        }
    }
    if !words.is_empty() {
        return words.join(", ");
    }
    let others = policy
        .rules
        .iter()
        .any(|rule| rule.table == table && (rule.column == column || rule.column == "*"));
    if others {
        format!("nothing for analysts of {home}")
    } else {
        "nothing: the column has no rule".to_owned()
    }
}

/// Why an owner does not let raw values of these columns, as (table, column), out: the refusal of
/// the first for which no rule permits `output` to analysts of `home`. None where all are permitted.
#[must_use]
pub fn row_output_denial(
    home: &str,
    catalog: &Published,
    policy: Option<&Policy>,
    columns: &[(String, String)],
) -> Option<Denial> {
    columns.iter().find_map(|(table, column)| {
        let permits = policy.is_some_and(|policy| {
            rules_for(policy, table, column, &Use::Output)
                .into_iter()
                .any(|rule| rule.receives(home))
        });
        if permits {
            return None;
        }
        let full = format!("{}.{table}.{column}", catalog.department);
        Some(Denial {
            department: catalog.department.clone(),
            rule: format!("{full}: no rule allows output"),
            column: full.clone(),
            asked: format!("output of {full}"),
            alternative: policy.map_or_else(
                || "nothing: the column has no rule".to_owned(),
                |policy| allowed(policy, table, column, home),
            ),
        })
    })
}
