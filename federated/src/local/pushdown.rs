//! The engine's physical filter pushdown, kept away from plans that it gets wrong.
//!
//! DataFusion 55 looks for the columns of a filter in the operator below by their names alone: over an outer
//! join of two tables that both have a column `at`, it makes `a.at < b.at` to `a.at < a.at`, and pushes that
//! down. Logical pushdown, which comes before, does not do so.

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use std::collections::BTreeSet;
use std::sync::Arc;

type Rule = Arc<dyn PhysicalOptimizerRule + Send + Sync>;

/// The engine's own rules, filter pushdown among them only where every name is of one column.
pub(super) fn rules() -> Vec<Rule> {
    let rules = PhysicalOptimizer::new().rules.into_iter();
    rules
        .map(|rule| match rule.name().starts_with("FilterPushdown") {
            true => Arc::new(WhereNamesAreUnique(rule)) as Rule,
            false => rule,
        })
        .collect()
}

#[derive(Debug)]
struct WhereNamesAreUnique(Rule);

impl PhysicalOptimizerRule for WhereNamesAreUnique {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        config: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match ambiguous(&plan) {
            true => Ok(plan),
            false => self.0.optimize(plan, config),
        }
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn schema_check(&self) -> bool {
        self.0.schema_check()
    }
}

/// Whether some operator has two columns of one name.
fn ambiguous(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let schema = plan.schema();
    let names: BTreeSet<&str> = schema
        .fields()
        .iter()
        .map(|of| of.name().as_str())
        .collect();
    names.len() < schema.fields().len()
        || plan.name().contains("Join") && sides_share(plan)
        || plan.children().into_iter().any(ambiguous)
}

/// Whether two inputs of an operator have columns of one name, even where the output shows one of them.
fn sides_share(plan: &Arc<dyn ExecutionPlan>) -> bool {
    let schemas: Vec<_> = plan.children().iter().map(|side| side.schema()).collect();
    let mut seen = BTreeSet::new();
    let mut names = schemas.iter().flat_map(|side| side.fields().iter());
    names.any(|field| !seen.insert(field.name()))
}

#[cfg(test)]
mod tests {
    use super::super::engine::clear_session;
    use super::*;
    use arrow::array::{Int64Array, RecordBatch};

    #[tokio::test]
    async fn a_filter_over_two_columns_of_one_name_looks_at_both() {
        let wrapped = rules();
        let wrapped = wrapped
            .iter()
            .filter(|rule| format!("{rule:?}").starts_with("WhereNames"));
        assert_eq!(wrapped.count(), 2, "the engine's rules have other names");

        let context = clear_session();
        let table = |id: Vec<i64>, at: Vec<i64>| {
            RecordBatch::try_from_iter([
                ("id", Arc::new(Int64Array::from(id)) as _),
                ("at", Arc::new(Int64Array::from(at)) as _),
            ])
            .unwrap()
        };
        context
            .register_batch("a", table(vec![1, 2], vec![5, 5]))
            .unwrap();
        context
            .register_batch("b", table(vec![1, 2], vec![5, 6]))
            .unwrap();
        let sql = "SELECT b.at AS c0, a.n AS c1, COUNT(b.id) AS c2 FROM b FULL JOIN \
                   (SELECT id, COUNT(*) AS n, SUM(at) AS low, MAX(at) AS at FROM a GROUP BY id) a ON a.id = b.id \
                   WHERE (a.n > 0) AND (a.at <> b.at OR a.low = 8) GROUP BY b.at, a.n";
        let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 1);
    }
}
