//! The line that moves while a run lasts, where a person watches.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::run::Run;

/// Characters in the bar.
const WIDTH: usize = 24;

/// A line on standard error that is written over and over.
#[derive(Clone, Debug)]
pub struct Progress {
    shown: bool,
    /// What it is about.
    title: String,
    /// Where the traffic was at the last look: nanoseconds and bytes.
    last: Arc<(AtomicU64, AtomicU64)>,
}

impl Progress {
    /// Shows progress if standard error is a terminal.
    #[must_use]
    pub fn on_terminal() -> Self {
        Self { shown: io::stderr().is_terminal(), ..Self::silent() }
    }

    /// Shows nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self { shown: false, title: String::new(), last: Arc::default() }
    }

    /// The same under another title.
    #[must_use]
    pub fn titled(&self, title: &str) -> Self {
        Self { shown: self.shown, title: title.to_owned(), last: Arc::default() }
    }

    /// So many clients are in.
    pub fn logins(&self, done: usize, all: usize) {
        self.show(done as f64 / all.max(1) as f64, &format!("{done} of {all} logged in"));
    }

    /// So far a run is.
    pub fn traffic(&self, run: &Run) {
        if !self.shown {
            return;
        }
        let (now, arrived) = (run.now(), run.arrived());
        let (then, before) = (&self.last.0, &self.last.1);
        let nanos = now.saturating_sub(then.swap(now, Ordering::Relaxed)).max(1);
        let bytes = arrived.saturating_sub(before.swap(arrived, Ordering::Relaxed));
        let mbit = bytes as f64 * 8_000.0 / nanos as f64;
        let (seconds, all) = (now as f64 / 1e9, run.end() as f64 / 1e9);
        self.show(seconds / all, &format!("{seconds:.1} of {all:.1} s, {mbit:.0} Mbit/s arrive"));
    }

    /// Takes the line away.
    pub fn clear(&self) {
        self.write("\r\x1b[K");
    }

    fn show(&self, part: f64, text: &str) {
        if self.shown {
            self.write(&format!("\r\x1b[K{} {} {text}", self.title, bar(part)));
        }
    }

    /// Nobody can be told that telling fails.
    fn write(&self, text: &str) {
        if self.shown {
            let mut out = io::stderr().lock();
            drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
        }
    }
}

fn bar(part: f64) -> String {
    let full = (0..WIDTH).filter(|cell| (*cell as f64 + 0.5) / WIDTH as f64 <= part).count();
    format!("[{}{}]", "#".repeat(full), ".".repeat(WIDTH - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_and_never_overflows() {
        for (part, full) in [(-1.0, 0), (0.0, 0), (0.5, 12), (1.0, 24), (7.0, 24), (f64::NAN, 0)] {
            let bar = bar(part);
            assert_eq!(bar.matches('#').count(), full, "{part}");
            assert_eq!(bar.len(), WIDTH + 2);
        }
    }
}
