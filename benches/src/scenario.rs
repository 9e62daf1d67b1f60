//! Traffic as it is on a relay.

use derp::frame::{Kind, encode};
use derp::key::NodePublic;

/// Bytes of a WireGuard packet that carries a full tunnel MTU, as most do under load.
pub const PACKET: usize = 1_400;

/// Frames that one large read brings.
pub const BURST: usize = 44;

/// The node of a number.
#[must_use]
pub fn node(number: u8) -> NodePublic {
    NodePublic::from_bytes([number; 32])
}

/// A burst of `SendPacket` frames to one node, as they come in one read.
#[must_use]
pub fn burst(to: &NodePublic) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..BURST {
        encode(Kind::SendPacket, &[to.as_bytes(), &[0x5a; PACKET]], &mut bytes);
    }
    bytes
}
