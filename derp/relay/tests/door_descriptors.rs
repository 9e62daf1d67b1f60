//! A process that runs out of descriptors: in a program of its own, since the limit is its.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use derp::key::NodePrivate;
use derp_relay::AccessConfig;
use derp_relay::access::Access;
use derp_relay::config::Home;
use derp_relay::door::counters::Reject;
use derp_relay::door::{Config, Door, Limits};
use derp_relay::handover::Handover;
use derp_relay::identity::Identity;
use derp_relay::socket;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

/// Clients that connect, and the descriptors that are left to the relay for them.
const CLIENTS: usize = 40;
const ROOM: u64 = 20;

/// Tells the child which of both it is, and on which address.
const ROLE: &str = "DOOR_DESCRIPTORS_RELAY";

const PATIENCE: Duration = Duration::from_secs(60);

/// Ours: connections over the limit are closed, not left waiting, without a busy loop; and once
/// there are descriptors again, all is well.
#[test]
fn a_lack_of_descriptors_closes_what_is_too_much_and_passes() {
    if let Ok(ip) = std::env::var(ROLE) {
        return be_the_relay(ip.parse().unwrap());
    }
    for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_lack_of_descriptors_closes_what_is_too_much_and_passes"])
            .args(["--nocapture", "--test-threads=1"])
            .env(ROLE, ip.to_string())
            .status()
            .unwrap();
        assert!(status.success(), "{ip}");
    }
}

/// Relay and clients share the process. The clients' descriptors are there before the limit is, so
/// what is left under it is the relay's alone, and always too little.
fn be_the_relay(ip: IpAddr) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let door = Door::new(Config {
        identity: Identity::new(NodePrivate::from_random([7; 32])),
        tls: None,
        access: Arc::new(Access::new(AccessConfig::Open).unwrap()),
        intake: Box::new(|_: Handover| ()),
        limits: Limits { login_time: 10 * PATIENCE, ..Limits::default() },
        home: Home::Blank,
        log_addresses: true,
    });
    let [listener] =
        socket::listen("--listen-derp", &[SocketAddr::new(ip, 0)]).unwrap().try_into().unwrap();
    let guard = runtime.enter();
    let address = door.accept_derp(listener).unwrap();
    drop(guard);
    let counters = door.counters();
    let domain = Domain::for_address(address);
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| Socket::new(domain, Type::STREAM, None).unwrap()).collect();
    let highest = clients.iter().map(AsRawFd::as_raw_fd).max().unwrap();
    let room = Some(u64::try_from(highest).unwrap() + 1 + ROOM);
    setrlimit(Resource::Nofile, Rlimit { current: room, ..getrlimit(Resource::Nofile) }).unwrap();
    for client in &clients {
        client.connect(&address.into()).unwrap();
    }

    let give_up = Instant::now() + PATIENCE;
    while counters.rejects.get(Reject::Descriptors) == 0 {
        assert!(Instant::now() < give_up, "in vain: {counters:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    // One turn every 50 ms, so the time bounds the count: a busy loop makes thousands.
    let begun = Instant::now();
    let before = counters.accepts.total() + counters.accept_errors.get();
    std::thread::sleep(Duration::from_millis(500));
    let turns = counters.accepts.total() + counters.accept_errors.get() - before;
    assert!(u128::from(turns) <= begun.elapsed().as_millis() / 50 + 2, "{turns} turns");

    drop(clients);
    while counters.pending() != 0 {
        assert!(Instant::now() < give_up, "in vain: {counters:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"GET /derp/probe HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = [0; 12];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"HTTP/1.1 200");
}

/// The limit is raised as far as the system allows, for a relay that is started by hand.
#[test]
fn the_limit_of_descriptors_can_be_raised() {
    let before = getrlimit(Resource::Nofile);

    let raised = socket::raise_descriptor_limit().unwrap();

    let now = getrlimit(Resource::Nofile);
    assert_eq!(now.current, before.maximum);
    assert_eq!(raised, before.maximum.unwrap_or(u64::MAX));
}
