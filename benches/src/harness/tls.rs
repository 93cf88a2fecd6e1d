//! Mutually authenticated TLS 1.3 between the parties of one benchmark: an authority made for it, a
//! certificate a party, checked by rustls' own verifiers; a party is known by its certificate.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, PKCS_ED25519};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;
use veilgate_mpc::net::tls::{TlsRead, TlsWrite};

/// What a party is given: everybody's certificates, and its own key.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Credentials {
    authority: Vec<u8>,
    certificates: Vec<Vec<u8>>,
    key: Vec<u8>,
    me: usize,
}

impl Credentials {
    /// Whose they are.
    pub(crate) fn me(&self) -> usize {
        self.me
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Fresh credentials for `parties` parties.
pub(crate) fn credentials(parties: usize) -> Result<Vec<Credentials>, String> {
    let key = || KeyPair::generate_for(&PKCS_ED25519).map_err(text);
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let authority = CertifiedIssuer::self_signed(params, key()?).map_err(text)?;
    let (mut certificates, mut keys) = (Vec::new(), Vec::new());
    for party in 0..parties {
        let key = key()?;
        let params = CertificateParams::new(vec![name(party)]).map_err(text)?;
        let certificate = params.signed_by(&key, &authority).map_err(text)?;
        certificates.push(certificate.der().to_vec());
        keys.push(key.serialize_der());
    }
    Ok((0..)
        .zip(keys)
        .map(|(me, key)| Credentials {
            authority: authority.der().to_vec(),
            certificates: certificates.clone(),
            key,
            me,
        })
        .collect())
}

fn name(party: usize) -> String {
    format!("p{party}")
}

/// One party's simplex connections to another.
pub(crate) struct Pair {
    pub(crate) peer: usize,
    pub(crate) write: TlsWrite,
    pub(crate) read: TlsRead,
}

/// Connects a party with all others: it writes on the connections that it makes and reads from those
/// that it accepts. `addresses` are those of all parties' listeners. `lanes` pairs a peer, in order.
pub(crate) fn connect(
    own: &Credentials,
    listener: &TcpListener,
    addresses: &[SocketAddr],
    lanes: usize,
) -> Result<Vec<Vec<Pair>>, String> {
    let (client, server) = (Arc::new(own.client()?), Arc::new(own.server()?));
    std::thread::scope(|scope| {
        let accepting = scope.spawn(|| -> Result<Vec<(usize, usize, TlsRead)>, String> {
            let due = (addresses.len() - 1) * lanes;
            (0..due).map(|_| own.accept(listener, &server)).collect()
        });
        let mut writes = Vec::new();
        for lane in 0..lanes {
            for (peer, &address) in addresses.iter().enumerate() {
                if peer != own.me {
                    writes.push((lane, peer, dial(&client, peer, lane, address)?));
                }
            }
        }
        let accepted = accepting.join().map_err(|_| "accepting failed")??;
        let mut reads: std::collections::BTreeMap<(usize, usize), TlsRead> = accepted
            .into_iter()
            .map(|(peer, lane, read)| ((lane, peer), read))
            .collect();
        let mut pairs: Vec<Vec<Pair>> = (0..lanes).map(|_| Vec::new()).collect();
        for (lane, peer, write) in writes {
            let read = reads
                .remove(&(lane, peer))
                .ok_or_else(|| format!("no connection from party {peer}"))?;
            pairs[lane].push(Pair { peer, write, read });
        }
        Ok(pairs)
    })
}

fn dial(
    config: &Arc<ClientConfig>,
    peer: usize,
    lane: usize,
    address: SocketAddr,
) -> Result<TlsWrite, String> {
    let name = ServerName::try_from(name(peer)).map_err(text)?;
    let mut socket = patient(TcpStream::connect(address).map_err(text)?)?;
    let mut connection = ClientConnection::new(Arc::clone(config), name).map_err(text)?;
    let lane = u8::try_from(lane).map_err(text)?;
    let mut stream = rustls::Stream::new(&mut connection, &mut socket);
    stream.write_all(&[lane]).map_err(text)?;
    stream.flush().map_err(text)?;
    TlsWrite::new(connection, socket).map_err(text)
}

fn patient(socket: TcpStream) -> Result<TcpStream, String> {
    let limit = Some(Duration::from_secs(20));
    socket.set_read_timeout(limit).map_err(text)?;
    socket.set_write_timeout(limit).map_err(text)?;
    Ok(socket)
}

impl Credentials {
    fn roots(&self) -> Result<Arc<RootCertStore>, String> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(self.authority.clone()))
            .map_err(text)?;
        Ok(Arc::new(roots))
    }

    fn chain(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let certificate = CertificateDer::from(self.certificates[self.me].clone());
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()));
        (vec![certificate], key)
    }

    fn client(&self) -> Result<ClientConfig, String> {
        let (chain, key) = self.chain();
        ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(text)?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(chain, key)
            .map_err(text)
    }

    fn server(&self) -> Result<ServerConfig, String> {
        let (chain, key) = self.chain();
        let provider = Arc::new(default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(self.roots()?, Arc::clone(&provider))
                .build()
                .map_err(text)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(text)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(text)?;
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// The next connection: whose it is, for which lane.
    fn accept(
        &self,
        listener: &TcpListener,
        config: &Arc<ServerConfig>,
    ) -> Result<(usize, usize, TlsRead), String> {
        let (socket, _) = listener.accept().map_err(text)?;
        let mut socket = patient(socket)?;
        let mut connection = ServerConnection::new(Arc::clone(config)).map_err(text)?;
        let mut lane = [0];
        rustls::Stream::new(&mut connection, &mut socket)
            .read_exact(&mut lane)
            .map_err(text)?;
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let peer = self
            .certificates
            .iter()
            .position(|known| certificate.is_some_and(|c| c.as_ref() == known.as_slice()))
            .ok_or("a connection of nobody")?;
        let read = TlsRead::new(connection, socket).map_err(text)?;
        Ok((peer, usize::from(lane[0]), read))
    }
}
