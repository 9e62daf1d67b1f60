//! Who has to be told when a key leaves.
//!
//! Does: remembers, per receiver, the sources it got packets from, so that each receiver learns
//! of a departure once, every time. Bounded per receiver.
//! Does not: send the notice. Spec: docs/protocol/derp.md, section 6.

use crate::hash::{KeyMap, KeySet, Seed};
use crate::key::NodePublic;
use crate::limits::MAX_SOURCES;

/// The sources that one receiver has heard from. Lives with the receiver; empty costs nothing.
#[derive(Debug)]
pub struct Sources(KeySet);

impl Sources {
    /// A receiver that has heard from nobody.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self(KeySet::with_hasher(seed.state()))
    }
}

/// The receivers of one shard, by source.
#[derive(Debug)]
pub struct Presence {
    receivers: KeyMap<Vec<u32>>,
}

/// What came of noting a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// The receiver will be told, now or already before.
    Yes,
    /// The receiver hears from too many to be told of this one.
    Overflow,
}

impl Presence {
    /// A shard on which nobody has heard from anybody.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self { receivers: KeyMap::with_hasher(seed.state()) }
    }

    /// Notes that the receiver in `slot`, with these `sources`, gets a packet from `source`.
    pub fn note(&mut self, source: NodePublic, slot: u32, sources: &mut Sources) -> Noted {
        if sources.0.contains(&source) {
            return Noted::Yes;
        }
        if sources.0.len() >= MAX_SOURCES {
            return Noted::Overflow;
        }
        sources.0.insert(source);
        self.receivers.entry(source).or_default().push(slot);
        Noted::Yes
    }

    /// Takes the slots of all receivers that heard from `source`; they are to be told now, and
    /// each forgets it by [`Presence::told`].
    #[must_use]
    pub fn departed(&mut self, source: &NodePublic) -> Vec<u32> {
        self.receivers.remove(source).unwrap_or_default()
    }

    /// Makes a receiver forget `source`: heard from again, it will be noted again (fault-D8).
    pub fn told(source: &NodePublic, sources: &mut Sources) {
        sources.0.remove(source);
    }

    /// Forgets a receiver that leaves.
    #[expect(clippy::iter_over_hash_type, reason = "each source's list is changed by itself")]
    pub fn forget(&mut self, slot: u32, sources: &mut Sources) {
        for source in sources.0.drain() {
            let Some(slots) = self.receivers.get_mut(&source) else { continue };
            if let Some(place) = slots.iter().position(|known| *known == slot) {
                slots.swap_remove(place);
            }
            if slots.is_empty() {
                self.receivers.remove(&source);
            }
        }
    }
}
