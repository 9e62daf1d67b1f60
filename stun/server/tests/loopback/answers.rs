//! Right answers, to one and to many, from the right address.

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, SockRef, Socket, Type};
use stun::message::TransactionId;
use stun::request;
use stun_server::Rule;

use crate::client::{Client, LOOPBACK, PATIENCE, address, await_counters, ipv6_addresses, server};
use crate::quiet;
use crate::uninterrupted::uninterrupted;

/// STUN-5.1, STUN-2.1, STUN-5.7, check-S2, check-S3: one request, one answer, one count.
#[test]
fn client_is_told_its_address() {
    for listen in LOOPBACK {
        let server = server(listen, 1).start().unwrap();
        let mut client = Client::new(listen, address(&server));

        client.ask();

        let counters = await_counters(&server, |counters| counters.success == 1);
        let is_v4 = client.address().is_ipv4();
        assert_eq!((counters.ipv4, counters.ipv6), (u64::from(is_v4), u64::from(!is_v4)));
        assert_eq!((counters.not_stun, counters.write_error, counters.read_error), (0, 0, 0));
    }
}

/// STUN-5.1, check-S1, fault-D31: on the default pair of wildcards an IPv4 client is told its
/// IPv4 address, as its family has a socket of its own.
#[test]
fn wildcards_of_both_families_share_a_port() {
    let port = quiet::port();
    let v4 = server(&format!("0.0.0.0:{port}"), 2).start().unwrap();
    let v6 = server(&format!("[::]:{port}"), 2).start().unwrap();

    Client::new("127.0.0.1:0", SocketAddr::from(([127, 0, 0, 1], port))).ask();
    Client::new("[::1]:0", SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1_u16], port))).ask();

    await_counters(&v4, |counters| counters.ipv4 == 1 && counters.ipv6 == 0);
    await_counters(&v6, |counters| counters.ipv6 == 1 && counters.ipv4 == 0);
}

/// STUN-5.1: more requests at once than a batch holds, from several clients, are all answered.
#[test]
fn many_requests_at_once_are_all_answered() {
    const CLIENTS: usize = 8;
    /// All of them together fit into the smallest receive buffer that Linux gives.
    const REQUESTS: usize = 40;
    for listen in LOOPBACK {
        let server = server(listen, 2).start().unwrap();
        let mut clients =
            (0..CLIENTS).map(|_| Client::new(listen, address(&server))).collect::<Vec<_>>();

        let asked = clients
            .iter_mut()
            .map(|client| (0..REQUESTS).map(|_| client.request()).collect::<HashSet<_>>())
            .collect::<Vec<_>>();

        for (client, asked) in clients.iter().zip(asked) {
            let answers = (0..REQUESTS).map(|_| client.receive()).collect::<Vec<_>>();
            assert!(answers.iter().all(|answer| answer.mapped == client.address()));
            let answered = answers.iter().map(|answer| answer.transaction_id).collect();
            assert_eq!(asked, answered);
        }
        await_counters(&server, |counters| counters.success == (CLIENTS * REQUESTS) as u64);
    }
}

/// STUN-5.2: at a wildcard socket the answer leaves from the address that was asked, although
/// the kernel, left to itself, would take another.
#[test]
fn answer_leaves_from_the_address_asked() {
    let v4 = server("0.0.0.0:0", 1).start().unwrap();
    for asked in ["127.0.0.1", "127.0.0.2", "127.9.9.9"] {
        let asked = SocketAddr::new(asked.parse().unwrap(), address(&v4).port());
        Client::new("127.0.0.1:0", asked).ask();
    }

    let v6 = server("[::]:0", 1).start().unwrap();
    let port = address(&v6).port();
    Client::new("[::1]:0", SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1_u16], port))).ask();
    let others = ipv6_addresses(false);
    if others.is_empty() {
        skipped("this host has no second IPv6 address");
    }
    for (asked, _) in others {
        Client::new("[::1]:0", SocketAddr::from((asked, port))).ask();
    }
}

/// STUN-5.13: link-local addresses work at a wildcard socket and at one of their own; both ends
/// need the interface to be named.
#[test]
fn link_local_client_is_answered() {
    let addresses = ipv6_addresses(true);
    if addresses.is_empty() {
        skipped("this host has no link-local address");
    }
    for (ip, interface) in addresses {
        let own = format!("[{ip}%{interface}]:0");
        for listen in ["[::]:0", &own] {
            let server = server(listen, 1).start().unwrap();
            let asked = format!("[{ip}%{interface}]:{}", address(&server).port());
            Client::new(&own, asked.parse().unwrap()).ask();
        }
    }
}

/// STUN-5.11: a request to a broadcast or multicast address is not answered, so that one forged
/// datagram cannot raise answers from a whole network.
#[test]
fn request_to_many_is_not_answered() {
    let request = request::encode(TransactionId::new([1; 12]));

    let v4 = server("0.0.0.0:0", 1).start().unwrap();
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.set_broadcast(true).unwrap();
    sender.send_to(&request, ("127.255.255.255", address(&v4).port())).unwrap();
    let counters = await_counters(&v4, |counters| counters.not_stun == 1);
    assert_eq!(counters.success, 0);

    let v6 = server("[::]:0", 1).start().unwrap();
    let interfaces = ipv6_addresses(true);
    if interfaces.is_empty() {
        skipped("this host has no interface for IPv6 multicast");
    }
    for (sent, (ip, interface)) in interfaces.iter().enumerate() {
        let sender = UdpSocket::bind(format!("[{ip}%{interface}]:0")).unwrap();
        let all_nodes = format!("[ff02::1%{interface}]:{}", address(&v6).port());
        sender.send_to(&request, all_nodes.parse::<SocketAddr>().unwrap()).unwrap();
        let counters = await_counters(&v6, |counters| counters.not_stun == sent as u64 + 1);
        assert_eq!(counters.success, 0);
    }
}

/// STUN-5.15: the kernel spreads clients over the threads, and every thread answers.
#[test]
fn every_thread_serves() {
    for listen in LOOPBACK {
        let server = server(listen, 2).start().unwrap();

        // The odds that 64 ports all fall to one of two sockets are 2^-63.
        for _ in 0..64 {
            Client::new(listen, address(&server)).ask();
        }

        await_counters(&server, |counters| counters.success == 64);
        let by_thread = server.thread_counters().map(|c| c.success).collect::<Vec<_>>();
        assert!(by_thread.iter().all(|&answers| answers > 0), "{by_thread:?}");
        assert_eq!(server.live_threads(), 2);
    }
}

/// STUN-3.4: a plain RFC 8489 request is answered under the generic rule and not otherwise.
#[test]
fn rule_decides_who_is_answered() {
    let plain = {
        let mut plain = request::encode(TransactionId::new([2; 12]))[..20].to_vec();
        plain[3] = 0;
        plain
    };
    for listen in LOOPBACK {
        let strict = server(listen, 1).start().unwrap();
        let client = Client::new(listen, address(&strict));
        client.send(&plain);
        await_counters(&strict, |counters| counters.not_stun == 1);
        client.expect_silence();

        let generic = server(listen, 1).rule(Rule::Generic).start().unwrap();
        let client = Client::new(listen, address(&generic));
        client.send(&plain);
        assert_eq!(client.receive().mapped, client.address());
    }
}

/// STUN-5.6: a client that is gone when its answer comes does not disturb the others; the ICMP
/// errors that its host sends back must not be taken for read errors of the socket.
#[test]
fn answers_that_bounce_disturb_nobody() {
    for listen in LOOPBACK {
        let server = server(listen, 1).start().unwrap();
        for _ in 0..500 {
            Client::new(listen, address(&server)).request();
        }

        Client::new(listen, address(&server)).ask_until_answered();

        let counters = await_counters(&server, |counters| counters.success > 0);
        assert_eq!(counters.read_error, 0);
    }
}

/// STUN-5.1: an IPv6 wildcard takes no IPv4 clients, so the two families never meet in a socket.
#[test]
fn ipv6_socket_takes_no_ipv4_clients() {
    let port = quiet::port();
    let v6 = server(&format!("[::]:{port}"), 1).start().unwrap();

    // Only possible if the IPv6 socket has left the IPv4 port alone.
    let v4 = UdpSocket::bind(("0.0.0.0", port)).unwrap();
    v4.set_read_timeout(Some(PATIENCE)).unwrap();
    let sender = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    sender.send_to(b"to v4", &SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();

    assert_eq!(uninterrupted(|| v4.recv(&mut [0; 16])).unwrap(), 5);
    assert!(!SockRef::from(&v4).reuse_port().unwrap());
    assert_eq!(v6.counters().not_stun, 0);
}

fn skipped(reason: &str) {
    // Past the capture of the test harness: what did not run has to be seen.
    let line = format!("stun-server: not run in part: {reason}\n");
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
}
