//! The reading end of one peer's stream, read inline by the protocol thread.

use super::frame::{HEAD, Head};
use super::stream::{Patience, ReadHalf, Stop};
use crate::error::Gone;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Bytes read ahead, so that a small frame costs one system call.
const AHEAD: usize = 64 << 10;

/// From here on bytes go straight to where they belong.
const DIRECT: usize = 16 << 10;

/// One peer's incoming stream with its running digest.
pub(super) struct Incoming {
    half: Box<dyn ReadHalf>,
    /// `buffer[start..end]` was read and not yet taken.
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    hasher: blake3::Hasher,
    deadline: Duration,
    cancel: Arc<AtomicBool>,
    /// Why nothing more is read: the stream may stand in the middle of a frame.
    stopped: Option<Stop>,
}

impl Incoming {
    pub(super) fn new(
        half: Box<dyn ReadHalf>,
        deadline: Duration,
        cancel: Arc<AtomicBool>,
    ) -> Self {
        Self {
            half,
            buffer: vec![0; AHEAD].into_boxed_slice(),
            start: 0,
            end: 0,
            hasher: blake3::Hasher::new(),
            deadline,
            cancel,
            stopped: None,
        }
    }

    /// The next frame's head, as sent.
    pub(super) fn head(&mut self) -> Result<Head, Stop> {
        if let Some(stop) = self.stopped {
            return Err(stop);
        }
        let mut bytes = [0; HEAD];
        self.fill(&mut bytes)?;
        self.hasher.update(&bytes);
        Ok(Head::decode(bytes))
    }

    /// The payload that follows a head; the caller knows its length.
    pub(super) fn payload(&mut self, buffer: &mut [u8]) -> Result<(), Stop> {
        self.fill(buffer)?;
        self.hasher.update(buffer);
        Ok(())
    }

    /// Nothing more is read from a peer that broke the frame protocol.
    pub(super) fn poison(&mut self) {
        self.stopped = Some(Stop::Poisoned);
    }

    /// Whether this peer's stream broke off, rather than lives or was closed in order. Looks ahead of
    /// what was taken, for one slice at most.
    pub(super) fn broke_off(&mut self) -> Option<Stop> {
        if self.stopped.is_none() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            while self.end < self.buffer.len() {
                match self.half.read(&mut self.buffer[self.end..]) {
                    Ok(0) => break,
                    Ok(read) => self.end += read,
                    Err(error) => {
                        self.stopped = Stop::of(&error);
                        break;
                    }
                }
            }
        }
        self.stopped.filter(|&stop| stop == Stop::BrokeOff)
    }

    /// BLAKE3 over all frames taken so far.
    pub(super) fn digest(&self) -> [u8; 32] {
        *self.hasher.finalize().as_bytes()
    }

    fn fill(&mut self, mut target: &mut [u8]) -> Result<(), Stop> {
        loop {
            let ready = target.len().min(self.end - self.start);
            target[..ready].copy_from_slice(&self.buffer[self.start..self.start + ready]);
            self.start += ready;
            target = &mut target[ready..];
            if target.is_empty() {
                return Ok(());
            }
            if target.len() >= DIRECT {
                let read = read_some(&mut *self.half, target, self.deadline, &self.cancel);
                let taken = self.keep_stop(read)?;
                target = &mut target[taken..];
            } else {
                let read = read_some(
                    &mut *self.half,
                    &mut self.buffer,
                    self.deadline,
                    &self.cancel,
                );
                self.start = 0;
                self.end = 0;
                self.end = self.keep_stop(read)?;
            }
        }
    }

    fn keep_stop<T>(&mut self, result: Result<T, Stop>) -> Result<T, Stop> {
        self.stopped = result.as_ref().err().copied();
        result
    }
}

/// At least one byte, or why there is none.
fn read_some(
    half: &mut dyn ReadHalf,
    target: &mut [u8],
    deadline: Duration,
    cancel: &AtomicBool,
) -> Result<usize, Stop> {
    let mut patience = Patience::new(deadline);
    loop {
        match half.read(target) {
            Ok(0) => return Err(Stop::Gone(Gone::Closed)),
            Ok(read) => return Ok(read),
            Err(error) => match Stop::of(&error) {
                Some(stop) => return Err(stop),
                None if error.kind() == std::io::ErrorKind::Interrupted => {}
                None => patience.wait(cancel)?,
            },
        }
    }
}
