//! What a shard does by the clock.

use super::{CloseReason, Shard};
use crate::id::ConnId;
use crate::limits::{HALF_FRAME_TIMEOUT, STALL_TIMEOUT};
use crate::route::Directory;
use crate::time::Time;

/// A timer of one connection. Fires at its due time or finds that it has lost its purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Time to say that the relay is still here.
    KeepAlive(ConnId),
    /// Time for a half frame to be whole.
    HalfFrame(ConnId),
    /// Time for a blocked socket to have taken something.
    Stall(ConnId),
    /// Time for a login to be over.
    Login(ConnId),
}

impl Shard {
    /// When [`Shard::on_tick`] wants to be called next.
    #[must_use]
    pub const fn next_tick(&self) -> Time {
        self.timers.next_tick()
    }

    /// Lets time pass up to `now`. Early calls change nothing.
    pub fn on_tick(&mut self, now: Time, directory: &impl Directory) {
        loop {
            let tick = self.timers.next_tick();
            let Some(timers) = self.timers.fire(now) else { break };
            for timer in timers {
                match timer {
                    Timer::KeepAlive(name) => self.keep_alive(name, tick),
                    Timer::HalfFrame(name) => self.check_half_frame(name, tick),
                    Timer::Stall(name) => self.check_stall(name, tick),
                    Timer::Login(name) => self.check_login(name),
                }
            }
        }
        self.settle(now, directory);
    }

    fn keep_alive(&mut self, name: ConnId, tick: Time) {
        let Some(conn) = self.slots.get_mut(name) else { return };
        conn.keep_alive_due = true;
        self.timers.insert(tick + conn.keep_alive, Timer::KeepAlive(name));
        Self::mark_ready(name.slot, conn, &mut self.ready);
    }

    fn check_login(&mut self, name: ConnId) {
        if self.slots.get(name).is_some_and(|conn| !conn.is_open()) {
            self.close(name, CloseReason::LoginTimeout);
        }
    }

    fn check_half_frame(&mut self, name: ConnId, tick: Time) {
        let Some(conn) = self.slots.get_mut(name) else { return };
        let due = conn.half_frame_since + HALF_FRAME_TIMEOUT;
        if conn.half_frame.is_empty() {
            conn.half_frame_timer = false;
        } else if due > tick {
            self.timers.insert(due, Timer::HalfFrame(name));
        } else {
            self.close(name, CloseReason::HalfFrame);
        }
    }

    fn check_stall(&mut self, name: ConnId, tick: Time) {
        let Some(conn) = self.slots.get_mut(name) else { return };
        match conn.blocked_since {
            None => conn.stall_timer = false,
            Some(since) if since + STALL_TIMEOUT > tick => {
                self.timers.insert(since + STALL_TIMEOUT, Timer::Stall(name));
            }
            Some(_) => self.close(name, CloseReason::Stalled),
        }
    }
}
