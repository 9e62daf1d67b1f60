//! Where the last event was some time ago, for an outlet that stays behind another bridge's.
//!
//! Does: keeps marks of the last event, with the moment of each by a clock that never goes back, and
//! tells which of them is old enough. Does not: look at when an event says that it happened; the
//! clock that wrote it may be ahead, or behind, or another bridge's.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Marks in the time that an outlet stays behind: it is behind by a tenth more at most.
const MARKS: u32 = 10;

/// The marks, the oldest first: no more than [`MARKS`] and two.
#[derive(Debug)]
pub(super) struct Trail {
    behind: Duration,
    marks: VecDeque<(Instant, String)>,
}

impl Trail {
    pub(super) const fn new(behind: Duration) -> Self {
        Self { behind, marks: VecDeque::new() }
    }

    /// Whether it is time to look for the last event.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let between = self.behind / MARKS;
        self.marks.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= between)
    }

    /// Marks that `id` was the last event, by a look that had ended at `now`.
    pub(super) fn mark(&mut self, now: Instant, id: String) {
        self.marks.push_back((now, id));
    }

    /// The last event as it was long enough ago; `None` where that is not known, or no news.
    pub(super) fn reached(&mut self, now: Instant) -> Option<String> {
        let mut reached = None;
        while let Some((_, id)) =
            self.marks.pop_front_if(|(at, _)| now.saturating_duration_since(*at) >= self.behind)
        {
            reached = Some(id);
        }
        reached
    }

    /// Forgets everything, where nobody is followed any more.
    pub(super) fn clear(&mut self) {
        self.marks.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_passed_when_it_has_been_there_for_long_enough() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut trail = Trail::new(Duration::from_secs(100));
        let mut most = 0;
        for second in 0..=205 {
            if trail.is_due(at(second)) {
                trail.mark(at(second), format!("{second:03}"));
            }
            most = most.max(trail.marks.len());
            let reached = trail.reached(at(second));
            let wanted =
                (second >= 100 && second % 10 == 0).then(|| format!("{:03}", second - 100));
            assert_eq!(reached, wanted, "at {second}");
        }
        assert_eq!(most, MARKS as usize + 1);
        trail.clear();
        assert_eq!(trail.reached(at(1_000)), None);
        assert!(trail.is_due(at(1_000)));
    }

    /// A process that was stopped, or a store that did not answer: what is old is reached at once.
    #[test]
    fn the_newest_mark_that_is_old_enough_counts() {
        let start = Instant::now();
        let mut trail = Trail::new(Duration::from_secs(100));
        for second in [0, 10, 20] {
            trail.mark(start + Duration::from_secs(second), second.to_string());
        }
        assert_eq!(trail.reached(start + Duration::from_secs(115)), Some("10".to_owned()));
        assert_eq!(trail.reached(start + Duration::from_secs(119)), None);
    }
}
