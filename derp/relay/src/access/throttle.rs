//! How many log lines strangers can cause, without a clock or a log.
//!
//! Does: lets the first few lines of a minute through, one for each key, and counts the rest, so
//! that one line at the end can say how many there were.
//! Does not: write lines.

use std::collections::BTreeSet;
use std::time::Duration;

use derp::key::NodePublic;

use super::moment::Moment;

/// Time after whose first line the rest is summed up.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// Lines in that time, the sum not counted. Ours: enough for an operator to see who it is, and
/// with the sum at most 16,000 lines a day.
pub(super) const LINES: usize = 10;

#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// When the window began; none while there is nothing to tell.
    since: Option<Moment>,
    told: BTreeSet<NodePublic>,
    untold: u64,
}

impl Throttle {
    /// Takes one event. Returns whether it deserves a line of its own. What [`Self::sum`] has to
    /// say comes before.
    pub(super) fn admit(&mut self, key: &NodePublic, now: Moment) -> bool {
        self.since.get_or_insert(now);
        let admitted = self.told.len() < LINES && self.told.insert(*key);
        self.untold += u64::from(!admitted);
        admitted
    }

    /// How many events had no line in a window that is over by `now`, if any.
    pub(super) fn sum(&mut self, now: Moment) -> Option<u64> {
        let over = self.since.is_some_and(|since| now.since(since) >= WINDOW);
        if over { self.end() } else { None }
    }

    /// The same, with the window over now.
    pub(super) fn end(&mut self) -> Option<u64> {
        let untold = std::mem::take(self).untold;
        (untold > 0).then_some(untold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DERP-8.9: ten thousand events are ten lines and a sum, and the next minute begins anew.
    #[test]
    fn many_events_are_few_lines_and_a_sum() {
        let mut throttle = Throttle::default();
        let start = Moment(Duration::from_secs(1_700_000_000));
        let lines = (0..10_000_u64).filter(|number| throttle.admit(&key(*number), start)).count();
        assert_eq!(lines, LINES);
        assert_eq!(throttle.sum(start.after(WINDOW / 2)), None);
        assert_eq!(throttle.sum(start.after(WINDOW)), Some(10_000 - LINES as u64));
        assert_eq!(throttle.sum(start.after(2 * WINDOW)), None);
        assert!(throttle.admit(&key(1), start.after(2 * WINDOW)));
    }

    /// One node that tries for ever is one line a minute, and a sum.
    #[test]
    fn one_key_has_one_line_in_a_window() {
        let mut throttle = Throttle::default();
        let start = Moment::default();
        let lines = (0..100).filter(|_| throttle.admit(&key(1), start)).count();
        assert_eq!((lines, throttle.end()), (1, Some(99)));
        assert_eq!(throttle.end(), None);
    }

    fn key(number: u64) -> NodePublic {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        NodePublic::from_bytes(bytes)
    }
}
