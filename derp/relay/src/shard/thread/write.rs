//! From the core to a socket.

use std::io;

use derp::frame::MAX_PACKET_LEN;
use derp::id::ConnId;

use super::Thread;
use crate::shard::link::{Broken, Link, RECORD_ROOM};
use crate::shard::socket::Socket;

/// Bytes gathered for one record without TLS, which needs none.
const PLAIN_RUN: usize = 64 * 1024;

/// Writes to one socket per turn.
const WRITES_PER_TURN: usize = 4;

/// The buffer that records are made in, one write at a time.
#[derive(Debug, Default)]
pub(super) struct Writer {
    out: Vec<u8>,
    /// A frame that is longer than a record.
    long: Vec<u8>,
}

impl Thread {
    /// Writes what waits for a connection, as far as its socket takes it and its turn lasts.
    pub(super) fn flush(&mut self, conn: ConnId) {
        let Some(socket) = self.socket(conn) else { return };
        let before = socket.held();
        let outcome = self.write(conn);
        if let Some(socket) = self.socket(conn) {
            let now = socket.held();
            self.held = self.held + now - before;
        }
        match outcome {
            Ok(true) => self.unwritten.push(conn),
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(%error, "a connection broke");
                self.end(conn);
            }
        }
    }

    /// Returns whether more waits that the socket would take.
    fn write(&mut self, conn: ConnId) -> io::Result<bool> {
        let Some(Some(socket)) = self.sockets.get_mut(conn.slot as usize) else { return Ok(false) };
        let mut written = socket.write_refused()?;
        for _ in 0..WRITES_PER_TURN {
            if written.blocked {
                self.core.on_written(conn, written.took, true, self.now);
                return Ok(false);
            }
            let (arena, now) = (self.arena.bytes(), self.now);
            let core = &mut self.core;
            let more = self
                .writer
                .gather(socket, |out, limit| core.transmit(conn, arena, out, limit, now))
                .map_err(|Broken| io::Error::other("TLS cannot go on"))?;
            if self.writer.out.is_empty() {
                self.core.on_written(conn, written.took, false, self.now);
                return Ok(false);
            }
            let now_written = socket.write(&self.writer.out)?;
            written.took |= now_written.took;
            written.blocked = now_written.blocked;
            if socket.permit.is_some() && self.core.is_open(conn) {
                socket.permit = None;
            }
            if !more {
                break;
            }
        }
        self.core.on_written(conn, written.took, written.blocked, self.now);
        Ok(!written.blocked && self.core.has_more(conn))
    }
}

impl Writer {
    /// Fills the buffer with records for one write; returns whether more waits.
    ///
    /// `transmit` appends whole frames, up to the given number of bytes or one.
    fn gather(
        &mut self,
        socket: &mut Socket,
        mut transmit: impl FnMut(&mut Vec<u8>, usize) -> bool,
    ) -> Result<bool, Broken> {
        self.out.clear();
        let most = socket.write_budget();
        loop {
            let record = socket.link.record_len().min(PLAIN_RUN);
            let start = self.out.len();
            let at = socket.link.begin_record(&mut self.out);
            let more = transmit(&mut self.out, record.min(most));
            if self.out.len() - at > socket.link.record_len() {
                self.split_last(&mut socket.link, start, at)?;
            } else {
                socket.link.finish_record(&mut self.out, at)?;
            }
            if !more || self.out.len() == start || self.out.len() >= most {
                return Ok(more);
            }
        }
    }

    /// Turns the plaintext from `at` on, whose record began at `start`, into several records.
    fn split_last(&mut self, link: &mut Link, start: usize, at: usize) -> Result<(), Broken> {
        self.long.clear();
        self.long.extend_from_slice(self.out.get(at..).unwrap_or_default());
        self.out.truncate(start);
        self.out.reserve(MAX_PACKET_LEN + 8 * RECORD_ROOM);
        for part in self.long.chunks(link.record_len()) {
            let at = link.begin_record(&mut self.out);
            self.out.extend_from_slice(part);
            link.finish_record(&mut self.out, at)?;
        }
        Ok(())
    }
}
