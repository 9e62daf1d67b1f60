//! What a peer can do wrong with records, and the alert that it gets for it.

use rustls::AlertDescription;

use super::key_update::MAX_KEY_UPDATES;
use super::{MAX_BODY_LEN, MAX_EMPTY_RECORDS};

/// Why records cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A record that is not protected, or of no known type.
    #[error("a record of type {kind}, where only protected ones may come")]
    RecordType {
        /// The type in its header.
        kind: u8,
    },
    /// A record that is longer than TLS allows, or whose content is.
    #[error("a record of {len} bytes, where {MAX_BODY_LEN} are allowed")]
    RecordLength {
        /// Bytes behind its header, or in its content.
        len: usize,
    },
    /// A record that was not sealed with the peer's key, or not in this place.
    #[error("a record that does not open")]
    Forged,
    /// A record of padding only.
    #[error("a record without a content type")]
    NoContentType,
    /// A record with content that may not come here.
    #[error("content of type {kind}, which may not come here")]
    ContentType {
        /// The type.
        kind: u8,
    },
    /// Many records without content.
    #[error("more than {MAX_EMPTY_RECORDS} records without content")]
    EmptyRecords,
    /// A message of the handshake that no client may send after it.
    #[error("a handshake message of type {kind} after the handshake")]
    HandshakeMessage {
        /// The type.
        kind: u8,
    },
    /// A message of the handshake in records that it may not be cut into.
    #[error("a handshake message that does not end where its record does")]
    Unaligned,
    /// A key update of another length than one.
    #[error("a key update of an impossible length")]
    KeyUpdateLength,
    /// A key update that asks for something unknown.
    #[error("a key update that asks for {value}")]
    KeyUpdateValue {
        /// The request.
        value: u8,
    },
    /// Key updates cost much more to follow than to order.
    #[error("more than {MAX_KEY_UPDATES} key updates within a minute")]
    TooManyKeyUpdates,
    /// An alert that is none.
    #[error("an alert of {len} bytes")]
    AlertLength {
        /// Its length.
        len: usize,
    },
    /// The peer ends the connection for a fault of ours, or what it holds for one.
    #[error("the peer sent the alert {description:?}")]
    Alert {
        /// Its reason.
        description: AlertDescription,
    },
    /// Used after its end.
    #[error("the connection is closed")]
    Closed,
    /// Our own fault.
    #[error("the record layer cannot go on")]
    Internal,
}

impl Fault {
    /// What the peer is told; nothing if it was the first to end.
    #[must_use]
    pub const fn alert(self) -> Option<AlertDescription> {
        Some(match self {
            Self::RecordType { .. }
            | Self::NoContentType
            | Self::ContentType { .. }
            | Self::EmptyRecords
            | Self::HandshakeMessage { .. }
            | Self::Unaligned
            | Self::TooManyKeyUpdates => AlertDescription::UnexpectedMessage,
            Self::RecordLength { .. } => AlertDescription::RecordOverflow,
            Self::Forged => AlertDescription::BadRecordMac,
            Self::KeyUpdateLength | Self::AlertLength { .. } => AlertDescription::DecodeError,
            Self::KeyUpdateValue { .. } => AlertDescription::IllegalParameter,
            Self::Internal => AlertDescription::InternalError,
            Self::Alert { .. } | Self::Closed => return None,
        })
    }
}
