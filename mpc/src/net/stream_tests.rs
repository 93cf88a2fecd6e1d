//! The contract of a link, over TCP and TLS.

// What is tested is also how long a wait takes.
#![allow(clippy::disallowed_methods)]

use super::stream::{Limits, PeerStreams, StreamLink};
use super::tcp::{TcpRead, TcpWrite, loopback_network, loopback_pair};
use super::{Link, LinkProfile, Participant, Step};
use crate::error::{Error, Gone, Misbehaviour};
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const P0: Participant = Participant(0);
const P1: Participant = Participant(1);
const DEADLINE: Duration = Duration::from_secs(5);

fn links(participants: u8) -> Vec<StreamLink> {
    loopback_network(participants, DEADLINE, &Arc::default()).unwrap()
}

fn link(me: Participant, peers: Vec<PeerStreams>, deadline: Duration) -> StreamLink {
    StreamLink::new(me, peers, LinkProfile::LOOPBACK, deadline, Arc::default()).unwrap()
}

/// A link of #0 whose peer #1 is played by hand: (link, what #0 reads from, what #0 writes to).
fn by_hand(deadline: Duration) -> (StreamLink, TcpStream, TcpStream) {
    let (near, reads) = loopback_pair().unwrap();
    let (writes, far) = loopback_pair().unwrap();
    let streams: PeerStreams = (
        P1,
        Box::new(TcpWrite::new(near).unwrap()),
        Box::new(TcpRead::new(far).unwrap()),
    );
    (link(P0, vec![streams], deadline), writes, reads)
}

fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length)
        .map(|i| (i.wrapping_mul(31) ^ (i >> 8) ^ seed) as u8)
        .collect()
}

/// Every party sends to the next before it receives from the previous one.
fn ring(links: Vec<StreamLink>, sizes: &[usize]) {
    let count = links.len();
    std::thread::scope(|scope| {
        let threads: Vec<_> = links
            .into_iter()
            .enumerate()
            .map(|(me, mut link)| {
                scope.spawn(move || {
                    let next = Participant(((me + 1) % count) as u8);
                    let previous = Participant(((me + count - 1) % count) as u8);
                    for (i, &size) in sizes.iter().enumerate() {
                        link.send(next, &Step::new("ring").at("s", i), &pattern(size, me))
                            .unwrap();
                    }
                    for (i, &size) in sizes.iter().enumerate() {
                        let mut got = vec![0; size];
                        link.recv_into(previous, &Step::new("ring").at("s", i), &mut got)
                            .unwrap();
                        assert!(got == pattern(size, usize::from(previous.0)));
                    }
                    let traffic = link.traffic();
                    let total: usize = sizes.iter().sum();
                    assert_eq!(traffic.bytes_sent, total as u64);
                    assert_eq!(traffic.bytes_received, total as u64);
                    assert_eq!(traffic.rounds, 1);
                    (link.digests(), link)
                })
            })
            .collect();
        let done: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
        for (me, (digests, _)) in done.iter().enumerate() {
            for digest in digests {
                let other = &done[usize::from(digest.peer.0)].0;
                let mine = other.iter().find(|d| d.peer.0 == me as u8).unwrap();
                assert_eq!(digest.sent, mine.received);
            }
        }
    });
}

const SIZES: [usize; 12] = [
    0, 1, 11, 12, 4096, 16_383, 70_000, 262_131, 262_144, 262_145, 40_000_000, 5,
];

#[test]
fn a_ring_in_which_all_send_first_does_not_deadlock() {
    ring(links(3), &SIZES);
}

#[test]
fn a_ring_above_the_soft_limit_does_not_deadlock() {
    let limits = Limits {
        queue_soft: 1 << 20,
        ..Limits::default()
    };
    let mut ends: Vec<(Vec<PeerStreams>, Participant)> = vec![(Vec::new(), P0), (Vec::new(), P1)];
    let (a, b) = (loopback_pair().unwrap(), loopback_pair().unwrap());
    ends[0].0.push((
        P1,
        Box::new(TcpWrite::new(a.0).unwrap()),
        Box::new(TcpRead::new(b.1).unwrap()),
    ));
    ends[1].0.push((
        P0,
        Box::new(TcpWrite::new(b.0).unwrap()),
        Box::new(TcpRead::new(a.1).unwrap()),
    ));
    let links = ends
        .into_iter()
        .map(|(peers, me)| {
            let profile = LinkProfile::LOOPBACK;
            StreamLink::with_limits(me, peers, profile, DEADLINE, Arc::default(), limits).unwrap()
        })
        .collect();
    ring(links, &[10_000_000; 5]);
}

#[test]
fn more_than_the_hard_limit_is_an_error() {
    let (near, _reads) = loopback_pair().unwrap();
    let (_writes, far) = loopback_pair().unwrap();
    let peers: Vec<PeerStreams> = vec![(
        P1,
        Box::new(TcpWrite::new(near).unwrap()),
        Box::new(TcpRead::new(far).unwrap()),
    )];
    let limits = Limits {
        queue_soft: 1 << 20,
        queue_hard: 20 << 20,
        linger: Duration::from_millis(100),
    };
    let mut link = StreamLink::with_limits(
        P0,
        peers,
        LinkProfile::LOOPBACK,
        DEADLINE,
        Arc::default(),
        limits,
    )
    .unwrap();
    let results: Vec<_> = (0..40)
        .map(|_| link.send(P1, &Step::new("x"), &vec![0; 1 << 20]))
        .collect();
    assert!(matches!(
        results.last(),
        Some(Err(Error::ResourceExhausted(_)))
    ));
    let start = Instant::now();
    drop(link);
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn everything_sent_before_a_drop_arrives() {
    let mut links = links(2);
    let mut reader = links.pop().unwrap();
    let mut writer = links.pop().unwrap();
    let step = Step::new("x");
    let payload = pattern(3_000_000, 9);
    writer.send(P1, &step, &payload).unwrap();
    writer.send(P1, &step, b"end").unwrap();
    let thread = std::thread::spawn(move || drop(writer));
    std::thread::sleep(Duration::from_millis(50));
    assert!(reader.recv_up_to(P0, &step, 3_000_000).unwrap() == payload);
    assert_eq!(reader.recv_up_to(P0, &step, 3).unwrap(), b"end");
    let closed = reader.recv_up_to(P0, &step, 3);
    assert!(matches!(
        closed,
        Err(Error::PeerGone {
            peer: P0,
            why: Gone::Closed,
            ..
        })
    ));
    thread.join().unwrap();
}

#[test]
fn small_frames_leave_even_if_the_sender_never_receives() {
    let mut links = links(2);
    let mut reader = links.pop().unwrap();
    let mut writer = links.pop().unwrap();
    writer.send(P1, &Step::new("x"), b"now").unwrap();
    let start = Instant::now();
    assert_eq!(reader.recv_up_to(P0, &Step::new("x"), 3).unwrap(), b"now");
    assert!(start.elapsed() < Duration::from_secs(3));
    writer.finish().unwrap();
}

#[test]
fn a_peer_that_has_everything_may_close_first() {
    let mut links = links(2);
    let mut reader = links.pop().unwrap();
    let mut writer = links.pop().unwrap();
    let step = Step::new("x");
    writer.send(P1, &step, b"all").unwrap();
    reader.recv_up_to(P0, &step, 3).unwrap();
    let received = reader.digests()[0].received;
    drop(reader);
    // Long enough for the writer to notice.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(writer.digests()[0].sent, received);
    writer.finish().unwrap();
}

#[test]
fn a_pure_sender_notices_a_dead_peer() {
    let mut links = links(2);
    drop(links.pop());
    let mut writer = links.pop().unwrap();
    let start = Instant::now();
    let error = loop {
        match writer.send(P1, &Step::new("x"), b"anybody there") {
            Ok(()) => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => break error,
        }
        assert!(start.elapsed() < Duration::from_secs(4));
    };
    assert!(matches!(
        error,
        Error::PeerGone {
            peer: P1,
            why: Gone::Closed,
            ..
        }
    ));
}

#[test]
fn silence_and_cancellation_end_a_wait() {
    let (mut link, _writes, _reads) = by_hand(Duration::from_millis(300));
    let start = Instant::now();
    let error = link.recv_into(P1, &Step::new("x"), &mut [0; 8]);
    assert!(matches!(
        error,
        Err(Error::PeerGone {
            peer: P1,
            why: Gone::Deadline,
            ..
        })
    ));
    assert!(start.elapsed() < Duration::from_secs(3));

    let cancel = Arc::new(AtomicBool::new(false));
    let mut links = loopback_network(2, DEADLINE, &cancel).unwrap();
    let thread = std::thread::spawn({
        let cancel = Arc::clone(&cancel);
        move || {
            std::thread::sleep(Duration::from_millis(50));
            cancel.store(true, Ordering::Relaxed);
        }
    });
    let start = Instant::now();
    // More than the sockets hold: the writer is cancelled as well.
    links[0]
        .send(P1, &Step::new("x"), &vec![0; 30_000_000])
        .unwrap();
    let error = links[0].recv_into(P1, &Step::new("x"), &mut [0; 8]);
    assert_eq!(error, Err(Error::Cancelled));
    drop(links);
    assert!(start.elapsed() < Duration::from_millis(1900));
    thread.join().unwrap();
}

#[test]
fn a_peer_that_takes_nothing_is_gone_and_drop_does_not_hang() {
    let (mut link, _writes, _reads) = by_hand(Duration::from_millis(400));
    link.send(P1, &Step::new("x"), &vec![0; 50_000_000])
        .unwrap();
    let error = link.finish();
    assert!(matches!(
        error,
        Err(Error::PeerGone {
            peer: P1,
            why: Gone::Deadline,
            ..
        })
    ));
}

#[test]
fn broken_frames_are_named() {
    let step = Step::new("x");
    let frame = |length: u32, tag: [u8; 8]| [&length.to_le_bytes()[..], &tag].concat();
    let cases = [
        (frame(8, [9; 8]), Misbehaviour::OutOfStep),
        (
            frame(9, step.tag()),
            Misbehaviour::Length {
                expected: 8,
                got: 9,
            },
        ),
        (
            frame(u32::MAX, step.tag()),
            Misbehaviour::Malformed("a frame above the maximum length"),
        ),
    ];
    for (bytes, due) in cases {
        let (mut link, mut writes, _reads) = by_hand(DEADLINE);
        writes.write_all(&bytes).unwrap();
        let error = link.recv_into(P1, &step, &mut [0; 8]);
        assert!(matches!(error, Err(Error::PeerMisbehaved { peer: P1, what, .. }) if what == due));
        // The stream is not read any further.
        let error = link.recv_into(P1, &step, &mut [0; 8]);
        assert!(matches!(error, Err(Error::PeerMisbehaved { .. })));
    }
    // A connection that ends in the middle of a frame.
    let (mut link, mut writes, _reads) = by_hand(DEADLINE);
    writes.write_all(&frame(8, step.tag())).unwrap();
    writes.write_all(&[1, 2, 3]).unwrap();
    drop(writes);
    let error = link.recv_into(P1, &step, &mut [0; 8]);
    assert!(matches!(
        error,
        Err(Error::PeerGone {
            why: Gone::Closed,
            ..
        })
    ));
}

#[test]
fn a_peer_named_twice_is_refused() {
    let (a, b) = (loopback_pair().unwrap(), loopback_pair().unwrap());
    let peers: Vec<PeerStreams> = vec![
        (
            P1,
            Box::new(TcpWrite::new(a.0).unwrap()),
            Box::new(TcpRead::new(b.1).unwrap()),
        ),
        (
            P1,
            Box::new(TcpWrite::new(b.0).unwrap()),
            Box::new(TcpRead::new(a.1).unwrap()),
        ),
    ];
    let result = StreamLink::new(P0, peers, LinkProfile::LOOPBACK, DEADLINE, Arc::default());
    assert!(matches!(result, Err(Error::InvalidInput { .. })));
}

#[cfg(feature = "tls")]
mod over_tls {
    use super::*;
    use crate::net::tls::loopback::pair;

    fn tls_links() -> Vec<StreamLink> {
        let (a, b) = (pair(), pair());
        vec![
            link(P0, vec![(P1, Box::new(a.0), Box::new(b.1))], DEADLINE),
            link(P1, vec![(P0, Box::new(b.0), Box::new(a.1))], DEADLINE),
        ]
    }

    #[test]
    fn a_ring_over_tls() {
        ring(tls_links(), &SIZES);
    }

    #[test]
    fn a_pure_sender_over_tls_notices_a_dead_peer() {
        let mut links = tls_links();
        drop(links.pop());
        let mut writer = links.pop().unwrap();
        let start = Instant::now();
        while writer.send(P1, &Step::new("x"), b"anybody there").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
            assert!(start.elapsed() < Duration::from_secs(4));
        }
    }

    #[test]
    fn a_closed_tls_stream_is_gone() {
        let mut links = tls_links();
        let mut reader = links.pop().unwrap();
        links[0].send(P1, &Step::new("x"), b"last").unwrap();
        drop(links);
        assert_eq!(reader.recv_up_to(P0, &Step::new("x"), 4).unwrap(), b"last");
        let error = reader.recv_up_to(P0, &Step::new("x"), 4);
        assert!(matches!(
            error,
            Err(Error::PeerGone {
                why: Gone::Closed,
                ..
            })
        ));
    }

    #[test]
    fn the_peer_that_died_is_named_not_the_one_that_gave_up() {
        const P2: Participant = Participant(2);
        // #0 waits for #1, which waits for #2, which dies.
        let (from_1, from_2) = (pair(), pair());
        let (to_1, to_2) = (pair(), pair());
        let death = from_2.0.socket();
        let mut waiting = link(
            P0,
            vec![
                (P1, Box::new(to_1.0), Box::new(from_1.1)),
                (P2, Box::new(to_2.0), Box::new(from_2.1)),
            ],
            DEADLINE,
        );
        let gives_up = link(
            P1,
            vec![(P0, Box::new(from_1.0), Box::new(to_1.1))],
            DEADLINE,
        );
        death.shutdown(std::net::Shutdown::Both).unwrap();
        drop(gives_up);
        let error = waiting.recv_up_to(P1, &Step::new("x"), 4);
        let Err(Error::PeerGone { peer, why, .. }) = error else {
            panic!("{error:?}")
        };
        assert_eq!((peer, why), (P2, Gone::Closed));
    }

    /// Figures, not bars: `cargo test -p veilgate-mpc --features tls figures -- --ignored --nocapture`.
    #[test]
    #[ignore = "prints figures"]
    fn figures_tls() {
        figures("tls", tls_links);
    }
}

#[test]
#[ignore = "prints figures"]
fn figures_tcp() {
    figures("tcp", || links(2));
}

fn figures(kind: &str, links: impl Fn() -> Vec<StreamLink>) {
    const ROUNDS: usize = 100_000;
    const BULK: usize = 64 << 20;
    let step = Step::new("x");
    let mut pair = links();
    let (mut right, mut left) = (pair.pop().unwrap(), pair.pop().unwrap());
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                right.recv_into(P0, &step, &mut [0; 8]).unwrap();
                right.send(P0, &step, &[0; 8]).unwrap();
            }
            right.digests();
        });
        for _ in 0..ROUNDS {
            left.send(P1, &step, &[0; 8]).unwrap();
            left.recv_into(P1, &step, &mut [0; 8]).unwrap();
        }
    });
    let rounds = ROUNDS as f64 / start.elapsed().as_secs_f64();
    println!("{{\"link\":\"{kind}\",\"rounds_per_second\":{rounds:.0}}}");
    let payload = vec![7; BULK];
    let mut target = vec![0; BULK];
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..16 {
                left.send(P1, &step, &payload).unwrap();
            }
            left.digests();
        });
        for _ in 0..16 {
            right.recv_into(P0, &step, &mut target).unwrap();
        }
    });
    let rate = (16 * BULK) as f64 / start.elapsed().as_secs_f64() / 1e9;
    println!("{{\"link\":\"{kind}\",\"bulk_gigabytes_per_second\":{rate:.2}}}");
}
