//! Plans of the whole class of SQL: relational algebra, cut, and a program over what is left.

use super::algebra::{self, Columns, Lowered, Rel};
use super::rules::{self, Computing};
use super::sql::optimised;
use super::text::Query;
use super::{Planned, Request};
use crate::error::{Code, Error, Result};
use crate::plan::{JointPlan, Operator, Party, Release};
use crate::policy::Leakage;
use crate::schema::Department;
use std::collections::BTreeSet;

/// Plans a query as a program, which one block with an aggregate could not be, for this reason.
///
/// # Errors
/// As [`super::plan`]; the reason, where rules ask for more than one unit: a program has no thresholds.
pub(super) fn plan_program(request: &Request<'_>, query: &Query, reason: Error) -> Result<Planned> {
    let typed = optimised(query, request.federation)?;
    let mut columns = Columns::default();
    let built = algebra::build(query, request.federation, &mut columns, &typed.plan)?;
    if guarded(request, &built.rel) {
        return Err(reason);
    }
    let rel = algebra::eager(algebra::localise(built.rel, &mut columns)?, &mut columns)?;
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

/// Whether an owner's rules or levels ask for more than one unit behind what is released.
fn guarded(request: &Request<'_>, rel: &Rel) -> bool {
    if let Rel::Scan {
        department, table, ..
    } = rel
    {
        let member = request.federation.member(department);
        let Some(policy) = member.and_then(|member| member.policy.as_ref()) else {
            return false;
        };
        let name = table.name.as_str();
        let rules = policy.rules.iter().filter(|rule| rule.table == name);
        return rules.clone().any(|rule| rule.k > 1)
            || table
                .columns
                .iter()
                .any(|column| policy.level(name, &column.name).k_floor() > 1);
    }
    rel.inputs()
        .into_iter()
        .any(|input| guarded(request, input))
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
        fragments.push(fragment);
    }
    let mut operators: Vec<Operator> = (0..fragments.len())
        .map(|fragment| Operator::Input { fragment })
        .collect();
    operators.push(Operator::Program(lowered.program));
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
