//! Webhooks of several bridges on one store: whoever takes the lead goes on, and leaves nothing out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use coord_bridge::events::Leadership;
use coord_bridge::events::feed::Delivery;
use coord_bridge::lease::{self, Lease};
use coord_bridge::provisioning::{clock, id};
use coord_bridge::store::events::{self, Event};
use coord_bridge::store::leases;

use crate::running::until;
use crate::webhooks::{Bridge, outcomes, well};

/// A lead that the test gives and takes.
struct Lead(Arc<AtomicBool>);

impl Lead {
    fn elsewhere() -> (Self, Leadership) {
        let leads = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&leads);
        (Self(leads), Leadership::new(move || asked.load(Ordering::SeqCst)))
    }

    fn take(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Something happens, by a clock that is `ahead` seconds ahead.
fn happens_at(bridge: &Bridge, outcome: &str, ahead: i64) {
    let at_ms = clock::millis(SystemTime::now()) + ahead * 1_000;
    let event = Event {
        id: id::new(at_ms),
        at_ms,
        kind: "machine".to_owned(),
        outcome: outcome.to_owned(),
        ..Event::default()
    };
    bridge.store.write_now(move |session| events::insert(session, &event)).unwrap();
}

/// What whoever led has surely sent is not sent again; what comes then is.
#[test]
fn a_bridge_that_does_not_lead_sends_nothing_until_it_does() {
    let receiver = well();
    let mut bridge = Bridge::with(&[("chat", receiver.url())]);
    bridge.stop();
    bridge.pace.takeover = Duration::ZERO;
    let (lead, leadership) = Lead::elsewhere();
    bridge.start(&leadership);
    let before = bridge.position();
    bridge.happens("machine", "joined");
    until("the position to follow", || bridge.position() != before);
    assert!(receiver.received().is_empty());
    lead.take();
    bridge.happens("machine", "online");
    until("what is new", || bridge.count(0, Delivery::Delivered) == 1);
    assert_eq!(outcomes(&receiver.received()), ["machine.online"]);
}

/// How long ago something was is not known from the date on it: the clock that wrote it was behind,
/// or the one that reads it is ahead.
#[test]
fn clocks_that_are_apart_hide_nothing_from_whoever_takes_the_lead() {
    let receiver = well();
    let mut bridge = Bridge::with(&[("chat", receiver.url())]);
    bridge.stop();
    let (lead, leadership) = Lead::elsewhere();
    bridge.start(&leadership);
    for (outcome, ahead) in [("online", 0), ("stale", -86_400), ("deleted", 86_400)] {
        happens_at(&bridge, outcome, ahead);
    }
    // Time for many looks, none of which may pass the events.
    std::thread::sleep(20 * bridge.pace.poll);
    lead.take();
    until("all three", || bridge.count(0, Delivery::Delivered) == 3);
    let wanted = ["machine.online", "machine.stale", "machine.deleted"];
    assert_eq!(outcomes(&receiver.received()), wanted);
}

/// A second bridge that is new, or has lost its folder: what the leader may still be trying is
/// not lost with it.
#[test]
fn a_new_bridge_begins_where_it_would_take_over() {
    let receiver = well();
    let mut bridge = Bridge::stopped(&[("chat", receiver.url())], &[]);
    happens_at(&bridge, "joined", -86_400);
    happens_at(&bridge, "online", -5);
    // Written after it by a clock that is behind: no older.
    happens_at(&bridge, "stale", -86_400);
    let (lead, leadership) = Lead::elsewhere();
    bridge.start(&leadership);
    assert!(receiver.received().is_empty());
    lead.take();
    until("what is recent", || bridge.count(0, Delivery::Delivered) == 2);
    assert_eq!(outcomes(&receiver.received()), ["machine.online", "machine.stale"]);
}

/// The same with the lease of the store: a bridge that is alone begins with what is new, whether or
/// not it leads yet.
#[test]
fn whether_a_bridge_is_alone_is_known_from_the_store() {
    for predecessor in [None, Some("died")] {
        let receiver = well();
        let mut bridge = Bridge::stopped(&[("chat", receiver.url())], &[]);
        if let Some(name) = predecessor {
            bridge.store.write_now(move |session| leases::claim(session, name, None)).unwrap();
        }
        happens_at(&bridge, "joined", -5);
        let pace = lease::Pace {
            renew: Duration::from_millis(20),
            takeover: Duration::from_millis(1_200),
            ..lease::Pace::default()
        };
        let lease = Lease::strive(bridge.store.clone(), pace).unwrap();
        bridge.start(&lease.leadership());
        until("the lead", || lease.leadership().may_lead());
        happens_at(&bridge, "online", 0);
        let wanted: &[&str] = match predecessor {
            None => &["machine.online"],
            Some(_) => &["machine.joined", "machine.online"],
        };
        until("what is new", || bridge.count(0, Delivery::Delivered) == wanted.len() as u64);
        assert_eq!(outcomes(&receiver.received()), wanted);
    }
}
