//! Joint answers under thresholds, of random queries over the whole class, judged by the oracle: nothing is
//! shown that too few people stand behind, and nothing else than the clear value.
//!
//! `VEILGATE_CASES` sets how many cases run, `VEILGATE_SEED` where they start. A failing case prints its
//! seed, its tables and its query.

use crate::data::{Dice, RandomTable, Shape};
use crate::differential::programs;
use crate::oracle::{Oracle, Verdict};
use std::collections::BTreeMap;
use veilgate_federated::catalog::Unit;
use veilgate_federated::error::Code;
use veilgate_federated::planner::Strategy;
use veilgate_federated::planner::budget::Budget;
use veilgate_federated::policy::Leakage;
use veilgate_federated::testing::{Department, Federation, TableData, every_use};

const NAMES: [&str; 3] = ["civil", "social", "tax"];

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().unwrap())
}

fn tables(dice: &mut Dice) -> Vec<RandomTable> {
    let mut shape = Shape::random(dice);
    shape.composite = false;
    let mut tables = vec![];
    for name in NAMES {
        let unique = dice.chance(60);
        let mut table = RandomTable::random(dice, &shape, name, unique);
        if dice.chance(50) {
            table.declare_repeats();
        }
        table.k = dice.range(2, 4) as u32;
        if table.unit == Unit::None {
            table.k = 1;
        }
        tables.push(table);
    }
    tables
}

fn federation(dice: &mut Dice, tables: &[RandomTable], folder: &std::path::Path) -> Federation {
    let sets = vec![
        ["bureau".to_owned(), "civil".to_owned(), "tax".to_owned()],
        ["bureau".to_owned(), "civil".to_owned(), "social".to_owned()],
        ["bureau".to_owned(), "social".to_owned(), "tax".to_owned()],
    ];
    let mut departments = vec![Department::neutral("bureau")];
    for table in tables {
        let mut department = Department {
            name: table.department.clone(),
            tables: vec![TableData {
                table: table.published(),
                rows: table.stored(dice),
                format: table.format,
            }],
            policy: None,
        };
        let published = department.published().unwrap();
        let mut policy = every_use(&published, table.k, Leakage::Sizes);
        policy.computing.clone_from(&sets);
        department.policy = Some(policy);
        departments.push(department);
    }
    let mut federation = Federation::new(folder, departments).unwrap();
    federation.budget = Some(Budget {
        memory_bytes: 2 << 30,
        sent_bytes: 1 << 30,
    });
    federation
}

/// What became of a case, or what is wrong.
fn run(seed: u64) -> Result<String, String> {
    let mut dice = Dice::new(seed ^ 0x6a01_0000_0000_0007);
    let tables = tables(&mut dice);
    let (sql, ordered) = {
        let mut maker = programs::Maker::new(&mut dice, &tables);
        let query = match maker.dice.index(6) {
            0 => maker.windows(),
            1 => maker.middles(),
            _ => maker.query(),
        };
        (query.sql, query.ordered)
    };
    let named = tables.iter().map(|table| {
        let name = format!("{}.t", table.department);
        (name, table.clean(), table.unit.clone(), table.k)
    });
    let oracle = Oracle::new(named.collect());
    let about = |what: String| {
        let of = tables.iter().map(|table| {
            format!(
                "  {}: {} rows, unique {}, unit {:?}, k {}\n",
                table.department, table.rows, table.unique, table.unit, table.k
            )
        });
        format!("seed {seed}: {what}\n{sql}\n{}", of.collect::<String>())
    };
    let folder = tempfile::tempdir().unwrap();
    let mut federation = federation(&mut dice, &tables, folder.path());
    let answer = federation.run_query(&sql, "civil", Some(Strategy::Steps));
    let judged = oracle.judge(&sql);
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            return match error.code {
                Code::Unsupported | Code::NotUnique | Code::LimitExceeded => {
                    Ok(format!("refused: {}", error.code.name()))
                }
                Code::PolicyDenied => {
                    if std::env::var_os("VEILGATE_DENIED").is_some() {
                        println!("{}", about(error.message.clone()));
                    }
                    Ok(format!("denied: {}", error.message))
                }
                Code::Overflow => Ok("overflow".to_owned()),
                _ => Err(about(error.to_string())),
            };
        }
    };
    let judged = match judged {
        Ok(judged) => judged,
        Err(_) => return Ok("not judged".to_owned()),
    };
    let limited = sql.contains(" LIMIT ");
    match oracle.compare(&judged, &answer.batch, ordered, limited) {
        Verdict::Equal if judged.expected == judged.clear => {
            Ok("equal, nothing withheld".to_owned())
        }
        Verdict::Equal => Ok("equal".to_owned()),
        Verdict::Stricter { .. } => Ok("stricter".to_owned()),
        Verdict::Undecided => Ok("undecided".to_owned()),
        other => Err(about(format!(
            "{other:?}\ngot {:?}\nexpected {:?}\nclear {:?}",
            crate::tables::rows(&answer.batch),
            crate::tables::rows(&judged.expected),
            crate::tables::rows(&judged.clear)
        ))),
    }
}

#[test]
fn answers_under_thresholds_show_no_one() {
    let first = setting("VEILGATE_SEED", 1);
    let cases = setting("VEILGATE_CASES", 300);
    let mut tally: BTreeMap<String, u64> = BTreeMap::new();
    let mut failures = Vec::new();
    for seed in first..first + cases {
        match run(seed) {
            Ok(kind) => *tally.entry(kind).or_default() += 1,
            Err(failure) => failures.push(failure),
        }
    }
    for (kind, count) in &tally {
        println!("{count:6} {kind}");
    }
    assert!(
        failures.is_empty(),
        "{} of {cases} cases\n{}",
        failures.len(),
        failures.join("\n")
    );
}
