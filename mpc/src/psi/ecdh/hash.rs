//! Hashing to ristretto255 by RFC 9380: suite `ristretto255_XMD:SHA-512_R255MAP_RO_` (appendix B), that
//! is `expand_message_xmd` with SHA-512 to 64 bytes (section 5.3.1), then the one-way map of RFC 9496,
//! section 4.3.4.

use curve25519_dalek::ristretto::RistrettoPoint;
use sha2::{Digest, Sha512};

/// Bytes of a block of SHA-512.
const BLOCK: usize = 128;

/// Bytes of its output.
const OUTPUT: usize = 64;

/// A domain separation tag, with its length behind it.
#[derive(Clone)]
pub(super) struct Domain(Vec<u8>);

impl Domain {
    /// The tag of a protocol run: at most 255 bytes; a longer one is hashed, as the RFC has it.
    pub(super) fn new(tag: &[u8]) -> Self {
        let mut out = if tag.len() > 255 {
            let mut hasher = Sha512::new();
            hasher.update(b"H2C-OVERSIZE-DST-");
            hasher.update(tag);
            hasher.finalize().to_vec()
        } else {
            tag.to_vec()
        };
        // cannot fail: at most 255
        out.push(u8::try_from(out.len()).unwrap_or(u8::MAX));
        Self(out)
    }

    /// `expand_message_xmd` of `message`, `OUT` bytes (at most 255 blocks of 64).
    pub(super) fn expand<const OUT: usize>(&self, message: &[u8]) -> [u8; OUT] {
        // cannot fail: OUT is at most 255 * 64
        let length = u16::try_from(OUT).unwrap_or(u16::MAX);
        let mut hasher = Sha512::new();
        hasher.update([0; BLOCK]);
        hasher.update(message);
        hasher.update(length.to_be_bytes());
        hasher.update([0]);
        hasher.update(&self.0);
        let first: [u8; OUTPUT] = hasher.finalize().into();
        let mut block = [0; OUTPUT];
        let mut out = [0; OUT];
        for (number, part) in (1_u8..).zip(out.chunks_mut(OUTPUT)) {
            for (b, f) in block.iter_mut().zip(&first) {
                *b ^= f;
            }
            let mut hasher = Sha512::new();
            hasher.update(block);
            hasher.update([number]);
            hasher.update(&self.0);
            block = hasher.finalize().into();
            part.copy_from_slice(&block[..part.len()]);
        }
        out
    }

    /// The group element of `message`; its discrete logarithm is nobody's.
    pub(super) fn to_group(&self, message: &[u8]) -> RistrettoPoint {
        RistrettoPoint::from_uniform_bytes(&self.expand::<64>(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digit = |c: &u8| (*c as char).to_digit(16).unwrap();
        text.as_bytes()
            .chunks(2)
            .map(|pair| (digit(&pair[0]) * 16 + digit(&pair[1])) as u8)
            .collect()
    }

    #[test]
    fn expansion_matches_the_published_vectors() {
        // RFC 9380, appendix K.3.
        let domain = Domain::new(b"QUUX-V01-CS02-with-expander-SHA512-256");
        for (message, due) in [
            (
                "",
                "6b9a7312411d92f921c6f68ca0b6380730a1a4d982c507211a90964c394179ba",
            ),
            (
                "abc",
                "0da749f12fbe5483eb066a5f595055679b976e93abe9be6f0f6318bce7aca8dc",
            ),
            (
                "abcdef0123456789",
                "087e45a86e2939ee8b91100af1583c4938e0f5fc6c9db4b107b83346bc967f58",
            ),
        ] {
            assert_eq!(domain.expand::<32>(message.as_bytes()).to_vec(), hex(due));
        }
        let long = "41b037d1734a5f8df225dd8c7de38f851efdb45c372887be655212d07251b921\
                    b052b62eaed99b46f72f2ef4cc96bfaf254ebbbec091e1a3b9e4fb5e5b619d2e\
                    0c5414800a1d882b62bb5cd1778f098b8eb6cb399d5d9d18f5d5842cf5d13d7e\
                    b00a7cff859b605da678b318bd0e65ebff70bec88c753b159a805d2c89c55961";
        assert_eq!(domain.expand::<128>(b"").to_vec(), hex(long));
    }

    #[test]
    fn the_map_matches_the_published_vector() {
        // RFC 9496, appendix A.3, the first one.
        let mut uniform = [0; 64];
        uniform.copy_from_slice(&hex(
            "5d1be09e3d0c82fc538112490e35701979d99e06ca3e2b5b54bffe8b4dc772c1\
             4d98b696a1bbfb5ca32c436cc61c16563790306c79eaca7705668b47dffe5bb6",
        ));
        let due = "3066f82a1a747d45120d1740f14358531a8f04bbffe6a819f86dfe50f44a0a46";
        let point = RistrettoPoint::from_uniform_bytes(&uniform);
        assert_eq!(point.compress().as_bytes().to_vec(), hex(due));
    }

    #[test]
    fn tags_separate_domains_also_long_ones() {
        let long = [7_u8; 300];
        let elements = [&b"a"[..], b"b", &long, &long[..299]]
            .map(|tag| Domain::new(tag).to_group(b"key").compress());
        for (i, x) in elements.iter().enumerate() {
            assert!(elements[..i].iter().all(|y| y != x));
        }
    }
}
