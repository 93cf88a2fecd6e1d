//! The gateway's own tables: `veilgate.queries`, `veilgate.notices`, `veilgate.catalog`, and of its ledger
//! `veilgate.audit`.
//!
//! An analyst sees their own queries and what the ledger has of them, an auditor everybody's.

use super::{Query, QueryManager, Session, State};
use crate::clock::rfc3339;
use crate::ledger::recent;
use crate::users::Listed;
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::local::views::Views;
use veilgate_federated::planner::statement::OWN_SCHEMA;

/// Leaves that are looked at.
const NEWEST: u64 = 10_000;

impl QueryManager {
    /// The views as this analyst may see them now.
    pub(super) async fn views(&self, session: &Session) -> Result<Views> {
        let remembered = self.remembered(session);
        Ok(Views {
            schema: OWN_SCHEMA,
            tables: vec![
                ("queries", queries(&remembered)?),
                ("notices", notices(&remembered)?),
                ("catalog", self.columns().await?),
                ("audit", self.leaves(session, &remembered).await?),
                (
                    "sessions",
                    sessions(&self.listed(session), self.node.now())?,
                ),
            ],
        })
    }

    /// One row for each of the newest leaves that they may see.
    async fn leaves(&self, session: &Session, own: &[Arc<Query>]) -> Result<RecordBatch> {
        let ledger = self.node.ledger_folder();
        let read = tokio::task::spawn_blocking(move || recent(&ledger, NEWEST)).await;
        let mut leaves =
            read.map_err(|_| Error::new(Code::Internal, "the ledger was not read"))??;
        if !session.auditor {
            let own: HashSet<String> = own.iter().map(|query| query.id.to_string()).collect();
            leaves.retain(|leaf| own.contains(&leaf.text("run")));
        }
        let text = |field: &str| texts(leaves.iter().map(|leaf| leaf.text(field)).collect());
        let places = leaves.iter().map(|leaf| i64::try_from(leaf.index).ok());
        batch(vec![
            ("leaf", Arc::new(places.collect::<Int64Array>())),
            ("time", text("time")),
            ("kind", text("kind")),
            ("run", text("run")),
            ("plan", text("plan")),
            ("decision", text("decision")),
            ("reason", text("reason")),
            ("rule", text("rule")),
            ("column", text("column")),
            ("purpose", text("purpose")),
        ])
    }

    /// One row for each published column.
    async fn columns(&self) -> Result<RecordBatch> {
        let (federation, _) = self.coordinator.federation().await;
        let (mut departments, mut tables, mut names) = (Vec::new(), Vec::new(), Vec::new());
        let (mut types, mut nullable, mut keys) = (Vec::new(), Vec::new(), Vec::new());
        let (mut most, mut descriptions) = (Vec::new(), Vec::new());
        for catalog in federation
            .members
            .iter()
            .filter_map(|of| of.catalog.as_ref())
        {
            for table in &catalog.tables {
                for column in &table.columns {
                    departments.push(catalog.department.clone());
                    tables.push(table.name.clone());
                    names.push(column.name.clone());
                    types.push(column.data_type.to_string());
                    nullable.push(column.nullable);
                    keys.push(table.key.contains(&column.name));
                    most.push(i64::try_from(table.max_rows).unwrap_or(i64::MAX));
                    descriptions.push(column.description.clone());
                }
            }
        }
        batch(vec![
            ("department", texts(departments)),
            ("table_name", texts(tables)),
            ("column_name", texts(names)),
            ("data_type", texts(types)),
            ("nullable", Arc::new(BooleanArray::from(nullable))),
            ("is_key", Arc::new(BooleanArray::from(keys))),
            ("max_rows", Arc::new(Int64Array::from(most))),
            ("description", texts(descriptions)),
        ])
    }
}

fn queries(all: &[Arc<Query>]) -> Result<RecordBatch> {
    let each = |of: &dyn Fn(&Query) -> String| texts(all.iter().map(|query| of(query)).collect());
    let rows: Int64Array = all
        .iter()
        .map(|query| match query.state() {
            State::Done(finished) => i64::try_from(finished.rows.num_rows()).ok(),
            State::Gone(rows) | State::Kept { rows, .. } => i64::try_from(rows).ok(),
            State::Running(_) | State::Failed(_) => None,
        })
        .collect();
    batch(vec![
        ("query_id", each(&|query| query.id.to_string())),
        ("analyst", each(&|query| query.asker.analyst.clone())),
        ("submitted", each(&|query| rfc3339(query.submitted))),
        ("state", each(&|query| state(&query.state()))),
        ("departments", each(&|query| query.departments.join(", "))),
        ("purpose", each(&|query| query.asker.purpose.clone())),
        ("case_number", each(&|query| query.asker.case.clone())),
        ("rows", Arc::new(rows)),
    ])
}

/// One row for each session of a login.
fn sessions(all: &[Listed], now: u64) -> Result<RecordBatch> {
    let at = |ago: Duration| rfc3339(now.saturating_sub(ago.as_secs()));
    let connections = all.iter().map(|of| i64::try_from(of.connections).ok());
    batch(vec![
        (
            "analyst",
            texts(all.iter().map(|of| of.name.clone()).collect()),
        ),
        ("since", texts(all.iter().map(|of| at(of.age)).collect())),
        (
            "last_used",
            texts(all.iter().map(|of| at(of.idle)).collect()),
        ),
        ("connections", Arc::new(connections.collect::<Int64Array>())),
    ])
}

fn notices(all: &[Arc<Query>]) -> Result<RecordBatch> {
    let (mut ids, mut kinds, mut what) = (Vec::new(), Vec::new(), Vec::new());
    for query in all {
        for (kind, text) in query.notices() {
            ids.push(query.id.to_string());
            kinds.push(kind);
            what.push(text);
        }
    }
    batch(vec![
        ("query_id", texts(ids)),
        ("kind", texts(kinds)),
        ("notice", texts(what)),
    ])
}

fn state(state: &State) -> String {
    match state {
        State::Running(progress) if progress.phase.is_empty() => "running".to_owned(),
        State::Running(progress) => format!("running: {}", progress.phase),
        State::Done(_) => "done".to_owned(),
        State::Kept { .. } => "kept".to_owned(),
        State::Gone(_) => "fetched".to_owned(),
        State::Failed(error) => format!("failed: {}", error.code.name()),
    }
}

fn texts(values: Vec<String>) -> ArrayRef {
    Arc::new(StringArray::from(values))
}

fn batch(columns: Vec<(&str, ArrayRef)>) -> Result<RecordBatch> {
    let columns = columns
        .into_iter()
        .map(|(name, column)| (name, column, true));
    RecordBatch::try_from_iter_with_nullable(columns)
        .map_err(|_| Error::new(Code::Internal, "a view does not fit its schema"))
}
