//! Types one SELECT with the engine, over published schemas alone.
//!
//! Two plans come out: the plan as written, from which fragments are emitted, so that an owner's
//! engine coerces types exactly as a single engine over all data would; and the analysed plan, which
//! proves that the types go together and gives the schema of the result.

use super::diagnose;
use super::federated::Part;
use super::text::{PARSER_DEPTH, Query};
use super::{FederatedTable, Federation, emit};
use crate::catalog::{Published, Table};
use crate::error::{Code, Error, Result};
use crate::local::engine_config;
use crate::local::truncate::{DATE_TRUNC, date_trunc};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::{DataFusionError, TableReference};
use datafusion::config::ConfigOptions;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::logical_plan::builder::LogicalTableSource;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner};
use datafusion::logical_expr::{
    AggregateUDF, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource,
    WindowUDF, ident,
};
use datafusion::optimizer::Analyzer;
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast::Statement;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A typed query.
pub(super) struct Typed {
    /// As written.
    pub(super) plan: LogicalPlan,
    /// Names, types and nullability of the result, as the engine gives them.
    pub(super) output: Vec<(String, DataType, bool)>,
}

/// Types a query over every table of the federation.
pub(super) fn type_query(query: &Query, federation: &Federation) -> Result<Typed> {
    let mut scope = Scope::of(federation);
    scope.aggregates = SessionStateDefaults::default_aggregate_functions();
    let plan = scope
        .plan(query.statement.clone())
        .map_err(|error| diagnose::planning(query, &scope.tables, scope.take_error(), &error))?;
    let analysed = scope
        .analyse(plan.clone())
        .map_err(|error| diagnose::planning(query, &scope.tables, None, &error))?;
    let output = fields(&analysed);
    Ok(Typed { plan, output })
}

/// The types that parameters are used as, by name; none where nothing tells.
pub(super) fn parameter_types(
    query: &Query,
    federation: &Federation,
) -> Result<HashMap<String, Option<DataType>>> {
    let mut scope = Scope::of(federation);
    scope.aggregates = SessionStateDefaults::default_aggregate_functions();
    scope
        .plan(query.statement.clone())
        .and_then(|plan| plan.get_parameter_types())
        .map_err(|error| diagnose::planning(query, &scope.tables, scope.take_error(), &error))
}

/// Types a query over every table of the federation, and brings it into the engine's optimised form:
/// subqueries as joins, conditions near their tables, columns that nobody looks at gone.
pub(super) fn optimised(query: &Query, federation: &Federation) -> Result<Typed> {
    let mut scope = Scope::of(federation);
    scope.aggregates = SessionStateDefaults::default_aggregate_functions();
    let plan = scope
        .plan(query.statement.clone())
        .map_err(|error| diagnose::planning(query, &scope.tables, scope.take_error(), &error))?;
    let optimised = scope
        .analyse(plan)
        .and_then(|plan| scope.optimise(plan))
        .map_err(|error| {
            let error = diagnose::planning(query, &scope.tables, None, &error);
            // The names that the text gives were unique: what the engine makes of it are not.
            match error.code {
                Code::AmbiguousColumn => query.unsupported(
                    "a column and a cast of it in one GROUP BY or DISTINCT (name the cast in a \
                     subquery first)",
                    &["GROUP", "DISTINCT"],
                ),
                _ => error,
            }
        })?;
    let output = fields(&optimised);
    Ok(Typed {
        plan: optimised,
        output,
    })
}

/// Types and nullability of emitted SQL over these tables, as the engine that will run it sees them.
pub(super) fn schema_of(sql: &str, tables: Tables) -> Result<Vec<(DataType, bool)>> {
    let refuse = || {
        Error::new(
            Code::Unsupported,
            "joint queries do not support an expression of this query: it nests too deeply, or has \
             no equal form at its owner",
        )
    };
    let statement = Parser::new(&GenericDialect {})
        .with_recursion_limit(PARSER_DEPTH)
        .try_with_sql(sql)
        .and_then(|mut parser| parser.parse_statement())
        .map_err(|_| refuse())?;
    let mut scope = Scope::new(tables);
    scope.aggregates = SessionStateDefaults::default_aggregate_functions();
    scope
        .scalars
        .push(Arc::new(crate::local::functions::average()));
    scope
        .scalars
        .push(Arc::new(crate::local::functions::moment()));
    let plan = scope
        .plan(statement)
        .and_then(|plan| scope.analyse(plan))
        .map_err(|_| refuse())?;
    Ok(fields(&plan)
        .into_iter()
        .map(|(_, data_type, nullable)| (data_type, nullable))
        .collect())
}

fn fields(plan: &LogicalPlan) -> Vec<(String, DataType, bool)> {
    plan.schema()
        .fields()
        .iter()
        .map(|field| {
            (
                field.name().clone(),
                field.data_type().clone(),
                field.is_nullable(),
            )
        })
        .collect()
}

/// Schemas by (department, table); the department is empty inside one department.
#[derive(Default)]
pub(super) struct Tables(pub(super) BTreeMap<(String, String), SchemaRef>);

impl Tables {
    fn add_catalog(&mut self, catalog: &Published) {
        for table in &catalog.tables {
            self.0.insert(
                (catalog.department.clone(), table.name.clone()),
                table_schema(table),
            );
        }
    }

    /// One table, named without its department.
    pub(super) fn one(table: &Table) -> Self {
        Self::bare(&table.name, table_schema(table))
    }

    /// One schema of this name.
    pub(super) fn bare(name: &str, schema: SchemaRef) -> Self {
        Self(BTreeMap::from([((String::new(), name.to_owned()), schema)]))
    }
}

fn table_schema(table: &Table) -> SchemaRef {
    Arc::new(Schema::new(
        table
            .columns
            .iter()
            .map(|column| Field::new(&column.name, column.data_type.to_arrow(), column.nullable))
            .collect::<Vec<_>>(),
    ))
}

/// A federated table: UNION ALL of its members, which the engine puts in its place.
struct View(LogicalPlan);

impl TableSource for View {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.0.schema().inner())
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.0))
    }
}

/// The union of the members, columns in the order of the first's.
fn view(table: &FederatedTable, federation: &Federation) -> Result<LogicalPlan> {
    let parts = table.resolve(federation)?;
    let names: Vec<&str> = match parts.first() {
        Some(first) => first
            .table
            .columns
            .iter()
            .map(|of| of.name.as_str())
            .collect(),
        None => Vec::new(),
    };
    let one = |part: &Part<'_>| {
        let name = TableReference::partial(part.department, part.table.name.as_str());
        let source = Arc::new(LogicalTableSource::new(table_schema(part.table)));
        LogicalPlanBuilder::scan(name, source, None)?.project(names.iter().map(|of| ident(*of)))
    };
    let mut made: Option<std::result::Result<LogicalPlanBuilder, DataFusionError>> = None;
    for part in &parts {
        let rows = one(part);
        made = Some(match made {
            None => rows,
            Some(before) => before.and_then(|of| of.union(rows?.build()?)),
        });
    }
    made.and_then(|of| of.and_then(LogicalPlanBuilder::build).ok())
        .ok_or_else(|| {
            Error::new(
                Code::BadConfig,
                format!("{}: its members cannot be put together", table.name()),
            )
        })
}

/// What the engine may see while it types: schemas and allow-listed functions.
struct Scope {
    tables: Tables,
    options: ConfigOptions,
    planners: Vec<Arc<dyn ExprPlanner>>,
    scalars: Vec<Arc<ScalarUDF>>,
    aggregates: Vec<Arc<AggregateUDF>>,
    /// Federated tables by name.
    views: BTreeMap<(String, String), Result<LogicalPlan>>,
    windows: Vec<Arc<WindowUDF>>,
    error: RefCell<Option<Error>>,
}

impl Scope {
    fn new(tables: Tables) -> Self {
        Self {
            tables,
            options: engine_config().options().as_ref().clone(),
            planners: SessionStateDefaults::default_expr_planners(),
            scalars: SessionStateDefaults::default_scalar_functions()
                .into_iter()
                .filter(|function| emit::allowed(function.name()))
                .filter(|function| function.name() != DATE_TRUNC)
                .chain([Arc::new(date_trunc())])
                .collect(),
            aggregates: SessionStateDefaults::default_aggregate_functions()
                .into_iter()
                .filter(|function| matches!(function.name(), "count" | "sum" | "avg"))
                .collect(),
            views: BTreeMap::new(),
            windows: SessionStateDefaults::default_window_functions(),
            error: RefCell::new(None),
        }
    }

    /// Every table of the federation, and federated ones.
    fn of(federation: &Federation) -> Self {
        let mut tables = Tables::default();
        for member in &federation.members {
            for catalog in member.catalog.iter() {
                tables.add_catalog(catalog);
            }
        }
        let mut views = BTreeMap::new();
        for table in &federation.tables {
            let key = (table.space().to_owned(), table.table().to_owned());
            let view = view(table, federation);
            if let Ok(view) = &view {
                let schema = Arc::clone(view.schema().inner());
                tables.0.entry(key.clone()).or_insert(schema);
            }
            views.insert(key, view);
        }
        Self {
            views,
            ..Self::new(tables)
        }
    }

    fn plan(&self, statement: Statement) -> std::result::Result<LogicalPlan, DataFusionError> {
        let sql = &self.options.sql_parser;
        let options = ParserOptions::new()
            .with_parse_float_as_decimal(sql.parse_float_as_decimal)
            .with_enable_ident_normalization(sql.enable_ident_normalization)
            .with_support_varchar_with_length(sql.support_varchar_with_length)
            .with_map_string_types_to_utf8view(sql.map_string_types_to_utf8view)
            .with_collect_spans(true)
            .with_default_null_ordering(sql.default_null_ordering.as_str().into());
        SqlToRel::new_with_options(self, options).sql_statement_to_plan(statement)
    }

    fn analyse(&self, plan: LogicalPlan) -> std::result::Result<LogicalPlan, DataFusionError> {
        Analyzer::new().execute_and_check(plan, &self.options, |_, _| {})
    }

    /// Rules that only move, merge and drop; none that pushes one side's values into another, or that
    /// knows statistics.
    fn optimise(&self, plan: LogicalPlan) -> std::result::Result<LogicalPlan, DataFusionError> {
        use datafusion::optimizer as rules;
        let list: Vec<Arc<dyn rules::OptimizerRule + Send + Sync>> = vec![
            Arc::new(rules::rewrite_set_comparison::RewriteSetComparison::new()),
            Arc::new(rules::optimize_unions::OptimizeUnions::new()),
            Arc::new(rules::simplify_expressions::SimplifyExpressions::new()),
            Arc::new(rules::replace_distinct_aggregate::ReplaceDistinctWithAggregate::new()),
            Arc::new(rules::decorrelate_predicate_subquery::DecorrelatePredicateSubquery::new()),
            Arc::new(rules::scalar_subquery_to_join::ScalarSubqueryToJoin::new()),
            Arc::new(rules::decorrelate_lateral_join::DecorrelateLateralJoin::new()),
            Arc::new(rules::extract_equijoin_predicate::ExtractEquijoinPredicate::new()),
            Arc::new(rules::eliminate_duplicated_expr::EliminateDuplicatedExpr::new()),
            Arc::new(rules::eliminate_cross_join::EliminateCrossJoin::new()),
            Arc::new(rules::eliminate_outer_join::EliminateOuterJoin::new()),
            Arc::new(rules::push_down_filter::PushDownFilter::new()),
            Arc::new(rules::eliminate_group_by_constant::EliminateGroupByConstant::new()),
            Arc::new(rules::optimize_projections::OptimizeProjections::new()),
        ];
        let context =
            rules::OptimizerContext::new_with_config_options(Arc::new(self.options.clone()));
        rules::Optimizer::with_rules(list).optimize(plan, &context, |_, _| {})
    }

    fn take_error(&self) -> Option<Error> {
        self.error.borrow_mut().take()
    }
}

impl ContextProvider for Scope {
    fn get_table_source(
        &self,
        name: TableReference,
    ) -> std::result::Result<Arc<dyn TableSource>, DataFusionError> {
        let key = (
            name.schema().unwrap_or_default().to_owned(),
            name.table().to_owned(),
        );
        if let (Some(view), None) = (self.views.get(&key), name.catalog()) {
            return match view {
                Ok(plan) => Ok(Arc::new(View(plan.clone()))),
                Err(error) => {
                    *self.error.borrow_mut() = Some(error.clone());
                    Err(DataFusionError::Plan("no federated table".to_owned()))
                }
            };
        }
        match self.tables.0.get(&key) {
            Some(schema) if name.catalog().is_none() => {
                Ok(Arc::new(LogicalTableSource::new(Arc::clone(schema))))
            }
            _ => {
                *self.error.borrow_mut() = Some(diagnose::unknown_table(&key, &self.tables));
                Err(DataFusionError::Plan("unknown table".to_owned()))
            }
        }
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalars
            .iter()
            .find(|function| {
                function.name() == name || function.aliases().iter().any(|alias| alias == name)
            })
            .cloned()
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregates
            .iter()
            .find(|function| {
                function.name() == name || function.aliases().iter().any(|alias| alias == name)
            })
            .cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.windows
            .iter()
            .find(|function| {
                function.name() == name || function.aliases().iter().any(|alias| alias == name)
            })
            .cloned()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    // Never empty: the engine takes a context without functions for a defect.
    fn udf_names(&self) -> Vec<String> {
        let names = self.scalars.iter().map(|function| function.name());
        names.map(str::to_owned).collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        let names = self.aggregates.iter().map(|function| function.name());
        names.map(str::to_owned).collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        let names = self.windows.iter().map(|function| function.name());
        names.map(str::to_owned).collect()
    }
}
