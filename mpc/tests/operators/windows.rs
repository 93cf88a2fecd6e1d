//! Orders, window functions and percentiles.

use crate::clear::{Cell, cell, flag_column, flags, number, rows};
use std::collections::BTreeMap;
use veilgate_mpc::input::ClearColumn;
use veilgate_mpc::net::Step;
use veilgate_mpc::oblivious::order::{OrderKey, encode};
use veilgate_mpc::oblivious::percentile::{Percentile, median, percentile_disc};
use veilgate_mpc::oblivious::sort::{apply, sort_by};
use veilgate_mpc::oblivious::window::{Frame, Function, window};
use veilgate_mpc::release::ClearTable;
use veilgate_mpc::table::SharedTable;
use veilgate_mpc::testing::{data, open_table, share_table};

/// Partition (3 bits), order (8 bits), number, flag, value (33 bits, NULL where flagged).
fn table(seed: u64, n: usize, range: u64, of_16: u64) -> ClearTable {
    let mut s = data(seed);
    let mut few = |range: u64| -> Vec<u64> { (0..n).map(|_| number(&mut s) % range).collect() };
    let (partition, order, values) = (few(range.min(8)), few(range), few(1 << 33));
    let when = flags(&mut s, n, 8);
    let values = values
        .iter()
        .zip(&when)
        .map(|(&v, &null)| if null { 0 } else { v })
        .collect();
    let bits = |width, words| ClearColumn::Bits { width, words };
    ClearTable {
        columns: vec![
            bits(3, partition),
            bits(8, order),
            ClearColumn::Arith64(s.words(n)),
            flag_column(&when),
            bits(33, values),
        ],
        valid: flags(&mut s, n, of_16),
    }
}

fn word(table: &ClearTable, column: usize, row: usize) -> u64 {
    cell(&table.columns[column], row)[0]
}

#[test]
fn orders_go_every_way() {
    let mut cases = 0;
    for n in [0, 1, 2, 20, 65] {
        for mask in 0..8 {
            for of_16 in [0, 3, 10, 12, 16] {
                cases += 1;
                let (descending, nulls_first, signed) =
                    (mask & 1 != 0, mask & 2 != 0, mask & 4 != 0);
                let seed = (n * 100 + mask) as u64 * 20 + of_16;
                let clear = table(seed, n, 200, of_16);
                let out = open_table(seed, |ctx| {
                    let t = share_table(seed, ctx.role(), &clear)?;
                    let keys = [
                        OrderKey {
                            column: t.bits("test", 4)?,
                            null: Some(t.bits("test", 3)?),
                            descending,
                            nulls_first,
                            signed,
                        },
                        OrderKey::ascending(t.bits("test", 1)?),
                    ];
                    let order = encode(ctx.role(), &t.valid, &keys);
                    let order: Vec<_> = order.iter().collect();
                    let p = sort_by(ctx, &Step::new("sort"), &order)?.order;
                    apply(ctx, &Step::new("apply"), &p, &t)
                })
                .unwrap();
                let mut due = rows(&clear);
                due.sort_by_key(|row| {
                    let null = row[3][0] == 1;
                    let value = row[4][0] as i64;
                    let value = if signed && value >> 32 & 1 == 1 {
                        value - (1 << 33)
                    } else {
                        value
                    };
                    let value = if descending { -value } else { value };
                    (null != nulls_first, if null { 0 } else { value }, row[1][0])
                });
                assert!(rows(&out) == due, "seed {seed}");
            }
        }
    }
    assert!(cases >= 200);
}

const FUNCTIONS: [Function; 14] = [
    Function::RowNumber,
    Function::Rank,
    Function::DenseRank,
    Function::Lag { column: 4, by: 1 },
    Function::Lag { column: 2, by: 3 },
    Function::Lead { column: 4, by: 2 },
    Function::Count {
        when: None,
        frame: Frame::Range,
    },
    Function::Count {
        when: Some(3),
        frame: Frame::Rows,
    },
    Function::Sum {
        column: 2,
        frame: Frame::Rows,
    },
    Function::Sum {
        column: 2,
        frame: Frame::Range,
    },
    Function::Sum {
        column: 2,
        frame: Frame::Partition,
    },
    Function::Min {
        column: 4,
        frame: Frame::Rows,
    },
    Function::Max {
        column: 4,
        frame: Frame::Range,
    },
    Function::Min {
        column: 4,
        frame: Frame::Partition,
    },
];

/// A row's cells for all functions; `mine` are the partition's rows in order, `at` the row among them.
fn clear_window(t: &ClearTable, mine: &[usize], at: usize) -> Vec<u64> {
    let order = |i: usize| word(t, 1, mine[i]);
    let first_peer = (0..=at).find(|&i| order(i) == order(at)).unwrap();
    let last_peer = (at..mine.len()).rfind(|&i| order(i) == order(at)).unwrap();
    let end = |frame| match frame {
        Frame::Rows => at,
        Frame::Range => last_peer,
        Frame::Partition => mine.len() - 1,
    };
    let mut out = Vec::new();
    for function in FUNCTIONS {
        let mut other = |row: Option<usize>, column| {
            out.push(row.map_or(0, |i| word(t, column, mine[i])));
            out.push(u64::from(row.is_some()));
        };
        match function {
            Function::Lag { column, by } => other(at.checked_sub(by), column),
            Function::Lead { column, by } => {
                other(Some(at + by).filter(|&i| i < mine.len()), column);
            }
            Function::RowNumber => out.push(at as u64 + 1),
            Function::Rank => out.push(first_peer as u64 + 1),
            Function::DenseRank => {
                let changes = (1..=at).filter(|&i| order(i) != order(i - 1)).count();
                out.push(changes as u64 + 1);
            }
            Function::Count { when, frame } => {
                let rows = mine[..=end(frame)].iter();
                let counted = rows.filter(|&&r| when.is_none_or(|w| word(t, w, r) == 1));
                out.push(counted.count() as u64);
            }
            Function::Sum { column, frame } => {
                let rows = mine[..=end(frame)].iter();
                out.push(rows.fold(0, |s, &r| s.wrapping_add(word(t, column, r))));
            }
            Function::Min { column, frame } => {
                let rows = mine[..=end(frame)].iter();
                out.push(rows.map(|&r| word(t, column, r)).min().unwrap());
            }
            Function::Max { column, frame } => {
                let rows = mine[..=end(frame)].iter();
                out.push(rows.map(|&r| word(t, column, r)).max().unwrap());
            }
        }
    }
    out
}

#[test]
fn window_functions_match_clear_text() {
    let mut cases = 0;
    for n in [0, 1, 2, 3, 7, 30, 64, 65, 100, 129] {
        for range in [1, 2, 5, 30, 200] {
            for of_16 in [0, 6, 14, 16] {
                cases += 1;
                let seed = n as u64 * 10_000 + range * 20 + of_16;
                let clear = table(seed, n, range, of_16);
                let out = open_table(seed, |ctx| {
                    let t = share_table(seed, ctx.role(), &clear)?;
                    let order = [t.bits("test", 1)?.clone()];
                    let step = Step::new("window");
                    let columns = window(ctx, &step, &t, &[0], &order, &FUNCTIONS)?;
                    Ok(SharedTable {
                        columns,
                        valid: t.valid.clone(),
                    })
                })
                .unwrap();
                let mut partitions: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
                for r in (0..n).filter(|&r| clear.valid[r]) {
                    partitions.entry(word(&clear, 0, r)).or_default().push(r);
                }
                for mine in partitions.values_mut() {
                    mine.sort_by_key(|&r| word(&clear, 1, r));
                    for (at, &row) in mine.iter().enumerate() {
                        let due = clear_window(&clear, mine, at);
                        let mut got: Vec<u64> =
                            out.columns.iter().map(|c| cell(c, row)[0]).collect();
                        // What is not there has no meaning.
                        for there in [4, 6, 8] {
                            if got[there] == 0 {
                                got[there - 1] = 0;
                            }
                        }
                        assert_eq!(got, due, "seed {seed}: row {row} of {n}");
                    }
                }
            }
        }
    }
    assert!(cases >= 200);
}

#[test]
fn percentiles_and_medians_match_clear_text() {
    let mut cases = 0;
    for n in [0, 1, 2, 3, 8, 33, 64, 65, 100] {
        for range in [1, 3, 30] {
            for of_16 in [0, 9, 16] {
                for (p, q) in [(0, 1), (1, 2), (1, 4), (95, 100), (1, 1)] {
                    for keys in [vec![], vec![0]] {
                        cases += 1;
                        let seed = n as u64 * 1000 + range * 20 + of_16;
                        let clear = table(seed, n, range, of_16);
                        let asked = Percentile {
                            keys: &keys,
                            value: 4,
                            when: Some(3),
                        };
                        let run = |median_too: bool| -> ClearTable {
                            open_table(seed, |ctx| {
                                let t = share_table(seed, ctx.role(), &clear)?;
                                let step = Step::new("percentile");
                                if median_too {
                                    median(ctx, &step, &t, &asked, true)
                                } else {
                                    percentile_disc(ctx, &step, &t, &asked, p, q)
                                }
                            })
                            .unwrap()
                        };
                        let mut groups: BTreeMap<Vec<Cell>, Vec<i128>> = BTreeMap::new();
                        for r in (0..n).filter(|&r| clear.valid[r] && word(&clear, 3, r) == 1) {
                            let key = keys.iter().map(|&k| cell(&clear.columns[k], r)).collect();
                            let value = i128::from(word(&clear, 4, r));
                            groups.entry(key).or_default().push(value);
                        }
                        let mut due = Vec::new();
                        let mut middles = Vec::new();
                        for (key, mut values) in groups {
                            values.sort_unstable();
                            let c = values.len();
                            let rank = (c * p as usize).div_ceil(q as usize).max(1);
                            let mut row = key.clone();
                            row.push(vec![values[rank - 1] as u64]);
                            due.push(row);
                            // As signed numbers of 33 bits.
                            let signed = |v: i128| if v >> 32 & 1 == 1 { v - (1 << 33) } else { v };
                            let mut values: Vec<i128> = values.into_iter().map(signed).collect();
                            values.sort_unstable();
                            let middle = &values[(c - 1) / 2..=c / 2];
                            let sum = middle.iter().sum::<i128>() as u128;
                            let mut row = key;
                            row.push(vec![sum as u64, (sum >> 64) as u64]);
                            row.push(vec![middle.len() as u64]);
                            middles.push(row);
                        }
                        assert!(rows(&run(false)) == due, "seed {seed}: {p} / {q} of {n}");
                        if p == 1 && q == 2 && (n > 0 || !keys.is_empty()) {
                            let mut got = rows(&run(true));
                            // One group of nothing is a row.
                            got.retain(|row| row[row.len() - 1] != [0]);
                            assert!(got == middles, "seed {seed}: median of {n}");
                        }
                    }
                }
            }
        }
    }
    assert!(cases >= 200);
    let error = open_table(1, |ctx| {
        let t = share_table(1, ctx.role(), &table(1, 3, 2, 16))?;
        let asked = Percentile {
            keys: &[],
            value: 4,
            when: None,
        };
        percentile_disc(ctx, &Step::new("p"), &t, &asked, 3, 2)
    });
    assert!(error.unwrap_err().to_string().contains("3 / 2"));
}
