//! Comparisons with NULLs, extremes, overflow, products of runs.

use crate::arithmetic::{column, opened, values};
use crate::clear::{FAR, flag_column, flags};
use veilgate_mpc::circuit::inner_products;
use veilgate_mpc::circuit::nullable::{
    Comparator, Nullable, add_checked, compare, extreme, multiply_checked, multiply_fixed,
    not_distinct,
};
use veilgate_mpc::input::ClearColumn;
use veilgate_mpc::net::{LinkProfile, Step};
use veilgate_mpc::release::ClearTable;
use veilgate_mpc::table::{Column, SharedTable};
use veilgate_mpc::testing::{data, open_table, open_table_with, share_table};

const ROWS: [usize; 7] = [0, 1, 2, 63, 64, 65, 130];

fn signed(value: u128, width: usize) -> i128 {
    ((value << (128 - width)) as i128) >> (128 - width)
}

#[test]
fn comparisons_and_extremes_follow_sql() {
    let mut cases = 0;
    for rows in ROWS {
        for width in [1, 2, 9, 64, 100] {
            for profile in [LinkProfile::LOOPBACK, FAR] {
                for (is_signed, maximum) in
                    [(false, false), (false, true), (true, false), (true, true)]
                {
                    cases += 1;
                    let seed = (rows * 1000 + width) as u64;
                    let mut s = data(seed);
                    let x = values(seed, width, rows);
                    let mut y = values(seed + 1, width, rows);
                    for i in (0..rows).step_by(3) {
                        y[i] = x[i];
                    }
                    let nulls = [flags(&mut s, rows, 4), flags(&mut s, rows, 4)];
                    let clear = ClearTable {
                        columns: vec![
                            column(width, &x),
                            column(width, &y),
                            flag_column(&nulls[0]),
                            flag_column(&nulls[1]),
                        ],
                        valid: vec![true; rows],
                    };
                    let out = open_table_with(seed, profile, |ctx| {
                        let t = share_table(seed, ctx.role(), &clear)?;
                        let of = |value, null| -> veilgate_mpc::Result<Nullable> {
                            Ok(Nullable {
                                value: t.bits("test", value)?.clone(),
                                null: t.bits("test", null)?.clone(),
                            })
                        };
                        let (x, y) = (of(0, 2)?, of(1, 3)?);
                        let step = Step::new("compare");
                        let mut columns = Vec::new();
                        for (i, comparator) in [
                            Comparator::Equal,
                            Comparator::Less { signed: is_signed },
                            Comparator::LessOrEqual { signed: is_signed },
                        ]
                        .into_iter()
                        .enumerate()
                        {
                            let out = compare(ctx, &step.at("op", i), comparator, &x, &y)?;
                            columns.extend([out.value, out.null]);
                        }
                        columns.push(not_distinct(ctx, &step.narrow("same"), &x, &y)?);
                        let best = extreme(ctx, &step.narrow("best"), &x, &y, is_signed, maximum)?;
                        columns.extend([best.value, best.null]);
                        Ok(SharedTable {
                            columns: columns.into_iter().map(Column::Bits).collect(),
                            valid: t.valid.clone(),
                        })
                    })
                    .unwrap();
                    let got: Vec<Vec<u128>> = out.columns.iter().map(opened).collect();
                    let number = |v: u128| {
                        if is_signed {
                            signed(v, width)
                        } else {
                            v as i128
                        }
                    };
                    for r in 0..rows {
                        let of = |v: u128, null: bool| (!null).then_some(v);
                        let (a, b) = (of(x[r], nulls[0][r]), of(y[r], nulls[1][r]));
                        let both = a.zip(b).map(|(a, b)| (number(a), number(b)));
                        let sql = |c: usize| (got[c + 1][r] == 0).then_some(got[c][r] == 1);
                        assert_eq!(sql(0), both.map(|(a, b)| a == b), "seed {seed}");
                        assert_eq!(sql(2), both.map(|(a, b)| a < b), "seed {seed}");
                        assert_eq!(sql(4), both.map(|(a, b)| a <= b), "seed {seed}");
                        assert_eq!(got[6][r] == 1, a == b, "seed {seed}");
                        let there = a.into_iter().chain(b);
                        let due = if maximum {
                            there.max_by_key(|&v| number(v))
                        } else {
                            there.min_by_key(|&v| number(v))
                        };
                        let best = (got[8][r] == 0).then_some(got[7][r]);
                        assert_eq!(best, due, "seed {seed}");
                    }
                }
            }
        }
    }
    assert!(cases >= 200);
}

#[test]
fn overflow_is_flagged_and_fixed_point_is_exact() {
    let mut cases = 0;
    for rows in ROWS {
        for width in [2, 8, 33, 64] {
            for scale in [0, 1, width / 2, width] {
                for profile in [LinkProfile::LOOPBACK, FAR] {
                    cases += 1;
                    let seed = (rows * 1000 + width * 10 + scale) as u64;
                    let x = values(seed, width, rows);
                    let mut y = values(seed + 1, width, rows);
                    y.rotate_left(rows / 2);
                    let clear = ClearTable {
                        columns: vec![column(width, &x), column(width, &y)],
                        valid: vec![true; rows],
                    };
                    let out = open_table_with(seed, profile, |ctx| {
                        let t = share_table(seed, ctx.role(), &clear)?;
                        let (x, y) = (t.bits("test", 0)?, t.bits("test", 1)?);
                        let (sum, sum_over) = add_checked(ctx, &Step::new("sum"), x, y)?;
                        let step = Step::new("product");
                        let (product, over) = multiply_checked(ctx, &step, x, y)?;
                        let step = Step::new("fixed");
                        let (fixed, fixed_over) = multiply_fixed(ctx, &step, x, y, scale)?;
                        let columns = [sum, sum_over, product, over, fixed, fixed_over];
                        Ok(SharedTable {
                            columns: columns.map(Column::Bits).to_vec(),
                            valid: t.valid.clone(),
                        })
                    })
                    .unwrap();
                    let got: Vec<Vec<u128>> = out.columns.iter().map(opened).collect();
                    for r in 0..rows {
                        let (a, b) = (signed(x[r], width), signed(y[r], width));
                        for (c, exact) in [(0, a + b), (2, a * b), (4, (a * b) >> scale)] {
                            let fits = signed(exact as u128, width) == exact;
                            assert_eq!(got[c + 1][r] == 0, fits, "seed {seed}: {c}");
                            let due = exact as u128 & (u128::MAX >> (128 - width));
                            assert_eq!(got[c][r], due, "seed {seed}: {c}");
                        }
                    }
                }
            }
        }
    }
    assert!(cases >= 200);
}

#[test]
fn runs_have_their_inner_products() {
    let mut cases = 0;
    for runs in [0, 1, 2, 7, 64, 65] {
        for length in [1, 2, 3, 10, 63, 64, 100] {
            for round in 0..5 {
                cases += 1;
                let seed = (runs * 1000 + length * 7 + round) as u64;
                let mut s = data(seed);
                let (x, y): (Vec<u64>, Vec<u64>) = (s.words(runs * length), s.words(runs * length));
                let clear = ClearTable {
                    columns: vec![
                        ClearColumn::Arith64(x.clone()),
                        ClearColumn::Arith64(y.clone()),
                    ],
                    valid: vec![true; runs * length],
                };
                let out = open_table(seed, |ctx| {
                    let t = share_table(seed, ctx.role(), &clear)?;
                    let (Column::Arith64(x), Column::Arith64(y)) = (&t.columns[0], &t.columns[1])
                    else {
                        panic!("columns");
                    };
                    let out = inner_products(ctx, &Step::new("inner"), x, y, length)?;
                    let rows = out.rows();
                    Ok(SharedTable {
                        columns: vec![Column::Arith64(out)],
                        valid: veilgate_mpc::share::BitColumn::ones(ctx.role(), 1, rows),
                    })
                })
                .unwrap();
                let due: Vec<u128> = x
                    .chunks(length)
                    .zip(y.chunks(length))
                    .map(|(x, y)| {
                        let sum = x
                            .iter()
                            .zip(y)
                            .fold(0_u64, |sum, (x, y)| sum.wrapping_add(x.wrapping_mul(*y)));
                        u128::from(sum)
                    })
                    .collect();
                assert!(opened(&out.columns[0]) == due, "seed {seed}");
            }
        }
    }
    assert!(cases >= 200);
}
