//! Nodes that are gone lose their connections to relays, and do not come back.

use crate::bench::{Bench, Pair, eventually, follow};
use crate::peer::private;

/// R-070, O5.2: another process deletes the machine, and nobody looks at Headscale for an hour: it
/// is the push that cuts the node off.
#[test]
fn a_machine_that_is_deleted_is_cut_off_and_refused() {
    let bench = Bench::new();
    let Pair { relay, id, mut one, mut two } = bench.pair(|node| bench.machine(node));

    let said = bench.run(&["machines", "delete", &id]);

    assert!(said.contains("gone from Headscale"), "{said}");
    one.is_closed();
    relay.refuses(1);
    two.is_up();
    assert_eq!(relay.metric(r#"derp_bridge_events{kind="close"}"#), 1.0);
    assert_eq!(relay.metric(r#"derp_access_cut_offs{cause="revoked"}"#), 1.0);
}

/// Logged out is cut off. As with Headscale, its node may come back until it is deleted.
#[test]
fn a_machine_that_is_logged_out_is_cut_off() {
    let bench = Bench::new();
    let relay = bench.relay(bench.relay_token_file());
    let id = bench.machine(&private(1).public());
    let mut one = relay.enter(1);
    relay.is_following();
    bench.run(&["machines", "expire", &id]);
    one.is_closed();
    relay.enter(1).is_up();
}

/// R-070: by whatever means, the bridge sees it at its next look.
#[test]
fn a_node_that_is_deleted_elsewhere_is_cut_off_by_the_watch() {
    let bench = Bench::with("interval = \"1s\"");
    let Pair { relay, id, mut one, mut two } = bench.pair(|node| bench.tailnet.join(node, None));

    bench.tailnet.remove(&id);

    one.is_closed();
    relay.refuses(1);
    two.is_up();
}

/// O5.3: where the operator wants it, an expired node is out like a deleted one.
#[test]
fn an_expired_node_is_cut_off_where_that_is_wanted() {
    for refuse_expired in [true, false] {
        let bench = Bench::with(&format!("interval = \"1s\"\nrefuse_expired = {refuse_expired}"));
        let relay = bench.relay(bench.relay_token_file());
        let id = bench.tailnet.join(&private(1).public(), None);
        let mut one = relay.enter(1);
        relay.is_following();
        let lists = bench.tailnet.lists();
        bench.tailnet.expire(&id);
        if refuse_expired {
            one.is_closed();
            relay.refuses(1);
        } else {
            eventually("looks", || {
                let more = bench.tailnet.lists();
                if more > lists + 2 { Ok(()) } else { Err(more) }
            });
            one.is_up();
        }
    }
}

/// A relay goes on without its bridge, and hears afterwards what it has missed.
#[test]
fn a_bridge_that_restarts_loses_nothing() {
    let mut bench = Bench::new();
    let relay = bench.relay(bench.relay_token_file());
    let id = bench.machine(&private(1).public());
    for number in [2, 3] {
        bench.tailnet.join(&private(number).public(), None);
    }
    let (mut one, mut two, mut three) = (relay.enter(1), relay.enter(2), relay.enter(3));
    relay.is_following();

    bench.kill();
    relay.counts("derp_bridge_connected", 0);
    bench.run(&["machines", "delete", &id]);
    two.send_packet(&three.key, b"still here");
    assert_eq!(three.packet(), (two.key, b"still here".to_vec()));
    bench.start();

    one.is_closed();
    relay.refuses(1);
    two.is_up();
    three.is_up();
    relay.is_following();
    assert_eq!(relay.metric("derp_bridge_reconnects"), 1.0);
    assert_eq!(relay.metric(r#"derp_bridge_events{kind="close"}"#), 1.0);
}

/// What nobody has written down while the bridge was away: it has relays ask about all nodes.
#[test]
fn what_changed_while_the_bridge_was_away_is_found_by_asking_again() {
    let mut bench = Bench::new();
    let Pair { relay, id, mut one, mut two } = bench.pair(|node| bench.tailnet.join(node, None));

    bench.kill();
    bench.tailnet.remove(&id);
    bench.start();

    one.is_closed();
    relay.refuses(1);
    two.is_up();
    // A stream that opens before the bridge has read its store is told twice to ask about all, and
    // the second question may come before the connection is gone.
    eventually("denied", || {
        let denied = relay.metric(r#"derp_access_cut_offs{cause="denied"}"#);
        if denied >= 1.0 { Ok(()) } else { Err(denied) }
    });
    assert_eq!(relay.metric(r#"derp_bridge_events{kind="close"}"#), 0.0);
}

/// Who was cut off, came back and is gone for good within the same minute is cut off again.
#[test]
fn a_node_that_came_back_is_cut_off_again() {
    let bench = Bench::with("interval = \"1s\"");
    let relay = bench.relay(bench.relay_token_file());
    bench.tailnet.join(&private(2).public(), None);
    bench.tailnet.join(&private(3).public(), None);
    let id = bench.machine(&private(1).public());
    let mut one = relay.enter(1);
    relay.is_following();
    bench.run(&["machines", "expire", &id]);
    one.is_closed();
    let mut again = relay.enter(1);
    again.is_up();

    bench.tailnet.remove_key(&private(1).public());

    again.is_closed();
    relay.refuses(1);
}

/// Relays are told before the store is, where that does not work.
#[test]
fn a_store_that_fails_does_not_keep_a_node_connected() {
    let bench = Bench::with("interval = \"1s\"");
    let Pair { relay, id, mut one, mut two } = bench.pair(|node| bench.tailnet.join(node, None));
    let store = bench.folder.path().join("state/bridge.sqlite");
    std::fs::rename(&store, store.with_extension("away")).unwrap();
    bench.bridge.as_ref().unwrap().wait_for_log("the store does not tell of nodes", 1);

    bench.tailnet.remove(&id);

    one.is_closed();
    relay.refuses(1);
    two.is_up();
    assert_eq!(relay.metric(r#"derp_bridge_events{kind="close"}"#), 1.0);
}

/// A wrong token, a bridge that is none, and none at all: the relay relays.
#[test]
fn a_relay_without_the_ear_of_a_bridge_goes_on_by_itself() {
    let bench = Bench::new();
    bench.tailnet.join(&private(1).public(), None);
    let wrong = bench.folder.path().join("wrong-token");
    std::fs::write(&wrong, "a-token-of-somebody-else").unwrap();
    let verifier = format!("http://{}/verify", bench.verify);
    for (url, token) in [
        (format!("http://{}", bench.verify), wrong.clone()),
        (format!("http://{}", bench.verify), bench.folder.path().join("missing")),
        (bench.tailnet.url(), bench.relay_token_file()),
        // Nobody has this port.
        ("http://127.0.0.1:1".to_owned(), bench.relay_token_file()),
    ] {
        let relay = follow(&url, &[&verifier], token);
        relay.enter(1).is_up();
        eventually("failures", || {
            let failures = relay.metric("derp_bridge_failures");
            if failures > 1.0 { Ok(()) } else { Err(failures) }
        });
        assert_eq!(relay.metric("derp_bridge_connected"), 0.0);
        relay.enter(1).is_up();
    }
    let log = bench.bridge.as_ref().unwrap().log();
    assert!(!log.contains("somebody-else") && !log.contains(&bench.relay_token()), "{log}");

    // The right one, later, is taken without a restart.
    let relay = follow(&format!("http://{}", bench.verify), &[&verifier], wrong.clone());
    std::fs::copy(bench.relay_token_file(), wrong).unwrap();
    relay.is_following();
}
