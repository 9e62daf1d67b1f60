//! One logged-in client, as the relay sees it: what each of its frames asks for.
//!
//! Does: turns a frame into one action, within the client's rights and rates.
//! Does not: look up destinations, queue, or write; `shard` carries the action out.
//!
//! Next on the packet path: `route`. Spec: docs/protocol/derp.md, section 4.

use crate::frame::{Frame, Kind, PING_LEN, split_key};
use crate::key::NodePublic;
use crate::limiter::Limiter;
use crate::limits::{HOME_SETTLE_TIME, NOT_HERE_RATE, PING_RATE};
use crate::time::Time;

/// State of one client between its login and its end.
#[derive(Debug)]
pub struct Session {
    since: Time,
    home: bool,
    pings: Limiter,
    not_here: Limiter,
}

/// What a frame asks the relay to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Pass a packet on.
    Relay {
        /// Key of the node it is for.
        destination: NodePublic,
        /// The packet, 0 to 65,536 bytes.
        packet: &'a [u8],
    },
    /// Send these bytes back in a `Pong`.
    Pong([u8; PING_LEN]),
    /// Too many pings: no answer.
    PingLimited,
    /// The client made this relay its home, or ceased to.
    Home {
        /// Whether it is its home now.
        home: bool,
        /// Whether that is a move, rather than the choice that follows each login.
        moved: bool,
    },
    /// Nothing to do.
    Nothing,
    /// The client has no right to send this.
    NoMeshRight,
}

impl Session {
    /// A session that begins at `now`.
    #[must_use]
    pub fn new(now: Time) -> Self {
        Self { since: now, home: false, pings: Limiter::default(), not_here: Limiter::default() }
    }

    /// Whether this relay is the client's home.
    #[must_use]
    pub const fn is_home(&self) -> bool {
        self.home
    }

    /// Takes one frame that `frame::decode` let through for a server.
    pub fn on_frame<'a>(&mut self, frame: Frame<'a>, now: Time) -> Action<'a> {
        match frame.kind {
            Kind::SendPacket => match split_key(frame.body) {
                Some((destination, packet)) => Action::Relay { destination, packet },
                None => Action::Nothing,
            },
            Kind::Ping => match frame.body.first_chunk::<PING_LEN>() {
                Some(data) if self.pings.take(PING_RATE, now) => Action::Pong(*data),
                Some(_) | None => Action::PingLimited,
            },
            Kind::NotePreferred => self.on_note(frame.body != [0], now),
            // Mesh peers will have the right to these; nobody has it now.
            Kind::ForwardPacket | Kind::WatchConns | Kind::ClosePeer => Action::NoMeshRight,
            Kind::ServerKey
            | Kind::ClientInfo
            | Kind::ServerInfo
            | Kind::RecvPacket
            | Kind::KeepAlive
            | Kind::PeerGone
            | Kind::PeerPresent
            | Kind::Pong
            | Kind::Health
            | Kind::Restarting => Action::Nothing,
        }
    }

    /// Whether the client may be told once more that a destination is not here.
    #[must_use]
    pub fn may_tell_not_here(&mut self, now: Time) -> bool {
        self.not_here.take(NOT_HERE_RATE, now)
    }

    fn on_note(&mut self, home: bool, now: Time) -> Action<'static> {
        if home == self.home {
            return Action::Nothing;
        }
        self.home = home;
        Action::Home { home, moved: now.since(self.since) > HOME_SETTLE_TIME }
    }
}
