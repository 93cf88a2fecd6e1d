//! Runs random queries jointly and in the clear, and compares the answers.

use crate::data::{Dice, RandomTable, Shape};
use crate::oracle::{Oracle, rows};
use crate::programs::{Maker, Query};
use crate::{Tally, conclude, departments_of, setting};
use arrow::array::{ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Float64Type};
use std::sync::Arc;
use veilgate_federated::catalog::Unit;
use veilgate_federated::error::{Blame, Code};
use veilgate_federated::plan::explain::explain;
use veilgate_federated::planner::budget::Budget;
use veilgate_federated::policy::{AggregateFunction, Leakage, Rule, Use};
use veilgate_federated::testing::{Department, Federation};

const NAMES: [&str; 3] = ["civil", "social", "tax"];

/// Everything allowed with k = 1, raw output included.
fn open(mut departments: Vec<Department>, leakage: Leakage) -> Vec<Department> {
    for department in &mut departments {
        let Some(policy) = &mut department.policy else {
            continue;
        };
        for rule in &mut policy.rules {
            rule.k = 1;
        }
        for permits in [
            Use::Output,
            Use::Aggregate(AggregateFunction::Min),
            Use::Aggregate(AggregateFunction::Max),
            Use::Aggregate(AggregateFunction::Median),
        ] {
            policy.rules.push(Rule {
                name: format!("{}.t.*/{permits}", department.name),
                table: "t".to_owned(),
                column: "*".to_owned(),
                permits,
                k: 1,
                leakage,
                recipients: vec![],
                purposes: Vec::new(),
                case: false,
                weights: None,
            });
        }
    }
    departments
}

/// Civil and social have parts of one table, `national.t`; tax has its own.
fn divided(dice: &mut Dice, tables: Vec<RandomTable>) -> (Vec<RandomTable>, Vec<RandomTable>) {
    let [mut national, _, tax]: [RandomTable; 3] = tables.try_into().ok().unwrap();
    let mut held = national.split(dice, &["civil", "social"]);
    national.department = "national".to_owned();
    // Keys of one member are nothing that is known of all.
    national.unique = false;
    held.push(tax.clone());
    (vec![national.clone(), national, tax], held)
}

/// What one random query may use: two run at once, of three parties each.
const BUDGET: Budget = Budget {
    memory_bytes: 256 << 20,
    sent_bytes: 1 << 30,
};

fn case(
    seed: u64,
    horizontal: bool,
    make: Make,
    runtime: &tokio::runtime::Runtime,
    tally: &mut Tally,
) {
    let mut dice = Dice::new(seed ^ 0x5eed_0000_0000_0000);
    let mut shape = Shape::random(&mut dice);
    shape.composite = false;
    let mut tables = vec![];
    for name in NAMES {
        let unique = dice.chance(60);
        let mut table = RandomTable::random(&mut dice, &shape, name, unique);
        table.unit = Unit::Row;
        table.k = 1;
        if dice.chance(50) {
            table.declare_repeats();
        }
        tables.push(table);
    }
    let (tables, held) = match horizontal {
        true => divided(&mut dice, tables),
        false => (tables.clone(), tables),
    };
    let query = make(&mut Maker::new(&mut dice, &tables));
    let leakage = *dice.pick(&[Leakage::Sizes, Leakage::None]);
    let folder = tempfile::tempdir().unwrap();
    let departments = open(departments_of(&mut dice, &held, true, leakage), leakage);
    let mut federation = Federation::new(folder.path(), departments).unwrap();
    if horizontal {
        let members = ["civil.t", "social.t"].map(str::to_owned);
        federation.declare("national.t", &members).unwrap();
    }
    federation.seed = seed;
    federation.lanes = *dice.pick(&[1, 1, 2]);
    federation.budget = Some(BUDGET);
    let named = if horizontal {
        &tables[1..]
    } else {
        &tables[..]
    };
    let oracle = Oracle::new(named);
    let expected = runtime.block_on(oracle.run(&query.sql));
    let answer = federation.run_query(&query.sql, "civil", None);
    let plan = federation.plan(&query.sql, "civil", None);
    let plan = plan.map_or_else(|error| error.to_string(), |planned| explain(&planned, &[]));
    let failed = |what: String| format!("seed {seed}, {leakage:?}\n{}\n{plan}\n{what}", query.sql);
    let (answer, expected) = match (answer, expected) {
        (Ok(answer), Ok(expected)) => (answer, expected),
        // What overflows in the clear may, or may not, overflow jointly.
        (Err(error), Err(_)) if error.code == Code::Overflow => {
            *tally.kinds.entry("overflow".to_owned()).or_default() += 1;
            return;
        }
        (Ok(_), Err(_)) => return,
        // An owner divides before a join leaves rows out, where the engine may not come to them.
        (Err(error), Ok(_))
            if error.code == Code::Overflow
                && error.message.contains("division by zero")
                && query.sql.contains(" / ") =>
        {
            *tally.kinds.entry("divided earlier".to_owned()).or_default() += 1;
            return;
        }
        // Six tables beside each other, say, at their declared maximum: refused before anything runs.
        (Err(error), _) if error.code == Code::LimitExceeded => {
            *tally
                .kinds
                .entry("beyond the budget".to_owned())
                .or_default() += 1;
            if std::env::var_os("VEILGATE_SHOW").is_some() {
                println!("seed {seed} {}: {}", error.message, query.sql);
            }
            return;
        }
        (Err(error), _) if crate::refused(&error) => {
            assert_ne!(error.blame(), Blame::Internal);
            if std::env::var_os("VEILGATE_SHOW").is_some() {
                println!("seed {seed} {}: {}", error.message, query.sql);
            }
            let kind = format!("refused: {}", error.message);
            *tally.kinds.entry(kind).or_default() += 1;
            return;
        }
        (Err(error), _) => {
            tally.judged += 1;
            tally
                .failures
                .push(failed(format!("{:?} {error}", error.code)));
            return;
        }
    };
    // One block with an aggregate has thresholds, also of 1; another test judges it.
    if !matches!(
        answer.planned.plan.operators.last(),
        Some(veilgate_federated::plan::Operator::Program(_))
    ) {
        *tally.kinds.entry("one block".to_owned()).or_default() += 1;
        return;
    }
    tally.judged += 1;
    let (mut got, mut due) = (rows(&rounded(&answer.batch)), rows(&rounded(&expected)));
    // Equal keys of an order with a limit leave open which of equal rows are kept: rows are equal then.
    if !query.ordered {
        got.sort_unstable();
        due.sort_unstable();
    }
    let types = |batch: &arrow::array::RecordBatch| -> Vec<String> {
        let schema = batch.schema();
        let fields = schema.fields().iter();
        fields.map(|field| field.name().clone()).collect()
    };
    if got != due || types(&answer.batch) != types(&expected) {
        tally.failures.push(failed(format!(
            "rows\n  {}\nexpected\n  {}",
            got.join("\n  "),
            due.join("\n  ")
        )));
        return;
    }
    *tally.kinds.entry("equal".to_owned()).or_default() += 1;
}

/// Floating point to eleven digits: the engine adds in another order.
fn rounded(batch: &RecordBatch) -> RecordBatch {
    let columns: Vec<(String, ArrayRef, bool)> = batch
        .schema()
        .fields()
        .iter()
        .zip(batch.columns())
        .map(|(field, column)| {
            let column = match column.data_type() {
                DataType::Float64 => {
                    let numbers = column.as_primitive::<Float64Type>().iter();
                    let text = |of: f64| match of.abs() < 1e-9 {
                        true => "0".to_owned(),
                        false => format!("{of:.10e}"),
                    };
                    let texts = numbers.map(|number| number.map(text));
                    Arc::new(texts.collect::<StringArray>()) as ArrayRef
                }
                _ => column.clone(),
            };
            (field.name().clone(), column, true)
        })
        .collect();
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// Makes a query.
type Make = fn(&mut Maker<'_>) -> Query;

/// Random cases of such queries, over a federated table or not; the seeds of those that differ are printed.
fn judge(cases: u64, horizontal: bool, make: Make) {
    let first = setting("VEILGATE_SEED", 1);
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2)
            .map(|worker| {
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .unwrap();
                    let mut tally = Tally::default();
                    for seed in (first + worker..first + cases).step_by(2) {
                        case(seed, horizontal, make, &runtime, &mut tally);
                    }
                    tally
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let judged = conclude(tallies).judged;
    if cases >= 500 {
        assert!(judged * 2 > cases, "only {judged} of {cases} were answered");
    }
}

#[test]
fn answers_of_several_steps_equal_clear_answers() {
    judge(setting("VEILGATE_CASES", 1500), false, |maker| {
        maker.query()
    });
}

#[test]
fn answers_over_a_federated_table_equal_clear_answers() {
    judge(setting("VEILGATE_CASES", 600), true, |maker| maker.query());
}

#[test]
fn windows_equal_clear_windows() {
    judge(setting("VEILGATE_CASES", 500), false, |maker| {
        maker.windows()
    });
}

#[test]
fn medians_and_percentiles_equal_clear_ones() {
    judge(setting("VEILGATE_CASES", 500), false, |maker| {
        maker.middles()
    });
}
