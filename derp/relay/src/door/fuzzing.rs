//! The front door's parsing of requests without a socket, a runtime or a clock: for fuzzing.
//!
//! Does: runs the very code that serves a connection (`door::http`) on bytes in memory.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::counters::{Counters, Listener};
use super::http::{Connection, Outcome, Site};
use super::limits::{Gate, Limits};
use super::upgrade::Native;
use crate::config::Home;

/// Polls after which a connection that never ends counts as over. Each takes sixteen requests.
const MAX_POLLS: usize = 4_096;

/// What became of the bytes of a connection.
#[derive(Debug, Default)]
pub struct Spoken {
    /// How DERP begins, if a request asked for it.
    pub native: Option<Native>,
    /// What the relay answered to the requests before that.
    pub answered: Vec<u8>,
    /// What came behind that request.
    pub left: Vec<u8>,
}

/// Serves `sent`, all that a client of the DERP listener sends, in reads of `piece` bytes.
#[must_use]
pub fn upgrade_request(sent: &[u8], piece: usize, own_tls: bool) -> Spoken {
    let memory = Memory { sent: sent.to_vec(), read: 0, piece: piece.max(1), answered: Vec::new() };
    let counters = Arc::new(Counters::new(Gate::new(Limits::default(), 1)));
    let site = Site { listener: Listener::Derp, own_tls, home: Home::Blank };
    let mut connection = Connection::new(memory, site, counters);
    let mut cx = Context::from_waker(Waker::noop());
    for _ in 0..MAX_POLLS {
        match connection.poll(&mut cx) {
            Poll::Pending => {}
            Poll::Ready(Err(_)) => return Spoken::default(),
            Poll::Ready(Ok(())) => break,
        }
    }
    match connection.into_outcome() {
        Outcome::Over(memory) => Spoken { answered: memory.answered, ..Spoken::default() },
        Outcome::Upgrade(upgrade) => {
            let mut left = upgrade.received.to_vec();
            left.extend_from_slice(&upgrade.io.sent[upgrade.io.read..]);
            Spoken { native: Some(upgrade.native), answered: upgrade.io.answered, left }
        }
    }
}

/// A connection in memory: the client has sent everything already, and reads everything.
struct Memory {
    sent: Vec<u8>,
    read: usize,
    piece: usize,
    answered: Vec<u8>,
}

impl AsyncRead for Memory {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = &self.sent[self.read..];
        let len = left.len().min(self.piece).min(out.remaining());
        out.put_slice(&left[..len]);
        self.read += len;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Memory {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.answered.extend_from_slice(data);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const REQUEST: &[u8] = b"GET /derp HTTP/1.1\r\nHost: a\r\nUpgrade: DERP\r\n\r\n";

    /// DERP-1.6: the result does not depend on how a network cuts the stream.
    #[test]
    fn what_follows_an_upgrade_is_left_however_the_stream_is_cut() {
        let sent = [REQUEST, b"\x02\0\0\0\x03abc"].concat();
        for piece in 1..=sent.len() {
            let spoken = upgrade_request(&sent, piece, true);

            assert_eq!(spoken.native, Some(Native { fast_start: false, ideal: true }), "{piece}");
            assert!(spoken.answered.is_empty());
            assert_eq!(spoken.left, b"\x02\0\0\0\x03abc");
        }
    }

    /// Every seed is served, cut or whole, and what it leaves is the end of what it sent.
    #[test]
    fn the_seeds_are_served_alike_however_they_are_cut() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/upgrade_request");
        let mut upgrades = 0;
        let mut seeds = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let sent = fs::read(entry.unwrap().path()).unwrap();
            let whole = upgrade_request(&sent, sent.len(), true);
            for piece in [1, 2, 7, 100] {
                let cut = upgrade_request(&sent, piece, true);
                assert_eq!((cut.native, &cut.left), (whole.native, &whole.left));
            }
            assert!(sent.ends_with(&whole.left));
            seeds += 1;
            upgrades += u32::from(whole.native.is_some());
        }
        assert!(upgrades > 5 && seeds > upgrades, "{upgrades} of {seeds}");
    }
}
