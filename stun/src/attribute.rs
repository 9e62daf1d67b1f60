//! STUN attributes: kind, length and value, one after the other.
//!
//! Does: walks them without looking into a value, and stops at the first that does not fit.
//! Does not: know which attributes a message may have, or in which order.
//!
//! ```text
//! offset  size  field
//! 0       2     kind    u16, below 0x8000 the receiver must understand it
//! 2       2     len     u16, bytes in the value without its padding
//! 4       len   value
//! 4+len   0-3   padding up to a multiple of four; its bytes may have any value
//! ```
//!
//! Next on the packet path: `binding`. Spec: docs/protocol/stun.md, section 1.

/// Bytes in front of each value.
pub const HEADER_LEN: usize = 4;

/// Values are padded to a multiple of this many bytes.
pub(crate) const ALIGNMENT: usize = 4;

/// What an attribute is, by its wire value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind(pub u16);

impl Kind {
    /// Address of the client, in plain.
    pub const MAPPED_ADDRESS: Self = Self(0x0001);
    /// User of a credential mechanism.
    pub const USERNAME: Self = Self(0x0006);
    /// HMAC-SHA1 over what is in front of it.
    pub const MESSAGE_INTEGRITY: Self = Self(0x0008);
    /// Why a request failed.
    pub const ERROR_CODE: Self = Self(0x0009);
    /// Which attributes of a request the server did not understand.
    pub const UNKNOWN_ATTRIBUTES: Self = Self(0x000a);
    /// Realm of a long-term credential.
    pub const REALM: Self = Self(0x0014);
    /// Nonce of a long-term credential.
    pub const NONCE: Self = Self(0x0015);
    /// HMAC-SHA256 over what is in front of it.
    pub const MESSAGE_INTEGRITY_SHA256: Self = Self(0x001c);
    /// Chosen algorithm of a long-term credential.
    pub const PASSWORD_ALGORITHM: Self = Self(0x001d);
    /// Hash in place of [`Self::USERNAME`].
    pub const USERHASH: Self = Self(0x001e);
    /// Address of the client, masked against routers that rewrite addresses in payloads.
    pub const XOR_MAPPED_ADDRESS: Self = Self(0x0020);
    /// The same under a number that old servers used before it was assigned.
    pub const XOR_MAPPED_ADDRESS_OLD: Self = Self(0x8020);
    /// Name of the sender's program.
    pub const SOFTWARE: Self = Self(0x8022);
    /// CRC-32 over the message, see `fingerprint`.
    pub const FINGERPRINT: Self = Self(0x8028);

    /// Whether a receiver that does not know this kind must refuse the message.
    #[must_use]
    pub const fn is_required(self) -> bool {
        self.0 < 0x8000
    }
}

/// One attribute, borrowed from its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// What it is.
    pub kind: Kind,
    /// Value without the padding.
    pub value: &'a [u8],
    /// Where its four header bytes start, counted from the start of the message.
    pub offset: usize,
}

/// An attribute that does not fit in the bytes that are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the attribute at byte {offset} does not fit in its message")]
pub struct DecodeError {
    /// Where it starts, counted from the start of the message.
    pub offset: usize,
}

/// The attributes of one message, in wire order.
///
/// Yields one error at most, and nothing after it. O(1) per step, no allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Attributes<'a> {
    /// `bytes` holds whole attributes; its first byte is byte `offset` of the message.
    pub(crate) const fn new(bytes: &'a [u8], offset: usize) -> Self {
        Self { rest: bytes, offset }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let offset = self.offset;
        let Some((attribute, rest)) = split_first(self.rest, offset) else {
            self.rest = &[];
            return Some(Err(DecodeError { offset }));
        };
        self.offset += self.rest.len() - rest.len();
        self.rest = rest;
        Some(Ok(attribute))
    }
}

/// Takes one attribute and its padding off the front of `bytes`.
fn split_first(bytes: &[u8], offset: usize) -> Option<(Attribute<'_>, &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>()?;
    let [k0, k1, l0, l1] = *header;
    let len = usize::from(u16::from_be_bytes([l0, l1]));
    let (padded, rest) = rest.split_at_checked(len.next_multiple_of(ALIGNMENT))?;
    let value = padded.get(..len)?;
    Some((Attribute { kind: Kind(u16::from_be_bytes([k0, k1])), value, offset }, rest))
}
