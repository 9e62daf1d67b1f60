//! Listening sockets and descriptors as the relay wants them.
//!
//! Does: opens TCP listeners with every option that an accepted connection shall inherit, says
//! in plain words why one cannot be opened, and keeps a descriptor in reserve.
//! Does not: accept (`door::listener`), or touch a connection again after that.
//!
//! Linux copies the options below from a listener to what it accepts, so that a connection
//! costs no system call for them. Design: docs/architecture.md, sockets and timers.

use std::error::Error;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// Connections that may wait to be accepted. The kernel cuts it to `net.core.somaxconn`.
pub const BACKLOG: i32 = 4_096;

/// Unsent bytes that TCP takes before a socket stops being writable: what waits beyond that
/// waits in our queue, which has an age bound, and not in TCP, which has none.
pub const NOTSENT_LOWAT_BYTES: u32 = 128 * 1024;

/// Time that sent bytes may stay unacknowledged until the login is done.
pub const LOGIN_USER_TIMEOUT: Duration = Duration::from_secs(15);

/// Time that sent bytes may stay unacknowledged after the login; the shard sets it.
pub const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// Silence after which TCP asks whether the peer is still there.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(600);

/// What to do about a system that has no descriptor, thread or memory left for this process.
pub const RAISE_LIMITS: &str =
    "raise the limits of this process (systemd: LimitNOFILE=, TasksMax=, MemoryMax=; else ulimit)";

/// Opens one listener per address, in order. `flag` names the setting that holds them.
///
/// An IPv6 wildcard takes IPv4 as well, unless an IPv4 address is given for the same port. It
/// stands for every address that the host has: on one without IPv6 it is IPv4's wildcard.
/// Port 0 asks for any free port. The sockets do not block.
///
/// # Errors
///
/// [`ListenError`] for the first address that cannot be opened; the others are closed again.
pub fn listen(
    flag: &'static str,
    addresses: &[SocketAddr],
) -> Result<Vec<TcpListener>, ListenError> {
    addresses
        .iter()
        .map(|&address| {
            open(address, shares_port_with_ipv4(address, addresses)).map_err(|source| ListenError {
                flag,
                address,
                source,
            })
        })
        .collect()
}

/// Why a listener cannot be opened, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ({flag}): {source}; {}", remedy(*address, source))]
pub struct ListenError {
    /// The setting that asked for it.
    pub flag: &'static str,
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

/// Raises the limit of open descriptors to what the system allows this process; returns it.
///
/// A connection is one descriptor. `u64::MAX` stands for no limit.
///
/// # Errors
///
/// What the kernel said; the old limit then stays.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    }
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// A descriptor kept for the moment when there are no others.
///
/// Without it a connection that cannot be accepted stays in the backlog, and the listener stays
/// readable: a loop at full speed. With it the connection is accepted and closed.
#[derive(Debug, Default)]
pub struct Reserve {
    spare: Option<File>,
}

impl Reserve {
    /// Holds one descriptor, if there is one.
    #[must_use]
    pub fn new() -> Self {
        let mut reserve = Self::default();
        reserve.refill();
        reserve
    }

    /// Gives the descriptor back to the system; `false` if there was none.
    pub fn release(&mut self) -> bool {
        self.spare.take().is_some()
    }

    /// Takes a descriptor again, if there is one.
    pub fn refill(&mut self) {
        if self.spare.is_none() {
            self.spare = File::open("/dev/null").ok();
        }
    }
}

/// Whether `error` says that this process or the system has no descriptor left.
#[must_use]
pub fn out_of_descriptors(error: &io::Error) -> bool {
    is_one_of(error, &[Errno::MFILE, Errno::NFILE])
}

/// The error of the system, if there is one behind `error`, that says that it has nothing left to
/// give: no listener or file is to blame for that, and no change of settings mends it.
#[must_use]
pub fn exhaustion<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    std::iter::successors(Some(error), |&error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .find(|error| out_of_descriptors(error) || is_one_of(error, &[Errno::NOBUFS, Errno::NOMEM]))
}

fn is_one_of(error: &io::Error, known: &[Errno]) -> bool {
    error.raw_os_error().is_some_and(|code| known.contains(&Errno::from_raw_os_error(code)))
}

fn open(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    match open_exactly(address, only_v6) {
        Err(error)
            if !only_v6 && address.ip() == Ipv6Addr::UNSPECIFIED && unsupported_family(&error) =>
        {
            let ipv4 = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port());
            tracing::info!(%address, "IPv6 is off on this host: listening on IPv4 alone");
            open_exactly(ipv4, false)
        }
        opened => opened,
    }
}

fn open_exactly(address: SocketAddr, only_v6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // A restart must not wait for the connections of the process before to time out.
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT_BYTES)?;
    socket.set_tcp_user_timeout(Some(LOGIN_USER_TIMEOUT))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE_IDLE))?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A dual-stack wildcard and an IPv4 socket cannot have the same port.
fn shares_port_with_ipv4(address: SocketAddr, all: &[SocketAddr]) -> bool {
    address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        && address.port() != 0
        && all.iter().any(|other| other.is_ipv4() && other.port() == address.port())
}

#[expect(clippy::wildcard_enum_match_arm, reason = "not our enum, and it grows")]
fn remedy(address: SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program has that port (`ss -ltnp sport = :{port}` names it): stop it, or \
             choose another port"
        ),
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need the capability CAP_NET_BIND_SERVICE (systemd: \
             AmbientCapabilities=CAP_NET_BIND_SERVICE): grant it, or choose a higher port"
                .to_owned()
        }
        io::ErrorKind::AddrNotAvailable => {
            "this host has no such address: give one of its own, or [::] for all".to_owned()
        }
        _ if address.is_ipv6() && unsupported_family(error) => {
            format!("IPv6 is off on this host: listen on 0.0.0.0:{port}")
        }
        _ if exhaustion(error).is_some() => RAISE_LIMITS.to_owned(),
        _ => "check the address".to_owned(),
    }
}

fn unsupported_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use socket2::SockRef;

    use super::*;

    /// One listener has the options; whatever it accepts has them too, at no cost.
    #[test]
    fn accepted_connections_inherit_the_options() {
        for address in loopbacks(0) {
            let [listener] = listen("--listen-derp", &[address]).unwrap().try_into().unwrap();
            listener.set_nonblocking(false).unwrap();
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();

            let (accepted, _) = listener.accept().unwrap();

            let socket = SockRef::from(&accepted);
            assert!(socket.tcp_nodelay().unwrap());
            assert!(socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), NOTSENT_LOWAT_BYTES);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(LOGIN_USER_TIMEOUT));
        }
    }

    #[test]
    fn the_ipv6_wildcard_takes_ipv4_too() {
        let [listener] =
            listen("--listen-derp", &["[::]:0".parse().unwrap()]).unwrap().try_into().unwrap();
        let port = listener.local_addr().unwrap().port();

        for address in loopbacks(port) {
            TcpStream::connect(address).unwrap();
        }
    }

    #[test]
    fn both_wildcards_of_one_port_do_not_clash() {
        let at =
            |port| [(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()];
        // Somebody may get a port between the question whether it is free and the use of it.
        let (port, listeners) = (0..100)
            .map(|_| free_port())
            .find_map(|port| Some((port, listen("--listen-derp", &at(port)).ok()?)))
            .unwrap();

        assert!(SockRef::from(&listeners[1]).only_v6().unwrap());
        for address in loopbacks(port) {
            TcpStream::connect(address).unwrap();
        }
    }

    #[test]
    fn a_taken_port_is_named_with_what_to_do() {
        for address in loopbacks(0) {
            let taken = TcpListener::bind(address).unwrap();
            let address = taken.local_addr().unwrap();

            let error = listen("--listen-derp", &[address]).unwrap_err();

            let text = error.to_string();
            assert!(text.contains(&address.to_string()), "{text}");
            assert!(text.contains("--listen-derp") && text.contains("another program"), "{text}");
        }
    }

    #[test]
    fn a_foreign_address_is_named_with_what_to_do() {
        let error = listen("--listen-http", &["192.0.2.1:0".parse().unwrap()]).unwrap_err();

        assert!(error.to_string().contains("no such address"), "{error}");
    }

    #[test]
    fn a_port_below_1024_says_which_capability_is_missing() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = ListenError {
            flag: "--listen-derp",
            address: "[::]:443".parse().unwrap(),
            source: denied,
        };

        assert!(error.to_string().contains("CAP_NET_BIND_SERVICE"), "{error}");
    }

    #[test]
    fn a_system_that_has_nothing_left_says_which_limit_to_raise() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM] {
            let error = ListenError {
                flag: "--listen-derp",
                address: "[::]:443".parse().unwrap(),
                source: errno.into(),
            };

            let text = error.to_string();

            assert!(text.contains("LimitNOFILE=") && !text.contains("address"), "{text}");
            assert_eq!(exhaustion(&error).unwrap().raw_os_error(), Some(errno.raw_os_error()));
        }
    }

    #[test]
    fn the_reserve_gives_its_descriptor_once() {
        let mut reserve = Reserve::new();

        assert!(reserve.release());
        assert!(!reserve.release());
        reserve.refill();
        assert!(reserve.release());
    }

    #[test]
    fn only_a_lack_of_descriptors_counts_as_one() {
        assert!(out_of_descriptors(&Errno::MFILE.into()));
        assert!(out_of_descriptors(&Errno::NFILE.into()));
        assert!(!out_of_descriptors(&Errno::CONNABORTED.into()));
        assert!(!out_of_descriptors(&io::Error::other("no number")));
    }

    fn loopbacks(port: u16) -> [SocketAddr; 2] {
        [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
    }

    fn free_port() -> u16 {
        TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port()
    }
}
