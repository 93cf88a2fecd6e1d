//! What a fragment of several steps computes: joins, subqueries in FROM, groups, order and limit over one
//! department's own tables, as its own engine plans them.
//!
//! Every value is followed from the tables to the outputs: which columns flow into it row by row, which
//! through aggregates, and where it is looked at on the way. Operators, functions and expressions that are
//! not known here are refused. It must not know of rules.

use super::NotAllowed;
use super::expression::FUNCTIONS;
use super::types::analysed;
use crate::catalog::Published;
use crate::schema::ScalarType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, JoinType};
use datafusion::logical_expr::expr::AggregateFunction as Call;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, Operator};
use std::collections::{BTreeMap, BTreeSet};

type Result<T> = std::result::Result<T, NotAllowed>;

/// A column: table and name.
pub type ColumnName = (String, String);

/// A function through which a column flows into a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Through {
    /// COUNT
    Count,
    /// SUM
    Sum,
    /// AVG
    Avg,
    /// MIN
    Min,
    /// MAX
    Max,
    /// MEDIAN, or a percentile
    Median,
}

/// What flows into a value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flow {
    /// Row by row.
    pub rows: BTreeSet<ColumnName>,
    /// Through aggregates, by these functions.
    pub aggregated: BTreeMap<ColumnName, BTreeSet<Through>>,
    /// Whether groups are formed by it, and no join on other columns has repeated them since.
    pub key: bool,
}

impl Flow {
    /// What flows into the other flows into this one, too.
    pub fn add(&mut self, other: &Self) {
        self.rows.extend(other.rows.iter().cloned());
        for (name, functions) in &other.aggregated {
            self.aggregated
                .entry(name.clone())
                .or_default()
                .extend(functions);
        }
    }

    /// Two that a join makes equal.
    #[must_use]
    pub fn same(&self, other: &Self) -> Self {
        let nothing = |flow: &Self| flow.rows.is_empty() && flow.aggregated.is_empty();
        let key = (self.key || nothing(self)) && (other.key || nothing(other));
        let mut made = self.clone();
        made.add(other);
        made.key = key && !nothing(&made);
        made
    }

    /// An aggregate of it.
    #[must_use]
    pub fn through(&self, function: Through) -> Self {
        let mut made = Self::default();
        for name in &self.rows {
            made.aggregated
                .entry(name.clone())
                .or_default()
                .insert(function);
        }
        for (name, functions) in &self.aggregated {
            let known = made.aggregated.entry(name.clone()).or_default();
            known.extend(functions);
            // A sum of counts counts, a sum of sums sums, the least of the least is the least.
            let natural = functions.contains(&function)
                || function == Through::Sum && functions.contains(&Through::Count);
            if !natural {
                known.insert(function);
            }
        }
        made
    }
}

/// A fragment, followed.
#[derive(Debug, Clone, Default)]
pub struct Steps {
    /// The tables that it reads.
    pub tables: BTreeSet<String>,
    /// What flows into each output, with its type and whether it can be NULL.
    pub outputs: Vec<(Flow, ScalarType, bool)>,
    /// What conditions look at.
    pub compared: Vec<Flow>,
    /// What joins make equal.
    pub joined: Vec<Flow>,
    /// What groups are formed by.
    pub grouped: Vec<Flow>,
    /// What orders look at.
    pub sorted: Vec<Flow>,
}

/// Follows a fragment over the tables of its department.
///
/// # Errors
/// The construct that a fragment must not contain.
pub fn fragment_steps(sql: &str, catalog: &Published) -> Result<Steps> {
    let plan = analysed(sql, &catalog.tables)?;
    let mut steps = Steps::default();
    let flows = Local { steps: &mut steps }.plan(&plan)?;
    for (flow, field) in flows.into_iter().zip(plan.schema().fields()) {
        let data_type = ScalarType::from_arrow(field.data_type())
            .ok_or_else(|| NotAllowed::new("an output of a type that cannot cross"))?;
        steps.outputs.push((flow, data_type, field.is_nullable()));
    }
    Ok(steps)
}

/// Follows values through this department's own plan of a fragment.
pub(super) struct Local<'a> {
    pub(super) steps: &'a mut Steps,
}

impl Local<'_> {
    fn plan(&mut self, plan: &LogicalPlan) -> Result<Vec<Flow>> {
        match plan {
            LogicalPlan::TableScan(scan) => {
                if !scan.filters.is_empty() || scan.fetch.is_some() {
                    return Err(NotAllowed::new("a table that is read in part"));
                }
                let table = scan.table_name.table().to_owned();
                self.steps.tables.insert(table.clone());
                let fields = scan.projected_schema.fields();
                Ok(fields
                    .iter()
                    .map(|field| Flow {
                        rows: BTreeSet::from([(table.clone(), field.name().clone())]),
                        ..Flow::default()
                    })
                    .collect())
            }
            LogicalPlan::SubqueryAlias(alias) => self.plan(&alias.input),
            LogicalPlan::Projection(projection) => {
                let input = self.plan(&projection.input)?;
                projection
                    .expr
                    .iter()
                    .map(|expr| self.value(expr, &projection.input, &input))
                    .collect()
            }
            LogicalPlan::Filter(filter) => {
                let input = self.plan(&filter.input)?;
                let value = self.value(&filter.predicate, &filter.input, &input)?;
                self.steps.compared.push(value);
                Ok(input)
            }
            LogicalPlan::Join(join) => {
                let left = self.plan(&join.left)?;
                let right = self.plan(&join.right)?;
                // The positions of what is joined on.
                let mut on: BTreeSet<usize> = BTreeSet::new();
                for (a, b) in &join.on {
                    on.extend(position(a, join.left.schema()));
                    on.extend(position(b, join.right.schema()).map(|at| left.len() + at));
                    let a = self.value(a, &join.left, &left)?;
                    let b = self.value(b, &join.right, &right)?;
                    self.steps.joined.push(a);
                    self.steps.joined.push(b);
                }
                let mut both = left.clone();
                both.extend(right.iter().cloned());
                if let Some(filter) = &join.filter {
                    let schema = join
                        .left
                        .schema()
                        .join(join.right.schema())
                        .map_err(|_| NotAllowed::new("a join of two sides of one name"))?;
                    let find = |column: &Column| schema.maybe_index_of_column(column);
                    let value = self.walk(filter, &find, &both)?;
                    self.steps.compared.push(value);
                }
                Ok(match join.join_type {
                    JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => {
                        // A join repeats rows: the key of a group stands beside others' rows now, but
                        // for what is joined on.
                        for (at, value) in both.iter_mut().enumerate() {
                            value.key &= on.contains(&at);
                        }
                        both
                    }
                    JoinType::LeftSemi | JoinType::LeftAnti => left,
                    JoinType::RightSemi | JoinType::RightAnti => right,
                    _ => return Err(NotAllowed::new("a join of an unusual kind")),
                })
            }
            LogicalPlan::Aggregate(group) => {
                let input = self.plan(&group.input)?;
                let mut made = Vec::new();
                for expr in &group.group_expr {
                    if matches!(expr, Expr::GroupingSet(_)) {
                        return Err(NotAllowed::new("GROUPING SETS"));
                    }
                    let mut value = self.value(expr, &group.input, &input)?;
                    value.key = true;
                    self.steps.grouped.push(value.clone());
                    made.push(value);
                }
                for expr in &group.aggr_expr {
                    made.push(self.aggregate(expr, &group.input, &input)?);
                }
                Ok(made)
            }
            LogicalPlan::Window(window) => {
                let input = self.plan(&window.input)?;
                self.window(window, input)
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let mut values = self.plan(input)?;
                for value in &mut values {
                    value.key = true;
                    self.steps.grouped.push(value.clone());
                }
                Ok(values)
            }
            LogicalPlan::Sort(sort) => {
                let input = self.plan(&sort.input)?;
                for key in &sort.expr {
                    let value = self.value(&key.expr, &sort.input, &input)?;
                    self.steps.sorted.push(value);
                }
                Ok(input)
            }
            LogicalPlan::Limit(limit) => self.plan(&limit.input),
            LogicalPlan::Union(union) => {
                let mut made: Option<Vec<Flow>> = None;
                for input in &union.inputs {
                    let values = self.plan(input)?;
                    made = Some(match made {
                        None => values,
                        Some(mut before) => {
                            for (value, other) in before.iter_mut().zip(&values) {
                                value.add(other);
                                value.key &= other.key;
                            }
                            before
                        }
                    });
                }
                made.ok_or_else(|| NotAllowed::new("a union of nothing"))
            }
            _ => Err(NotAllowed::new("an operator of an unusual kind")),
        }
    }

    fn aggregate(&mut self, expr: &Expr, input: &LogicalPlan, values: &[Flow]) -> Result<Flow> {
        let mut expr = expr;
        while let Expr::Alias(alias) = expr {
            expr = &alias.expr;
        }
        let Expr::AggregateFunction(Call { func, params }) = expr else {
            return Err(NotAllowed::new("an aggregate of an unusual kind"));
        };
        let function = match func.name() {
            "count" => Through::Count,
            "sum" => Through::Sum,
            "avg" => Through::Avg,
            "min" => Through::Min,
            "max" => Through::Max,
            "median" => Through::Median,
            name => return Err(NotAllowed::new(format!("the aggregate function {name}"))),
        };
        if params.filter.is_some() || !params.order_by.is_empty() {
            return Err(NotAllowed::new("an aggregate with FILTER or ORDER BY"));
        }
        let mut argument = Flow::default();
        for part in &params.args {
            argument.add(&self.value(part, input, values)?);
        }
        Ok(argument.through(function))
    }

    pub(super) fn value(
        &mut self,
        expr: &Expr,
        input: &LogicalPlan,
        values: &[Flow],
    ) -> Result<Flow> {
        let find = |column: &Column| input.schema().maybe_index_of_column(column);
        self.walk(expr, &find, values)
    }

    /// What flows into an expression; what it looks at to decide is compared.
    fn walk(
        &mut self,
        expr: &Expr,
        find: &dyn Fn(&Column) -> Option<usize>,
        values: &[Flow],
    ) -> Result<Flow> {
        let mut made = Flow::default();
        let mut plain = false;
        if let Expr::Column(column) = unaliased(expr) {
            let value = find(column).and_then(|at| values.get(at));
            plain = true;
            made = value
                .cloned()
                .ok_or_else(|| NotAllowed::new("a column that is not there"))?;
        }
        if plain {
            return Ok(made);
        }
        if let Expr::InSubquery(of) = unaliased(expr) {
            let mut value = self.walk(&of.expr, find, values)?;
            self.steps.joined.push(value.clone());
            for inner in self.plan(&of.subquery.subquery)? {
                self.steps.joined.push(inner.clone());
                value.add(&inner);
            }
            value.key = false;
            return Ok(value);
        }
        if let Expr::BinaryExpr(both) = expr
            && both.op == Operator::And
        {
            // Part by part, left to right: chains are long.
            let mut value = Flow::default();
            let mut rest = expr;
            while let Expr::BinaryExpr(both) = rest
                && both.op == Operator::And
            {
                value.add(&self.walk(&both.right, find, values)?);
                rest = &both.left;
            }
            value.add(&self.walk(rest, find, values)?);
            self.steps.compared.push(value.clone());
            return Ok(value);
        }
        let mut failure = None;
        let mut decides = false;
        let walked = expr.apply(|node| {
            match node {
                Expr::Column(column) => match find(column).and_then(|at| values.get(at)) {
                    Some(value) => made.add(value),
                    None => failure = Some("a column that is not there"),
                },
                Expr::BinaryExpr(binary) => decides |= comparing(binary.op),
                Expr::Case(_)
                | Expr::Like(_)
                | Expr::Between(_)
                | Expr::InList(_)
                | Expr::IsNull(_)
                | Expr::IsNotNull(_)
                | Expr::Not(_)
                | Expr::IsTrue(_)
                | Expr::IsFalse(_)
                | Expr::IsUnknown(_)
                | Expr::IsNotTrue(_)
                | Expr::IsNotFalse(_)
                | Expr::IsNotUnknown(_) => decides = true,
                Expr::ScalarFunction(call) => {
                    if !FUNCTIONS.contains(&call.func.name()) {
                        failure = Some("a function that is not allowed");
                    }
                    decides |= matches!(call.func.name(), "coalesce" | "nullif" | "starts_with");
                }
                Expr::Alias(_) | Expr::Literal(..) | Expr::Negative(_) | Expr::Cast(_) => {}
                _ => failure = Some("an expression of an unusual kind"),
            }
            Ok(TreeNodeRecursion::Continue)
        });
        if let Some(what) = failure {
            return Err(NotAllowed::new(what));
        }
        walked.map_err(|_| NotAllowed::new("an expression that cannot be walked"))?;
        if decides {
            self.steps.compared.push(made.clone());
        }
        Ok(made)
    }
}

/// Which column of a schema an expression is, if it is one.
fn position(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match unaliased(expr) {
        Expr::Column(column) => schema.maybe_index_of_column(column),
        _ => None,
    }
}

pub(super) fn unaliased(expr: &Expr) -> &Expr {
    match expr {
        Expr::Alias(alias) => unaliased(&alias.expr),
        other => other,
    }
}

fn comparing(op: Operator) -> bool {
    !matches!(
        op,
        Operator::Plus
            | Operator::Minus
            | Operator::Multiply
            | Operator::Divide
            | Operator::Modulo
            | Operator::StringConcat
    )
}
