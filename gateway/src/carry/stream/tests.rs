//! Links over carried streams, and what a hostile carrier can do to them.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use veilgate_mpc::error::{Error as RunError, Gone};
use veilgate_mpc::net::stream::{PeerStreams, StreamLink};
use veilgate_mpc::net::{Link, LinkProfile, Participant, Step};
use zeroize::Zeroizing;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// A stream whose carrier hands on what `carrier` makes of each piece; it stops at `None`.
fn stream(
    runtime: &tokio::runtime::Runtime,
    mut carrier: impl FnMut(Vec<u8>) -> Option<Vec<Vec<u8>>> + Send + 'static,
) -> (CarryWrite, CarryRead) {
    let key: Key = Zeroizing::new([7; 32]);
    let (pieces, mut sent) = mpsc::channel::<wire::CarryPiece>(PIECES);
    let (hand_on, carried) = mpsc::channel(PIECES);
    runtime.spawn(async move {
        while let Some(piece) = sent.recv().await {
            let Some(pieces) = carrier(piece.sealed) else {
                return;
            };
            for piece in pieces {
                if hand_on.send(piece).await.is_err() {
                    return;
                }
            }
        }
    });
    let _context = runtime.enter();
    let write = CarryWrite {
        sealing: Sealing::new(&key),
        pieces: Some(pieces),
        runtime: Handle::current(),
    };
    (write, CarryRead::new(carried, &key))
}

fn honest(piece: Vec<u8>) -> Option<Vec<Vec<u8>>> {
    Some(vec![piece])
}

fn link(me: u8, write: CarryWrite, read: CarryRead, cancel: &Arc<AtomicBool>) -> StreamLink {
    let streams: PeerStreams = (Participant(1 - me), Box::new(write), Box::new(read));
    StreamLink::new(
        Participant(me),
        vec![streams],
        LinkProfile::LOOPBACK,
        Duration::from_secs(1),
        Arc::clone(cancel),
    )
    .unwrap()
}

#[test]
fn links_carry_frames_both_ways_and_agree_on_digests() {
    let runtime = runtime();
    let cancel = Arc::new(AtomicBool::new(false));
    let (there, from_there) = stream(&runtime, honest);
    let (back, from_back) = stream(&runtime, honest);
    let mut near = link(0, there, from_back, &cancel);
    let mut far = link(1, back, from_there, &cancel);
    let step = Step::new("test");
    let payload: Vec<u8> = (0..5_000_000_u32).map(|i| (i % 251) as u8).collect();
    // Large frames both ways at once, then small ones.
    std::thread::scope(|scope| {
        for (me, link) in [(0_u8, &mut near), (1, &mut far)] {
            let (step, payload) = (&step, &payload);
            scope.spawn(move || {
                let peer = Participant(1 - me);
                link.send(peer, step, payload).unwrap();
                let mut read = vec![0; payload.len()];
                link.recv_into(peer, step, &mut read).unwrap();
                assert!(read == *payload);
                for _ in 0..200 {
                    link.send(peer, step, &[me]).unwrap();
                    let mut read = [9];
                    link.recv_into(peer, step, &mut read).unwrap();
                    assert_eq!(read, [1 - me]);
                }
            });
        }
    });
    let (mine, theirs) = (near.digests(), far.digests());
    assert_eq!(mine[0].sent, theirs[0].received);
    assert_eq!(mine[0].received, theirs[0].sent);
    assert_eq!(near.traffic().rounds, far.traffic().rounds);
    // An orderly end is not a broken stream.
    near.finish().unwrap();
    let error = far.recv_into(Participant(0), &step, &mut [0]).unwrap_err();
    assert!(
        matches!(
            error,
            RunError::PeerGone {
                why: Gone::Closed,
                ..
            }
        ),
        "{error:?}"
    );
}

/// What a reader makes of three pieces that a carrier has had its hands on.
fn read_after(
    carrier: impl FnMut(Vec<u8>) -> Option<Vec<Vec<u8>>> + Send + 'static,
) -> (Vec<u8>, io::Result<usize>) {
    let runtime = runtime();
    let (mut write, mut read) = stream(&runtime, carrier);
    for text in [&b"first"[..], b"second", b"third"] {
        // The carrier may have hung up.
        let _ = write.write(text);
    }
    write.close();
    let (mut all, mut buffer) = (Vec::new(), [0; 4]);
    loop {
        match read.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(count) if count > 0 => all.extend_from_slice(&buffer[..count]),
            end => return (all, end),
        }
    }
}

#[test]
fn what_a_carrier_changes_repeats_reorders_or_cuts_off_is_noticed() {
    let (all, end) = read_after(honest);
    assert_eq!((&all[..], end.unwrap()), (&b"firstsecondthird"[..], 0));

    let broken = |(all, end): (Vec<u8>, io::Result<usize>), due: &[u8], kind| {
        assert_eq!(all, due);
        assert_eq!(end.unwrap_err().kind(), kind);
    };
    let invalid = io::ErrorKind::InvalidData;
    let mut count = 0;
    let second = move |act: fn(Vec<u8>) -> Vec<Vec<u8>>| {
        move |piece: Vec<u8>| {
            count += 1;
            Some(if count == 2 { act(piece) } else { vec![piece] })
        }
    };
    let changed = second(|mut piece| {
        piece[3] ^= 1;
        vec![piece]
    });
    broken(read_after(changed), b"first", invalid);
    broken(
        read_after(second(|piece| vec![piece.clone(), piece])),
        b"firstsecond",
        invalid,
    );
    broken(read_after(second(|_| vec![])), b"first", invalid);
    broken(
        read_after(second(|piece| vec![piece[..5].to_vec()])),
        b"first",
        invalid,
    );
    broken(read_after(second(|_| vec![vec![0; 16]])), b"first", invalid);
    // Cut off after two pieces, and before the last, empty one.
    for kept in [2, 3] {
        let mut count = 0;
        let cut = move |piece| {
            count += 1;
            (count <= kept).then(|| vec![piece])
        };
        let due = [&b"firstsecond"[..], b"firstsecondthird"][kept - 2];
        broken(read_after(cut), due, io::ErrorKind::UnexpectedEof);
    }
}

#[test]
fn a_silent_peer_and_cancellation_end_a_wait() {
    let runtime = runtime();
    for cancelled in [false, true] {
        let cancel = Arc::new(AtomicBool::new(false));
        let (there, _from_there) = stream(&runtime, honest);
        let (_back, from_back) = stream(&runtime, honest);
        let mut near = link(0, there, from_back, &cancel);
        if cancelled {
            let cancel = Arc::clone(&cancel);
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(100));
                cancel.store(true, Ordering::Relaxed);
            });
        }
        let step = Step::new("test");
        let error = near.recv_into(Participant(1), &step, &mut [0]).unwrap_err();
        match (cancelled, &error) {
            (true, RunError::Cancelled) => {}
            (
                false,
                RunError::PeerGone {
                    why: Gone::Deadline,
                    ..
                },
            ) => {}
            _ => panic!("{error:?}"),
        }
    }
}
