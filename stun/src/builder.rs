//! Writing messages: header first, then attribute by attribute, into the caller's bytes.
//!
//! Does: pads, and keeps the header's length field right after every step, so that the bytes
//! written so far are a whole message at any time. Does not: allocate, or know a message's form.

use crate::attribute::{self, ALIGNMENT};
use crate::message::{COOKIE, HEADER_LEN, Kind, TransactionId};

/// A message under construction at the front of a borrowed buffer.
///
/// Every method returns `None` if the buffer is too short; what it holds then is of no use.
#[derive(Debug)]
pub(crate) struct Builder<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Builder<'a> {
    /// Writes a header that announces no attributes.
    pub(crate) fn new(kind: Kind, id: TransactionId, out: &'a mut [u8]) -> Option<Self> {
        let mut builder = Self { out, len: 0 };
        builder.put(&kind.wire().to_be_bytes())?;
        builder.put(&[0, 0])?;
        builder.put(&COOKIE.to_be_bytes())?;
        builder.put(&id.bytes())?;
        Some(builder)
    }

    /// Appends one attribute whose value is the concatenation of `parts`.
    pub(crate) fn attribute<'p>(
        mut self,
        kind: attribute::Kind,
        parts: impl Iterator<Item = &'p [u8]> + Clone,
    ) -> Option<Self> {
        let value_len = parts.clone().map(<[u8]>::len).sum::<usize>();
        self.put(&kind.0.to_be_bytes())?;
        self.put(&u16::try_from(value_len).ok()?.to_be_bytes())?;
        for part in parts {
            self.put(part)?;
        }
        let padding = value_len.next_multiple_of(ALIGNMENT) - value_len;
        self.put([0; ALIGNMENT].get(..padding)?)?;
        let announced = u16::try_from(self.len - HEADER_LEN).ok()?;
        self.out.get_mut(2..4)?.copy_from_slice(&announced.to_be_bytes());
        Some(self)
    }

    /// Bytes in the message.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len + bytes.len();
        self.out.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }
}
