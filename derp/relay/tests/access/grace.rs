//! Who was let in before an outage: enters and stays, also over a restart of the relay.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use derp_relay::VerifyConfig;
use rustix::process::Signal;

use crate::support::peer::{Peer, Way, private};
use crate::support::process::{Program, command, serve_arguments};
use crate::support::verifier::{Reply, Verifier};
use crate::support::{Fixture, HOSTS, eventually, quiet_address};
use crate::{asking, relay, verifying};

/// DERP-8.6: every kind of outage: those who are connected go on, those who were let in come back,
/// nobody else enters, and the metric says why.
#[test]
fn known_nodes_relay_and_return_and_unknown_ones_are_refused() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let half = "HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n{\"All";
    for (outage, why) in [
        (None, "unreachable"),
        (Some(Reply::answer("502 Bad Gateway", "<html>")), "status"),
        (Some(Reply::answer("429 Too Many Requests", "")), "status"),
        (Some(Reply::answer("302 Found\r\nLocation: /verify", r#"{"Allow":true}"#)), "status"),
        (Some(Reply::answer("200 OK", "<html>")), "malformed"),
        (Some(Reply::answer("200 OK", &"x".repeat(1_000_000))), "malformed"),
        (Some(Reply::LastBytes(half.as_bytes().to_vec())), "malformed"),
        (Some(Reply::LastBytes(chunked.as_bytes().to_vec())), "malformed"),
        (Some(Reply::LastBytes(b"HTTP/1.1 200".to_vec())), "unreachable"),
        (Some(Reply::Bytes(b"\x00\xff\x00\xff\r\n\r\n".to_vec())), "unreachable"),
    ] {
        for host in HOSTS {
            let address = quiet_address(host);
            let verifier = Verifier::start_at(address, None, |_| Reply::allow());
            let relay = relay(host, Way::Plain, &verifier.url(), false);
            let mut one = Peer::connect(relay.derp, Way::Plain, 1);
            let two = Peer::connect(relay.derp, Way::Plain, 2);
            verifier.stop();
            let outage = outage.clone();
            let _verifier =
                outage.map(|reply| Verifier::start_at(address, None, move |_| reply.clone()));
            // The answer of some seconds ago would do, too.
            relay.relay.access().forget(&two.key);
            drop(two);

            let mut two = Peer::connect(relay.derp, Way::Plain, 2);
            assert!(Peer::try_connect(relay.derp, Way::Plain, private(3)).is_err(), "{why}");

            one.send_packet(&two.key, b"in an outage");
            assert_eq!(two.packet().1, b"in an outage");
            relay.counts(r#"derp_access{outcome="last_known_good"}"#, 1);
            relay.counts(r#"derp_access{outcome="unavailable"}"#, 1);
            let metric = format!(r#"derp_verify_requests{{tailnet="default",outcome="{why}"}}"#);
            relay.counts(&metric, 2);
        }
    }
}

/// DERP-8.6: the same after a clean restart in the outage; and who was removed before it is out.
#[test]
fn known_nodes_enter_after_a_restart() {
    for host in HOSTS {
        let folder = tempfile::tempdir().unwrap();
        let address = quiet_address(host);
        let removed = private(2).public().to_string();
        let verifier = Verifier::start_at(address, None, |_| Reply::allow());
        let first = remembering(host, &verifier.url(), folder.path());
        for number in [1, 2] {
            Peer::connect(first.derp, Way::Plain, number).is_up();
        }
        let url = verifier.url();
        verifier.stop();
        let verifier = Verifier::start_at(address, None, move |question| {
            if question.body.contains(&removed) { Reply::deny() } else { Reply::allow() }
        });
        first.relay.access().forget(&private(2).public());
        assert!(Peer::try_connect(first.derp, Way::Plain, private(2)).is_err());
        verifier.stop();
        first.relay.stop();

        let second = remembering(host, &url, folder.path());

        second.counts("derp_verify_known_nodes", 1);
        Peer::connect(second.derp, Way::Plain, 1).is_up();
        assert!(Peer::try_connect(second.derp, Way::Plain, private(2)).is_err());
        assert!(Peer::try_connect(second.derp, Way::Plain, private(3)).is_err());
        second.counts(r#"derp_access{outcome="last_known_good"}"#, 1);
        second.counts(r#"derp_access{outcome="unavailable"}"#, 2);
    }
}

/// DERP-8.6: the program keeps them beside its key, in a file of its own user that names no
/// address, soon enough for a crash.
#[test]
fn known_nodes_enter_after_a_crash() {
    for host in HOSTS {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join("known-nodes");
        let verifier = Verifier::start(host, |_| Reply::allow());
        let relay = program(host, &verifier.url(), state.path());
        Peer::connect(relay.address("derp"), Way::Plain, 1).is_up();
        let known = format!("{} ", private(1).public());
        eventually("the file", || {
            let text = fs::read_to_string(&file).unwrap_or_default();
            text.contains(&known).then_some(()).ok_or(text)
        });
        relay.signal(Signal::KILL);
        relay.ended();
        let (url, text) = (verifier.url(), fs::read_to_string(&file).unwrap());
        verifier.stop();

        let relay = program(host, &url, state.path());

        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!text.contains("127.0.0.1") && !text.contains("::1"), "{text}");
        Peer::connect(relay.address("derp"), Way::Plain, 1).is_up();
        assert!(Peer::try_connect(relay.address("derp"), Way::Plain, private(2)).is_err());
        let log = relay.stop().err;
        assert_eq!(log.matches("a verifier does not answer").count(), 1, "{log}");
    }
}

/// What is broken is said, and keeps neither the relay from starting nor anybody who is asked about
/// from entering.
#[test]
fn a_broken_file_is_no_reason_not_to_start() {
    for host in HOSTS {
        let verifier = Verifier::start(host, |_| Reply::allow());
        for broken in [b"junk\n\xff\xfe\n".to_vec(), vec![b'x'; 30_000_000]] {
            let state = tempfile::tempdir().unwrap();
            fs::write(state.path().join("known-nodes"), broken).unwrap();
            let relay = program(host, &verifier.url(), state.path());
            Peer::connect(relay.address("derp"), Way::Plain, 1).is_up();
            relay.counts("derp_verify_known_nodes", 1);
            let log = relay.stop().err;
            assert!(log.contains("WARN") && log.contains("the known nodes"), "{log}");
        }
    }
}

/// A folder that cannot be written costs what it is for, and is counted.
#[test]
fn a_file_that_cannot_be_written_is_counted() {
    for host in HOSTS {
        let verifier = Verifier::start(host, |_| Reply::allow());
        let url = verifier.url();
        let known_file = Some("/proc/derp-relay/known-nodes".into());
        let config = VerifyConfig { known_file, ..asking(&[&url]) };
        let relay = verifying(host, Way::Plain, config);
        let mut peer = Peer::connect(relay.derp, Way::Plain, 1);
        relay.counts("derp_verify_write_errors", 1);
        peer.is_up();
    }
}

/// DERP-8.6, DERP-8.7: when the grace time is over, who was known neither stays nor enters.
#[test]
fn the_grace_time_ends() {
    for host in HOSTS {
        let verifier = Verifier::start(host, |_| Reply::allow());
        let second = Duration::from_secs(1);
        let url = verifier.url();
        let config = VerifyConfig { interval: second, grace: second, ..asking(&[&url]) };
        let relay = verifying(host, Way::Plain, config);
        let mut peer = Peer::connect(relay.derp, Way::Plain, 1);
        verifier.stop();

        peer.is_closed();

        assert!(Peer::try_connect(relay.derp, Way::Plain, private(1)).is_err());
        relay.counts(r#"derp_access_cut_offs{cause="grace_over"}"#, 1);
        relay.counts(r#"derp_connections_closed{reason="revoked"}"#, 1);
    }
}

fn remembering(host: IpAddr, url: &str, folder: &Path) -> Fixture {
    let known_file = Some(folder.join("known-nodes"));
    verifying(host, Way::Plain, VerifyConfig { known_file, ..asking(&[url]) })
}

/// The program, that asks `url`.
fn program(host: IpAddr, url: &str, state: &Path) -> Program {
    let mut serve = serve_arguments(host, Way::Plain, state);
    let access = serve.iter().position(|argument| argument == "--access").unwrap();
    serve.drain(access..access + 2);
    serve.extend(["--verify-url".to_owned(), url.to_owned()]);
    Program::start(command(&serve))
}
