//! From what waits for one connection to bytes for its socket.
//!
//! Does: gathers whole frames into one contiguous run, control before disco before data, except
//! that a `PeerGone` comes after the packets that were queued before it.
//! Does not: write, or know how much the socket takes; the shell reports that.

use std::mem;

use super::conn::{Conn, Standing};
use super::timers::Timer;
use super::{Counters, Shard};
use crate::frame::{self, Kind, PEER_GONE_DISCONNECTED};
use crate::id::ConnId;
use crate::limits::STALL_TIMEOUT;
use crate::time::Time;

impl Shard {
    /// Appends what waits for the connection to `out`, up to `budget` bytes in all or one frame;
    /// returns whether more waits.
    ///
    /// To be called only when everything gathered before has been written: what is in `out` is
    /// counted as sent.
    pub fn transmit(&mut self, name: ConnId, out: &mut Vec<u8>, budget: usize, now: Time) -> bool {
        let Some(conn) = self.slots.get_mut(name) else { return false };
        conn.ready = false;
        if conn.standing == Standing::Joining {
            return false;
        }
        out.append(&mut mem::take(&mut conn.server_info));
        conn.gather_control(out, budget, &mut self.counters);
        if let Some(queue) = conn.queue.as_mut() {
            let (pool, drops) = (&mut self.pool, &mut self.counters.dropped);
            let sent = queue.gather(out, budget, &self.setup.limits, now, pool, drops);
            self.counters.sent.merge(sent);
            conn.gather_farewells(out, budget, &mut self.counters);
        }
        if conn.queue.as_ref().is_some_and(|queue| queue.is_empty())
            && let Some(queue) = conn.queue.take()
        {
            self.pool.give_queue(queue);
        }
        conn.queue.is_some() || !conn.farewells.is_empty()
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
    fn gather_control(&mut self, out: &mut Vec<u8>, budget: usize, counters: &mut Counters) {
        for pong in mem::take(&mut self.pongs) {
            frame::encode(Kind::Pong, &[&pong], out);
            counters.pongs += 1;
        }
        if mem::take(&mut self.keep_alive_due) {
            frame::encode(Kind::KeepAlive, &[], out);
            counters.keep_alives += 1;
        }
        self.gather_farewells(out, budget, counters);
    }

    /// Appends the `PeerGone`s that no waiting packet has to precede, within the budget.
    fn gather_farewells(&mut self, out: &mut Vec<u8>, budget: usize, counters: &mut Counters) {
        while let Some(farewell) = self.farewells.front() {
            if out.len() >= budget {
                return;
            }
            if self.queue.as_ref().is_some_and(|queue| !queue.has_passed(farewell.after)) {
                return;
            }
            frame::encode(Kind::PeerGone, &[farewell.key.as_bytes(), &[farewell.reason]], out);
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
