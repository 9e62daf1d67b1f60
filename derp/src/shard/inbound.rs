//! From the bytes of one connection to actions.
//!
//! Does: finds whole frames, wherever the stream is cut, and carries out what each asks for.
//! Does not: buffer more than one half frame per connection, and that only while it is half.

use std::mem;
use std::ops::Range;

use super::conn::{Conn, Standing};
use super::staging::{Buffer, Chain, End, Staged};
use super::timers::Timer;
use super::{CloseReason, Message, Shard};
use crate::counters::Counters;
use crate::drop_reason::{DropReason, PacketKind};
use crate::frame::{self, Frame, PEER_GONE_NOT_HERE, Reader, Step};
use crate::hash::FlowId;
use crate::id::ConnId;
use crate::key::NodePublic;
use crate::limits::{HALF_FRAME_TIMEOUT, Limits, MAX_PENDING_PONGS};
use crate::presence::Noted;
use crate::queue::{Mark, Offer, Pool, Queue};
use crate::route::{Directory, Route};
use crate::session::Action;
use crate::time::Time;

impl Shard {
    /// Takes what the connection's client sent, in stream order: the bytes of `arena` from
    /// `place.start` to `place.end`.
    ///
    /// Whole frames are read where they are, and their packets stay there until the turn ends:
    /// `arena` may grow, but not change, until [`Shard::end_turn`]. Only the start of a frame whose
    /// end has not come is copied. A connection that breaks the protocol is closed: see
    /// `poll_closed`.
    pub fn on_bytes(
        &mut self,
        name: ConnId,
        arena: &[u8],
        place: Range<usize>,
        now: Time,
        directory: &impl Directory,
    ) {
        let bytes = arena.get(place.clone()).unwrap_or_default();
        if let Err(reason) = self.take_bytes(name, bytes, place.end, now, directory) {
            self.close(name, reason);
        }
        self.settle(now, directory);
    }

    /// `bytes` end at `end` in the arena.
    fn take_bytes(
        &mut self,
        name: ConnId,
        mut bytes: &[u8],
        end: usize,
        now: Time,
        directory: &impl Directory,
    ) -> Result<(), CloseReason> {
        let Some(conn) = self.slots.get_mut(name) else { return Ok(()) };
        let skipped = usize::try_from(conn.skip).unwrap_or(usize::MAX).min(bytes.len());
        conn.skip -= skipped as u64;
        bytes = bytes.get(skipped..).unwrap_or_default();
        if !conn.half_frame.is_empty() {
            let mut half = mem::take(&mut conn.half_frame);
            let outcome = self.complete(name, &mut half, bytes, now, directory);
            if let Ok(Completed { whole: false, .. }) = outcome {
                if let Some(conn) = self.slots.get_mut(name) {
                    conn.half_frame = half;
                }
                return Ok(());
            }
            // A packet in it stays there until the turn ends.
            self.staging.keep_side(half, None);
            bytes = outcome?.rest;
        }
        while !bytes.is_empty() {
            match frame::decode(bytes, Reader::Server).map_err(|_| CloseReason::BadFrame)? {
                Step::Frame { frame, used } => {
                    let rest = bytes.get(used..).unwrap_or_default();
                    let end = End { buffer: Buffer::Arena, at: end - rest.len() };
                    self.on_frame(name, frame, end, now, directory)?;
                    bytes = rest;
                }
                Step::Skip { discard } => bytes = self.skip(name, discard, bytes),
                Step::NeedMore { until } => {
                    self.keep_half(name, bytes, until, now);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Completes the half frame from the front of `bytes`.
    fn complete<'a>(
        &mut self,
        name: ConnId,
        half: &mut Vec<u8>,
        mut bytes: &'a [u8],
        now: Time,
        directory: &impl Directory,
    ) -> Result<Completed<'a>, CloseReason> {
        loop {
            match frame::decode(half, Reader::Server).map_err(|_| CloseReason::BadFrame)? {
                Step::Frame { frame, used } => {
                    let end = End { buffer: self.staging.next_side(), at: used };
                    self.on_frame(name, frame, end, now, directory)?;
                    return Ok(Completed { whole: true, rest: bytes });
                }
                Step::Skip { discard } => {
                    let already = half.len() as u64;
                    self.count_skipped(discard);
                    self.speak(name);
                    let rest = self.drop_front(name, discard - already, bytes);
                    return Ok(Completed { whole: true, rest });
                }
                Step::NeedMore { .. } if bytes.is_empty() => {
                    return Ok(Completed { whole: false, rest: bytes });
                }
                Step::NeedMore { until } => {
                    let missing = until.saturating_sub(half.len()).min(bytes.len());
                    let (now_whole, later) = bytes.split_at(missing);
                    half.reserve_exact(until.saturating_sub(half.len()));
                    half.extend_from_slice(now_whole);
                    self.counters.copied_bytes += now_whole.len() as u64;
                    bytes = later;
                }
            }
        }
    }

    fn keep_half(&mut self, name: ConnId, bytes: &[u8], until: usize, now: Time) {
        let Some(conn) = self.slots.get_mut(name) else { return };
        conn.half_frame = self.staging.spare(until);
        conn.half_frame.extend_from_slice(bytes);
        self.counters.copied_bytes += bytes.len() as u64;
        conn.half_frame_since = now;
        if !conn.half_frame_timer {
            conn.half_frame_timer = true;
            self.timers.insert(now + HALF_FRAME_TIMEOUT, Timer::HalfFrame(name));
        }
    }

    /// Skips a frame of `discard` bytes that starts at the front of `bytes`.
    fn skip<'a>(&mut self, name: ConnId, discard: u64, bytes: &'a [u8]) -> &'a [u8] {
        self.count_skipped(discard);
        self.speak(name);
        self.drop_front(name, discard, bytes)
    }

    const fn count_skipped(&mut self, discard: u64) {
        self.counters.unknown_frames += 1;
        self.counters.unknown_frame_bytes += discard;
    }

    /// Drops `discard` bytes, as far as they are here already, and remembers the rest.
    fn drop_front<'a>(&mut self, name: ConnId, discard: u64, bytes: &'a [u8]) -> &'a [u8] {
        let here = usize::try_from(discard).unwrap_or(usize::MAX).min(bytes.len());
        if let Some(conn) = self.slots.get_mut(name) {
            conn.skip = discard - here as u64;
        }
        bytes.get(here..).unwrap_or_default()
    }

    fn on_frame(
        &mut self,
        name: ConnId,
        frame: Frame<'_>,
        end: End,
        now: Time,
        directory: &impl Directory,
    ) -> Result<(), CloseReason> {
        self.speak(name);
        let Some(conn) = self.slots.get_mut(name) else { return Ok(()) };
        match conn.session.on_frame(frame, now) {
            Action::Relay { destination, packet } => {
                self.relay(name, destination, packet, end, now, directory);
            }
            Action::Pong(data) => {
                self.counters.pings += 1;
                if conn.pongs.len() < MAX_PENDING_PONGS {
                    conn.pongs.push(data);
                    Self::mark_ready(name.slot, conn, &mut self.ready);
                } else {
                    self.counters.pings_limited += 1;
                }
            }
            Action::PingLimited => {
                self.counters.pings += 1;
                self.counters.pings_limited += 1;
            }
            Action::Home { home, moved } => self.note_home(home, moved),
            Action::Nothing => {}
            Action::NoMeshRight => return Err(CloseReason::NoMeshRight),
        }
        Ok(())
    }

    /// Any frame of an inactive duplicate makes it the active one (DERP-7.2).
    fn speak(&mut self, name: ConnId) {
        let Some(conn) = self.slots.get_mut(name) else { return };
        if let Standing::Inactive { reported: reported @ false } = &mut conn.standing {
            *reported = true;
            let key = conn.key;
            self.post(self.owner(&key), Message::Spoke { key, conn: name });
        }
    }

    const fn note_home(&mut self, home: bool, moved: bool) {
        let counters = &mut self.counters;
        if home {
            counters.home_connections += 1;
            counters.home_moves_in += moved as u64;
        } else {
            counters.home_connections -= 1;
            counters.home_moves_out += moved as u64;
        }
    }

    fn relay(
        &mut self,
        from: ConnId,
        destination: NodePublic,
        packet: &[u8],
        end: End,
        now: Time,
        directory: &impl Directory,
    ) {
        let kind = PacketKind::of(packet);
        self.counters.received.add(kind, packet.len());
        let Some(conn) = self.slots.get_mut(from) else { return };
        let sender = Sender { conn: from, key: conn.key, flow: conn.flow };
        let route = conn.destinations.get_or_insert_default().route(&destination, directory);
        conn.aim.note(route.map(|route| route.conn), now);
        match route {
            Some(route) if route.conn.shard == self.setup.id => {
                self.deliver(route, &sender, packet, kind, end, now);
            }
            Some(route) => {
                let to = self.batches.get_mut(route.conn.shard.index());
                if to.is_some_and(|batch| batch.push(route, &sender, packet)) {
                    self.counters.copied_bytes += packet.len() as u64;
                } else {
                    self.counters.dropped.add(DropReason::ShardRing, kind, packet.len());
                }
                self.consider_ring(route.conn, from, now);
            }
            None => {
                self.counters.dropped.add(DropReason::UnknownDest, kind, packet.len());
                if kind == PacketKind::Disco && conn.session.may_tell_not_here(now) {
                    // The limiter bounds these far below what farewells may pile up to.
                    let after = Mark::new(self.setup.seed.flow(&destination), now);
                    let _: Noted = conn.bid_farewell(destination, PEER_GONE_NOT_HERE, after);
                    Self::mark_ready(from.slot, conn, &mut self.ready);
                }
            }
        }
    }

    /// Takes a packet for a connection of this shard.
    pub(super) fn deliver(
        &mut self,
        route: Route,
        sender: &Sender,
        packet: &[u8],
        kind: PacketKind,
        end: End,
        now: Time,
    ) {
        let to = route.conn;
        let Some(receiver) = self.slots.get_mut(to) else {
            self.counters.dropped.add(DropReason::GoneDisconnected, kind, packet.len());
            return;
        };
        if route.first
            && self.presence.note(sender.key, to.slot, &mut receiver.sources) == Noted::Overflow
        {
            self.counters.sources_overflowed += 1;
        }
        if Queue::takes_for_disco(kind, packet.len()) {
            // Small and rare, and first in line: copied at once.
            let offer = Offer { source: &sender.key, flow: sender.flow, packet, since: now };
            receiver.offer(offer, now, &self.setup.limits, &mut self.pool, &mut self.counters);
        } else {
            let staged = Staged::new(to, sender, kind, end, packet.len());
            self.staging.push(&mut receiver.staged, staged, now);
        }
        let nearly_full = receiver.is_nearly_full(&self.setup.limits);
        Self::mark_ready(to.slot, receiver, &mut self.ready);
        if nearly_full {
            self.consider_push_back(to, sender.conn, now);
        }
    }

    /// Ends the turn: copies what its receivers' sockets had no room for into their queues, after
    /// which nothing refers to `arena` any more.
    pub fn end_turn(&mut self, arena: &[u8], now: Time) {
        let since = self.staging.since();
        let mut place = 0;
        while let Some(staged) = self.staging.at(place) {
            place += 1;
            if staged.taken {
                continue;
            }
            let packet = self.staging.packet(&staged, arena);
            let Some(receiver) = self.slots.get_mut(staged.to) else {
                let (reason, kind) = (DropReason::GoneDisconnected, staged.kind);
                self.counters.dropped.add(reason, kind, packet.len());
                continue;
            };
            receiver.staged = Chain::default();
            let offer = Offer { source: &staged.source, flow: staged.flow, packet, since };
            receiver.offer(offer, now, &self.setup.limits, &mut self.pool, &mut self.counters);
            if !receiver.farewells.is_empty() {
                Self::mark_ready(staged.to.slot, receiver, &mut self.ready);
            }
        }
        let spent = &mut self.spent;
        self.staging.clear(|from, batch| spent.push((from, batch)));
    }
}

/// What came of completing a frame.
struct Completed<'a> {
    whole: bool,
    /// What comes after it.
    rest: &'a [u8],
}

/// Who sent a packet.
pub(super) struct Sender {
    pub(super) conn: ConnId,
    pub(super) key: NodePublic,
    pub(super) flow: FlowId,
}

impl Conn {
    fn offer(
        &mut self,
        offer: Offer<'_>,
        now: Time,
        limits: &Limits,
        pool: &mut Pool,
        counters: &mut Counters,
    ) {
        let queue = self.queue.get_or_insert_with(|| pool.take_queue());
        queue.offer(offer, now, limits, pool, counters);
        // A packet that found no room at all has left it as empty as it was.
        if queue.is_empty()
            && let Some(queue) = self.queue.take()
        {
            pool.give_queue(queue);
        }
    }
}
