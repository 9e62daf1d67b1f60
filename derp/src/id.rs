//! Names of shards and of the connections that live on them.

/// One of the relay's packet threads, counted from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// Position in a list with one entry per shard.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One connection, for as long as it lives.
///
/// A slot is used again after its connection ended; the generation then differs, so that an old
/// name finds nobody rather than somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// Where the connection lives, all its life.
    pub shard: ShardId,
    /// Its place on that shard.
    pub slot: u32,
    /// How often the place was used before.
    pub generation: u32,
}
