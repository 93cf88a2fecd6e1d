//! A slower network than the one there is: the reading end of a stream that hands bytes on later.
//!
//! A thread takes bytes from the inner end as they come; each piece is handed on when a line of the
//! given bandwidth would have delivered it, one way's delay later ([`Schedule`]). Pieces that follow
//! each other closely queue behind one another, so pipelined messages share one delay. The sender
//! is never held up by more than the inner stream does. For benchmarks and tests: it needs no rights
//! and no kernel support. The clock comes from the caller.

use super::stream::{POLL_SLICE, ReadHalf};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Time since some fixed moment.
pub type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Bytes taken from the inner stream at a time.
const PIECE: usize = 64 << 10;

/// When a line of fixed bandwidth and delay delivers pieces of bytes.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    delay: Duration,
    /// Bits a second; none means no limit.
    bits_per_second: Option<u64>,
    /// When the line has carried everything so far.
    free: Duration,
}

impl Schedule {
    /// A line with a one-way delay (half the round trip) and, if given, a bandwidth in bits a second.
    #[must_use]
    pub fn new(delay: Duration, bits_per_second: Option<u64>) -> Self {
        Self {
            delay,
            bits_per_second: bits_per_second.filter(|&rate| rate > 0),
            free: Duration::ZERO,
        }
    }

    /// When the last byte of a piece put on the line at `now` arrives: the line carries it when it is
    /// free, for size over bandwidth; then it travels.
    pub fn arrival(&mut self, now: Duration, bytes: usize) -> Duration {
        let carrying = self.bits_per_second.map_or(Duration::ZERO, |rate| {
            let nanos = bytes as u128 * 8 * 1_000_000_000 / u128::from(rate);
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        });
        self.free = self.free.max(now) + carrying;
        self.free + self.delay
    }
}

/// A piece of bytes, or how the stream ended, and when the reader may have it.
type Piece = (Duration, Result<Vec<u8>, io::ErrorKind>);

/// The reading end of a stream over a simulated line.
pub struct ShapedRead {
    pieces: Receiver<Piece>,
    clock: Clock,
    /// What is being handed on, from `taken` on.
    current: Vec<u8>,
    taken: usize,
    /// The next piece, not yet due.
    waiting: Option<Piece>,
    gone: Arc<AtomicBool>,
}

impl ShapedRead {
    /// Shapes what `inner` reads. Starts one thread, which ends with the stream or within two
    /// [`POLL_SLICE`]s of the drop of this end.
    ///
    /// # Errors
    /// Those of starting a thread.
    pub fn new(
        inner: impl ReadHalf + 'static,
        schedule: Schedule,
        clock: Clock,
    ) -> io::Result<Self> {
        let (sender, pieces) = channel();
        let gone = Arc::new(AtomicBool::new(false));
        let (stop, now) = (Arc::clone(&gone), Arc::clone(&clock));
        std::thread::Builder::new()
            .name("shaped line".to_owned())
            .spawn(move || carry(inner, schedule, &now, &stop, &sender))?;
        Ok(Self {
            pieces,
            clock,
            current: Vec::new(),
            taken: 0,
            waiting: None,
            gone,
        })
    }
}

/// Takes pieces off the inner stream until it ends or nobody wants them.
fn carry(
    mut inner: impl ReadHalf,
    mut schedule: Schedule,
    now: &Clock,
    stop: &AtomicBool,
    pieces: &Sender<Piece>,
) {
    let mut buffer = vec![0; PIECE];
    while !stop.load(Ordering::Relaxed) {
        let (piece, last) = match inner.read(&mut buffer) {
            Ok(read) => (Ok(buffer[..read].to_vec()), read == 0),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::TimedOut
                | io::ErrorKind::Interrupted => continue,
                kind => (Err(kind), true),
            },
        };
        let bytes = piece.as_ref().map_or(0, Vec::len);
        let due = schedule.arrival(now(), bytes);
        if pieces.send((due, piece)).is_err() || last {
            return;
        }
    }
}

impl ReadHalf for ShapedRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.current.len() {
            let (due, piece) = match self.waiting.take() {
                Some(waiting) => waiting,
                None => match self.pieces.recv_timeout(POLL_SLICE) {
                    Ok(piece) => piece,
                    Err(RecvTimeoutError::Timeout) => return Err(io::ErrorKind::TimedOut.into()),
                    // The thread is gone after the last piece: the end was told already.
                    Err(RecvTimeoutError::Disconnected) => return Ok(0),
                },
            };
            let wait = due.saturating_sub((self.clock)());
            if wait > POLL_SLICE {
                std::thread::sleep(POLL_SLICE);
                self.waiting = Some((due, piece));
                return Err(io::ErrorKind::TimedOut.into());
            }
            if !wait.is_zero() {
                std::thread::sleep(wait);
            }
            self.current = piece.map_err(io::Error::from)?;
            self.taken = 0;
        }
        let count = buffer.len().min(self.current.len() - self.taken);
        buffer[..count].copy_from_slice(&self.current[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}

impl Drop for ShapedRead {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn pieces_queue_for_the_line_and_share_the_delay() {
        // 8 Mbit/s: 1,000 bytes take a millisecond.
        let mut line = Schedule::new(10 * MS, Some(8_000_000));
        assert_eq!(line.arrival(Duration::ZERO, 1000), 11 * MS);
        assert_eq!(line.arrival(Duration::ZERO, 1000), 12 * MS);
        assert_eq!(line.arrival(MS, 2000), 14 * MS);
        // The line stood idle from 4 ms on.
        assert_eq!(line.arrival(20 * MS, 1000), 31 * MS);
        let mut fast = Schedule::new(10 * MS, None);
        assert_eq!(fast.arrival(5 * MS, 1 << 30), 15 * MS);
    }

    /// Reads from a list; then the end.
    struct Listed(Vec<Vec<u8>>);

    impl ReadHalf for Listed {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            buffer[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }

    #[test]
    fn bytes_arrive_whole_in_order_and_not_early() {
        // A clock that a reader cannot outrun: each look is a millisecond.
        let ticks = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let tick = Arc::clone(&ticks);
        let clock: Clock =
            Arc::new(move || Duration::from_millis(tick.fetch_add(1, Ordering::SeqCst)));
        let inner = Listed(vec![vec![1, 2, 3], vec![4], vec![5; 70]]);
        let mut read = ShapedRead::new(inner, Schedule::new(150 * MS, Some(8_000)), clock).unwrap();
        let mut got = Vec::new();
        let mut buffer = [0; 2];
        loop {
            match read.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => got.extend_from_slice(&buffer[..count]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
            }
        }
        let mut due = vec![1, 2, 3, 4];
        due.extend([5; 70]);
        assert_eq!(got, due);
    }
}
