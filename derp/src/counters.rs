//! What a shard counts, as plain numbers.
//!
//! Does: holds one `u64` per event; the shell publishes them and adds shards up.
//! Does not: use atomics, name metrics or forget: a counter without an increment site would be
//! found by the test that walks the metric table.

use std::time::Duration;

use crate::drop_reason::{DropReason, PacketKind};

/// Packets and their bytes, keys and headers not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets.
    pub packets: u64,
    /// Bytes of those packets.
    pub bytes: u64,
}

impl Tally {
    /// Counts one packet of `len` bytes.
    pub const fn add(&mut self, len: usize) {
        self.packets += 1;
        self.bytes += len as u64;
    }

    /// Adds another tally to this one.
    pub const fn merge(&mut self, other: Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
    }
}

/// One tally per [`PacketKind`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByKind {
    /// Disco packets.
    pub disco: Tally,
    /// All others.
    pub other: Tally,
}

impl ByKind {
    /// Counts one packet of `len` bytes.
    pub const fn add(&mut self, kind: PacketKind, len: usize) {
        match kind {
            PacketKind::Disco => self.disco.add(len),
            PacketKind::Other => self.other.add(len),
        }
    }

    /// The tally of one kind.
    #[must_use]
    pub const fn of(&self, kind: PacketKind) -> Tally {
        match kind {
            PacketKind::Disco => self.disco,
            PacketKind::Other => self.other,
        }
    }

    /// Adds other tallies to these.
    pub const fn merge(&mut self, other: Self) {
        self.disco.merge(other.disco);
        self.other.merge(other.other);
    }

    const fn plus(mut self, other: Self) -> Self {
        self.merge(other);
        self
    }

    /// Both kinds together.
    #[must_use]
    pub const fn total(&self) -> Tally {
        let mut sum = self.disco;
        sum.merge(self.other);
        sum
    }
}

/// Lost packets by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    by_reason: [ByKind; DropReason::ALL.len()],
}

impl Drops {
    /// Counts one lost packet of `len` bytes.
    pub fn add(&mut self, reason: DropReason, kind: PacketKind, len: usize) {
        if let Some(tally) = self.by_reason.get_mut(reason as usize) {
            tally.add(kind, len);
        }
    }

    /// The packets lost for one reason.
    #[must_use]
    pub fn of(&self, reason: DropReason) -> ByKind {
        self.by_reason.get(reason as usize).copied().unwrap_or_default()
    }

    fn plus(mut self, other: Self) -> Self {
        for (mine, theirs) in self.by_reason.iter_mut().zip(other.by_reason) {
            mine.merge(theirs);
        }
        self
    }

    /// All reasons together.
    #[must_use]
    pub fn total(&self) -> Tally {
        let mut sum = Tally::default();
        for tally in &self.by_reason {
            sum.merge(tally.total());
        }
        sum
    }
}

/// Upper bounds of the sojourn classes, in microseconds; the last class has none.
pub const SOJOURN_BOUNDS: [u64; 12] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000];

/// How long sent packets had been in the relay, from their read to the write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sojourn {
    /// Packets per class; the class of [`SOJOURN_BOUNDS`] at the same place, and one above.
    pub classes: [u64; SOJOURN_BOUNDS.len() + 1],
    /// Sum of all times, in microseconds.
    pub micros: u64,
}

impl Sojourn {
    /// Counts one packet.
    pub fn add(&mut self, span: Duration) {
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        let class = SOJOURN_BOUNDS.partition_point(|bound| *bound < micros);
        if let Some(count) = self.classes.get_mut(class) {
            *count += 1;
        }
        self.micros = self.micros.saturating_add(micros);
    }

    fn plus(mut self, other: Self) -> Self {
        for (mine, theirs) in self.classes.iter_mut().zip(other.classes) {
            *mine += theirs;
        }
        self.micros += other.micros;
        self
    }
}

/// Everything one shard has counted since it started, and three gauges.
///
/// At every instant `received = sent + dropped + waiting`, over all shards of a relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that clients asked us to relay.
    pub received: ByKind,
    /// Packets put into what is written to their receivers.
    pub sent: ByKind,
    /// Packets lost.
    pub dropped: Drops,
    /// Bytes of packets and frames that the core has copied: once per packet on its shortest way.
    pub copied_bytes: u64,
    /// How long the packets sent had been in the relay.
    pub sojourn: Sojourn,
    /// Senders that were not read from for a while, because their destination's queue was full.
    pub push_backs: u64,
    /// Pings from clients.
    pub pings: u64,
    /// Pongs put into what is written.
    pub pongs: u64,
    /// Pings left unanswered: too many at once.
    pub pings_limited: u64,
    /// Keep-alives put into what is written.
    pub keep_alives: u64,
    /// `PeerGone` frames with reason 0 put into what is written.
    pub peer_gone_disconnected: u64,
    /// `PeerGone` frames with reason 1 put into what is written.
    pub peer_gone_not_here: u64,
    /// Frames skipped because no client has any use for sending them.
    pub unknown_frames: u64,
    /// Bytes of those frames, headers included.
    pub unknown_frame_bytes: u64,
    /// Clients that made this relay their home, later than right after their login.
    pub home_moves_in: u64,
    /// Clients that ceased to have this relay as their home.
    pub home_moves_out: u64,
    /// Connections that joined a key which had one already.
    pub duplicate_joins: u64,
    /// Receivers that heard from more sources than are told apart.
    pub sources_overflowed: u64,
    /// Connections closed by this shard for what the client sent, or did not.
    pub closed_bad_frame: u64,
    /// Connections closed because they sent a frame that needs mesh right.
    pub closed_no_mesh_right: u64,
    /// Connections closed because a frame stayed incomplete.
    pub closed_half_frame: u64,
    /// Connections closed because they took no byte while something waited.
    pub closed_stalled: u64,
    /// Connections closed because their login was not over in time.
    pub closed_login_timeout: u64,
    /// Connections closed because their key may no longer use the relay.
    pub closed_revoked: u64,
    /// Gauge: connections on this shard.
    pub connections: u64,
    /// Gauge: connections of clients whose home this relay is.
    pub home_connections: u64,
    /// Gauge: connections whose client would rather have reached another node of the region.
    pub not_ideal_connections: u64,
    /// Gauge: distinct keys owned by this shard.
    pub keys: u64,
    /// Gauge: keys owned by this shard with more than one connection.
    pub duplicate_keys: u64,
    /// Gauge: connections of those keys.
    pub duplicate_connections: u64,
}

impl Counters {
    /// What this shard and another have counted together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            received: self.received.plus(other.received),
            sent: self.sent.plus(other.sent),
            dropped: self.dropped.plus(other.dropped),
            copied_bytes: self.copied_bytes + other.copied_bytes,
            sojourn: self.sojourn.plus(other.sojourn),
            push_backs: self.push_backs + other.push_backs,
            pings: self.pings + other.pings,
            pongs: self.pongs + other.pongs,
            pings_limited: self.pings_limited + other.pings_limited,
            keep_alives: self.keep_alives + other.keep_alives,
            peer_gone_disconnected: self.peer_gone_disconnected + other.peer_gone_disconnected,
            peer_gone_not_here: self.peer_gone_not_here + other.peer_gone_not_here,
            unknown_frames: self.unknown_frames + other.unknown_frames,
            unknown_frame_bytes: self.unknown_frame_bytes + other.unknown_frame_bytes,
            home_moves_in: self.home_moves_in + other.home_moves_in,
            home_moves_out: self.home_moves_out + other.home_moves_out,
            duplicate_joins: self.duplicate_joins + other.duplicate_joins,
            sources_overflowed: self.sources_overflowed + other.sources_overflowed,
            closed_bad_frame: self.closed_bad_frame + other.closed_bad_frame,
            closed_no_mesh_right: self.closed_no_mesh_right + other.closed_no_mesh_right,
            closed_half_frame: self.closed_half_frame + other.closed_half_frame,
            closed_stalled: self.closed_stalled + other.closed_stalled,
            closed_login_timeout: self.closed_login_timeout + other.closed_login_timeout,
            closed_revoked: self.closed_revoked + other.closed_revoked,
            connections: self.connections + other.connections,
            home_connections: self.home_connections + other.home_connections,
            not_ideal_connections: self.not_ideal_connections + other.not_ideal_connections,
            keys: self.keys + other.keys,
            duplicate_keys: self.duplicate_keys + other.duplicate_keys,
            duplicate_connections: self.duplicate_connections + other.duplicate_connections,
        }
    }
}
