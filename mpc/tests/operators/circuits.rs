//! Circuits: values, bytes and rounds.

use crate::clear::{SIZES, bits, cell, number, order};
use std::time::Duration;
use veilgate_mpc::circuit;
use veilgate_mpc::context::Context;
use veilgate_mpc::error::{Error, Result};
use veilgate_mpc::input::ClearColumn;
use veilgate_mpc::net::{LinkProfile, Step, Traffic};
use veilgate_mpc::prss::Pair;
use veilgate_mpc::release::{final_share, reconstruct};
use veilgate_mpc::share::{BitColumn, Role};
use veilgate_mpc::table::{Column, SharedTable};
use veilgate_mpc::testing::{data, share_arith, share_bits, three_parties_with};

const SLOW: LinkProfile = LinkProfile {
    round_trip: Duration::from_millis(20),
    bytes_per_second: 100_000_000,
};

/// Opens the one column that `protocol` makes, with the traffic of all.
fn column(
    profile: LinkProfile,
    protocol: impl Fn(&mut Context) -> Result<Column> + Sync,
) -> Result<(ClearColumn, [Traffic; 3])> {
    let [p0, p1, p2] = three_parties_with(7, profile, |ctx| {
        let column = protocol(ctx)?;
        let traffic = ctx.link().traffic();
        let valid = BitColumn::zeros(1, column.rows());
        let table = SharedTable {
            columns: vec![column],
            valid,
        };
        Ok((final_share(ctx.role(), &table), traffic))
    })?;
    let table = reconstruct([&p0.0.0, &p1.0.0, &p2.0.0])?;
    Ok((table.columns[0].clone(), [p0.0.1, p1.0.1, p2.0.1]))
}

fn words(column: &ClearColumn) -> &[u64] {
    let ClearColumn::Bits { words, .. } = column else {
        panic!("not bits");
    };
    words
}

fn shared(role: Role, seed: u64, rows: usize, column: &ClearColumn) -> BitColumn {
    let ClearColumn::Bits { width, words } = column else {
        panic!("not bits");
    };
    share_bits(seed, role, *width, rows, words).unwrap()
}

#[test]
fn comparisons_match_clear_text_at_every_width_and_profile() {
    let step = Step::new("t");
    for profile in [LinkProfile::LOOPBACK, SLOW] {
        for width in [1, 2, 3, 5, 8, 17, 33, 64, 65, 100, 256] {
            for rows in [0, 1, 2, 65, 200] {
                let mut s = data(width as u64 * 1000 + rows as u64);
                for distinct in [0, 3] {
                    let x = bits(&mut s, width, rows, distinct);
                    let y = bits(&mut s, width, rows, distinct);
                    let run =
                        |f: &(
                              dyn Fn(&mut Context, &BitColumn, &BitColumn) -> Result<BitColumn>
                                  + Sync
                          )| {
                            let (out, traffic) = column(profile, |ctx| {
                                let (x, y) = (
                                    shared(ctx.role(), 1, rows, &x),
                                    shared(ctx.role(), 2, rows, &y),
                                );
                                Ok(Column::Bits(f(ctx, &x, &y)?))
                            })
                            .unwrap();
                            (words(&out).to_vec(), traffic)
                        };
                    let (eq, traffic) = run(&|c, x, y| circuit::equal(c, &step, x, y));
                    let (lt, _) = run(&|c, x, y| circuit::less_than(c, &step, x, y, false));
                    let (slt, _) = run(&|c, x, y| circuit::less_than(c, &step, x, y, true));
                    for t in traffic {
                        let plane = rows.div_ceil(64) as u64 * 8;
                        assert_eq!(t.bytes_sent, (width as u64 - 1) * plane, "one bit a gate");
                        let rounds = if rows == 0 {
                            0
                        } else {
                            width.next_power_of_two().trailing_zeros()
                        };
                        assert_eq!(t.rounds, u64::from(rounds));
                    }
                    for r in 0..rows {
                        let (a, b) = (cell(&x, r), cell(&y, r));
                        assert_eq!(eq[r] == 1, a == b, "equal, {width} bits, row {r}");
                        assert_eq!(
                            lt[r] == 1,
                            order(&a, &b).is_lt(),
                            "less, {width} bits, row {r}"
                        );
                        let sign = |c: &[u64]| c[c.len() - 1] >> ((width - 1) % 64) & 1;
                        let less = match (sign(&a), sign(&b)) {
                            (1, 0) => true,
                            (0, 1) => false,
                            _ => order(&a, &b).is_lt(),
                        };
                        assert_eq!(slt[r] == 1, less, "signed less, {width} bits, row {r}");
                    }
                }
            }
        }
    }
}

#[test]
fn bit_logic_matches_clear_text() {
    let step = Step::new("t");
    for rows in SIZES {
        let mut s = data(rows as u64);
        let (x, y) = (bits(&mut s, 70, rows, 0), bits(&mut s, 70, rows, 0));
        let f = bits(&mut s, 1, rows, 0);
        let check =
            |due: &dyn Fn(u64, u64, bool) -> u64,
             f_run: &(
                  dyn Fn(&mut Context, &BitColumn, &BitColumn, &BitColumn) -> Result<BitColumn>
                      + Sync
              )| {
                let (out, _) = column(LinkProfile::LOOPBACK, |ctx| {
                    let role = ctx.role();
                    let (x, y, f) = (
                        shared(role, 1, rows, &x),
                        shared(role, 2, rows, &y),
                        shared(role, 3, rows, &f),
                    );
                    Ok(Column::Bits(f_run(ctx, &x, &y, &f)?))
                })
                .unwrap();
                for (i, &w) in words(&out).iter().enumerate() {
                    let mask = if i % 2 == 1 { (1 << 6) - 1 } else { u64::MAX };
                    assert_eq!(
                        w,
                        due(words(&x)[i], words(&y)[i], words(&f)[i / 2] == 1) & mask
                    );
                }
            };
        check(&|x, y, _| x & y, &|c, x, y, _| circuit::and(c, &step, x, y));
        check(&|x, y, _| x | y, &|c, x, y, _| circuit::or(c, &step, x, y));
        check(&|x, y, _| x ^ y, &|_, x, y, _| circuit::xor(x, y));
        check(&|x, _, _| !x, &|c, x, _, _| Ok(circuit::not(c, x)));
        check(&|x, _, f| if f { x } else { 0 }, &|c, x, _, f| {
            circuit::and_mask(c, &step, x, f)
        });
        check(&|x, y, f| if f { x } else { y }, &|c, x, y, f| {
            circuit::select(c, &step, f, x, y)
        });
        for on in [None, Some(0), rows.checked_sub(1)] {
            let (out, _) = column(LinkProfile::LOOPBACK, |ctx| {
                let mut words = vec![0; rows];
                if let Some(slot) = on.and_then(|r| words.get_mut(r)) {
                    *slot = 1;
                }
                let flag = share_bits(5, ctx.role(), 1, rows, &words)?;
                Ok(Column::Bits(circuit::any_row(ctx, &step, &flag)?))
            })
            .unwrap();
            assert_eq!(words(&out), [u64::from(on.is_some() && rows > 0)]);
        }
        if rows > 0 {
            let constant = cell(&x, 0);
            let (out, _) = column(LinkProfile::LOOPBACK, |ctx| {
                let x = shared(ctx.role(), 1, rows, &x);
                Ok(Column::Bits(circuit::equal_public(
                    ctx, &step, &x, &constant,
                )?))
            })
            .unwrap();
            for r in 0..rows {
                assert_eq!(words(&out)[r] == 1, cell(&x, r) == constant);
            }
        }
    }
}

#[test]
fn arithmetic_matches_clear_text() {
    let step = Step::new("t");
    for rows in SIZES {
        let mut s = data(rows as u64 + 99);
        let x: Vec<u64> = s.words(rows);
        let y: Vec<u64> = s.words(rows);
        let wide: Vec<u128> = s.words(rows);
        let flag: Vec<u64> = s.words::<u64>(rows).iter().map(|f| f & 1).collect();
        let run = |f: &(dyn Fn(&mut Context) -> Result<Column> + Sync)| {
            column(LinkProfile::LOOPBACK, f).unwrap()
        };

        let (product, traffic) = run(&|c| {
            let (x, y) = (share_arith(1, c.role(), &x), share_arith(2, c.role(), &y));
            Ok(Column::Arith64(circuit::multiply(c, &step, &x, &y)?))
        });
        let due: Vec<u64> = x.iter().zip(&y).map(|(x, y)| x.wrapping_mul(*y)).collect();
        assert_eq!(product, ClearColumn::Arith64(due.clone()));
        for t in traffic {
            assert_eq!(
                (t.bytes_sent, t.rounds),
                (8 * rows as u64, u64::from(rows > 0))
            );
        }

        let (product, _) = run(&|c| {
            let x = share_arith(1, c.role(), &wide);
            Ok(Column::Arith128(circuit::multiply(c, &step, &x, &x)?))
        });
        assert_eq!(
            product,
            ClearColumn::Arith128(wide.iter().map(|x| x.wrapping_mul(*x)).collect())
        );

        let (inner, traffic) = run(&|c| {
            let (x, y) = (share_arith(1, c.role(), &x), share_arith(2, c.role(), &y));
            Ok(Column::Arith64(circuit::inner_product(c, &step, &x, &y)?))
        });
        assert_eq!(
            inner,
            ClearColumn::Arith64(vec![due.iter().fold(0, |s, x| s.wrapping_add(*x))])
        );
        assert!(traffic.iter().all(|t| t.bytes_sent == 8));

        let (bit, traffic) = run(&|c| {
            let f = share_bits(1, c.role(), 1, rows, &flag)?;
            Ok(Column::Arith64(circuit::bit_to_arith64(c, &step, &f)?))
        });
        assert_eq!(bit, ClearColumn::Arith64(flag.clone()));
        assert_eq!(
            traffic.map(|t| t.bytes_sent).iter().sum::<u64>(),
            3 * 8 * rows as u64
        );

        let (gated, _) = run(&|c| {
            let f = share_bits(1, c.role(), 1, rows, &flag)?;
            let x = share_arith(2, c.role(), &wide);
            Ok(Column::Arith128(circuit::multiply_by_flag(
                c, &step, &x, &f,
            )?))
        });
        let due = wide
            .iter()
            .zip(&flag)
            .map(|(x, &f)| x * u128::from(f))
            .collect();
        assert_eq!(gated, ClearColumn::Arith128(due));
    }
}

#[test]
fn arithmetic_becomes_bits_by_ripple_and_by_prefix() {
    let step = Step::new("t");
    for profile in [LinkProfile::LOOPBACK, SLOW] {
        for rows in [0, 1, 65, 130] {
            let mut s = data(rows as u64 + 5);
            let x: Vec<u64> = s.words(rows);
            for n in [1, 2, 31, 33, 64] {
                let (out, _) = column(profile, |c| {
                    let x = share_arith(1, c.role(), &x);
                    Ok(Column::Bits(circuit::a2b(c, &step, &x, n)?))
                })
                .unwrap();
                let due: Vec<u64> = x
                    .iter()
                    .map(|x| if n == 64 { *x } else { x & ((1 << n) - 1) })
                    .collect();
                assert_eq!(words(&out), due);
            }
            let wide: Vec<u128> = s.words(rows);
            let (out, _) = column(profile, |c| {
                let x = share_arith(1, c.role(), &wide);
                Ok(Column::Bits(circuit::a2b(c, &step, &x, 128)?))
            })
            .unwrap();
            let due: Vec<u64> = wide
                .iter()
                .flat_map(|x| [*x as u64, (x >> 64) as u64])
                .collect();
            assert_eq!(words(&out), due);

            let small: Vec<u64> = (0..rows as u64)
                .map(|r| {
                    if r % 7 == 0 {
                        number(&mut s) % (1 << 32)
                    } else {
                        r % 21
                    }
                })
                .collect();
            for k in [0, 1, 10, u64::from(u32::MAX)] {
                let (out, _) = column(profile, |c| {
                    let x = share_arith(1, c.role(), &small);
                    Ok(Column::Bits(circuit::greater_equal_public(
                        c, &step, &x, k, 32,
                    )?))
                })
                .unwrap();
                let due: Vec<u64> = small.iter().map(|&x| u64::from(x >= k)).collect();
                assert_eq!(words(&out), due);
            }
        }
    }
}

#[test]
fn a_step_is_refused_the_second_time() {
    let out = column(LinkProfile::LOOPBACK, |ctx| {
        let step = Step::new("same");
        let x = share_bits(1, ctx.role(), 4, 3, &[1, 2, 3])?;
        circuit::and(ctx, &step, &x, &x)?;
        circuit::and(ctx, &step, &x, &x)?;
        Ok(Column::Bits(x))
    });
    assert_eq!(out.unwrap_err(), Error::StepReused(Step::new("same")));
}

#[test]
fn pairs_have_their_streams_in_common_and_nobody_else() {
    let step = Step::new("s");
    let [p0, p1, p2] = three_parties_with(1, LinkProfile::LOOPBACK, |ctx| {
        let prev: Vec<u64> = ctx.stream(Pair::Prev, &step)?.words(4);
        let next: Vec<u64> = ctx.stream(Pair::Next, &step)?.words(4);
        Ok((prev, next))
    })
    .unwrap()
    .map(|p| p.0);
    assert_eq!((&p0.1, &p1.1, &p2.1), (&p1.0, &p2.0, &p0.0));
    assert!(p0.1 != p1.1 && p1.1 != p2.1 && p2.1 != p0.1);
}

#[test]
fn different_shapes_are_refused() {
    let out = column(LinkProfile::LOOPBACK, |ctx| {
        let x = BitColumn::zeros(4, 3);
        let y = BitColumn::zeros(4, 2);
        Ok(Column::Bits(circuit::equal(ctx, &Step::new("x"), &x, &y)?))
    });
    assert!(matches!(out, Err(Error::InvalidInput { .. })));
}
