//! Random bytes on every port: each connection ends, the relay does not, and the log stays short.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use crate::relays;
use crate::support::peer::{PATIENCE, Peer, UPGRADE, Way, client_hello, dial, upgrade};
use crate::support::process::Program;
use crate::support::uninterrupted::uninterrupted;
use crate::support::{HOSTS, Noise, http, stun};

/// What the noise begins with: the further in it gets, the more it reaches.
const SHAPES: usize = 12;

/// Connections per listener, family and way.
const CONNECTIONS: usize = 10 * SHAPES;

/// DERP-2.2, DERP-9.7: on every listener, in both families, with and without TLS, before and
/// after the login.
#[test]
fn noise_on_every_port_ends_in_a_clean_close() {
    for host in HOSTS {
        for way in [Way::Plain, Way::Tls13] {
            let state = tempfile::tempdir().unwrap();
            let mut relay = Program::serve(host, way, state.path(), &["--shards", "2"]);
            let mut witness = Peer::connect(relay.address("derp"), way, 1);
            let mut noise = Noise::new(u64::from(relay.address("derp").is_ipv6()) + 11);

            for number in 0..CONNECTIONS {
                for what in ["derp", "http", "metrics"] {
                    shout(relay.address(what), &garbage(&mut noise, number % SHAPES));
                }
                if way != Way::Plain {
                    within_tls(relay.address("derp"), &garbage(&mut noise, number % SHAPES));
                }
            }
            for number in 0..CONNECTIONS {
                after_login(&relay, way, &garbage(&mut noise, number % SHAPES));
            }
            datagrams(relay.address("stun"), &mut noise);

            witness.is_up();
            relays(&relay, way);
            stun::answers(relay.address("stun"));
            assert_eq!(http::get(relay.address("http"), "/generate_204").status, 204);
            drop(witness);
            relay.counts("derp_current_connections", 0);
            relay.counts("derp_connections_pending", 0);
            relay.is_unharmed();
            assert_eq!(relay.stop().status.code(), Some(0));
        }
    }
}

/// Says it over TCP, and holds that the relay closes the connection.
fn shout(address: SocketAddr, bytes: &[u8]) {
    ends_soon(bytes, || {
        let mut socket = TcpStream::connect(address).unwrap();
        // The relay may have closed before the last byte.
        drop(socket.write_all(bytes));
        drop(socket.shutdown(Shutdown::Write));
        until_end(&socket, bytes)
    });
}

/// Says it where a request belongs, inside of TLS.
fn within_tls(address: SocketAddr, bytes: &[u8]) {
    ends_soon(bytes, || {
        let mut stream = dial(address, Way::Tls13);
        drop(stream.write_all(bytes).and_then(|()| stream.flush()));
        drop(stream.socket().shutdown(Shutdown::Write));
        until_end(stream.socket(), bytes)
    });
}

/// Says it where frames belong.
fn after_login(relay: &Program, way: Way, bytes: &[u8]) {
    ends_soon(bytes, || {
        let mut peer = Peer::connect(relay.address("derp"), way, 2);
        drop(peer.stream.write_all(bytes).and_then(|()| peer.stream.flush()));
        drop(peer.stream.socket().shutdown(Shutdown::Write));
        until_end(peer.stream.socket(), bytes)
    });
}

/// Holds that the end comes long before the relay's own deadlines. What a busy machine makes late
/// once is in time at another try; what a deadline has closed is late at each.
fn ends_soon(bytes: &[u8], say: impl Fn() -> Duration) {
    let soon = (0..3).any(|_| say() < Duration::from_secs(8));
    assert!(soon, "closed by a deadline only: {:02x?}", &bytes[..bytes.len().min(100)]);
}

/// Holds that the other end closes, by an end or a reset; says how long that takes.
fn until_end(mut socket: &TcpStream, bytes: &[u8]) -> Duration {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let begun = Instant::now();
    let end = loop {
        match uninterrupted(|| socket.read(&mut [0; 16 * 1024])) {
            Ok(1..) => {}
            end => break end,
        }
    };
    let what = &bytes[..bytes.len().min(100)];
    match end {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
        Err(error) => {
            let address = socket.peer_addr();
            panic!("{error} from {address:?} after {} bytes: {what:02x?}", bytes.len())
        }
    }
    begun.elapsed()
}

fn datagrams(server: SocketAddr, noise: &mut Noise) {
    let any: SocketAddr = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }.parse().unwrap();
    let socket = UdpSocket::bind(any).unwrap();
    for number in 0..500 {
        let length = [0, 1, 19, 20, 40, 548, 1_500, 65_000][number % 8];
        let mut datagram = noise.bytes(length);
        if number % 3 == 0 && length >= 20 {
            // As far as the cookie it is STUN.
            datagram[..3].copy_from_slice(&[0, 1, 0]);
            datagram[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
        }
        socket.send_to(&datagram, server).unwrap();
    }
}

fn garbage(noise: &mut Noise, shape: usize) -> Vec<u8> {
    let length = 1 + noise.below(20_000);
    let mut bytes = noise.bytes(length);
    let front: &[u8] = match shape {
        0 => &[],
        // A TLS record, and a request, that go on as noise.
        1 => &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03],
        2 => b"GET /",
        3 => b"POST /derp/probe HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        4 => b"GET /derp/probe HTTP/1.1\r\nHost: x\r\n\r\n",
        // DERP: the upgrade, a greeting of a relay, a login, frames.
        5 => UPGRADE,
        6 => &[UPGRADE, &[0x02, 0, 0, 0x01, 0x00]].concat(),
        7 => &[0x04, 0, 0, 0, 60],
        8 => &[UPGRADE, &[0x02, 0xff, 0xff, 0xff, 0xff]].concat(),
        9 => {
            // A hello with a few bytes that are wrong.
            bytes = client_hello();
            for _ in 0..1 + noise.below(8) {
                let at = noise.below(bytes.len());
                bytes[at] ^= noise.bytes(1)[0];
            }
            &[]
        }
        10 => {
            // A header without end.
            bytes = [&b"GET / HTTP/1.1\r\nX: "[..], &vec![b'x'; 100_000]].concat();
            &[]
        }
        _ => {
            // Well-formed frames of every kind, with lengths that fit no kind.
            bytes = Vec::new();
            for _ in 0..20 {
                let length = noise.below(300);
                bytes.push(noise.bytes(1)[0] % 0x18);
                bytes.extend(u32::try_from(length).unwrap().to_be_bytes());
                bytes.extend(noise.bytes(length));
            }
            &[]
        }
    };
    [front, &bytes].concat()
}

/// After the greeting everything else than a login closes, unanswered.
#[test]
fn noise_instead_of_a_login_is_not_answered() {
    for host in HOSTS {
        let state = tempfile::tempdir().unwrap();
        let relay = Program::serve(host, Way::Tls13, state.path(), crate::NOTHING);
        let mut noise = Noise::new(5);
        for _ in 0..50 {
            let mut stream = dial(relay.address("derp"), Way::Tls13);
            upgrade(&mut *stream);
            let length = 300 + noise.below(3_000);
            drop(stream.write_all(&noise.bytes(length)));
            drop(stream.flush());
            drop(stream.socket().shutdown(Shutdown::Write));
            let mut rest = Vec::new();
            drop(stream.read_to_end(&mut rest));
            assert_eq!(rest.len(), 45, "the greeting alone");
        }
        relay.counts("derp_logins", 0);
    }
}
