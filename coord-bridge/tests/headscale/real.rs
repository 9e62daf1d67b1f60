//! The same against real programs, and their answers recorded.
//!
//! `HEADSCALE_BIN=PATH[:PATH…] cargo test -p coord-bridge --test headscale real` runs all of this
//! against each program; with `BLESS=1` beside it, their answers are written anew.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, Once};

use coord_bridge::config::{HeadscaleConfig, Reach};
use coord_bridge::headscale::{
    Adapter, Client, FailureKind, Headscale, IssuedKey, Limits, NewKey, UserId,
};

use crate::fake::Fake;
use crate::program::Real;
use crate::recorded::{Exchange, Step, file_name, folder};
use crate::scenario::{self, World};
use crate::{key_file, url};

/// The programs of `HEADSCALE_BIN`; none, and a line that says so, if it is not set.
pub(crate) fn programs() -> Vec<PathBuf> {
    let Some(paths) = std::env::var_os("HEADSCALE_BIN").filter(|paths| !paths.is_empty()) else {
        // Past the capture of the test harness: a suite that did not run has to be seen.
        static SAID: Once = Once::new();
        SAID.call_once(|| {
            crate::say("headscale: not run against a real program: HEADSCALE_BIN is not set");
        });
        return Vec::new();
    };
    std::env::split_paths(&paths).collect()
}

/// A real Headscale, and what is heard between it and the bridge.
struct Stage {
    real: Real,
    /// Stands between; what passes it is kept.
    between: Fake,
    heard: Arc<Mutex<Vec<Exchange>>>,
    key: String,
    key_file: tempfile::NamedTempFile,
    steps: Vec<Step>,
}

impl Stage {
    fn new(program: &std::path::Path) -> Self {
        let real = Real::start(program);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let between = Fake::start({
            let (heard, address) = (Arc::clone(&heard), real.address);
            move |request| crate::program::pass_on(address, request, &heard)
        });
        let key = real.new_api_key();
        Self { between, heard, key_file: key_file(&key), key, real, steps: Vec::new() }
    }

    fn client(&self) -> Client {
        Client::new(&url(&self.between.url(), self.key_file.path()), Limits::default()).unwrap()
    }

    /// Gives what was heard since the last step to that one.
    fn settle(&mut self) {
        let exchanges = std::mem::take(&mut *self.heard.lock().unwrap());
        match self.steps.last_mut() {
            Some(step) => step.exchanges = exchanges,
            None => assert!(exchanges.is_empty()),
        }
    }

    fn write(&self) {
        let folder = folder().join(&self.real.version);
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        for (step, number) in self.steps.iter().zip(1..) {
            let text = serde_json::to_string_pretty(step).unwrap();
            std::fs::write(folder.join(file_name(number, &step.call)), text + "\n").unwrap();
        }
        if let Some(document) = self.real.openapi() {
            std::fs::write(folder.join("openapi.json"), document).unwrap();
        }
    }
}

impl World for Stage {
    fn step(&mut self, call: &str) {
        self.settle();
        let (headscale, call) = (self.real.version.clone(), call.to_owned());
        self.steps.push(Step { headscale, call, exchanges: Vec::new() });
    }

    fn join(&mut self, user: &str, name: &str) {
        self.real.join(user, name);
    }

    fn enroll(&mut self, name: &str, key: &IssuedKey) -> bool {
        self.real.enroll(name, key.secret.reveal())
    }

    fn spoil_key(&mut self, is_spoiled: bool) -> bool {
        let key = if is_spoiled { self.key.replace(|_: char| true, "0") } else { self.key.clone() };
        std::fs::write(self.key_file.path(), key).unwrap();
        true
    }
}

/// The socket of 0.30 needs no key, so nothing of keys happens there.
struct Socket(Real);

impl World for Socket {
    fn step(&mut self, _: &str) {}

    fn join(&mut self, user: &str, name: &str) {
        self.0.join(user, name);
    }

    fn enroll(&mut self, name: &str, key: &IssuedKey) -> bool {
        self.0.enroll(name, key.secret.reveal())
    }

    fn spoil_key(&mut self, _: bool) -> bool {
        false
    }
}

/// Issue 5: every call, against every program.
#[tokio::test(flavor = "multi_thread")]
async fn real_every_call_over_tcp() {
    for program in programs() {
        let mut stage = Stage::new(&program);
        crate::say(&format!("headscale: {} over TCP", stage.real.version));
        let client = stage.client();

        scenario::run(&client, &mut stage).await;

        stage.settle();
        if std::env::var_os("BLESS").is_some() {
            stage.write();
        }
    }
}

/// The socket serves every call from 0.30 on, and is told of before.
#[tokio::test(flavor = "multi_thread")]
async fn real_every_call_over_the_socket() {
    for program in programs() {
        let real = Real::start(&program);
        let config = HeadscaleConfig { reach: Reach::Socket(real.socket()) };
        let client = Client::new(&config, Limits::default()).unwrap();
        if real.openapi().is_some() {
            crate::say(&format!("headscale: {} over its socket", real.version));
            scenario::run(&client, &mut Socket(real)).await;
        } else {
            let failure = client.check().await.unwrap_err();
            assert!(failure.detail.contains("gRPC"), "{failure}");
        }
    }
}

/// Forty machines at once, with the bounds that the bridge has: each gets a key, and no key is
/// one that nobody knows of.
#[tokio::test(flavor = "multi_thread")]
async fn real_forty_keys_at_once() {
    for program in programs() {
        let real = Real::start(&program);
        let key_file = key_file(&real.new_api_key());
        let config = url(&real.url(), key_file.path());
        let client = Arc::new(Client::new(&config, Limits::default()).unwrap());
        let user = client.ensure_user("deploy").await.unwrap().id;

        let began = std::time::Instant::now();
        let calls: Vec<_> = (0..40)
            .map(|_| {
                let (client, wanted) = (Arc::clone(&client), wanted(&user));
                tokio::spawn(async move { client.create_key(&wanted).await })
            })
            .collect();
        let mut made = Vec::new();
        for call in calls {
            made.push(call.await.unwrap().unwrap().id.0);
        }

        crate::say(&format!("headscale: {}: 40 keys in {:?}", real.version, began.elapsed()));

        let listed = client.keys(&user).await.unwrap();
        let mut listed: Vec<_> = listed.into_iter().map(|key| key.id.0).collect();
        made.sort();
        listed.sort();
        assert_eq!(made, listed, "{}", real.version);
    }
}

/// Must hold: revoked key, clear message, recovery without restart; and a Headscale that is
/// restarted under the bridge.
#[tokio::test(flavor = "multi_thread")]
async fn real_revoked_key_and_restart() {
    for program in programs() {
        let mut real = Real::start(&program);
        let key_file = key_file(&real.new_api_key());
        let limits = Limits { pause_time: std::time::Duration::ZERO, ..Limits::default() };
        let client = Client::new(&url(&real.url(), key_file.path()), limits).unwrap();
        client.check().await.unwrap();

        real.expire_api_keys();
        let failure = client.check().await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Unauthorized, "{}: {failure}", real.version);
        assert!(failure.detail.contains(key_file.path().to_str().unwrap()), "{failure}");

        std::fs::write(key_file.path(), real.new_api_key()).unwrap();
        client.check().await.unwrap();

        real.stop();
        assert_eq!(client.check().await.unwrap_err().kind, FailureKind::Unreachable);
        real.go_on_as(&program);
        client.check().await.unwrap();
    }
}

/// Must hold: upgraded under the bridge, on the same port and with the same database, from each
/// program to the next one of the list.
#[tokio::test(flavor = "multi_thread")]
async fn real_upgrades_are_noticed() {
    let programs = programs();
    let Some((first, rest)) = programs.split_first() else { return };
    let mut real = Real::start(first);
    let key_file = key_file(&real.new_api_key());
    let limits = Limits { pause_time: std::time::Duration::ZERO, ..Limits::default() };
    let client = Client::new(&url(&real.url(), key_file.path()), limits).unwrap();
    let user = client.ensure_user("deploy").await.unwrap().id;

    for program in rest {
        let key = client.create_key(&wanted(&user)).await.unwrap();
        let before = real.version.clone();
        real.stop();
        if !real.go_on_as(program) {
            crate::say(&format!("headscale: {before} cannot be upgraded to the next given"));
            return;
        }
        crate::say(&format!("headscale: {before} upgraded to {}", real.version));

        client.expire_key(&user, &key.id).await.unwrap();

        let keys = client.keys(&user).await.unwrap();
        let ended = keys.iter().find(|listed| listed.id == key.id).unwrap();
        assert!(ended.expiration.unwrap() < scenario::far_off(), "{ended:?}");
        let is_http = real.openapi().is_some();
        assert_eq!(client.adapter() == Some(Adapter::Http), is_http, "{:?}", client.adapter());
    }
}

fn wanted(user: &UserId) -> NewKey {
    NewKey {
        user: user.clone(),
        ephemeral: false,
        expiration: scenario::far_off(),
        tags: Vec::new(),
    }
}
