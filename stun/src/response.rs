//! Responses as a client reads them: which address the server saw.
//!
//! Does: reads what a Tailscale client would read, from any server, so that a probe's verdict
//! is the client's verdict. Does not: match transaction ids (the caller knows which it sent),
//! or check FINGERPRINT and MESSAGE-INTEGRITY.
//!
//! Spec: docs/protocol/stun.md, section 4.

use std::net::SocketAddr;

use crate::attribute::{Attribute, Kind};
use crate::mapped;
use crate::message::{self, Message, TransactionId};

/// A success response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// Id of the request that this answers; any other id means: not ours, drop it.
    pub transaction_id: TransactionId,
    /// Address from which the server saw the request come. Never an IPv4-mapped IPv6 address.
    pub mapped: SocketAddr,
}

/// Why a datagram gives no address. The server or the path to it is at fault, never the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not a STUN message; wait for the next datagram.
    #[error("not a STUN message")]
    NotStun,
    /// A STUN message, but no answer to a binding request.
    #[error("message kind {kind:#06x} is not a binding response")]
    NotResponse {
        /// Wire value of the message's kind.
        kind: u16,
    },
    /// The server refuses; asking again in the same way is of no use.
    #[error("the server refuses with error {code}")]
    Refused {
        /// Error code, 300 to 699, or 0 if the server gave none.
        code: u16,
        /// Id of the request that is refused.
        transaction_id: TransactionId,
    },
    /// Lengths or families that contradict each other.
    #[error("malformed attributes")]
    Malformed,
    /// A success response that names no address.
    #[error("the response has no mapped address")]
    NoAddress,
}

/// Reads a binding response out of `datagram`.
///
/// XOR-MAPPED-ADDRESS is taken under both of its numbers, and plain MAPPED-ADDRESS only if
/// there is none; of several the last counts. Bytes behind the announced length are not looked
/// at. O(n), no allocation.
///
/// # Errors
///
/// [`DecodeError`]; only [`DecodeError::Refused`] is an answer to be acted on, the rest is noise
/// that anyone can send to the client's port.
///
/// # Source
///
/// STUN-4.2 to STUN-4.6.
pub fn decode(datagram: &[u8]) -> Result<Response, DecodeError> {
    let message = Message::decode(datagram).map_err(|_| DecodeError::NotStun)?;
    let transaction_id = message.transaction_id();
    match message.kind() {
        message::Kind::BindingSuccess => {}
        message::Kind::BindingError => {
            return Err(DecodeError::Refused { code: error_code(&message), transaction_id });
        }
        kind @ (message::Kind::BindingRequest | message::Kind::Other(_)) => {
            return Err(DecodeError::NotResponse { kind: kind.wire() });
        }
    }
    let attributes = message.announced_attributes().ok_or(DecodeError::Malformed)?;
    let (mut masked, mut plain) = (None, None);
    for attribute in attributes {
        let Attribute { kind, value, .. } = attribute.map_err(|_| DecodeError::Malformed)?;
        if matches!(kind, Kind::XOR_MAPPED_ADDRESS | Kind::XOR_MAPPED_ADDRESS_OLD) {
            let address = mapped::decode_xor(value, transaction_id);
            masked = Some(address.ok_or(DecodeError::Malformed)?);
        } else if kind == Kind::MAPPED_ADDRESS {
            plain = Some(mapped::decode_plain(value).ok_or(DecodeError::Malformed)?);
        }
    }
    let mapped = masked.or(plain).ok_or(DecodeError::NoAddress)?;
    Ok(Response { transaction_id, mapped })
}

/// Code of the first readable ERROR-CODE, or 0: hundreds in the third byte, the rest in the
/// fourth.
fn error_code(message: &Message<'_>) -> u16 {
    message
        .attributes()
        .map_while(Result::ok)
        .filter(|attribute| attribute.kind == Kind::ERROR_CODE)
        .find_map(|attribute| attribute.value.first_chunk::<4>())
        .map_or(0, |&[_, _, class, number]| u16::from(class & 0x07) * 100 + u16::from(number))
}
