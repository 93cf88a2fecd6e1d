//! Bad input and bad peers.

use super::*;
use crate::error::{Error, Misbehaviour};
use std::time::Duration;

#[test]
fn duplicate_keys_stop_their_owner_before_anything_is_sent() {
    let owners: [(u8, u8, usize, &[ColumnKind]); 2] = [(0, 1, 10, &[]), (1, 0, 10, &[])];
    let plan = plan_of(&owners, Dummies::NONE);
    let tables = [vec![1, 2, 1], vec![1, 2, 3]].map(|keys| OwnerTable {
        tags: tags(1, &keys),
        columns: vec![],
    });
    let ends = run(1, &plan, &tables);
    assert!(matches!(ends[&0].output, Err(Error::DuplicateKey)));
    assert_eq!(ends[&0].traffic.bytes_sent, 0);
    assert!(matches!(
        ends[&2].output,
        Err(Error::PeerGone {
            peer: Participant(0),
            ..
        })
    ));
    assert!(matches!(ends[&1].output, Err(Error::PeerGone { .. })));
}

#[test]
fn tables_that_differ_from_the_plan_are_refused() {
    let owners: [(u8, u8, usize, &[ColumnKind]); 2] = [(0, 1, 50, &[A64]), (1, 0, 50, &[])];
    let plan = plan_of(&owners, Dummies::new(1, 1, 20).unwrap());
    let mut link = network(5).remove(0);
    let mut refuse = |rows: usize, columns: Vec<ClearColumn>| {
        let keys: Vec<u64> = (0..rows as u64).collect();
        let table = OwnerTable {
            tags: tags(1, &keys),
            columns,
        };
        let step = Step::new("join");
        let result = align_input_owner(&mut link, &step, &plan, &COMPUTING, table, &secrets(1, 0));
        assert!(
            matches!(result, Err(Error::InvalidInput { .. })),
            "{result:?}"
        );
        assert_eq!(link.traffic().bytes_sent, 0);
    };
    refuse(50, vec![ClearColumn::Arith64(vec![0; 50])]);
    refuse(3, vec![]);
    refuse(3, vec![ClearColumn::Arith64(vec![0; 2])]);
    refuse(3, vec![ClearColumn::Arith128(vec![0; 3])]);
}

/// Runs only the neutral party (or owner A), with frames written by hand.
fn against(me: u8, frames: &[(u8, Step, Vec<u8>)], plan: &AlignPlan) -> Error {
    let mut links = network(5);
    for (from, step, payload) in frames {
        links[usize::from(*from)]
            .send(Participant(me), step, payload)
            .unwrap();
    }
    let others: Vec<MemoryLink> = links.split_off(usize::from(me) + 1);
    let link = links.pop().unwrap();
    let link = link.with_deadline(Duration::from_millis(100));
    let mut ctx = context(1, Box::new(link));
    let step = Step::new("join");
    let result = if me == NEUTRAL.0 {
        align_neutral(&mut ctx, &step, plan, &seed(1, "neutral"))
    } else {
        let table = OwnerTable {
            tags: vec![],
            columns: vec![],
        };
        align_owner(&mut ctx, &step, plan, table, &secrets(1, me))
    };
    drop(others);
    result.map(|_| ()).unwrap_err()
}

#[test]
fn garbage_is_named() {
    let owners: [(u8, u8, usize, &[ColumnKind]); 2] = [(0, 1, 2, &[]), (1, 0, 2, &[A64])];
    let plan = plan_of(&owners, Dummies::NONE);
    let bytes = plan::TAG_BYTES;
    let of = |owner: usize, name: &str| Step::new("join").at("owner", owner).at(name, 0);
    let tags = |same: bool| {
        let mut tags = vec![0; 2 * bytes];
        tags[0] = u8::from(!same);
        tags
    };
    // #0 sends one tag twice; the bits of its real rows are a plane of one word.
    let error = against(
        2,
        &[
            (0, of(0, "tags"), tags(true)),
            (0, of(0, "payload"), vec![0; 8]),
            (1, of(1, "tags"), tags(false)),
            (1, of(1, "payload"), vec![0; 16]),
            (1, of(1, "payload"), vec![0; 8]),
        ],
        &plan,
    );
    assert!(matches!(
        error,
        Error::PeerMisbehaved {
            peer: Participant(0),
            what: Misbehaviour::Malformed(_),
            ..
        }
    ));
    let error = against(2, &[(0, of(0, "tags"), vec![0; 5])], &plan);
    assert!(matches!(
        error,
        Error::PeerMisbehaved {
            peer: Participant(0),
            what: Misbehaviour::Length { .. },
            ..
        }
    ));
    let error = against(
        2,
        &[
            (0, of(0, "tags"), tags(false)),
            (0, of(0, "payload"), vec![0; 8]),
            (1, of(1, "payload"), vec![0; 16]),
        ],
        &plan,
    );
    assert!(matches!(
        error,
        Error::PeerMisbehaved {
            peer: Participant(1),
            what: Misbehaviour::OutOfStep,
            ..
        }
    ));
    let error = against(2, &[], &plan);
    assert!(matches!(
        error,
        Error::PeerGone {
            peer: Participant(0),
            ..
        }
    ));
    // The neutral party repeats a position, or names a row that is not there.
    for positions in [[1_u32, 1], [0, 2]] {
        let payload = positions.iter().flat_map(|p| p.to_le_bytes()).collect();
        let error = against(0, &[(2, of(1, "positions"), payload)], &plan);
        assert!(matches!(
            error,
            Error::PeerMisbehaved {
                peer: NEUTRAL,
                what: Misbehaviour::Malformed(_),
                ..
            }
        ));
    }
}

#[test]
fn cancellation_ends_a_run_that_waits() {
    let owners: [(u8, u8, usize, &[ColumnKind]); 2] = [(0, 1, 2, &[]), (1, 0, 2, &[])];
    let plan = plan_of(&owners, Dummies::NONE);
    let mut links = network(5);
    let cancel = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let link = links.remove(2).with_cancel(cancel);
    let mut ctx = context(1, Box::new(link));
    let step = Step::new("join");
    let result = align_neutral(&mut ctx, &step, &plan, &seed(1, "neutral"));
    assert!(matches!(result, Err(Error::Cancelled)));
}
