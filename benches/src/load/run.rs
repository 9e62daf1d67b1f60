//! The time line of one run, which all threads share.
//!
//! ```text
//! 0          starts[1]           starts[2]         end        end + drain
//! | warm-up  | phase 1           | phase 2         | nothing is sent, what comes is counted
//! ```
//!
//! Does: tells the time in nanoseconds since the start, and which phase a time belongs to; ends
//! the run early when asked. Does not: sleep, or count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::quantity::nanos;

/// Longest wait for packets on their way after the last was sent.
const MAX_DRAIN: Duration = Duration::from_secs(10);

/// The time line, and what has been seen so far.
#[derive(Debug)]
pub struct Run {
    epoch: Instant,
    /// When each phase starts, the first at 0.
    starts: Vec<u64>,
    /// When the last one ends.
    end: AtomicU64,
    /// Bytes of payload that have arrived, for the progress line.
    arrived: AtomicU64,
}

impl Run {
    /// A run whose phases last so long, from `epoch` on.
    #[must_use]
    pub fn new(epoch: Instant, phases: &[Duration]) -> Self {
        let mut starts = Vec::new();
        let mut end = 0_u64;
        for phase in phases {
            starts.push(end);
            end = end.saturating_add(nanos(*phase));
        }
        Self { epoch, starts, end: AtomicU64::new(end), arrived: AtomicU64::new(0) }
    }

    /// Nanoseconds since the start; 0 before it.
    #[must_use]
    pub fn now(&self) -> u64 {
        nanos(self.epoch.elapsed())
    }

    /// When the phase with this index starts.
    #[must_use]
    pub fn start(&self, phase: usize) -> u64 {
        self.starts.get(phase).copied().unwrap_or(u64::MAX)
    }

    /// When the last phase ends.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }

    /// When the phase with this index ends.
    #[must_use]
    pub fn end_of(&self, phase: usize) -> u64 {
        self.starts.get(phase + 1).copied().unwrap_or(u64::MAX).min(self.end())
    }

    /// How many phases there are.
    #[must_use]
    pub const fn phases(&self) -> usize {
        self.starts.len()
    }

    /// The phase that `time` is in; the last, after the end.
    #[must_use]
    pub fn phase_at(&self, time: u64) -> usize {
        self.starts.iter().rposition(|start| *start <= time).unwrap_or_default()
    }

    /// Ends the last phase now, if it has not ended.
    pub fn stop(&self) {
        self.end.fetch_min(self.now(), Ordering::Relaxed);
    }

    /// When nothing more is waited for.
    #[must_use]
    pub fn last_call(&self) -> u64 {
        self.end().saturating_add(nanos(MAX_DRAIN))
    }

    /// Takes note of payload that has arrived.
    pub fn add_arrived(&self, bytes: u64) {
        self.arrived.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of payload that have arrived since the start.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_one_phase() {
        let phases = [Duration::from_nanos(10), Duration::from_nanos(20)];
        let run = Run::new(Instant::now(), &phases);
        let found: Vec<usize> = [0, 9, 10, 29, 30, 99].map(|time| run.phase_at(time)).into();
        assert_eq!(found, [0, 0, 1, 1, 1, 1]);
        assert_eq!((run.end_of(0), run.end_of(1), run.end()), (10, 30, 30));
    }

    #[test]
    fn a_run_can_be_cut_and_not_prolonged() {
        let run = Run::new(Instant::now(), &[Duration::from_secs(3_600)]);
        run.stop();
        let end = run.end();
        assert!(end < 3_600_000_000_000);
        run.stop();
        assert_eq!(run.end(), end);
    }
}
