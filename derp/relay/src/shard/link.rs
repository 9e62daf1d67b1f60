//! What lies between a socket and DERP frames: nothing, or TLS.
//!
//! Does: opens received records and seals what is to be sent, on rustls' unbuffered connection.
//! Does not: touch the socket, or hold received bytes; what is not a whole record stays with the
//! caller. The record layer of a later version takes its place beside `Tls`.

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    AppDataRecord, ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus,
};

use crate::handover::Transport;

/// Most plaintext in one record, in bytes. Source: RFC 8446 section 5.1.
const MAX_RECORD_PLAINTEXT: usize = 16 * 1024;

/// Most that a record is longer than its plaintext, in bytes: header, explicit nonce (TLS 1.2),
/// content type, tag.
const RECORD_OVERHEAD: usize = 5 + 8 + 1 + 16;

/// Room that a KeyUpdate takes, which rustls may put in front of what is sealed, in bytes.
const KEY_UPDATE_ROOM: usize = 5 + 5 + RECORD_OVERHEAD;

/// Longest record that a peer may send, header included, in bytes. Source: RFC 8446 section
/// 5.2; RFC 5246 section 6.2.3 allows more, which rustls refuses above this.
pub(super) const MAX_RECORD: usize = 5 + 16 * 1024 + 2_048;

pub(super) enum Link {
    Plain,
    Tls(Box<UnbufferedServerConnection>),
}

/// What became of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    /// Bytes that are done with; the rest is the start of a record.
    pub(super) used: usize,
    /// The peer sends nothing more.
    pub(super) ended: bool,
}

/// The connection cannot go on: the peer broke TLS, or a buffer was too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

impl From<Transport> for Link {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Plain => Self::Plain,
            Transport::Tls(connection) => Self::Tls(connection),
        }
    }
}

impl Link {
    /// Opens the whole records at the front of `bytes` and passes each one's plaintext on.
    ///
    /// What TLS itself has to say (key updates, alerts) is appended to `answer`.
    pub(super) fn open(
        &mut self,
        bytes: &mut [u8],
        answer: &mut Vec<u8>,
        mut each: impl FnMut(&[u8]),
    ) -> Result<Opened, Broken> {
        match self {
            Self::Plain => {
                each(bytes);
                Ok(Opened { used: bytes.len(), ended: false })
            }
            Self::Tls(connection) => open_records(connection, bytes, answer, &mut each),
        }
    }

    /// Seals `plaintext` into `out` from its start; returns the bytes that are to be sent.
    ///
    /// `out` grows to what [`sealed_len`] says and never shrinks. Plain links return `plaintext`.
    pub(super) fn seal<'a>(
        &mut self,
        plaintext: &'a [u8],
        out: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], Broken> {
        let Self::Tls(connection) = self else { return Ok(plaintext) };
        let needed = sealed_len(plaintext.len());
        if out.len() < needed {
            out.resize(needed, 0);
        }
        let UnbufferedStatus { state, .. } = connection.process_tls_records(&mut []);
        let ConnectionState::WriteTraffic(mut traffic) = state.map_err(|_| Broken)? else {
            return Err(Broken);
        };
        let len = traffic.encrypt(plaintext, out).map_err(|_| Broken)?;
        out.get(..len).ok_or(Broken)
    }

    /// Appends what TLS says at the end to `out`: its alert for what went wrong, or that nothing
    /// more is sent.
    pub(super) fn close(&mut self, out: &mut Vec<u8>) {
        let Self::Tls(connection) = self else { return };
        // Empty input throughout: rustls holds it for a fault of its own to be given bytes again
        // that it has refused.
        loop {
            match connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    if encode(&mut data, out).is_err() {
                        return;
                    }
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let mut alert = [0; KEY_UPDATE_ROOM];
                    if let Ok(len) = traffic.queue_close_notify(&mut alert) {
                        out.extend_from_slice(alert.get(..len).unwrap_or_default());
                    }
                    return;
                }
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// Most bytes that `plaintext_len` bytes become when they are sealed.
pub(super) const fn sealed_len(plaintext_len: usize) -> usize {
    let records = plaintext_len.div_ceil(MAX_RECORD_PLAINTEXT);
    plaintext_len + records * RECORD_OVERHEAD + KEY_UPDATE_ROOM
}

fn open_records(
    connection: &mut UnbufferedServerConnection,
    bytes: &mut [u8],
    answer: &mut Vec<u8>,
    each: &mut impl FnMut(&[u8]),
) -> Result<Opened, Broken> {
    // A moving offset: moving the remainder forward after each record costs a copy per record.
    let mut opened = Opened { used: 0, ended: false };
    loop {
        let rest = bytes.get_mut(opened.used..).ok_or(Broken)?;
        let UnbufferedStatus { mut discard, state } = connection.process_tls_records(rest);
        let more = match state.map_err(|_| Broken)? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let AppDataRecord { discard: also, payload, .. } =
                        record.map_err(|_| Broken)?;
                    each(payload);
                    discard += also;
                }
                true
            }
            ConnectionState::EncodeTlsData(mut data) => {
                encode(&mut data, answer)?;
                true
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                true
            }
            ConnectionState::PeerClosed | ConnectionState::Closed => {
                opened.ended = true;
                false
            }
            ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake => false,
            // Early data is never accepted, and what rustls may add one day is not known here.
            ConnectionState::ReadEarlyData(_) | _ => return Err(Broken),
        };
        opened.used += discard;
        if !more {
            return Ok(opened);
        }
    }
}

/// Appends what rustls wants to send by itself.
fn encode(
    data: &mut EncodeTlsData<'_, ServerConnectionData>,
    out: &mut Vec<u8>,
) -> Result<(), Broken> {
    let start = out.len();
    let needed = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(error)) => error.required_size,
        Ok(_) | Err(EncodeError::AlreadyEncoded) => 0,
    };
    out.resize(start + needed, 0);
    let place = out.get_mut(start..).ok_or(Broken)?;
    data.encode(place).map(|_| ()).map_err(|_| Broken)
}
