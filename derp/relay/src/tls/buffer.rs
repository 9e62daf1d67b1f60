//! The two byte buffers of a TLS connection in its handshake, both bounded.
//!
//! Does: keeps received bytes until they are opened, and sealed bytes until they are sent, each
//! behind an offset that moves; bytes move only when room is needed.
//! Does not: read, write, or know what a record means beyond its length.
//!
//! Used by `tls::handshake`.

/// Most body bytes in a TLS record: 16 KiB and what sealing may add. Source: RFC 5246, 6.2.3.
const MAX_RECORD_BODY_LEN: usize = 16 * 1024 + 2_048;

/// Content type of the records that a TLS client begins with.
const HANDSHAKE: u8 = 0x16;

/// Most received bytes that wait to be opened: one record of the largest kind and the front of
/// the next. A `ClientHello` in fragments has to fit as a whole; real ones are below 2 KiB.
pub(crate) const MAX_CIPHERTEXT_BYTES: usize = 20 * 1024;

/// First size of that buffer: a `ClientHello` with a hybrid key share, or a login.
const FIRST_CIPHERTEXT_BYTES: usize = 4 * 1024;

/// Most sealed bytes that wait to be sent. A flight with a long chain is below 16 KiB.
pub(crate) const MAX_OUTGOING_BYTES: usize = 64 * 1024;

/// Received bytes, not opened yet.
#[derive(Debug, Default)]
pub(crate) struct Ciphertext {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Ciphertext {
    /// What waits to be opened.
    pub(crate) fn unopened(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.end]
    }

    /// Forgets the first `len` bytes of [`Self::unopened`].
    pub(crate) fn discard(&mut self, len: usize) {
        self.start = (self.start + len).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Room to read into, never empty; `None` once [`MAX_CIPHERTEXT_BYTES`] wait.
    pub(crate) fn room(&mut self) -> Option<&mut [u8]> {
        if self.end == self.bytes.len() {
            if self.start > 0 {
                self.bytes.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else if self.bytes.len() < MAX_CIPHERTEXT_BYTES {
                let len =
                    (2 * self.bytes.len()).clamp(FIRST_CIPHERTEXT_BYTES, MAX_CIPHERTEXT_BYTES);
                self.bytes.resize(len, 0);
            } else {
                return None;
            }
        }
        Some(&mut self.bytes[self.end..])
    }

    /// Takes note that `len` bytes were read into [`Self::room`].
    pub(crate) fn received(&mut self, len: usize) {
        self.end = (self.end + len).min(self.bytes.len());
    }

    /// Whether a first record is there, whole, or something that can never become one.
    pub(crate) fn has_record(&mut self) -> bool {
        match *self.unopened() {
            [] => false,
            [kind, ..] if kind != HANDSHAKE => true,
            [_, _, _, high, low, ref body @ ..] => {
                let announced = usize::from(u16::from_be_bytes([high, low]));
                announced > MAX_RECORD_BODY_LEN || body.len() >= announced
            }
            _ => false,
        }
    }

    /// What is left, as a buffer of just that size.
    pub(crate) fn into_unopened(mut self) -> Vec<u8> {
        self.unopened().to_vec()
    }
}

/// Sealed bytes, not sent yet.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    /// What waits to be sent.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Takes note that the first `len` bytes of [`Self::unsent`] went out.
    pub(crate) fn sent(&mut self, len: usize) {
        self.sent = (self.sent + len).min(self.bytes.len());
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        }
    }

    /// Appends what `write` puts into the buffer that it is given.
    ///
    /// `write` answers how many bytes it wrote, or how large the buffer has to be. `None` if
    /// that would make more than [`MAX_OUTGOING_BYTES`] wait.
    pub(crate) fn append(&mut self, mut write: impl FnMut(&mut [u8]) -> Written) -> Option<()> {
        let old_len = self.bytes.len();
        loop {
            match write(&mut self.bytes[old_len..]) {
                Written::Bytes(len) => {
                    self.bytes.truncate(old_len + len);
                    return Some(());
                }
                Written::Needs(len) if old_len - self.sent + len <= MAX_OUTGOING_BYTES => {
                    self.bytes.resize(old_len + len, 0);
                }
                Written::Needs(_) | Written::Nothing => {
                    self.bytes.truncate(old_len);
                    return None;
                }
            }
        }
    }
}

/// How writing into a buffer went.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Written {
    /// This many bytes are written.
    Bytes(usize),
    /// The buffer has to have this many bytes.
    Needs(usize),
    /// There will never be anything.
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ciphertext_keeps_order_while_it_moves() {
        let mut ciphertext = Ciphertext::default();
        let (mut written, mut read) = (0_u32, 0_u32);

        for round in 0..200 {
            while let Some(room) = ciphertext.room() {
                let len = room.len().min(4 * (1 + round % 700));
                let len = len - len % 4;
                if len == 0 {
                    break;
                }
                for word in room[..len].chunks_exact_mut(4) {
                    word.copy_from_slice(&written.to_be_bytes());
                    written += 1;
                }
                ciphertext.received(len);
            }
            let words = ciphertext.unopened().len() / 4 / (1 + round % 3);
            for word in ciphertext.unopened()[..4 * words].chunks_exact(4) {
                assert_eq!(word, read.to_be_bytes());
                read += 1;
            }
            ciphertext.discard(4 * words);
        }

        assert!(read > 100_000);
    }

    #[test]
    fn ciphertext_has_a_largest_size() {
        let mut ciphertext = Ciphertext::default();
        let mut total = 0;

        while let Some(room) = ciphertext.room() {
            let len = room.len();
            ciphertext.received(len);
            total += len;
        }

        assert_eq!(total, MAX_CIPHERTEXT_BYTES);
        ciphertext.discard(1);
        assert_eq!(ciphertext.room().unwrap().len(), 1);
    }

    #[test]
    fn a_record_is_there_with_its_last_byte() {
        let record = [&[HANDSHAKE, 3, 1, 0, 3], &b"abc"[..]].concat();
        for len in 0..=record.len() {
            assert_eq!(holding(&record[..len]).has_record(), len == record.len(), "{len}");
        }
    }

    #[test]
    fn what_can_never_become_a_record_is_not_waited_for() {
        assert!(holding(b"G").has_record());
        assert!(holding(&[HANDSHAKE, 3, 1, 0xff, 0xff]).has_record());
    }

    #[test]
    fn outgoing_has_a_largest_size() {
        let mut outgoing = Outgoing::default();
        let fill = |len| move |out: &mut [u8]| write(out, len);

        outgoing.append(fill(MAX_OUTGOING_BYTES - 10)).unwrap();
        assert!(outgoing.append(fill(11)).is_none());
        outgoing.append(fill(10)).unwrap();

        outgoing.sent(20);
        assert_eq!(outgoing.unsent().len(), MAX_OUTGOING_BYTES - 20);
        outgoing.append(fill(20)).unwrap();
        outgoing.sent(MAX_OUTGOING_BYTES);
        assert!(outgoing.unsent().is_empty());
    }

    fn holding(bytes: &[u8]) -> Ciphertext {
        let mut ciphertext = Ciphertext::default();
        ciphertext.room().unwrap()[..bytes.len()].copy_from_slice(bytes);
        ciphertext.received(bytes.len());
        ciphertext
    }

    fn write(out: &mut [u8], len: usize) -> Written {
        if out.len() < len { Written::Needs(len) } else { Written::Bytes(len) }
    }
}
