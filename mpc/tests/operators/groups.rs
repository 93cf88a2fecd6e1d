//! GROUP BY.

use crate::clear::{Cell, SIZES, bits, cell, flag_column, flags, number, order, rows};
use std::collections::{BTreeMap, HashSet};
use veilgate_mpc::input::ClearColumn;
use veilgate_mpc::net::Step;
use veilgate_mpc::oblivious::group::{Agg, Which, aggregate, aggregate_sorted};
use veilgate_mpc::release::ClearTable;
use veilgate_mpc::testing::{data, open_table, share_table, three_parties};

const AGGS: [Agg; 12] = [
    Agg::Count { when: None },
    Agg::Sum { column: 2 },
    Agg::CountDistinct {
        unit: 4,
        when: None,
    },
    Agg::Count { when: Some(5) },
    Agg::Sum { column: 3 },
    Agg::CountDistinct {
        unit: 4,
        when: Some(5),
    },
    Agg::CountDistinct {
        unit: 6,
        when: Some(5),
    },
    value(Which::Min, None),
    value(Which::Max, Some(5)),
    value(Which::First, Some(5)),
    value(Which::Last, None),
    value(Which::Min, Some(5)),
];

const fn value(which: Which, when: Option<usize>) -> Agg {
    Agg::Value {
        which,
        column: 4,
        when,
    }
}

fn clear_aggregate(table: &ClearTable, agg: Agg, members: &[usize]) -> Cell {
    let set =
        |when: Option<usize>, r: usize| when.is_none_or(|w| cell(&table.columns[w], r) == [1]);
    match agg {
        Agg::Count { when } => vec![members.iter().filter(|&&r| set(when, r)).count() as u64],
        Agg::CountDistinct { unit, when } => {
            let units: HashSet<_> = members
                .iter()
                .filter(|&&r| set(when, r))
                .map(|&r| cell(&table.columns[unit], r))
                .collect();
            vec![units.len() as u64]
        }
        Agg::Value {
            which,
            column,
            when,
        } => {
            let values = members.iter().filter(|&&r| set(when, r));
            let mut values = values.map(|&r| cell(&table.columns[column], r)[0]);
            let value = match which {
                Which::Min => values.min(),
                Which::Max => values.max(),
                Which::First => values.next(),
                Which::Last => values.next_back(),
            };
            match value {
                Some(value) => vec![value],
                None => vec![NONE],
            }
        }
        Agg::Sum { column } => match &table.columns[column] {
            ClearColumn::Arith64(v) => {
                vec![members.iter().fold(0, |s: u64, &r| s.wrapping_add(v[r]))]
            }
            ClearColumn::Arith128(v) => {
                let sum = members.iter().fold(0, |s: u128, &r| s.wrapping_add(v[r]));
                vec![sum as u64, (sum >> 64) as u64]
            }
            ClearColumn::Bits { .. } => panic!("sum of bits"),
        },
    }
}

/// What stands for a value that is not there: the bit above the 40 of the column, its bits cleared.
const NONE: u64 = 1 << 40;

/// The same in opened rows, where the value's bits beside "none" are of no meaning.
fn without_none(mut rows: Vec<Vec<Cell>>) -> Vec<Vec<Cell>> {
    for cells in rows.iter_mut().flat_map(|row| row.iter_mut()) {
        if cells.len() == 1 && cells[0] & NONE != 0 && cells[0] >> 41 == 0 {
            *cells = vec![NONE];
        }
    }
    rows
}

#[test]
fn groups_match_clear_text() {
    for n in SIZES {
        for (keys, distinct, of_16) in [
            (vec![0], 4, 12),
            (vec![0], 0, 16),
            (vec![1, 0], 3, 8),
            (vec![0], 1, 0),
            (vec![], 3, 12),
            (vec![], 3, 0),
        ] {
            let mut s = data((n * 100 + keys.len()) as u64);
            let flag = flags(&mut s, n, 9);
            let table = ClearTable {
                columns: vec![
                    bits(&mut s, 5, n, distinct),
                    bits(&mut s, 70, n, 2),
                    ClearColumn::Arith64(s.words(n)),
                    ClearColumn::Arith128(s.words(n)),
                    bits(&mut s, 40, n, 7),
                    flag_column(&flag),
                    bits(&mut s, 3, n, 0),
                ],
                valid: flags(&mut s, n, of_16),
            };
            let out = open_table(3, |ctx| {
                let t = share_table(1, ctx.role(), &table)?;
                aggregate(ctx, &Step::new("group"), &t, &keys, &AGGS)
            })
            .unwrap();
            let mut groups: BTreeMap<Vec<Vec<u64>>, Vec<usize>> = BTreeMap::new();
            if keys.is_empty() {
                groups.insert(vec![], vec![]);
            }
            for r in (0..n).filter(|&r| table.valid[r]) {
                let key = keys.iter().map(|&k| cell(&table.columns[k], r)).collect();
                groups.entry(key).or_default().push(r);
            }
            let mut due: Vec<Vec<Cell>> = groups
                .into_iter()
                .map(|(key, members)| {
                    key.into_iter()
                        .chain(AGGS.map(|a| clear_aggregate(&table, a, &members)))
                        .collect()
                })
                .collect();
            due.sort_by(|a, b| {
                (0..keys.len())
                    .map(|k| order(&a[k], &b[k]))
                    .find(|o| o.is_ne())
                    .unwrap_or(std::cmp::Ordering::Equal)
            });
            assert!(
                without_none(rows(&out)) == without_none(due.clone()),
                "{n} rows by {keys:?}, {distinct} keys"
            );
            assert!(
                out.valid[..due.len()].iter().all(|v| *v),
                "real groups come first"
            );
        }
    }
}

#[test]
fn rows_in_order_need_no_sort() {
    let aggs = [
        Agg::Sum { column: 1 },
        Agg::Count { when: Some(2) },
        Agg::Count { when: None },
    ];
    let mut cases = 0;
    for n in SIZES {
        for distinct in [1, 2, 3, 5, 9, 30, 1000] {
            for of_16 in [0, 8, 16] {
                cases += 1;
                let seed = n as u64 * 10_000 + distinct * 20 + of_16;
                let mut s = data(seed);
                let mut keys: Vec<u64> = (0..n).map(|_| number(&mut s) % distinct).collect();
                keys.sort_unstable();
                let mut valid = flags(&mut s, n, of_16);
                valid.sort_by_key(|v| !v);
                let when = flags(&mut s, n, 7);
                let table = ClearTable {
                    columns: vec![
                        ClearColumn::Bits {
                            width: 10,
                            words: keys.clone(),
                        },
                        ClearColumn::Arith64(s.words(n)),
                        flag_column(&when),
                    ],
                    valid,
                };
                let [sorted, whole] = [true, false].map(|sorted| {
                    let out = open_table(seed, |ctx| {
                        let t = share_table(seed, ctx.role(), &table)?;
                        let step = Step::new("group");
                        if sorted {
                            aggregate_sorted(ctx, &step, &t, &[0], &aggs)
                        } else {
                            aggregate(ctx, &step, &t, &[0], &aggs)
                        }
                    });
                    rows(&out.unwrap())
                });
                let mut due: BTreeMap<u64, [u64; 3]> = BTreeMap::new();
                for r in (0..n).filter(|&r| table.valid[r]) {
                    let group = due.entry(keys[r]).or_default();
                    group[0] = group[0].wrapping_add(cell(&table.columns[1], r)[0]);
                    group[1] += u64::from(when[r]);
                    group[2] += 1;
                }
                let due: Vec<Vec<Cell>> = due
                    .into_iter()
                    .map(|(k, a)| [vec![vec![k]], a.map(|a| vec![a]).to_vec()].concat())
                    .collect();
                assert!(sorted == due, "seed {seed}: {n} rows in order");
                assert!(whole == due, "seed {seed}: {n} rows");
            }
        }
    }
    assert!(cases >= 200);
}

/// Columns: key, key, unit, unit, number, and flags from [`FIRST_FLAG`] on, the last of which is never
/// set.
fn units_table(seed: u64, n: usize, many: usize, [keys, units]: [u64; 2]) -> ClearTable {
    let mut s = data(seed);
    let mut columns = vec![
        bits(&mut s, 5, n, keys),
        bits(&mut s, 70, n, 2),
        bits(&mut s, 40, n, units),
        bits(&mut s, 3, n, 0),
        ClearColumn::Arith64(s.words(n)),
    ];
    for flag in 0..many {
        let of_16 = if flag + 1 == many {
            0
        } else {
            [1, 9, 16, 4][flag % 4]
        };
        columns.push(flag_column(&flags(&mut s, n, of_16)));
    }
    let of_16 = [12, 16, 3, 0][number(&mut s) as usize % 4];
    ClearTable {
        columns,
        valid: flags(&mut s, n, of_16),
    }
}

const FIRST_FLAG: usize = 5;

/// The groups of a table in the clear, in order of their keys.
fn clear_groups(table: &ClearTable, keys: &[usize], aggs: &[Agg]) -> Vec<Vec<Cell>> {
    let mut groups: BTreeMap<Vec<Vec<u64>>, Vec<usize>> = BTreeMap::new();
    if keys.is_empty() {
        groups.insert(vec![], vec![]);
    }
    for r in (0..table.valid.len()).filter(|&r| table.valid[r]) {
        // As the operator orders them: the highest word first.
        let cell = |k: &usize| cell(&table.columns[*k], r).into_iter().rev().collect();
        let key = keys.iter().map(cell).collect();
        groups.entry(key).or_default().push(r);
    }
    let row = |(key, members): (Vec<Vec<u64>>, Vec<usize>)| -> Vec<Cell> {
        let keys = key.into_iter().map(|k| k.into_iter().rev().collect());
        keys.chain(aggs.iter().map(|&a| clear_aggregate(table, a, &members)))
            .collect()
    };
    groups.into_iter().map(row).collect()
}

#[test]
fn many_distinct_counts_of_one_unit_match_clear_text() {
    let mut cases = 0;
    for n in [
        0, 1, 2, 3, 15, 16, 17, 31, 63, 64, 65, 127, 128, 129, 255, 256, 257,
    ] {
        for many in 2..=8_usize {
            for keys in [vec![], vec![0], vec![1, 0]] {
                cases += 1;
                let seed = (n * 1000 + many * 10 + keys.len()) as u64;
                let sizes = [[1, 4], [3, 1], [4, 9], [2, 200]][cases % 4];
                let table = units_table(seed, n, many, sizes);
                let count = |unit, when| Agg::CountDistinct { unit, when };
                let mut aggs: Vec<Agg> = (0..many)
                    .map(|flag| count(2, Some(FIRST_FLAG + flag)))
                    .collect();
                // Beside others: all units, another unit once or twice, a sum, values in order.
                if cases % 2 == 0 {
                    aggs.insert(many / 2, count(2, None));
                    aggs.push(Agg::Sum { column: 4 });
                }
                match cases % 3 {
                    0 => aggs.insert(1, count(3, Some(FIRST_FLAG))),
                    1 => aggs.extend([count(3, Some(FIRST_FLAG)), count(3, None)]),
                    _ => aggs.push(Agg::Count {
                        when: Some(FIRST_FLAG),
                    }),
                }
                if cases % 5 == 0 {
                    aggs.push(Agg::Value {
                        which: Which::First,
                        column: 2,
                        when: None,
                    });
                }
                let out = open_table(seed, |ctx| {
                    let t = share_table(1, ctx.role(), &table)?;
                    aggregate(ctx, &Step::new("group"), &t, &keys, &aggs)
                })
                .unwrap();
                let due = clear_groups(&table, &keys, &aggs);
                assert!(
                    without_none(rows(&out)) == without_none(due),
                    "seed {seed}: {n} rows by {keys:?}, {many} flags"
                );
            }
        }
    }
    assert!(cases >= 300);
}

/// What a grouping of `n` rows sends, all parties together, and the rounds of the first.
fn sent(n: usize, keys: &[usize], flags: usize, all: bool) -> (u64, u64) {
    let table = units_table(7, n, 8, [4, 9]);
    let count = |when| Agg::CountDistinct { unit: 2, when };
    let mut aggs: Vec<Agg> = (0..flags)
        .map(|flag| count(Some(FIRST_FLAG + flag)))
        .collect();
    if all {
        aggs.insert(0, count(None));
    }
    let parties = three_parties(3, |ctx| {
        let t = share_table(1, ctx.role(), &table)?;
        aggregate(ctx, &Step::new("group"), &t, keys, &aggs).map(drop)
    })
    .unwrap();
    let bytes = parties.iter().map(|(_, traffic)| traffic.bytes_sent).sum();
    (bytes, parties[0].1.rounds)
}

#[test]
fn many_distinct_counts_cost_one_sort_and_what_their_formula_says() {
    for n in [100, 1000] {
        let plane = |rows: usize| 8 * rows.div_ceil(64) as u64;
        // The running ORs of a flag at one party.
        let (mut scan, mut left, mut levels) = (plane(n), n, 0);
        while left > 1 {
            scan += 2 * plane(left / 2) + plane(left.div_ceil(2) - 1);
            left /= 2;
            levels += 1;
        }
        for keys in [vec![0], vec![]] {
            // All units alone take the same sort as with flags.
            let (alone, rounds) = sent(n, &keys, 0, true);
            for flags in [1, 3, 8] {
                let (together, more) = sent(n, &keys, flags, true);
                let many = flags as u64;
                let word = 8 * n as u64;
                // Once: runs are cut where valid rows end, and up to eight flags moved to the order, a byte
                // a row in four messages. Each flag: scanned, taken at the runs' ends and converted; moved
                // to the front, a word, where there are keys.
                let moved = 4 * n as u64;
                let front = if keys.is_empty() { 0 } else { 4 * word };
                let due = 3 * plane(n) + moved + many * (3 * (scan + plane(n) + word) + front);
                assert_eq!(together - alone, due, "{n} rows by {keys:?}, {flags} flags");
                assert!(more - rounds <= 2 * levels + 20, "{more} - {rounds}");
            }
            let (one, _) = sent(n, &keys, 1, false);
            let (eight, _) = sent(n, &keys, 8, false);
            assert!(eight < 2 * one, "{eight} and {one}");
        }
    }
}
