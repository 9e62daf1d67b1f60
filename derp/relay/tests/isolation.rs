//! Nothing connects anywhere that the configuration does not name: the relay runs, with real
//! traffic, where there is no route to anywhere, and the kernel counts every attempt to find one.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod support;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use derp_relay::{AccessConfig, Relay};
use support::peer::{Peer, Way, private};
use support::process::{Program, command, serve_arguments};
use support::verifier::{Reply, Verifier};
use support::{HOSTS, http, namespace, stun};

/// Addresses that are nowhere (RFC 5737, RFC 3849): what leads there, leads out.
const OUTSIDE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// `serve` with every listener, open and with a verifier on loopback; logins that are admitted,
/// refused and broken; packets, probes, STUN, scrapes and a reload.
#[test]
fn serving_connects_nowhere_but_to_the_verifier_that_is_named() {
    namespace::run("serving_connects_nowhere_but_to_the_verifier_that_is_named", || {
        let watch = Watch::begin();
        for host in HOSTS {
            for way in [Way::Plain, Way::Tls12, Way::Tls13] {
                let state = tempfile::tempdir().unwrap();
                let relay = Program::serve(host, way, state.path(), &["--shards", "2"]);
                let inside = traffic(&relay, way);
                watch.holds(&relay, &inside, &[]);
                relay.signal(rustix::process::Signal::HUP);
                let inside = traffic(&relay, way);
                watch.holds(&relay, &inside, &[]);
                assert_eq!(relay.stop().status.code(), Some(0));

                let refused = private(66).public().to_string();
                let verifier = Verifier::start(host, move |question| {
                    if question.body.contains(&refused) { Reply::deny() } else { Reply::allow() }
                });
                let mut serve = serve_arguments(host, way, state.path());
                let access = serve.iter().position(|argument| argument == "--access").unwrap();
                serve.drain(access..access + 2);
                serve.extend(["--verify-url".to_owned(), verifier.url()]);
                let relay = Program::start(command(&serve));
                let inside = traffic(&relay, way);
                assert!(Peer::try_connect(relay.address("derp"), way, private(66)).is_err());
                watch.holds(&relay, &inside, &[verifier.address]);
                assert_eq!(relay.stop().status.code(), Some(0));
            }
        }
        watch.end();
    });
}

/// `dev`, `check` and the commands that only say something.
#[test]
fn other_commands_connect_nowhere() {
    namespace::run("other_commands_connect_nowhere", || {
        let watch = Watch::begin();
        let home = tempfile::tempdir().unwrap();
        let mut dev = command(&["dev"]);
        dev.env("HOME", home.path());
        let relay = Program::start(dev);
        let inside = traffic(&relay, Way::Tls13);
        watch.holds(&relay, &inside, &[]);
        assert_eq!(relay.stop().status.code(), Some(0));

        let state = tempfile::tempdir().unwrap();
        let mut check = serve_arguments(HOSTS[0], Way::Tls13, state.path());
        "check".clone_into(&mut check[0]);
        assert_eq!(Program::run(command(&check)).status.code(), Some(0));
        // A name in the configuration is not looked up before there is something to ask.
        let access = check.iter().position(|argument| argument == "--access").unwrap();
        check.drain(access..access + 2);
        check.extend(["--verify-url".to_owned(), "https://headscale.test/verify".to_owned()]);
        assert_eq!(Program::run(command(&check)).status.code(), Some(0));
        for arguments in [&["--help"][..], &["--version"], &["serve", "--help"]] {
            assert_eq!(Program::run(command(arguments)).status.code(), Some(0));
        }
        watch.end();
    });
}

/// A program that embeds the relay gets no more connections than it asks for.
#[test]
fn an_embedded_relay_connects_nowhere() {
    namespace::run("an_embedded_relay_connects_nowhere", || {
        let watch = Watch::begin();
        for host in HOSTS {
            let state = tempfile::tempdir().unwrap();
            let relay = Relay::builder()
                .listen_derp((host, 0).into())
                .listen_stun((host, 0).into())
                .self_signed(&host.to_string(), state.path())
                .key_file(state.path().join("derp.key"))
                .access(AccessConfig::Open)
                .start()
                .unwrap();
            Peer::connect(relay.addresses().derp[0], Way::Tls13, 1).is_up();
            stun::answers(relay.addresses().stun[0]);
            relay.reload();
            relay.stop();
        }
        watch.end();
    });
}

/// What the tests above rely on: the kernel counts what has no route, in both families, over TCP
/// and UDP, and a resolver that asks a name server is no exception.
#[test]
fn an_attempt_to_leave_is_seen() {
    namespace::run("an_attempt_to_leave_is_seen", || {
        for outside in OUTSIDE {
            let before = without_route();
            let address = SocketAddr::new(outside, 443);
            TcpStream::connect_timeout(&address, Duration::from_secs(1)).unwrap_err();
            assert!(without_route() > before, "TCP to {outside} is not seen");

            let before = without_route();
            let any: IpAddr = match outside {
                IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
            };
            let socket = UdpSocket::bind((any, 0)).unwrap();
            socket.send_to(b"where are you", (outside, 53)).unwrap_err();
            assert!(without_route() > before, "UDP to {outside} is not seen");
        }
        // The relay itself, when its configuration names such a place.
        for outside in OUTSIDE {
            let before = without_route();
            let state = tempfile::tempdir().unwrap();
            let mut serve = serve_arguments(HOSTS[0], Way::Plain, state.path());
            let access = serve.iter().position(|argument| argument == "--access").unwrap();
            serve.drain(access..access + 2);
            let url = format!("http://{}/verify", SocketAddr::new(outside, 80));
            serve.extend(["--verify-url".to_owned(), url]);
            let relay = Program::start(command(&serve));
            assert_eq!(without_route(), before, "asked before there was a question");
            let refused = Peer::try_connect(relay.address("derp"), Way::Plain, private(1));
            assert!(refused.is_err());
            assert!(without_route() > before, "a verifier at {outside} is not seen");
        }
        // A connection to another address of loopback shows up as well.
        let listener = std::net::TcpListener::bind((HOSTS[0], 0)).unwrap();
        let here = listener.local_addr().unwrap();
        let socket = TcpStream::connect(here).unwrap();
        let own = format!("/proc/{}", std::process::id());
        assert!(peers(&own).contains(&(socket.local_addr().unwrap(), here)));
    });
}

/// What a relay is for, on all of its listeners; returns two clients that are still inside.
fn traffic(relay: &Program, way: Way) -> [Peer; 2] {
    let derp = relay.address("derp");
    let mut one = Peer::connect(derp, way, 1);
    let mut two = Peer::connect(derp, way, 2);
    one.send_packet(&two.key, b"hello");
    assert_eq!(two.packet().1, b"hello");
    one.send_packet(&private(77).public(), b"to nobody");
    one.is_up();
    let mut broken = Peer::connect(derp, way, 3);
    broken.send(derp::frame::Kind::Ping, b"short");
    broken.is_closed();
    stun::answers(relay.address("stun"));
    http::get(relay.address("http"), "/generate_204");
    relay.scrape();
    [one, two]
}

/// The counters of the kernel, from a moment when nobody has tried to leave.
struct Watch(u64);

impl Watch {
    fn begin() -> Self {
        Self(without_route())
    }

    /// Holds that the connections of the relay's process are those of `inside`, and of others that
    /// came to its listeners, and those that it has made to `named`.
    fn holds(&self, relay: &Program, inside: &[Peer], named: &[SocketAddr]) {
        let found = peers(&format!("/proc/{}", relay.pid()));
        let listeners: BTreeSet<SocketAddr> = ["derp", "http", "metrics"]
            .into_iter()
            .flat_map(|what| relay.addresses(what).iter().copied())
            .collect();
        for client in inside {
            let remote = client.stream.socket().local_addr().unwrap();
            assert!(found.iter().any(|(_, known)| *known == remote), "{remote} is not seen");
        }
        for made in named {
            assert!(found.iter().any(|(_, known)| known == made), "{made} is not seen");
        }
        for (local, remote) in found {
            assert!(remote.ip().to_canonical().is_loopback(), "{local} is connected to {remote}");
            let incoming = listeners.contains(&local);
            assert!(incoming || named.contains(&remote), "{local} has connected to {remote}");
        }
        assert_eq!(without_route(), self.0, "somebody has looked for a route");
    }

    fn end(self) {
        assert_eq!(without_route(), self.0, "somebody has looked for a route");
    }
}

/// Packets and connections of this network that found no route, in both families.
fn without_route() -> u64 {
    let snmp = std::fs::read_to_string("/proc/net/snmp").unwrap();
    let mut ip = snmp.lines().filter_map(|line| line.strip_prefix("Ip: "));
    let (names, values) = (ip.next().unwrap(), ip.next().unwrap());
    let place = names.split(' ').position(|name| name == "OutNoRoutes").unwrap();
    let v4: u64 = values.split(' ').nth(place).unwrap().parse().unwrap();
    let snmp6 = std::fs::read_to_string("/proc/net/snmp6").unwrap();
    let line = snmp6.lines().find(|line| line.starts_with("Ip6OutNoRoutes")).unwrap();
    let v6: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    v4 + v6
}

/// Both ends of all TCP connections and connected UDP sockets that a process has, `/proc/PID`.
fn peers(process: &str) -> Vec<(SocketAddr, SocketAddr)> {
    let own: BTreeSet<String> = std::fs::read_dir(format!("{process}/fd"))
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    let mut peers = Vec::new();
    for table in ["tcp", "tcp6", "udp", "udp6"] {
        let text = std::fs::read_to_string(format!("{process}/net/{table}")).unwrap();
        for line in text.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (local, remote) = (address(fields[1]), address(fields[2]));
            if own.contains(fields[9]) && remote.port() != 0 {
                peers.push((local, remote));
            }
        }
    }
    peers
}

/// `0100007F:1F90`: words in the byte order of the machine.
fn address(text: &str) -> SocketAddr {
    let (ip, port) = text.split_once(':').unwrap();
    let word = |place: usize| u32::from_str_radix(&ip[place * 8..place * 8 + 8], 16).unwrap();
    let ip: IpAddr = if ip.len() == 8 {
        Ipv4Addr::from(word(0).to_ne_bytes()).into()
    } else {
        let bytes = [0, 1, 2, 3].map(|place| word(place).to_ne_bytes()).concat();
        Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap()).into()
    };
    SocketAddr::new(ip, u16::from_str_radix(port, 16).unwrap())
}
