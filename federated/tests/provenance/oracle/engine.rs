//! The engine, for what has nothing to do with units: parsing, types, expressions, values of windows.

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::catalog::{CatalogProvider, MemorySchemaProvider, SchemaProvider, view::ViewTable};
use datafusion::common::DFSchema;
use datafusion::datasource::MemTable;
use datafusion::execution::SessionState;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer as rules;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::create_physical_expr;
use datafusion::prelude::SessionContext;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use veilgate_federated::catalog::Unit;
use veilgate_federated::local::clear_session;

/// What the oracle does not know, or what fails in the clear too.
pub type Failure = String;

pub fn failed(error: impl Display) -> Failure {
    error.to_string()
}

/// A table in the clear.
pub struct Table {
    pub rows: RecordBatch,
    pub unit: Unit,
    pub k: u32,
    /// Tables of one space have the same units.
    pub space: Option<usize>,
}

pub struct Engine {
    pub context: SessionContext,
    pub tables: BTreeMap<String, Table>,
    runtime: tokio::runtime::Runtime,
}

impl Engine {
    pub fn new(tables: BTreeMap<String, Table>) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let engine = Self {
            context: clear_session(),
            tables,
            runtime: runtime.map_err(failed)?,
        };
        for (name, table) in &engine.tables {
            let rows = table.rows.clone();
            let memory = MemTable::try_new(rows.schema(), vec![vec![rows]]).map_err(failed)?;
            engine.register(name, Arc::new(memory))?;
        }
        Ok(engine)
    }

    fn register(
        &self,
        name: &str,
        table: Arc<dyn datafusion::catalog::TableProvider>,
    ) -> Result<(), Failure> {
        let (department, bare) = name.split_once('.').ok_or("a table without department")?;
        let catalog: Arc<dyn CatalogProvider> = self.context.catalog("datafusion").ok_or("none")?;
        let schema = match catalog.schema(department) {
            Some(schema) => schema,
            None => {
                let schema: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
                let made = catalog.register_schema(department, Arc::clone(&schema));
                made.map_err(failed)?;
                schema
            }
        };
        schema
            .register_table(bare.to_owned(), table)
            .map_err(failed)?;
        Ok(())
    }

    /// A name for the rows of all members.
    pub fn declare(&self, name: &str, members: &[&str]) -> Result<(), Failure> {
        let parts: Vec<String> = members
            .iter()
            .map(|member| format!("SELECT * FROM {member}"))
            .collect();
        let sql = parts.join(" UNION ALL ");
        let frame = self.context.sql(&sql);
        let plan = self
            .block_on(frame)
            .map_err(failed)?
            .into_unoptimized_plan();
        self.register(name, Arc::new(ViewTable::new(plan, None)))
    }

    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    pub fn state(&self) -> SessionState {
        self.context.state()
    }

    /// A query with types, its subqueries as joins, DISTINCT as groups, and without columns that nobody
    /// looks at. Nothing else is moved.
    pub fn plan(&self, sql: &str) -> Result<LogicalPlan, Failure> {
        let frame = self.block_on(self.context.sql(sql)).map_err(failed)?;
        let state = self.state();
        let mut options = state.config_options().as_ref().clone();
        options
            .optimizer
            .enable_physical_uncorrelated_scalar_subquery = false;
        let analysed =
            state
                .analyzer()
                .execute_and_check(frame.into_unoptimized_plan(), &options, |_, _| {});
        let list: Vec<Arc<dyn rules::OptimizerRule + Send + Sync>> = vec![
            Arc::new(rules::rewrite_set_comparison::RewriteSetComparison::new()),
            Arc::new(rules::eliminate_cross_join::EliminateCrossJoin::new()),
            Arc::new(rules::replace_distinct_aggregate::ReplaceDistinctWithAggregate::new()),
            Arc::new(rules::decorrelate_predicate_subquery::DecorrelatePredicateSubquery::new()),
            Arc::new(rules::scalar_subquery_to_join::ScalarSubqueryToJoin::new()),
            Arc::new(rules::extract_equijoin_predicate::ExtractEquijoinPredicate::new()),
            Arc::new(rules::optimize_projections::OptimizeProjections::new()),
        ];
        let context = rules::OptimizerContext::new_with_config_options(Arc::new(options));
        rules::Optimizer::with_rules(list)
            .optimize(analysed.map_err(failed)?, &context, |_, _| {})
            .map_err(failed)
    }

    /// Some functions have no values of their own, only a simpler form.
    pub fn simplified(&self, expr: &Expr, schema: &DFSchema) -> Result<Expr, Failure> {
        let state = self.state();
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(schema.clone()))
            .with_config_options(Arc::clone(state.config_options()))
            .build();
        let simplifier = ExprSimplifier::new(context);
        simplifier.simplify(expr.clone()).map_err(failed)
    }

    pub fn evaluate(
        &self,
        expr: &Expr,
        schema: &DFSchema,
        batch: &RecordBatch,
    ) -> Result<ArrayRef, Failure> {
        let expr = self.simplified(expr, schema)?;
        let state = self.state();
        let expr =
            create_physical_expr(&expr, schema, state.execution_props(), &Default::default());
        let values = expr.map_err(failed)?.evaluate(batch).map_err(failed)?;
        values.into_array(batch.num_rows()).map_err(failed)
    }
}
