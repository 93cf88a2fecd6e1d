//! What the final projection over the table `released` uses its columns for.

use super::expression::{Names, name};
use super::fragment::{only_table, plain_select};
use super::{NotAllowed, parse};
use datafusion::sql::sqlparser::ast::{
    Expr, LimitClause, OrderByKind, SelectItem, Statement, Value,
};
use std::collections::{BTreeMap, BTreeSet};

type Result<T> = std::result::Result<T, NotAllowed>;

/// Uses of the columns `r0, r1, ...` of the table `released`, by position.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReleasedUse {
    /// Conditions on released values (HAVING).
    pub conditions: BTreeSet<usize>,
    /// ORDER BY.
    pub order: BTreeSet<usize>,
    /// Shown to the analyst.
    pub shown: BTreeSet<usize>,
}

/// What `SELECT ... FROM released [WHERE ...] [ORDER BY ...] [LIMIT ...]` uses.
///
/// # Errors
/// The construct that it must not contain.
pub fn released_use(sql: &str) -> Result<ReleasedUse> {
    let statement = parse(sql)?;
    let select = plain_select(&statement)?;
    if only_table(select)? != "released" {
        return Err(NotAllowed::new("a table other than `released`"));
    }
    let names = Names {
        table: "released",
        schema: None,
        released: true,
    };
    let mut found = ReleasedUse::default();
    let mut aliases: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    let mut items = Vec::new();
    for item in &select.projection {
        let (expr, alias) = match item {
            SelectItem::UnnamedExpr(expr) => (expr, None),
            SelectItem::ExprWithAlias { expr, alias } => (expr, Some(name(alias)?)),
            _ => return Err(NotAllowed::new("`*`")),
        };
        let columns = positions(&names.read(expr)?.columns, &BTreeMap::new())?;
        found.shown.extend(&columns);
        if let Some(alias) = alias {
            aliases.insert(alias, columns.clone());
        }
        items.push(columns);
    }
    for condition in select.selection.iter().chain(&select.having) {
        let columns = names.read(condition)?.columns;
        found
            .conditions
            .extend(positions(&columns, &BTreeMap::new())?);
    }
    let Statement::Query(query) = &statement else {
        return Err(NotAllowed::new("a statement other than SELECT"));
    };
    if let Some(order) = &query.order_by {
        let OrderByKind::Expressions(by) = &order.kind else {
            return Err(NotAllowed::new("ORDER BY ALL"));
        };
        for key in by {
            let ordinal = match &key.expr {
                Expr::Value(value) => match &value.value {
                    Value::Number(text, false) => text.parse::<usize>().ok(),
                    _ => None,
                },
                _ => None,
            };
            match ordinal.and_then(|n| n.checked_sub(1)) {
                Some(position) => {
                    let columns = items.get(position).ok_or_else(|| {
                        NotAllowed::new("ORDER BY of an output that is not there")
                    })?;
                    found.order.extend(columns);
                }
                None => {
                    let columns = names.read(&key.expr)?.columns;
                    found.order.extend(positions(&columns, &aliases)?);
                }
            }
        }
    }
    if let Some(limit) = &query.limit_clause {
        let literal = |expr: &Expr| matches!(expr, Expr::Value(value) if matches!(value.value, Value::Number(_, false)));
        let plain = match limit {
            LimitClause::LimitOffset {
                limit,
                offset,
                limit_by,
            } => {
                limit.as_ref().is_none_or(literal)
                    && offset.as_ref().is_none_or(|offset| literal(&offset.value))
                    && limit_by.is_empty()
            }
            LimitClause::OffsetCommaLimit { .. } => false,
        };
        if !plain {
            return Err(NotAllowed::new("a LIMIT that is not a literal"));
        }
    }
    Ok(found)
}

/// Names `r0, r1, ...` to positions; other names only where an alias explains them.
fn positions(
    names: &BTreeSet<String>,
    aliases: &BTreeMap<String, BTreeSet<usize>>,
) -> Result<BTreeSet<usize>> {
    let mut found = BTreeSet::new();
    for name in names {
        if let Some(columns) = aliases.get(name) {
            found.extend(columns);
            continue;
        }
        let position = name
            .strip_prefix('r')
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok());
        match position {
            Some(position) => {
                found.insert(position);
            }
            None => return Err(NotAllowed::new("a column that is not released")),
        }
    }
    Ok(found)
}
