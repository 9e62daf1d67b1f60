//! Hash maps keyed by node keys, seeded from outside.
//!
//! Keys are chosen by clients, so the seed must be secret in production; in a simulation it is
//! fixed, and every run takes the same course.

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use std::collections::{HashMap, HashSet};

use crate::key::NodePublic;

/// Secret from which hash functions are made; 64 random bits from the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

/// A map from node keys.
pub type KeyMap<V> = HashMap<NodePublic, V, SeedableRandomState>;

/// A set of node keys.
pub type KeySet = HashSet<NodePublic, SeedableRandomState>;

impl Seed {
    /// The hash function of this seed.
    #[must_use]
    pub fn state(self) -> SeedableRandomState {
        SeedableRandomState::with_seed(self.0, SharedSeed::global_fixed())
    }

    /// The shard, out of `shards`, that owns `key`. The same on every shard of a relay.
    #[must_use]
    pub fn owner(self, key: &NodePublic, shards: u16) -> crate::id::ShardId {
        use std::hash::BuildHasher;
        let place = self.state().hash_one(key) % u64::from(shards.max(1));
        crate::id::ShardId(u16::try_from(place).unwrap_or_default())
    }
}
