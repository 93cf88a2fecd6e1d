//! Segmented scans.

use crate::clear::{FAR, flag_column, flags, number};
use veilgate_mpc::circuit::{and, or, select};
use veilgate_mpc::context::Context;
use veilgate_mpc::error::Result;
use veilgate_mpc::input::ClearColumn;
use veilgate_mpc::net::{LinkProfile, Step};
use veilgate_mpc::oblivious::segment::{
    segmented_extreme, segmented_first, segmented_first_number, segmented_last,
    segmented_last_number, segmented_or, segmented_scan, segmented_scan_up, segmented_sum,
};
use veilgate_mpc::release::ClearTable;
use veilgate_mpc::share::{Arith, BitColumn};
use veilgate_mpc::table::{Column, SharedTable};
use veilgate_mpc::testing::{data, open_table_with, share_bits, share_table, three_parties};

fn number_column(table: &SharedTable, index: usize) -> &Arith<u64> {
    match &table.columns[index] {
        Column::Arith64(x) => x,
        _ => panic!("not a number"),
    }
}

/// The segment of each row: where it begins, and the row after its end.
fn segments(first: &[bool]) -> Vec<(usize, usize)> {
    let starts: Vec<usize> = (0..first.len()).filter(|&r| r == 0 || first[r]).collect();
    (0..first.len())
        .map(|r| {
            let at = starts.partition_point(|&s| s <= r);
            let end = starts.get(at).copied().unwrap_or(first.len());
            (starts[at - 1], end)
        })
        .collect()
}

/// Everything at once, over one table: a column a scan.
fn scans(ctx: &mut Context, t: &SharedTable) -> Result<SharedTable> {
    let step = Step::new("scan");
    let (first, x) = (t.bits("test", 0)?, t.bits("test", 1)?);
    let n = number_column(t, 2);
    let bits = |x| Column::Bits(x);
    // Associative and not commutative: the last non-zero value, or zero.
    let mut last_set = |ctx: &mut Context, step: &Step, upper: &BitColumn, lower: &BitColumn| {
        let low = lower.bit_range(0, 1);
        let some = or(ctx, &step.narrow("or"), &low, &lower.bit_range(1, 1))?;
        select(ctx, &step.narrow("select"), &some, lower, upper)
    };
    let mut all = |ctx: &mut Context, step: &Step, upper: &BitColumn, lower: &BitColumn| {
        and(ctx, step, upper, lower)
    };
    let narrow = x.bit_range(0, 2);
    let columns = vec![
        bits(segmented_extreme(
            ctx,
            &step.narrow("min"),
            first,
            x,
            false,
        )?),
        bits(segmented_extreme(ctx, &step.narrow("max"), first, x, true)?),
        bits(segmented_first(ctx, &step.narrow("first"), first, x)?),
        bits(segmented_last(ctx, &step.narrow("last"), first, x)?),
        bits(segmented_scan(
            ctx,
            &step.narrow("set"),
            first,
            &narrow,
            &mut last_set,
        )?),
        bits(segmented_scan_up(
            ctx,
            &step.narrow("and"),
            first,
            x,
            &mut all,
        )?),
        Column::Arith64(segmented_sum(ctx, &step.narrow("sum"), first, n)?),
        Column::Arith64(segmented_first_number(
            ctx,
            &step.narrow("firstn"),
            first,
            n,
        )?),
        Column::Arith64(segmented_last_number(ctx, &step.narrow("lastn"), first, n)?),
    ];
    Ok(SharedTable {
        columns,
        valid: t.valid.clone(),
    })
}

#[test]
fn scans_match_clear_text() {
    let mut cases = 0;
    for n in [0, 1, 2, 3, 4, 5, 7, 8, 9, 16, 31, 33, 63, 64, 65, 127, 130] {
        for of_16 in [0, 1, 5, 16] {
            for (profile, width) in [(LinkProfile::LOOPBACK, 9), (FAR, 9), (FAR, 70)] {
                cases += 1;
                let seed = (n * 100 + of_16 as usize * 3 + width) as u64;
                let mut s = data(seed);
                let first = flags(&mut s, n, of_16);
                let stride = usize::div_ceil(width, 64);
                let mut words: Vec<u64> = Vec::new();
                for _ in 0..n {
                    words.push(number(&mut s) % 300 % (1 << width.min(9)));
                    words.extend((1..stride).map(|_| number(&mut s) % 4));
                }
                let numbers: Vec<u64> = s.words(n);
                let clear = ClearTable {
                    columns: vec![
                        flag_column(&first),
                        ClearColumn::Bits {
                            width,
                            words: words.clone(),
                        },
                        ClearColumn::Arith64(numbers.clone()),
                    ],
                    valid: vec![true; n],
                };
                let out = open_table_with(seed, profile, |ctx| {
                    scans(ctx, &share_table(seed, ctx.role(), &clear)?)
                })
                .unwrap();
                let value = |r: usize| -> u128 {
                    words[r * stride..(r + 1) * stride]
                        .iter()
                        .rev()
                        .fold(0, |v, &w| v << 64 | u128::from(w))
                };
                let got = |c: usize, r: usize| -> u128 {
                    match &out.columns[c] {
                        ClearColumn::Bits { width, words } => {
                            let stride = width.div_ceil(64);
                            words[r * stride..(r + 1) * stride]
                                .iter()
                                .rev()
                                .fold(0, |v, &w| v << 64 | u128::from(w))
                        }
                        ClearColumn::Arith64(v) => u128::from(v[r]),
                        ClearColumn::Arith128(v) => v[r],
                    }
                };
                for (r, (start, end)) in segments(&first).into_iter().enumerate() {
                    let down = || (start..=r).map(value);
                    let due = [
                        down().min().unwrap(),
                        down().max().unwrap(),
                        value(start),
                        value(end - 1),
                        down().map(|v| v & 3).rfind(|&v| v != 0).unwrap_or(0),
                        (r..end).map(value).fold(u128::MAX, |a, b| a & b),
                        u128::from((start..=r).fold(0, |a: u64, i| a.wrapping_add(numbers[i]))),
                        u128::from(numbers[start]),
                        u128::from(numbers[end - 1]),
                    ];
                    for (c, due) in due.into_iter().enumerate() {
                        assert_eq!(got(c, r), due, "seed {seed}: scan {c}, row {r} of {n}");
                    }
                }
            }
        }
    }
    assert!(cases >= 200);
}

#[test]
fn a_sum_costs_what_its_formula_says() {
    for rows in [1_usize, 2, 64, 100, 1000] {
        let parties = three_parties(1, |ctx| {
            let first = BitColumn::zeros(1, rows);
            let x = Arith::<u64>::zeros(rows);
            segmented_sum(ctx, &Step::new("sum"), &first, &x).map(drop)
        })
        .unwrap();
        // A pair costs two words, an even row but the first one, level by level.
        let (mut words, mut left, mut levels) = (0, rows, 0);
        while left > 1 {
            words += 2 * (left / 2) + left.div_ceil(2) - 1;
            left /= 2;
            levels += 1;
        }
        let flags = [rows, rows, rows];
        for ((_, traffic), flags) in parties.iter().zip(flags) {
            assert_eq!(traffic.bytes_sent, 8 * (words + flags) as u64);
            assert!(traffic.rounds <= 2 * levels + 2);
        }
    }
}

#[test]
fn flags_of_other_rows_are_refused() {
    let error = three_parties(1, |ctx| {
        let (first, x) = (BitColumn::zeros(1, 3), BitColumn::zeros(4, 4));
        segmented_first(ctx, &Step::new("scan"), &first, &x).map(drop)
    })
    .unwrap_err();
    assert!(error.to_string().contains("3 rows"), "{error}");
}

#[test]
fn flags_run_along_segments_ored_and_cost_what_the_formula_says() {
    for rows in [0, 1, 2, 3, 63, 64, 65, 129, 1000] {
        for width in [1, 3, 8] {
            for of_16 in [0, 2, 16] {
                let mut s = data(rows as u64 * 100 + width as u64);
                let first = flags(&mut s, rows, 3);
                let bits: Vec<Vec<bool>> = (0..width)
                    .map(|_| flags(&mut s, rows, of_16 / (1 + (width as u64 & 1))))
                    .collect();
                let words: Vec<u64> = (0..rows)
                    .map(|r| (0..width).map(|b| u64::from(bits[b][r]) << b).sum())
                    .collect();
                let starts: Vec<u64> = first.iter().map(|&f| u64::from(f)).collect();
                let parties = three_parties(1, |ctx| {
                    let first = share_bits(1, ctx.role(), 1, rows, &starts)?;
                    let values = share_bits(2, ctx.role(), width, rows, &words)?;
                    segmented_or(ctx, &Step::new("or"), &first, &values)
                })
                .unwrap();
                let [a, b, _] = [0, 1, 2].map(|p| parties[p].0.to_row_words());
                let mut due = 0;
                for r in 0..rows {
                    due = if first[r] { words[r] } else { due | words[r] };
                    assert_eq!(a.0[r] ^ a.1[r] ^ b.1[r], due, "{rows} rows, row {r}");
                }
                let plane = |rows: usize| rows.div_ceil(64);
                let (mut sent, mut left, mut levels) = (width * plane(rows), rows, 0);
                while left > 1 {
                    sent += width * (2 * plane(left / 2) + plane(left.div_ceil(2) - 1));
                    left /= 2;
                    levels += 1;
                }
                for (_, traffic) in &parties {
                    assert_eq!(traffic.bytes_sent, 8 * sent as u64);
                    assert!(traffic.rounds <= 2 * levels + 1);
                }
            }
        }
    }
}
