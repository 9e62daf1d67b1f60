//! Which release answers: found out, and found out again.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use coord_bridge::headscale::{Adapter, Client, FailureKind, Headscale, KeyId, Limits, UserId};

use crate::fake::{Fake, Reply, Request};
use crate::recorded::{Exchange, Step, releases};
use crate::{key_file, url};

/// Everything that one release has answered while it was recorded, by what was asked.
struct Memory {
    answers: HashMap<(String, String, String), Exchange>,
    /// How it refuses what it does not understand.
    refusal: Exchange,
}

impl Memory {
    fn of(release: &Path) -> Self {
        let mut answers = HashMap::new();
        let mut refusal = None;
        for entry in std::fs::read_dir(release).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("openapi.json") {
                continue;
            }
            let step: Step = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
            for exchange in step.exchanges {
                if step.call == "create_key with a tag that is none" {
                    refusal = Some(exchange.clone());
                }
                let Exchange { method, path, body, .. } = exchange.clone();
                // The last word of each: keys that are made are in the lists.
                answers.insert((method, path, body), exchange);
            }
        }
        Self { answers, refusal: refusal.unwrap() }
    }

    fn reply(&self, request: &Request) -> Reply {
        let Request { method, path, body, .. } = request.clone();
        let said = self.answers.get(&(method, path, body)).unwrap_or(&self.refusal);
        Reply::answer(said.status, &said.content_type, &said.answer)
    }

    fn is_http(&self) -> bool {
        self.refusal.content_type == "application/problem+json"
    }
}

/// Must hold: upgraded from any release to any later one while the bridge runs.
#[tokio::test]
async fn an_upgrade_is_noticed_and_the_call_still_succeeds() {
    let releases = releases();
    let newest = releases.last().unwrap();
    let older = releases.iter().filter(|release| !Memory::of(release).is_http());
    let mut upgrades = 0;
    for older in older {
        let memories = [Memory::of(older), Memory::of(newest)];
        let current = Arc::new(AtomicUsize::new(0));
        let fake = Fake::start({
            let current = Arc::clone(&current);
            move |request| memories[current.load(Ordering::Relaxed)].reply(request)
        });
        let key_file = key_file("any-key");
        let client = Client::new(&url(&fake.url(), key_file.path()), Limits::default()).unwrap();
        let (user, key) = (UserId("1".to_owned()), KeyId("1".to_owned()));
        client.expire_key(&user, &key).await.unwrap();
        assert!(matches!(client.adapter(), Some(Adapter::Gateway(_))), "{client:?}");

        current.store(1, Ordering::Relaxed);
        client.expire_key(&user, &key).await.unwrap();

        assert_eq!(client.adapter(), Some(Adapter::Http), "{}", older.display());
        assert_eq!(client.counters().detections.get(), 2);
        upgrades += 1;
    }
    assert!(upgrades > 0);
}

/// Whatever is in the way of the first question is told, and the next call asks it again.
#[tokio::test]
async fn what_is_no_headscale_is_told_and_asked_again() {
    let newest = Memory::of(releases().last().unwrap());
    let reply = Arc::new(Mutex::new(None));
    let fake = Fake::start({
        let reply = Arc::clone(&reply);
        move |request| {
            let other: Option<Reply> = reply.lock().unwrap().clone();
            other.unwrap_or_else(|| newest.reply(request))
        }
    });
    let key_file = key_file("any-key");
    let client = Client::new(&url(&fake.url(), key_file.path()), Limits::default()).unwrap();
    for (other, kind) in [
        (Reply::answer(401, "text/html", "<h1>Log in</h1>"), FailureKind::Unintelligible),
        (Reply::answer(404, "text/plain", "404 page not found"), FailureKind::Unintelligible),
        (Reply::answer(200, "text/html", "<h1>Welcome</h1>"), FailureKind::Unintelligible),
        (Reply::answer(503, "text/plain", ""), FailureKind::Unreachable),
    ] {
        *reply.lock().unwrap() = Some(other);
        let failure = client.check().await.unwrap_err();
        assert_eq!(failure.kind, kind, "{failure}");
        assert_eq!(client.adapter(), None);
    }

    *reply.lock().unwrap() = None;
    client.check().await.unwrap();

    assert_eq!(client.adapter(), Some(Adapter::Http));
    let asked = fake.asked();
    assert!(asked.iter().filter(|it| it.path == "/api/v1/user").all(|it| it.key.is_none()));
}
