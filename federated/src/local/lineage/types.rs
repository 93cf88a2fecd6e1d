//! Types and nullability of a fragment's output, as the engine that will run it derives them.

use super::NotAllowed;
use crate::catalog::Table;
use crate::local::engine_config;
use crate::schema::ScalarType;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::TableReference;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::config::ConfigOptions;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::logical_plan::builder::LogicalTableSource;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner};
use datafusion::logical_expr::{
    AggregateUDF, Expr, ExprSchemable, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource,
    WindowUDF,
};
use datafusion::optimizer::Analyzer;
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use std::sync::Arc;

/// Types the output columns of a fragment over this table: what each is, and whether it can be
/// NULL. The text must have passed [`super::fragment_lineage`].
///
/// # Errors
/// Types that do not go together, or that cannot cross.
pub fn fragment_types(sql: &str, table: &Table) -> Result<Vec<(ScalarType, bool)>, NotAllowed> {
    let plan = analysed(sql, std::slice::from_ref(table))?;
    no_cast_of_text(&plan)?;
    super::failures::none(&plan)?;
    plan.schema()
        .fields()
        .iter()
        .map(|field| {
            ScalarType::from_arrow(field.data_type())
                .map(|data_type| (data_type, field.is_nullable()))
                .ok_or_else(|| NotAllowed::new("an output of a type that cannot cross"))
        })
        .collect()
}

/// The engine's plan of a fragment over these tables, with its own casts put in.
pub(super) fn analysed(sql: &str, tables: &[Table]) -> Result<LogicalPlan, NotAllowed> {
    let statement = super::parse(sql)?;
    let scope = Scope::new(tables);
    let parser = &scope.options.sql_parser;
    let options = ParserOptions::new()
        .with_parse_float_as_decimal(parser.parse_float_as_decimal)
        .with_enable_ident_normalization(parser.enable_ident_normalization)
        .with_support_varchar_with_length(parser.support_varchar_with_length)
        .with_map_string_types_to_utf8view(parser.map_string_types_to_utf8view);
    SqlToRel::new_with_options(&scope, options)
        .sql_statement_to_plan(statement)
        .and_then(|plan| Analyzer::new().execute_and_check(plan, &scope.options, |_, _| {}))
        .map_err(|_| NotAllowed::new("types that do not go together"))
}

/// Text that the engine would silently cast to another type can fail, and tell about itself.
fn no_cast_of_text(plan: &LogicalPlan) -> Result<(), NotAllowed> {
    let mut found = None;
    let walked = plan.apply(|node| {
        let inputs = node.inputs();
        node.apply_expressions(|whole| {
            whole.apply(|expr| {
                let Expr::Cast(cast) = expr else {
                    return Ok(TreeNodeRecursion::Continue);
                };
                let text = |of: &DataType| {
                    matches!(
                        of,
                        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
                    )
                };
                let literal = matches!(cast.expr.as_ref(), Expr::Literal(..));
                let from_text = inputs
                    .iter()
                    .any(|input| cast.expr.get_type(input.schema()).is_ok_and(|of| text(&of)));
                if !literal && from_text && !text(cast.field.data_type()) {
                    let column = cast
                        .expr
                        .column_refs()
                        .iter()
                        .next()
                        .map(|of| of.name.clone());
                    found = Some(NotAllowed {
                        construct: "text compared with another type".to_owned(),
                        column,
                    });
                    return Ok(TreeNodeRecursion::Stop);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    });
    match (walked, found) {
        (Ok(_), None) => Ok(()),
        (_, Some(not)) => Err(not),
        (Err(_), None) => Err(NotAllowed::new("an expression that cannot be walked")),
    }
}

/// Tables, and the functions of the engine; which of them may be called was checked before.
struct Scope {
    tables: Vec<(String, Arc<dyn TableSource>)>,
    options: ConfigOptions,
    planners: Vec<Arc<dyn ExprPlanner>>,
    scalars: Vec<Arc<ScalarUDF>>,
    aggregates: Vec<Arc<AggregateUDF>>,
    windows: Vec<Arc<WindowUDF>>,
}

impl Scope {
    fn new(tables: &[Table]) -> Self {
        let source = |table: &Table| -> Arc<dyn TableSource> {
            let fields: Vec<Field> = table
                .columns
                .iter()
                .map(|column| {
                    Field::new(&column.name, column.data_type.to_arrow(), column.nullable)
                })
                .collect();
            Arc::new(LogicalTableSource::new(Arc::new(Schema::new(fields))))
        };
        Self {
            tables: tables
                .iter()
                .map(|table| (table.name.clone(), source(table)))
                .collect(),
            options: engine_config().options().as_ref().clone(),
            planners: SessionStateDefaults::default_expr_planners(),
            scalars: SessionStateDefaults::default_scalar_functions(),
            aggregates: SessionStateDefaults::default_aggregate_functions(),
            windows: SessionStateDefaults::default_window_functions(),
        }
    }
}

impl ContextProvider for Scope {
    fn get_table_source(&self, name: TableReference) -> EngineResult<Arc<dyn TableSource>> {
        let own = self.tables.iter().find(|(own, _)| own == name.table());
        match own {
            Some((_, source)) if name.schema().is_none() => Ok(Arc::clone(source)),
            _ => Err(DataFusionError::Plan("another table".to_owned())),
        }
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        let named =
            |of: &&Arc<ScalarUDF>| of.name() == name || of.aliases().iter().any(|a| a == name);
        self.scalars.iter().find(named).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        let named =
            |of: &&Arc<AggregateUDF>| of.name() == name || of.aliases().iter().any(|a| a == name);
        self.aggregates.iter().find(named).cloned()
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        let named =
            |of: &&Arc<WindowUDF>| of.name() == name || of.aliases().iter().any(|a| a == name);
        self.windows.iter().find(named).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn udf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}
