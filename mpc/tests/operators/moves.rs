//! Shuffle, sort, compact, scan.

use crate::clear::{SIZES, bits, cell, flag_column, flags, order, rows};
use veilgate_mpc::error::Error;
use veilgate_mpc::input::ClearColumn;
use veilgate_mpc::net::Step;
use veilgate_mpc::oblivious::shuffle::Permutation;
use veilgate_mpc::oblivious::sort::{apply, sort_by};
use veilgate_mpc::oblivious::{compact, scan, shuffle};
use veilgate_mpc::prss::Stream;
use veilgate_mpc::release::{ClearTable, final_share, reconstruct};
use veilgate_mpc::table::SharedTable;
use veilgate_mpc::testing::{data, open_table, share_table, three_parties};

fn table(s: &mut Stream, n: usize, width: usize, distinct: u64) -> ClearTable {
    ClearTable {
        columns: vec![
            bits(s, width, n, distinct),
            ClearColumn::Arith64(s.words(n)),
            ClearColumn::Arith128(s.words(n)),
            bits(s, 7, n, 0),
        ],
        valid: flags(s, n, 12),
    }
}

fn all_rows(table: &ClearTable) -> Vec<(Vec<Vec<u64>>, bool)> {
    (0..table.valid.len())
        .map(|r| {
            (
                table.columns.iter().map(|c| cell(c, r)).collect(),
                table.valid[r],
            )
        })
        .collect()
}

#[test]
fn a_shuffle_keeps_the_rows_and_changes_their_order() {
    for n in SIZES {
        let clear = table(&mut data(n as u64), n, 90, 0);
        let out = open_table(n as u64, |ctx| {
            let t = share_table(1, ctx.role(), &clear)?;
            shuffle::shuffle(ctx, &Step::new("s"), &t)
        })
        .unwrap();
        let (mut before, mut after) = (all_rows(&clear), all_rows(&out));
        assert!(n < 31 || before != after);
        before.sort();
        after.sort();
        assert_eq!(before, after);
    }
}

#[test]
fn a_shuffle_costs_four_words_for_all_parties_and_two_rounds() {
    for n in [1, 64, 100] {
        let clear = ClearTable {
            columns: vec![ClearColumn::Arith64(data(1).words(n))],
            valid: vec![true; n],
        };
        let traffic = three_parties(1, |ctx| {
            let t = share_table(1, ctx.role(), &clear)?;
            shuffle::shuffle(ctx, &Step::new("s"), &t).map(drop)
        })
        .unwrap()
        .map(|p| p.1);
        // A 64-bit word and a flag, which travels as a byte.
        let bytes: u64 = traffic.iter().map(|t| t.bytes_sent).sum();
        assert_eq!(bytes, 4 * 9 * n as u64);
        assert!(traffic.iter().all(|t| t.rounds <= 4), "2 rounds a lane");
    }
}

#[test]
fn sorting_is_stable_and_right_at_every_width() {
    for width in [1, 5, 24, 64, 80, 129, 256] {
        for n in SIZES {
            for distinct in [0, 1, 4] {
                let clear = table(&mut data((width * 1000 + n) as u64), n, width, distinct);
                let out = open_table(3, |ctx| {
                    let step = Step::new("sort");
                    let t = share_table(1, ctx.role(), &clear)?;
                    let p = sort_by(ctx, &step, &[t.bits("test", 0)?])?.order;
                    apply(ctx, &step.narrow("apply"), &p, &t)
                })
                .unwrap();
                let mut due = all_rows(&clear);
                due.sort_by(|a, b| order(&a.0[0], &b.0[0]));
                assert!(
                    all_rows(&out) == due,
                    "{width} bits, {n} rows, {distinct} keys"
                );
            }
        }
    }
}

#[test]
fn sorting_by_several_keys_and_of_many_rows() {
    let n = 5000;
    let clear = table(&mut data(1), n, 3, 0);
    let out = open_table(3, |ctx| {
        let step = Step::new("sort");
        let t = share_table(1, ctx.role(), &clear)?;
        let keys = [t.bits("test", 0)?, t.bits("test", 3)?];
        let p = sort_by(ctx, &step, &keys)?.order;
        let sorted = apply(ctx, &step.narrow("apply"), &p, &t)?;
        // Back and forth again is the identity on the sorted table.
        let columns: Vec<_> = sorted.columns.iter().collect();
        let back = p.apply_inverse(ctx, &step.narrow("back"), &columns)?;
        let again = p.apply(ctx, &step.narrow("again"), &back.iter().collect::<Vec<_>>())?;
        Ok(SharedTable {
            columns: again,
            valid: sorted.valid,
        })
    })
    .unwrap();
    let mut due = all_rows(&clear);
    due.sort_by(|a, b| order(&a.0[0], &b.0[0]).then(order(&a.0[3], &b.0[3])));
    assert!(all_rows(&out) == due);
}

#[test]
fn compaction_keeps_valid_rows_in_order() {
    for n in SIZES {
        for of_16 in [0, 8, 16] {
            let mut clear = table(&mut data(n as u64), n, 20, 0);
            clear.valid = flags(&mut data(n as u64 + 1), n, of_16);
            let valid = clear.valid.iter().filter(|v| **v).count();
            for keep in [valid, n, n + 3] {
                let out = open_table(2, |ctx| {
                    let t = share_table(1, ctx.role(), &clear)?;
                    compact::compact(ctx, &Step::new("c"), &t, keep)
                })
                .unwrap();
                assert_eq!(out.valid.len(), keep);
                assert_eq!(rows(&out), rows(&clear));
                assert!(out.valid[..valid].iter().all(|v| *v));
            }
        }
    }
}

#[test]
fn carries_run_along_segments() {
    for n in [0, 1, 2, 63, 64, 65, 128, 1000, 64 * 64, 64 * 64 + 1, 9000] {
        for of_16 in [1, 8, 15, 16] {
            let mut s = data(n as u64 * 17 + of_16);
            let start = flags(&mut s, n, 1);
            let go = flags(&mut s, n, of_16);
            let clear = ClearTable {
                columns: vec![flag_column(&start), flag_column(&go)],
                valid: vec![true; n],
            };
            let out = open_table(2, |ctx| {
                let t = share_table(1, ctx.role(), &clear)?;
                let (start, go) = (t.bits("test", 0)?, t.bits("test", 1)?);
                let valid = scan::carry(ctx, &Step::new("c"), start, go)?;
                Ok(SharedTable {
                    columns: vec![],
                    valid,
                })
            })
            .unwrap();
            let mut carried = false;
            for r in 0..n {
                carried = start[r] || (go[r] && carried);
                assert_eq!(out.valid[r], carried, "row {r} of {n}");
            }
        }
    }
}

#[test]
fn a_false_final_share_is_noticed() {
    let clear = table(&mut data(9), 10, 20, 0);
    let shares = three_parties(1, |ctx| {
        Ok(final_share(
            ctx.role(),
            &share_table(1, ctx.role(), &clear)?,
        ))
    })
    .unwrap()
    .map(|s| s.0);
    assert_eq!(
        reconstruct([&shares[0], &shares[1], &shares[2]]).unwrap(),
        clear
    );
    for party in 0..3 {
        for at in [0, 1, 20, 60, shares[party].len() - 1] {
            let mut bad = shares.clone();
            bad[party][at] ^= 1;
            let out = reconstruct([&bad[0], &bad[1], &bad[2]]);
            assert!(
                matches!(out, Err(Error::InvalidInput { .. })),
                "party {party}, byte {at}"
            );
        }
        let mut bad = shares.clone();
        bad[party].pop();
        assert!(reconstruct([&bad[0], &bad[1], &bad[2]]).is_err());
    }
}

#[test]
fn permutations_compose_and_invert() {
    for number in 0..200_u64 {
        let n = SIZES[number as usize % SIZES.len()].min(300);
        let mut s = data(number);
        let clear = ClearTable {
            columns: vec![
                bits(&mut s, 9, n, 5),
                bits(&mut s, 70, n, 0),
                ClearColumn::Arith64(s.words(n)),
            ],
            valid: flags(&mut s, n, 12),
        };
        let out = |which: u8| {
            open_table(number, |ctx| {
                let t = share_table(1, ctx.role(), &clear)?;
                let step = Step::new("p");
                let first = sort_by(ctx, &step.narrow("a"), &[t.bits("test", 0)?])?.order;
                let second = sort_by(ctx, &step.narrow("b"), &[t.bits("test", 1)?])?.order;
                let one = |ctx: &mut _, p: &_, t: &_| apply(ctx, &step.narrow("apply"), p, t);
                match which {
                    0 => {
                        let both = first.then(ctx, &step.narrow("both"), &second)?;
                        one(ctx, &both, &t)
                    }
                    1 => {
                        let t = one(ctx, &first, &t)?;
                        apply(ctx, &step.narrow("again"), &second, &t)
                    }
                    2 => {
                        let t = one(ctx, &first, &t)?;
                        apply(ctx, &step.narrow("again"), &first.inverted(), &t)
                    }
                    _ => {
                        let to = first.destinations(ctx, &step.narrow("to"))?;
                        let same = Permutation::from_destinations(ctx, &step.narrow("from"), &to)?;
                        let t = one(ctx, &same, &t)?;
                        apply(ctx, &step.narrow("again"), &same.inverted(), &t)
                    }
                }
            })
            .unwrap()
        };
        assert_eq!(all_rows(&out(0)), all_rows(&out(1)), "{number}");
        assert_eq!(all_rows(&out(2)), all_rows(&clear), "{number}");
        assert_eq!(all_rows(&out(3)), all_rows(&clear), "{number}");
    }
}
