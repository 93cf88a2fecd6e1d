//! Operators that move rows.

use super::{Entry, Job, Kind, arith64, column, keys, numbers, shared, table, words};
use crate::harness::Params;
use veilgate_mpc::input::ClearColumn;
use veilgate_mpc::net::Step;
use veilgate_mpc::oblivious::shuffle::shuffle;
use veilgate_mpc::oblivious::sort::{merge_runs, sort_table, top_k};
use veilgate_mpc::release::ClearTable;
use veilgate_mpc::share::BitColumn;
use veilgate_mpc::table::{Column, SharedTable};

/// A key and a 64-bit number a row, which is the row's own.
fn rows(params: &Params) -> ClearTable {
    let payload = ClearColumn::Arith64(numbers(params, 5, params.rows));
    table(vec![keys(params, 1, params.rows), payload], params.rows)
}

/// The rows of a table of one key and one number.
fn pairs(table: &ClearTable) -> Result<Vec<(Vec<u64>, u64)>, String> {
    let ((key, stride), payload) = (words(column(table, 0)?)?, arith64(column(table, 1)?)?);
    // Keys compare as numbers when their highest word comes first.
    let keys = key
        .chunks_exact(stride)
        .map(|row| row.iter().rev().copied().collect());
    Ok(keys.zip(payload.iter().copied()).collect())
}

pub(super) const SHUFFLE: Entry = Entry {
    name: "shuffle",
    about: "a key of --key-bits bits and a 64-bit number a row, moved by a permutation nobody knows",
    key_bits: 64,
    sides: 1,
    kind: Kind::Three,
    prepare: |params, me| {
        let shares = shared(params, me, &rows(params))?;
        Ok(Job::Compute(Box::new(move |ctx| {
            shuffle(ctx, &Step::new("bench"), &shares)
        })))
    },
    check: |params, out| {
        let (mut got, before) = (pairs(out)?, pairs(&rows(params))?);
        if params.rows > 10 && got == before {
            return Err("no row moved".to_owned());
        }
        let mut due = before;
        got.sort_unstable();
        due.sort_unstable();
        super::same(&got, &due)
    },
};

fn sort(params: &Params, me: usize) -> Result<Job, String> {
    let shares = shared(params, me, &rows(params))?;
    Ok(Job::Compute(Box::new(move |ctx| {
        sort_table(ctx, &Step::new("bench"), shares, &[0])
    })))
}

fn check_sort(params: &Params, out: &ClearTable) -> Result<(), String> {
    let mut due = pairs(&rows(params))?;
    // Stable, as the protocol promises.
    due.sort_by(|a, b| a.0.cmp(&b.0));
    super::same(&pairs(out)?, &due)
}

pub(super) const SORT: Entry = Entry {
    name: "sort",
    about: "stable sort by a key of --key-bits bits; a 64-bit number a row moves along",
    key_bits: 64,
    sides: 1,
    kind: Kind::Three,
    prepare: sort,
    check: check_sort,
};

pub(super) const SORT_NARROW: Entry = Entry {
    name: "sort-narrow",
    key_bits: 8,
    ..SORT
};

pub(super) const MERGE: Entry = Entry {
    name: "merge",
    about: "two runs of half the rows each, both in order of a key of --key-bits bits; a 64-bit number a \
            row moves along",
    prepare: |params, me| {
        let shares = shared(params, me, &runs(params)?)?;
        let runs = [params.rows / 2, params.rows.div_ceil(2)];
        Ok(Job::Compute(Box::new(move |ctx| {
            let step = Step::new("bench");
            let key = shares.bits("bench", 0)?;
            let merged = merge_runs(ctx, &step.narrow("merge"), &[key], &runs)?;
            let rest = &[&shares.columns[1]];
            let mut columns = merged.order.apply(ctx, &step.narrow("apply"), rest)?;
            columns.insert(0, Column::Bits(merged.key));
            let valid = BitColumn::ones(ctx.role(), 1, shares.rows());
            Ok(SharedTable { columns, valid })
        })))
    },
    check: |params, out| {
        let (mut got, mut due) = (pairs(out)?, pairs(&rows(params))?);
        if !got.is_sorted_by(|a, b| a.0 <= b.0) {
            return Err("not in order".to_owned());
        }
        got.sort_unstable();
        due.sort_unstable();
        super::same(&got, &due)
    },
    ..SORT
};

/// [`rows`], each half in order.
fn runs(params: &Params) -> Result<ClearTable, String> {
    let mut pairs = pairs(&rows(params))?;
    let (first, second) = pairs.split_at_mut(params.rows / 2);
    first.sort_unstable();
    second.sort_unstable();
    let words = pairs.iter().flat_map(|(key, _)| key.iter().rev().copied());
    let keys = ClearColumn::Bits {
        width: params.key_bits,
        words: words.collect(),
    };
    let numbers = ClearColumn::Arith64(pairs.iter().map(|(_, number)| *number).collect());
    Ok(table(vec![keys, numbers], params.rows))
}

/// Rows that a top-k keeps.
const KEPT: usize = 100;

pub(super) const TOPK: Entry = Entry {
    name: "topk",
    about: "the 100 first rows by a key of --key-bits bits; a 64-bit number a row moves along",
    key_bits: 64,
    sides: 1,
    kind: Kind::Three,
    prepare: |params, me| {
        let shares = shared(params, me, &rows(params))?;
        Ok(Job::Compute(Box::new(move |ctx| {
            let key = shares.bits("bench", 0)?;
            top_k(ctx, &Step::new("bench"), &shares, &[key], KEPT)
        })))
    },
    check: |params, out| {
        let mut due = pairs(&rows(params))?;
        due.sort_by(|a, b| a.0.cmp(&b.0));
        due.truncate(KEPT);
        super::same(&pairs(out)?, &due)
    },
};
