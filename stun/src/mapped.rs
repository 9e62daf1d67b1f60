//! The value of MAPPED-ADDRESS and XOR-MAPPED-ADDRESS: a client's address on the wire.
//!
//! ```text
//! offset  size  field
//! 0       1     reserved, zero
//! 1       1     family   1 = IPv4, 2 = IPv6
//! 2       2     port     u16, masked with the upper half of the cookie
//! 4       4/16  address  masked with the cookie, and beyond it with the transaction id
//! ```
//!
//! Does: masks, unmasks, and treats an IPv4 address in IPv6 clothes as IPv4.
//! Spec: docs/protocol/stun.md, STUN-2.2 and STUN-2.3.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::message::{COOKIE, TransactionId};

/// Bytes in the value for IPv4.
pub(crate) const V4_LEN: usize = 8;

/// Bytes in the value for IPv6.
pub(crate) const V6_LEN: usize = 20;

const FAMILY_V4: u8 = 1;
const FAMILY_V6: u8 = 2;

/// Upper half of the cookie, which masks the port.
const PORT_MASK: u16 = 0x2112;

/// An encoded value; its length depends on the family.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value {
    V4([u8; V4_LEN]),
    V6([u8; V6_LEN]),
}

impl Value {
    pub(crate) const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::V4(bytes) => bytes,
            Self::V6(bytes) => bytes,
        }
    }
}

/// Masks `address`. An IPv4-mapped IPv6 address is encoded as the IPv4 address it is.
pub(crate) fn encode_xor(address: SocketAddr, id: TransactionId) -> Value {
    let [p0, p1] = (address.port() ^ PORT_MASK).to_be_bytes();
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => {
            let [a0, a1, a2, a3] = (ip.to_bits() ^ COOKIE).to_be_bytes();
            Value::V4([0, FAMILY_V4, p0, p1, a0, a1, a2, a3])
        }
        IpAddr::V6(ip) => {
            let mut bytes = [0; V6_LEN];
            let masked = (ip.to_bits() ^ mask_v6(id)).to_be_bytes();
            let value = [0, FAMILY_V6, p0, p1].into_iter().chain(masked);
            for (slot, byte) in bytes.iter_mut().zip(value) {
                *slot = byte;
            }
            Value::V6(bytes)
        }
    }
}

/// Unmasks a value. Bytes behind the address are not looked at.
pub(crate) fn decode_xor(value: &[u8], id: TransactionId) -> Option<SocketAddr> {
    let address = read(value)?;
    let ip = match address.ip() {
        IpAddr::V4(ip) => IpAddr::V4(Ipv4Addr::from_bits(ip.to_bits() ^ COOKIE)),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() ^ mask_v6(id))),
    };
    Some(SocketAddr::new(ip.to_canonical(), address.port() ^ PORT_MASK))
}

/// Reads a value that is not masked. Bytes behind the address are not looked at.
pub(crate) fn decode_plain(value: &[u8]) -> Option<SocketAddr> {
    let address = read(value)?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

fn read(value: &[u8]) -> Option<SocketAddr> {
    let (head, ip) = value.split_first_chunk::<4>()?;
    let [_, family, p0, p1] = *head;
    let ip = match family {
        FAMILY_V4 => IpAddr::from(*ip.first_chunk::<4>()?),
        FAMILY_V6 => IpAddr::from(*ip.first_chunk::<16>()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([p0, p1])))
}

/// Cookie in the upper four bytes, transaction id in the lower twelve.
fn mask_v6(id: TransactionId) -> u128 {
    id.bytes().into_iter().fold(u128::from(COOKIE), |mask, byte| (mask << 8) | u128::from(byte))
}
