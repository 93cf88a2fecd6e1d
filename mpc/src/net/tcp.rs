//! Plain TCP streams for a [`StreamLink`]: tests, benches, and the
//! sockets below TLS. Knows nothing of who is at the other end.

use super::stream::{POLL_SLICE, PeerStreams, ReadHalf, StreamLink, WriteHalf};
use super::{LinkProfile, Participant};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The sending end of a TCP connection used in one direction.
pub struct TcpWrite(TcpStream);

/// The receiving end of a TCP connection used in one direction.
pub struct TcpRead(TcpStream);

impl TcpWrite {
    /// Sets the socket up for sending: blocking, time-limited, without delay of small segments.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn new(socket: TcpStream) -> io::Result<Self> {
        prepare(&socket)?;
        Ok(Self(socket))
    }
}

impl TcpRead {
    /// Sets the socket up for receiving: blocking, time-limited.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn new(socket: TcpStream) -> io::Result<Self> {
        prepare(&socket)?;
        Ok(Self(socket))
    }
}

/// Blocking, with waits of at most [`POLL_SLICE`], without delay of small segments.
pub(super) fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nonblocking(false)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(POLL_SLICE))?;
    socket.set_write_timeout(Some(POLL_SLICE))
}

/// Reads what is there without waiting, into `buffer`; `None` when nothing is.
pub(super) fn read_now(socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    socket.set_nonblocking(true)?;
    let result = socket.read(buffer);
    socket.set_nonblocking(false)?;
    match result {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

impl WriteHalf for TcpWrite {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn peer_closed(&mut self) -> bool {
        // Nothing is ever due in this direction: an end or an error is the peer's.
        !matches!(read_now(&mut self.0, &mut [0; 64]), Ok(None | Some(1..)))
    }

    fn close(&mut self) {
        // Unread bytes at close would make the kernel drop what is still on its way.
        while let Ok(Some(1..)) = read_now(&mut self.0, &mut [0; 1024]) {}
        // The peer may be gone already; the socket is closed either way.
        let _ = self.0.shutdown(Shutdown::Write);
    }
}

impl ReadHalf for TcpRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

/// A connected pair of sockets on loopback: the first writes, the second reads.
///
/// # Errors
/// Those of the sockets.
pub fn loopback_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let writing = TcpStream::connect(listener.local_addr()?)?;
    let own = writing.local_addr()?;
    loop {
        // Anybody on this machine could have connected first.
        let (reading, from) = listener.accept()?;
        if from == own {
            return Ok((writing, reading));
        }
    }
}

/// Links of `participants` participants over TCP on loopback, for tests and benches.
///
/// # Errors
/// Those of the sockets, and those of [`StreamLink::new`] as `io::Error::other`.
pub fn loopback_network(
    participants: u8,
    deadline: Duration,
    cancel: &Arc<AtomicBool>,
) -> io::Result<Vec<StreamLink>> {
    let mut writing: Vec<Vec<Option<TcpWrite>>> = Vec::new();
    let mut reading: Vec<Vec<Option<TcpRead>>> = (0..participants).map(|_| Vec::new()).collect();
    for from in 0..participants {
        let mut row = Vec::new();
        for (to, column) in (0..participants).zip(&mut reading) {
            if from == to {
                row.push(None);
                column.push(None);
            } else {
                let (near, far) = loopback_pair()?;
                row.push(Some(TcpWrite::new(near)?));
                column.push(Some(TcpRead::new(far)?));
            }
        }
        writing.push(row);
    }
    (0..participants)
        .zip(writing.into_iter().zip(reading))
        .map(|(me, (writing, reading))| {
            let peers = (0..participants)
                .zip(writing.into_iter().zip(reading))
                .filter_map(|(peer, (write, read))| -> Option<PeerStreams> {
                    Some((Participant(peer), Box::new(write?), Box::new(read?)))
                })
                .collect();
            let profile = LinkProfile::LOOPBACK;
            StreamLink::new(
                Participant(me),
                peers,
                profile,
                deadline,
                Arc::clone(cancel),
            )
            .map_err(io::Error::other)
        })
        .collect()
}
