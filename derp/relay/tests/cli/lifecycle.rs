//! From the ready line to the last signal: start, stop, reload, and start again.

use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use derp::key::NodePublic;
use rcgen::{CertificateParams, KeyPair};
use rustix::process::Signal;

use crate::support::peer::{Peer, Way, dial, pin_shown_by, private, read_frame, upgrade};
use crate::support::process::{Program, command, key_file, serve_arguments};
use crate::support::{HOSTS, eventually, http, quiet_address, stun};

const WAYS: [Way; 2] = [Way::Plain, Way::Tls13];

const NOTHING: &[&str] = &[];

/// Port 0 everywhere: the ready line names what was bound, and everything there answers.
#[test]
fn the_ready_line_names_bound_ports_and_all_of_them_answer() {
    for host in HOSTS {
        for way in WAYS {
            let state = tempfile::tempdir().unwrap();
            let relay = Program::serve(host, way, state.path(), NOTHING);

            for what in ["derp", "http", "stun", "metrics"] {
                let [address] = relay.addresses(what) else { panic!("{what}: not one") };
                assert!(address.ip() == host && address.port() != 0, "{what}: {address}");
            }
            Peer::connect(relay.address("derp"), way, 1).is_up();
            stun::answers(relay.address("stun"));
            assert_eq!(http::get(relay.address("http"), "/generate_204").status, 204);
            for path in ["/metrics", "/health", "/ready"] {
                assert_eq!(http::get(relay.address("metrics"), path).status, 200, "{path}");
            }
            assert_eq!(http::get(relay.address("metrics"), "/other").status, 404);
            if way == Way::Tls13 {
                let pin = pin_shown_by(relay.address("derp"));
                assert!(relay.out().contains(&format!("CertName: {pin}\n")), "{}", relay.out());
            }
            let ended = relay.stop();
            assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        }
    }
}

/// The default without TLS has no HTTP listener; `none` leaves any other away.
#[test]
fn listeners_that_are_not_wanted_are_none() {
    for host in HOSTS {
        let state = tempfile::tempdir().unwrap();
        let mut serve = serve_arguments(host, Way::Plain, state.path());
        let http = serve.iter().position(|argument| argument == "--listen-http").unwrap();
        serve.drain(http..http + 2);
        for what in ["stun", "metrics"] {
            let at =
                serve.iter().position(|argument| *argument == format!("--listen-{what}")).unwrap();
            "none".clone_into(&mut serve[at + 1]);
        }

        let relay = Program::start(command(&serve));

        for what in ["http", "stun", "metrics"] {
            assert!(relay.addresses(what).is_empty(), "{what}");
        }
        Peer::connect(relay.address("derp"), Way::Plain, 1).is_up();
    }
}

/// check-L6: SIGTERM and SIGINT end it at once, with code 0; clients see the end of the stream.
#[test]
fn a_signal_to_stop_ends_it_cleanly_with_clients_connected() {
    for host in HOSTS {
        for way in [Way::Plain, Way::Tls12, Way::Tls13] {
            for signal in [Signal::TERM, Signal::INT] {
                let state = tempfile::tempdir().unwrap();
                let relay = Program::serve(host, way, state.path(), &["--shards", "2"]);
                let derp = relay.address("derp");
                let mut clients: Vec<_> =
                    (0..5).map(|number| Peer::connect(derp, way, number)).collect();
                // One that has not logged in, and one that has not even shaken hands.
                let strangers = [dial(derp, way), dial(derp, Way::Plain)];

                relay.signal(signal);

                for client in &mut clients {
                    let mut rest = Vec::new();
                    // With TLS, an end without its goodbye would be an error.
                    client.stream.read_to_end(&mut rest).unwrap();
                    assert!(rest.is_empty(), "a frame instead of the end");
                }
                let ended = relay.ended();
                assert_eq!(ended.status.code(), Some(0), "{ended:?}");
                assert!(!ended.err.contains("ERROR"), "{}", ended.err);
                drop(strangers);
            }
        }
    }
}

/// fault-D2: SIGHUP never ends it, also where there is nothing to read again.
#[test]
fn a_hangup_without_anything_to_reload_changes_nothing() {
    for (host, way) in HOSTS.into_iter().zip(WAYS) {
        let state = tempfile::tempdir().unwrap();
        let mut relay = Program::serve(host, way, state.path(), NOTHING);
        let mut client = Peer::connect(relay.address("derp"), way, 1);
        let pin = (way == Way::Tls13).then(|| pin_shown_by(relay.address("derp")));

        for count in 1..=3 {
            relay.signal(Signal::HUP);
            reloaded(&relay, count);
        }

        client.is_up();
        assert_eq!(pin, (way == Way::Tls13).then(|| pin_shown_by(relay.address("derp"))));
        relay.is_unharmed();
        assert_eq!(relay.stop().status.code(), Some(0));
    }
}

/// DERP-1.9, fault-D30: new certificates count from SIGHUP on; broken ones are reported, and the
/// old stay; no connection is closed.
#[test]
fn a_hangup_reads_the_certificates_again() {
    for host in HOSTS {
        let state = tempfile::tempdir().unwrap();
        let [certificate, key] = ["relay.crt", "relay.key"].map(|name| state.path().join(name));
        let (pem, key_pem) = pair();
        fs::write(&certificate, pem).unwrap();
        fs::write(&key, key_pem).unwrap();
        let mut serve = serve_arguments(host, Way::Plain, state.path());
        let tls = serve.iter().position(|argument| argument == "--tls").unwrap();
        "files".clone_into(&mut serve[tls + 1]);
        let paths = [&certificate, &key].map(|path| path.to_str().unwrap());
        let [cert_path, key_path] = paths;
        let more = ["--hostname", "relay.test", "--tls-cert", cert_path, "--tls-key", key_path];
        serve.extend(more.map(str::to_owned));
        let relay = Program::start(command(&serve));
        let derp = relay.address("derp");
        let mut client = Peer::connect(derp, Way::Tls13, 1);
        let first = pin_shown_by(derp);

        let (pem, key_pem) = pair();
        fs::write(&certificate, pem).unwrap();
        // Until the key is there too, the pair is of no use.
        relay.signal(Signal::HUP);
        reloaded(&relay, 1);
        assert_eq!(pin_shown_by(derp), first);
        assert!(relay.err().contains(cert_path), "not reported: {}", relay.err());

        fs::write(&key, key_pem).unwrap();
        relay.signal(Signal::HUP);
        reloaded(&relay, 2);
        let second = pin_shown_by(derp);
        assert_ne!(second, first);

        fs::remove_file(&key).unwrap();
        relay.signal(Signal::HUP);
        reloaded(&relay, 3);
        assert_eq!(pin_shown_by(derp), second);
        assert!(relay.err().contains(key_path), "not reported: {}", relay.err());
        client.is_up();
        Peer::connect(derp, Way::Tls12, 2).is_up();
    }
}

/// DERP-1.9, DERP-8.3: a new allow-list counts from SIGHUP on, for those who come then and for those
/// who are there.
#[test]
fn a_hangup_reads_the_allow_list_again() {
    for host in HOSTS {
        let state = tempfile::tempdir().unwrap();
        let list = state.path().join("allowed");
        let (old, new) = (private(1), private(2));
        fs::write(&list, format!("{}\n", old.public())).unwrap();
        let mut serve = serve_arguments(host, Way::Plain, state.path());
        let access = serve.iter().position(|argument| argument == "--access").unwrap();
        "allow-list".clone_into(&mut serve[access + 1]);
        serve.extend(["--allow-list".to_owned(), list.to_str().unwrap().to_owned()]);
        let relay = Program::start(command(&serve));
        let derp = relay.address("derp");
        let enters = |number: u32| Peer::try_connect(derp, Way::Plain, private(number)).is_ok();
        let mut off_the_list = Peer::try_connect(derp, Way::Plain, old).unwrap();
        assert!(!enters(2));

        fs::write(&list, format!("{}\n", new.public())).unwrap();
        assert!(!enters(2), "before it was told");
        relay.signal(Signal::HUP);
        reloaded(&relay, 1);
        off_the_list.is_closed();
        let mut inside = Peer::try_connect(derp, Way::Plain, new).unwrap();
        assert!(!enters(1));

        fs::write(&list, "nodekey:12\n").unwrap();
        relay.signal(Signal::HUP);
        reloaded(&relay, 2);
        assert!(enters(2) && !enters(1));
        assert!(relay.err().contains("allowed:1:"), "not reported: {}", relay.err());
        inside.is_up();
    }
}

/// Key and pin survive the hardest end, and so does the port: nobody has to wait for old
/// connections to time out.
#[test]
fn after_a_kill_it_is_the_same_relay_at_the_same_place() {
    for host in HOSTS {
        let state = tempfile::tempdir().unwrap();
        let quiet = quiet_address(host);
        let mut serve = serve_arguments(host, Way::Tls13, state.path());
        let at = serve.iter().position(|argument| argument == "--listen-derp").unwrap();
        serve[at + 1] = quiet.to_string();
        let mut known = None;
        for _ in 0..3 {
            let relay = Program::start(command(&serve));
            let client = Peer::connect(quiet, Way::Tls13, 1);
            let now = (key_told_by(quiet), pin_shown_by(quiet), key_on_disk(state.path()));
            assert_eq!(*known.get_or_insert(now.clone()), now);

            relay.signal(Signal::KILL);

            let ended = relay.ended();
            assert_eq!(ended.status.code(), None, "{ended:?}");
            // The kernel closes what the process had open.
            client.stream.socket().read_to_end(&mut Vec::new()).unwrap();
        }
    }
}

/// DERP-3.7: killed at whatever moment of its first start, it leaves a whole key or none, and the
/// same for its certificate: the next start goes on from there.
#[test]
fn a_kill_during_the_first_start_leaves_nothing_half_made() {
    for round in 0..40 {
        let state = tempfile::tempdir().unwrap();
        let serve = serve_arguments(HOSTS[round % 2], Way::Tls13, state.path());
        let killed = Program::spawn(command(&serve));
        std::thread::sleep(Duration::from_micros(500) * u32::try_from(round).unwrap());
        killed.signal(Signal::KILL);
        killed.ended();
        let [key, certificate] = ["derp.key", "self-signed.pem"]
            .map(|name| fs::read(state.path().join(name)).unwrap_or_default());

        let relay = Program::start(command(&serve));

        Peer::connect(relay.address("derp"), Way::Tls13, 1).is_up();
        for (name, before) in [("derp.key", key), ("self-signed.pem", certificate)] {
            let now = fs::read(state.path().join(name)).unwrap();
            assert!(before.is_empty() || now == before, "{name} was made twice");
        }
    }
}

/// `--log-format json`: each line is an object, whatever the level.
#[test]
fn json_logs_are_json_on_every_line() {
    for (host, level) in HOSTS.into_iter().zip(["info", "trace"]) {
        let state = tempfile::tempdir().unwrap();
        let more = ["--log-format", "json", "--log-level", level];
        let relay = Program::serve(host, Way::Tls13, state.path(), &more);
        let mut one = Peer::connect(relay.address("derp"), Way::Tls13, 1);
        let mut two = Peer::connect(relay.address("derp"), Way::Tls13, 2);
        one.send_packet(&two.key, b"hello");
        assert_eq!(two.packet().1, b"hello");
        drop((one, two));

        let ended = relay.stop();

        let mut levels = Vec::new();
        for line in ended.err.lines() {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(object["timestamp"].is_string() && object["fields"].is_object(), "{line}");
            levels.push(object["level"].as_str().unwrap().to_owned());
        }
        assert!(levels.contains(&"INFO".to_owned()), "{levels:?}");
        assert_eq!(levels.contains(&"DEBUG".to_owned()), level == "trace", "{levels:?}");
    }
}

/// Waits until the relay has read everything again for the `count`th time: access comes last.
fn reloaded(relay: &Program, count: usize) {
    eventually("reloaded", || {
        let log = relay.err();
        let lines = ["access is reloaded", "the allow-list stays as it was"];
        let seen: usize = lines.iter().map(|line| log.matches(line).count()).sum();
        if seen >= count { Ok(()) } else { Err(log) }
    });
}

/// The relay's key, as a greeting tells it.
fn key_told_by(derp: SocketAddr) -> NodePublic {
    let mut stream = dial(derp, Way::Tls13);
    upgrade(&mut *stream);
    let greeting = read_frame(&mut *stream).unwrap();
    let (_, key) = greeting.body.split_at(8);
    NodePublic::from_bytes(key.try_into().unwrap())
}

fn key_on_disk(state: &Path) -> Vec<u8> {
    fs::read(key_file(state)).unwrap()
}

/// A new certificate with its key, both as PEM.
fn pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["relay.test".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}
