//! How the talk with the bridge went, in numbers. The metrics read them.

use std::sync::atomic::{AtomicBool, Ordering};

use super::wire::Event;
use crate::counter::{Counter, CounterBy, label};

label! {
    /// What a bridge has told.
    Kind {
        /// A node may no longer be connected.
        Close = "close",
        /// All connected nodes are to be asked about.
        VerifyChanged = "verify_changed",
        /// Limits, which this release does not know what to do with.
        Limits = "limits",
        /// Something that this release does not know.
        Unknown = "unknown",
    }
}

impl From<Event> for Kind {
    fn from(event: Event) -> Self {
        match event {
            Event::Close(_) => Self::Close,
            Event::VerifyChanged => Self::VerifyChanged,
            Event::Limits => Self::Limits,
            Event::Unknown => Self::Unknown,
        }
    }
}

/// Every number about the bridge.
#[derive(Debug, Default)]
pub struct Counters {
    /// Events, by kind.
    pub events: CounterBy<Kind>,
    /// Times that the stream of events was opened after it had been open.
    pub reconnects: Counter,
    /// Requests and streams that failed.
    pub failures: Counter,
    connected: AtomicBool,
}

impl Counters {
    /// Whether the stream of events is open.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    pub(super) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }
}
