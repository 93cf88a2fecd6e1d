//! The lineage of a fragment.

use super::expression::{Names, RowExpression, function_name, name, plain_arguments};
use super::{Form, NotAllowed, parse};
use crate::catalog::{Published, Table};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArgExpr, GroupByExpr, Select, SelectItem, SetExpr, Statement,
    TableFactor, Value,
};
use std::collections::BTreeSet;

type Result<T> = std::result::Result<T, NotAllowed>;

/// What a fragment computes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FragmentLineage {
    /// The one table that it reads.
    pub table: String,
    /// Its output columns, in order.
    pub outputs: Vec<Derivation>,
    /// Columns that its condition depends on, `column IS NOT NULL` aside.
    pub filtered: BTreeSet<String>,
    /// Columns of which NULLs are dropped by a condition `column IS NOT NULL`.
    pub not_null: BTreeSet<String>,
    /// Whether rows are grouped, by the output columns that are no aggregates.
    pub grouped: bool,
}

/// How an output column comes about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Derivation {
    /// From one row; where the fragment groups, the grouping is by it.
    Row(RowExpression),
    /// `COUNT(*)`.
    CountRows,
    /// `COUNT(argument)`.
    Count(RowExpression),
    /// `NULLIF(COUNT(argument), 0)`.
    CountOrNull(RowExpression),
    /// `SUM(argument)`.
    Sum(RowExpression),
}

impl Derivation {
    /// The columns that it is computed from.
    #[must_use]
    pub fn columns(&self) -> Option<&BTreeSet<String>> {
        match self {
            Self::CountRows => None,
            Self::Row(of) | Self::Count(of) | Self::CountOrNull(of) | Self::Sum(of) => {
                Some(&of.columns)
            }
        }
    }

    /// The column, when the output is one as it is.
    #[must_use]
    pub fn as_column(&self) -> Option<&str> {
        match self {
            Self::Row(of) => of.as_column(),
            _ => None,
        }
    }
}

/// The lineage of somebody's fragment, without knowing the tables.
///
/// # Errors
/// The construct that the grammar does not have.
pub fn parse_fragment(sql: &str) -> Result<FragmentLineage> {
    read(sql, |_| Ok(None))
}

/// The lineage of a fragment of the department whose tables these are.
///
/// # Errors
/// The construct that the grammar does not have; a table or column that does not exist.
pub fn fragment_lineage(sql: &str, tables: &Published) -> Result<FragmentLineage> {
    read(sql, |name| match tables.table(name) {
        Some(table) => Ok(Some(table)),
        None => Err(NotAllowed::new(format!(
            "the table {name}, which {} does not have",
            tables.department
        ))),
    })
}

fn read<'t>(
    sql: &str,
    find: impl Fn(&str) -> Result<Option<&'t Table>>,
) -> Result<FragmentLineage> {
    let statement = parse(sql)?;
    let select = plain_select(&statement)?;
    let table = only_table(select)?;
    let names = Names {
        table: &table,
        schema: find(&table)?,
        released: false,
    };

    let mut filtered = BTreeSet::new();
    let mut not_null = BTreeSet::new();
    if let Some(condition) = &select.selection {
        conjuncts(&names, condition, 0, &mut filtered, &mut not_null)?;
    }

    let mut items = Vec::with_capacity(select.projection.len());
    let mut outputs = Vec::with_capacity(select.projection.len());
    for (position, item) in select.projection.iter().enumerate() {
        let SelectItem::ExprWithAlias { expr, alias } = item else {
            return Err(NotAllowed::new("an output without a name, or `*`"));
        };
        if name(alias)? != format!("c{position}") {
            return Err(NotAllowed::new("outputs not named c0, c1, ... in order"));
        }
        outputs.push(output(&names, expr)?);
        items.push(expr);
    }
    let grouped = grouping(select, &items, &outputs)?;
    only_these_clauses(&statement, select)?;
    Ok(FragmentLineage {
        table,
        outputs,
        filtered,
        not_null,
        grouped,
    })
}

/// The SELECT of a statement that is nothing else.
pub(super) fn plain_select(statement: &Statement) -> Result<&Select> {
    let Statement::Query(query) = statement else {
        return Err(NotAllowed::new("a statement other than SELECT"));
    };
    if query.with.is_some() {
        return Err(NotAllowed::new("WITH"));
    }
    match query.body.as_ref() {
        SetExpr::Select(select) => Ok(select),
        SetExpr::SetOperation { .. } => Err(NotAllowed::new("UNION, INTERSECT or EXCEPT")),
        SetExpr::Query(_) => Err(NotAllowed::new("a subquery")),
        _ => Err(NotAllowed::new("a query without SELECT")),
    }
}

/// The one table of FROM, by its bare name.
pub(super) fn only_table(select: &Select) -> Result<String> {
    let [from] = select.from.as_slice() else {
        return Err(NotAllowed::new("anything but one table"));
    };
    if !from.joins.is_empty() {
        return Err(NotAllowed::new("a join"));
    }
    match &from.relation {
        TableFactor::Table {
            name: path,
            alias: None,
            ..
        } => match path.0.as_slice() {
            [part] => match part.as_ident() {
                Some(ident) => name(ident),
                None => Err(NotAllowed::new("a table of an unusual name")),
            },
            _ => Err(NotAllowed::new("a table of another department")),
        },
        TableFactor::Table { .. } => Err(NotAllowed::new("an alias of the table")),
        TableFactor::Derived { .. } => Err(NotAllowed::new("a subquery")),
        _ => Err(NotAllowed::new("anything but one table")),
    }
}

/// Collects what a condition depends on, `column IS NOT NULL` set apart.
fn conjuncts(
    names: &Names<'_>,
    condition: &Expr,
    depth: usize,
    filtered: &mut BTreeSet<String>,
    not_null: &mut BTreeSet<String>,
) -> Result<()> {
    match condition {
        _ if depth > 256 => return Err(NotAllowed::new("a condition of that depth")),
        Expr::Nested(inner) => conjuncts(names, inner, depth + 1, filtered, not_null)?,
        Expr::BinaryOp {
            left,
            op: BinaryOperator::And,
            right,
        } => {
            conjuncts(names, left, depth + 1, filtered, not_null)?;
            conjuncts(names, right, depth + 1, filtered, not_null)?;
        }
        Expr::IsNotNull(inner) => {
            let of = names.read(inner)?;
            match of.form {
                Form::Column => not_null.extend(of.columns),
                _ => filtered.extend(of.columns),
            }
        }
        other => filtered.extend(names.read(other)?.columns),
    }
    Ok(())
}

fn output(names: &Names<'_>, expr: &Expr) -> Result<Derivation> {
    let Expr::Function(function) = expr else {
        return Ok(Derivation::Row(names.read(expr)?));
    };
    match function_name(function)?.as_str() {
        "count" => match plain_arguments(function)?.as_slice() {
            [FunctionArgExpr::Wildcard] => Ok(Derivation::CountRows),
            [FunctionArgExpr::Expr(argument)] => Ok(Derivation::Count(names.read(argument)?)),
            _ => Err(NotAllowed::new("COUNT of several arguments")),
        },
        "sum" => match plain_arguments(function)?.as_slice() {
            [FunctionArgExpr::Expr(argument)] => Ok(Derivation::Sum(names.read(argument)?)),
            _ => Err(NotAllowed::new("SUM of several arguments")),
        },
        "nullif" => match plain_arguments(function)?.as_slice() {
            [
                FunctionArgExpr::Expr(Expr::Function(count)),
                FunctionArgExpr::Expr(zero),
            ] if function_name(count)? == "count" && is_zero(zero) => {
                match output(names, &Expr::Function(count.clone()))? {
                    Derivation::Count(argument) => Ok(Derivation::CountOrNull(argument)),
                    _ => Err(NotAllowed::new("NULLIF of COUNT(*)")),
                }
            }
            _ => Ok(Derivation::Row(names.read(expr)?)),
        },
        _ => Ok(Derivation::Row(names.read(expr)?)),
    }
}

fn is_zero(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(&value.value, Value::Number(text, false) if text == "0"))
}

/// Whether the fragment groups: then by exactly its outputs that are no aggregates.
fn grouping(select: &Select, items: &[&Expr], outputs: &[Derivation]) -> Result<bool> {
    let GroupByExpr::Expressions(by, modifiers) = &select.group_by else {
        return Err(NotAllowed::new("GROUP BY ALL"));
    };
    if !modifiers.is_empty() {
        return Err(NotAllowed::new("GROUP BY with a modifier"));
    }
    let is_row = |output: &Derivation| matches!(output, Derivation::Row(_));
    if by.is_empty() {
        return if outputs.iter().all(is_row) {
            Ok(false)
        } else {
            Err(NotAllowed::new("an aggregate without GROUP BY"))
        };
    }
    let mut grouped = BTreeSet::new();
    for expr in by {
        let position = match expr {
            Expr::Value(value) => match &value.value {
                Value::Number(text, false) => {
                    text.parse::<usize>().ok().and_then(|n| n.checked_sub(1))
                }
                _ => None,
            },
            _ => items.iter().position(|item| *item == expr),
        };
        match position {
            Some(position) if outputs.get(position).is_some_and(is_row) => {
                grouped.insert(position);
            }
            _ => return Err(NotAllowed::new("GROUP BY of something that is no output")),
        }
    }
    // Equal outputs are one grouping expression.
    let covered = outputs.iter().enumerate().all(|(position, output)| {
        !is_row(output)
            || grouped.contains(&position)
            || grouped.iter().any(|other| items[*other] == items[position])
            || matches!(output, Derivation::Row(of) if of.form == Form::Constant)
    });
    if covered {
        Ok(true)
    } else {
        Err(NotAllowed::new(
            "an output that is neither grouped by nor an aggregate",
        ))
    }
}

/// Refuses every clause but these, known or unknown to us: the statement must read exactly as the
/// parts that were looked at.
fn only_these_clauses(statement: &Statement, select: &Select) -> Result<()> {
    use std::fmt::Write as _;
    let list = |items: Vec<String>| items.join(", ");
    let mut expected = format!(
        "SELECT {} FROM {}",
        list(select.projection.iter().map(ToString::to_string).collect()),
        list(
            select
                .from
                .iter()
                .map(|from| match &from.relation {
                    TableFactor::Table { name, .. } => name.to_string(),
                    _ => String::new(),
                })
                .collect()
        ),
    );
    if let Some(condition) = &select.selection {
        let _ = write!(expected, " WHERE {condition}");
    }
    if let GroupByExpr::Expressions(by, _) = &select.group_by
        && !by.is_empty()
    {
        let by = list(by.iter().map(ToString::to_string).collect());
        let _ = write!(expected, " GROUP BY {by}");
    }
    if statement.to_string() == expected {
        Ok(())
    } else {
        Err(NotAllowed::new(
            "a clause other than SELECT, FROM, WHERE and GROUP BY",
        ))
    }
}
