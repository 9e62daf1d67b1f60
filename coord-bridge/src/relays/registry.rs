//! Relays that are there, by their own word.
//!
//! Does: knows a relay by its key over restarts, and takes it for gone when it is not heard of;
//! keeps one stream of events for each.
//! Does not: listen, judge what a relay says of itself, or draw conclusions from who is there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use derp::key::NodePublic;
use derp_relay::bridge::wire::Registration;
use tokio::sync::watch;

use super::limits::{LISTED_TIME, LIVE_TIME, MAX_RELAYS};
use super::words::{RegistrationFault, judge};
use super::{LiveNode, RelaySnapshot};
use crate::provisioning::clock::span;
use crate::provisioning::id;
use crate::store::relays::KnownRelay;

/// All relays.
#[derive(Debug)]
pub(super) struct Registry {
    relays: Mutex<BTreeMap<NodePublic, Entry>>,
    live: watch::Sender<Arc<Vec<LiveNode>>>,
}

#[derive(Debug)]
struct Entry {
    id: String,
    version: String,
    node: LiveNode,
    /// What it said of itself, for other bridges.
    said: String,
    /// It was heard of here, and the store does not know yet.
    is_unsaved: bool,
    since_ms: i64,
    heard: Duration,
    heard_ms: i64,
    is_live: bool,
    /// Number of its last stream; another number ends a stream.
    stream: watch::Sender<u64>,
    has_stream: bool,
    /// It knows, as far as anybody can say, that it has to ask about all nodes once since it
    /// registered with this bridge.
    is_checked: bool,
    last_event: Option<u64>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { relays: Mutex::default(), live: watch::Sender::new(Arc::default()) }
    }
}

impl Registry {
    /// Takes what a relay says of itself; gives its id.
    pub(super) fn register(
        &self,
        said: Registration,
        now: Duration,
        now_ms: i64,
    ) -> Result<String, RegistrationFault> {
        let words = said.to_json();
        let Registration { version, key, map } = said;
        let node = judge(&version, map)?;
        let mut relays = self.relays();
        let name = &node.node.name;
        let is_taken = |(other, entry): (&NodePublic, &Entry)| {
            *other != key && entry.is_live && entry.node.node.name == *name
        };
        if relays.iter().any(is_taken) {
            return Err(RegistrationFault::NameTaken(name.clone()));
        }
        relays.retain(|other, entry| *other == key || entry.node.node.name != *name);
        if !relays.contains_key(&key) && relays.len() >= MAX_RELAYS {
            let away = relays.iter().filter(|(_, entry)| !entry.is_live);
            let longest = away.min_by_key(|(_, entry)| entry.heard).map(|(key, _)| *key);
            relays.remove(&longest.ok_or(RegistrationFault::TooMany)?);
        }
        let id = id::new(now_ms);
        let place = (node.region_id, node.node.name.clone());
        let entry = relays.entry(key).or_insert_with(|| {
            tracing::info!(region = place.0, node = place.1, version, "a relay has registered");
            Entry::new(node.clone(), now_ms)
        });
        entry.enter(id.clone(), version, node, words);
        (entry.heard, entry.heard_ms, entry.is_live) = (now, now_ms, true);
        entry.is_unsaved = true;
        // It may have started anew, and have let nodes in meanwhile that are gone.
        entry.is_checked = false;
        self.publish(&relays);
        Ok(id)
    }

    /// Takes a heartbeat. Says whether there is such a relay.
    pub(super) fn beat(&self, id: &str, now: Duration, now_ms: i64) -> bool {
        let mut relays = self.relays();
        let Some(entry) = relays.values_mut().find(|entry| entry.id == id) else { return false };
        (entry.heard, entry.heard_ms, entry.is_unsaved) = (now, now_ms, true);
        if !std::mem::replace(&mut entry.is_live, true) {
            self.publish(&relays);
        }
        true
    }

    /// Whether there is a relay of this id.
    pub(super) fn has(&self, id: &str) -> bool {
        self.relays().values().any(|entry| entry.id == id)
    }

    /// Relays that the store does not know yet to have been heard of; they count as saved.
    pub(super) fn take_unsaved(&self, now: Duration) -> Vec<KnownRelay> {
        let mut relays = self.relays();
        let unsaved = relays.iter_mut().filter(|(_, entry)| entry.is_unsaved);
        unsaved
            .map(|(key, entry)| {
                entry.is_unsaved = false;
                KnownRelay {
                    key: key.to_string(),
                    id: entry.id.clone(),
                    name: entry.node.node.name.clone(),
                    said: entry.said.clone(),
                    since_ms: entry.since_ms,
                    silence: now.saturating_sub(entry.heard),
                }
            })
            .collect()
    }

    /// They were not saved after all.
    pub(super) fn keep_unsaved(&self, ids: &[String]) {
        for entry in self.relays().values_mut().filter(|entry| ids.contains(&entry.id)) {
            entry.is_unsaved = true;
        }
    }

    /// Takes over what other bridges have heard since this one has. Rows are judged as relays are.
    pub(super) fn merge(&self, known: &[KnownRelay], now: Duration, now_ms: i64) {
        let mut relays = self.relays();
        for row in known {
            let Ok(said) = Registration::parse(row.said.as_bytes()) else { continue };
            let Registration { version, key, map } = said;
            let Ok(node) = judge(&version, map) else { continue };
            let heard_here = relays.get(&key).map(|entry| now.saturating_sub(entry.heard));
            if heard_here.is_some_and(|silence| silence <= row.silence)
                || heard_here.is_none() && relays.len() >= MAX_RELAYS
                || row.silence >= LISTED_TIME
            {
                continue;
            }
            let entry = relays.entry(key).or_insert_with(|| {
                tracing::info!(node = node.node.name, "a relay is known from the store");
                Entry::new(node.clone(), row.since_ms)
            });
            if entry.id != row.id {
                entry.enter(row.id.clone(), version, node, row.said.clone());
            }
            entry.heard = now.saturating_sub(row.silence);
            entry.heard_ms = now_ms.saturating_sub(span(row.silence));
            entry.is_live = row.silence < LIVE_TIME;
        }
        self.publish(&relays);
    }

    /// Misses relays that were not heard of for long.
    pub(super) fn tick(&self, now: Duration) {
        let mut relays = self.relays();
        let mut has_changed = false;
        relays.retain(|_, entry| {
            let silence = now.saturating_sub(entry.heard);
            if entry.is_live && silence >= LIVE_TIME {
                entry.is_live = false;
                has_changed = true;
                tracing::warn!(node = entry.node.node.name, "a relay is not heard of any more");
            }
            silence < LISTED_TIME
        });
        if has_changed {
            self.publish(&relays);
        }
    }

    /// Opens the stream of a relay, and ends the one before. Gives what tells when another one
    /// ends this; `None` if there is no such relay.
    pub(super) fn open(&self, id: &str) -> Option<Opened> {
        let mut relays = self.relays();
        let (key, entry) = relays.iter_mut().find(|(_, entry)| entry.id == id)?;
        entry.stream.send_modify(|stream| *stream += 1);
        entry.has_stream = true;
        let ended = entry.stream.subscribe();
        let number = *ended.borrow();
        Some(Opened { key: *key, number, ended, is_checked: entry.is_checked })
    }

    /// Notes that a relay has read that it has to ask about all nodes, provided that it is heard
    /// of. Says whether it was.
    pub(super) fn has_read_check(&self, opened: &Opened) -> bool {
        let mut is_noted = false;
        self.with(opened, |entry| {
            entry.is_checked = entry.is_live;
            is_noted = entry.is_live;
        });
        is_noted
    }

    /// Notes which event was queued for a relay.
    pub(super) fn told(&self, opened: &Opened, seq: u64) {
        self.with(opened, |entry| entry.last_event = Some(seq));
    }

    /// Notes that a stream has ended.
    pub(super) fn closed(&self, opened: &Opened) {
        self.with(opened, |entry| entry.has_stream = false);
    }

    pub(super) fn live(&self) -> watch::Receiver<Arc<Vec<LiveNode>>> {
        self.live.subscribe()
    }

    pub(super) fn snapshot(&self) -> Vec<RelaySnapshot> {
        let snapshot = |(key, entry): (&NodePublic, &Entry)| RelaySnapshot {
            id: entry.id.clone(),
            key: *key,
            version: entry.version.clone(),
            live: entry.node.clone(),
            since_ms: entry.since_ms,
            heard_ms: entry.heard_ms,
            is_live: entry.is_live,
            has_stream: entry.has_stream,
            last_event: entry.last_event,
        };
        self.relays().iter().map(snapshot).collect()
    }

    /// Changes the entry of a stream that is still the relay's.
    fn with(&self, opened: &Opened, change: impl FnOnce(&mut Entry)) {
        let mut relays = self.relays();
        let entry = relays.get_mut(&opened.key);
        if let Some(entry) = entry.filter(|entry| *entry.stream.borrow() == opened.number) {
            change(entry);
        }
    }

    fn publish(&self, relays: &BTreeMap<NodePublic, Entry>) {
        let live = relays.values().filter(|entry| entry.is_live);
        let mut nodes: Vec<LiveNode> = live.map(|entry| entry.node.clone()).collect();
        nodes.sort_by(|a, b| (a.region_id, &a.node.name).cmp(&(b.region_id, &b.node.name)));
        self.live.send_if_modified(|before| {
            let differs = **before != nodes;
            if differs {
                *before = Arc::new(nodes);
            }
            differs
        });
    }

    /// What is in the mutex. Nothing here is left half changed by a panic.
    fn relays(&self) -> MutexGuard<'_, BTreeMap<NodePublic, Entry>> {
        self.relays.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new(node: LiveNode, since_ms: i64) -> Self {
        Self {
            id: String::new(),
            version: String::new(),
            node,
            said: String::new(),
            is_unsaved: false,
            since_ms,
            heard: Duration::ZERO,
            heard_ms: since_ms,
            is_live: false,
            stream: watch::Sender::new(0),
            has_stream: false,
            is_checked: false,
            last_event: None,
        }
    }

    /// The relay has registered, here or elsewhere.
    fn enter(&mut self, id: String, version: String, node: LiveNode, said: String) {
        // What it was told under another id it was told by somebody else's stream.
        self.stream.send_modify(|stream| *stream += 1);
        (self.id, self.version, self.node, self.said) = (id, version, node, said);
    }
}

/// A stream of a relay.
#[derive(Debug)]
pub(super) struct Opened {
    key: NodePublic,
    number: u64,
    ended: watch::Receiver<u64>,
    /// The relay knows that it has to ask about all nodes.
    pub(super) is_checked: bool,
}

impl Opened {
    /// Waits until the relay has another stream, or is forgotten.
    pub(super) async fn ended(&mut self) {
        let number = self.number;
        // An error says that the relay is forgotten.
        drop(self.ended.wait_for(|stream| *stream != number).await);
    }
}

#[cfg(test)]
mod tests {
    use super::super::words::tests::said;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_relay_is_live_while_it_is_heard_of() {
        let registry = Registry::default();
        let mut live = registry.live();
        let id = registry.register(said(1, "a"), SECOND, 1_000).unwrap();
        registry.register(said(2, "b"), SECOND, 1_000).unwrap();
        assert_eq!(names(&live.borrow_and_update()), ["a", "b"]);
        assert!(registry.beat(&id, SECOND * 20, 20_000) && !registry.beat("x", SECOND, 0));
        registry.tick(SECOND * 31);
        assert_eq!(names(&live.borrow_and_update()), ["a"]);
        assert_eq!(registry.snapshot().len(), 2, "it is still listed");
        registry.tick(SECOND * 49);
        assert!(!live.has_changed().unwrap(), "nothing has");
        registry.tick(SECOND * 50);
        assert_eq!(names(&live.borrow_and_update()), Vec::<String>::new());
        assert!(registry.beat(&id, SECOND * 51, 51_000));
        assert_eq!(names(&live.borrow_and_update()), ["a"]);
        registry.tick(LISTED_TIME + SECOND * 10);
        assert_eq!(registry.snapshot().len(), 1);
    }

    #[test]
    fn a_name_belongs_to_one_relay_that_is_there() {
        let registry = Registry::default();
        let first = registry.register(said(1, "a"), SECOND, 0).unwrap();
        let taken = registry.register(said(2, "a"), SECOND, 0);
        assert_eq!(taken, Err(RegistrationFault::NameTaken("a".to_owned())));
        // It has restarted.
        assert_ne!(registry.register(said(1, "a"), SECOND, 0).unwrap(), first);
        assert!(!registry.beat(&first, SECOND, 0), "the old id is none any more");
        registry.tick(SECOND * 31);
        registry.register(said(2, "a"), SECOND * 31, 0).unwrap();
        assert_eq!(registry.snapshot().len(), 1);
    }

    #[test]
    fn relays_are_bounded_and_who_is_away_makes_place() {
        let registry = Registry::default();
        for number in 0..MAX_RELAYS {
            registry.register(said(number, &format!("r{number}")), SECOND, 0).unwrap();
        }
        let more = said(MAX_RELAYS, "more");
        assert_eq!(registry.register(more.clone(), SECOND, 0), Err(RegistrationFault::TooMany));
        registry.tick(SECOND * 31);
        registry.register(more, SECOND * 31, 0).unwrap();
        assert_eq!(registry.snapshot().len(), MAX_RELAYS);
    }

    #[test]
    fn a_newer_stream_ends_the_older() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let registry = Registry::default();
        let id = registry.register(said(1, "a"), SECOND, 0).unwrap();
        let mut first = registry.open(&id).unwrap();
        let second = registry.open(&id).unwrap();
        runtime.block_on(first.ended());
        registry.closed(&first);
        assert!(registry.snapshot()[0].has_stream, "the other one is open");
        registry.told(&second, 7);
        assert!(registry.has_read_check(&second) && !registry.has_read_check(&first));
        registry.closed(&second);
        let [relay] = &registry.snapshot()[..] else { panic!("one relay") };
        assert_eq!((relay.has_stream, relay.last_event), (false, Some(7)));
        let third = registry.open(&id).unwrap();
        assert!(third.is_checked && registry.open("nobody").is_none());
    }

    fn names(live: &[LiveNode]) -> Vec<String> {
        live.iter().map(|live| live.node.name.clone()).collect()
    }
}
