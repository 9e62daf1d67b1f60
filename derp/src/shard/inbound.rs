//! From the bytes of one connection to actions.
//!
//! Does: finds whole frames, wherever the stream is cut, and carries out what each asks for.
//! Does not: buffer more than one half frame per connection, and that only while it is half.

use std::mem;

use super::conn::{Conn, Standing};
use super::timers::Timer;
use super::{CloseReason, Message, Shard};
use crate::drop_reason::{DropReason, PacketKind};
use crate::frame::{self, Frame, PEER_GONE_NOT_HERE, Reader, Step};
use crate::id::ConnId;
use crate::key::NodePublic;
use crate::limits::{HALF_FRAME_TIMEOUT, MAX_PENDING_PONGS};
use crate::presence::Noted;
use crate::route::Directory;
use crate::session::Action;
use crate::time::Time;

impl Shard {
    /// Takes bytes that the connection's client sent, in stream order.
    ///
    /// Whole frames are read where they are; only the start of a frame whose end is not in
    /// `bytes` is copied. A connection that breaks the protocol is closed: see `poll_closed`.
    pub fn on_bytes(&mut self, name: ConnId, bytes: &[u8], now: Time, directory: &impl Directory) {
        if let Err(reason) = self.take_bytes(name, bytes, now, directory) {
            self.close(name, reason);
        }
        self.settle(directory);
    }

    fn take_bytes(
        &mut self,
        name: ConnId,
        mut bytes: &[u8],
        now: Time,
        directory: &impl Directory,
    ) -> Result<(), CloseReason> {
        let Some(conn) = self.slots.get_mut(name) else { return Ok(()) };
        let skipped = usize::try_from(conn.skip).unwrap_or(usize::MAX).min(bytes.len());
        conn.skip -= skipped as u64;
        bytes = bytes.get(skipped..).unwrap_or_default();
        if !conn.half_frame.is_empty() {
            let mut half = mem::take(&mut conn.half_frame);
            bytes = self.complete(name, &mut half, bytes, now, directory)?;
            if !half.is_empty() {
                if let Some(conn) = self.slots.get_mut(name) {
                    conn.half_frame = half;
                }
                return Ok(());
            }
        }
        while !bytes.is_empty() {
            match frame::decode(bytes, Reader::Server).map_err(|_| CloseReason::BadFrame)? {
                Step::Frame { frame, used } => {
                    self.on_frame(name, frame, now, directory)?;
                    bytes = bytes.get(used..).unwrap_or_default();
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

    /// Completes the half frame from the front of `bytes`; returns what is left of them.
    ///
    /// `half` comes back empty when its frame is done with.
    fn complete<'a>(
        &mut self,
        name: ConnId,
        half: &mut Vec<u8>,
        mut bytes: &'a [u8],
        now: Time,
        directory: &impl Directory,
    ) -> Result<&'a [u8], CloseReason> {
        loop {
            match frame::decode(half, Reader::Server).map_err(|_| CloseReason::BadFrame)? {
                Step::Frame { frame, .. } => {
                    self.on_frame(name, frame, now, directory)?;
                    half.clear();
                    return Ok(bytes);
                }
                Step::Skip { discard } => {
                    let already = half.len() as u64;
                    half.clear();
                    self.count_skipped(discard);
                    self.speak(name);
                    return Ok(self.drop_front(name, discard - already, bytes));
                }
                Step::NeedMore { .. } if bytes.is_empty() => return Ok(bytes),
                Step::NeedMore { until } => {
                    let missing = until.saturating_sub(half.len()).min(bytes.len());
                    let (now_whole, later) = bytes.split_at(missing);
                    half.reserve_exact(until.saturating_sub(half.len()));
                    half.extend_from_slice(now_whole);
                    bytes = later;
                }
            }
        }
    }

    fn keep_half(&mut self, name: ConnId, bytes: &[u8], until: usize, now: Time) {
        let Some(conn) = self.slots.get_mut(name) else { return };
        conn.half_frame.reserve_exact(until);
        conn.half_frame.extend_from_slice(bytes);
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
        now: Time,
        directory: &impl Directory,
    ) -> Result<(), CloseReason> {
        self.speak(name);
        let Some(conn) = self.slots.get_mut(name) else { return Ok(()) };
        match conn.session.on_frame(frame, now) {
            Action::Relay { destination, packet } => {
                self.relay(name, destination, packet, now, directory);
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
        now: Time,
        directory: &impl Directory,
    ) {
        let kind = PacketKind::of(packet);
        self.counters.received.add(kind, packet.len());
        let Some(sender) = self.slots.get_mut(from) else { return };
        let source = sender.key;
        let route = sender.destinations.get_or_insert_default().route(&destination, directory);
        match route {
            Some(route) if route.conn.shard == self.setup.id => {
                self.deliver(route.conn, &source, packet, route.first, now);
            }
            Some(route) => {
                let to = self.batches.get_mut(route.conn.shard.index());
                if !to.is_some_and(|batch| batch.push(route, &source, packet)) {
                    self.counters.dropped.add(DropReason::ShardRing, kind, packet.len());
                }
            }
            None => {
                self.counters.dropped.add(DropReason::UnknownDest, kind, packet.len());
                if kind == PacketKind::Disco && sender.session.may_tell_not_here(now) {
                    Self::tell_not_here(sender, destination);
                    Self::mark_ready(from.slot, sender, &mut self.ready);
                }
            }
        }
    }

    fn tell_not_here(sender: &mut Conn, destination: NodePublic) {
        // The limiter bounds these far below what farewells may pile up to.
        let _: Noted = sender.bid_farewell(destination, PEER_GONE_NOT_HERE);
    }

    /// Queues a packet for a connection of this shard.
    pub(super) fn deliver(
        &mut self,
        to: ConnId,
        source: &NodePublic,
        packet: &[u8],
        first: bool,
        now: Time,
    ) {
        let Some(receiver) = self.slots.get_mut(to) else {
            let kind = PacketKind::of(packet);
            self.counters.dropped.add(DropReason::GoneDisconnected, kind, packet.len());
            return;
        };
        if first && self.presence.note(*source, to.slot, &mut receiver.sources) == Noted::Overflow {
            self.counters.sources_overflowed += 1;
        }
        let (pool, drops) = (&mut self.pool, &mut self.counters.dropped);
        let queue = receiver.queue.get_or_insert_with(|| pool.take_queue());
        queue.offer(source, packet, now, &self.setup.limits, pool, drops);
        Self::mark_ready(to.slot, receiver, &mut self.ready);
    }
}
