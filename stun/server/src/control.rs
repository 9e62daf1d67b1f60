//! Packet information: which of our addresses a datagram was sent to, and answering from it.
//!
//! Does: reads and writes the one control message (`IP_PKTINFO`, `IPV6_PKTINFO`) that travels
//! beside a datagram, without unsafe code. Does not: switch its delivery on; see `batch`.
//!
//! ```text
//! control message   usize len (header and data), i32 level, i32 type, data, all native
//! IP_PKTINFO        i32 interface, [4] address to answer from, [4] address asked
//! IPV6_PKTINFO      [16] address asked, u32 interface
//! ```

use std::net::{Ipv4Addr, Ipv6Addr};

/// Bytes that hold any one control message we read or write, and then some.
pub(crate) const MAX_LEN: usize = 64;

/// Bytes in a control message's header; the data starts behind it, at a multiple of `ALIGN`.
const HEADER_LEN: usize = (size_of::<libc::cmsghdr>()).next_multiple_of(ALIGN);
const ALIGN: usize = size_of::<usize>();

/// An address of this host that a client has asked, to be used as the source of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    V4(Ipv4Addr),
    /// `interface` counts only for link-local addresses, which mean nothing without.
    V6 {
        ip: Ipv6Addr,
        interface: u32,
    },
}

/// Where a datagram was sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The kernel does not say: the socket is bound to one address, and answers from that.
    Bound,
    /// One address of ours, at a socket that is bound to all of them.
    One(Asked),
    /// A broadcast or multicast address.
    Many,
}

/// Reads the control bytes that came with a datagram.
pub(crate) fn decode(mut control: &[u8]) -> Destination {
    while let Some((level, kind, data, rest)) = split_first(control) {
        let destination = match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => decode_v4(data),
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => decode_v6(data),
            _ => None,
        };
        if let Some(destination) = destination {
            return destination;
        }
        control = rest;
    }
    Destination::Bound
}

/// Writes the control bytes that make an answer leave from `asked`; returns how many.
///
/// The interface stays open except for link-local addresses: the way back to a client is the
/// routing table's choice and need not be the way its request came.
pub(crate) fn encode(asked: Asked, out: &mut [u8; MAX_LEN]) -> usize {
    match asked {
        Asked::V4(ip) => {
            let (any_interface, unused) = ([0; 4], [0; 4]);
            write(out, libc::IPPROTO_IP, libc::IP_PKTINFO, &[&any_interface, &ip.octets(), &unused])
        }
        Asked::V6 { ip, interface } => {
            let interface = if ip.is_unicast_link_local() { interface } else { 0 };
            let parts: [&[u8]; 2] = [&ip.octets(), &interface.to_ne_bytes()];
            write(out, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &parts)
        }
    }
}

fn decode_v4(data: &[u8]) -> Option<Destination> {
    let (_interface, data) = data.split_first_chunk::<4>()?;
    let (local, data) = data.split_first_chunk::<4>()?;
    let (local, asked) = (Ipv4Addr::from(*local), Ipv4Addr::from(*data.first_chunk::<4>()?));
    // The kernel names an address to answer from that differs from the one asked exactly when
    // the latter is not ours alone.
    let many = asked.is_multicast() || asked.is_broadcast();
    Some(if many || (local != asked && !local.is_unspecified()) {
        Destination::Many
    } else {
        Destination::One(Asked::V4(asked))
    })
}

fn decode_v6(data: &[u8]) -> Option<Destination> {
    let (ip, data) = data.split_first_chunk::<16>()?;
    let (ip, interface) = (Ipv6Addr::from(*ip), u32::from_ne_bytes(*data.first_chunk::<4>()?));
    Some(if ip.is_multicast() {
        Destination::Many
    } else {
        Destination::One(Asked::V6 { ip, interface })
    })
}

/// Takes one control message off the front: level, type, data, and what follows.
fn split_first(control: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let (len, rest) = control.split_first_chunk::<ALIGN>()?;
    let (level, rest) = rest.split_first_chunk::<4>()?;
    let kind = rest.first_chunk::<4>()?;
    let len = usize::from_ne_bytes(*len);
    let data = control.get(HEADER_LEN..len)?;
    let rest = control.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
    Some((i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind), data, rest))
}

/// Writes one control message whose data are `parts`; returns its length with padding.
fn write(out: &mut [u8; MAX_LEN], level: i32, kind: i32, parts: &[&[u8]]) -> usize {
    let len = HEADER_LEN + parts.iter().map(|part| part.len()).sum::<usize>();
    let header = len.to_ne_bytes().into_iter().chain(level.to_ne_bytes()).chain(kind.to_ne_bytes());
    for (slot, byte) in out.iter_mut().zip(header) {
        *slot = byte;
    }
    for (slot, byte) in out.iter_mut().skip(HEADER_LEN).zip(parts.iter().copied().flatten()) {
        *slot = *byte;
    }
    len.next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

    /// STUN-5.2: the address asked is found, also behind control messages of other kinds.
    #[test]
    fn address_asked_is_found() {
        let global = "2001:db8::1".parse().unwrap();
        let v6 = Asked::V6 { ip: global, interface: 4 };
        let mut behind_another = control(libc::SOL_SOCKET, libc::SCM_RIGHTS, &[&[0; 5]]);
        behind_another.extend(v4(OURS, OURS));

        assert_eq!(decode(&v4(OURS, OURS)), Destination::One(Asked::V4(OURS)));
        assert_eq!(decode(&v6_info(global, 4)), Destination::One(v6));
        assert_eq!(decode(&behind_another), Destination::One(Asked::V4(OURS)));
        assert_eq!(decode(&[]), Destination::Bound);
    }

    /// STUN-5.11: what went to many is told apart from what went to us.
    #[test]
    fn broadcast_and_multicast_are_found() {
        for many in [[192, 0, 2, 255], [255; 4], [224, 0, 0, 1]] {
            assert_eq!(decode(&v4(OURS, many.into())), Destination::Many, "{many:?}");
        }
        assert_eq!(decode(&v6_info("ff02::1".parse().unwrap(), 4)), Destination::Many);
    }

    /// STUN-5.2: control bytes cut anywhere, or with a length that lies, are no panic.
    #[test]
    fn cut_control_bytes_are_harmless() {
        let whole = v6_info("2001:db8::1".parse().unwrap(), 4);
        for len in 0..whole.len() {
            assert!(matches!(decode(&whole[..len]), Destination::Bound | Destination::One(_)));
        }
        for announced in [0, 1, HEADER_LEN - 1, HEADER_LEN, usize::MAX] {
            let mut lying = whole.clone();
            lying[..ALIGN].copy_from_slice(&announced.to_ne_bytes());
            assert_eq!(decode(&lying), Destination::Bound, "{announced}");
        }
    }

    /// STUN-5.2, STUN-5.13: the answer's control message has the kernel's form, and names the
    /// interface only where an address means nothing without.
    #[test]
    fn answer_names_its_source() {
        let (local, global) = ("fe80::1".parse().unwrap(), "2001:db8::1".parse().unwrap());

        assert_eq!(encoded(Asked::V4(OURS)), v4(OURS, Ipv4Addr::UNSPECIFIED));
        assert_eq!(encoded(Asked::V6 { ip: local, interface: 4 }), v6_info(local, 4));
        assert_eq!(encoded(Asked::V6 { ip: global, interface: 4 }), v6_info(global, 0));
    }

    fn encoded(asked: Asked) -> Vec<u8> {
        let mut out = [0; MAX_LEN];
        let len = encode(asked, &mut out);
        out[..len].to_vec()
    }

    fn v4(local: Ipv4Addr, asked: Ipv4Addr) -> Vec<u8> {
        let parts: [&[u8]; 3] = [&[0; 4], &local.octets(), &asked.octets()];
        control(libc::IPPROTO_IP, libc::IP_PKTINFO, &parts)
    }

    fn v6_info(asked: Ipv6Addr, interface: u32) -> Vec<u8> {
        let parts: [&[u8]; 2] = [&asked.octets(), &interface.to_ne_bytes()];
        control(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &parts)
    }

    fn control(level: i32, kind: i32, parts: &[&[u8]]) -> Vec<u8> {
        let data = parts.concat();
        let mut bytes = (HEADER_LEN + data.len()).to_ne_bytes().to_vec();
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.resize(HEADER_LEN, 0);
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
        bytes
    }
}
