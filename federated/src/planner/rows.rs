//! A query that asks for raw rows: refused by the rules of the owner where they do not allow
//! `output`, and not plannable yet where they do.

use super::Request;
use super::block::Block;
use super::columns;
use super::rules;
use super::text::Query;
use crate::catalog::{Column, Table};
use crate::error::{Denial, Error};
use crate::policy::{AggregateFunction, Policy, Use};
use crate::schema::ScalarType;

/// Why rows of one block cannot be had.
pub(super) fn refuse(request: &Request<'_>, query: &Query, block: &Block) -> Error {
    let shown = block
        .projection
        .iter()
        .flat_map(columns::base_columns)
        .filter_map(|id| {
            let relation = block.relations.get(id.relation)?;
            Some((relation.department.as_str(), &relation.table, id.column))
        });
    denied(request, query, &shown.collect::<Vec<_>>()).unwrap_or_else(|| {
        query.unsupported(
            "raw rows in the result: use GROUP BY or an aggregate",
            &["SELECT"],
        )
    })
}

/// The refusal of raw values of these columns by their owners' rules; none where all allow `output`.
pub(super) fn denied(
    request: &Request<'_>,
    query: &Query,
    shown: &[(&str, &Table, usize)],
) -> Option<Error> {
    let mut denials = Vec::new();
    for (department, of, at) in shown {
        let Some(column) = of.columns.get(*at) else {
            continue;
        };
        let table = &of.name;
        let policy = request
            .federation
            .member(department)
            .and_then(|member| member.policy.as_ref());
        let permitted = policy.is_some_and(|policy| {
            !rules::matching(policy, table, &column.name, &Use::Output, request.home).is_empty()
        });
        if permitted {
            continue;
        }
        let error = Error::denied(Denial {
            department: (*department).to_owned(),
            rule: format!(
                "{department}.{table}.{}: no rule allows output",
                column.name
            ),
            column: format!("{department}.{table}.{}", column.name),
            asked: format!("output of {}.{}", table, column.name),
            alternative: alternative(policy, table, column, request.home),
        });
        denials.push(match query.find_column(None, &column.name) {
            Some((line, column)) => error.position(line, column),
            None => error,
        });
    }
    // The one that says most about what to do instead.
    let helpful = denials.iter().position(|error| {
        let denial = error.denial.as_ref();
        denial.is_some_and(|denial| denial.alternative.starts_with("aggregate(sum"))
    });
    match denials.is_empty() {
        true => None,
        false => Some(denials.swap_remove(helpful.unwrap_or(0))),
    }
}

/// What the rules would allow with a column, in words.
fn alternative(policy: Option<&Policy>, table: &str, of: &Column, home: &str) -> String {
    let column = of.name.as_str();
    let number = matches!(of.data_type, ScalarType::Int64 | ScalarType::Decimal { .. });
    let Some(policy) = policy else {
        return "nothing: its department publishes no rules".to_owned();
    };
    let mut functions = Vec::new();
    let mut k = 1;
    for function in [
        AggregateFunction::Sum,
        AggregateFunction::Avg,
        AggregateFunction::Count,
    ] {
        let rules = rules::matching(policy, table, column, &Use::Aggregate(function), home);
        if !rules.is_empty() && (number || function == AggregateFunction::Count) {
            functions.push(function.name());
            k = rules.iter().fold(k, |k, rule| k.max(rule.k));
        }
    }
    let mut allowed = Vec::new();
    if !functions.is_empty() {
        allowed.push(format!("aggregate({}) with k = {k}", functions.join(", ")));
    }
    for (asked, words) in [
        (Use::GroupKey, "group_key"),
        (Use::JoinKey, "join_key"),
        (Use::Filter, "filter"),
    ] {
        let rules = rules::matching(policy, table, column, &asked, home);
        if let Some(k) = rules.iter().map(|rule| rule.k).max() {
            allowed.push(format!("{words} with k = {k}"));
        }
    }
    if allowed.is_empty() {
        "nothing: the column has no rule".to_owned()
    } else {
        allowed.join(", ")
    }
}
