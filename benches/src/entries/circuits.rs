//! Gates on whole columns.

use super::{
    Entry, Job, Kind, arith64, column, keys, numbers, result, role, same, shared, table, words,
};
use crate::harness::Params;
use veilgate_mpc::circuit;
use veilgate_mpc::input::{ClearColumn, InputStatement, commit, receive, share_own};
use veilgate_mpc::net::{Participant, Step};
use veilgate_mpc::prss::Seed;
use veilgate_mpc::release::ClearTable;
use veilgate_mpc::table::Column;

/// Two columns of random keys; every fourth row of the second equals the first.
fn pair(params: &Params) -> Result<(ClearColumn, ClearColumn), String> {
    let (x, mut y) = (keys(params, 1, params.rows), keys(params, 2, params.rows));
    if let ClearColumn::Bits { words: to, .. } = &mut y {
        let (from, stride) = words(&x)?;
        for (to, from) in to.chunks_mut(4 * stride).zip(from.chunks(4 * stride)) {
            to[..stride].copy_from_slice(&from[..stride]);
        }
    }
    Ok((x, y))
}

/// A protocol on two bit columns.
macro_rules! on_two_bit_columns {
    ($protocol:expr) => {
        |params, me| {
            let (x, y) = pair(params)?;
            let shares = shared(params, me, &table(vec![x, y], params.rows))?;
            Ok(Job::Compute(Box::new(move |ctx| {
                let (x, y) = (shares.bits("bench", 0)?, shares.bits("bench", 1)?);
                let out = $protocol(ctx, &Step::new("bench"), x, y)?;
                Ok(result(ctx, Column::Bits(out)))
            })))
        }
    };
}

/// A result of one flag a row, due from the rows of both columns, highest word first.
fn check_flags(
    params: &Params,
    out: &ClearTable,
    due: impl Fn(&[u64], &[u64]) -> bool,
) -> Result<(), String> {
    let (x, y) = pair(params)?;
    let ((x, stride), (y, _)) = (words(&x)?, words(&y)?);
    let rows = x.chunks_exact(stride).zip(y.chunks_exact(stride));
    let due: Vec<u64> = rows.map(|(x, y)| u64::from(due(x, y))).collect();
    same(words(column(out, 0)?)?.0, &due)
}

pub(super) const AND: Entry = Entry {
    name: "and",
    about: "bit-wise AND of two columns of --key-bits bits",
    key_bits: 64,
    sides: 1,
    kind: Kind::Three,
    prepare: on_two_bit_columns!(circuit::and),
    check: |params, out| {
        let (x, y) = pair(params)?;
        let ((x, _), (y, _)) = (words(&x)?, words(&y)?);
        let due: Vec<u64> = x.iter().zip(y).map(|(x, y)| x & y).collect();
        same(words(column(out, 0)?)?.0, &due)
    },
};

pub(super) const EQUAL: Entry = Entry {
    name: "equal",
    about: "equality of two columns of --key-bits bits",
    key_bits: 64,
    sides: 1,
    kind: Kind::Three,
    prepare: on_two_bit_columns!(circuit::equal),
    check: |params, out| check_flags(params, out, |x, y| x == y),
};

pub(super) const LESS: Entry = Entry {
    name: "less",
    about: "unsigned less-than of two columns of --key-bits bits",
    key_bits: 64,
    sides: 1,
    kind: Kind::Three,
    prepare: on_two_bit_columns!(|ctx, step, x, y| circuit::less_than(ctx, step, x, y, false)),
    check: |params, out| {
        check_flags(params, out, |x, y| {
            x.iter().rev().cmp(y.iter().rev()).is_lt()
        })
    },
};

fn factors(params: &Params) -> (Vec<u64>, Vec<u64>) {
    (
        numbers(params, 3, params.rows),
        numbers(params, 4, params.rows),
    )
}

pub(super) const MUL: Entry = Entry {
    name: "mul",
    about: "product of two columns modulo 2^64",
    key_bits: 64,
    sides: 1,
    kind: Kind::Three,
    prepare: |params, me| {
        let (x, y) = factors(params);
        let columns = vec![ClearColumn::Arith64(x), ClearColumn::Arith64(y)];
        let mut shares = shared(params, me, &table(columns, params.rows))?;
        Ok(Job::Compute(Box::new(move |ctx| {
            let (y, x) = (shares.columns.pop(), shares.columns.pop());
            let (Some(Column::Arith64(x)), Some(Column::Arith64(y))) = (x, y) else {
                return Err(veilgate_mpc::Error::Cancelled);
            };
            let out = circuit::multiply(ctx, &Step::new("bench"), &x, &y)?;
            Ok(result(ctx, Column::Arith64(out)))
        })))
    },
    check: |params, out| {
        let (x, y) = factors(params);
        let due: Vec<u64> = x.iter().zip(&y).map(|(x, y)| x.wrapping_mul(*y)).collect();
        same(arith64(column(out, 0)?)?, &due)
    },
};

pub(super) const A2B: Entry = Entry {
    name: "a2b",
    about: "numbers modulo 2^64 to --key-bits bits (at most 64)",
    key_bits: 64,
    sides: 1,
    kind: Kind::Three,
    prepare: |params, me| {
        let bits = params.key_bits;
        if bits > 64 {
            return Err("a2b: at most 64 key bits".to_owned());
        }
        let columns = vec![ClearColumn::Arith64(factors(params).0)];
        let mut shares = shared(params, me, &table(columns, params.rows))?;
        Ok(Job::Compute(Box::new(move |ctx| {
            let Some(Column::Arith64(x)) = shares.columns.pop() else {
                return Err(veilgate_mpc::Error::Cancelled);
            };
            let out = circuit::a2b(ctx, &Step::new("bench"), &x, bits)?;
            Ok(result(ctx, Column::Bits(out)))
        })))
    },
    check: |params, out| {
        let mask = u64::MAX >> (64 - params.key_bits);
        let due: Vec<u64> = factors(params).0.iter().map(|x| x & mask).collect();
        same(words(column(out, 0)?)?.0, &due)
    },
};

pub(super) const B2A: Entry = Entry {
    name: "b2a",
    about: "--key-bits bits (at most 64) to numbers modulo 2^64",
    key_bits: 64,
    sides: 1,
    kind: Kind::Three,
    prepare: |params, me| {
        let shares = shared(
            params,
            me,
            &table(vec![keys(params, 1, params.rows)], params.rows),
        )?;
        Ok(Job::Compute(Box::new(move |ctx| {
            let x = shares.bits("bench", 0)?;
            let out = circuit::b2a(ctx, &Step::new("bench"), x, false)?;
            Ok(result(ctx, Column::Arith64(out)))
        })))
    },
    check: |params, out| {
        let keys = keys(params, 1, params.rows);
        same(arith64(column(out, 0)?)?, words(&keys)?.0)
    },
};

pub(super) const RESHARE: Entry = Entry {
    name: "reshare",
    about: "an owner's column of 64-bit numbers to replicated shares, committed and compared",
    key_bits: 64,
    sides: 1,
    kind: Kind::Three,
    prepare: |params, me| {
        role(me)?;
        let values = (me == 0).then(|| factors(params).0);
        let rows = params.rows;
        Ok(Job::Compute(Box::new(move |ctx| {
            let (step, told) = (Step::new("input"), Step::new("statement"));
            let computing = ctx.participants();
            let owner = Participant(0);
            let columns = match values {
                Some(values) => {
                    let column = vec![ClearColumn::Arith64(values)];
                    let entropy = Seed([7; 32]);
                    let made = commit(&step, owner, &computing, rows, column, &entropy)?;
                    for peer in [Participant(1), Participant(2)] {
                        ctx.link().send(peer, &told, &made.statement().encode())?;
                    }
                    share_own(ctx, made)?
                }
                None => {
                    let statement = ctx.link().recv_up_to(owner, &told, 4096)?;
                    let statement = InputStatement::decode(&statement)?;
                    receive(ctx, &step, owner, &statement)?
                }
            };
            let valid = veilgate_mpc::share::BitColumn::ones(ctx.role(), 1, rows);
            Ok(veilgate_mpc::table::SharedTable { columns, valid })
        })))
    },
    check: |params, out| same(arith64(column(out, 0)?)?, &factors(params).0),
};
