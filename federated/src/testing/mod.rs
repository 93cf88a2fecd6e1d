//! A whole federation in one process: departments with tables on disk, the shared planner, every
//! gateway's own flow check, and all parties of a run on threads with in-memory links.
//!
//! For tests: seeds and identities come from a number, and nothing is signed. It must not be used
//! to answer anybody.

mod record;
mod tables;
#[cfg(feature = "tpch")]
pub mod tpch;

pub use record::{Frame, Recorder};
pub use tables::{Department, TableData, every_use, open_policy};

use crate::catalog::{Catalog, Format};
use crate::error::{Code, Error, Result};
use crate::flow::{self, Me};
use crate::joint::{self, Execution, Inputs, Outcome, Seeds, StatementExchange};
use crate::local::encode::{self, EncodedFragment};
use crate::local::{DataFusionEngine, LocalEngine, engine};
use crate::plan::{FragmentIndex, JointPlan, Line, PartyIndex, Validated};
use crate::planner::budget::{self, Budget};
use crate::planner::{self, Member, Planned, Request, Strategy};
use crate::policy::{Policy, Reason};
use crate::release::{self, ReleaseEntry, ReleaseJournal, ReleaseReceipt};
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use veilgate_mpc::net::memory::{MemoryLink, network};
use veilgate_mpc::net::{Link, Traffic};
use veilgate_mpc::spill::Memory;
use zeroize::Zeroizing;

/// Departments that answer together.
pub struct Federation {
    departments: Vec<Department>,
    engines: Vec<Option<DataFusionEngine>>,
    planning: planner::Federation,
    runtime: tokio::runtime::Runtime,
    /// Where frames are kept, if they are.
    pub recorder: Option<Recorder>,
    /// A department that is killed before joint execution.
    pub absent: Option<String>,
    /// Connections of each two computing parties.
    pub lanes: u32,
    /// The memory that each party may use.
    pub memory: Option<Memory>,
    /// What a plan may be expected to use, if that is limited.
    pub budget: Option<Budget>,
    /// Every seed of a run is derived from it; counts up by one a run.
    pub seed: u64,
}

/// What a query gave, and how.
#[derive(Debug)]
pub struct Answer {
    /// The rows.
    pub batch: RecordBatch,
    /// What the analyst is told about them.
    pub notices: Vec<String>,
    /// The plan that was run, and what was weighed.
    pub planned: Planned,
    /// What each party sent and received, by party index; none for one without a part.
    pub traffic: Vec<Option<Traffic>>,
}

impl Federation {
    /// Writes the departments' tables below `folder`, which the caller removes.
    ///
    /// # Errors
    /// `BadConfig` or `Internal` when files cannot be written.
    pub fn new(folder: &Path, mut departments: Vec<Department>) -> Result<Self> {
        departments.sort_by(|a, b| a.name.cmp(&b.name));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|_| Error::new(Code::Internal, "no runtime"))?;
        let mut engines = Vec::new();
        for department in &departments {
            let catalog = department.write(&folder.join(&department.name))?;
            engines.push(catalog.map(DataFusionEngine::new));
        }
        let members = departments.iter().map(|department| Member {
            department: department.name.clone(),
            catalog: department.published(),
            policy: department.policy.clone(),
        });
        let planning = planner::Federation {
            members: members.collect(),
            tables: vec![],
        };
        Ok(Self {
            departments,
            engines,
            planning,
            runtime,
            recorder: None,
            absent: None,
            lanes: 1,
            memory: None,
            budget: None,
            seed: 1,
        })
    }

    /// Departments whose tables lie in files already, each with its rules, and a neutral gateway.
    ///
    /// # Errors
    /// `Internal` without a runtime.
    pub fn of_catalogs(catalogs: Vec<Catalog>, policies: Vec<Policy>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|_| Error::new(Code::Internal, "no runtime"))?;
        let mut all: Vec<(String, Option<(Catalog, Policy)>)> = catalogs
            .into_iter()
            .zip(policies)
            .map(|(catalog, policy)| {
                let name = catalog.published.department.clone();
                (name, Some((catalog, policy)))
            })
            .collect();
        all.push(("bureau".to_owned(), None));
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let names: Vec<String> = all.iter().map(|(name, _)| name.clone()).collect();
        let (mut departments, mut engines, mut members) = (Vec::new(), Vec::new(), Vec::new());
        for (name, of) in all {
            let (catalog, policy) = of.unzip();
            let policy = policy.map(|mut policy| {
                policy.computing = tables::triples(&names);
                policy
            });
            members.push(Member {
                department: name.clone(),
                catalog: catalog.as_ref().map(|of| of.published.clone()),
                policy: policy.clone(),
            });
            let tables = catalog.iter().flat_map(|of| &of.published.tables);
            departments.push(Department {
                name,
                tables: tables
                    .map(|table| TableData {
                        table: table.clone(),
                        rows: RecordBatch::new_empty(Arc::new(Schema::empty())),
                        format: Format::Csv,
                    })
                    .collect(),
                policy,
            });
            engines.push(catalog.map(DataFusionEngine::new));
        }
        let planning = planner::Federation {
            members,
            tables: vec![],
        };
        Ok(Self {
            departments,
            engines,
            planning,
            runtime,
            recorder: None,
            absent: None,
            lanes: 1,
            memory: None,
            budget: None,
            seed: 1,
        })
    }

    /// Declares a federated table of these members.
    ///
    /// # Errors
    /// `BadConfig` for names that are none.
    pub fn declare(&mut self, name: &str, members: &[String]) -> Result<()> {
        let table = planner::FederatedTable::new(name, members);
        let table = table.map_err(|what| Error::new(Code::BadConfig, what))?;
        self.planning.tables.push(table);
        Ok(())
    }

    /// Plans a query as the home gateway does.
    ///
    /// # Errors
    /// The planner's.
    pub fn plan(&self, sql: &str, home: &str, strategy: Option<Strategy>) -> Result<Planned> {
        planner::plan(&Request {
            sql,
            parameters: None,
            home,
            federation: &self.planning,
            engine: engine(),
            line: Line {
                lanes: self.lanes,
                ..Line::default()
            },
            strategy,
        })
    }

    /// Plans, checks at every gateway, runs and opens.
    ///
    /// # Errors
    /// Whatever a gateway would tell the analyst.
    pub fn run_query(
        &mut self,
        sql: &str,
        home: &str,
        strategy: Option<Strategy>,
    ) -> Result<Answer> {
        let planned = self.plan(sql, home, strategy)?;
        if let Some(budget) = self.budget {
            budget::within(&planned.plan, budget)?;
        }
        self.check(&planned.plan, home)?;
        self.run_plan(planned)
    }

    /// Every party's own flow check.
    ///
    /// # Errors
    /// The first refusal, in the order of the parties.
    pub fn check(&self, plan: &JointPlan, home: &str) -> Result<()> {
        let validated = Validated::from_plan(plan)?;
        for party in &plan.parties {
            let department = self.department(&party.department)?;
            let published = department.published();
            let engine = engine();
            flow::check(
                &validated,
                &Me {
                    department: &department.name,
                    catalog: published.as_ref(),
                    policy: department.policy.as_ref(),
                    engine: &engine,
                    home,
                    reason: Reason::default(),
                },
            )?;
        }
        Ok(())
    }

    fn department(&self, name: &str) -> Result<&Department> {
        let found = self.departments.iter().find(|d| d.name == name);
        found.ok_or_else(|| Error::new(Code::Internal, "the plan names nobody's department"))
    }

    /// Runs a plan that has been checked, and opens its result.
    ///
    /// # Errors
    /// The first party's error that explains the failure.
    pub fn run_plan(&mut self, planned: Planned) -> Result<Answer> {
        let plan = &planned.plan;
        self.seed += 1;
        let seed = self.seed;
        let fragments = self.fragments(plan)?;
        let links = self.links(plan);
        let absent = self.absent.as_deref();
        let memory = &self.memory;
        let runs = |party: PartyIndex| {
            plan.takes_part(party) && Some(plan.parties[party].department.as_str()) != absent
        };
        let outcomes: Vec<Option<Result<Execution>>> = std::thread::scope(|scope| {
            let workers: Vec<_> = fragments
                .into_iter()
                .zip(links)
                .enumerate()
                .map(|(me, (fragments, links))| {
                    runs(me).then(|| {
                        scope.spawn(move || {
                            let seeds = seeds(seed, me, plan.parties.len());
                            let inputs = Inputs {
                                fragments,
                                memory: memory.clone(),
                                min_rows: 0,
                            };
                            let cancel = Arc::new(AtomicBool::new(false));
                            let progress = Arc::new(|_: &str, _: u64| {});
                            let mut statements = Unsigned;
                            joint::execute(
                                plan,
                                me,
                                links,
                                &seeds,
                                inputs,
                                &mut statements,
                                progress,
                                cancel,
                            )
                        })
                    })
                })
                .collect();
            workers
                .into_iter()
                .map(|worker| {
                    worker.map(|worker| {
                        worker.join().unwrap_or_else(|_| {
                            Err(Error::new(Code::Internal, "a party's thread panicked"))
                        })
                    })
                })
                .collect()
        });
        let outcomes = first_cause(plan, outcomes)?;
        let mut traffic = vec![];
        let mut shares: [Vec<u8>; 3] = Default::default();
        for (party, execution) in plan.parties.iter().zip(outcomes) {
            traffic.push(execution.as_ref().map(|execution| execution.traffic));
            let Some(execution) = execution else { continue };
            let entry = ReleaseEntry {
                run: [0; 32],
                plan_digest: [0; 32],
                transcript: execution.transcript(),
            };
            if let (Outcome::Computing(guarded), Some(role)) = (execution.outcome, party.computing)
            {
                let receipt = ReleaseReceipt::obtain(&mut NoJournal, &entry)?;
                shares[usize::from(role)] = guarded.seal(&receipt)?;
            }
        }
        let released = self.runtime.block_on(release::open_plan(plan, &shares))?;
        let (batch, notices) = released.into_parts();
        Ok(Answer {
            batch,
            notices,
            planned,
            traffic,
        })
    }

    /// Each party's own fragments, run in the clear.
    fn fragments(&self, plan: &JointPlan) -> Result<Vec<Vec<(FragmentIndex, EncodedFragment)>>> {
        let mut by_party: Vec<Vec<_>> = plan.parties.iter().map(|_| vec![]).collect();
        for (index, fragment) in plan.fragments.iter().enumerate() {
            let owner = &plan.parties[fragment.owner].department;
            let position = self.departments.iter().position(|d| &d.name == owner);
            let engine = position.and_then(|position| self.engines[position].as_ref());
            let engine =
                engine.ok_or_else(|| Error::new(Code::Internal, "an owner without tables"))?;
            let expect: Vec<_> = fragment
                .columns
                .iter()
                .map(|column| (column.data_type, column.nullable))
                .collect();
            let rows = self.runtime.block_on(engine.run(&fragment.sql, &expect));
            let encoded = encode::encode(&rows?, &fragment.columns)?;
            by_party[fragment.owner].push((index, encoded));
        }
        Ok(by_party)
    }

    /// Each party's links: one, and one more for each further lane if it computes.
    fn links(&self, plan: &JointPlan) -> Vec<Vec<Box<dyn Link>>> {
        let deadline = std::time::Duration::from_secs(20);
        let mut links: Vec<Vec<Box<dyn Link>>> = plan.parties.iter().map(|_| vec![]).collect();
        for lane in 0..plan.line.lanes {
            for (me, link) in network(plan.parties.len()).into_iter().enumerate() {
                if lane > 0 && plan.parties[me].computing.is_none() {
                    continue;
                }
                let link: MemoryLink = link.with_deadline(deadline);
                let link: Box<dyn Link> = Box::new(link);
                links[me].push(match &self.recorder {
                    Some(recorder) => recorder.wrap(link),
                    None => link,
                });
            }
        }
        links
    }
}

/// The error that is not merely the echo of another party's: a party that gives up closes its links,
/// so of those that are blamed for being gone, the one that never answered is.
fn first_cause(
    plan: &JointPlan,
    outcomes: Vec<Option<Result<Execution>>>,
) -> Result<Vec<Option<Execution>>> {
    let silent: Vec<&str> = plan
        .parties
        .iter()
        .zip(&outcomes)
        .filter(|(_, outcome)| outcome.is_none())
        .map(|(party, _)| party.department.as_str())
        .collect();
    let mut executions = vec![];
    let mut errors = vec![];
    for outcome in outcomes {
        match outcome.transpose() {
            Ok(execution) => executions.push(execution),
            Err(error) => errors.push(error),
        }
    }
    let rank = |error: &Error| match &error.department {
        _ if error.code != Code::PeerUnavailable => 0,
        Some(name) if silent.contains(&name.as_str()) => 1,
        _ => 2,
    };
    match errors.into_iter().min_by_key(rank) {
        Some(error) => Err(error),
        None => Ok(executions),
    }
}

/// The secrets of party `me`, all from one number.
fn seeds(seed: u64, me: PartyIndex, parties: usize) -> Seeds {
    let derive = |low: usize, high: usize| {
        let mut hash = blake3::Hasher::new();
        hash.update(b"veilgate testing");
        for part in [seed, low as u64, high as u64] {
            hash.update(&part.to_le_bytes());
        }
        *hash.finalize().as_bytes()
    };
    let pairs = (0..parties)
        .map(|peer| (peer != me).then(|| Zeroizing::new(derive(me.min(peer), me.max(peer)))))
        .collect();
    Seeds::new(pairs, derive(me, me))
}

/// Statements without signatures.
struct Unsigned;

impl StatementExchange for Unsigned {
    fn sign(&mut self, _statement: &[u8]) -> Result<Vec<u8>> {
        Ok(vec![])
    }

    fn accept(&mut self, _from: PartyIndex, _statement: &[u8], _signature: &[u8]) -> Result<()> {
        Ok(())
    }
}

struct NoJournal;

impl ReleaseJournal for NoJournal {
    fn record(&mut self, _entry: &ReleaseEntry) -> Result<u64> {
        Ok(0)
    }
}
