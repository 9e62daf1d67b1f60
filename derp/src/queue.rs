//! What waits for one connection: whole packets in two lanes, bounded in bytes, age and delay.
//!
//! Does: takes packets, shares the receiver fairly between their sources, drops what there is no
//! room or no time for, and hands whole frames out, disco first. Counts every packet it loses.
//! Does not: know who the connection is, carry control frames, or slow anybody down; see `shard`.
//!
//! ```text
//! offer --> disco lane             <= 64 KiB, 256 packets ---------+
//!       \                                                          +--> gather: disco up to a
//!        \        +-> flow 0  order kept, delay controlled --+     |    quarter, then data
//!         +-> data+-> ...                                    +-----+
//!                 +-> flow 63    <= queue_bytes together   --+ in turn
//! ```
//!
//! Next on the packet path: the bytes that `gather` appends go to the socket.
//! Spec: docs/protocol/derp.md, DERP-5.3 and DERP-5.5.

mod delay;
mod flows;
mod lane;
mod rate;
mod segments;

use std::time::Duration;

use crate::counters::{Counters, Tally};
use crate::drop_reason::{DropReason, PacketKind};
use crate::hash::FlowId;
use crate::key::NodePublic;
use crate::limits::{
    DISCO_LANE_BYTES, DISCO_LANE_PACKETS, DISCO_SHARE, Limits, MAX_DISCO_LANE_PACKET,
};
use crate::time::Time;

use flows::Flows;
use lane::{Lane, charge};
use rate::Rate;
pub use segments::Pool;

/// A packet that is to wait.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// Key of its sender.
    pub source: &'a NodePublic,
    /// The flow that its sender's packets wait in.
    pub flow: FlowId,
    /// The packet.
    pub packet: &'a [u8],
    /// When the relay received it.
    pub since: Time,
}

/// Whole frames on their way into one record.
#[derive(Debug)]
pub struct Gathering<'a> {
    /// Where they are appended.
    pub out: &'a mut Vec<u8>,
    /// Length that `out` had before the first.
    pub start: usize,
    /// Most bytes that are appended, unless the first frame alone is longer.
    pub limit: usize,
}

impl Gathering<'_> {
    /// Bytes gathered so far.
    pub(crate) const fn len(&self) -> usize {
        self.out.len() - self.start
    }

    /// Whether a frame of `len` bytes may be appended.
    pub(crate) const fn fits(&self, len: usize) -> bool {
        self.len() == 0 || self.len() + len <= self.limit
    }
}

/// Packets waiting for one connection.
#[derive(Debug, Default)]
pub struct Queue {
    disco: Lane,
    data: Flows,
    rate: Rate,
}

/// A point in a queue: reached when what one source had queued before it has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    flow: FlowId,
    since: Time,
}

impl Mark {
    /// The point behind everything of `flow` that was received by `since`.
    #[must_use]
    pub const fn new(flow: FlowId, since: Time) -> Self {
        Self { flow, since }
    }
}

impl Queue {
    /// Whether a packet of this kind and length waits in the disco lane.
    #[must_use]
    pub const fn takes_for_disco(kind: PacketKind, len: usize) -> bool {
        matches!(kind, PacketKind::Disco) && len <= MAX_DISCO_LANE_PACKET
    }

    /// Puts a packet behind those of its source that wait, and drops what no longer fits: from
    /// the front of the longest flow.
    ///
    /// Copies the packet once. Allocates only when the pool has no segment to spare.
    pub fn offer(
        &mut self,
        offer: Offer<'_>,
        now: Time,
        limits: &Limits,
        pool: &mut Pool,
        counters: &mut Counters,
    ) {
        let len = offer.packet.len();
        let kind = PacketKind::of(offer.packet);
        let drops = &mut counters.dropped;
        let for_disco = Self::takes_for_disco(kind, len);
        if for_disco {
            let lane = &mut self.disco;
            lane.expire(limits.queue_age, now, pool, drops);
            while lane.is_over(charge(len), DISCO_LANE_BYTES, DISCO_LANE_PACKETS) {
                lane.drop_front(DropReason::QueueHead, pool, drops);
            }
        } else {
            self.data.expire(offer.flow, limits.queue_age, now, pool, drops);
            while !self.data.is_empty() {
                let wanted = self.data.charged() + charge(len);
                let reason = if wanted > limits.queue_bytes {
                    DropReason::QueueHead
                } else if wanted > pool.share(limits) {
                    DropReason::QueueTotal
                } else {
                    break;
                };
                self.data.drop_longest(reason, pool, drops);
            }
        }
        if pool.share(limits) < charge(len) {
            return drops.add(DropReason::QueueTotal, kind, len);
        }
        counters.copied_bytes += len as u64;
        if for_disco {
            self.disco.push(offer, kind, pool);
        } else {
            self.data.push(offer, kind, pool);
        }
    }

    /// Appends whole frames to what is gathered, as many as fit; counts them as sent.
    ///
    /// Disco goes first, but takes at most a quarter of the room while data waits.
    pub fn gather(
        &mut self,
        to: &mut Gathering<'_>,
        limits: &Limits,
        now: Time,
        pool: &mut Pool,
        counters: &mut Counters,
    ) {
        let (before, limit) = (to.len(), to.limit);
        self.disco.expire(limits.queue_age, now, pool, &mut counters.dropped);
        to.limit = limit / DISCO_SHARE;
        self.disco.gather(to, now, pool, counters);
        to.limit = limit;
        self.data.gather(to, limits.queue_age, now, pool, counters);
        // What data left over is free for the disco that its share held back.
        self.disco.gather(to, now, pool, counters);
        self.rate.add(to.len() - before, now);
    }

    /// Drops everything that waits, because the receiver is gone.
    pub fn abandon(&mut self, pool: &mut Pool, counters: &mut Counters) {
        let drops = &mut counters.dropped;
        self.disco.abandon(DropReason::GoneDisconnected, pool, drops);
        self.data.abandon(DropReason::GoneDisconnected, pool, drops);
    }

    /// Forgets what the last connection was like, and gives back the memory that a long queue
    /// grew to.
    fn rest(&mut self) {
        self.disco.rest();
        self.rate = Rate::default();
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.disco.is_empty() && self.data.is_empty()
    }

    /// Packets that wait, and their bytes. Walks all of them.
    #[must_use]
    pub fn waiting(&self) -> Tally {
        let mut sum = self.disco.waiting();
        sum.merge(self.data.waiting());
        sum
    }

    /// What the waiting data packets are charged with, in bytes: never more than `queue_bytes`.
    #[must_use]
    pub const fn charged(&self) -> usize {
        self.data.charged()
    }

    /// Bytes that would leave within `span`, going by the last few milliseconds.
    #[must_use]
    pub fn will_leave(&self, span: Duration, now: Time) -> usize {
        self.rate.within(span, now)
    }

    /// Whether everything that its source had queued at `mark` has left, sent or dropped.
    #[must_use]
    pub fn has_passed(&self, mark: Mark) -> bool {
        let passed = |since: Option<Time>| since.is_none_or(|since| since > mark.since);
        passed(self.disco.oldest()) && passed(self.data.oldest(mark.flow))
    }
}
