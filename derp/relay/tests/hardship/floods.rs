//! More connections than there may be.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::relays;
use crate::support::peer::{PATIENCE, Peer, Way, dial_over, private};
use crate::support::process::{PROGRAM, Program, serve_arguments};
use crate::support::uninterrupted::uninterrupted;
use crate::support::{HOSTS, eventually};

/// Descriptors that the relay may have: itself needs about thirty.
const DESCRIPTORS: u32 = 64;

/// Time over which the processor time of a flooded relay is measured, and most of it that may be
/// used: a loop at full speed uses all.
const WATCH: Duration = Duration::from_secs(2);
const MOST_SECONDS: f64 = 1.0;

/// With 64 descriptors and 200 connections: it neither spins nor dies, those inside go on, and
/// afterwards everybody is served again.
#[test]
fn a_lack_of_descriptors_neither_ends_it_nor_keeps_it_busy() {
    for (host, way) in HOSTS.into_iter().zip([Way::Plain, Way::Tls13]) {
        let state = tempfile::tempdir().unwrap();
        let mut shell = Command::new("sh");
        shell
            .args(["-c", &format!("ulimit -n {DESCRIPTORS}; exec \"$0\" \"$@\"")])
            .arg(PROGRAM)
            .args(serve_arguments(host, way, state.path()));
        let mut relay = Program::start(shell);
        let derp = relay.address("derp");
        let mut one = Peer::connect(derp, way, 1);
        let mut two = Peer::connect(derp, way, 2);

        let flood: Vec<_> = (0..200).map(|_| TcpStream::connect(derp).unwrap()).collect();
        let (begun, used) = (Instant::now(), relay.processor_seconds());
        while begun.elapsed() < WATCH {
            one.send_packet(&two.key, b"as ever");
            assert_eq!(two.packet().1, b"as ever");
            std::thread::sleep(Duration::from_millis(20));
        }
        let used = relay.processor_seconds() - used;

        assert!(used < MOST_SECONDS, "{used} s of processor time");
        drop(flood);
        eventually("a new client enters", || Peer::try_connect(derp, way, private(3)));
        relay.counts("derp_connections_pending", 0);
        assert!(relay.metric(r#"derp_connections_rejected{reason="descriptors"}"#) > 0.0);
        relays(&relay, way);
        relay.is_unharmed();
        assert_eq!(relay.stop().status.code(), Some(0));
    }
}

/// The limit per address holds for each address by itself; what is over it is closed at once, and
/// who comes from elsewhere, or comes later, is served.
#[test]
fn one_address_cannot_take_the_places_of_others() {
    for way in [Way::Plain, Way::Tls13] {
        let state = tempfile::tempdir().unwrap();
        let most = 20;
        let wildcard: IpAddr = std::net::Ipv6Addr::UNSPECIFIED.into();
        let mut serve = serve_arguments(wildcard, way, state.path());
        serve.extend(["--handshakes-per-address".to_owned(), most.to_string()]);
        let mut relay = Program::start(crate::support::process::command(&serve));
        let port = relay.address("derp").port();
        for host in HOSTS {
            let derp = SocketAddr::new(host, port);
            let held: Vec<_> = (0..most).map(|_| TcpStream::connect(derp).unwrap()).collect();
            eventually("all are counted", || {
                let pending = relay.metric("derp_connections_pending");
                (pending == f64::from(most)).then_some(()).ok_or(pending)
            });

            let mut surplus = TcpStream::connect(derp).unwrap();
            surplus.set_read_timeout(Some(PATIENCE)).unwrap();
            let end = uninterrupted(|| surplus.read(&mut [0]));
            assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
            assert!(!end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));

            // The other family, and another address of the same, are not concerned.
            let others = HOSTS.into_iter().filter(|other| *other != host);
            let elsewhere = others.map(|other| TcpStream::connect((other, port)).unwrap());
            let elsewhere = elsewhere.chain(host.is_ipv4().then(|| from_another_address(derp)));
            for (number, socket) in elsewhere.enumerate() {
                let key = private(u32::try_from(number).unwrap());
                Peer::log_in(dial_over(socket, way), key).unwrap().is_up();
            }
            drop(held);
            eventually("served again", || Peer::try_connect(derp, way, private(9)));
        }
        assert!(relay.metric(r#"derp_connections_rejected{reason="source"}"#) >= 2.0);
        relay.is_unharmed();
    }
}

/// A connection from 127.0.0.2.
fn from_another_address(derp: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from: SocketAddr = "127.0.0.2:0".parse().unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect(&derp.into()).unwrap();
    socket.into()
}
