//! Relational operators.

use super::{Entry, Job, Kind, arith64, column, numbers, shared, table, words};
use crate::harness::Params;
use std::collections::{BTreeMap, HashMap};
use veilgate_mpc::input::ClearColumn;
use veilgate_mpc::net::Step;
use veilgate_mpc::oblivious::distinct::distinct;
use veilgate_mpc::oblivious::group::{Agg, aggregate_sorted};
use veilgate_mpc::oblivious::join::{Kind::Inner, Side, inner_unique, join};
use veilgate_mpc::oblivious::window::{Frame, Function, window};
use veilgate_mpc::release::ClearTable;
use veilgate_mpc::table::SharedTable;

/// The low bits of a number, as many as a key has, at most 64.
fn cut(params: &Params, number: u64) -> u64 {
    number & (u64::MAX >> (64 - params.key_bits.min(64)))
}

/// Keys of any width from their low 64 bits.
fn key_column(params: &Params, low: impl Iterator<Item = u64>) -> ClearColumn {
    let stride = params.key_bits.div_ceil(64);
    let mut words = Vec::with_capacity(params.rows * stride);
    for key in low {
        words.push(cut(params, key));
        words.extend(std::iter::repeat_n(0, stride - 1));
    }
    ClearColumn::Bits {
        width: params.key_bits,
        words,
    }
}

/// Low words of keys.
fn low(column: &ClearColumn) -> Result<Vec<u64>, String> {
    let (words, stride) = words(column)?;
    Ok(words.chunks_exact(stride).map(|row| row[0]).collect())
}

/// Sorted keys, about eight rows each, and a number to add up.
fn grouped(params: &Params) -> ClearTable {
    let rows = params.rows as u64;
    let mut keys: Vec<u64> = numbers(params, 1, params.rows)
        .into_iter()
        .map(|x| cut(params, x % (rows / 8).max(1)))
        .collect();
    keys.sort_unstable();
    let values = ClearColumn::Arith64(numbers(params, 2, params.rows));
    table(
        vec![key_column(params, keys.into_iter()), values],
        params.rows,
    )
}

pub(super) const GROUP: Entry = Entry {
    name: "group",
    about: "GROUP BY with SUM and COUNT of rows already sorted by a key of --key-bits bits",
    key_bits: 64,
    sides: 1,
    kind: Kind::Three,
    prepare: |params, me| {
        let shares = shared(params, me, &grouped(params))?;
        Ok(Job::Compute(Box::new(move |ctx| {
            let aggs = [Agg::Sum { column: 1 }, Agg::Count { when: None }];
            aggregate_sorted(ctx, &Step::new("bench"), &shares, &[0], &aggs)
        })))
    },
    check: |params, out| {
        let input = grouped(params);
        let mut due: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let rows = low(&input.columns[0])?;
        for (key, value) in rows.into_iter().zip(arith64(&input.columns[1])?) {
            let group = due.entry(key).or_default();
            *group = (group.0.wrapping_add(*value), group.1 + 1);
        }
        let due: Vec<_> = due.into_iter().map(|(k, (s, n))| (k, s, n)).collect();
        let keys = low(column(out, 0)?)?;
        let (sums, counts) = (arith64(column(out, 1)?)?, arith64(column(out, 2)?)?);
        let got: Vec<_> = (0..out.valid.len())
            .filter(|&row| out.valid[row])
            .map(|row| (keys[row], sums[row], counts[row]))
            .collect();
        super::same(&got, &due)
    },
};

/// Keys in no order, about eight rows each, and a number a row.
fn scattered(params: &Params) -> ClearTable {
    let rows = params.rows as u64;
    let keys = numbers(params, 1, params.rows);
    let keys = keys.into_iter().map(|x| x % (rows / 8).max(1));
    let values = ClearColumn::Arith64(numbers(params, 2, params.rows));
    table(vec![key_column(params, keys), values], params.rows)
}

pub(super) const DISTINCT: Entry = Entry {
    name: "distinct",
    about: "the first row of each key of --key-bits bits; a 64-bit number a row moves along",
    key_bits: 64,
    sides: 1,
    kind: Kind::Three,
    prepare: |params, me| {
        let shares = shared(params, me, &scattered(params))?;
        Ok(Job::Compute(Box::new(move |ctx| {
            distinct(ctx, &Step::new("bench"), &shares, &[0])
        })))
    },
    check: |params, out| {
        let input = scattered(params);
        let mut due = BTreeMap::new();
        let values = arith64(&input.columns[1])?;
        for (key, value) in low(&input.columns[0])?.into_iter().zip(values) {
            due.entry(key).or_insert(*value);
        }
        let (keys, values) = (low(column(out, 0)?)?, arith64(column(out, 1)?)?);
        let rows = (0..out.valid.len()).filter(|&row| out.valid[row]);
        let got: Vec<_> = rows.map(|row| (keys[row], values[row])).collect();
        super::same(&got, &due.into_iter().collect::<Vec<_>>())
    },
};

pub(super) const WINDOW: Entry = Entry {
    name: "window",
    about: "ROW_NUMBER and a running SUM by a key of --key-bits bits, in the rows' own order",
    key_bits: 64,
    sides: 1,
    kind: Kind::Three,
    prepare: |params, me| {
        let shares = shared(params, me, &scattered(params))?;
        Ok(Job::Compute(Box::new(move |ctx| {
            let sum = Function::Sum {
                column: 1,
                frame: Frame::Rows,
            };
            let functions = [Function::RowNumber, sum];
            let columns = window(ctx, &Step::new("bench"), &shares, &[0], &[], &functions)?;
            Ok(SharedTable {
                columns,
                valid: shares.valid,
            })
        })))
    },
    check: |params, out| {
        let input = scattered(params);
        let mut so_far: HashMap<u64, (u64, u64)> = HashMap::new();
        let values = arith64(&input.columns[1])?;
        let keys = low(&input.columns[0])?;
        let due: Vec<_> = keys
            .into_iter()
            .zip(values)
            .map(|(key, value)| {
                let (count, sum) = so_far.entry(key).or_default();
                *count += 1;
                *sum = sum.wrapping_add(*value);
                (*count, *sum)
            })
            .collect();
        let (numbers, sums) = (arith64(column(out, 0)?)?, arith64(column(out, 1)?)?);
        let got: Vec<_> = numbers.iter().copied().zip(sums.iter().copied()).collect();
        super::same(&got, &due)
    },
};

/// Two sides of two payload columns each: the right one unique per key, half of the left one's rows
/// with a partner.
fn sides(params: &Params) -> (ClearTable, ClearTable) {
    let side = |salt: u64, keys: Vec<u64>| {
        let payload = |salt| ClearColumn::Arith64(numbers(params, salt, params.rows));
        let columns = vec![
            key_column(params, keys.into_iter()),
            payload(salt),
            payload(salt + 1),
        ];
        table(columns, params.rows)
    };
    let rows = params.rows as u64;
    // An odd multiplier makes distinct numbers distinct keys, scattered.
    let scattered = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let left = numbers(params, 1, params.rows);
    let left = left.iter().map(|x| scattered(x % (2 * rows))).collect();
    let right = (0..rows).rev().map(scattered).collect();
    (side(10, left), side(20, right))
}

pub(super) const JOIN_SORTED: Entry = Entry {
    name: "join-sorted",
    about: "the same of two sides that their owners sorted by key",
    prepare: |params, me| {
        let (left, right) = sides(params);
        let (left, right) = (ascending(params, &left)?, ascending(params, &right)?);
        let (left, right) = (shared(params, me, &left)?, shared(params, me, &right)?);
        Ok(Job::Compute(Box::new(move |ctx| {
            let side = |table| Side {
                table,
                keys: &[0],
                nulls: &[],
                sorted: true,
            };
            let (left, right) = (side(&left), side(&right));
            join(ctx, &Step::new("bench"), Inner, left, right, &[1, 2], None)
        })))
    },
    check: |params, out| {
        let (left, right) = sides(params);
        check_join(&ascending(params, &left)?, &right, out)
    },
    ..JOIN_OBLIVIOUS
};

/// The rows of a table of a key and two numbers in order of the key.
fn ascending(params: &Params, side: &ClearTable) -> Result<ClearTable, String> {
    let (keys, stride) = words(column(side, 0)?)?;
    let mut order: Vec<usize> = (0..side.valid.len()).collect();
    let key = |row: usize| keys[row * stride..(row + 1) * stride].iter().rev();
    order.sort_by(|&i, &j| key(i).cmp(key(j)));
    let number = |at: usize| -> Result<ClearColumn, String> {
        let values = arith64(column(side, at)?)?;
        let moved = order.iter().map(|&row| values[row]);
        Ok(ClearColumn::Arith64(moved.collect()))
    };
    let moved = order.iter().flat_map(|&row| key(row).rev()).copied();
    let keys = ClearColumn::Bits {
        width: params.key_bits,
        words: moved.collect(),
    };
    Ok(table(vec![keys, number(1)?, number(2)?], order.len()))
}

pub(super) const JOIN_OBLIVIOUS: Entry = Entry {
    name: "join-oblivious",
    about: "inner join of two sides on keys of --key-bits bits, two 64-bit columns a side",
    key_bits: 64,
    sides: 2,
    kind: Kind::Three,
    prepare: |params, me| {
        let distinct = (2 * params.rows as u64).max(1).ilog2() as usize + 1;
        if params.key_bits < 64 && params.key_bits <= distinct {
            return Err(format!(
                "join-oblivious: {} key bits are too few for keys that are unique",
                params.key_bits
            ));
        }
        let (left, right) = sides(params);
        let (left, right) = (shared(params, me, &left)?, shared(params, me, &right)?);
        Ok(Job::Compute(Box::new(move |ctx| {
            inner_unique(ctx, &Step::new("bench"), &left, 0, &right, 0, &[1, 2])
        })))
    },
    check: |params, out| {
        let (left, right) = sides(params);
        check_join(&left, &right, out)
    },
};

/// Compares with a hash join in the clear.
fn check_join(left: &ClearTable, right: &ClearTable, out: &ClearTable) -> Result<(), String> {
    let right_keys = low(&right.columns[0])?;
    let at: HashMap<u64, usize> = right_keys.into_iter().zip(0..).collect();
    let right = (arith64(&right.columns[1])?, arith64(&right.columns[2])?);
    let left_keys = low(&left.columns[0])?;
    let left = (arith64(&left.columns[1])?, arith64(&left.columns[2])?);
    let row = |i: usize| {
        let j = *at.get(&left_keys[i])?;
        Some([left.0[i], left.1[i], right.0[j], right.1[j]])
    };
    let due: Vec<_> = (0..left_keys.len()).map(row).collect();
    let columns: Vec<&[u64]> = (1..5)
        .map(|i| arith64(column(out, i)?))
        .collect::<Result<_, _>>()?;
    let got: Vec<_> = (0..out.valid.len())
        .map(|i| out.valid[i].then(|| [0, 1, 2, 3].map(|c: usize| columns[c][i])))
        .collect();
    super::same(&got, &due)
}
