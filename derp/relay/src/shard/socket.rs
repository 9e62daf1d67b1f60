//! One connection's socket, as its shard holds it.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use derp::id::ConnId;
use mio::net::TcpStream;

use super::link::Link;
use crate::door::limits::Permit;

/// Bytes of the first write, and of the one after some were refused: one record, since what a
/// socket refuses is kept, and a stalled receiver shall hold little.
const FIRST_WRITE: usize = 16 * 1024;

/// Most bytes of one write: half of `TCP_NOTSENT_LOWAT`.
const MAX_WRITE: usize = 64 * 1024;

/// Socket, TLS state and what neither side of them has taken yet.
pub(super) struct Socket {
    pub(super) conn: ConnId,
    pub(super) link: Link,
    stream: TcpStream,
    /// Received start of a record that is not whole. Less than one record.
    pub(super) unopened: Vec<u8>,
    /// Sealed, and refused by the socket from `refused_from` on. At most one write.
    refused: Vec<u8>,
    refused_from: usize,
    /// Bytes of the next write: more and more, until the socket refuses some.
    write_budget: usize,
    /// The kernel has reported bytes that were not all read.
    pub(super) readable: bool,
    /// The kernel has reported that the peer sends nothing more after what is there.
    ending: bool,
    /// On the list of those to be read from.
    pub(super) listed: bool,
    writable: bool,
    /// Counts the connection as not logged in, until its `ServerInfo` is written.
    pub(super) permit: Option<Permit>,
}

/// What came of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// The socket took at least one byte.
    pub(super) took: bool,
    /// The socket refused some.
    pub(super) blocked: bool,
}

impl Socket {
    pub(super) fn new(
        conn: ConnId,
        stream: TcpStream,
        link: Link,
        unopened: Vec<u8>,
        permit: Permit,
    ) -> Self {
        Self {
            conn,
            link,
            stream,
            unopened,
            refused: Vec::new(),
            refused_from: 0,
            write_budget: FIRST_WRITE,
            readable: false,
            ending: false,
            listed: false,
            writable: true,
            permit: Some(permit),
        }
    }

    /// Takes note that the kernel reports room.
    pub(super) const fn set_writable(&mut self) {
        self.writable = true;
    }

    /// Takes note that the kernel reports bytes, or their end.
    pub(super) const fn set_readable(&mut self, ending: bool) {
        self.readable = true;
        self.ending |= ending;
    }

    /// Whether bytes from before have to go first.
    pub(super) const fn is_blocked(&self) -> bool {
        !self.refused.is_empty()
    }

    /// Reads once into `buffer`; `None` when there is nothing, zero bytes when nothing will come.
    ///
    /// A read that leaves room in `buffer` has emptied the socket: the next bytes are a new event.
    /// The end is none, if it was reported together with the bytes before it.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match self.stream.read(buffer) {
                Ok(len) => {
                    self.readable = len == buffer.len() || self.ending;
                    return Ok(Some(len));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps the start of a record until the rest of it has come.
    pub(super) fn keep_unopened(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            // An idle connection holds no buffer.
            self.unopened = Vec::new();
        } else {
            self.unopened.clear();
            self.unopened.extend_from_slice(bytes);
        }
    }

    /// Bytes of memory held for what waits on either side.
    pub(super) const fn held(&self) -> usize {
        self.unopened.capacity() + self.refused.capacity()
    }

    /// Bytes that are worth making ready for the next write.
    pub(super) const fn write_budget(&self) -> usize {
        self.write_budget
    }

    /// Writes what was refused before; must be done before [`Socket::write`].
    pub(super) fn write_refused(&mut self) -> io::Result<Written> {
        if !self.is_blocked() {
            return Ok(Written { took: false, blocked: false });
        }
        let refused = std::mem::take(&mut self.refused);
        let len = self.write_some(refused.get(self.refused_from..).unwrap_or_default())?;
        self.refused_from += len;
        if self.refused_from < refused.len() {
            self.refused = refused;
        } else {
            self.refused_from = 0;
        }
        Ok(Written { took: len > 0, blocked: self.is_blocked() })
    }

    /// Writes `bytes`, and keeps what the socket refuses.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<Written> {
        let len = if self.is_blocked() { 0 } else { self.write_some(bytes)? };
        let rest = bytes.get(len..).unwrap_or_default();
        if rest.is_empty() {
            self.write_budget = (self.write_budget * 2).min(MAX_WRITE);
        } else {
            self.write_budget = FIRST_WRITE;
            self.refused.reserve_exact(rest.len());
            self.refused.extend_from_slice(rest);
        }
        Ok(Written { took: len > 0, blocked: self.is_blocked() })
    }

    /// Writes a goodbye if the socket takes it at once, and ends the sending side.
    pub(super) fn finish(mut self) {
        let mut goodbye = Vec::new();
        self.link.close(&mut goodbye);
        if !self.is_blocked() && !goodbye.is_empty() {
            // The connection ends either way.
            drop(self.write_some(&goodbye));
        }
        drop(self.stream.shutdown(Shutdown::Write));
    }

    fn write_some(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.writable {
            return Ok(0);
        }
        loop {
            match self.stream.write(bytes) {
                Ok(0) if !bytes.is_empty() => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => {
                    // What is left over, the kernel will report room for.
                    self.writable = len == bytes.len();
                    return Ok(len);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writable = false;
                    return Ok(0);
                }
                Err(error) => return Err(error),
            }
        }
    }
}
