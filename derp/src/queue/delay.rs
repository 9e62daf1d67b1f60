//! Control of standing delay: CoDel, per flow.
//!
//! Does: says of each packet that is about to leave whether it is to be dropped instead, because
//! its flow has had no short queue for a while. A burst passes; a queue that stands does not.
//! Does not: look at lengths, or drop by itself.
//!
//! Source: RFC 8289, sections 4.2 to 4.4 and 5.

use std::time::Duration;

use crate::limits::{DELAY_INTERVAL, DELAY_TARGET};
use crate::time::Time;

/// Drop intervals are not shortened beyond this many drops in one go: a flow that does not react
/// is bounded by its bytes, and each drop after that would hit what still moves.
const MAX_COUNT: u32 = 256;

/// Intervals after which a flow that had packets dropped counts as any other. Source: RFC 8289,
/// section 5.4.
const RECENT: u32 = 16;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delay {
    /// When delay will have been above the target for a whole interval.
    above_until: Option<Time>,
    dropping: bool,
    /// When the next packet is dropped while packets are, or would have been when that ended.
    next_drop: Time,
    count: u32,
    last_count: u32,
}

impl Delay {
    /// Whether the packet that has waited since `since` is to be dropped now, `last` being
    /// whether nothing waits behind it.
    pub(super) fn drops(&mut self, since: Time, last: bool, now: Time) -> bool {
        let above = self.is_above(since, last, now);
        if !above {
            self.dropping = false;
            return false;
        }
        if !self.dropping {
            self.dropping = true;
            // Begins where it left off, if that is not long ago.
            let since_start = self.count - self.last_count;
            let recent = now.since(self.next_drop) < RECENT * DELAY_INTERVAL;
            self.count = if since_start > 1 && recent { since_start } else { 1 };
            self.last_count = self.count;
            self.next_drop = now + self.spacing();
            return true;
        }
        if now < self.next_drop {
            return false;
        }
        self.count = (self.count + 1).min(MAX_COUNT.max(self.last_count));
        self.next_drop += self.spacing();
        true
    }

    fn is_above(&mut self, since: Time, last: bool, now: Time) -> bool {
        if last || now.since(since) < DELAY_TARGET {
            self.above_until = None;
            return false;
        }
        let until = *self.above_until.get_or_insert(now + DELAY_INTERVAL);
        now >= until
    }

    /// Time between drops: the interval over the square root of their number.
    fn spacing(&self) -> Duration {
        let micros = u64::try_from(DELAY_INTERVAL.as_micros()).unwrap_or(u64::MAX);
        // In sixteenths, since the root of a small number is coarse.
        Duration::from_micros(micros * 16 / u64::from((self.count.max(1) * 256).isqrt()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Packets that waited `wait` each leave one every millisecond for `span`; returns the drops.
    fn run(delay: &mut Delay, start: Time, span: u32, wait: Duration) -> u32 {
        let mut dropped = 0;
        for ms in 0..span {
            let now = start + MS * ms;
            dropped += u32::from(delay.drops(now - wait, false, now));
        }
        dropped
    }

    #[test]
    fn a_burst_shorter_than_the_interval_passes() {
        let mut delay = Delay::default();
        let start = Time::ZERO + Duration::from_secs(1);
        assert_eq!(run(&mut delay, start, 99, 4 * DELAY_TARGET), 0);
        assert_eq!(run(&mut delay, start + MS * 99, 1_000, DELAY_TARGET / 2), 0);
    }

    #[test]
    fn a_queue_that_stands_loses_packets_faster_and_faster() {
        let mut delay = Delay::default();
        let start = Time::ZERO + Duration::from_secs(1);
        let first = run(&mut delay, start, 500, 4 * DELAY_TARGET);
        let second = run(&mut delay, start + MS * 500, 500, 4 * DELAY_TARGET);
        assert!(first >= 4, "{first}");
        assert!(second > first, "{second} after {first}");
    }

    #[test]
    fn the_last_packet_is_never_dropped() {
        let mut delay = Delay::default();
        for ms in 0..1_000 {
            let now = Time::ZERO + Duration::from_secs(1) + MS * ms;
            assert!(!delay.drops(now - 4 * DELAY_TARGET, true, now));
        }
    }
}
