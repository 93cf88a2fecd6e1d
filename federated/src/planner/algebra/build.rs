//! From the engine's optimised plan to relational algebra. Whatever is not known here is refused, by
//! name.

mod aggregates;
mod joins;
mod percentile;
mod window;

use super::columns::{ColumnId, Columns, Info};
use super::unions::merged;
use super::{Block, Function, Rel, SortKey, Tally};
use crate::catalog::Table;
use crate::error::{Code, Error, Result};
use crate::flow::bounds;
use crate::planner::Federation;
use crate::planner::columns::split;
use crate::planner::text::Query;
use crate::schema::ScalarType;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError, ScalarValue};
use datafusion::logical_expr::{
    Distinct, Expr, FetchType, LogicalPlan, Operator, Projection, SkipType, TableScan, Union,
};
use std::collections::BTreeMap;

/// The most tables of a query.
const MAX_TABLES: usize = 64;

/// A relation, and which column of it each output of the engine's plan is.
pub(in crate::planner) struct Built {
    pub(in crate::planner) rel: Rel,
    pub(in crate::planner) output: Vec<ColumnId>,
}

/// Builds the algebra of a plan.
///
/// # Errors
/// `Unsupported` naming the construct and its place, `UnknownTable`.
pub(in crate::planner) fn build(
    query: &Query,
    federation: &Federation,
    columns: &mut Columns,
    plan: &LogicalPlan,
) -> Result<Built> {
    Builder {
        query,
        federation,
        columns,
        tables: 0,
    }
    .plan(plan)
}

struct Builder<'a> {
    query: &'a Query,
    federation: &'a Federation,
    columns: &'a mut Columns,
    tables: usize,
}

impl Builder<'_> {
    fn plan(&mut self, plan: &LogicalPlan) -> Result<Built> {
        match plan {
            LogicalPlan::TableScan(scan) if scan.fetch.is_none() => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => self.plan(&alias.input),
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Filter(filter) => {
                let input = self.plan(&filter.input)?;
                let mut rel = input.rel;
                let mut conditions = Vec::new();
                for part in split(filter.predicate.clone(), Operator::And) {
                    let part = self.expr(&part, filter.input.schema(), &input.output, &mut rel)?;
                    conditions.push(part);
                }
                Ok(Built {
                    rel: rel.filtered(conditions),
                    output: input.output,
                })
            }
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let input = self.plan(input)?;
                Ok(distinct(input))
            }
            LogicalPlan::Sort(sort) => {
                let input = self.plan(&sort.input)?;
                let mut rel = input.rel;
                let mut keys = Vec::new();
                for item in &sort.expr {
                    let expr =
                        self.expr(&item.expr, sort.input.schema(), &input.output, &mut rel)?;
                    keys.push(SortKey {
                        expr,
                        ascending: item.asc,
                        nulls_first: item.nulls_first,
                    });
                }
                Ok(Built {
                    rel: Rel::Sort {
                        input: Box::new(rel),
                        keys,
                        skip: 0,
                        fetch: sort.fetch,
                    },
                    output: input.output,
                })
            }
            LogicalPlan::Limit(limit) => self.limit(limit),
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::Union(union) => self.union(union),
            other => Err(self.refuse_node(other)),
        }
    }

    fn refuse_node(&self, plan: &LogicalPlan) -> Error {
        let (construct, words): (&str, &[&str]) = match plan {
            LogicalPlan::Distinct(_) => ("DISTINCT ON", &["DISTINCT"]),
            LogicalPlan::EmptyRelation(_) => ("a query without a table", &["SELECT"]),
            LogicalPlan::Values(_) => ("VALUES", &["VALUES"]),
            LogicalPlan::Unnest(_) => ("UNNEST", &["UNNEST"]),
            LogicalPlan::Subquery(_) => ("LATERAL", &["LATERAL"]),
            LogicalPlan::RecursiveQuery(_) => ("WITH RECURSIVE", &["RECURSIVE"]),
            _ => ("a construct of this query", &[]),
        };
        self.query.unsupported(construct, words)
    }

    fn scan(&mut self, scan: &TableScan) -> Result<Built> {
        self.tables += 1;
        if self.tables > MAX_TABLES {
            let what = format!("more than {MAX_TABLES} tables");
            return Err(self.query.unsupported(&what, &[]));
        }
        let department = scan.table_name.schema().unwrap_or_default();
        let table: &Table = self
            .federation
            .member(department)
            .and_then(|member| member.catalog.as_ref())
            .and_then(|catalog| catalog.table(scan.table_name.table()))
            .ok_or_else(|| Error::new(Code::UnknownTable, "there is no such table"))?;
        let position = |name: &str| table.columns.iter().position(|of| of.name == name);
        let mut read: Vec<usize> = match &scan.projection {
            Some(projection) => projection.clone(),
            None => (0..table.columns.len()).collect(),
        };
        let shown = read.len();
        // Conditions look at columns that nothing else does.
        for filter in &scan.filters {
            let mut names: Vec<String> = filter
                .column_refs()
                .iter()
                .map(|column| column.name.clone())
                .collect();
            names.sort_unstable();
            for at in names.iter().filter_map(|name| position(name)) {
                if !read.contains(&at) {
                    read.push(at);
                }
            }
        }
        let mut columns = Vec::new();
        for at in read {
            columns.push((at, self.columns.add(table_column(table, at)?)));
        }
        let by: BTreeMap<&str, ColumnId> = columns
            .iter()
            .filter_map(|(at, id)| Some((table.columns.get(*at)?.name.as_str(), *id)))
            .collect();
        let mut conditions = Vec::new();
        for filter in &scan.filters {
            let bound = filter.clone().transform(|node| {
                Ok(match &node {
                    Expr::Column(column) => match by.get(column.name.as_str()) {
                        Some(id) => Transformed::new(id.expr(), true, TreeNodeRecursion::Jump),
                        None => return Err(DataFusionError::Plan("not bound".to_owned())),
                    },
                    _ => Transformed::no(node),
                })
            });
            let bound = bound
                .map_err(|_| Error::new(Code::Internal, "a condition of a table is not bound"))?;
            conditions.extend(split(bound.data, Operator::And));
        }
        let output = columns.iter().take(shown).map(|(_, id)| *id).collect();
        let rel = Rel::Scan {
            department: department.to_owned(),
            table: Box::new(table.clone()),
            columns,
        };
        Ok(Built {
            output,
            rel: rel.filtered(conditions),
        })
    }

    /// The expression over columns of `rel`. Scalar subqueries become relations beside it.
    fn expr(
        &mut self,
        expr: &Expr,
        schema: &DFSchema,
        output: &[ColumnId],
        rel: &mut Rel,
    ) -> Result<Expr> {
        let mut failure = None;
        let mut beside = Vec::new();
        let replaced = expr.clone().transform_down(|node| {
            let new = match &node {
                Expr::Column(column) => {
                    let at = schema.maybe_index_of_column(column);
                    match at.and_then(|at| output.get(at)) {
                        Some(id) => Ok(id.expr()),
                        None => Err(Error::new(Code::Internal, "a column is not bound")),
                    }
                }
                Expr::ScalarSubquery(subquery) if subquery.outer_ref_columns.is_empty() => {
                    self.scalar(&subquery.subquery).map(|(scalar, id)| {
                        beside.push(scalar);
                        id.expr()
                    })
                }
                Expr::ScalarSubquery(_)
                | Expr::InSubquery(_)
                | Expr::Exists(_)
                | Expr::OuterReferenceColumn(..)
                | Expr::SetComparison(_) => Err(self.query.unsupported(
                    "a subquery here that cannot be turned into a join",
                    &["EXISTS", "IN", "ANY", "ALL"],
                )),
                _ => return Ok(Transformed::no(node)),
            };
            match new {
                // Nothing of what replaces a node is looked into again.
                Ok(new) => Ok(Transformed::new(new, true, TreeNodeRecursion::Jump)),
                Err(error) => {
                    failure = Some(error);
                    Err(DataFusionError::Plan("refused".to_owned()))
                }
            }
        });
        let expr = match (replaced, failure) {
            (Ok(replaced), None) => replaced.data,
            (_, Some(error)) => return Err(error),
            (Err(_), None) => {
                return Err(Error::new(Code::Internal, "an expression cannot be walked"));
            }
        };
        if !beside.is_empty() {
            let before = std::mem::replace(rel, Rel::Block(Block::default()));
            let mut inputs = vec![before];
            inputs.extend(beside);
            *rel = Rel::Block(Block {
                inputs,
                ..Block::default()
            });
        }
        Ok(expr)
    }

    /// A subquery of exactly one row, and its column.
    fn scalar(&mut self, plan: &LogicalPlan) -> Result<(Rel, ColumnId)> {
        let built = self.plan(plan)?;
        let [column] = built.output[..] else {
            return Err(Error::new(Code::Internal, "a scalar of several columns"));
        };
        if one_row(&built.rel) {
            return Ok((built.rel, column));
        }
        Err(self.query.unsupported(
            "a scalar subquery that is not one aggregate: it can have no row, or several",
            &[],
        ))
    }

    /// The column that an expression is, computed on top of `rel` where it is none.
    fn column(
        &mut self,
        expr: &Expr,
        schema: &DFSchema,
        output: &[ColumnId],
        rel: &mut Rel,
        computed: &mut Vec<(ColumnId, Expr)>,
    ) -> Result<ColumnId> {
        let expr = self.expr(expr, schema, output, rel)?;
        if let Some(id) = ColumnId::of_expr(&expr) {
            return Ok(id);
        }
        let expr = unaliased(expr);
        if let Some((id, _)) = computed.iter().find(|(_, known)| *known == expr) {
            return Ok(*id);
        }
        let id = self.columns.compute(&expr)?;
        computed.push((id, expr));
        Ok(id)
    }

    fn projection(&mut self, projection: &Projection) -> Result<Built> {
        let input = self.plan(&projection.input)?;
        let mut rel = input.rel;
        let mut computed = Vec::new();
        let mut output = Vec::new();
        for expr in &projection.expr {
            let schema = projection.input.schema();
            output.push(self.column(expr, schema, &input.output, &mut rel, &mut computed)?);
        }
        Ok(Built {
            rel: rel.computing(computed),
            output,
        })
    }

    fn limit(&mut self, limit: &datafusion::logical_expr::Limit) -> Result<Built> {
        let refuse = || {
            self.query
                .unsupported("LIMIT or OFFSET that is not a number", &["LIMIT", "OFFSET"])
        };
        let (Ok(SkipType::Literal(skip)), Ok(FetchType::Literal(fetch))) =
            (limit.get_skip_type(), limit.get_fetch_type())
        else {
            return Err(refuse());
        };
        let input = self.plan(&limit.input)?;
        let rel = match input.rel {
            Rel::Sort {
                input,
                keys,
                skip: 0,
                fetch: before,
            } => Rel::Sort {
                input,
                keys,
                skip,
                // What the engine told the sort keeps the rows that are skipped.
                fetch: match (fetch, before) {
                    (None, Some(before)) => Some(before.saturating_sub(skip)),
                    (fetch, _) => fetch,
                },
            },
            other => Rel::Sort {
                input: Box::new(other),
                keys: Vec::new(),
                skip,
                fetch,
            },
        };
        Ok(Built {
            rel,
            output: input.output,
        })
    }

    fn union(&mut self, union: &Union) -> Result<Built> {
        let mut inputs = Vec::new();
        for input in &union.inputs {
            let built = self.plan(input)?;
            inputs.push((built.rel, built.output));
        }
        let mut columns: Vec<ColumnId> = Vec::new();
        for (at, field) in union.schema.fields().iter().enumerate() {
            let of = inputs.iter().filter_map(|(_, own)| own.get(at));
            let of = of.map(|id| self.columns.info(*id));
            let of = of.collect::<Result<Vec<_>>>()?;
            let named = (
                field.data_type().clone(),
                field.is_nullable(),
                field.name().clone(),
            );
            let info = merged(named, &of);
            columns.push(self.columns.add(info));
        }
        Ok(Built {
            output: columns.clone(),
            rel: Rel::Union { inputs, columns },
        })
    }
}

/// What is published of a table's column.
pub(super) fn table_column(table: &Table, at: usize) -> Result<Info> {
    let column = table
        .columns
        .get(at)
        .ok_or_else(|| Error::new(Code::Internal, "a column that no table has"))?;
    let mut info = Info::new(column.data_type.to_arrow(), column.nullable, column.label());
    info.distinct = bounds::distinct(column, false);
    info.most = (column.max_abs > 0).then_some(u128::from(column.max_abs));
    info.codes.clone_from(&column.codes);
    info.bytes = bounds::text_bytes(column);
    info.canonical.clone_from(&column.canonical);
    Ok(info)
}

fn distinct(input: Built) -> Built {
    let mut keys: Vec<ColumnId> = Vec::new();
    for id in &input.output {
        if !keys.contains(id) {
            keys.push(*id);
        }
    }
    Built {
        rel: Rel::Group {
            input: Box::new(input.rel),
            keys,
            aggregates: Vec::new(),
        },
        output: input.output,
    }
}

pub(super) fn unaliased(expr: Expr) -> Expr {
    match expr {
        Expr::Alias(alias) => unaliased(*alias.expr),
        other => other,
    }
}

/// Whether a relation has exactly one row, whatever the data.
fn one_row(rel: &Rel) -> bool {
    match rel {
        Rel::Group { keys, .. } => keys.is_empty(),
        Rel::Block(block) => block.conditions.is_empty() && block.inputs.iter().all(one_row),
        Rel::Sort {
            input, skip, fetch, ..
        } => *skip == 0 && *fetch != Some(0) && one_row(input),
        Rel::Guard { input, guard } => guard.keeps_rows && one_row(input),
        _ => false,
    }
}

impl Function {
    /// Its name in SQL.
    pub(in crate::planner) fn name(self) -> &'static str {
        match self {
            Self::Count | Self::CountDistinct => "count",
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::Any => "min",
            Self::Median => "median",
            Self::Percentile { .. } => "percentile_cont",
            Self::Units(Tally::Distinct) => "count",
            Self::Units(Tally::Sum) => "sum",
            Self::Units(Tally::Max) => "max",
        }
    }
}

/// One, as the engine counts.
pub(super) fn one() -> Expr {
    Expr::Literal(ScalarValue::Int64(Some(1)), None)
}

/// Whether an engine type can cross between departments.
pub(super) fn crosses(data_type: &DataType) -> bool {
    ScalarType::from_arrow(data_type).is_some_and(|of| of != ScalarType::Float64)
}
