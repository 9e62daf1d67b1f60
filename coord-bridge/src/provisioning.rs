//! Registration of machines: whoever shows an enrollment token gets a pre-auth key.
//!
//! ```text
//! http::provisioning -> register -> tokens -> limits -> request
//!                                     -> write ahead -> Headscale -> record -> answer
//! every 30 s: reconcile <- nodes, keys of Headscale
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`settings`] | what provisioning is to do |
//! | [`request`] | what a machine says of itself |
//! | [`refusal`] | why a request is refused |
//! | [`registration`] | one registration, from token to key |
//! | `ahead` | what is written before Headscale is asked |
//! | [`reconcile`] | what became of machines and keys, every now and then |
//! | `nodes`, `lost_keys` | where machines stand, and keys that nobody has |
//! | `installation`, `stale` | what was installed from them, and which go |
//! | [`administration`] | what administrators do to machines and keys |
//! | [`admin`] | administrators who come over the network |
//! | [`tokens`], [`token_file`] | who may register |
//! | [`limits`], [`network`] | how often, and from where |
//! | [`audit`], [`counters`] | one line and one row for each request, and numbers of them |
//! | [`legacy`] | the files of the provisioner before this one |
//! | [`clock`], [`timestamp`], [`id`] | dates and ids |
//!
//! Does: holds that a machine has one live record and one valid key at most, and that no key of
//! Headscale's is unknown here, whatever ends the bridge and when.
//! Does not: speak HTTP, to anybody.

pub mod admin;
pub mod administration;
mod ahead;
pub mod audit;
pub mod clock;
pub mod counters;
pub mod id;
mod installation;
pub mod legacy;
pub mod limits;
mod lost_keys;
pub mod network;
mod nodes;
pub mod reconcile;
pub mod refusal;
pub mod registration;
pub mod request;
pub mod settings;
pub mod stale;
pub mod timestamp;
pub mod token_file;
pub mod tokens;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use derp::key::NodePublic;

use crate::headscale::{Call, Failure, FailureKind, Headscale, Secret, UserId};
use crate::lease::Leadership;
use crate::relays::Journal;
use crate::store::events::Event;
use crate::store::machines::Machine;
use crate::store::{Store, StoreError, machines};

use audit::Audit;
use clock::{Clock, SystemClock};
use limits::{Buckets, Limits};
use nodes::Attendance;
use refusal::Refusal;
use token_file::TokenFileError;

pub use settings::Settings;

/// Time for one call of Headscale. A client waits 15 s for everything.
const CALL_TIME: Duration = Duration::from_secs(5);

/// Time for a registration, the arrival of its body not counted.
const REPLY_TIME: Duration = Duration::from_secs(9);

/// Time between rounds of reconciliation.
pub const RECONCILE_TIME: Duration = Duration::from_secs(30);

/// Time between looks whether this bridge has come to lead.
const LEAD_POLL_TIME: Duration = Duration::from_millis(250);

/// Keys that are in memory, for clients that have missed their answer.
const MAX_FRESH_KEYS: usize = 4_096;

/// Time that a key may be told again. Longer than a client's schedule, 160 s at worst, less than
/// anybody needs to install a machine anew.
const FRESH_TIME: Duration = Duration::from_secs(300);

/// Whoever asks.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Address, behind proxies that are trusted.
    pub address: IpAddr,
    /// What it showed.
    pub token: Option<Secret>,
    /// Id of its request.
    pub request_id: String,
}

/// Why provisioning does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Machines would be sent nowhere.
    #[error(
        "login_server: missing; write the URL that machines log in at, such as https://hs.example.org"
    )]
    LoginServer,
    /// A token file.
    #[error(transparent)]
    Token(#[from] TokenFileError),
}

/// Registration of machines.
pub struct Provisioning {
    settings: Settings,
    store: Store,
    headscale: Arc<dyn Headscale>,
    clock: Arc<dyn Clock>,
    audit: Audit,
    limits: Mutex<Limits>,
    failures: Mutex<Buckets<IpAddr>>,
    /// By the id of their row: the key, and when it is not told any more.
    fresh_keys: Mutex<BTreeMap<String, (Secret, Duration)>>,
    /// Number of the owner of the keys, once it is known.
    user: Mutex<Option<UserId>>,
    /// The users that there have to be were made.
    has_users: AtomicBool,
    /// The nodes that there were in the last round.
    attendance: Mutex<Attendance>,
    /// Row of the last key that was ended, or written off, because its answer was lost.
    last_lost: Mutex<String>,
    /// What keeps it from being ready, as of the last round.
    findings: Mutex<Vec<String>>,
    /// What relays of this bridge are told by; none in a command, whose events others read.
    journal: OnceLock<Arc<Journal>>,
    /// Whether this bridge is the one that reconciles; none where there is no other.
    leadership: OnceLock<Leadership>,
    /// When the last round that did all of its work ended.
    reconciled: Mutex<Option<Duration>>,
}

impl Provisioning {
    /// Registration with `settings`; nothing is done yet but what is in the token files.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn new(
        settings: Settings,
        store: Store,
        headscale: Arc<dyn Headscale>,
    ) -> Result<Arc<Self>, StartError> {
        Self::with_clock(settings, store, headscale, Arc::new(SystemClock::default()))
    }

    /// As [`Provisioning::new`], with a clock of the caller's.
    ///
    /// # Errors
    ///
    /// As [`Provisioning::new`].
    pub fn with_clock(
        settings: Settings,
        store: Store,
        headscale: Arc<dyn Headscale>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, StartError> {
        if settings.login_server.trim().is_empty() {
            return Err(StartError::LoginServer);
        }
        for path in [&settings.token_file, &settings.admin_token_file] {
            if token_file::ensure(path)? {
                tracing::info!(file = %path.display(), "made a token");
            } else if token_file::is_open_to_others(path) {
                tracing::warn!(file = %path.display(), "others may read the token; chmod 600");
            }
        }
        Ok(Arc::new(Self {
            audit: Audit::new(store.clone(), Arc::clone(&clock)),
            limits: Mutex::new(Limits::new(settings.rate)),
            failures: Mutex::new(Buckets::new(settings.rate)),
            fresh_keys: Mutex::default(),
            user: Mutex::default(),
            has_users: AtomicBool::new(false),
            attendance: Mutex::new(Attendance::new()),
            last_lost: Mutex::default(),
            findings: Mutex::new(vec!["Headscale has not been asked yet".to_owned()]),
            journal: OnceLock::new(),
            leadership: OnceLock::new(),
            reconciled: Mutex::default(),
            settings,
            store,
            headscale,
            clock,
        }))
    }

    /// Has relays told by `journal` of nodes that are gone, at once; the first call counts. They
    /// hear of them anyway, as soon as somebody reads the store.
    pub fn tell_relays_by(&self, journal: Arc<Journal>) {
        // A second one has no other store.
        drop(self.journal.set(journal));
    }

    /// Has this bridge reconcile only while it leads; the first call counts.
    pub fn lead_by(&self, leadership: Leadership) {
        // A second one has no other store.
        drop(self.leadership.set(leadership));
    }

    /// Whether this bridge is the one that reconciles.
    #[must_use]
    pub fn may_lead(&self) -> bool {
        self.leadership.get().is_none_or(Leadership::may_lead)
    }

    /// Imports, then reconciles for ever. Whatever fails is tried again in the next round.
    pub async fn run(self: Arc<Self>) {
        let mut imported = false;
        loop {
            if !imported {
                imported = self.import().await;
            }
            let led = self.may_lead();
            self.reconcile().await;
            // Whoever has come to lead does not wait for its turn.
            let comes_to_lead = async {
                while led || !self.may_lead() {
                    tokio::time::sleep(LEAD_POLL_TIME).await;
                }
            };
            drop(tokio::time::timeout(RECONCILE_TIME, comes_to_lead).await);
        }
    }

    /// All registrations, the oldest first, for whoever may see them.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub async fn machines(&self, caller: &Caller) -> Result<Vec<Machine>, Refusal> {
        let mut entry = self.audit.entry("machines", caller);
        let listed = async {
            self.authenticate_admin(caller, &mut entry).await?;
            self.store.read(machines::all).await.map_err(|error| self.store_fails(&error))
        };
        let listed = listed.await;
        self.audit.close(entry, &listed.as_ref().map(|_| ())).await;
        listed
    }

    /// What keeps machines from being registered; empty if nothing does. Strangers may read it.
    pub async fn findings(&self) -> Vec<String> {
        let mut findings = self.held(&self.findings).clone();
        if let Err(error) = self.store.read(|session| session.query("SELECT 1", &[])).await {
            tracing::debug!(%error, "not ready");
            findings.push("the store is not available".to_owned());
        }
        let path = self.settings.token_file.clone();
        match tokio::task::spawn_blocking(move || token_file::read(&path)).await {
            Ok(Ok(Some(_))) => {}
            Ok(Ok(None)) => findings.push("there is no enrollment token".to_owned()),
            Ok(Err(_)) | Err(_) => {
                findings.push("the enrollment token cannot be read".to_owned());
            }
        }
        findings
    }

    /// What has become of requests so far.
    #[must_use]
    pub const fn counters(&self) -> &counters::Counters {
        &self.audit.counters
    }

    /// Time since machines and keys were last compared with Headscale; `None` before the first,
    /// and where another bridge does so.
    #[must_use]
    pub fn reconcile_age(&self) -> Option<Duration> {
        let last = self.held(&self.reconciled).filter(|_| self.may_lead());
        last.map(|last| self.clock.elapsed().saturating_sub(last))
    }

    /// What the bridge remembers.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The Headscale that machines register with.
    #[must_use]
    pub fn headscale(&self) -> &dyn Headscale {
        self.headscale.as_ref()
    }

    /// An id for a request, which its answer, the log and the audit have.
    #[must_use]
    pub fn request_id(&self) -> String {
        id::new(self.now_ms())
    }

    /// What it was set to do.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Now, as the store has it.
    pub(crate) fn now_ms(&self) -> i64 {
        clock::millis(self.clock.now())
    }

    /// Time that never goes back.
    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// What happened just now, for the store.
    fn event(&self, kind: &str, outcome: &str, machine: Option<String>) -> Event {
        let at_ms = self.now_ms();
        Event {
            id: id::new(at_ms),
            at_ms,
            kind: kind.to_owned(),
            outcome: outcome.to_owned(),
            machine,
            ..Event::default()
        }
    }

    /// The same, with what is known of a machine.
    fn event_of(&self, kind: &str, outcome: &str, machine: &Machine) -> Event {
        let hostname = Some(machine.hostname.clone());
        Event { hostname, ..self.event(kind, outcome, Some(machine.id.clone())) }
    }

    /// Gets it to relays of this bridge that a node is gone, before the store has it.
    fn tell_relays_at_once(&self, node: Option<NodePublic>) {
        if let (Some(node), Some(journal)) = (node, self.journal.get()) {
            journal.tell_at_once(node);
        }
    }

    /// Gets it to relays that a node is gone; `stored` is what came of writing that down.
    async fn tell_relays<T>(&self, node: Option<NodePublic>, stored: &Result<T, StoreError>) {
        let (Some(node), Some(journal)) = (node, self.journal.get()) else { return };
        match stored {
            Ok(_) => journal.has_news(),
            Err(_) => journal.close(&[node]).await,
        }
    }

    /// Waits for a call of Headscale, for a bounded time.
    async fn call<T>(&self, call: Call<'_, T>) -> Result<T, Failure> {
        in_time(call).await
    }

    /// The number of the owner of the keys, who is made if need be.
    async fn user(&self) -> Result<UserId, Refusal> {
        if let Some(user) = self.held(&self.user).clone() {
            return Ok(user);
        }
        match self.call(self.headscale.ensure_user(&self.settings.user)).await {
            Ok(user) => {
                *self.held(&self.user) = Some(user.id.clone());
                Ok(user.id)
            }
            Err(failure) => {
                tracing::warn!(user = self.settings.user, %failure, "no owner for keys");
                Err(Refusal::of_headscale(failure.kind, Refusal::UserMissing))
            }
        }
    }

    /// Keeps a key for a client that may miss its answer.
    fn keep_fresh(&self, row: String, key: Secret) {
        let now = self.clock.elapsed();
        let mut fresh = self.held(&self.fresh_keys);
        fresh.retain(|_, (_, until)| *until > now);
        // Ids sort by age.
        while fresh.len() >= MAX_FRESH_KEYS {
            fresh.pop_first();
        }
        fresh.insert(row, (key, now + FRESH_TIME));
    }

    /// A key that may be told again.
    fn fresh(&self, row: &str) -> Option<Secret> {
        let now = self.clock.elapsed();
        let fresh = self.held(&self.fresh_keys);
        fresh.get(row).filter(|(_, until)| *until > now).map(|(key, _)| key.clone())
    }

    fn store_fails(&self, error: &StoreError) -> Refusal {
        if self.audit.may_complain() {
            tracing::error!(%error, "the store does not work");
        }
        Refusal::Store
    }

    /// What is in a mutex. Nothing here is left half changed by a panic.
    #[expect(clippy::unused_self, reason = "reads as what it is")]
    fn held<'a, T>(&self, mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Provisioning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provisioning").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// `call`, or that Headscale cannot be reached.
async fn in_time<T>(call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match tokio::time::timeout(CALL_TIME, call).await {
        Ok(done) => done,
        Err(_) => Err(Failure {
            kind: FailureKind::Unreachable,
            detail: format!("no answer within {} s", CALL_TIME.as_secs()),
        }),
    }
}
