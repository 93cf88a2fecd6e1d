//! A text, checked and planned: what can be executed.

use super::{QueryManager, Session, options};
use crate::explain;
use crate::session::coordinator::Ready;
use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use std::sync::Arc;
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::local::views;
use veilgate_federated::planner::parameters;
use veilgate_federated::planner::statement::{Statement, statement};

/// A statement that was found good.
#[derive(Clone)]
pub(crate) struct Prepared {
    /// Its text.
    pub(crate) sql: String,
    /// Of its answer.
    pub(crate) schema: SchemaRef,
    /// Its parameters, a column each; none for a statement without.
    pub(crate) parameters: SchemaRef,
    pub(super) work: Work,
}

/// What is to be done.
#[derive(Clone)]
pub(super) enum Work {
    /// A plan is run by all its departments.
    Joint(Arc<Ready>),
    /// A plan is checked by all its departments and explained.
    Explain(Arc<Ready>),
    /// A query over the gateway's own views.
    Own {
        sql: String,
        parameters: Option<RecordBatch>,
    },
    /// An option is set, or shown.
    Option {
        name: String,
        value: Option<Option<String>>,
    },
    /// Nothing yet: values of parameters are missing.
    Unbound,
}

impl Prepared {
    /// The departments with a part in it.
    pub(super) fn departments(&self) -> Vec<String> {
        match &self.work {
            Work::Joint(ready) | Work::Explain(ready) => {
                ready.departments().map(str::to_owned).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl QueryManager {
    /// Checks a statement as far as it can be before it runs: its text, its types, and, for a joint query,
    /// the rules of every department with a part in it. Without values for its parameters it is checked
    /// with some of their types.
    ///
    /// # Errors
    /// The planner's, and every department's refusal.
    pub(crate) async fn prepare(
        &self,
        session: &Session,
        sql: &str,
        values: Option<&RecordBatch>,
    ) -> Result<Prepared> {
        let made = |schema, parameters, work| Prepared {
            sql: sql.to_owned(),
            schema,
            parameters,
            work,
        };
        let none = || Arc::new(Schema::empty());
        let kind = tokio::task::block_in_place(|| statement(sql))?;
        match kind {
            Statement::Joint => {
                session.may_ask()?;
                let ready = self.coordinator.plan(sql, values).await?;
                // Refusals belong here, not to the moment when rows are fetched.
                self.coordinator.explain(&ready, &session.asker()).await?;
                let (schema, parameters) = (ready.schema(), Arc::clone(&ready.parameters));
                let work = match ready.bound {
                    true => Work::Joint(Arc::new(ready)),
                    false => Work::Unbound,
                };
                Ok(made(schema, parameters, work))
            }
            Statement::Explain(query) => {
                session.may_ask()?;
                let ready = self.coordinator.plan(&query, values).await?;
                let parameters = Arc::clone(&ready.parameters);
                let work = match ready.bound {
                    true => Work::Explain(Arc::new(ready)),
                    false => Work::Unbound,
                };
                Ok(made(explain::schema(), parameters, work))
            }
            Statement::Own(query) => {
                let (views, text) = (self.views(session).await?, query.clone());
                let described = blocking(move || views::describe(&views, &text));
                let (schema, parameters) = described.await?;
                let unbound = values.is_none() && !parameters.fields().is_empty();
                let work = match unbound {
                    true => Work::Unbound,
                    false => Work::Own {
                        sql: query,
                        parameters: values
                            .map(|values| parameters::fitted(values, &parameters))
                            .transpose()?,
                    },
                };
                Ok(made(schema, parameters, work))
            }
            Statement::Set { name, value } => {
                let mut trial = session.options().clone();
                trial.set(&name, value.as_deref())?;
                let value = Some(value);
                Ok(made(option_schema(), none(), Work::Option { name, value }))
            }
            Statement::Show(name) => {
                if name != "all" {
                    session.options().get(&name)?;
                }
                let value = None;
                Ok(made(option_schema(), none(), Work::Option { name, value }))
            }
        }
    }

    /// Does what no other gateway has a part in, or only checks.
    pub(super) async fn answer_alone(&self, session: &Session, work: &Work) -> Result<RecordBatch> {
        match work {
            Work::Explain(ready) => {
                let explained = self.coordinator.explain(ready, &session.asker()).await?;
                explain::rows(&explain::to_wire(explained.entries))
            }
            Work::Own { sql, parameters } => {
                let views = self.views(session).await?;
                let (sql, parameters) = (sql.clone(), parameters.clone());
                blocking(move || views::answer(&views, &sql, parameters.as_ref())).await
            }
            Work::Option { name, value } => {
                if let Some(value) = value {
                    self.set_option(session, name, value.as_deref())?;
                    return option_rows(&[(name, value.clone().unwrap_or_default())]);
                }
                let names: Vec<&str> = match name.as_str() {
                    "all" => options::NAMES.to_vec(),
                    name => vec![name],
                };
                let rows = names
                    .into_iter()
                    .map(|name| Ok((name, session.options().get(name)?)))
                    .collect::<Result<Vec<_>>>()?;
                option_rows(&rows)
            }
            Work::Unbound | Work::Joint(_) => Err(unbound()),
        }
    }
}

/// A statement was to be executed without values for its parameters.
pub(crate) fn unbound() -> Error {
    Error::new(
        Code::BadRequest,
        "the statement has parameters: bind a value to each",
    )
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Error::new(Code::Internal, "a query over views ended abnormally"))?
}

fn option_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("option", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, false),
    ]))
}

fn option_rows<N: AsRef<str>>(rows: &[(N, String)]) -> Result<RecordBatch> {
    let names = StringArray::from_iter_values(rows.iter().map(|(name, _)| name));
    let values = StringArray::from_iter_values(rows.iter().map(|(_, value)| value));
    RecordBatch::try_new(option_schema(), vec![Arc::new(names), Arc::new(values)])
        .map_err(|_| Error::new(Code::Internal, "options do not fit their schema"))
}
