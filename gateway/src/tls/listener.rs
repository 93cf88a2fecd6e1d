//! The one listener: accepts within bounds, finishes handshakes, splits by ALPN.
//!
//! A hostile or slow client costs at most one of [`HANDSHAKES`] places for the handshake's five
//! seconds, and one address at most [`EACH_ADDRESS`] of them. Whoever is not known never gets past
//! the handshake.

use super::registry::DataRegistry;
use super::{ALPN_DATA, ALPN_H2, Caller, HANDSHAKE, Transport, verify};
use rustls::StreamOwned;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use veilgate_federated::run::RunId;

/// Handshakes at the same time.
const HANDSHAKES: usize = 256;
/// Handshakes at the same time from one address; loopback federations share one.
const EACH_ADDRESS: usize = 64;
/// gRPC connections of gateways and pinned analysts at the same time.
const CONNECTIONS: usize = 512;
/// gRPC connections of guests at the same time.
const GUESTS: usize = 256;
/// How often parked data connections are looked through.
const SWEEP: Duration = Duration::from_secs(5);
/// Bytes of a data connection's hello: run id and thread.
pub(super) const HELLO: usize = 33;
/// The one byte that answers a hello.
pub(super) const ACCEPTED: u8 = 1;

/// What is known of the connection that a call came over.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Who is at the other end.
    pub caller: Caller,
    /// Another number for each connection of this process.
    pub number: u64,
    /// Cancelled when the connection has ended.
    pub ended: CancellationToken,
}

/// A gRPC connection; tonic hands out its [`Connection`] as connect info, in every request's
/// extensions.
#[derive(Debug)]
pub struct PeerIo {
    stream: TlsStream<TcpStream>,
    connection: Connection,
    _place: OwnedSemaphorePermit,
}

impl Drop for PeerIo {
    fn drop(&mut self) {
        self.connection.ended.cancel();
    }
}

impl Connected for PeerIo {
    type ConnectInfo = Connection;

    fn connect_info(&self) -> Connection {
        self.connection.clone()
    }
}

impl AsyncRead for PeerIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for PeerIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The gRPC connections, for `serve_with_incoming`. Dropping it ends the listener.
#[derive(Debug)]
pub struct Incoming(mpsc::Receiver<io::Result<PeerIo>>);

impl futures::Stream for Incoming {
    type Item = io::Result<PeerIo>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

impl Transport {
    /// Accepts on `listener` from now on: gRPC connections come out of the stream, data connections
    /// go to `registry`. Must be called within a tokio runtime.
    pub fn listen(
        self: &Arc<Self>,
        listener: TcpListener,
        registry: Arc<DataRegistry>,
    ) -> Incoming {
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(accept(
            Accepting {
                transport: Arc::clone(self),
                acceptor: TlsAcceptor::from(Arc::clone(&self.server)),
                registry,
                sender,
                connections: Arc::new(Semaphore::new(CONNECTIONS)),
                guests: Arc::new(Semaphore::new(GUESTS)),
                numbers: Arc::default(),
            },
            listener,
        ));
        Incoming(receiver)
    }
}

/// What every handshake needs.
#[derive(Clone)]
struct Accepting {
    transport: Arc<Transport>,
    acceptor: TlsAcceptor,
    registry: Arc<DataRegistry>,
    sender: mpsc::Sender<io::Result<PeerIo>>,
    connections: Arc<Semaphore>,
    guests: Arc<Semaphore>,
    numbers: Arc<AtomicU64>,
}

async fn accept(accepting: Accepting, listener: TcpListener) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let addresses = Arc::new(Addresses::default());
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = sweep.tick() => {
                accepting.registry.purge(Instant::now());
                continue;
            }
            () = accepting.sender.closed() => return,
        };
        let Ok((socket, address)) = accepted else {
            // Out of file descriptors, most likely: give others time to close theirs.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Some(from) = addresses.enter(address.ip()) else {
            continue;
        };
        // Every place is free again after five seconds at most.
        let Ok(place) = Arc::clone(&handshakes).acquire_owned().await else {
            return;
        };
        let accepting = accepting.clone();
        tokio::spawn(async move {
            let done = tokio::time::timeout(HANDSHAKE, accepting.handshake(socket)).await;
            drop((place, from));
            match done {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(kind = %error.kind(), %address, "connection refused");
                }
                Err(_) => tracing::debug!(%address, "handshake took too long"),
            }
        });
    }
}

impl Accepting {
    async fn handshake(&self, socket: TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let stream = self.acceptor.accept(socket).await?;
        let session = stream.get_ref().1;
        let caller = match session.peer_certificates().and_then(|chain| chain.first()) {
            Some(certificate) => verify::key_of(certificate)
                .and_then(|key| self.transport.caller(&key))
                .cloned()
                .ok_or(io::ErrorKind::PermissionDenied)?,
            // Let in by the verifier only where there is a certificate for clients.
            None => Caller::Guest,
        };
        match (session.alpn_protocol(), caller) {
            (Some(ALPN_H2), caller) => self.grpc(stream, caller),
            (Some(ALPN_DATA), Caller::Gateway(department)) => self.data(stream, department).await,
            _ => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    fn grpc(&self, stream: TlsStream<TcpStream>, caller: Caller) -> io::Result<()> {
        let places = match caller {
            Caller::Guest => &self.guests,
            Caller::Gateway(_) | Caller::Analyst(_) => &self.connections,
        };
        let place = Arc::clone(places)
            .try_acquire_owned()
            .map_err(|_| io::ErrorKind::ResourceBusy)?;
        let connection = PeerIo {
            stream,
            connection: Connection {
                caller,
                number: self.numbers.fetch_add(1, Ordering::Relaxed),
                ended: CancellationToken::new(),
            },
            _place: place,
        };
        self.sender
            .try_send(Ok(connection))
            .map_err(|_| io::ErrorKind::ResourceBusy.into())
    }

    /// Reads the hello, answers it, and makes the connection a blocking one.
    async fn data(&self, mut stream: TlsStream<TcpStream>, department: String) -> io::Result<()> {
        let mut hello = [0; HELLO];
        stream.read_exact(&mut hello).await?;
        stream.write_all(&[ACCEPTED]).await?;
        stream.flush().await?;
        let (socket, session) = stream.into_inner();
        let socket = socket.into_std()?;
        socket.set_nonblocking(false)?;
        let [run @ .., thread] = hello;
        let stream = StreamOwned::new(session, socket);
        if self.registry.arrive(RunId(run), department, thread, stream) {
            Ok(())
        } else {
            Err(io::ErrorKind::ResourceBusy.into())
        }
    }
}

/// Handshakes under way, by address.
#[derive(Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

/// One handshake of an address; leaves when dropped.
struct Entered {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Entered> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= EACH_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Entered {
            addresses: Arc::clone(self),
            address,
        })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut counts = self
            .addresses
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}
