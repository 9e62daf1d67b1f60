//! Logins, good and bad, and what goes along in a hand-over.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use derp::key::NodePrivate;
use derp::login::{ClientInfo, ClientLogin};
use derp_relay::door::counters::LoginFailure;
use derp_relay::{AccessConfig, VerifyConfig};

use crate::client::{
    OPENING_LEN, connect, login, login_as, open, private_key, read, read_to_end, request,
};
use crate::relay::{Options, PATIENCE, Relay, on_all, on_both, on_both_at_once};
use crate::shard::Shard;

/// DERP-3.2, DERP-3.4, check-H2: everything that a shard needs to know.
#[test]
fn a_hand_over_says_who_it_is() {
    on_all(|relay| {
        for (fields, ideal) in [("", true), ("Ideal-Node: 999a\r\n", false)] {
            let before = Instant::now();
            let mut client = open(relay);
            let (client_info, _) = login_as(relay.key, 7);
            client.write_all(&[request(fields), client_info].concat()).unwrap();

            let handover = relay.handover();

            assert_eq!(handover.client_key, private_key(7).public());
            assert!(handover.client.can_ack_pings && !handover.client.is_prober);
            assert_eq!(handover.ideal, ideal);
            assert_eq!(handover.peer.ip(), relay.derp.ip());
            assert_eq!(handover.server_info.len(), 58);
            assert!(handover.deadline > before && handover.deadline <= Instant::now() + PATIENCE);
            assert!(handover.plaintext.is_empty() && handover.ciphertext.is_empty());
        }
        assert_eq!(relay.counters.logins.get(), 2);
    });
}

/// DERP-3.4: the client must not hear that it is in before it can be reached.
#[test]
fn the_door_never_sends_server_info() {
    on_all(|relay| {
        let mut client = open(relay);
        client.write_all(&[request(""), login(relay).0].concat()).unwrap();

        drop(relay.handover());

        let all = read_to_end(&mut client);
        assert_eq!(all.len(), OPENING_LEN, "{}", String::from_utf8_lossy(&all));
    });
}

/// DERP-3.1, DERP-3.2, DERP-3.3, DERP-3.6, DERP-3.8, check-H5, check-H9 to check-H12.
#[test]
fn what_is_no_login_is_closed_unanswered() {
    on_all(|relay| {
        let (good, _) = login(relay);
        let with_key = |key: &[u8]| [&good[..5], key, &good[37..]].concat();
        let mut junk = good.clone();
        *junk.last_mut().unwrap() ^= 1;
        let sealed_for_another = login_as(private_key(9).public(), 1).0;
        let one = [&[1][..], &[0; 31]].concat();
        let bad: [(&[u8], LoginFailure); 10] = [
            (&[2, 0, 0, 0, 55], LoginFailure::Frame),
            (&[2, 0, 4, 0, 1], LoginFailure::Frame),
            (&[2, 0xff, 0xff, 0xff, 0xff], LoginFailure::Frame),
            (&[4, 0, 0, 0, 60], LoginFailure::Frame),
            (b"GET / HTTP/1.1\r\n\r\n", LoginFailure::Frame),
            (&junk, LoginFailure::ClientInfo),
            (&sealed_for_another, LoginFailure::ClientInfo),
            (&with_key(&[0; 32]), LoginFailure::ClientInfo),
            (&with_key(&one), LoginFailure::ClientInfo),
            (&with_key(&[0xee; 32]), LoginFailure::ClientInfo),
        ];
        for (n, (bytes, reason)) in bad.iter().enumerate() {
            let before = relay.counters.login_failures.get(*reason);
            let mut client = open(relay);
            client.write_all(&request("")).unwrap();
            // Closed after five bytes already, where the header says enough.
            let _written = client.write_all(bytes);

            let all = read_to_end(&mut client);

            assert!(all.len() <= OPENING_LEN, "{n}");
            relay.wait_for(|counters| counters.login_failures.get(*reason) == before + 1);
        }
        assert!(relay.has_no_handover());
        relay.wait_for(|counters| counters.pending() == 0);
    });
}

/// DERP-2.4, check-H13: as large as derper takes it.
#[test]
fn a_login_with_much_padding_is_taken() {
    on_all(|relay| {
        let info = ClientInfo { app_name: "a".repeat(250_000), ..ClientInfo::default() };
        let turn = ClientLogin::fast_start(&private_key(1), &info, &[1; 24], relay.key).unwrap();
        assert!(turn.send.len() > 250_000);
        let mut client = open(relay);

        client.write_all(&[request(""), turn.send].concat()).unwrap();

        assert_eq!(relay.handover().client_key, private_key(1).public());
    });
}

/// Ours: strangers cannot fill our memory with logins that never end.
#[test]
fn large_logins_share_a_budget() {
    on_both(|ip| {
        let relay = Relay::start(ip, Options::plain());
        let announce = [request(""), vec![2, 0, 4, 0, 0]].concat();

        let large: Vec<_> = (0..70)
            .map(|_| {
                let mut client = open(&relay);
                client.write_all(&announce).unwrap();
                client
            })
            .collect();

        relay.wait_for(|counters| {
            counters.upgrades.get() == 70 && counters.login_failures.get(LoginFailure::Memory) >= 5
        });
        let mut client = open(&relay);
        let (client_info, state) = login(&relay);
        client.write_all(&[request(""), client_info].concat()).unwrap();
        read(&mut client, OPENING_LEN);
        relay.shard().greet(&mut client, state);
        drop(large);
        relay.wait_for(|counters| counters.pending() == 0);
    });
}

#[test]
fn a_client_that_leaves_before_its_login_is_forgotten() {
    on_all(|relay| {
        let (client_info, _) = login(relay);
        for cut in [0, 1, 4, 5, 37, client_info.len() - 1] {
            let mut client = open(relay);
            client.write_all(&request("")).unwrap();
            client.write_all(&client_info[..cut]).unwrap();
            read(&mut client, OPENING_LEN);
        }
        relay.wait_for(|counters| {
            counters.login_failures.get(LoginFailure::Closed) == 6 && counters.pending() == 0
        });
    });
}

/// DERP-3.5, check-H14: with a shorter time than the usual ten seconds.
#[test]
fn a_client_silent_after_the_greeting_is_closed() {
    on_both_at_once(|ip| {
        for tls in [false, true] {
            let options = Options { tls, ..Options::default() };
            let relay = Relay::start(ip, options.with_login_time(Duration::from_secs(3)));
            let mut client = open(&relay);
            client.write_all(&request("")).unwrap();
            read(&mut client, OPENING_LEN);

            assert!(read_to_end(&mut client).is_empty());

            relay.wait_for(|counters| {
                counters.login_failures.get(LoginFailure::Timeout) == 1 && counters.pending() == 0
            });
        }
    });
}

/// The slot is the shard's to free: a login is not over before the client can know it.
#[test]
fn a_connection_counts_until_the_shard_has_ended_its_login() {
    on_all(|relay| {
        let mut client = open(relay);
        let (client_info, state) = login(relay);
        client.write_all(&[request(""), client_info].concat()).unwrap();
        read(&mut client, OPENING_LEN);

        let mut shard = relay.shard();

        assert_eq!(relay.counters.pending(), 1);
        shard.greet(&mut client, state);
        assert_eq!(relay.counters.pending(), 0);
    });
}

/// A key that the test did not make up: any 32 random bytes log in.
#[test]
fn clients_of_any_key_log_in() {
    on_all(|relay| {
        for n in 0..8 {
            let key = NodePrivate::from_random(std::array::from_fn(|byte| {
                u8::try_from(byte).unwrap().wrapping_mul(37).wrapping_add(n * 29)
            }));
            let info = ClientInfo { version: 2, ..ClientInfo::default() };
            let turn = ClientLogin::fast_start(&key, &info, &[n; 24], relay.key).unwrap();
            let mut client = open(relay);
            client.write_all(&[request(""), turn.send].concat()).unwrap();

            assert_eq!(relay.handover().client_key, key.public());
        }
    });
}

/// One relay, several addresses; an IPv4 client of a dual-stack listener has its own address.
#[test]
fn all_listeners_lead_to_the_same_relay() {
    let relay = Relay::start(Ipv4Addr::LOCALHOST.into(), Options::plain());
    let dual_stack = relay.listen("[::]:0".parse().unwrap()).port();
    let other = relay.listen("[::1]:0".parse().unwrap());
    for address in [
        relay.derp,
        (Ipv4Addr::LOCALHOST, dual_stack).into(),
        (Ipv6Addr::LOCALHOST, dual_stack).into(),
        other,
    ] {
        let mut client = connect(address);
        client.write_all(&[request(""), login(&relay).0].concat()).unwrap();

        assert_eq!(relay.handover().peer, client.local_addr().unwrap());
    }
}

/// DERP-3.5: a slow verifier punishes nobody.
#[test]
fn the_time_for_the_access_decision_does_not_count() {
    // The verifier has five seconds and the client two: a busy machine may take two off each.
    let (login_time, answer_time) = (Duration::from_secs(2), Duration::from_secs(3));
    on_both_at_once(|ip| {
        let verifier = Verifier::start(ip, true, answer_time);
        let options = Options { access: verifier.access(), ..Options::plain() };
        let relay = Relay::start(ip, options.with_login_time(login_time));
        let mut client = open(&relay);
        let (client_info, state) = login(&relay);
        let begun = Instant::now();
        client.write_all(&[request(""), client_info].concat()).unwrap();
        read(&mut client, OPENING_LEN);

        let handover = relay.handover();

        assert!(handover.deadline > begun + answer_time);
        Shard::new(handover).greet(&mut client, state);
    });
}

/// DERP-8.2, check-V4: closed without a word.
#[test]
fn a_client_that_may_not_enter_is_closed_unanswered() {
    on_both(|ip| {
        for tls in [false, true] {
            let verifier = Verifier::start(ip, false, Duration::ZERO);
            let relay =
                Relay::start(ip, Options { tls, access: verifier.access(), ..Options::default() });
            let mut client = open(&relay);
            client.write_all(&[request(""), login(&relay).0].concat()).unwrap();

            // Without an error: TLS has said that this is the end.
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            assert_eq!(all.len(), OPENING_LEN);

            relay.wait_for(|counters| {
                counters.login_failures.get(LoginFailure::Refused) == 1 && counters.pending() == 0
            });
            assert!(relay.has_no_handover());
        }
    });
}

/// The door does not wait for ever, whatever access does.
#[test]
fn an_access_decision_that_never_comes_is_a_refusal() {
    on_both(|ip| {
        let verifier = Verifier::start(ip, true, 10 * PATIENCE);
        let mut options = Options { access: verifier.access(), ..Options::plain() };
        options.limits.access_time = Duration::ZERO;
        let relay = Relay::start(ip, options);
        let mut client = open(&relay);
        client.write_all(&[request(""), login(&relay).0].concat()).unwrap();

        assert_eq!(read_to_end(&mut client).len(), OPENING_LEN);

        relay.wait_for(|counters| counters.login_failures.total() == 1);
        assert!(relay.has_no_handover());
    });
}

/// A verifier that says the same to everybody, after some time.
struct Verifier(SocketAddr);

impl Verifier {
    fn start(ip: IpAddr, allow: bool, after: Duration) -> Self {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let body = format!(r#"{{"Allow":{allow}}}"#);
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut asked = Vec::new();
                while !asked.ends_with(b"\"}") {
                    asked.extend(read(&mut client, 1));
                }
                std::thread::sleep(after);
                // The relay may have given up.
                let _answered = write!(
                    client,
                    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Self(address)
    }

    fn access(&self) -> AccessConfig {
        let url = format!("http://{}/verify", self.0);
        AccessConfig::Verify(VerifyConfig::new(vec![url.parse().unwrap()]))
    }
}
