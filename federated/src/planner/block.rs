//! The engine's logical plan to one normalised query block: tables, conditions, groups, aggregates,
//! and what is done with them afterwards.
//!
//! Projections, aliases and derived tables disappear: every expression is over base columns (below
//! the aggregate) or over groups and aggregates (above it).

use super::Federation;
use super::columns::{
    CELL, ColumnId, GROUP, base_column, base_columns, column_expr, reference, split,
};
use super::sql::Typed;
use super::text::Query;
use crate::catalog::Table;
use crate::error::{Code, Error, Result};
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, JoinType};
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::{
    BinaryExpr, Distinct, Expr, ExprSchemable, FetchType, LogicalPlan, Operator, SkipType,
};

/// The most tables in one query.
const MAX_RELATIONS: usize = 6;
/// The most departments with data in one query.
const MAX_OWNERS: usize = 3;

/// A table of the query.
#[derive(Debug, Clone)]
pub(super) struct Relation {
    /// Whose.
    pub(super) department: String,
    /// As published.
    pub(super) table: Table,
}

impl Relation {
    /// `department.table`.
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.department, self.table.name)
    }
}

/// An aggregate function that the query supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    CountRows,
    Count,
    Sum,
    Avg,
}

/// One aggregate of the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) function: Function,
    /// Over base columns; none for COUNT(*).
    pub(super) argument: Option<Expr>,
    /// What the engine returns.
    pub(super) data_type: DataType,
}

/// An ORDER BY item over groups and aggregates.
#[derive(Debug, Clone)]
pub(super) struct SortItem {
    pub(super) expr: Expr,
    pub(super) ascending: bool,
    pub(super) nulls_first: bool,
}

/// A normalised query.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) relations: Vec<Relation>,
    /// WHERE and ON, split at AND, over base columns.
    pub(super) conjuncts: Vec<Expr>,
    /// Whether rows are grouped or aggregated at all.
    pub(super) aggregated: bool,
    pub(super) groups: Vec<ColumnId>,
    pub(super) calls: Vec<Call>,
    /// HAVING, split at AND, over groups and cells.
    pub(super) having: Vec<Expr>,
    /// SELECT DISTINCT over aggregates.
    pub(super) distinct: bool,
    pub(super) sort: Vec<SortItem>,
    pub(super) skip: usize,
    pub(super) fetch: Option<usize>,
    limited: bool,
    /// SELECT: over groups and cells if aggregated, over base columns otherwise.
    pub(super) projection: Vec<Expr>,
    /// Names, types and nullability of the result.
    pub(super) output: Vec<(String, DataType, bool)>,
}

/// Normalises a typed query.
pub(super) fn normalise(query: &Query, typed: &Typed, federation: &Federation) -> Result<Block> {
    let mut builder = Builder {
        query,
        federation,
        block: Block::default(),
    };
    let projection = builder.resolve(&typed.plan)?;
    let mut block = builder.block;
    block.projection = projection;
    block.output.clone_from(&typed.output);
    if block.relations.is_empty() {
        return Err(query.unsupported("a query without a table", &["SELECT"]));
    }
    let mut owners: Vec<&str> = block
        .relations
        .iter()
        .map(|relation| relation.department.as_str())
        .collect();
    owners.sort_unstable();
    owners.dedup();
    if owners.len() > MAX_OWNERS {
        return Err(query.unsupported(
            &format!("tables of more than {MAX_OWNERS} departments in one query"),
            &[],
        ));
    }
    Ok(block)
}

struct Builder<'a> {
    query: &'a Query,
    federation: &'a Federation,
    block: Block,
}

impl Builder<'_> {
    /// What each output column of a plan stands for.
    fn resolve(&mut self, plan: &LogicalPlan) -> Result<Vec<Expr>> {
        match plan {
            LogicalPlan::Projection(projection) => {
                let inner = self.resolve(&projection.input)?;
                projection
                    .expr
                    .iter()
                    .map(|expr| self.substitute(expr, projection.input.schema(), &inner))
                    .collect()
            }
            LogicalPlan::SubqueryAlias(alias) => self.resolve(&alias.input),
            LogicalPlan::TableScan(scan) => {
                self.scan(scan.table_name.schema(), scan.table_name.table())
            }
            LogicalPlan::Filter(filter) => {
                let inner = self.resolve(&filter.input)?;
                let predicate =
                    self.substitute(&filter.predicate, filter.input.schema(), &inner)?;
                self.not_after(!self.block.sort.is_empty() || self.block.limited, "WHERE")?;
                self.not_after(self.block.distinct, "WHERE")?;
                let parts = split(predicate, Operator::And);
                if self.block.aggregated {
                    self.block.having.extend(parts);
                } else {
                    self.block.conjuncts.extend(parts);
                }
                Ok(inner)
            }
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Sort(sort) => {
                let inner = self.resolve(&sort.input)?;
                self.not_after(self.block.limited, "ORDER BY")?;
                self.block.sort.clear();
                for item in &sort.expr {
                    let expr = self.substitute(&item.expr, sort.input.schema(), &inner)?;
                    self.block.sort.push(SortItem {
                        expr,
                        ascending: item.asc,
                        nulls_first: item.nulls_first,
                    });
                }
                Ok(inner)
            }
            LogicalPlan::Limit(limit) => {
                let inner = self.resolve(&limit.input)?;
                self.not_after(self.block.limited, "LIMIT")?;
                let constant = |_| {
                    self.query
                        .unsupported("LIMIT or OFFSET that is not a number", &["LIMIT", "OFFSET"])
                };
                match (
                    limit.get_skip_type().map_err(constant)?,
                    limit.get_fetch_type().map_err(constant)?,
                ) {
                    (SkipType::Literal(skip), FetchType::Literal(fetch)) => {
                        self.block.skip = skip;
                        self.block.fetch = fetch;
                    }
                    _ => {
                        return Err(self.query.unsupported(
                            "LIMIT or OFFSET that is not a number",
                            &["LIMIT", "OFFSET"],
                        ));
                    }
                }
                self.block.limited = true;
                Ok(inner)
            }
            LogicalPlan::Distinct(Distinct::All(input)) => self.distinct(input),
            other => Err(self.refuse_node(other)),
        }
    }

    fn refuse_node(&self, plan: &LogicalPlan) -> Error {
        let (construct, words): (&str, &[&str]) = match plan {
            LogicalPlan::Window(_) => ("a window function", &["OVER"]),
            LogicalPlan::Union(_) => ("UNION", &["UNION"]),
            LogicalPlan::Distinct(_) => ("DISTINCT ON", &["DISTINCT"]),
            LogicalPlan::EmptyRelation(_) => ("a query without a table", &["SELECT"]),
            LogicalPlan::Values(_) => ("VALUES", &["VALUES"]),
            LogicalPlan::Unnest(_) => ("UNNEST", &["UNNEST"]),
            LogicalPlan::Subquery(_) => ("LATERAL", &["LATERAL"]),
            _ => ("a construct of this query", &[]),
        };
        self.query.unsupported(construct, words)
    }

    fn not_after(&self, condition: bool, word: &str) -> Result<()> {
        if condition {
            return Err(self.query.unsupported(
                &format!("{word} over a subquery with DISTINCT, ORDER BY or LIMIT"),
                &[word],
            ));
        }
        Ok(())
    }

    fn scan(&mut self, department: Option<&str>, table: &str) -> Result<Vec<Expr>> {
        let department = department.unwrap_or_default();
        let published = self
            .federation
            .member(department)
            .and_then(|member| member.catalog.as_ref())
            .and_then(|catalog| catalog.table(table))
            .ok_or_else(|| Error::new(Code::UnknownTable, "there is no such table"))?;
        let twice = self
            .block
            .relations
            .iter()
            .any(|known| known.department == department && known.table.name == table);
        if twice {
            let error = self.query.unsupported(
                &format!("the table {department}.{table} twice in one query"),
                &[],
            );
            return Err(match self.query.find(table, 2) {
                Some((line, column)) => error.position(line, column),
                None => error,
            });
        }
        let relation = self.block.relations.len();
        if relation == MAX_RELATIONS {
            return Err(self
                .query
                .unsupported(&format!("more than {MAX_RELATIONS} tables"), &[]));
        }
        self.block.relations.push(Relation {
            department: department.to_owned(),
            table: published.clone(),
        });
        Ok((0..published.columns.len())
            .map(|column| column_expr(ColumnId { relation, column }))
            .collect())
    }

    fn join(&mut self, join: &datafusion::logical_expr::Join) -> Result<Vec<Expr>> {
        let words: &[&str] = match join.join_type {
            JoinType::Inner => &[],
            JoinType::Left => &["LEFT"],
            JoinType::Right => &["RIGHT"],
            JoinType::Full => &["FULL"],
            _ => &["SEMI", "ANTI"],
        };
        if let Some(word) = words.first() {
            return Err(self.query.unsupported(
                &format!("{word} JOIN: only inner joins with equality"),
                words,
            ));
        }
        let mut columns = self.resolve(&join.left)?;
        let left = self.block.aggregated || self.block.limited;
        let right = self.resolve(&join.right)?;
        if left || self.block.aggregated || self.block.limited {
            return Err(self.query.unsupported(
                "a join with a subquery that aggregates or limits",
                &["JOIN"],
            ));
        }
        self.block.sort.clear();
        for (a, b) in &join.on {
            let a = self.substitute(a, join.left.schema(), &columns)?;
            let b = self.substitute(b, join.right.schema(), &right)?;
            self.block.conjuncts.push(Expr::BinaryExpr(BinaryExpr::new(
                Box::new(a),
                Operator::Eq,
                Box::new(b),
            )));
        }
        columns.extend(right);
        if let Some(filter) = &join.filter {
            let filter = self.substitute(filter, &join.schema, &columns)?;
            self.block.conjuncts.extend(split(filter, Operator::And));
        }
        Ok(columns)
    }

    fn distinct(&mut self, input: &LogicalPlan) -> Result<Vec<Expr>> {
        let inner = self.resolve(input)?;
        self.not_after(
            !self.block.sort.is_empty() || self.block.limited,
            "DISTINCT",
        )?;
        if self.block.aggregated {
            self.block.distinct = true;
            return Ok(inner);
        }
        let mut output = Vec::with_capacity(inner.len());
        for expr in &inner {
            let group = self.group(expr)?;
            output.push(group);
        }
        self.block.aggregated = true;
        Ok(output)
    }

    /// The reference to the group of a column, which becomes a group key.
    fn group(&mut self, expr: &Expr) -> Result<Expr> {
        let Some(id) = base_column(expr) else {
            return Err(self.query.unsupported(
                "GROUP BY or DISTINCT over an expression: use a column",
                &["GROUP", "DISTINCT"],
            ));
        };
        let index = match self.block.groups.iter().position(|known| *known == id) {
            Some(index) => index,
            None => {
                self.block.groups.push(id);
                self.block.groups.len() - 1
            }
        };
        Ok(reference(GROUP, index))
    }

    fn aggregate(&mut self, aggregate: &datafusion::logical_expr::Aggregate) -> Result<Vec<Expr>> {
        let inner = self.resolve(&aggregate.input)?;
        if self.block.aggregated || self.block.limited {
            return Err(self
                .query
                .unsupported("an aggregate over a subquery that aggregates", &["FROM"]));
        }
        // An order below an aggregate decides nothing.
        self.block.sort.clear();
        let mut output = Vec::new();
        for expr in &aggregate.group_expr {
            if matches!(expr, Expr::GroupingSet(_)) {
                return Err(self.query.unsupported(
                    "GROUPING SETS, CUBE or ROLLUP",
                    &["GROUPING", "CUBE", "ROLLUP"],
                ));
            }
            let expr = self.substitute(expr, aggregate.input.schema(), &inner)?;
            output.push(self.group(&expr)?);
        }
        for (position, expr) in aggregate.aggr_expr.iter().enumerate() {
            let field = aggregate
                .schema
                .field(aggregate.group_expr.len() + position);
            let (function, argument) = self.call(expr, aggregate.input.schema(), &inner)?;
            let call = Call {
                function,
                argument,
                data_type: field.data_type().clone(),
            };
            let index = match self.block.calls.iter().position(|known| *known == call) {
                Some(index) => index,
                None => {
                    self.block.calls.push(call);
                    self.block.calls.len() - 1
                }
            };
            output.push(reference(CELL, index));
        }
        self.block.aggregated = true;
        Ok(output)
    }

    fn call(
        &self,
        expr: &Expr,
        schema: &DFSchema,
        inner: &[Expr],
    ) -> Result<(Function, Option<Expr>)> {
        let mut expr = expr;
        while let Expr::Alias(alias) = expr {
            expr = &alias.expr;
        }
        let Expr::AggregateFunction(AggregateFunction { func, params }) = expr else {
            return Err(self.query.unsupported("an aggregate of this query", &[]));
        };
        let name = func.name();
        if params.distinct {
            return Err(self.query.unsupported(
                &format!("{}(DISTINCT ...)", name.to_uppercase()),
                &["DISTINCT"],
            ));
        }
        if params.filter.is_some() {
            return Err(self.query.unsupported("FILTER", &["FILTER"]));
        }
        if !params.order_by.is_empty() || params.null_treatment.is_some() {
            return Err(self
                .query
                .unsupported("ORDER BY inside an aggregate", &[name]));
        }
        let [argument] = params.args.as_slice() else {
            return Err(self.query.unsupported(
                &format!("{} of several columns", name.to_uppercase()),
                &[name],
            ));
        };
        let never_null = argument.nullable(schema).is_ok_and(|nullable| !nullable);
        let argument = self.substitute(argument, schema, inner)?;
        let constant = base_columns(&argument).is_empty();
        let function = match name {
            "count" if constant => match &argument {
                Expr::Literal(value, _) if !value.is_null() => {
                    return Ok((Function::CountRows, None));
                }
                _ => return Err(self.query.unsupported("COUNT of an expression", &[name])),
            },
            // The owner sees no use of a column that is counted and never NULL.
            "count" if never_null => return Ok((Function::CountRows, None)),
            "count" => Function::Count,
            "sum" => Function::Sum,
            "avg" => Function::Avg,
            other => {
                return Err(self
                    .query
                    .unsupported(&format!("the aggregate {}", other.to_uppercase()), &[other]));
            }
        };
        if constant {
            return Err(self
                .query
                .unsupported(&format!("{} of a constant", name.to_uppercase()), &[name]));
        }
        Ok((function, Some(argument)))
    }

    /// An expression over a plan's columns, in terms of what they stand for.
    fn substitute(&self, expr: &Expr, schema: &DFSchema, inner: &[Expr]) -> Result<Expr> {
        let replaced = expr
            .clone()
            .transform_up(|node| match node {
                Expr::Column(column) => {
                    let index = schema.index_of_column(&column)?;
                    match inner.get(index) {
                        Some(expr) => Ok(Transformed::yes(expr.clone())),
                        None => Err(DataFusionError::Internal("column".to_owned())),
                    }
                }
                Expr::Alias(alias) => Ok(Transformed::yes(*alias.expr)),
                other => Ok(Transformed::no(other)),
            })
            .map_err(|_| Error::new(Code::Internal, "a column of the query does not resolve"))?
            .data;
        self.refuse_expr(&replaced)?;
        Ok(replaced)
    }

    fn refuse_expr(&self, expr: &Expr) -> Result<()> {
        let mut refused: Option<(&str, &[&str])> = None;
        let _ = expr.apply(|node| {
            refused = match node {
                Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) => {
                    Some(("a subquery in an expression", &["EXISTS"]))
                }
                Expr::WindowFunction(_) => Some(("a window function", &["OVER"])),
                Expr::Placeholder(_) => Some(("a parameter without a value", &[])),
                Expr::Unnest(_) => Some(("UNNEST", &["UNNEST"])),
                _ => None,
            };
            Ok(if refused.is_some() {
                TreeNodeRecursion::Stop
            } else {
                TreeNodeRecursion::Continue
            })
        });
        let Some((construct, words)) = refused else {
            return Ok(());
        };
        let error = self.query.unsupported(construct, words);
        if error.position.is_none()
            && let Some((line, column)) = self.query.find("SELECT", 2)
        {
            return Err(error.position(line, column));
        }
        Err(error)
    }
}
