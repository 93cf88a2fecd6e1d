//! Guards of programs: a plan from which one is taken, or made to count less than it says, is refused by
//! the department whose units it would no longer count.

use crate::federation::federation;
use crate::permitted::{check, planned};
use veilgate_federated::error::Code;
use veilgate_federated::plan::program::{AggregateKind, Expression, Program, Relational};
use veilgate_federated::plan::{Encoding, JointPlan, Operator, Validated};
use veilgate_federated::planner::{Federation, Strategy};
use veilgate_federated::policy::Leakage;

const OWNERS: [&str; 3] = ["civil", "social", "tax"];

fn steps(federation: &Federation, sql: &str) -> JointPlan {
    planned(federation, sql, Some(Strategy::Steps)).unwrap()
}

fn program(plan: &mut JointPlan) -> &mut Program {
    match plan.operators.last_mut() {
        Some(Operator::Program(program)) => program,
        _ => panic!("a program"),
    }
}

/// The refusals of owners, by their own checks; none where all permit.
fn refusals(federation: &Federation, plan: &JointPlan) -> Vec<(String, String)> {
    let validated = match Validated::from_plan(plan) {
        Ok(validated) => validated,
        Err(error) => return vec![("decoding".to_owned(), error.message)],
    };
    let mut all = Vec::new();
    for owner in OWNERS {
        if plan.party(owner).is_none() {
            continue;
        }
        if let Err(error) = check(federation, &validated, owner) {
            assert_eq!(error.code, Code::PolicyDenied, "{error}");
            all.push((owner.to_owned(), error.message));
        }
    }
    all
}

/// A way to weaken a program; says whether there was something to weaken.
type Attack = (&'static str, fn(&mut Program) -> bool);

fn each(program: &mut Program, mut change: impl FnMut(&mut Relational) -> bool) -> bool {
    let mut any = false;
    for operator in &mut program.operators {
        any |= change(operator);
    }
    any
}

const ATTACKS: [Attack; 11] = [
    ("no guard", |program| {
        each(program, |operator| {
            let Relational::Guard { input, .. } = operator else {
                return false;
            };
            *operator = Relational::Map {
                input: *input,
                computed: Vec::new(),
            };
            true
        })
    }),
    ("a smaller k", |program| {
        each(program, |operator| match operator {
            Relational::Guard { units, .. } => {
                units.iter_mut().for_each(|unit| unit.k -= 1);
                true
            }
            _ => false,
        })
    }),
    ("the units of one table fewer", |program| {
        each(program, |operator| match operator {
            Relational::Guard { units, .. } => units.len() > 1 && units.pop().is_some(),
            _ => false,
        })
    }),
    ("the units of another owner", |program| {
        each(program, |operator| match operator {
            Relational::Guard { units, .. } => {
                units.iter_mut().for_each(|unit| unit.owner ^= 1);
                true
            }
            _ => false,
        })
    }),
    ("rows in place of units", |program| {
        each(program, |operator| match operator {
            Relational::Group { aggregates, .. } => {
                let mut any = false;
                for aggregate in aggregates {
                    if aggregate.function == AggregateKind::CountDistinct {
                        aggregate.function = AggregateKind::Count;
                        any = true;
                    }
                }
                any
            }
            _ => false,
        })
    }),
    ("the count of something else", |program| {
        let mut wrong = None;
        each(program, |operator| match operator {
            Relational::Group { aggregates, .. } => {
                let sum = aggregates
                    .iter()
                    .find(|of| of.function == AggregateKind::Sum);
                wrong = sum.map(|of| of.variable).or(wrong);
                false
            }
            Relational::Guard { units, .. } => match wrong {
                None => false,
                Some(wrong) => {
                    units.iter_mut().for_each(|unit| unit.rows = wrong);
                    true
                }
            },
            _ => false,
        })
    }),
    ("no atoms", |program| {
        each(program, |operator| match operator {
            Relational::Guard { units, cells, .. } => {
                let any = units.iter().any(|unit| !unit.atoms.is_empty());
                units.iter_mut().for_each(|unit| unit.atoms.clear());
                cells.iter_mut().for_each(|cell| cell.atoms.clear());
                any
            }
            _ => false,
        })
    }),
    ("one atom twice", |program| {
        each(program, |operator| match operator {
            Relational::Guard { units, .. } => {
                let mut any = false;
                for unit in units {
                    if let [first, second, ..] = unit.atoms.as_mut_slice() {
                        *first = *second;
                        any = true;
                    }
                }
                any
            }
            _ => false,
        })
    }),
    ("a number that no guard withholds", |program| {
        each(program, |operator| match operator {
            Relational::Guard { cells, .. } => {
                let before = cells.len();
                cells.retain(|cell| cell.atoms.is_empty());
                cells.len() < before
            }
            _ => false,
        })
    }),
    ("an atom over all rows", |program| {
        each(program, |operator| match operator {
            Relational::Group { aggregates, .. } => {
                let any = aggregates.iter().any(|of| of.when.is_some());
                aggregates.iter_mut().for_each(|of| of.when = None);
                any
            }
            _ => false,
        })
    }),
    ("a side whose rows repeat unseen", |program| {
        each(program, |operator| match operator {
            Relational::Join { left_most, .. } => left_most.take().is_some(),
            _ => false,
        })
    }),
];

/// Queries, and the attacks for which each has nothing to weaken that it relies on.
const QUERIES: [(&str, &[&str]); 6] = [
    (
        "SELECT r.district, COUNT(*) AS n, SUM(i.taxable_income) AS s FROM civil.residents r \
         JOIN tax.income i ON r.person_id = i.person_id GROUP BY r.district",
        &["a side whose rows repeat unseen"],
    ),
    (
        "SELECT i.year, COUNT(*) AS n, SUM(i.taxable_income) AS s, COUNT(*) FILTER (WHERE r.low_income) \
         AS low FROM civil.residents r JOIN tax.income i ON r.person_id = i.person_id GROUP BY i.year",
        &["a side whose rows repeat unseen"],
    ),
    (
        "SELECT r.district, MEDIAN(p.monthly_pension) AS m FROM civil.residents r LEFT JOIN social.pension p \
         ON r.person_id = p.person_id GROUP BY r.district",
        &[
            "the count of something else",
            "a side whose rows repeat unseen",
        ],
    ),
    (
        "SELECT COUNT(*) AS n, SUM(taxable_income) AS s FROM tax.income",
        &[
            "the units of one table fewer",
            "rows in place of units",
            "the count of something else",
            "an atom over all rows",
            "a side whose rows repeat unseen",
        ],
    ),
    (
        "SELECT district, COUNT(*) AS n FROM civil.residents WHERE person_id NOT IN \
         (SELECT person_id FROM social.pension) GROUP BY district",
        &[
            "rows in place of units",
            "the count of something else",
            "no atoms",
            "one atom twice",
            "a number that no guard withholds",
            "an atom over all rows",
        ],
    ),
    (
        "SELECT COUNT(*) AS n, AVG(c) AS m FROM (SELECT i.person_id, COUNT(*) AS c FROM tax.income i \
         JOIN civil.residents r ON r.person_id = i.person_id GROUP BY i.person_id) t",
        &[
            "rows in place of units",
            "no atoms",
            "one atom twice",
            "a number that no guard withholds",
            "an atom over all rows",
        ],
    ),
];

#[test]
fn a_weakened_guard_is_refused() {
    let federation = federation(Leakage::Sizes);
    let mut failures = Vec::new();
    for (sql, without) in QUERIES {
        let plan = steps(&federation, sql);
        assert_eq!(refusals(&federation, &plan), [], "{sql}");
        for (name, attack) in ATTACKS {
            if without.contains(&name) {
                continue;
            }
            let mut weak = plan.clone();
            if !attack(program(&mut weak)) {
                failures.push(format!("{name}: nothing to weaken\n  {sql}"));
            } else if refusals(&federation, &weak).is_empty() {
                failures.push(format!("{name}: permitted\n  {sql}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Queries that single people would stand behind, or that pick or pack their values.
#[test]
fn what_cannot_be_guarded_is_refused() {
    let federation = federation(Leakage::Sizes);
    let from = "civil.residents r JOIN tax.income i ON r.person_id = i.person_id";
    for (sql, code, words) in [
        (
            format!("SELECT r.person_id, i.year FROM {from}"),
            Code::PolicyDenied,
            "output",
        ),
        (
            "SELECT a.x FROM (SELECT household_id + 1 AS x FROM civil.residents) a".to_owned(),
            Code::Unsupported,
            "rows of single units",
        ),
    ] {
        let error = planned(&federation, &sql, Some(Strategy::Steps)).unwrap_err();
        assert_eq!(error.code, code, "{sql}: {error}");
        assert!(error.message.contains(words), "{sql}: {error}");
    }
    for sql in [
        format!(
            "SELECT SUM(CASE WHEN r.household_id = 7 THEN i.taxable_income ELSE 2 * i.taxable_income END) AS s FROM {from}"
        ),
        format!(
            "SELECT MAX(CASE WHEN r.household_id = 7 THEN r.threshold ELSE 0.5 END) AS s FROM {from}"
        ),
        "SELECT SUM(points * 1000000 + household_id) AS s FROM social.pension".to_owned(),
        "SELECT SUM(points * points * household_id * points) AS s FROM social.pension".to_owned(),
        "SELECT SUM(v) AS s FROM (SELECT points AS v FROM social.pension UNION ALL \
         SELECT -points FROM social.pension WHERE household_id <> 7) t"
            .to_owned(),
        // Picks below other operators.
        "SELECT SUM(v) AS s FROM (SELECT CASE WHEN household_id = 7 THEN points ELSE 2 * points END AS v \
         FROM social.pension UNION ALL SELECT household_id FROM civil.residents) t"
            .to_owned(),
        "SELECT SUM(s) AS s FROM (SELECT person_id, SUM(CASE WHEN household_id = 7 THEN points \
         ELSE 2 * points END) AS s FROM social.pension GROUP BY person_id) t"
            .to_owned(),
        "SELECT SUM(t.v) AS s FROM (SELECT r.person_id, CASE WHEN r.household_id = 7 THEN p.points \
         ELSE 2 * p.points END AS v FROM civil.residents r JOIN social.pension p \
         ON r.person_id = p.person_id) t JOIN tax.income i ON i.person_id = t.person_id"
            .to_owned(),
        "SELECT a.s - b.s AS d FROM (SELECT SUM(points) AS s FROM social.pension) a CROSS JOIN \
         (SELECT SUM(points) AS s FROM social.pension WHERE household_id <> 7) b"
            .to_owned(),
        "SELECT SUM(points) - (SELECT SUM(points) FROM social.pension WHERE household_id <> 7) AS d \
         FROM social.pension"
            .to_owned(),
        "SELECT SUM(points) AS s FROM social.pension UNION ALL \
         SELECT SUM(points) AS s FROM social.pension WHERE household_id <> 7"
            .to_owned(),
    ] {
        let refused = match planned(&federation, &sql, Some(Strategy::Steps)) {
            Ok(plan) => !refusals(&federation, &plan).is_empty(),
            Err(error) => {
                assert!(
                    matches!(error.code, Code::Unsupported | Code::PolicyDenied),
                    "{sql}: {error}"
                );
                true
            }
        };
        assert!(refused, "permitted: {sql}");
    }
}

/// What the checks of owners rely on is in the plan, not in the words of another owner.
#[test]
fn a_key_of_another_owner_is_not_believed() {
    let federation = federation(Leakage::Sizes);
    let sql = "SELECT r.district, COUNT(*) AS n FROM tax.income i JOIN civil.residents r \
               ON r.person_id = i.person_id GROUP BY r.district";
    let mut plan = steps(&federation, sql);
    let checked = each(program(&mut plan), |operator| {
        matches!(
            operator,
            Relational::Join {
                left_most: Some(1),
                ..
            }
        )
    });
    assert!(checked, "the left side is checked to repeat no key");
    // A flag of the program stands for what it says alone.
    let said = each(program(&mut plan), |operator| match operator {
        Relational::Map { computed, .. } => computed
            .iter()
            .any(|(_, of)| matches!(of, Expression::Text { .. })),
        _ => false,
    });
    assert!(!said);
}

/// Two units that share a short tag would count as one.
#[test]
fn short_tags_are_refused_by_their_owners() {
    let federation = federation(Leakage::Sizes);
    let sql = "SELECT r.district, COUNT(*) AS n FROM civil.residents r JOIN tax.income i \
               ON r.person_id = i.person_id GROUP BY r.district";
    let mut plan = planned(&federation, sql, Some(Strategy::Aligned)).unwrap();
    assert_eq!(refusals(&federation, &plan), []);
    let mut short = 0;
    for column in plan.fragments.iter_mut().flat_map(|of| &mut of.columns) {
        if let Encoding::KeyTag { bits, .. } = &mut column.encoding {
            *bits = 56;
            short += 1;
        }
    }
    assert_eq!(short, 2);
    let refused = refusals(&federation, &plan);
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(
        refused.iter().all(|(_, of)| of.contains("56 bits")),
        "{refused:?}"
    );
}

/// How small an input may look is for its owner to say, whatever size a plan declares.
#[test]
fn a_size_below_the_floor_of_its_owner_is_refused() {
    let mut federation = federation(Leakage::None);
    let sql = "SELECT r.district, COUNT(*) AS n FROM civil.residents r JOIN tax.income i \
               ON r.person_id = i.person_id GROUP BY r.district";
    let plan = steps(&federation, sql);
    assert_eq!(refusals(&federation, &plan), []);
    for member in &mut federation.members {
        if member.department == "tax"
            && let Some(policy) = &mut member.policy
        {
            policy.min_rows = 1 << 40;
        }
    }
    let refused = refusals(&federation, &plan);
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert!(
        refused[0].0 == "tax" && refused[0].1.contains("padded to"),
        "{refused:?}"
    );
}
