//! GROUP BY.

use crate::clear::{Cell, SIZES, bits, cell, flag_column, flags, order, rows};
use std::collections::{BTreeMap, HashSet};
use veilgate_mpc::input::ClearColumn;
use veilgate_mpc::net::Step;
use veilgate_mpc::oblivious::group::{Agg, aggregate};
use veilgate_mpc::release::ClearTable;
use veilgate_mpc::testing::{data, open_table, share_table};

const AGGS: [Agg; 7] = [
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
];

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
            assert!(rows(&out) == due, "{n} rows by {keys:?}, {distinct} keys");
            assert!(
                out.valid[..due.len()].iter().all(|v| *v),
                "real groups come first"
            );
        }
    }
}
