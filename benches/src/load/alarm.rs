//! A clock that wakes an event loop to the microsecond; `epoll` itself counts milliseconds.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::run::Run;

/// Shortest wait that is worth a system call; below it the loop only looks and goes on.
pub(super) const SHORTEST: u64 = 3_000;

/// A timer that is an event of a loop.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: OwnedFd,
    /// When it goes off, on the time line of the run.
    due: Cell<u64>,
}

impl Alarm {
    pub(super) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        // Events are edges: each expiry is one, and needs no read.
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self { timer, due: Cell::new(0) })
    }

    /// Goes off once, when the run is at `due` nanoseconds; soon, if it is past that.
    ///
    /// Loops that wake up early for other events ask for the same time again: that costs nothing.
    pub(super) fn set(&self, due: u64, run: &Run) -> io::Result<()> {
        let left = due.saturating_sub(run.now());
        if self.due.replace(due) == due && left > 0 {
            return Ok(());
        }
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let nanos = i64::try_from(left.max(1)).unwrap_or(i64::MAX);
        let value = Timespec { tv_sec: nanos / 1_000_000_000, tv_nsec: nanos % 1_000_000_000 };
        let once = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use mio::{Events, Poll};

    use super::*;

    #[test]
    fn it_goes_off_once_for_each_time_and_not_before() {
        let mut poll = Poll::new().unwrap();
        let alarm = Alarm::new(poll.registry(), Token(7)).unwrap();
        let run = Run::new(Instant::now(), &[]);
        let mut events = Events::with_capacity(4);
        for due in [0, 2_000_000, 4_000_000] {
            for _ in 0..3 {
                alarm.set(due, &run).unwrap();
            }
            poll.poll(&mut events, Some(Duration::from_secs(60))).unwrap();
            assert_eq!(events.iter().count(), 1);
            assert!(run.now() >= due);
        }
    }
}
