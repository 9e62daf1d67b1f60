//! The DERP login on a connection that has been upgraded, up to its hand-over.
//!
//! Does: greets, reads the client's box, asks who may enter, and lets the connection go.
//! Does not: send `ServerInfo`: the shard does, once the key can be reached.
//!
//! ```text
//! opening out -> ClientInfo in -> access -> Handover { server_info, .. } -> Intake
//! ```
//!
//! Before: `door::http`. Next on the packet path: the shard. Spec: docs/protocol/derp.md,
//! section 3.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use derp::frame::{HEADER_LEN, NONCE_LEN};
use derp::login::{Admitted, Candidate, LoginError, ServerInfo, ServerLogin};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::Shared;
use super::counters::LoginFailure;
use super::http::Upgrade;
use super::limits::{Gate, Permit, SMALL_LOGIN_BYTES};
use super::stream::Stream;
use super::upgrade::opening;
use crate::access::{Admission, Decision};
use crate::handover::Handover;
use crate::tls;

/// Time beyond its own that an access decision has before we decide without it, so that it can
/// decide what a silent verifier means.
const ACCESS_GRACE: Duration = Duration::from_secs(1);

/// Why a login failed. Each is one [`LoginFailure`].
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("not done in time")]
    Timeout,
    #[error("{0}")]
    Stream(#[from] io::Error),
    #[error("the client closed the connection")]
    Closed,
    #[error("{0}")]
    Login(#[from] LoginError),
    #[error("large logins hold too much memory")]
    Memory,
    #[error("refused: {0}")]
    Refused(&'static str),
    #[error("the access decision took too long")]
    AccessTimeout,
    #[error("no randomness")]
    Random,
}

impl Error {
    /// The word for it.
    pub(super) fn reason(&self) -> LoginFailure {
        match self {
            Self::Timeout => LoginFailure::Timeout,
            Self::Stream(_) | Self::Closed => LoginFailure::Closed,
            Self::Login(LoginError::Frame(_)) => LoginFailure::Frame,
            Self::Login(
                LoginError::Magic
                | LoginError::ZeroKey
                | LoginError::LowOrderKey
                | LoginError::Sealed
                | LoginError::Info(_),
            ) => LoginFailure::ClientInfo,
            Self::Memory => LoginFailure::Memory,
            Self::Refused(_) => LoginFailure::Refused,
            Self::AccessTimeout => LoginFailure::AccessTimeout,
            Self::Random => LoginFailure::Internal,
        }
    }
}

impl From<tls::Failure> for Error {
    fn from(failure: tls::Failure) -> Self {
        match failure {
            tls::Failure::Closed => Self::Closed,
            tls::Failure::Io(_) | tls::Failure::Tls(_) | tls::Failure::TooLarge => {
                Self::Stream(failure.into())
            }
        }
    }
}

/// Logs a client in and gives its connection to the intake.
///
/// `deadline` is for everything but the access decision, which has a time of its own.
///
/// # Errors
///
/// [`Error`]; the connection is closed, unanswered.
pub(super) async fn run(
    shared: &Shared,
    upgrade: Upgrade<Stream>,
    peer: SocketAddr,
    permit: Permit,
    deadline: Instant,
) -> Result<(), Error> {
    let Upgrade { io: mut stream, mut received, native } = upgrade;
    let opening = opening(&shared.identity.public(), native);
    let authenticated = async {
        let authenticating = authenticate(shared, &mut stream, &mut received, &opening);
        let candidate =
            timeout_at(deadline, authenticating).await.map_err(|_| Error::Timeout)??;
        admit(shared, candidate, peer, deadline).await
    };
    let (admitted, admission, deadline) = match authenticated.await {
        Ok(admitted) => admitted,
        Err(error) => {
            stream.hang_up().await;
            return Err(error);
        }
    };
    let leaving = timeout_at(deadline, stream.leave()).await.map_err(|_| Error::Timeout)??;
    let mut plaintext = received.split_off(admitted.used).to_vec();
    plaintext.extend_from_slice(&leaving.plaintext);
    let (key, tailnet) = (admitted.client, admission.tailnet.as_deref());
    tracing::debug!(?key, tailnet, peer = shared.shown(peer), "logged in");
    shared.counters.logins.add_one();
    shared.intake.take(Handover {
        socket: leaving.socket,
        transport: leaving.transport,
        plaintext,
        ciphertext: leaving.ciphertext,
        client_key: admitted.client,
        client: admitted.info,
        peer,
        ideal: native.ideal,
        server_info: admitted.frame,
        deadline: deadline.into_std(),
        permit,
    });
    // After the hand-over: a revocation from now on finds the connection by itself.
    shared.access.entered(&key, &admission);
    Ok(())
}

/// Says the opening, and reads the client's info; more than that may be read.
async fn authenticate(
    shared: &Shared,
    stream: &mut Stream,
    received: &mut BytesMut,
    opening: &[u8],
) -> Result<Candidate, Error> {
    stream.write_all(opening).await?;
    stream.flush().await?;
    let mut login = ServerLogin::new();
    let mut large = None;
    loop {
        login = login.on_bytes(received, shared.identity.private())?;
        let until = match login {
            ServerLogin::AwaitVerdict(candidate) => return Ok(candidate),
            ServerLogin::AwaitClientInfo { until } => until,
        };
        if until > HEADER_LEN && large.is_none() {
            large = Some(room_for(&shared.gate, until)?);
        }
        received.reserve(until.saturating_sub(received.len()));
        if stream.read_buf(received).await? == 0 {
            return Err(Error::Closed);
        }
    }
}

/// Asks whether a client may enter; moves the deadline by the time that takes.
async fn admit(
    shared: &Shared,
    candidate: Candidate,
    peer: SocketAddr,
    deadline: Instant,
) -> Result<(Admitted, Admission, Instant), Error> {
    let asked = Instant::now();
    let key = candidate.client();
    let deciding = shared.access.decide(&key, peer.ip());
    let time = shared.gate.limits().access_time + ACCESS_GRACE;
    let decision = timeout(time, deciding).await.map_err(|_| Error::AccessTimeout)?;
    let admission = match decision {
        Decision::Admit(admission) => admission,
        Decision::Refuse(reason) => return Err(Error::Refused(reason)),
    };
    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).map_err(|_| Error::Random)?;
    let admitted = candidate.admit(&nonce, &ServerInfo::default());
    Ok((admitted, admission, deadline + asked.elapsed()))
}

/// Room for a login of `len` bytes; most need none.
fn room_for(gate: &Gate, len: usize) -> Result<impl Sized + use<>, Error> {
    match len.checked_sub(SMALL_LOGIN_BYTES) {
        None | Some(0) => Ok(None),
        Some(more) => gate.large_login(more).map(Some).ok_or(Error::Memory),
    }
}
