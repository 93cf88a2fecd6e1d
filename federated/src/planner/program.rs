//! Plans of the whole class of SQL: relational algebra, cut, and a program over what is left.

use super::algebra::{self, Columns, Lowered};
use super::rules::{self, Computing};
use super::sql::{Query, optimised};
use super::{Planned, Request};
use crate::error::{Code, Error, Result};
use crate::plan::{JointPlan, Operator, Party, Release};
use crate::policy::Leakage;
use crate::schema::Department;
use std::collections::BTreeSet;

/// Plans a query as a program.
///
/// # Errors
/// As [`super::plan`].
pub fn plan_program(request: &Request<'_>) -> Result<Planned> {
    let query = Query::parse(request.sql)?;
    let typed = optimised(&query, request.federation)?;
    let mut columns = Columns::default();
    let built = algebra::build(&query, request.federation, &mut columns, &typed.plan)?;
    let rel = algebra::eager(algebra::localise(built.rel, &mut columns)?, &mut columns)?;
    let cut = algebra::cut(rel, &built.output, &columns);
    let declared = |department: &str| forbids_sizes(request, department);
    let lowered = algebra::lower(
        &query,
        cut,
        &columns,
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
        plan,
        strategy: None,
        rejected: Vec::new(),
        costs: super::Costs::default(),
    })
}
