//! The audit: one structured line and one row for each request, and none with a secret.
//!
//! Does: writes both, and keeps a flood of strangers from becoming a flood of lines and rows: of
//! refused tokens only so many a minute are written down, and the next line says how many were
//! not. Does not: keep a request from being answered; a registration writes its row together
//! with what it changes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Caller;
use super::clock::{Clock, millis};
use super::counters::Counters;
use super::id;
use super::limits::{Buckets, Rate};
use super::refusal::Refusal;
use crate::store::Store;
use crate::store::events::{self, Event};

/// Refused tokens that are written down.
const FAILURES: Rate = Rate { burst: 60, window: Duration::from_secs(60) };

/// Lines about a store that does not work.
const COMPLAINTS: Rate = Rate { burst: 5, window: Duration::from_secs(60) };

/// What is written down.
#[derive(Debug)]
pub(super) struct Audit {
    store: Store,
    clock: Arc<dyn Clock>,
    strangers: Mutex<Strangers>,
    complaints: Mutex<Buckets<()>>,
    pub(super) counters: Counters,
}

#[derive(Debug)]
struct Strangers {
    written: Buckets<()>,
    /// Refused since the last line.
    unwritten: u64,
}

/// What is to be written down about one request.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) event: Event,
    /// The row is in the store already.
    pub(super) is_stored: bool,
}

impl Audit {
    pub(super) fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        let strangers = Strangers { written: Buckets::new(FAILURES), unwritten: 0 };
        Self {
            store,
            clock,
            strangers: Mutex::new(strangers),
            complaints: Mutex::new(Buckets::new(COMPLAINTS)),
            counters: Counters::default(),
        }
    }

    /// What is known when a request comes.
    pub(super) fn entry(&self, kind: &str, caller: &Caller) -> Entry {
        let at_ms = millis(self.clock.now());
        let event = Event {
            id: id::new(at_ms),
            at_ms,
            kind: kind.to_owned(),
            request_id: Some(caller.request_id.clone()),
            remote_ip: Some(caller.address.to_string()),
            ..Event::default()
        };
        Entry { event, is_stored: false }
    }

    /// Writes down how a request ended.
    pub(super) async fn close(&self, mut entry: Entry, done: &Result<(), &Refusal>) {
        let refused = done.err();
        self.counters.count(&entry.event.kind, refused.copied());
        entry.event.outcome = refused.map_or("ok", |refusal| refusal.code()).to_owned();
        // Who holds an enrollment token must not be able to flood log and store either.
        let is_cheap = matches!(
            refused,
            Some(
                Refusal::Unauthorized
                    | Refusal::TooManyFailures(_)
                    | Refusal::TooMany(_)
                    | Refusal::AdminRequired
                    | Refusal::Source
            )
        );
        let Some(unwritten) = self.may_write(is_cheap) else { return };
        line(&entry.event, refused.is_none(), unwritten);
        self.write(entry).await;
    }

    /// Writes down something that somebody did who was let in.
    pub(super) async fn note(&self, mut entry: Entry, outcome: &str) {
        outcome.clone_into(&mut entry.event.outcome);
        line(&entry.event, true, 0);
        self.write(entry).await;
    }

    async fn write(&self, entry: Entry) {
        if entry.is_stored {
            return;
        }
        let event = entry.event;
        if let Err(error) = self.store.write(move |session| events::insert(session, &event)).await
            && self.may_complain()
        {
            tracing::error!(%error, "a row of the audit is missing");
        }
    }

    /// Whether one more line about the store is of use.
    pub(super) fn may_complain(&self) -> bool {
        let now = self.clock.elapsed();
        let mut complaints = held(&self.complaints);
        let may = complaints.wait(&(), now) == Duration::ZERO;
        if may {
            complaints.take((), now);
        }
        may
    }

    /// `None` if it is not to be written down; otherwise how many before it were not.
    fn may_write(&self, is_cheap: bool) -> Option<u64> {
        if !is_cheap {
            return Some(0);
        }
        let now = self.clock.elapsed();
        let mut strangers = held(&self.strangers);
        if strangers.written.wait(&(), now) > Duration::ZERO {
            strangers.unwritten += 1;
            return None;
        }
        strangers.written.take((), now);
        Some(std::mem::take(&mut strangers.unwritten))
    }
}

fn line(event: &Event, is_done: bool, unwritten: u64) {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (request_id, remote_ip) = (text(&event.request_id), text(&event.remote_ip));
    let (token, machine) = (text(&event.token), text(&event.machine));
    let (hostname, key_id) = (text(&event.hostname), text(&event.key_id));
    let (event, outcome) = (&event.kind, &event.outcome);
    if is_done {
        tracing::info!(
            event, outcome, request_id, remote_ip, token, machine, hostname, key_id, "audit"
        );
    } else {
        tracing::warn!(
            event, outcome, request_id, remote_ip, token, machine, hostname, key_id, unwritten,
            "audit"
        );
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
