//! Who may use the relay, against a real verifier over HTTP and HTTPS. Spec:
//! docs/protocol/derp.md, section 8.
//!
//! | module | holds |
//! |---|---|
//! | `grace` | who was let in before an outage, also over a restart |
//! | `headscale` | the real `/verify`, where there is a program |
//! | `outages` | a verifier that is silent, endless, gone, or comes back |
//! | `remembering` | questions that are saved, joined or have to wait |
//! | `revocation` | connections that end because their node may no longer enter |
//! | `tailnets` | several verifiers |
//! | `telling` | what the log says, and how often |
//! | `tls` | a verifier behind HTTPS, with a private authority |
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod grace;
mod headscale;
mod outages;
mod remembering;
mod revocation;
#[path = "../support/mod.rs"]
mod support;
mod tailnets;
mod telling;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use derp::key::NodePublic;
use derp_relay::{AccessConfig, VerifyConfig};
use support::peer::{Peer, Way, private};
use support::verifier::{Question, Reply, Verifier};
use support::{Fixture, HOSTS};

const WAYS: [Way; 2] = [Way::Plain, Way::Tls13];

/// DERP-8.1, check-V1: one POST per login, with the bytes that derper sends, and no
/// authentication.
#[test]
fn a_question_has_exactly_the_bytes_of_derper() {
    for host in HOSTS {
        for way in WAYS {
            let verifier = Verifier::start(host, |_| Reply::allow());
            let relay = relay(host, way, &verifier.url(), false);

            let peer = Peer::connect(relay.derp, way, 1);

            let [question] = verifier.questions().try_into().unwrap();
            assert_eq!(question.body, body(&peer.key, host));
            if host.is_ipv4() {
                assert_eq!(question.body.len(), 110);
            }
            let (line, fields) = question.head.trim_end().split_once("\r\n").unwrap();
            assert_eq!(line, "POST /verify HTTP/1.1");
            let mut fields: Vec<String> = fields.lines().map(str::to_ascii_lowercase).collect();
            fields.sort();
            assert_eq!(
                fields,
                [
                    format!("content-length: {}", question.body.len()),
                    format!("host: {}", verifier.address),
                    format!("user-agent: derp-relay/{}", env!("CARGO_PKG_VERSION")),
                ]
            );
        }
    }
}

/// DERP-8.1: a listener for both families shows IPv4 clients in their own form all the same.
#[test]
fn the_source_of_an_ipv4_client_is_never_in_ipv6_form() {
    let verifier = Verifier::start(HOSTS[0], |_| Reply::allow());
    let both = IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);
    let relay = relay(both, Way::Plain, &verifier.url(), false);
    for (host, number) in HOSTS.into_iter().zip(1..) {
        let peer = Peer::connect(SocketAddr::new(host, relay.derp.port()), Way::Plain, number);
        assert_eq!(verifier.questions().last().unwrap().body, body(&peer.key, host));
    }
}

/// DERP-8.1: the URL is asked as it is written.
#[test]
fn path_and_query_of_the_url_are_kept() {
    for host in HOSTS {
        for (path, asked) in
            [("", "/"), ("/", "/"), ("/a/verify?tailnet=x%20y", "/a/verify?tailnet=x%20y")]
        {
            let verifier = Verifier::start(host, |_| Reply::allow());
            let url = format!("http://{}{path}", verifier.address);
            let relay = relay(host, Way::Plain, &url, false);

            Peer::connect(relay.derp, Way::Plain, 1).is_up();

            let head = verifier.questions()[0].head.clone();
            assert!(head.starts_with(&format!("POST {asked} HTTP/1.1\r\n")), "{head}");
        }
    }
}

/// DERP-8.2 to DERP-8.4, check-V2 to check-V4, fault-D20: what each answer means, with and
/// without the operator's leave to stay open, and how it is counted.
#[test]
fn every_answer_admits_refuses_or_is_no_answer() {
    const ALLOWED: &str = "allowed";
    const DENIED: &str = "denied";
    const UNAVAILABLE: &str = "unavailable";
    let redirect = "302 Found\r\nLocation: /elsewhere";
    for (status, body, outcome) in [
        ("200 OK", r#"{"Allow":true}"#, ALLOWED),
        ("200 OK", r#"{"allow":true,"More":[{}]}"#, ALLOWED),
        ("200 Whatever", "{\"ALLOW\":true}\n", ALLOWED),
        ("200 OK", r#"{"Allow":false,"Allow":true}"#, ALLOWED),
        ("200 OK", r#"{"Allow":false}"#, DENIED),
        ("200 OK", r#"{"Allow":true,"Allow":false}"#, DENIED),
        ("200 OK", r#"{"Allow":null}"#, DENIED),
        ("200 OK", "{}", DENIED),
        ("201 Created", r#"{"Allow":true}"#, UNAVAILABLE),
        ("204 No Content", "", UNAVAILABLE),
        (redirect, r#"{"Allow":true}"#, UNAVAILABLE),
        ("400 Bad Request", r#"{"Allow":true}"#, UNAVAILABLE),
        ("401 Unauthorized", r#"{"Allow":false}"#, UNAVAILABLE),
        ("403 Forbidden", r#"{"Allow":false}"#, UNAVAILABLE),
        ("404 Not Found", r#"{"Allow":false}"#, UNAVAILABLE),
        ("429 Too Many Requests", r#"{"Allow":false}"#, UNAVAILABLE),
        ("500 Internal Server Error", r#"{"Allow":true}"#, UNAVAILABLE),
        ("502 Bad Gateway", "<html>", UNAVAILABLE),
        ("200 OK", "", UNAVAILABLE),
        ("200 OK", "not JSON", UNAVAILABLE),
        ("200 OK", "[]", UNAVAILABLE),
        ("200 OK", "null", UNAVAILABLE),
        ("200 OK", r#"{"Allow":"true"}"#, UNAVAILABLE),
        ("200 OK", r#"{"Allow":1}"#, UNAVAILABLE),
        ("200 OK", r#"{"Allow":true"#, UNAVAILABLE),
        ("200 OK", r#"{"Allow":true}}"#, UNAVAILABLE),
    ] {
        for fail_open in [false, true] {
            for host in HOSTS {
                let reply = Reply::answer(status, body);
                let verifier = Verifier::start(host, move |_| reply.clone());
                let relay = relay(host, Way::Plain, &verifier.url(), fail_open);

                let login = Peer::try_connect(relay.derp, Way::Plain, private(1));

                let case = format!("{status} {body}, fail open: {fail_open}");
                let outcome = match outcome {
                    UNAVAILABLE if fail_open => "failed_open",
                    outcome => outcome,
                };
                let admitted = outcome == ALLOWED || outcome == "failed_open";
                assert_eq!(login.is_ok(), admitted, "{case}");
                holds_outcome(&relay, outcome, 1);
                relay.counts(r#"derp_logins_failed{reason="refused"}"#, u32::from(!admitted));
                assert_eq!(verifier.questions().len(), 1, "{case}");
            }
        }
    }
}

/// check-V4: a refused client is closed without `ServerInfo`, by a clean end of the stream.
#[test]
fn a_refused_client_gets_the_end_and_nothing_else() {
    for host in HOSTS {
        for way in [Way::Plain, Way::Tls12, Way::Tls13] {
            let verifier = Verifier::start(host, |_| Reply::deny());
            let relay = relay(host, way, &verifier.url(), false);

            let error = Peer::try_connect(relay.derp, way, private(1)).err().unwrap();

            // What comes instead of a frame's first byte is the end; with TLS a proper one.
            assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
            assert!(!error.to_string().contains("close_notify"), "{error}");
        }
    }
}

/// DERP-8.3: listed nodes enter, others do not.
#[test]
fn an_allow_list_admits_those_on_it_only() {
    for host in HOSTS {
        for way in WAYS {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("allowed");
            let listed = private(1).public();
            std::fs::write(&file, format!("# fleet\n\n{listed} # laptop\n")).unwrap();
            let access = AccessConfig::AllowList { file };
            let relay = Fixture::with(host, way, |builder| builder.access(access));

            Peer::connect(relay.derp, way, 1).is_up();
            assert!(Peer::try_connect(relay.derp, way, private(2)).is_err());

            relay.counts(r#"derp_access{outcome="allowed"}"#, 1);
            relay.counts(r#"derp_access{outcome="denied"}"#, 1);
        }
    }
}

/// DERP-8.3: a program that embeds the relay and says nothing about access lets nobody in.
#[test]
fn without_a_word_about_access_nobody_enters() {
    for host in HOSTS {
        let relay = Fixture::with(host, Way::Plain, |builder| builder.access(AccessConfig::Nobody));
        assert!(Peer::try_connect(relay.derp, Way::Plain, private(1)).is_err());
        holds_outcome(&relay, "denied", 1);
    }
}

/// DERP-8.2: many at once get each their own answer.
#[test]
fn answers_to_many_at_once_are_not_mixed_up() {
    for host in HOSTS {
        let verifier = Verifier::start(host, |question| {
            if may_enter(&asked_about(question)) { Reply::allow() } else { Reply::deny() }
        });
        let relay = relay(host, Way::Plain, &verifier.url(), false);
        std::thread::scope(|scope| {
            for first in [0, 1_000, 2_000, 3_000] {
                let derp = relay.derp;
                scope.spawn(move || {
                    for number in first..first + 25 {
                        let key = private(number);
                        let may_enter = may_enter(&key.public());
                        let entered = Peer::try_connect(derp, Way::Plain, key).is_ok();
                        assert_eq!(entered, may_enter, "{number}");
                    }
                });
            }
        });
        assert_eq!(verifier.questions().len(), 100);
    }
}

/// A relay on `host` that asks `url`.
fn relay(host: IpAddr, way: Way, url: &str, fail_open: bool) -> Fixture {
    relay_with_authority(host, way, url, fail_open, None)
}

fn relay_with_authority(
    host: IpAddr,
    way: Way,
    url: &str,
    fail_open: bool,
    ca_file: Option<PathBuf>,
) -> Fixture {
    verifying(host, way, VerifyConfig { fail_open, ca_file, ..asking(&[url]) })
}

/// A relay on `host` that does as `config` says.
fn verifying(host: IpAddr, way: Way, config: VerifyConfig) -> Fixture {
    let shards = NonZeroU16::new(2).unwrap();
    Fixture::with(host, way, |builder| builder.access(AccessConfig::Verify(config)).shards(shards))
}

/// Asks `urls`, and does not ask again about who is connected.
fn asking(urls: &[&str]) -> VerifyConfig {
    let urls = urls.iter().map(|url| url.parse().unwrap()).collect();
    VerifyConfig { interval: Duration::ZERO, ..VerifyConfig::new(urls) }
}

/// Whom a question is about.
fn asked_about(question: &Question) -> NodePublic {
    let (_, rest) = question.body.split_once("nodekey:").unwrap();
    NodePublic::from_hex(&rest[..64]).unwrap()
}

fn body(key: &NodePublic, source: IpAddr) -> String {
    format!(r#"{{"NodePublic":"{key}","Source":"{source}"}}"#)
}

/// Half of all keys.
fn may_enter(key: &NodePublic) -> bool {
    key.as_bytes()[31] & 1 == 0
}

/// Holds that access was decided `count` times, each time with this outcome.
#[track_caller]
fn holds_outcome(relay: &Fixture, outcome: &str, count: u32) {
    for known in ["allowed", "denied", "last_known_good", "unavailable", "failed_open"] {
        let expected = if known == outcome { count } else { 0 };
        relay.counts(&format!(r#"derp_access{{outcome="{known}"}}"#), expected);
    }
}
