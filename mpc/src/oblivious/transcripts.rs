//! What sorts and partitions open must be the same uniform thing for every input.

use super::compact::partition;
use super::sort::sort_permutation;
use crate::context::Context;
use crate::error::Result;
use crate::net::Step;
use crate::testing::{share_bits, three_parties};
use std::collections::HashMap;

/// The runs of each statistic: 24 equally likely transcripts of 200 each.
const RUNS: u64 = 4800;

/// How often each transcript occurs over many seeds; all parties must see the same.
fn histogram(protocol: impl Fn(&mut Context, u64) -> Result<()> + Sync) -> HashMap<Vec<u64>, u64> {
    let mut seen = HashMap::new();
    for seed in 0..RUNS {
        let [p0, p1, p2] = three_parties(seed, |ctx| {
            protocol(ctx, seed)?;
            Ok(std::mem::take(&mut ctx.opened))
        })
        .unwrap()
        .map(|p| p.0);
        assert!(p0 == p1 && p1 == p2);
        *seen.entry(p0).or_insert(0) += 1;
    }
    seen
}

/// Chi-square against 24 equally likely transcripts; 23 degrees of freedom, 0.9999 quantile 58.6.
fn assert_uniform(seen: &HashMap<Vec<u64>, u64>) {
    assert_eq!(seen.len(), 24);
    let due = RUNS as f64 / 24.0;
    let chi: f64 = seen.values().map(|&n| (n as f64 - due).powi(2) / due).sum();
    assert!(chi < 58.6, "chi-square {chi}");
}

#[test]
fn comparison_bits_of_a_sort_are_those_of_a_random_order_for_every_input() {
    for keys in [[5, 5, 5, 5], [0, 1, 2, 3], [9, 9, 1, 1]] {
        assert_uniform(&histogram(|ctx, seed| {
            let key = share_bits(seed, ctx.role(), 4, 4, &keys)?;
            sort_permutation(ctx, &Step::new("sort"), &[&key]).map(drop)
        }));
    }
}

#[test]
fn positions_opened_by_a_partition_are_a_random_permutation_for_every_input() {
    for flags in [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]] {
        assert_uniform(&histogram(|ctx, seed| {
            let flag = share_bits(seed, ctx.role(), 1, 4, &flags)?;
            partition(ctx, &Step::new("partition"), &flag).map(drop)
        }));
    }
}

#[test]
fn a_partition_by_quicksort_levels_opens_as_much_for_every_input() {
    // The number of comparisons depends on the random order alone: equal means for extreme inputs.
    let count = |constant: bool| -> usize {
        (0..40)
            .map(|seed| {
                let keys: Vec<u64> = (0..300)
                    .map(|r| if constant { 0 } else { 299 - r })
                    .collect();
                let [p0, _, _] = three_parties(seed, |ctx| {
                    let key = share_bits(seed, ctx.role(), 9, 300, &keys)?;
                    sort_permutation(ctx, &Step::new("sort"), &[&key])?;
                    Ok(ctx.opened.len())
                })
                .unwrap();
                p0.0
            })
            .sum()
    };
    let (equal, reversed) = (count(true), count(false));
    assert!(
        equal.abs_diff(reversed) * 20 < equal,
        "{equal} against {reversed} words"
    );
}
