//! Sharing reconstructs, costs what it says, and equivocation is found.

use super::*;

use crate::net::memory::network;

const COMPUTING: [Participant; 3] = [Participant(1), Participant(3), Participant(0)];
const KINDS: [ColumnKind; 4] = [
    ColumnKind::Bits { width: 1 },
    ColumnKind::Bits { width: 77 },
    ColumnKind::Arith64,
    ColumnKind::Arith128,
];

fn columns(rows: usize, seed: u8) -> Vec<ClearColumn> {
    let mut stream = Stream::new(&[seed; 16]);
    KINDS
        .iter()
        .map(|&kind| {
            let mut column = ClearColumn::with_capacity(kind, rows);
            column.append_random(rows, &mut stream);
            column
        })
        .collect()
}

/// Runs one input of `owner` (any of #0..#4), gives each computing party's result, and the owner's
/// bytes sent.
fn run(owner: Participant, commitment: Commitment) -> (Vec<Result<Held>>, u64) {
    let statement = commitment.statement().clone();
    let step = Step::new("in");
    let mut links = network(5);
    let own = share_components(&mut links[usize::from(owner.0)], &COMPUTING, commitment).unwrap();
    let sent = links[usize::from(owner.0)].traffic().bytes_sent;
    let mut own = own.map(Ok);
    let held = COMPUTING
        .iter()
        .map(|&party| {
            if party == owner {
                return own.take().unwrap();
            }
            let link = &mut links[usize::from(party.0)];
            receive_components(link, &COMPUTING, &step, owner, &statement)
        })
        .collect();
    (held, sent)
}

#[test]
fn shares_reconstruct_from_any_owner() {
    for rows in [0, 1, 64, 1001] {
        for owner in [1, 3, 0, 4].map(Participant) {
            let clear = columns(rows, 3);
            let step = Step::new("in");
            let entropy = Seed([5; 32]);
            let commitment =
                commit(&step, owner, &COMPUTING, rows, clear.clone(), &entropy).unwrap();
            let (held, sent) = run(owner, commitment);
            let held: Vec<Held> = held.into_iter().map(|held| held.unwrap()).collect();
            for (number, column) in clear.iter().enumerate() {
                let mut sum = Component::zeros(column.kind(), rows);
                for (party, next) in [(0, 1), (1, 2), (2, 0)] {
                    // The second component of each is the first of the next.
                    assert!(held[party][1][number] == held[next][0][number]);
                    sum.add(&held[party][0][number]);
                }
                assert!(sum == column.clone().into_component());
            }
            let words: u64 = KINDS.iter().map(|kind| kind.wire_bytes(rows) as u64).sum();
            let computes = COMPUTING.contains(&owner);
            let due = if computes {
                words + 128
            } else {
                2 * words + 192
            };
            assert_eq!(sent, due);
        }
    }
}

#[test]
fn what_a_party_gets_does_not_depend_on_the_values() {
    // With the same entropy, the components of a party that gets no explicit component are equal for
    // two inputs; whoever gets the explicit one does not get the keys of the others.
    let step = Step::new("in");
    let entropy = Seed([5; 32]);
    let of = |seed| {
        let commitment = commit(
            &step,
            Participant(4),
            &COMPUTING,
            10,
            columns(10, seed),
            &entropy,
        )
        .unwrap();
        run(Participant(4), commitment).0
    };
    let (one, two) = (of(1), of(2));
    assert!(one[0].as_ref().unwrap() == two[0].as_ref().unwrap());
    assert!(one[1].as_ref().unwrap()[0] == two[1].as_ref().unwrap()[0]);
    assert!(one[1].as_ref().unwrap()[1] != two[1].as_ref().unwrap()[1]);
}

#[test]
fn equal_components_have_unrelated_hashes() {
    // The same values under fresh entropy: no hash may repeat, or small inputs could be guessed.
    let step = Step::new("in");
    let statement = |entropy| {
        let clear = vec![ClearColumn::Bits {
            width: 1,
            words: vec![1],
        }];
        let commitment = commit(
            &step,
            COMPUTING[0],
            &COMPUTING,
            1,
            clear,
            &Seed([entropy; 32]),
        )
        .unwrap();
        commitment.statement().hashes
    };
    let (one, two) = (statement(1), statement(2));
    for (a, b) in one.iter().zip(&two) {
        assert_ne!(a, b);
    }
}

#[test]
fn another_component_than_stated_is_equivocation() {
    let step = Step::new("in");
    for owner in [Participant(3), Participant(4)] {
        for component in 0..3 {
            let clear = columns(20, 1);
            let entropy = Seed([5; 32]);
            let mut commitment = commit(&step, owner, &COMPUTING, 20, clear, &entropy).unwrap();
            commitment.statement.hashes[component][7] ^= 1;
            let (held, _) = run(owner, commitment);
            for (party, held) in held.iter().enumerate() {
                let holds = party == component || (party + 1) % 3 == component;
                let found = matches!(
                    held,
                    Err(Error::PeerMisbehaved { peer, what: Misbehaviour::Equivocation(_), .. })
                        if *peer == owner
                );
                assert_eq!(found, holds && COMPUTING[party] != owner);
            }
        }
        // The explicit component is changed after the commitment.
        let mut commitment =
            commit(&step, owner, &COMPUTING, 20, columns(20, 1), &Seed([5; 32])).unwrap();
        commitment.explicit[2].add(&columns(20, 9)[2].clone().into_component());
        let (held, _) = run(owner, commitment);
        assert!(held.iter().any(Result::is_err));
    }
}

#[test]
fn bad_shapes_are_refused() {
    let step = Step::new("in");
    let short = vec![ClearColumn::Arith64(vec![1, 2])];
    let error = commit(&step, COMPUTING[0], &COMPUTING, 3, short, &Seed([0; 32]));
    assert!(matches!(error, Err(Error::InvalidInput { .. })));
    let commitment = commit(&step, COMPUTING[0], &COMPUTING, 1, vec![], &Seed([0; 32])).unwrap();
    let mut links = network(5);
    assert!(share_components(&mut links[4], &COMPUTING, commitment).is_err());
}

#[test]
fn wrong_lengths_are_named() {
    let step = Step::new("in");
    let clear = columns(20, 1);
    let commitment = commit(&step, Participant(4), &COMPUTING, 20, clear, &Seed([5; 32])).unwrap();
    let mut statement = commitment.statement().clone();
    statement.rows = 200;
    let mut links = network(5);
    share_components(&mut links[4], &COMPUTING, commitment).unwrap();
    let got = receive_components(&mut links[0], &COMPUTING, &step, Participant(4), &statement);
    assert!(matches!(
        got,
        Err(Error::PeerMisbehaved {
            peer: Participant(4),
            what: Misbehaviour::Length { .. },
            ..
        })
    ));
}
