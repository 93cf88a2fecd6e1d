//! The frame: payload length (u32, little-endian), step tag (8 bytes), payload.

use crate::error::{Error, Result};

/// Bytes before the payload.
pub(super) const HEAD: usize = 12;

/// The longest payload.
pub(super) const MAXIMUM: usize = 1 << 30;

/// What stands before the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) tag: [u8; 8],
}

impl Head {
    /// The head of a frame to send.
    pub(super) fn new(tag: [u8; 8], length: usize) -> Result<Self> {
        if length > MAXIMUM {
            return Err(Error::InvalidInput {
                operator: "link",
                what: format!("a message of {length} bytes, above the maximum of {MAXIMUM}"),
            });
        }
        Ok(Self { length, tag })
    }

    #[allow(clippy::cast_possible_truncation)] // `new` holds the length below 2^32
    pub(super) fn encode(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..4].copy_from_slice(&(self.length as u32).to_le_bytes());
        bytes[4..].copy_from_slice(&self.tag);
        bytes
    }

    /// Any twelve bytes; the length is not yet checked.
    pub(super) fn decode(bytes: [u8; HEAD]) -> Self {
        let [a, b, c, d, tag @ ..] = bytes;
        Self {
            length: u32::from_le_bytes([a, b, c, d]) as usize,
            tag,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_survive_the_wire() {
        for length in [0, 1, 4096, MAXIMUM] {
            let head = Head::new(*b"abcdefgh", length).unwrap();
            assert_eq!(Head::decode(head.encode()), head);
        }
        assert!(Head::new([0; 8], MAXIMUM + 1).is_err());
    }
}
