//! From the core to a socket.

use std::io;

use derp::frame::MAX_PACKET_LEN;
use derp::id::ConnId;

use super::Thread;
use crate::shard::link::{Broken, Link, RECORD_ROOM};

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
        let mut more = true;
        for _ in 0..WRITES_PER_TURN {
            if written.blocked {
                self.core.on_written(conn, written.took, true, self.now);
                return Ok(false);
            }
            let (arena, now) = (self.arena.bytes(), self.now);
            let core = &mut self.core;
            let most = socket.write_budget();
            more = self
                .writer
                .gather(&mut socket.link, most, |out, limit| {
                    core.transmit(conn, arena, out, limit, now)
                })
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
        Ok(!written.blocked && more)
    }
}

impl Writer {
    /// Fills the buffer with records for one write, `most` bytes or a little more; returns whether
    /// more waits.
    ///
    /// `transmit` appends whole frames, up to the given number of bytes or one.
    fn gather(
        &mut self,
        link: &mut Link,
        most: usize,
        mut transmit: impl FnMut(&mut Vec<u8>, usize) -> bool,
    ) -> Result<bool, Broken> {
        self.out.clear();
        loop {
            let record = link.record_len().min(PLAIN_RUN);
            let start = self.out.len();
            let at = link.begin_record(&mut self.out);
            let more = transmit(&mut self.out, record.min(most));
            if self.out.len() - at > link.record_len() {
                self.split_last(link, start, at)?;
            } else {
                link.finish_record(&mut self.out, at)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::Transport;
    use crate::tls::record::pair::{Pair, Suite, give};

    /// A frame of a packet of 1,400 bytes.
    const FRAME: usize = 1_437;

    /// Gathers `frames` frames of `len` bytes for one write; returns the records' lengths and what
    /// the client reads from them.
    fn write(suite: Suite, frames: usize, len: usize) -> (Vec<usize>, Vec<u8>) {
        let Pair { mut client, server } = Pair::new(suite);
        let mut link = Link::from(Transport::tls(server, true).unwrap());
        let mut writer = Writer::default();
        let mut left = frames;
        let transmit = |out: &mut Vec<u8>, limit: usize| {
            let start = out.len();
            while left > 0 && (out.len() == start || out.len() - start + len <= limit) {
                out.extend(std::iter::repeat_n(b'a', len));
                left -= 1;
            }
            left > 0
        };
        assert!(!writer.gather(&mut link, usize::MAX, transmit).unwrap());
        let (mut records, mut rest) = (Vec::new(), &writer.out[..]);
        while let [_, _, _, high, low, ..] = *rest {
            let record = usize::from(u16::from_be_bytes([high, low]));
            records.push(record);
            rest = &rest[5 + record..];
        }
        (records, give(&mut client, &writer.out).unwrap())
    }

    /// DERP-5.12, fault-D21: what waits goes out in few records, each as full as whole frames allow.
    #[test]
    fn a_backlog_is_written_in_full_records() {
        for suite in Suite::ALL {
            let (records, read) = write(suite, 44, FRAME);
            assert_eq!((records.len(), read.len()), (4, 44 * FRAME), "{suite:?}");
            assert!(records.iter().all(|len| (11 * FRAME..16 * 1024 + 256).contains(len)));
        }
    }

    /// DERP-5.12: one frame is one record, and one that is longer than a record is cut into
    /// several.
    #[test]
    fn a_single_frame_is_a_record_and_a_long_one_is_cut() {
        for suite in Suite::ALL {
            assert_eq!(write(suite, 1, FRAME).0.len(), 1, "{suite:?}");
            let (records, read) = write(suite, 2, 65_573);
            assert_eq!((records.len(), read.len()), (10, 2 * 65_573), "{suite:?}");
        }
    }
}
