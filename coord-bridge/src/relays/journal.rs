//! Numbered events, over the store.
//!
//! Does: reads what any process has written into the store, in order and soon, takes the node off
//! all lists, and only then tells the streams; writes what this process has found.
//! Does not: wait for a store that does not work: relays are then told without a number, and again
//! with one when it is back. Telling twice costs nothing: who is gone cannot be cut off again.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use derp::key::NodePublic;
use derp_relay::bridge::wire::{Event, Line};
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, timeout};

use super::limits::{
    FAILED_POLL_TIME, MAX_UNWRITTEN, NEWS, PAGE, POLL_TIME, PRUNE_TIME, REPEAT_MS, WRITE_TIME,
};
use crate::provisioning::clock::{Clock, millis};
use crate::store::relay_events::{self, ROW_TTL_MS, RelayEvent};
use crate::store::{Store, StoreError};
use crate::verify::Rosters;

/// What relays are told.
pub struct Journal {
    /// None where nothing can happen: without a Headscale no node goes.
    store: Option<Store>,
    rosters: Arc<Rosters>,
    clock: Arc<dyn Clock>,
    news: broadcast::Sender<Line>,
    /// Number of the last event that was read; -1 before anything was.
    read_up_to: AtomicI64,
    written: Notify,
    /// Nodes that are gone and not in the store yet.
    unwritten: Mutex<VecDeque<NodePublic>>,
}

/// What a stream begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Backlog {
    /// These, and everything after them is news.
    Events(Vec<RelayEvent>),
    /// Some are gone, or too many: the relay has to ask about all nodes. What comes after this
    /// number is news.
    Gap(i64),
}

impl Journal {
    /// A journal over `store` that forgets nodes in `rosters`.
    #[must_use]
    pub fn new(store: Option<Store>, rosters: Arc<Rosters>, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self {
            store,
            rosters,
            clock,
            news: broadcast::Sender::new(NEWS),
            read_up_to: AtomicI64::new(-1),
            written: Notify::new(),
            unwritten: Mutex::default(),
        })
    }

    /// Gets it to all relays that these nodes are gone.
    pub async fn close(&self, nodes: &[NodePublic]) {
        let list = nodes.to_vec();
        let stored = match &self.store {
            Some(store) => {
                timeout(WRITE_TIME, self.write(store, list)).await.unwrap_or_else(|_| {
                    Err(StoreError::Busy(format!("not done within {WRITE_TIME:?}")))
                })
            }
            None => Ok(nodes.to_vec()),
        };
        match stored {
            Ok(unwritten) => {
                self.written.notify_one();
                self.tell_unnumbered(&unwritten);
            }
            Err(error) => {
                tracing::warn!(%error, "relays are told of nodes that are gone before the store is");
                self.tell_unnumbered(nodes);
                self.keep(nodes);
            }
        }
    }

    /// Tells relays of this bridge at once, without a number: the store may be slow. They hear it
    /// again with its number.
    pub fn tell_at_once(&self, node: NodePublic) {
        self.tell_unnumbered(&[node]);
    }

    /// To be called when this process has put an event into the store by itself.
    pub fn has_news(&self) {
        self.written.notify_one();
    }

    /// Number of the last event; 0 if there was none, or nobody can say.
    pub(super) async fn newest(&self) -> i64 {
        let read = self.read_up_to.load(Ordering::Relaxed);
        match &self.store {
            Some(store) if read < 0 => store.read(relay_events::newest).await.unwrap_or_default(),
            Some(_) | None => read.max(0),
        }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Line> {
        self.news.subscribe()
    }

    /// What has happened after event `seq`.
    pub(super) async fn backlog(&self, seq: i64, max: i64) -> Backlog {
        let Some(store) = &self.store else { return Backlog::Events(Vec::new()) };
        let read = store.read(move |session| {
            let events = relay_events::after(session, seq, max.saturating_add(1))?;
            let few = events.filter(|few| i64::try_from(few.len()).is_ok_and(|len| len <= max));
            Ok(match few {
                Some(events) => Backlog::Events(events),
                None => Backlog::Gap(relay_events::newest(session)?),
            })
        });
        let read = timeout(WRITE_TIME, read)
            .await
            .unwrap_or_else(|_| Err(StoreError::Busy(format!("no answer within {WRITE_TIME:?}"))));
        match read {
            Ok(backlog) => backlog,
            Err(error) => {
                tracing::debug!(%error, "the store does not say what a relay has missed");
                Backlog::Gap(self.read_up_to.load(Ordering::Relaxed).max(0))
            }
        }
    }

    /// Follows the store, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        let Some(store) = &self.store else { return };
        let mut fails = false;
        let mut prune_at = Instant::now();
        loop {
            let done = self.turn(store, prune_at <= Instant::now()).await;
            if prune_at <= Instant::now() {
                prune_at = Instant::now() + PRUNE_TIME;
            }
            let pause = match done {
                Ok(()) => {
                    if std::mem::take(&mut fails) {
                        tracing::info!("the store tells of nodes that are gone again");
                    }
                    POLL_TIME
                }
                Err(error) => {
                    if !std::mem::replace(&mut fails, true) {
                        tracing::error!(%error, "the store does not tell of nodes that are gone");
                    }
                    FAILED_POLL_TIME
                }
            };
            // Either is a reason to look.
            drop(timeout(pause, self.written.notified()).await);
        }
    }

    async fn turn(&self, store: &Store, prunes: bool) -> Result<(), StoreError> {
        let waiting: Vec<NodePublic> = self.waiting().drain(..).collect();
        if !waiting.is_empty()
            && let Err(error) = self.write(store, waiting.clone()).await
        {
            self.keep(&waiting);
            return Err(error);
        }
        while self.read(store).await? {}
        if prunes {
            let before_ms = self.now_ms().saturating_sub(ROW_TTL_MS);
            store.write(move |session| relay_events::prune(session, before_ms)).await?;
        }
        Ok(())
    }

    /// Reads on, and tells. Says whether there may be more.
    async fn read(&self, store: &Store) -> Result<bool, StoreError> {
        let seq = self.read_up_to.load(Ordering::Relaxed);
        if seq < 0 {
            // What was before is for those who ask for it. Who has come before anybody read may
            // have missed something in between.
            let newest = store.read(relay_events::newest).await?;
            self.read_up_to.store(newest, Ordering::Relaxed);
            if self.news.receiver_count() > 0 {
                let seq = u64::try_from(newest).ok();
                self.tell(Line { seq, event: Event::VerifyChanged });
            }
            return Ok(false);
        }
        let read = store.read(move |session| match relay_events::after(session, seq, PAGE)? {
            Some(events) => Ok(Backlog::Events(events)),
            None => relay_events::newest(session).map(Backlog::Gap),
        });
        match read.await? {
            Backlog::Events(events) => {
                for event in &events {
                    if let Some(line) = line(*event) {
                        self.tell(line);
                    }
                    self.read_up_to.store(event.seq, Ordering::Relaxed);
                }
                Ok(i64::try_from(events.len()).is_ok_and(|len| len >= PAGE))
            }
            Backlog::Gap(newest) => {
                tracing::warn!("events are missing in the store; relays ask about all nodes");
                self.read_up_to.store(newest, Ordering::Relaxed);
                let seq = u64::try_from(newest).ok();
                self.tell(Line { seq, event: Event::VerifyChanged });
                Ok(false)
            }
        }
    }

    /// Gives those that were written a moment ago already: they may have come back since.
    async fn write(
        &self,
        store: &Store,
        nodes: Vec<NodePublic>,
    ) -> Result<Vec<NodePublic>, StoreError> {
        let now_ms = self.now_ms();
        store
            .write(move |session| {
                let since_ms = now_ms.saturating_sub(REPEAT_MS);
                let mut known = Vec::new();
                for node in nodes {
                    if !relay_events::insert_close_once(session, &node, now_ms, since_ms)? {
                        known.push(node);
                    }
                }
                Ok(known)
            })
            .await
    }

    fn tell_unnumbered(&self, nodes: &[NodePublic]) {
        for node in nodes {
            self.tell(Line { seq: None, event: Event::Close(*node) });
        }
    }

    fn tell(&self, line: Line) {
        if let Event::Close(node) = &line.event {
            // First: a relay that cuts it off may be asked about it the moment after.
            self.rosters.forget(node, self.clock.elapsed());
        }
        // Nobody may be listening.
        drop(self.news.send(line));
    }

    fn keep(&self, nodes: &[NodePublic]) {
        let mut waiting = self.waiting();
        waiting.extend(nodes);
        let excess = waiting.len().saturating_sub(MAX_UNWRITTEN);
        waiting.drain(..excess);
    }

    fn now_ms(&self) -> i64 {
        millis(self.clock.now())
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<NodePublic>> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An event as relays hear it; none for what this release does not know.
pub(super) fn line(event: RelayEvent) -> Option<Line> {
    let seq = u64::try_from(event.seq).ok();
    event.close.map(|node| Line { seq, event: Event::Close(node) })
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("store", &self.store).finish_non_exhaustive()
    }
}
