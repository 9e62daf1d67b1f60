//! Webhooks, with receivers that are well, slow, dead, broken, and elsewhere.

use std::path::Path;
use std::time::Duration;

use coord_bridge::events::feed::Delivery;
use coord_bridge::events::position::PositionFile;
use coord_bridge::events::signature::Signer;
use coord_bridge::events::webhook::{Pace, SetupError, TAKEOVER_TIME, WebhookConfig};
use coord_bridge::events::{EventsConfig, Leadership, Outlets};
use coord_bridge::store::Store;
use coord_bridge::store::events::{self, Event};
use serde_json::Value;
use tempfile::TempDir;

use crate::receiver::{Received, Receiver, status};
use crate::running::until;

pub(crate) const SECRET: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// Fast enough for tests; the attempts are those that there are.
pub(crate) const PACE: Pace = Pace {
    attempt_time: Duration::from_millis(500),
    attempts: 4,
    first_pause: Duration::from_millis(10),
    max_pause: Duration::from_millis(50),
    event_time: Duration::from_secs(60),
    poll: Duration::from_millis(5),
    takeover: TAKEOVER_TIME,
};

/// One with webhooks and nothing else.
pub(crate) struct Bridge {
    folder: TempDir,
    pub(crate) store: Store,
    webhooks: Vec<WebhookConfig>,
    pub(crate) pace: Pace,
    outlets: Option<Outlets>,
}

impl Bridge {
    /// One with a webhook for each of these names and URLs; ready to hand over what comes.
    pub(crate) fn with(webhooks: &[(&str, String)]) -> Self {
        Self::filtered(webhooks, &[])
    }

    fn filtered(webhooks: &[(&str, String)], wanted: &[&str]) -> Self {
        let mut bridge = Self::stopped(webhooks, wanted);
        bridge.start(&Leadership::all());
        bridge
    }

    /// One that has never run.
    pub(crate) fn stopped(webhooks: &[(&str, String)], wanted: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("secret"), format!("{SECRET}\n")).unwrap();
        let webhooks = webhooks.iter().map(|(name, url)| WebhookConfig {
            name: (*name).to_owned(),
            url: url.parse().unwrap(),
            secret_file: folder.path().join("secret").to_str().unwrap().parse().unwrap(),
            events: wanted.iter().map(|wanted| (*wanted).to_owned()).collect(),
        });
        let webhooks = webhooks.collect();
        let store = store(folder.path());
        Self { folder, store, webhooks, pace: PACE, outlets: None }
    }

    pub(crate) fn start(&mut self, leadership: &Leadership) {
        let config = EventsConfig {
            file: None,
            webhooks: self.webhooks.clone(),
            state_dir: self.folder.path().to_owned(),
        };
        let outlets = Outlets::start(&config, &self.store, leadership, self.pace).unwrap().unwrap();
        until("a position", || outlets.channels().iter().all(|it| it.position().is_some()));
        self.outlets = Some(outlets);
    }

    pub(crate) fn stop(&mut self) {
        self.outlets = None;
    }

    /// Something happens.
    pub(crate) fn happens(&self, kind: &str, outcome: &str) {
        let event = Event {
            id: "0000000000000000000000000".to_owned() + "1",
            at_ms: 1_767_225_600_000,
            kind: kind.to_owned(),
            outcome: outcome.to_owned(),
            hostname: Some("one".to_owned()),
            ..Event::default()
        };
        self.store.write_now(move |session| events::insert(session, &event)).unwrap();
    }

    pub(crate) fn position(&self) -> String {
        self.outlets.as_ref().unwrap().channels()[0].position().unwrap()
    }

    /// Waits until the first webhook has all events behind it, also for who reads the disk.
    fn is_settled(&self) {
        let last = self.store.read_now(events::last_id).unwrap();
        let file = PositionFile::new(self.folder.path(), &self.webhooks[0].name);
        until("the position on the disk", || file.read().unwrap() == last);
    }

    pub(crate) fn count(&self, webhook: usize, what: Delivery) -> u64 {
        self.outlets.as_ref().unwrap().channels()[webhook].deliveries.get(what)
    }
}

fn store(folder: &Path) -> Store {
    Store::new(coord_bridge::store::Location::File(folder.join("bridge.sqlite"))).unwrap()
}

pub(crate) fn well() -> Receiver {
    Receiver::start(|_| Some(status("204 No Content", "")))
}

pub(crate) fn outcomes(received: &[Received]) -> Vec<String> {
    let kind = |it: &Received| serde_json::from_str::<Value>(&it.body).unwrap()["type"].clone();
    received.iter().map(|it| kind(it).as_str().unwrap().to_owned()).collect()
}

/// What receivers need: who sent it, when, and which it is.
#[test]
fn an_event_arrives_signed_once_and_in_order() {
    let receiver = well();
    let bridge = Bridge::with(&[("chat", receiver.url())]);
    for outcome in ["joined", "online", "stale"] {
        bridge.happens("machine", outcome);
    }
    until("three requests", || bridge.count(0, Delivery::Delivered) == 3);

    let received = receiver.received();
    assert_eq!(outcomes(&received), ["machine.joined", "machine.online", "machine.stale"]);
    let signer = Signer::parse(SECRET).unwrap();
    for request in &received {
        assert!(request.head.starts_with("POST /hook/?key=SECRET-IN-URL HTTP/1.1\r\n"));
        let (id, at) = (request.header("webhook-id"), request.header("webhook-timestamp"));
        let signature = request.header("webhook-signature");
        let seconds: u64 = at.parse().unwrap();
        assert_eq!(signature, signer.sign(id, seconds, &request.body));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!(now.as_secs().abs_diff(seconds) < 120, "old requests can be told from new ones");
        // Whoever changes anything has to sign anew.
        assert_ne!(signature, signer.sign(id, seconds + 1, &request.body));
        assert_ne!(signature, signer.sign("another", seconds, &request.body));
        assert_ne!(signature, signer.sign(id, seconds, &request.body.replace("one", "two")));
        let body: Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(body["data"]["id"], id);
        assert_eq!(body["timestamp"], "2026-01-01T00:00:00Z");
        assert_eq!(body["data"]["hostname"], "one");
        assert_eq!(request.header("content-type"), "application/json");
    }
    let ids: Vec<&str> = received.iter().map(|it| it.header("webhook-id")).collect();
    assert!(ids.is_sorted() && ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
}

/// Repeats have the same id, so that receivers know them.
#[test]
fn what_is_not_taken_is_sent_again_with_the_same_id() {
    let receiver = Receiver::start(|n| {
        Some(match n {
            0 => status("500 Internal Server Error", ""),
            1 => status("429 Too Many Requests", "Retry-After: 0\r\n"),
            _ => status("200 OK", ""),
        })
    });
    let bridge = Bridge::with(&[("chat", receiver.url())]);
    bridge.happens("machine", "joined");
    bridge.happens("machine", "online");
    until("both", || bridge.count(0, Delivery::Delivered) == 2);
    let received = receiver.received();
    let joined = "machine.joined";
    assert_eq!(outcomes(&received), [joined, joined, joined, "machine.online"]);
    let ids: Vec<&str> = received.iter().map(|it| it.header("webhook-id")).collect();
    assert_eq!((ids[0], ids[1]), (ids[1], ids[2]));
    assert_eq!(bridge.count(0, Delivery::Failed), 2);
}

/// Bounded: the event is given up and the next one is tried.
#[test]
fn an_event_that_is_never_taken_is_given_up() {
    let receiver =
        Receiver::start(|n| Some(status(if n < 4 { "400 Bad Request" } else { "200 OK" }, "")));
    let bridge = Bridge::with(&[("chat", receiver.url())]);
    bridge.happens("machine", "joined");
    bridge.happens("machine", "online");
    until("the second", || bridge.count(0, Delivery::Delivered) == 1);
    assert_eq!(bridge.count(0, Delivery::GivenUp), 1);
    assert_eq!(bridge.count(0, Delivery::Failed), 3);
    assert_eq!(outcomes(&receiver.received())[4], "machine.online");
}

/// Also bounded in time, whatever the receiver asks for: it would wait for a minute here.
#[test]
fn an_event_holds_up_the_next_for_no_longer_than_its_time() {
    let wait = "Retry-After: 60\r\n";
    let receiver = Receiver::start(move |n| {
        Some(if n == 0 { status("429 Too Many Requests", wait) } else { status("200 OK", "") })
    });
    let mut bridge = Bridge::stopped(&[("chat", receiver.url())], &[]);
    bridge.pace.max_pause = Duration::from_secs(600);
    bridge.start(&Leadership::all());
    bridge.happens("machine", "joined");
    bridge.happens("machine", "online");
    until("the second", || bridge.count(0, Delivery::Delivered) == 1);
    assert_eq!((bridge.count(0, Delivery::GivenUp), bridge.count(0, Delivery::Failed)), (1, 0));
    assert_eq!(outcomes(&receiver.received()), ["machine.joined", "machine.online"]);
}

/// A redirect would carry events to a place that nobody has named.
#[test]
fn redirects_are_not_followed() {
    let elsewhere = well();
    let location = format!("Location: {}\r\n", elsewhere.url());
    let receiver = Receiver::start(move |n| {
        let line = ["301 Moved Permanently", "307 Temporary Redirect", "308 Permanent Redirect"];
        Some(line.get(n).map_or_else(|| status("200 OK", ""), |line| status(line, &location)))
    });
    let bridge = Bridge::with(&[("chat", receiver.url())]);
    bridge.happens("machine", "joined");
    until("the event", || bridge.count(0, Delivery::Delivered) == 1);
    assert_eq!(receiver.received().len(), 4);
    assert!(elsewhere.received().is_empty());
}

/// Dead, silent and flooding: each holds up nothing but itself.
#[test]
fn one_receiver_does_not_hold_up_another() {
    let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = Receiver::start(|_| None);
    let flooding = Receiver::start(|_| {
        Some(format!("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{}", "x".repeat(200_000)))
    });
    let good = well();
    let bridge = Bridge::with(&[
        ("dead", format!("http://{dead}/")),
        ("silent", silent.url()),
        ("flooding", flooding.url()),
        ("good", good.url()),
    ]);
    for _ in 0..20 {
        bridge.happens("machine", "joined");
    }
    until("twenty", || bridge.count(3, Delivery::Delivered) == 20);
    for bad in 0..3 {
        until("an attempt that failed", || bridge.count(bad, Delivery::Failed) > 0);
        assert_eq!(bridge.count(bad, Delivery::Delivered), 0);
    }
}

/// At least once: what was not taken when the bridge ended comes after its start.
#[test]
fn a_restart_goes_on_where_it_was() {
    let receiver = Receiver::start(|n| {
        Some(status(if n == 1 { "503 Service Unavailable" } else { "200 OK" }, ""))
    });
    let mut bridge = Bridge::with(&[("chat", receiver.url())]);
    bridge.happens("machine", "joined");
    until("the first", || bridge.count(0, Delivery::Delivered) == 1);
    bridge.is_settled();
    bridge.stop();
    for outcome in ["online", "stale"] {
        bridge.happens("machine", outcome);
    }
    bridge.store = store(bridge.folder.path());
    bridge.start(&Leadership::all());
    until("the rest", || bridge.count(0, Delivery::Delivered) == 2);
    let outcomes = outcomes(&receiver.received());
    let online = "machine.online";
    assert_eq!(outcomes, ["machine.joined", online, online, "machine.stale"]);
}

/// What was before a webhook was there is no news to it.
#[test]
fn a_new_webhook_begins_with_what_is_new() {
    let receiver = well();
    let mut bridge = Bridge::with(&[("one", receiver.url())]);
    bridge.happens("machine", "joined");
    until("the first", || bridge.count(0, Delivery::Delivered) == 1);
    bridge.stop();
    bridge.webhooks[0].name = "two".to_owned();
    bridge.start(&Leadership::all());
    bridge.happens("machine", "online");
    until("the second", || bridge.count(0, Delivery::Delivered) == 1);
    assert_eq!(outcomes(&receiver.received()), ["machine.joined", "machine.online"]);
}

#[test]
fn only_what_is_wanted_is_sent() {
    let receiver = well();
    let bridge = Bridge::filtered(&[("chat", receiver.url())], &["token", "machine.joined"]);
    for (kind, outcome) in
        [("machine", "online"), ("machine", "joined"), ("key", "created"), ("token", "revoked")]
    {
        bridge.happens(kind, outcome);
    }
    until("two", || bridge.count(0, Delivery::Delivered) == 2);
    assert_eq!(outcomes(&receiver.received()), ["machine.joined", "token.revoked"]);
}

/// A clock that is behind, here or at another bridge, hides nothing.
#[test]
fn an_event_of_a_clock_that_is_behind_is_not_missed() {
    let receiver = well();
    let bridge = Bridge::with(&[("chat", receiver.url())]);
    for at_ms in [2_000_000_000_000, 1_000, 1_500_000_000_000] {
        let event = Event {
            id: coord_bridge::provisioning::id::new(at_ms),
            at_ms,
            kind: "machine".to_owned(),
            outcome: format!("at-{at_ms}"),
            ..Event::default()
        };
        bridge.store.write_now(move |session| events::insert(session, &event)).unwrap();
        until("it", || outcomes(&receiver.received()).contains(&format!("machine.at-{at_ms}")));
    }
    // Counted when the answer is there, which is after the receiver has it.
    until("all are counted", || bridge.count(0, Delivery::Delivered) == 3);
}

/// Told at the start, without the secret.
#[test]
fn a_secret_that_is_none_is_told_without_it() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "hunter2").unwrap();
    let webhook = |name: &str, path: &Path| WebhookConfig {
        name: name.to_owned(),
        url: "http://127.0.0.1:1/SECRET-IN-URL".parse().unwrap(),
        secret_file: path.to_str().unwrap().parse().unwrap(),
        events: Vec::new(),
    };
    let start = |webhook: WebhookConfig| {
        let config = EventsConfig {
            webhooks: vec![webhook],
            state_dir: folder.path().to_owned(),
            ..EventsConfig::default()
        };
        Outlets::start(&config, &store(folder.path()), &Leadership::all(), PACE).unwrap_err()
    };
    let error = start(webhook("chat", &path));
    assert!(matches!(error, SetupError::Secret { .. }));
    let text = format!("{error} {error:?}");
    assert!(text.contains("whsec_") && text.contains("chat"), "{text}");
    assert!(!text.contains("hunter2") && !text.contains("SECRET-IN-URL"), "{text}");
    let error = start(webhook("chat", &folder.path().join("none")));
    assert!(matches!(error, SetupError::File { .. }));
}
