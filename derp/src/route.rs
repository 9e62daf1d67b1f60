//! From a destination key to a connection.
//!
//! Does: asks the relay's directory, and remembers the answer per sender for as long as nothing
//! changed for any key that the directory knew.
//! Does not: hold the directory; shards share it, and only the shell may share.
//!
//! Next on the packet path: `queue`, here or on another shard.

use crate::id::ConnId;
use crate::key::NodePublic;

/// Who is reachable where, shared by all shards of a relay. Written by the owner of each key,
/// read on a miss of a sender's own memory.
pub trait Directory {
    /// Changes whenever an entry is replaced or removed; answers from before are then void.
    fn version(&self) -> u64;

    /// The active connection of `key`.
    fn find(&self, key: &NodePublic) -> Option<ConnId>;

    /// Makes `conn` the active connection of `key`; `None` removes the key.
    fn publish(&self, key: &NodePublic, conn: Option<ConnId>);
}

/// Destinations that one sender remembers. A node talks to few peers at a time; a subnet router
/// with more shares places, and pays a directory look-up for what collides.
const PLACES: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Remembered {
    key: NodePublic,
    conn: ConnId,
    version: u64,
}

/// One sender's memory of where its destinations are.
#[derive(Clone, Debug)]
pub struct Destinations {
    places: [Option<Remembered>; PLACES],
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The connection that takes it.
    pub conn: ConnId,
    /// Whether this sender had not sent to that connection before, as far as it remembers: the
    /// receiver then has to note its source.
    pub first: bool,
}

impl Default for Destinations {
    fn default() -> Self {
        Self { places: [None; PLACES] }
    }
}

impl Destinations {
    /// Where packets for `key` go now, or `None` if it is not connected.
    ///
    /// One comparison when the sender remembers; one look-up in `directory` when not.
    pub fn route(&mut self, key: &NodePublic, directory: &impl Directory) -> Option<Route> {
        let version = directory.version();
        // Keys are uniform: any byte serves as a place.
        let [first_byte, ..] = *key.as_bytes();
        let place = self.places.get_mut(usize::from(first_byte) % PLACES)?;
        if let Some(known) = place
            && known.version == version
            && known.key == *key
        {
            return Some(Route { conn: known.conn, first: false });
        }
        let conn = directory.find(key)?;
        let first = place.is_none_or(|known| known.key != *key || known.conn != conn);
        *place = Some(Remembered { key: *key, conn, version });
        Some(Route { conn, first })
    }
}
