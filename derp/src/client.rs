//! A client's session after the login: bytes to events, and what a client says.
//!
//! Does: finds the frames of a relay in whatever pieces they come, and hands each out without
//! copying it where it is whole in the input. Encodes what clients send.
//! Does not: read sockets or clocks, answer pings by itself, or keep a client's send rate.
//!
//! Users: probes, the load generator, tests. Spec: docs/protocol/derp.md, section 2.8.

use std::borrow::Cow;
use std::time::Duration;

use crate::frame::{
    DecodeError, Frame, HEADER_LEN, Kind, MAX_PACKET_LEN, PING_LEN, Reader, Step, decode, encode,
    header, split_key,
};
use crate::key::{KEY_LEN, NodePublic};

/// Bytes that a `SendPacket` frame puts in front of its packet: header and destination key.
pub const SEND_HEAD_LEN: usize = HEADER_LEN + KEY_LEN;

/// What a relay said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A packet from another node.
    Packet {
        /// Who sent it, as the relay says.
        source: NodePublic,
        /// The packet, 0 to 65,536 bytes.
        payload: &'a [u8],
    },
    /// A node cannot be reached through this relay.
    PeerGone {
        /// Which node.
        key: NodePublic,
        /// Why.
        reason: GoneReason,
    },
    /// The relay is still there.
    KeepAlive,
    /// The relay asks for a [`pong`] with these bytes.
    Ping([u8; PING_LEN]),
    /// Answer to a [`ping`].
    Pong([u8; PING_LEN]),
    /// Text for the user; empty when all is well again.
    Health(Cow<'a, str>),
    /// The relay is about to go away.
    Restarting {
        /// How long to wait before the first attempt to reconnect.
        reconnect_in: Duration,
        /// How long to go on trying this relay.
        try_for: Duration,
    },
    /// A whole frame that ordinary clients have no use for.
    Other(Frame<'a>),
}

/// Why a node cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoneReason {
    /// It was here and left.
    Disconnected,
    /// It is not here.
    NotHere,
    /// Some reason that this crate does not know.
    Other(u8),
}

impl GoneReason {
    /// The reason with this wire value.
    #[must_use]
    pub const fn from_wire(wire: u8) -> Self {
        match wire {
            0x00 => Self::Disconnected,
            0x01 => Self::NotHere,
            _ => Self::Other(wire),
        }
    }
}

/// A packet is longer than a frame may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("packet of {len} bytes, at most {MAX_PACKET_LEN}")]
pub struct PacketTooLong {
    /// Length of the packet, in bytes.
    pub len: usize,
}

/// Frames of a relay, put together from whatever pieces they come in.
///
/// Holds at most one frame that has come in part, so at most 1 MiB and five bytes, and nothing
/// while input and frames end together.
#[derive(Debug, Default)]
pub struct Session {
    /// The front of a frame whose rest has not come yet, or a whole one handed out last.
    partial: Vec<u8>,
    /// Whether the frame in `partial` was handed out.
    spent: bool,
    /// Bytes still to drop of a frame that nobody wants.
    skip: u64,
}

impl Session {
    /// A session whose next byte is the first of a frame, as it is after the login.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next frame off the front of `input`; `None` when `input` is used up.
    ///
    /// Call it until it says `None`, then read more. A frame that is whole in `input` is not
    /// copied; one that came in pieces is copied once.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; the connection is of no use.
    ///
    /// # Source
    ///
    /// DERP-2.7, DERP-2.8.
    pub fn on_bytes<'a, 'input: 'a>(
        &'a mut self,
        input: &mut &'input [u8],
    ) -> Result<Option<Event<'a>>, DecodeError> {
        if std::mem::take(&mut self.spent) {
            self.partial.clear();
        }
        loop {
            self.drop_unwanted(input);
            if !self.partial.is_empty() {
                match self.complete(input)? {
                    Partial::Whole => break,
                    Partial::Unwanted => continue,
                    Partial::Short => return Ok(None),
                }
            }
            match decode(input, Reader::Client)? {
                Step::Frame { frame, used } => {
                    *input = input.get(used..).unwrap_or_default();
                    return Ok(Some(event(frame)));
                }
                Step::Skip { discard } => self.skip = discard,
                Step::NeedMore { .. } => {
                    self.partial.extend_from_slice(std::mem::take(input));
                    return Ok(None);
                }
            }
        }
        self.spent = true;
        Ok(match decode(&self.partial, Reader::Client)? {
            Step::Frame { frame, .. } => Some(event(frame)),
            Step::Skip { .. } | Step::NeedMore { .. } => None,
        })
    }

    /// Drops what is left of an unwanted frame.
    fn drop_unwanted(&mut self, input: &mut &[u8]) {
        let dropped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(input.len());
        *input = input.get(dropped..).unwrap_or_default();
        self.skip -= dropped as u64;
    }

    /// Moves bytes from `input` to the partial frame until that can be judged.
    fn complete(&mut self, input: &mut &[u8]) -> Result<Partial, DecodeError> {
        loop {
            let until = match decode(&self.partial, Reader::Client)? {
                Step::Frame { .. } => return Ok(Partial::Whole),
                Step::Skip { discard } => {
                    self.skip = discard.saturating_sub(self.partial.len() as u64);
                    self.partial.clear();
                    return Ok(Partial::Unwanted);
                }
                Step::NeedMore { .. } if input.is_empty() => return Ok(Partial::Short),
                Step::NeedMore { until } => until,
            };
            let missing = until.saturating_sub(self.partial.len()).min(input.len());
            let (taken, rest) = input.split_at(missing);
            self.partial.extend_from_slice(taken);
            *input = rest;
        }
    }
}

/// What has become of a frame that came in part.
enum Partial {
    /// It is whole.
    Whole,
    /// It is of no use, and what is left of it is to be dropped.
    Unwanted,
    /// It needs more input.
    Short,
}

/// Reads what a frame says. Frames shorter than their kind needs do not come here.
fn event(frame: Frame<'_>) -> Event<'_> {
    read(frame).unwrap_or(Event::Other(frame))
}

fn read(frame: Frame<'_>) -> Option<Event<'_>> {
    let body = frame.body;
    match frame.kind {
        Kind::RecvPacket => {
            split_key(body).map(|(source, payload)| Event::Packet { source, payload })
        }
        Kind::PeerGone => split_key(body).map(|(key, rest)| {
            // Relays of old say no reason.
            let reason =
                rest.first().map_or(GoneReason::Disconnected, |&r| GoneReason::from_wire(r));
            Event::PeerGone { key, reason }
        }),
        Kind::KeepAlive => Some(Event::KeepAlive),
        Kind::Ping => body.first_chunk().map(|data| Event::Ping(*data)),
        Kind::Pong => body.first_chunk().map(|data| Event::Pong(*data)),
        Kind::Health => Some(Event::Health(String::from_utf8_lossy(body))),
        Kind::Restarting => {
            let (reconnect_in, rest) = body.split_first_chunk::<4>()?;
            let (try_for, _) = rest.split_first_chunk::<4>()?;
            let millis = |wire: &[u8; 4]| Duration::from_millis(u32::from_be_bytes(*wire).into());
            Some(Event::Restarting { reconnect_in: millis(reconnect_in), try_for: millis(try_for) })
        }
        Kind::ServerKey
        | Kind::ClientInfo
        | Kind::ServerInfo
        | Kind::SendPacket
        | Kind::NotePreferred
        | Kind::PeerPresent
        | Kind::ForwardPacket
        | Kind::WatchConns
        | Kind::ClosePeer => None,
    }
}

/// Header and destination key of a `SendPacket` frame that carries `packet_len` bytes, for
/// callers that write the packet from where it lies.
///
/// # Errors
///
/// [`PacketTooLong`] above [`MAX_PACKET_LEN`]; the relay would close the connection.
pub fn send_head(
    destination: &NodePublic,
    packet_len: usize,
) -> Result<[u8; SEND_HEAD_LEN], PacketTooLong> {
    if packet_len > MAX_PACKET_LEN {
        return Err(PacketTooLong { len: packet_len });
    }
    let mut head = [0; SEND_HEAD_LEN];
    let (front, key) = head.split_at_mut(HEADER_LEN);
    front.copy_from_slice(&header(Kind::SendPacket, KEY_LEN + packet_len));
    key.copy_from_slice(destination.as_bytes());
    Ok(head)
}

/// Appends a frame that sends `packet` to `destination`.
///
/// # Errors
///
/// [`PacketTooLong`], with `out` untouched.
pub fn send_packet(
    destination: &NodePublic,
    packet: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), PacketTooLong> {
    out.extend_from_slice(&send_head(destination, packet.len())?);
    out.extend_from_slice(packet);
    Ok(())
}

/// Appends a ping, which the relay answers with a pong of the same bytes.
pub fn ping(data: [u8; PING_LEN], out: &mut Vec<u8>) {
    encode(Kind::Ping, &[&data], out);
}

/// Appends the answer to a ping of the relay.
pub fn pong(data: [u8; PING_LEN], out: &mut Vec<u8>) {
    encode(Kind::Pong, &[&data], out);
}

/// Appends word of whether this relay is the client's home.
pub fn note_preferred(home: bool, out: &mut Vec<u8>) {
    encode(Kind::NotePreferred, &[&[u8::from(home)]], out);
}
