//! STUN as Tailscale nodes speak it: the codec and the rule that decides who is answered.
//!
//! ```text
//! datagram -> message::Message -> attribute::Attributes -> binding::respond -> out
//!               header, cookie      kinds, lengths           rule, answer
//! ```
//!
//! A server calls [`binding::respond`] and nothing else: one datagram in, at most one answer
//! out, no state between two calls. A client calls [`request::encode`] and [`response::decode`].
//!
//! What this crate never does: read a clock, open a socket, draw randomness, start a thread,
//! allocate, or check MESSAGE-INTEGRITY. The batched responder around it is `stun-server`.
//!
//! Spec: docs/protocol/stun.md. Source files of the requirements are named there.
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing, clippy::expect_used)]

pub mod attribute;
pub mod binding;
pub mod fingerprint;
pub mod message;
pub mod request;
pub mod response;

mod builder;
mod mapped;
