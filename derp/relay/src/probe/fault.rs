//! Why a step of a trial failed, in words for people.

use std::io;
use std::net::SocketAddr;

use derp::client::GoneReason;
use derp::frame;
use derp::login::LoginError;
use stun::response;

use super::STEP_TIME;

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Nothing, or too little, came within [`STEP_TIME`].
    #[error("no answer within {} s", STEP_TIME.as_secs())]
    TimedOut,
    /// The network, or the TLS of the other side.
    #[error("{0}")]
    Io(io::Error),
    /// The other side closed the connection.
    #[error("the relay closes the connection")]
    Closed,
    /// The other side closed the connection once it knew who wants in.
    #[error("the relay closes the connection where it would let a client in")]
    NotAdmitted,
    /// An HTTP answer other than the one that clients need.
    #[error("answers {0}")]
    Http(String),
    /// The login.
    #[error("{0}")]
    Login(LoginError),
    /// Bytes that are no frames.
    #[error("{0}")]
    Frame(frame::DecodeError),
    /// What came back over UDP.
    #[error("{0}")]
    Stun(response::DecodeError),
    /// STUN tells another address than the one that asked.
    #[error("says that we are {seen}, and we are {own}")]
    Mapped {
        /// What the relay says.
        seen: SocketAddr,
        /// What is so.
        own: SocketAddr,
    },
    /// Two connections, two keys, or another key than the one in the certificates.
    #[error("not every connection reaches the same relay")]
    OtherRelay,
    /// The relay does not know a client that has just logged in.
    #[error("the relay says that the other client is gone ({0:?})")]
    PeerGone(GoneReason),
    /// A packet from somebody else, or with other bytes.
    #[error("a packet arrives changed")]
    Changed,
    /// The host name is neither a DNS name nor an address.
    #[error("`{0}` is neither a host name nor an address")]
    HostName(String),
    /// The pin is no `sha256-raw:` and 64 hex digits.
    #[error("the pin is no `sha256-raw:` and 64 hex digits")]
    Pin,
    /// There is no authority whose certificates are trusted.
    #[error("this system has no certificates of authorities to trust")]
    NoAuthorities,
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) {
            Self::TimedOut
        } else if matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
        ) {
            Self::Closed
        } else {
            Self::Io(error)
        }
    }
}

impl From<LoginError> for Fault {
    fn from(error: LoginError) -> Self {
        Self::Login(error)
    }
}

impl From<frame::DecodeError> for Fault {
    fn from(error: frame::DecodeError) -> Self {
        Self::Frame(error)
    }
}
