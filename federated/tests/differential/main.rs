//! Random tables and random queries: the joint answer equals DataFusion's over the union of the
//! data, with suppression below k written independently in SQL.
//!
//! `VEILGATE_CASES` sets how many cases run (500 unless set), `VEILGATE_SEED` where they start. A
//! failing case prints its seed: `VEILGATE_SEED=<seed> VEILGATE_CASES=1` runs it again.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_sign_loss,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap
)]

mod canary;
mod data;
mod faults;
mod judge;
mod oracle;
mod programs;
mod query;
mod windows;

use data::{Dice, RandomTable, Shape};
use oracle::{Expected, Oracle, compare};
use query::Query;
use std::collections::BTreeMap;
use veilgate_federated::error::{Blame, Code, Error};
use veilgate_federated::plan::Operator;
use veilgate_federated::planner::Strategy;
use veilgate_federated::policy::Leakage;
use veilgate_federated::testing::{Answer, Department, Federation, TableData, open_policy};

const NAMES: [&str; 3] = ["civil", "social", "tax"];

struct Case {
    seed: u64,
    tables: Vec<RandomTable>,
    query: Query,
    strategy: Option<Strategy>,
    federation: Federation,
    _folder: tempfile::TempDir,
}

impl Case {
    fn random(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let shape = Shape::random(&mut dice);
        let owners = *dice.pick(&[1, 2, 2, 2, 2, 2, 3, 3, 3]);
        let neutral = owners < 3 || dice.chance(60);
        let duplicates = dice.chance(60).then(|| dice.index(owners));
        let mut tables = vec![];
        for (i, name) in NAMES.iter().enumerate().take(owners) {
            let unique = duplicates != Some(i);
            tables.push(RandomTable::random(&mut dice, &shape, name, unique));
        }
        let query = Query::random(&mut dice, &tables);
        let strategy = match dice.index(3) {
            _ if owners == 1 => None,
            0 => None,
            1 => Some(Strategy::Aligned),
            _ => Some(Strategy::Oblivious),
        };
        let leakage = if strategy == Some(Strategy::Oblivious) && dice.chance(50) {
            Leakage::None
        } else {
            Leakage::Sizes
        };
        let folder = tempfile::tempdir().unwrap();
        let departments = departments_of(&mut dice, &tables, neutral, leakage);
        let mut federation = Federation::new(folder.path(), departments).unwrap();
        federation.seed = seed;
        federation.lanes = *dice.pick(&[1, 1, 1, 2, 3]);
        Self {
            seed,
            tables,
            query,
            strategy,
            federation,
            _folder: folder,
        }
    }

    fn describe(&self) -> String {
        let mut text = format!(
            "seed {}, strategy {:?}\n{}\n",
            self.seed,
            self.strategy,
            self.query.sql()
        );
        for table in &self.tables {
            text += &format!(
                "{}: {} rows, unique {}, unit {:?}, k {}, {:?}\n",
                table.department, table.rows, table.unique, table.unit, table.k, table.format
            );
            for column in &table.columns {
                let nulls = if column.spec.nullable {
                    ""
                } else {
                    " not null"
                };
                text += &format!("  {} {}{nulls}\n", column.spec.name, column.spec.data_type);
            }
        }
        text
    }
}

/// All departments of a case; every set of three may compute.
fn departments_of(
    dice: &mut Dice,
    tables: &[RandomTable],
    neutral: bool,
    leakage: Leakage,
) -> Vec<Department> {
    let mut names: Vec<String> = tables.iter().map(|t| t.department.clone()).collect();
    if neutral {
        names.push("bureau".to_owned());
    }
    // One owner alone still needs three to compute.
    for extra in ["bureau2", "bureau3"] {
        if names.len() < 3 {
            names.push(extra.to_owned());
        }
    }
    names.sort();
    let mut sets = vec![];
    for a in 0..names.len() {
        for b in a + 1..names.len() {
            for c in b + 1..names.len() {
                sets.push([names[a].clone(), names[b].clone(), names[c].clone()]);
            }
        }
    }
    names
        .iter()
        .map(|name| {
            let Some(table) = tables.iter().find(|table| &table.department == name) else {
                return Department::neutral(name);
            };
            Department {
                name: name.clone(),
                tables: vec![TableData {
                    table: table.published(),
                    rows: table.stored(dice),
                    format: table.format,
                }],
                policy: Some(open_policy(name, &["t"], table.k, leakage, sets.clone())),
            }
        })
        .collect()
}

/// What became of a case.
enum Verdict {
    Equal(&'static str),
    Refused(Error),
}

fn run(case: &mut Case, runtime: &tokio::runtime::Runtime) -> Result<Verdict, String> {
    let oracle = Oracle::new(&case.tables);
    let expected = runtime.block_on(oracle.expected(&case.query))?;
    let sql = case.query.sql();
    let home = &case.tables[0].department.clone();
    let mut answer = case.federation.run_query(&sql, home, case.strategy);
    if case.strategy == Some(Strategy::Aligned)
        && let Err(error) = &answer
        && refused(error)
    {
        // Not every query can be aligned; then the other strategy answers it.
        answer = case.federation.run_query(&sql, home, None);
    }
    if let Ok(answer) = &answer
        && let Some(Operator::Program(_)) = answer.planned.plan.operators.last()
    {
        // What a program withholds is judged by who stands behind it (the provenance tests).
        if case.tables.iter().any(|table| table.k > 1) {
            return Ok(Verdict::Equal("in steps, with thresholds"));
        }
        // One result, every threshold of one unit: nothing is withheld.
        let plain = runtime.block_on(oracle.run(&sql))?;
        let (got, due) = (oracle::rows(&answer.batch), oracle::rows(&plain));
        return match got == due {
            true => Ok(Verdict::Equal("without thresholds")),
            false => Err(format!("rows {got:?}\nexpected {due:?}")),
        };
    }
    judge(&case.query, &expected, answer)
}

/// Errors of the planner that say "not in this way", as opposed to wrong answers.
fn refused(error: &Error) -> bool {
    matches!(
        error.code,
        Code::Unsupported | Code::NotUnique | Code::PolicyDenied
    ) || error.code == Code::BadConfig && error.message.contains("has no privacy unit")
}

fn judge(
    query: &Query,
    expected: &Expected,
    answer: Result<Answer, Error>,
) -> Result<Verdict, String> {
    match answer {
        Ok(answer) if !expected.overflows => {
            compare(query, expected, &answer.batch)?;
            Ok(Verdict::Equal(match answer.planned.strategy {
                Some(Strategy::Aligned) => "aligned",
                Some(Strategy::Oblivious) => "oblivious",
                Some(Strategy::Steps) | None => "one department",
            }))
        }
        Ok(_) => Err("an overflow was not noticed".to_owned()),
        Err(error) if expected.overflows && error.code == Code::Overflow => {
            Ok(Verdict::Equal("overflow"))
        }
        Err(error) if refused(&error) => Ok(Verdict::Refused(error)),
        Err(error) => Err(format!("{:?} {:?}: {error}", error.blame(), error.code)),
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap())
}

/// What became of a stretch of seeds.
#[derive(Default)]
struct Tally {
    kinds: BTreeMap<String, u64>,
    failures: Vec<String>,
    judged: u64,
}

/// Cases from `first` on, every `step`th, until `cases` are judged. A refused case is not a case:
/// others are drawn in its place, up to a bound.
fn stretch(first: u64, step: u64, cases: u64) -> Tally {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut tally = Tally::default();
    let mut drawn = 0;
    while tally.judged < cases && drawn < 2 * cases {
        let mut case = Case::random(first + drawn * step);
        drawn += 1;
        let kind = match run(&mut case, &runtime) {
            Ok(Verdict::Equal(kind)) => {
                tally.judged += 1;
                kind.to_owned()
            }
            Ok(Verdict::Refused(error)) => {
                assert_ne!(error.blame(), Blame::Internal);
                format!("refused: {}", error.message)
            }
            Err(difference) => {
                tally.judged += 1;
                tally
                    .failures
                    .push(format!("{}{difference}", case.describe()));
                "different".to_owned()
            }
        };
        *tally.kinds.entry(kind).or_default() += 1;
    }
    tally
}

/// All tallies as one, printed; fails with whatever differs.
fn conclude(tallies: Vec<Tally>) -> Tally {
    let mut all = Tally::default();
    for tally in tallies {
        for (kind, count) in tally.kinds {
            *all.kinds.entry(kind).or_default() += count;
        }
        all.failures.extend(tally.failures);
        all.judged += tally.judged;
    }
    for (kind, count) in &all.kinds {
        println!("{count:5} {kind}");
    }
    if !all.failures.is_empty() {
        // A line each, so that none is lost; then some in full.
        for failure in &all.failures {
            println!("differs: {}", failure.lines().next().unwrap_or_default());
        }
        let shown: Vec<_> = all.failures.iter().take(8).map(String::as_str).collect();
        panic!(
            "{} of {} differ:\n{}",
            all.failures.len(),
            all.judged,
            shown.join("\n----\n")
        );
    }
    all
}

#[test]
fn joint_answers_equal_clear_answers() {
    let cases = setting("VEILGATE_CASES", 500);
    let first = setting("VEILGATE_SEED", 1);
    let workers = cases.min(2);
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                let share = (cases + worker) / workers;
                scope.spawn(move || stretch(first + worker, workers, share))
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let Tally { kinds, judged, .. } = conclude(tallies);
    assert_eq!(judged, cases, "too many cases were refused");
    if cases >= 500 {
        for kind in ["aligned", "oblivious"] {
            let count = kinds.get(kind).copied().unwrap_or(0);
            assert!(count >= 100, "only {count} {kind} cases");
        }
    }
}
