//! The one configuration of the query engine, for planner, fragments, release and oracles alike.
//!
//! Gateways whose configuration hash differs do not run a plan together, so nothing here may depend
//! on the machine. It must not know of files or of any department's catalogue.

use crate::error::{Code, Error, Result};
use crate::plan::Engine;
use datafusion::common::config::ConfigNonZeroUsize;
use datafusion::common::config::ConfigOptions;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Partitions of every local plan: fixed, so that results and memory do not depend on the machine.
const PARTITIONS: usize = 2;

/// The configuration of every session, of the clear-text oracle too.
///
/// - No dynamic filters: they carry values of one side of a join into the other.
/// - No statistics: MIN and MAX answered from file statistics would skip what scans check.
/// - Decimals, never floats, for literals with a point; plain `Utf8`, never view types.
/// - UTC, two partitions, nothing taken from the environment.
#[must_use]
pub fn engine_config() -> SessionConfig {
    let mut config = SessionConfig::new();
    let options = config.options_mut();
    options.catalog.create_default_catalog_and_schema = true;
    options.catalog.information_schema = false;
    options.sql_parser.parse_float_as_decimal = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.enable_ident_normalization = true;
    options.sql_parser.collect_spans = true;
    options.execution.collect_statistics = false;
    // The engine derives the nullability of CASE twice, and differently: a group over one would fail.
    options.execution.skip_physical_aggregate_schema_check = true;
    options.execution.target_partitions = PARTITIONS;
    options.execution.planning_concurrency = PARTITIONS;
    options.execution.time_zone = Some("+00:00".to_owned());
    if let Ok(rows) = ConfigNonZeroUsize::try_new(8192) {
        options.execution.batch_size = rows;
    }
    options.execution.parquet.schema_force_view_types = false;
    options.optimizer.enable_dynamic_filter_pushdown = false;
    options.optimizer.enable_join_dynamic_filter_pushdown = false;
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    options.optimizer.enable_topk_dynamic_filter_pushdown = false;
    options.optimizer.skip_failed_rules = false;
    options.optimizer.expand_views_at_output = false;
    config
}

/// Refuses a configuration in which a trap is open. Run at start and before every fragment.
///
/// # Errors
/// [`Code::Internal`], naming the option.
pub fn assert_engine(options: &ConfigOptions) -> Result<()> {
    let optimizer = &options.optimizer;
    let execution = &options.execution;
    let shut = [
        (
            "optimizer.enable_dynamic_filter_pushdown",
            !optimizer.enable_dynamic_filter_pushdown,
        ),
        (
            "optimizer.enable_join_dynamic_filter_pushdown",
            !optimizer.enable_join_dynamic_filter_pushdown,
        ),
        (
            "optimizer.enable_aggregate_dynamic_filter_pushdown",
            !optimizer.enable_aggregate_dynamic_filter_pushdown,
        ),
        (
            "optimizer.enable_topk_dynamic_filter_pushdown",
            !optimizer.enable_topk_dynamic_filter_pushdown,
        ),
        ("optimizer.skip_failed_rules", !optimizer.skip_failed_rules),
        (
            "execution.collect_statistics",
            !execution.collect_statistics,
        ),
        (
            "execution.parquet.schema_force_view_types",
            !execution.parquet.schema_force_view_types,
        ),
        (
            "execution.target_partitions",
            execution.target_partitions == PARTITIONS,
        ),
        (
            "execution.time_zone",
            execution.time_zone.as_deref() == Some("+00:00"),
        ),
        (
            "sql_parser.parse_float_as_decimal",
            options.sql_parser.parse_float_as_decimal,
        ),
        (
            "sql_parser.map_string_types_to_utf8view",
            !options.sql_parser.map_string_types_to_utf8view,
        ),
    ];
    match shut.iter().find(|(_, as_expected)| !as_expected) {
        None => Ok(()),
        Some((option, _)) => Err(Error::new(
            Code::Internal,
            format!("the query engine's option {option} is not what this version requires"),
        )),
    }
}

/// This engine, as plans name it: versions, and the SHA-256 of every option's name and value.
#[must_use]
pub fn engine() -> Engine {
    let config = engine_config();
    let mut entries: Vec<(String, String)> = config
        .options()
        .entries()
        .into_iter()
        .map(|entry| (entry.key, entry.value.unwrap_or_default()))
        .collect();
    entries.sort();
    let mut hash = Sha256::new();
    hash.update(b"veilgate engine configuration v1\0");
    for (key, value) in entries {
        for text in [&key, &value] {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
    }
    Engine {
        version: format!(
            "veilgate {} datafusion {}",
            env!("CARGO_PKG_VERSION"),
            datafusion::DATAFUSION_VERSION
        ),
        config_hash: hash.finalize().into(),
    }
}

/// A runtime with this many bytes of memory that never spills: clear rows must not reach a disk.
pub(crate) fn runtime(memory_bytes: usize) -> Result<Arc<RuntimeEnv>> {
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory_bytes)))
        .with_disk_manager_builder(
            DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled),
        )
        .build_arc()
        .map_err(|error| super::sanitise::engine_error(&error))
}

/// A session without tables and without limits, over data in the clear: an oracle's.
#[must_use]
pub fn clear_session() -> SessionContext {
    let state = SessionStateBuilder::new()
        .with_config(engine_config())
        .with_default_features()
        .with_physical_optimizer_rules(super::pushdown::rules())
        .build();
    SessionContext::new_with_state(state)
}

/// A session without tables.
pub(crate) fn session(memory_bytes: usize) -> Result<SessionContext> {
    let config = engine_config();
    assert_engine(config.options())?;
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime(memory_bytes)?)
        .with_default_features()
        .with_physical_optimizer_rules(super::pushdown::rules())
        .build();
    let context = SessionContext::new_with_state(state);
    context.register_udf(super::truncate::date_trunc());
    Ok(context)
}

/// Plans one query, and nothing that writes: fragment SQL comes from other gateways.
pub(crate) async fn query(context: &SessionContext, sql: &str) -> Result<DataFrame> {
    let reads = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    context
        .sql_with_options(sql, reads)
        .await
        .map_err(|error| super::sanitise::engine_error(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_shuts_every_trap() {
        assert_eq!(assert_engine(engine_config().options()), Ok(()));
        let mut open = engine_config();
        open.options_mut()
            .optimizer
            .enable_topk_dynamic_filter_pushdown = true;
        let error = assert_engine(open.options()).unwrap_err();
        assert_eq!(error.code, Code::Internal);
        assert!(error.message.contains("topk_dynamic_filter"));
    }

    #[test]
    fn options_that_default_to_the_number_of_processors_are_pinned() {
        assert_eq!(engine(), engine());
        // Options of the engine's own defaults that equal the number of processors here.
        let processors = std::thread::available_parallelism().unwrap().to_string();
        let defaults = SessionConfig::new();
        let of_machine: Vec<String> = defaults
            .options()
            .entries()
            .into_iter()
            .filter(|entry| entry.value.as_deref() == Some(processors.as_str()))
            .filter(|entry| {
                ["partitions", "concurrency", "parallelism", "threads"]
                    .iter()
                    .any(|word| entry.key.ends_with(word))
            })
            .map(|entry| entry.key)
            .collect();
        assert!(of_machine.len() >= 2, "{of_machine:?}");
        for entry in engine_config().options().entries() {
            if of_machine.contains(&entry.key) && !entry.key.contains("meta_fetch") {
                assert_eq!(entry.value.as_deref(), Some("2"), "{}", entry.key);
            }
        }
    }
}
