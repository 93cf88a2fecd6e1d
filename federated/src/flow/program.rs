//! The check of a plan whose operators are a [`Program`].
//!
//! Every column of this department is followed from its tables through the fragments, which this
//! department plans for itself, and through the program to the release. A value carries the columns
//! that flow into it row by row, and those that flow in through aggregates, with their functions:
//!
//! | where a value goes | what of this department's columns needs a rule |
//! |---|---|
//! | a condition, CASE, a comparison | `filter` of what flows in row by row, `having` of what was aggregated |
//! | an equality of a join | `join_key`, and between departments `filter`: the others' conditions are not looked into |
//! | a group that is neither joined nor filtered by | `group_key` |
//! | an aggregate | `aggregate(...)` |
//! | ORDER BY, LIMIT | `sort_key` |
//! | the release | `group_key` for the key of a group, `output` for a row's value, `aggregate(...)` for others |
//!
//! A program has no thresholds yet: a department whose rules ask for more than one unit refuses it.

use super::uses::Asked;
use super::{Examined, Me, computing, needs_sizes, rules, sensitive};
use crate::catalog::Published;
use crate::error::{Code, Denial, Error, Result};
use crate::local::lineage::{NotAllowed, released_use};
use crate::plan::program::{AggregateKind, Expression, JoinKind, Program, Relational, Variable};
use crate::plan::{Fragment, JointPlan, PartyIndex, ReleasedSource};
use crate::planner::analysed_fragment;
use crate::policy::{AggregateFunction, Policy, Use};
use crate::schema::ScalarType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinType};
use datafusion::logical_expr::expr::AggregateFunction as Call;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, Operator};
use std::collections::{BTreeMap, BTreeSet};

/// A column of this department: table and name.
type Name = (String, String);

/// What flows into a value.
#[derive(Debug, Clone, Default)]
struct Value {
    /// Row by row.
    rows: BTreeSet<Name>,
    /// Through aggregates, by these functions.
    aggregated: BTreeMap<Name, BTreeSet<AggregateFunction>>,
    /// Whether groups are formed by it.
    key: bool,
}

impl Value {
    fn add(&mut self, other: &Self) {
        self.rows.extend(other.rows.iter().cloned());
        for (name, functions) in &other.aggregated {
            self.aggregated
                .entry(name.clone())
                .or_default()
                .extend(functions);
        }
    }

    /// An aggregate of it.
    fn through(&self, function: AggregateFunction) -> Self {
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
                || function == AggregateFunction::Sum
                    && functions.contains(&AggregateFunction::Count);
            if !natural {
                known.insert(function);
            }
        }
        made
    }
}

/// Uses while they are collected.
#[derive(Default)]
struct Uses {
    asked: BTreeSet<Asked>,
    grouped: BTreeSet<Name>,
}

impl Uses {
    fn add(&mut self, (table, column): &Name, what: Use) {
        self.asked.insert(Asked {
            table: table.clone(),
            column: column.clone(),
            what,
        });
    }

    fn compared(&mut self, value: &Value) {
        for name in &value.rows {
            self.add(name, Use::Filter);
        }
        for name in value.aggregated.keys() {
            self.add(name, Use::Having);
        }
    }

    fn joined(&mut self, value: &Value, joint: bool) {
        for name in &value.rows {
            self.add(name, Use::JoinKey);
            if joint {
                self.add(name, Use::Filter);
            }
        }
        for name in value.aggregated.keys() {
            self.add(name, Use::Having);
        }
    }

    fn sorted(&mut self, value: &Value) {
        for name in value.rows.iter().chain(value.aggregated.keys()) {
            self.add(name, Use::SortKey);
        }
    }

    fn grouped(&mut self, value: &Value) {
        self.grouped.extend(value.rows.iter().cloned());
        for name in value.aggregated.keys() {
            self.add(name, Use::Having);
        }
    }

    fn released(&mut self, value: &Value) {
        for name in &value.rows {
            self.add(
                name,
                if value.key {
                    Use::GroupKey
                } else {
                    Use::Output
                },
            );
        }
        for (name, functions) in &value.aggregated {
            for function in functions {
                self.add(name, Use::Aggregate(*function));
            }
        }
    }

    /// Groups by what is neither joined nor filtered by.
    fn finish(mut self) -> BTreeSet<Asked> {
        for name in std::mem::take(&mut self.grouped) {
            let known = |what: Use| {
                self.asked.contains(&Asked {
                    table: name.0.clone(),
                    column: name.1.clone(),
                    what,
                })
            };
            if !known(Use::JoinKey) && !known(Use::Filter) {
                self.add(&name, Use::GroupKey);
            }
        }
        self.asked
    }
}

/// Examines a plan that is a program.
pub(super) fn examine(
    plan: &JointPlan,
    program: &Program,
    index: PartyIndex,
    me: &Me<'_>,
    catalog: &Published,
    policy: &Policy,
) -> Result<Examined> {
    let mut denials = Vec::new();
    let mut uses = Uses::default();
    let mut values: BTreeMap<Variable, Value> = BTreeMap::new();
    let mut tables: BTreeSet<String> = BTreeSet::new();
    for (position, fragment) in plan.fragments.iter().enumerate() {
        if fragment.owner != index {
            continue;
        }
        match own_fragment(fragment, catalog, &mut uses, &mut tables) {
            Ok(made) => {
                for (column, value) in made.into_iter().enumerate() {
                    let variable = Program::variable_of(&plan.fragments, position, column);
                    values.insert(variable, value);
                }
            }
            Err(not) => denials.push(refusal(me, position, &not)),
        }
    }
    if !denials.is_empty() {
        return Ok((Vec::new(), denials));
    }
    Follow {
        values: &mut values,
        uses: &mut uses,
    }
    .program(program);
    release(plan, program, me, &values, &mut uses)?;
    let asked = uses.finish();
    let names: BTreeSet<&str> = tables.iter().map(String::as_str).collect();
    let sizes = needs_sizes(plan, index);
    let granted = rules::decide(&asked, &names, me, policy, sizes, &mut denials);
    sensitive(plan, me, policy, &asked, &mut denials);
    if granted.k > 1 && denials.is_empty() {
        denials.push(Denial {
            department: me.department.to_owned(),
            rule: granted.names.clone(),
            column: String::new(),
            asked: "a plan of several steps, without a threshold before its result".to_owned(),
            alternative: format!(
                "a query of one join of tables and one aggregate, whose groups are released from \
                 k = {} on",
                granted.k
            ),
        });
    }
    denials.extend(computing(plan, me, policy));
    Ok((granted.rules, denials))
}

fn refusal(me: &Me<'_>, position: usize, not: &NotAllowed) -> Denial {
    Denial {
        department: me.department.to_owned(),
        rule: "fragments: own tables, allow-listed functions".to_owned(),
        column: not.column.clone().unwrap_or_default(),
        asked: format!("fragment {position} with {}", not.construct),
        alternative: "what docs/plan-check.md says of fragments".to_owned(),
    }
}

/// What the columns of one of this department's fragments are made of.
fn own_fragment(
    fragment: &Fragment,
    catalog: &Published,
    uses: &mut Uses,
    tables: &mut BTreeSet<String>,
) -> std::result::Result<Vec<Value>, NotAllowed> {
    let plan = analysed_fragment(&fragment.sql, catalog)
        .map_err(|_| NotAllowed::new("SQL that this department cannot plan over its own tables"))?;
    let fields = plan.schema().fields();
    if fields.len() != fragment.columns.len() {
        return Err(NotAllowed::new("other outputs than the plan says"));
    }
    for (field, column) in fields.iter().zip(&fragment.columns) {
        let is = ScalarType::from_arrow(field.data_type());
        if is != Some(column.data_type) || (field.is_nullable() && !column.nullable) {
            return Err(NotAllowed::new("outputs of other types than the plan says"));
        }
    }
    Local { uses, tables }.plan(&plan)
}

/// Follows values through this department's own plan of a fragment.
struct Local<'a> {
    uses: &'a mut Uses,
    tables: &'a mut BTreeSet<String>,
}

type Derived<T> = std::result::Result<T, NotAllowed>;

impl Local<'_> {
    fn plan(&mut self, plan: &LogicalPlan) -> Derived<Vec<Value>> {
        match plan {
            LogicalPlan::TableScan(scan) => {
                if !scan.filters.is_empty() || scan.fetch.is_some() {
                    return Err(NotAllowed::new("a table that is read in part"));
                }
                let table = scan.table_name.table().to_owned();
                self.tables.insert(table.clone());
                let fields = scan.projected_schema.fields();
                Ok(fields
                    .iter()
                    .map(|field| Value {
                        rows: BTreeSet::from([(table.clone(), field.name().clone())]),
                        ..Value::default()
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
                self.uses.compared(&value);
                Ok(input)
            }
            LogicalPlan::Join(join) => {
                let left = self.plan(&join.left)?;
                let right = self.plan(&join.right)?;
                for (a, b) in &join.on {
                    let a = self.value(a, &join.left, &left)?;
                    let b = self.value(b, &join.right, &right)?;
                    self.uses.joined(&a, false);
                    self.uses.joined(&b, false);
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
                    self.uses.compared(&value);
                }
                Ok(match join.join_type {
                    JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full => both,
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
                    self.uses.grouped(&value);
                    made.push(value);
                }
                for expr in &group.aggr_expr {
                    made.push(self.aggregate(expr, &group.input, &input)?);
                }
                Ok(made)
            }
            LogicalPlan::Distinct(Distinct::All(input)) => {
                let mut values = self.plan(input)?;
                for value in &mut values {
                    value.key = true;
                    self.uses.grouped(value);
                }
                Ok(values)
            }
            LogicalPlan::Sort(sort) => {
                let input = self.plan(&sort.input)?;
                for key in &sort.expr {
                    let value = self.value(&key.expr, &sort.input, &input)?;
                    self.uses.sorted(&value);
                }
                Ok(input)
            }
            LogicalPlan::Limit(limit) => self.plan(&limit.input),
            LogicalPlan::Union(union) => {
                let mut made: Option<Vec<Value>> = None;
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

    fn aggregate(&mut self, expr: &Expr, input: &LogicalPlan, values: &[Value]) -> Derived<Value> {
        let mut expr = expr;
        while let Expr::Alias(alias) = expr {
            expr = &alias.expr;
        }
        let Expr::AggregateFunction(Call { func, params }) = expr else {
            return Err(NotAllowed::new("an aggregate of an unusual kind"));
        };
        let function = match func.name() {
            "count" => AggregateFunction::Count,
            "sum" => AggregateFunction::Sum,
            "avg" => AggregateFunction::Avg,
            "min" => AggregateFunction::Min,
            "max" => AggregateFunction::Max,
            name => return Err(NotAllowed::new(format!("the aggregate function {name}"))),
        };
        if params.filter.is_some() || !params.order_by.is_empty() {
            return Err(NotAllowed::new("an aggregate with FILTER or ORDER BY"));
        }
        let mut argument = Value::default();
        for part in &params.args {
            argument.add(&self.value(part, input, values)?);
        }
        Ok(argument.through(function))
    }

    fn value(&mut self, expr: &Expr, input: &LogicalPlan, values: &[Value]) -> Derived<Value> {
        let find = |column: &Column| input.schema().maybe_index_of_column(column);
        self.walk(expr, &find, values)
    }

    /// What flows into an expression; what it looks at to decide is compared.
    fn walk(
        &mut self,
        expr: &Expr,
        find: &dyn Fn(&Column) -> Option<usize>,
        values: &[Value],
    ) -> Derived<Value> {
        let mut made = Value::default();
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
            self.uses.compared(&made);
        }
        Ok(made)
    }
}

fn unaliased(expr: &Expr) -> &Expr {
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

/// Follows values through the program.
struct Follow<'a> {
    values: &'a mut BTreeMap<Variable, Value>,
    uses: &'a mut Uses,
}

impl Follow<'_> {
    fn program(&mut self, program: &Program) {
        for operator in &program.operators {
            self.operator(operator);
        }
    }

    fn of(&self, variable: Variable) -> Value {
        self.values.get(&variable).cloned().unwrap_or_default()
    }

    fn operator(&mut self, operator: &Relational) {
        match operator {
            Relational::Join { kind, on, .. } => {
                for (a, b) in on {
                    let (left, right) = (self.of(*a), self.of(*b));
                    self.uses.joined(&left, true);
                    self.uses.joined(&right, true);
                    // Equal columns are one from here on.
                    if *kind == JoinKind::Inner {
                        for (variable, other) in [(*a, &right), (*b, &left)] {
                            self.values.entry(variable).or_default().add(other);
                        }
                    }
                }
            }
            Relational::Beside { .. } => {}
            Relational::Filter { condition, .. } => {
                let value = self.expression(condition);
                self.uses.compared(&value);
            }
            Relational::Map { computed, .. } => {
                for (variable, expression) in computed {
                    let value = self.expression(expression);
                    self.values.insert(*variable, value);
                }
            }
            Relational::Group {
                keys, aggregates, ..
            } => {
                for key in keys {
                    let mut value = self.of(*key);
                    value.key = true;
                    self.uses.grouped(&value);
                    self.values.insert(*key, value);
                }
                for aggregate in aggregates {
                    let argument = aggregate.argument.map(|variable| self.of(variable));
                    let argument = argument.unwrap_or_default();
                    let function = match aggregate.function {
                        AggregateKind::Count | AggregateKind::CountDistinct => {
                            AggregateFunction::Count
                        }
                        AggregateKind::Sum => AggregateFunction::Sum,
                        AggregateKind::Min => AggregateFunction::Min,
                        AggregateKind::Max => AggregateFunction::Max,
                        AggregateKind::Any => {
                            let value = Value {
                                key: true,
                                ..argument
                            };
                            self.uses.grouped(&value);
                            self.values.insert(aggregate.variable, value);
                            continue;
                        }
                    };
                    self.values
                        .insert(aggregate.variable, argument.through(function));
                }
            }
            Relational::Top { keys, .. } => {
                for key in keys {
                    let value = self.of(key.variable);
                    self.uses.sorted(&value);
                }
            }
            Relational::Union { inputs, columns } => {
                for (at, variable) in columns.iter().enumerate() {
                    let mut made = Value {
                        key: true,
                        ..Value::default()
                    };
                    for (_, of) in inputs {
                        if let Some(from) = of.get(at) {
                            let value = self.of(*from);
                            made.key &= value.key || value.rows.is_empty();
                            made.add(&value);
                        }
                    }
                    self.values.insert(*variable, made);
                }
            }
        }
    }

    fn expression(&mut self, expression: &Expression) -> Value {
        match expression {
            Expression::Column(variable) => self.of(*variable),
            Expression::Number { .. } | Expression::Text { .. } | Expression::Null(_) => {
                Value::default()
            }
            Expression::Rescale { input, .. } | Expression::Bits { input, .. } => {
                self.expression(input)
            }
            Expression::Arithmetic { left, right, .. }
            | Expression::Quotient { left, right, .. } => {
                let mut value = self.expression(left);
                value.key = false;
                value.add(&self.expression(right));
                value
            }
            Expression::Not(inner) | Expression::IsNull(inner) => {
                let value = self.expression(inner);
                self.decided(value)
            }
            Expression::All(parts) | Expression::Any(parts) => {
                let mut value = Value::default();
                for part in parts {
                    value.add(&self.expression(part));
                }
                self.decided(value)
            }
            Expression::Compare { left, right, .. } => {
                let mut value = self.expression(left);
                value.add(&self.expression(right));
                self.decided(value)
            }
            Expression::Case { when, otherwise } => {
                let mut value = self.expression(otherwise);
                for (condition, result) in when {
                    let condition = self.expression(condition);
                    self.uses.compared(&condition);
                    value.add(&condition);
                    value.add(&self.expression(result));
                }
                value.key = false;
                value
            }
        }
    }

    fn decided(&mut self, mut value: Value) -> Value {
        self.uses.compared(&value);
        value.key = false;
        value
    }
}

/// What is opened, and what is done with it afterwards.
fn release(
    plan: &JointPlan,
    program: &Program,
    me: &Me<'_>,
    values: &BTreeMap<Variable, Value>,
    uses: &mut Uses,
) -> Result<()> {
    let blame = |what: String| Error::new(Code::PeerMisbehaved, what).at(me.home);
    let of = |position: usize| -> Result<Value> {
        let source = plan.release.columns.get(position).map(|of| of.source);
        let Some(ReleasedSource::Opened(opened)) = source else {
            return Err(blame(
                "the release names a column that is not opened".to_owned(),
            ));
        };
        let variable = program.opened.get(opened).copied();
        let value = variable.and_then(|variable| values.get(&variable).cloned());
        Ok(value.unwrap_or_default())
    };
    // Everything that is opened is seen, whether or not it is shown.
    for variable in &program.opened {
        if let Some(value) = values.get(variable) {
            uses.released(value);
        }
    }
    let used = released_use(&plan.release.sql)
        .map_err(|not| blame(format!("the release has {}", not.construct)))?;
    for position in &used.shown {
        of(*position)?;
    }
    for position in &used.conditions {
        uses.compared(&of(*position)?);
    }
    for position in &used.order {
        uses.sorted(&of(*position)?);
    }
    Ok(())
}
