//! Connections to others: gRPC channels and blocking data connections.

use super::listener::{ACCEPTED, HELLO};
use super::{ALPN_DATA, ALPN_H2, CONNECT, HANDSHAKE, Transport, client_config, io_error};
use crate::identity::{Identity, PublicKey};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::run::RunId;

/// The dialled end of a data connection: blocking, authenticated, its hello answered. Only to write
/// to.
pub type DataSender = StreamOwned<ClientConnection, TcpStream>;

/// Flow-control windows: large enough for 20 ms round trips at full speed.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;
/// At most this many of a server's first bytes are read ahead.
const GREETING: usize = 64;
/// How often a connection is asked whether it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// A peer that does not answer for this long is gone.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

impl Transport {
    /// A channel to the gateway of `department`. It connects when first used, and again when the
    /// connection was lost; failures reach the caller as a status that
    /// [`errors::from_status`](crate::errors::from_status) reads.
    ///
    /// # Errors
    /// `BadConfig` for a department that the federation file does not name.
    pub fn peer_channel(&self, department: &str) -> Result<Channel> {
        let (address, key) = self.pinned(department)?;
        channel(address, department, &self.identity, key)
    }

    /// Opens the data connection of one run and thread to the gateway of `department`, blocking for
    /// some seconds at most. Ready once the peer has read the hello, so that a refusal shows here.
    ///
    /// # Errors
    /// `PeerUnavailable`, `WrongIdentity` or `WrongVersion` naming the department.
    pub fn dial_data(&self, department: &str, run: RunId, thread: u8) -> Result<DataSender> {
        let (address, key) = self.pinned(department)?;
        let config = client_config(&self.identity, key, ALPN_DATA)?;
        dial(address, config, run, thread).map_err(|error| io_error(&error, department, address))
    }

    fn pinned(&self, department: &str) -> Result<(&str, PublicKey)> {
        let gateway = self.federation.get(department).ok_or_else(|| {
            Error::new(
                Code::BadConfig,
                format!("federation.toml has no gateway {department}"),
            )
        })?;
        Ok((&gateway.address, gateway.public_key))
    }
}

/// A channel for an analyst to the gateway of `department` at `address` with this key.
///
/// # Errors
/// `BadConfig` for an address that is none.
pub fn analyst_channel(
    address: &str,
    department: &str,
    identity: &Identity,
    server: PublicKey,
) -> Result<Channel> {
    channel(address, department, identity, server)
}

fn channel(
    address: &str,
    department: &str,
    identity: &Identity,
    server: PublicKey,
) -> Result<Channel> {
    let config = Arc::new(client_config(identity, server, ALPN_H2)?);
    // The connector below decides where this leads; the URI only fills the requests' authority.
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| {
            Error::new(
                Code::BadConfig,
                format!("the address of gateway {department} is not host:port"),
            )
        })?
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let (address, department) = (address.to_owned(), department.to_owned());
    let connector = tower::service_fn(move |_| {
        let (address, department) = (address.clone(), department.clone());
        let config = Arc::clone(&config);
        async move {
            connect(&address, config)
                .await
                .map(TokioIo::new)
                .map_err(|error| io_error(&error, &department, &address))
        }
    });
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// In TLS 1.3 the client is done before the server has looked at its certificate. An HTTP/2 server
/// speaks first, so its first bytes are waited for: a refusal then shows here, with its reason.
async fn connect(address: &str, config: Arc<ClientConfig>) -> io::Result<Greeted> {
    let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
    let socket = tokio::time::timeout(CONNECT, tokio::net::TcpStream::connect(address))
        .await
        .map_err(timed_out)??;
    socket.set_nodelay(true)?;
    let name = name()?;
    let handshake = async {
        let mut stream = TlsConnector::from(config).connect(name, socket).await?;
        let mut greeting = vec![0; GREETING];
        let length = stream.read(&mut greeting).await?;
        if length == 0 {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        greeting.truncate(length);
        Ok(Greeted { greeting, stream })
    };
    tokio::time::timeout(HANDSHAKE, handshake)
        .await
        .map_err(timed_out)?
}

/// A connection whose first bytes have been read already, and are given again.
struct Greeted {
    greeting: Vec<u8>,
    stream: TlsStream<tokio::net::TcpStream>,
}

impl AsyncRead for Greeted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.greeting.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.greeting.len().min(buffer.remaining());
        buffer.put_slice(&self.greeting[..length]);
        self.greeting.drain(..length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Greeted {
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

/// TLS wants a name; the verifier does not look at it, and it is not sent.
fn name() -> io::Result<ServerName<'static>> {
    ServerName::try_from("veilgate").map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn dial(address: &str, config: ClientConfig, run: RunId, thread: u8) -> io::Result<DataSender> {
    let until = Instant::now() + HANDSHAKE;
    let mut socket = reach(address)?;
    socket.set_nodelay(true)?;
    socket.set_write_timeout(Some(HANDSHAKE))?;
    let mut session = ClientConnection::new(Arc::new(config), name()?).map_err(invalid)?;
    let mut hello = [0; HELLO];
    hello[..32].copy_from_slice(&run.0);
    hello[32] = thread;
    session.writer().write_all(&hello)?;
    // The handshake, the hello, and the one byte that answers it.
    let mut answer = [0];
    loop {
        while session.wants_write() {
            session.write_tls(&mut socket)?;
        }
        match session.reader().read(&mut answer) {
            Ok(1) if answer == [ACCEPTED] => break,
            Ok(0) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        session
            .read_tls(&mut socket)
            .map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
                _ => error,
            })?;
        if let Err(error) = session.process_new_packets() {
            // The alert tells the peer why.
            let _ = session.write_tls(&mut socket);
            return Err(invalid(error));
        }
    }
    Ok(StreamOwned::new(session, socket))
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// The first of the address's sockets that answers.
fn reach(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, CONNECT) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}
