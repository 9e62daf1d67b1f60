//! Binding requests: who is answered, and with what.
//!
//! Does: decides over one datagram and writes the answer to it. Does not: remember anything
//! between two datagrams, answer anything but a request (so two servers can never keep each
//! other busy), or check credentials.
//!
//! ```text
//! answer                    bytes  content behind the header
//! success, IPv4             32     XOR-MAPPED-ADDRESS
//! success, IPv6             44     XOR-MAPPED-ADDRESS
//! 420, `Rule::Generic`      36-48  ERROR-CODE without reason, UNKNOWN-ATTRIBUTES
//! ```
//!
//! Bytes out per byte in, at worst: 1.1 under `Rule::Tailnode` (44 for 40), 2.2 under
//! `Rule::Generic` (44 for 20); with IP and UDP headers counted 1.05 and 1.36.
//!
//! Spec: docs/protocol/stun.md, sections 1 to 3. This is the last step before the answer leaves.

use std::net::SocketAddr;

use crate::attribute::{self, Attribute};
use crate::builder::Builder;
use crate::fingerprint;
use crate::mapped;
use crate::message::{self, Kind, Message, TransactionId};
use crate::request::TAILNODE;

/// Most bytes in an answer; an output buffer of this size always suffices. Source: STUN-3.8.
pub const MAX_REPLY_LEN: usize = 48;

/// Most kinds named in one 420 answer. Ours: it bounds the answer, and a client that has more
/// unknown attributes than this learns about the rest when it asks again. Source: STUN-3.5.
pub const MAX_UNKNOWN: usize = 8;

/// ERROR-CODE value for 420: class 4, number 20, and no reason phrase, which nobody would read.
const UNKNOWN_ATTRIBUTE: [u8; 4] = [0, 0, 4, 20];

/// Attributes below 0x8000 that are no reason to refuse a request.
///
/// Those of RFC 8489: they are known, and where a binding request has no use for them they are
/// ignored. Everything else (CHANGE-REQUEST, PRIORITY, ...) asks for something we do not do.
const KNOWN_REQUIRED: [attribute::Kind; 11] = [
    attribute::Kind::MAPPED_ADDRESS,
    attribute::Kind::USERNAME,
    attribute::Kind::MESSAGE_INTEGRITY,
    attribute::Kind::ERROR_CODE,
    attribute::Kind::UNKNOWN_ATTRIBUTES,
    attribute::Kind::REALM,
    attribute::Kind::NONCE,
    attribute::Kind::MESSAGE_INTEGRITY_SHA256,
    attribute::Kind::PASSWORD_ALGORITHM,
    attribute::Kind::USERHASH,
    attribute::Kind::XOR_MAPPED_ADDRESS,
];

/// Who is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rule {
    /// Tailscale nodes only, as the reference server does. An answer is at most a tenth larger
    /// than its request, so the server is of no use to those who want traffic multiplied.
    #[default]
    Tailnode,
    /// Tailscale nodes, in the same way, and any RFC 8489 client.
    Generic,
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The first so many bytes of the output buffer go back to the source.
    Reply(usize),
    /// Nothing goes back.
    Ignore(IgnoreReason),
}

/// Why a datagram gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IgnoreReason {
    /// Shorter than a header, top bits set, or no magic cookie.
    #[error("not a STUN message")]
    NotStun,
    /// A response, an indication or a method that is not Binding.
    #[error("not a binding request")]
    NotBindingRequest,
    /// The attributes do not end where the datagram ends.
    #[error("malformed attributes")]
    Malformed,
    /// No SOFTWARE says `tailnode`.
    #[error("not a Tailscale node")]
    NotTailnode,
    /// The last attribute is not FINGERPRINT.
    #[error("no fingerprint at the end")]
    NoFingerprint,
    /// FINGERPRINT is not four bytes, or not the CRC of what is in front of it.
    #[error("wrong fingerprint")]
    WrongFingerprint,
    /// Generic rule: the header announces another length than the datagram has.
    #[error("header announces another length")]
    LengthMismatch,
    /// Generic rule: there are attributes behind FINGERPRINT.
    #[error("fingerprint is not the last attribute")]
    FingerprintNotLast,
    /// The caller's buffer is shorter than the answer; see [`MAX_REPLY_LEN`].
    #[error("output buffer too short")]
    OutTooShort,
}

impl From<message::DecodeError> for IgnoreReason {
    fn from(_: message::DecodeError) -> Self {
        Self::NotStun
    }
}

impl From<attribute::DecodeError> for IgnoreReason {
    fn from(_: attribute::DecodeError) -> Self {
        Self::Malformed
    }
}

/// Decides over `datagram`, which came from `source`, and writes the answer to the front of `out`.
///
/// `datagram` is everything that one UDP packet carried. An `out` of [`MAX_REPLY_LEN`] bytes
/// suffices for every answer; bytes behind the answer are left as they are. An IPv4-mapped IPv6
/// `source` is told its IPv4 address. O(n) in the datagram, no allocation.
///
/// # Source
///
/// STUN-1.1 to STUN-3.8.
#[must_use]
pub fn respond(datagram: &[u8], source: SocketAddr, rule: Rule, out: &mut [u8]) -> Answer {
    match judge(datagram, rule) {
        Ok((id, verdict)) => match write(id, verdict, source, out) {
            Some(len) => Answer::Reply(len),
            None => Answer::Ignore(IgnoreReason::OutTooShort),
        },
        Err(reason) => Answer::Ignore(reason),
    }
}

/// What an acceptable request is answered with.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    Success,
    Unknown(Unknown),
}

fn judge(datagram: &[u8], rule: Rule) -> Result<(TransactionId, Verdict), IgnoreReason> {
    let message = Message::decode(datagram)?;
    if message.kind() != Kind::BindingRequest {
        return Err(IgnoreReason::NotBindingRequest);
    }
    // The generic rule must not refuse a Tailscale node, however odd the rest of its request.
    let verdict = match (accept_tailnode(&message), rule) {
        (Ok(()), Rule::Tailnode | Rule::Generic) => Verdict::Success,
        (Err(reason), Rule::Tailnode) => return Err(reason),
        (Err(_), Rule::Generic) => accept_generic(&message)?,
    };
    Ok((message.transaction_id(), verdict))
}

/// The reference server's rule. The announced length has no part in it.
fn accept_tailnode(message: &Message<'_>) -> Result<(), IgnoreReason> {
    let mut tailnode = false;
    let mut last = None;
    for attribute in message.attributes() {
        let attribute: Attribute<'_> = attribute?;
        tailnode |= attribute.kind == attribute::Kind::SOFTWARE && attribute.value == TAILNODE;
        last = Some(attribute);
    }
    if !tailnode {
        return Err(IgnoreReason::NotTailnode);
    }
    let Some(last) = last.filter(|last| last.kind == attribute::Kind::FINGERPRINT) else {
        return Err(IgnoreReason::NoFingerprint);
    };
    if !fingerprint::verify(message.datagram(), last) {
        return Err(IgnoreReason::WrongFingerprint);
    }
    Ok(())
}

/// RFC 8489 for a server that asks nobody for credentials.
fn accept_generic(message: &Message<'_>) -> Result<Verdict, IgnoreReason> {
    if message.announced_len() != message.body_len() {
        return Err(IgnoreReason::LengthMismatch);
    }
    let mut unknown = Unknown::default();
    let (mut integrity, mut fingerprint) = (false, false);
    for attribute in message.attributes() {
        let attribute = attribute?;
        if fingerprint {
            return Err(IgnoreReason::FingerprintNotLast);
        }
        match attribute.kind {
            attribute::Kind::FINGERPRINT => {
                if !fingerprint::verify(message.datagram(), attribute) {
                    return Err(IgnoreReason::WrongFingerprint);
                }
                fingerprint = true;
            }
            // What stands behind the integrity check is not covered by it and does not count.
            attribute::Kind::MESSAGE_INTEGRITY | attribute::Kind::MESSAGE_INTEGRITY_SHA256 => {
                integrity = true;
            }
            kind if !integrity && kind.is_required() && !KNOWN_REQUIRED.contains(&kind) => {
                unknown.add(kind);
            }
            _ => {}
        }
    }
    Ok(if unknown.len == 0 { Verdict::Success } else { Verdict::Unknown(unknown) })
}

/// Writes the answer; `None` if `out` is too short for it.
fn write(id: TransactionId, verdict: Verdict, source: SocketAddr, out: &mut [u8]) -> Option<usize> {
    let message = match verdict {
        Verdict::Success => {
            let value = mapped::encode_xor(source, id);
            Builder::new(Kind::BindingSuccess, id, out)?
                .attribute(attribute::Kind::XOR_MAPPED_ADDRESS, [value.as_bytes()].into_iter())?
        }
        Verdict::Unknown(unknown) => Builder::new(Kind::BindingError, id, out)?
            .attribute(attribute::Kind::ERROR_CODE, [&UNKNOWN_ATTRIBUTE[..]].into_iter())?
            .attribute(attribute::Kind::UNKNOWN_ATTRIBUTES, unknown.wire())?,
    };
    Some(message.len())
}

/// Unknown required kinds of one request, each once, the first [`MAX_UNKNOWN`] of them.
#[derive(Clone, Copy, Debug, Default)]
struct Unknown {
    kinds: [[u8; 2]; MAX_UNKNOWN],
    len: usize,
}

impl Unknown {
    fn add(&mut self, kind: attribute::Kind) {
        let wire = kind.0.to_be_bytes();
        if self.wire().any(|known| known == wire) {
            return;
        }
        if let Some(slot) = self.kinds.get_mut(self.len) {
            *slot = wire;
            self.len += 1;
        }
    }

    fn wire(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.kinds.iter().take(self.len).map(<[u8; 2]>::as_slice)
    }
}
