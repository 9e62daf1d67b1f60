//! One lane of a queue: whole frames in the order they came.
//!
//! Does: keeps the frames' bytes in wire form, end to end, beside a short note per frame.
//! Does not: choose a lane or know of the others.

use std::collections::VecDeque;
use std::time::Duration;

use super::segments::{Pool, Segments};
use super::{Gathering, Offer};
use crate::counters::{Counters, Drops, Tally};
use crate::drop_reason::{DropReason, PacketKind};
use crate::frame::{self, RECV_HEAD_LEN};
use crate::limits::PACKET_OVERHEAD;
use crate::time::Time;

/// Notes for which an empty lane keeps room: 4 KiB.
const KEPT_NOTES: usize = 256;

/// What a waiting packet of `packet_len` bytes is charged with: its frame and its note.
pub(super) const fn charge(packet_len: usize) -> usize {
    RECV_HEAD_LEN + packet_len + PACKET_OVERHEAD
}

/// The note of one frame.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Time,
    packet_len: u32,
    kind: PacketKind,
}

impl Waiting {
    const fn packet_len(self) -> usize {
        self.packet_len as usize
    }

    const fn wire_len(self) -> usize {
        RECV_HEAD_LEN + self.packet_len()
    }
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    bytes: Segments,
    packets: VecDeque<Waiting>,
}

impl Lane {
    /// Puts one frame at the end.
    pub(super) fn push(&mut self, offer: Offer<'_>, kind: PacketKind, pool: &mut Pool) {
        // A frame that `frame::decode` let through has at most 65,536 bytes of packet.
        let packet_len = u32::try_from(offer.packet.len()).unwrap_or(u32::MAX);
        self.bytes.push(&frame::recv_head(offer.source, offer.packet.len()), pool);
        self.bytes.push(offer.packet, pool);
        self.packets.push_back(Waiting { since: offer.since, packet_len, kind });
    }

    /// Whether `arriving` more bytes of charge would be more than the lane may hold.
    pub(super) fn is_over(&self, arriving: usize, bytes: usize, packets: usize) -> bool {
        !self.is_empty() && (self.charged() + arriving > bytes || self.packets.len() >= packets)
    }

    /// Drops from the front what has waited for longer than `age`.
    pub(super) fn expire(&mut self, age: Duration, now: Time, pool: &mut Pool, drops: &mut Drops) {
        while self.oldest().is_some_and(|since| now.since(since) > age) {
            self.drop_front(DropReason::QueueAge, pool, drops);
        }
    }

    /// Drops everything.
    pub(super) fn abandon(&mut self, reason: DropReason, pool: &mut Pool, drops: &mut Drops) {
        while !self.packets.is_empty() {
            self.drop_front(reason, pool, drops);
        }
    }

    /// Moves whole frames from the front, as many as fit.
    pub(super) fn gather(
        &mut self,
        to: &mut Gathering<'_>,
        now: Time,
        pool: &mut Pool,
        counters: &mut Counters,
    ) {
        while self.next_len().is_some_and(|len| to.fits(len)) {
            self.send_front(to.out, now, pool, counters);
        }
    }

    /// Moves the first frame to the end of `out`.
    pub(super) fn send_front(
        &mut self,
        out: &mut Vec<u8>,
        now: Time,
        pool: &mut Pool,
        counters: &mut Counters,
    ) {
        let Some(front) = self.packets.pop_front() else { return };
        self.bytes.pop_into(front.wire_len(), out, pool);
        counters.copied_bytes += u64::from(front.packet_len);
        counters.sent.add(front.kind, front.packet_len());
        counters.sojourn.add(now.since(front.since));
    }

    /// Drops the first frame.
    pub(super) fn drop_front(&mut self, reason: DropReason, pool: &mut Pool, drops: &mut Drops) {
        if let Some(front) = self.packets.pop_front() {
            self.bytes.skip(front.wire_len(), pool);
            drops.add(reason, front.kind, front.packet_len());
        }
    }

    /// Bytes of the first frame, on the wire.
    pub(super) fn next_len(&self) -> Option<usize> {
        self.packets.front().map(|front| front.wire_len())
    }

    /// When the first frame was received.
    pub(super) fn oldest(&self) -> Option<Time> {
        self.packets.front().map(|front| front.since)
    }

    /// Gives back the memory that many frames took for their notes.
    pub(super) fn rest(&mut self) {
        self.packets.shrink_to(KEPT_NOTES);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Whether exactly one frame waits.
    pub(super) fn is_single(&self) -> bool {
        self.packets.len() == 1
    }

    pub(super) fn waiting(&self) -> Tally {
        let mut sum = Tally::default();
        for packet in &self.packets {
            sum.add(packet.packet_len());
        }
        sum
    }

    /// What the frames are charged with together, in bytes.
    pub(super) fn charged(&self) -> usize {
        self.bytes.len() + self.packets.len() * PACKET_OVERHEAD
    }
}
