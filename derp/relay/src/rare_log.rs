//! Log lines that come once a minute at most.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Least time between two log lines that say the same.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Lets a log line through once in [`LOG_INTERVAL`].
#[derive(Debug, Default)]
pub(crate) struct RareLog {
    last: Mutex<Option<Instant>>,
}

impl RareLog {
    /// Whether a line may be written now; it is then taken as written.
    pub(crate) fn is_due(&self) -> bool {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let due = last.is_none_or(|last| now.duration_since(last) >= LOG_INTERVAL);
        if due {
            *last = Some(now);
        }
        due
    }
}
