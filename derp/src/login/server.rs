//! The relay's side of the login, as a state machine without a socket.
//!
//! Does: says the greeting, takes the client's info off the stream, proves that the client holds
//! its key, and seals the answer. Does not: read a clock, draw a nonce, or decide who may enter:
//! the shell holds the deadline, hands the nonce in, and asks for admission in between.
//!
//! ```text
//! greeting out -> AwaitClientInfo --on_bytes--> AwaitVerdict(candidate) --admit--> Admitted
//!                        |                              |
//!                        +--- LoginError: close --------+--- dropped: refused, close unanswered
//! ```
//!
//! Next on the packet path: `session`. Spec: docs/protocol/derp.md, section 3.

use super::sealed::SharedBox;
use super::{ClientInfo, LoginError, ServerInfo};
use crate::frame::{
    HEADER_LEN, Kind, MAGIC, MAX_CLIENT_INFO_LEN, NONCE_LEN, Step, decode_only, encode, split_key,
};
use crate::key::{KEY_LEN, NodePrivate, NodePublic};

/// Bytes in the greeting: header, magic, key.
pub const GREETING_LEN: usize = HEADER_LEN + MAGIC.len() + KEY_LEN;

/// Least bytes in the body of a `ClientInfo`: key and nonce. Source: DERP-2.4.
///
/// A sealed box has sixteen more, so the shortest bodies pass this limit and fail to open.
pub const MIN_CLIENT_INFO_LEN: usize = KEY_LEN + NONCE_LEN;

/// The first bytes of every connection, also after a fast start: a whole `ServerKey` frame.
///
/// # Source
///
/// DERP-3.1.
#[must_use]
pub fn greeting(own: &NodePublic) -> Vec<u8> {
    let mut frame = Vec::with_capacity(GREETING_LEN);
    encode(Kind::ServerKey, &[&MAGIC, own.as_bytes()], &mut frame);
    frame
}

/// Where a connection is in the login. Named after what it waits for.
#[derive(Debug)]
pub enum ServerLogin {
    /// Greeting sent; the client's sealed info is next.
    AwaitClientInfo {
        /// Buffer length, in bytes, at which `on_bytes` makes progress. At most
        /// [`HEADER_LEN`] + [`MAX_CLIENT_INFO_LEN`], so this bounds the receive buffer.
        until: usize,
    },
    /// The client holds its key; whether it may enter is next.
    AwaitVerdict(Candidate),
}

impl ServerLogin {
    /// Starts where the greeting has been sent.
    #[must_use]
    pub const fn new() -> Self {
        Self::AwaitClientInfo { until: HEADER_LEN }
    }

    /// Looks at all bytes received so far, from the first. Takes nothing off `buf` itself:
    /// [`Candidate::used`] says how many bytes belonged to the login.
    ///
    /// Cheap until the frame is whole; then one X25519 multiplication and the JSON, tens of
    /// microseconds. In `AwaitVerdict` the bytes belong to the session, and nothing happens.
    ///
    /// # Errors
    ///
    /// [`LoginError`], from the header alone where it can. The shell closes, unanswered.
    ///
    /// # Source
    ///
    /// DERP-2.4, DERP-3.2, DERP-3.3, DERP-3.6.
    pub fn on_bytes(self, buf: &[u8], own: &NodePrivate) -> Result<Self, LoginError> {
        match self {
            Self::AwaitClientInfo { .. } => {}
            Self::AwaitVerdict(candidate) => return Ok(Self::AwaitVerdict(candidate)),
        }
        let limits = (MIN_CLIENT_INFO_LEN, MAX_CLIENT_INFO_LEN);
        let (frame, used) = match decode_only(buf, Kind::ClientInfo, limits)? {
            Step::Frame { frame, used } => (frame, used),
            Step::NeedMore { until } => return Ok(Self::AwaitClientInfo { until }),
            // A login skips nothing; another kind is an error.
            Step::Skip { .. } => return Ok(self),
        };
        let (client, sealed) = split_key(frame.body).ok_or(LoginError::Sealed)?;
        let shared = SharedBox::new(own, &client)?;
        let text = shared.open(sealed).ok_or(LoginError::Sealed)?;
        let info = ClientInfo::parse(&text)?;
        Ok(Self::AwaitVerdict(Candidate { client, info, used, shared }))
    }
}

impl Default for ServerLogin {
    fn default() -> Self {
        Self::new()
    }
}

/// A client that has proved to hold its key, and is not admitted yet.
///
/// To refuse it, drop it and close: a refusal has no frame.
#[derive(Debug)]
pub struct Candidate {
    client: NodePublic,
    info: ClientInfo,
    used: usize,
    shared: SharedBox,
}

impl Candidate {
    /// The key it proved to hold; never zero, never of low order.
    #[must_use]
    pub const fn client(&self) -> NodePublic {
        self.client
    }

    /// What it says of itself.
    #[must_use]
    pub const fn info(&self) -> &ClientInfo {
        &self.info
    }

    /// Bytes of the receive buffer that belonged to the login; what follows is the session's.
    #[must_use]
    pub const fn used(&self) -> usize {
        self.used
    }

    /// Admits the client: seals `info` under `nonce`, 24 fresh random bytes.
    ///
    /// # Source
    ///
    /// DERP-3.4.
    #[must_use]
    pub fn admit(self, nonce: &[u8; NONCE_LEN], info: &ServerInfo) -> Admitted {
        let sealed = self.shared.seal(nonce, info.to_json().as_bytes());
        let mut frame = Vec::with_capacity(HEADER_LEN + sealed.len());
        encode(Kind::ServerInfo, &[&sealed], &mut frame);
        Admitted { client: self.client, info: self.info, used: self.used, frame }
    }
}

/// A client that is in.
#[derive(Debug)]
pub struct Admitted {
    /// Its key.
    pub client: NodePublic,
    /// What it says of itself.
    pub info: ClientInfo,
    /// Bytes of the receive buffer that belonged to the login.
    pub used: usize,
    /// A whole `ServerInfo` frame. It goes out before anything else of the session.
    pub frame: Vec<u8>,
}
