//! The request that a Tailscale node sends, for probes and load generators.
//!
//! Does: writes the only form that a strict server answers. Any RFC 8489 server answers it too,
//! as both attributes are optional to understand. Does not: draw the transaction id, send it,
//! or send it again.
//!
//! ```text
//! offset  size  field
//! 0       20    header       0001, announces 20 bytes
//! 20      12    SOFTWARE     "tailnode"
//! 32      8     FINGERPRINT  over the 32 bytes in front of it
//! ```
//!
//! Spec: docs/protocol/stun.md, STUN-4.1. The answer is read by `response`.

use crate::fingerprint;
use crate::message::{HEADER_LEN, TransactionId};

/// Name by which a Tailscale node makes itself known. Source: STUN-1.4.
pub const TAILNODE: &[u8; 8] = b"tailnode";

/// Bytes in a request. Source: STUN-4.1.
pub const LEN: usize = 40;

/// Where the transaction id stands in the header.
const ID_AT: usize = 8;

/// Where the fingerprint starts, which is also how much of the request it covers.
const FINGERPRINT_AT: usize = LEN - fingerprint::ATTRIBUTE_LEN;

/// A request without its transaction id and the value of its fingerprint.
#[rustfmt::skip]
const TEMPLATE: [u8; LEN] = [
    0x00, 0x01, 0x00, 0x14, 0x21, 0x12, 0xa4, 0x42,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0x80, 0x22, 0x00, 0x08, b't', b'a', b'i', b'l', b'n', b'o', b'd', b'e',
    0x80, 0x28, 0x00, 0x04, 0, 0, 0, 0,
];

const _: () = assert!(TEMPLATE[3] as usize == LEN - HEADER_LEN, "the announced length is right");

/// Writes a request with the given id, which should be new and random for every request.
///
/// O(1), no allocation.
///
/// # Source
///
/// STUN-4.1.
#[must_use]
pub fn encode(id: TransactionId) -> [u8; LEN] {
    let mut out = TEMPLATE;
    for (slot, byte) in out.iter_mut().skip(ID_AT).zip(id.bytes()) {
        *slot = byte;
    }
    let (covered, attribute) = out.split_at_mut(FINGERPRINT_AT);
    let value = fingerprint::compute(covered).to_be_bytes();
    for (slot, byte) in attribute.iter_mut().rev().zip(value.into_iter().rev()) {
        *slot = byte;
    }
    out
}
