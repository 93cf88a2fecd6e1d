//! Verifiers that know peers by key alone.
//!
//! Of a certificate only the SubjectPublicKeyInfo counts: it is compared with the pinned Ed25519
//! key, and the handshake's signature (TLS 1.3 CertificateVerify) is verified under it. TLS 1.2 is
//! neither offered nor accepted, resumption is off, so that every connection proves its key anew.

use super::clients::{ClientCertificate, Resolver};
use super::{ALPN_DATA, ALPN_H2, Caller, provider};
use crate::identity::{Identity, PublicKey};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig,
    SignatureScheme,
};
use std::collections::HashMap;
use std::sync::Arc;
use veilgate_federated::error::{Code, Error, Result};

type Verified<T> = std::result::Result<T, rustls::Error>;

/// The key in a certificate.
pub(super) fn key_of(certificate: &CertificateDer<'_>) -> Option<PublicKey> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    PublicKey::from_spki(&parsed.subject_public_key_info())
}

fn refused() -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
}

fn no_tls12() -> rustls::Error {
    rustls::Error::PeerIncompatible(rustls::PeerIncompatible::ServerDoesNotSupportTls12Or13)
}

fn schemes() -> Vec<SignatureScheme> {
    vec![SignatureScheme::ED25519]
}

fn signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Verified<HandshakeSignatureValid> {
    if signed.scheme != SignatureScheme::ED25519 {
        return Err(refused());
    }
    verify_tls13_signature(message, certificate, signed, algorithms)
}

/// Accepts one server.
#[derive(Debug)]
pub(super) struct PinnedServer {
    key: PublicKey,
    algorithms: WebPkiSupportedAlgorithms,
}

impl PinnedServer {
    pub(super) fn new(key: PublicKey) -> Self {
        Self {
            key,
            algorithms: provider().signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Verified<ServerCertVerified> {
        if key_of(certificate) == Some(self.key) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(refused())
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Verified<HandshakeSignatureValid> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Verified<HandshakeSignatureValid> {
        signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

/// Accepts the callers that it knows.
#[derive(Debug)]
struct KnownClients {
    callers: Arc<HashMap<PublicKey, Caller>>,
    algorithms: WebPkiSupportedAlgorithms,
    guests: bool,
}

impl ClientCertVerifier for KnownClients {
    fn client_auth_mandatory(&self) -> bool {
        !self.guests
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Verified<ClientCertVerified> {
        match key_of(certificate) {
            Some(key) if self.callers.contains_key(&key) => Ok(ClientCertVerified::assertion()),
            _ => Err(refused()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Verified<HandshakeSignatureValid> {
        Err(no_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Verified<HandshakeSignatureValid> {
        signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

fn setup(_: rustls::Error) -> Error {
    Error::new(Code::Internal, "TLS cannot be set up")
}

pub(super) fn server_config(
    identity: &Identity,
    callers: Arc<HashMap<PublicKey, Caller>>,
    guests: Option<&ClientCertificate>,
) -> Result<ServerConfig> {
    let provider = provider();
    let verifier = KnownClients {
        callers,
        algorithms: provider.signature_verification_algorithms,
        guests: guests.is_some(),
    };
    let resolver = Resolver::new(identity.certificate(), &identity.tls_key()?, guests)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(setup)?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_DATA.to_vec()];
    // Nobody resumes; and on a data connection the silent direction stays silent.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

pub(super) fn client_config(
    identity: &Identity,
    server: PublicKey,
    alpn: &[u8],
) -> Result<ClientConfig> {
    let verifier = PinnedServer::new(server);
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(setup)?
        .dangerous() // that is: our own verifier, above
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(vec![identity.certificate()], identity.tls_key()?)
        .map_err(setup)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}
