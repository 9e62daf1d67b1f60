//! How a connection leaves HTTP: silently or with the one head, and with every byte.

use std::io::{Read, Write};

use crate::client::{Response, connect, login, open, read, request};
use crate::relay::{Options, Relay, on_all, on_both};

/// DERP-1.5, DERP-3.1, check-H1: the exact head, and at once the greeting.
#[test]
fn an_upgrade_is_answered_by_the_head_and_the_greeting() {
    on_all(|relay| {
        let mut client = open(relay);
        client.write_all(&request("")).unwrap();

        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n\
             Derp-Version: 2\r\nDerp-Public-Key: {}\r\n\r\n",
            relay.key.to_hex()
        );
        assert_eq!(read(&mut client, head.len()), head.as_bytes());
        assert_eq!(read(&mut client, 45), greeting(relay));
        let (client_info, state) = login(relay);
        client.write_all(&client_info).unwrap();
        relay.shard().greet(&mut client, state);
        assert_eq!((relay.counters.upgrades.get(), relay.counters.fast_starts.get()), (1, 0));
    });
}

/// DERP-1.4, check-H3: not a byte of HTTP.
#[test]
fn a_fast_start_is_silent() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::default());
        let mut client = open(&relay);
        client.write_all(&request("Derp-Fast-Start: 1\r\n")).unwrap();

        assert_eq!(read(&mut client, 45), greeting(&relay));
        let (client_info, state) = login(&relay);
        client.write_all(&client_info).unwrap();
        relay.shard().greet(&mut client, state);
        assert_eq!((relay.counters.upgrades.get(), relay.counters.fast_starts.get()), (1, 1));
    });
}

/// DERP-1.4: a proxy before us waits for an answer, and hands it on to a client that would
/// then take it for DERP: but a client behind a proxy never saw our meta certificate.
#[test]
fn a_fast_start_without_our_tls_is_answered() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::plain());
        let mut client = open(&relay);
        client.write_all(&request("Derp-Fast-Start: 1\r\n")).unwrap();

        assert_eq!(read(&mut client, 12), b"HTTP/1.1 101");
        assert_eq!(relay.counters.fast_starts.get(), 0);
    });
}

/// DERP-1.7, check-T7, check-W9: method, version and `Connection` do not count.
#[test]
fn any_request_with_the_upgrade_header_is_upgraded() {
    on_all(|relay| {
        for head in [
            "POST /derp HTTP/1.1\r\nHost: a\r\nUpgrade: WebSocket\r\n",
            "POST /derp HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nUpgrade: DERP\r\n",
            "GET /derp HTTP/1.0\r\nUpgrade: DERP\r\n",
            "GET /derp HTTP/1.1\r\nUpgrade: derp\r\nConnection: close\r\n",
            "GET /derp?x=1 HTTP/1.1\r\nHost: a\r\nUpgrade: dErP\r\n",
            "GET http://relay.example/derp HTTP/1.1\r\nHost: a\r\nUpgrade: derp\r\n",
            "BREW /derp HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nUpgrade: derp\r\n",
        ] {
            let mut client = open(relay);
            write!(client, "{head}\r\n").unwrap();
            let (client_info, state) = login(relay);
            client.write_all(&client_info).unwrap();

            assert_eq!(Response::read(&mut client, true).status, 101, "{head}");
            assert_eq!(read(&mut client, 45), greeting(relay));
            relay.shard().greet(&mut client, state);
        }
    });
}

/// DERP-1.6: fast start clients send both in one segment; more may follow.
#[test]
fn a_login_in_the_segment_of_the_request_is_taken() {
    on_all(|relay| {
        let (client_info, state) = login(relay);
        let mut client = open(relay);

        let all =
            [&request("Derp-Fast-Start: 1\r\n"), client_info.as_slice(), b"and more"].concat();
        client.write_all(&all).unwrap();

        let mut shard = relay.shard();
        assert_eq!(shard.receive(8), b"and more");
        skip_to_greeting(relay, &mut client);
        shard.greet(&mut client, state);
    });
}

/// DERP-1.6: as much as fits behind the request, and more than any buffer on the way holds.
#[test]
fn much_that_follows_the_login_arrives_in_order() {
    on_all(|relay| {
        let (client_info, state) = login(relay);
        let more: Vec<u8> = (0..60_000_u32).flat_map(u32::to_be_bytes).collect();
        let mut client = open(relay);

        // The socket buffers take it all: nobody reads before the hand-over.
        client.write_all(&[&request(""), client_info.as_slice(), &more].concat()).unwrap();

        let mut shard = relay.shard();
        assert_eq!(shard.receive(more.len()), more);
        skip_to_greeting(relay, &mut client);
        shard.greet(&mut client, state);
    });
}

/// DERP-1.6: a proxy, or a browser that has measured, goes on with the connection it has.
#[test]
fn an_upgrade_may_follow_other_requests_on_a_connection() {
    on_all(|relay| {
        let (client_info, state) = login(relay);
        let mut client = open(relay);
        for _ in 0..3 {
            client.write_all(b"GET /derp/probe HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
            assert_eq!(Response::read(&mut client, false).status, 200);
        }

        client.write_all(&[request(""), client_info].concat()).unwrap();

        skip_to_greeting(relay, &mut client);
        relay.shard().greet(&mut client, state);
    });
}

/// DERP-1.6: no answer is lost, and none comes twice.
#[test]
fn an_upgrade_may_be_pipelined_behind_other_requests() {
    on_all(|relay| {
        for before in [1, 2, 15, 16, 17, 40] {
            let (client_info, state) = login(relay);
            let mut client = open(relay);

            let probes = b"GET /derp/probe HTTP/1.1\r\nHost: a\r\n\r\n".repeat(before);
            client.write_all(&[probes, request(""), client_info].concat()).unwrap();

            for _ in 0..before {
                assert_eq!(Response::read(&mut client, false).status, 200);
            }
            assert_eq!(Response::read(&mut client, true).status, 101);
            assert_eq!(read(&mut client, 45), greeting(relay));
            relay.shard().greet(&mut client, state);
        }
    });
}

/// DERP-1.6: hyper drops what it has not written when it is left; nothing may be there then.
#[test]
fn no_answer_is_lost_when_the_client_reads_late() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::plain());
        let (client_info, state) = login(&relay);
        let mut client = connect(relay.derp);
        let mut writing = client.try_clone().unwrap();
        let probes = 60_000;

        let writer = std::thread::spawn(move || {
            let probes = b"GET /derp/probe HTTP/1.1\r\nHost: a\r\n\r\n".repeat(probes);
            writing.write_all(&[probes, request(""), client_info].concat()).unwrap();
        });
        // Until all buffers between here and hyper are full.
        std::thread::sleep(std::time::Duration::from_millis(300));

        let mut reader = std::io::BufReader::new(client.try_clone().unwrap());
        for _ in 0..probes {
            assert_eq!(Response::read(&mut reader, false).status, 200);
        }
        assert_eq!(Response::read(&mut reader, true).status, 101);
        assert_eq!(read(&mut reader, 45), greeting(&relay));
        writer.join().unwrap();
        relay.shard().greet(&mut client, state);
    });
}

/// Two upgrades: the second request is DERP by then, and no login.
#[test]
fn what_follows_an_upgrade_is_never_http() {
    on_all(|relay| {
        let mut client = open(relay);
        client.write_all(&[request(""), request("")].concat()).unwrap();

        assert_eq!(Response::read(&mut client, true).status, 101);
        assert_eq!(read(&mut client, 45), greeting(relay));
        relay.wait_for(|counters| counters.login_failures.total() == 1);
        assert!(relay.has_no_handover());
    });
}

/// DERP-1.6: a network may cut a stream anywhere. With TLS: see `tls`.
#[test]
fn an_upgrade_and_a_login_byte_by_byte() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::plain());
        let (client_info, state) = login(&relay);
        let mut client = connect(relay.derp);

        for byte in [request(""), client_info].concat() {
            client.write_all(&[byte]).unwrap();
        }

        skip_to_greeting(&relay, &mut client);
        relay.shard().greet(&mut client, state);
    });
}

/// DERP-1.7: hyper would keep the body that a request announces; it is DERP all the same.
#[test]
fn a_body_that_was_announced_is_derp() {
    on_all(|relay| {
        let (client_info, state) = login(relay);
        for announced in [1, 10, client_info.len() - 1, client_info.len(), client_info.len() + 5] {
            let (_, state) = (client_info.len(), login(relay).1);
            let mut client = open(relay);
            let head = request(&format!("Content-Length: {announced}\r\n"));

            client.write_all(&[&head, client_info.as_slice(), b"and more"].concat()).unwrap();

            let mut shard = relay.shard();
            assert_eq!(shard.receive(8), b"and more", "{announced}");
            skip_to_greeting(relay, &mut client);
            shard.greet(&mut client, state);
        }
        drop(state);
    });
}

fn greeting(relay: &Relay) -> Vec<u8> {
    [&[1, 0, 0, 0, 40][..], b"DERP\xf0\x9f\x94\x91", relay.key.as_bytes()].concat()
}

/// Reads what comes before the first frame of a session, with HTTP or without.
#[track_caller]
fn skip_to_greeting(relay: &Relay, client: &mut impl Read) {
    let first = read(client, 1);
    if first == *b"H" {
        let mut rest = Read::chain(&first[..], client);
        assert_eq!(Response::read(&mut rest, true).status, 101);
        assert_eq!(read(&mut rest, 45), greeting(relay));
    } else {
        assert_eq!([first, read(client, 44)].concat(), greeting(relay));
    }
}
