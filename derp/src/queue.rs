//! What waits for one connection: two lanes of whole packets, bounded in bytes and age.
//!
//! Does: takes packets in the order they come, drops the oldest when a lane is full or a packet
//! too old, and hands whole frames out, disco first. Counts every packet it loses.
//! Does not: know who the connection is, or carry control frames; see `shard`.
//!
//! ```text
//! offer --> disco lane  <= 64 KiB, 256 packets --+
//!       \                                        +--> gather: disco up to a quarter, then data
//!        -> data lane   <= queue_bytes ----------+
//! ```
//!
//! Next on the packet path: the bytes that `gather` appends go to the socket.
//! Spec: docs/protocol/derp.md, DERP-5.3 and DERP-5.5.

mod lane;
mod segments;

use crate::counters::{ByKind, Drops, Tally};
use crate::drop_reason::PacketKind;
use crate::frame;
use crate::key::NodePublic;
use crate::limits::{
    DISCO_LANE_BYTES, DISCO_LANE_PACKETS, DISCO_SHARE, Limits, MAX_DISCO_LANE_PACKET,
};
use crate::time::Time;

use lane::{Bounds, Lane};
pub use segments::Pool;

/// Packets waiting for one connection.
#[derive(Debug, Default)]
pub struct Queue {
    disco: Lane,
    data: Lane,
}

/// A point in both lanes: reached when all that was queued before it has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    disco: u64,
    data: u64,
}

impl Queue {
    /// Puts a packet behind those that wait, and drops from the front what no longer fits.
    ///
    /// Copies `packet` once. Allocates only when the pool has no segment to spare.
    pub fn offer(
        &mut self,
        source: &NodePublic,
        packet: &[u8],
        now: Time,
        limits: &Limits,
        pool: &mut Pool,
        drops: &mut Drops,
    ) {
        let kind = PacketKind::of(packet);
        let head = frame::recv_head(source, packet.len());
        let (lane, bounds) = if kind == PacketKind::Disco && packet.len() <= MAX_DISCO_LANE_PACKET {
            (&mut self.disco, Bounds { bytes: DISCO_LANE_BYTES, packets: DISCO_LANE_PACKETS })
        } else {
            (&mut self.data, Bounds { bytes: limits.queue_bytes, packets: usize::MAX })
        };
        lane.expire(limits.queue_age, now, pool, drops);
        lane.make_room(packet.len(), bounds, pool, drops);
        lane.push(&head, packet, kind, now, pool);
    }

    /// Appends whole frames to `out` until it holds `budget` bytes; returns what it appended.
    ///
    /// At least one frame is appended if one waits and `out` is empty, however small the budget.
    /// Disco goes first, but takes at most a quarter of the budget while data waits.
    pub fn gather(
        &mut self,
        out: &mut Vec<u8>,
        budget: usize,
        limits: &Limits,
        now: Time,
        pool: &mut Pool,
        drops: &mut Drops,
    ) -> ByKind {
        self.disco.expire(limits.queue_age, now, pool, drops);
        self.data.expire(limits.queue_age, now, pool, drops);
        let mut sent = ByKind::default();
        let share = out.len() + budget.saturating_sub(out.len()) / DISCO_SHARE;
        self.disco.pop_into(out, share, pool, &mut sent);
        self.data.pop_into(out, budget, pool, &mut sent);
        // What data left over is free for the disco that its share held back.
        self.disco.pop_into(out, budget, pool, &mut sent);
        sent
    }

    /// Drops everything that waits.
    pub fn abandon(&mut self, pool: &mut Pool, drops: &mut Drops) {
        self.disco.abandon(pool, drops);
        self.data.abandon(pool, drops);
    }

    /// Gives back the memory that a long queue grew to.
    fn rest(&mut self) {
        self.disco.rest();
        self.data.rest();
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.disco.is_empty() && self.data.is_empty()
    }

    /// Packets that wait, and their bytes.
    #[must_use]
    pub fn waiting(&self) -> Tally {
        let mut sum = self.disco.waiting();
        sum.merge(self.data.waiting());
        sum
    }

    /// Memory held for what waits, in bytes, with the slack in its segments.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.disco.held_bytes() + self.data.held_bytes()
    }

    /// The point behind everything that waits now.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { disco: self.disco.pushed(), data: self.data.pushed() }
    }

    /// Whether everything that waited at `mark` has left, sent or dropped.
    #[must_use]
    pub fn has_passed(&self, mark: Mark) -> bool {
        self.disco.popped() >= mark.disco && self.data.popped() >= mark.data
    }
}
