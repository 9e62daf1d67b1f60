//! TCP and TLS with one deadline over everything.
//!
//! Does: bounds each read and write by what is left until the deadline, so that a peer that
//! sends a byte now and then gains nothing.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName};

use super::{Fault, STEP_TIME};

/// A socket whose every read and write ends at the deadline.
pub(super) struct Timed {
    socket: TcpStream,
    deadline: Instant,
}

/// A connection to a relay.
pub(super) enum Stream {
    Plain(Timed),
    Tls(Box<StreamOwned<ClientConnection, Timed>>),
}

impl Timed {
    /// Connects, within [`STEP_TIME`], which then also bounds what follows.
    pub(super) fn connect(address: SocketAddr) -> io::Result<Self> {
        let deadline = Instant::now() + STEP_TIME;
        let socket = TcpStream::connect_timeout(&address, STEP_TIME)?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, deadline })
    }

    /// Does it within the time that is left, again if it is interrupted: Linux ends a wait with a
    /// time limit that way when the whole process was stopped for a moment.
    fn uninterrupted(
        &self,
        mut act: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            self.arm()?;
            match act(&self.socket) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn arm(&self) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.socket.set_read_timeout(Some(left))?;
        self.socket.set_write_timeout(Some(left))
    }
}

impl Read for Timed {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.uninterrupted(|mut socket| socket.read(buf))
    }
}

impl Write for Timed {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.uninterrupted(|mut socket| socket.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl Stream {
    /// Shakes hands with the relay at the other end of `socket`.
    pub(super) fn tls(
        mut socket: Timed,
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, Fault> {
        let mut connection = ClientConnection::new(config, name)
            .map_err(|error| Fault::Io(io::Error::other(error)))?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket)?;
        }
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, socket))))
    }

    /// Moves the deadline to [`STEP_TIME`] from now.
    pub(super) fn begin_step(&mut self) {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &mut stream.sock,
        };
        socket.deadline = Instant::now() + STEP_TIME;
    }

    /// The certificates of the relay, its own first; none without TLS.
    pub(super) fn certificates(&self) -> &[CertificateDer<'static>] {
        match self {
            Self::Plain(_) => &[],
            Self::Tls(stream) => stream.conn.peer_certificates().unwrap_or_default(),
        }
    }

    /// Whether the handshake was TLS 1.3.
    pub(super) fn is_tls_1_3(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => {
                stream.conn.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3)
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buf),
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(buf),
            Self::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
