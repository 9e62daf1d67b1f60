//! Floods, deadlines, and a door that stays open for the others.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use derp_relay::door::counters::{LoginFailure, Reject};
use derp_relay::tls::FailureReason;

use crate::client::{
    OPENING_LEN, Response, config, connect, login, open, read, read_to_end, request, tls,
};
use crate::relay::{Options, Relay, on_all, on_both, on_both_at_once};

/// A deadline that a test only waits for.
const SHORT: Duration = Duration::from_secs(1);

/// A deadline before which a test has something to do, half of it on a machine that is busy.
const AMPLE: Duration = Duration::from_secs(4);

/// Ours: fault-D1 shows what a flood may not do. The silent are only held against their source.
#[test]
fn a_good_client_gets_through_beside_hundreds_of_silent_ones() {
    on_both(|ip| {
        for tls in [false, true] {
            let mut options = Options { tls, ..Options::default() };
            options.limits.pending_per_source = 0;
            let relay = Relay::start(ip, options);
            let silent: Vec<_> = (0..300).map(|_| connect(relay.derp)).collect();
            relay.wait_for(|counters| counters.pending() == 300);

            let mut client = open(&relay);
            let (client_info, state) = login(&relay);
            client.write_all(&[request(""), client_info].concat()).unwrap();

            read(&mut client, OPENING_LEN);
            relay.shard().greet(&mut client, state);
            drop(silent);
        }
    });
}

/// Ours: those who begin a handshake and fall silent keep nobody out either.
#[test]
fn a_good_client_gets_through_beside_half_handshakes_in_every_turn() {
    on_both(|ip| {
        let mut options = Options::default();
        options.limits.handshakes_per_core = 1;
        options.limits.handshake_turn = Duration::from_millis(20);
        options.limits.pending_per_source = 0;
        let relay = Relay::start(ip, options);
        let hello = client_hello(&relay);
        let half: Vec<_> = (0..100)
            .map(|_| {
                let mut client = connect(relay.derp);
                client.write_all(&hello).unwrap();
                client
            })
            .collect();

        let mut client = open(&relay);
        let (client_info, state) = login(&relay);
        client.write_all(&[request(""), client_info].concat()).unwrap();

        read(&mut client, OPENING_LEN);
        relay.shard().greet(&mut client, state);
        drop(half);
        relay.wait_for(|counters| {
            counters.pending() == 0
                && counters.handshakes_started.get() == counters.handshakes_ended.get()
        });
    });
}

#[test]
fn connections_over_the_limit_of_a_source_are_closed_and_counted() {
    on_all_with_limit(|relay| {
        let waiting: Vec<_> = (0..5).map(|_| connect(relay.derp)).collect();
        relay.wait_for(|counters| counters.pending() == 5);

        for address in [relay.derp, relay.http] {
            assert!(read_to_end(&mut connect(address)).is_empty());
        }

        assert_eq!(relay.counters.rejects.get(Reject::Source), 2);
        drop(waiting);
        relay.wait_for(|counters| counters.pending() == 0);
        let mut client = open(relay);
        client.write_all(b"GET /derp/probe HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(Response::read(&mut client, false).status, 200);
    });
}

#[test]
fn connections_over_the_total_are_closed_and_counted() {
    on_both(|ip| {
        let mut options = Options::plain();
        options.limits.pending = 3;
        let relay = Relay::start(ip, options);
        let waiting: Vec<_> = (0..3).map(|_| connect(relay.derp)).collect();
        relay.wait_for(|counters| counters.pending() == 3);

        assert!(read_to_end(&mut connect(relay.derp)).is_empty());

        assert_eq!(relay.counters.rejects.get(Reject::Total), 1);
        assert_eq!(relay.counters.accepts.total(), 4);
        drop(waiting);
    });
}

/// DERP-3.5: a silent connection, with or without the first bytes of whatever it never says.
#[test]
fn what_never_becomes_a_login_is_closed_at_the_deadline() {
    on_both(|ip| {
        for tls in [false, true] {
            let options = Options { tls, ..Options::default() }.with_login_time(SHORT);
            let relay = Relay::start(ip, options);
            let beginnings = if tls {
                let hello = client_hello(&relay);
                vec![Vec::new(), hello[..3].to_vec(), hello[..100].to_vec(), hello]
            } else {
                vec![Vec::new(), b"G".to_vec(), b"GET /derp HTTP/1.1\r\nUpgr".to_vec()]
            };
            let count = beginnings.len() as u64;
            let clients: Vec<TcpStream> = beginnings
                .into_iter()
                .map(|bytes| {
                    let mut client = connect(relay.derp);
                    client.write_all(&bytes).unwrap();
                    client
                })
                .collect();

            for mut client in clients {
                let answer = read_to_end(&mut client);
                // The relay's flight, for the one that said a whole hello.
                assert!(answer.is_empty() || answer[0] == 0x16, "{answer:?}");
            }

            relay.wait_for(|counters| counters.pending() == 0);
            let timeouts = relay.counters.tls_failures.get(FailureReason::Timeout);
            assert_eq!(
                (timeouts, relay.counters.http_failures.get()),
                if tls { (count, 0) } else { (0, count) }
            );
        }
    });
}

/// DERP-3.5: one deadline for all: who always says a little more gains nothing.
#[test]
fn a_slow_loris_is_closed_at_the_deadline() {
    on_both(|ip| {
        for tls in [false, true] {
            let options = Options { tls, ..Options::default() }.with_login_time(SHORT);
            let relay = Relay::start(ip, options);
            let mut client = connect(relay.derp);
            let endless = [&b"GET /derp HTTP/1.1\r\n"[..], &b"a: b\r\n".repeat(1_000)].concat();
            let bytes = if tls { client_hello(&relay) } else { endless };

            let closed = bytes.iter().any(|byte| {
                std::thread::sleep(Duration::from_millis(20));
                client.write_all(&[*byte]).is_err()
            });

            assert!(closed, "all of it was taken");
            relay.wait_for(|counters| counters.pending() == 0);
        }
    });
}

/// DERP-3.5: the handshake, the request and the login share the deadline.
#[test]
fn a_login_that_comes_too_late_is_closed() {
    on_both_at_once(|ip| {
        let relay = Relay::start(ip, Options::plain().with_login_time(AMPLE));
        let mut client = connect(relay.derp);
        std::thread::sleep(AMPLE / 2);
        client.write_all(&request("")).unwrap();
        read(&mut client, OPENING_LEN);

        assert!(read_to_end(&mut client).is_empty());

        relay.wait_for(|counters| counters.login_failures.get(LoginFailure::Timeout) == 1);
    });
}

/// DERP-3.9: each request of a kept connection has the time anew, and then it is over.
#[test]
fn a_connection_kept_open_has_time_for_each_request() {
    on_both_at_once(|ip| {
        let relay = Relay::start(ip, Options::plain().with_login_time(AMPLE));
        let mut client = connect(relay.derp);
        // In all longer than one deadline.
        for _ in 0..3 {
            client.write_all(b"GET /derp/probe HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            assert_eq!(Response::read(&mut client, false).status, 200);
            std::thread::sleep(AMPLE / 2);
        }

        assert!(read_to_end(&mut client).is_empty());

        relay.wait_for(|counters| counters.http_failures.get() == 1);
    });
}

/// A client that asks and never reads costs one connection until the deadline, no memory.
#[test]
fn a_client_that_never_reads_is_closed() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::plain().with_login_time(SHORT));
        let mut client = connect(relay.derp);
        let requests = b"GET /derp/probe HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_000);

        let closed = (0..10_000).any(|_| client.write_all(&requests).is_err());

        assert!(closed, "all of it was taken");
        relay.wait_for(|counters| counters.pending() == 0);
    });
}

/// For a drain: nobody new, and those inside go on.
#[test]
fn a_door_that_stops_accepting_still_serves_who_is_inside() {
    on_all(|relay| {
        let (client_info, state) = login(relay);
        let mut client = open(relay);
        client.write_all(&request("")).unwrap();
        read(&mut client, OPENING_LEN);

        relay.door.stop_accepting();

        while TcpStream::connect(relay.derp).is_ok() || TcpStream::connect(relay.http).is_ok() {
            std::thread::sleep(Duration::from_millis(2));
        }
        client.write_all(&client_info).unwrap();
        relay.shard().greet(&mut client, state);
    });
}

fn on_all_with_limit(test: impl Fn(&Relay)) {
    on_both(|ip| {
        for tls in [false, true] {
            let mut options = Options { tls, ..Options::default() };
            options.limits.pending_per_source = 5;
            test(&Relay::start(ip, options));
        }
    });
}

fn client_hello(relay: &Relay) -> Vec<u8> {
    let mut flight = Vec::new();
    tls(config(relay)).write_tls(&mut flight).unwrap();
    flight
}
