//! Questions that are saved by an earlier answer, joined, or have to wait for their turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::relay;
use crate::support::peer::{Peer, Way, private};
use crate::support::verifier::{Reply, Verifier};
use crate::support::{HOSTS, eventually};

/// DERP-8.5: who comes again within seconds is let in by the same answer.
#[test]
fn a_yes_saves_the_next_questions() {
    for host in HOSTS {
        let verifier = Verifier::start(host, |_| Reply::allow());
        let relay = relay(host, Way::Plain, &verifier.url(), false);
        for _ in 0..5 {
            Peer::connect(relay.derp, Way::Plain, 1).is_up();
        }
        let asked = verifier.questions().len();
        // More than one only where five logins take more than ten seconds.
        let saved = relay.metric(r#"derp_verify_saved{by="allowed"}"#);
        assert_eq!(saved, (5 - asked) as f64);
        assert!(saved > 0.0);
        relay.counts("derp_verify_known_nodes", 1);
    }
}

/// DERP-8.5: a no is given again for a moment only: a node enters soon after it is registered.
#[test]
fn a_no_saves_questions_and_keeps_nobody_out() {
    for host in HOSTS {
        let registered = Arc::new(AtomicBool::new(false));
        let is_registered = Arc::clone(&registered);
        let verifier = Verifier::start(host, move |_| {
            if is_registered.load(Ordering::Acquire) { Reply::allow() } else { Reply::deny() }
        });
        let relay = relay(host, Way::Plain, &verifier.url(), false);
        let enters = || Peer::try_connect(relay.derp, Way::Plain, private(1)).is_ok();
        let mut tries = 0;
        eventually("two tries within a second", || {
            assert!(!enters());
            tries += 1;
            let asked = verifier.questions().len();
            let saved = relay.metric(r#"derp_verify_saved{by="denied"}"#);
            assert_eq!(saved, f64::from(tries) - asked as f64);
            (saved > 0.0).then_some(()).ok_or(asked)
        });

        registered.store(true, Ordering::Release);

        eventually("it enters", || enters().then_some(()).ok_or("refused"));
    }
}

/// DERP-8.5: a slow verifier is asked once about one key, whoever waits for it.
#[test]
fn many_logins_of_one_key_are_one_question() {
    for host in HOSTS {
        let open = Arc::new(AtomicBool::new(false));
        let is_open = Arc::clone(&open);
        let verifier = Verifier::start(host, move |_| {
            while !is_open.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(2));
            }
            Reply::allow()
        });
        let relay = relay(host, Way::Plain, &verifier.url(), false);
        let derp = relay.derp;
        let waiting: Vec<_> = (0..30)
            .map(|_| std::thread::spawn(move || Peer::connect(derp, Way::Plain, 1)))
            .collect();
        relay.counts(r#"derp_verify_saved{by="under_way"}"#, 29);

        open.store(true, Ordering::Release);

        for login in waiting {
            drop(login.join().unwrap());
        }
        assert_eq!(verifier.questions().len(), 1);
        relay.counts(r#"derp_access{outcome="allowed"}"#, 30);
    }
}

/// DERP-8.5: when a whole tailnet comes at once, the verifier has no more than 64 questions at a
/// time, and everybody gets in.
#[test]
fn a_storm_of_logins_is_no_storm_for_the_verifier() {
    for host in HOSTS {
        let (now, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
        let seen = Arc::clone(&most);
        let verifier = Verifier::start(host, move |_| {
            seen.fetch_max(now.fetch_add(1, Ordering::AcqRel) + 1, Ordering::AcqRel);
            std::thread::sleep(Duration::from_millis(20));
            now.fetch_sub(1, Ordering::AcqRel);
            Reply::allow()
        });
        let relay = relay(host, Way::Plain, &verifier.url(), false);
        let derp = relay.derp;
        let logins: Vec<_> = (0..250)
            .map(|number| {
                std::thread::spawn(move || Peer::try_connect(derp, Way::Plain, private(number)))
            })
            .collect();
        for login in logins {
            login.join().unwrap().unwrap().is_up();
        }
        let most = most.load(Ordering::Acquire);
        assert!((2..=64).contains(&most), "{most} at a time");
        assert_eq!(verifier.questions().len(), 250);
    }
}
