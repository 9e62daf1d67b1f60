//! Socket addresses as the kernel writes them, read without unsafe code.
//!
//! ```text
//! offset  size  AF_INET            AF_INET6
//! 0       2     family, native     family, native
//! 2       2     port, big endian   port, big endian
//! 4       4     address            flow information
//! 8       16    (padding)          address
//! 24      4                        scope id, native
//! ```
//!
//! An answer goes back to the very bytes that the kernel wrote, so nothing has to be encoded,
//! and the scope id of a link-local client comes back with it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Bytes in the longest address, `sockaddr_in6`.
pub(crate) const MAX_LEN: usize = 28;

/// Reads an address; `None` if it is cut short or of another family.
pub(crate) fn decode(bytes: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let ip = Ipv4Addr::from(*rest.first_chunk::<4>()?);
            Some(SocketAddrV4::new(ip, port).into())
        }
        libc::AF_INET6 => {
            let (flow, rest) = rest.split_first_chunk::<4>()?;
            let (ip, rest) = rest.split_first_chunk::<16>()?;
            let scope = u32::from_ne_bytes(*rest.first_chunk::<4>()?);
            let flow = u32::from_be_bytes(*flow);
            Some(SocketAddrV6::new(Ipv6Addr::from(*ip), port, flow, scope).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// STUN-5.2: both families are read, link-local scope included.
    #[test]
    fn kernel_addresses_are_read() {
        let v4 = kernel_v4([192, 0, 2, 1], 3478);
        let v6 = kernel_v6("fe80::1", 65535, 3);

        assert_eq!(decode(&v4), Some("192.0.2.1:3478".parse().unwrap()));
        assert_eq!(decode(&v6), Some("[fe80::1%3]:65535".parse().unwrap()));
    }

    /// STUN-5.2: a cut or foreign address is no address, at any length.
    #[test]
    fn cut_and_foreign_addresses_are_refused() {
        let mut v6 = kernel_v6("fe80::1", 1, 3);
        for len in 0..v6.len() {
            assert_eq!(decode(&v6[..len]), None, "{len} bytes");
        }
        v6[..2].copy_from_slice(&1_u16.to_ne_bytes());
        assert_eq!(decode(&v6), None);
    }

    fn kernel_v4(ip: [u8; 4], port: u16) -> Vec<u8> {
        let mut bytes = 2_u16.to_ne_bytes().to_vec();
        bytes.extend(port.to_be_bytes());
        bytes.extend(ip);
        bytes.resize(16, 0);
        bytes
    }

    fn kernel_v6(ip: &str, port: u16, scope: u32) -> Vec<u8> {
        let mut bytes = 10_u16.to_ne_bytes().to_vec();
        bytes.extend(port.to_be_bytes());
        bytes.extend([0; 4]);
        bytes.extend(ip.parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend(scope.to_ne_bytes());
        assert_eq!(bytes.len(), MAX_LEN);
        bytes
    }
}
