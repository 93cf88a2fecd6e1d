//! Several threads a party: the same results, and errors by name.

use crate::clear::{bits, flags, rows};
use veilgate_mpc::circuit::{a2b, and, b2a, bit_to_arith64, equal, less_than, multiply};
use veilgate_mpc::error::Error;
use veilgate_mpc::input::ClearColumn;
use veilgate_mpc::net::{LinkProfile, Step};
use veilgate_mpc::oblivious::group::{Agg, aggregate};
use veilgate_mpc::oblivious::sort::{apply, sort_by};
use veilgate_mpc::release::{ClearTable, final_share, reconstruct};
use veilgate_mpc::share::Arith;
use veilgate_mpc::table::{Column, SharedTable};
use veilgate_mpc::testing::{data, share_table, three_parties_in};

fn table(n: usize) -> ClearTable {
    let mut s = data(n as u64);
    ClearTable {
        columns: vec![
            bits(&mut s, 40, n, 300),
            bits(&mut s, 40, n, 0),
            ClearColumn::Arith64(s.words(n)),
            ClearColumn::Arith64(s.words(n)),
        ],
        valid: flags(&mut s, n, 12),
    }
}

/// The opened result.
fn run(
    n: usize,
    threads: usize,
    protocol: impl Fn(
        &mut veilgate_mpc::context::Context,
        &SharedTable,
    ) -> veilgate_mpc::Result<SharedTable>
    + Sync,
) -> ClearTable {
    let clear = table(n);
    let parties = three_parties_in(9, threads, LinkProfile::LOOPBACK, |ctx| {
        let t = share_table(1, ctx.role(), &clear)?;
        let out = protocol(ctx, &t)?;
        Ok(final_share(ctx.role(), &out))
    })
    .unwrap();
    let [a, b, c] = &parties;
    reconstruct([&a.0, &b.0, &c.0]).unwrap()
}

fn number(column: &Column) -> &Arith<u64> {
    match column {
        Column::Arith64(c) => c,
        _ => panic!("no number"),
    }
}

#[test]
fn circuits_agree_in_any_number_of_threads() {
    for n in [1, 4096, 4097, 20_000] {
        let all = |threads| {
            run(n, threads, |ctx, t| {
                let step = Step::new("c");
                let (x, y) = (t.bits("t", 0)?, t.bits("t", 1)?);
                let (u, v) = (number(&t.columns[2]), number(&t.columns[3]));
                let same = equal(ctx, &step.narrow("equal"), x, y)?;
                let less = less_than(ctx, &step.narrow("less"), x, y, true)?;
                let both = and(ctx, &step.narrow("and"), x, y)?;
                let product = multiply(ctx, &step.narrow("multiply"), u, v)?;
                let planes = a2b(ctx, &step.narrow("a2b"), u, 64)?;
                let back: Arith<u64> = b2a(ctx, &step.narrow("b2a"), x, false)?;
                let flag = bit_to_arith64(ctx, &step.narrow("bit"), &less)?;
                Ok(SharedTable {
                    columns: vec![
                        Column::Bits(same),
                        Column::Bits(less),
                        Column::Bits(both),
                        Column::Arith64(product),
                        Column::Bits(planes),
                        Column::Arith64(back),
                        Column::Arith64(flag),
                    ],
                    valid: t.valid.clone(),
                })
            })
        };
        let one = all(1);
        for threads in [2, 3] {
            let many = all(threads);
            assert_eq!(rows(&many), rows(&one), "{n} rows in {threads} threads");
        }
    }
}

#[test]
fn sorts_and_groups_agree_in_any_number_of_threads() {
    for n in [1, 5000, 20_000] {
        let sorted = |threads| {
            run(n, threads, |ctx, t| {
                let step = Step::new("s");
                let order = sort_by(ctx, &step.narrow("order"), &[t.bits("t", 0)?])?.order;
                apply(ctx, &step.narrow("apply"), &order, t)
            })
        };
        let grouped = |threads| {
            run(n, threads, |ctx, t| {
                aggregate(
                    ctx,
                    &Step::new("g"),
                    t,
                    &[0],
                    &[Agg::Count { when: None }, Agg::Sum { column: 2 }],
                )
            })
        };
        let one = sorted(1);
        let groups = rows(&grouped(1));
        for threads in [2, 3] {
            let many = sorted(threads);
            assert_eq!(rows(&many), rows(&one), "{n} rows in {threads} threads");
            let mut many = rows(&grouped(threads));
            let mut groups = groups.clone();
            many.sort();
            groups.sort();
            assert_eq!(many, groups);
        }
    }
}

#[test]
fn an_error_in_one_thread_is_the_run_s() {
    let clear = table(20_000);
    let error = three_parties_in(3, 3, LinkProfile::LOOPBACK, |ctx| {
        let t = share_table(1, ctx.role(), &clear)?;
        let step = Step::new("twice");
        let key = t.bits("t", 0)?;
        less_than(ctx, &step, key, key, false)?;
        less_than(ctx, &step, key, key, false)
    })
    .unwrap_err();
    assert!(matches!(error, Error::StepReused(_)), "{error:?}");
}
