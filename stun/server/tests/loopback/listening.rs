//! Binding: free ports, taken ports, and everything that is refused before the start.

use std::net::{SocketAddr, UdpSocket};
use std::num::NonZero;

use socket2::{Domain, Socket, Type};
use stun_server::limits::MAX_THREADS;
use stun_server::{BindError, Running, Server, StartError};

use crate::client::{Client, LOOPBACK, address, quiet, server};

/// STUN-5.4: with port 0 all sockets of an address share the port that the first one got.
#[test]
fn port_zero_is_one_port_for_all_threads() {
    for listen in LOOPBACK {
        let server = server(listen, 4).start().unwrap();

        assert_ne!(address(&server).port(), 0);
        // Enough clients to meet each of the four sockets.
        for _ in 0..64 {
            Client::new(listen, address(&server)).ask();
        }
        assert_eq!(server.address_list(), address(&server).to_string());
    }
}

/// STUN-5.4: several addresses, each with port 0, get a port each, in the order given.
#[test]
fn several_addresses_are_served_by_one_server() {
    let server = LOOPBACK
        .iter()
        .fold(Server::builder(), |builder, listen| builder.listen(listen.parse().unwrap()))
        .threads(NonZero::new(2).unwrap())
        .start()
        .unwrap();

    let [v4, v6] = server.addresses() else { panic!("{:?}", server.addresses()) };
    assert!(v4.is_ipv4() && v6.is_ipv6());
    assert_eq!(server.address_list(), format!("{v4},{v6}"));
    Client::new(LOOPBACK[0], *v4).ask();
    Client::new(LOOPBACK[1], *v6).ask();
}

/// STUN-5.3: a second server on the same port is refused, although both share ports among their
/// own sockets and the same user owns them; the first goes on undisturbed.
#[test]
fn second_server_on_a_port_is_refused() {
    for listen in LOOPBACK {
        let first = server(listen, 2).start().unwrap();
        let taken = address(&first);

        for _ in 0..3 {
            let second = server(&taken.to_string(), 2).start();
            assert!(is_taken(&second, taken));
        }

        Client::new(listen, taken).ask();
    }
}

/// STUN-5.3: sockets of other programs are noticed, whether they share their port or not.
#[test]
fn port_of_another_program_is_refused() {
    for listen in LOOPBACK {
        for shares in [false, true] {
            let local = listen.parse::<SocketAddr>().unwrap();
            let other = Socket::new(Domain::for_address(local), Type::DGRAM, None).unwrap();
            other.set_reuse_port(shares).unwrap();
            other.bind(&local.into()).unwrap();
            let taken = other.local_addr().unwrap().as_socket().unwrap();

            assert!(is_taken(&server(&taken.to_string(), 2).start(), taken), "shares: {shares}");
        }
    }
}

/// STUN-5.3: the reference server's one socket for both families stands in the way of either.
#[test]
fn dual_stack_socket_of_another_program_is_noticed() {
    let port = crate::quiet::port();
    let _derper = UdpSocket::bind(("::", port)).unwrap();

    for ip in ["0.0.0.0", "[::]"] {
        let taken = format!("{ip}:{port}").parse().unwrap();
        assert!(is_taken(&server(&format!("{ip}:{port}"), 1).start(), taken), "{ip}");
    }
}

/// STUN-5.3: the same address twice in one configuration is refused, too, and leaves nothing
/// bound behind.
#[test]
fn address_given_twice_is_refused() {
    for listen in LOOPBACK {
        let free = quiet(listen);

        let twice = Server::builder().listen(free).listen(free).start();

        assert!(is_taken(&twice, free));
        assert_eq!(address(&server(&free.to_string(), 1).start().unwrap()), free);
    }
}

/// STUN-5.3: what may be left out for want of IPv6 may not be left out for a taken port.
#[test]
fn optional_address_on_a_taken_port_is_refused() {
    for listen in LOOPBACK {
        let other = UdpSocket::bind(listen).unwrap();
        let taken = other.local_addr().unwrap();

        assert!(is_taken(&Server::builder().listen_if_supported(taken).start(), taken));
    }
}

/// STUN-5.3: an address of another host is refused by name.
#[test]
fn address_of_another_host_is_refused() {
    for foreign in ["192.0.2.77:0", "[2001:db8::77]:0"] {
        let error = server(foreign, 1).start().unwrap_err();

        assert!(matches!(error, StartError::Bind(BindError::NotLocal { .. })), "{error:?}");
        assert!(error.to_string().contains(foreign), "{error}");
    }
}

/// STUN-5.1: an IPv4 address in IPv6 clothes is listened on as the IPv4 address it is.
#[test]
fn ipv4_mapped_address_is_listened_on_as_ipv4() {
    let server = server("[::ffff:127.0.0.1]:0", 1).start().unwrap();

    assert!(address(&server).is_ipv4());
    Client::new("127.0.0.1:0", address(&server)).ask();
}

/// STUN-5.14: a server without address, or with a mistyped number of threads, does not start.
#[test]
fn senseless_configuration_is_refused() {
    assert!(matches!(Server::builder().start(), Err(StartError::NoListen)));

    let too_many = server(LOOPBACK[0], MAX_THREADS + 1).start();
    assert!(matches!(too_many, Err(StartError::TooManyThreads { threads: 1_025 })));
}

fn is_taken(result: &Result<Running, StartError>, taken: SocketAddr) -> bool {
    matches!(result, Err(StartError::Bind(BindError::Taken { address })) if *address == taken)
}
