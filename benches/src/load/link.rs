//! One client: socket, TLS, login and session.
//!
//! ```text
//! Connecting --writable--> Securing --handshake--> LoggingIn --ServerInfo--> Open
//! ```
//!
//! Does: moves bytes between the kernel and DERP with large reads and writes; keeps what the
//! socket refuses.
//! Does not: decide what to send or when, or look at packets.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};

use derp::client::{self, Event, Session};
use derp::frame::DecodeError;
use derp::key::{NodePrivate, NodePublic};
use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};

use super::channel::{Broken, Channel, MAX_RECORD};
use super::login::{self, Login, RefusedError};
use super::target::Target;

/// Bytes that one read takes at most.
const READ_LEN: usize = 256 * 1024;

/// How a client connects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dialing {
    /// Own address, where one must be chosen.
    pub source: Option<IpAddr>,
    /// Bytes that the kernel may hold for a client that does not read; `None` as the system has
    /// it.
    pub receive_buffer: Option<usize>,
    /// Log in as soon as TLS has told the relay's key.
    pub fast_start: bool,
}

/// A client of the server under test.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    channel: Channel,
    stage: Stage,
    key: NodePublic,
    host: String,
    fast_start: bool,
    session: Session,
    /// Received start of a record that is not whole.
    unopened: Vec<u8>,
    /// Sealed, and refused by the socket.
    refused: Vec<u8>,
    /// The kernel has reported that nothing comes after what is there.
    ending: bool,
}

#[derive(Debug)]
enum Stage {
    /// TCP is not there yet.
    Connecting(NodePrivate),
    /// TLS is not there yet.
    Securing(NodePrivate),
    /// DERP is not there yet.
    LoggingIn(Login),
    /// Logged in.
    Open,
}

/// Room that all links of a thread share.
#[derive(Debug)]
pub struct Scratch {
    input: Vec<u8>,
    sealed: Vec<u8>,
}

/// What one read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Everything that there was.
    All,
    /// There may be more.
    More,
}

/// Why a client cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The kernel.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The server has closed the connection.
    #[error("the server closes the connection")]
    Closed,
    /// TLS.
    #[error(transparent)]
    Tls(#[from] Broken),
    /// The login.
    #[error(transparent)]
    Refused(#[from] RefusedError),
    /// Bytes that are no frames.
    #[error("no DERP: {0}")]
    Frame(#[from] DecodeError),
}

impl Default for Scratch {
    fn default() -> Self {
        Self { input: vec![0; READ_LEN + MAX_RECORD], sealed: Vec::new() }
    }
}

impl Link {
    /// Begins to connect to `target`.
    ///
    /// # Errors
    ///
    /// [`LinkError`]; most faults of the network show later.
    pub fn dial(target: &Target, dialing: Dialing) -> Result<Self, LinkError> {
        let own = login::fresh_key()?;
        Ok(Self {
            stream: connect(target.address, dialing)?,
            channel: Channel::new(target)?,
            key: own.public(),
            stage: Stage::Connecting(own),
            host: target.host.clone(),
            fast_start: dialing.fast_start,
            session: Session::new(),
            unopened: Vec::new(),
            refused: Vec::new(),
            ending: false,
        })
    }

    /// Who the client is.
    #[must_use]
    pub const fn key(&self) -> NodePublic {
        self.key
    }

    /// The socket, for the event loop.
    pub const fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Whether TCP is not there yet.
    #[must_use]
    pub const fn is_connecting(&self) -> bool {
        matches!(self.stage, Stage::Connecting(_))
    }

    /// Whether the login is done.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// Whether bytes from before have to go first.
    #[must_use]
    pub const fn is_blocked(&self) -> bool {
        !self.refused.is_empty()
    }

    /// The kernel reports that the server sends nothing more: it does so once, perhaps together
    /// with the last bytes.
    pub const fn set_ending(&mut self) {
        self.ending = true;
    }

    /// The kernel reports room: ends the connecting, or writes what was refused.
    ///
    /// # Errors
    ///
    /// [`LinkError`]; the link is of no use.
    pub fn on_writable(&mut self, scratch: &mut Scratch) -> Result<(), LinkError> {
        if !matches!(self.stage, Stage::Connecting(_)) {
            return self.write_refused();
        }
        if let Some(error) = self.stream.take_error()? {
            return Err(error.into());
        }
        match self.stream.peer_addr() {
            Ok(_) => {}
            // Not yet; another event will come.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        self.stream.set_nodelay(true)?;
        if let Stage::Connecting(own) = std::mem::replace(&mut self.stage, Stage::Open) {
            self.stage = Stage::Securing(own);
        }
        let mut hello = Vec::new();
        self.channel.open(&mut [], &mut hello, |_| {})?;
        self.write(&hello)?;
        self.log_in_when_ready(scratch)
    }

    /// Reads once and passes on what the server says.
    ///
    /// # Errors
    ///
    /// [`LinkError`]; [`LinkError::Closed`] when the server sends nothing more.
    pub fn receive(
        &mut self,
        scratch: &mut Scratch,
        each: impl FnMut(Event<'_>),
    ) -> Result<Received, LinkError> {
        self.receive_up_to(READ_LEN, scratch, each)
    }

    /// Reads once, `most` bytes at most, and passes on what the server says.
    ///
    /// # Errors
    ///
    /// As [`Link::receive`].
    pub fn receive_up_to(
        &mut self,
        most: usize,
        scratch: &mut Scratch,
        mut each: impl FnMut(Event<'_>),
    ) -> Result<Received, LinkError> {
        let held = self.unopened.len();
        let input = &mut scratch.input;
        let end = held.saturating_add(most).min(input.len());
        if let Some(place) = input.get_mut(..held) {
            place.copy_from_slice(&self.unopened);
        }
        let len = match self.stream.read(input.get_mut(held..end).unwrap_or_default()) {
            Ok(0) => return Err(LinkError::Closed),
            Ok(len) => len,
            Err(error) => return idle(error),
        };
        let bytes = input.get_mut(..held + len).unwrap_or_default();

        let (mut answer, mut send) = (Vec::new(), Vec::new());
        let (stage, session) = (&mut self.stage, &mut self.session);
        let mut fault = None;
        let opened = self.channel.open(bytes, &mut answer, |plain| {
            if fault.is_none() {
                fault = on_plain(stage, session, plain, &mut send, &mut each).err();
            }
        });
        // TLS has its alert to send also where it fails.
        if !answer.is_empty() {
            self.write(&answer)?;
        }
        let opened = opened?;
        if let Some(fault) = fault {
            return Err(fault);
        }
        self.unopened.clear();
        self.unopened.extend_from_slice(bytes.get(opened.used..).unwrap_or_default());
        if self.unopened.is_empty() {
            // Idle clients hold no buffer.
            self.unopened = Vec::new();
        }
        if !send.is_empty() {
            self.send(&send, scratch)?;
        }
        self.log_in_when_ready(scratch)?;
        if opened.ended {
            return Err(LinkError::Closed);
        }
        // A read that leaves room has emptied the socket: what comes next is a new event.
        Ok(if len == end - held || self.ending { Received::More } else { Received::All })
    }

    /// Sends `plaintext`; what the socket refuses goes out later, before anything else.
    ///
    /// # Errors
    ///
    /// [`LinkError`]; the link is of no use.
    pub fn send(&mut self, plaintext: &[u8], scratch: &mut Scratch) -> Result<(), LinkError> {
        self.send_in_pieces(plaintext, usize::MAX, scratch)
    }

    /// Sends `plaintext` in one write, with a TLS record for every `piece` bytes of it: as
    /// Tailscale's clients do, which put every frame into a record of its own.
    ///
    /// # Errors
    ///
    /// As [`Link::send`].
    pub fn send_in_pieces(
        &mut self,
        plaintext: &[u8],
        piece: usize,
        scratch: &mut Scratch,
    ) -> Result<(), LinkError> {
        if matches!(self.channel, Channel::Plain) {
            return self.write(plaintext);
        }
        let len = self.channel.seal(plaintext, piece, &mut scratch.sealed)?;
        self.write(scratch.sealed.get(..len).unwrap_or_default())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let taken = if self.refused.is_empty() { write_some(&mut self.stream, bytes)? } else { 0 };
        self.refused.extend_from_slice(bytes.get(taken..).unwrap_or_default());
        Ok(())
    }

    fn write_refused(&mut self) -> Result<(), LinkError> {
        if self.refused.is_empty() {
            return Ok(());
        }
        let taken = write_some(&mut self.stream, &self.refused)?;
        self.refused.drain(..taken);
        Ok(())
    }

    /// Goes on to the login once application data can be sent.
    fn log_in_when_ready(&mut self, scratch: &mut Scratch) -> Result<(), LinkError> {
        if !self.channel.is_ready() || !matches!(self.stage, Stage::Securing(_)) {
            return Ok(());
        }
        let Stage::Securing(own) = std::mem::replace(&mut self.stage, Stage::Open) else {
            return Ok(());
        };
        let relay =
            if self.fast_start { login::relay_key(self.channel.certificates()) } else { None };
        let (login, send) = Login::begin(own, &self.host, relay)?;
        self.stage = Stage::LoggingIn(login);
        self.send(&send, scratch)
    }
}

/// Takes plaintext where the link is.
fn on_plain(
    stage: &mut Stage,
    session: &mut Session,
    plain: &[u8],
    send: &mut Vec<u8>,
    each: &mut impl FnMut(Event<'_>),
) -> Result<(), LinkError> {
    let behind;
    let mut rest = plain;
    if let Stage::LoggingIn(login) = stage {
        let Some(held) = login.on_bytes(plain, send)? else { return Ok(()) };
        *stage = Stage::Open;
        behind = held;
        rest = &behind;
    }
    while let Some(event) = session.on_bytes(&mut rest)? {
        if let Event::Ping(data) = event {
            client::pong(data, send);
        } else {
            each(event);
        }
    }
    Ok(())
}

fn connect(address: SocketAddr, dialing: Dialing) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if let Some(bytes) = dialing.receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = dialing.source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(IN_PROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}

/// What the kernel says of a connection that is being made.
const IN_PROGRESS: i32 = rustix::io::Errno::INPROGRESS.raw_os_error();

/// Writes as much as the socket takes.
fn write_some(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut taken = 0;
    while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
        match stream.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            // A part: there is no room for more.
            Ok(len) if len < rest.len() => return Ok(taken + len),
            Ok(len) => taken += len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(taken)
}

fn idle(error: io::Error) -> Result<Received, LinkError> {
    let is = |kind| error.kind() == kind;
    if is(io::ErrorKind::WouldBlock) {
        Ok(Received::All)
    } else if is(io::ErrorKind::Interrupted) {
        Ok(Received::More)
    } else if is(io::ErrorKind::ConnectionReset) {
        Err(LinkError::Closed)
    } else {
        Err(error.into())
    }
}
