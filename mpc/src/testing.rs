//! Three parties in threads of one process, from one seed: how every protocol is tested against clear
//! text. Prints the seed on failure through the panic of the caller; never used by a gateway.

use crate::context::Context;
use crate::error::{Error, Result};
use crate::input::ClearColumn;
use crate::net::{Link, LinkProfile, Participant, Traffic, memory};
use crate::prss::{Prss, Seed, Stream};
use crate::release::{ClearTable, final_share, reconstruct};
use crate::ring::Ring;
use crate::share::{Arith, BitColumn, Role};
use crate::table::{Column, SharedTable};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Runs `protocol` as P0, P1 and P2 over in-memory links with the loopback profile. `seed` names all
/// randomness; the results are in role order, each with the traffic of its party.
///
/// # Errors
/// The first error of any party, in role order.
pub fn three_parties<T: Send>(
    seed: u64,
    protocol: impl Fn(&mut Context) -> Result<T> + Sync,
) -> Result<[(T, Traffic); 3]> {
    three_parties_with(seed, LinkProfile::LOOPBACK, protocol)
}

/// As [`three_parties`], with a profile that chooses other protocol variants.
///
/// # Errors
/// As [`three_parties`].
pub fn three_parties_with<T: Send>(
    seed: u64,
    profile: LinkProfile,
    protocol: impl Fn(&mut Context) -> Result<T> + Sync,
) -> Result<[(T, Traffic); 3]> {
    three_parties_in(seed, 1, profile, protocol)
}

/// As [`three_parties_with`], with several threads a party.
///
/// # Errors
/// As [`three_parties`].
pub fn three_parties_in<T: Send>(
    seed: u64,
    threads: usize,
    profile: LinkProfile,
    protocol: impl Fn(&mut Context) -> Result<T> + Sync,
) -> Result<[(T, Traffic); 3]> {
    let links = memory::network(3);
    let mut workers: [Vec<Box<dyn Link>>; 3] = Default::default();
    for _ in 1..threads {
        for (party, link) in workers.iter_mut().zip(memory::network(3)) {
            party.push(Box::new(link));
        }
    }
    let protocol = &protocol;
    let results: Vec<Result<(T, Traffic)>> = std::thread::scope(|scope| {
        let parties: Vec<_> = Role::ALL
            .into_iter()
            .zip(links.into_iter().zip(workers))
            .map(|(role, (link, workers))| {
                scope.spawn(move || {
                    let ctx = context(seed, role, Box::new(link), profile)?;
                    let mut ctx = ctx.with_workers(workers)?;
                    let out = protocol(&mut ctx)?;
                    Ok((out, ctx.traffic()))
                })
            })
            .collect();
        parties
            .into_iter()
            .map(|party| match party.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    let mut results = results.into_iter();
    let mut next = || results.next().unwrap_or(Err(Error::Cancelled));
    Ok([next()?, next()?, next()?])
}

/// A context of one party with seeds derived from `seed`, over any link whose participants #0, #1, #2
/// are P0, P1, P2.
///
/// # Errors
/// As [`Context::new`].
pub fn context(
    seed: u64,
    role: Role,
    link: Box<dyn Link>,
    profile: LinkProfile,
) -> Result<Context> {
    let pair = |component: usize| {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8] = u8::try_from(component % 3).unwrap_or(0);
        let mut out = [0; 32];
        Stream::new(&key).fill(&mut out);
        Seed(out)
    };
    let prss = Prss::new(pair(role.index()), pair(role.index() + 1));
    let participants = [Participant(0), Participant(1), Participant(2)];
    Context::new(
        role,
        participants,
        link,
        prss,
        profile,
        Arc::new(AtomicBool::new(false)),
    )
}

/// A stream of test data.
#[must_use]
pub fn data(seed: u64) -> Stream {
    let mut key = [0xda; 16];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    Stream::new(&key)
}

/// What `role` holds of a random sharing of `values`, the same at every party that asks with `seed`.
#[must_use]
pub fn share_arith<T: Ring>(seed: u64, role: Role, values: &[T]) -> Arith<T> {
    let mut stream = data(seed ^ 0x5eed);
    let x0: Vec<T> = stream.words(values.len());
    let x1: Vec<T> = stream.words(values.len());
    let x2 = values
        .iter()
        .zip(x0.iter().zip(&x1))
        .map(|(v, (a, b))| v.minus(a.plus(*b)))
        .collect();
    let (a, b) = pick(role, [x0, x1, x2]);
    Arith { a, b }
}

/// What `role` holds of a random sharing of row-major words.
///
/// # Errors
/// As [`BitColumn::from_row_words`].
pub fn share_bits(
    seed: u64,
    role: Role,
    width: usize,
    rows: usize,
    words: &[u64],
) -> Result<BitColumn> {
    let mut stream = data(seed ^ 0xb175);
    let x0: Vec<u64> = stream.words(words.len());
    let x1: Vec<u64> = stream.words(words.len());
    let x2 = words
        .iter()
        .zip(x0.iter().zip(&x1))
        .map(|(v, (a, b))| v ^ a ^ b)
        .collect();
    let (a, b) = pick(role, [x0, x1, x2]);
    BitColumn::from_row_words(width, rows, &a, &b)
}

/// What `role` holds of a random sharing of a clear table.
///
/// # Errors
/// As [`share_bits`].
pub fn share_table(seed: u64, role: Role, table: &ClearTable) -> Result<SharedTable> {
    let rows = table.valid.len();
    let mut columns = Vec::with_capacity(table.columns.len());
    for (seed, column) in (seed.wrapping_mul(1000)..).zip(&table.columns) {
        columns.push(match column {
            ClearColumn::Bits { width, words } => {
                Column::Bits(share_bits(seed, role, *width, rows, words)?)
            }
            ClearColumn::Arith64(values) => Column::Arith64(share_arith(seed, role, values)),
            ClearColumn::Arith128(values) => Column::Arith128(share_arith(seed, role, values)),
        });
    }
    let valid: Vec<u64> = table.valid.iter().map(|&v| u64::from(v)).collect();
    let valid = share_bits(seed ^ 0xa11d, role, 1, rows, &valid)?;
    Ok(SharedTable { columns, valid })
}

fn pick<T>(role: Role, [x0, x1, x2]: [Vec<T>; 3]) -> (Vec<T>, Vec<T>) {
    match role {
        Role::P0 => (x0, x1),
        Role::P1 => (x1, x2),
        Role::P2 => (x2, x0),
    }
}

/// Runs a protocol that makes a table, and puts the three final shares together.
///
/// # Errors
/// Those of the parties, and of [`reconstruct`].
pub fn open_table(
    seed: u64,
    protocol: impl Fn(&mut Context) -> Result<SharedTable> + Sync,
) -> Result<ClearTable> {
    open_table_with(seed, LinkProfile::LOOPBACK, protocol)
}

/// As [`open_table`], with a profile that chooses other protocol variants.
///
/// # Errors
/// As [`open_table`].
pub fn open_table_with(
    seed: u64,
    profile: LinkProfile,
    protocol: impl Fn(&mut Context) -> Result<SharedTable> + Sync,
) -> Result<ClearTable> {
    let [p0, p1, p2] = three_parties_with(seed, profile, |ctx| {
        let table = protocol(ctx)?;
        Ok(final_share(ctx.role(), &table))
    })?;
    reconstruct([&p0.0, &p1.0, &p2.0])
}
