//! `dev`: a relay that needs no configuration.

use std::path::Path;

use derp::map::DerpMap;

use crate::support::peer::{Peer, Way, pin_shown_by};
use crate::support::process::{Program, command};
use crate::support::{http, namespace, stun};

/// In a network of its own, since its ports are fixed: it says where it is, everybody may enter,
/// and what it has printed for a map stays right over a restart.
#[test]
fn dev_needs_nothing_and_stays_the_same_over_a_restart() {
    namespace::run("dev::dev_needs_nothing_and_stays_the_same_over_a_restart", || {
        let home = tempfile::tempdir().unwrap();

        let first = dev(home.path());
        let map = map_of(&first);
        for (what, address) in [
            ("derp", "127.0.0.1:3340"),
            ("stun", "127.0.0.1:3478"),
            ("http", "127.0.0.1:3380"),
            ("metrics", "127.0.0.1:9091"),
        ] {
            assert_eq!(first.address(what).to_string(), address);
        }
        exchange(&first);
        stun::answers(first.address("stun"));
        assert_eq!(http::get(first.address("http"), "/generate_204").status, 204);
        assert_eq!(first.stop().status.code(), Some(0));

        let second = dev(home.path());
        assert_eq!(map, map_of(&second));
        exchange(&second);
        assert_eq!(second.stop().status.code(), Some(0));

        // Elsewhere it is somebody else, and a second one beside it says what is in its way.
        let other = tempfile::tempdir().unwrap();
        let third = dev(other.path());
        assert_ne!(map, map_of(&third));
        let mut fourth = command(&["dev"]);
        fourth.env("XDG_STATE_HOME", other.path().join("fourth"));
        let ended = Program::run(fourth);
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        let last = ended.err.lines().last().unwrap();
        assert!(last.starts_with("derp-relay: ") && last.contains("127.0.0.1:3340"), "{last}");
        assert!(last.contains("`dev` listens on fixed ports; `serve` on any"), "{last}");
        assert!(!other.path().join("fourth").exists(), "left behind");
        drop(third);
        let in_the_way = other.path().join("file");
        std::fs::write(&in_the_way, "").unwrap();
        let mut fifth = command(&["dev"]);
        fifth.env("XDG_STATE_HOME", &in_the_way);
        let ended = Program::run(fifth);
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        assert!(ended.err.contains("$XDG_STATE_HOME/derp-relay"), "{}", ended.err);
    });
}

fn dev(home: &Path) -> Program {
    let mut dev = command(&["dev"]);
    dev.env("HOME", home);
    let relay = Program::start(dev);
    assert!(home.join(".local/state/derp-relay/derp.key").exists());
    relay
}

fn exchange(relay: &Program) {
    let mut one = Peer::connect(relay.address("derp"), Way::Tls13, 1);
    let mut two = Peer::connect(relay.address("derp"), Way::Tls13, 2);
    one.send_packet(&two.key, b"hello");
    assert_eq!(two.packet(), (one.key, b"hello".to_vec()));
}

/// The map that it prints: valid, for one node, with the pin of the certificate that it shows.
fn map_of(relay: &Program) -> DerpMap {
    let out = relay.out();
    let (_, text) = out.split_once("DERP map:\n").unwrap();
    let (text, _) = text.split_once("\nready ").unwrap();
    let map = DerpMap::parse(text.as_bytes()).unwrap();
    map.validate().unwrap();
    let node = &map.regions[&999].nodes[0];
    assert_eq!(node.cert_name, pin_shown_by(relay.address("derp")));
    assert!(out.contains(&format!("CertName: {}\n", node.cert_name)), "{out}");
    assert_eq!((node.derp_port, node.stun_port), (3_340, 3_478));
    map
}
