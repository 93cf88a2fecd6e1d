//! Blocking TLS streams for a [`StreamLink`](super::stream::StreamLink) (feature `tls`).
//!
//! Takes connections whose handshake is done and whose peer is authenticated; how, it does not know.
//! One connection carries application data in one direction. The other direction carries only what
//! TLS itself sends; a server should send no session tickets (`send_tls13_tickets = 0`): nobody
//! resumes these connections.
//!
//! rustls' `StreamOwned` reads 4 KiB a system call; here a socket is read 64 KiB at a time.

use super::stream::{ReadHalf, WriteHalf};
use super::tcp::{prepare, read_now};
use rustls::Connection;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};

/// Bytes read from a socket at once.
const AHEAD: usize = 64 << 10;

/// Plaintext encrypted at once.
const BURST: usize = 128 << 10;

/// The sending end of a TLS connection used in one direction.
pub struct TlsWrite {
    connection: Connection,
    socket: TcpStream,
}

/// The receiving end of a TLS connection used in one direction.
pub struct TlsRead {
    connection: Connection,
    socket: TcpStream,
    /// `raw[start..end]` was read and not yet given to TLS.
    raw: Box<[u8]>,
    start: usize,
    end: usize,
}

impl TlsWrite {
    /// Takes an established connection (a `ClientConnection` or a `ServerConnection`) and its socket,
    /// which becomes blocking with a time limit. The side that writes is usually the one that
    /// connected.
    ///
    /// # Errors
    /// Those of the socket; `InvalidInput` when the handshake is not done.
    pub fn new(connection: impl Into<Connection>, socket: TcpStream) -> io::Result<Self> {
        let mut connection = established(connection.into())?;
        prepare(&socket)?;
        connection.set_buffer_limit(Some(2 * BURST));
        Ok(Self { connection, socket })
    }

    /// Hands TLS what has arrived in the silent direction; says whether the stream still lives.
    fn digest_incoming(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match read_now(&mut self.socket, &mut buffer) {
                Ok(None) => return true,
                Ok(Some(0)) | Err(_) => return false,
                Ok(Some(read)) => {
                    let mut bytes = &buffer[..read];
                    while !bytes.is_empty() {
                        let taken = self.connection.read_tls(&mut bytes);
                        let state = self.connection.process_new_packets();
                        match (taken, state) {
                            (Ok(_), Ok(state)) if !state.peer_has_closed() => {}
                            _ => return false,
                        }
                    }
                }
            }
        }
    }
}

impl TlsRead {
    /// Takes an established connection and its socket, which becomes blocking with a time limit.
    ///
    /// # Errors
    /// Those of the socket; `InvalidInput` when the handshake is not done.
    pub fn new(connection: impl Into<Connection>, socket: TcpStream) -> io::Result<Self> {
        let connection = established(connection.into())?;
        prepare(&socket)?;
        Ok(Self {
            connection,
            socket,
            raw: vec![0; AHEAD].into_boxed_slice(),
            start: 0,
            end: 0,
        })
    }
}

fn established(connection: Connection) -> io::Result<Connection> {
    if connection.is_handshaking() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    Ok(connection)
}

impl WriteHalf for TlsWrite {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let burst = &bytes[..bytes.len().min(BURST)];
        let taken = self.connection.writer().write(burst)?;
        // What the socket does not take now waits inside TLS for the next call.
        match self.flush() {
            Err(error) if !would_block(&error) => Err(error),
            _ => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    fn peer_closed(&mut self) -> bool {
        !self.digest_incoming()
    }

    fn close(&mut self) {
        // Unread bytes at close would make the kernel drop what is still on its way.
        self.digest_incoming();
        self.connection.send_close_notify();
        // The peer may be gone already; the socket is closed either way.
        let _ = self.flush();
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}

impl ReadHalf for TlsRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            if self.start == self.end {
                self.start = 0;
                self.end = 0;
                self.end = self.socket.read(&mut self.raw)?;
            }
            // An empty slice tells TLS of the end of the stream, which `reader` then reports.
            let taken = self
                .connection
                .read_tls(&mut &self.raw[self.start..self.end])?;
            self.start += taken;
            self.connection
                .process_new_packets()
                .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            if self.connection.wants_write() {
                // A key update; it may also go out later.
                let _ = self.connection.write_tls(&mut self.socket);
            }
        }
    }
}

fn would_block(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::WouldBlock | Kind::TimedOut)
}

/// A pair of TLS ends over loopback with a throwaway key, for tests and benches of the link alone:
/// the client trusts whatever answers.
#[cfg(test)]
pub(crate) mod loopback {
    use super::*;
    use crate::net::stream::{PeerStreams, StreamLink};
    use crate::net::{LinkProfile, Participant};
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::ring::{default_provider, sign::any_supported_type};
    use rustls::pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime,
    };
    use rustls::server::{ClientHello, ResolvesServerCert};
    use rustls::sign::CertifiedKey;
    use rustls::{
        ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection,
        SignatureScheme,
    };
    use std::sync::Arc;
    use std::time::Duration;

    #[derive(Debug)]
    struct Anybody;

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }
    }

    #[derive(Debug)]
    struct OneKey(Arc<CertifiedKey>);

    impl ResolvesServerCert for OneKey {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }

    impl TlsWrite {
        /// The socket, to break the stream off with.
        pub(crate) fn socket(&self) -> TcpStream {
            self.socket.try_clone().unwrap()
        }
    }

    /// Links of `participants` participants over TLS on loopback.
    pub(crate) fn network(participants: u8) -> Vec<StreamLink> {
        let mut peers: Vec<Vec<PeerStreams>> = (0..participants).map(|_| Vec::new()).collect();
        for low in 0..participants {
            for high in low + 1..participants {
                let (up, down) = (pair(), pair());
                let low_end: PeerStreams = (Participant(high), Box::new(up.0), Box::new(down.1));
                let high_end: PeerStreams = (Participant(low), Box::new(down.0), Box::new(up.1));
                peers[usize::from(low)].push(low_end);
                peers[usize::from(high)].push(high_end);
            }
        }
        (0..participants)
            .zip(peers)
            .map(|(me, peers)| {
                let deadline = Duration::from_secs(60);
                let profile = LinkProfile::LOOPBACK;
                StreamLink::new(Participant(me), peers, profile, deadline, Arc::default()).unwrap()
            })
            .collect()
    }

    /// A connected pair: the first writes, the second reads.
    pub(crate) fn pair() -> (TlsWrite, TlsRead) {
        let (mut near, mut far) = super::super::tcp::loopback_pair().unwrap();
        let mut pkcs8 = vec![
            0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20,
        ];
        pkcs8.extend([7; 32]);
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
        let certificate = CertificateDer::from(vec![0x30, 0]);
        let certified = CertifiedKey::new(vec![certificate], any_supported_type(&key).unwrap());
        let provider = Arc::new(default_provider());
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(OneKey(Arc::new(certified))));
        server.send_tls13_tickets = 0;
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
        let name = ServerName::try_from("peer").unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while server.is_handshaking() {
                    server.complete_io(&mut far).unwrap();
                }
            });
            while client.is_handshaking() {
                client.complete_io(&mut near).unwrap();
            }
        });
        (
            TlsWrite::new(client, near).unwrap(),
            TlsRead::new(server, far).unwrap(),
        )
    }
}
