//! Every way to lose a packet.
//!
//! Does: names them, once, for counters, metric labels and documents.
//! Does not: count; see `counters`. Spec: docs/protocol/derp.md, DERP-5.6.

/// Why a packet was not delivered. Each variant is one value of the metric label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum DropReason {
    /// Nobody with the destination key is connected.
    UnknownDest,
    /// The destination left while the packet waited for it or was on its way to it.
    GoneDisconnected,
    /// The destination's queue was full, and this packet the oldest of its longest flow.
    QueueHead,
    /// All queues together held as much as they may, and this one more than its share.
    QueueTotal,
    /// The packet's flow had been delayed for too long at a stretch.
    QueueDelay,
    /// The packet waited longer than the queue's age bound.
    QueueAge,
    /// The ring between the source's and the destination's shard was full.
    ShardRing,
}

impl DropReason {
    /// All reasons, in the order of the metrics document.
    pub const ALL: [Self; 7] = [
        Self::UnknownDest,
        Self::GoneDisconnected,
        Self::QueueHead,
        Self::QueueTotal,
        Self::QueueDelay,
        Self::QueueAge,
        Self::ShardRing,
    ];

    /// Value of the metric label; derper's word where derper has the reason.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::UnknownDest => "unknown_dest",
            Self::GoneDisconnected => "gone_disconnected",
            Self::QueueHead => "queue_head",
            Self::QueueTotal => "queue_total",
            Self::QueueDelay => "queue_delay",
            Self::QueueAge => "queue_age",
            Self::ShardRing => "shard_ring",
        }
    }
}

/// The two classes of packets that are counted apart. Each is a value of the label `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum PacketKind {
    /// Looks like disco: nodes looking for paths to each other.
    Disco,
    /// Everything else: WireGuard.
    Other,
}

impl PacketKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Disco, Self::Other];

    /// The kind of `packet`.
    #[must_use]
    pub fn of(packet: &[u8]) -> Self {
        if crate::frame::is_disco(packet) { Self::Disco } else { Self::Other }
    }

    /// Value of the metric label, as derper's.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Disco => "disco",
            Self::Other => "other",
        }
    }
}
