//! The server on real sockets of the loopback interface. Spec: docs/protocol/stun.md, section 5.
#![expect(clippy::unwrap_used, reason = "test code: a panic is the report")]

mod answers;
mod client;
mod hostile;
mod lifecycle;
mod listening;
#[path = "../../../../derp/relay/tests/support/quiet.rs"]
mod quiet;
#[path = "../../../../derp/relay/tests/support/uninterrupted.rs"]
mod uninterrupted;
