//! The certificate that clients without a pinned key are shown: one of an authority that they know,
//! for the name that they dial.
//!
//! Gateways and the command line offer Ed25519 alone in their handshakes and are answered with the
//! identity that they pin; whoever offers anything else is answered with this one.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureScheme, crypto};
use std::path::Path;
use std::sync::Arc;
use veilgate_federated::error::{Code, Error, Result};

/// A certificate chain with its key.
#[derive(Clone)]
pub struct ClientCertificate(Arc<CertifiedKey>);

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientCertificate")
    }
}

impl ClientCertificate {
    /// Reads a chain and its private key, both in PEM.
    ///
    /// # Errors
    /// `BadConfig` naming the file: missing, not PEM, or a key that is not the certificate's.
    pub fn load(chain: &Path, key: &Path) -> Result<Self> {
        let wrong = |path: &Path, what: &str| {
            let file = path.display();
            Error::new(Code::BadConfig, format!("[clients] {file}: {what}"))
        };
        let certificates = CertificateDer::pem_file_iter(chain)
            .and_then(|all| all.collect::<std::result::Result<Vec<_>, _>>())
            .map_err(|_| wrong(chain, "cannot be read as certificates in PEM"))?;
        if certificates.is_empty() {
            return Err(wrong(chain, "holds no certificate"));
        }
        let private = PrivateKeyDer::from_pem_file(key)
            .map_err(|_| wrong(key, "cannot be read as a private key in PEM"))?;
        let certified =
            CertifiedKey::from_der(certificates, private, &super::provider()).map_err(|_| {
                wrong(
                    key,
                    "is not the key of the certificate, or of a kind unknown",
                )
            })?;
        Ok(Self(Arc::new(certified)))
    }
}

/// Chooses between the pinned identity and the certificate for clients.
#[derive(Debug)]
pub(super) struct Resolver {
    identity: Arc<CertifiedKey>,
    clients: Option<Arc<CertifiedKey>>,
}

impl Resolver {
    pub(super) fn new(
        certificate: CertificateDer<'static>,
        key: &PrivateKeyDer<'static>,
        clients: Option<&ClientCertificate>,
    ) -> Result<Self> {
        let key = crypto::ring::sign::any_eddsa_type(match key {
            PrivateKeyDer::Pkcs8(key) => key,
            _ => return Err(Error::new(Code::Internal, "an identity is a key in PKCS#8")),
        })
        .map_err(|_| Error::new(Code::Internal, "TLS cannot be set up"))?;
        Ok(Self {
            identity: Arc::new(CertifiedKey::new(vec![certificate], key)),
            clients: clients.map(|clients| Arc::clone(&clients.0)),
        })
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pins = hello.signature_schemes() == [SignatureScheme::ED25519];
        match &self.clients {
            Some(clients) if !pins => Some(Arc::clone(clients)),
            _ => Some(Arc::clone(&self.identity)),
        }
    }
}
