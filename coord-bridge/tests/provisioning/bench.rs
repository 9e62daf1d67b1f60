//! A bridge's provisioning on a bench: a Headscale, a store and a clock of the test's.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use coord_bridge::headscale::Secret;
use coord_bridge::provisioning::clock::Clock;
use coord_bridge::provisioning::refusal::Refusal;
use coord_bridge::provisioning::registration::Registered;
use coord_bridge::provisioning::{Caller, Provisioning, Settings};
use coord_bridge::store::keys::{self, Key, KeyState};
use coord_bridge::store::machines::{self, Machine};
use coord_bridge::store::{Location, Store};
use tempfile::TempDir;

use crate::headscale::FakeHeadscale;

/// A clock that goes when it is told to.
#[derive(Debug, Default)]
pub(crate) struct ManualClock {
    elapsed: AtomicU64,
    /// How far the date was set back.
    behind: AtomicU64,
}

impl ManualClock {
    pub(crate) fn advance(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        self.elapsed.fetch_add(millis, Ordering::SeqCst);
    }

    pub(crate) fn set_back(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap();
        self.behind.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        let behind = Duration::from_millis(self.behind.load(Ordering::SeqCst));
        UNIX_EPOCH + Duration::from_secs(1_767_225_600) + self.elapsed() - behind
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(self.elapsed.load(Ordering::SeqCst))
    }
}

pub(crate) struct Bench {
    pub(crate) folder: TempDir,
    pub(crate) location: Location,
    pub(crate) store: Store,
    pub(crate) headscale: Arc<FakeHeadscale>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) settings: Settings,
    pub(crate) provisioning: Arc<Provisioning>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// With other settings than the usual.
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::at(None, change)
    }

    /// With the store at `location`, or in a file.
    pub(crate) fn at(location: Option<Location>, change: impl FnOnce(&mut Settings)) -> Self {
        let folder = TempDir::new().unwrap();
        let location =
            location.unwrap_or_else(|| Location::File(folder.path().join("bridge.sqlite")));
        let mut settings = Settings::new("https://hs.example.org", folder.path());
        change(&mut settings);
        let (headscale, clock) = (Arc::default(), Arc::default());
        let store = Store::new(location.clone()).unwrap();
        let provisioning = start(&settings, &store, &headscale, &clock);
        Self { folder, location, store, headscale, clock, settings, provisioning }
    }

    /// As after the end of the process: nothing stays but the disk, Headscale and the time.
    pub(crate) fn restart(&mut self) {
        self.store = Store::new(self.location.clone()).unwrap();
        self.provisioning = start(&self.settings, &self.store, &self.headscale, &self.clock);
    }

    pub(crate) fn token(&self) -> String {
        read_token(&self.settings.token_file)
    }

    pub(crate) fn admin_token(&self) -> String {
        read_token(&self.settings.admin_token_file)
    }

    pub(crate) fn caller(&self, token: &str, address: &str) -> Caller {
        Caller {
            address: address.parse().unwrap(),
            token: Some(Secret::new(token.to_owned())),
            request_id: self.provisioning.request_id(),
        }
    }

    /// As the installer does it.
    pub(crate) async fn register(&self, hostname: &str) -> Result<Registered, Refusal> {
        self.register_as(&self.token(), "192.0.2.1", hostname).await
    }

    pub(crate) async fn register_as(
        &self,
        token: &str,
        address: &str,
        hostname: &str,
    ) -> Result<Registered, Refusal> {
        let body = format!(r#"{{"hostname": "{hostname}", "mac": "unknown"}}"#);
        self.send(token, address, &body).await
    }

    pub(crate) async fn send(
        &self,
        token: &str,
        address: &str,
        body: &str,
    ) -> Result<Registered, Refusal> {
        let caller = self.caller(token, address);
        self.provisioning.register(caller, body.as_bytes().to_vec()).await
    }

    /// Registers machines of these names, has them come in, and has a round see it. Gives the id of
    /// each, and the number of its node.
    pub(crate) async fn join(&self, hostnames: &[&str]) -> Vec<(String, String)> {
        let mut joined = Vec::new();
        for hostname in hostnames {
            let machine = self.register(hostname).await.unwrap();
            let node = self.headscale.join(machine.key.reveal(), hostname);
            joined.push((machine.machine_id, node));
        }
        self.provisioning.reconcile().await;
        joined
    }

    pub(crate) async fn machines(&self) -> Vec<Machine> {
        self.store.read(machines::all).await.unwrap()
    }

    pub(crate) async fn machine(&self, id: &str) -> Machine {
        self.machines().await.into_iter().find(|machine| machine.id == id).unwrap()
    }

    pub(crate) async fn keys(&self) -> Vec<Key> {
        let all = [
            KeyState::Asked,
            KeyState::Lost,
            KeyState::Issued,
            KeyState::Used,
            KeyState::Expired,
            KeyState::Void,
        ];
        self.store.read(move |session| keys::in_states(session, &all)).await.unwrap()
    }

    /// The promise: no key of Headscale's is valid that the store does not know.
    pub(crate) async fn assert_no_unknown_key(&self, when: &str) {
        let keys = self.keys().await;
        for valid in self.headscale.valid_keys() {
            let is_known = keys
                .iter()
                .any(|key| key.key_id.as_ref() == Some(&valid.id) && key.state == KeyState::Issued);
            assert!(is_known, "{when}: {valid:?} is valid and unknown; known are {keys:?}");
        }
    }

    pub(crate) async fn advance_and_reconcile(&self, time: Duration) {
        self.clock.advance(time);
        self.provisioning.reconcile().await;
    }
}

fn start(
    settings: &Settings,
    store: &Store,
    headscale: &Arc<FakeHeadscale>,
    clock: &Arc<ManualClock>,
) -> Arc<Provisioning> {
    let (headscale, clock) = (Arc::clone(headscale), Arc::clone(clock));
    Provisioning::with_clock(settings.clone(), store.clone(), headscale, clock).unwrap()
}

fn read_token(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}
