//! Pausing, resuming and stopping.

use std::net::UdpSocket;

use crate::client::{Client, LOOPBACK, address, await_counters, quiet, server, stop_in_time};

/// STUN-5.8: a paused server is silent, and what came meanwhile is not answered later.
#[test]
fn paused_server_throws_requests_away() {
    for listen in LOOPBACK {
        let server = server(listen, 2).start().unwrap();
        let mut client = Client::new(listen, address(&server));
        client.ask();

        server.pause();
        for _ in 0..10 {
            client.request();
        }
        client.send(b"garbage");
        await_counters(&server, |counters| counters.paused == 11);
        client.expect_silence();

        server.resume();
        client.ask();
        client.expect_silence();
        let counters = await_counters(&server, |counters| counters.success == 2);
        assert_eq!((counters.not_stun, counters.paused), (0, 11));
    }
}

/// STUN-5.8: a paused server stops like any other.
#[test]
fn paused_server_can_be_stopped() {
    for listen in LOOPBACK {
        let server = server(listen, 2).start().unwrap();
        server.pause();

        stop_in_time(server);
    }
}

/// STUN-5.9: an idle server, whose threads all wait, stops at once and frees its port.
#[test]
fn stopped_server_frees_its_port() {
    for listen in LOOPBACK {
        let freed = quiet(listen);
        let server = server(&freed.to_string(), 8).start().unwrap();
        Client::new(listen, freed).ask();

        let counters = stop_in_time(server);

        assert_eq!(counters.success, 1);
        UdpSocket::bind(freed).unwrap();
    }
}

/// STUN-5.9: a server that is dropped stops as if it had been stopped.
#[test]
fn dropped_server_frees_its_port() {
    for listen in LOOPBACK {
        let freed = quiet(listen);
        let server = server(&freed.to_string(), 2).start().unwrap();

        drop(server);

        UdpSocket::bind(freed).unwrap();
    }
}

/// STUN-5.9: nothing of an old server disturbs a new one on the same port.
#[test]
fn port_can_be_taken_over_again_and_again() {
    for listen in LOOPBACK {
        let port = quiet(listen).to_string();
        for _ in 0..20 {
            let next = server(&port, 2).start().unwrap();
            Client::new(listen, address(&next)).ask();
            stop_in_time(next);
        }
    }
}
