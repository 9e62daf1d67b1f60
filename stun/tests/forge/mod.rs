//! Forges binding requests, right and wrong ones, independently of the crate's own encoder.

use stun::fingerprint;

pub(crate) const ID: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];
pub(crate) const SOFTWARE: u16 = 0x8022;
pub(crate) const FINGERPRINT: u16 = 0x8028;

/// A request under construction; its length field is always right.
#[derive(Clone, Debug)]
pub(crate) struct Forge {
    bytes: Vec<u8>,
}

impl Forge {
    /// A header without attributes.
    pub(crate) fn request() -> Self {
        let mut bytes = vec![0x00, 0x01, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        bytes.extend(ID);
        Self { bytes }
    }

    /// Appends an attribute, zero-padded.
    pub(crate) fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.bytes.extend(kind.to_be_bytes());
        self.bytes.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        let announced = u16::try_from(self.bytes.len() - 20).unwrap();
        self.bytes[2..4].copy_from_slice(&announced.to_be_bytes());
        self
    }

    /// Appends the fingerprint of what is there.
    pub(crate) fn sealed(self) -> Self {
        let mut sealed = self.with(FINGERPRINT, &[0; 4]);
        let at = sealed.bytes.len() - 4;
        let value = fingerprint::compute(&sealed.bytes[..at - 4]);
        sealed.bytes[at..].copy_from_slice(&value.to_be_bytes());
        sealed
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.bytes
    }
}
