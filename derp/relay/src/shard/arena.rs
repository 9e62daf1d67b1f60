//! The bytes that one turn has read.
//!
//! Does: gives each read a place behind the last, so that packets can be passed on from where
//! they were decrypted. Does not: keep anything beyond a turn.
//!
//! ```text
//! | read 1: header | plaintext | tag | read 2: ... | room of the next read |
//!                                                  ^ filled
//! ```

use super::link::MAX_RECORD;

/// Bytes read from one socket at once, so that one sender cannot keep the others waiting.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// Bytes read before what was read is written: a fraction of the second-level cache, from which
/// it is copied into the receivers' records.
const ARENA_BYTES: usize = 256 * 1024;

#[derive(Debug)]
pub(super) struct Arena {
    bytes: Box<[u8]>,
    filled: usize,
}

impl Arena {
    pub(super) fn new() -> Self {
        let room = ARENA_BYTES + MAX_RECORD + READ_BYTES;
        Self { bytes: vec![0; room].into_boxed_slice(), filled: 0 }
    }

    /// Whether another read has to wait until the arena is empty again.
    pub(super) const fn is_full(&self) -> bool {
        self.filled >= ARENA_BYTES
    }

    /// Where the next read goes: `at` is its place in [`Arena::bytes`].
    pub(super) fn room(&mut self) -> (usize, &mut [u8]) {
        (self.filled, self.bytes.get_mut(self.filled..).unwrap_or_default())
    }

    /// Keeps the first `len` bytes of the room.
    pub(super) const fn keep(&mut self, len: usize) {
        self.filled += len;
    }

    pub(super) const fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) const fn clear(&mut self) {
        self.filled = 0;
    }
}
