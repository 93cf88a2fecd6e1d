//! SQL over `department.table` to a [`JointPlan`].
//!
//! One block of joins under one aggregate becomes a guarded plan (`block` to `release`); whatever is more
//! becomes a program (`program`, `algebra`), where no rule asks for a threshold.
//!
//! | module | does |
//! |---|---|
//! | `text` | the query as it was written: parsed, with the places of its words |
//! | [`statement`] | what kind of statement a text is, and where statements end |
//! | [`parameters`] | the types and values of a query's parameters |
//! | `sql` | types the query against published schemas alone |
//! | `federated` | tables of several departments' rows, as the union of them |
//! | `diagnose` | the engine's errors as ours: position, near misses, never a literal |
//! | `block` | the engine's logical plan to one normalised query block |
//! | `columns` | references of that block |
//! | `emit` | expressions back to SQL text, a small normal form |
//! | `predicate` | conditions across departments to comparisons and flags |
//! | `rules` | which rules a query uses: thresholds, leakage, computing parties |
//! | `order` | join orders and strategies |
//! | `keys` | join keys and what they make certain |
//! | `draft` | the fragment of one table, column by column |
//! | `conditions` | who evaluates which condition, what joins on what, grains |
//! | `assemble` | strategy, parties, fragments, operators |
//! | `cells` | released numbers and the unit counts that guard them |
//! | `release` | the final projection over released columns |
//! | `cost` | rows, bytes and rounds |
//! | `budget` | whether that is within what a gateway allows for one run |
//! | `rows` | the refusal of raw rows |
//! | `algebra` | relational algebra: what each owner does alone, and joint operators over the rest |
//! | `program` | a plan of several steps: algebra, sizes, parties |
//!
//! Planning is deterministic and trusts nobody with anything: every gateway re-checks the plan with
//! its own rules. It must not know of data, sockets, the clock or randomness.

mod algebra;
mod assemble;
mod block;
pub mod budget;
mod cells;
mod columns;
mod conditions;
mod cost;
mod diagnose;
mod draft;
mod emit;
mod federated;
mod keys;
mod order;
pub mod parameters;
mod predicate;
mod program;
mod release;
mod rows;
mod rules;
mod sql;
pub mod statement;
mod text;

pub use text::CATALOG;

use crate::catalog::Published;
use crate::error::{Code, Error, Result};
use crate::plan::{Engine, JointPlan, Line, Operator};
use crate::policy::Policy;
use crate::schema::Department;
use crate::stack::on_a_deep_stack;
use arrow::array::RecordBatch;
use std::fmt;

pub use cost::{Costs, FragmentCost, OperatorCost};
pub use federated::FederatedTable;

/// The longest SQL text that is planned, in bytes.
pub const MAX_SQL_BYTES: usize = 32 * 1024;

/// One gateway of the federation, as published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub department: Department,
    /// Its tables; none for a neutral gateway.
    pub catalog: Option<Published>,
    /// Its rules; none for a neutral gateway.
    pub policy: Option<Policy>,
}

/// All gateways that know each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Federation {
    /// In ascending order of department.
    pub members: Vec<Member>,
    /// Names for the rows of several members.
    pub tables: Vec<FederatedTable>,
}

/// What is to be planned, and for whom.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// One SELECT statement.
    pub sql: &'a str,
    /// Values of its parameters, a column each and one row; none for a query without.
    pub parameters: Option<&'a RecordBatch>,
    /// The department of the analyst: the result party.
    pub home: &'a str,
    /// Catalogues and rules of everybody.
    pub federation: &'a Federation,
    /// The engine that every gateway must run.
    pub engine: Engine,
    /// What the connections between the gateways are like.
    pub line: Line,
    /// Plan this strategy or fail; none: the cheapest that is allowed.
    pub strategy: Option<Strategy>,
}

/// How tables of different departments are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strategy {
    /// Through a neutral party that matches tags (leakage `sizes`).
    Aligned,
    /// Sort-based over shares (leakage `none`).
    Oblivious,
    /// By a program, also where one block would be enough.
    Steps,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aligned => "aligned",
            Self::Oblivious => "oblivious",
            Self::Steps => "in steps",
        })
    }
}

/// A plan, and what was weighed when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planned {
    /// The plan.
    pub plan: JointPlan,
    /// How its joins run; none without a join.
    pub strategy: Option<Strategy>,
    /// Strategies that were not possible, and why: a rule of a policy, or the shape of the query.
    pub rejected: Vec<(Strategy, String)>,
    /// Estimated rows, bytes and rounds.
    pub costs: Costs,
}

impl Federation {
    /// The member of this name.
    #[must_use]
    pub fn member(&self, department: &str) -> Option<&Member> {
        self.members
            .iter()
            .find(|member| member.department == department)
    }
}

/// Plans a query. The same request always gives the same plan.
///
/// # Errors
/// - [`Code::SqlSyntax`], [`Code::UnknownTable`], [`Code::UnknownColumn`],
///   [`Code::AmbiguousColumn`], [`Code::TypeMismatch`]: the text, with a position where known;
/// - [`Code::Unsupported`]: valid SQL outside the class of `docs/sql.md`;
/// - [`Code::NotUnique`]: a join that needs a key that is not declared;
/// - [`Code::PolicyDenied`]: raw rows, or no computing parties that every owner accepts;
/// - [`Code::BadConfig`]: joined columns whose owners declare different canonical forms; a federated
///   table whose members differ;
/// - [`Code::LimitExceeded`]: a text that is too long or nests too deeply.
pub fn plan(request: &Request<'_>) -> Result<Planned> {
    check_length(request.sql)?;
    on_a_deep_stack(|| plan_here(request))
}

fn check_length(sql: &str) -> Result<()> {
    if sql.len() <= MAX_SQL_BYTES {
        return Ok(());
    }
    Err(Error::new(
        Code::LimitExceeded,
        format!("the SQL text is longer than {MAX_SQL_BYTES} bytes"),
    ))
}

fn plan_here(request: &Request<'_>) -> Result<Planned> {
    let query = text::Query::parse(request.sql)?.bind(request.parameters)?;
    match (plan_block(request, &query), request.strategy) {
        (_, Some(Strategy::Steps)) => program::plan_program(request, &query),
        (Err(error), None) if matches!(error.code, Code::Unsupported | Code::NotUnique) => {
            program::plan_program(request, &query)
        }
        // Where no rule asks for more than one unit, a number over nothing is SQL's, not a withheld one.
        (Ok(planned), None) if counts_nothing(&planned) => {
            program::plan_program(request, &query).or(Ok(planned))
        }
        (planned, _) => planned,
    }
}

/// Whether a plan is of one result for the whole, with thresholds of one unit.
fn counts_nothing(planned: &Planned) -> bool {
    match planned.plan.operators.last() {
        Some(Operator::Aggregate { keys, units, .. }) => {
            keys.is_empty() && !units.is_empty() && units.iter().all(|unit| unit.k == 1)
        }
        _ => false,
    }
}

fn plan_block(request: &Request<'_>, query: &text::Query) -> Result<Planned> {
    let typed = sql::type_query(query, request.federation)?;
    let block = block::normalise(query, &typed, request.federation)?;
    assemble::assemble(request, query, &block)
}
