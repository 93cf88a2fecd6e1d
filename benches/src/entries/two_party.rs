//! Protocols of two parties without a third.

use super::{Entry, Job, Kind};
use crate::harness::Params;
use veilgate_mpc::net::{Participant, Step};
use veilgate_mpc::prss::Seed;
use veilgate_mpc::psi::ecdh::{Found, Keys, Output, Plan, receive, send};

/// The receiver's keys are 0, 1, ...; the sender's begin a quarter of the rows later.
fn offset(params: &Params) -> u64 {
    (params.rows / 4) as u64
}

pub(super) const PSI_ECDH: Entry = Entry {
    name: "psi-ecdh",
    about: "which of the receiver's keys the sender has, on ristretto255; three quarters match",
    key_bits: 64,
    sides: 2,
    kind: Kind::Two,
    prepare: |params, me| {
        let plan = Plan {
            receiver: Participant(0),
            sender: Participant(1),
            receiver_rows: params.rows,
            sender_rows: params.rows,
            output: Output::Intersection,
            run: [5; 32],
        };
        let (rows, threads) = (params.rows, params.threads);
        let first = if me == 0 { 0 } else { offset(params) };
        Ok(Job::Alone(Box::new(move |link| {
            let step = Step::new("bench");
            let write = move |row: usize, key: &mut Vec<u8>| {
                key.extend((first + row as u64).to_le_bytes());
            };
            let keys = Keys {
                rows,
                write: &write,
            };
            if me == 0 {
                match receive(link, &step, &plan, &keys, &Seed([1; 32]), threads)? {
                    Found::Rows(found) => Ok(found),
                    Found::Count(_) => Ok(Vec::new()),
                }
            } else {
                send(link, &step, &plan, &keys, &Seed([2; 32]), threads)?;
                Ok(Vec::new())
            }
        })))
    },
    check: |params, out| {
        let due: Vec<bool> = (0..params.rows as u64)
            .map(|key| key >= offset(params))
            .collect();
        super::same(&out.valid, &due)
    },
};
