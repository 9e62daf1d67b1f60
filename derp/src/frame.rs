//! DERP framing: bytes to frames and back, one frame at a time.
//!
//! Does: finds frame boundaries in a byte stream and holds each length against the limits of
//! its kind before a byte of the body is waited for. Says which frames to skip unread.
//! Does not: read sockets, allocate for what it decodes, decrypt, or decide where a frame goes.
//!
//! ```text
//! offset  size  field
//! 0       1     kind      see `Kind`
//! 1       4     body_len  u32 big endian, bytes after this header
//! 5       n     body
//! ```
//!
//! Next on the packet path: `session`. Spec: docs/protocol/derp.md, section 2.

use crate::key::{KEY_LEN, NodePublic};

/// Bytes in the header in front of each body.
pub const HEADER_LEN: usize = 5;

/// Most payload bytes in one relayed packet, keys not counted. Source: DERP-2.3.
pub const MAX_PACKET_LEN: usize = 65_536;

/// Bytes that a `RecvPacket` frame puts in front of its packet: header and source key.
pub const RECV_HEAD_LEN: usize = HEADER_LEN + KEY_LEN;

/// First eight bytes of the `ServerKey` body: "DERP" and a key emoji. Source: DERP-3.1.
pub const MAGIC: [u8; 8] = [0x44, 0x45, 0x52, 0x50, 0xf0, 0x9f, 0x94, 0x91];

/// Bytes in the nonce in front of a sealed box. Source: DERP-3.2.
pub const NONCE_LEN: usize = 24;

/// Bytes in a ping and in its pong; a longer ping is answered with its first eight.
pub const PING_LEN: usize = 8;

/// Most bytes in the body of a `Ping`. Source: DERP-2.6.
pub const MAX_PING_LEN: usize = 1_000;

/// Most bytes in the body of a `ClientInfo`. Source: DERP-2.4.
pub const MAX_CLIENT_INFO_LEN: usize = 262_144;

/// Most bytes in the body of a `ServerKey`: what clients accept. Source: DERP-3.1.
pub const MAX_SERVER_KEY_LEN: usize = 1_024;

/// Most bytes in the body of any frame from a server: what clients accept. Source: DERP-2.8.
pub const MAX_SERVER_FRAME_LEN: usize = 1 << 20;

/// First bytes of a disco packet, by which nodes find paths to each other. Source: DERP-5.5.
pub const DISCO_MAGIC: [u8; 6] = [0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac];

/// Least bytes in a disco packet: magic, sender key, nonce. Source: DERP-5.5.
pub const MIN_DISCO_LEN: usize = 62;

/// Reason of a `PeerGone`: the last connection of the key has ended. Source: DERP-6.2.
pub const PEER_GONE_DISCONNECTED: u8 = 0;

/// Reason of a `PeerGone`: nobody with the key is connected. Source: DERP-6.1.
pub const PEER_GONE_NOT_HERE: u8 = 1;

/// What a frame is for. The discriminants are the wire values; source: DERP-2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Server to client, first bytes of a connection: magic and server key.
    ServerKey = 0x01,
    /// Client to server, answer to that: client key, nonce, sealed JSON.
    ClientInfo = 0x02,
    /// Server to client, end of the login: nonce, sealed JSON.
    ServerInfo = 0x03,
    /// Client to server: relay `body[32..]` to the node whose key is `body[..32]`.
    SendPacket = 0x04,
    /// Server to client: `body[32..]` comes from the node whose key is `body[..32]`.
    RecvPacket = 0x05,
    /// Server to client: still here. No body.
    KeepAlive = 0x06,
    /// Client to server: one byte, non-zero if this relay is the client's home.
    NotePreferred = 0x07,
    /// Server to client: the node `body[..32]` cannot be reached, for reason `body[32]`.
    PeerGone = 0x08,
    /// Server to mesh peer: a node is connected here.
    PeerPresent = 0x09,
    /// Mesh peer to server: deliver `body[64..]` from `body[..32]` to `body[32..64]`.
    ForwardPacket = 0x0a,
    /// Mesh peer to server: tell me who is connected. No body.
    WatchConns = 0x10,
    /// Mesh peer to server: close the connections of the node `body[..32]`.
    ClosePeer = 0x11,
    /// Either way: send `body[..8]` back in a `Pong`.
    Ping = 0x12,
    /// Answer to a `Ping`.
    Pong = 0x13,
    /// Server to client: text for the user; empty clears it.
    Health = 0x14,
    /// Server to client: two u32 of milliseconds, when to reconnect and for how long to try.
    Restarting = 0x15,
}

impl Kind {
    /// The kind with this wire value, if we know one.
    #[must_use]
    pub const fn from_wire(wire: u8) -> Option<Self> {
        Some(match wire {
            0x01 => Self::ServerKey,
            0x02 => Self::ClientInfo,
            0x03 => Self::ServerInfo,
            0x04 => Self::SendPacket,
            0x05 => Self::RecvPacket,
            0x06 => Self::KeepAlive,
            0x07 => Self::NotePreferred,
            0x08 => Self::PeerGone,
            0x09 => Self::PeerPresent,
            0x0a => Self::ForwardPacket,
            0x10 => Self::WatchConns,
            0x11 => Self::ClosePeer,
            0x12 => Self::Ping,
            0x13 => Self::Pong,
            0x14 => Self::Health,
            0x15 => Self::Restarting,
            _ => return None,
        })
    }

    /// Least and most body bytes that `reader` takes for this kind, or `None` if it skips the
    /// kind unread, as it skips kinds that nobody knows. Source: DERP-2.2.
    #[must_use]
    pub const fn body_limits(self, reader: Reader) -> Option<(usize, usize)> {
        match reader {
            Reader::Server => match self {
                Self::SendPacket => Some((KEY_LEN, KEY_LEN + MAX_PACKET_LEN)),
                Self::ForwardPacket => Some((2 * KEY_LEN, 2 * KEY_LEN + MAX_PACKET_LEN)),
                Self::NotePreferred => Some((1, 1)),
                Self::WatchConns => Some((0, 0)),
                Self::ClosePeer => Some((KEY_LEN, KEY_LEN)),
                Self::Ping => Some((PING_LEN, MAX_PING_LEN)),
                Self::ServerKey
                | Self::ClientInfo
                | Self::ServerInfo
                | Self::RecvPacket
                | Self::KeepAlive
                | Self::PeerGone
                | Self::PeerPresent
                | Self::Pong
                | Self::Health
                | Self::Restarting => None,
            },
            Reader::Client => match self {
                Self::RecvPacket => Some((KEY_LEN, KEY_LEN + MAX_PACKET_LEN)),
                Self::PeerGone | Self::PeerPresent => Some((KEY_LEN, MAX_SERVER_FRAME_LEN)),
                Self::Ping | Self::Pong | Self::Restarting => Some((8, MAX_SERVER_FRAME_LEN)),
                Self::KeepAlive | Self::Health => Some((0, MAX_SERVER_FRAME_LEN)),
                Self::ServerKey
                | Self::ClientInfo
                | Self::ServerInfo
                | Self::SendPacket
                | Self::NotePreferred
                | Self::ForwardPacket
                | Self::WatchConns
                | Self::ClosePeer => None,
            },
        }
    }
}

/// Who reads the stream, after the login. Each side takes other kinds and skips the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// The relay, reading what a client sent.
    Server,
    /// A client, reading what the relay sent.
    Client,
}

/// One whole frame, borrowed from the receive buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the frame is for.
    pub kind: Kind,
    /// Body without the header; its length is within the limits of its kind.
    pub body: &'a [u8],
}

/// What the front of a receive buffer calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// A whole frame: use it, then drop `used` bytes.
    Frame {
        /// The frame.
        frame: Frame<'a>,
        /// Header and body together, in bytes.
        used: usize,
    },
    /// A kind that this reader has no use for: drop `discard` bytes, as they come, unbuffered.
    Skip {
        /// Header and body together, in bytes; may be more than is buffered.
        discard: u64,
    },
    /// Not enough bytes yet.
    NeedMore {
        /// Buffer length, in bytes, at which calling again makes progress.
        until: usize,
    },
}

/// Why a byte stream cannot be DERP. Any of these ends the connection, unanswered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The peer announces a length that its frame kind cannot have.
    #[error("{kind:?} frame announces {len} body bytes, allowed {min}..={max}")]
    BodyLength {
        /// Frame kind from the header.
        kind: Kind,
        /// Announced body length, in bytes.
        len: u32,
        /// Least allowed, in bytes.
        min: usize,
        /// Most allowed, in bytes.
        max: usize,
    },
    /// A login takes exactly one kind of frame next, and another came.
    #[error("frame kind {wire:#04x} came where a login takes {wanted:?}")]
    WrongKind {
        /// Frame kind from the header.
        wire: u8,
        /// The kind that had to come.
        wanted: Kind,
    },
    /// A server frame is longer than any client takes.
    #[error("frame kind {wire:#04x} announces {len} body bytes, at most {MAX_SERVER_FRAME_LEN}")]
    ServerFrame {
        /// Frame kind from the header.
        wire: u8,
        /// Announced body length, in bytes.
        len: u32,
    },
}

/// Looks at the front of `buf` and takes at most one frame off it, after the login.
///
/// `buf` holds received bytes in stream order, starting at a frame boundary. Nothing is copied:
/// the body borrows from `buf`. O(1) in `buf.len()`.
///
/// # Errors
///
/// [`DecodeError::BodyLength`] as soon as the five header bytes are in;
/// [`DecodeError::ServerFrame`] for a client whose server announces more than 1 MiB.
///
/// # Source
///
/// DERP-2.2 (limits per kind), DERP-2.7 (other kinds are skipped whatever their length),
/// DERP-2.8 (what a client takes).
pub fn decode(buf: &[u8], reader: Reader) -> Result<Step<'_>, DecodeError> {
    let Some((wire, len, rest)) = split_header(buf) else {
        return Ok(Step::NeedMore { until: HEADER_LEN });
    };
    let skip = Step::Skip { discard: HEADER_LEN as u64 + u64::from(len) };
    if reader == Reader::Client && len as usize > MAX_SERVER_FRAME_LEN {
        return Err(DecodeError::ServerFrame { wire, len });
    }
    let Some(kind) = Kind::from_wire(wire) else { return Ok(skip) };
    let Some((min, max)) = kind.body_limits(reader) else { return Ok(skip) };
    // Clients pass over what is too short to mean anything; servers close.
    if reader == Reader::Client && (len as usize) < min {
        return Ok(skip);
    }
    take(kind, len, (min, max), rest)
}

/// Takes one frame of exactly the kind `wanted` off the front of `buf`, during a login.
///
/// `limits` are the least and most body bytes, both inclusive. Otherwise as [`decode`].
///
/// # Errors
///
/// [`DecodeError::WrongKind`] or [`DecodeError::BodyLength`], from the header alone.
pub fn decode_only(
    buf: &[u8],
    wanted: Kind,
    limits: (usize, usize),
) -> Result<Step<'_>, DecodeError> {
    let Some((wire, len, rest)) = split_header(buf) else {
        return Ok(Step::NeedMore { until: HEADER_LEN });
    };
    if wire != wanted as u8 {
        return Err(DecodeError::WrongKind { wire, wanted });
    }
    take(wanted, len, limits, rest)
}

/// Splits the wire kind and the body length off the front of `buf`.
fn split_header(buf: &[u8]) -> Option<(u8, u32, &[u8])> {
    let (&[wire, l0, l1, l2, l3], rest) = buf.split_first_chunk::<HEADER_LEN>()?;
    Some((wire, u32::from_be_bytes([l0, l1, l2, l3]), rest))
}

fn take(
    kind: Kind,
    len: u32,
    (min, max): (usize, usize),
    rest: &[u8],
) -> Result<Step<'_>, DecodeError> {
    let body_len = len as usize;
    if !(min..=max).contains(&body_len) {
        return Err(DecodeError::BodyLength { kind, len, min, max });
    }
    let used = HEADER_LEN + body_len;
    Ok(match rest.get(..body_len) {
        Some(body) => Step::Frame { frame: Frame { kind, body }, used },
        None => Step::NeedMore { until: used },
    })
}

/// The header of a frame of `kind` with `body_len` body bytes.
///
/// Bodies in this crate are far below 4 GiB; a longer one is cut to what the field can say,
/// which no reader accepts.
#[must_use]
pub fn header(kind: Kind, body_len: usize) -> [u8; HEADER_LEN] {
    let [l0, l1, l2, l3] = u32::try_from(body_len).unwrap_or(u32::MAX).to_be_bytes();
    [kind as u8, l0, l1, l2, l3]
}

/// Appends a whole frame to `out`: header, then `parts` one after the other as its body.
pub fn encode(kind: Kind, parts: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(&header(kind, parts.iter().map(|part| part.len()).sum()));
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Header and source key of a `RecvPacket` frame that carries `packet_len` bytes.
#[must_use]
pub fn recv_head(source: &NodePublic, packet_len: usize) -> [u8; RECV_HEAD_LEN] {
    let mut head = [0; RECV_HEAD_LEN];
    let (front, key) = head.split_at_mut(HEADER_LEN);
    front.copy_from_slice(&header(Kind::RecvPacket, KEY_LEN + packet_len));
    key.copy_from_slice(source.as_bytes());
    head
}

/// Splits the key off the front of the body of a `SendPacket`, `RecvPacket` or `PeerGone`.
///
/// `None` if the body is shorter than a key, which [`decode`] lets through for no such kind.
#[must_use]
pub fn split_key(body: &[u8]) -> Option<(NodePublic, &[u8])> {
    let (key, rest) = body.split_first_chunk::<KEY_LEN>()?;
    Some((NodePublic::from_bytes(*key), rest))
}

/// Whether `packet` looks like disco: it travels in its own lane and is counted apart.
#[must_use]
pub fn is_disco(packet: &[u8]) -> bool {
    packet.len() >= MIN_DISCO_LEN && packet.starts_with(&DISCO_MAGIC)
}
