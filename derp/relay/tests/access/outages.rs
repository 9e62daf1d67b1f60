//! A verifier that is silent, endless, gone, or comes back: an outage is no denial, and the
//! outage of a verifier is not one of the relay.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use derp::frame::Kind;

use crate::support::peer::{Peer, Way, dial, private, read_frame, upgrade};
use crate::support::verifier::{Reply, Verifier};
use crate::support::{Fixture, HOSTS, eventually, http, quiet_address};
use crate::{holds_outcome, relay};

/// Time that the verifier has. Source: DERP-8.4.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// DERP-8.3, DERP-8.4, check-V3: nobody listens.
#[test]
fn a_verifier_that_cannot_be_reached_is_unavailable() {
    for host in HOSTS {
        for way in [Way::Plain, Way::Tls13] {
            for fail_open in [false, true] {
                let url = format!("http://{}/verify", quiet_address(host));
                let relay = relay(host, way, &url, fail_open);

                let login = Peer::try_connect(relay.derp, way, private(1));

                assert_eq!(login.is_ok(), fail_open);
                let outcome = if fail_open { "failed_open" } else { "unavailable" };
                holds_outcome(&relay, outcome, 1);
            }
        }
    }
}

/// DERP-8.4: silence, and answers that never end, are cut after five seconds, or at once where
/// they are too long. All cases wait at the same time.
#[test]
fn a_verifier_that_does_not_come_to_an_end_is_unavailable() {
    let forever =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"Allow\":true}  \r\n";
    let padded = "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n{\"Allow\":true} ";
    let head = "HTTP/1.1 200 OK\r\nX-Padding: ";
    let cases = [
        Reply::Silence,
        Reply::LastBytes(Vec::new()),
        Reply::LastBytes(b"HTTP/1.1 200 OK\r\n".to_vec()),
        Reply::LastBytes(padded.as_bytes().to_vec()),
        Reply::Endless(padded.as_bytes().to_vec()),
        Reply::Endless(head.as_bytes().to_vec()),
        Reply::Endless(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
        // A chunk now, and the next one never.
        Reply::Bytes(forever.as_bytes().to_vec()),
        Reply::answer("200 OK", &format!(r#"{{"Allow":true,"X":"{}"}}"#, "x".repeat(5_000_000))),
        Reply::answer("200 OK", &format!(r#"{{"Allow":true,"X":"{}"}}"#, "x".repeat(4_096))),
        Reply::Bytes(b"\x16\x03\x01\x00\x05hello".to_vec()),
        Reply::Bytes(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
    ];
    std::thread::scope(|scope| {
        for host in HOSTS {
            for fail_open in [false, true] {
                for case in &cases {
                    scope.spawn(move || {
                        let reply = case.clone();
                        let verifier = Verifier::start(host, move |_| reply.clone());
                        let relay = relay(host, Way::Plain, &verifier.url(), fail_open);
                        let begun = Instant::now();

                        let login = Peer::try_connect(relay.derp, Way::Plain, private(1));

                        let took = begun.elapsed();
                        assert_eq!(login.is_ok(), fail_open, "{case:?}");
                        if matches!(case, Reply::Silence) {
                            assert!(took > ANSWER_TIME - Duration::from_millis(500), "{took:?}");
                        }
                        let outcome = if fail_open { "failed_open" } else { "unavailable" };
                        holds_outcome(&relay, outcome, 1);
                    });
                }
            }
        }
    });
}

/// DERP-8.1: 4,096 bytes of an answer are read, no more and no less.
#[test]
fn an_answer_of_the_largest_length_counts() {
    for host in HOSTS {
        for (length, allowed) in [(4_096, true), (4_097, false)] {
            let mut body = String::from(r#"{"Allow":true}"#);
            body.push_str(&" ".repeat(length - body.len()));
            let reply = Reply::answer("200 OK", &body);
            let verifier = Verifier::start(host, move |_| reply.clone());
            let relay = relay(host, Way::Plain, &verifier.url(), false);
            assert_eq!(Peer::try_connect(relay.derp, Way::Plain, private(1)).is_ok(), allowed);
        }
    }
}

/// DERP-8.4: a redirect is no answer, and nobody is asked at the other place.
#[test]
fn a_redirect_is_not_followed() {
    for host in HOSTS {
        for status in ["301", "302", "303", "307", "308"] {
            let elsewhere = Verifier::start(host, |_| Reply::allow());
            let location = format!("{status} Moved\r\nLocation: {}", elsewhere.url());
            let verifier = Verifier::start(host, move |_| Reply::answer(&location, ""));
            let relay = relay(host, Way::Plain, &verifier.url(), false);

            assert!(Peer::try_connect(relay.derp, Way::Plain, private(1)).is_err());

            assert_eq!((verifier.questions().len(), elsewhere.connections()), (1, 0), "{status}");
            holds_outcome(&relay, "unavailable", 1);
        }
    }
}

/// DERP-8.3: while it is away nobody new enters; when it is back, the first one does.
#[test]
fn a_verifier_that_restarts_is_asked_again_at_once() {
    for host in HOSTS {
        let address = quiet_address(host);
        let verifier = Verifier::start_at(address, None, |_| Reply::allow());
        let relay = relay(host, Way::Plain, &verifier.url(), false);
        let enters =
            |number: u32| Peer::try_connect(relay.derp, Way::Plain, private(number)).is_ok();
        let mut inside = Peer::connect(relay.derp, Way::Plain, 100);
        // One that has been used before, so that a kept connection goes stale.
        let mut number = 1_000;
        eventually("a connection is kept between questions", || {
            number += 1;
            assert!(enters(number));
            let (connections, questions) = (verifier.connections(), verifier.questions().len());
            (connections < questions).then_some(()).ok_or((connections, questions))
        });

        verifier.stop();
        assert!(!enters(3) && !enters(4));
        inside.is_up();

        let verifier = Verifier::start_at(address, None, |_| Reply::deny());
        assert!(!enters(5));
        assert_eq!(verifier.questions().len(), 1);
        verifier.stop();
        let _verifier = Verifier::start_at(address, None, |_| Reply::allow());
        assert!(enters(6));
        relay.counts(r#"derp_access{outcome="unavailable"}"#, 2);
        relay.counts(r#"derp_access{outcome="denied"}"#, 1);
    }
}

/// A verifier, or a proxy before it, may close a kept connection at any time: just when the next
/// question comes, too. That is no outage.
#[test]
fn a_verifier_that_closes_after_each_answer_is_no_outage() {
    for host in HOSTS {
        let Reply::Bytes(answer) = Reply::allow() else { panic!("bytes") };
        let verifier = Verifier::start(host, move |_| Reply::LastBytes(answer.clone()));
        let relay = relay(host, Way::Plain, &verifier.url(), false);
        let derp = relay.derp;
        std::thread::scope(|scope| {
            for first in [0, 1_000, 2_000, 3_000] {
                scope.spawn(move || {
                    for number in first..first + 50 {
                        Peer::connect(derp, Way::Plain, number).is_up();
                    }
                });
            }
        });
        holds_outcome(&relay, "allowed", 200);
    }
}

/// DERP-3.5, DERP-5.4: 200 logins that wait for a silent verifier hinder neither those inside nor
/// strangers with another question, and all of them are refused in the end, for want of an answer or
/// of a turn to ask.
#[test]
fn logins_that_wait_for_the_verifier_hinder_nobody() {
    for (host, way) in HOSTS.into_iter().zip([Way::Plain, Way::Tls13]) {
        let silent = Arc::new(AtomicBool::new(false));
        let is_silent = Arc::clone(&silent);
        let verifier = Verifier::start(host, move |_| {
            if is_silent.load(Ordering::Acquire) { Reply::Silence } else { Reply::allow() }
        });
        let relay = relay(host, way, &verifier.url(), false);
        let mut one = Peer::connect(relay.derp, way, 1);
        let mut two = Peer::connect(relay.derp, way, 2);
        silent.store(true, Ordering::Release);
        let derp = relay.derp;
        let waiting: Vec<_> = (1_000..1_200)
            .map(|number| {
                std::thread::spawn(move || Peer::try_connect(derp, way, private(number)).is_ok())
            })
            .collect();
        eventually("as many have asked as may", || match verifier.questions().len() {
            66.. => Ok(()),
            other => Err(other),
        });

        let mut rounds = 0;
        while waiting.iter().any(|login| !login.is_finished()) {
            one.send_packet(&two.key, b"as ever");
            assert_eq!(two.packet().1, b"as ever");
            let probe = http::get_over(&mut *dial(derp, way), "/derp/probe");
            assert_eq!(probe.status, 200);
            rounds += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        // The first one began after 64 had asked; who waited behind them would make one at most.
        assert!(rounds > 1, "{rounds} rounds in the time of the verifier");

        for login in waiting {
            assert!(!login.join().unwrap());
        }
        relay.counts(r#"derp_access{outcome="unavailable"}"#, 200);
        let replies = |outcome: &str| {
            let labels = format!(r#"tailnet="default",outcome="{outcome}""#);
            relay.metric(&format!("derp_verify_requests{{{labels}}}"))
        };
        assert_eq!(replies("timeout") + replies("busy"), 200.0);
        relay.counts("derp_connections_pending", 0);
        one.is_up();
    }
}

/// DERP-3.5: the time for the decision is not the client's: who has used most of its ten seconds
/// still enters when the verifier takes more than the rest. Both have two seconds to spare.
#[test]
fn a_slow_verifier_does_not_cost_the_client_its_time() {
    let both = HOSTS.map(|host| std::thread::spawn(move || slow_client_and_verifier(host)));
    for one in both {
        one.join().unwrap();
    }
}

fn slow_client_and_verifier(host: IpAddr) {
    let verifier = Verifier::start(host, |_| {
        std::thread::sleep(Duration::from_millis(2_800));
        Reply::allow()
    });
    let relay = relay(host, Way::Plain, &verifier.url(), false);
    let mut stream = dial(relay.derp, Way::Plain);
    upgrade(&mut *stream);
    let greeting = read_frame(&mut *stream).unwrap();
    std::thread::sleep(Duration::from_millis(7_700));
    let info = client_info(&relay, &greeting.body);

    stream.write_all(&info).unwrap();

    let answer = read_frame(&mut *stream).unwrap();
    assert_eq!(answer.kind, Kind::ServerInfo as u8);
}

/// The frame that logs in.
fn client_info(relay: &Fixture, greeting: &[u8]) -> Vec<u8> {
    let server = relay.relay.public_key();
    assert_eq!(&greeting[8..40], server.as_bytes());
    let info = derp::login::ClientInfo { version: 2, ..Default::default() };
    let turn = derp::login::ClientLogin::fast_start(&private(1), &info, &[7; 24], server).unwrap();
    turn.send
}
