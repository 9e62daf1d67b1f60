//! Listening: the sockets of one address, one for each thread.
//!
//! Does: binds them, and says what to do if that fails. Does not: start anything.
//!
//! `SO_REUSEPORT` lets any process of the same user join a port, so a second server would
//! silently get half of the clients. Therefore the first socket of an address is bound without
//! the option, which the kernel refuses if anybody is there, and gets it afterwards, so that the
//! others can join. There is no moment at which two servers could both pass. (A program that
//! wants to join a running server's port, and sets the option itself, cannot be kept out.)

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, Socket, Type};

use crate::batch;
use crate::limits::RECEIVE_BUFFER_BYTES;

/// Why an address cannot be listened on, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another socket has the port, or this server was given the address twice.
    #[error(
        "UDP {address} is already in use: stop the other STUN server there (derper, Headscale's \
         embedded one; `ss -ulnp` names it) or listen on another port"
    )]
    Taken {
        /// Address that was asked for.
        address: SocketAddr,
    },
    /// The system reserves the port.
    #[error(
        "UDP {address} needs a permission that this process lacks: give it CAP_NET_BIND_SERVICE \
         or listen on a port from 1024 up"
    )]
    Denied {
        /// Address that was asked for.
        address: SocketAddr,
    },
    /// No interface has the address.
    #[error(
        "UDP {address} is not an address of this host: listen on one that `ip address` shows, \
         on 0.0.0.0 or on [::]"
    )]
    NotLocal {
        /// Address that was asked for.
        address: SocketAddr,
    },
    /// The kernel has no such address family, mostly IPv6.
    #[error(
        "UDP {address} is of an address family that this kernel does not have: leave it out or \
         enable the family"
    )]
    NoFamily {
        /// Address that was asked for.
        address: SocketAddr,
    },
    /// No descriptors or no memory left.
    #[error(
        "UDP {address} cannot be listened on ({source}): raise the limits of this process (systemd: \
         LimitNOFILE=, TasksMax=; else ulimit) or use fewer threads"
    )]
    Exhausted {
        /// Address that was asked for.
        address: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
    /// Anything else.
    #[error("UDP {address} cannot be listened on ({source}): listen on another address")]
    Other {
        /// Address that was asked for.
        address: SocketAddr,
        /// What the kernel says.
        source: io::Error,
    },
}

impl BindError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EADDRINUSE) => Self::Taken { address },
            Some(libc::EACCES | libc::EPERM) => Self::Denied { address },
            Some(libc::EADDRNOTAVAIL) => Self::NotLocal { address },
            Some(libc::EAFNOSUPPORT | libc::EPFNOSUPPORT) => Self::NoFamily { address },
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                Self::Exhausted { address, source }
            }
            Some(_) | None => Self::Other { address, source },
        }
    }
}

/// The sockets of one listen address.
#[derive(Debug)]
pub(crate) struct Group {
    /// Address with the port that was really bound.
    pub(crate) address: SocketAddr,
    /// As many as threads, all on that address.
    pub(crate) sockets: Vec<Socket>,
}

impl Group {
    /// Binds `count` sockets to `address`; with port 0 they share the port that the first gets.
    ///
    /// # Errors
    ///
    /// [`BindError`]; no socket is left behind.
    pub(crate) fn bind(address: SocketAddr, count: usize) -> Result<Self, BindError> {
        let failed = |source| BindError::new(address, source);
        let first = bind(canonical(address), Sharing::After).map_err(failed)?;
        let bound = first.local_addr().map_err(failed)?.as_socket().ok_or_else(|| {
            failed(io::Error::new(io::ErrorKind::InvalidData, "the socket has no address"))
        })?;
        let mut sockets = vec![first];
        while sockets.len() < count {
            sockets.push(bind(bound, Sharing::Before).map_err(failed)?);
        }
        Ok(Self { address: bound, sockets })
    }
}

/// When a socket gets `SO_REUSEPORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    /// Before it is bound: it joins those that are there.
    Before,
    /// After it is bound: it must be alone at first.
    After,
}

fn bind(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // IPv4 clients have sockets of their own, which see their addresses as they are.
        socket.set_only_v6(true)?;
    }
    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
    if address.ip().is_unspecified() {
        batch::report_destination(socket.as_fd(), address)?;
    }
    if sharing == Sharing::Before {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    if sharing == Sharing::After {
        socket.set_reuse_port(true)?;
    }
    Ok(socket)
}

/// An IPv4 address in IPv6 clothes cannot be bound by a socket that is IPv6 only.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(ip) => SocketAddrV4::new(ip, v6.port()).into(),
            None => address,
        },
        SocketAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// STUN-5.3: every way to fail names the address, and says what to do in one line.
    #[test]
    fn every_failure_names_the_address_and_a_remedy() {
        let address = "[2001:db8::1]:3478".parse().unwrap();
        let remedies = [
            (libc::EADDRINUSE, "stop the other STUN server"),
            (libc::EACCES, "CAP_NET_BIND_SERVICE"),
            (libc::EADDRNOTAVAIL, "0.0.0.0"),
            (libc::EAFNOSUPPORT, "leave it out"),
            (libc::EMFILE, "raise the limit"),
            (libc::EIO, "another address"),
        ];
        for (code, remedy) in remedies {
            let line = BindError::new(address, io::Error::from_raw_os_error(code)).to_string();
            assert!(line.contains("[2001:db8::1]:3478") && line.contains(remedy), "{line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }
}
