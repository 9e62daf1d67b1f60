//! Which key is reachable at which connection, shared by all shards.
//!
//! Does: answers a sender's miss with one short read lock. Written only by the owner of a key.
//! Does not: sit on the path of every packet; senders remember answers until `version` moves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use derp::hash::{KeyMap, Seed};
use derp::id::ConnId;
use derp::key::NodePublic;
use derp::route::Directory;

/// Parts with a lock each, so that a login seldom makes a look-up wait.
pub(super) const PARTS: usize = 64;

#[derive(Debug)]
pub(crate) struct SharedDirectory {
    version: AtomicU64,
    parts: Vec<RwLock<KeyMap<ConnId>>>,
}

impl SharedDirectory {
    pub(crate) fn new(seed: Seed) -> Self {
        let part = || RwLock::new(KeyMap::with_hasher(seed.state()));
        Self { version: AtomicU64::new(0), parts: (0..PARTS).map(|_| part()).collect() }
    }

    /// The keys of one of the [`PARTS`], as they are now.
    pub(super) fn keys(&self, part: usize) -> Vec<NodePublic> {
        let Some(part) = self.parts.get(part) else { return Vec::new() };
        part.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    fn part(&self, key: &NodePublic) -> Option<&RwLock<KeyMap<ConnId>>> {
        // Keys are uniform: any byte serves.
        self.parts.get(usize::from(key.as_bytes()[31]) % PARTS)
    }
}

impl Directory for SharedDirectory {
    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn find(&self, key: &NodePublic) -> Option<ConnId> {
        let part = self.part(key)?.read().unwrap_or_else(PoisonError::into_inner);
        part.get(key).copied()
    }

    fn publish(&self, key: &NodePublic, conn: Option<ConnId>) {
        let Some(part) = self.part(key) else { return };
        let mut part = part.write().unwrap_or_else(PoisonError::into_inner);
        let replaced = match conn {
            Some(conn) => part.insert(*key, conn),
            None => part.remove(key),
        };
        drop(part);
        if replaced.is_some() {
            self.version.fetch_add(1, Ordering::Release);
        }
    }
}
