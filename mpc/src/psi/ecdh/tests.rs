//! Two parties against sets in the clear, and against peers that misbehave.

use super::sum::{FoundSum, SumPlan, receive_sum, send_sum};
use super::*;
use crate::error::Gone;
use crate::net::Traffic;
use crate::net::memory::{MemoryLink, network};
use crate::net::recording::{Recording, View};
use crate::testing::data;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

const RECEIVER: Participant = Participant(0);
const SENDER: Participant = Participant(1);

fn plan(receiver_rows: usize, sender_rows: usize, output: Output) -> Plan {
    Plan {
        receiver: RECEIVER,
        sender: SENDER,
        receiver_rows,
        sender_rows,
        output,
        run: [9; 32],
    }
}

fn keys<'k>(rows: usize, write: &'k (dyn Fn(usize, &mut Vec<u8>) + Sync)) -> Keys<'k> {
    Keys { rows, write }
}

/// Both parties on two threads; what the receiver found, and both parties' traffic.
fn run(
    plan: &Plan,
    seed: u8,
    receiver: &[u64],
    sender: &[u64],
    threads: usize,
) -> Result<(Found, [Traffic; 2])> {
    let mut links = network(2);
    let (mut theirs, mut mine) = (links.pop().unwrap(), links.pop().unwrap());
    let step = Step::new("psi");
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let write = |row: usize, key: &mut Vec<u8>| key.extend(sender[row].to_le_bytes());
            let keys = keys(sender.len(), &write);
            send(&mut theirs, &step, plan, &keys, &Seed([seed; 32]), threads)?;
            Ok(theirs.traffic())
        });
        let write = |row: usize, key: &mut Vec<u8>| key.extend(receiver[row].to_le_bytes());
        let keys = keys(receiver.len(), &write);
        let found = receive(
            &mut mine,
            &step,
            plan,
            &keys,
            &Seed([seed + 1; 32]),
            threads,
        );
        let traffic = mine.traffic();
        drop(mine);
        let sent: Result<Traffic> = sending.join().unwrap();
        Ok((found?, [traffic, sent?]))
    })
}

/// Distinct numbers below `range`, in random order.
fn set(seed: u64, count: usize, range: u64) -> Vec<u64> {
    let mut stream = data(seed);
    let mut seen = HashSet::new();
    while seen.len() < count {
        seen.insert(stream.words::<u64>(1)[0] % range);
    }
    let mut out: Vec<u64> = seen.into_iter().collect();
    out.sort_by_key(|x| x.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    out
}

#[test]
fn results_match_sets_in_the_clear() {
    let mut cases = 0;
    for (n, m) in [
        (0, 0),
        (0, 3),
        (3, 0),
        (1, 1),
        (2, 1),
        (5, 9),
        (12, 3),
        (20, 20),
    ] {
        for range in [24, 60, 1 << 40] {
            for pad in [0, 1, 7] {
                for output in [Output::Intersection, Output::Cardinality] {
                    for threads in [1, 2] {
                        cases += 1;
                        let seed = n as u64 * 1000 + m as u64 * 10 + range + pad as u64;
                        let (x, y) = (set(seed, n, range), set(seed + 1, m, range));
                        let plan = plan(n + pad, m + 2 * pad, output);
                        let (found, _) = run(&plan, 3, &x, &y, threads).unwrap();
                        let theirs: HashSet<u64> = y.iter().copied().collect();
                        let due: Vec<bool> = x.iter().map(|x| theirs.contains(x)).collect();
                        let due = match output {
                            Output::Intersection => Found::Rows(due),
                            Output::Cardinality => {
                                Found::Count(due.iter().filter(|&&found| found).count())
                            }
                        };
                        assert!(found == due, "seed {seed}: {n} and {m} rows, {output:?}");
                    }
                }
            }
        }
    }
    assert!(cases >= 200);
}

#[test]
fn bytes_are_those_of_the_formula() {
    for (n, m) in [(1, 1), (10, 300), (2100, 50)] {
        for output in [Output::Intersection, Output::Cardinality] {
            let (x, y) = (set(1, n, 1 << 40), set(2, m, 1 << 40));
            let plan = plan(n, m, output);
            let (_, [receiver, sender]) = run(&plan, 3, &x, &y, 1).unwrap();
            assert_eq!(receiver.bytes_sent, 32 * n as u64);
            let tags = plan.tag_bytes() * n;
            assert_eq!(sender.bytes_sent, (32 * m + tags) as u64);
        }
    }
    // A million rows a side: 40 bits against collisions, and 21 bits a side.
    assert_eq!(plan(1 << 20, 1 << 20, Output::Intersection).tag_bytes(), 11);
}

#[test]
fn runs_do_not_resemble_each_other() {
    // What a party sends of one key under two private seeds, and under two runs.
    let mut seen = HashSet::new();
    for (private, run) in [(1, 1), (2, 1), (1, 2)] {
        let mut plan = plan(1, 0, Output::Intersection);
        plan.run = [run; 32];
        let step = Step::new("psi");
        let secrets = Secrets::draw(&plan, &step, &Seed([private; 32]));
        let write = |_: usize, key: &mut Vec<u8>| key.push(5);
        let order = |row: usize| Some(row);
        seen.insert(secrets.elements(&keys(1, &write), 0..1, &order, 1, 0));
    }
    assert_eq!(seen.len(), 3);
}

/// The place at which the receiver gets back the tag of the key that both have, among four.
fn place_of_the_match(output: Output, seed: u8) -> usize {
    let plan = plan(4, 1, output);
    let step = Step::new("psi");
    let (mine, theirs) = (Seed([seed; 32]), Seed([seed.wrapping_add(100); 32]));
    let view = View::default();
    let mut links = network(2);
    let (mut far, near) = (links.pop().unwrap(), links.pop().unwrap());
    let mut near = Recording::new(near, &view);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let write = |_: usize, key: &mut Vec<u8>| key.push(2);
            send(&mut far, &step, &plan, &keys(1, &write), &theirs, 1).unwrap();
        });
        let write = |row: usize, key: &mut Vec<u8>| key.push(row as u8);
        receive(&mut near, &step, &plan, &keys(4, &write), &mine, 1).unwrap();
    });
    let (a, b) = (
        Secrets::draw(&plan, &step, &mine),
        Secrets::draw(&plan, &step, &theirs),
    );
    // Both sides double on the way.
    let both = a.domain.to_group(&[2]) * a.exponent * b.exponent * Scalar::from(4_u8);
    let width = plan.tag_bytes();
    let frames = view.frames();
    let returned = step.at("returned", 0);
    let frame = frames.iter().find(|frame| frame.step == returned).unwrap();
    frame
        .payload
        .chunks(width)
        .position(|tag| tag == &both.compress().as_bytes()[..width])
        .unwrap()
}

#[test]
fn a_cardinality_does_not_say_which() {
    let mut places = [0_u32; 4];
    for seed in 0..200 {
        places[place_of_the_match(Output::Cardinality, seed)] += 1;
    }
    // 50 expected each, standard deviation 6.
    assert!(
        places.iter().all(|&count| (25..80).contains(&count)),
        "{places:?}"
    );
    // An intersection says it.
    assert!((0..5).all(|seed| place_of_the_match(Output::Intersection, seed) == 2));
}

#[test]
fn a_key_twice_is_refused_before_anything_is_sent() {
    let plan = plan(3, 3, Output::Intersection);
    let mut links = network(2);
    let mut sender = links.pop().unwrap();
    let write = |row: usize, key: &mut Vec<u8>| key.push(row as u8 / 2);
    let error = send(
        &mut sender,
        &Step::new("psi"),
        &plan,
        &keys(3, &write),
        &Seed([1; 32]),
        1,
    );
    assert_eq!(error, Err(Error::DuplicateKey));
    assert_eq!(sender.traffic().messages_sent, 0);
    let write = |row: usize, key: &mut Vec<u8>| key.push(row as u8);
    for (keys, step) in [(keys(4, &write), "rows"), (keys(2, &write), "part")] {
        let plan = if step == "part" {
            Plan {
                sender: Participant(7),
                ..plan.clone()
            }
        } else {
            plan.clone()
        };
        let error = send(
            &mut sender,
            &Step::new(step),
            &plan,
            &keys,
            &Seed([1; 32]),
            1,
        );
        assert!(matches!(error, Err(Error::InvalidInput { .. })));
    }
}

/// A receiver whose peer sends `message` as its first one.
fn against(message: &[u8]) -> Result<Found> {
    let mut links = network(2);
    let (mut theirs, mine): (MemoryLink, MemoryLink) = (links.pop().unwrap(), links.pop().unwrap());
    let mut mine = mine.with_deadline(Duration::from_millis(200));
    let step = Step::new("psi");
    theirs
        .send(RECEIVER, &step.at("sender", 0), message)
        .unwrap();
    let write = |row: usize, key: &mut Vec<u8>| key.push(row as u8);
    let plan = plan(1, 1, Output::Intersection);
    receive(&mut mine, &step, &plan, &keys(1, &write), &Seed([1; 32]), 1)
}

#[test]
fn hostile_bytes_are_named() {
    let misbehaved = |result: Result<Found>| match result {
        Err(Error::PeerMisbehaved { peer, what, .. }) => {
            assert_eq!(peer, SENDER);
            what
        }
        other => panic!("{other:?}"),
    };
    // The neutral element, a negative one, one above the modulus, and no element at all.
    let mut negative = [0; 32];
    negative[0] = 1;
    for bytes in [[0; 32], negative, [0xff; 32]] {
        let what = misbehaved(against(&bytes));
        assert!(matches!(what, Misbehaviour::Malformed(_)), "{what:?}");
    }
    for short in [&[][..], &[1; 31], &[1; 64]] {
        let what = misbehaved(against(short));
        assert!(matches!(what, Misbehaviour::Length { .. }), "{what:?}");
    }
    // A good element, and then nothing.
    let good = RistrettoPoint::from_uniform_bytes(&[3; 64]).compress();
    match against(good.as_bytes()) {
        Err(Error::PeerGone { peer, why, .. }) => {
            assert_eq!((peer, why), (SENDER, Gone::Deadline));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn cancellation_ends_a_wait() {
    let mut links = network(2);
    let _silent = links.pop().unwrap();
    let cancel = Arc::new(AtomicBool::new(true));
    let mut mine = links.pop().unwrap().with_cancel(cancel);
    let write = |row: usize, key: &mut Vec<u8>| key.push(row as u8);
    let plan = plan(1, 1, Output::Cardinality);
    let step = Step::new("psi");
    let result = receive(&mut mine, &step, &plan, &keys(1, &write), &Seed([1; 32]), 1);
    assert_eq!(result, Err(Error::Cancelled));
}

/// Both parties of an intersection-sum; what each ends with, and all bytes sent.
fn run_sum(
    plan: &SumPlan,
    receiver: &[u64],
    sender: &[(u64, u64)],
    threads: usize,
) -> (Result<FoundSum>, Result<Option<u128>>, u64, View) {
    let mut links = network(2);
    let view = View::default();
    let mut theirs = Recording::new(links.pop().unwrap(), &view);
    let mut mine = links.pop().unwrap();
    let step = Step::new("sum");
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let write = |row: usize, key: &mut Vec<u8>| key.extend(sender[row].0.to_le_bytes());
            let keys = keys(sender.len(), &write);
            let values: Vec<u64> = sender.iter().map(|(_, value)| *value).collect();
            let sum = send_sum(
                &mut theirs,
                &step,
                plan,
                &keys,
                &values,
                &Seed([1; 32]),
                threads,
            );
            (sum, theirs.traffic().bytes_sent)
        });
        let write = |row: usize, key: &mut Vec<u8>| key.extend(receiver[row].to_le_bytes());
        let keys = keys(receiver.len(), &write);
        let found = receive_sum(&mut mine, &step, plan, &keys, &Seed([2; 32]), threads);
        let sent = mine.traffic().bytes_sent;
        drop(mine);
        let (sum, more) = sending.join().unwrap();
        (found, sum, sent + more, view.clone())
    })
}

fn sum_plan(receiver_rows: usize, sender_rows: usize, at_least: usize) -> SumPlan {
    SumPlan {
        exchange: plan(receiver_rows, sender_rows, Output::Cardinality),
        at_least,
    }
}

#[test]
fn sums_over_the_intersection_match_clear_text_and_k_is_kept() {
    for number in 0..200_u64 {
        let mut stream = data(number);
        let mut draw = |below: u64| stream.words::<u64>(1)[0] % below;
        let (n, m) = (draw(9) as usize, draw(9) as usize);
        let receiver = set(number * 2, n, 12);
        let sender: Vec<(u64, u64)> = set(number * 2 + 1, m, 12)
            .into_iter()
            .map(|key| {
                (
                    key,
                    [0, 1, 65_535, 65_536, u64::MAX, draw(u64::MAX)][draw(6) as usize],
                )
            })
            .collect();
        let at_least = 1 + draw(4) as usize;
        let plan = sum_plan(n + draw(3) as usize, m + draw(3) as usize, at_least);
        let (found, told, sent, _) = run_sum(&plan, &receiver, &sender, 1 + number as usize % 2);
        let common: Vec<u128> = sender
            .iter()
            .filter(|(key, _)| receiver.contains(key))
            .map(|(_, value)| u128::from(*value))
            .collect();
        let sum = (common.len() >= at_least).then(|| common.iter().sum());
        let count = common.len();
        assert!(found.unwrap() == FoundSum { count, sum }, "{number}");
        assert!(told.unwrap() == sum, "{number}");
        let exchange = 32 * (plan.exchange.receiver_rows + plan.exchange.sender_rows)
            + plan.exchange.tag_bytes() * plan.exchange.receiver_rows;
        let due = exchange + 256 * plan.exchange.sender_rows + 32 + 257 + 16;
        assert_eq!(sent, due as u64, "{number}");
    }
}

#[test]
fn too_few_common_keys_bring_the_sender_one_fixed_message() {
    let sender: Vec<(u64, u64)> = (0..20).map(|key| (key, 1_000 + key)).collect();
    let total = |receiver: &[u64]| {
        let (found, told, _, view) = run_sum(&sum_plan(20, 20, 5), receiver, &sender, 1);
        assert!(found.unwrap().sum.is_none() && told.unwrap().is_none());
        let frames = view.frames();
        let frame = frames.iter().find(|f| f.step.path() == "sum/total");
        frame.unwrap().payload.clone()
    };
    // None or four in common: the same bytes.
    assert_eq!(total(&[100, 101]), vec![0; 257]);
    assert_eq!(total(&[0, 1, 2, 3]), vec![0; 257]);
}

#[test]
fn sums_are_refused_without_k_or_values() {
    let sender = [(1, 5)];
    let (found, told, ..) = run_sum(&sum_plan(1, 1, 0), &[1], &sender, 1);
    assert!(matches!(found, Err(Error::InvalidInput { .. })));
    assert!(matches!(told, Err(Error::InvalidInput { .. })));
    let mut other = sum_plan(1, 1, 1);
    other.exchange.output = Output::Intersection;
    let (found, ..) = run_sum(&other, &[1], &sender, 1);
    assert!(matches!(found, Err(Error::InvalidInput { .. })));
}
