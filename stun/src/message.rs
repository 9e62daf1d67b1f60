//! STUN messages: the fixed header in front of the attributes.
//!
//! Does: tells STUN from everything else by the two marks every message has, and splits the
//! header off. Does not: judge the attributes, or hold the announced length against anything;
//! whether that length counts is a matter of the rule (`binding`) or of the client (`response`).
//!
//! ```text
//! offset  size  field
//! 0       2     kind            u16, top two bits zero, see `Kind`
//! 2       2     announced_len   u16, bytes after this header
//! 4       4     cookie          0x2112a442
//! 8       12    transaction id
//! 20      n     attributes      see `attribute`
//! ```
//!
//! Next on the packet path: `attribute`. Spec: docs/protocol/stun.md, section 1.

use crate::attribute::Attributes;

/// Bytes in front of the attributes. Source: STUN-1.1.
pub const HEADER_LEN: usize = 20;

/// Value at offset 4 of every message since RFC 5389. Source: STUN-1.1.
pub const COOKIE: u32 = 0x2112_a442;

/// Bytes in a transaction id. Source: STUN-1.1.
pub const TRANSACTION_ID_LEN: usize = 12;

/// Bits of the kind field that tell STUN from protocols that share its port.
const KIND_MUST_BE_ZERO: u16 = 0xc000;

/// What ties an answer to its request: twelve bytes that the client drew at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TransactionId([u8; TRANSACTION_ID_LEN]);

impl TransactionId {
    /// Takes the bytes as they go on the wire; where they come from is the caller's business.
    #[must_use]
    pub const fn new(bytes: [u8; TRANSACTION_ID_LEN]) -> Self {
        Self(bytes)
    }

    /// Bytes as on the wire.
    #[must_use]
    pub const fn bytes(self) -> [u8; TRANSACTION_ID_LEN] {
        self.0
    }
}

/// Class and method of a message, in the one field that the wire has for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `0001`: a client asks for its address.
    BindingRequest,
    /// `0101`: a server tells it.
    BindingSuccess,
    /// `0111`: a server says why it does not.
    BindingError,
    /// Anything else, by its wire value: indications, TURN.
    Other(u16),
}

impl Kind {
    /// Wire value.
    #[must_use]
    pub const fn wire(self) -> u16 {
        match self {
            Self::BindingRequest => 0x0001,
            Self::BindingSuccess => 0x0101,
            Self::BindingError => 0x0111,
            Self::Other(wire) => wire,
        }
    }

    const fn from_wire(wire: u16) -> Self {
        match wire {
            0x0001 => Self::BindingRequest,
            0x0101 => Self::BindingSuccess,
            0x0111 => Self::BindingError,
            _ => Self::Other(wire),
        }
    }
}

/// Why a datagram is not a STUN message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Fewer bytes than a header has.
    #[error("{len} bytes, a STUN header has {HEADER_LEN}")]
    TooShort {
        /// Length of the datagram, in bytes.
        len: usize,
    },
    /// One of the two top bits is set: RTP, DTLS, TURN channel data or noise.
    #[error("top bits of kind {kind:#06x} are not zero")]
    TopBits {
        /// First two bytes of the datagram.
        kind: u16,
    },
    /// No magic cookie: RFC 3489 or noise.
    #[error("cookie is {cookie:#010x}, not {COOKIE:#010x}")]
    Cookie {
        /// What stands in the cookie's place.
        cookie: u32,
    },
}

/// One message, borrowed from the datagram it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    kind: Kind,
    announced_len: u16,
    transaction_id: TransactionId,
    datagram: &'a [u8],
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads the header of `datagram`, which is everything that one UDP packet carried.
    ///
    /// Nothing is copied but the transaction id. O(1).
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if this is not STUN at all; a server drops it without an answer.
    ///
    /// # Source
    ///
    /// STUN-1.1.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, DecodeError> {
        let Some((header, body)) = datagram.split_first_chunk::<HEADER_LEN>() else {
            return Err(DecodeError::TooShort { len: datagram.len() });
        };
        let [k0, k1, l0, l1, c0, c1, c2, c3, transaction_id @ ..] = *header;
        let kind = u16::from_be_bytes([k0, k1]);
        if kind & KIND_MUST_BE_ZERO != 0 {
            return Err(DecodeError::TopBits { kind });
        }
        let cookie = u32::from_be_bytes([c0, c1, c2, c3]);
        if cookie != COOKIE {
            return Err(DecodeError::Cookie { cookie });
        }
        Ok(Self {
            kind: Kind::from_wire(kind),
            announced_len: u16::from_be_bytes([l0, l1]),
            transaction_id: TransactionId(transaction_id),
            datagram,
            body,
        })
    }

    /// Class and method.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Id that the answer must repeat.
    #[must_use]
    pub const fn transaction_id(&self) -> TransactionId {
        self.transaction_id
    }

    /// Bytes after the header according to the header, which need not be true.
    #[must_use]
    pub const fn announced_len(&self) -> usize {
        self.announced_len as usize
    }

    /// Bytes after the header that really came.
    #[must_use]
    pub const fn body_len(&self) -> usize {
        self.body.len()
    }

    /// The whole datagram, header included.
    #[must_use]
    pub const fn datagram(&self) -> &'a [u8] {
        self.datagram
    }

    /// Attributes up to the end of the datagram, whatever the header announces.
    #[must_use]
    pub const fn attributes(&self) -> Attributes<'a> {
        Attributes::new(self.body, HEADER_LEN)
    }

    /// Attributes within the announced length, or `None` if the datagram is shorter than that.
    #[must_use]
    pub fn announced_attributes(&self) -> Option<Attributes<'a>> {
        Some(Attributes::new(self.body.get(..self.announced_len())?, HEADER_LEN))
    }
}
