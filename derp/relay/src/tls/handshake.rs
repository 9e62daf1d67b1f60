//! One TLS connection from its first byte to its hand-over, as an async byte stream.
//!
//! Does: runs the handshake on rustls' unbuffered connection, opens and seals what the HTTP
//! request and the login exchange, and comes apart into socket, connection and bytes, with
//! nothing left to send.
//! Does not: carry packets (a shard does), hold a clock, or decide how long anything may take.
//!
//! ```text
//! socket -> [ ciphertext ] -> rustls -> [ plaintext ] -> poll_read
//! socket <- [  outgoing  ] <- rustls <------------------ poll_write
//! ```
//!
//! A request in one flight with the end of the handshake is normal, and so is a login in one
//! segment with the request. Next on the way of a connection: `door::http`.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus,
};
use rustls::{ProtocolVersion, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::buffer::{Ciphertext, MAX_OUTGOING_BYTES, Outgoing, Written};
use super::failure::Failure;
use super::record;

/// Most plaintext in one record.
const MAX_RECORD_PLAINTEXT: usize = 16 * 1024;

/// Most that sealing adds to one record, any cipher suite.
const MAX_RECORD_OVERHEAD: usize = 5 + 256;

/// A TLS connection that has not been handed over.
pub struct Handshake {
    socket: TcpStream,
    connection: Box<UnbufferedServerConnection>,
    ciphertext: Ciphertext,
    plaintext: Plaintext,
    outgoing: Outgoing,
    phase: Phase,
    /// The client has sent records without data, and nothing has been written since. One may ask
    /// for other keys, which rustls answers with the next write and does not show before.
    unanswered: bool,
}

/// The pieces of a connection that leaves the front door.
pub struct Parts {
    /// The socket, still registered with tokio.
    pub socket: TcpStream,
    /// The connection, its handshake done, with nothing left to send.
    pub connection: Box<UnbufferedServerConnection>,
    /// Opened bytes that nobody has read.
    pub plaintext: Vec<u8>,
    /// Received bytes that are not opened: less than one record, mostly.
    pub ciphertext: Vec<u8>,
    /// Nothing of what was received or is to be sent is left in the connection: another record
    /// layer may go on with it.
    pub settled: bool,
}

/// How far the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The handshake or the exchange after it goes on.
    Open,
    /// The client sends no more; what we send still arrives.
    PeerClosed,
    /// We have said that we send no more.
    Closed,
    /// Over, by an error.
    Failed,
}

/// What one look at the ciphertext brought.
enum Step {
    /// Something that calls for another look.
    Again,
    /// Plaintext of this many bytes was sealed.
    Sealed(usize),
    /// Nothing to open, nothing to say: bytes have to come.
    NeedsBytes,
}

/// What may be sealed in one step, once the handshake allows it.
#[derive(Clone, Copy)]
enum Offer<'a> {
    /// Nothing.
    Nothing,
    /// Application data.
    Data(&'a [u8]),
    /// That we send no more.
    CloseNotify,
}

impl Handshake {
    /// Takes an accepted connection of which nothing has been read.
    ///
    /// # Errors
    ///
    /// The configuration is not fit for a server: our own fault.
    pub fn new(socket: TcpStream, config: Arc<ServerConfig>) -> Result<Self, Failure> {
        Ok(Self {
            socket,
            connection: Box::new(UnbufferedServerConnection::new(config)?),
            ciphertext: Ciphertext::default(),
            plaintext: Plaintext::default(),
            outgoing: Outgoing::default(),
            phase: Phase::Open,
            unanswered: false,
        })
    }

    /// Waits until the client's first record is here; does none of the work that it asks for.
    ///
    /// # Errors
    ///
    /// [`Failure::Closed`] or [`Failure::Io`].
    pub async fn first_record(&mut self) -> Result<(), Failure> {
        std::future::poll_fn(|cx| {
            while !self.ciphertext.has_record() {
                ready!(self.poll_receive(cx))?;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Runs the handshake to its end, our last flight sent. May be dropped and called again.
    ///
    /// # Errors
    ///
    /// Any [`Failure`]; an alert has then been sent if TLS has one for it.
    pub async fn complete(&mut self) -> Result<(), Failure> {
        std::future::poll_fn(|cx| self.poll_complete(cx)).await
    }

    /// The version that the handshake agreed on.
    #[must_use]
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.connection.protocol_version()
    }

    /// Takes the connection apart, with everything that is whole opened and all that rustls
    /// had to say sent: only then may another thread go on with it, or another record layer.
    ///
    /// # Errors
    ///
    /// Any [`Failure`]; [`Failure::Closed`] also if the client has said that it sends no more.
    pub async fn into_parts(mut self) -> Result<Parts, Failure> {
        self.complete().await?;
        std::future::poll_fn(|cx| {
            while self.phase == Phase::Open {
                match self.step(Offer::Nothing) {
                    Ok(Step::NeedsBytes) => return self.poll_send(cx),
                    Ok(Step::Again | Step::Sealed(_)) => {}
                    Err(failure) => return self.poll_fail(cx, failure),
                }
            }
            Poll::Ready(Err(Failure::Closed))
        })
        .await?;
        debug_assert!(self.outgoing.unsent().is_empty(), "poll_send ends with nothing unsent");
        // A whole record is left if it holds half a message: rustls opens it, and lets it lie.
        let settled = !self.unanswered && record::count(self.ciphertext.unopened()) == 0;
        Ok(Parts {
            settled,
            socket: self.socket,
            connection: self.connection,
            plaintext: self.plaintext.into_unread(),
            ciphertext: self.ciphertext.into_unopened(),
        })
    }

    fn poll_complete(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        while self.connection.is_handshaking() {
            match self.step(Offer::Nothing) {
                Ok(Step::Again | Step::Sealed(_)) => {}
                Ok(Step::NeedsBytes) => {
                    if self.phase != Phase::Open {
                        return Poll::Ready(Err(Failure::Closed));
                    }
                    // The client cannot go on before it has our flight.
                    ready!(self.poll_send(cx))?;
                    ready!(self.poll_receive(cx))?;
                }
                Err(failure) => return self.poll_fail(cx, failure),
            }
        }
        self.poll_send(cx)
    }

    /// Looks at the ciphertext once: opens a record, or takes what rustls has to say, or seals
    /// what is offered. Each call either makes progress or says that bytes have to come.
    fn step(&mut self, offer: Offer<'_>) -> Result<Step, Failure> {
        if self.phase == Phase::Failed {
            return Err(Failure::Closed);
        }
        let handshaking = self.connection.is_handshaking();
        let mut with_data = 0;
        let UnbufferedStatus { discard, state } =
            self.connection.process_tls_records(self.ciphertext.unopened());
        let outgoing = &mut self.outgoing;
        let step = match state {
            Ok(ConnectionState::ReadTraffic(mut records)) => {
                while let Some(record) = records.next_record() {
                    self.plaintext.bytes.extend_from_slice(record?.payload);
                    with_data += 1;
                }
                Ok(Step::Again)
            }
            Ok(ConnectionState::EncodeTlsData(mut message)) => outgoing
                .append(|out| match message.encode(out) {
                    Ok(len) => Written::Bytes(len),
                    Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                        Written::Needs(required_size)
                    }
                    Err(EncodeError::AlreadyEncoded) => Written::Nothing,
                })
                .map_or(Err(Failure::TooLarge), |()| Ok(Step::Again)),
            // The bytes are ours now; they go out before we wait for anything.
            Ok(ConnectionState::TransmitTlsData(transmit)) => {
                transmit.done();
                Ok(Step::Again)
            }
            Ok(ConnectionState::PeerClosed) => {
                self.phase = Phase::PeerClosed;
                Ok(Step::Again)
            }
            Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                let (sealed, len) = match offer {
                    Offer::Nothing => (Some(()), 0),
                    Offer::Data(data) => {
                        (outgoing.append(|out| written(&traffic.encrypt(data, out))), data.len())
                    }
                    Offer::CloseNotify => {
                        (outgoing.append(|out| written(&traffic.queue_close_notify(out))), 0)
                    }
                };
                match (sealed, offer) {
                    (None, _) => Err(Failure::TooLarge),
                    (Some(()), Offer::Nothing) => Ok(Step::NeedsBytes),
                    (Some(()), Offer::Data(_) | Offer::CloseNotify) => Ok(Step::Sealed(len)),
                }
            }
            Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => Ok(Step::NeedsBytes),
            // Early data is not enabled; should rustls know more states one day, they are not ours.
            Ok(_) => Err(Failure::Tls(rustls::Error::General("unknown state".into()))),
            Err(error) => Err(Failure::Tls(error)),
        };
        let done = self.ciphertext.unopened().get(..discard).map_or(0, record::count);
        self.unanswered |= !handshaking && done > with_data;
        if let (Ok(Step::Sealed(_)), Offer::Data(_)) = (&step, offer) {
            self.unanswered = false;
        }
        self.ciphertext.discard(discard);
        step
    }

    /// Ends the connection by `failure`: sends the alert that rustls has for it, if any.
    fn poll_fail<T>(&mut self, cx: &mut Context<'_>, failure: Failure) -> Poll<Result<T, Failure>> {
        // Its alert comes before it looks at the ciphertext, which it must not see again: it
        // would send another alert for the same fault, and holds that for a fault of its own.
        while self.connection.wants_write() && matches!(self.step(Offer::Nothing), Ok(Step::Again))
        {
        }
        self.phase = Phase::Failed;
        // Best effort: an alert is two bytes, and the socket has taken less than a flight.
        let _alert_sent = self.poll_send(cx);
        Poll::Ready(Err(failure))
    }

    /// Sends everything that waits.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        while !self.outgoing.unsent().is_empty() {
            let sent = ready!(Pin::new(&mut self.socket).poll_write(cx, self.outgoing.unsent()))?;
            if sent == 0 {
                return Poll::Ready(Err(Failure::Closed));
            }
            self.outgoing.sent(sent);
        }
        Poll::Ready(Ok(()))
    }

    /// Receives at least one byte.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let Some(room) = self.ciphertext.room() else {
            return Poll::Ready(Err(Failure::TooLarge));
        };
        let mut room = ReadBuf::new(room);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut room))?;
        let received = room.filled().len();
        self.ciphertext.received(received);
        Poll::Ready(if received == 0 { Err(Failure::Closed) } else { Ok(()) })
    }

    fn poll_plaintext(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if self.connection.is_handshaking() {
            ready!(self.poll_complete(cx))?;
        }
        while self.plaintext.unread().is_empty() && self.phase == Phase::Open {
            match self.step(Offer::Nothing) {
                Ok(Step::Again | Step::Sealed(_)) => {}
                Ok(Step::NeedsBytes) => {
                    // What waits to be sent must not keep us from reading; it wakes us too.
                    if let Poll::Ready(Err(failure)) = self.poll_send(cx) {
                        return Poll::Ready(Err(failure));
                    }
                    match ready!(self.poll_receive(cx)) {
                        // Without close_notify: DERP frames have lengths, so nothing is lost.
                        Err(Failure::Closed) => self.phase = Phase::PeerClosed,
                        received => received?,
                    }
                }
                Err(failure) => return self.poll_fail(cx, failure),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_seal(
        &mut self,
        cx: &mut Context<'_>,
        offer: Offer<'_>,
    ) -> Poll<Result<usize, Failure>> {
        if self.connection.is_handshaking() {
            ready!(self.poll_complete(cx))?;
        }
        if self.outgoing.unsent().len() + MAX_RECORD_PLAINTEXT + MAX_RECORD_OVERHEAD
            > MAX_OUTGOING_BYTES
        {
            ready!(self.poll_send(cx))?;
        }
        loop {
            match self.step(offer) {
                Ok(Step::Again) => {}
                Ok(Step::Sealed(len)) => return Poll::Ready(Ok(len)),
                Ok(Step::NeedsBytes) => return Poll::Ready(Err(Failure::Closed)),
                Err(failure) => return self.poll_fail(cx, failure),
            }
        }
    }
}

impl AsyncRead for Handshake {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_plaintext(cx))?;
        let unread = self.plaintext.unread();
        let len = unread.len().min(out.remaining());
        out.put_slice(&unread[..len]);
        self.plaintext.consume(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Handshake {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let data = &data[..data.len().min(MAX_RECORD_PLAINTEXT)];
        Poll::Ready(Ok(ready!(self.poll_seal(cx, Offer::Data(data)))?))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(ready!(self.poll_send(cx))?))
    }

    /// Says that we send no more, by TLS and by TCP. Does not wait for the same from the client.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let says_goodbye = matches!(self.phase, Phase::Open | Phase::PeerClosed);
        if says_goodbye && !self.connection.is_handshaking() {
            ready!(self.poll_seal(cx, Offer::CloseNotify))?;
            self.phase = Phase::Closed;
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// Opened bytes that nobody has read: at most what one buffer of ciphertext opens to.
#[derive(Debug, Default)]
struct Plaintext {
    bytes: Vec<u8>,
    read: usize,
}

impl Plaintext {
    fn unread(&self) -> &[u8] {
        &self.bytes[self.read..]
    }

    fn consume(&mut self, len: usize) {
        self.read += len;
        if self.read == self.bytes.len() {
            // Most connections hold nothing here for most of their time.
            *self = Self::default();
        }
    }

    fn into_unread(mut self) -> Vec<u8> {
        self.bytes.drain(..self.read);
        self.bytes
    }
}

fn written(result: &Result<usize, EncryptError>) -> Written {
    match *result {
        Ok(len) => Written::Bytes(len),
        Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
            Written::Needs(required_size)
        }
        Err(EncryptError::EncryptExhausted) => Written::Nothing,
    }
}
