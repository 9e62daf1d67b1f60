//! How much of its time a packet thread works.

use std::time::{Duration, Instant};

/// Time over which the busy share of a shard is averaged.
const BUSY_WINDOW: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct Busy {
    window_since: Instant,
    working_since: Instant,
    worked: Duration,
}

impl Busy {
    pub(super) const fn new(now: Instant) -> Self {
        Self { window_since: now, working_since: now, worked: Duration::ZERO }
    }

    pub(super) fn pause(&mut self) {
        self.worked += self.working_since.elapsed();
    }

    pub(super) fn resume(&mut self) {
        self.working_since = Instant::now();
    }

    /// The share of the window that has just ended, in thousandths, or `None` within a window.
    pub(super) fn share(&mut self) -> Option<u64> {
        let window = self.working_since.duration_since(self.window_since);
        if window < BUSY_WINDOW {
            return None;
        }
        let share = self.worked.as_micros() * 1_000 / window.as_micros().max(1);
        self.window_since = self.working_since;
        self.worked = Duration::ZERO;
        Some(u64::try_from(share).unwrap_or(1_000))
    }
}
