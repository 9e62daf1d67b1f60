//! Why a TLS connection failed, as one word for a metric and one error for the log.

use std::io;

use rustls::Error;

use crate::counter::label;

label! {
    /// Why a TLS handshake came to nothing.
    FailureReason {
        /// The client closed the connection.
        Closed = "closed",
        /// Not done in time.
        Timeout = "timeout",
        /// The socket failed.
        Io = "io",
        /// What came is no TLS, or is TLS that says nonsense.
        Malformed = "malformed",
        /// No version, cipher suite or key exchange in common.
        Incompatible = "incompatible",
        /// The client offers only application protocols that we do not speak.
        NoApplicationProtocol = "no_application_protocol",
        /// The client sent an alert: it does not like our certificate, mostly.
        Alert = "alert",
        /// Our own fault.
        Internal = "internal",
    }
}

/// Why a TLS connection failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The client closed the connection.
    #[error("the client closed the connection")]
    Closed,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// TLS failed; the client has been told by an alert, if it can be.
    #[error(transparent)]
    Tls(#[from] Error),
    /// A message in fragments is larger than what we keep of a stranger.
    #[error("a message of the handshake is larger than our buffer")]
    TooLarge,
}

impl Failure {
    /// The word for it.
    #[must_use]
    pub fn reason(&self) -> FailureReason {
        match self {
            Self::Closed => FailureReason::Closed,
            Self::Io(error) if closes(error) => FailureReason::Closed,
            Self::Io(_) => FailureReason::Io,
            Self::TooLarge => FailureReason::Malformed,
            Self::Tls(error) => reason(error),
        }
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Closed => io::ErrorKind::UnexpectedEof.into(),
            Failure::Io(error) => error,
            Failure::Tls(_) | Failure::TooLarge => Self::new(io::ErrorKind::InvalidData, failure),
        }
    }
}

fn closes(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    )
}

#[expect(clippy::wildcard_enum_match_arm, reason = "not our enum, and it may grow")]
fn reason(error: &Error) -> FailureReason {
    match error {
        Error::NoApplicationProtocol => FailureReason::NoApplicationProtocol,
        Error::PeerIncompatible(_) => FailureReason::Incompatible,
        Error::AlertReceived(_) => FailureReason::Alert,
        Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::InvalidMessage(_)
        | Error::PeerMisbehaved(_)
        | Error::PeerSentOversizedRecord
        | Error::DecryptError => FailureReason::Malformed,
        _ => FailureReason::Internal,
    }
}
