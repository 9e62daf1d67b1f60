//! rustls' own record layer, with the interface of ours.
//!
//! Does: opens and seals on the unbuffered connection, for TLS 1.2 and for what is left
//! unfinished at the hand-over. Does not: spare copies; rustls gives plaintext and takes it in
//! buffers of its own.

use std::ops::Range;

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    AppDataRecord, ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus,
};

use super::{Fault, HEADER_LEN, MAX_PLAINTEXT, Opened};

/// Most that a record is longer than its plaintext, in bytes: header, explicit nonce (TLS 1.2),
/// content type, tag.
const RECORD_OVERHEAD: usize = HEADER_LEN + 8 + 1 + 16;

/// Room that a key update takes, which rustls may put in front of what is sealed, in bytes.
const KEY_UPDATE_ROOM: usize = 5 + 5 + RECORD_OVERHEAD;

/// A connection that rustls carries.
pub struct Unbuffered {
    connection: Box<UnbufferedServerConnection>,
}

/// What one look at received bytes brought.
struct Step {
    /// Bytes that are done with.
    discard: usize,
    /// Another look brings more.
    again: bool,
    /// The peer sends nothing more.
    ended: bool,
}

impl std::fmt::Debug for Unbuffered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unbuffered")
    }
}

impl Unbuffered {
    /// Takes a connection whose handshake is done.
    #[must_use]
    pub const fn new(connection: Box<UnbufferedServerConnection>) -> Self {
        Self { connection }
    }

    /// Gives the connection back.
    #[must_use]
    pub fn into_connection(self) -> UnbufferedServerConnection {
        *self.connection
    }

    /// Opens the whole records at the front of `bytes` and passes each one's plaintext on, which
    /// is not in `bytes`.
    ///
    /// What TLS has to say to the peer is appended to `answer`.
    ///
    /// # Errors
    ///
    /// [`Fault::Internal`] whatever the peer did; rustls has the alert, for [`Unbuffered::close`].
    pub fn open(
        &mut self,
        bytes: &mut [u8],
        answer: &mut Vec<u8>,
        mut each: impl FnMut(&[u8]),
    ) -> Result<Opened, Fault> {
        // A moving offset: moving the remainder forward after each record costs a copy per record.
        let mut opened = Opened { used: 0, ended: false };
        loop {
            let rest = bytes.get_mut(opened.used..).ok_or(Fault::Internal)?;
            let step = self.step(rest, answer, &mut each)?;
            opened.used += step.discard;
            opened.ended = step.ended;
            if !step.again {
                return Ok(opened);
            }
        }
    }

    /// Opens as [`Unbuffered::open`] does, and puts each plaintext back where its record was.
    ///
    /// # Errors
    ///
    /// As [`Unbuffered::open`].
    pub fn open_ranges(
        &mut self,
        bytes: &mut [u8],
        answer: &mut Vec<u8>,
        plain: &mut Vec<Range<usize>>,
    ) -> Result<Opened, Fault> {
        let mut opened = Opened { used: 0, ended: false };
        let mut payload = Vec::new();
        loop {
            let rest = bytes.get_mut(opened.used..).ok_or(Fault::Internal)?;
            payload.clear();
            let step = self.step(rest, answer, &mut |piece| payload.extend_from_slice(piece))?;
            if !payload.is_empty() {
                // A plaintext is shorter than the records that are done with, of which it is one.
                let place = rest.get_mut(..step.discard.min(payload.len()));
                let place = place.filter(|place| place.len() == payload.len());
                place.ok_or(Fault::Internal)?.copy_from_slice(&payload);
                plain.push(opened.used..opened.used + payload.len());
            }
            opened.used += step.discard;
            opened.ended = step.ended;
            if !step.again {
                return Ok(opened);
            }
        }
    }

    /// Seals what `out` holds from `plaintext_at` on, in its place and that of the
    /// [`HEADER_LEN`] bytes before it, with two copies.
    ///
    /// # Errors
    ///
    /// [`Fault::Internal`]; a caller closes.
    pub fn seal_in_place(&mut self, out: &mut Vec<u8>, plaintext_at: usize) -> Result<(), Fault> {
        let start = plaintext_at.checked_sub(HEADER_LEN).ok_or(Fault::Internal)?;
        let end = out.len();
        let needed = sealed_len(end.checked_sub(plaintext_at).ok_or(Fault::Internal)?);
        out.resize(end + needed, 0);
        let (front, place) = out.split_at_mut_checked(end).ok_or(Fault::Internal)?;
        let plaintext = front.get(plaintext_at..).ok_or(Fault::Internal)?;
        let len = self.encrypt(plaintext, place)?;
        out.copy_within(end..end + len, start);
        out.truncate(start + len);
        Ok(())
    }

    /// Seals `plaintext` behind `out`.
    ///
    /// # Errors
    ///
    /// [`Fault::Internal`]; a caller closes.
    pub fn seal(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        let start = out.len();
        out.resize(start + sealed_len(plaintext.len()), 0);
        let len = self.encrypt(plaintext, out.get_mut(start..).ok_or(Fault::Internal)?)?;
        out.truncate(start + len);
        Ok(())
    }

    /// Appends what TLS says at the end to `out`: its alert for what went wrong, or that nothing
    /// more is sent.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        // Empty input throughout: rustls holds it for a fault of its own to be given bytes again
        // that it has refused.
        loop {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    if encode(&mut data, out).is_err() {
                        return;
                    }
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let mut alert = [0; KEY_UPDATE_ROOM + 2 + RECORD_OVERHEAD];
                    if let Ok(len) = traffic.queue_close_notify(&mut alert) {
                        out.extend_from_slice(alert.get(..len).unwrap_or_default());
                    }
                    return;
                }
                Ok(_) | Err(_) => return,
            }
        }
    }

    fn encrypt(&mut self, plaintext: &[u8], place: &mut [u8]) -> Result<usize, Fault> {
        let UnbufferedStatus { state, .. } = self.connection.process_tls_records(&mut []);
        let Ok(ConnectionState::WriteTraffic(mut traffic)) = state else {
            return Err(Fault::Internal);
        };
        traffic.encrypt(plaintext, place).map_err(|error| match error {
            EncryptError::InsufficientSize(_) | EncryptError::EncryptExhausted => Fault::Internal,
        })
    }

    fn step(
        &mut self,
        bytes: &mut [u8],
        answer: &mut Vec<u8>,
        each: &mut impl FnMut(&[u8]),
    ) -> Result<Step, Fault> {
        let UnbufferedStatus { mut discard, state } = self.connection.process_tls_records(bytes);
        let state = state.map_err(|error| {
            tracing::debug!(%error, "rustls refuses a record");
            Fault::Internal
        })?;
        let (again, ended) = match state {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let AppDataRecord { discard: also, payload, .. } =
                        record.map_err(|_| Fault::Internal)?;
                    each(payload);
                    discard += also;
                }
                (true, false)
            }
            ConnectionState::EncodeTlsData(mut data) => {
                encode(&mut data, answer)?;
                (true, false)
            }
            ConnectionState::TransmitTlsData(data) => {
                data.done();
                (true, false)
            }
            ConnectionState::PeerClosed | ConnectionState::Closed => (false, true),
            ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake => (false, false),
            // Early data is never accepted, and what rustls may add one day is not known here.
            ConnectionState::ReadEarlyData(_) | _ => return Err(Fault::Internal),
        };
        Ok(Step { discard, again, ended })
    }
}

/// Most bytes that `plaintext_len` bytes become when they are sealed.
const fn sealed_len(plaintext_len: usize) -> usize {
    let records = plaintext_len.div_ceil(MAX_PLAINTEXT);
    plaintext_len + records * RECORD_OVERHEAD + KEY_UPDATE_ROOM
}

/// Appends what rustls wants to send by itself.
fn encode(
    data: &mut EncodeTlsData<'_, ServerConnectionData>,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    let start = out.len();
    let needed = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(error)) => error.required_size,
        Ok(_) | Err(EncodeError::AlreadyEncoded) => 0,
    };
    out.resize(start + needed, 0);
    let place = out.get_mut(start..).ok_or(Fault::Internal)?;
    data.encode(place).map(|_| ()).map_err(|_| Fault::Internal)
}
