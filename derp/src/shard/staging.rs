//! Packets of the turn that is under way, where they were received.
//!
//! Does: remembers where each packet lies, for whom it is, and in which order they came, so that
//! a receiver whose socket has room gets them with one copy, from there into its record.
//! Does not: hold the bytes that were read: they stay in the shell's arena until the turn ends.
//! What is left then is copied into the receivers' queues.
//!
//! ```text
//! arena   [ read from socket 1 | read from socket 2 | ... ]   the shell's, valid for one turn
//! sides   [ frame that was cut ] [ batch of another shard ]   ours, kept for one turn
//! ```

use std::mem;

use super::inbound::Sender;
use crate::counters::Tally;
use crate::drop_reason::PacketKind;
use crate::frame::RECV_HEAD_LEN;
use crate::hash::FlowId;
use crate::id::{ConnId, ShardId};
use crate::key::NodePublic;
use crate::time::Time;

/// Buffers for frames that were cut, kept for the next one: 16 of at most 64 KiB.
const KEPT_SPARES: usize = 16;

/// Longest buffer worth keeping, in bytes.
const MAX_SPARE: usize = 64 * 1024;

/// Which buffer a packet lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Buffer {
    /// The shell's.
    Arena,
    /// One of ours, by its place in the list.
    Side(u32),
}

/// Where a frame ends, and with it the packet in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    pub(super) buffer: Buffer,
    pub(super) at: usize,
}

/// One packet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Staged {
    pub(super) to: ConnId,
    pub(super) source: NodePublic,
    pub(super) flow: FlowId,
    pub(super) kind: PacketKind,
    buffer: Buffer,
    start: u32,
    len: u32,
    /// The next packet for the same receiver.
    next: Option<u32>,
    /// It has left already.
    pub(super) taken: bool,
}

impl Staged {
    /// A packet of `len` bytes that ends at `end`.
    pub(super) fn new(to: ConnId, sender: &Sender, kind: PacketKind, end: End, len: usize) -> Self {
        Self {
            to,
            source: sender.key,
            flow: sender.flow,
            kind,
            buffer: end.buffer,
            start: to_u32(end.at - len),
            len: to_u32(len),
            next: None,
            taken: false,
        }
    }

    /// Bytes of the frame that it becomes.
    pub(super) const fn wire_len(&self) -> usize {
        RECV_HEAD_LEN + self.len as usize
    }
}

/// The packets of one receiver, from the first that has not left to the last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chain {
    ends: Option<(u32, u32)>,
    /// Bytes of the frames in the chain.
    pub(super) bytes: usize,
}

impl Chain {
    pub(super) const fn is_empty(&self) -> bool {
        self.ends.is_none()
    }
}

#[derive(Debug, Default)]
pub(super) struct Staging {
    list: Vec<Staged>,
    sides: Vec<Side>,
    spares: Vec<Vec<u8>>,
    /// When the turn's first packet was received.
    since: Time,
    waiting: Tally,
}

#[derive(Debug)]
struct Side {
    bytes: Vec<u8>,
    /// The shard whose batch it is.
    from: Option<ShardId>,
}

impl Staging {
    /// Puts a packet behind those for the same receiver.
    pub(super) fn push(&mut self, chain: &mut Chain, staged: Staged, now: Time) {
        if self.list.is_empty() {
            self.since = now;
        }
        let place = to_u32(self.list.len());
        chain.bytes += staged.wire_len();
        self.waiting.add(staged.len as usize);
        self.list.push(staged);
        chain.ends = match chain.ends {
            None => Some((place, place)),
            Some((first, last)) => {
                if let Some(last) = self.list.get_mut(last as usize) {
                    last.next = Some(place);
                }
                Some((first, place))
            }
        };
    }

    /// The first packet of a chain.
    pub(super) fn first(&self, chain: &Chain) -> Option<Staged> {
        let (first, _) = chain.ends?;
        self.list.get(first as usize).copied()
    }

    /// Takes the first packet off a chain.
    pub(super) fn take_first(&mut self, chain: &mut Chain) {
        let Some((first, last)) = chain.ends else { return };
        let Some(staged) = self.list.get_mut(first as usize) else { return };
        staged.taken = true;
        chain.bytes -= staged.wire_len();
        self.waiting.packets -= 1;
        self.waiting.bytes -= u64::from(staged.len);
        chain.ends = staged.next.filter(|_| first != last).map(|next| (next, last));
    }

    /// The bytes of a packet.
    pub(super) fn packet<'a>(&'a self, staged: &Staged, arena: &'a [u8]) -> &'a [u8] {
        let bytes = match staged.buffer {
            Buffer::Arena => arena,
            Buffer::Side(place) => {
                self.sides.get(place as usize).map_or(&[][..], |side| &side.bytes)
            }
        };
        let start = staged.start as usize;
        bytes.get(start..start + staged.len as usize).unwrap_or_default()
    }

    /// The place that the next buffer of ours will have.
    pub(super) fn next_side(&self) -> Buffer {
        Buffer::Side(to_u32(self.sides.len()))
    }

    /// Keeps a buffer until the turn ends.
    pub(super) fn keep_side(&mut self, bytes: Vec<u8>, from: Option<ShardId>) {
        self.sides.push(Side { bytes, from });
    }

    /// An empty buffer for a frame of `len` bytes.
    pub(super) fn spare(&mut self, len: usize) -> Vec<u8> {
        let mut spare = self.spares.pop().unwrap_or_default();
        spare.reserve_exact(len);
        spare
    }

    /// When the turn's first packet was received.
    pub(super) const fn since(&self) -> Time {
        self.since
    }

    /// The packet at `place` of the turn, or `None` behind the last.
    pub(super) fn at(&self, place: usize) -> Option<Staged> {
        self.list.get(place).copied()
    }

    /// Packets that have not left, and their bytes.
    pub(super) const fn waiting(&self) -> Tally {
        self.waiting
    }

    /// Ends the turn: nothing refers to the arena any more. Passes on the batches of other shards.
    pub(super) fn clear(&mut self, mut batch: impl FnMut(ShardId, Vec<u8>)) {
        self.list.clear();
        self.waiting = Tally::default();
        for side in mem::take(&mut self.sides) {
            match side.from {
                Some(from) => batch(from, side.bytes),
                None => {
                    let mut bytes = side.bytes;
                    if self.spares.len() < KEPT_SPARES && bytes.capacity() <= MAX_SPARE {
                        bytes.clear();
                        self.spares.push(bytes);
                    }
                }
            }
        }
    }
}

/// Buffers are far shorter than 4 GiB, and turns have far fewer packets.
fn to_u32(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
