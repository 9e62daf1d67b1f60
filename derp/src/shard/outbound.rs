//! From what waits for one connection to bytes for its socket.
//!
//! Does: gathers whole frames into one contiguous run, control before disco before data, except
//! that a `PeerGone` comes after the packets that were queued before it.
//! Does not: write, or know how much the socket takes; the shell reports that.

use std::mem;

use super::conn::{Conn, Standing};
use super::staging::Staging;
use super::timers::Timer;
use super::{Counters, Shard};
use crate::frame::{self, HEADER_LEN, Kind, PEER_GONE_DISCONNECTED};
use crate::id::ConnId;
use crate::key::KEY_LEN;
use crate::limits::STALL_TIMEOUT;
use crate::queue::Gathering;
use crate::time::Time;

/// Bytes of a `PeerGone` frame: header, key, reason.
const PEER_GONE_LEN: usize = HEADER_LEN + KEY_LEN + 1;

impl Shard {
    /// Appends whole frames that wait for the connection to `out`, up to `limit` bytes or one
    /// frame; returns whether more waits. `arena` is that of this turn's [`Shard::on_bytes`].
    ///
    /// To be called only when everything gathered before has been written: what is in `out` is
    /// counted as sent.
    pub fn transmit(
        &mut self,
        name: ConnId,
        arena: &[u8],
        out: &mut Vec<u8>,
        limit: usize,
        now: Time,
    ) -> bool {
        let Some(conn) = self.slots.get_mut(name) else { return false };
        conn.ready = false;
        if conn.standing == Standing::Joining {
            return false;
        }
        let mut to = Gathering { start: out.len(), out, limit };
        to.out.append(&mut mem::take(&mut conn.server_info));
        conn.gather_control(&mut to, &mut self.counters);
        if let Some(queue) = conn.queue.as_mut() {
            queue.gather(&mut to, &self.setup.limits, now, &mut self.pool, &mut self.counters);
        }
        if conn.queue.as_ref().is_some_and(|queue| queue.is_empty())
            && let Some(queue) = conn.queue.take()
        {
            self.pool.give_queue(queue);
        }
        // What has just come goes behind what has waited.
        if conn.queue.is_none() {
            conn.gather_staged(&mut to, arena, &mut self.staging, now, &mut self.counters);
        }
        conn.gather_farewells(&mut to, &mut self.counters);
        let more = conn.queue.is_some() || !conn.staged.is_empty() || !conn.farewells.is_empty();
        if conn.push_back.is_some() {
            self.reconsider_push_back(name);
        }
        more
    }

    /// Reports what became of the bytes gathered: whether the socket took any, and whether it
    /// refused some. A connection that refuses and takes nothing for 30 s is closed.
    pub fn on_written(&mut self, name: ConnId, took: bool, blocked: bool, now: Time) {
        let Some(conn) = self.slots.get_mut(name) else { return };
        if !blocked {
            conn.blocked_since = None;
            return;
        }
        if took || conn.blocked_since.is_none() {
            conn.blocked_since = Some(now);
        }
        if !conn.stall_timer {
            conn.stall_timer = true;
            self.timers.insert(now + STALL_TIMEOUT, Timer::Stall(name));
        }
    }
}

impl Conn {
    fn gather_control(&mut self, to: &mut Gathering<'_>, counters: &mut Counters) {
        for pong in mem::take(&mut self.pongs) {
            frame::encode(Kind::Pong, &[&pong], to.out);
            counters.pongs += 1;
        }
        if mem::take(&mut self.keep_alive_due) {
            frame::encode(Kind::KeepAlive, &[], to.out);
            counters.keep_alives += 1;
        }
        self.gather_farewells(to, counters);
    }

    /// Appends packets of this turn, from where they were received: their one copy.
    fn gather_staged(
        &mut self,
        to: &mut Gathering<'_>,
        arena: &[u8],
        staging: &mut Staging,
        now: Time,
        counters: &mut Counters,
    ) {
        while let Some(staged) = staging.first(&self.staged) {
            if !to.fits(staged.wire_len()) {
                return;
            }
            let packet = staging.packet(&staged, arena);
            to.out.extend_from_slice(&frame::recv_head(&staged.source, packet.len()));
            to.out.extend_from_slice(packet);
            counters.copied_bytes += packet.len() as u64;
            counters.sent.add(staged.kind, packet.len());
            counters.sojourn.add(now.since(staging.since()));
            staging.take_first(&mut self.staged);
        }
    }

    /// Appends the `PeerGone`s that no waiting packet has to precede, as many as fit.
    fn gather_farewells(&mut self, to: &mut Gathering<'_>, counters: &mut Counters) {
        // What came this turn may be from the one that left.
        if !self.staged.is_empty() {
            return;
        }
        while let Some(farewell) = self.farewells.front() {
            if !to.fits(PEER_GONE_LEN) {
                return;
            }
            if self.queue.as_ref().is_some_and(|queue| !queue.has_passed(farewell.after)) {
                return;
            }
            frame::encode(Kind::PeerGone, &[farewell.key.as_bytes(), &[farewell.reason]], to.out);
            if farewell.reason == PEER_GONE_DISCONNECTED {
                counters.peer_gone_disconnected += 1;
            } else {
                counters.peer_gone_not_here += 1;
            }
            self.farewells.pop_front();
        }
        self.farewells = std::collections::VecDeque::new();
    }
}
