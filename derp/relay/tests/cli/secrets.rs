//! What never stands in a log, a message, a command line or an environment: private keys,
//! packets, and the whole key of a node.

use std::fs;

use derp::key::NodePrivate;
use derp_relay::config::{Config, Keys};

use crate::support::peer::{Peer, Way, private};
use crate::support::process::{Program, command, key_file, serve_arguments};
use crate::support::verifier::{Reply, Verifier};
use crate::support::{Fixture, HOSTS};

/// The packet that goes back and forth: not to be found anywhere but at its receiver.
const PACKET: &[u8] = b"the packet that nobody but its receiver may ever see";

/// At TRACE, as text and as JSON, on every transport, with clients that enter, clients that are
/// refused, and clients that talk nonsense.
#[test]
fn no_secret_is_logged_at_any_level() {
    for (host, format) in HOSTS.into_iter().zip(["text", "json"]) {
        for way in [Way::Plain, Way::Tls12, Way::Tls13] {
            let state = tempfile::tempdir().unwrap();
            let stranger = private(66).public().to_string();
            let verifier = Verifier::start(host, move |question| {
                if question.body.contains(&stranger) { Reply::deny() } else { Reply::allow() }
            });
            let mut serve = serve_arguments(host, way, state.path());
            let access = serve.iter().position(|argument| argument == "--access").unwrap();
            serve.drain(access..access + 2);
            let more =
                ["--verify-url", &verifier.url(), "--log-level", "trace", "--log-format", format];
            serve.extend(more.map(str::to_owned));
            let relay = Program::start(command(&serve));

            talk(&relay, way);

            let process = format!("/proc/{}", relay.pid());
            let [arguments, environment] =
                ["cmdline", "environ"].map(|name| fs::read(format!("{process}/{name}")).unwrap());
            let key = fs::read_to_string(key_file(state.path())).unwrap();
            let ended = relay.stop();
            assert!(ended.err.contains("TRACE") && ended.err.contains("logged in"), "{ended:?}");
            for text in [ended.err.as_bytes(), ended.out.as_bytes(), &arguments, &environment] {
                holds_no_secret(text, &key);
            }
        }
    }
}

/// The same for whoever prints the parts of a relay, and for what it counts.
#[test]
fn no_secret_is_shown_by_debug_or_metrics() {
    for host in HOSTS {
        let folder = tempfile::tempdir().unwrap();
        let file = key_file(folder.path());
        let relay = Fixture::with(host, Way::Tls13, |builder| builder.key_file(&file));
        let key = fs::read_to_string(&file).unwrap();
        let mut peer = Peer::connect(relay.derp, Way::Tls13, 1);
        peer.is_up();
        let config = Config::new(Keys {
            hostname: Some("relay.test".to_owned()),
            key_file: Some(file),
            ..Keys::default()
        });

        let texts = [format!("{:?}", relay.relay), format!("{config:?}"), relay.relay.metrics()];

        for text in texts {
            holds_no_secret(text.as_bytes(), &key);
        }
    }
}

/// Everything that a relay might want to log.
fn talk(relay: &Program, way: Way) {
    let derp = relay.address("derp");
    let mut one = Peer::connect(derp, way, 1);
    let mut two = Peer::connect(derp, way, 2);
    one.send_packet(&two.key, PACKET);
    assert_eq!(two.packet().1, PACKET);
    // To nobody, from a duplicate, and in a frame that closes.
    one.send_packet(&private(77).public(), PACKET);
    let mut duplicate = Peer::connect(derp, way, 1);
    duplicate.send_packet(&two.key, PACKET);
    assert_eq!(two.packet().1, PACKET);
    assert!(Peer::try_connect(derp, way, private(66)).is_err());
    duplicate.send(derp::frame::Kind::Ping, &PACKET[..7]);
    duplicate.is_closed();
    one.is_up();
}

fn holds_no_secret(text: &[u8], relay_key_file: &str) {
    let text = String::from_utf8_lossy(text);
    let (_, relay_key) = relay_key_file.split_once("privkey:").unwrap();
    let relay_private: NodePrivate = format!("privkey:{}", &relay_key[..64]).parse().unwrap();
    let mut secrets = vec![
        ("the relay's private key", relay_key[..64].to_owned()),
        ("a private key", "privkey:".to_owned()),
        ("a private key", "PRIVATE KEY".to_owned()),
        ("a packet", String::from_utf8_lossy(PACKET).into_owned()),
        ("a packet, in hex", hex(PACKET)),
        ("a packet, in numbers", format!("{PACKET:?}").trim_matches(['[', ']']).to_owned()),
        ("a whole key", "nodekey:".to_owned()),
        ("the relay's whole key", relay_private.public().to_hex()),
    ];
    for number in [1, 2, 66, 77] {
        let key = private(number);
        let numbers = format!("{:?}", key.public().as_bytes());
        secrets.push(("a node's private key", key.to_file_text()[8..].to_owned()));
        secrets.push(("a node's whole key", key.public().to_hex()));
        secrets.push(("a node's key in numbers", numbers.trim_matches(['[', ']']).to_owned()));
    }
    for (what, secret) in secrets {
        if let Some(at) = text.to_lowercase().find(&secret.to_lowercase()) {
            let line = text[..at].lines().count();
            panic!("{what} on line {line}: {}", text.lines().nth(line.max(1) - 1).unwrap());
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
