//! GROUP BY.

use crate::clear::{Cell, SIZES, bits, cell, flag_column, flags, number, order, rows};
use std::collections::{BTreeMap, HashSet};
use veilgate_mpc::input::ClearColumn;
use veilgate_mpc::net::Step;
use veilgate_mpc::oblivious::group::{Agg, Which, aggregate, aggregate_sorted};
use veilgate_mpc::release::ClearTable;
use veilgate_mpc::testing::{data, open_table, share_table};

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
