//! The two ends of a carried stream, and how a gateway accepts one.

#[cfg(test)]
mod tests;

use super::seal::{Key, Sealing};
use crate::tls::{DataRegistry, Transport};
use futures::StreamExt;
use futures::stream::BoxStream;
use std::io;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::run::RunId;
use veilgate_federated::schema::Department;
use veilgate_mpc::net::stream::{POLL_SLICE, ReadHalf, WriteHalf};
use veilgate_proto::peer::v1 as wire;
use veilgate_proto::peer::v1::peer_client::PeerClient;

/// Bytes of a piece before sealing.
const PIECE: usize = 256 << 10;
/// Pieces on their way between a protocol thread and HTTP/2, in each direction.
const PIECES: usize = 8;
/// How long the hello of a stream may take, and how long its acceptance.
const HELLO: Duration = Duration::from_secs(5);
/// How long closing waits for room for the last piece.
const LINGER: Duration = Duration::from_secs(2);

/// Sealed pieces as they arrive.
pub(crate) type Carried = mpsc::Receiver<Vec<u8>>;

/// The sending end. Only for threads outside the runtime.
pub(crate) struct CarryWrite {
    sealing: Sealing,
    pieces: Option<mpsc::Sender<wire::CarryPiece>>,
    runtime: Handle,
}

/// The receiving end. Only for threads outside the runtime.
pub(crate) struct CarryRead {
    sealing: Sealing,
    pieces: Carried,
    runtime: Handle,
    /// `opened[taken..]` was not read yet.
    opened: Vec<u8>,
    taken: usize,
    ended: bool,
}

/// Opens the stream of one run and thread to the gateway of `department`. Ready once the peer has
/// accepted it.
///
/// # Errors
/// `PeerUnavailable` naming the department, or what it answered.
pub(crate) async fn dial(
    transport: &Transport,
    department: &str,
    run: RunId,
    thread: u8,
    key: &Key,
) -> Result<CarryWrite> {
    let mut client = PeerClient::new(transport.peer_channel(department)?);
    let (pieces, stream) = mpsc::channel(PIECES);
    let hello = wire::CarryPiece {
        hello: Some(wire::CarryHello {
            run_id: run.0.to_vec(),
            thread: u32::from(thread),
        }),
        sealed: Vec::new(),
    };
    let unavailable = |what: &str| {
        Error::new(
            Code::PeerUnavailable,
            format!("gateway {department} {what}"),
        )
        .at(department)
    };
    pieces
        .send(hello)
        .await
        .map_err(|_| unavailable("could not be sent to"))?;
    let accepted = async {
        let refused = |refusal: Status| crate::errors::from_status(&refusal, department);
        let replies = client.carry(ReceiverStream::new(stream)).await;
        let mut replies = replies.map_err(refused)?.into_inner();
        match replies.message().await.map_err(refused)? {
            Some(_) => Ok(replies),
            None => Err(unavailable("ended its data stream")),
        }
    };
    let mut replies = tokio::time::timeout(HELLO, accepted)
        .await
        .map_err(|_| unavailable("did not accept its data stream within 5 s"))??;
    // The call lives until the peer has taken everything; its end says nothing more.
    tokio::spawn(async move { while let Ok(Some(_)) = replies.message().await {} });
    Ok(CarryWrite {
        sealing: Sealing::new(key),
        pieces: Some(pieces),
        runtime: Handle::current(),
    })
}

/// Takes in a stream from the gateway of `from`: its hello, then pieces for the run that expects them.
///
/// # Errors
/// `PeerMisbehaved` for a stream that does not begin with a hello; `LimitExceeded` when too many wait.
pub(crate) async fn accept(
    registry: &DataRegistry<Carried>,
    from: Department,
    mut stream: Streaming<wire::CarryPiece>,
) -> Result<BoxStream<'static, std::result::Result<wire::CarryReply, Status>>> {
    let misbehaved = |what| Error::new(Code::PeerMisbehaved, what).at(from.clone());
    let first = tokio::time::timeout(HELLO, stream.message()).await;
    let Ok(Ok(Some(wire::CarryPiece {
        hello: Some(hello), ..
    }))) = first
    else {
        return Err(misbehaved("a data stream without a hello"));
    };
    let run = RunId::from_wire(&hello.run_id)?;
    let thread = u8::try_from(hello.thread).map_err(|_| misbehaved("no such thread"))?;
    let (pieces, carried) = mpsc::channel(PIECES);
    if !registry.arrive(run, from.clone(), thread, carried) {
        return Err(Error::new(
            Code::LimitExceeded,
            "too many data streams wait, or two for one thread of a run",
        )
        .at(from));
    }
    let (replies, answer) = mpsc::channel(1);
    tokio::spawn(async move {
        if replies.send(Ok(wire::CarryReply {})).await.is_err() {
            return;
        }
        loop {
            let piece = tokio::select! {
                piece = stream.message() => piece,
                // Nobody reads any more.
                () = pieces.closed() => return,
            };
            match piece {
                Ok(Some(piece)) => {
                    if pieces.send(piece.sealed).await.is_err() {
                        return;
                    }
                }
                // Whether this was the end, the last piece says.
                Ok(None) | Err(_) => return,
            }
        }
    });
    Ok(ReceiverStream::new(answer).boxed())
}

impl CarryRead {
    /// The receiving end of what arrived. Must be called within the runtime.
    pub(crate) fn new(pieces: Carried, key: &Key) -> Self {
        Self {
            sealing: Sealing::new(key),
            pieces,
            runtime: Handle::current(),
            opened: Vec::new(),
            taken: 0,
            ended: false,
        }
    }
}

impl ReadHalf for CarryRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.opened.len() {
            if self.ended {
                return Ok(0);
            }
            let next = async { tokio::time::timeout(POLL_SLICE, self.pieces.recv()).await };
            let sealed = match self.runtime.block_on(next) {
                Err(_) => return Err(io::ErrorKind::WouldBlock.into()),
                Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Some(sealed)) => sealed,
            };
            self.opened = self.sealing.open(sealed)?;
            self.taken = 0;
            self.ended = self.opened.is_empty();
        }
        let rest = &self.opened[self.taken..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        Ok(count)
    }
}

impl CarryWrite {
    /// Seals and sends one piece once there is room; `None` if there is none within `patience`.
    fn piece(&mut self, bytes: &[u8], patience: Duration) -> io::Result<Option<()>> {
        let Some(pieces) = &self.pieces else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let room = async { tokio::time::timeout(patience, pieces.reserve()).await };
        let place = match self.runtime.block_on(room) {
            Err(_) => return Ok(None),
            Ok(Err(_)) => return Err(io::ErrorKind::BrokenPipe.into()),
            Ok(Ok(place)) => place,
        };
        // Only what is sent is sealed: a nonce is never used for two texts.
        place.send(wire::CarryPiece {
            hello: None,
            sealed: self.sealing.seal(bytes)?,
        });
        Ok(Some(()))
    }
}

impl WriteHalf for CarryWrite {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(PIECE)];
        if bytes.is_empty() {
            return Ok(0);
        }
        match self.piece(bytes, POLL_SLICE)? {
            Some(()) => Ok(bytes.len()),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // A piece is HTTP/2's as soon as it is written.
        Ok(())
    }

    fn peer_closed(&mut self) -> bool {
        self.pieces.as_ref().is_none_or(mpsc::Sender::is_closed)
    }

    fn close(&mut self) {
        // A peer that is gone needs no end.
        let _ = self.piece(&[], LINGER);
        self.pieces = None;
    }
}
