//! Adders and conversions of whole words.

use crate::clear::{FAR, number};
use veilgate_mpc::circuit::{a2b, add, b2a, negate, subtract};
use veilgate_mpc::input::ClearColumn;
use veilgate_mpc::net::{LinkProfile, Step};
use veilgate_mpc::release::ClearTable;
use veilgate_mpc::table::{Column, SharedTable};
use veilgate_mpc::testing::{
    data, open_table_with, share_bits, share_table, three_parties, three_parties_with,
};

const ROWS: [usize; 8] = [0, 1, 2, 63, 64, 65, 100, 129];

/// Numbers of `width` bits (at most 128), extremes among them.
pub(crate) fn values(seed: u64, width: usize, rows: usize) -> Vec<u128> {
    let mut s = data(seed);
    let mask = u128::MAX >> (128 - width);
    (0..rows)
        .map(|r| {
            let random = u128::from(number(&mut s)) << 64 | u128::from(number(&mut s));
            mask & match r % 7 {
                0 => random,
                1 => 0,
                2 => u128::MAX,
                3 => 1,
                4 => 1 << (width - 1),
                _ => random,
            }
        })
        .collect()
}

pub(crate) fn column(width: usize, values: &[u128]) -> ClearColumn {
    let words = values
        .iter()
        .flat_map(|v| {
            [*v as u64, (*v >> 64) as u64]
                .into_iter()
                .take(width.div_ceil(64))
        })
        .collect();
    ClearColumn::Bits { width, words }
}

pub(crate) fn opened(column: &ClearColumn) -> Vec<u128> {
    match column {
        ClearColumn::Bits { width, words } => words
            .chunks_exact(width.div_ceil(64))
            .map(|w| w.iter().rev().fold(0, |v, &w| v << 64 | u128::from(w)))
            .collect(),
        ClearColumn::Arith64(v) => v.iter().map(|&v| u128::from(v)).collect(),
        ClearColumn::Arith128(v) => v.clone(),
    }
}

#[test]
fn sums_differences_and_negations_match_clear_text() {
    let mut cases = 0;
    for rows in ROWS {
        for width in [1, 2, 7, 31, 64, 65, 127, 128] {
            for profile in [LinkProfile::LOOPBACK, FAR] {
                for round in 0..2 {
                    cases += 1;
                    let seed = (rows * 1000 + width * 4 + round) as u64;
                    let (x, mut y) = (values(seed, width, rows), values(seed + 77, width, rows));
                    y.reverse();
                    let clear = ClearTable {
                        columns: vec![column(width, &x), column(width, &y)],
                        valid: vec![true; rows],
                    };
                    let out = open_table_with(seed, profile, |ctx| {
                        let t = share_table(seed, ctx.role(), &clear)?;
                        let (x, y) = (t.bits("test", 0)?, t.bits("test", 1)?);
                        Ok(SharedTable {
                            columns: vec![
                                Column::Bits(add(ctx, &Step::new("add"), x, y)?),
                                Column::Bits(subtract(ctx, &Step::new("subtract"), x, y)?),
                                Column::Bits(negate(ctx, &Step::new("negate"), x)?),
                            ],
                            valid: t.valid.clone(),
                        })
                    })
                    .unwrap();
                    let mask = u128::MAX >> (128 - width);
                    let due = |f: fn(u128, u128) -> u128| -> Vec<u128> {
                        x.iter().zip(&y).map(|(x, y)| f(*x, *y) & mask).collect()
                    };
                    assert!(
                        opened(&out.columns[0]) == due(u128::wrapping_add),
                        "seed {seed}"
                    );
                    assert!(
                        opened(&out.columns[1]) == due(u128::wrapping_sub),
                        "seed {seed}"
                    );
                    assert!(
                        opened(&out.columns[2]) == due(|x, _| 0_u128.wrapping_sub(x)),
                        "seed {seed}"
                    );
                }
            }
        }
    }
    assert!(cases >= 200);
}

#[test]
fn words_become_numbers_and_bits_again() {
    let mut cases = 0;
    for rows in ROWS {
        for width in [1, 5, 32, 33, 64, 65, 128] {
            for signed in [false, true] {
                for profile in [LinkProfile::LOOPBACK, FAR] {
                    cases += 1;
                    let seed = (rows * 1000 + width * 2) as u64;
                    let x = values(seed, width, rows);
                    let clear = ClearTable {
                        columns: vec![column(width, &x)],
                        valid: vec![true; rows],
                    };
                    let out = open_table_with(seed, profile, |ctx| {
                        let t = share_table(seed, ctx.role(), &clear)?;
                        let x = t.bits("test", 0)?;
                        let wide = b2a::<u128>(ctx, &Step::new("wide"), x, signed)?;
                        let back = a2b(ctx, &Step::new("back"), &wide, width)?;
                        let mut columns = vec![Column::Arith128(wide), Column::Bits(back)];
                        if width <= 64 {
                            let x = b2a::<u64>(ctx, &Step::new("word"), x, signed)?;
                            columns.push(Column::Arith64(x));
                        }
                        Ok(SharedTable {
                            columns,
                            valid: t.valid.clone(),
                        })
                    })
                    .unwrap();
                    let extended = |v: u128| {
                        if signed && v >> (width - 1) & 1 == 1 && width < 128 {
                            v | u128::MAX << width
                        } else {
                            v
                        }
                    };
                    let due: Vec<u128> = x.iter().map(|&v| extended(v)).collect();
                    assert!(opened(&out.columns[0]) == due, "seed {seed}, width {width}");
                    assert!(opened(&out.columns[1]) == x, "seed {seed}, width {width}");
                    if let Some(word) = out.columns.get(2) {
                        let due: Vec<u128> = due.iter().map(|&v| u128::from(v as u64)).collect();
                        assert!(opened(word) == due, "seed {seed}, width {width}");
                    }
                }
            }
        }
    }
    assert!(cases >= 200);
}

#[test]
fn bits_to_numbers_cost_what_the_formula_says() {
    for rows in [64_usize, 640] {
        // Rounds that cost nothing: gates decide, hence the ripple.
        let near = LinkProfile {
            round_trip: std::time::Duration::ZERO,
            ..LinkProfile::LOOPBACK
        };
        let parties = three_parties_with(1, near, |ctx| {
            let words = vec![5; rows];
            let x = share_bits(1, ctx.role(), 64, rows, &words)?;
            b2a::<u64>(ctx, &Step::new("b2a"), &x, false).map(drop)
        })
        .unwrap();
        let sent: u64 = parties.iter().map(|(_, traffic)| traffic.bytes_sent).sum();
        // 63 gates a party, the mask once, two components opened.
        let planes = 3 * 63 + 64 + 2 * 64;
        assert_eq!(sent, (planes * rows / 8) as u64);
    }
    let wide = three_parties(1, |ctx| {
        let x = share_bits(1, ctx.role(), 65, 1, &[1, 1])?;
        b2a::<u64>(ctx, &Step::new("b2a"), &x, false).map(drop)
    });
    assert!(wide.unwrap_err().to_string().contains("65 bits"));
}
