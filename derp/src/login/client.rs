//! The client's side of the login, as a state machine without a socket.
//!
//! Does: takes the relay's greeting, or starts without it where the relay's key is known, says
//! who it is, and opens the relay's answer. Does not: read a clock, draw a nonce, or decide
//! whether the relay is the right one: the shell compares [`Open::server`] where it knows better.
//!
//! ```text
//! new ---------> AwaitServerKey --on_bytes: ClientInfo out--> AwaitServerInfo --on_bytes--> Open
//! fast_start: ClientInfo out ---------------------------------------^
//! ```
//!
//! Next on the packet path: `client`. Spec: docs/protocol/derp.md, section 3.

use super::sealed::{SEAL_LEN, SharedBox};
use super::{ClientInfo, LoginError, ServerInfo};
use crate::frame::{
    DecodeError, HEADER_LEN, Kind, MAGIC, MAX_SERVER_FRAME_LEN, MAX_SERVER_KEY_LEN, NONCE_LEN,
    Reader, Step, decode, decode_only, encode,
};
use crate::key::{KEY_LEN, NodePrivate, NodePublic};

/// Least bytes in the body of a `ServerKey`: magic and key. Source: DERP-3.1.
const MIN_SERVER_KEY_LEN: usize = MAGIC.len() + KEY_LEN;

/// Where a client is in the login. Named after what it waits for.
#[derive(Debug)]
pub enum ClientLogin {
    /// The relay's greeting is next.
    AwaitServerKey(AwaitServerKey),
    /// Info sent; the relay's answer is next.
    AwaitServerInfo(AwaitServerInfo),
    /// Logged in.
    Open(Open),
}

/// What one transition of a [`ClientLogin`] calls for.
#[derive(Debug)]
pub struct Turn {
    /// The next state.
    pub login: ClientLogin,
    /// Bytes to drop from the front of the receive buffer, at most its length.
    pub used: usize,
    /// Bytes to send now; often none.
    pub send: Vec<u8>,
}

/// Holds what a client will say once it knows to whom.
#[derive(Debug)]
pub struct AwaitServerKey {
    own: NodePrivate,
    info: ClientInfo,
    nonce: [u8; NONCE_LEN],
}

/// Holds the box that the relay's answer comes in.
#[derive(Debug)]
pub struct AwaitServerInfo {
    server: NodePublic,
    shared: SharedBox,
    /// Bytes still to drop of a frame that is not the answer.
    skip: u64,
}

/// Logged in: the bytes that follow belong to a [`client::Session`](crate::client::Session).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// Key of the relay, which it has proved to hold.
    pub server: NodePublic,
    /// What the relay says of itself.
    pub info: ServerInfo,
}

impl ClientLogin {
    /// Starts without knowing the relay's key. `nonce` is 24 fresh random bytes.
    #[must_use]
    pub const fn new(own: NodePrivate, info: ClientInfo, nonce: [u8; NONCE_LEN]) -> Self {
        Self::AwaitServerKey(AwaitServerKey { own, info, nonce })
    }

    /// Starts knowing the relay's key, from its meta certificate: the info goes out at once,
    /// behind the HTTP request, and the greeting is passed over when it comes.
    ///
    /// # Errors
    ///
    /// [`LoginError::ZeroKey`] or [`LoginError::LowOrderKey`] for a key that nobody has.
    pub fn fast_start(
        own: &NodePrivate,
        info: &ClientInfo,
        nonce: &[u8; NONCE_LEN],
        server: NodePublic,
    ) -> Result<Turn, LoginError> {
        let shared = SharedBox::new(own, &server)?;
        let sealed = shared.seal(nonce, info.to_json().as_bytes());
        let mut send = Vec::with_capacity(HEADER_LEN + KEY_LEN + sealed.len());
        encode(Kind::ClientInfo, &[own.public().as_bytes(), &sealed], &mut send);
        let login = Self::AwaitServerInfo(AwaitServerInfo { server, shared, skip: 0 });
        Ok(Turn { login, used: 0, send })
    }

    /// Looks at the front of the receive buffer and takes off as much as it can.
    ///
    /// Nothing used and nothing to send means that more bytes are needed. In `Open` the bytes
    /// belong to the session, and nothing happens.
    ///
    /// # Errors
    ///
    /// [`LoginError`]; the connection is of no use.
    ///
    /// # Source
    ///
    /// DERP-2.8, DERP-3.1, DERP-3.2, DERP-3.4.
    pub fn on_bytes(self, buf: &[u8]) -> Result<Turn, LoginError> {
        match self {
            Self::AwaitServerKey(state) => state.on_bytes(buf),
            Self::AwaitServerInfo(state) => state.on_bytes(buf),
            Self::Open(_) => Ok(Turn { login: self, used: 0, send: Vec::new() }),
        }
    }
}

impl AwaitServerKey {
    fn on_bytes(self, buf: &[u8]) -> Result<Turn, LoginError> {
        let limits = (MIN_SERVER_KEY_LEN, MAX_SERVER_KEY_LEN);
        let Step::Frame { frame, used } = decode_only(buf, Kind::ServerKey, limits)? else {
            return Ok(Turn {
                login: ClientLogin::AwaitServerKey(self),
                used: 0,
                send: Vec::new(),
            });
        };
        // What follows the key is for protocols to come.
        let key = frame.body.strip_prefix(&MAGIC).and_then(|rest| rest.first_chunk::<KEY_LEN>());
        let server = NodePublic::from_bytes(*key.ok_or(LoginError::Magic)?);
        let turn = ClientLogin::fast_start(&self.own, &self.info, &self.nonce, server)?;
        Ok(Turn { used, ..turn })
    }
}

impl AwaitServerInfo {
    fn on_bytes(mut self, buf: &[u8]) -> Result<Turn, LoginError> {
        let mut rest = buf;
        loop {
            let dropped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(rest.len());
            rest = rest.get(dropped..).unwrap_or_default();
            self.skip -= dropped as u64;
            let limits = (NONCE_LEN, MAX_SERVER_FRAME_LEN);
            match decode_only(rest, Kind::ServerInfo, limits) {
                Ok(Step::Frame { frame, used }) => {
                    let info = self.open(frame.body)?;
                    let login = ClientLogin::Open(Open { server: self.server, info });
                    let used = buf.len() - rest.len() + used;
                    return Ok(Turn { login, used, send: Vec::new() });
                }
                Ok(Step::NeedMore { .. } | Step::Skip { .. }) => {
                    let used = buf.len() - rest.len();
                    let login = ClientLogin::AwaitServerInfo(self);
                    return Ok(Turn { login, used, send: Vec::new() });
                }
                Err(DecodeError::WrongKind { .. }) => self.skip = frame_len(rest)?,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn open(&self, sealed: &[u8]) -> Result<ServerInfo, LoginError> {
        if sealed.len() < SEAL_LEN {
            return Err(LoginError::Sealed);
        }
        let text = self.shared.open(sealed).ok_or(LoginError::Sealed)?;
        Ok(ServerInfo::parse(&text)?)
    }
}

/// Header and body bytes of the frame whose header is at the front of `buf`.
fn frame_len(buf: &[u8]) -> Result<u64, DecodeError> {
    Ok(match decode(buf, Reader::Client)? {
        Step::Frame { used, .. } => used as u64,
        Step::Skip { discard } => discard,
        Step::NeedMore { until } => until as u64,
    })
}
