//! What the front door gives a shard: one connection that has logged in.
//!
//! Does: names every piece that goes along. Does not: do anything with it.
//!
//! ```text
//! client ... [consumed by the login][ plaintext | ciphertext ][ still in the socket ]
//!                                     opened      not opened
//! ```
//!
//! Before: `door::login`. Next on the packet path: the shard. After the hand-over tokio has
//! nothing to do with the connection: the socket is not registered with its reactor.

use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use derp::key::NodePublic;
use derp::login::ClientInfo;
use rustls::server::UnbufferedServerConnection;

use crate::door::limits::Permit;
use crate::tls::record::Record;

/// A connection whose client has proved its key and may enter.
#[derive(Debug)]
pub struct Handover {
    /// The socket: non-blocking, with the options of `socket`, registered with no reactor.
    pub socket: TcpStream,
    /// What lies between the socket and DERP frames.
    pub transport: Transport,
    /// DERP bytes that came behind the login: opened, and not looked at.
    pub plaintext: Vec<u8>,
    /// TLS bytes after those of `plaintext`: less than one record. Empty without TLS.
    pub ciphertext: Vec<u8>,
    /// The client's node key.
    pub client_key: NodePublic,
    /// What the client told about itself.
    pub client: ClientInfo,
    /// Where the connection comes from; IPv4 in its own form.
    pub peer: SocketAddr,
    /// Whether this relay is the one of its region that the client would have chosen.
    pub ideal: bool,
    /// The `ServerInfo` frame. The shard writes it, as the first frame of all, once the key is
    /// registered: who has read it can be reached.
    pub server_info: Vec<u8>,
    /// When the login has to be over, that is `server_info` written.
    pub deadline: Instant,
    /// Counts the connection as not logged in, until dropped.
    pub permit: Permit,
}

/// What lies between the socket and DERP frames.
pub enum Transport {
    /// Nothing: TLS, if any, ends in a proxy before us.
    Plain,
    /// Our own TLS, past its handshake, with our own record layer: TLS 1.3.
    Record(Box<Record>),
    /// Our own TLS, past its handshake, with nothing left to send, and rustls' record layer: TLS
    /// 1.2, and what [`Record`] cannot go on from.
    Tls(Box<UnbufferedServerConnection>),
}

impl Transport {
    /// Chooses the record layer of a TLS connection that leaves the front door; `settled` as in
    /// [`Parts`](crate::tls::handshake::Parts).
    ///
    /// # Errors
    ///
    /// rustls does not give its secrets away: our own fault.
    pub fn tls(
        connection: Box<UnbufferedServerConnection>,
        settled: bool,
    ) -> Result<Self, rustls::Error> {
        if settled && Record::can_take_over(&connection) {
            Ok(Self::Record(Box::new(Record::take_over(*connection)?)))
        } else {
            Ok(Self::Tls(connection))
        }
    }
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            Self::Record(_) => "Record",
            Self::Tls(_) => "Tls",
        })
    }
}

/// Takes connections that have logged in: the shards, in the program.
pub trait Intake: Send + Sync + 'static {
    /// Takes one connection. Called on a thread of the front door: it must not block.
    ///
    /// Whoever drops the hand-over closes the connection.
    fn take(&self, handover: Handover);
}

impl<F: Fn(Handover) + Send + Sync + 'static> Intake for F {
    fn take(&self, handover: Handover) {
        self(handover);
    }
}
