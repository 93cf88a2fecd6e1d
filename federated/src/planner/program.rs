//! Plans of the whole class of SQL: relational algebra, cut, and a program over what is left.

use super::algebra::{self, Columns, Demands, Guarded, Lowered};
use super::rows;
use super::rules::{self, Computing};
use super::sql::{Typed, optimised};
use super::text::Query;
use super::{Planned, Request};
use crate::catalog::Unit;
use crate::error::{Code, Error, Result};
use crate::flow;
use crate::plan::program::Relational;
use crate::plan::{JointPlan, Operator, Party, PublicSize, Release};
use crate::policy::Leakage;
use crate::schema::Department;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use std::collections::BTreeSet;

/// How often thresholds are looked up again before the largest are taken.
const MAX_ROUNDS: usize = 3;

/// Plans a query as a program.
///
/// # Errors
/// As [`super::plan`].
pub(super) fn plan_program(request: &Request<'_>, query: &Query) -> Result<Planned> {
    let typed = optimised(query, request.federation)?;
    let mut demands = expected(request, &typed)?;
    let mut planned = with(request, query, &typed, &demands)?;
    for round in 0..MAX_ROUNDS {
        let mut due = demanded(request, &planned.plan)?;
        if due == demands {
            break;
        }
        if round + 1 == MAX_ROUNDS {
            // Guards and what they ask for do not settle: the stricter of both.
            for (table, k) in &demands {
                let known = due.entry(table.clone()).or_insert(*k);
                *known = (*known).max(*k);
            }
        }
        demands = due;
        planned = with(request, query, &typed, &demands)?;
    }
    guarded(request, query, &planned.plan)?;
    Ok(planned)
}

/// Refuses what no owner would let pass: it is the planner that has no guard for it.
fn guarded(request: &Request<'_>, query: &Query, plan: &JointPlan) -> Result<()> {
    for (index, party) in plan.parties.iter().enumerate() {
        let member = request.federation.member(&party.department);
        let Some((catalog, policy)) =
            member.and_then(|of| Some((of.catalog.as_ref()?, of.policy.as_ref()?)))
        else {
            continue;
        };
        let found = flow::unguarded(plan, index, request.home, catalog, policy)?;
        if let Some(denial) = found {
            return Err(query.unsupported(
                &format!(
                    "{}, where rules ask for a threshold. What would run: {}",
                    denial.asked, denial.alternative
                ),
                &[],
            ));
        }
    }
    Ok(())
}

/// Plans with these thresholds.
fn with(request: &Request<'_>, query: &Query, typed: &Typed, demands: &Demands) -> Result<Planned> {
    let mut columns = Columns::default();
    let built = algebra::build(query, request.federation, &mut columns, &typed.plan)?;
    let rel = match algebra::guard(query, built.rel, demands, &mut columns)? {
        Guarded::Rel(rel) => rel,
        Guarded::Rows(rel, refusal) => {
            let shown: Vec<_> = built.output.iter().filter_map(|id| rel.base(*id)).collect();
            return Err(rows::denied(request, query, &shown).unwrap_or(*refusal));
        }
    };
    let rel = algebra::eager(algebra::localise(rel, &mut columns)?, &mut columns)?;
    let cut = algebra::cut(rel, &built.output, &columns);
    let declared = |department: &str| forbids_sizes(request, department);
    let lowered = algebra::lower(
        query,
        cut,
        &mut columns,
        &built.output,
        &typed.output,
        &declared,
    )?;
    let owners: BTreeSet<Department> = lowered
        .fragments
        .iter()
        .map(|(department, _)| department.clone())
        .collect();
    let owners: Vec<Department> = owners.into_iter().collect();
    let sets = rules::computing_sets(request.federation, &owners, request.home, false)?;
    let set = sets
        .first()
        .ok_or_else(|| Error::new(Code::Internal, "there is no computing set"))?;
    assemble(request, lowered, &owners, set)
}

/// A guess at the thresholds before uses are known: the largest of each table's rules and levels.
fn expected(request: &Request<'_>, typed: &Typed) -> Result<Demands> {
    let mut demands = Demands::new();
    let _ = typed.plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            let department = scan.table_name.schema().unwrap_or_default();
            let member = request.federation.member(department);
            let Some((policy, table)) = member.and_then(|member| {
                let table = member.catalog.as_ref()?.table(scan.table_name.table())?;
                Some((member.policy.as_ref()?, table))
            }) else {
                return Ok(TreeNodeRecursion::Continue);
            };
            let rules = policy
                .rules
                .iter()
                .filter(|rule| rule.table == table.name && rule.receives(request.home));
            let levels = table
                .columns
                .iter()
                .map(|column| policy.level(&table.name, &column.name).k_floor());
            let k = rules.map(|rule| rule.k).chain(levels).max().unwrap_or(1);
            if k > 1 && table.unit != Unit::None {
                demands.insert((department.to_owned(), table.name.clone()), k);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    });
    Ok(demands)
}

/// The thresholds that every owner will ask of this plan.
fn demanded(request: &Request<'_>, plan: &JointPlan) -> Result<Demands> {
    let mut demands = Demands::new();
    for (index, party) in plan.parties.iter().enumerate() {
        let member = request.federation.member(&party.department);
        let Some((catalog, policy)) =
            member.and_then(|of| Some((of.catalog.as_ref()?, of.policy.as_ref()?)))
        else {
            continue;
        };
        let needed = flow::thresholds(plan, index, request.home, catalog, policy)?;
        for (table, k) in needed {
            if k > 1 {
                demands.insert((party.department.clone(), table), k);
            }
        }
    }
    Ok(demands)
}

/// Whether a department accepts declared sizes only.
fn forbids_sizes(request: &Request<'_>, department: &str) -> bool {
    let member = request.federation.member(department);
    let policy = member.and_then(|member| member.policy.as_ref());
    policy.is_none_or(|policy| {
        policy
            .rules
            .iter()
            .any(|rule| rule.leakage == Leakage::None)
    })
}

fn assemble(
    request: &Request<'_>,
    lowered: Lowered,
    owners: &[Department],
    set: &Computing,
) -> Result<Planned> {
    let mut names: BTreeSet<Department> = owners.iter().cloned().collect();
    names.extend(set.departments.iter().cloned());
    names.insert(request.home.to_owned());
    let names: Vec<Department> = names.into_iter().collect();
    let parties = names
        .iter()
        .map(|department| {
            let role = set.departments.iter().position(|name| name == department);
            let member = request.federation.member(department);
            Party {
                department: department.clone(),
                computing: role.and_then(|role| u8::try_from(role).ok()),
                result: department == request.home,
                catalog_version: owners
                    .contains(department)
                    .then(|| Some(member?.catalog.as_ref()?.version()))
                    .flatten(),
            }
        })
        .collect();
    let mut fragments = Vec::new();
    for (department, mut fragment) in lowered.fragments {
        fragment.owner = rules::party(&names, &department)
            .ok_or_else(|| Error::new(Code::Internal, "a fragment of no party"))?;
        // An owner's floor for sizes is a floor for what it declares, too.
        if let PublicSize::Declared(rows) = &mut fragment.size {
            let member = request.federation.member(&department);
            let policy = member.and_then(|member| member.policy.as_ref());
            *rows = (*rows).max(policy.map_or(0, |policy| policy.min_rows));
        }
        fragments.push(fragment);
    }
    let mut operators: Vec<Operator> = (0..fragments.len())
        .map(|fragment| Operator::Input { fragment })
        .collect();
    let mut program = lowered.program;
    for operator in &mut program.operators {
        if let Relational::Guard { units, .. } = operator {
            for unit in units {
                let name = lowered.departments.get(unit.owner);
                unit.owner = name
                    .and_then(|name| rules::party(&names, name))
                    .ok_or_else(|| Error::new(Code::Internal, "a guard of no party"))?;
            }
        }
    }
    operators.push(Operator::Program(program));
    let plan = JointPlan {
        engine: request.engine.clone(),
        parties,
        fragments,
        release: Release {
            input: operators.len() - 1,
            columns: lowered.release.columns,
            group_guards: Vec::new(),
            public_groups: None,
            sql: lowered.release.sql,
            output: lowered.release.output,
        },
        operators,
        line: request.line,
    };
    Ok(Planned {
        costs: super::cost::estimate(&plan),
        plan,
        strategy: None,
        rejected: Vec::new(),
    })
}
