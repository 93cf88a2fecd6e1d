//! Sort variants and top-k.

use crate::clear::{Cell, FAR, SIZES, bits, cell, flags, order};
use veilgate_mpc::error::Error;
use veilgate_mpc::input::ClearColumn;
use veilgate_mpc::net::{LinkProfile, Step};
use veilgate_mpc::oblivious::sort::{apply, merge_runs, sort_by, sort_bytes, sort_table, top_k};
use veilgate_mpc::prss::Stream;
use veilgate_mpc::release::{ClearTable, final_share, reconstruct};
use veilgate_mpc::spill::Memory;
use veilgate_mpc::table::Column;
use veilgate_mpc::testing::{data, open_table_with, share_table, three_parties};

fn table(s: &mut Stream, n: usize, width: usize, distinct: u64, shape: usize) -> ClearTable {
    let mut key = bits(s, width, n, distinct);
    if let ClearColumn::Bits { width, words } = &mut key {
        let stride = width.div_ceil(64);
        let mut rows: Vec<Vec<u64>> = words.chunks_exact(stride).map(<[u64]>::to_vec).collect();
        match shape {
            1 => rows.sort_by(order),
            2 => rows.sort_by(|a, b| order(b, a)),
            _ => {}
        }
        *words = rows.concat();
    }
    ClearTable {
        columns: vec![key, ClearColumn::Arith64(s.words(n)), bits(s, 3, n, 0)],
        valid: flags(s, n, 12),
    }
}

/// Rows as cells, with validity last.
fn all_rows(table: &ClearTable) -> Vec<Vec<Cell>> {
    (0..table.valid.len())
        .map(|r| {
            let cells = table.columns.iter().map(|c| cell(c, r));
            cells.chain([vec![u64::from(table.valid[r])]]).collect()
        })
        .collect()
}

#[test]
fn every_variant_sorts_stably_by_several_keys() {
    let mut cases = 0;
    for n in SIZES {
        // The near link compares, the far one takes radix for narrow keys.
        for (profile, width) in [
            (LinkProfile::LOOPBACK, 1),
            (LinkProfile::LOOPBACK, 64),
            (FAR, 1),
            (FAR, 2),
            (FAR, 5),
            (FAR, 8),
            (FAR, 130),
        ] {
            for (distinct, shape) in [(0, 0), (3, 0), (1, 0), (0, 1), (0, 2)] {
                cases += 1;
                let seed = (n * 1000 + width * 10 + shape) as u64;
                let clear = table(&mut data(seed), n, width, distinct, shape);
                let out = open_table_with(seed, profile, |ctx| {
                    let t = share_table(seed, ctx.role(), &clear)?;
                    let (key, minor) = (t.bits("test", 0)?, t.bits("test", 2)?);
                    let sorted = sort_by(ctx, &Step::new("sort"), &[key, minor])?;
                    let mut out = apply(ctx, &Step::new("apply"), &sorted.order, &t)?;
                    out.columns
                        .extend(sorted.keys.into_iter().map(Column::Bits));
                    Ok(out)
                })
                .unwrap();
                let mut due = all_rows(&clear);
                due.sort_by(|a, b| order(&a[0], &b[0]).then_with(|| order(&a[2], &b[2])));
                for row in &mut due {
                    // The keys once more, before validity.
                    let valid = row.pop().unwrap();
                    row.extend([row[0].clone(), row[2].clone(), valid]);
                }
                assert!(
                    all_rows(&out) == due,
                    "seed {seed}, {n} rows of {width} bits"
                );
            }
        }
    }
    assert!(cases >= 200);
}

#[test]
fn tables_are_sorted_whatever_memory_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut cases = 0;
    for n in SIZES {
        for (width, distinct) in [(1, 0), (9, 0), (64, 3), (130, 0)] {
            for (keys, budget) in [
                (&[0][..], 0),
                (&[2, 0], 1),
                (&[0, 2], 2),
                (&[2], 1),
                (&[], 0),
            ] {
                cases += 1;
                let seed = (n * 1000 + width * 10) as u64 + budget;
                let clear = table(&mut data(seed), n, width, distinct, 0);
                // As much as sorting takes, and nothing for what waits; then too little.
                let work = sort_bytes(n, if keys.contains(&0) { width } else { 0 } + 3);
                let out = open_table_with(seed, LinkProfile::LOOPBACK, |ctx| {
                    let t = share_table(seed, ctx.role(), &clear)?;
                    if budget > 0 {
                        let bytes = if budget == 1 {
                            work
                        } else {
                            work.saturating_sub(1)
                        };
                        ctx.limit_memory(Memory::new(bytes, folder.path()));
                    }
                    sort_table(ctx, &Step::new("sort"), t, keys)
                });
                assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
                if keys.is_empty() {
                    assert!(matches!(out, Err(Error::InvalidInput { .. })));
                    continue;
                }
                if budget == 2 && work > 0 {
                    assert!(
                        matches!(out, Err(Error::ResourceExhausted(_))),
                        "seed {seed}"
                    );
                    continue;
                }
                let mut due = all_rows(&clear);
                due.sort_by(|a, b| {
                    let by = keys.iter().map(|&k| order(&a[k], &b[k]));
                    by.fold(std::cmp::Ordering::Equal, std::cmp::Ordering::then)
                });
                assert!(all_rows(&out.unwrap()) == due, "seed {seed}, {keys:?}");
            }
        }
    }
    assert!(cases >= 200);
}

#[test]
fn runs_are_merged() {
    let mut cases = 0;
    let shapes: [&[usize]; 17] = [
        &[0],
        &[5],
        &[0, 0],
        &[0, 7],
        &[7, 0],
        &[1, 1],
        &[2, 1],
        &[31, 33],
        &[64, 64],
        &[1, 64],
        &[65, 1],
        &[63, 70, 1],
        &[100, 0, 29, 300],
        &[128, 256],
        &[1, 1, 1, 1, 1],
        &[500, 12],
        &[4100, 4099],
    ];
    for runs in shapes {
        for profile in [LinkProfile::LOOPBACK, FAR] {
            for (width, distinct) in [(1, 0), (9, 0), (9, 3), (64, 0), (64, 1), (130, 0)] {
                cases += 1;
                let n: usize = runs.iter().sum();
                let seed = (n * 1000 + width * 10) as u64 + distinct;
                let mut s = data(seed);
                let mut parts: Vec<Vec<Vec<Cell>>> = Vec::new();
                for &length in runs {
                    let mut run = all_rows(&table(&mut s, length, width, distinct, 0));
                    run.sort_by(|a, b| order(&a[0], &b[0]).then_with(|| order(&a[2], &b[2])));
                    parts.push(run);
                }
                let rows = parts.concat();
                let column = |at: usize| rows.iter().flat_map(|row| row[at].clone()).collect();
                let clear = ClearTable {
                    columns: vec![
                        ClearColumn::Bits {
                            width,
                            words: column(0),
                        },
                        ClearColumn::Arith64(column(1)),
                        ClearColumn::Bits {
                            width: 3,
                            words: column(2),
                        },
                    ],
                    valid: rows.iter().map(|row| row[3] == [1]).collect(),
                };
                let out = open_table_with(seed, profile, |ctx| {
                    let t = share_table(seed, ctx.role(), &clear)?;
                    let keys = [t.bits("test", 0)?, t.bits("test", 2)?];
                    let merged = merge_runs(ctx, &Step::new("merge"), &keys, runs)?;
                    let mut out = apply(ctx, &Step::new("apply"), &merged.order, &t)?;
                    out.columns.push(Column::Bits(merged.key));
                    out.columns.push(Column::Bits(merged.run));
                    Ok(out)
                })
                .unwrap();
                let mut due = rows.clone();
                due.sort_by(|a, b| order(&a[0], &b[0]).then_with(|| order(&a[2], &b[2])));
                let out = all_rows(&out);
                // Equal rows of one run are in any order.
                let key = |row: &Vec<Cell>| (row[0].clone(), row[2].clone());
                assert!(
                    out.iter().map(key).eq(due.iter().map(key)),
                    "seed {seed}, runs {runs:?} of {width} bits"
                );
                let by_number = |rows: &[Vec<Cell>]| {
                    let mut rows: Vec<Vec<Cell>> = rows.iter().map(|r| r[..3].to_vec()).collect();
                    rows.sort();
                    rows
                };
                assert!(by_number(&out) == by_number(&due), "seed {seed}");
                let mut last: Option<(Vec<Cell>, u64)> = None;
                for row in &out {
                    let run = row[row.len() - 2][0] as usize;
                    assert!(parts[run].iter().any(|mine| mine[..3] == row[..3]));
                    let mine = (vec![row[0].clone(), row[2].clone()], run as u64);
                    if let Some((key, run)) = &last {
                        assert!(*key != mine.0 || *run <= mine.1, "seed {seed}");
                    }
                    last = Some(mine);
                }
            }
        }
    }
    assert!(cases >= 200);
}

#[test]
fn a_run_that_is_not_in_order_is_an_error() {
    for words in [[5, 1, 0, 2, 2, 0], [1, 0, 2, 3, 4, 5], [3, 4, 5, 2, 1, 0]] {
        let clear = ClearTable {
            columns: vec![ClearColumn::Bits {
                width: 3,
                words: words.to_vec(),
            }],
            valid: vec![true; 6],
        };
        for runs in [[3, 3], [2, 4]] {
            let out = open_table_with(1, LinkProfile::LOOPBACK, |ctx| {
                let t = share_table(1, ctx.role(), &clear)?;
                let key = t.bits("test", 0)?;
                let merged = merge_runs(ctx, &Step::new("merge"), &[key], &runs)?;
                apply(ctx, &Step::new("apply"), &merged.order, &t)
            });
            // A network may put some disorder right; what it returns is in order all the same.
            match out {
                Err(error) => assert!(error.to_string().contains("not in ascending order")),
                Ok(out) => assert!(all_rows(&out).is_sorted_by(|a, b| a[0] <= b[0])),
            }
        }
    }
}

#[test]
fn few_of_very_many_rows_come_after_one_comparison_each() {
    let n = 200_000;
    for (limit, distinct) in [(1, 0), (100, 0), (3000, 0), (100, 2), (10_000, 0)] {
        let clear = table(&mut data(limit as u64), n, 40, distinct, 0);
        let all = three_parties(1, |ctx| {
            let t = share_table(2, ctx.role(), &clear)?;
            let key = t.bits("test", 0)?.clone();
            let out = top_k(ctx, &Step::new("top"), &t, &[&key], limit)?;
            Ok(final_share(ctx.role(), &out))
        })
        .unwrap();
        let out = reconstruct([&all[0].0, &all[1].0, &all[2].0]).unwrap();
        let mut due = all_rows(&clear);
        due.sort_by(|a, b| order(&a[0], &b[0]));
        due.truncate(limit);
        assert!(all_rows(&out) == due, "{limit} of {n} rows");
        if limit <= 100 {
            // Moving keys and rows; one comparison of 57 bits, at most two ANDs a bit; 40 bits a row for
            // all the rest.
            let moved = 4.0 / 3.0 * (64.0 + 64.0 + 64.0);
            let sent: u64 = all.iter().map(|(_, traffic)| traffic.bytes_sent).sum();
            let bits = sent as f64 * 8.0 / 3.0 / n as f64;
            assert!(
                bits < moved + 2.0 * 57.0 + 40.0,
                "{limit}: {bits} bits a row"
            );
        }
    }
}

#[test]
fn the_first_rows_of_an_order_come_without_the_rest() {
    let mut cases = 0;
    for n in SIZES {
        for limit in [0, 1, 2, 10, 64, 1000] {
            for (width, distinct) in [(8, 0), (70, 0), (8, 2), (5, 1)] {
                cases += 1;
                let seed = (n * 10_000 + limit * 10 + width) as u64;
                let clear = table(&mut data(seed), n, width, distinct, 0);
                let out = open_table_with(seed, LinkProfile::LOOPBACK, |ctx| {
                    let t = share_table(seed, ctx.role(), &clear)?;
                    let invalid = t.valid.clone().not(ctx.role());
                    let keys = [&invalid, t.bits("test", 0)?];
                    top_k(ctx, &Step::new("top"), &t, &keys, limit)
                })
                .unwrap();
                let mut due = all_rows(&clear);
                due.sort_by(|a, b| order(&b[3], &a[3]).then_with(|| order(&a[0], &b[0])));
                due.truncate(limit);
                assert!(all_rows(&out) == due, "seed {seed}, {limit} of {n} rows");
            }
        }
    }
    assert!(cases >= 200);
}
