//! An independent oracle for privacy thresholds: evaluates a query in the clear, row by row, with the set
//! of privacy units behind every row, group and cell, and says what an answer may show.
//!
//! It shares no code with planner, flow check or release, which are judged by it, and it is slow and plain:
//! for tables of some hundreds of rows. From the engine it takes the parser, types, expressions, the
//! accumulators of aggregates and the values of window functions.
//!
//! A k of 1 asks for nothing: with every k = 1 the answer is the clear one.

#![allow(dead_code, unused_imports)]

mod branches;
mod compare;
mod engine;
mod evaluate;
mod groups;
mod joins;
mod relation;
mod verdict;
mod windows;

pub use verdict::{CellVerdict, GroupVerdict, Judgement, Scan, Verdict};

use arrow::array::RecordBatch;
use engine::{Engine, Table};
use evaluate::Evaluator;
use veilgate_federated::catalog::Unit;

/// The tables of all departments in the clear.
pub struct Oracle {
    engine: Engine,
}

impl Oracle {
    /// Tables by `department.table`, each with its privacy unit and its k.
    pub fn new(tables: Vec<(String, RecordBatch, Unit, u32)>) -> Self {
        let tables = tables.into_iter().map(|(name, rows, unit, k)| {
            let table = Table {
                rows,
                unit,
                k,
                space: None,
            };
            (name, table)
        });
        let engine = Engine::new(tables.collect());
        Self {
            engine: engine.expect("tables that the engine takes"),
        }
    }

    /// A federated table: a name for the rows of its members.
    pub fn declare(&mut self, name: &str, members: &[&str]) -> Result<(), String> {
        self.engine.declare(name, members)
    }

    /// Declares that the units of these tables are the same people: where a UNION ALL brings one of each
    /// together, they are counted together, each person once, up to the greatest k. Without it each member
    /// counts for itself.
    pub fn together(&mut self, members: &[&str]) {
        let tables = self.engine.tables.values();
        let space = tables
            .filter_map(|table| table.space)
            .max()
            .map_or(0, |space| space + 1);
        for member in members {
            let table = self.engine.tables.get_mut(*member);
            table.expect("a table of the oracle").space = Some(space);
        }
    }

    /// The answer in the clear, and what of it may be shown.
    ///
    /// # Errors
    /// What fails in the clear, and what the oracle does not know, by name.
    pub fn judge(&self, sql: &str) -> Result<Judgement, String> {
        let plan = self.engine.plan(sql)?;
        let mut open = Evaluator::new(&self.engine, false);
        let clear = open.root(&plan)?;
        let mut run = Evaluator::new(&self.engine, true);
        let expected = run.root(&plan)?;
        Ok(Judgement {
            clear: clear.batch()?,
            expected: expected.batch()?,
            groups: run.groups,
            clear_groups: open.groups,
            scans: run.scans,
            origins: expected.columns.iter().map(|c| c.origin).collect(),
            loose: run.loose,
            loose_values: run.loose_values,
            loose_order: run.loose_order,
        })
    }

    /// The plan that is evaluated, for messages.
    pub fn explain(&self, sql: &str) -> Result<String, String> {
        Ok(self.engine.plan(sql)?.display_indent().to_string())
    }

    /// What the engine itself answers in the clear.
    pub fn plain(&self, sql: &str) -> Result<RecordBatch, String> {
        let rows = self.engine.block_on(async {
            let frame = self.engine.context.sql(sql).await?;
            let schema = std::sync::Arc::new(frame.schema().as_arrow().clone());
            let batches = frame.collect().await?;
            Ok(arrow::compute::concat_batches(&schema, &batches)?)
        });
        rows.map_err(|error: datafusion::error::DataFusionError| error.to_string())
    }

    /// Compares an answer with a judgement. `ordered` says that the query's order leaves nothing open,
    /// `limited` that it has a LIMIT.
    pub fn compare(
        &self,
        judgement: &Judgement,
        got: &RecordBatch,
        ordered: bool,
        limited: bool,
    ) -> Verdict {
        compare::compare(judgement, got, ordered, limited)
    }
}
