//! DISTINCT, UNION, INTERSECT, EXCEPT, and look-ups in public tables.

use crate::clear::{Cell, cell, flags, number, rows};
use std::collections::BTreeMap;
use veilgate_mpc::circuit;
use veilgate_mpc::input::ClearColumn;
use veilgate_mpc::net::Step;
use veilgate_mpc::oblivious::broadcast::{PublicTable, look_up};
use veilgate_mpc::oblivious::distinct::distinct;
use veilgate_mpc::oblivious::sets::{except, intersect, union};
use veilgate_mpc::release::ClearTable;
use veilgate_mpc::table::{Column, SharedTable};
use veilgate_mpc::testing::{data, open_table, share_table};

/// Two bit columns of few values, the second of two words.
fn table(seed: u64, n: usize, range: u64, of_16: u64) -> ClearTable {
    let mut s = data(seed);
    let first = (0..n).map(|_| number(&mut s) % range).collect();
    let second = (0..n)
        .flat_map(|_| {
            let x = number(&mut s) % 2;
            [x, x]
        })
        .collect();
    ClearTable {
        columns: vec![
            ClearColumn::Bits {
                width: 7,
                words: first,
            },
            ClearColumn::Bits {
                width: 65,
                words: second,
            },
        ],
        valid: flags(&mut s, n, of_16),
    }
}

fn counted(rows: &[Vec<Cell>]) -> BTreeMap<Vec<Cell>, usize> {
    let mut out = BTreeMap::new();
    for row in rows {
        *out.entry(row.clone()).or_insert(0) += 1;
    }
    out
}

#[test]
fn sets_match_clear_text() {
    let mut cases = 0;
    for (nl, nr) in [(0, 0), (0, 3), (4, 0), (1, 1), (2, 5), (30, 17), (65, 64)] {
        for range in [1, 3, 40] {
            for of_16 in [0, 9, 16] {
                for operation in 0..5 {
                    cases += 1;
                    let seed = (nl * 7919 + nr * 31 + operation) as u64 + range * 13 + of_16;
                    let (l, r) = (
                        table(seed, nl, range, of_16),
                        table(seed + 1, nr, range, 12),
                    );
                    let out = open_table(seed, |ctx| {
                        let role = ctx.role();
                        let (l, r) = (share_table(1, role, &l)?, share_table(2, role, &r)?);
                        let step = Step::new("set");
                        match operation {
                            0 => union(ctx, &step, &l, &r),
                            1 => intersect(ctx, &step, &l, &r, false),
                            2 => intersect(ctx, &step, &l, &r, true),
                            3 => except(ctx, &step, &l, &r, false),
                            _ => except(ctx, &step, &l, &r, true),
                        }
                    })
                    .unwrap();
                    let (left, right) = (counted(&rows(&l)), counted(&rows(&r)));
                    let mut due = BTreeMap::new();
                    for row in left.keys().chain(right.keys()) {
                        let count = |side: &BTreeMap<_, usize>| side.get(row).copied().unwrap_or(0);
                        let (m, n) = (count(&left), count(&right));
                        let times = match operation {
                            0 => 1,
                            1 => m.min(n).min(1),
                            2 => m.min(n),
                            3 => usize::from(m > 0 && n == 0),
                            _ => m.saturating_sub(n),
                        };
                        if times > 0 {
                            due.insert(row.clone(), times);
                        }
                    }
                    assert!(
                        counted(&rows(&out)) == due,
                        "seed {seed}: {nl} and {nr} rows"
                    );
                }
            }
        }
    }
    assert!(cases >= 200);
}

#[test]
fn of_equal_rows_the_first_stays() {
    let mut cases = 0;
    for n in [0, 1, 2, 3, 31, 64, 65, 130] {
        for range in [1, 2, 9, 100] {
            for of_16 in [0, 4, 12, 15, 16] {
                for columns in [vec![0], vec![1, 0]] {
                    cases += 1;
                    let seed = n as u64 * 1000 + range * 10 + of_16;
                    let mut clear = table(seed, n, range, of_16);
                    clear
                        .columns
                        .push(ClearColumn::Arith64((0..n as u64).collect()));
                    let out = open_table(seed, |ctx| {
                        let t = share_table(seed, ctx.role(), &clear)?;
                        distinct(ctx, &Step::new("distinct"), &t, &columns)
                    })
                    .unwrap();
                    let mut due: BTreeMap<Vec<Cell>, Vec<Cell>> = BTreeMap::new();
                    for row in rows(&clear) {
                        let key = columns
                            .iter()
                            .map(|&c: &usize| row[c].iter().rev().copied().collect())
                            .collect();
                        due.entry(key).or_insert(row);
                    }
                    let due: Vec<Vec<Cell>> = due.into_values().collect();
                    assert!(rows(&out) == due, "seed {seed}: {n} rows by {columns:?}");
                }
            }
        }
    }
    assert!(cases >= 200);
}

#[test]
fn public_tables_are_looked_up_both_ways() {
    let mut cases = 0;
    for n in [0, 1, 2, 64, 65, 100] {
        // Up to 32 entries by equalities, more by a join.
        for entries in [0, 1, 3, 31, 33, 60] {
            for (width, payload_width) in [(7, 1), (7, 70), (65, 12), (64, 64), (130, 5), (9, 9)] {
                cases += 1;
                let seed = (n * 1000 + entries * 10 + width) as u64;
                let mut s = data(seed);
                let stride = usize::div_ceil(width, 64);
                let key = |value: u64| {
                    let mut words = vec![0; stride];
                    words[stride - 1] = if stride > 1 { value & 1 } else { 0 };
                    words[0] |= value;
                    words
                };
                let words = usize::div_ceil(payload_width, 64);
                let public = PublicTable {
                    keys: (0..entries as u64).map(|e| key(e * 2)).collect(),
                    payload: (0..entries)
                        .map(|_| {
                            let mut row: Vec<u64> = s.words(words);
                            if payload_width % 64 != 0 {
                                row[words - 1] &= (1 << (payload_width % 64)) - 1;
                            }
                            row
                        })
                        .collect(),
                    width: payload_width,
                };
                let asked: Vec<Vec<u64>> = (0..n).map(|_| key(number(&mut s) % 100)).collect();
                let clear = ClearTable {
                    columns: vec![ClearColumn::Bits {
                        width,
                        words: asked.concat(),
                    }],
                    valid: vec![true; n],
                };
                let out = open_table(seed, |ctx| {
                    let t = share_table(seed, ctx.role(), &clear)?;
                    let step = Step::new("look-up");
                    let (payload, found) = look_up(ctx, &step, t.bits("test", 0)?, &public)?;
                    let payload = circuit::and_mask(ctx, &Step::new("gate"), &payload, &found)?;
                    Ok(SharedTable {
                        columns: vec![Column::Bits(payload), Column::Bits(found)],
                        valid: t.valid.clone(),
                    })
                })
                .unwrap();
                for (row, asked) in asked.iter().enumerate() {
                    let at = public.keys.iter().position(|k| k == asked);
                    let due = at.map_or(vec![0; words], |at| public.payload[at].clone());
                    assert_eq!(cell(&out.columns[0], row), due, "seed {seed}, row {row}");
                    let found = vec![u64::from(at.is_some())];
                    assert_eq!(cell(&out.columns[1], row), found, "seed {seed}, row {row}");
                }
            }
        }
    }
    assert!(cases >= 200);
    let twice = PublicTable {
        keys: vec![vec![1], vec![1]],
        payload: vec![vec![0], vec![0]],
        width: 1,
    };
    let error = open_table(1, |ctx| {
        let t = share_table(1, ctx.role(), &table(1, 3, 2, 16))?;
        look_up(ctx, &Step::new("look-up"), t.bits("test", 0)?, &twice)?;
        Ok(t)
    });
    assert!(error.unwrap_err().to_string().contains("twice"));
}
