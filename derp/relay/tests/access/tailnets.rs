//! Several verifiers for one relay.

use std::net::IpAddr;

use crate::support::peer::{Peer, Way, private};
use crate::support::verifier::{Reply, Verifier};
use crate::support::{Fixture, HOSTS};
use crate::{asked_about, asking, holds_outcome, verifying};

/// DERP-8.5: each tailnet's nodes enter by the word of their own verifier, under its name; who is
/// in none is denied.
#[test]
fn nodes_of_each_tailnet_enter() {
    for host in HOSTS {
        let (home, work) = (knowing(host, 1), knowing(host, 2));
        let relay = relay_for(host, &home, &work);
        let mut one = Peer::connect(relay.derp, Way::Plain, 1);
        let mut two = Peer::connect(relay.derp, Way::Plain, 2);
        one.send_packet(&two.key, b"from home to work");
        assert_eq!(two.packet().1, b"from home to work");

        assert!(Peer::try_connect(relay.derp, Way::Plain, private(3)).is_err());

        relay.counts(r#"derp_access{outcome="allowed"}"#, 2);
        relay.counts(r#"derp_access{outcome="denied"}"#, 1);
        for tailnet in ["home", "work"] {
            relay.counts(&requests(tailnet, "allowed"), 1);
            relay.counts(&requests(tailnet, "denied"), 2);
        }
        one.is_up();
    }
}

/// DERP-8.4, DERP-8.6: of two, one that is down makes nobody's yes uncertain, and nobody's no
/// certain.
#[test]
fn one_verifier_that_is_down_denies_nobody() {
    for host in HOSTS {
        let (home, work) = (knowing(host, 1), knowing(host, 2));
        let relay = relay_for(host, &home, &work);
        Peer::connect(relay.derp, Way::Plain, 1).is_up();
        home.stop();
        relay.relay.access().forget(&private(1).public());

        Peer::connect(relay.derp, Way::Plain, 1).is_up();
        Peer::connect(relay.derp, Way::Plain, 2).is_up();
        assert!(Peer::try_connect(relay.derp, Way::Plain, private(3)).is_err());

        relay.counts(r#"derp_access{outcome="last_known_good"}"#, 1);
        relay.counts(r#"derp_access{outcome="allowed"}"#, 2);
        relay.counts(r#"derp_access{outcome="unavailable"}"#, 1);
        relay.counts(&requests("home", "unreachable"), 3);
    }
}

/// One that never answers delays a yes of another by nothing: the login would not outlive it.
#[test]
fn the_first_yes_counts() {
    for host in HOSTS {
        let silent = Verifier::start(host, |_| Reply::Silence);
        let work = knowing(host, 2);
        let relay = relay_for(host, &silent, &work);
        Peer::connect(relay.derp, Way::Plain, 2).is_up();
        // The silent one has not even been given up.
        holds_outcome(&relay, "allowed", 1);
        assert_eq!(relay.metric(&requests("home", "timeout")), 0.0);
    }
}

fn knowing(host: IpAddr, number: u32) -> Verifier {
    let key = private(number).public();
    Verifier::start(
        host,
        move |question| {
            if asked_about(question) == key { Reply::allow() } else { Reply::deny() }
        },
    )
}

fn relay_for(host: IpAddr, home: &Verifier, work: &Verifier) -> Fixture {
    let urls = [format!("home={}", home.url()), format!("work={}", work.url())];
    verifying(host, Way::Plain, asking(&[&urls[0], &urls[1]]))
}

fn requests(tailnet: &str, outcome: &str) -> String {
    format!(r#"derp_verify_requests{{tailnet="{tailnet}",outcome="{outcome}"}}"#)
}
