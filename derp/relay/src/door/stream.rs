//! One connection as a byte stream, with our TLS or without.
//!
//! Does: reads and writes, comes apart for the hand-over, and ends politely.
//! Does not: know HTTP or DERP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;

use crate::handover::Transport;
use crate::tls::{self, Handshake};

/// Time for which a connection is read after our last byte. Closing with unread bytes sends a
/// reset, which can overtake the answer that the client shall see.
const LINGER: Duration = Duration::from_millis(500);

/// Bytes that are read in that time and thrown away.
const LINGER_BYTES: usize = 64 * 1024;

/// A connection before its hand-over.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Handshake),
}

/// What a stream comes apart into.
pub(super) struct Leaving {
    pub(super) socket: std::net::TcpStream,
    pub(super) transport: Transport,
    pub(super) plaintext: Vec<u8>,
    pub(super) ciphertext: Vec<u8>,
}

impl Stream {
    pub(super) fn is_tls(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(_) => true,
        }
    }

    /// Takes the connection from tokio, with everything sent that was written.
    pub(super) async fn leave(mut self) -> Result<Leaving, tls::Failure> {
        self.flush().await?;
        let (socket, transport, plaintext, ciphertext) = match self {
            Self::Plain(socket) => (socket, Transport::Plain, Vec::new(), Vec::new()),
            Self::Tls(handshake) => {
                let parts = handshake.into_parts().await?;
                let transport = Transport::tls(parts.connection, parts.settled)?;
                (parts.socket, transport, parts.plaintext, parts.ciphertext)
            }
        };
        Ok(Leaving { socket: socket.into_std()?, transport, plaintext, ciphertext })
    }

    /// Says goodbye if that takes no waiting, and closes.
    pub(super) async fn hang_up(mut self) {
        std::future::poll_fn(|cx| {
            // What cannot go out now never will.
            let _said = Pin::new(&mut self).poll_shutdown(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Says goodbye, and waits a moment until the client has read what we said.
    pub(super) async fn close(mut self) {
        let goodbye = async {
            self.shutdown().await?;
            let mut thrown_away = [0; 1_024];
            let mut left = LINGER_BYTES;
            loop {
                match self.read(&mut thrown_away).await? {
                    0 => return Ok::<_, io::Error>(()),
                    len if len >= left => return Ok(()),
                    len => left -= len,
                }
            }
        };
        // Either way the connection is closed now; nobody is left to tell.
        let _closed = tokio::time::timeout(LINGER, goodbye).await;
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, out),
            Self::Tls(handshake) => Pin::new(handshake).poll_read(cx, out),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, data),
            Self::Tls(handshake) => Pin::new(handshake).poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(handshake) => Pin::new(handshake).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(handshake) => Pin::new(handshake).poll_shutdown(cx),
        }
    }
}
