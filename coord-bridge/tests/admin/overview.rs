//! What the first page says of the outlets of events.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coord_bridge::events::webhook::{Pace, WebhookConfig};
use coord_bridge::events::{EventsConfig, Leadership, Outlets};

use crate::bench::Bench;
use crate::page::is_page;
use crate::receiver::{Receiver, status};
use crate::running::{Running, until};
use crate::sessions::Session;
use crate::webhooks::{PACE, SECRET};

/// A receiver that takes nothing is on the first page, and its URL is not.
#[test]
fn the_overview_has_a_line_for_each_outlet() {
    let bench = Bench::new();
    let answers = Arc::new(AtomicBool::new(false));
    let well = Arc::clone(&answers);
    let receiver = Receiver::start(move |_| {
        let line = if well.load(Ordering::SeqCst) { "200 OK" } else { "500 Internal Server Error" };
        Some(status(line, ""))
    });
    let secret = bench.folder.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let webhook = WebhookConfig {
        name: "chat".to_owned(),
        url: receiver.url().parse().unwrap(),
        secret_file: secret.to_str().unwrap().parse().unwrap(),
        events: vec!["token".to_owned()],
    };
    let config = EventsConfig {
        file: Some(bench.folder.path().join("events.jsonl")),
        webhooks: vec![webhook],
        state_dir: bench.folder.path().to_owned(),
    };
    let pace = Pace { attempts: 100_000, ..PACE };
    let outlets = Outlets::start(&config, &bench.store, &Leadership::all(), pace);
    let outlets = Arc::new(outlets.unwrap().unwrap());
    until("positions", || outlets.channels().iter().all(|it| it.position().is_some()));
    let running = Running::of(bench, Some(Arc::clone(&outlets)));
    let session = Session::open(&running);
    let overview = || {
        let page = session.get("/");
        is_page(&page, 200);
        assert!(!page.text().contains("SECRET-IN-URL") && !page.text().contains("whsec_"));
        page.text().to_owned()
    };
    until("both are through", || {
        let page = overview();
        page.contains("file: none waits.") && page.contains("chat: none waits.")
    });

    assert_eq!(running.post("/api/v1/tokens", r#"{"name": "one"}"#).status, 201);
    let failed = "The last attempt failed: answered 500 Internal Server Error;";
    until("the fault", || overview().contains(failed));
    let page = overview();
    assert!(page.contains("chat: ") && page.contains("file: "), "{page}");
    assert!(page.contains("needs a look") || page.contains("need a look"), "{page}");

    answers.store(true, Ordering::SeqCst);
    until("it is taken", || overview().contains("chat: none waits.</p>"));
}
