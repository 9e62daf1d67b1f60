//! What is done again after an interruption. Included by the tests of other packages, too.

use std::io::{ErrorKind, Result};

/// Does it until it is not interrupted: Linux ends a socket's wait with a time limit that way when
/// the whole process was stopped for a moment, by a debugger or for a snapshot of the machine.
pub(crate) fn uninterrupted<T>(mut act: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match act() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
