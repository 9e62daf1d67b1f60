//! What lies between a socket and DERP: nothing, or TLS.
//!
//! Does: opens received records in place and seals what is to be sent on rustls' unbuffered connection: the generator must be cheaper than the server.
//! Does not: touch the socket, or hold received bytes; what is not a whole record stays with the
//! caller.

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::unbuffered::{
    AppDataRecord, ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus,
};
use rustls_pki_types::CertificateDer;

use super::target::Target;

/// Most plaintext in one record, in bytes. Source: RFC 8446 section 5.1.
pub const MAX_RECORD_PLAINTEXT: usize = 16 * 1024;

/// Most that a record is longer than its plaintext: header, explicit nonce, content type, tag.
const RECORD_OVERHEAD: usize = 5 + 8 + 1 + 16;

/// Room for a KeyUpdate, which rustls may put in front.
const KEY_UPDATE_ROOM: usize = 5 + 5 + RECORD_OVERHEAD;

/// Longest record, header included. Source: RFC 8446 section 5.2, RFC 5246 section 6.2.3.
pub const MAX_RECORD: usize = 5 + 16 * 1024 + 2_048;

/// The way that bytes take between socket and DERP.
pub enum Channel {
    /// As they are.
    Plain,
    /// Through TLS.
    Tls(Box<UnbufferedClientConnection>),
}

/// What became of received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Bytes that are done with; the rest is the start of a record.
    pub used: usize,
    /// The peer sends nothing more.
    pub ended: bool,
}

/// TLS cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("TLS: {0}")]
pub struct Broken(String);

impl Broken {
    fn because(why: &impl ToString) -> Self {
        Self(why.to_string())
    }
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain => "Plain",
            Self::Tls(_) => "Tls",
        })
    }
}

impl Channel {
    /// The channel to a target; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`Broken`] for settings that rustls refuses.
    pub fn new(target: &Target) -> Result<Self, Broken> {
        let Some((config, name)) = &target.tls else { return Ok(Self::Plain) };
        let connection = UnbufferedClientConnection::new(config.clone(), name.clone());
        connection
            .map(|connection| Self::Tls(Box::new(connection)))
            .map_err(|error| Broken::because(&error))
    }

    /// Whether application data can be sent.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Plain => true,
            Self::Tls(connection) => !connection.is_handshaking(),
        }
    }

    /// The certificates of the server, its own first, where it was TLS 1.3.
    #[must_use]
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        match self {
            Self::Tls(connection)
                if connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3) =>
            {
                connection.peer_certificates().unwrap_or_default()
            }
            Self::Tls(_) | Self::Plain => &[],
        }
    }

    /// Opens the whole records at the front of `bytes` and passes each one's plaintext on.
    ///
    /// What TLS itself has to say (the handshake, key updates, alerts) is appended to `answer`.
    /// With no bytes at all it begins the handshake.
    ///
    /// # Errors
    ///
    /// [`Broken`]; `answer` may hold an alert that is worth sending.
    pub fn open(
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

    /// Seals `plaintext` into `out` from its start, which grows as far as needed and never
    /// shrinks; returns how many bytes that are. No record holds more than `piece` bytes of it.
    ///
    /// # Errors
    ///
    /// [`Broken`] before the handshake is over, after the end, and without TLS.
    pub fn seal(
        &mut self,
        plaintext: &[u8],
        piece: usize,
        out: &mut Vec<u8>,
    ) -> Result<usize, Broken> {
        let Self::Tls(connection) = self else { return Err(Broken::because(&"there is none")) };
        let piece = piece.clamp(1, MAX_RECORD_PLAINTEXT);
        let records = plaintext.len().div_ceil(piece);
        let needed = plaintext.len() + records * RECORD_OVERHEAD + KEY_UPDATE_ROOM;
        if out.len() < needed {
            out.resize(needed, 0);
        }
        let UnbufferedStatus { state, .. } = connection.process_tls_records(&mut []);
        let ConnectionState::WriteTraffic(mut traffic) =
            state.map_err(|error| Broken::because(&error))?
        else {
            return Err(Broken::because(&"not ready to send"));
        };
        let mut len = 0;
        for piece in plaintext.chunks(piece) {
            let room = out.get_mut(len..).unwrap_or_default();
            len += traffic.encrypt(piece, room).map_err(|error| Broken::because(&error))?;
        }
        Ok(len)
    }
}

fn open_records(
    connection: &mut UnbufferedClientConnection,
    bytes: &mut [u8],
    answer: &mut Vec<u8>,
    each: &mut impl FnMut(&[u8]),
) -> Result<Opened, Broken> {
    // A moving offset: moving the remainder forward after each record costs a copy per record.
    let mut opened = Opened { used: 0, ended: false };
    loop {
        let rest = bytes.get_mut(opened.used..).unwrap_or_default();
        let UnbufferedStatus { mut discard, state } = connection.process_tls_records(rest);
        let more = match state.map_err(|error| Broken::because(&error))? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let AppDataRecord { discard: also, payload, .. } =
                        record.map_err(|error| Broken::because(&error))?;
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
            // What rustls may add one day is not known here.
            ConnectionState::ReadEarlyData(_) | _ => return Err(Broken::because(&"unknown state")),
        };
        opened.used += discard;
        if !more {
            return Ok(opened);
        }
    }
}

/// Appends what rustls wants to send by itself.
fn encode(
    data: &mut EncodeTlsData<'_, ClientConnectionData>,
    out: &mut Vec<u8>,
) -> Result<(), Broken> {
    let start = out.len();
    let needed = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(error)) => error.required_size,
        Ok(_) | Err(EncodeError::AlreadyEncoded) => 0,
    };
    out.resize(start + needed, 0);
    data.encode(out.get_mut(start..).unwrap_or_default())
        .map(drop)
        .map_err(|error| Broken::because(&error))
}
