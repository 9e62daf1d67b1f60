//! From a connection that can carry data to a client that is logged in.
//!
//! Does: the HTTP upgrade and DERP's login, with or without fast start.
//! Does not: touch the socket or TLS; bytes go in and come out.

use derp::key::{KEY_LEN, NodePrivate, NodePublic};
use derp::login::{ClientInfo, ClientLogin, LoginError, PROTOCOL_VERSION};
use rustls_pki_types::CertificateDer;

/// Most bytes in the answer to the upgrade.
const MAX_HEAD_LEN: usize = 16 * 1024;

/// What the name in the certificate with a relay's key starts with; 64 hex digits follow.
const KEY_NAME: &[u8] = b"derpkey";

/// A client that is on its way in.
#[derive(Debug)]
pub struct Login {
    /// `None` after a fault.
    stage: Option<Stage>,
    /// Received and not taken yet.
    held: Vec<u8>,
}

#[derive(Debug)]
enum Stage {
    /// The answer to the upgrade is next.
    Head(ClientLogin),
    /// DERP's own frames are next.
    Frames(ClientLogin),
}

/// Why a login fails.
#[derive(Debug, thiserror::Error)]
pub enum RefusedError {
    /// Another answer than the one to an upgrade.
    #[error("the server answers `{0}` to the upgrade")]
    Http(String),
    /// The frames after it.
    #[error("login: {0}")]
    Login(#[from] LoginError),
    /// The system has no randomness.
    #[error("no randomness: {0}")]
    Random(getrandom::Error),
}

impl Login {
    /// Begins to log in with a fresh key; returns the key and what to send.
    ///
    /// With `relay`, the relay's key, the login goes out behind the request at once, as clients
    /// of Tailscale do over TLS 1.3; without it the answer to the upgrade is awaited.
    ///
    /// # Errors
    ///
    /// [`RefusedError`] without randomness, or for a relay key that nobody has.
    pub fn begin(
        own: NodePrivate,
        host: &str,
        relay: Option<NodePublic>,
    ) -> Result<(Self, Vec<u8>), RefusedError> {
        let info = ClientInfo {
            version: PROTOCOL_VERSION,
            can_ack_pings: true,
            app_name: "derp-load".to_owned(),
            ..ClientInfo::default()
        };
        let nonce = random()?;
        let fast = if relay.is_some() { "Derp-Fast-Start: 1\r\n" } else { "" };
        let mut send = format!(
            "GET /derp HTTP/1.1\r\nHost: {host}\r\nUser-Agent: derp-load\r\nUpgrade: DERP\r\n\
             Connection: Upgrade\r\n{fast}\r\n"
        )
        .into_bytes();
        let stage = match relay {
            None => Stage::Head(ClientLogin::new(own, info, nonce)),
            Some(relay) => {
                let turn = ClientLogin::fast_start(&own, &info, &nonce, relay)?;
                send.extend_from_slice(&turn.send);
                Stage::Frames(turn.login)
            }
        };
        Ok((Self { stage: Some(stage), held: Vec::new() }, send))
    }

    /// Takes received bytes; appends what to send. `Some` when logged in, with the bytes that
    /// came behind the login.
    ///
    /// # Errors
    ///
    /// [`RefusedError`]; the connection is of no use.
    pub fn on_bytes(
        &mut self,
        bytes: &[u8],
        send: &mut Vec<u8>,
    ) -> Result<Option<Vec<u8>>, RefusedError> {
        self.held.extend_from_slice(bytes);
        while let Some(stage) = self.stage.take() {
            match stage {
                Stage::Head(login) => {
                    if !self.take_head()? {
                        self.stage = Some(Stage::Head(login));
                        return Ok(None);
                    }
                    self.stage = Some(Stage::Frames(login));
                }
                Stage::Frames(login) => {
                    let turn = login.on_bytes(&self.held)?;
                    self.held.drain(..turn.used);
                    send.extend_from_slice(&turn.send);
                    if matches!(turn.login, ClientLogin::Open(_)) {
                        return Ok(Some(std::mem::take(&mut self.held)));
                    }
                    self.stage = Some(Stage::Frames(turn.login));
                    if turn.used == 0 && turn.send.is_empty() {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Takes the answer to the upgrade off what is held, if all of it has come.
    fn take_head(&mut self) -> Result<bool, RefusedError> {
        let line = |held: &[u8]| {
            let head = String::from_utf8_lossy(held);
            head.lines().next().unwrap_or_default().chars().take(80).collect::<String>()
        };
        let Some(end) = self.held.windows(4).position(|window| window == b"\r\n\r\n") else {
            return if self.held.len() > MAX_HEAD_LEN {
                Err(RefusedError::Http(line(&self.held)))
            } else {
                Ok(false)
            };
        };
        if !self.held.starts_with(b"HTTP/1.1 101 ") {
            return Err(RefusedError::Http(line(&self.held)));
        }
        self.held.drain(..end + 4);
        Ok(true)
    }
}

/// A fresh key.
///
/// # Errors
///
/// [`RefusedError::Random`].
pub fn fresh_key() -> Result<NodePrivate, RefusedError> {
    random::<KEY_LEN>().map(NodePrivate::from_random)
}

/// The relay's key in its certificates, if it tells it there.
#[must_use]
pub fn relay_key(certificates: &[CertificateDer<'_>]) -> Option<NodePublic> {
    certificates.iter().find_map(|certificate| {
        let at = certificate.windows(KEY_NAME.len()).position(|window| window == KEY_NAME)?;
        let digits = certificate.get(at + KEY_NAME.len()..)?.get(..2 * KEY_LEN)?;
        NodePublic::from_hex(std::str::from_utf8(digits).ok()?).ok()
    })
}

fn random<const N: usize>() -> Result<[u8; N], RefusedError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(RefusedError::Random)?;
    Ok(bytes)
}
