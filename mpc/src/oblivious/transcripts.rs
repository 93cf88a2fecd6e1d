//! What sorts and partitions open must be the same uniform thing for every input.

use super::compact::partition;
use super::sort::{by_comparison, merge_runs, radix};
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

/// Chi-square against equally likely transcripts, of which every one occurs.
fn assert_uniform(seen: &HashMap<Vec<u64>, u64>, transcripts: usize) {
    assert_eq!(seen.len(), transcripts);
    let due = RUNS as f64 / transcripts as f64;
    let chi: f64 = seen.values().map(|&n| (n as f64 - due).powi(2) / due).sum();
    // The 0.9999 quantile (Wilson and Hilferty 1931).
    let degrees = (transcripts - 1) as f64;
    let part = 2.0 / (9.0 * degrees);
    let bound = degrees * (1.0 - part + 3.719 * part.sqrt()).powi(3);
    assert!(chi < bound, "chi-square {chi}, at most {bound}");
}

#[test]
fn comparison_bits_of_a_sort_are_those_of_a_random_order_for_every_input() {
    for keys in [[5, 5, 5, 5], [0, 1, 2, 3], [9, 9, 1, 1]] {
        assert_uniform(
            &histogram(|ctx, seed| {
                let key = share_bits(seed, ctx.role(), 4, 4, &keys)?;
                by_comparison(ctx, &Step::new("sort"), &[&key], 4).map(drop)
            }),
            24,
        );
    }
}

#[test]
fn positions_opened_by_a_radix_sort_are_independent_random_permutations_for_every_input() {
    for keys in [[5, 5, 5, 5], [0, 1, 2, 7], [6, 6, 1, 1]] {
        // Two passes: the first opens nothing, the second and the last move open one order each.
        assert_uniform(
            &histogram(|ctx, seed| {
                let key = share_bits(seed, ctx.role(), 3, 4, &keys)?;
                radix::permutation(ctx, &Step::new("sort"), &key).map(drop)
            }),
            24 * 24,
        );
    }
}

#[test]
fn positions_opened_by_a_merge_are_a_random_permutation_for_every_input() {
    for keys in [[5, 5, 5, 5], [0, 1, 2, 7], [6, 7, 1, 1]] {
        // And one bit, which says that the runs are in order.
        assert_uniform(
            &histogram(|ctx, seed| {
                let key = share_bits(seed, ctx.role(), 3, 4, &keys)?;
                merge_runs(ctx, &Step::new("merge"), &[&key], &[2, 2]).map(drop)
            }),
            24,
        );
    }
}

#[test]
fn the_cut_of_a_selection_tells_nothing_more() {
    // The first of three rows: which comparisons follow depends on the random order alone.
    let counts = [[7, 7, 7], [0, 1, 2], [2, 1, 0]].map(|keys| {
        let mut seen: Vec<_> = histogram(|ctx, seed| {
            let key = share_bits(seed, ctx.role(), 4, 3, &keys)?;
            by_comparison(ctx, &Step::new("sort"), &[&key], 1).map(drop)
        })
        .into_iter()
        .collect();
        seen.sort();
        seen
    });
    for seen in &counts {
        assert_eq!(seen.len(), counts[0].len());
        for ((transcript, n), (other, m)) in seen.iter().zip(&counts[0]) {
            assert_eq!(transcript, other);
            assert!(n.abs_diff(*m) < 250, "{n} and {m} of {RUNS}");
        }
    }
}

#[test]
fn positions_opened_by_a_partition_are_a_random_permutation_for_every_input() {
    for flags in [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 1, 0]] {
        assert_uniform(
            &histogram(|ctx, seed| {
                let flag = share_bits(seed, ctx.role(), 1, 4, &flags)?;
                partition(ctx, &Step::new("partition"), &flag).map(drop)
            }),
            24,
        );
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
                    by_comparison(ctx, &Step::new("sort"), &[&key], 300)?;
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
