//! Division by shared and public divisors.

use crate::arithmetic::{column, opened, values};
use crate::clear::FAR;
use veilgate_mpc::circuit::division::{divide, divide_public, modulo_public};
use veilgate_mpc::net::{LinkProfile, Step};
use veilgate_mpc::release::ClearTable;
use veilgate_mpc::table::{Column, SharedTable};
use veilgate_mpc::testing::{data, open_table_with, share_table};

const ROWS: [usize; 6] = [0, 1, 2, 63, 65, 100];

/// The number that `width` bits are in two's complement.
fn signed(value: u128, width: usize) -> i128 {
    ((value << (128 - width)) as i128) >> (128 - width)
}

#[test]
fn quotients_by_shared_divisors_match_clear_text() {
    let mut cases = 0;
    for rows in ROWS {
        for width in [1, 2, 8, 31, 64, 100] {
            for is_signed in [false, true] {
                for (profile, divisors) in [(FAR, 0), (FAR, 5), (LinkProfile::LOOPBACK, 1)] {
                    cases += 1;
                    let seed = (rows * 1000 + width * 10 + divisors) as u64;
                    let (x, mut y) = (values(seed, width, rows), values(seed + 1, width, rows));
                    // Small divisors, with zeros and ones among them.
                    if divisors > 0 {
                        for (i, y) in y.iter_mut().enumerate() {
                            *y = (i % (divisors + 1)) as u128 & (u128::MAX >> (128 - width));
                        }
                    } else {
                        y.rotate_left(rows / 3);
                    }
                    let clear = ClearTable {
                        columns: vec![column(width, &x), column(width, &y)],
                        valid: vec![true; rows],
                    };
                    let out = open_table_with(seed, profile, |ctx| {
                        let t = share_table(seed, ctx.role(), &clear)?;
                        let (x, y) = (t.bits("test", 0)?, t.bits("test", 1)?);
                        let out = divide(ctx, &Step::new("divide"), x, y, is_signed)?;
                        Ok(SharedTable {
                            columns: [out.quotient, out.remainder, out.by_zero]
                                .map(Column::Bits)
                                .to_vec(),
                            valid: t.valid.clone(),
                        })
                    })
                    .unwrap();
                    let got: Vec<Vec<u128>> = out.columns.iter().map(opened).collect();
                    let mask = u128::MAX >> (128 - width);
                    for row in 0..rows {
                        let due = match (x[row], y[row]) {
                            (_, 0) => (0, 0),
                            (x, y) if is_signed => {
                                let (x, y) = (signed(x, width), signed(y, width));
                                ((x / y) as u128 & mask, (x % y) as u128 & mask)
                            }
                            (x, y) => (x / y, x % y),
                        };
                        assert_eq!(
                            (got[0][row], got[1][row]),
                            due,
                            "seed {seed}: {} / {} of {width} bits, signed {is_signed}",
                            x[row],
                            y[row]
                        );
                        assert_eq!(got[2][row] == 1, y[row] == 0);
                    }
                }
            }
        }
    }
    assert!(cases >= 200);
}

#[test]
fn quotients_by_public_divisors_match_clear_text() {
    let mut cases = 0;
    for rows in ROWS {
        for width in [1, 7, 20, 32, 63] {
            let random = data(width as u64).words::<u64>(1)[0] >> 7;
            for d in [
                1,
                2,
                3,
                5,
                7,
                10,
                64,
                100,
                1_000_000_007,
                (1 << 63) - 1,
                random,
            ] {
                cases += 1;
                let seed = (rows * 1000 + width) as u64 + d;
                let x = values(seed, width, rows);
                let clear = ClearTable {
                    columns: vec![column(width, &x)],
                    valid: vec![true; rows],
                };
                let out = open_table_with(seed, FAR, |ctx| {
                    let t = share_table(seed, ctx.role(), &clear)?;
                    let x = t.bits("test", 0)?;
                    Ok(SharedTable {
                        columns: vec![
                            Column::Bits(divide_public(ctx, &Step::new("divide"), x, d)?),
                            Column::Bits(modulo_public(ctx, &Step::new("modulo"), x, d)?),
                        ],
                        valid: t.valid.clone(),
                    })
                })
                .unwrap();
                let due = |f: fn(u128, u128) -> u128| -> Vec<u128> {
                    x.iter().map(|&x| f(x, u128::from(d))).collect()
                };
                assert!(
                    opened(&out.columns[0]) == due(|x, d| x / d),
                    "seed {seed}: by {d}"
                );
                assert!(
                    opened(&out.columns[1]) == due(|x, d| x % d),
                    "seed {seed}: by {d}"
                );
            }
        }
    }
    assert!(cases >= 200);
    let error = open_table_with(1, FAR, |ctx| {
        let clear = ClearTable {
            columns: vec![column(8, &[1])],
            valid: vec![true],
        };
        let t = share_table(1, ctx.role(), &clear)?;
        divide_public(ctx, &Step::new("divide"), t.bits("test", 0)?, 0)?;
        Ok(t)
    });
    assert!(error.unwrap_err().to_string().contains("divisor"));
}
