//! From a socket to the core.

use std::ops::Range;

use derp::id::ConnId;

use super::Thread;
use crate::shard::arena::READ_BYTES;
use crate::shard::link::MAX_RECORD;

/// What opening records needs besides, kept from read to read.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Where the plaintext of each record is.
    plain: Vec<Range<usize>>,
    /// What TLS itself has to say.
    answer: Vec<u8>,
}

impl Thread {
    /// Reads from a connection when its turn comes, if there is something to read.
    pub(super) fn read_later(&mut self, conn: ConnId) {
        if let Some(socket) = self.socket(conn)
            && socket.readable
            && !socket.listed
        {
            socket.listed = true;
            self.unread.push(conn);
        }
    }

    /// Reads once from a socket and lets the core have what it says.
    pub(super) fn read(&mut self, conn: ConnId) {
        self.make_room();
        let Some(Some(socket)) = self.sockets.get_mut(conn.slot as usize) else { return };
        if socket.conn != conn {
            return;
        }
        socket.listed = false;
        let allowance = self.core.read_allowance(conn).min(READ_BYTES);
        if allowance == 0 {
            // Held back; it is listed again when it is let go.
            return;
        }
        let (at, room) = self.arena.room();
        let kept = socket.unopened.len();
        if let Some(front) = room.get_mut(..kept) {
            front.copy_from_slice(&socket.unopened);
        }
        let Some(free) = room.get_mut(kept..kept + allowance) else { return };
        let len = match socket.read(free) {
            Ok(Some(0)) => return self.end(conn),
            Ok(Some(len)) => len,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "a connection broke");
                return self.end(conn);
            }
        };
        let Some(received) = room.get_mut(..kept + len) else { return };
        let Reader { plain, answer } = &mut self.reader;
        plain.clear();
        answer.clear();
        let opened = socket.link.open(received, self.now, answer, plain);
        // Also what came before a fault.
        for range in plain.drain(..) {
            let place = at + range.start..at + range.end;
            self.core.on_bytes(conn, self.arena.bytes(), place, self.now, &*self.directory);
        }
        let Ok(opened) = opened else {
            // What came before the fault may be on its way from here.
            self.arena.keep(kept + len);
            return self.end(conn);
        };
        let before = socket.held();
        let (_, room) = self.arena.room();
        socket.keep_unopened(room.get(opened.used..kept + len).unwrap_or_default());
        self.arena.keep(opened.used);
        let broken = !answer.is_empty() && socket.write(answer).is_err();
        self.held = self.held + socket.held() - before;
        if broken || opened.ended || socket.unopened.len() > MAX_RECORD {
            return self.end(conn);
        }
        self.read_later(conn);
    }

    /// Passes on what was read before, if the arena has no room for another read.
    fn make_room(&mut self) {
        if self.arena.is_full() {
            self.empty_arena();
            self.give_to_rings();
        }
    }

    /// Lets the core have bytes that were read elsewhere: what came behind a login.
    pub(super) fn receive_copied(&mut self, conn: ConnId, plaintext: &[u8]) {
        for part in plaintext.chunks(READ_BYTES) {
            self.make_room();
            let (at, room) = self.arena.room();
            if let Some(place) = room.get_mut(..part.len()) {
                place.copy_from_slice(part);
            }
            self.arena.keep(part.len());
            let place = at..at + part.len();
            self.core.on_bytes(conn, self.arena.bytes(), place, self.now, &*self.directory);
        }
    }
}
