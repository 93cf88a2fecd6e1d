//! Random queries: with every k = 1 the oracle gives what the engine gives; with more, what it expects is
//! what it says of itself; and inner joins with one group are judged as SQL that counts units judges them.
//!
//! `VEILGATE_CASES` sets how many cases run, `VEILGATE_SEED` where they start. A failing case prints its
//! seed and its query.

use crate::data::{Dice, RandomTable, Shape};
use crate::differential::{counting, programs, query};
use crate::oracle::{Judgement, Oracle, Verdict};
use arrow::array::RecordBatch;
use std::collections::BTreeMap;
use veilgate_federated::catalog::Unit;

const NAMES: [&str; 3] = ["civil", "social", "tax"];

fn setting(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().unwrap())
}

fn tables(dice: &mut Dice, composite: bool) -> Vec<RandomTable> {
    let mut shape = Shape::random(dice);
    shape.composite &= composite;
    let mut tables = vec![];
    for name in NAMES {
        let unique = dice.chance(60);
        let mut table = RandomTable::random(dice, &shape, name, unique);
        if dice.chance(50) {
            table.declare_repeats();
        }
        tables.push(table);
    }
    tables
}

/// The oracle of these tables, with this k or their own.
fn oracle(tables: &[RandomTable], k: Option<u32>) -> Oracle {
    let named = tables.iter().map(|table| {
        let name = format!("{}.t", table.department);
        let k = k.unwrap_or(table.k);
        (name, table.clean(), table.unit.clone(), k)
    });
    Oracle::new(named.collect())
}

/// A query of any kind that the generators make, and whether its order leaves nothing open.
fn any_query(dice: &mut Dice, tables: &[RandomTable]) -> (String, bool) {
    let mut maker = programs::Maker::new(dice, tables);
    let query = match maker.dice.index(6) {
        0 => maker.windows(),
        1 => maker.middles(),
        _ => maker.query(),
    };
    (query.sql, query.ordered)
}

/// How many cases went which way.
#[derive(Default)]
struct Tally(BTreeMap<String, u64>);

impl Tally {
    fn add(&mut self, kind: impl Into<String>) {
        *self.0.entry(kind.into()).or_default() += 1;
    }

    fn of(&self, kind: &str) -> u64 {
        self.0.get(kind).copied().unwrap_or_default()
    }

    fn print(&self) {
        for (kind, count) in &self.0 {
            println!("{count:5} {kind}");
        }
    }
}

/// What the oracle may say instead of a judgement.
fn unknown(error: &str) -> bool {
    error.starts_with("the oracle does not know") || error.contains("than the oracle looks at")
}

fn same(judgement: &Judgement, oracle: &Oracle, of: &RecordBatch, ordered: bool) -> bool {
    oracle.compare(judgement, of, ordered, false) == Verdict::Equal
}

#[test]
fn with_k_of_one_everything_is_shown() {
    let first = setting("VEILGATE_SEED", 1);
    let mut tally = Tally::default();
    for seed in first..first + setting("VEILGATE_CASES", 400) {
        let mut dice = Dice::new(seed ^ 0x0ac1_e000_0000_0000);
        let tables = tables(&mut dice, false);
        let (sql, ordered) = any_query(&mut dice, &tables);
        let oracle = oracle(&tables, Some(1));
        let about = || {
            format!(
                "seed {seed}\n{sql}\n{}",
                oracle.explain(&sql).unwrap_or_default()
            )
        };
        let (plain, judged) = (oracle.plain(&sql), oracle.judge(&sql));
        let (plain, judged) = match (plain, judged) {
            (Ok(plain), Ok(judged)) => (plain, judged),
            (_, Err(error)) if unknown(&error) => {
                tally.add(error);
                continue;
            }
            // What one of them divides by zero, the other may not come to.
            (Err(_), _) => {
                tally.add("fails in the clear");
                continue;
            }
            (_, Err(error)) if error.to_lowercase().contains("divide by zero") => {
                tally.add("divides earlier");
                continue;
            }
            (_, Err(error)) => panic!("{error}\n{}", about()),
        };
        let clear = same(&judged, &oracle, &judged.clear, true);
        assert!(clear, "something is withheld\n{}", about());
        let equal = same(&judged, &oracle, &plain, ordered);
        assert!(
            equal,
            "{:?}\n{:?}\n{}",
            crate::tables::rows(&plain),
            crate::tables::rows(&judged.clear),
            about()
        );
        tally.add("equal");
    }
    tally.print();
    assert!(tally.of("equal") * 10 >= setting("VEILGATE_CASES", 400) * 7);
}

/// The verdict on an answer that shows everything, and on one of a greater k.
#[test]
fn what_it_says_of_itself_is_consistent() {
    let first = setting("VEILGATE_SEED", 1);
    let mut tally = Tally::default();
    for seed in first..first + setting("VEILGATE_CASES", 150) {
        let mut dice = Dice::new(seed ^ 0x0ac1_e000_0000_0001);
        let tables = tables(&mut dice, false);
        let (sql, ordered) = any_query(&mut dice, &tables);
        let limited = sql.contains(" LIMIT ");
        let two = oracle(&tables, Some(2));
        let four = oracle(&tables, Some(4));
        let (Ok(judged), Ok(more)) = (two.judge(&sql), four.judge(&sql)) else {
            tally.add("not judged");
            continue;
        };
        let about = |verdict: &Verdict| format!("seed {seed}\n{sql}\n{verdict:?}");
        let own = two.compare(&judged, &judged.expected, ordered, limited);
        assert_eq!(own, Verdict::Equal, "{}", about(&own));
        match two.compare(&judged, &judged.clear, ordered, limited) {
            Verdict::Equal => tally.add("nothing to withhold"),
            Verdict::Shows(_) => tally.add("a leak is found"),
            Verdict::Undecided => tally.add("a leak is not decided"),
            other => panic!("{}", about(&other)),
        }
        match two.compare(&judged, &more.expected, ordered, limited) {
            Verdict::Equal => tally.add("as much"),
            Verdict::Stricter { .. } => tally.add("less with more k"),
            Verdict::Undecided => tally.add("less is not decided"),
            other => panic!("{}", about(&other)),
        }
    }
    tally.print();
}

/// The units of each group counted by SQL.
#[test]
fn one_block_is_judged_as_by_counting_in_sql() {
    let first = setting("VEILGATE_SEED", 1);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.unwrap();
    let mut tally = Tally::default();
    for seed in first..first + setting("VEILGATE_CASES", 200) {
        let mut dice = Dice::new(seed ^ 0x0ac1_e000_0000_0002);
        let mut tables = tables(&mut dice, true);
        tables.truncate(1 + dice.index(3));
        for table in &mut tables {
            // What a k of 1 asks for differs.
            table.k += 1;
            if table.unit == Unit::None && dice.chance(70) {
                table.unit = Unit::Row;
            }
        }
        let query = query::Query::random(&mut dice, &tables);
        let sql = query.sql();
        let oracle = oracle(&tables, None);
        let counted = runtime.block_on(counting::Oracle::new(&tables).expected(&query));
        let (Ok(counted), Ok(judged)) = (counted, oracle.judge(&sql)) else {
            tally.add("fails in the clear");
            continue;
        };
        if query.limit.is_some() && !query.total_order || counted.overflows {
            tally.add("left open");
            continue;
        }
        // Counting knows no atoms.
        let atoms = judged.groups.iter().all(|group| group.atoms_ok);
        let verdict = oracle.compare(&judged, &counted.limited, query.total_order, false);
        match (atoms, verdict) {
            (true, Verdict::Equal) => tally.add("equal"),
            (false, Verdict::Equal | Verdict::Shows(_) | Verdict::Undecided) => tally.add("atoms"),
            (_, other) => panic!(
                "seed {seed}\n{sql}\n{other:?}\n{:?}\n{:?}\n{:#?}",
                crate::tables::rows(&counted.limited),
                crate::tables::rows(&judged.expected),
                judged.groups
            ),
        }
    }
    tally.print();
    assert!(tally.of("equal") * 4 >= setting("VEILGATE_CASES", 200));
}
