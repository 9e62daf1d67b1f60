//! The connections of the keys that a shard owns.
//!
//! Does: keeps, per key, its connections in the order in which they last spoke, the active one
//! last: packets for the key go there. Says what changed, so that the shard can tell others.
//! Does not: route packets, hold connections of its own shard, or close anybody.
//!
//! A key with several connections is a cloned node, or one that reconnected before its old
//! connection was noticed dead. The newest is active; a frame from another makes that one
//! active; when the active one leaves, the one that spoke last before it follows.
//! Spec: docs/protocol/derp.md, section 7.

use crate::hash::{KeyMap, Seed};
use crate::id::ConnId;
use crate::key::NodePublic;

/// Keys and their connections.
#[derive(Debug)]
pub struct Registry {
    keys: KeyMap<Vec<ConnId>>,
    duplicate_keys: u64,
    duplicate_connections: u64,
}

/// What a departure means for the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It was the key's only connection: the key is gone.
    Last,
    /// It was active, and this one is now.
    Successor(ConnId),
    /// It was not active, or not known: nothing changes for anybody.
    Unnoticed,
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        Self {
            keys: KeyMap::with_hasher(seed.state()),
            duplicate_keys: 0,
            duplicate_connections: 0,
        }
    }

    /// Adds a connection and makes it active; returns the one that was active until now.
    pub fn join(&mut self, key: NodePublic, conn: ConnId) -> Option<ConnId> {
        let conns = self.keys.entry(key).or_default();
        let demoted = conns.last().copied();
        conns.push(conn);
        match conns.len() {
            1 => {}
            2 => {
                self.duplicate_keys += 1;
                self.duplicate_connections += 2;
            }
            _ => self.duplicate_connections += 1,
        }
        demoted
    }

    /// Removes a connection.
    pub fn leave(&mut self, key: &NodePublic, conn: ConnId) -> Departure {
        let Some(conns) = self.keys.get_mut(key) else { return Departure::Unnoticed };
        let Some(place) = conns.iter().position(|known| *known == conn) else {
            return Departure::Unnoticed;
        };
        let was_active = place + 1 == conns.len();
        conns.remove(place);
        match conns.len() {
            0 => {
                self.keys.remove(key);
                return Departure::Last;
            }
            1 => {
                self.duplicate_keys -= 1;
                self.duplicate_connections -= 2;
            }
            _ => self.duplicate_connections -= 1,
        }
        match conns.last() {
            Some(successor) if was_active => Departure::Successor(*successor),
            Some(_) | None => Departure::Unnoticed,
        }
    }

    /// Makes a connection active because it spoke; returns the one that was, if another.
    pub fn spoke(&mut self, key: &NodePublic, conn: ConnId) -> Option<ConnId> {
        let conns = self.keys.get_mut(key)?;
        let active = conns.last().copied()?;
        if active == conn {
            return None;
        }
        let place = conns.iter().position(|known| *known == conn)?;
        conns.remove(place);
        conns.push(conn);
        Some(active)
    }

    /// Whether the connection is among those of the key.
    #[must_use]
    pub fn knows(&self, key: &NodePublic, conn: ConnId) -> bool {
        self.keys.get(key).is_some_and(|conns| conns.contains(&conn))
    }

    /// Distinct keys.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.keys.len() as u64
    }

    /// Keys with more than one connection, and the connections of those keys.
    #[must_use]
    pub const fn duplicates(&self) -> (u64, u64) {
        (self.duplicate_keys, self.duplicate_connections)
    }
}
