//! Access by the word of verifiers: what is asked, what is remembered, what is written down.
//!
//! Does: answers a login from the allow-list, the ledger, a question under way or a new one, in
//! this order; asks anew for a re-check; keeps the ledger's file.
//! Does not: count decisions, cut off, or log refusals; that is `access`.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use derp::key::NodePublic;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::allow_list::AllowList;
use super::counters::{Counters, Outcome, Saved};
use super::flights::Flights;
use super::known_file::KnownFile;
use super::ledger::{Ledger, Recalled};
use super::moment::Clock;
use super::revocations::Revocations;
use super::verifiers::{InVain, Verdict, Verifiers};
use super::{AccessError, lock};
use crate::config::VerifyConfig;
use crate::rare_log::RareLog;

/// Time between two writes of the known nodes: a storm of logins is not one of writes. What came
/// later than that before a crash is asked about again.
const WRITE_GAP: Duration = Duration::from_secs(1);

/// When the known nodes are written although none came or went: their times have moved on.
const REWRITE_TIME: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(super) struct Verification {
    list: Option<AllowList>,
    verifiers: Verifiers,
    fail_open: bool,
    interval: Option<Duration>,
    ledger: Mutex<Ledger>,
    revocations: Arc<Mutex<Revocations>>,
    flights: Flights,
    clock: Clock,
    counters: Arc<Counters>,
    file: Option<KnownFile>,
    changed: Notify,
    /// Held while the file is written: the latest state is the last one written.
    writing: Mutex<()>,
    write_log: RareLog,
}

impl Verification {
    pub(super) fn new(
        config: VerifyConfig,
        clock: Clock,
        revocations: Arc<Mutex<Revocations>>,
    ) -> Result<Self, AccessError> {
        let VerifyConfig { urls, fail_open, ca_file, allow_list, interval, grace, known_file } =
            config;
        let list = allow_list.map(AllowList::load).transpose()?;
        let (verifiers, counters) = Verifiers::new(&urls, ca_file.as_deref())?;
        let file = known_file.map(KnownFile::new);
        let mut ledger = Ledger::new(grace);
        if let Some(file) = &file {
            restore(&mut ledger, file, &clock);
        }
        counters.set_known(ledger.len());
        Ok(Self {
            list,
            verifiers,
            fail_open,
            interval: (!interval.is_zero()).then_some(interval),
            ledger: Mutex::new(ledger),
            revocations,
            flights: Flights::default(),
            clock,
            counters,
            file,
            changed: Notify::new(),
            writing: Mutex::new(()),
            write_log: RareLog::default(),
        })
    }

    pub(super) const fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    pub(super) const fn fails_open(&self) -> bool {
        self.fail_open
    }

    pub(super) const fn list(&self) -> Option<&AllowList> {
        self.list.as_ref()
    }

    /// Time within which each connected node is asked about again; none for never.
    pub(super) const fn interval(&self) -> Option<Duration> {
        self.interval
    }

    pub(super) fn in_vain(&self) -> Arc<InVain> {
        self.verifiers.in_vain()
    }

    /// Says whether a node may enter, and whose word that is.
    pub(super) async fn decide(
        self: &Arc<Self>,
        key: &NodePublic,
        source: IpAddr,
    ) -> (Outcome, Option<Arc<str>>) {
        if self.is_listed(key) {
            return (Outcome::Allowed, None);
        }
        match self.ledger().recall(key, self.clock.now()) {
            Some(Recalled::Allowed(tailnet)) => {
                self.counters.saved.add_one(Saved::Allowed);
                return (Outcome::Allowed, Some(tailnet));
            }
            Some(Recalled::Denied) => {
                self.counters.saved.add_one(Saved::Denied);
                return (Outcome::Denied, None);
            }
            None => {}
        }
        let (this, key) = (Arc::clone(self), *key);
        let question = async move { this.ask(key, Some(source), None).await };
        let joined = || self.counters.saved.add_one(Saved::UnderWay);
        let verdict = self.flights.ask(key, question, joined).await;
        self.ledger().judge(&key, &verdict, self.fail_open, self.clock.now())
    }

    /// Says whether a connected node may stay, whatever was said of it lately.
    pub(super) async fn re_check(&self, key: NodePublic, in_vain: &Arc<InVain>) -> Outcome {
        if self.is_listed(&key) {
            return Outcome::Allowed;
        }
        let source = self.ledger().source(&key);
        let verdict = self.ask(key, source, Some(in_vain)).await;
        self.ledger().judge(&key, &verdict, self.fail_open, self.clock.now()).0
    }

    /// Makes the next login ask, and get an answer from after this.
    pub(super) fn forget(&self, key: &NodePublic) {
        self.flights.abandon(key);
        self.ledger().forget(key);
    }

    /// The same for all nodes.
    pub(super) fn forget_all(&self) {
        self.flights.abandon_all();
        self.ledger().forget_all();
    }

    /// Knows the node no more.
    pub(super) fn revoke(&self, key: &NodePublic) {
        self.change(|ledger| ledger.revoke(key));
    }

    /// Writes the known nodes to their file. Blocks.
    pub(super) fn save(&self) {
        let Some(file) = &self.file else { return };
        let writing = lock(&self.writing);
        let entries = self.ledger().entries(self.clock.now());
        let written = file.write(&entries);
        drop(writing);
        if let Err(error) = written {
            self.counters.write_errors.add_one();
            if self.write_log.is_due() {
                let path = file.path().display();
                tracing::warn!(%path, %error, "the known nodes cannot be written: after a restart they do not enter while no verifier answers");
            }
        }
    }

    /// Writes the known nodes whenever one came or went, for ever.
    pub(super) async fn keep_file(self: Arc<Self>) {
        if self.file.is_none() {
            return;
        }
        loop {
            // Either is a reason to write.
            drop(timeout(REWRITE_TIME, self.changed.notified()).await);
            let this = Arc::clone(&self);
            if tokio::task::spawn_blocking(move || this.save()).await.is_err() {
                tracing::error!("writing the known nodes has panicked");
            }
            sleep(WRITE_GAP).await;
        }
    }

    /// Asks, and takes the answer down, unless the key was revoked under the question.
    async fn ask(
        &self,
        key: NodePublic,
        source: Option<IpAddr>,
        in_vain: Option<&Arc<InVain>>,
    ) -> Verdict {
        let ticket = lock(&self.revocations).ticket();
        let verdict = self.verifiers.ask(key, source, in_vain).await;
        self.change(|ledger| {
            if !lock(&self.revocations).since(ticket, &key) {
                ledger.note(&key, &verdict, source, self.clock.now());
            }
        });
        verdict
    }

    fn is_listed(&self, key: &NodePublic) -> bool {
        self.list.as_ref().is_some_and(|list| list.contains(key))
    }

    fn change(&self, change: impl FnOnce(&mut Ledger)) {
        let mut ledger = self.ledger();
        let before = ledger.changes();
        change(&mut ledger);
        self.counters.set_known(ledger.len());
        if ledger.changes() != before {
            self.changed.notify_one();
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }
}

fn restore(ledger: &mut Ledger, file: &KnownFile, clock: &Clock) {
    let path = file.path().display();
    match file.read() {
        Ok((entries, faults)) => {
            if faults > 0 {
                tracing::warn!(%path, faults, "lines of the known nodes make no sense and do not count");
            }
            ledger.restore(entries, clock.now());
        }
        Err(error) => {
            tracing::warn!(%path, %error, "the known nodes cannot be read: nobody enters until a verifier answers");
        }
    }
}
