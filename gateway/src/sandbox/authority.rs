//! The sandbox's own certificate authority: analysts' tools verify its gateways as they would any
//! server's, by authority and host name.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use veilgate_federated::error::{Code, Error, Result};
use zeroize::Zeroizing;

/// What clients of a sandbox dial.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// An authority that certifies gateways of this machine.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Opens the authority in `ca.pem` and `ca.key` of a folder, or makes one.
    ///
    /// # Errors
    /// `BadRequest` for files that cannot be read or written, or hold something else.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let (certificate, key) = (dir.join("ca.pem"), dir.join("ca.key"));
        let mut parameters = named("veilgate sandbox authority", &[])?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        if certificate.exists() && key.exists() {
            let pair = KeyPair::from_pem(&read(&key)?).map_err(|_| foreign(&key))?;
            let issuer = Issuer::new(parameters, pair);
            return Ok(Self { issuer });
        }
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| unmade())?;
        let made = parameters.self_signed(&pair).map_err(|_| unmade())?;
        write(&key, &Zeroizing::new(pair.serialize_pem()), 0o600)?;
        write(&certificate, &made.pem(), 0o644)?;
        let issuer = Issuer::new(parameters, pair);
        Ok(Self { issuer })
    }

    /// Writes a fresh `clients.pem` and `clients.key` for a gateway of this machine to its folder.
    ///
    /// # Errors
    /// `BadRequest` when they cannot be written.
    pub(super) fn certify(&self, home: &Path) -> Result<()> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| unmade())?;
        let mut parameters = named("veilgate sandbox gateway", &NAMES)?;
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.use_authority_key_identifier_extension = true;
        let made = parameters
            .signed_by(&pair, &self.issuer)
            .map_err(|_| unmade())?;
        let key = Zeroizing::new(pair.serialize_pem());
        write(&home.join("clients.key"), &key, 0o600)?;
        write(&home.join("clients.pem"), &made.pem(), 0o644)
    }
}

fn named(name: &str, hosts: &[&str]) -> Result<CertificateParams> {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut parameters = CertificateParams::new(hosts).map_err(|_| unmade())?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    parameters.distinguished_name = subject;
    Ok(parameters)
}

fn unmade() -> Error {
    Error::new(Code::Internal, "a certificate cannot be made")
}

fn foreign(path: &Path) -> Error {
    Error::new(
        Code::BadRequest,
        format!(
            "{} is none of a sandbox's: remove it, and the next start makes another",
            path.display()
        ),
    )
}

fn read(path: &Path) -> Result<Zeroizing<String>> {
    let text = std::fs::read_to_string(path);
    text.map(Zeroizing::new).map_err(|error| {
        let what = format!("cannot read {}: {}", path.display(), error.kind());
        Error::new(Code::BadRequest, what)
    })
}

/// Writes to a file that has never other permissions than these.
fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let unwritable = |error: std::io::Error| {
        let what = format!("cannot write {}: {}", path.display(), error.kind());
        Error::new(Code::BadRequest, what)
    };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(unwritable(error));
        }
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(unwritable)?;
    file.write_all(text.as_bytes()).map_err(unwritable)
}
