//! Who a gateway or an analyst is: one Ed25519 key, the certificate made from it, signatures.
//!
//! A peer knows an identity by its public key alone, pinned in `federation.toml`; the certificate is
//! an envelope that TLS wants, made in memory at start and never checked for names or dates. Knows
//! nothing of sockets, files other than the key, or what is signed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rand::TryRng;
use rand::rngs::SysRng;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::FromStr;
use veilgate_federated::error::{Code, Error, Result};
use zeroize::Zeroizing;

/// Before every text key: says which algorithm.
const KEY_PREFIX: &str = "ed25519:";

/// A SubjectPublicKeyInfo of Ed25519 (RFC 8410) up to its 32 key bytes.
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// The largest key file that is read.
const MAX_KEY_FILE: u64 = 16 * 1024;

/// Bytes from the operating system's generator.
///
/// # Errors
/// `Internal` when it fails.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(|_| {
        Error::new(
            Code::Internal,
            "the operating system gives no random numbers",
        )
    })?;
    Ok(bytes)
}

/// An Ed25519 public key; its text form is `ed25519:<base64>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key of these bytes.
    ///
    /// # Errors
    /// `BadConfig` for bytes that are no key, or a weak one (of small order).
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self> {
        match VerifyingKey::from_bytes(&bytes) {
            Ok(key) if !key.is_weak() => Ok(Self(bytes)),
            _ => Err(Error::new(Code::BadConfig, "not an Ed25519 public key")),
        }
    }

    /// The key in a SubjectPublicKeyInfo, if it is one of Ed25519.
    #[must_use]
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        let bytes = der.strip_prefix(SPKI_PREFIX.as_slice())?;
        Self::from_bytes(bytes.try_into().ok()?).ok()
    }

    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether `signature` is this key's over `message` under `domain`; see [`Identity::sign`].
    #[must_use]
    pub fn verify(&self, domain: &str, message: &[u8], signature: &[u8]) -> bool {
        self.verify_raw(&tagged(domain, message), signature)
    }

    /// Whether `signature` is this key's over exactly these bytes.
    #[must_use]
    pub(crate) fn verify_raw(&self, message: &[u8], signature: &[u8]) -> bool {
        let (Ok(key), Ok(signature)) = (
            VerifyingKey::from_bytes(&self.0),
            Signature::from_slice(signature),
        ) else {
            return false;
        };
        key.verify_strict(message, &signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{KEY_PREFIX}{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(
                Code::BadConfig,
                "not a public key: write ed25519: and 44 characters of base64, as `veilgate init` prints it",
            )
        };
        let encoded = text.strip_prefix(KEY_PREFIX).ok_or_else(wrong)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| wrong())?;
        Self::from_bytes(bytes.try_into().map_err(|_| wrong())?).map_err(|_| wrong())
    }
}

/// A private key with the name of the department or analyst that it speaks for.
pub struct Identity {
    name: String,
    /// Zeroized when dropped.
    key: SigningKey,
    public: PublicKey,
    certificate: CertificateDer<'static>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, {})", self.name, self.public)
    }
}

impl Identity {
    /// A fresh identity.
    ///
    /// # Errors
    /// `Internal` without random numbers; `BadConfig` for a name that is not allowed.
    pub fn generate(name: &str) -> Result<Self> {
        let seed = Zeroizing::new(random::<32>()?);
        Self::from_key(name, SigningKey::from_bytes(&seed))
    }

    /// Reads the identity in a PKCS#8 PEM file that only its owner can read.
    ///
    /// # Errors
    /// `BadConfig` naming the file: missing, readable by others, or not an Ed25519 key.
    pub fn load(name: &str, path: &Path) -> Result<Self> {
        let wrong = |what: String| {
            Error::new(
                Code::BadConfig,
                format!("identity file {}: {what}", path.display()),
            )
        };
        let (text, _) = crate::private_file::read(path, MAX_KEY_FILE).map_err(wrong)?;
        let key = SigningKey::from_pkcs8_pem(&text)
            .map_err(|_| wrong("not an Ed25519 private key in PKCS#8 PEM".into()))?;
        Self::from_key(name, key)
    }

    /// Writes the private key as PKCS#8 PEM with mode 0600, durably; never over an existing file.
    ///
    /// # Errors
    /// `BadConfig` when the file exists or cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let wrong = |error: std::io::Error| {
            Error::new(
                Code::BadConfig,
                format!("identity file {}: {}", path.display(), error.kind()),
            )
        };
        let pem = self
            .key
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|_| Error::new(Code::Internal, "a private key does not encode"))?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(wrong)?;
        file.write_all(pem.as_bytes()).map_err(wrong)?;
        file.sync_all().map_err(wrong)
    }

    fn from_key(name: &str, key: SigningKey) -> Result<Self> {
        check_name(name).map_err(|what| Error::new(Code::BadConfig, what))?;
        let public = PublicKey(key.verifying_key().to_bytes());
        let certificate = self_signed(name, &key)?.der().clone();
        Ok(Self {
            name: name.to_owned(),
            key,
            public,
            certificate,
        })
    }

    /// The department or analyst.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public
    }

    /// A signature (64 bytes) over `message` for one purpose. What is signed is
    /// `"veilgate signature" 0 domain 0 message`, which neither a TLS handshake, a certificate nor a
    /// signed note can be. `domain` holds no zero byte, for example `consent v1`.
    #[must_use]
    pub fn sign(&self, domain: &str, message: &[u8]) -> [u8; 64] {
        self.sign_raw(&tagged(domain, message))
    }

    /// A signature over exactly these bytes: for signed notes, which have their own form.
    pub(crate) fn sign_raw(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }

    /// The self-signed certificate.
    #[must_use]
    pub fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    /// The same in PEM, for tools that show it to a gateway themselves.
    ///
    /// # Errors
    /// `Internal` when it cannot be made.
    pub fn certificate_pem(&self) -> Result<String> {
        Ok(self_signed(&self.name, &self.key)?.pem())
    }

    /// The private key for TLS.
    ///
    /// # Errors
    /// `Internal` when it does not encode.
    pub fn tls_key(&self) -> Result<PrivateKeyDer<'static>> {
        Ok(PrivateKeyDer::Pkcs8(pkcs8(&self.key)?))
    }
}

fn tagged(domain: &str, message: &[u8]) -> Vec<u8> {
    const PREFIX: &[u8] = b"veilgate signature\0";
    let mut bytes = Vec::with_capacity(PREFIX.len() + domain.len() + 1 + message.len());
    bytes.extend_from_slice(PREFIX);
    bytes.extend_from_slice(domain.as_bytes());
    bytes.push(0);
    bytes.extend_from_slice(message);
    bytes
}

fn pkcs8(key: &SigningKey) -> Result<PrivatePkcs8KeyDer<'static>> {
    let document = key
        .to_pkcs8_der()
        .map_err(|_| Error::new(Code::Internal, "a private key does not encode"))?;
    Ok(PrivatePkcs8KeyDer::from(document.as_bytes().to_vec()))
}

/// Names and dates in the certificate are for people who look at a capture; nobody checks them.
fn self_signed(name: &str, key: &SigningKey) -> Result<rcgen::Certificate> {
    let internal = |_: rcgen::Error| Error::new(Code::Internal, "a certificate cannot be made");
    let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8(key)?, &rcgen::PKCS_ED25519)
        .map_err(internal)?;
    let mut parameters = rcgen::CertificateParams::new(Vec::<String>::new()).map_err(internal)?;
    let mut subject = rcgen::DistinguishedName::new();
    subject.push(rcgen::DnType::CommonName, format!("veilgate {name}"));
    parameters.distinguished_name = subject;
    parameters.self_signed(&pair).map_err(internal)
}

/// Checks the name of a department or analyst: it starts with a lower-case letter and goes on with
/// lower-case letters, digits and `_`, at most 63 in all; analysts may also use `-` and `.`.
///
/// # Errors
/// What is allowed.
pub fn check_name(name: &str) -> std::result::Result<(), String> {
    let mut bytes = name.bytes();
    let fine = name.len() <= 63
        && bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.')
        });
    if fine {
        Ok(())
    } else {
        Err(
            "a name has 1 to 63 lower-case letters, digits and `_`, and starts with a letter"
                .into(),
        )
    }
}

/// Checks the name of a department, which is also a name in SQL: as [`check_name`], without `-` and
/// `.`, and not the reserved `veilgate`.
///
/// # Errors
/// What is allowed.
pub fn check_department(name: &str) -> std::result::Result<(), String> {
    check_name(name)?;
    if name.contains(['-', '.']) {
        return Err("the name of a department has no `-` and no `.`: it is a name in SQL".into());
    }
    if name == "veilgate" {
        return Err("`veilgate` is the name of the gateway's own views; choose another".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn saves_and_loads_the_same_key_for_the_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.pem");
        let identity = Identity::generate("tax").unwrap();
        identity.save(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = Identity::load("tax", &path).unwrap();
        assert_eq!(again.public_key(), identity.public_key());
        assert!(identity.save(&path).is_err(), "never over an existing file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = Identity::load("tax", &path).unwrap_err();
        assert!(error.message.contains("chmod 600"), "{error}");
    }

    #[test]
    fn signatures_are_bound_to_their_domain() {
        let identity = Identity::generate("tax").unwrap();
        let signature = identity.sign("consent v1", b"body");
        let key = identity.public_key();
        assert!(key.verify("consent v1", b"body", &signature));
        assert!(!key.verify("token v1", b"body", &signature));
        assert!(!key.verify("consent v1", b"bode", &signature));
        assert!(!key.verify("consent v1", b"body", &signature[..63]));
        let other = Identity::generate("tax").unwrap();
        assert!(!other.public_key().verify("consent v1", b"body", &signature));
    }

    #[test]
    fn public_keys_read_what_they_print_and_refuse_the_rest() {
        let key = Identity::generate("tax").unwrap().public_key();
        assert_eq!(key.to_string().parse::<PublicKey>().unwrap(), key);
        // The neutral element and another point of small order (RFC 8032 curve).
        let neutral = [&[1][..], &[0; 31]].concat();
        for text in [
            String::new(),
            "ed25519:".into(),
            "ed25519:AAAA".into(),
            key.to_string().to_uppercase(),
            format!("{KEY_PREFIX}{}", STANDARD.encode(neutral)),
        ] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
    }

    #[test]
    fn rfc8032_vector() {
        // RFC 8032, 7.1, TEST 2.
        let secret =
            hex::decode("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
                .unwrap();
        let key = SigningKey::from_bytes(&secret.try_into().unwrap());
        let identity = Identity::from_key("test", key).unwrap();
        assert_eq!(
            hex::encode(identity.public_key().as_bytes()),
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        );
        assert_eq!(
            hex::encode(identity.sign_raw(&[0x72])),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
    }

    #[test]
    fn the_certificate_carries_the_key_and_debug_does_not_show_the_secret() {
        let identity = Identity::generate("tax").unwrap();
        let der = identity.certificate();
        let parsed = rustls::server::ParsedCertificate::try_from(&der).unwrap();
        let spki = parsed.subject_public_key_info();
        assert_eq!(PublicKey::from_spki(&spki), Some(identity.public_key()));
        let shown = format!("{identity:?}");
        assert!(!shown.contains(&hex::encode(identity.key.to_bytes())));
        assert!(!shown.contains(&STANDARD.encode(identity.key.to_bytes())));
    }

    #[test]
    fn names() {
        for good in ["tax", "a", "civil_affairs2"] {
            check_department(good).unwrap();
        }
        for bad in [
            "",
            "Tax",
            "2tax",
            "tax office",
            "tax-office",
            "veilgate",
            "税",
        ] {
            assert!(check_department(bad).is_err(), "{bad}");
        }
        check_name("zhang.wei-2").unwrap();
    }
}
