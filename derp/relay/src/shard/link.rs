//! What lies between a socket and DERP frames: nothing, or TLS.
//!
//! Does: opens received records and seals what is to be sent, by our own record layer or by
//! rustls'. Does not: touch the socket, or hold received bytes; what is not a whole record stays
//! with the caller.
//!
//! ```text
//! open: | header | plaintext | tag | header | plaintext | tag | start of a record |
//!                  ^^^^^^^^^                  ^^^^^^^^^         kept by the caller
//! begin_record, gather, finish_record: | sealed | header | plaintext ... | tag |
//! ```
//!
//! The layers: `tls::record`.

use std::ops::Range;

use derp::time::Time;

use crate::handover::Transport;
use crate::tls::record::{self, Fault, HEADER_LEN, Record, Unbuffered};

pub(super) use crate::tls::record::Opened;

/// Longest record that a peer may send, header included, in bytes. Source: RFC 8446 section
/// 5.2; RFC 5246 section 6.2.3 allows more, which rustls refuses above this.
pub(super) const MAX_RECORD: usize = 5 + 16 * 1024 + 2_048;

/// Room that a caller of [`Link::begin_record`] should have in its buffer besides the plaintext,
/// in bytes: header, content type, tag, and a change of keys now and then. With less the buffer
/// may move.
pub(super) const RECORD_ROOM: usize = 128;

pub(super) enum Link {
    Plain,
    /// TLS 1.3, by our own record layer.
    Record(Box<Record>),
    /// TLS 1.2, and what was left unfinished at the hand-over.
    Tls(Unbuffered),
}

/// The connection cannot go on: the peer broke TLS, or a buffer was too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        tracing::debug!(%fault, "TLS cannot go on");
        Self
    }
}

impl From<Transport> for Link {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Plain => Self::Plain,
            Transport::Record(record) => Self::Record(record),
            Transport::Tls(connection) => Self::Tls(Unbuffered::new(connection)),
        }
    }
}

impl Link {
    /// Opens the whole records at the front of `bytes`, all of them, before anything is looked
    /// at: appends to `plain` where in `bytes` each one's plaintext is, in order.
    ///
    /// What TLS itself has to say (key updates, alerts) is appended to `answer`, which must be
    /// sent before anything that is sealed later. Plaintext is where its record was decrypted;
    /// with rustls' record layer it is copied there. An error leaves in `plain` what came before
    /// the fault.
    pub(super) fn open(
        &mut self,
        bytes: &mut [u8],
        now: Time,
        answer: &mut Vec<u8>,
        plain: &mut Vec<Range<usize>>,
    ) -> Result<Opened, Broken> {
        match self {
            Self::Plain => {
                if !bytes.is_empty() {
                    plain.push(0..bytes.len());
                }
                Ok(Opened { used: bytes.len(), ended: false })
            }
            Self::Record(record) => Ok(record.open(bytes, now, answer, |at, plaintext| {
                plain.push(at..at + plaintext.len());
            })?),
            Self::Tls(connection) => Ok(connection.open_ranges(bytes, answer, plain)?),
        }
    }

    /// Begins a record behind `out`; returns where its plaintext begins, which the caller then
    /// appends: at most [`Link::record_len`] bytes.
    pub(super) fn begin_record(&self, out: &mut Vec<u8>) -> usize {
        out.resize(out.len() + self.header_len(), 0);
        out.len()
    }

    /// Ends the record that [`Link::begin_record`] began: what `out` holds from `plaintext_at`
    /// on is sealed where it is. Nothing remains of a record without plaintext.
    pub(super) fn finish_record(
        &mut self,
        out: &mut Vec<u8>,
        plaintext_at: usize,
    ) -> Result<(), Broken> {
        if out.len() <= plaintext_at {
            out.truncate(plaintext_at.saturating_sub(self.header_len()));
            return Ok(());
        }
        match self {
            Self::Plain => {}
            Self::Record(record) => record.seal_in_place(out, plaintext_at)?,
            Self::Tls(connection) => connection.seal_in_place(out, plaintext_at)?,
        }
        Ok(())
    }

    /// Most plaintext bytes in one record.
    pub(super) const fn record_len(&self) -> usize {
        match self {
            Self::Plain => usize::MAX,
            Self::Record(_) | Self::Tls(_) => record::MAX_PLAINTEXT,
        }
    }

    /// Bytes in front of the plaintext of a record.
    const fn header_len(&self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Record(_) | Self::Tls(_) => HEADER_LEN,
        }
    }

    /// Appends what TLS says at the end to `out`: its alert for what went wrong, or that nothing
    /// more is sent.
    pub(super) fn close(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Plain => {}
            Self::Record(record) => record.close(out),
            Self::Tls(connection) => connection.close(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::record::pair::{Pair, Suite, give, say};

    /// On every kind of link: what one side writes, the other one reads.
    #[test]
    fn every_link_carries_both_ways() {
        for suite in Suite::ALL {
            let Pair { mut client, server } = Pair::new(suite);
            let transport = Transport::tls(server, suite != Suite::ChaCha20).unwrap();
            let mut link = Link::from(transport);
            let ours = [Suite::Aes128, Suite::Aes256].contains(&suite);
            assert_eq!(matches!(link, Link::Record(_)), ours, "{suite:?}");
            let said: Vec<u8> = (0..50_000_u32).map(|at| at.to_le_bytes()[0] ^ 3).collect();

            let (mut wire, mut answer) = (Vec::new(), Vec::new());
            say(&mut client, &said, 1_400, &mut wire);
            let whole = wire.len();
            wire.extend_from_slice(&[23, 3, 3]);
            let mut plain = Vec::new();
            let opened = link.open(&mut wire, Time::ZERO, &mut answer, &mut plain);
            assert_eq!(opened, Ok(Opened { used: whole, ended: false }));
            let read: Vec<u8> = plain.into_iter().flat_map(|range| &wire[range]).copied().collect();
            assert_eq!(read, said);

            let mut out = Vec::with_capacity(said.len() + 4 * RECORD_ROOM);
            for piece in said.chunks(link.record_len()) {
                let plaintext_at = link.begin_record(&mut out);
                out.extend_from_slice(piece);
                link.finish_record(&mut out, plaintext_at).unwrap();
            }
            assert_eq!(give(&mut client, &out), Ok(said.clone()));
            let mut goodbye = Vec::new();
            link.close(&mut goodbye);
            assert_eq!(give(&mut client, &goodbye), Ok(Vec::new()));
            assert!(client.process_new_packets().unwrap().peer_has_closed());
        }
    }

    #[test]
    fn a_record_without_plaintext_leaves_nothing() {
        for suite in [Suite::Aes128, Suite::Tls12] {
            let server = Pair::new(suite).server;
            let mut link = Link::from(Transport::tls(server, true).unwrap());
            let mut out = b"before".to_vec();
            let plaintext_at = link.begin_record(&mut out);
            link.finish_record(&mut out, plaintext_at).unwrap();
            assert_eq!(out, b"before");
        }
    }

    #[test]
    fn a_plain_link_changes_nothing() {
        let mut link = Link::from(Transport::Plain);
        let (mut answer, mut plain, mut out) = (Vec::new(), Vec::new(), Vec::new());
        let opened = link.open(&mut [1, 2, 3], Time::ZERO, &mut answer, &mut plain);
        assert_eq!(opened, Ok(Opened { used: 3, ended: false }));
        assert_eq!(plain.pop(), Some(0..3));
        let plaintext_at = link.begin_record(&mut out);
        out.extend_from_slice(b"said");
        link.finish_record(&mut out, plaintext_at).unwrap();
        assert_eq!(out, b"said");
        link.close(&mut out);
        assert_eq!(out, b"said");
        assert!(answer.is_empty());
    }
}
