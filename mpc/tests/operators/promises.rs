//! What a join checks of its left side: at most so many rows a key.

use crate::clear::{flag_column, flags, number, rows};
use crate::joins::{KINDS, ascending, clear_join, has_payload, key, keys_of, nullable};
use std::collections::HashMap;
use veilgate_mpc::error::{Error, Result};
use veilgate_mpc::input::ClearColumn;
use veilgate_mpc::net::{Step, Traffic};
use veilgate_mpc::oblivious::join::{Kind, Matches, Side, join, join_many};
use veilgate_mpc::release::ClearTable;
use veilgate_mpc::testing::{data, open_table, share_table, three_parties};

/// Both tables as sides by two keys: merged, or with NULL flags and sorted.
fn side(table: &veilgate_mpc::table::SharedTable, merged: bool) -> Side<'_> {
    Side {
        table,
        keys: &[0, 1],
        nulls: if merged { &[] } else { &[2, 3] },
        sorted: merged,
    }
}

fn run(
    seed: u64,
    kind: Kind,
    (l, r): (&ClearTable, &ClearTable),
    merged: bool,
    left_most: Option<u64>,
) -> Result<ClearTable> {
    open_table(seed, |ctx| {
        let l = share_table(1, ctx.role(), l)?;
        let r = share_table(2, ctx.role(), r)?;
        let (l, r) = (side(&l, merged), side(&r, merged));
        join(ctx, &Step::new("join"), kind, l, r, &[4, 5], left_most)
    })
}

/// The most left rows that one key has, of those that count for the kind.
fn most_of(kind: Kind, l: &ClearTable, r: &ClearTable) -> u64 {
    let has_partner = |keys: &[Vec<u64>; 2]| {
        (0..r.valid.len()).any(|j| r.valid[j] && keys_of(r, j).as_ref() == Some(keys))
    };
    let mut counts = HashMap::new();
    for i in (0..l.valid.len()).filter(|&i| l.valid[i]) {
        let Some(keys) = keys_of(l, i) else { continue };
        let needs = matches!(kind, Kind::Inner | Kind::Right | Kind::Semi);
        if !needs || has_partner(&keys) {
            *counts.entry(keys).or_insert(0) += 1;
        }
    }
    counts.into_values().max().unwrap_or(0)
}

#[test]
fn left_rows_a_key_are_checked_at_every_kind_and_path() {
    let mut ends = [0, 0];
    for (nl, nr) in [(0, 3), (5, 0), (1, 1), (2, 3), (17, 9), (64, 30), (66, 65)] {
        for range in [1, 6, 60] {
            for (which, kind) in KINDS.into_iter().enumerate() {
                for merged in [false, true] {
                    let seed = (nl * 10_000 + nr * 100 + which) as u64 + range * 7;
                    let mut s = data(seed);
                    let unique = has_payload(kind);
                    let (l, r) = if merged {
                        let l = ascending(&mut s, nl, range, false);
                        (l, ascending(&mut s, nr, range, unique))
                    } else {
                        let l = nullable(&mut s, nl, range, 13, false);
                        (l, nullable(&mut s, nr, range, 14, unique))
                    };
                    let have = most_of(kind, &l, &r);
                    let drawn = 1 + number(&mut s) % 9;
                    for most in [1, 2, drawn, have.saturating_sub(1), have, have + 1] {
                        if most == 0 {
                            continue;
                        }
                        let out = run(seed, kind, (&l, &r), merged, Some(most));
                        let case = format!(
                            "seed {seed}: {kind:?} of {nl} and {nr} rows, merged {merged}, \
                             at most {most} where {have} are"
                        );
                        ends[usize::from(have > most)] += 1;
                        if have > most {
                            assert_eq!(out.unwrap_err(), Error::DuplicateKey, "{case}");
                        } else {
                            assert!(rows(&out.unwrap()) == clear_join(kind, &l, &r), "{case}");
                        }
                    }
                }
            }
        }
    }
    assert!(ends[0] > 500 && ends[1] > 200, "{ends:?}");
}

/// One key 7 with `count` usable left rows, others of the same key that are not usable between them,
/// and keys beside it that have one row.
fn crowd(count: usize, unusable: &str) -> ClearTable {
    let mut keys = vec![3];
    let (mut valid, mut null) = (vec![true], vec![false]);
    for _ in 0..count {
        // Two that do not count, then one that does.
        keys.extend([7, 7, 7]);
        valid.extend([unusable != "invalid", unusable == "null", true]);
        null.extend([unusable == "null", unusable == "null", false]);
    }
    keys.extend([9, 11]);
    valid.extend([true, true]);
    null.extend([false, false]);
    let rows = keys.len();
    ClearTable {
        columns: vec![
            key(12, &keys),
            key(66, &vec![0; rows]),
            flag_column(&null),
            flag_column(&vec![false; rows]),
            ClearColumn::Arith64((0..rows as u64).collect()),
            key(20, &keys),
        ],
        valid,
    }
}

#[test]
fn rows_that_are_not_usable_never_count() {
    for kind in KINDS {
        for (merged, unusable) in [(true, "invalid"), (false, "invalid"), (false, "null")] {
            for most in [1, 2, 3, 5, 8] {
                let r = crowd(1, "invalid");
                let mut unique = r.clone();
                // The right side has each key once.
                unique.columns = r.columns.iter().map(|c| without(c, 1..3)).collect();
                unique.valid = vec![true; 4];
                let most_rows = most as usize;
                let exact = crowd(most_rows, unusable);
                let out = run(most, kind, (&exact, &unique), merged, Some(most)).unwrap();
                let due = clear_join(kind, &exact, &unique);
                assert!(rows(&out) == due, "{kind:?} {merged} {unusable} {most}");
                let more = crowd(most_rows + 1, unusable);
                let out = run(most, kind, (&more, &unique), merged, Some(most));
                assert_eq!(
                    out.unwrap_err(),
                    Error::DuplicateKey,
                    "{kind:?} {merged} {unusable} {most}"
                );
            }
        }
    }
}

/// The column without some rows.
fn without(column: &ClearColumn, cut: std::ops::Range<usize>) -> ClearColumn {
    match column {
        ClearColumn::Bits { width, words } => {
            let stride = width.div_ceil(64);
            let kept = words
                .chunks_exact(stride)
                .enumerate()
                .filter(|(row, _)| !cut.contains(row));
            ClearColumn::Bits {
                width: *width,
                words: kept.flat_map(|(_, row)| row.to_vec()).collect(),
            }
        }
        ClearColumn::Arith64(words) => {
            let kept = words
                .iter()
                .enumerate()
                .filter(|(row, _)| !cut.contains(row));
            ClearColumn::Arith64(kept.map(|(_, word)| *word).collect())
        }
        ClearColumn::Arith128(_) => unreachable!(),
    }
}

#[test]
fn without_partners_left_rows_count_where_the_join_keeps_them() {
    // Key 7 has two left rows and no right one.
    let l = crowd(2, "invalid");
    let mut r = crowd(0, "invalid");
    r.columns[0] = key(12, &[1, 2, 4]);
    for kind in KINDS {
        for merged in [false, true] {
            let out = run(1, kind, (&l, &r), merged, Some(1));
            let needs = matches!(kind, Kind::Inner | Kind::Right | Kind::Semi);
            match needs {
                true => assert!(rows(&out.unwrap()) == clear_join(kind, &l, &r), "{kind:?}"),
                false => assert_eq!(out.unwrap_err(), Error::DuplicateKey, "{kind:?}"),
            }
        }
    }
}

#[test]
fn a_many_to_many_join_checks_its_left_side_too() {
    let mut ends = [0, 0];
    for (seed, kind) in (0..60).map(|seed| (seed, [Kind::Inner, Kind::Left][seed as usize % 2])) {
        let mut s = data(seed);
        let l = nullable(&mut s, 30, 12, 13, false);
        let r = nullable(&mut s, 20, 12, 12, false);
        let have = most_of(kind, &l, &r);
        let most = 1 + number(&mut s) % 3;
        let out = open_table(seed, |ctx| {
            let l = share_table(1, ctx.role(), &l)?;
            let r = share_table(2, ctx.role(), &r)?;
            let (l, r) = (side(&l, false), side(&r, false));
            let step = Step::new("join");
            join_many(ctx, &step, kind, l, r, &[4, 5], 20, Some(most))
        });
        ends[usize::from(have > most)] += 1;
        if have > most {
            assert_eq!(out.unwrap_err(), Error::DuplicateKey, "seed {seed}");
            continue;
        }
        let (mut got, mut due) = (rows(&out.unwrap()), clear_join(kind, &l, &r));
        got.sort();
        due.sort();
        assert!(got == due, "seed {seed}");
    }
    assert!(ends.iter().all(|&n| n > 5), "{ends:?}");
}

#[test]
fn a_bound_of_no_rows_is_refused() {
    let l = crowd(1, "invalid");
    let error = run(1, Kind::Inner, (&l, &l), false, Some(0)).unwrap_err();
    assert!(matches!(error, Error::InvalidInput { .. }), "{error}");
}

/// What finding matches of `nl` and `nr` rows, all keys different, sends.
fn traffic(kind: Kind, (nl, nr): (usize, usize), merged: bool, most: Option<u64>) -> [Traffic; 3] {
    let table = |rows: usize| {
        let keys: Vec<u64> = (0..rows as u64).collect();
        ClearTable {
            columns: vec![ClearColumn::Bits {
                width: 64,
                words: keys,
            }],
            valid: vec![true; rows],
        }
    };
    let (l, r) = (table(nl), table(nr));
    three_parties(5, |ctx| {
        let l = share_table(1, ctx.role(), &l)?;
        let r = share_table(2, ctx.role(), &r)?;
        let side = |table| Side {
            table,
            keys: &[0],
            nulls: &[],
            sorted: merged,
        };
        Matches::find(ctx, &Step::new("join"), kind, side(&l), side(&r), most).map(drop)
    })
    .unwrap()
    .map(|(_, traffic)| traffic)
}

#[test]
fn checking_the_left_side_costs_what_its_formula_says() {
    let plane = |rows: usize| 8 * rows.div_ceil(64) as u64;
    // The OR of all rows: words to one, its bits to one; then a word opened with its hash.
    let any = |rows: usize| plane(rows) - 8 + 8 * 63;
    let opened = 8 + 32;
    for (nl, nr) in [(100, 70), (640, 641)] {
        let n = nl + nr;
        for (most, gates) in [(1, 0), (2, 1), (3, 2), (8, 3), (9, 4), (64, 6)] {
            for kind in [Kind::Inner, Kind::Semi] {
                let [without, with] =
                    [None, Some(most)].map(|most| traffic(kind, (nl, nr), false, most));
                for (without, with) in without.iter().zip(&with) {
                    let both = match kind {
                        Kind::Semi => any(n) + opened,
                        _ => any(2 * n) - any(n),
                    };
                    let due = (gates + 1) * plane(n) + both;
                    assert_eq!(with.bytes_sent - without.bytes_sent, due, "{kind:?} {most}");
                    assert!(with.rounds - without.rounds <= gates + 1 + 16);
                }
            }
        }
        // Merged sides: one row a key takes one more carry, any other number a passage of the left keys.
        let sent = |most| traffic(Kind::Semi, (nl, nr), true, most).map(|t| t.bytes_sent);
        let none: u64 = sent(None).iter().sum();
        let one: u64 = sent(Some(1)).iter().sum::<u64>() - none;
        assert!(one < 3 * (16 * plane(n) + 1500), "{one}");
        let more = [2, 7, 90].map(|most| sent(Some(most)).iter().sum::<u64>() - none);
        assert!(more[0] < 3 * (300 * plane(nl) + 1500), "{more:?}");
        assert!(
            more.iter()
                .all(|&m| m.abs_diff(more[0]) <= 3 * 2 * plane(nl))
        );
        // What public sizes bound anyway is not checked, and opens nothing.
        for merged in [false, true] {
            let all = traffic(Kind::Semi, (nl, nr), merged, Some(nl as u64));
            let free = traffic(Kind::Semi, (nl, nr), merged, None);
            assert_eq!(all.map(|t| t.bytes_sent), free.map(|t| t.bytes_sent));
        }
    }
}

#[test]
fn unusable_rows_of_many_keys_do_not_hide_a_second_one() {
    // Random sorted tables in which most rows are not usable, against counts.
    for seed in 0..120 {
        let mut s = data(seed);
        let mut l = ascending(&mut s, 90, 9, false);
        l.valid = flags(&mut s, 90, 4);
        let r = ascending(&mut s, 9, 9, true);
        let have = most_of(Kind::Anti, &l, &r);
        for most in 1..=have + 1 {
            let out = run(seed, Kind::Anti, (&l, &r), true, Some(most));
            assert_eq!(out.is_err(), have > most, "seed {seed}, {most} of {have}");
        }
    }
}
