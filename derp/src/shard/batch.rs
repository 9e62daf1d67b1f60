//! Packets on their way to another shard.
//!
//! Does: writes packets for one other shard end to end into one run of bytes, which the shell
//! moves over whole; and delivers the run that came from another.
//! Does not: wait. When the ring to the other shard has no room, packets are lost and counted;
//! before that, `push_back` slows down whom it may.
//!
//! ```text
//! offset  size  field, little endian
//! 0       4     slot        of the receiving connection
//! 4       4     generation  of that slot
//! 8       4     packet_len  top bit: the receiver has to note the source
//! 12      4     slot        of the sending connection
//! 16      4     generation  of that slot
//! 20      1     flow        that the packet waits in
//! 21      32    source      key of the sender
//! 53      n     packet
//! ```

use std::mem;

use super::Shard;
use super::inbound::Sender;
use super::push_back::RingHold;
use super::staging::End;
use crate::counters::Tally;
use crate::drop_reason::PacketKind;
use crate::hash::FlowId;
use crate::id::{ConnId, ShardId};
use crate::key::{KEY_LEN, NodePublic};
use crate::route::Route;
use crate::time::Time;

const HEAD_LEN: usize = 21 + KEY_LEN;

/// Marks a packet whose receiver has to note its source. Packet lengths end far below.
const FIRST: u32 = 1 << 31;

#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    waiting: Tally,
    room: usize,
    /// Those that are held back until the ring has room.
    pub(super) held: RingHold,
}

impl Batch {
    /// Appends a packet, unless the ring has no room for it.
    pub(super) fn push(&mut self, route: Route, sender: &Sender, packet: &[u8]) -> bool {
        if self.bytes.len() + HEAD_LEN + packet.len() > self.room {
            return false;
        }
        let Ok(mut len) = u32::try_from(packet.len()) else { return false };
        if route.first {
            len |= FIRST;
        }
        self.bytes.extend_from_slice(&route.conn.slot.to_le_bytes());
        self.bytes.extend_from_slice(&route.conn.generation.to_le_bytes());
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(&sender.conn.slot.to_le_bytes());
        self.bytes.extend_from_slice(&sender.conn.generation.to_le_bytes());
        self.bytes.push(sender.flow.0);
        self.bytes.extend_from_slice(sender.key.as_bytes());
        self.bytes.extend_from_slice(packet);
        self.waiting.add(packet.len());
        true
    }

    pub(super) const fn waiting(&self) -> Tally {
        self.waiting
    }

    /// Bytes that the ring takes besides those that have gathered for it.
    pub(super) const fn room_left(&self) -> usize {
        self.room.saturating_sub(self.bytes.len())
    }
}

impl Shard {
    /// Says how many bytes the ring to another shard takes before its next [`Shard::take_batch`].
    pub fn set_room(&mut self, to: ShardId, room: usize) {
        if let Some(batch) = self.batches.get_mut(to.index()) {
            batch.room = room;
            self.reconsider_ring(to);
        }
    }

    /// Whether packets have gathered for another shard.
    #[must_use]
    pub fn has_batch(&self, to: ShardId) -> bool {
        self.batches.get(to.index()).is_some_and(|batch| !batch.bytes.is_empty())
    }

    /// Takes what has gathered for another shard, and leaves the empty `spare` in its place.
    #[must_use]
    pub fn take_batch(&mut self, to: ShardId, spare: Vec<u8>) -> Vec<u8> {
        match self.batches.get_mut(to.index()) {
            Some(batch) => {
                batch.waiting = Tally::default();
                mem::replace(&mut batch.bytes, spare)
            }
            None => spare,
        }
    }

    /// Delivers a batch that another shard sent. Its buffer comes back by `poll_spent`.
    pub fn on_batch(&mut self, from: ShardId, batch: Vec<u8>, now: Time) {
        let buffer = self.staging.next_side();
        let mut rest = &batch[..];
        while let Some((entry, later)) = Entry::split(rest, from) {
            rest = later;
            let to =
                ConnId { shard: self.setup.id, slot: entry.slot, generation: entry.generation };
            let route = Route { conn: to, first: entry.first };
            let end = End { buffer, at: batch.len() - rest.len() };
            let kind = PacketKind::of(entry.packet);
            self.deliver(route, &entry.sender, entry.packet, kind, end, now);
        }
        self.staging.keep_side(batch, Some(from));
    }

    /// The next buffer of a batch that is done with, and the shard it came from.
    pub fn poll_spent(&mut self) -> Option<(ShardId, Vec<u8>)> {
        self.spent.pop()
    }
}

/// One packet in a batch.
struct Entry<'a> {
    slot: u32,
    generation: u32,
    first: bool,
    sender: Sender,
    packet: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Splits the first packet off a batch of the shard `from`.
    fn split(bytes: &'a [u8], from: ShardId) -> Option<(Self, &'a [u8])> {
        let (slot, rest) = split_u32(bytes)?;
        let (generation, rest) = split_u32(rest)?;
        let (len, rest) = split_u32(rest)?;
        let (sender_slot, rest) = split_u32(rest)?;
        let (sender_generation, rest) = split_u32(rest)?;
        let (flow, rest) = rest.split_first()?;
        let (key, rest) = rest.split_first_chunk::<KEY_LEN>()?;
        let (packet, rest) = rest.split_at_checked((len & !FIRST) as usize)?;
        let sender = Sender {
            conn: ConnId { shard: from, slot: sender_slot, generation: sender_generation },
            key: NodePublic::from_bytes(*key),
            flow: FlowId(*flow),
        };
        Some((Self { slot, generation, first: len & FIRST != 0, sender, packet }, rest))
    }
}

fn split_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (value, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*value), rest))
}

/// The packets in a batch: how many, and their bytes. For the conservation law of simulations.
#[cfg(any(test, feature = "sim"))]
#[must_use]
pub fn tally(mut batch: &[u8]) -> Tally {
    let mut sum = Tally::default();
    while let Some((entry, rest)) = Entry::split(batch, ShardId(0)) {
        sum.add(entry.packet.len());
        batch = rest;
    }
    sum
}
