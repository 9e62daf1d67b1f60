//! FINGERPRINT: a CRC-32 that tells STUN from other traffic on the same port.
//!
//! Does: computes and checks it. Does not: say where it has to stand; that is part of the rule.
//! It is no protection against forgery, anyone can compute it. For the server it is a price: a
//! request without it is not worth an answer.
//!
//! Spec: docs/protocol/stun.md, STUN-1.5. Next on the packet path: `binding`.

use crate::attribute::{Attribute, Kind};

/// Bytes that the attribute takes in a message, its header included.
pub const ATTRIBUTE_LEN: usize = 8;

/// Mixed into the CRC, so that a protocol with a plain CRC-32 at its end does not match.
const MASK: u32 = 0x5354_554e;

/// Value for a message that starts with `covered` and goes on with the fingerprint.
///
/// The length field inside `covered` must already count the fingerprint's eight bytes.
/// O(n), no allocation.
#[must_use]
pub fn compute(covered: &[u8]) -> u32 {
    crc32fast::hash(covered) ^ MASK
}

/// Whether `attribute`, found in `datagram`, is a fingerprint with the right value.
///
/// Covers all bytes in front of the attribute. O(n), no allocation.
///
/// # Source
///
/// STUN-1.5.
#[must_use]
pub fn verify(datagram: &[u8], attribute: Attribute<'_>) -> bool {
    let Ok(value) = <[u8; 4]>::try_from(attribute.value) else {
        return false;
    };
    attribute.kind == Kind::FINGERPRINT
        && datagram
            .get(..attribute.offset)
            .is_some_and(|covered| compute(covered) == u32::from_be_bytes(value))
}
