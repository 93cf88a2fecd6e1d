//! The oblivious join.

use crate::clear::{bits, cell, flag_column, flags, number, order, rows};
use std::collections::HashMap;
use veilgate_mpc::error::Error;
use veilgate_mpc::input::ClearColumn;
use veilgate_mpc::net::Step;
use veilgate_mpc::oblivious::join::{Kind, Side, inner_unique, join, join_many};
use veilgate_mpc::prss::Stream;
use veilgate_mpc::release::ClearTable;
use veilgate_mpc::testing::{data, open_table, share_table};

/// Keys 0..range, spread over `width` bits.
pub(crate) fn key(width: usize, values: &[u64]) -> ClearColumn {
    let stride = width.div_ceil(64);
    let mut words = vec![0; values.len() * stride];
    for (row, &v) in words.chunks_exact_mut(stride).zip(values) {
        row[0] = v;
        row[stride - 1] ^= v << 1;
    }
    ClearColumn::Bits { width, words }
}

fn left(s: &mut Stream, n: usize, width: usize, range: u64) -> ClearTable {
    let keys: Vec<u64> = (0..n).map(|_| number(s) % range).collect();
    ClearTable {
        columns: vec![
            ClearColumn::Arith64(s.words(n)),
            key(width, &keys),
            bits(s, 9, n, 0),
        ],
        valid: flags(s, n, 13),
    }
}

fn right(s: &mut Stream, n: usize, width: usize, range: u64) -> ClearTable {
    // Valid keys are unique; invalid rows may repeat any.
    let mut seen = std::collections::HashSet::new();
    let keys: Vec<u64> = (0..n).map(|_| number(s) % range).collect();
    let wish = flags(s, n, 14);
    let valid = keys
        .iter()
        .zip(wish)
        .map(|(k, w)| w && seen.insert(*k))
        .collect();
    ClearTable {
        columns: vec![
            key(width, &keys),
            ClearColumn::Arith64(s.words(n)),
            ClearColumn::Arith128(s.words(n)),
            bits(s, 70, n, 0),
            bits(s, 1, n, 0),
        ],
        valid,
    }
}

#[test]
fn joins_match_clear_text() {
    for (case, (nl, nr)) in [
        (0, 0),
        (0, 5),
        (5, 0),
        (1, 1),
        (2, 1),
        (1, 2),
        (63, 64),
        (64, 65),
        (100, 20),
        (20, 300),
        (700, 400),
    ]
    .into_iter()
    .enumerate()
    {
        for width in [10, 64, 80] {
            for range in [1, 60, 400] {
                let mut s = data((case * 10_000 + width * 7 + range as usize) as u64);
                let (l, r) = (
                    left(&mut s, nl, width, range),
                    right(&mut s, nr, width, range),
                );
                let out = open_table(3, |ctx| {
                    let l = share_table(1, ctx.role(), &l)?;
                    let r = share_table(2, ctx.role(), &r)?;
                    inner_unique(ctx, &Step::new("join"), &l, 1, &r, 0, &[3, 1, 2, 4])
                })
                .unwrap();
                assert_eq!(out.valid.len(), nl);
                let partners: HashMap<_, usize> = (0..nr)
                    .filter(|&i| r.valid[i])
                    .map(|i| (cell(&r.columns[0], i), i))
                    .collect();
                let due: Vec<Vec<Vec<u64>>> = (0..nl)
                    .filter(|&i| l.valid[i])
                    .filter_map(|i| {
                        let partner = *partners.get(&cell(&l.columns[1], i))?;
                        let mine = l.columns.iter().map(|c| cell(c, i));
                        Some(
                            mine.chain([3, 1, 2, 4].map(|c| cell(&r.columns[c], partner)))
                                .collect(),
                        )
                    })
                    .collect();
                assert!(rows(&out) == due, "{nl} x {nr}, {width} bits, {range} keys");
            }
        }
    }
}

#[test]
fn a_duplicate_on_the_unique_side_is_an_error_at_every_party() {
    for same in [(0, 1), (3, 40), (63, 64)] {
        let mut s = data(4);
        let l = left(&mut s, 70, 80, 100);
        let keys: Vec<u64> = (0..70)
            .map(|i| if i == same.1 { same.0 } else { i })
            .collect();
        let r = ClearTable {
            columns: vec![key(80, &keys)],
            valid: vec![true; 70],
        };
        let out = open_table(3, |ctx| {
            let l = share_table(1, ctx.role(), &l)?;
            let r = share_table(2, ctx.role(), &r)?;
            inner_unique(ctx, &Step::new("join"), &l, 1, &r, 0, &[])
        });
        assert_eq!(out.unwrap_err(), Error::DuplicateKey);
    }
}

/// Tables with two key columns and their NULL flags: key, key, NULL, NULL, number, bits.
pub(crate) fn nullable(
    s: &mut Stream,
    n: usize,
    range: u64,
    valid_of_16: u64,
    unique: bool,
) -> ClearTable {
    let (first, second): (Vec<u64>, Vec<u64>) =
        (0..n).map(|_| (number(s) % range, number(s) % 2)).unzip();
    let nulls = [flags(s, n, 2), flags(s, n, 1)];
    let wish = flags(s, n, valid_of_16);
    let mut seen = std::collections::HashSet::new();
    let valid = (0..n)
        .map(|r| {
            let usable = wish[r] && !nulls[0][r] && !nulls[1][r];
            wish[r] && (!unique || !usable || seen.insert((first[r], second[r])))
        })
        .collect();
    ClearTable {
        columns: vec![
            key(9, &first),
            key(66, &second),
            flag_column(&nulls[0]),
            flag_column(&nulls[1]),
            ClearColumn::Arith64(s.words(n)),
            bits(s, 20, n, 0),
        ],
        valid,
    }
}

/// Keys of a row, none where one is NULL.
pub(crate) fn keys_of(table: &ClearTable, row: usize) -> Option<[Vec<u64>; 2]> {
    let is = |c: usize| cell(&table.columns[c], row) == [1];
    (!is(2) && !is(3)).then(|| [0, 1].map(|c| cell(&table.columns[c], row)))
}

pub(crate) const KINDS: [Kind; 7] = [
    Kind::Inner,
    Kind::Left,
    Kind::Right,
    Kind::Full,
    Kind::Semi,
    Kind::Anti,
    Kind::NotIn,
];

/// The valid rows of a join, nested loops in the clear; a missing side is zero.
pub(crate) fn clear_join(kind: Kind, l: &ClearTable, r: &ClearTable) -> Vec<Vec<Vec<u64>>> {
    let there =
        |t: &ClearTable| -> Vec<usize> { (0..t.valid.len()).filter(|&i| t.valid[i]).collect() };
    let (lefts, rights) = (there(l), there(r));
    let cells = |t: &ClearTable, row: Option<usize>, columns: &[usize]| -> Vec<Vec<u64>> {
        columns
            .iter()
            .map(|&c| match row {
                Some(row) => cell(&t.columns[c], row),
                None => vec![0; if c == 1 { 2 } else { 1 }],
            })
            .collect()
    };
    let all: Vec<usize> = (0..6).collect();
    let row = |i: Option<usize>, j: Option<usize>| {
        let mut out = cells(l, i, &all);
        if has_payload(kind) {
            out.extend(cells(r, j, &[4, 5]));
        }
        if matches!(kind, Kind::Right | Kind::Full) {
            out.push(vec![u64::from(i.is_some())]);
        }
        if matches!(kind, Kind::Left | Kind::Full) {
            out.push(vec![u64::from(j.is_some())]);
        }
        out
    };
    let matches = |i: usize, j: usize| keys_of(l, i).is_some() && keys_of(l, i) == keys_of(r, j);
    let mut out = Vec::new();
    for &i in &lefts {
        let partners: Vec<usize> = rights.iter().copied().filter(|&j| matches(i, j)).collect();
        match kind {
            Kind::Inner | Kind::Right => {
                out.extend(partners.iter().map(|&j| row(Some(i), Some(j))))
            }
            Kind::Left | Kind::Full if partners.is_empty() => out.push(row(Some(i), None)),
            Kind::Left | Kind::Full => {
                out.extend(partners.iter().map(|&j| row(Some(i), Some(j))));
            }
            Kind::Semi if !partners.is_empty() => out.push(row(Some(i), None)),
            Kind::Anti if partners.is_empty() => out.push(row(Some(i), None)),
            Kind::NotIn => {
                let unknown = rights.iter().any(|&j| keys_of(r, j).is_none())
                    || (keys_of(l, i).is_none() && !rights.is_empty());
                if partners.is_empty() && !unknown {
                    out.push(row(Some(i), None));
                }
            }
            _ => {}
        }
    }
    if matches!(kind, Kind::Right | Kind::Full) {
        for &j in &rights {
            if !lefts.iter().any(|&i| matches(i, j)) {
                out.push(row(None, Some(j)));
            }
        }
    }
    out
}

#[test]
fn joins_of_every_kind_match_nested_loops() {
    let mut cases = 0;
    for (nl, nr) in [
        (0, 0),
        (0, 4),
        (5, 0),
        (1, 1),
        (2, 3),
        (17, 9),
        (40, 65),
        (64, 30),
    ] {
        for range in [1, 5, 40] {
            for (kind, right_valid) in KINDS.into_iter().flat_map(|k| [(k, 14), (k, 0)]) {
                cases += 1;
                let seed = (nl * 1000 + nr * 10) as u64 + range;
                let mut s = data(seed);
                let l = nullable(&mut s, nl, range, 13, false);
                let unique = has_payload(kind);
                let r = nullable(&mut s, nr, range, right_valid, unique);
                let out = open_table(seed, |ctx| {
                    let (l, r) = (
                        share_table(1, ctx.role(), &l)?,
                        share_table(2, ctx.role(), &r)?,
                    );
                    let side = |table| Side {
                        table,
                        keys: &[0, 1],
                        nulls: &[2, 3],
                        sorted: false,
                    };
                    join(
                        ctx,
                        &Step::new("join"),
                        kind,
                        side(&l),
                        side(&r),
                        &[4, 5],
                        None,
                    )
                })
                .unwrap();
                let due = clear_join(kind, &l, &r);
                assert!(
                    rows(&out) == due,
                    "seed {seed}: {kind:?} of {nl} and {nr} rows"
                );
            }
        }
    }
    assert!(cases >= 200);
}

/// Two key columns, then a number and bits, ascending by key; the keys differ where `unique`.
pub(crate) fn ascending(s: &mut Stream, n: usize, range: u64, unique: bool) -> ClearTable {
    let mut keys: Vec<[u64; 2]> = (0..n as u64)
        .map(|row| match unique {
            true => [row * 2 % (n as u64 * 2 + 1), number(s) % 2],
            false => [number(s) % range, number(s) % 2],
        })
        .collect();
    let cells: Vec<[Vec<u64>; 2]> = {
        let column = |of: usize, width| {
            let values: Vec<u64> = keys.iter().map(|k| k[of]).collect();
            let column = key(width, &values);
            (0..n).map(|r| cell(&column, r)).collect::<Vec<_>>()
        };
        let (high, low) = (column(0, 12), column(1, 66));
        high.into_iter().zip(low).map(|(h, l)| [h, l]).collect()
    };
    let mut rows: Vec<usize> = (0..n).collect();
    // The last key column is the highest of the key that rows ascend by.
    rows.sort_by(|&i, &j| {
        let [(a, b), (c, d)] = [&cells[i], &cells[j]].map(|[x, y]| (x, y));
        order(b, d).then_with(|| order(a, c))
    });
    keys = rows.iter().map(|&r| keys[r]).collect();
    let of = |at: usize| keys.iter().map(|k| k[at]).collect::<Vec<u64>>();
    let none = vec![false; n];
    ClearTable {
        columns: vec![
            key(12, &of(0)),
            key(66, &of(1)),
            flag_column(&none),
            flag_column(&none),
            ClearColumn::Arith64(s.words(n)),
            bits(s, 20, n, 0),
        ],
        valid: flags(s, n, 12),
    }
}

#[test]
fn sorted_sides_are_merged() {
    let mut cases = 0;
    for (nl, nr) in [
        (0, 3),
        (4, 0),
        (1, 1),
        (2, 3),
        (17, 9),
        (64, 64),
        (65, 130),
        (300, 31),
    ] {
        for range in [1, 8, 300] {
            for kind in [
                Kind::Inner,
                Kind::Left,
                Kind::Right,
                Kind::Full,
                Kind::Semi,
                Kind::Anti,
                Kind::NotIn,
            ] {
                for seed in 0..2 {
                    cases += 1;
                    let seed = seed + (nl * 1000 + nr * 10) as u64 + range;
                    let mut s = data(seed);
                    let l = ascending(&mut s, nl, range, false);
                    let r = ascending(&mut s, nr, range, has_payload(kind));
                    let out = open_table(seed, |ctx| {
                        let l = share_table(1, ctx.role(), &l)?;
                        let r = share_table(2, ctx.role(), &r)?;
                        let side = |table| Side {
                            table,
                            keys: &[0, 1],
                            nulls: &[],
                            sorted: true,
                        };
                        join(
                            ctx,
                            &Step::new("join"),
                            kind,
                            side(&l),
                            side(&r),
                            &[4, 5],
                            None,
                        )
                    })
                    .unwrap();
                    assert!(
                        rows(&out) == clear_join(kind, &l, &r),
                        "seed {seed}: {kind:?} of {nl} and {nr} rows"
                    );
                }
            }
        }
    }
    assert!(cases >= 200);
}

#[test]
fn sides_that_are_not_what_they_promise_are_errors() {
    let mut s = data(9);
    let l = ascending(&mut s, 50, 20, false);
    let mut r = ascending(&mut s, 40, 0, true);
    let run = |r: &ClearTable| {
        open_table(9, |ctx| {
            let l = share_table(1, ctx.role(), &l)?;
            let r = share_table(2, ctx.role(), r)?;
            let side = |table| Side {
                table,
                keys: &[0, 1],
                nulls: &[],
                sorted: true,
            };
            join(
                ctx,
                &Step::new("join"),
                Kind::Inner,
                side(&l),
                side(&r),
                &[],
                None,
            )
        })
    };
    run(&r).unwrap();
    let twice = |r: &mut ClearTable, from: usize, to: usize| {
        for column in &mut r.columns {
            if let ClearColumn::Bits { width, words } = column {
                let stride = width.div_ceil(64);
                words.copy_within(from * stride..(from + 1) * stride, to * stride);
            }
        }
    };
    // Even where one of them is not valid.
    r.valid[7] = true;
    r.valid[8] = false;
    twice(&mut r, 7, 8);
    assert_eq!(run(&r).unwrap_err(), Error::DuplicateKey);
    twice(&mut r, 30, 3);
    let error = run(&r).unwrap_err();
    assert!(
        error.to_string().contains("not in ascending order"),
        "{error}"
    );
}

#[test]
fn several_rows_a_key_on_both_sides_up_to_a_bound() {
    let mut cases = 0;
    for (nl, nr) in [(0, 3), (3, 0), (1, 1), (5, 8), (20, 30), (33, 64)] {
        for range in [2, 9, 30] {
            for most in [1, 2, 3, 8] {
                for (kind, case) in [(Kind::Inner, 0), (Kind::Left, 1), (Kind::Left, 2)] {
                    cases += 1;
                    let seed = (nl * 1000 + nr * 10 + case) as u64 + range;
                    let mut s = data(seed);
                    let l = nullable(&mut s, nl, range, 13, false);
                    let r = nullable(&mut s, nr, range, 12, false);
                    let result = open_table(seed, |ctx| {
                        let (l, r) = (
                            share_table(1, ctx.role(), &l)?,
                            share_table(2, ctx.role(), &r)?,
                        );
                        let side = |table| Side {
                            table,
                            keys: &[0, 1],
                            nulls: &[2, 3],
                            sorted: false,
                        };
                        join_many(
                            ctx,
                            &Step::new("join"),
                            kind,
                            side(&l),
                            side(&r),
                            &[4, 5],
                            most,
                            None,
                        )
                    });
                    let mut counts = HashMap::new();
                    for j in (0..nr).filter(|&j| r.valid[j]) {
                        if let Some(keys) = keys_of(&r, j) {
                            *counts.entry(keys).or_insert(0) += 1;
                        }
                    }
                    if counts.values().any(|&n| n > most) {
                        assert_eq!(result.unwrap_err(), Error::BoundExceeded, "seed {seed}");
                        continue;
                    }
                    let mut got = rows(&result.unwrap());
                    let mut due = clear_join(kind, &l, &r);
                    got.sort();
                    due.sort();
                    assert!(got == due, "seed {seed}: {kind:?}, at most {most}");
                }
            }
        }
    }
    assert!(cases >= 200);
}

pub(crate) fn has_payload(kind: Kind) -> bool {
    matches!(kind, Kind::Inner | Kind::Left | Kind::Right | Kind::Full)
}
