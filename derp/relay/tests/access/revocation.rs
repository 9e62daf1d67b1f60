//! Connections that end because their node may no longer enter.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use derp::key::NodePublic;
use derp_relay::{AccessConfig, VerifyConfig};

use crate::support::peer::{Peer, Way, private};
use crate::support::verifier::{Reply, Verifier};
use crate::support::{Fixture, HOSTS, eventually, quiet_address};
use crate::{asked_about, asking, relay, verifying};

const SECOND: Duration = Duration::from_secs(1);

/// DERP-8.7: without a push from anybody, and although it was let in a moment ago; all of its
/// connections, and nobody else's.
#[test]
fn a_removed_node_is_cut_off_by_the_next_re_check() {
    for host in HOSTS {
        for way in [Way::Plain, Way::Tls12, Way::Tls13] {
            let (verifier, removed) = forgetful(host);
            let url = verifier.url();
            let config = VerifyConfig { interval: SECOND, ..asking(&[&url]) };
            let relay = verifying(host, way, config);
            let mut stays = Peer::connect(relay.derp, way, 1);
            let mut goes: Vec<Peer> = (0..3).map(|_| Peer::connect(relay.derp, way, 2)).collect();
            relay.counts("derp_current_connections", 4);

            remove(&removed, 2);

            for peer in &mut goes {
                peer.is_closed();
            }
            assert!(Peer::try_connect(relay.derp, way, private(2)).is_err());
            stays.is_up();
            relay.counts("derp_current_connections", 1);
            relay.counts(r#"derp_connections_closed{reason="revoked"}"#, 3);
            relay.counts(r#"derp_access_cut_offs{cause="denied"}"#, 1);
            relay.counts(r#"derp_verify_rechecks{outcome="denied"}"#, 1);
            // The turn of the one that stays may come after theirs.
            eventually("the other one was asked about", || {
                let asked = relay.metric(r#"derp_verify_rechecks{outcome="allowed"}"#);
                (asked > 0.0).then_some(()).ok_or(asked)
            });
        }
    }
}

/// DERP-8.7: a re-check asks as a login does, with the address that the node came from.
#[test]
fn a_re_check_is_the_same_question() {
    for host in HOSTS {
        let verifier = Verifier::start(host, |_| Reply::allow());
        let url = verifier.url();
        let relay =
            verifying(host, Way::Plain, VerifyConfig { interval: SECOND, ..asking(&[&url]) });
        let _peer = Peer::connect(relay.derp, Way::Plain, 1);
        let questions = eventually("a re-check", || {
            let questions = verifier.questions();
            (questions.len() >= 3).then_some(questions.clone()).ok_or(questions)
        });
        assert!(questions.iter().all(|question| question == &questions[0]), "{questions:?}");
    }
}

/// DERP-8.6, DERP-8.7: an outage of the verifier, over several re-checks, ends nothing.
#[test]
fn an_outage_cuts_nobody_off() {
    for host in HOSTS {
        let address = quiet_address(host);
        let verifier = Verifier::start_at(address, None, |_| Reply::allow());
        let url = verifier.url();
        let relay =
            verifying(host, Way::Plain, VerifyConfig { interval: SECOND, ..asking(&[&url]) });
        let mut peer = Peer::connect(relay.derp, Way::Plain, 1);
        verifier.stop();
        eventually("re-checks in vain", || {
            let stayed = relay.metric(r#"derp_verify_rechecks{outcome="last_known_good"}"#);
            (stayed >= 3.0).then_some(()).ok_or(stayed)
        });
        peer.is_up();

        // And when it is back, its no counts.
        let _verifier = Verifier::start_at(address, None, |_| Reply::deny());
        peer.is_closed();
    }
}

/// DERP-8.7: without re-checks a removed node stays, as the operator wants it.
#[test]
fn an_interval_of_zero_asks_never_again() {
    for host in HOSTS {
        let verifier = Verifier::start(host, |_| Reply::allow());
        let relay = relay(host, Way::Plain, &verifier.url(), false);
        let mut peer = Peer::connect(relay.derp, Way::Plain, 1);
        // Longer than the shortest interval there is.
        std::thread::sleep(2 * SECOND);
        peer.is_up();
        assert_eq!(verifier.questions().len(), 1);
    }
}

/// DERP-8.7: hundreds of connections: each is asked about again, at most 16 at a time, and nobody
/// is cut off.
#[test]
fn re_checks_of_many_are_spread() {
    const CLIENTS: u32 = 150;
    let host = HOSTS[0];
    let logins_over = Arc::new(AtomicBool::new(false));
    let (now, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let (over, seen) = (Arc::clone(&logins_over), Arc::clone(&most));
    let verifier = Verifier::start(host, move |_| {
        let others = now.fetch_add(1, Ordering::AcqRel);
        if over.load(Ordering::Acquire) {
            seen.fetch_max(others + 1, Ordering::AcqRel);
        }
        std::thread::sleep(Duration::from_millis(30));
        now.fetch_sub(1, Ordering::AcqRel);
        Reply::allow()
    });
    let url = verifier.url();
    let relay = verifying(host, Way::Plain, VerifyConfig { interval: SECOND, ..asking(&[&url]) });
    let mut peers: Vec<Peer> =
        (0..CLIENTS).map(|number| Peer::connect(relay.derp, Way::Plain, number)).collect();
    logins_over.store(true, Ordering::Release);
    let before = verifier.questions().len();

    eventually("each was asked about again", || {
        let mut times = BTreeMap::<NodePublic, usize>::new();
        for question in &verifier.questions()[before..] {
            *times.entry(asked_about(question)).or_default() += 1;
        }
        (times.len() == CLIENTS as usize).then_some(()).ok_or(times.len())
    });

    let most = most.load(Ordering::Acquire);
    assert!((1..=16).contains(&most), "{most} at a time");
    for peer in &mut peers {
        peer.is_up();
    }
    assert_eq!(relay.metric(r#"derp_access_cut_offs{cause="denied"}"#), 0.0);
}

/// DERP-8.8: at once, whatever was answered a moment ago; it may come back when the verifier says
/// so, and is asked about; in an outage it may not.
#[test]
fn a_revoked_node_is_cut_off_at_once() {
    for host in HOSTS {
        for way in [Way::Plain, Way::Tls13] {
            let (verifier, removed) = forgetful(host);
            let relay = relay(host, way, &verifier.url(), false);
            let mut stays = Peer::connect(relay.derp, way, 1);
            let mut goes = [Peer::connect(relay.derp, way, 2), Peer::connect(relay.derp, way, 2)];
            let key = goes[0].key;

            relay.relay.access().revoke(&key);

            for peer in &mut goes {
                peer.is_closed();
            }
            stays.is_up();
            relay.counts(r#"derp_access_cut_offs{cause="revoked"}"#, 1);
            let asked = verifier.questions().len();
            let mut back = Peer::connect(relay.derp, way, 2);
            assert_eq!(verifier.questions().len(), asked + 1);
            remove(&removed, 2);
            relay.relay.access().revoke(&key);
            back.is_closed();
            assert!(Peer::try_connect(relay.derp, way, private(2)).is_err());
            relay.relay.access().revoke(&key);
            verifier.stop();
            assert!(Peer::try_connect(relay.derp, way, private(2)).is_err());
            relay.counts(r#"derp_access{outcome="unavailable"}"#, 1);
            stays.is_up();
        }
    }
}

/// DERP-8.8: an answer that was asked for before the revocation lets nobody in who then stays, and
/// a login after it has a question of its own.
#[test]
fn a_login_under_way_does_not_outlive_a_revocation() {
    for host in HOSTS {
        let open = Arc::new(AtomicBool::new(false));
        let is_open = Arc::clone(&open);
        let first = AtomicBool::new(true);
        let verifier = Verifier::start(host, move |_| {
            if !first.swap(false, Ordering::AcqRel) {
                return Reply::deny();
            }
            while !is_open.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(2));
            }
            Reply::allow()
        });
        let relay = relay(host, Way::Plain, &verifier.url(), false);
        let derp = relay.derp;
        let login = std::thread::spawn(move || Peer::try_connect(derp, Way::Plain, private(1)));
        eventually("the question", || match verifier.questions().len() {
            1 => Ok(()),
            other => Err(other),
        });

        relay.relay.access().revoke(&private(1).public());

        assert!(Peer::try_connect(derp, Way::Plain, private(1)).is_err());
        assert_eq!(verifier.questions().len(), 2);
        open.store(true, Ordering::Release);
        if let Ok(mut peer) = login.join().unwrap() {
            peer.is_closed();
        }
        relay.counts("derp_current_connections", 0);
        relay.counts("derp_verify_known_nodes", 0);
    }
}

/// DERP-8.8: in open mode, too, and for nodes that are not here.
#[test]
fn a_relay_for_everybody_can_cut_off() {
    for host in HOSTS {
        let relay = Fixture::start(host, Way::Plain, 2);
        let mut peer = Peer::connect(relay.derp, Way::Plain, 1);
        relay.relay.access().revoke(&private(2).public());
        peer.is_up();
        relay.relay.access().revoke(&peer.key);
        peer.is_closed();
    }
}

/// DERP-8.8: what is forgotten is asked about at the next login; the connection stays.
#[test]
fn a_forgotten_answer_is_asked_for_again() {
    for host in HOSTS {
        let verifier = Verifier::start(host, |_| Reply::allow());
        let relay = relay(host, Way::Plain, &verifier.url(), false);
        let mut peer = Peer::connect(relay.derp, Way::Plain, 1);

        relay.relay.access().forget(&peer.key);

        Peer::connect(relay.derp, Way::Plain, 1).is_up();
        assert_eq!(verifier.questions().len(), 2);
        peer.is_up();
    }
}

/// DERP-8.3, DERP-8.8: who is taken off the list is cut off when the list is read again.
#[test]
fn a_node_taken_off_the_list_is_cut_off() {
    for host in HOSTS {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("allowed");
        let [one, two] = [1, 2].map(|number| private(number).public());
        fs::write(&file, format!("{one}\n{two}\n")).unwrap();
        let access = AccessConfig::AllowList { file: file.clone() };
        let relay = Fixture::with(host, Way::Plain, |builder| builder.access(access));
        let mut stays = Peer::connect(relay.derp, Way::Plain, 1);
        let mut goes = Peer::connect(relay.derp, Way::Plain, 2);

        fs::write(&file, format!("{one}\n")).unwrap();
        relay.relay.reload();

        goes.is_closed();
        stays.is_up();
        relay.counts(r#"derp_access_cut_offs{cause="unlisted"}"#, 1);
        // A list that cannot be read changes nothing.
        fs::write(&file, "junk\n").unwrap();
        relay.relay.reload();
        stays.is_up();
    }
}

/// DERP-8.3: beside a verifier, the list lets in without a question, and an outage does not matter.
#[test]
fn a_list_beside_a_verifier_needs_no_question() {
    for host in HOSTS {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("allowed");
        fs::write(&file, format!("{}\n", private(1).public())).unwrap();
        let verifier = Verifier::start(host, |_| Reply::deny());
        let url = verifier.url();
        let config = VerifyConfig { allow_list: Some(file), interval: SECOND, ..asking(&[&url]) };
        let relay = verifying(host, Way::Plain, config);
        let mut listed = Peer::connect(relay.derp, Way::Plain, 1);
        assert!(Peer::try_connect(relay.derp, Way::Plain, private(2)).is_err());
        eventually("a re-check", || {
            let stayed = relay.metric(r#"derp_verify_rechecks{outcome="allowed"}"#);
            (stayed > 0.0).then_some(()).ok_or(stayed)
        });
        listed.is_up();
        let own = private(1).public();
        assert!(verifier.questions().iter().all(|question| asked_about(question) != own));
    }
}

/// A verifier that says yes, but for the keys that are removed.
fn forgetful(host: IpAddr) -> (Verifier, Arc<Mutex<Vec<NodePublic>>>) {
    let removed = Arc::<Mutex<Vec<NodePublic>>>::default();
    let known = Arc::clone(&removed);
    let verifier = Verifier::start(host, move |question| {
        let is_removed = known.lock().unwrap().contains(&asked_about(question));
        if is_removed { Reply::deny() } else { Reply::allow() }
    });
    (verifier, removed)
}

fn remove(removed: &Mutex<Vec<NodePublic>>, number: u32) {
    removed.lock().unwrap().push(private(number).public());
}
