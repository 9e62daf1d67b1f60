//! Points in time of access decisions, and the clock that they come from.
//!
//! Does: counts from the Unix epoch, since some of them are kept over a restart, and never runs
//! backwards: the system's time is looked at once, at the start.
//! Does not: follow a system clock that is set while the relay runs.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A point in time: how long after the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(pub(super) Duration);

impl Moment {
    /// This moment and `span` later.
    pub(super) const fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }

    /// How long `earlier` is ago; nothing if it is still to come.
    pub(super) const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// The clock of one relay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    started: Instant,
    at: Moment,
}

impl Clock {
    pub(super) fn start() -> Self {
        // A clock before 1970 is as good as one that stands at 1970.
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { started: Instant::now(), at: Moment(at) }
    }

    pub(super) fn now(&self) -> Moment {
        self.at.after(self.started.elapsed())
    }
}
