//! Ports that stay free while nobody of a test has them: for what comes back at the same place.
//!
//! Does: picks ports that the system gives to nobody by itself, neither to who asks for port 0
//! nor to who connects, and claims each for this process by an abstract Unix socket of its name,
//! which lives in the same network namespace and ends with the process.
//! Does not: know who listens there. Included by the tests of other packages, and spelt the same
//! way in `interop/program`.

use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::ops::RangeInclusive;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Mutex;

/// Above what services use.
const CANDIDATES: RangeInclusive<u16> = 10_000..=64_999;

/// What this process has claimed.
static CLAIMS: Mutex<Vec<UnixListener>> = Mutex::new(Vec::new());

/// A port that is free in both families, over TCP and UDP, and nobody else's until this process
/// ends.
pub(crate) fn port() -> u16 {
    let given_away = ports_given_away();
    let quiet: Vec<u16> = CANDIDATES.filter(|port| !given_away.contains(port)).collect();
    // Where the system gives all of them away, the claim has to do.
    let ports = if quiet.is_empty() { CANDIDATES.collect() } else { quiet };
    // Processes begin at different places, which spares them tries.
    let start = std::process::id() as usize * 97 % ports.len();
    let mut in_turn = ports[start..].iter().chain(&ports[..start]);
    *in_turn.find(|port| is_free(**port) && claim(**port)).expect("a port for this test")
}

fn claim(port: u16) -> bool {
    let name = SocketAddr::from_abstract_name(format!("derp-test-port-{port}")).unwrap();
    match UnixListener::bind_addr(&name) {
        Ok(claim) => {
            CLAIMS.lock().unwrap().push(claim);
            true
        }
        Err(error) if error.kind() == ErrorKind::AddrInUse => false,
        Err(error) => panic!("cannot claim port {port}: {error}"),
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("::", port)).is_ok() && UdpSocket::bind(("::", port)).is_ok()
}

/// What Linux gives to who asks for any port.
fn ports_given_away() -> RangeInclusive<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let mut ends = range.split_whitespace().map(|end| end.parse().unwrap());
    ends.next().unwrap()..=ends.next().unwrap()
}
