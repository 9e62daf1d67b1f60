//! Which of several bridges on one store leads: it alone reconciles, and sends webhooks.
//!
//! ```text
//! leader:  renews its row every 2 s      -> leads for 10 s from when it began to
//! another: has seen the same row for 12 s -> takes it
//! ```
//!
//! Does: keeps a lease in the store, on a thread and a connection of its own; stops leading by
//! itself when the store does not answer; gives the lease up when it is dropped.
//! Does not: compare clocks. Each bridge measures spans by a clock of its own that never goes
//! back, and no date is written or read.
//!
//! Reasons: docs/decisions/0069.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::provisioning::clock::millis;
use crate::provisioning::id;
use crate::store::leases::{self, Claim};
use crate::store::{Session, Store, StoreError};

/// Time between two looks at the lease, and two renewals of it.
pub const RENEW_TIME: Duration = Duration::from_secs(2);

/// Time that a bridge leads after it began to renew. Four renewals may fail.
pub const LEASE_TIME: Duration = Duration::from_secs(10);

/// Time for which another bridge has to see the same lease before it takes it: longer than the
/// holder may lead by it, by more than two clocks differ in pace.
pub const TAKEOVER_TIME: Duration = Duration::from_secs(12);

/// Time that giving the lease up may take. A store that does not answer must not keep the process.
const RELEASE_TIME: Duration = Duration::from_secs(2);

/// Whether this bridge may do what only one of several on one store should do.
#[derive(Clone)]
pub struct Leadership {
    may_lead: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Whether another bridge was seen to renew its lease.
    has_rival: Arc<dyn Fn() -> bool + Send + Sync>,
    /// As whom it holds the lease; `None` where there is no lease.
    holder: Option<Arc<str>>,
}

/// The lease of a bridge. Dropping it gives it up.
pub struct Lease {
    term: Arc<Term>,
    /// Dropping it ends the thread.
    stop: Option<SyncSender<()>>,
    /// Ends when the thread does.
    ended: Receiver<()>,
}

/// How often and how long: what tests shorten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Time between two looks.
    pub renew: Duration,
    /// Time that a bridge leads after it began to renew.
    pub lease: Duration,
    /// Time for which another one has to see the same lease before it takes it.
    pub takeover: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { renew: RENEW_TIME, lease: LEASE_TIME, takeover: TAKEOVER_TIME }
    }
}

impl Leadership {
    /// Every bridge leads: there is one only, or all may.
    #[must_use]
    pub fn all() -> Self {
        Self::new(|| true)
    }

    /// A bridge leads while `may_lead` says so.
    #[must_use]
    pub fn new(may_lead: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { may_lead: Arc::new(may_lead), has_rival: Arc::new(|| true), holder: None }
    }

    /// Whether this bridge may lead now.
    #[must_use]
    pub fn may_lead(&self) -> bool {
        (self.may_lead)()
    }

    /// Whether another bridge is known to be at work: its lease was seen to be renewed. The lease
    /// of one that has died, or of this one before it started, is no rival.
    #[must_use]
    pub fn has_rival(&self) -> bool {
        (self.has_rival)()
    }

    /// Whether another bridge leads, or did until it died, by what the store says. Known at once
    /// after the start, when this bridge has not yet had the time to lead.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn is_elsewhere(&self, session: &mut dyn Session) -> Result<bool, StoreError> {
        let Some(me) = self.holder.as_deref() else { return Ok(!self.may_lead()) };
        Ok(leases::current(session)?.is_some_and(|claim| claim.holder != me))
    }

    /// Waits until this bridge does not lead any more.
    pub async fn lost(&self) {
        while self.may_lead() {
            tokio::time::sleep(RENEW_TIME).await;
        }
    }

    /// The fence: whether this bridge still leads by what the store says, in the transaction that
    /// depends on it. A process that was stopped for a minute does not know that from its clock.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub fn is_confirmed(&self, session: &mut dyn Session) -> Result<bool, StoreError> {
        self.holder.as_deref().map_or(Ok(true), |me| leases::is_held(session, me))
    }
}

impl Default for Leadership {
    fn default() -> Self {
        Self::all()
    }
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Leadership").field(&self.may_lead()).finish()
    }
}

impl Lease {
    /// Begins to strive for the lease in `store`.
    ///
    /// # Errors
    ///
    /// The system has no thread left.
    pub fn strive(store: Store, pace: Pace) -> io::Result<Self> {
        let me = id::new(millis(SystemTime::now()));
        let term = Arc::new(Term {
            me: me.into(),
            until: Mutex::default(),
            has_rival: AtomicBool::new(false),
        });
        let (stop, stopped) = sync_channel(0);
        let (ends, ended) = sync_channel(0);
        let striver = Striver {
            store,
            pace,
            term: Arc::clone(&term),
            rival: None,
            has_rivals: false,
            led: false,
        };
        std::thread::Builder::new().name("lease".to_owned()).spawn(move || {
            striver.run(&stopped);
            drop(ends);
        })?;
        Ok(Self { term, stop: Some(stop), ended })
    }

    /// Whether its bridge leads, for whoever has to know.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        let term = Arc::clone(&self.term);
        let (rival, holder) = (Arc::clone(&term), Some(Arc::clone(&term.me)));
        Leadership {
            may_lead: Arc::new(move || term.lasts()),
            has_rival: Arc::new(move || rival.has_rival.load(Ordering::Relaxed)),
            holder,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.term.end();
        drop(self.stop.take());
        if self.ended.recv_timeout(RELEASE_TIME) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the lease was not given up; another bridge takes it when it is over");
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("term", &self.term).finish_non_exhaustive()
    }
}

/// How long this bridge leads.
#[derive(Debug)]
struct Term {
    me: Arc<str>,
    until: Mutex<Option<Instant>>,
    /// Another bridge was seen to renew its lease.
    has_rival: AtomicBool,
}

impl Term {
    fn lasts(&self) -> bool {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn last_until(&self, until: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    fn end(&self) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What the thread has.
struct Striver {
    store: Store,
    pace: Pace,
    term: Arc<Term>,
    /// Somebody else's claim, and when it was first seen.
    rival: Option<(Claim, Instant)>,
    /// Somebody else had the lease, at any time.
    has_rivals: bool,
    /// What the log has.
    led: bool,
}

impl Striver {
    fn run(mut self, stopped: &Receiver<()>) {
        let mut fails = false;
        loop {
            let done = self.turn();
            if let Err(error) = &done
                && !fails
            {
                tracing::warn!(%error, "the lease cannot be looked at; this bridge will not lead");
            }
            fails = done.is_err();
            let leads = self.term.lasts();
            if leads != self.led {
                // A bridge that is alone has nothing to tell when it starts.
                if self.has_rivals || !leads {
                    tracing::info!(leads, "this bridge leads, or does not any more");
                }
                self.led = leads;
            }
            if stopped.recv_timeout(self.pace.renew) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
        self.term.end();
        let me = Arc::clone(&self.term.me);
        if let Err(error) = self.store.write_now(move |session| leases::release(session, &me)) {
            tracing::warn!(%error, "the lease is not given up");
        }
    }

    /// Takes or renews the lease, or leaves it to whoever has it.
    fn turn(&mut self) -> Result<(), StoreError> {
        // From here on: the others see the renewal later, and wait for longer.
        let began = Instant::now();
        let me = Arc::clone(&self.term.me);
        let overdue = match self.store.read_now(leases::current)? {
            Some(claim) if *claim.holder != *me => {
                self.has_rivals = true;
                if !self.is_overdue(&claim, began) {
                    self.term.end();
                    return Ok(());
                }
                Some(claim)
            }
            Some(_) | None => None,
        };
        let is_mine =
            self.store.write_now(move |session| leases::claim(session, &me, overdue.as_ref()))?;
        if is_mine {
            self.rival = None;
            self.term.last_until(began + self.pace.lease);
        } else {
            self.term.end();
        }
        Ok(())
    }

    /// Whether `claim` was not renewed for too long. It is as old as this bridge has known it.
    fn is_overdue(&mut self, claim: &Claim, now: Instant) -> bool {
        match &self.rival {
            Some((known, since)) if known == claim => {
                now.saturating_duration_since(*since) >= self.pace.takeover
            }
            before => {
                // A claim that changes while it is watched is somebody's who lives.
                if before.as_ref().is_some_and(|(known, _)| known.holder == claim.holder) {
                    self.term.has_rival.store(true, Ordering::Relaxed);
                }
                // The look has ended later than it began, but no renewal is older than its end.
                self.rival = Some((claim.clone(), Instant::now()));
                false
            }
        }
    }
}
