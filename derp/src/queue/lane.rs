//! One lane of a queue: whole frames in the order they came.
//!
//! Does: keeps the frames' bytes in wire form, end to end, beside a short note per frame.
//! Does not: choose a lane or know of the other one.

use std::collections::VecDeque;
use std::time::Duration;

use super::segments::{Pool, Segments};
use crate::counters::{ByKind, Drops, Tally};
use crate::drop_reason::{DropReason, PacketKind};
use crate::frame::RECV_HEAD_LEN;
use crate::limits::PACKET_OVERHEAD;
use crate::time::Time;

/// What a lane may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Bytes of frames, each charged with [`PACKET_OVERHEAD`].
    pub(super) bytes: usize,
    /// Frames.
    pub(super) packets: usize,
}

/// Notes for which an empty lane keeps room: 4 KiB.
const KEPT_NOTES: usize = 256;

/// The note of one frame.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Time,
    packet_len: u32,
    kind: PacketKind,
}

impl Waiting {
    fn packet_len(&self) -> usize {
        self.packet_len as usize
    }

    fn wire_len(&self) -> usize {
        RECV_HEAD_LEN + self.packet_len()
    }
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    bytes: Segments,
    packets: VecDeque<Waiting>,
    popped: u64,
}

impl Lane {
    /// Puts one frame, `head` and `packet`, at the end.
    pub(super) fn push(
        &mut self,
        head: &[u8; RECV_HEAD_LEN],
        packet: &[u8],
        kind: PacketKind,
        now: Time,
        pool: &mut Pool,
    ) {
        // A frame that `frame::decode` let through has at most 65,536 bytes of packet.
        let packet_len = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        self.bytes.push(head, pool);
        self.bytes.push(packet, pool);
        self.packets.push_back(Waiting { since: now, packet_len, kind });
    }

    /// Drops from the front until a packet of `packet_len` bytes fits into `bounds`.
    pub(super) fn make_room(
        &mut self,
        packet_len: usize,
        bounds: Bounds,
        pool: &mut Pool,
        drops: &mut Drops,
    ) {
        let arriving = RECV_HEAD_LEN + packet_len + PACKET_OVERHEAD;
        while !self.packets.is_empty()
            && (self.charged() + arriving > bounds.bytes || self.packets.len() >= bounds.packets)
        {
            self.drop_front(DropReason::QueueHead, pool, drops);
        }
    }

    /// Drops from the front what has waited for longer than `age`.
    pub(super) fn expire(&mut self, age: Duration, now: Time, pool: &mut Pool, drops: &mut Drops) {
        while self.packets.front().is_some_and(|front| now.since(front.since) > age) {
            self.drop_front(DropReason::QueueAge, pool, drops);
        }
    }

    /// Drops everything, because the receiver is gone.
    pub(super) fn abandon(&mut self, pool: &mut Pool, drops: &mut Drops) {
        while !self.packets.is_empty() {
            self.drop_front(DropReason::GoneDisconnected, pool, drops);
        }
    }

    /// Moves whole frames from the front to `out` while it stays within `limit` bytes; the first
    /// into an empty `out` always goes.
    pub(super) fn pop_into(
        &mut self,
        out: &mut Vec<u8>,
        limit: usize,
        pool: &mut Pool,
        sent: &mut ByKind,
    ) {
        while let Some(front) = self.packets.front().copied() {
            if !out.is_empty() && out.len() + front.wire_len() > limit {
                break;
            }
            self.packets.pop_front();
            self.popped += 1;
            self.bytes.pop_into(front.wire_len(), out, pool);
            sent.add(front.kind, front.packet_len());
        }
    }

    fn drop_front(&mut self, reason: DropReason, pool: &mut Pool, drops: &mut Drops) {
        if let Some(front) = self.packets.pop_front() {
            self.popped += 1;
            self.bytes.skip(front.wire_len(), pool);
            drops.add(reason, front.kind, front.packet_len());
        }
    }

    /// Gives back the memory that many frames took for their notes.
    pub(super) fn rest(&mut self) {
        self.packets.shrink_to(KEPT_NOTES);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Frames ever put in.
    pub(super) fn pushed(&self) -> u64 {
        self.popped + self.packets.len() as u64
    }

    /// Frames that ever left, sent or dropped.
    pub(super) const fn popped(&self) -> u64 {
        self.popped
    }

    pub(super) fn waiting(&self) -> Tally {
        let mut sum = Tally::default();
        for packet in &self.packets {
            sum.add(packet.packet_len());
        }
        sum
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.held() + self.packets.capacity() * size_of::<Waiting>()
    }

    fn charged(&self) -> usize {
        self.bytes.len() + self.packets.len() * PACKET_OVERHEAD
    }
}
