//! How fast a queue empties.
//!
//! Does: averages what left it over windows of a few milliseconds.
//! Does not: say why; an idle receiver and a blocked one look alike.

use std::time::Duration;

use crate::time::Time;

/// Time over which what leaves is averaged: a few writes of a busy receiver, and a fraction of
/// the time that a sender may be held back.
const WINDOW: Duration = Duration::from_millis(5);

/// Least time that is taken for one write, when a window has only begun.
const LEAST: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    since: Time,
    bytes: u64,
    /// Bytes per second of the last whole window.
    settled: u64,
}

impl Rate {
    /// Notes that `len` bytes leave now.
    pub(super) fn add(&mut self, len: usize, now: Time) {
        if now.since(self.since) >= WINDOW {
            self.settled = self.current(now);
            self.since = now;
            self.bytes = 0;
        }
        self.bytes += len as u64;
    }

    /// Bytes that leave within `span` at this rate.
    pub(super) fn within(&self, span: Duration, now: Time) -> usize {
        // A window that lasts is a receiver that takes little now, whatever it took before.
        let rate = if now.since(self.since) < 2 * WINDOW {
            self.settled.max(self.current(now))
        } else {
            self.current(now)
        };
        let bytes = u128::from(rate) * span.as_micros() / 1_000_000;
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Bytes per second of the window that has begun.
    fn current(&self, now: Time) -> u64 {
        let span = now.since(self.since).max(LEAST);
        let rate = u128::from(self.bytes) * 1_000_000 / span.as_micros().max(1);
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_flow_is_foretold_and_a_blocked_one_soon_is_not() {
        let mut rate = Rate::default();
        let mut now = Time::ZERO;
        for _ in 0..100 {
            now += Duration::from_millis(1);
            rate.add(1_000, now);
        }
        let foretold = rate.within(Duration::from_millis(20), now);
        assert!((16_000..=24_000).contains(&foretold), "{foretold}");

        now += Duration::from_millis(100);
        assert!(rate.within(Duration::from_millis(20), now) < 2_000);
    }
}
