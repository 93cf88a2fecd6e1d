//! The oblivious join.

use crate::clear::{bits, cell, flags, number, rows};
use std::collections::HashMap;
use veilgate_mpc::error::Error;
use veilgate_mpc::input::ClearColumn;
use veilgate_mpc::net::Step;
use veilgate_mpc::oblivious::join::inner_unique;
use veilgate_mpc::prss::Stream;
use veilgate_mpc::release::ClearTable;
use veilgate_mpc::testing::{data, open_table, share_table};

/// Keys 0..range, spread over `width` bits.
fn key(width: usize, values: &[u64]) -> ClearColumn {
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
