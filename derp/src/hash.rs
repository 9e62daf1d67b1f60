//! Hash maps keyed by node keys, seeded from outside.
//!
//! Keys are chosen by clients, so the seed must be secret in production; in a simulation it is
//! fixed, and every run takes the same course.

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;

use crate::key::NodePublic;

/// Secret from which hash functions are made; 64 random bits from the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

/// Flows that the sources of one receiver are sorted into. Ours: enough that two of a handful
/// seldom share one, few enough that walking them costs nothing.
pub const FLOWS: u64 = 64;

/// One of the [`FLOWS`]: whose packets queue behind each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId(pub u8);

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

    /// The flow that packets from `source` wait in, wherever they wait.
    ///
    /// Other bits of the same hash than [`Seed::owner`] takes.
    #[must_use]
    pub fn flow(self, source: &NodePublic) -> FlowId {
        let place = (self.state().hash_one(source) >> 32) % FLOWS;
        FlowId(u8::try_from(place).unwrap_or_default())
    }

    /// The shard, out of `shards`, that owns `key`. The same on every shard of a relay.
    #[must_use]
    pub fn owner(self, key: &NodePublic, shards: u16) -> crate::id::ShardId {
        let place = self.state().hash_one(key) % u64::from(shards.max(1));
        crate::id::ShardId(u16::try_from(place).unwrap_or_default())
    }
}
