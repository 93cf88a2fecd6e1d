//! Who is at the other end: mutually authenticated TLS 1.3 with pinned keys, one listener for all.
//!
//! No authority and no host names among gateways: a peer is its Ed25519 key, as `federation.toml` and
//! the list of analysts name it. The certificate is only the envelope of that key; the handshake's
//! signature proves who holds it. By ALPN, `h2` goes to tonic and `veilgate-mpc/1` becomes a blocking
//! data connection of one run, peer, direction and thread.
//!
//! Where a gateway has a certificate for clients, tools that know authorities and host names may
//! connect too, without a certificate of their own: guests, who have to say who they are on every call.
//!
//! | module | holds |
//! |---|---|
//! | [`verify`](self) | the verifiers that compare keys |
//! | `clients` | the certificate that other clients are shown |
//! | `listener` | accepting, within bounds |
//! | `registry` | data connections waiting for their run |
//! | `dial` | channels and data connections to others |
//!
//! Knows nothing of plans, runs beyond their id, or what is said over a connection.

mod clients;
mod dial;
mod listener;
mod registry;
mod verify;

#[cfg(test)]
mod tests;

pub use clients::ClientCertificate;
pub use dial::{DataSender, analyst_channel};
pub use listener::{Connection, Incoming, PeerIo};
pub use registry::{DataReceiver, DataRegistry};

use crate::config::{Analyst, Federation};
use crate::identity::{Identity, PublicKey};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ServerConfig};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use veilgate_federated::error::{Code, Error, Result};
use veilgate_federated::schema::Department;

/// ALPN of gRPC.
pub const ALPN_H2: &[u8] = b"h2";
/// ALPN of data connections.
pub const ALPN_DATA: &[u8] = b"veilgate-mpc/1";

/// The longest that a handshake may take, on either side.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// The longest that connecting may take.
const CONNECT: Duration = Duration::from_secs(3);

/// Who is at the other end of a connection, from the key in its certificate.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Caller {
    /// The gateway of a department of the federation.
    Gateway(Department),
    /// An analyst of this gateway.
    Analyst(String),
    /// Somebody without a certificate, who has to show a password or a token.
    Guest,
}

/// Everything needed to accept and to open connections as this gateway.
pub struct Transport {
    identity: Arc<Identity>,
    federation: Arc<Federation>,
    server: Arc<ServerConfig>,
    clients: Arc<HashMap<PublicKey, Caller>>,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transport({:?})", self.identity)
    }
}

impl Transport {
    /// Sets up TLS as `identity`, with the gateways of the federation and these analysts as the only
    /// ones who may connect; with a certificate for clients, guests too.
    ///
    /// # Errors
    /// `BadConfig` when one key names two callers; `Internal` when TLS cannot be set up.
    pub fn new(
        identity: Arc<Identity>,
        federation: Arc<Federation>,
        analysts: &[Analyst],
        guests: Option<&ClientCertificate>,
    ) -> Result<Self> {
        let mut clients = HashMap::new();
        let gateways = federation.gateways().iter().map(|gateway| {
            (
                gateway.public_key,
                Caller::Gateway(gateway.department.clone()),
            )
        });
        let analysts = analysts
            .iter()
            .map(|analyst| (analyst.public_key, Caller::Analyst(analyst.name.clone())));
        for (key, caller) in gateways.chain(analysts) {
            if let Some(other) = clients.insert(key, caller.clone()) {
                return Err(Error::new(
                    Code::BadConfig,
                    format!("{caller:?} and {other:?} have the same public key"),
                ));
            }
        }
        let clients = Arc::new(clients);
        let server = verify::server_config(&identity, Arc::clone(&clients), guests)?;
        Ok(Self {
            identity,
            federation,
            server: Arc::new(server),
            clients,
        })
    }

    /// The caller with this key.
    fn caller(&self, key: &PublicKey) -> Option<&Caller> {
        self.clients.get(key)
    }
}

/// ring, explicitly: no provider is installed for the process.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A client that accepts one key alone.
fn client_config(identity: &Identity, server: PublicKey, alpn: &[u8]) -> Result<ClientConfig> {
    verify::client_config(identity, server, alpn)
}

/// What an error of TLS with the gateway of `department` means.
pub(crate) fn tls_error(error: &rustls::Error, department: &str) -> Error {
    use rustls::AlertDescription as Alert;
    let (code, message) = match error {
        rustls::Error::InvalidCertificate(_) => (
            Code::WrongIdentity,
            format!(
                "whoever answers at the address of gateway {department} has another key than federation.toml pins"
            ),
        ),
        rustls::Error::AlertReceived(
            Alert::AccessDenied
            | Alert::BadCertificate
            | Alert::CertificateUnknown
            | Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::DecryptError,
        ) => (
            Code::WrongIdentity,
            format!("gateway {department} does not know the key presented to it"),
        ),
        rustls::Error::AlertReceived(Alert::ProtocolVersion | Alert::NoApplicationProtocol)
        | rustls::Error::PeerIncompatible(_)
        | rustls::Error::NoApplicationProtocol => (
            Code::WrongVersion,
            format!("gateway {department} speaks another version of TLS or of the protocol"),
        ),
        rustls::Error::AlertReceived(_) => (
            Code::PeerUnavailable,
            format!("gateway {department} ended the handshake"),
        ),
        _ => (
            Code::PeerMisbehaved,
            format!(
                "what answers at the address of gateway {department} does not speak TLS 1.3 properly"
            ),
        ),
    };
    Error::new(code, message).at(department)
}

/// As [`tls_error`], for an `io::Error` that may hold one.
pub(crate) fn io_error(error: &std::io::Error, department: &str, address: &str) -> Error {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(inner) => tls_error(inner, department),
        None => unreachable(department, address, &error.kind().to_string()),
    }
}

fn unreachable(department: &str, address: &str, why: &str) -> Error {
    Error::new(
        Code::PeerUnavailable,
        format!("gateway {department} cannot be reached at {address}: {why}"),
    )
    .at(department)
}
