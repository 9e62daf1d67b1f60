//! A client with patience but without mercy: it waits long, and takes only right answers.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZero;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use stun::message::TransactionId;
use stun::{request, response};
use stun_server::{Builder, Counters, Running, Server};

use crate::quiet;
use crate::uninterrupted::uninterrupted;

/// Loopback addresses of both families, port 0: every test that has an address runs on both.
pub(crate) const LOOPBACK: [&str; 2] = ["127.0.0.1:0", "[::1]:0"];

/// How long anything may take before a test fails. Not a promise of the server.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server with `threads` threads on `listen`, not yet started.
pub(crate) fn server(listen: &str, threads: usize) -> Builder {
    Server::builder().listen(listen.parse().unwrap()).threads(NonZero::new(threads).unwrap())
}

/// `listen`, at a port that stays this test's, whether anybody listens there or not.
pub(crate) fn quiet(listen: &str) -> SocketAddr {
    let mut address = listen.parse::<SocketAddr>().unwrap();
    address.set_port(quiet::port());
    address
}

/// The address of a server that has one.
pub(crate) fn address(server: &Running) -> SocketAddr {
    let [address] = server.addresses() else { panic!("{:?}", server.addresses()) };
    *address
}

/// Waits until the counters are as `wanted`, since they are published behind the answers.
#[track_caller]
pub(crate) fn await_counters(server: &Running, wanted: impl Fn(&Counters) -> bool) -> Counters {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let counters = server.counters();
        if wanted(&counters) {
            return counters;
        }
        assert!(Instant::now() < deadline, "the counters stay at {counters:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Stops a server, and fails rather than hangs if it does not stop.
#[track_caller]
pub(crate) fn stop_in_time(server: Running) -> Counters {
    let (last, stopped) = mpsc::channel();
    thread::spawn(move || last.send(server.stop()));
    stopped.recv_timeout(PATIENCE).unwrap()
}

/// A socket that asks one server.
#[derive(Debug)]
pub(crate) struct Client {
    socket: UdpSocket,
    asks: u64,
}

impl Client {
    /// A client on a free port of `local` that talks to `server` only: the kernel drops what
    /// comes from any other address, so an answer proves that it left from the one asked.
    pub(crate) fn new(local: &str, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind(local).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, asks: 0 }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub(crate) fn send(&self, datagram: &[u8]) {
        self.socket.send(datagram).unwrap();
    }

    /// Sends a new request and returns its id.
    pub(crate) fn request(&mut self) -> TransactionId {
        self.asks += 1;
        let mut id = [0x5a; 12];
        id[..8].copy_from_slice(&self.asks.to_be_bytes());
        self.send(&request::encode(TransactionId::new(id)));
        TransactionId::new(id)
    }

    /// Receives one answer.
    #[track_caller]
    pub(crate) fn receive(&self) -> response::Response {
        let mut answer = [0; 256];
        let len = uninterrupted(|| self.socket.recv(&mut answer)).unwrap();
        response::decode(&answer[..len]).unwrap()
    }

    /// Asks, and checks that the answer is the right one.
    #[track_caller]
    pub(crate) fn ask(&mut self) {
        let id = self.request();
        let response = self.receive();
        assert_eq!(response.transaction_id, id);
        // A link-local client is told its address without the scope, which is its own business.
        let (ip, port) = (self.address().ip(), self.address().port());
        assert_eq!((response.mapped.ip(), response.mapped.port()), (ip, port));
    }

    /// Asks until there is an answer, as real clients do; answers to earlier asks do as well.
    #[track_caller]
    pub(crate) fn ask_until_answered(&mut self) {
        self.socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut answer = [0; 256];
        loop {
            self.request();
            match self.socket.recv(&mut answer) {
                Ok(len) => {
                    response::decode(&answer[..len]).unwrap();
                    break;
                }
                Err(error) => assert!(Instant::now() < deadline, "no answer: {error}"),
            }
        }
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    }

    /// Checks that no answer is waiting.
    #[track_caller]
    pub(crate) fn expect_silence(&self) {
        self.socket.set_nonblocking(true).unwrap();
        let silence = self.socket.recv(&mut [0; 256]);
        self.socket.set_nonblocking(false).unwrap();
        assert_eq!(silence.unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

/// Addresses of this host's interfaces with the index of each: `link_local` ones or global ones.
pub(crate) fn ipv6_addresses(link_local: bool) -> Vec<(Ipv6Addr, u32)> {
    let table = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let ip = u128::from_str_radix(fields.next()?, 16).ok()?;
            let interface = u32::from_str_radix(fields.next()?, 16).ok()?;
            Some((Ipv6Addr::from_bits(ip), interface))
        })
        .filter(|(ip, _)| !ip.is_loopback() && ip.is_unicast_link_local() == link_local)
        .collect()
}
