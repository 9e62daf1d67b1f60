//! One of several bridges on a store leads; whoever has lost the lead changes nothing any more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use coord_bridge::lease::{Lease, Pace};
use coord_bridge::provisioning::Provisioning;
use coord_bridge::provisioning::clock::Clock;
use coord_bridge::store::leases::{self, Claim};
use coord_bridge::store::machines::State;
use coord_bridge::store::{Location, Store};

use crate::bench::Bench;
use crate::headscale::Mood;
use crate::postgres_server;
use crate::program::PATIENCE;
use crate::store::on_both;

/// As in a bridge, in hundredths of the time.
const PACE: Pace = Pace {
    renew: Duration::from_millis(20),
    lease: Duration::from_millis(1_000),
    takeover: Duration::from_millis(1_200),
};

#[test]
fn one_leads_and_whoever_stops_is_followed_at_once() {
    on_both(|location| {
        let mut bridges: Vec<Lease> = (0..4).map(|_| strive(&location)).collect();
        let leaders = |bridges: &[Lease]| bridges.iter().filter(|it| leads(it)).count();
        until("one leads", || leaders(&bridges) == 1);
        // Whoever leads stays: nobody else may come to lead in ten renewals.
        let end = Instant::now() + 10 * PACE.renew;
        while Instant::now() < end {
            assert!(leaders(&bridges) <= 1);
        }
        while !bridges.is_empty() {
            until("one leads", || leaders(&bridges) == 1);
            let leader = bridges.iter().position(leads).unwrap();
            drop(bridges.remove(leader));
            let store = Store::new(location.clone()).unwrap();
            if bridges.is_empty() {
                assert_eq!(store.read_now(leases::current).unwrap(), None, "nobody has it");
            }
        }
    });
}

/// The row of a bridge that has died is nobody to follow; one that is renewed is.
#[test]
fn only_a_bridge_that_lives_is_a_rival() {
    on_both(|location| {
        let store = Store::new(location.clone()).unwrap();
        store.write_now(|session| leases::claim(session, "dead", None)).unwrap();
        let first = strive(&location);
        until("it leads", || leads(&first));
        assert!(!first.leadership().has_rival());
        let second = strive(&location);
        until("it knows of the first", || second.leadership().has_rival());
        assert!(!leads(&second) && !first.leadership().has_rival());
    });
}

/// `kill -9`, a host without power, a client that is half open: all leave the row behind.
#[test]
fn a_leader_that_is_silent_is_followed_after_a_while_and_not_before() {
    on_both(|location| {
        let store = Store::new(location.clone()).unwrap();
        store.write_now(|session| leases::claim(session, "dead", None)).unwrap();
        let began = Instant::now();
        let bridge = strive(&location);
        until("it leads", || leads(&bridge));
        assert!(began.elapsed() >= PACE.takeover, "the dead one could have led until then");
        // The dead one comes back to life: it is not the leader, and cannot be.
        let done = store.write_now(|session| {
            let is_held = leases::is_held(session, "dead")?;
            Ok((is_held, leases::claim(session, "dead", None)?))
        });
        assert_eq!(done.unwrap(), (false, false));
    });
}

/// Only the claim that somebody has seen for long is theirs to take.
#[test]
fn a_lease_that_was_renewed_meanwhile_is_not_taken() {
    on_both(|location| {
        let store = Store::new(location).unwrap();
        let done = store.write_now(|session| {
            assert!(leases::claim(session, "a", None)?);
            let seen: Option<Claim> = leases::current(session)?;
            assert!(leases::claim(session, "a", None)?);
            assert!(!leases::claim(session, "b", seen.as_ref())?);
            leases::release(session, "b")?;
            leases::is_held(session, "a")
        });
        assert!(done.unwrap());
    });
}

#[test]
fn without_its_store_a_bridge_does_not_lead() {
    let bench = Bench::new();
    let bridge = strive(&bench.location);
    until("it leads", || leads(&bridge));
    let file = bench.folder.path().join("bridge.sqlite");
    let away = bench.folder.path().join("away");
    std::fs::rename(&file, &away).unwrap();
    until("it does not lead", || !leads(&bridge));
    std::fs::rename(&away, &file).unwrap();
    until("it leads again", || leads(&bridge));
}

/// The process was stopped in the middle of a round, and does not know that its time is over.
#[tokio::test]
async fn a_round_of_whoever_has_lost_the_lead_changes_nothing() {
    for location in [None, postgres_server::database()].into_iter().take(2) {
        let bench = Bench::at(location, |_| {});
        let forever = Pace { lease: PATIENCE, renew: PATIENCE, ..PACE };
        let lease = Lease::strive(Store::new(bench.location.clone()).unwrap(), forever).unwrap();
        let leadership = lease.leadership();
        tokio::task::spawn_blocking(move || until("it leads", || leadership.may_lead()))
            .await
            .unwrap();
        bench.provisioning.lead_by(lease.leadership());
        let machine = bench.register("one").await.unwrap();
        let node = bench.headscale.join(machine.key.reveal(), "one");
        bench.headscale.set("nodes", Mood::Slow(Duration::from_millis(300)));
        let take = async {
            while bench.headscale.calls("nodes") == 0 {
                tokio::task::yield_now().await;
            }
            let stolen = bench.store.write(|session| {
                let seen = leases::current(session)?;
                leases::claim(session, "another", seen.as_ref())
            });
            assert!(stolen.await.unwrap());
        };
        tokio::join!(bench.provisioning.reconcile(), take);
        assert!(lease.leadership().may_lead(), "by its own clock it leads");
        assert_eq!(bench.machine(&machine.machine_id).await.state, State::Pending);

        // Whoever leads now sees the same.
        let other = Provisioning::with_clock(
            bench.settings.clone(),
            bench.store.clone(),
            Arc::clone(&bench.headscale) as _,
            Arc::clone(&bench.clock) as Arc<dyn Clock>,
        );
        other.unwrap().reconcile().await;
        let seen = bench.machine(&machine.machine_id).await;
        assert_eq!((seen.state, seen.node_id), (State::Online, Some(node)));
    }
}

/// A bridge that does not lead is ready, and asks for nothing but whether Headscale is well.
#[tokio::test]
async fn a_bridge_that_does_not_lead_is_ready_and_leaves_headscale_alone() {
    let bench = Bench::new();
    bench.provisioning.lead_by(coord_bridge::lease::Leadership::new(|| false));
    bench.register("one").await.unwrap();
    bench.provisioning.reconcile().await;
    assert!(bench.provisioning.findings().await.is_empty());
    assert_eq!(bench.provisioning.reconcile_age(), None);
    for call in ["nodes", "keys", "expire_key"] {
        assert_eq!(bench.headscale.calls(call), 0, "{call}");
    }
}

fn strive(location: &Location) -> Lease {
    Lease::strive(Store::new(location.clone()).unwrap(), PACE).unwrap()
}

fn leads(lease: &Lease) -> bool {
    lease.leadership().may_lead()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
