//! Stopping threads that wait in `poll`: one descriptor that all of them watch.
//!
//! Once signalled it stays readable, so a thread that is busy finds it at its next turn and a
//! thread that waits wakes at once; nobody reads it, so one signal reaches all.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{Errno, retry_on_intr, write};

/// The stop signal of one server.
#[derive(Debug)]
pub(crate) struct Wake(OwnedFd);

impl Wake {
    /// Makes one that is not signalled.
    ///
    /// # Errors
    ///
    /// Those of `eventfd`: the process or the system has no descriptor left.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Tells every thread to stop. Further calls change nothing.
    ///
    /// # Errors
    ///
    /// Those of `write`, of which none is known to happen.
    pub(crate) fn signal(&self) -> io::Result<()> {
        match retry_on_intr(|| write(&self.0, &1_u64.to_ne_bytes())) {
            // Full means signalled.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
