//! Login: what happens between the HTTP upgrade and the first packet, for both sides.
//!
//! Does: greeting, sealed box, and the JSON in it. Does not: know a socket, a clock, a random
//! source, or who may enter.
//!
//! ```text
//! relay                                        client
//!   ServerKey   magic, relay key        ------>           passed over after a fast start
//!   ClientInfo                          <------  client key, nonce, box(JSON)
//!   ServerInfo  nonce, box(JSON)        ------>           only if the client may enter
//! ```
//!
//! The box is NaCl's `crypto_box`: X25519 between both keys, then XSalsa20 and Poly1305. It
//! proves to the relay that the client holds its key, and to the client that the relay does.
//!
//! Next on the packet path: `session`. Spec: docs/protocol/derp.md, section 3.

mod client;
mod info;
mod sealed;
mod server;

pub use client::{AwaitServerInfo, AwaitServerKey, ClientLogin, Open, Turn};
pub use info::{ClientInfo, InfoError, MAX_APP_NAME_LEN, PROTOCOL_VERSION, ServerInfo};
pub use server::{Admitted, Candidate, GREETING_LEN, MIN_CLIENT_INFO_LEN, ServerLogin, greeting};

use crate::frame::DecodeError;

/// Why a login fails. Each ends the connection, unanswered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// Another kind of frame than the one that must come, or one too short or too long.
    #[error("{0}")]
    Frame(DecodeError),
    /// The greeting does not start with the magic: no DERP relay.
    #[error("greeting without the DERP magic")]
    Magic,
    /// The other side's key is all zeros.
    #[error("key is all zeros")]
    ZeroKey,
    /// The other side's key is one of the few with which a box proves nothing.
    #[error("key has low order")]
    LowOrderKey,
    /// The box does not open: the other side does not hold the key it named, or not ours.
    #[error("sealed box does not open")]
    Sealed,
    /// The box opens and holds what no login takes.
    #[error("{0}")]
    Info(InfoError),
}

impl From<DecodeError> for LoginError {
    fn from(error: DecodeError) -> Self {
        Self::Frame(error)
    }
}

impl From<InfoError> for LoginError {
    fn from(error: InfoError) -> Self {
        Self::Info(error)
    }
}
